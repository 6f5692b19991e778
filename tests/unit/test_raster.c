/* Pictures of requests: what is read and refused, EXIF orientation, scaling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/memory.h"
#include "image/raster.h"

/* Every pixel of a 3 x 2 picture has its own value. */
static rv__raster numbered(void)
{
    rv__raster r;
    rv_error err;
    assert_int_equal(rv__raster_make(3, 2, 1, &r, &err), RV_OK);
    for (int i = 0; i < 6; i++)
        r.pixels[i] = (uint8_t)i;
    return r;
}

static void all_orientations(void **state)
{
    static const struct {
        int width;
        uint8_t pixels[6];
    } expected[10] = {
        {3, {0, 1, 2, 3, 4, 5}}, {3, {0, 1, 2, 3, 4, 5}}, {3, {2, 1, 0, 5, 4, 3}},
        {3, {5, 4, 3, 2, 1, 0}}, {3, {3, 4, 5, 0, 1, 2}}, {2, {0, 3, 1, 4, 2, 5}},
        {2, {3, 0, 4, 1, 5, 2}}, {2, {5, 2, 4, 1, 3, 0}}, {2, {2, 5, 1, 4, 0, 3}},
        {3, {0, 1, 2, 3, 4, 5}},
    };
    for (int o = 0; o < 10; o++) {
        rv__raster r = numbered();
        rv_error err;
        assert_int_equal(rv__raster_upright(&r, o, &err), RV_OK);
        assert_int_equal(r.width, expected[o].width);
        assert_memory_equal(r.pixels, expected[o].pixels, 6);
        rv__raster_free(&r);
    }
}

#define TIFF_LE "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
#define TIFF_BE "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0"

static void exif_in_all_formats(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int orientation;
    } files[] = {
#define FILE_OF(text, o) {text, sizeof text - 1, o}
        FILE_OF("\xff\xd8\xff\xe0\0\x04xx\xff\xe1\0\x22" "Exif\0\0" TIFF_LE, 6),
        FILE_OF("\xff\xd8\xff\xe1\0\x22" "Exif\0\0" TIFF_BE, 8),
        FILE_OF("\xff\xd8\xff\xda\0\x04xx\xff\xe1\0\x22" "Exif\0\0" TIFF_LE, 1),
        FILE_OF("\x89PNG\r\n\x1a\n\0\0\0\x01tEXtx0000\0\0\0\x1a" "eXIf" TIFF_LE "0000", 6),
        FILE_OF("RIFF\x30\0\0\0WEBPVP8X\x01\0\0\0x\0" "EXIF\x1a\0\0\0" TIFF_BE, 8),
        FILE_OF("RIFF\x30\0\0\0WEBPEXIF\x20\0\0\0" "Exif\0\0" TIFF_BE, 8),
        FILE_OF("RIFF\x30\0\0\0WEBPEXIF\xff\xff\xff\xff", 1),
        FILE_OF("GIF89a", 1),
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int o = rv__exif_orientation((const uint8_t *)files[i].bytes, files[i].len);
        if (o != files[i].orientation)
            fail_msg("file %zu: orientation %d", i, o);
        /* Cut anywhere, or with any byte changed, it is read without harm. */
        for (size_t n = 0; n <= files[i].len; n++) {
            uint8_t *copy = malloc(n ? n : 1);
            memcpy(copy, files[i].bytes, n);
            rv__exif_orientation(copy, n);
            for (size_t k = 0; n == files[i].len && k < n; k++)
                for (int v = 0; v < 256; v += 51) {
                    copy[k] = (uint8_t)v;
                    o = rv__exif_orientation(copy, n);
                    assert_true(o >= 1 && o <= 8);
                    copy[k] = (uint8_t)files[i].bytes[k];
                }
            free(copy);
        }
    }
}

static void scaling_keeps_what_it_must(void **state)
{
    static const int sizes[] = {1, 2, 3, 7, 16, 61};
    rv_error err;
    for (size_t a = 0; a < 6; a++)
        for (size_t b = 0; b < 6; b++) {
            rv__raster flat, out;
            assert_int_equal(rv__raster_make(sizes[a], sizes[5 - a], 3, &flat, &err), RV_OK);
            memset(flat.pixels, 77, (size_t)(sizes[a] * sizes[5 - a] * 3));
            assert_int_equal(rv__raster_resize(&flat, sizes[b], 9, &out, &err), RV_OK);
            for (int i = 0; i < sizes[b] * 9 * 3; i++)
                assert_int_equal(out.pixels[i], 77);
            rv__raster_free(&flat), rv__raster_free(&out);
        }
    rv__raster r = numbered(), same;
    assert_int_equal(rv__raster_resize(&r, 3, 2, &same, &err), RV_OK);
    assert_memory_equal(r.pixels, same.pixels, 6);
    rv__raster_free(&r), rv__raster_free(&same);
}

/* A ramp stays one, made larger or smaller: away from the ends cubic filters are exact for it. */
static void scaling_is_straight(void **state)
{
    enum { N = 64 };
    rv__raster ramp, out;
    rv_error err;
    assert_int_equal(rv__raster_make(N, 1, 1, &ramp, &err), RV_OK);
    for (int i = 0; i < N; i++)
        ramp.pixels[i] = (uint8_t)(4 * i);
    static const int widths[] = {16, 24, 50, 128, 200};
    for (size_t k = 0; k < 5; k++) {
        int w = widths[k];
        assert_int_equal(rv__raster_resize(&ramp, w, 1, &out, &err), RV_OK);
        for (int i = w / 4; i < w - w / 4; i++) {
            double expected = 4.0 * ((i + 0.5) * N / w - 0.5);
            assert_true(out.pixels[i] - expected <= 1.0 && expected - out.pixels[i] <= 1.0);
        }
        rv__raster_free(&out);
    }
    rv__raster_free(&ramp);
}

static void transparency_means_something(void **state)
{
    rv__raster r;
    rv_error err;
    const uint8_t rgba[] = {10, 20, 30, 255, 10, 20, 30, 0}, flat[] = {10, 20, 30, 255, 255, 255};
    const uint8_t white[] = {255, 255, 255, 255, 255, 255, 255, 0}, grey[] = {255, 0};
    assert_int_equal(rv__raster_make(2, 1, 4, &r, &err), RV_OK);
    memcpy(r.pixels, rgba, 8);
    rv__raster_flatten(&r);
    assert_int_equal(r.channels, 3);
    assert_memory_equal(r.pixels, flat, 6);
    rv__raster_free(&r);
    assert_int_equal(rv__raster_make(2, 1, 4, &r, &err), RV_OK);
    memcpy(r.pixels, white, 8);
    rv__raster_grey(&r);
    assert_memory_equal(r.pixels, grey, 2);
    rv__raster_free(&r);
}

#define PIXEL                                                                                      \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"

static void bad_pictures_are_named(void **state)
{
    static const struct {
        const char *text;
        rv_status status;
    } rows[] = {
        {PIXEL, RV_OK},
        {"data:image/png;base64," PIXEL, RV_OK},
        {"data:image/jpeg;base64," PIXEL, RV_OK}, /* the bytes tell, not the words */
        {"", RV_VALIDATION},
        {"aGVsbG8=", RV_VALIDATION},
        {"data:image/png;base64,%%", RV_VALIDATION},
        {"data:image/png", RV_VALIDATION},
        {"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1Pe", RV_VALIDATION},
        {"https://example.com/x.png", RV_UNSUPPORTED},
        {"HTTP://example.com/x.png", RV_UNSUPPORTED},
        {"50836053-a0ee-4cf5-b9d6-ae7c5d140ada", RV_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rv__raster r;
        rv_error err = {0};
        rv_status s = rv__raster_read(rows[i].text, "seedImage", &r, &err);
        if (s != rows[i].status || (s != RV_OK && strcmp(err.parameter, "seedImage") != 0))
            fail_msg("row %zu: %d %s %s", i, s, err.parameter, err.message);
        if (s == RV_VALIDATION)
            assert_string_equal(err.code, "invalidSeedImage");
        assert_int_equal(r.pixels != NULL, s == RV_OK);
        rv__raster_free(&r);
    }
}

/* A header that promises gigabytes is refused before anything is decoded. */
static void bombs_are_refused(void **state)
{
    uint8_t png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0xxxx\0\0\0\0IDAT";
    char text[128] = "";
    rv__raster r;
    rv_error err = {0};
    rv__base64_encode(png, sizeof png - 1, text);
    assert_int_equal(rv__raster_read(text, "maskImage", &r, &err), RV_VALIDATION);
    assert_string_equal(err.parameter, "maskImage");
    assert_non_null(strstr(err.message, "60000 x 60000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_orientations),
        cmocka_unit_test(exif_in_all_formats),
        cmocka_unit_test(scaling_keeps_what_it_must),
        cmocka_unit_test(scaling_is_straight),
        cmocka_unit_test(transparency_means_something),
        cmocka_unit_test(bad_pictures_are_named),
        cmocka_unit_test(bombs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
