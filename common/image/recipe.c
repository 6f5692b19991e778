/* The recipe of a picture (JSON text) inside its file, where common tools show it: a PNG iTXt chunk
 * with the keyword "reverie", JPEG comment segments that begin with "reverie:", or the XMP chunk of
 * WebP.  Only container bytes are touched, never the compressed picture.  Files are hostile: every
 * length is checked against what really arrived. */
#include <string.h>

#include <webp/decode.h>
#include <zlib.h>

#include "base/memory.h"
#include "image/codec.h"

#define RECIPE_MAX ((size_t)1 << 20) /* longer texts are neither written nor read */

static const char keyword[] = "reverie"; /* with its NUL as PNG wants it */
static const char prefix[] = "reverie:";
static const char before[] =
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF "
    "xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
    "<rdf:Description rdf:about=\"\" xmlns:reverie=\"urn:reverie:1\"><reverie:recipe>";
static const char after[] = "</reverie:recipe></rdf:Description></rdf:RDF></x:xmpmeta>";
static const char open_tag[] = "<reverie:recipe>";

/* A stretch of bytes inside a file. */
typedef struct span {
    const uint8_t *data;
    size_t         len;
} span;

/* ---- PNG ------------------------------------------------------------------------------------ */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void add_be32(rv__buf *out, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    rv__buf_add(out, b, 4);
}

/* Right after the header, where readers that stop at the picture data still see it. */
static bool insert_png(span file, span text, rv__buf *out)
{
    if (file.len < 33)
        return false;
    rv__buf_add(out, file.data, 33);
    size_t start = out->len + 4;
    add_be32(out, (uint32_t)(sizeof keyword + 4 + text.len));
    rv__buf_adds(out, "iTXt");
    rv__buf_add(out, keyword, sizeof keyword);
    rv__buf_add(out, "\0\0\0", 4); /* plain, method 0, no language, no translated keyword */
    rv__buf_add(out, text.data, text.len);
    if (!out->failed)
        add_be32(out, (uint32_t)crc32_z(0, (const Bytef *)out->data + start, out->len - start));
    rv__buf_add(out, file.data + 33, file.len - 33);
    return true;
}

static bool read_png(span file, rv__buf *out)
{
    for (size_t at = 8; file.len - at >= 12;) {
        uint32_t size = be32(file.data + at);
        if (size > file.len - at - 12)
            return false;
        const uint8_t *data = file.data + at + 8;
        if (memcmp(data - 4, "iTXt", 4) == 0 && size >= sizeof keyword + 4 &&
            memcmp(data, keyword, sizeof keyword) == 0 &&
            memcmp(data + sizeof keyword, "\0\0\0", 4) == 0) {
            rv__buf_add(out, data + sizeof keyword + 4, size - sizeof keyword - 4);
            return true;
        }
        at += 12 + (size_t)size;
    }
    return false;
}

/* ---- JPEG ----------------------------------------------------------------------------------- */

/* Next marker segment at or after *at, without its marker and length; false at the picture data or
 * at damage. */
static bool next_segment(span file, size_t *at, uint8_t *marker, span *segment)
{
    while (file.len - *at >= 4 && file.data[*at] == 0xff && file.data[*at + 1] == 0xff)
        ++*at;
    if (file.len - *at < 4 || file.data[*at] != 0xff)
        return false;
    *marker = file.data[*at + 1];
    size_t size = (size_t)file.data[*at + 2] << 8 | file.data[*at + 3];
    if (*marker == 0xda || *marker == 0xd9 || size < 2 || size > file.len - *at - 2)
        return false;
    *segment = (span){file.data + *at + 4, size - 2};
    *at += 2 + size;
    return true;
}

/* After the application segments: JFIF and Exif must stay first.  One comment holds at most 65533
 * bytes, so long recipes use several. */
static bool insert_jpeg(span file, span text, rv__buf *out)
{
    size_t  end = 2, at = 2;
    uint8_t marker;
    span    segment;
    while (next_segment(file, &at, &marker, &segment) && marker >= 0xe0 && marker <= 0xef)
        end = at;
    rv__buf_add(out, file.data, end);
    do {
        size_t  most = 65533 - (sizeof prefix - 1);
        size_t  n = text.len < most ? text.len : most;
        size_t  size = 2 + sizeof prefix - 1 + n;
        uint8_t head[4] = {0xff, 0xfe, (uint8_t)(size >> 8), (uint8_t)size};
        rv__buf_add(out, head, 4);
        rv__buf_add(out, prefix, sizeof prefix - 1);
        rv__buf_add(out, text.data, n);
        text = (span){text.data + n, text.len - n};
    } while (text.len > 0);
    rv__buf_add(out, file.data + end, file.len - end);
    return true;
}

static bool read_jpeg(span file, rv__buf *out)
{
    size_t  at = 2, skip = sizeof prefix - 1;
    uint8_t marker;
    span    segment;
    bool    is_found = false;
    while (next_segment(file, &at, &marker, &segment)) {
        if (marker != 0xfe || segment.len < skip || memcmp(segment.data, prefix, skip) != 0)
            continue;
        rv__buf_add(out, segment.data + skip, segment.len - skip);
        is_found = true;
    }
    return is_found;
}

/* ---- WebP ----------------------------------------------------------------------------------- */

static uint32_t le32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static void put_le32(uint8_t *p, uint32_t v)
{
    for (int k = 0; k < 4; k++)
        p[k] = (uint8_t)(v >> 8 * k);
}

/* Next RIFF chunk with its padding; *name points at its four letters. */
static bool next_chunk(span file, size_t *at, const uint8_t **name, span *chunk)
{
    if (file.len - *at < 8)
        return false;
    uint32_t size = le32(file.data + *at + 4);
    if (size > file.len - *at - 8)
        return false;
    *name = file.data + *at;
    *chunk = (span){file.data + *at + 8, size};
    size_t padded = 8 + (size_t)size + (size & 1);
    *at = padded > file.len - *at ? file.len : *at + padded;
    return true;
}

static void add_chunk(rv__buf *out, const void *name, const void *data, size_t len)
{
    uint8_t size[4];
    put_le32(size, (uint32_t)len);
    rv__buf_add(out, name, 4);
    rv__buf_add(out, size, 4);
    rv__buf_add(out, data, len);
    if (len & 1)
        rv__buf_add(out, "", 1);
}

static void add_escaped(rv__buf *out, span text)
{
    for (size_t k = 0; k < text.len; k++) {
        const char c = (char)text.data[k];
        if (c == '<')
            rv__buf_adds(out, "&lt;");
        else if (c == '>')
            rv__buf_adds(out, "&gt;");
        else if (c == '&')
            rv__buf_adds(out, "&amp;");
        else
            rv__buf_add(out, &c, 1);
    }
}

static void add_xmp(rv__buf *out, span text)
{
    rv__buf xmp;
    rv__buf_init(&xmp, RECIPE_MAX * 6);
    rv__buf_adds(&xmp, before);
    add_escaped(&xmp, text);
    rv__buf_adds(&xmp, after);
    if (xmp.failed)
        out->failed = true;
    else
        add_chunk(out, "XMP ", xmp.data, xmp.len);
    rv__buf_free(&xmp);
}

/* The extended header that every file with metadata needs; an existing one only gets its XMP bit
 * set. */
static bool add_extended_header(span file, rv__buf *out)
{
    uint8_t               x[10] = {0};
    size_t                at = 12;
    const uint8_t        *name;
    span                  chunk;
    WebPBitstreamFeatures f;
    if (!next_chunk(file, &at, &name, &chunk) ||
        WebPGetFeatures(file.data, file.len, &f) != VP8_STATUS_OK)
        return false;
    if (memcmp(name, "VP8X", 4) == 0 && chunk.len >= sizeof x) {
        memcpy(x, chunk.data, sizeof x);
    } else {
        x[0] = f.has_alpha ? 0x10 : 0;
        put_le32(x + 4, (uint32_t)(f.width - 1));
        for (int k = 0; k < 3; k++)
            x[7 + k] = (uint8_t)((f.height - 1) >> 8 * k);
    }
    x[0] |= 0x04;
    add_chunk(out, "VP8X", x, sizeof x);
    return true;
}

static bool insert_webp(span file, span text, rv__buf *out)
{
    size_t         start = out->len, at = 12;
    const uint8_t *name;
    span           chunk;
    rv__buf_add(out, file.data, 12);
    if (!add_extended_header(file, out))
        return false;
    while (next_chunk(file, &at, &name, &chunk))
        if (memcmp(name, "VP8X", 4) != 0 && memcmp(name, "XMP ", 4) != 0)
            add_chunk(out, name, chunk.data, chunk.len);
    add_xmp(out, text);
    if (!out->failed)
        put_le32((uint8_t *)out->data + start + 4, (uint32_t)(out->len - start - 8));
    return true;
}

/* Undoes add_escaped; other entities stay as they are. */
static void add_unescaped(rv__buf *out, span text)
{
    static const struct {
        const char *entity;
        char        c;
    } table[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
    while (text.len > 0) {
        size_t n = 1, k = 0;
        char   c = (char)*text.data;
        for (; c == '&' && k < sizeof table / sizeof *table; k++) {
            size_t len = strlen(table[k].entity);
            if (len <= text.len && memcmp(text.data, table[k].entity, len) == 0) {
                c = table[k].c;
                n = len;
                break;
            }
        }
        rv__buf_add(out, &c, 1);
        text = (span){text.data + n, text.len - n};
    }
}

static bool read_webp(span file, rv__buf *out)
{
    size_t         at = 12;
    const uint8_t *name;
    span           chunk;
    while (next_chunk(file, &at, &name, &chunk)) {
        if (memcmp(name, "XMP ", 4) != 0)
            continue;
        const uint8_t *from = memmem(chunk.data, chunk.len, open_tag, sizeof open_tag - 1);
        if (!from)
            return false;
        from += sizeof open_tag - 1;
        size_t         left = chunk.len - (size_t)(from - chunk.data);
        const uint8_t *to = memmem(from, left, "</reverie:recipe>", 17);
        if (!to)
            return false;
        add_unescaped(out, (span){from, (size_t)(to - from)});
        return true;
    }
    return false;
}

/* --------------------------------------------------------------------------------------------- */

rv_status rv__recipe_insert(rv__image_format f, const uint8_t *bytes, size_t len, const char *json,
                            rv__buf *out, rv_error *err)
{
    static bool (*const insert[RV__FORMATS])(span, span, rv__buf *) = {insert_png, insert_jpeg,
                                                                       insert_webp};
    span text = {(const uint8_t *)json, strlen(json)};
    if (text.len > RECIPE_MAX)
        return rv__fail(err, RV_UNSUPPORTED, "the recipe is longer than %zu bytes", RECIPE_MAX);
    if (!insert[f]((span){bytes, len}, text, out))
        return rv__fail(err, RV_FORMAT, "the picture file has no place for a recipe");
    return out->failed ? rv__fail(err, RV_MEMORY, "out of memory") : RV_OK;
}

char *rv__recipe_read(const void *bytes, size_t len)
{
    static bool (*const read[RV__FORMATS])(span, rv__buf *) = {read_png, read_jpeg, read_webp};
    static const rv__codec *const codecs[RV__FORMATS] = {&rv__codec_png, &rv__codec_jpeg,
                                                         &rv__codec_webp};
    for (int f = 0; f < RV__FORMATS; f++) {
        if (!codecs[f]->recognise(bytes, len))
            continue;
        rv__buf text;
        rv__buf_init(&text, RECIPE_MAX);
        if (read[f]((span){bytes, len}, &text))
            return rv__buf_take(&text, NULL);
        rv__buf_free(&text);
    }
    return NULL;
}
