/* Reading multipart/form-data.  The boundary comes from the Content-Type; a part is what stands
 * between two lines of it; of the part's header only name and filename of Content-Disposition
 * matter. */
#include "multipart.h"

#include <string.h>
#include <strings.h>

enum { BOUNDARY_MAX = 70 }; /* RFC 2046 5.1.1 */

bool rv__multipart_is(const char *content_type)
{
    return content_type && strncasecmp(content_type, "multipart/form-data", 19) == 0;
}

/* Where the value of parameter `name` begins, or len when it is not there. */
static size_t find_parameter(const char *text, size_t len, const char *name)
{
    size_t n = strlen(name), i = 0;
    while (i < len) {
        while (i < len && text[i] != ';' && text[i] != '"')
            i++;
        if (i < len && text[i] == '"') { /* a quoted text that is not ours */
            for (i++; i < len && text[i] != '"'; i++)
                i += text[i] == '\\';
            i++;
            continue;
        }
        for (i++; i < len && (text[i] == ' ' || text[i] == '\t');)
            i++;
        if (i + n < len && strncasecmp(text + i, name, n) == 0 && text[i + n] == '=')
            return i + n + 1;
    }
    return len;
}

/* A parameter's text, which may stand in quotes with escaped quotes inside.  The result is the
 * length that was copied, or -1 when it is not there or too long. */
static int read_parameter(const char *text, size_t len, const char *name, char *out, size_t size)
{
    size_t i = find_parameter(text, len, name), at = 0;
    if (i >= len)
        return -1;
    bool quoted = text[i] == '"';
    for (i += quoted; i < len; i++) {
        if (quoted ? text[i] == '"' : text[i] == ';' || text[i] == ' ' || text[i] == '\t')
            break;
        if (quoted && text[i] == '\\' && i + 1 < len && text[i + 1] == '"')
            i++;
        if (at + 1 >= size)
            return -1;
        out[at++] = text[i];
    }
    out[at] = '\0';
    return quoted && i == len ? -1 : (int)at;
}

/* One line of a part's header: the name and whether there is a file. */
static bool read_header(const char *line, size_t len, rv__part *part)
{
    static const char key[] = "content-disposition:";
    if (len < sizeof key - 1 || strncasecmp(line, key, sizeof key - 1) != 0)
        return true;
    int n = read_parameter(line, len, "name", part->name, sizeof part->name);
    char file[1024];
    part->is_file = read_parameter(line, len, "filename", file, sizeof file) >= 0 ||
                    read_parameter(line, len, "filename*", file, sizeof file) >= 0;
    if (n > 2 && strcmp(part->name + n - 2, "[]") == 0)
        part->name[n - 2] = '\0';
    return n > 0;
}

/* The header of a part; *at is behind it afterwards. */
static bool read_headers(const char *body, size_t len, size_t *at, rv__part *part)
{
    *part = (rv__part){0};
    while (true) {
        const char *line = body + *at;
        const char *end = memchr(line, '\n', len - *at);
        if (!end || end == line || end[-1] != '\r')
            return false;
        size_t n = (size_t)(end - line) - 1;
        *at += n + 2;
        if (n == 0)
            return *part->name != '\0';
        if (!read_header(line, n, part))
            return false;
    }
}

const char *rv__multipart_read(const char *content_type, const char *body, size_t len,
                               rv__part *parts, size_t *count)
{
    char mark[BOUNDARY_MAX + 5] = "\r\n--";
    *count = 0;
    int n =
        read_parameter(content_type, strlen(content_type), "boundary", mark + 4, BOUNDARY_MAX + 1);
    if (n < 1)
        return "the Content-Type has no boundary of 1 to 70 characters";
    size_t size = (size_t)n + 4;
    /* the first line has no line break before it, unless there is a preamble */
    const char *start = len >= size - 2 && memcmp(body, mark + 2, size - 2) == 0
                            ? body
                            : memmem(body, len, mark, size);
    if (!start)
        return "the form does not begin with its boundary";
    size_t at = (size_t)(start - body) + (start == body ? size - 2 : size);
    while (true) {
        if (len - at >= 2 && memcmp(body + at, "--", 2) == 0)
            return NULL;
        while (at < len && (body[at] == ' ' || body[at] == '\t'))
            at++;
        if (len - at < 2 || memcmp(body + at, "\r\n", 2) != 0)
            return "the form ends in the middle of a part";
        at += 2;
        if (*count == RV__PARTS_MAX)
            return "the form has more than 128 parts";
        rv__part *part = &parts[*count];
        if (!read_headers(body, len, &at, part))
            return "a part of the form has no readable Content-Disposition with a name";
        /* the header's empty line may be the one before the boundary */
        const char *end = memmem(body + at - 2, len - at + 2, mark, size);
        if (!end)
            return "the form ends in the middle of a part";
        part->data = body + at;
        part->len = end < body + at ? 0 : (size_t)(end - (body + at));
        at = (size_t)(end - body) + size;
        ++*count;
    }
}
