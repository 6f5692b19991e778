/* Pictures in and out: round trips, recipes, damaged and hostile files, failing memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <dirent.h>
#include <pthread.h>
#include <unistd.h>

#include <cmocka.h>
#include <jpeglib.h>
#include <png.h>

#include "base/memory.h"
#include "image/image.h"

#define MAX_PIXELS (4096 * 4096)

static const char *const names[] = {"PNG", "JPG", "WEBP"};

/* A smooth picture, so that lossy formats come close to it. */
static uint8_t *paint(int width, int height, int channels)
{
    uint8_t *p = malloc((size_t)width * height * channels);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *to = p + ((size_t)y * width + x) * channels;
            to[0] = (uint8_t)(255 * x / width);
            to[1] = (uint8_t)(255 * y / height);
            to[2] = (uint8_t)(255 * (x + y) / (width + height));
            if (channels == 4)
                to[3] = (uint8_t)(x < width / 2 ? 255 : 255 * y / height);
        }
    return p;
}

static rv_image *painting(int width, int height, int channels)
{
    uint8_t  *p = paint(width, height, channels);
    rv_image *i = rv__image_from_pixels(p, width, height, channels);
    free(p);
    return i;
}

static uint8_t *encoded(rv_image *i, const char *format, int quality, size_t *len)
{
    void    *bytes;
    rv_error err = {0};
    assert_int_equal(rv_image_encode(i, format, quality, &bytes, len, &err), RV_OK);
    return bytes;
}

static double distance(const uint8_t *a, const uint8_t *b, size_t n)
{
    double sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += abs(a[k] - b[k]);
    return sum / (double)n;
}

/* Loads and decodes; whatever the bytes are, this must return. */
static rv_status load(const void *bytes, size_t len, int64_t max_pixels, rv_error *err)
{
    rv_image *i;
    rv_status s = rv__image_from_bytes(bytes, len, max_pixels, &i, err);
    if (s == RV_OK && !rv_image_pixels(i)) {
        void  *out;
        size_t out_len;
        s = rv_image_encode(i, rv_image_facts(i).channels == 4 ? "JPG" : "PNG", 90, &out, &out_len,
                            err);
        rv__free(out);
    }
    rv_image_unref(i);
    return s;
}

static void formats_by_name(void **state)
{
    assert_int_equal(rv__format_from("png"), RV__PNG);
    assert_int_equal(rv__format_from("JPEG"), RV__JPG);
    assert_int_equal(rv__format_from("Jpg"), RV__JPG);
    assert_int_equal(rv__format_from("webP"), RV__WEBP);
    assert_int_equal(rv__format_from("gif"), RV__FORMATS);
    assert_int_equal(rv__format_from(""), RV__FORMATS);
    assert_int_equal(rv__format_from(NULL), RV__FORMATS);
    assert_string_equal(rv__format_mime(RV__JPG), "image/jpeg");
    assert_string_equal(rv__format_ext(RV__WEBP), "webp");
    assert_string_equal(rv__format_name(RV__JPG), "JPG");
    assert_string_equal(rv__format_mime(RV__FORMATS), "application/octet-stream");
}

static void png_is_exact(void **state)
{
    for (int channels = 3; channels <= 4; channels++) {
        uint8_t  *p = paint(37, 23, channels);
        rv_image *i = rv__image_from_pixels(p, 37, 23, channels), *back;
        size_t    len;
        uint8_t  *file = encoded(i, "png", 0, &len);
        assert_int_equal(rv__image_from_bytes(file, len, MAX_PIXELS, &back, NULL), RV_OK);
        rv_image_info facts = rv_image_facts(back);
        assert_int_equal(facts.width, 37);
        assert_int_equal(facts.height, 23);
        assert_int_equal(facts.channels, channels);
        assert_memory_equal(rv_image_pixels(back), p, (size_t)37 * 23 * channels);
        assert_memory_equal(rv_image_pixels(i), p, (size_t)37 * 23 * channels);
        rv_image_unref(i);
        rv_image_unref(back);
        rv__free(file);
        free(p);
    }
}

static void lossy_formats_come_close(void **state)
{
    for (int f = 1; f < 3; f++)
        for (int quality = 20; quality <= 95; quality += 75) {
            rv_image *i = painting(200, 120, 3), *back;
            size_t    len;
            uint8_t  *file = encoded(i, names[f], quality, &len);
            assert_int_equal(rv__image_from_bytes(file, len, MAX_PIXELS, &back, NULL), RV_OK);
            assert_int_equal(rv_image_facts(back).channels, 3);
            assert_non_null(rv_image_pixels(back));
            double d = distance(rv_image_pixels(back), rv_image_pixels(i), 200 * 120 * 3);
            assert_true(d < (quality > 90 ? 3 : 12));
            rv_image_unref(i);
            rv_image_unref(back);
            rv__free(file);
        }
}

static void quality_changes_size(void **state)
{
    for (int f = 1; f < 3; f++) {
        rv_image *i = painting(256, 256, 3);
        size_t    small, large;
        rv__free(encoded(i, names[f], 20, &small));
        rv__free(encoded(i, names[f], 99, &large));
        assert_true(small < large);
        rv_image_unref(i);
    }
}

static void wrong_wishes_are_refused(void **state)
{
    rv_image *i = painting(8, 8, 3);
    void     *bytes;
    size_t    len;
    rv_error  err;
    assert_int_equal(rv_image_encode(i, "GIF", 95, &bytes, &len, &err), RV_VALIDATION);
    assert_string_equal(err.code, "invalidOutputFormat");
    assert_int_equal(rv_image_encode(i, "JPG", 19, &bytes, &len, &err), RV_VALIDATION);
    assert_int_equal(rv_image_encode(i, "WEBP", 100, &bytes, &len, &err), RV_VALIDATION);
    assert_string_equal(err.parameter, "outputQuality");
    assert_null(bytes);
    assert_int_equal(rv_image_encode(i, "PNG", -1, &bytes, &len, NULL), RV_OK);
    rv__free(bytes);
    rv_image_unref(i);
    i = painting(20000, 1, 3);
    assert_int_equal(rv_image_encode(i, "WEBP", 95, &bytes, &len, &err), RV_UNSUPPORTED);
    rv_image_unref(i);
    i = painting(70000, 1, 3);
    assert_int_equal(rv_image_encode(i, "JPG", 95, &bytes, &len, &err), RV_UNSUPPORTED);
    rv_image_unref(i);
    uint8_t pixel[4] = {0};
    assert_null(rv__image_from_pixels(pixel, 0, 1, 3));
    assert_null(rv__image_from_pixels(pixel, 1, -1, 3));
    assert_null(rv__image_from_pixels(pixel, 1, 1, 2));
}

static void alpha_shows_white_in_jpeg(void **state)
{
    uint8_t  *p = calloc(64 * 64, 4); /* black and fully transparent */
    rv_image *i = rv__image_from_pixels(p, 64, 64, 4), *back;
    size_t    len;
    uint8_t  *file = encoded(i, "JPG", 95, &len);
    assert_int_equal(rv__image_from_bytes(file, len, MAX_PIXELS, &back, NULL), RV_OK);
    const uint8_t *q = rv_image_pixels(back);
    for (size_t k = 0; k < 64 * 64 * 3; k++)
        assert_true(q[k] > 250);
    rv_image_unref(i);
    rv_image_unref(back);
    rv__free(file);
    free(p);
}

static void webp_keeps_alpha(void **state)
{
    rv_image *i = painting(64, 64, 4), *back;
    size_t    len;
    uint8_t  *file = encoded(i, "WEBP", 90, &len);
    assert_int_equal(rv__image_from_bytes(file, len, MAX_PIXELS, &back, NULL), RV_OK);
    assert_int_equal(rv_image_facts(back).channels, 4);
    const uint8_t *a = rv_image_pixels(i), *b = rv_image_pixels(back);
    for (size_t k = 3; k < 64 * 64 * 4; k += 4)
        assert_true(abs(a[k] - b[k]) <= 8);
    rv_image_unref(i);
    rv_image_unref(back);
    rv__free(file);
}

static void bytes_are_deterministic(void **state)
{
    for (int f = 0; f < 3; f++) {
        uint8_t *files[2];
        size_t   lens[2];
        for (int k = 0; k < 2; k++) {
            rv_image *i = painting(96, 64, 3);
            rv__image_set_facts(i, k ? "a" : "b", k, k, k); /* facts are not part of the file */
            assert_true(rv__image_set_recipe(i, "{\"seed\":1}"));
            files[k] = encoded(i, names[f], 90, &lens[k]);
            rv_image_unref(i);
        }
        assert_int_equal(lens[0], lens[1]);
        assert_memory_equal(files[0], files[1], lens[0]);
        rv__free(files[0]);
        rv__free(files[1]);
    }
}

static void same_format_is_passed_on(void **state)
{
    for (int f = 0; f < 3; f++) {
        rv_image *i = painting(40, 40, 3), *back;
        size_t    len, len2;
        uint8_t  *file = encoded(i, names[f], 60, &len), *again;
        assert_int_equal(rv__image_from_bytes(file, len, MAX_PIXELS, &back, NULL), RV_OK);
        again = encoded(back, names[f], 95, &len2);
        assert_int_equal(len, len2);
        assert_memory_equal(file, again, len);
        rv_image_unref(i);
        rv_image_unref(back);
        rv__free(file);
        rv__free(again);
    }
}

/* ---- recipes -------------------------------------------------------------------------------- */

static void check_recipe(int f, int channels, const char *json)
{
    rv_image *i = painting(33, 21, channels), *back;
    size_t    len, plain_len;
    uint8_t  *plain = encoded(i, names[f], 90, &plain_len);
    assert_null(rv__recipe_read(plain, plain_len));
    assert_true(rv__image_set_recipe(i, json));
    uint8_t *file = encoded(i, names[f], 90, &len);
    char    *found = rv__recipe_read(file, len);
    assert_non_null(found);
    assert_string_equal(found, json);
    rv__free(found);
    for (size_t cut = 0; cut < len; cut += 1 + len / 300)
        rv__free(rv__recipe_read(file, cut));
    rv_image *plain_back;
    assert_int_equal(rv__image_from_bytes(plain, plain_len, MAX_PIXELS, &plain_back, NULL), RV_OK);
    assert_int_equal(rv__image_from_bytes(file, len, MAX_PIXELS, &back, NULL), RV_OK);
    assert_int_equal(rv_image_facts(back).channels, rv_image_facts(plain_back).channels);
    size_t size = (size_t)33 * 21 * rv_image_facts(back).channels;
    assert_memory_equal(rv_image_pixels(back), rv_image_pixels(plain_back), size);
    /* A second recipe replaces the first for readers. */
    assert_true(rv__image_set_recipe(back, "{}"));
    uint8_t *twice = encoded(back, names[f], 90, &len);
    found = rv__recipe_read(twice, len);
    assert_non_null(found);
    assert_memory_equal(found, "{}", 2);
    rv__free(found);
    assert_int_equal(load(twice, len, MAX_PIXELS, NULL), RV_OK);
    rv_image_unref(i);
    rv_image_unref(back);
    rv_image_unref(plain_back);
    rv__free(file);
    rv__free(plain);
    rv__free(twice);
}

static void recipes_travel(void **state)
{
    char *large = malloc(200001);
    memset(large, 'x', 200000);
    large[200000] = '\0';
    for (int f = 0; f < 3; f++)
        for (int channels = 3; channels <= 4; channels++) {
            check_recipe(f, channels,
                         "{\"positivePrompt\":\"\xc3\xa4 <b> & \\\"c\\\" &amp; ]]>\",\"seed\":1}");
            check_recipe(f, channels, "");
            check_recipe(f, channels, large);
        }
    free(large);
}

/* A picture of one colour keeps it in every size; the same size keeps every byte. */
static void other_sizes(void **state)
{
    (void)state;
    uint8_t  *p = paint(20, 10, 4), plain[5 * 4 * 3];
    rv_image *i = NULL, *same = NULL, *large = NULL, *none = NULL;
    memset(plain, 77, sizeof plain);
    assert_int_equal(rv_image_from_pixels(p, 20, 10, 4, &i), RV_OK);
    assert_int_equal(rv_image_resize(i, 20, 10, &same), RV_OK);
    assert_memory_equal(rv_image_pixels(same), p, 20 * 10 * 4);
    assert_int_equal(rv_image_resize(i, 0, 10, &none), RV_MISUSE);
    assert_int_equal(rv_image_resize(i, 1 << 20, 1 << 20, &none), RV_MISUSE);
    assert_null(none);
    rv_image_unref(i);
    rv_image_unref(same);
    assert_int_equal(rv_image_from_pixels(plain, 5, 4, 3, &i), RV_OK);
    assert_int_equal(rv_image_resize(i, 33, 1, &large), RV_OK);
    assert_int_equal(rv_image_facts(large).width, 33);
    assert_int_equal(rv_image_facts(large).channels, 3);
    for (size_t k = 0; k < 33 * 3; k++)
        assert_int_equal(rv_image_pixels(large)[k], 77);
    rv_image_unref(i);
    rv_image_unref(large);
    i = rv__image_from_url("https://example.org/a.png");
    assert_int_equal(rv_image_resize(i, 3, 3, &none), RV_FORMAT);
    rv_image_unref(i);
    free(p);
}

/* What hosts do: pixels in, a file with a recipe out and in again. */
static void public_doors(void **state)
{
    (void)state;
    uint8_t  *p = paint(20, 10, 4);
    rv_image *i = NULL, *back = NULL;
    rv_error  err;
    assert_int_equal(rv_image_from_pixels(p, 20, 10, 4, &i), RV_OK);
    assert_memory_equal(rv_image_pixels(i), p, 20 * 10 * 4);
    assert_null(rv_image_recipe(i));
    assert_true(rv__image_set_recipe(i, "{\"seed\":5}"));
    size_t   len;
    uint8_t *file = encoded(i, "PNG", 0, &len);
    assert_int_equal(rv_image_from_bytes(file, len, &back, &err), RV_OK);
    char *of_job = rv_image_recipe(i), *of_file = rv_image_recipe(back);
    assert_string_equal(of_job, "{\"seed\":5}");
    assert_string_equal(of_file, of_job);
    rv_free(of_job);
    rv_free(of_file);
    rv_image *none = i;
    assert_int_equal(rv_image_from_bytes("nothing", 7, &none, &err), RV_FORMAT);
    assert_null(none);
    static const int wrong[][3] = {{0, 1, 3}, {1, 0, 3}, {-1, 1, 3}, {1, 1, 2}, {1 << 20, 1 << 20, 3}};
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++)
        assert_int_equal(rv_image_from_pixels(p, wrong[k][0], wrong[k][1], wrong[k][2], &none),
                         RV_MISUSE);
    assert_int_equal(rv_image_from_pixels(NULL, 1, 1, 3, &none), RV_MISUSE);
    char path[] = "/tmp/reverie-test-XXXXXX";
    int  fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(rv_image_write(i, path, NULL, 90, &err), RV_VALIDATION);
    assert_int_equal(rv_image_write(i, path, "JPG", 10, &err), RV_VALIDATION);
    assert_int_equal(rv_image_write(i, path, "WEBP", 90, &err), RV_OK);
    char  head[12] = "";
    FILE *f = fopen(path, "rb");
    assert_int_equal(fread(head, 1, sizeof head, f), sizeof head);
    fclose(f);
    unlink(path);
    assert_memory_equal(head + 8, "WEBP", 4);
    rv_image_unref(i);
    rv_image_unref(back);
    rv__free(file);
    free(p);
}

static void too_long_recipes_are_refused(void **state)
{
    char *large = malloc((2 << 20) + 1);
    memset(large, 'x', 2 << 20);
    large[2 << 20] = '\0';
    for (int f = 0; f < 3; f++) {
        rv_image *i = painting(8, 8, 3);
        void     *bytes;
        size_t    len;
        assert_true(rv__image_set_recipe(i, large));
        assert_int_equal(rv_image_encode(i, names[f], 90, &bytes, &len, NULL), RV_UNSUPPORTED);
        assert_null(bytes);
        rv_image_unref(i);
    }
    free(large);
}

/* ---- every kind of PNG ---------------------------------------------------------------------- */

typedef struct memory {
    uint8_t bytes[1 << 16];
    size_t  len;
} memory;

static void write_memory(png_structp png, png_bytep data, size_t len)
{
    memory *m = png_get_io_ptr(png);
    if (m->len + len <= sizeof m->bytes)
        memcpy(m->bytes + m->len, data, len);
    m->len += len;
}

static void make_png(memory *m, int color, int depth, int interlace, bool has_trns)
{
    uint8_t     row[16 * 8] = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop   info = png_create_info_struct(png);
    m->len = 0;
    assert_int_equal(setjmp(png_jmpbuf(png)), 0);
    png_set_write_fn(png, m, write_memory, NULL);
    png_set_IHDR(png, info, 16, 16, depth, color, interlace, 0, 0);
    png_color palette[2] = {{10, 20, 30}, {200, 100, 50}};
    uint8_t   alpha[1] = {0};
    if (color == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, palette, 2);
    png_color_16 key = {0};
    if (has_trns)
        png_set_tRNS(png, info, alpha, 1, &key);
    png_write_info(png, info);
    int passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < 16; y++)
            png_write_row(png, row);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
}

static void all_kinds_of_png(void **state)
{
    static const int kinds[][2] = {{0, 1}, {0, 2}, {0, 4}, {0, 8}, {0, 16}, {2, 8}, {2, 16}, {3, 1},
                                   {3, 2}, {3, 4}, {3, 8}, {4, 8}, {4, 16}, {6, 8}, {6, 16}};
    static memory    m;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int interlace = 0; interlace < 2; interlace++)
            for (int trns = 0; trns < (kinds[k][0] & 4 ? 1 : 2); trns++) {
                make_png(&m, kinds[k][0], kinds[k][1], interlace, trns);
                rv_image *i;
                assert_int_equal(rv__image_from_bytes(m.bytes, m.len, MAX_PIXELS, &i, NULL), RV_OK);
                int channels = rv_image_facts(i).channels;
                assert_int_equal(channels, trns || kinds[k][0] & 4 ? 4 : 3);
                const uint8_t *p = rv_image_pixels(i);
                assert_non_null(p);
                assert_int_equal(p[0], kinds[k][0] == 3 ? 10 : 0);
                if (channels == 4)
                    assert_int_equal(p[16 * 16 * 4 - 1], 0);
                rv_image_unref(i);
            }
}

/* ---- hostile files -------------------------------------------------------------------------- */

static void truncated_and_flipped(void **state)
{
    for (int f = 0; f < 3; f++) {
        rv_image *i = painting(24, 24, f == 1 ? 3 : 4);
        assert_true(rv__image_set_recipe(i, "{\"seed\":7}"));
        size_t   len;
        uint8_t *file = encoded(i, names[f], 80, &len);
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *part =
                malloc(cut + 1); /* its own block, so that sanitizers see each byte too many */
            memcpy(part, file, cut);
            rv_status s = load(part, cut, MAX_PIXELS, NULL);
            if (cut < len * 9 / 10 - 16 && cut < len / 2)
                assert_int_equal(s, RV_FORMAT);
            rv__free(rv__recipe_read(part, cut));
            free(part);
        }
        for (size_t at = 0; at < len; at++)
            for (int bit = 0; bit < 8; bit += 3) {
                file[at] ^= (uint8_t)(1 << bit);
                load(file, len, 1 << 20, NULL);
                rv__free(rv__recipe_read(file, len));
                file[at] ^= (uint8_t)(1 << bit);
            }
        assert_int_equal(load(file, len, MAX_PIXELS, NULL), RV_OK);
        rv__free(file);
        rv_image_unref(i);
    }
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int k = 0; k < 4; k++)
        p[k] = (uint8_t)(v >> (24 - 8 * k));
}

static void bombs_are_refused_by_their_header(void **state)
{
    rv_image             *i = painting(16, 16, 3);
    size_t                len;
    rv_error              err;
    uint8_t              *file = encoded(i, "PNG", 0, &len);
    static const uint32_t sizes[][2] = {{40000, 40000},           {0xffffffff, 0xffffffff},
                                        {0x7fffffff, 0x7fffffff}, {1, 0x7fffffff},
                                        {0x80000001, 1},          {4097, 4096}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        put32(file + 16, sizes[k][0]);
        put32(file + 20, sizes[k][1]);
        rv__alloc_fail_after(1); /* no memory may be asked for */
        assert_int_equal(load(file, len, MAX_PIXELS, &err), RV_FORMAT);
        rv__alloc_fail_after(0);
    }
    put32(file + 16, 40000);
    put32(file + 20, 40000);
    load(file, len, MAX_PIXELS, &err);
    assert_non_null(strstr(err.message, "40000 x 40000"));
    put32(file + 16, 0);
    assert_int_equal(load(file, len, INT64_MAX, &err), RV_FORMAT);
    rv__free(file);

    uint8_t *jpeg = encoded(i, "JPG", 90, &len);
    for (size_t at = 2; at < len - 8; at++)
        if (jpeg[at] == 0xff && jpeg[at + 1] == 0xc0) {
            memset(jpeg + at + 5, 0xff, 4);
            break;
        }
    assert_int_equal(load(jpeg, len, MAX_PIXELS, &err), RV_FORMAT);
    assert_non_null(strstr(err.message, "65535 x 65535"));
    rv__free(jpeg);

    uint8_t *webp = encoded(i, "WEBP", 90, &len);
    memset(webp + 26, 0xff, 4); /* both 14 bit sizes */
    assert_int_equal(load(webp, len, MAX_PIXELS, &err), RV_FORMAT);
    rv__free(webp);
    rv_image_unref(i);
}

static void right_size_without_data(void **state)
{
    rv_image *i = painting(16, 16, 3), *back;
    size_t    len;
    uint8_t  *file = encoded(i, "PNG", 0, &len);
    put32(file + 16, 4000);
    put32(file + 20, 4000);
    put32(file + 29, 0x12345678);
    assert_int_equal(rv__image_from_bytes(file, len, MAX_PIXELS, &back, NULL), RV_OK);
    assert_null(rv_image_pixels(back));
    assert_null(rv_image_pixels(back)); /* remembered, not tried again */
    rv_image_unref(back);
    rv__free(file);
    rv_image_unref(i);
}

static void jpeg_with_too_many_scans(void **state)
{
    static jpeg_scan_info       scans[1 + 3 * 63];
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr       e;
    unsigned char              *file = NULL;
    unsigned long               len = 0;
    int                         n = 0;
    scans[n++] = (jpeg_scan_info){3, {0, 1, 2}, 0, 0, 0, 0};
    for (int k = 1; k < 64; k++)
        for (int component = 0; component < 3; component++)
            scans[n++] = (jpeg_scan_info){1, {component}, k, k, 0, 0};
    c.err = jpeg_std_error(&e);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &file, &len);
    c.image_width = c.image_height = 16;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    c.scan_info = scans;
    c.num_scans = n;
    jpeg_start_compress(&c, TRUE);
    uint8_t  row[48] = {1, 2, 3};
    JSAMPROW rows[1] = {row};
    while (c.next_scanline < 16)
        jpeg_write_scanlines(&c, rows, 1);
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    rv_error err;
    assert_int_equal(load(file, len, MAX_PIXELS, &err), RV_FORMAT);
    rv_image *i;
    assert_int_equal(rv__image_from_bytes(file, len, MAX_PIXELS, &i, NULL), RV_OK);
    void  *out;
    size_t out_len;
    assert_int_equal(rv_image_encode(i, "PNG", 0, &out, &out_len, &err), RV_FORMAT);
    assert_non_null(strstr(err.message, "scans"));
    rv_image_unref(i);
    free(file);
}

static void nonsense_is_refused(void **state)
{
    static const char *const texts[] = {"",
                                        "G",
                                        "GIF89a",
                                        "\xff\xd8",
                                        "\xff\xd8\xff",
                                        "RIFF\0\0\0\0WEBP",
                                        "\x89PNG\r\n\x1a\n",
                                        "{\"a\":1}"};
    static const size_t      lens[] = {0, 1, 6, 2, 3, 12, 8, 7};
    for (size_t k = 0; k < sizeof lens / sizeof *lens; k++) {
        rv_error err;
        assert_int_equal(load(texts[k], lens[k], MAX_PIXELS, &err), RV_FORMAT);
        assert_true(err.message[0]);
    }
}

/* ---- the object ----------------------------------------------------------------------------- */

static void known_by_url_only(void **state)
{
    rv_image *i = rv__image_from_url("https://example.org/a.png");
    void     *bytes;
    size_t    len;
    assert_string_equal(rv_image_facts(i).url, "https://example.org/a.png");
    assert_int_equal(rv_image_facts(i).width, 0);
    assert_int_equal(rv_image_facts(i).channels, 0);
    assert_true(rv_image_facts(i).cost < 0);
    assert_int_equal(rv_image_facts(i).nsfw, -1);
    assert_null(rv_image_pixels(i));
    assert_int_equal(rv_image_encode(i, "PNG", 0, &bytes, &len, NULL), RV_UNSUPPORTED);
    rv_image_unref(i);
    rv_image_unref(NULL);
    assert_null(rv_image_ref(NULL));
}

static void facts_are_kept(void **state)
{
    rv_image *i = painting(4, 4, 3);
    rv__image_set_facts(i, "0f1e", UINT64_MAX, 0.25, 1);
    assert_true(rv__image_set_url(i, "http://a/b"));
    assert_true(rv__image_set_url(i, "http://a/c"));
    rv_image_info facts = rv_image_facts(i);
    assert_string_equal(facts.uuid, "0f1e");
    assert_true(facts.seed == UINT64_MAX);
    assert_true(facts.cost == 0.25);
    assert_int_equal(facts.nsfw, 1);
    assert_string_equal(facts.url, "http://a/c");
    char long_text[300];
    memset(long_text, 'u', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    rv__image_set_facts(i, long_text, 0, -1, -1);
    assert_true(strlen(rv_image_facts(i).uuid) < sizeof long_text - 1);
    rv_image_unref(i);
}

static void *look(void *image)
{
    rv_image_ref(image);
    const uint8_t *p = rv_image_pixels(image);
    rv_image_unref(image);
    return (void *)p;
}

static void decoded_once_by_many_threads(void **state)
{
    rv_image *i = painting(300, 300, 3), *back;
    size_t    len;
    uint8_t  *file = encoded(i, "PNG", 0, &len);
    assert_int_equal(rv__image_from_bytes(file, len, MAX_PIXELS, &back, NULL), RV_OK);
    pthread_t threads[4];
    void     *found[4];
    for (int k = 0; k < 4; k++)
        assert_int_equal(pthread_create(&threads[k], NULL, look, back), 0);
    for (int k = 0; k < 4; k++)
        pthread_join(threads[k], &found[k]);
    for (int k = 0; k < 4; k++)
        assert_ptr_equal(found[k], rv_image_pixels(back));
    rv_image_unref(i);
    rv_image_unref(back);
    rv__free(file);
}

static int count_files(const char *folder)
{
    int  n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void saved_whole_or_not_at_all(void **state)
{
    char folder[] = "/tmp/test-image-XXXXXX", path[64], other[80];
    assert_non_null(mkdtemp(folder));
    rv_image *i = painting(20, 20, 3);
    rv_error  err;
    for (int f = 0; f < 3; f++) {
        snprintf(path, sizeof path, "%s/a.%s", folder, f == 1 ? "jpeg" : names[f]);
        assert_int_equal(rv_image_save(i, path, &err), RV_OK);
        assert_int_equal(rv_image_save(i, path, &err), RV_OK); /* over the old one */
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_size > 0);
        assert_int_equal(st.st_mode & 0600, 0600);
        unlink(path);
        assert_int_equal(count_files(folder), 0);
    }
    snprintf(other, sizeof other, "%s/none/a.png", folder);
    assert_int_equal(rv_image_save(i, other, &err), RV_IO);
    snprintf(other, sizeof other, "%s/a.gif", folder);
    assert_int_equal(rv_image_save(i, other, &err), RV_VALIDATION);
    snprintf(other, sizeof other, "%s.png/a", folder);
    assert_int_equal(rv_image_save(i, other, &err), RV_VALIDATION);
    snprintf(other, sizeof other, "%s/folder.png", folder);
    mkdir(other, 0700);
    assert_int_equal(rv_image_save(i, other, &err), RV_IO);
    assert_int_equal(count_files(folder), 1); /* nothing temporary is left */
    rmdir(other);
    rmdir(folder);
    rv_image_unref(i);
}

/* Runs everything with the n-th allocation failing; 1 when it went through. */
static int torture(int f, long n, const uint8_t *pixels)
{
    void     *bytes = NULL, *other = NULL;
    size_t    len = 0, other_len = 0;
    rv_image *i = NULL, *back = NULL;
    rv_error  err = {0};
    int       is_done = 0;
    rv__alloc_fail_after(n);
    i = rv__image_from_pixels(pixels, 16, 16, 4);
    if (i && rv__image_set_recipe(i, "{}") && rv__image_set_url(i, "u")) {
        rv_status s = rv_image_encode(i, names[f], 90, &bytes, &len, &err);
        if (s == RV_OK)
            s = rv__image_from_bytes(bytes, len, MAX_PIXELS, &back, &err);
        if (s == RV_OK)
            s = rv_image_encode(back, names[(f + 1) % 3], 90, &other, &other_len, &err);
        is_done = s == RV_OK;
        if (s != RV_OK && s != RV_MEMORY)
            is_done = -1;
        if (is_done == 1) {
            char *text = rv__recipe_read(bytes, len);
            is_done = text != NULL;
            rv__free(text);
        }
    }
    rv__alloc_fail_after(0);
    rv__free(bytes);
    rv__free(other);
    rv_image_unref(i);
    rv_image_unref(back);
    return is_done;
}

static void each_allocation_may_fail(void **state)
{
    uint8_t *p = paint(16, 16, 4);
    for (int f = 0; f < 3; f++) {
        long n = 1;
        int  result;
        while ((result = torture(f, n, p)) == 0)
            assert_true(n++ < 2000);
        assert_int_equal(result, 1);
        assert_true(n > 5);
    }
    free(p);
}

static void memory_comes_back(void **state)
{
    rv_image *i = painting(16, 16, 3), *back;
    size_t    len;
    uint8_t  *file = encoded(i, "PNG", 0, &len);
    assert_int_equal(rv__image_from_bytes(file, len, MAX_PIXELS, &back, NULL), RV_OK);
    rv__alloc_fail_after(1);
    assert_null(rv_image_pixels(back));
    rv__alloc_fail_after(2);
    assert_null(rv_image_pixels(back));
    rv__alloc_fail_after(0);
    assert_non_null(rv_image_pixels(back)); /* running out of memory is not damage */
    rv_image_unref(i);
    rv_image_unref(back);
    rv__free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_by_name),
        cmocka_unit_test(png_is_exact),
        cmocka_unit_test(lossy_formats_come_close),
        cmocka_unit_test(quality_changes_size),
        cmocka_unit_test(wrong_wishes_are_refused),
        cmocka_unit_test(alpha_shows_white_in_jpeg),
        cmocka_unit_test(webp_keeps_alpha),
        cmocka_unit_test(bytes_are_deterministic),
        cmocka_unit_test(same_format_is_passed_on),
        cmocka_unit_test(recipes_travel),
        cmocka_unit_test(public_doors),
        cmocka_unit_test(other_sizes),
        cmocka_unit_test(too_long_recipes_are_refused),
        cmocka_unit_test(all_kinds_of_png),
        cmocka_unit_test(truncated_and_flipped),
        cmocka_unit_test(bombs_are_refused_by_their_header),
        cmocka_unit_test(right_size_without_data),
        cmocka_unit_test(jpeg_with_too_many_scans),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(known_by_url_only),
        cmocka_unit_test(facts_are_kept),
        cmocka_unit_test(decoded_once_by_many_threads),
        cmocka_unit_test(saved_whole_or_not_at_all),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(memory_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
