
/*
 * The module's shared memory.  It outlives reloads, and starts empty when its
 * size or its layout has changed.
 */


#include "ngx_http_reverie.h"


#define NGX_HTTP_REVERIE_ZONE_VERSION  1


static ngx_int_t ngx_http_reverie_zone_init(ngx_shm_zone_t *shm, void *data);


ngx_int_t
ngx_http_reverie_zone_add(ngx_conf_t *cf, ngx_http_reverie_main_conf_t *mcf)
{
    ngx_shm_zone_t  *shm;

    static ngx_str_t  name = ngx_string("reverie");

    mcf->zone = ngx_pcalloc(cf->pool, sizeof(ngx_http_reverie_zone_t));
    if (mcf->zone == NULL) {
        return NGX_ERROR;
    }

    shm = ngx_shared_memory_add(cf, &name, mcf->zone_size,
                                &ngx_http_reverie_module);
    if (shm == NULL) {
        return NGX_ERROR;
    }

    shm->init = ngx_http_reverie_zone_init;
    shm->data = mcf->zone;

    mcf->zone->size = mcf->zone_size;

    return NGX_OK;
}


static ngx_int_t
ngx_http_reverie_zone_init(ngx_shm_zone_t *shm, void *data)
{
    ngx_http_reverie_zone_t *old = data;

    ngx_http_reverie_zone_t    *zone;
    ngx_http_reverie_shared_t  *sh;

    zone = shm->data;

    zone->shpool = (ngx_slab_pool_t *) shm->shm.addr;

    sh = old ? old->sh : shm->shm.exists ? zone->shpool->data : NULL;

    if (sh && sh->version == NGX_HTTP_REVERIE_ZONE_VERSION) {
        zone->sh = sh;
        return NGX_OK;
    }

    sh = ngx_slab_calloc(zone->shpool, sizeof(ngx_http_reverie_shared_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    sh->version = NGX_HTTP_REVERIE_ZONE_VERSION;
    ngx_rbtree_init(&sh->tree, &sh->sentinel, ngx_str_rbtree_insert_value);
    ngx_queue_init(&sh->clients);

    zone->shpool->data = sh;
    zone->shpool->log_nomem = 0;
    zone->sh = sh;

    return NGX_OK;
}
