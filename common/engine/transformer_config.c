/* transformer/config.json.  Every number is checked before anything is built from it. */
#include <string.h>

#include "transformer.h"

static bool read_int(const rv__value *json, const char *name, int64_t least, int64_t most,
                     int64_t *out, rv_error *err)
{
    const rv__value *v = rv__json_get(json, name);
    int64_t n;

    if (rv__json_int(v, &n) && n >= least && n <= most) {
        *out = n;
        return true;
    }
    rv__fail(err, RV_FORMAT, "transformer/config.json: %s must be an integer from %lld to %lld",
             name, (long long)least, (long long)most);
    return false;
}

static bool read_list(const rv__value *json, const char *name, int64_t least, int64_t most,
                      int64_t *out, size_t count, rv_error *err)
{
    const rv__value *list = rv__json_get(json, name), *v = rv__json_first(list);
    size_t n = rv__json_is_array(list) ? rv__json_size(list) : 0;

    for (size_t i = 0; n == count && i < count; i++, v = rv__json_next(v))
        if (!rv__json_int(v, &out[i]) || out[i] < least || out[i] > most)
            n = 0;
    if (n == count)
        return true;
    rv__fail(err, RV_FORMAT, "transformer/config.json: %s must be %zu integers from %lld to %lld",
             name, count, (long long)least, (long long)most);
    return false;
}

static bool read_llama_layers(const rv__value *json, rv__transformer_config *c, rv_error *err)
{
    int64_t layers[RV__MAX_BLOCKS];
    size_t count = (size_t)(c->double_blocks + c->single_blocks);

    if (!read_list(json, "llama_layers", 0, 1023, layers, count, err))
        return false;
    c->llama_count = 0;
    for (size_t i = 0; i < count; i++) {
        c->llama_layers[i] = (int32_t)layers[i];
        c->llama_count = layers[i] + 1 > c->llama_count ? layers[i] + 1 : c->llama_count;
    }
    return true;
}

static bool read_sizes(const rv__value *json, rv__transformer_config *c, rv_error *err)
{
    int64_t captions[2], side[2];

    if (!read_int(json, "patch_size", 1, 16, &c->patch, err) ||
        !read_int(json, "in_channels", 1, 1024, &c->channels, err) ||
        !read_int(json, "num_attention_heads", 1, 512, &c->heads, err) ||
        !read_int(json, "attention_head_dim", 2, 1024, &c->head, err) ||
        !read_int(json, "text_emb_dim", 1, 1 << 16, &c->pooled_channels, err) ||
        !read_list(json, "caption_channels", 1, 1 << 16, captions, 2, err) ||
        !read_list(json, "max_resolution", 1, 1 << 12, side, 2, err))
        return false;
    c->t5_channels = captions[0];
    c->llama_channels = captions[1];
    c->max_tokens = side[0] * side[1] / (c->patch * c->patch);
    c->width = c->heads * c->head;
    return true;
}

static bool read_axes(const rv__value *json, rv__transformer_config *c, rv_error *err)
{
    if (!read_list(json, "axes_dims_rope", 2, 1024, c->axes, 3, err))
        return false;
    if (c->axes[0] + c->axes[1] + c->axes[2] == c->head &&
        (c->axes[0] | c->axes[1] | c->axes[2]) % 2 == 0)
        return true;
    rv__fail(
        err, RV_FORMAT,
        "transformer/config.json: axes_dims_rope must be even and add up to attention_head_dim");
    return false;
}

static bool read_blocks(const rv__value *json, rv__transformer_config *c, rv_error *err)
{
    if (!read_int(json, "num_layers", 0, RV__MAX_BLOCKS / 2, &c->double_blocks, err) ||
        !read_int(json, "num_single_layers", 0, RV__MAX_BLOCKS / 2, &c->single_blocks, err))
        return false;
    if (c->double_blocks + c->single_blocks < 1) {
        rv__fail(err, RV_FORMAT, "transformer/config.json: there is no block");
        return false;
    }
    return read_int(json, "num_routed_experts", 1, RV__MAX_EXPERTS, &c->experts, err) &&
           read_int(json, "num_activated_experts", 1, c->experts, &c->chosen, err) &&
           read_llama_layers(json, c, err);
}

static bool read_out_channels(const rv__value *json, const rv__transformer_config *c, rv_error *err)
{
    const rv__value *v = rv__json_get(json, "out_channels");
    int64_t n = c->channels;

    if (!v || rv__json_is_null(v) || (rv__json_int(v, &n) && n == c->channels))
        return true;
    rv__fail(err, RV_UNSUPPORTED, "transformer/config.json: out_channels must equal in_channels");
    return false;
}

rv_status rv__transformer_parse(const rv__value *json, rv__transformer_config *out, rv_error *err)
{
    rv_error own;

    memset(out, 0, sizeof *out);
    if (!err)
        err = &own;
    if (!read_sizes(json, out, err) || !read_axes(json, out, err) || !read_blocks(json, out, err) ||
        !read_out_channels(json, out, err))
        return err->status;
    return RV_OK;
}
