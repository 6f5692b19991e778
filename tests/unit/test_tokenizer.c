/* Tokenizers: the goldens' texts through every kind of file, each step by itself, texts meant to
 * hurt, and files that lie.  Small tokenizers are written here as tokenizer.json. */
#include "tokenizer_kit.h"

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

/* ---- helpers ---- */

static rv__tokenizer *open_tokenizer(const rv__weights *w, const char *folder)
{
    rv__tokenizer *t = NULL;
    rv_error err = {0};
    rv_status status = rv__tokenizer_open(w, folder, &t, &err);
    if (status)
        print_message("%s\n", err.message);
    assert_int_equal(status, RV_OK);
    return t;
}

/* Ids as a text: "1 2 3". */
static const char *ids_of(const rv__tokenizer *t, const char *text, size_t length)
{
    static char out[4096];
    rv__token_ids ids;
    rv_error err = {0};
    size_t n = 0;
    out[0] = 0;
    if (rv__tokenizer_encode(t, text, strlen(text), length, &ids, &err)) {
        snprintf(out, sizeof out, "%s", err.message);
        return out;
    }
    for (size_t i = 0; i < ids.length && n < sizeof out - 16; i++)
        n += (size_t)snprintf(out + n, sizeof out - n, i ? " %d" : "%d", ids.ids[i]);
    rv__token_ids_free(&ids);
    return out;
}

/* Opens a tokenizer.json and compares the ids of one text. */
static void assert_ids(const char *json, const char *text, const char *want)
{
    kit_text("tok/tokenizer.json", json);
    rv__weights *w = kit_open(kit_root);
    rv__tokenizer *t = open_tokenizer(w, "tok");
    assert_string_equal(ids_of(t, text, 0), want);
    rv__tokenizer_close(t);
    rv__weights_close(w);
}

/* Opening folder "tok" fails with this status, and the message has `part` in it. */
static void assert_refused(rv_status want, const char *part)
{
    rv__weights *w = kit_open(kit_root);
    rv__tokenizer *t;
    rv_error err = {0};
    rv_status status = rv__tokenizer_open(w, "tok", &t, &err);
    if (status != want || !strstr(err.message, part))
        print_message("status %d, message: %s\n", status, err.message);
    assert_int_equal(status, want);
    assert_non_null(strstr(err.message, part));
    assert_null(t);
    rv__weights_close(w);
}

static void assert_json_refused(const char *json, rv_status want, const char *part)
{
    kit_text("tok/tokenizer.json", json);
    assert_refused(want, part);
    assert_refused(want, "tok/tokenizer.json");
}

#define BPE(rest) "{\"model\":{\"type\":\"BPE\"," rest "}}"
#define AB        "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"abab\":3,\"c\":4},\"merges\":[\"a b\",\"ab ab\"]"

/* ---- goldens ---- */

/* All texts of tokenizers.json that have ids for this tokenizer. */
static void assert_goldens(const rv__tokenizer *t, const char *key)
{
    size_t len, count = 0;
    rv__json_error why;
    char *text = kit_read(kit_golden("tokenizers.json"), &len);
    rv__value *json = rv__json_parse_limited(text, len, 1 << 20, &why);
    const rv__value *raw = rv__json_get(json, "raw");
    assert_non_null(json);
    for (const rv__value *v = rv__json_first(raw); v; v = rv__json_next(v), count++) {
        rv__token_ids ids;
        rv_error err;
        const char *prompt = rv__json_get_string(v, "text", NULL);
        const rv__value *want = rv__json_get(v, key);
        size_t i = 0;
        assert_int_equal(rv__tokenizer_encode(t, prompt, strlen(prompt), 0, &ids, &err), RV_OK);
        assert_int_equal(ids.length, rv__json_size(want));
        for (const rv__value *n = rv__json_first(want); n; n = rv__json_next(n), i++) {
            int64_t id = -1;
            assert_true(rv__json_int(n, &id));
            assert_int_equal(ids.ids[i], id);
            assert_int_equal(ids.mask[i], 1);
        }
        rv__token_ids_free(&ids);
    }
    assert_true(count > 20);
    rv__json_free(json);
    free(text);
}

static void test_goldens(void **state)
{
    static const char *const names[] = {"tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4"};
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    for (int i = 0; i < 4; i++) {
        rv__tokenizer *t = open_tokenizer(w, names[i]);
        assert_goldens(t, names[i]);
        rv__tokenizer_close(t);
    }
    rv__weights_close(w);
}

static void test_t5_from_its_sentencepiece_file(void **state)
{
    (void)state;
    kit_copy("tiny-hidream/tokenizer_3/spiece.model", "tok/spiece.model");
    rv__weights *w = kit_open(kit_root);
    rv__tokenizer *t = open_tokenizer(w, "tok");
    assert_goldens(t, "tokenizer_3");
    assert_int_equal(rv__tokenizer_pad(t), 0);
    assert_int_equal(rv__tokenizer_end(t), 1);
    rv__tokenizer_close(t);
    rv__weights_close(w);
}

static void test_clip_without_its_configuration(void **state)
{
    (void)state;
    kit_copy("tiny-hidream/tokenizer/vocab.json", "tok/vocab.json");
    kit_copy("tiny-hidream/tokenizer/merges.txt", "tok/merges.txt");
    rv__weights *w = kit_open(kit_root);
    rv__tokenizer *t = open_tokenizer(w, "tok");
    assert_goldens(t, "tokenizer");
    assert_int_equal(rv__tokenizer_pad(t), rv__tokenizer_end(t));
    rv__tokenizer_close(t);
    rv__weights_close(w);
}

/* The tokenizer.json that "tokenizers" writes for CLIP, made from vocab.json and merges.txt. */
static void write_clip_json(void)
{
    static const char steps[] =
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":"
        "\"Replace\",\"pattern\":"
        "{\"Regex\":\"\\\\s+\"},\"content\":\" "
        "\"},{\"type\":\"Lowercase\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"<\\\\|startoftext\\\\|>|<"
        "\\\\|endoftext\\\\|>|"
        "'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{L}\\\\p{N}]+\"},\"behavior\":"
        "\"Removed\","
        "\"invert\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}"
        "]},"
        "\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[\"<|endoftext|>\",899],"
        "\"cls\":"
        "[\"<|startoftext|>\",898],\"trim_offsets\":false,\"add_prefix_space\":false},\"added_"
        "tokens\":["
        "{\"id\":898,\"content\":\"<|startoftext|>\",\"normalized\":true,\"special\":true},"
        "{\"id\":899,\"content\":\"<|endoftext|>\",\"normalized\":false,\"special\":true}],";
    size_t len, n;
    char *vocab = kit_read(kit_golden("tiny-hidream/tokenizer/vocab.json"), &len);
    char *merges = kit_read(kit_golden("tiny-hidream/tokenizer/merges.txt"), &n);
    rv__buf b;
    rv__buf_init(&b, 1 << 20);
    rv__buf_addf(&b,
                 "{%s\"model\":{\"type\":\"BPE\",\"unk_token\":\"<|endoftext|>\",\"end_of_word_"
                 "suffix\":\"</w>\","
                 "\"continuing_subword_prefix\":\"\",\"vocab\":%s,\"merges\":[",
                 steps, vocab);
    const char *line = strchr(merges, '\n') + 1;
    for (const char *comma = ""; *line; comma = ",") {
        size_t width = strcspn(line, "\n");
        rv__buf_adds(&b, comma);
        rv__json_write_text(&b, line, width);
        line += width + (line[width] != 0);
    }
    rv__buf_adds(&b, "]}}");
    assert_false(b.failed);
    kit_put("tok/tokenizer.json", b.data, b.len);
    rv__buf_free(&b);
    free(vocab);
    free(merges);
}

static void test_clip_from_tokenizer_json(void **state)
{
    (void)state;
    write_clip_json();
    kit_text("tok/tokenizer_config.json",
             "{\"tokenizer_class\":\"CLIPTokenizer\",\"pad_token\":\"!\"}");
    rv__weights *w = kit_open(kit_root);
    rv__tokenizer *t = open_tokenizer(w, "tok");
    assert_goldens(t, "tokenizer_2");
    assert_int_equal(rv__tokenizer_pad(t), 0);
    rv__tokenizer_close(t);
    rv__weights_close(w);
}

/* ---- cutting and padding ---- */

static void test_lengths(void **state)
{
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    rv__tokenizer *clip = open_tokenizer(w, "tokenizer"), *t5 = open_tokenizer(w, "tokenizer_3");
    rv__tokenizer *llama = open_tokenizer(w, "tokenizer_4");
    rv__token_ids ids;
    rv_error err;
    assert_string_equal(ids_of(clip, "a a a", 0), "898 320 320 320 899");
    assert_string_equal(ids_of(clip, "a a a", 5), "898 320 320 320 899");
    assert_string_equal(ids_of(clip, "a a a", 4), "898 320 320 899");
    assert_string_equal(ids_of(clip, "a a a", 2), "898 899");
    assert_string_equal(ids_of(clip, "a a a", 7), "898 320 320 320 899 899 899");
    assert_non_null(strstr(ids_of(clip, "a a a", 1), "no room"));
    assert_string_equal(ids_of(t5, "a a a", 3), "4 4 1");
    assert_string_equal(ids_of(t5, "", 3), "1 0 0");
    assert_string_equal(ids_of(llama, "aaa", 2), "677 64");
    assert_non_null(strstr(ids_of(llama, "a", 9), "no padding token")); /* the pipeline sets one */
    rv__tokenizer_set_pad(llama, rv__tokenizer_end(llama));
    assert_string_equal(ids_of(llama, "a", 4), "677 64 686 686");

    assert_int_equal(rv__tokenizer_encode(clip, "a a a", 5, 4, &ids, &err), RV_OK);
    assert_int_equal(ids.total, 5);
    assert_int_equal(ids.used, 4);
    assert_int_equal(ids.length, 4);
    rv__token_ids_free(&ids);
    assert_int_equal(rv__tokenizer_encode(clip, "a", 1, 9, &ids, &err), RV_OK);
    assert_int_equal(ids.total, 3);
    assert_int_equal(ids.used, 3);
    assert_int_equal(ids.mask[2], 1);
    assert_int_equal(ids.mask[3], 0);
    rv__token_ids_free(&ids);
    rv__tokenizer_close(clip);
    rv__tokenizer_close(t5);
    rv__tokenizer_close(llama);
    rv__weights_close(w);
}

static void test_texts_that_are_none(void **state)
{
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    rv__tokenizer *t = open_tokenizer(w, "tokenizer_3");
    rv__token_ids ids;
    rv_error err;
    char *big = calloc(1, 300 << 10);
    memset(big, 'a', 300 << 10);
    assert_int_equal(rv__tokenizer_encode(t, "ab\xFF", 3, 0, &ids, &err), RV_VALIDATION);
    assert_non_null(strstr(err.message, "byte 2"));
    assert_null(ids.ids);
    assert_int_equal(rv__tokenizer_encode(t, "\xED\xA0\x80", 3, 0, &ids, &err), RV_VALIDATION);
    assert_int_equal(rv__tokenizer_encode(t, big, 300 << 10, 0, &ids, &err), RV_VALIDATION);
    assert_int_equal(rv__tokenizer_encode(t, "a\0b", 3, 0, &ids, &err),
                     RV_OK); /* NUL is a character */
    rv__token_ids_free(&ids);
    free(big);
    rv__tokenizer_close(t);
    rv__weights_close(w);
}

/* Long texts of every shape that could make a naive tokenizer quadratic. */
static void test_long_texts(void **state)
{
    static const char *const units[] = {"a",
                                        "ab",
                                        " ",
                                        "a ",
                                        "\n",
                                        "\u732B",
                                        "!",
                                        "the ",
                                        "<",
                                        "<|",
                                        "\u0307\u0323",
                                        "<extra_id_",
                                        "'s",
                                        "1",
                                        "\r\n ",
                                        "\u2581",
                                        "\u3000 x",
                                        "thethe",
                                        "\U0001F468\u200D"};
    static const char *const names[] = {"tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4"};
    enum { SIZE = 120000 };
    char *text = malloc(SIZE);
    (void)state;
    rv__weights *w = kit_open(kit_golden("tiny-hidream"));
    for (int i = 0; i < 4; i++) {
        rv__tokenizer *t = open_tokenizer(w, names[i]);
        for (size_t k = 0; k < sizeof units / sizeof *units; k++) {
            size_t n = strlen(units[k]), len = 0;
            rv__token_ids ids;
            rv_error err = {0};
            for (; len + n <= SIZE; len += n)
                memcpy(text + len, units[k], n);
            assert_int_equal(rv__tokenizer_encode(t, text, len, 0, &ids, &err), RV_OK);
            assert_int_equal(ids.used, ids.total);
            rv__token_ids_free(&ids);
        }
        rv__tokenizer_close(t);
    }
    free(text);
    rv__weights_close(w);
}

/* ---- models ---- */

static void test_merges(void **state)
{
    (void)state;
    assert_ids(BPE(AB), "abab", "3");
    assert_ids(BPE(AB), "ababab", "3 2"); /* of equal ranks the first place merges first */
    assert_ids(BPE(AB), "aabb", "0 2 1");
    assert_ids(BPE(AB), "a?b", "2"); /* what is unknown and has no token is left out */
    assert_ids(BPE(AB ",\"unk_token\":\"c\""), "a??b", "0 4 4 1");
    assert_ids(BPE(AB ",\"unk_token\":\"c\",\"fuse_unk\":true"), "a??b?", "0 4 1 4");
    assert_ids(BPE("\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[]"), "ab", "0 1");
    assert_ids(BPE("\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[],\"ignore_merges\":true"),
               "ab", "2");
    assert_ids(BPE("\"vocab\":{\"a\":0,\"b</w>\":1,\"ab</w>\":2,\"a</"
                   "w>\":3},\"merges\":[[\"a\",\"b</w>\"]],"
                   "\"end_of_word_suffix\":\"</w>\""),
               "ab", "2");
    assert_ids(BPE("\"vocab\":{\"a\":0,\"##b\":1,\"ab\":2},\"merges\":[\"a ##b\"],"
                   "\"continuing_subword_prefix\":\"##\""),
               "ab", "2");
    assert_ids(
        BPE("\"vocab\":{\"a\":0,\"<0xC3>\":1,\"<0xA9>\":2},\"merges\":[],\"byte_fallback\":true"),
        "a\u00E9", "0 1 2");
}

#define UNIGRAM(vocab, rest)                                                                       \
    "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[" vocab "]" rest "}}"

static void test_unigram(void **state)
{
    (void)state;
    assert_ids(UNIGRAM("[\"?\",0],[\"a\",-1],[\"b\",-1],[\"ab\",-1.5]", ""), "abab", "3 3");
    assert_ids(UNIGRAM("[\"?\",0],[\"a\",-1],[\"b\",-1],[\"ab\",-2.5]", ""), "abab", "1 2 1 2");
    assert_ids(UNIGRAM("[\"?\",0],[\"a\",-1],[\"b\",-1],[\"ab\",-2]", ""), "ab",
               "3"); /* equal: found first */
    assert_ids(UNIGRAM("[\"?\",0],[\"a\",-1]", ""), "a\u732B\u732Ba\u732B",
               "1 0 1 0"); /* unknown ones fuse */
    assert_ids(UNIGRAM("[\"?\",0],[\"a\",-1]", ""), "", "");
    assert_ids(
        UNIGRAM("[\"?\",0],[\"a\",-1],[\"<0xC3>\",-2],[\"<0xA9>\",-2]", ",\"byte_fallback\":true"),
        "a\u00E9", "1 2 3");
    assert_ids(UNIGRAM("[\"?\",0],[\"a\",-1],[\"<0xC3>\",-2]", ",\"byte_fallback\":true"),
               "a\u00E9", "1 0");
}

/* ---- steps ---- */

#define STEPS(normalizer, splitter)                                                                \
    "{\"normalizer\":" normalizer ",\"pre_tokenizer\":" splitter                                   \
    ",\"model\":{\"type\":\"BPE\",\"ignore_merges\":"                                              \
    "true,\"merges\":[],\"unk_token\":\"?\",\"fuse_unk\":true,\"vocab\":{\"?\":0,\"a\":1,\"b\":2," \
    "\"-\":3,\" \":4,"                                                                             \
    "\"a-\":5,\"-b\":6,\"--\":7,\"a "                                                              \
    "b\":8,\"_a\":9,\"_\":10,\"_b\":11,\"\\u0120a\":12,\"\\u0120\":13,\"--b\":14,"                 \
    "\"a--\":15,\"A\":16,\"\\u00e9\":17,\"\\u00c3\\u00a9\":18,\"_a_b\":19,\"ab\":20}}}"

#define SPLIT(pattern, behavior, invert)                                                           \
    "{\"type\":\"Split\",\"pattern\":{" pattern "},\"behavior\":\"" behavior                       \
    "\",\"invert\":" invert "}"

static void test_splits(void **state)
{
    (void)state;
    assert_ids(STEPS("null", SPLIT("\"String\":\"-\"", "Removed", "false")), "a-b", "1 2");
    assert_ids(STEPS("null", SPLIT("\"String\":\"-\"", "Isolated", "false")), "a--b", "1 3 3 2");
    assert_ids(STEPS("null", SPLIT("\"String\":\"-\"", "MergedWithPrevious", "false")), "a--b",
               "5 3 2");
    assert_ids(STEPS("null", SPLIT("\"String\":\"-\"", "MergedWithNext", "false")), "a--b",
               "1 3 6");
    assert_ids(STEPS("null", SPLIT("\"String\":\"-\"", "Contiguous", "false")), "a--b", "1 7 2");
    assert_ids(STEPS("null", SPLIT("\"Regex\":\"[a-z]\"", "Removed", "true")), "a--b", "1 2");
    assert_ids(STEPS("null", SPLIT("\"Regex\":\"x*\"", "Isolated", "false")), "ab",
               "1 2"); /* empty matches */
    assert_ids(STEPS("null", "{\"type\":\"WhitespaceSplit\"}"), " a\u3000b\t-", "1 2 3");
}

static void test_metaspace(void **state)
{
    (void)state;
    assert_ids(
        STEPS("null",
              "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"}"),
        "a b", "9 11");
    assert_ids(STEPS("null",
                     "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"never\"}"),
               "a b", "1 11");
    assert_ids(STEPS("null",
                     "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\","
                     "\"split\":false}"),
               "a b", "19");
    assert_ids(
        STEPS("null", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":true}"),
        " a", "9");
    assert_ids(
        STEPS("null",
              "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
              "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}]}"),
        "a b", "9 2");
}

static void test_bytes(void **state)
{
    (void)state;
    assert_ids(
        STEPS("null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}"),
        "a a", "12 12");
    assert_ids(
        STEPS("null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"),
        "a  a", "1 13 12");
    assert_ids(
        STEPS("null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"),
        "\u00E9", "18");
}

static void test_normalizers(void **state)
{
    (void)state;
    assert_ids(STEPS("{\"type\":\"NFC\"}", "null"), "e\u0301", "17");
    assert_ids(STEPS("{\"type\":\"Lowercase\"}", "null"), "A", "1");
    assert_ids(STEPS("{\"type\":\"Strip\"}", "null"), " \u3000a\n", "1");
    assert_ids(STEPS("{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}", "null"), " ",
               "");
    assert_ids(STEPS("{\"type\":\"Prepend\",\"prepend\":\"_\"}", "null"), "a", "9");
    assert_ids(STEPS("{\"type\":\"Prepend\",\"prepend\":\"_\"}", "null"), "", "");
    assert_ids(STEPS("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\",\"pattern\":{"
                     "\"Regex\":\"[x\\\\s]+\"},"
                     "\"content\":\"-\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\"y\"},"
                     "\"content\":\"\"}]}",
                     "null"),
               "ayx x", "5");
}

/* \s is the White_Space property; the Mongolian vowel separator has long lost it. */
static void test_white_space_of_expressions(void **state)
{
    (void)state;
    assert_ids(STEPS("null", SPLIT("\"Regex\":\"\\\\s\"", "Removed", "false")),
               "a\u3000b\xC2\x85"
               "a",
               "1 2 1");
    assert_ids(STEPS("null", SPLIT("\"Regex\":\"[^\\\\S]\"", "Removed", "false")), "a\u2003b",
               "1 2");
    assert_ids(STEPS("null", SPLIT("\"Regex\":\"\\\\s\"", "Isolated", "false")), "\u180E", "0");
}

/* ---- added tokens ---- */

#define ADDED(list, rest)                                                                          \
    "{\"added_tokens\":[" list "]," rest                                                           \
    "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":0,\"b\":1,"                        \
    "\"<\":2,\">\":3,\" \":4,\"x\":5}}}"

static void test_added_tokens(void **state)
{
    (void)state;
    assert_ids(ADDED("{\"id\":9,\"content\":\"<b>\"}", ""), "a<b>a<b", "0 9 0 2 1");
    assert_ids(ADDED("{\"id\":8,\"content\":\"<b\"},{\"id\":9,\"content\":\"<b>\"}", ""), "<b><b",
               "9 8"); /* longest */
    assert_ids(ADDED("{\"id\":9,\"content\":\"x\"}", ""), "x",
               "5"); /* the vocabulary's id counts */
    assert_ids(ADDED("{\"id\":9,\"content\":\"ab\",\"single_word\":true}", ""), "ab aab ab",
               "9 4 0 0 1 4 9");
    assert_ids(ADDED("{\"id\":9,\"content\":\"<>\",\"lstrip\":true}", ""), "a  <> b", "0 9 4 1");
    assert_ids(ADDED("{\"id\":9,\"content\":\"<>\",\"rstrip\":true}", ""), "a <>  b", "0 4 9 1");
    assert_ids(ADDED("{\"id\":9,\"content\":\"AB\",\"normalized\":true}",
                     "\"normalizer\":{\"type\":\"Lowercase\"},"),
               "aBab", "9 9");
    assert_ids(ADDED("{\"id\":9,\"content\":\"AB\",\"normalized\":false}",
                     "\"normalizer\":{\"type\":\"Lowercase\"},"),
               "abAB", "0 1 9");
}

static void test_special_tokens_of_the_configuration(void **state)
{
    (void)state;
    kit_text("tok/tokenizer.json", ADDED("", ""));
    kit_text("tok/tokenizer_config.json",
             "{\"model_max_length\":7,\"eos_token\":\"<e>\",\"added_tokens_decoder\":"
             "{\"20\":{\"content\":\"<e>\"}},\"additional_special_tokens\":[\"<m>\"]}");
    kit_text("tok/special_tokens_map.json", "{\"pad_token\":{\"content\":\"x\"}}");
    rv__weights *w = kit_open(kit_root);
    rv__tokenizer *t = open_tokenizer(w, "tok");
    assert_int_equal(rv__tokenizer_end(t), 20);
    assert_int_equal(rv__tokenizer_pad(t), 5);
    assert_int_equal(rv__tokenizer_limit(t), 7);
    assert_string_equal(ids_of(t, "a<e><m>x", 6), "0 20 21 5 5 5");
    rv__tokenizer_close(t);
    rv__weights_close(w);
}

#define TEMPLATE(list)                                                                             \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" list                        \
    "],\"special_tokens\":"                                                                        \
    "{\"<s>\":{\"id\":\"<s>\",\"ids\":[7,8]},\"</s>\":{\"id\":\"</s>\",\"ids\":[9]}}},"
#define SPECIAL(text) "{\"SpecialToken\":{\"id\":\"" text "\",\"type_id\":0}}"
#define SEQUENCE      "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"

static void test_templates(void **state)
{
    (void)state;
    assert_ids(ADDED("", TEMPLATE(SPECIAL("<s>") "," SEQUENCE "," SPECIAL("</s>"))), "a",
               "7 8 0 9");
    assert_ids(
        ADDED("",
              "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},"
              "{\"type\":\"BertProcessing\",\"cls\":[\"<s>\",7],\"sep\":[\"</s>\",9]}]},"),
        "a", "7 0 9");
    assert_json_refused(ADDED("", TEMPLATE(SPECIAL("<s>"))), RV_FORMAT, "lacks the text");
    assert_json_refused(ADDED("", TEMPLATE(SEQUENCE "," SEQUENCE)), RV_UNSUPPORTED,
                        "repeats the text");
    assert_json_refused(ADDED("", TEMPLATE(SPECIAL("<t>"))), RV_FORMAT, "without ids");
}

/* ---- files that lie ---- */

static void test_wrong_json(void **state)
{
    (void)state;
    assert_json_refused("", RV_FORMAT, "byte 0");
    assert_json_refused("[]", RV_FORMAT, "object");
    assert_json_refused("{}", RV_FORMAT, "vocabulary");
    assert_json_refused("{\"model\":{\"type\":\"WordPiece\"}}", RV_UNSUPPORTED, "WordPiece");
    assert_json_refused(BPE("\"vocab\":{},\"merges\":[]"), RV_FORMAT, "empty");
    assert_json_refused(BPE("\"vocab\":[],\"merges\":[]"), RV_FORMAT, "not an object");
    assert_json_refused(BPE("\"vocab\":{\"a\":0}"), RV_FORMAT, "merges");
    assert_json_refused(BPE("\"vocab\":{\"a\":-1},\"merges\":[]"), RV_FORMAT, "range");
    assert_json_refused(BPE("\"vocab\":{\"a\":2147483648},\"merges\":[]"), RV_FORMAT, "range");
    assert_json_refused(BPE("\"vocab\":{\"a\":1.5},\"merges\":[]"), RV_FORMAT, "whole number");
    assert_json_refused(BPE("\"vocab\":{\"a\":1,\"a\":2},\"merges\":[]"), RV_FORMAT, "same text");
    assert_json_refused(BPE("\"vocab\":{\"\":1},\"merges\":[]"), RV_FORMAT, "0 bytes");
    assert_json_refused(BPE("\"vocab\":{\"a\":0},\"merges\":[\"a b\"]"), RV_FORMAT,
                        "not in the vocabulary");
    assert_json_refused(BPE("\"vocab\":{\"a\":0},\"merges\":[\"a\"]"), RV_FORMAT, "two tokens");
    assert_json_refused(BPE("\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]"), RV_FORMAT, "two tokens");
    assert_json_refused(BPE("\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]"), RV_FORMAT, "two tokens");
    assert_json_refused(BPE("\"vocab\":{\"a\":0},\"merges\":[7]"), RV_FORMAT, "two tokens");
    assert_json_refused(BPE(AB ",\"unk_token\":\"z\""), RV_FORMAT, "unk_token");
    assert_json_refused(BPE(AB ",\"dropout\":0.1"), RV_UNSUPPORTED, "dropout");
    assert_json_refused(UNIGRAM("", ""), RV_FORMAT, "unknown token 0");
    assert_json_refused(UNIGRAM("[\"a\"]", ""), RV_FORMAT, "piece 0");
    assert_json_refused(UNIGRAM("[\"a\",\"b\"]", ""), RV_FORMAT, "piece 0");
    assert_json_refused(UNIGRAM("[\"a\",1e30]", ""), RV_FORMAT, "score");
    assert_json_refused(UNIGRAM("[\"a\",0],[\"a\",1]", ""), RV_FORMAT, "twice");
    assert_json_refused(STEPS("{\"type\":\"Nmt\"}", "null"), RV_UNSUPPORTED, "Nmt");
    assert_json_refused(STEPS("null", "{\"type\":\"Bert\"}"), RV_UNSUPPORTED, "Bert");
    assert_json_refused(STEPS("null", SPLIT("\"Regex\":\"(\"", "Removed", "false")), RV_FORMAT,
                        "regular expression");
    assert_json_refused(STEPS("null", SPLIT("\"Regex\":\"(a{60000}){60000}\"", "Removed", "false")),
                        RV_FORMAT, "regular expression");
    assert_json_refused(STEPS("null", SPLIT("\"String\":\"a\"", "Whatever", "false")),
                        RV_UNSUPPORTED, "Whatever");
    assert_json_refused(STEPS("null", SPLIT("", "Removed", "false")), RV_FORMAT, "pattern");
    assert_json_refused(STEPS("null", SPLIT("\"Regex\":\"\"", "Removed", "false")), RV_FORMAT,
                        "empty");
    assert_json_refused(STEPS("null", "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), RV_FORMAT,
                        "one character");
    assert_json_refused(STEPS("{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"?\"}", "null"),
                        RV_FORMAT, "base64");
    assert_json_refused(
        STEPS("{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}", "null"),
        RV_FORMAT, "trie");
    assert_json_refused(ADDED("{\"id\":4294967296,\"content\":\"z\"}", ""), RV_FORMAT, "range");
    assert_json_refused(ADDED("{\"id\":9}", ""), RV_FORMAT, "no text");
}

static void test_wrong_files(void **state)
{
    (void)state;
    kit_text("tok/other", "x");
    assert_refused(RV_NOT_FOUND, "no tokenizer.json");
    kit_text("tok/vocab.json", "{\"a\":0,\"a</w>\":1,\"<|startoftext|>\":2}");
    kit_text("tok/merges.txt", "#version: 0.2\n");
    assert_refused(RV_FORMAT, "<|endoftext|>");
    kit_text("tok/vocab.json", "{\"a\":0,\"a</w>\":1,\"<|startoftext|>\":2,\"<|endoftext|>\":3}");
    kit_text("tok/merges.txt", "#version: 0.2\na\n");
    assert_refused(RV_FORMAT, "tok/merges.txt: line 2");
    kit_text("tok/merges.txt", "#version: 0.2\na b\n");
    assert_refused(RV_FORMAT, "tok/merges.txt: merge 0");
    kit_text("tok/merges.txt", "");
    kit_text("tok/tokenizer_config.json",
             "{\"added_tokens_decoder\":{\"x\":{\"content\":\"<a>\"}}}");
    assert_refused(RV_FORMAT, "no id");
    kit_text("tok/tokenizer_config.json",
             "{\"added_tokens_decoder\":{\"99999999999\":{\"content\":\"<a>\"}}}");
    assert_refused(RV_FORMAT, "id");
    kit_text("tok/tokenizer_config.json", "nonsense");
    assert_refused(RV_FORMAT, "tok/tokenizer_config.json");
}

/* Every cut and every changed byte of a SentencePiece file opens or is refused. */
static void test_wrong_spiece(void **state)
{
    size_t len;
    char *data = kit_read(kit_golden("tiny-hidream/tokenizer_3/spiece.model"), &len);
    (void)state;
    for (size_t i = 0; i < 600; i++) {
        size_t cut = i < 400 ? i : len - 1 - (i - 400) * (len / 250);
        rv__tokenizer *t;
        rv_error err = {0};
        kit_put("tok/spiece.model", data, i < 300 || i >= 400 ? cut : len);
        if (i >= 300 && i < 400) {
            data[i] ^= 0x40;
            kit_put("tok/spiece.model", data, len);
            data[i] ^= 0x40;
        }
        rv__weights *w = kit_open(kit_root);
        rv_status status = rv__tokenizer_open(w, "tok", &t, &err);
        if (status)
            assert_non_null(strstr(err.message, "tok/spiece.model"));
        rv__tokenizer_close(t);
        rv__weights_close(w);
    }
    free(data);
}

static void test_spiece_of_another_kind(void **state)
{
    (void)state;
    kit_put("tok/spiece.model", "\x12\x02\x18\x02", 4); /* trainer: model_type 2 */
    assert_refused(RV_UNSUPPORTED, "unigram");
    kit_put("tok/spiece.model",
            "\x0A\x08\x0A\x01"
            "a\x15\x00\x00\xC0\x7F",
            10); /* a score that is not a number */
    assert_refused(RV_FORMAT, "score");
    kit_put("tok/spiece.model", "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11);
    assert_refused(RV_FORMAT, "damaged");
}

/* An expression that explodes ends with an error instead of running for ever. */
static void test_expressions_that_explode(void **state)
{
    (void)state;
    kit_text("tok/tokenizer.json",
             STEPS("null", SPLIT("\"Regex\":\"(a+)+\\\\1(a|a)+$\"", "Removed", "false")));
    rv__weights *w = kit_open(kit_root);
    rv__tokenizer *t = open_tokenizer(w, "tok");
    char text[4001];
    memset(text, 'a', 4000);
    memcpy(text + 3999, "!", 2);
    assert_non_null(strstr(ids_of(t, text, 0), "regular expression needs too long"));
    rv__tokenizer_close(t);
    rv__weights_close(w);
}

/* A file may not blow a small prompt up without limit. */
static void test_texts_that_grow(void **state)
{
    (void)state;
    kit_text("tok/tokenizer.json", STEPS("{\"type\":\"Sequence\",\"normalizers\":["
                                         "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
                                         "\"content\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"},"
                                         "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
                                         "\"content\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"},"
                                         "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
                                         "\"content\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"},"
                                         "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
                                         "\"content\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"
                                         "]}",
                                         "null"));
    rv__weights *w = kit_open(kit_root);
    rv__tokenizer *t = open_tokenizer(w, "tok");
    assert_non_null(strstr(ids_of(t, "aaaaaaaa", 0), "too long"));
    rv__tokenizer_close(t);
    rv__weights_close(w);
}

/* A large vocabulary loads and finds its tokens. */
static void test_large_vocabulary(void **state)
{
    enum { TOKENS = 260000 };
    rv__buf b;
    (void)state;
    rv__buf_init(&b, 64 << 20);
    rv__buf_adds(&b,
                 "{\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,\"merges\":[],\"vocab\":{");
    for (int i = 0; i < TOKENS; i++)
        rv__buf_addf(&b, i ? ",\"t%d\":%d" : "\"t%d\":%d", i, i);
    rv__buf_adds(&b, "}}}");
    assert_false(b.failed);
    kit_put("tok/tokenizer.json", b.data, b.len);
    rv__buf_free(&b);
    rv__weights *w = kit_open(kit_root);
    rv__tokenizer *t = open_tokenizer(w, "tok");
    assert_string_equal(ids_of(t, "t0", 0), "0");
    assert_string_equal(ids_of(t, "t259999", 0), "259999");
    assert_string_equal(ids_of(t, "t260000", 0), "");
    rv__tokenizer_close(t);
    rv__weights_close(w);
}

/* ---- memory ---- */

/* Every allocation of opening and encoding fails once: an error comes back, and nothing leaks
 * (AddressSanitizer). */
static void torture(void)
{
    const char *text = "a<b>b \u00E9e\u0301 abab <e>";
    rv__weights *w = kit_open(kit_root);
    bool done = false;
    for (long n = 1; !done; n++) {
        rv__tokenizer *t = NULL;
        rv__token_ids ids = {0};
        rv_error err = {0};
        rv__alloc_fail_after(n);
        rv_status status = rv__tokenizer_open(w, "tok", &t, &err);
        if (!status)
            status = rv__tokenizer_encode(t, text, strlen(text), 40, &ids, &err);
        rv__alloc_fail_after(0);
        done = status == RV_OK;
        if (!done && status != RV_MEMORY)
            print_message("allocation %ld: %s\n", n, err.message);
        assert_true(done || status == RV_MEMORY);
        rv__token_ids_free(&ids);
        rv__tokenizer_close(t);
        assert_true(n < 20000);
    }
    rv__weights_close(w);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    kit_text("tok/tokenizer_config.json", "{\"pad_token\":\"b\",\"eos_token\":\"<e>\"}");
    kit_text("tok/tokenizer.json",
             "{\"added_tokens\":[{\"id\":9,\"content\":\"<b>\"},{\"id\":8,\"content\":\"E\","
             "\"normalized\":true}],"
             "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":"
             "\"Lowercase\"},"
             "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" \"}]},"
             "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},"
             "{\"type\":\"Metaspace\"}]},\"model\":{\"type\":\"BPE\"," AB "}}");
    torture();
    kit_text("tok/tokenizer.json", UNIGRAM("[\"?\",0],[\"a\",-1],[\"b\",-1],[\"ab\",-1.5]", ""));
    torture();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_goldens),
        TEST(test_t5_from_its_sentencepiece_file),
        TEST(test_clip_without_its_configuration),
        TEST(test_clip_from_tokenizer_json),
        TEST(test_lengths),
        TEST(test_texts_that_are_none),
        TEST(test_long_texts),
        TEST(test_merges),
        TEST(test_unigram),
        TEST(test_splits),
        TEST(test_metaspace),
        TEST(test_bytes),
        TEST(test_normalizers),
        TEST(test_white_space_of_expressions),
        TEST(test_added_tokens),
        TEST(test_special_tokens_of_the_configuration),
        TEST(test_templates),
        TEST(test_wrong_json),
        TEST(test_wrong_files),
        TEST(test_wrong_spiece),
        TEST(test_spiece_of_another_kind),
        TEST(test_expressions_that_explode),
        TEST(test_texts_that_grow),
        TEST(test_large_vocabulary),
        TEST(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
