/* Pictures from outside: every kind of PNG, damaged files, bombs, nonsense. */
#include "image_fixture.h"

#include <jpeglib.h>
#include <png.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_of_png),
        cmocka_unit_test(truncated_and_flipped),
        cmocka_unit_test(bombs_are_refused_by_their_header),
        cmocka_unit_test(right_size_without_data),
        cmocka_unit_test(jpeg_with_too_many_scans),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
