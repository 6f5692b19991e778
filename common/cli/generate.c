/* `reverie generate`: one prompt, one or more picture files.  Options become a request like any
 * client's, so the same checks and the same messages apply; Ctrl-C cancels the task and ends
 * cleanly. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/json.h"
#include "base/uuid.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "image/image.h"
#include "job/context.h"
#include "job/tree.h"

static const char usage_text[] =
    "usage: reverie generate PROMPT [options]\n"
    "  -o, --output FILE   where the picture goes: .png .jpg .webp (default reverie-SEED.png; "
    "several: FILE-1.png …)\n"
    "  --model M           model id, alias, card, weights folder or GGUF file\n"
    "  --seed N --steps N --width W --height H --cfg X --number N\n"
    "  --negative TEXT     what should not be in the picture\n"
    "  --image FILE        picture to start from; --strength 0..1 says how far to leave it\n"
    "  --mask FILE         where it may change: white; black stays\n"
    "  --scheduler S       solver, as the schema of the model lists them\n"
    "  --weighting S       how signs in the prompt are read: compel or sdEmbeds\n"
    "  --safety            have the pictures looked at by the model's content checker\n"
    "  --lora NAME[=X]     a LoRA of the model's card, with weight X (default 1); may be repeated\n"
    "  --format F          PNG, JPG or WEBP, when no file name says it\n"
    "  --quality N         20 to 99, for JPG and WEBP (default 95)\n"
    "  --daemon unix:PATH  let a running reveried do it\n"
    "  --remote URL        let a server do it: http://HOST:PORT/generate,\n"
    "                      or http://HOST:PORT/v1 through the OpenAI protocol\n"
    "  --models DIR        folder with model cards\n"
    "  --threads N         threads of the engine\n"
    "  --device NAME       what makes its large products: Vulkan, CUDA0, cpu\n"
    "  --stub              paint a test picture without a model\n";

enum {
    OPT_FORMAT = 256,
    OPT_QUALITY,
    OPT_HELP,
    OPT_STUB,
    OPT_IMAGE,
    OPT_MASK,
    OPT_LORA,
    OPT_SAFETY,
    OPT_SETTING = 300,
    OPT_FIELD = 400
};

/* Options that are members of the request: numbers go in as they are written, texts as strings. */
static const struct {
    const char *option, *name;
    bool is_text;
} fields[] = {{"model", "model", true},
              {"seed", "seed", false},
              {"steps", "steps", false},
              {"width", "width", false},
              {"height", "height", false},
              {"cfg", "CFGScale", false},
              {"number", "numberResults", false},
              {"negative", "negativePrompt", true},
              {"scheduler", "scheduler", true},
              {"strength", "strength", false},
              {"weighting", "promptWeighting", true}};

static const char *const setting_names[] = {"daemon", "models", "threads", "device"};

enum { LORAS = 32 }; /* the request check says it when there are more than the model takes */
enum {
    FIELDS = sizeof fields / sizeof *fields,
    MODEL = 0,
    PICTURE_MAX = 22 << 20, /* bytes of a file: two of them fit into a request */
    REQUEST_MAX = 64 << 20
};

static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                        {"format", required_argument, NULL, OPT_FORMAT},
                                        {"quality", required_argument, NULL, OPT_QUALITY},
                                        {"stub", no_argument, NULL, OPT_STUB},
                                        {"lora", required_argument, NULL, OPT_LORA},
                                        {"help", no_argument, NULL, OPT_HELP},
                                        {"daemon", required_argument, NULL, OPT_SETTING},
                                        {"remote", required_argument, NULL, OPT_SETTING},
                                        {"models", required_argument, NULL, OPT_SETTING + 1},
                                        {"threads", required_argument, NULL, OPT_SETTING + 2},
                                        {"device", required_argument, NULL, OPT_SETTING + 3},
                                        {"model", required_argument, NULL, OPT_FIELD + MODEL},
                                        {"seed", required_argument, NULL, OPT_FIELD + 1},
                                        {"steps", required_argument, NULL, OPT_FIELD + 2},
                                        {"width", required_argument, NULL, OPT_FIELD + 3},
                                        {"height", required_argument, NULL, OPT_FIELD + 4},
                                        {"cfg", required_argument, NULL, OPT_FIELD + 5},
                                        {"number", required_argument, NULL, OPT_FIELD + 6},
                                        {"negative", required_argument, NULL, OPT_FIELD + 7},
                                        {"scheduler", required_argument, NULL, OPT_FIELD + 8},
                                        {"weighting", required_argument, NULL, OPT_FIELD + 10},
                                        {"strength", required_argument, NULL, OPT_FIELD + 9},
                                        {"image", required_argument, NULL, OPT_IMAGE},
                                        {"mask", required_argument, NULL, OPT_MASK},
                                        {"safety", no_argument, NULL, OPT_SAFETY},
                                        {0}};

typedef struct request {
    rv *r;
    const char *prompt, *output;
    const char *values[FIELDS], *loras[LORAS];
    bool is_checked; /* pictures are to be looked at by the content checker */
    int n_loras;
    char *pictures[2]; /* seedImage and maskImage as base64 */
    rv__image_format format;
    int quality;
    rv__progress progress;
    int saved;
    bool broken; /* a file could not be written */
} request;

static volatile sig_atomic_t interrupts;
static int wake_pipe[2] = {-1, -1};

static void on_signal(int sig)
{
    int saved = errno;
    if (++interrupts > 1)
        _exit(130);
    ssize_t n = write(wake_pipe[1], "", 1);
    (void)n;
    errno = saved;
}

/* ---- options ---- */

static int read_format(request *q, const char *text)
{
    q->format = rv__format_from(text);
    return q->format == RV__FORMATS ? rv__cli_fail("--format", "must be PNG, JPG or WEBP") + 1 : -1;
}

static int read_quality(request *q, const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || end == text || n < 20 || n > 99)
        return rv__cli_fail("--quality", n < 20 ? "must be from 20 to 99 (nearest: 20)"
                                                : "must be from 20 to 99 (nearest: 99)") +
               1;
    q->quality = (int)n;
    return -1;
}

static int set(request *q, const char *name, const char *value)
{
    rv_error err;
    return rv_set(q->r, name, value, &err) == RV_OK ? -1 : rv__cli_fail(value, err.message) + 1;
}

/* A picture file as base64: -1, or the exit status. */
static int read_picture(char **out, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return rv__cli_fail(path, strerror(errno));
    rv__buf b;
    rv__buf_init(&b, PICTURE_MAX);
    char piece[16384];
    for (size_t n; !b.failed && (n = fread(piece, 1, sizeof piece, f)) > 0;)
        rv__buf_add(&b, piece, n);
    bool is_read = !ferror(f);
    fclose(f);
    size_t size = rv__base64_size(b.len);
    rv__free(*out);
    *out = is_read && !b.failed ? rv__alloc(size + 1) : NULL;
    if (*out) {
        rv__base64_encode(b.data, b.len, *out);
        (*out)[size] = '\0';
    }
    rv__buf_free(&b);
    return *out ? -1 : rv__cli_fail(path, is_read ? "is too large" : "cannot be read");
}

static int read_option(request *q, int o)
{
    if (o >= OPT_FIELD)
        q->values[o - OPT_FIELD] = optarg;
    else if (o >= OPT_SETTING)
        return set(q, setting_names[o - OPT_SETTING], optarg);
    else if (o == OPT_IMAGE || o == OPT_MASK)
        return read_picture(&q->pictures[o - OPT_IMAGE], optarg);
    else if (o == 'o')
        q->output = optarg;
    else if (o == OPT_FORMAT)
        return read_format(q, optarg);
    else if (o == OPT_QUALITY)
        return read_quality(q, optarg);
    else if (o == OPT_LORA && q->n_loras == LORAS)
        return rv__cli_fail("--lora", "may be given 32 times") + 1;
    else if (o == OPT_LORA)
        q->loras[q->n_loras++] = optarg;
    else if (o == OPT_SAFETY)
        q->is_checked = true;
    else if (o == OPT_STUB)
        return set(q, "executor", "stub");
    else {
        fputs(usage_text, o == OPT_HELP ? stdout : stderr);
        return o == OPT_HELP ? 0 : 2;
    }
    return -1;
}

/* -1: go on; else the exit status. */
static int read_options(request *q, int argc, char **argv)
{
    for (int o = getopt_long(argc, argv, "o:", options, NULL); o != -1;
         o = getopt_long(argc, argv, "o:", options, NULL)) {
        int rc = read_option(q, o);
        if (rc >= 0)
            return rc;
    }
    if (optind != argc - 1) {
        fputs(usage_text, stderr);
        return 2;
    }
    q->prompt = argv[optind];
    const char *dot = q->output ? strrchr(q->output, '.') : NULL;
    if (q->output && strcmp(q->output, "-") != 0) {
        q->format = rv__format_from(dot ? dot + 1 : "");
        if (q->format == RV__FORMATS)
            return rv__cli_fail(q->output, "the name must end in .png, .jpg, .jpeg or .webp") + 1;
    }
    return -1;
}

/* A model given as a file or folder is served beside the cards; its id is then that of its card. */
static int choose_model(request *q)
{
    const char *m = q->values[MODEL];
    bool is_path = m && (strchr(m, '.') || strchr(m, '/')) && access(m, R_OK) == 0;
    if (is_path && set(q, "model", m) >= 0)
        return 1;
    if (m && !is_path)
        return 0;
    const rv__model *model = rv__context_default_model(q->r);
    q->values[MODEL] = model ? model->id : NULL;
    return model ? 0
                 : rv__cli_fail("models", "no model card was found; name a folder with --models");
}

/* ---- the request ---- */

/* A number goes in as written, so that its digits are exact; anything else becomes a string, which
 * the check refuses with the right words. */
static bool is_number(const char *text)
{
    rv__value *v = rv__json_parse(text, strlen(text), NULL);
    bool is = v && rv__json_is_number(v);
    rv__json_free(v);
    return is;
}

/* A value of the request: numbers as written, unless a text is meant. */
static void write_value(rv__buf *b, const char *value, bool is_text)
{
    if (!is_text && is_number(value))
        rv__buf_adds(b, value);
    else
        rv__json_write_string(b, value);
}

static void write_loras(rv__buf *b, const request *q)
{
    for (int i = 0; i < q->n_loras; i++) {
        const char *weight = strrchr(q->loras[i], '=');
        size_t n = weight ? (size_t)(weight - q->loras[i]) : strlen(q->loras[i]);
        char *name = rv__strndup(q->loras[i], n);
        rv__buf_adds(b, i ? ",{\"model\":" : ",\"lora\":[{\"model\":");
        rv__json_write_string(b, name ? name : "");
        rv__buf_adds(b, ",\"weight\":");
        write_value(b, weight ? weight + 1 : "1", false);
        rv__buf_adds(b, i + 1 < q->n_loras ? "}" : "}]");
        rv__free(name);
    }
}

static char *request_json(const request *q)
{
    char uuid[RV__UUID_SIZE];
    if (!rv__uuid_make(uuid))
        return NULL;
    rv__buf b;
    rv__buf_init(&b, REQUEST_MAX);
    rv__buf_addf(&b,
                 "[{\"taskType\":\"imageInference\",\"taskUUID\":\"%s\",\"positivePrompt\":", uuid);
    rv__json_write_string(&b, q->prompt);
    for (int i = 0; i < FIELDS; i++) {
        if (!q->values[i])
            continue;
        rv__buf_addf(&b, ",\"%s\":", fields[i].name);
        write_value(&b, q->values[i], fields[i].is_text);
    }
    for (int i = 0; i < 2; i++) {
        if (!q->pictures[i])
            continue;
        rv__buf_addf(&b, ",\"%s\":", i ? "maskImage" : "seedImage");
        rv__json_write_string(&b, q->pictures[i]);
    }
    write_loras(&b, q);
    if (q->is_checked)
        rv__buf_adds(&b, ",\"safety\":{\"checkContent\":true}");
    rv__buf_adds(&b, "}]");
    return rv__buf_take(&b, NULL);
}

/* The parameter that a message is about; "" when the message names it itself. */
static const char *unnamed(const char *parameter, const char *message)
{
    return parameter && !strstr(message, parameter) ? parameter : "";
}

static void print_issues(const rv_batch *batch)
{
    const rv_issue *issue;
    for (rv_batch_issues(batch, &issue); issue->message; issue++) {
        bool hint = issue->nearest && !strstr(issue->message, "nearest");
        const char *parameter = unnamed(issue->parameter, issue->message);
        fprintf(stderr, "reverie: %s%s%s%s%s%s%s\n", issue->warning ? "warning: " : "",
                parameter, *parameter ? ": " : "", issue->message,
                hint ? " (nearest: " : "", hint ? issue->nearest : "", hint ? ")" : "");
    }
}

/* ---- the pictures ---- */

/* "fox.png" for one picture, "fox-2.png" for the second of several. */
static char *file_name(const request *q, const rv_job *job, size_t index, uint64_t seed)
{
    if (!q->output)
        return rv__format("reverie-%llu.%s", (unsigned long long)seed, rv__format_ext(q->format));
    if (rv_job_images(job) == 1)
        return rv__strdup(q->output);
    const char *dot = strrchr(q->output, '.');
    return rv__format("%.*s-%zu%s", (int)(dot - q->output), q->output, index + 1, dot);
}

static rv_status write_stdout(const request *q, rv_image *image, rv_error *err)
{
    void *bytes;
    size_t len;
    rv_status s = rv_image_encode(image, rv__format_name(q->format), q->quality, &bytes, &len, err);
    if (s != RV_OK)
        return s;
    if (fwrite(bytes, 1, len, stdout) != len || fflush(stdout) != 0)
        s = rv__fail(err, RV_IO, "standard output: %s", strerror(errno));
    rv_free(bytes);
    return s;
}

static void save(request *q, const rv_job *job, size_t index)
{
    rv_image *image = rv_job_image(job, index);
    rv_image_info info = rv_image_facts(image);
    bool to_stdout = q->output && strcmp(q->output, "-") == 0;
    char *name = to_stdout ? rv__strdup("-") : file_name(q, job, index, info.seed);
    rv_error err;
    rv__progress_clear(&q->progress);
    rv_status s = name ? RV_OK : rv__fail(&err, RV_MEMORY, "out of memory");
    if (s == RV_OK && to_stdout)
        s = write_stdout(q, image, &err);
    else if (s == RV_OK)
        s = rv_image_write(image, name, rv__format_name(q->format), q->quality, &err);
    if (s != RV_OK) {
        rv__cli_fail("", err.message);
        q->broken = true;
    } else if (!to_stdout) {
        printf("%s  %dx%d  seed %llu  %.1f s%s\n", name, info.width, info.height,
               (unsigned long long)info.seed, rv__progress_seconds(&q->progress),
               info.nsfw > 0 ? "  flagged by the content checker" : "");
        fflush(stdout);
    }
    rv__free(name);
}

static void on_event(void *user, rv_job *job, const rv_event *e)
{
    request *q = user;
    if (e->kind == RV_EVENT_STEP)
        rv__progress_step(&q->progress, e->index, rv_job_images(job), e->step, e->steps);
    else if (e->kind == RV_EVENT_IMAGE)
        save(q, job, e->index);
    else if (e->kind == RV_EVENT_END)
        rv__progress_clear(&q->progress);
}

/* Dispatches until the job has ended; an interrupt cancels it. */
static void wait_for(request *q, rv_job *job)
{
    struct pollfd fds[2] = {{rv_fd(q->r), POLLIN, 0}, {wake_pipe[0], POLLIN, 0}};
    bool asked = false;
    while (rv_job_state(job) <= RV_RUNNING) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (interrupts && !asked) {
            asked = true;
            rv_job_cancel(job);
        }
        rv_dispatch(q->r);
    }
}

static int conclude(const request *q, const rv_job *job)
{
    const char *warning;
    for (size_t i = 0; (warning = rv_job_warning(job, i)); i++)
        fprintf(stderr, "reverie: warning: %s\n", warning);
    if (rv_job_state(job) == RV_DONE)
        return q->broken ? 1 : 0;
    const rv_error *err = rv_job_error(job);
    if (interrupts)
        return rv__cli_fail("", "cancelled") + 129;
    return err ? rv__cli_fail(unnamed(err->parameter, err->message), err->message)
               : rv__cli_fail("", "the task did not end");
}

static int run(request *q)
{
    char *json = request_json(q);
    rv_batch *batch = json ? rv_batch_parse(q->r, json, strlen(json)) : NULL;
    rv_job *job = NULL;
    int rc = 1;
    rv__free(json);
    if (!batch)
        return rv__cli_fail("", "out of memory");
    print_issues(batch);
    rv_sink sink = {on_event, q};
    rv__progress_begin(&q->progress);
    rv_error err;
    if (rv_batch_issues(batch, NULL) == 0) {
        if (rv__job_submit(q->r, rv_batch_task(batch, 0), &sink, NULL, NULL, &job, &err) != RV_OK) {
            rv__cli_fail("", err.message);
        } else {
            wait_for(q, job);
            rc = conclude(q, job);
        }
    }
    rv_job_unref(job);
    rv_batch_unref(batch);
    return rc;
}

int rv__command_generate(int argc, char **argv)
{
    request q = {.format = RV__PNG, .quality = 95};
    if (rv_open(&q.r) != RV_OK || pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return rv__cli_fail("", strerror(errno));
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    int rc = read_options(&q, argc, argv);
    if (rc < 0) {
        rv__tree_models(q.r);
        rc = choose_model(&q);
        if (!rc)
            rc = run(&q);
    }
    rv_close(q.r);
    rv__free(q.pictures[0]);
    rv__free(q.pictures[1]);
    return rc;
}
