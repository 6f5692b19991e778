/* Colours in 8 bit images with a profile: none is further off than the image's own steps demand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gimp_plugin/colours.h"

enum { STEP = 15, SIDE = 255 / STEP + 1, COUNT = SIDE * SIDE * SIDE };

static uint8_t wanted[4 * COUNT], plain[4 * COUNT], fitted[4 * COUNT], seen[4 * COUNT];

/* Asked by LeakSanitizer: babl gives back nothing of what it knows. */
const char *__lsan_default_suppressions(void)
{
    return "leak:libbabl";
}

static int set_up(void **state)
{
    babl_init();
    for (int i = 0; i < COUNT; i++) {
        wanted[4 * i] = (uint8_t)(i % SIDE * STEP);
        wanted[4 * i + 1] = (uint8_t)(i / SIDE % SIDE * STEP);
        wanted[4 * i + 2] = (uint8_t)(i / SIDE / SIDE * STEP);
        wanted[4 * i + 3] = (uint8_t)(i % 256);
    }
    return 0;
}

static int tear_down(void **state)
{
    babl_exit();
    return 0;
}

static int far_off(const uint8_t *px, int *most)
{
    int count = 0;
    for (int i = 0; i < COUNT; i++) {
        int worst = 0;
        for (int c = 0; c < 3; c++)
            worst = abs(px[4 * i + c] - wanted[4 * i + c]) > worst
                        ? abs(px[4 * i + c] - wanted[4 * i + c])
                        : worst;
        count += worst > 1;
        *most = worst > *most ? worst : *most;
        assert_int_equal(px[4 * i + 3], wanted[4 * i + 3]);
    }
    return count;
}

/* Colours well inside of the other space come within one step; at its border fewer are off, and
 * less, than with each channel by itself. */
static void fitting(void **state)
{
    static const char *const spaces[] = {"Adobish", "Rec2020", "ProPhoto"};
    for (size_t s = 0; s < sizeof spaces / sizeof *spaces; s++) {
        const Babl *format = babl_format_with_space("R'G'B'A u8", babl_space(spaces[s]));
        const Babl *srgb = babl_format("R'G'B'A u8");
        int before = 0, after = 0;
        assert_true(grv_colours_need_fit(format));
        babl_process(babl_fish(srgb, format), wanted, plain, COUNT);
        babl_process(babl_fish(format, srgb), plain, seen, COUNT);
        int many = far_off(seen, &before);
        grv_colours_fit(format, wanted, COUNT, fitted);
        babl_process(babl_fish(format, srgb), fitted, seen, COUNT);
        int few = far_off(seen, &after);
        print_message("# %s: %d of %d off by up to %d, fitted %d by up to %d\n", spaces[s], many,
                      COUNT, before, few, after);
        assert_true(few <= many / 2 && after <= before);
        for (int i = 0; i < 4 * COUNT; i++)
            assert_in_range(abs(fitted[i] - plain[i]), 0, 2);
    }
}

static void others_need_none(void **state)
{
    assert_false(grv_colours_need_fit(babl_format("R'G'B'A u8")));
    assert_false(grv_colours_need_fit(babl_format("RGBA float")));
    assert_false(grv_colours_need_fit(
        babl_format_with_space("R'G'B'A u16", babl_space("Adobish"))));
    assert_false(
        grv_colours_need_fit(babl_format_with_space("Y'A u8", babl_space("Adobish"))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fitting),
                                       cmocka_unit_test(others_need_none)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
