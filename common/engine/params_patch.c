/* Changes of a matrix that no small product beside it can make: LoHa, LoKr, and DoRA, which sets
 * the length of every row anew.  They are made to the rows of the matrix when these are unpacked,
 * so that nothing of the matrix is stored twice.  Must only be handed parts that lora_shapes.c has
 * checked. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "graph_op.h"
#include "lora.h"
#include "tensor_rows.h"

enum { BLOCK = 512, MOST = 64 /* changes of one matrix */ };

/* Factors are F32 copies: PAIR up, down; HADAMARD h1_a, h1_b, h2_a, h2_b; KRONECKER k1, k2. */
struct rv__patch {
    rv__patch *next;
    enum { PAIR, HADAMARD, KRONECKER } kind;
    float *factors[4];
    int64_t rank[2];         /* of the products */
    int64_t columns1;        /* KRONECKER: of k1 ... */
    int64_t rows2, columns2; /* ... and of k2 */
    float *magnitude;        /* DoRA, or NULL */
    float scale, weight;
};

/* ---- making ---- */

static float *copy_of(const rv__tensor *t)
{
    int64_t n = 1, rows = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    for (int i = 0; i + 1 < t->n_dims; i++)
        rows *= t->shape[i];
    float *x = rv__alloc((size_t)n * sizeof *x);
    if (x)
        rv__tensor_floats(t, 0, rows, x);
    return x;
}

/* One side of a Kronecker product, multiplied out. */
static float *side_of(const rv__tensor *const *t, int64_t *rows, int64_t *columns)
{
    if (t[0]) {
        *rows = t[0]->shape[0];
        *columns = t[0]->shape[1];
        return copy_of(t[0]);
    }
    int64_t rank = t[2]->shape[0];
    *rows = t[1]->shape[0];
    *columns = t[2]->shape[1];
    float *a = copy_of(t[1]), *b = copy_of(t[2]),
          *x = rv__calloc((size_t)(*rows * *columns), sizeof *x);
    for (int64_t i = 0; a && b && x && i < *rows; i++)
        for (int64_t k = 0; k < rank; k++)
            for (int64_t j = 0; j < *columns; j++)
                x[i * *columns + j] += a[i * rank + k] * b[k * *columns + j];
    bool ok = a && b;
    rv__free(a);
    rv__free(b);
    if (!ok) {
        rv__free(x);
        x = NULL;
    }
    return x;
}

static bool take_factors(rv__patch *p, const rv__lora_part *part)
{
    const rv__tensor *const *t = part->tensors;
    int64_t rows1;

    if (t[RV__LORA_UP]) {
        p->kind = PAIR;
        p->factors[0] = copy_of(t[RV__LORA_UP]);
        p->factors[1] = copy_of(t[RV__LORA_DOWN]);
        p->rank[0] = t[RV__LORA_DOWN]->shape[0];
    } else if (t[RV__LORA_H1_A]) {
        p->kind = HADAMARD;
        for (int i = 0; i < 4; i++)
            p->factors[i] = copy_of(t[RV__LORA_H1_A + i]);
        p->rank[0] = t[RV__LORA_H1_B]->shape[0];
        p->rank[1] = t[RV__LORA_H2_B]->shape[0];
        if (!p->factors[2] || !p->factors[3])
            return false;
    } else {
        p->kind = KRONECKER;
        p->factors[0] = side_of(t + RV__LORA_K1, &rows1, &p->columns1);
        p->factors[1] = side_of(t + RV__LORA_K2, &p->rows2, &p->columns2);
    }
    if (t[RV__LORA_MAGNITUDE]) {
        p->magnitude = copy_of(t[RV__LORA_MAGNITUDE]);
        if (!p->magnitude)
            return false;
    }
    return p->factors[0] && p->factors[1];
}

bool rv__patch_add(rv__patch **list, const rv__lora_part *part, float weight)
{
    rv__patch *p = rv__calloc(1, sizeof *p);
    int n = 0;

    if (!p)
        return false;
    p->scale = part->scale;
    p->weight = weight;
    for (; *list; list = &(*list)->next)
        n++;
    if (n == MOST || !take_factors(p, part)) {
        rv__patch_free(p);
        return false;
    }
    *list = p;
    return true;
}

void rv__patch_free(rv__patch *list)
{
    while (list) {
        rv__patch *p = list;
        list = p->next;
        for (int i = 0; i < 4; i++)
            rv__free(p->factors[i]);
        rv__free(p->magnitude);
        rv__free(p);
    }
}

/* ---- using ---- */

/* to = row `row` of a * b, columns [col, col + n). */
static void product_row(const float *a, const float *b, int64_t rank, int64_t row, int64_t in,
                        int64_t col, int64_t n, float *restrict to)
{
    memset(to, 0, (size_t)n * sizeof *to);
    for (int64_t k = 0; k < rank; k++) {
        float by = a[row * rank + k];
        const float *restrict from = b + k * in + col;
        for (int64_t i = 0; i < n; i++)
            to[i] += by * from[i];
    }
}

/* scale * change, a piece of one row. */
static void change(const rv__patch *p, int64_t row, int64_t in, int64_t col, int64_t n, float *to)
{
    float other[BLOCK];

    if (p->kind == KRONECKER) {
        const float *k1 = p->factors[0] + row / p->rows2 * p->columns1,
                    *k2 = p->factors[1] + row % p->rows2 * p->columns2;
        k1 += col / p->columns2;
        for (int64_t i = 0, at = col % p->columns2; i < n; i++) {
            to[i] = *k1 * k2[at];
            if (++at == p->columns2) {
                at = 0;
                k1++;
            }
        }
    } else {
        product_row(p->factors[0], p->factors[1], p->rank[0], row, in, col, n, to);
    }
    if (p->kind == HADAMARD) {
        product_row(p->factors[2], p->factors[3], p->rank[1], row, in, col, n, other);
        for (int64_t i = 0; i < n; i++)
            to[i] *= other[i];
    }
    for (int64_t i = 0; i < n; i++)
        to[i] *= p->scale;
}

/* What DoRA multiplies a row of W + change by. */
static float stretch(const rv__patch *p, const float *base, int64_t row, int64_t in)
{
    float piece[BLOCK];
    double sum = 0;

    if (!p->magnitude)
        return 1.0f;
    for (int64_t col = 0; col < in; col += BLOCK) {
        int64_t n = in - col < BLOCK ? in - col : BLOCK;
        change(p, row, in, col, n, piece);
        for (int64_t i = 0; i < n; i++)
            sum += (double)(base[col + i] + piece[i]) * (base[col + i] + piece[i]);
    }
    return sum > 0 ? (float)(p->magnitude[row] / sqrt(sum)) : 1.0f;
}

static void patch_row(const rv__patch *list, int64_t row, int64_t in, float *base)
{
    float by[MOST], sum[BLOCK], piece[BLOCK];
    int k = 0;

    for (const rv__patch *p = list; p; p = p->next)
        by[k++] = stretch(p, base, row, in);
    for (int64_t col = 0; col < in; col += BLOCK) {
        int64_t n = in - col < BLOCK ? in - col : BLOCK;
        memset(sum, 0, sizeof sum);
        k = 0;
        for (const rv__patch *p = list; p; p = p->next, k++) {
            change(p, row, in, col, n, piece);
            for (int64_t i = 0; i < n; i++)
                sum[i] += p->weight * (by[k] * piece[i] + (by[k] - 1.0f) * base[col + i]);
        }
        for (int64_t i = 0; i < n; i++)
            base[col + i] += sum[i];
    }
}

void rv__patch_rows(const rv__patch *list, int64_t first, int64_t count, int64_t in, float *rows)
{
    for (int64_t r = 0; r < count; r++)
        patch_row(list, first + r, in, rows + r * in);
}
