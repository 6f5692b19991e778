/* Text encoders: configurations that cannot be are refused before a graph exists, ids and lengths
 * are checked, and the results do not depend on how they are asked for.  Numbers are compared by
 * `reverie parity`. */
#include <math.h>

#include "tokenizer_kit.h"

#include "engine/text.h"

static rv__device *device;

static int open_device(void **state)
{
    rv_error err;
    (void)state;
    return rv__device_open(2, &device, &err) ? -1 : 0;
}

static int close_device(void **state)
{
    (void)state;
    rv__device_close(device);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    kit_begin();
    return 0;
}

static int end(void **state)
{
    (void)state;
    kit_end();
    return 0;
}

static rv__text *open_text(const rv__weights *w)
{
    rv__text *t = NULL;
    rv_error err;
    assert_int_equal(rv__text_open(device, w, &t, &err), RV_OK);
    return t;
}

static rv__text_prompt prompt(const char *text)
{
    return (rv__text_prompt){text, strlen(text)};
}

static void assert_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        assert_true(isfinite(x[i]));
}

static void assert_same(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        assert_true(fabsf(a[i] - b[i]) <= 1e-5f * fmaxf(1, fabsf(b[i])));
}

/* ---- whole prompts ---- */

static void test_prompts(void **state)
{
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    rv__text *t = open_text(w);
    rv__text_prompt prompts[2] = {prompt("a red fox"), prompt("")};
    rv__text_embeds both[2], alone;
    rv_error err;
    assert_int_equal(rv__text_encode(t, prompts, 2, 16, true, both, NULL, NULL, &err), RV_OK);
    assert_non_null(rv__text_llama(t));
    assert_int_equal(rv__text_encode(t, prompts, 1, 16, false, &alone, NULL, NULL, &err), RV_OK);
    assert_null(rv__text_llama(t));
    for (int i = 0; i < 2; i++) {
        const rv__text_embeds *e = &both[i];
        assert_int_equal(e->t5_tokens, 16);
        assert_int_equal(e->llama_tokens, 16);
        assert_true(e->pooled_channels > 0 && e->llama_layers > 0);
        assert_finite(e->pooled, e->pooled_channels);
        assert_finite(e->t5, e->t5_tokens * e->t5_channels);
        assert_finite(e->llama, e->llama_layers * e->llama_tokens * e->llama_channels);
    }
    assert_same(both[0].pooled, alone.pooled, alone.pooled_channels);
    assert_same(both[0].t5, alone.t5, alone.t5_tokens * alone.t5_channels);
    assert_same(both[0].llama, alone.llama,
                alone.llama_layers * alone.llama_tokens * alone.llama_channels);
    assert_true(fabsf(both[0].pooled[0] - both[1].pooled[0]) > 1e-4f);
    assert_int_equal(both[1].tokens[RV__CLIP_1], 2);
    assert_int_equal(both[1].tokens[RV__T5], 1);
    for (int i = 0; i < 2; i++)
        rv__text_embeds_free(&both[i]);
    rv__text_embeds_free(&alone);
    rv__text_close(t);
    rv__weights_close(w);
}

static void test_prompts_that_are_cut(void **state)
{
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    rv__text *t = open_text(w);
    rv__text_prompt one = prompt("a red fox and a red cat and a red dog");
    rv__text_embeds e;
    rv_error err;
    assert_int_equal(rv__text_encode(t, &one, 1, 5, true, &e, NULL, NULL, &err), RV_OK);
    for (int i = 0; i < RV__TEXT_PARTS; i++) {
        assert_true(e.tokens[i] > 5);
        assert_int_equal(e.limits[i], 5);
    }
    rv__text_embeds_free(&e);
    /* T5 ends at its model_max_length (512); CLIP at 218, whatever is asked for */
    rv__token_ids ids;
    assert_int_equal(rv__text_tokenize(t, RV__CLIP_2, "a", 1, 512, &ids, &err), RV_OK);
    assert_int_equal(ids.length, 218);
    rv__token_ids_free(&ids);
    assert_int_equal(rv__text_encode(t, &one, 1, 0, true, &e, NULL, NULL, &err), RV_UNSUPPORTED);
    assert_int_equal(rv__text_encode(t, &one, 1, 513, true, &e, NULL, NULL, &err), RV_UNSUPPORTED);
    assert_int_equal(rv__text_encode(t, &one, 1, 1, true, &e, NULL, NULL, &err), RV_UNSUPPORTED);
    one = (rv__text_prompt){"\xFF", 1};
    assert_int_equal(rv__text_encode(t, &one, 1, 16, true, &e, NULL, NULL, &err), RV_VALIDATION);
    assert_null(e.pooled);
    rv__text_close(t);
    rv__weights_close(w);
}

static bool always(void *user)
{
    return *(bool *)user;
}

static void test_cancelling(void **state)
{
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    rv__text *t = open_text(w);
    rv__text_prompt one = prompt("a fox");
    rv__text_embeds e;
    rv_error err;
    bool stop = true;
    assert_int_equal(rv__text_encode(t, &one, 1, 16, true, &e, always, &stop, &err), RV_CANCELLED);
    assert_null(e.pooled);
    stop = false; /* and goes on as if nothing had happened */
    assert_int_equal(rv__text_encode(t, &one, 1, 16, true, &e, always, &stop, &err), RV_OK);
    rv__text_embeds_free(&e);
    rv__text_close(t);
    rv__weights_close(w);
}

/* What stands behind the end of a text must not change CLIP's result; padding must not change T5's
 * and Llama's rows of the text itself. */
static void test_padding_is_not_seen(void **state)
{
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    rv__text *t = open_text(w);
    rv__text_prompt one = prompt("a red fox");
    rv__text_embeds small, large;
    rv_error err;
    assert_int_equal(rv__text_encode(t, &one, 1, 20, true, &small, NULL, NULL, &err), RV_OK);
    assert_int_equal(rv__text_encode(t, &one, 1, 64, true, &large, NULL, NULL, &err), RV_OK);
    assert_same(small.pooled, large.pooled, small.pooled_channels);
    assert_same(small.t5, large.t5, (int64_t)small.tokens[RV__T5] * small.t5_channels);
    assert_same(small.llama, large.llama, (int64_t)small.tokens[RV__LLAMA] * small.llama_channels);
    rv__text_embeds_free(&small);
    rv__text_embeds_free(&large);
    rv__text_close(t);
    rv__weights_close(w);
}

/* ---- configurations ---- */

typedef rv_status opener(const rv__weights *w, const char *part, rv_error *err);

static rv_status open_clip(const rv__weights *w, const char *part, rv_error *err)
{
    rv__clip *c;
    rv_status status = rv__clip_open(device, w, part, &c, err);
    rv__clip_close(c);
    return status;
}

static rv_status open_t5(const rv__weights *w, const char *part, rv_error *err)
{
    rv__t5 *c;
    rv_status status = rv__t5_open(device, w, part, &c, err);
    rv__t5_close(c);
    return status;
}

static rv_status open_llama(const rv__weights *w, const char *part, rv_error *err)
{
    rv__llama *c;
    rv_status status = rv__llama_open(device, w, part, &c, err);
    rv__llama_close(c);
    return status;
}

/* Opens a golden encoder whose config.json has `from` replaced by `to`. */
static rv_status open_changed(opener *open, const char *golden, const char *from, const char *to,
                              rv_error *err)
{
    char path[128];
    size_t len;
    snprintf(path, sizeof path, "tiny-hidream/%s/config.json", golden);
    char *text = kit_read(kit_golden(path), &len), *at = strstr(text, from);
    assert_non_null(at);
    rv__buf b;
    rv__buf_init(&b, 1 << 16);
    rv__buf_add(&b, text, (size_t)(at - text));
    rv__buf_adds(&b, to);
    rv__buf_adds(&b, at + strlen(from));
    kit_put("part/config.json", b.data, b.len);
    rv__buf_free(&b);
    free(text);
    rv__weights *w = kit_open(kit_root);
    rv_status status = open(w, "part", err);
    rv__weights_close(w);
    return status;
}

static void assert_wrong(opener *open, const char *golden, const char *from, const char *to,
                         rv_status want, const char *part)
{
    rv_error err = {0};
    rv_status status = open_changed(open, golden, from, to, &err);
    if (status != want || !strstr(err.message, part))
        print_message("%s -> %s: status %d, %s\n", from, to, status, err.message);
    assert_int_equal(status, want);
    assert_non_null(strstr(err.message, part));
}

#define WRONG_CLIP(from, to, part)                                                                 \
    assert_wrong(open_clip, "text_encoder", from, to, RV_FORMAT, part)

static void test_clip_configurations(void **state)
{
    rv_error err;
    (void)state;
    kit_copy("tiny-hidream/text_encoder/model.safetensors", "part/model.safetensors");
    assert_int_equal(open_changed(open_clip, "text_encoder", "{", "{", &err), RV_OK);
    WRONG_CLIP("\"hidden_size\": 64", "\"hidden_size\": 0", "hidden_size");
    WRONG_CLIP("\"hidden_size\": 64", "\"hidden_size\": -64", "hidden_size");
    WRONG_CLIP("\"hidden_size\": 64", "\"hidden_size\": 64.5", "hidden_size");
    WRONG_CLIP("\"hidden_size\": 64", "\"hidden_size\": \"64\"", "hidden_size");
    WRONG_CLIP("\"hidden_size\": 64", "\"hidden_size\": 1e30", "hidden_size");
    WRONG_CLIP("\"hidden_size\": 64,", "", "hidden_size is missing");
    WRONG_CLIP("\"hidden_size\": 64", "\"hidden_size\": 96", "token_embedding");
    WRONG_CLIP("\"vocab_size\": 900", "\"vocab_size\": 901", "token_embedding");
    WRONG_CLIP("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4", "layers.3");
    WRONG_CLIP("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 100000", "num_hidden_layers");
    WRONG_CLIP("\"num_attention_heads\": 4", "\"num_attention_heads\": 3", "num_attention_heads");
    WRONG_CLIP("\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "num_attention_heads");
    WRONG_CLIP("\"hidden_act\": \"quick_gelu\"", "\"hidden_act\": \"mish\"", "hidden_act");
    WRONG_CLIP("\"layer_norm_eps\": 1e-05", "\"layer_norm_eps\": -1", "layer_norm_eps");
    WRONG_CLIP("\"projection_dim\": 64", "\"projection_dim\": 65", "text_projection");
    assert_wrong(open_clip, "text_encoder", "\"clip_text_model\"", "\"bert\"", RV_UNSUPPORTED,
                 "model_type");
    assert_wrong(open_clip, "text_encoder", "{", "", RV_FORMAT, "part/config.json");
}

#define WRONG_T5(from, to, part) assert_wrong(open_t5, "text_encoder_3", from, to, RV_FORMAT, part)

static void test_t5_configurations(void **state)
{
    static const char *const files[] = {"model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors",
                                        "model.safetensors.index.json"};
    rv_error err;
    (void)state;
    for (int i = 0; i < 3; i++) {
        char from[128], to[128];
        snprintf(from, sizeof from, "tiny-hidream/text_encoder_3/%s", files[i]);
        snprintf(to, sizeof to, "part/%s", files[i]);
        kit_copy(from, to);
    }
    assert_int_equal(open_changed(open_t5, "text_encoder_3", "{", "{", &err), RV_OK);
    WRONG_T5("\"d_model\": 96", "\"d_model\": 0", "d_model");
    WRONG_T5("\"d_kv\": 32", "\"d_kv\": 16", "SelfAttention");
    WRONG_T5("\"num_heads\": 2", "\"num_heads\": 4", "relative_attention_bias");
    WRONG_T5("\"relative_attention_num_buckets\": 32", "\"relative_attention_num_buckets\": 2",
             "buckets");
    WRONG_T5("\"relative_attention_num_buckets\": 32", "\"relative_attention_num_buckets\": 30",
             "buckets");
    WRONG_T5("\"relative_attention_max_distance\": 128", "\"relative_attention_max_distance\": 8",
             "distance");
    WRONG_T5("\"is_gated_act\": true", "\"is_gated_act\": false", "gated");
    WRONG_T5("\"dense_act_fn\": \"gelu_new\"", "\"dense_act_fn\": \"relu\"", "dense_act_fn");
    WRONG_T5("\"num_layers\": 3", "\"num_layers\": 0", "num_layers");
}

#define WRONG_LLAMA(from, to, part)                                                                \
    assert_wrong(open_llama, "text_encoder_4", from, to, RV_FORMAT, part)

static void test_llama_configurations(void **state)
{
    rv_error err;
    (void)state;
    kit_copy("tiny-hidream/text_encoder_4/model.safetensors", "part/model.safetensors");
    assert_int_equal(open_changed(open_llama, "text_encoder_4", "{", "{", &err), RV_OK);
    assert_int_equal(open_changed(open_llama, "text_encoder_4", "\"hidden_size\"",
                                  "\"head_dim\": 32, \"hidden_size\"", &err),
                     RV_OK);
    assert_int_equal(open_changed(open_llama, "text_encoder_4", "\"llama3\"", "\"default\"", &err),
                     RV_OK);
    assert_int_equal(open_changed(open_llama, "text_encoder_4", "\"llama3\"", "\"linear\"", &err),
                     RV_OK);
    WRONG_LLAMA("\"hidden_size\": 128", "\"hidden_size\": 96", "embed_tokens");
    WRONG_LLAMA("\"num_attention_heads\": 4", "\"num_attention_heads\": 128", "head_dim");
    WRONG_LLAMA("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "num_key_value_heads");
    WRONG_LLAMA("\"hidden_size\"", "\"head_dim\": 31, \"hidden_size\"", "head_dim");
    WRONG_LLAMA("\"hidden_size\"", "\"head_dim\": 1000000, \"hidden_size\"", "head_dim");
    WRONG_LLAMA("\"rope_theta\": 500000.0", "\"rope_theta\": 0", "rope_theta");
    WRONG_LLAMA("\"factor\": 8.0,", "", "factor");
    WRONG_LLAMA("\"high_freq_factor\": 4.0", "\"high_freq_factor\": 1.0", "high_freq_factor");
    WRONG_LLAMA("\"llama3\"", "\"yarn\"", "rope_type");
    WRONG_LLAMA("\"mlp_bias\": false", "\"mlp_bias\": true", "mlp_bias");
    WRONG_LLAMA("\"attention_bias\": false", "\"attention_bias\": true", "q_proj.bias");
    WRONG_LLAMA("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act");
    WRONG_LLAMA("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 2", "rms_norm_eps");
}

/* Ids that no embedding belongs to, and sequences that do not fit, never reach the graph. */
static void test_wrong_ids(void **state)
{
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    rv__clip *clip;
    rv__llama *llama;
    rv_error err;
    int32_t list[RV__TEXT_LENGTH_MAX] = {0}, mask[RV__TEXT_LENGTH_MAX] = {0};
    float out[128];
    rv__token_ids ids = {.ids = list, .mask = mask, .length = 4};
    rv__text_run run = {.tokens = &ids};
    assert_int_equal(rv__clip_open(device, w, "text_encoder", &clip, &err), RV_OK);
    assert_int_equal(rv__llama_open(device, w, "text_encoder_4", &llama, &err), RV_OK);
    mask[0] = 1;
    assert_int_equal(rv__clip_run(clip, &run, out, &err), RV_OK);
    list[3] = 900;
    assert_int_equal(rv__clip_run(clip, &run, out, &err), RV_FORMAT);
    assert_non_null(strstr(err.message, "900"));
    list[3] = -1;
    assert_int_equal(rv__clip_run(clip, &run, out, &err), RV_FORMAT);
    list[3] = 0;
    ids.length = 249; /* positions: 248 */
    assert_int_equal(rv__clip_run(clip, &run, out, &err), RV_UNSUPPORTED);
    ids.length = 0;
    assert_int_equal(rv__clip_run(clip, &run, out, &err), RV_UNSUPPORTED);
    ids.length = 4;
    mask[0] = 0;
    assert_int_equal(rv__llama_run(llama, &run, out, &err), RV_INTERNAL);
    rv__clip_close(clip);
    rv__llama_close(llama);
    rv__weights_close(w);
}

/* A tokenizer with more ids than the encoder has embeddings is told apart, not run. */
static void test_tokenizer_of_another_model(void **state)
{
    static const char *const files[] = {
        "text_encoder/config.json",  "text_encoder/model.safetensors", "tokenizer/merges.txt",
        "tokenizer_2/vocab.json",    "tokenizer_2/merges.txt",         "tokenizer_3/spiece.model",
        "tokenizer_4/tokenizer.json"};
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[128];
        snprintf(from, sizeof from, "tiny-hidream/%s", files[i]);
        kit_copy(from, files[i]);
    }
    kit_text("tokenizer/merges.txt", "");
    kit_text("tokenizer/vocab.json",
             "{\"a\":1,\"a</w>\":50000,\"<|startoftext|>\":2,\"<|endoftext|>\":3}");
    rv__weights *w = kit_open(kit_root);
    rv__text *t = open_text(w);
    rv__text_prompt one = prompt("a");
    rv__text_embeds e;
    rv_error err;
    assert_int_equal(rv__text_encode(t, &one, 1, 8, false, &e, NULL, NULL, &err), RV_FORMAT);
    assert_non_null(strstr(err.message, "50000"));
    rv__text_close(t);
    rv__weights_close(w);
}

/* Distances beyond the table share its last rows. */
static void test_position_bias(void **state)
{
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    rv__t5 *t;
    rv_error err;
    enum { N = 300, WIDTH = 2 * N - 1 };
    float *bias = calloc(2 * WIDTH, sizeof *bias);
    assert_int_equal(rv__t5_open(device, w, "text_encoder_3", &t, &err), RV_OK);
    assert_int_equal(rv__t5_heads(t), 2);
    assert_int_equal(rv__t5_position_bias(t, N, bias, &err), RV_OK);
    for (int head = 0; head < 2; head++)
        for (int d = 128; d < N; d++) {
            assert_true(bias[head * WIDTH + N - 1 + d] == bias[head * WIDTH + N - 1 + 128]);
            assert_true(bias[head * WIDTH + N - 1 - d] == bias[head * WIDTH + N - 1 - 128]);
        }
    free(bias);
    rv__t5_close(t);
    rv__weights_close(w);
}

/* Every allocation on the way fails once. */
static void test_failing_allocations(void **state)
{
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    int32_t list[8] = {0}, mask[8] = {1, 1};
    float *out = calloc(4 * 8 * 128, sizeof *out);
    for (int which = 0; which < 3; which++) {
        bool done = false;
        for (long n = 1; !done; n++) {
            rv__clip *clip = NULL;
            rv__t5 *t5 = NULL;
            rv__llama *llama = NULL;
            rv_error err;
            rv_status status;
            rv__token_ids ids = {.ids = list, .mask = mask, .length = 8};
            rv__text_run run = {.tokens = &ids};
            rv__alloc_fail_after(n);
            if (which == 0)
                status = rv__clip_open(device, w, "text_encoder_2", &clip, &err);
            else if (which == 1)
                status = rv__t5_open(device, w, "text_encoder_3", &t5, &err);
            else
                status = rv__llama_open(device, w, "text_encoder_4", &llama, &err);
            if (!status && which == 0)
                status = rv__clip_run(clip, &run, out, &err);
            else if (!status && which == 1)
                status = rv__t5_run(t5, &run, out, &err);
            else if (!status)
                status = rv__llama_run(llama, &run, out, &err);
            rv__alloc_fail_after(0);
            done = status == RV_OK;
            assert_true(done || status == RV_MEMORY);
            rv__clip_close(clip);
            rv__t5_close(t5);
            rv__llama_close(llama);
            assert_true(n < 5000);
        }
    }
    free(out);
    rv__weights_close(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_prompts),
        TEST(test_prompts_that_are_cut),
        TEST(test_cancelling),
        TEST(test_padding_is_not_seen),
        TEST(test_clip_configurations),
        TEST(test_t5_configurations),
        TEST(test_llama_configurations),
        TEST(test_wrong_ids),
        TEST(test_tokenizer_of_another_model),
        TEST(test_position_bias),
        TEST(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
