/* Names of tensors in other programs' files, turned into those of diffusers and transformers.
 * Reads names only; must never guess: what is not in a table keeps its name. */
#ifndef RV_WEIGHTS_NAMES_H
#define RV_WEIGHTS_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#define RV_NAME_BYTES 1100 /* a name and what is added to it */

/* Behind a prefix that ComfyUI puts before a whole part; the name itself when there is none. */
const char *rv__name_without_prefix(const char *part, const char *name);

/* An autoencoder's name of LDM (ae.safetensors).  ups: stages of its decoder, which LDM counts from
 * the other end.  is_ldm: whether a name can only be one of LDM. */
bool rv__name_is_ldm(const char *name);
int  rv__name_ldm_up(const char *name); /* stage of the decoder, or -1 */
void rv__name_from_ldm(const char *name, int ups, char *out);

/* llama.cpp's names of a language model (is_t5: of an encoder of T5).  False: nobody needs it. */
bool rv__name_from_llama(const char *name, bool is_t5, char *out);

#endif
