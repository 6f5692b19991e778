/* SentencePiece's precompiled character map: a double-array trie over UTF-8 and a table of
 * replacements.  Written after the rules of the "tokenizers" library, which differ from
 * SentencePiece's own where several characters form one cluster.  Every index is checked against
 * the file it came from. */
#include "tokenizer_text.h"

#include <string.h>

#include "base/base64.h"
#include "base/utf8.h"
#include "unicode.h"

/* Clusters of this many bytes or more are looked up character by character. */
#define CLUSTER_MAX 6

struct rv__charsmap {
    uint32_t *trie;
    size_t units;
    char *texts; /* NUL-terminated replacements, one after the other */
    size_t texts_len;
};

rv_status rv__charsmap_new(const void *data, size_t len, const char *file, rv__charsmap **out,
                           rv_error *err)
{
    const unsigned char *bytes = data;
    *out = NULL;
    if (len < 4)
        return rv__fail(err, RV_FORMAT, "%s: precompiled_charsmap is too short", file);
    size_t trie_size =
        bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
    if (trie_size == 0 || trie_size % 4 || trie_size > len - 4)
        return rv__fail(err, RV_FORMAT, "%s: precompiled_charsmap has a trie of %zu bytes in %zu",
                        file, trie_size, len);
    rv__charsmap *map = rv__calloc(1, sizeof *map);
    if (!map)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", file);
    const unsigned char *trie = bytes + 4;
    map->units = trie_size / 4;
    map->texts_len = len - 4 - trie_size;
    map->texts = rv__strndup((const char *)trie + trie_size, map->texts_len);
    map->trie = rv__alloc(trie_size);
    if (!map->trie || !map->texts) {
        rv__charsmap_free(map);
        return rv__fail(err, RV_MEMORY, "%s: out of memory", file);
    }
    if (rv__utf8_valid(map->texts, map->texts_len) != map->texts_len) {
        rv__charsmap_free(map);
        return rv__fail(err, RV_FORMAT, "%s: precompiled_charsmap is not UTF-8", file);
    }
    for (size_t i = 0; i < map->units; i++)
        map->trie[i] = trie[4 * i] | (uint32_t)trie[4 * i + 1] << 8 |
                       (uint32_t)trie[4 * i + 2] << 16 | (uint32_t)trie[4 * i + 3] << 24;
    *out = map;
    return RV_OK;
}

rv_status rv__charsmap_new_base64(const char *text, const char *file, rv__charsmap **out,
                                  rv_error *err)
{
    *out = NULL;
    size_t len = strlen(text), used = 0;
    void *data = rv__alloc(len / 4 * 3);
    if (!data)
        return rv__fail(err, RV_MEMORY, "%s: out of memory", file);
    rv_status status;
    if (rv__base64_decode(text, len, data, &used))
        status = rv__charsmap_new(data, used, file, out, err);
    else
        status = rv__fail(err, RV_FORMAT, "%s: precompiled_charsmap is not base64", file);
    rv__free(data);
    return status;
}

void rv__charsmap_free(rv__charsmap *map)
{
    if (!map)
        return;
    rv__free(map->trie);
    rv__free(map->texts);
    rv__free(map);
}

/* Where the children of a unit begin, relative to its own place. */
static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 0x200) >> 6);
}

/* The replacement for the shortest prefix of `text` that has one, or NULL. */
static const char *find(const rv__charsmap *map, const char *text, size_t len)
{
    size_t at = unit_offset(map->trie[0]);
    for (size_t i = 0; i < len && text[i]; i++) {
        unsigned byte = (unsigned char)text[i];
        at ^= byte;
        if (at >= map->units || (map->trie[at] & 0x800000FF) != byte)
            return NULL;
        uint32_t unit = map->trie[at];
        at ^= unit_offset(unit);
        if (!(unit & 0x100))
            continue;
        size_t start = at < map->units ? map->trie[at] & 0x7FFFFFFF : SIZE_MAX;
        if (start >= map->texts_len || ((unsigned char)map->texts[start] & 0xC0) == 0x80)
            return NULL;
        return map->texts + start;
    }
    return NULL;
}

void rv__charsmap_run(const rv__charsmap *map, const char *text, size_t len, rv__buf *out)
{
    for (size_t i = 0; i < len;) {
        size_t cluster = rv__unicode_cluster(text + i, len - i);
        const char *found = cluster < CLUSTER_MAX ? find(map, text + i, cluster) : NULL;
        size_t end = i + cluster;
        if (found) {
            rv__buf_adds(out, found);
            i = end;
        }
        while (i < end) {
            int32_t codepoint;
            size_t n = rv__unicode_next(text + i, end - i, &codepoint);
            found = find(map, text + i, n);
            if (found)
                rv__buf_adds(out, found);
            else
                rv__buf_add(out, text + i, n);
            i += n;
        }
    }
}
