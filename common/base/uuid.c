/* UUIDs from the kernel's random source.  Never a weaker one: an identifier may be all that guards
 * a picture. */
#include "uuid.h"

#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

bool rv__random(void *out, size_t len)
{
    uint8_t *to = out;
    while (len) {
        ssize_t n = getrandom(to, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        to += n;
        len -= (size_t)n;
    }
    return true;
}

void rv__uuid_write(const unsigned char bytes[16], char out[RV__UUID_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        unsigned b = i == 6 ? (bytes[i] & 0x0Fu) | 0x40u : i == 8 ? (bytes[i] & 0x3Fu) | 0x80u : bytes[i];
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = hex[b >> 4];
        *out++ = hex[b & 15];
    }
    *out = '\0';
}

bool rv__uuid_make(char out[RV__UUID_SIZE])
{
    uint8_t b[16];
    out[0] = '\0';
    if (!rv__random(b, sizeof b))
        return false;
    rv__uuid_write(b, out);
    return true;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool rv__uuid_valid(const char *text, size_t len)
{
    if (len != RV__UUID_SIZE - 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !is_hex(text[i]))
            return false;
    }
    return true;
}

bool rv__uuid_is_v4(const char *text, size_t len)
{
    return rv__uuid_valid(text, len) && text[14] == '4' &&
           (text[19] == '8' || text[19] == '9' || text[19] == 'a' || text[19] == 'b' ||
            text[19] == 'A' || text[19] == 'B');
}
