/* The parameter table: every parameter of an imageInference task, written once.  Validation, defaults, normalised
 * tasks, schema JSON, reference page, dialogs and boundary tests are derived from it; nothing else may repeat a
 * limit, a default or a word of it. */
#ifndef RV_TABLE_H
#define RV_TABLE_H

#include "base/json.h"
#include "base/status.h"

typedef enum rv__type {
    RV__BOOL = 1,
    RV__INT,    /* signed 64 bit; also written as 1024.0        */
    RV__UINT,   /* unsigned 64 bit, exact                       */
    RV__FLOAT,  /* finite                                       */
    RV__TEXT,
    RV__TEXTS,  /* array of texts; format is that of the items  */
    RV__OBJECT,
    RV__LIST    /* array of objects                             */
} rv__type;

typedef enum rv__form {
    RV__ANY_TEXT,
    RV__UUID,      /* any version unless the settings insist on version 4            */
    RV__URL,       /* http or https                                                  */
    RV__AIR,       /* model identifier SOURCE:ID@VERSION                             */
    RV__PICTURE,   /* UUID of a stored picture, URL, data URI or bare base64         */
    RV__COLOR,     /* #RGB or #RRGGBB                                                */
    RV__HEX8       /* eight hexadecimal digits                                       */
} rv__form;

/* Which models know a parameter; a model card names its family. */
enum {
    RV__HIDREAM = 1, /* the pages of runware:97@1, 97@2 and 97@3     */
    RV__GENERIC = 2, /* the reference of the task type               */
    RV__EVERY = 3
};

typedef struct rv__word {
    const char *word; /* canonical spelling; compared without regard to case */
    const char *help; /* one sentence, or NULL                               */
    const char *also; /* another accepted spelling, or NULL                  */
} rv__word;

/* One parameter.  Arrays of them end with a row without name. */
typedef struct rv__field rv__field;
struct rv__field {
    const char *name;
    const char *also;        /* another accepted spelling, or NULL                                   */
    rv__type    type;
    rv__form    format;
    unsigned    families;
    bool        required;
    bool        skip_empty;  /* an empty text counts as absent                                        */
    bool        legacy;      /* accepted from old clients, not advertised                             */
    bool        capped;      /* the setting max_steps limits it too                                   */
    double      min, max;    /* numbers; max 0: none                                                  */
    uint64_t    max_uint;    /* RV__UINT instead of max                                               */
    double      step;        /* numbers are multiples of it; 0: any                                   */
    size_t      min_size, max_size; /* characters of a text, items of a list; max_size 0: none        */
    const char *preset;      /* default as JSON text, or NULL                                         */
    const rv__word  *words;  /* allowed texts, ended by a NULL word; NULL: any                        */
    const rv__field *fields; /* members of an object or of a list's items                             */
    const rv__field *source; /* filled per model: the same level of the whole table                   */
    const char *code;        /* wire code of wrong values; NULL: "invalid" + name                     */
    const char *length_code; /* wire code of a wrong length; NULL: code                               */
    const char *unit, *group, *label, *help;
};

/* All rows of all families.  A name may have one row per family. */
extern const rv__field rv__table[];

/* The rows of the task types that make no pictures. */
extern const rv__field rv__authentication_table[];
extern const rv__field rv__ping_table[];
extern const rv__field rv__response_table[];
extern const rv__field rv__upload_table[];

extern const rv__word rv__scheduler_words[];
extern const rv__word rv__style_preset_words[];

/* Row of a name in an array of rows, also by its other spelling; NULL when there is none. */
const rv__field *rv__field_find(const rv__field *rows, const char *name);

/* The known name that is nearest to a misspelled one, or NULL when nothing is near. */
const char *rv__field_guess(const rv__field *rows, const char *name);

/* The allowed word a text stands for (without regard to case, also by its other spelling), or NULL. */
const rv__word *rv__word_find(const rv__word *words, const char *text);
const char     *rv__word_guess(const rv__word *words, const char *text);

/* Differences between two texts (insertions, deletions, replacements, swapped neighbours; case is half ignored);
 * more than limit counts as limit + 1. */
size_t rv__text_distance(const char *a, const char *b, size_t limit);

/* Word of a type as the wire uses it: "integer", "float", "string", "boolean", "object", "array". */
const char *rv__type_word(rv__type type);

/* The rows that hold for one model: those of the family and those named in extensions (dotted paths, may be NULL),
 * changed by overrides ({"steps":{"default":16}, "width":{"max":1024}}, may be NULL).  All memory comes from pool,
 * which the caller frees as a whole.  RV_FORMAT names a wrong override. */
struct rv__pool;
rv_status rv__fields_for(struct rv__pool *pool, unsigned family, const rv__value *extensions,
                         const rv__value *overrides, const rv__field **out, rv_error *err);

#endif
