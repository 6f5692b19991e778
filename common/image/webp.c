/* WebP by libwebp: single pictures only, lossy when written.  One thread, so that bytes never
 * depend on timing. */
#include <string.h>

#include <webp/decode.h>
#include <webp/encode.h>

#include "base/memory.h"
#include "image/codec.h"

static bool recognise(const uint8_t *bytes, size_t len)
{
    return len >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0;
}

static rv_status header(const uint8_t *bytes, size_t len, rv__header *h, rv_error *err)
{
    WebPBitstreamFeatures f;
    if (WebPGetFeatures(bytes, len, &f) != VP8_STATUS_OK || f.width < 1 || f.height < 1)
        return rv__fail(err, RV_FORMAT, "the WebP header is damaged");
    if (f.has_animation)
        return rv__fail(err, RV_FORMAT, "animated WebP files are not read");
    *h = (rv__header){f.width, f.height, f.has_alpha ? 4 : 3};
    return RV_OK;
}

static rv_status decode(const uint8_t *bytes, size_t len, const rv__header *h, uint8_t *pixels,
                        rv_error *err)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return rv__fail(err, RV_INTERNAL, "libwebp has another version than its header");
    size_t stride = (size_t)h->width * (size_t)h->channels;
    config.output.colorspace = h->channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = pixels;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * (size_t)h->height;
    VP8StatusCode s = WebPDecode(bytes, len, &config);
    WebPFreeDecBuffer(&config.output);
    if (s == VP8_STATUS_OUT_OF_MEMORY)
        return rv__fail(err, RV_MEMORY, "out of memory");
    return s == VP8_STATUS_OK ? RV_OK : rv__fail(err, RV_FORMAT, "the WebP file is damaged");
}

static int on_write(const uint8_t *data, size_t len, const WebPPicture *picture)
{
    rv__buf *out = picture->custom_ptr;
    rv__buf_add(out, data, len);
    return !out->failed;
}

static rv_status encode(const rv__pixels *p, int quality, rv__buf *out, rv_error *err)
{
    if (p->width > WEBP_MAX_DIMENSION || p->height > WEBP_MAX_DIMENSION)
        return rv__fail(err, RV_UNSUPPORTED, "WebP files have at most %d pixels a side",
                        WEBP_MAX_DIMENSION);
    WebPConfig  config;
    WebPPicture picture;
    if (!WebPConfigPreset(&config, WEBP_PRESET_PICTURE, (float)quality) ||
        !WebPPictureInit(&picture))
        return rv__fail(err, RV_INTERNAL, "libwebp has another version than its header");
    config.thread_level = 0;
    picture.width = p->width;
    picture.height = p->height;
    picture.writer = on_write;
    picture.custom_ptr = out;
    int stride = p->width * p->channels;
    int is_good = p->channels == 4 ? WebPPictureImportRGBA(&picture, p->data, stride)
                                   : WebPPictureImportRGB(&picture, p->data, stride);
    is_good = is_good && WebPEncode(&config, &picture);
    int code = picture.error_code;
    WebPPictureFree(&picture);
    if (is_good)
        return RV_OK;
    if (out->failed || code == VP8_ENC_OK || code == VP8_ENC_ERROR_OUT_OF_MEMORY ||
        code == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY)
        return rv__fail(err, RV_MEMORY, "out of memory");
    return rv__fail(err, RV_INTERNAL, "the picture cannot be written as WebP (libwebp error %d)",
                    code);
}

const rv__codec rv__codec_webp = {recognise, header, decode, encode};
