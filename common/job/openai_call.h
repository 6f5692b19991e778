/* Calls of the OpenAI images protocol from the inside, for the files that write their replies. */
#ifndef RV_OPENAI_CALL_H
#define RV_OPENAI_CALL_H

#include "call.h"
#include "request/openai.h"

/* What such a call remembers of its request. */
typedef struct rv__openai_state {
    rv__openai request;
    size_t partials_of; /* the picture that is being made, and how often it was shown */
    int partials_told;
    int header_count;
    rv_header headers[4];
} rv__openai_state;

void rv__openai_state_free(rv__openai_state *s);

/* Nothing runs for a request that the translation refused.  s may be NULL. */
bool rv__openai_is_refused(const rv__openai_state *s);

/* Writes the reply.  Never fails: without memory the reply says so. */
void rv__openai_reply(rv_call *c);

/* The result items of a task that was known and so has no job (out; rv__json_free); else NULL. */
rv__value *rv__openai_known(const rv_call *c);

/* The base64 text of picture i inside its item (borrowed), or NULL. */
const char *rv__openai_base64(const rv_job *j, size_t i, size_t *len);

/* "usage":{…} for so many pictures. */
void rv__openai_usage(rv__buf *b, const rv_call *c, size_t pictures);

/* Members that tell how the pictures are made, each with a comma behind it: size, output_format,
 * quality, background. */
void rv__openai_facts(rv__buf *b, const rv_call *c);

#endif
