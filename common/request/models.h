/* Model cards: config/models/NAME.json.  A card names a model (AIR id, aliases), overrides the parameter table
 * (defaults, limits), tells what it costs, who runs it, and where its weights lie.  Adding a model is adding a card.
 *
 *     {
 *       "id": "runware:97@3",                   AIR id
 *       "name": "HiDream-I1 Fast",
 *       "aliases": ["hidream-i1-fast"],
 *       "family": "hidream",                    which rows of the parameter table: hidream or generic
 *       "description": "…", "documentation": "https://…",
 *       "parameters": {"steps": {"default": 16}, "width": {"max": 1024}},
 *                                               default min max step minSize maxSize words required, by dotted path
 *       "extensions": ["seedImage", "strength"],  rows of other families that this model takes too
 *       "price": {"base": 0.0003, "perStep": 0.0002, "perMegapixel": 0},   US dollars per picture
 *       "executors": [{"name": "engine"}, {"name": "fal", "model": "…"}],  in order of preference (job/route.h):
 *                               name: engine, runware, openai, lumenfall, reverie, fal or replicate; of services also
 *                               model (what it is called there), url, key_env or key_file, delivery ("async"), adapt, loras,
 *                               price (as above); of all max_queue, max_cost, only, except
 *       "engine": {"weights": "hidream-i1-fast.gguf"}   or an object of paths, one per part:
 *                               {"transformer": "…", "vae": "…", … "config": "…"} (engine/weights.h)
 *                               "loras": {"local:style@1": "style.safetensors"}  files by the names requests use
 *                               "precision": "fast"          products in eight bits (default "float32"; speed.md)
 *                               "memory_limit": 20           GB for weights and activations together
 *                               "rpc": ["host:port", …]      other machines that hold the last blocks; also rpc_key,
 *                                                            rpc_blocks, rpc_timeout (engine/machines.md)
 *                               "step_caches": {…}           how acceleratorOptions act (caches.md)
 *                               "lora_folder": "loras"       any other NAME is NAME.safetensors in it
 *                               "safety_checker": "safety_checker"  folder or file of diffusers' content checker
 *     }
 *
 * id and name are required.  Members that start with "x-" are for others; unknown ones are refused. */
#ifndef RV_MODELS_H
#define RV_MODELS_H

#include "base/json.h"
#include "base/status.h"

typedef struct rv__model {
    const char      *id;     /* AIR id: "runware:97@3"                                             */
    const char      *name;   /* for people: "HiDream-I1 Fast"                                      */
    const rv__value *card;   /* the whole card                                                     */
    const rv__value *engine; /* its "engine" object, or NULL: weights, max_sequence_length, …      */
    const char      *folder; /* folder of the card; relative weight paths start here               */
    const struct rv__field *fields; /* the parameter table as this model has it (request/table.h)  */
} rv__model;

typedef struct rv__models rv__models; /* all cards of a context; counted, because batches outlive contexts */

rv__models *rv__models_new(void);
rv__models *rv__models_ref(const rv__models *m);
void        rv__models_free(rv__models *m); /* drops one reference */

/* Reads every *.json of a folder, or one card file; a weights folder or .gguf gets a card made from it.  A card whose
 * id is known already replaces the older one.  Before the first task is parsed, on the context's thread.  Errors
 * name the file and the member. */
rv_status rv__models_add(rv__models *m, const char *path, rv_error *err);

/* The same from the text of a card; folder may be "". */
rv_status rv__models_add_json(rv__models *m, const char *json, size_t len, const char *folder, rv_error *err);

/* Keeps only the cards whose id or an alias of which matches one of the patterns (separated by spaces; * stands for
 * any characters); the others are not served any more.  Before the first task is parsed. */
void rv__models_keep(rv__models *m, const char *patterns);

/* By id, alias or slug ("hidream-i1-fast", "fal-ai/hidream-i1-fast"); NULL when not served. */
const rv__model *rv__models_find(const rv__models *m, const char *id);
/* An id or alias that looks like a misspelled one, or NULL. */
const char      *rv__models_guess(const rv__models *m, const char *id);
size_t           rv__models_count(const rv__models *m);
const rv__model *rv__models_at(const rv__models *m, size_t i);

/* The parameter table for models that no card describes. */
const struct rv__field *rv__models_generic(const rv__models *m);

/* The weights ("engine": {"weights": PATH}, relative to the card's folder) as a path that works from the card's
 * place, or the object of such paths as JSON text (out; rv__free); NULL when the card names none or memory is out. */
char *rv__model_weights(const rv__model *m);

#endif
