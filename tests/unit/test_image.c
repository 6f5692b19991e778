/* Pictures in and out: round trips, recipes, facts, failing memory.  Hostile files: test_image_hostile.c. */
#include "image_fixture.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

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
        cmocka_unit_test(known_by_url_only),
        cmocka_unit_test(facts_are_kept),
        cmocka_unit_test(decoded_once_by_many_threads),
        cmocka_unit_test(saved_whole_or_not_at_all),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(memory_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
