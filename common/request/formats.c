/* Forms of texts.  Only the form is judged here; nothing is fetched, opened or decoded as a
 * picture. */
#include "formats.h"

#include "base/base64.h"
#include "base/uuid.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static bool is_word(unsigned char c)
{
    return c < 0x80 && (isalnum(c) || c == '-' || c == '_' || c == '.');
}

/* Length of a run of word characters, and of slashes when those are allowed. */
static size_t run(const char *s, bool slash)
{
    size_t n = 0;
    while (is_word((unsigned char)s[n]) || (slash && s[n] == '/'))
        n++;
    return n;
}

bool rv__air_valid(const char *text)
{
    if (strlen(text) > 255)
        return false;
    size_t n = run(text, false);
    if (!n || text[n] != ':')
        return false;
    text += n + 1;
    n = run(text, true);
    if (!n || text[n] != '@')
        return false;
    text += n + 1;
    n = run(text, false);
    return n && !text[n];
}

bool rv__url_valid(const char *text)
{
    size_t scheme = strncasecmp(text, "http://", 7) == 0    ? 7
                    : strncasecmp(text, "https://", 8) == 0 ? 8
                                                            : 0;
    if (!scheme || strlen(text) > 8192)
        return false;
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f || strchr("\"<>\\^`", *c))
            return false;
    }
    size_t n = strcspn(text + scheme, "/?#");
    const char *user = memrchr(text + scheme, '@', n);
    const char *host = user ? user + 1 : text + scheme;
    return host < text + scheme + n && *host != ':';
}

/* Do these bytes start like a PNG, JPEG or WebP file? */
static bool is_picture(const unsigned char *b, size_t n)
{
    return (n >= 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0) ||
           (n >= 3 && memcmp(b, "\xff\xd8\xff", 3) == 0) ||
           (n >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0);
}

static bool is_picture_base64(const char *text)
{
    size_t len = strlen(text), n;
    unsigned char head[12];
    if (!rv__base64_decode(text, len, NULL, &n))
        return false;
    size_t some = len < 16 ? len : 16;
    return rv__base64_decode(text, some, head, &n) && is_picture(head, n);
}

static bool is_data_uri(const char *text)
{
    if (strncasecmp(text, "data:image/", 11) != 0)
        return false;
    size_t n = run(text + 11, false);
    text += 11 + n;
    return n && strncasecmp(text, ";base64,", 8) == 0 && is_picture_base64(text + 8);
}

static bool picture_valid(const char *text)
{
    return rv__uuid_valid(text, strlen(text)) || is_data_uri(text) || rv__url_valid(text) ||
           is_picture_base64(text);
}

static bool all_hex(const char *text, size_t n)
{
    return strlen(text) == n && strspn(text, "0123456789abcdefABCDEF") == n;
}

static bool color_valid(const char *text)
{
    return text[0] == '#' && (all_hex(text + 1, 3) || all_hex(text + 1, 6));
}

const char *rv__format_wrong(rv__form format, bool strict_uuid, const char *text)
{
    switch (format) {
    case RV__UUID:
        if (strict_uuid)
            return rv__uuid_is_v4(text, strlen(text)) ? NULL : "a version 4 UUID";
        return rv__uuid_valid(text, strlen(text)) ? NULL : "a UUID";
    case RV__URL:
        return rv__url_valid(text) ? NULL : "a URL that starts with http:// or https://";
    case RV__AIR:
        return rv__air_valid(text) ? NULL : "a model identifier like runware:97@3";
    case RV__PICTURE:
        return picture_valid(text)
                   ? NULL
                   : "a picture's UUID, its URL, or a PNG, JPG or WEBP file as data URI or base64";
    case RV__COLOR:
        return color_valid(text) ? NULL : "a colour like #FF5733";
    case RV__HEX8:
        return all_hex(text, 8) ? NULL : "eight hexadecimal digits";
    default:
        return NULL;
    }
}

const char *rv__format_word(rv__form format)
{
    static const char *const words[] = {
        [RV__UUID] = "uuid",       [RV__URL] = "uri",     [RV__AIR] = "air",
        [RV__PICTURE] = "picture", [RV__COLOR] = "color", [RV__HEX8] = "hex",
    };
    return words[format];
}
