/* See lora.h; this file checks what the keys of one module say together.  Must never let a shape
 * through that does not fit: what uses the parts does not look again. */
#include "lora_internal.h"

#include <math.h>
#include <string.h>

#include "tensor_rows.h"

#define MAX_RANK 4096

bool rv__lora_is_pair(const rv__lora_part *p)
{
    return p->tensors[RV__LORA_UP] && !p->tensors[RV__LORA_MAGNITUDE];
}

/* ---- scale ---- */

static int64_t size_of(const rv__tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    return n;
}

/* alpha where the file has no tensor for it: diffusers keeps it in the metadata.  < 0: nowhere. */
static double told_alpha(const rv__lora_reader *r, const rv__lora_part *p)
{
    char key[RV__LORA_NAME_BYTES];
    size_t n = strlen(p->module) - strlen(".weight");
    const rv__value *each = rv__json_get(r->adapter, "transformer.alpha_pattern");
    if (p->component || n >= sizeof key)
        return -1;
    memcpy(key, p->module, n);
    key[n] = '\0';
    return rv__json_get_number(each, key,
                               rv__json_get_number(r->adapter, "transformer.lora_alpha", -1));
}

/* rank 0: the change is not cut down, and alpha has no meaning. */
static rv_status read_scale(const rv__lora_reader *r, double rank, rv__lora_part *p)
{
    double alpha = told_alpha(r, p);
    bool root = rv__json_get_bool(r->adapter, "transformer.use_rslora", false);
    const rv__tensor *t = p->tensors[RV__LORA_ALPHA];
    p->scale = 1.0f;
    if (t) {
        float value;
        if (size_of(t) != 1 || t->n_dims > 2)
            return rv__lora_bad(r, RV_FORMAT, t->name, "is not one number");
        rv__tensor_floats(t, 0, 1, &value);
        if (!isfinite(value))
            return rv__lora_bad(r, RV_FORMAT, t->name, "is not finite");
        if (rank > 0)
            p->scale = (float)((double)value / rank);
    } else if (alpha >= 0 && rank > 0) {
        p->scale = (float)(alpha / (root ? sqrt(rank) : rank));
    }
    return RV_OK;
}

/* ---- shapes ---- */

static rv_status no_fit(const rv__lora_reader *r, const rv__tensor *t, const char *why)
{
    return rv__lora_bad(r, RV_FORMAT, t->name, why);
}

/* Two factors of one matrix: a [out, rank], b [rank, in]; either may be missing when both are. */
static rv_status check_factors(const rv__lora_reader *r, const rv__tensor *a, const rv__tensor *b)
{
    if (!a || !b)
        return no_fit(r, a ? a : b, "the other half of the pair is missing");
    if (a->n_dims != 2 || b->n_dims != 2 || b->shape[0] < 1 || b->shape[0] > MAX_RANK ||
        a->shape[1] != b->shape[0])
        return no_fit(r, b, "the two halves do not fit each other");
    return RV_OK;
}

static rv_status check_product(const rv__lora_reader *r, const rv__tensor *module,
                               const rv__tensor *a, const rv__tensor *b)
{
    rv_status status = check_factors(r, a, b);
    if (status == RV_OK && b->shape[1] != module->shape[1])
        status = no_fit(r, b, "does not fit the model's shape");
    if (status == RV_OK && a->shape[0] != module->shape[0])
        status = no_fit(r, a, "does not fit the model's shape");
    return status;
}

/* One side of a Kronecker product: its rows and columns. */
static rv_status check_side(const rv__lora_reader *r, const rv__tensor *const *t, int64_t *rows,
                            int64_t *columns)
{
    const rv__tensor *whole = t[0], *a = t[1], *b = t[2];
    if (whole && (a || b))
        return no_fit(r, whole, "says again what another key says");
    if (whole && whole->n_dims != 2)
        return no_fit(r, whole, "is not a matrix");
    rv_status status = whole ? RV_OK : check_factors(r, a, b);
    if (status == RV_OK) {
        *rows = whole ? whole->shape[0] : a->shape[0];
        *columns = whole ? whole->shape[1] : b->shape[1];
    }
    return status;
}

static const rv__tensor *any_of(const rv__lora_part *p, int first, int last)
{
    for (int i = first; i <= last; i++)
        if (p->tensors[i])
            return p->tensors[i];
    return NULL;
}

static rv_status check_kronecker(const rv__lora_reader *r, const rv__tensor *module,
                                 const rv__lora_part *p, double *rank)
{
    const rv__tensor *const *k1 = p->tensors + RV__LORA_K1, *const *k2 = p->tensors + RV__LORA_K2;
    const rv__tensor *first = any_of(p, RV__LORA_K1, RV__LORA_K1_B),
                     *second = any_of(p, RV__LORA_K2, RV__LORA_K2_B);
    int64_t rows[2] = {0}, columns[2] = {0};
    if (!first || !second)
        return no_fit(r, first ? first : second, "the other half of the pair is missing");
    rv_status status = check_side(r, k1, &rows[0], &columns[0]);
    if (status == RV_OK)
        status = check_side(r, k2, &rows[1], &columns[1]);
    if (status != RV_OK)
        return status;
    if (rows[0] < 1 || rows[1] < 1 || columns[0] < 1 || columns[1] < 1 ||
        module->shape[0] % rows[0] || module->shape[0] / rows[0] != rows[1] ||
        module->shape[1] % columns[0] || module->shape[1] / columns[0] != columns[1])
        return no_fit(r, second, "does not fit the model's shape");
    *rank = k2[2] ? (double)k2[2]->shape[0] : k1[2] ? (double)k1[2]->shape[0] : 0;
    return RV_OK;
}

static rv_status check_hadamard(const rv__lora_reader *r, const rv__tensor *module,
                                const rv__lora_part *p, double *rank)
{
    const rv__tensor *const *t = p->tensors;
    const rv__tensor *first = any_of(p, RV__LORA_H1_A, RV__LORA_H1_B),
                     *second = any_of(p, RV__LORA_H2_A, RV__LORA_H2_B);
    if (!first || !second)
        return no_fit(r, first ? first : second, "the other half of the pair is missing");
    rv_status status = check_product(r, module, t[RV__LORA_H1_A], t[RV__LORA_H1_B]);
    if (status == RV_OK)
        status = check_product(r, module, t[RV__LORA_H2_A], t[RV__LORA_H2_B]);
    if (status == RV_OK)
        *rank = (double)t[RV__LORA_H1_B]->shape[0];
    return status;
}

/* One number per row of the matrix.  A row of numbers per column is another convention. */
static rv_status check_magnitude(const rv__lora_reader *r, const rv__tensor *module,
                                 const rv__tensor *m)
{
    if (!m)
        return RV_OK;
    if (m->n_dims == 2 && m->shape[0] == 1 && m->shape[1] > 1)
        return rv__lora_bad(r, RV_UNSUPPORTED, m->name,
                            "DoRA over the columns of a matrix is not supported");
    return size_of(m) == module->shape[0] && m->shape[0] == module->shape[0]
               ? RV_OK
               : no_fit(r, m, "does not fit the model's shape");
}

rv_status rv__lora_check(const rv__lora_reader *r, const rv__tensor *module, rv__lora_part *p)
{
    const rv__tensor *pair = any_of(p, RV__LORA_DOWN, RV__LORA_UP),
                     *hadamard = any_of(p, RV__LORA_H1_A, RV__LORA_H2_B),
                     *kronecker = any_of(p, RV__LORA_K1, RV__LORA_K2_B);
    const rv__tensor *change = pair ? pair : hadamard ? hadamard : kronecker;
    double rank = 0;
    rv_status status;
    if (!change)
        return no_fit(r, any_of(p, RV__LORA_MAGNITUDE, RV__LORA_ALPHA),
                      "the other half of the pair is missing");
    if (module->n_dims != 2)
        return rv__lora_bad(r, RV_UNSUPPORTED, change->name, "the model's module is no matrix");
    if ((pair != NULL) + (hadamard != NULL) + (kronecker != NULL) > 1)
        return no_fit(r, kronecker ? kronecker : hadamard, "is of another kind than its module's");
    if (pair) {
        status = check_product(r, module, p->tensors[RV__LORA_UP], p->tensors[RV__LORA_DOWN]);
        rank = status == RV_OK ? (double)p->tensors[RV__LORA_DOWN]->shape[0] : 0;
    } else if (hadamard) {
        status = check_hadamard(r, module, p, &rank);
    } else {
        status = check_kronecker(r, module, p, &rank);
    }
    if (status == RV_OK)
        status = check_magnitude(r, module, p->tensors[RV__LORA_MAGNITUDE]);
    return status == RV_OK ? read_scale(r, rank, p) : status;
}
