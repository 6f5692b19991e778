/* Sizes, places and coverage of the GIMP plug-in: exact for what models can make, never outside the
 * buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gimp_plugin/geometry.h"

static const grv_limits usual = {128, 2048, 128, 2048, 16, 1 << 20};

static void rectangles(void **state)
{
    grv_rect a = {0, 0, 10, 10}, b = {5, -5, 10, 10}, none = {3, 3, 0, 5};
    grv_rect m = grv_rect_meet(a, b), j = grv_rect_join(a, b);
    assert_true(m.x == 5 && m.y == 0 && m.w == 5 && m.h == 5);
    assert_true(j.x == 0 && j.y == -5 && j.w == 15 && j.h == 15);
    assert_true(grv_rect_is_empty(none) &&
                grv_rect_is_empty(grv_rect_meet(a, (grv_rect){10, 0, 5, 5})));
    assert_true(grv_rect_join(none, a).w == 10 && grv_rect_join(a, none).w == 10);
    assert_int_equal(grv_rect_grow(a, 3).w, 16);
}

/* Every target gets a size that the model makes, and a place around it of the same proportions. */
static void plans(void **state)
{
    static const int sides[] = {1,    2,    17,   64,   100,  128,  333,   640,
                                1000, 1024, 1447, 2048, 4096, 8191, 100000};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        for (size_t k = 0; k < sizeof sides / sizeof *sides; k++) {
            grv_rect t = {7, -9, sides[i], sides[k]};
            grv_plan p = grv_plan_for(t, &usual);
            assert_in_range(p.w, usual.min_w, usual.max_w);
            assert_in_range(p.h, usual.min_h, usual.max_h);
            assert_true(p.w % 16 == 0 && p.h % 16 == 0);
            grv_rect both = grv_rect_meet(t, p.area);
            assert_true(both.w == t.w && both.h == t.h);
            double across = (double)p.area.w / p.w, down = (double)p.area.h / p.h;
            bool is_coarse = p.area.w < 200 || p.area.h < 200; /* whole pixels round more there */
            assert_true(is_coarse || (across / down < 1.01 && down / across < 1.01));
        }
}

static void fitting_sizes_stay(void **state)
{
    grv_rect t = {3, 4, 1024, 1024};
    grv_plan p = grv_plan_for(t, &usual);
    assert_true(p.w == 1024 && p.h == 1024 && p.area.x == 3 && p.area.w == 1024);
    t = (grv_rect){0, 0, 1280, 1024}; /* between the native number of pixels and twice that */
    p = grv_plan_for(t, &usual);
    assert_true(p.w == 1280 && p.h == 1024 && p.area.w == 1280);
    t = (grv_rect){0, 0, 512, 512}; /* made larger than needed */
    p = grv_plan_for(t, &usual);
    assert_true(p.w == 1024 && p.h == 1024 && p.area.w == 512);
    grv_limits any = usual;
    any.native = 0;
    p = grv_plan_for(t, &any);
    assert_true(p.w == 512 && p.area.w == 512);
}

static void growing(void **state)
{
    enum { W = 41, H = 29 };
    uint8_t c[W * H] = {0};
    c[14 * W + 20] = 200;
    grv_coverage_grow(c, W, H, 10);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            int d2 = (x - 20) * (x - 20) + (y - 14) * (y - 14);
            assert_int_equal(c[y * W + x], d2 <= 100 ? 200 : 0);
        }
    grv_rect b = grv_coverage_bounds(c, W, H);
    assert_true(b.x == 10 && b.y == 4 && b.w == 21 && b.h == 21);
    grv_coverage_grow(c, W, H, 500);
    assert_int_equal(c[0], 200);
    assert_false(grv_coverage_is_full(c, W, H));
    grv_coverage_solid(c, W, H);
    assert_true(grv_coverage_is_full(c, W, H));
}

static void feathering(void **state)
{
    enum { W = 60, H = 40 };
    uint8_t c[W * H] = {0};
    for (int y = 0; y < H; y++)
        memset(c + y * W, 255, 30);
    grv_coverage_feather(c, W, H, 7);
    for (int x = 0; x < W; x++) {
        assert_int_equal(c[x], c[(H - 1) * W + x]);
        if (x)
            assert_true(c[x] <= c[x - 1]);
    }
    assert_int_equal(c[22], 255);
    assert_true(c[23] < 255 && c[36] > 0);
    assert_int_equal(c[37], 0);
    uint8_t one = 77;
    grv_coverage_feather(&one, 1, 1, 500);
    assert_int_equal(one, 77);
}

static void nothing(void **state)
{
    uint8_t c[4] = {0};
    assert_true(grv_rect_is_empty(grv_coverage_bounds(c, 2, 2)));
    grv_coverage_grow(c, 0, 0, 5);
    grv_coverage_feather(c, 0, 5, 5);
    assert_true(grv_coverage_is_full(c, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rectangles),         cmocka_unit_test(plans),
        cmocka_unit_test(fitting_sizes_stay), cmocka_unit_test(growing),
        cmocka_unit_test(feathering),         cmocka_unit_test(nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
