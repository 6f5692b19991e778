/* What the files of the server of blocks share: connections and turns (rpc_server.c), messages
 * (rpc_talk.c).  Nobody else includes it. */
#ifndef RV_RPC_SERVER_INTERNAL_H
#define RV_RPC_SERVER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "lora.h"
#include "rpc_server.h"
#include "transformer.h"

enum { RV__RPC_TALKS = 16, RV__RPC_LORAS = 32 };

/* One connection. */
typedef struct rv__talk {
    rv__rpc_server *server;
    rv__link *link;
    int fd;          /* until it is a link */
    bool is_broken;  /* the link was cut by us */
    int64_t beat_ms; /* when a sign of life was last sent */
} rv__talk;

struct rv__rpc_server {
    rv__rpc_options options;
    const rv__weights *weights;
    rv__device *device;
    rv__transformer *transformer;
    uint8_t has_text[RV__MAX_BLOCKS];
    rv__part_shape shape; /* spans 0: nothing is prepared */
    float *room;          /* for one message */
    size_t room_bytes;
    rv__lora *loras[RV__RPC_LORAS];
    int lora_files[RV__RPC_LORAS];
    size_t lora_count;
    atomic_bool stop;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    rv__talk *owner;  /* whose blocks are prepared */
    bool is_busy; /* the owner is in the middle of a picture */
    rv__talk *talks[RV__RPC_TALKS];
    size_t talk_count;
};

void rv__rpc_say(const rv__rpc_server *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Makes the blocks this talk's.  Another that only waits for its next picture has to connect anew;
 * RV_BUSY while one is being made. */
rv_status rv__rpc_take(rv__talk *t, rv_error *err);
bool rv__rpc_is_owner(rv__talk *t);
void rv__rpc_rest(rv__talk *t); /* a picture is done */
void rv__rpc_give_back(rv__talk *t);

/* Messages until the other side has had enough, or says what cannot be. */
void rv__rpc_converse(rv__talk *t);
void rv__rpc_drop_loras(rv__rpc_server *s); /* back to the plain model */

#endif
