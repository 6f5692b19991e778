/* What a job costs beside the work itself: submit to END with the stub at 0 ms, against the same
 * hand-off with bare pthreads (a task to a worker thread and back through an eventfd). */
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "reverie.h"
#include "stopwatch.h"

enum { ROUNDS = 3000, SIDE_BY_SIDE = 16 };

/* ---- the peer: one worker thread, one slot, one eventfd ---- */

typedef struct peer {
    pthread_t threads[4];
    pthread_mutex_t lock;
    pthread_cond_t work;
    int waiting, fd;
    bool stop;
} peer;

static void *peer_run(void *arg)
{
    peer *p = arg;
    uint64_t one = 1;
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        if (!p->waiting) {
            pthread_cond_wait(&p->work, &p->lock);
            continue;
        }
        p->waiting--;
        pthread_mutex_unlock(&p->lock);
        ssize_t n = write(p->fd, &one, sizeof one);
        (void)n;
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void peer_submit(peer *p)
{
    pthread_mutex_lock(&p->lock);
    p->waiting++;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

static uint64_t peer_wait(peer *p)
{
    struct pollfd f = {p->fd, POLLIN, 0};
    uint64_t count = 0;
    poll(&f, 1, -1);
    return read(p->fd, &count, sizeof count) > 0 ? count : 0;
}

/* ---- ours ---- */

static rv *open_context(rv_batch **batch)
{
    rv *r;
    if (rv_open(&r) != RV_OK || rv_set(r, "models", SOURCE_ROOT "/config/models", NULL) != RV_OK)
        exit(1);
    rv_set(r, "executor", "stub", NULL);
    const char *body =
        "[{\"taskType\":\"imageInference\",\"taskUUID\":\"00000000-0000-4000-8000-000000000001\","
        "\"model\":\"runware:97@3\",\"positivePrompt\":\"stub:fail=safety\",\"seed\":1,\"steps\":1}"
        "]";
    *batch = rv_batch_parse(r, body, strlen(body));
    if (!rv_batch_task(*batch, 0))
        exit(1);
    return r;
}

static void wait_idle(rv *r, int live)
{
    struct pollfd f = {rv_fd(r), POLLIN, 0};
    while (rv_dispatch(r) > live)
        poll(&f, 1, -1);
}

int main(void)
{
    static double ours[ROUNDS], theirs[ROUNDS];
    rv_batch *b;
    rv *r = open_context(&b);
    peer p = {.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.work, NULL);
    for (int i = 0; i < 4; i++)
        pthread_create(&p.threads[i], NULL, peer_run, &p);
    rv_job *j;
    for (int i = 0; i < ROUNDS; i++) { /* taking turns, so that both meet the same machine */
        double t = now_us();
        rv_submit(r, rv_batch_task(b, 0), NULL, &j);
        rv_job_unref(j);
        wait_idle(r, 0);
        ours[i] = now_us() - t;
        t = now_us();
        peer_submit(&p);
        peer_wait(&p);
        theirs[i] = now_us() - t;
    }
    double a = median(ours, ROUNDS), c = median(theirs, ROUNDS);
    printf("bench job: %.1f us | pthread hand-off %.1f us | ratio %.2f\n", a, c, a / c);

    double t = now_us();
    for (int i = 0; i < ROUNDS * 5; i++) {
        rv_submit(r, rv_batch_task(b, 0), NULL, &j);
        rv_job_unref(j);
        wait_idle(r, SIDE_BY_SIDE);
    }
    wait_idle(r, 0);
    a = ROUNDS * 5 / (now_us() - t) * 1e6;
    t = now_us();
    for (int sent = 0, back = 0; back < ROUNDS * 5;) {
        for (; sent < ROUNDS * 5 && sent - back < SIDE_BY_SIDE; sent++)
            peer_submit(&p);
        back += (int)peer_wait(&p);
    }
    c = ROUNDS * 5 / (now_us() - t) * 1e6;
    printf("bench job-throughput: %.0f jobs/s | pthread hand-off %.0f jobs/s | ratio %.2f\n", a, c,
           a / c);

    pthread_mutex_lock(&p.lock);
    p.stop = true;
    pthread_cond_broadcast(&p.work);
    pthread_mutex_unlock(&p.lock);
    for (int i = 0; i < 4; i++)
        pthread_join(p.threads[i], NULL);
    close(p.fd);
    rv_batch_unref(b);
    rv_close(r);
    return 0;
}
