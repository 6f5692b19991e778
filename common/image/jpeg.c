/* JPEG by libjpeg.  The library's errors come back by longjmp; it must never exit or print.  Work
 * per file is bounded: the number of scans is limited, because a small progressive file can ask for
 * thousands of passes. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "base/memory.h"
#include "image/codec.h"

#define MAX_SCANS 64

/* libjpeg's error manager and what must survive the jump. */
typedef struct failure {
    struct jpeg_error_mgr mgr; /* first: libjpeg hands out a pointer to it */
    jmp_buf               jump;
    bool                  is_truncated;
    char                  message[JMSG_LENGTH_MAX];
} failure;

/* libjpeg's destination: a piece of stack that is moved to the buffer when full. */
typedef struct destination {
    struct jpeg_destination_mgr mgr; /* first, as above */
    rv__buf                    *out;
    uint8_t                     piece[16384];
} destination;

static void on_exit_wanted(j_common_ptr c)
{
    failure *f = (failure *)c->err;
    c->err->format_message(c, f->message);
    longjmp(f->jump, 1);
}

static void on_message(j_common_ptr c, int level)
{
    failure *f = (failure *)c->err;
    if (level < 0 && (c->err->msg_code == JWRN_JPEG_EOF || c->err->msg_code == JWRN_HIT_MARKER))
        f->is_truncated = true;
}

static void on_output(j_common_ptr c)
{
}

/* Ends the run with our own sentence. */
static void stop(j_common_ptr c, const char *message)
{
    failure *f = (failure *)c->err;
    snprintf(f->message, sizeof f->message, "%s", message);
    longjmp(f->jump, 1);
}

static void on_progress(j_common_ptr c)
{
    if (((j_decompress_ptr)c)->input_scan_number > MAX_SCANS)
        stop(c, "it has too many scans");
}

static struct jpeg_error_mgr *set_errors(failure *f)
{
    jpeg_std_error(&f->mgr);
    f->mgr.error_exit = on_exit_wanted;
    f->mgr.emit_message = on_message;
    f->mgr.output_message = on_output;
    f->is_truncated = false;
    f->message[0] = '\0';
    return &f->mgr;
}

static rv_status fail(const failure *f, rv_error *err)
{
    if (f->mgr.msg_code == JERR_OUT_OF_MEMORY)
        return rv__fail(err, RV_MEMORY, "out of memory");
    return rv__fail(err, RV_FORMAT, "the JPEG file is damaged: %s", f->message);
}

static bool recognise(const uint8_t *bytes, size_t len)
{
    return len >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

static bool is_frame(uint8_t marker)
{
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/* Walks over the segments to the frame header, which tells the size. */
static rv_status header(const uint8_t *bytes, size_t len, rv__header *h, rv_error *err)
{
    size_t at = 2;
    while (len - at >= 4 && bytes[at] == 0xff) {
        uint8_t marker = bytes[at + 1];
        if (marker == 0xff) {
            at++;
            continue;
        }
        size_t size = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (size < 2 || size > len - at - 2 || marker == 0xd9 || marker == 0xda)
            break;
        if (is_frame(marker) && size >= 8) {
            h->height = bytes[at + 5] << 8 | bytes[at + 6];
            h->width = bytes[at + 7] << 8 | bytes[at + 8];
            h->channels = 3;
            if (h->width < 1 || h->height < 1)
                break;
            if (bytes[at + 9] > 3)
                return rv__fail(err, RV_FORMAT, "JPEG files with %d color components are not read",
                                bytes[at + 9]);
            return RV_OK;
        }
        at += 2 + size;
    }
    return rv__fail(err, RV_FORMAT, "the JPEG file has no frame header");
}

static void read_all(j_decompress_ptr c, const uint8_t *bytes, size_t len, const rv__header *h,
                     uint8_t *pixels)
{
    jpeg_mem_src(c, bytes, (unsigned long)len);
    jpeg_read_header(c, TRUE);
    c->out_color_space = JCS_RGB;
    if (c->image_width != h->width || c->image_height != h->height)
        stop((j_common_ptr)c, "its headers disagree about its size");
    jpeg_start_decompress(c);
    if (c->output_width != h->width || c->output_height != h->height || c->output_components != 3)
        stop((j_common_ptr)c, "its headers disagree about its size");
    while (c->output_scanline < c->output_height) {
        JSAMPROW row = pixels + (size_t)c->output_scanline * (size_t)h->width * 3;
        jpeg_read_scanlines(c, &row, 1);
    }
    jpeg_finish_decompress(c);
}

static rv_status decode(const uint8_t *bytes, size_t len, const rv__header *h, uint8_t *pixels,
                        rv_error *err)
{
    failure                       f;
    struct jpeg_progress_mgr      progress = {.progress_monitor = on_progress};
    struct jpeg_decompress_struct c = {.err = set_errors(&f)};
    if (setjmp(f.jump) != 0) {
        jpeg_destroy_decompress(&c);
        return fail(&f, err);
    }
    jpeg_create_decompress(&c);
    c.progress = &progress;
    read_all(&c, bytes, len, h, pixels);
    jpeg_destroy_decompress(&c);
    return f.is_truncated ? rv__fail(err, RV_FORMAT, "the JPEG file ends early") : RV_OK;
}

static void on_start(j_compress_ptr c)
{
    destination *d = (destination *)c->dest;
    d->mgr.next_output_byte = d->piece;
    d->mgr.free_in_buffer = sizeof d->piece;
}

static void move_out(j_compress_ptr c, size_t len)
{
    destination *d = (destination *)c->dest;
    rv__buf_add(d->out, d->piece, len);
    if (d->out->failed)
        ERREXIT1(c, JERR_OUT_OF_MEMORY, 0);
}

static boolean on_full(j_compress_ptr c)
{
    move_out(c, sizeof((destination *)c->dest)->piece);
    on_start(c);
    return TRUE;
}

static void on_end(j_compress_ptr c)
{
    move_out(c, sizeof((destination *)c->dest)->piece - c->dest->free_in_buffer);
}

/* One row without alpha: the format has none, so what is transparent shows white. */
static void flatten(const uint8_t *from, uint8_t *to, int width)
{
    for (int x = 0; x < width; x++, from += 4, to += 3)
        for (int k = 0; k < 3; k++)
            to[k] = (uint8_t)((from[k] * from[3] + 255 * (255 - from[3]) + 127) / 255);
}

static void write_all(j_compress_ptr c, const rv__pixels *p, int quality, uint8_t *flat)
{
    c->image_width = (JDIMENSION)p->width;
    c->image_height = (JDIMENSION)p->height;
    c->input_components = 3;
    c->in_color_space = JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, quality, TRUE);
    c->optimize_coding = TRUE;
    c->dct_method = JDCT_ISLOW; /* the only one that is bit-exact on every processor */
    if (quality >= 90) {
        c->comp_info[0].h_samp_factor = 1; /* full color resolution where quality matters */
        c->comp_info[0].v_samp_factor = 1;
    }
    jpeg_start_compress(c, TRUE);
    while (c->next_scanline < c->image_height) {
        const uint8_t *from =
            p->data + (size_t)c->next_scanline * (size_t)p->width * (size_t)p->channels;
        JSAMPROW row = flat ? flat : (JSAMPROW)from;
        if (flat)
            flatten(from, flat, p->width);
        jpeg_write_scanlines(c, &row, 1);
    }
    jpeg_finish_compress(c);
}

static rv_status encode_rows(const rv__pixels *p, int quality, uint8_t *flat, rv__buf *out,
                             rv_error *err)
{
    failure                     f;
    destination                 d = {.mgr = {.init_destination = on_start,
                                             .empty_output_buffer = on_full,
                                             .term_destination = on_end},
                                     .out = out};
    struct jpeg_compress_struct c = {.err = set_errors(&f)};
    if (setjmp(f.jump) != 0) {
        jpeg_destroy_compress(&c);
        return fail(&f, err);
    }
    jpeg_create_compress(&c);
    c.dest = &d.mgr;
    write_all(&c, p, quality, flat);
    jpeg_destroy_compress(&c);
    return RV_OK;
}

static rv_status encode(const rv__pixels *p, int quality, rv__buf *out, rv_error *err)
{
    if (p->width > JPEG_MAX_DIMENSION || p->height > JPEG_MAX_DIMENSION)
        return rv__fail(err, RV_UNSUPPORTED, "JPEG files have at most 65500 pixels a side");
    uint8_t *flat = p->channels == 4 ? rv__alloc((size_t)p->width * 3) : NULL;
    if (p->channels == 4 && !flat)
        return rv__fail(err, RV_MEMORY, "out of memory");
    rv_status s = encode_rows(p, quality, flat, out, err);
    rv__free(flat);
    return s;
}

const rv__codec rv__codec_jpeg = {recognise, header, decode, encode};
