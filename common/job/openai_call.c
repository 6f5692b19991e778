/* Calls of the OpenAI images protocol: translated to a Runware task, then a call like any other. */
#include "openai_call.h"

#include "base/uuid.h"
#include "request/openai_models.h"

#include <openssl/evp.h>
#include <string.h>

/* What was read of a request.  A start takes the state. */
struct rv_openai_request {
    rv__openai_state *state;
    rv_batch *batch;
};

void rv__openai_state_free(rv__openai_state *s)
{
    if (s)
        rv__openai_free(&s->request);
    rv__free(s);
}

bool rv__openai_is_refused(const rv__openai_state *s)
{
    return s && s->request.errors;
}

/* The taskUUID that a key of this owner stands for. */
static bool uuid_of_key(const char *owner, const char *key, char out[RV__UUID_SIZE])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char *text = rv__format("%s\n%s", owner ? owner : "", key);
    bool ok = text && EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL);
    rv__free(text);
    if (ok)
        rv__uuid_write(digest, out);
    return ok;
}

rv_openai_request *rv_openai_parse(rv *r, const char *body, size_t len,
                                   const rv_openai_options *options)
{
    const rv__model *fallback = rv__context_default_model(r); /* reads the cards, too */
    rv_openai_request *q = r->models ? rv__calloc(1, sizeof *q) : NULL;
    rv__openai_state *s = q ? rv__calloc(1, sizeof *s) : NULL;
    if (!s) {
        rv__free(q);
        return NULL;
    }
    q->state = s;
    char uuid[RV__UUID_SIZE];
    const char *key = options->idempotency_key && *options->idempotency_key ? uuid : NULL;
    if ((!key || uuid_of_key(options->call.owner, options->idempotency_key, uuid)) &&
        rv__openai_translate(r->models, fallback, options->kind, options->content_type, body, len,
                             key, &s->request))
        q->batch = rv_batch_parse(r, s->request.task, s->request.task_len);
    rv__free(s->request.task); /* may hold pictures of many megabytes */
    s->request.task = NULL;
    if (q->batch)
        return q;
    rv_openai_request_free(q);
    return NULL;
}

rv_call *rv_openai_start(rv *r, rv_openai_request *q, const rv_call_options *options)
{
    if (!q->state)
        return NULL;
    rv_call_options o = *options;
    o.previews |= q->state->request.stream && q->state->request.partials > 0;
    rv_call *c = rv__call_start(r, q->batch, &o, q->state);
    if (c)
        q->state = NULL; /* it belongs to the call now */
    return c;
}

void rv_openai_request_free(rv_openai_request *q)
{
    if (!q)
        return;
    rv__openai_state_free(q->state);
    rv_batch_unref(q->batch);
    rv__free(q);
}

rv_call *rv_openai_begin(rv *r, const char *body, size_t len, const rv_openai_options *options)
{
    rv_openai_request *q = rv_openai_parse(r, body, len, options);
    rv_call *c = q ? rv_openai_start(r, q, &options->call) : NULL;
    rv_openai_request_free(q);
    return c;
}

bool rv_openai_streams(const rv_call *c)
{
    bool is_refused = c->reply.http_status >= 400;
    return c->openai && c->openai->request.stream && !c->options.dry_run && !is_refused;
}

rv_header rv_call_header(const rv_call *c, size_t i)
{
    bool has = c->openai && i < (size_t)c->openai->header_count;
    return has ? c->openai->headers[i] : (rv_header){0};
}

char *rv_openai_models(rv *r)
{
    return rv__context_models(r, NULL) == RV_OK ? rv__openai_models(r->models) : NULL;
}

char *rv_openai_model(rv *r, const char *id, const char *schema)
{
    return rv__context_models(r, NULL) == RV_OK ? rv__openai_model(r->models, id, schema) : NULL;
}
