/* Prompt weighting: what the notations mean, what is refused, and what weights do to the states of
 * the text encoders. */
#include <math.h>

#include "tokenizer_kit.h"

#include "engine/weighting.h"

/* "text|weight text|weight …" of one clause. */
static void describe(const rv__weighted_clause *c, char *out, size_t size)
{
    size_t n = 0;
    *out = '\0';
    for (size_t i = 0; i < c->span_count; i++)
        n += (size_t)snprintf(out + n, size - n, "%.*s|%.4g;",
                              (int)(c->spans[i].to - c->spans[i].from), c->text + c->spans[i].from,
                              c->spans[i].weight);
}

static void reads_words(void **state)
{
    static const struct {
        rv__weighting syntax;
        const char *prompt, *want;
    } rows[] = {
        {RV__WEIGHTING_NONE, "a (red) fox+ \\+", "a (red) fox+ \\+|1;"},
        {RV__WEIGHTING_COMPEL, "small+ dog, pixar style", "small|1.1; dog, pixar style|1;"},
        {RV__WEIGHTING_COMPEL, "small dog, (pixar style)-", "small dog, |1;pixar style|0.9;"},
        {RV__WEIGHTING_COMPEL, "small+++ dog", "small|1.331; dog|1;"},
        {RV__WEIGHTING_COMPEL, "(small+ dog)++, x", "small|1.331; dog|1.21;, x|1;"},
        {RV__WEIGHTING_COMPEL, "small dog, (pixar)1.2 style", "small dog, |1;pixar|1.2; style|1;"},
        {RV__WEIGHTING_COMPEL, "(a (b)0.5 c)2", "a |2;b|1; c|2;"},
        {RV__WEIGHTING_COMPEL, "a (b) c", "a b c|1;"},
        {RV__WEIGHTING_COMPEL, "well-known x-ray - 5 + 3 C\\+\\+",
         "well-known x-ray - 5 + 3 C++|1;"},
        {RV__WEIGHTING_COMPEL, "dog-, cat--.", "dog|0.9;, |1;cat|0.81;.|1;"},
        {RV__WEIGHTING_COMPEL, "(a)2nd b) (c", "a2nd b) c|1;"},
        {RV__WEIGHTING_COMPEL, "(\"a\") x", "\"a\" x|1;"},
        {RV__WEIGHTING_COMPEL, "", ""},
        {RV__WEIGHTING_SD_EMBEDS, "(small) dog, pixar style", "small|1.1; dog, pixar style|1;"},
        {RV__WEIGHTING_SD_EMBEDS, "small dog, [pixar style]", "small dog, |1;pixar style|0.9091;"},
        {RV__WEIGHTING_SD_EMBEDS, "(small:2.5) dog", "small|2.5; dog|1;"},
        {RV__WEIGHTING_SD_EMBEDS, "((a) [b])", "a|1.21; |1.1;b|1;"},
        {RV__WEIGHTING_SD_EMBEDS, "(a (b: .5 ):2) c", "a |2;b c|1;"},
        {RV__WEIGHTING_SD_EMBEDS, "a: b (c:d) \\(e\\)", "a: b |1;c:d|1.1; (e)|1;"},
        {RV__WEIGHTING_SD_EMBEDS, "a (b [c", "a |1;b |1.1;c|1;"},
        {RV__WEIGHTING_SD_EMBEDS, "a] b) +", "a] b) +|1;"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv__weighted w;
        rv_error err = {0};
        char got[512];
        assert_int_equal(rv__weighted_parse(rows[i].syntax, rows[i].prompt, "p", &w, &err), RV_OK);
        assert_int_equal(w.count, 1);
        assert_int_equal(w.join, RV__JOIN_NONE);
        describe(&w.clauses[0], got, sizeof got);
        if (strcmp(got, rows[i].want) != 0)
            fail_msg("%s: %s", rows[i].prompt, got);
        rv__weighted_free(&w);
    }
}

static void reads_clauses(void **state)
{
    rv__weighted w;
    rv_error err = {0};
    char got[128];
    (void)state;
    assert_int_equal(rv__weighted_parse(RV__WEIGHTING_COMPEL,
                                        " (\"small+ dog\" , \"robot\").blend( 1, 0.6 ) ", "p", &w,
                                        &err),
                     RV_OK);
    assert_int_equal(w.count, 2);
    assert_int_equal(w.join, RV__JOIN_BLEND);
    assert_true(fabsf(w.clauses[0].weight - 0.625f) < 1e-6f);
    assert_true(fabsf(w.clauses[1].weight - 0.375f) < 1e-6f);
    describe(&w.clauses[0], got, sizeof got);
    assert_string_equal(got, "small|1.1; dog|1;");
    rv__weighted_free(&w);
    assert_int_equal(rv__weighted_parse(RV__WEIGHTING_COMPEL,
                                        "(\"a\",\"b\").blend(1,-.5,no_normalize)", "p", &w, &err),
                     RV_OK);
    assert_true(w.clauses[0].weight == 1 && w.clauses[1].weight == -0.5f);
    rv__weighted_free(&w);
    assert_int_equal(rv__weighted_parse(RV__WEIGHTING_COMPEL,
                                        "(\"a \\\"b\\\"\", \"c\", \"d\").and()", "p", &w, &err),
                     RV_OK);
    assert_int_equal(w.count, 3);
    assert_int_equal(w.join, RV__JOIN_AND);
    assert_string_equal(w.clauses[0].text, "a \"b\"");
    rv__weighted_free(&w);
    /* not the whole prompt: text */
    assert_int_equal(rv__weighted_parse(RV__WEIGHTING_COMPEL, "(\"a\").and() b", "p", &w, &err),
                     RV_OK);
    assert_int_equal(w.join, RV__JOIN_NONE);
    rv__weighted_free(&w);
}

static void refuses(void **state)
{
    static const struct {
        rv__weighting syntax;
        const char *prompt, *why;
    } rows[] = {
        {RV__WEIGHTING_COMPEL, "(a)11", "\"a\" would count 11 times, the most is 10"},
        {RV__WEIGHTING_COMPEL, "a++++++++++++++++++++++++++++", "the most is 10"},
        {RV__WEIGHTING_SD_EMBEDS, "((ä:5):5)", "\"ä\" would count 25"},
        {RV__WEIGHTING_COMPEL, "(\"a\",\"b\").blend(1)", "2 prompts, but 1 weights"},
        {RV__WEIGHTING_COMPEL, "(\"a\",\"b\").blend()", "2 prompts, but 0 weights"},
        {RV__WEIGHTING_COMPEL, "(\"a\",\"b\").blend(1,-1)", "sum above 0"},
        {RV__WEIGHTING_COMPEL, "(\"a\",\"b\").blend(1,99)", "from -10 to 10"},
        {RV__WEIGHTING_COMPEL, "(\"a\",\"b\").and(1,-1)", "from 0 to 10"},
        {RV__WEIGHTING_COMPEL, "(\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\").and()",
         "at most 8"},
    };
    char deep[256];
    rv__weighted w;
    rv_error err;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(
            rv__weighted_parse(rows[i].syntax, rows[i].prompt, "negativePrompt", &w, &err),
            RV_VALIDATION);
        assert_string_equal(err.parameter, "negativePrompt");
        assert_string_equal(err.code, "invalidPromptWeighting");
        if (!strstr(err.message, rows[i].why))
            fail_msg("%s: %s", rows[i].prompt, err.message);
        assert_null(w.clauses[0].text);
    }
    memset(deep, '(', 65);
    deep[65] = '\0';
    assert_int_equal(rv__weighted_parse(RV__WEIGHTING_SD_EMBEDS, deep, "p", &w, &err),
                     RV_VALIDATION);
    for (long n = 1; n < 8; n++) {
        rv__alloc_fail_after(n);
        rv_status status =
            rv__weighted_parse(RV__WEIGHTING_COMPEL, "(\"a\",\"b\").and()", "p", &w, &err);
        rv__alloc_fail_after(0);
        assert_true(status == RV_OK || status == RV_MEMORY);
        rv__weighted_free(&w);
    }
}

/* ---- states ---- */

typedef struct fixture {
    rv__device *device;
    rv__weights *weights;
    rv__text *text;
} fixture;

static void open_fixture(fixture *f)
{
    rv_error err;
    assert_int_equal(rv__device_open(2, &f->device, &err), RV_OK);
    assert_int_equal(rv__weights_open(kit_golden("tiny-hidream"), &f->weights, &err), RV_OK);
    assert_int_equal(rv__text_open(f->device, f->weights, &f->text, &err), RV_OK);
}

static void close_fixture(fixture *f)
{
    rv__text_close(f->text);
    rv__weights_close(f->weights);
    rv__device_close(f->device);
}

enum { LENGTH = 24 };

static rv__text_embeds encode(fixture *f, rv__weighting syntax, const char *prompt)
{
    rv__weighted w;
    rv__text_embeds e;
    rv_error err = {0};
    if (rv__weighted_parse(syntax, prompt, "p", &w, &err) != RV_OK ||
        rv__weighted_encode(f->text, &w, LENGTH, &e, NULL, NULL, &err) != RV_OK)
        fail_msg("%s: %s", prompt, err.message);
    rv__weighted_free(&w);
    return e;
}

/* Rows of T5 that differ, as bits; Llama's of the last layer likewise. */
static uint32_t differing(const float *a, const float *b, int64_t rows, int64_t channels)
{
    uint32_t bits = 0;
    for (int64_t r = 0; r < rows; r++)
        if (memcmp(a + r * channels, b + r * channels, (size_t)channels * sizeof *a) != 0)
            bits |= 1u << r;
    return bits;
}

static bool same(const rv__text_embeds *a, const rv__text_embeds *b)
{
    return !differing(a->t5, b->t5, a->t5_tokens, a->t5_channels) &&
           memcmp(a->llama, b->llama,
                  (size_t)(a->llama_layers * a->llama_tokens * a->llama_channels) *
                      sizeof *a->llama) == 0 &&
           memcmp(a->pooled, b->pooled, (size_t)a->pooled_channels * sizeof *a->pooled) == 0;
}

static void words_move_their_own_rows(void **state)
{
    fixture f;
    (void)state;
    open_fixture(&f);
    rv__text_embeds plain = encode(&f, RV__WEIGHTING_NONE, "a red fox and a cat"),
                    ones = encode(&f, RV__WEIGHTING_COMPEL, "a (red)1 fox (and) a cat"),
                    none = encode(&f, RV__WEIGHTING_SD_EMBEDS, "a red (fox:0) and a cat"),
                    empty = encode(&f, RV__WEIGHTING_NONE, ""),
                    half = encode(&f, RV__WEIGHTING_SD_EMBEDS, "a red (fox:0.5) and a cat");
    assert_true(same(&plain, &ones));
    uint32_t rows = differing(plain.t5, none.t5, LENGTH, plain.t5_channels);
    assert_true(rows != 0 && !(rows & 1) && rows < 1u << (plain.limits[RV__T5] - 1));
    /* weight 0 is the empty prompt at that place, one half the middle */
    for (int r = 0; r < LENGTH; r++) {
        if (!(rows >> r & 1))
            continue;
        for (int64_t k = 0; k < plain.t5_channels; k++) {
            int64_t i = r * plain.t5_channels + k;
            assert_true(none.t5[i] == empty.t5[i]);
            assert_true(fabsf(half.t5[i] - (plain.t5[i] + empty.t5[i]) / 2) < 1e-5f);
        }
    }
    int64_t last = (plain.llama_layers - 1) * LENGTH * plain.llama_channels;
    rows = differing(plain.llama + last, none.llama + last, LENGTH, plain.llama_channels);
    assert_true(rows != 0 && !(rows & 1) && rows < 1u << plain.limits[RV__LLAMA]);
    assert_memory_equal(plain.pooled, half.pooled, (size_t)plain.pooled_channels * sizeof(float));
    rv__text_embeds *all[] = {&plain, &ones, &none, &empty, &half};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        rv__text_embeds_free(all[i]);
    close_fixture(&f);
}

static void clauses_join(void **state)
{
    fixture f;
    (void)state;
    open_fixture(&f);
    rv__text_embeds a = encode(&f, RV__WEIGHTING_NONE, "a red fox"),
                    b = encode(&f, RV__WEIGHTING_NONE, "a cat"),
                    blend =
                        encode(&f, RV__WEIGHTING_COMPEL, "(\"a red fox\",\"a cat\").blend(1,3)"),
                    first =
                        encode(&f, RV__WEIGHTING_COMPEL, "(\"a red fox\",\"a cat\").blend(1,0)"),
                    both = encode(&f, RV__WEIGHTING_COMPEL, "(\"a red fox\",\"a cat\").and()"),
                    alone = encode(&f, RV__WEIGHTING_COMPEL, "(\"a cat\").and()");
    for (int64_t i = 0; i < a.t5_tokens * a.t5_channels; i++)
        assert_true(fabsf(blend.t5[i] - (0.25f * a.t5[i] + 0.75f * b.t5[i])) < 1e-5f);
    for (int64_t i = 0; i < a.pooled_channels; i++)
        assert_true(fabsf(blend.pooled[i] - (0.25f * a.pooled[i] + 0.75f * b.pooled[i])) < 1e-5f);
    assert_true(same(&first, &a));
    assert_true(same(&alone, &b));
    size_t n = (size_t)a.t5_channels, used = a.limits[RV__T5], then = b.limits[RV__T5];
    assert_memory_equal(both.t5, a.t5, used * n * sizeof(float));
    assert_memory_equal(both.t5 + used * n, b.t5, then * n * sizeof(float));
    assert_memory_equal(both.t5 + (used + then) * n, b.t5 + (used + then) * n,
                        (LENGTH - used - then) * n * sizeof(float));
    rv__text_embeds *all[] = {&a, &b, &blend, &first, &both, &alone};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        rv__text_embeds_free(all[i]);
    close_fixture(&f);
}

static void long_prompts(void **state)
{
    fixture f;
    char words[400] = "", prompt[1024];
    rv__weighted w;
    rv_error err;
    (void)state;
    open_fixture(&f);
    for (int i = 0; i < 60; i++)
        strncat(words, "fox ", sizeof words - strlen(words) - 1);
    snprintf(prompt, sizeof prompt, "(a cat)1.5 (%s)2 end", words);
    rv__text_embeds e = encode(&f, RV__WEIGHTING_COMPEL, prompt);
    for (int64_t i = 0; i < e.t5_tokens * e.t5_channels; i++)
        assert_true(isfinite(e.t5[i]));
    rv__text_embeds_free(&e);
    assert_int_equal(rv__weighted_parse(RV__WEIGHTING_COMPEL, prompt, "p", &w, &err), RV_OK);
    char *note = rv__weighted_cut(f.text, &w, LENGTH);
    assert_non_null(strstr(note, "T5 stops after word "));
    rv__free(note);
    rv__weighted_free(&w);
    snprintf(prompt, sizeof prompt, "(\"a cat\", \"%s\").and()", words);
    assert_int_equal(rv__weighted_parse(RV__WEIGHTING_COMPEL, prompt, "p", &w, &err), RV_OK);
    note = rv__weighted_cut(f.text, &w, LENGTH);
    assert_true(strncmp(note, "(clause 2) is longer", 20) == 0);
    rv__free(note);
    rv__weighted_free(&w);
    words[60] = '\0';
    snprintf(prompt, sizeof prompt, "(\"%s\", \"%s\").and()", words, words);
    assert_int_equal(rv__weighted_parse(RV__WEIGHTING_COMPEL, prompt, "p", &w, &err), RV_OK);
    note = rv__weighted_cut(f.text, &w, LENGTH);
    assert_non_null(note);
    assert_non_null(strstr(note, "room"));
    rv__free(note);
    e = encode(&f, RV__WEIGHTING_COMPEL, prompt);
    rv__text_embeds_free(&e);
    rv__weighted_free(&w);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_words),  cmocka_unit_test(reads_clauses),
        cmocka_unit_test(refuses),      cmocka_unit_test(words_move_their_own_rows),
        cmocka_unit_test(clauses_join), cmocka_unit_test(long_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
