
/*
 * One WebSocket connection, as its two files see it: websocket.c (handshake,
 * messages) and websocket_frames.c (transport).  Nobody else includes this.
 */


#ifndef _NGX_HTTP_REVERIE_WEBSOCKET_H_INCLUDED_
#define _NGX_HTTP_REVERIE_WEBSOCKET_H_INCLUDED_


#include "ngx_http_reverie.h"

#include <wslay/wslay.h>


/* Lives in the request's pool; its cleanup handler ends it. */

typedef struct {
    void                        *ident[4];
    ngx_http_request_t          *request;
    wslay_event_context_ptr      wslay;
    ngx_http_reverie_session_t  *session;
    ngx_event_t                  timer;
    ngx_str_t                    prefix;      /* of picture URLs */
    ngx_http_reverie_parse_t    *parse;       /* a message on a thread; no
                                                 more is read meanwhile */
    ngx_queue_t                  messages;    /* short ones that came with
                                                 it, and wait for it */

    ngx_msec_t                   received;    /* last frame of the client */
    ngx_msec_t                   pinged;
    ngx_msec_t                   closed;      /* our close frame was queued */
    size_t                       turn;        /* bytes left to read in it */
    ngx_uint_t                   fragments;   /* of the message that comes */

    unsigned                     dry_run:1;
    unsigned                     closing:1;
    unsigned                     eof:1;
    unsigned                     paused:1;    /* there may be more to read */
    unsigned                     is_clean:1;  /* the client said goodbye */
    unsigned                     broken:1;    /* only waits for its end */
} ngx_http_reverie_websocket_t;


/* websocket.c */

void ngx_http_reverie_websocket_on_message(wslay_event_context_ptr wslay,
    const struct wslay_event_on_msg_recv_arg *arg, void *data);

/*
 * websocket_frames.c: init needs the request, limit is the longest message in
 * bytes; read and write are the request's event handlers; notify is called
 * when the session has an answer.
 */

ngx_int_t ngx_http_reverie_websocket_frames_init(
    ngx_http_reverie_websocket_t *ws, size_t limit);
void ngx_http_reverie_websocket_frames_end(ngx_http_reverie_websocket_t *ws);
void ngx_http_reverie_websocket_read(ngx_http_request_t *r);
void ngx_http_reverie_websocket_write(ngx_http_request_t *r);
void ngx_http_reverie_websocket_notify(void *data);
void ngx_http_reverie_websocket_close(ngx_http_reverie_websocket_t *ws,
    uint16_t code, const char *reason);


#endif /* _NGX_HTTP_REVERIE_WEBSOCKET_H_INCLUDED_ */
