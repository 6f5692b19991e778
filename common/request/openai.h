/* The OpenAI images protocol with Lumenfall's additions, as a translation: a request becomes one Runware task (whose
 * checking stays in the parameter table), errors and model descriptions become what clients of that protocol read.
 * Must never judge a value that the table judges, and never fetch anything. */
#ifndef RV_OPENAI_H
#define RV_OPENAI_H

#include "base/pool.h"
#include "reverie.h"
#include "request/models.h"
#include "request/multipart.h"

/* Something wrong (or ignored) that the translation itself found. */
typedef struct rv__openai_note {
    const char *parameter, *message;
    struct rv__openai_note *next;
} rv__openai_note;

/* A request after translation.  Texts live in the pool. */
typedef struct rv__openai {
    rv__pool pool;
    rv_openai_kind kind;
    char *task;      /* the Runware body (rv__free); NULL only when out of memory */
    size_t task_len;
    rv__openai_note *errors, *warnings;
    const char *model;   /* as sent; the default model's id when absent; NULL: there is none */
    const char *format;  /* "png", "jpeg", "webp"  */
    const char *quality, *background; /* as sent, for the answer; may be NULL */
    const char *(*names)[2]; /* Runware name, name the client used; ended by NULL */
    size_t names_count;
    int partials;        /* partial pictures that were asked for */
    bool stream;
    size_t text_tokens, input_pictures; /* for the usage figures */
} rv__openai;

/* Translates a body: JSON, or a form when content_type says multipart/form-data.  No result is an error here: what is
 * wrong stands in out->errors, beside the issues that the task itself will have.  uuid is that of a task that names
 * none; NULL: a new one.  False: out of memory.  Any thread. */
bool rv__openai_translate(const rv__models *models, const rv__model *fallback, rv_openai_kind kind,
                          const char *content_type, const char *body, size_t len, const char *uuid,
                          rv__openai *out);
void rv__openai_free(rv__openai *o);

/* The name under which the client knows a Runware parameter ("width" is "size"). */
const char *rv__openai_name(const rv__openai *o, const char *parameter);

/* A sentence with the Runware names in it replaced, in the pool; parameter is the Runware one and may be NULL. */
const char *rv__openai_sentence(rv__openai *o, const char *parameter, const char *message);

/* The names of the protocol's own parameters, for the schema (openai_models.c). */
typedef struct rv__openai_field {
    const char *name;
    const char *runware; /* the parameter it stands for; NULL: none                              */
    const char *schema;  /* members of its schema that do not come from the table, or NULL      */
    const char *mode;    /* passthrough renamed converted emulated                               */
    const char *providers; /* JSON list of those that know it; NULL: all                         */
    bool edits_only;
} rv__openai_field;

extern const rv__openai_field rv__openai_fields[];

#endif
