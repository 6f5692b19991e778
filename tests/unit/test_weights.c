/* Model folders, safetensors and GGUF: what is right opens, what is wrong is refused with a reason,
 * and nothing crashes.  Every file is made here in a temporary folder. */
#include "engine/gguf_file.h"
#include "engine/safetensors.h"
#include "engine/tensor_rows.h"
#include "engine/weights.h"

#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static char *at(const char *path)
{
    static char full[8][512];
    static int next;
    char *out = full[next++ % 8];
    snprintf(out, sizeof full[0], "%s/%s", root, path);
    return out;
}

static void put(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(at(path), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void put_text(const char *path, const char *text)
{
    put(path, text, strlen(text));
}

/* The bytes of a safetensors file with this header and `len` data bytes 0, 1, 2 … */
static unsigned char *safetensors(const char *header, size_t len, size_t *size)
{
    size_t h = strlen(header);
    unsigned char *out = malloc(8 + h + len);
    assert_non_null(out);
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(h >> (8 * i));
    memcpy(out + 8, header, h);
    for (size_t i = 0; i < len; i++)
        out[8 + h + i] = (unsigned char)i;
    *size = 8 + h + len;
    return out;
}

static void put_safetensors(const char *path, const char *header, size_t len)
{
    size_t size;
    unsigned char *bytes = safetensors(header, len, &size);
    put(path, bytes, size);
    free(bytes);
}

/* The message with which these bytes are refused; fails when they are accepted. */
static const char *refusal(const char *header, size_t len)
{
    static rv_error err;
    size_t size;
    unsigned char *bytes = safetensors(header, len, &size);
    rv__safetensors *s;
    rv_status status = rv__safetensors_parse(bytes, size, "file", &s, &err);
    free(bytes);
    assert_int_equal(status, RV_FORMAT);
    assert_null(s);
    return err.message;
}

#define REFUSED(header, len, part) assert_non_null(strstr(refusal(header, len), part))

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/reverie-weights-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Padded with blanks so that the data is aligned. */
#define TWO                                                                                        \
    "{\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"                          \
    "\"a\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]},"                           \
    "\"__metadata__\":{\"format\":\"pt\"}}"

static void reads_safetensors(void **state)
{
    (void)state;
    _Static_assert((sizeof TWO - 1) % 8 == 0, "aligned");
    put_safetensors("two.safetensors", TWO, 32);
    rv__safetensors *s;
    rv_error err;
    assert_int_equal(rv__safetensors_open(at("two.safetensors"), &s, &err), RV_OK);
    size_t count;
    const rv__safetensor *list = rv__safetensors_list(s, &count);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].tensor.name, "a");
    assert_string_equal(list[0].dtype, "BF16");
    assert_int_equal(list[0].tensor.type, GGML_TYPE_BF16);
    assert_int_equal(((const unsigned char *)list[0].tensor.data)[0], 24);
    const rv__tensor *b = &rv__safetensors_find(s, "b")->tensor;
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->shape[2], 1);
    assert_int_equal(b->size, 24);
    assert_null(rv__safetensors_find(s, "c"));
    assert_string_equal(rv__json_get_string(rv__safetensors_metadata(s), "format", ""), "pt");
    rv__safetensors_close(s);
}

static void refuses_headers(void **state)
{
    (void)state;
    REFUSED("", 0, "header byte");
    REFUSED("[]", 0, "not a JSON object");
    REFUSED("{\"a\":1}", 0, "expected an object");
    REFUSED("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4,
            "expected an object");
    REFUSED("{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "name is empty");
    REFUSED("{\"a\\u0001\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
            "control characters");
    REFUSED("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype");
    REFUSED("{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype is missing");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":{},\"data_offsets\":[0,4]}}", 4,
            "shape is missing");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "dimension");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "dimension");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
            "too many dimensions");
    REFUSED("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}",
            4, "too large");
    REFUSED("{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,2],\"data_offsets\":[0,4]}}",
            4, "too large");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0]}}", 4, "pair");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,-4]}}", 4, "pair");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", 4, "outside");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 3, "truncated");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[18446744073709551612,"
            "18446744073709551615]}}",
            4, "outside");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,3]}}", 4, "not as large");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 5, "1 bytes after");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[1,5]}}", 5, "hole");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
            "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
            7, "overlaps");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
            "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
            8, "twice");
    REFUSED("{\"__metadata__\":{\"a\":1}}", 0, "not a text");
    REFUSED("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "not one object");
    REFUSED("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}   ", 4, "aligned");
}

static void refuses_lengths(void **state)
{
    (void)state;
    unsigned char bytes[64] = {0};
    rv__safetensors *s;
    rv_error err;
    assert_int_equal(rv__safetensors_parse(bytes, 7, "file", &s, &err), RV_FORMAT);
    memset(bytes, 0xff, 8);
    assert_int_equal(rv__safetensors_parse(bytes, sizeof bytes, "file", &s, &err), RV_FORMAT);
    memset(bytes, 0, 8);
    bytes[0] = 57;
    assert_int_equal(rv__safetensors_parse(bytes, sizeof bytes, "file", &s, &err), RV_FORMAT);
    assert_non_null(strstr(err.message, "truncated"));
}

static void refuses_odd_files(void **state)
{
    (void)state;
    rv__safetensors *s;
    rv_error err;
    assert_int_equal(rv__safetensors_open(at("absent"), &s, &err), RV_NOT_FOUND);
    put("empty", "", 0);
    assert_int_equal(rv__safetensors_open(at("empty"), &s, &err), RV_FORMAT);
    assert_int_equal(rv__safetensors_open(root, &s, &err), RV_FORMAT);
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    assert_int_equal(rv__safetensors_open(at("pipe"), &s, &err), RV_FORMAT); /* and does not wait */
    assert_int_equal(symlink("loop", at("loop")), 0);
    assert_int_equal(rv__safetensors_open(at("loop"), &s, &err), RV_IO);
    assert_int_equal(rv__safetensors_open("/dev/zero", &s, &err), RV_FORMAT);
}

#define ONE "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"

static void put_one(const char *path, const char *name)
{
    char header[256];
    size_t len = (size_t)snprintf(header, sizeof header, ONE, name);
    while (len % 8)
        header[len++] = ' ';
    header[len] = '\0';
    put_safetensors(path, header, 8);
}

static rv_status open_model(const char *path, rv__weights **w, rv_error *err)
{
    return rv__weights_open(path[0] == '{' ? path : at(path), w, err);
}

static void make_model(void)
{
    mkdir(at("m"), 0700);
    mkdir(at("m/vae"), 0700);
    mkdir(at("m/text"), 0700);
    put_text("m/model_index.json", "{\"a\":1}");
    put_text("m/vae/config.json", "{\"b\":[1,2]}");
    put_text("m/README.md", "not a model file");
    put_one("m/vae/diffusion_pytorch_model.safetensors", "v");
    put_one("m/text/model-00001-of-00002.safetensors", "x");
    put_one("m/text/model-00002-of-00002.safetensors", "y");
    put_text("m/text/model.safetensors.index.json",
             "{\"weight_map\":{\"y\":\"model-00002-of-00002.safetensors\",\"x\":\"model-00001-of-"
             "00002.safetensors\"}}");
}

static void reads_folder(void **state)
{
    (void)state;
    make_model();
    rv__weights *w;
    rv_error err = {0};
    assert_int_equal(open_model("m", &w, &err), RV_OK);
    size_t n;
    const rv__tensor *list = rv__weights_list(w, "text", &n);
    assert_int_equal(n, 2);
    assert_string_equal(list[0].name, "x");
    assert_string_equal(list[1].name, "y");
    assert_non_null(rv__weights_find(w, "vae", "v"));
    assert_null(rv__weights_find(w, "vae", "x"));
    assert_null(rv__weights_find(w, "absent", "x"));
    assert_null(rv__weights_list(w, "absent", &n));
    assert_int_equal(n, 0);
    assert_string_equal(rv__weights_file(w, "model_index.json", &n), "{\"a\":1}");
    assert_int_equal(n, 7);
    assert_null(rv__weights_file(w, "README.md", &n));
    assert_null(rv__weights_file(w, "text/model.safetensors.index.json", &n));
    rv__value *v;
    assert_int_equal(rv__weights_json(w, "vae/config.json", &v, &err), RV_OK);
    rv__json_free(v);
    assert_int_equal(rv__weights_json(w, "vae/other.json", &v, &err), RV_NOT_FOUND);
    rv__weights_close(w);

    assert_int_equal(rv__weights_open_part(at("m/vae"), "vae", &w, &err), RV_OK);
    assert_non_null(rv__weights_find(w, "vae", "v"));
    assert_non_null(rv__weights_file(w, "vae/config.json", NULL));
    rv__weights_close(w);
}

/* Model caches keep files elsewhere and link them into the folder. */
static void follows_links_of_caches(void **state)
{
    (void)state;
    make_model();
    mkdir(at("blobs"), 0700);
    assert_int_equal(rename(at("m/vae/diffusion_pytorch_model.safetensors"), at("blobs/123")), 0);
    assert_int_equal(symlink("../../blobs/123", at("m/vae/diffusion_pytorch_model.safetensors")),
                     0);
    rv__weights *w;
    rv_error err;
    assert_int_equal(open_model("m", &w, &err), RV_OK);
    assert_non_null(rv__weights_find(w, "vae", "v"));
    rv__weights_close(w);
}

static void check_index(const char *index, rv_status expected, const char *part)
{
    rv__weights *w;
    rv_error err = {0};
    put_text("m/text/model.safetensors.index.json", index);
    assert_int_equal(open_model("m", &w, &err), expected);
    assert_null(w);
    assert_non_null(strstr(err.message, part));
}

static void refuses_indexes(void **state)
{
    (void)state;
    make_model();
    put_one("m/outside.safetensors", "z");
    check_index("{\"weight_map\":{\"z\":\"../outside.safetensors\"}}", RV_FORMAT,
                "not the name of a shard");
    check_index("{\"weight_map\":{\"z\":\"/etc/passwd\"}}", RV_FORMAT, "not the name of a shard");
    check_index("{\"weight_map\":{\"z\":\"..\"}}", RV_FORMAT, "not the name of a shard");
    check_index("{\"weight_map\":{\"z\":\"\"}}", RV_FORMAT, "not the name of a shard");
    check_index("{\"weight_map\":{\"z\":7}}", RV_FORMAT, "expected file names");
    check_index("{\"weight_map\":[]}", RV_FORMAT, "no weight_map");
    check_index("{\"weight_map\":", RV_FORMAT, "byte");
    check_index("{\"weight_map\":{\"z\":\"absent.safetensors\"}}", RV_NOT_FOUND,
                "absent.safetensors");
    check_index("{\"weight_map\":{\"z\":\"model-00001-of-00002.safetensors\"}}", RV_FORMAT,
                "is not in");
    check_index("{\"weight_map\":{\"x\":\"model-00001-of-00002.safetensors\","
                "\"x\":\"model-00001-of-00002.safetensors\"}}",
                RV_FORMAT, "occurs twice");
}

static void refuses_folders(void **state)
{
    (void)state;
    rv__weights *w;
    rv_error err;
    assert_int_equal(open_model("absent", &w, &err), RV_NOT_FOUND);
    mkdir(at("none"), 0700);
    assert_int_equal(open_model("none", &w, &err), RV_FORMAT);
    mkdir(at("two"), 0700);
    mkdir(at("two/vae"), 0700);
    put_one("two/vae/a.safetensors", "x");
    assert_int_equal(open_model("two", &w, &err), RV_OK);
    rv__weights_close(w);
    put_one("two/vae/b.safetensors", "x");
    assert_int_equal(open_model("two", &w, &err), RV_FORMAT);
    put_one("two/vae/model.safetensors", "x");
    assert_int_equal(open_model("two", &w, &err), RV_OK);
    rv__weights_close(w);
    put_safetensors("two/vae/model.safetensors",
                    "{\"f\":{\"dtype\":\"F8_E8M0\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    assert_int_equal(open_model("two", &w, &err), RV_FORMAT);
    assert_non_null(strstr(err.message, "\"f\": its type is not supported"));
    put_safetensors("two/vae/model.safetensors",
                    "{\"f\":{\"dtype\":\"U8\",\"shape\":[4,0],\"data_offsets\":[0,0]}}", 0);
    assert_int_equal(open_model("two", &w, &err), RV_FORMAT);
    put_safetensors("two/vae/model.safetensors",
                    "{\"f\":{\"dtype\":\"U8\",\"shape\":[1,1,2,2,1],\"data_offsets\":[0,4]}}", 4);
    assert_int_equal(open_model("two", &w, &err), RV_FORMAT);
    put("two/vae/model.safetensors", "junk", 4);
    assert_int_equal(open_model("two", &w, &err), RV_FORMAT);
    assert_int_equal(symlink(".", at("two/vae/again")),
                     0); /* parts are one level deep: no loop to walk into */
    assert_int_equal(mkfifo(at("two/vae/config.json"), 0600), 0);
    assert_int_equal(open_model("two", &w, &err), RV_FORMAT);
}

/* Every code of an 8-bit float beside the definition of the format. */
static void reads_float8(void **state)
{
    (void)state;
    uint8_t codes[256];
    float got[256];
    for (int i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;
    rv__tensor t = {.name = "t", .type = GGML_TYPE_I8, .n_dims = 2, .shape = {2, 128}, .data = codes,
                    .size = 256, .float8 = RV_F8_E4M3, .scale = 0.75f};
    rv__tensor_floats(&t, 0, 2, got);
    for (int i = 0; i < 256; i++) {
        int e = i >> 3 & 15, m = i & 7;
        double want = e ? ldexp(8 + m, e - 10) : ldexp(m, -9);
        if ((i & 127) == 127)
            assert_true(isnan(got[i]));
        else
            assert_true((double)got[i] == (i < 128 ? 0.75 : -0.75) * want);
    }
    t.float8 = RV_F8_E5M2;
    t.scale = 0;
    rv__tensor_floats(&t, 1, 1, got);
    for (int i = 128; i < 252; i++) {
        int e = i >> 2 & 31, m = i & 3;
        assert_true((double)got[i - 128] == -(e ? ldexp(4 + m, e - 17) : ldexp(m, -16)));
    }
    assert_true(isinf(got[252 - 128]) && isnan(got[255 - 128]));
}

/* llama.cpp's rows of two heads of four: a0 a2 a1 a3, b0 b2 b1 b3 (halves become pairs). */
static void puts_rows_back(void **state)
{
    (void)state;
    float stored[8] = {0, 2, 1, 3, 4, 6, 5, 7}, got[8];
    rv__tensor t = {.name = "t", .type = GGML_TYPE_F32, .n_dims = 2, .shape = {8, 1}, .data = stored,
                    .size = sizeof stored, .heads = 2};
    rv__tensor_floats(&t, 0, 8, got);
    for (int i = 0; i < 8; i++)
        assert_true(got[i] == (float)i);
    rv__tensor_floats(&t, 5, 2, got);
    assert_true(got[0] == 5 && got[1] == 6);
}

/* ---- GGUF ---- */

static unsigned char image[4096];
static size_t image_len;

static void number(uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        image[image_len++] = (unsigned char)(v >> (8 * i));
}

static void text(const char *t)
{
    number(strlen(t), 8);
    memcpy(image + image_len, t, strlen(t));
    image_len += strlen(t);
}

static void head(uint64_t tensors, uint64_t pairs)
{
    image_len = 0;
    memcpy(image, "GGUF", 4);
    image_len = 4;
    number(3, 4);
    number(tensors, 8);
    number(pairs, 8);
}

static void u32(const char *key, uint32_t v)
{
    text(key);
    number(GGUF_TYPE_UINT32, 4);
    number(v, 4);
}

static void tensor(const char *name, uint64_t ne0, uint64_t ne1, uint32_t type, uint64_t offset)
{
    text(name);
    number(2, 4);
    number(ne0, 8);
    number(ne1, 8);
    number(type, 4);
    number(offset, 8);
}

static void data(size_t len)
{
    while (image_len % 32)
        image[image_len++] = 0;
    for (size_t i = 0; i < len; i++)
        image[image_len++] = (unsigned char)i;
}

static rv_status parse(rv__gguf **g, rv_error *err)
{
    /* A copy of exactly this size lets the sanitizer see a read behind it. */
    unsigned char *copy = malloc(image_len);
    memcpy(copy, image, image_len);
    rv_status status = rv__gguf_parse(copy, image_len, "file", g, err);
    if (status != RV_OK) {
        free(copy);
        assert_null(*g);
    }
    return status;
}

static void refused(const char *part)
{
    rv__gguf *g;
    rv_error err = {0};
    assert_int_equal(parse(&g, &err), RV_FORMAT);
    if (!strstr(err.message, part))
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static void refuses_gguf(void **state)
{
    (void)state;
    head(0, 0);
    image[0] = 'g';
    refused("not a GGUF");
    head(0, 0);
    image[4] = 1;
    refused("version");
    head(0, 0);
    image_len = 20;
    refused("truncated");
    head(0, UINT64_MAX);
    refused("more key-value pairs");
    head(UINT64_MAX / 2, 0);
    refused("more tensors");
    head(0, 1);
    number(UINT64_MAX, 8);
    number(0, 8);
    refused("key");
    head(0, 1);
    text("");
    number(0, 8);
    refused("key");
    head(0, 1);
    text("a");
    number(77, 4);
    number(0, 8);
    refused("unknown type of value");
    head(0, 1);
    text("a");
    number(GGUF_TYPE_ARRAY, 4);
    number(GGUF_TYPE_UINT64, 4);
    number(UINT64_MAX / 8 + 2, 8);
    refused("values end behind");
    head(0, 1);
    text("a");
    number(GGUF_TYPE_ARRAY, 4);
    number(GGUF_TYPE_STRING, 4);
    number(UINT64_MAX, 8);
    number(0, 8);
    refused("a text ends behind");
    head(0, 2);
    u32("a", 1);
    u32("a", 2);
    refused("occurs twice");
    head(1, 0);
    tensor("p/t", 0, 1, GGML_TYPE_F32, 0);
    data(32);
    refused("wrong dimensions");
    head(1, 0);
    tensor("p/t", 2, 2, 4, 0); /* a type that was removed */
    data(32);
    refused("unknown type");
    head(1, 0);
    tensor("p/t", 2, 2, 9999, 0);
    data(32);
    refused("unknown type");
    head(1, 0);
    tensor("p/t", 31, 2, GGML_TYPE_Q8_0, 0);
    data(128);
    refused("does not fit its type");
    head(1, 0);
    tensor("p/t", (uint64_t)1 << 62, (uint64_t)1 << 62, GGML_TYPE_F32, 0);
    data(128);
    refused("does not fit its type");
    head(1, 0);
    tensor("p/t", 4, 2, GGML_TYPE_F32, 0);
    data(31);
    refused("outside");
    head(1, 0);
    tensor("p/t", 4, 2, GGML_TYPE_F32, 8);
    data(64);
    refused("outside");
    head(1, 0);
    tensor("p/t", 4, 2, GGML_TYPE_F32, UINT64_MAX - 31);
    data(64);
    refused("outside");
    head(2, 0);
    tensor("p/t", 4, 4, GGML_TYPE_F32, 0);
    tensor("p/u", 4, 2, GGML_TYPE_F32, 32);
    data(64);
    refused("overlap");
    head(2, 0);
    tensor("p/t", 4, 2, GGML_TYPE_F32, 0);
    tensor("p/t", 4, 2, GGML_TYPE_F32, 32);
    data(64);
    refused("occurs twice");
    head(1, 1);
    u32("general.alignment", 3);
    tensor("p/t", 4, 2, GGML_TYPE_F32, 0);
    data(64);
    refused("alignment");
}

/* A model in one file: a configuration, a tensor with a long name and one with a short name. */
static void make_gguf(uint32_t format, const char *short_name)
{
    head(2, 4);
    text("general.architecture");
    number(GGUF_TYPE_STRING, 4);
    text("hidream");
    u32("reverie.format", format);
    text("file:vae/config.json");
    number(GGUF_TYPE_ARRAY, 4);
    number(GGUF_TYPE_UINT8, 4);
    number(2, 8);
    memcpy(image + image_len, "{}", 2);
    image_len += 2;
    text("name:t1");
    number(GGUF_TYPE_STRING, 4);
    text("vae/a.name.that.is.longer.than.sixty.three.bytes.and.so.has.to.stand.elsewhere");
    tensor("t1", 4, 2, GGML_TYPE_F32, 0);
    tensor(short_name, 32, 2, GGML_TYPE_Q8_0, 32);
    data(100);
    put("model.gguf", image, image_len);
}

static void reads_gguf(void **state)
{
    (void)state;
    make_gguf(1, "vae/q");
    rv__weights *w;
    rv_error err = {0};
    assert_int_equal(open_model("model.gguf", &w, &err), RV_OK);
    size_t n;
    assert_string_equal(rv__weights_file(w, "vae/config.json", &n), "{}");
    assert_int_equal(n, 2);
    const rv__tensor *t = rv__weights_find(
        w, "vae", "a.name.that.is.longer.than.sixty.three.bytes.and.so.has.to.stand.elsewhere");
    assert_non_null(t);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 4);
    t = rv__weights_find(w, "vae", "q");
    assert_int_equal(t->type, GGML_TYPE_Q8_0);
    assert_int_equal(t->size, 68);
    rv__weights_close(w);
    make_gguf(2, "vae/q");
    assert_int_equal(open_model("model.gguf", &w, &err), RV_UNSUPPORTED);
    make_gguf(1, "t2"); /* no text says what t2 is */
    assert_int_equal(open_model("model.gguf", &w, &err), RV_FORMAT);
    make_gguf(1, "vae/");
    assert_int_equal(open_model("model.gguf", &w, &err), RV_FORMAT);
    head(0, 0);
    put("model.gguf", image, image_len);
    assert_int_equal(open_model("model.gguf", &w, &err), RV_UNSUPPORTED);
}

/* No prefix of a good file is accepted or crashes. */
static void refuses_truncated_gguf(void **state)
{
    (void)state;
    make_gguf(1, "vae/q");
    size_t whole = image_len;
    for (size_t len = 0; len < whole; len++) {
        image_len = len;
        rv__gguf *g;
        rv_error err;
        assert_int_equal(parse(&g, &err), RV_FORMAT);
    }
}

/* Every allocation fails once: no crash, no leak, always an error. */
static void survives_no_memory(void **state)
{
    (void)state;
    make_model();
    make_gguf(1, "vae/q");
    put_one("parts.safetensors", "decoder.mid.block_1.norm1.bias");
    char parts[512];
    snprintf(parts, sizeof parts, "{\"vae\":\"%s/parts.safetensors\",\"config\":\"%s/m\"}", root,
             root);
    const char *models[] = {"m", "model.gguf", parts};
    for (int m = 0; m < 3; m++) {
        for (long n = 1;; n++) {
            rv__weights *w;
            rv_error err;
            rv__alloc_fail_after(n);
            rv_status status = open_model(models[m], &w, &err);
            rv__alloc_fail_after(0);
            assert_true(status == RV_OK || status == RV_MEMORY);
            rv__weights_close(w);
            if (status == RV_OK)
                break;
        }
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)
    const struct CMUnitTest tests[] = {
        T(reads_safetensors), T(refuses_headers),        T(refuses_lengths),
        T(refuses_odd_files), T(reads_folder), T(reads_float8), T(puts_rows_back),           T(follows_links_of_caches),
        T(refuses_indexes),   T(refuses_folders),        T(refuses_gguf),
        T(reads_gguf),        T(refuses_truncated_gguf), T(survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
