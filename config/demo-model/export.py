"""Writes a checkpoint as a folder in the layout of diffusers and transformers.

usage: export.py CHECKPOINT.pt VAE.pt FOLDER [F32|F16] [SHIFT]

Undoes the training layout (fused matrices, half-split rope) and gives every token of the four
tokenizers the embedding of its class.  The result is an ordinary HiDream-I1 folder.
"""
import json
import os
import sys

import torch

import vae as V
from vocabulary import Vocabulary, dump

DTYPES = {'F32': torch.float32, 'F16': torch.float16}


def save(folder, part, name, tensors, dtype):
    header, blob = {}, b''
    for k in sorted(tensors):
        a = tensors[k].detach().to(DTYPES[dtype]).contiguous().numpy()
        header[k] = dict(dtype=dtype, shape=list(a.shape),
                         data_offsets=[len(blob), len(blob) + a.nbytes])
        blob += a.tobytes()
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    os.makedirs(f'{folder}/{part}', exist_ok=True)
    with open(f'{folder}/{part}/{name}.safetensors', 'wb') as f:
        f.write(len(text).to_bytes(8, 'little') + text + blob)
    count = sum(t.numel() for t in tensors.values())
    print(f'{part}: {len(tensors)} tensors, {count} parameters, {len(blob)} bytes')


def interleave(c):
    """Row order that turns rotated halves into rotated neighbours, head by head."""
    half = c['head'] // 2
    one = torch.stack([torch.arange(half), torch.arange(half) + half], 1).flatten()
    return torch.cat([one + h * c['head'] for h in range(c['dim'] // c['head'])])


def transformer(d, c):
    out, order = {}, interleave(c)

    def linear(to, source):
        for k in ('weight', 'bias'):
            if f'{source}.{k}' in d:
                out[f'{to}.{k}'] = d[f'{source}.{k}']

    def feed_forward(to, source):
        out[to + '.w1.weight'], out[to + '.w3.weight'] = d[source + '.w13.weight'].chunk(2, 0)
        linear(to + '.w2', source + '.w2')

    linear('x_embedder.proj', 'x_embedder')
    for to, source in (('t_embedder.timestep_embedder', 't_embedder'),
                       ('p_embedder.pooled_embedder', 'p_embedder')):
        for k in ('linear_1', 'linear_2'):
            linear(f'{to}.{k}', f'{source}.{k}')
    blocks = c['double'] + c['single']
    for i in range(blocks + 1):
        linear(f'caption_projection.{i}.linear', f'cap.{i}')
    linear('final_layer.linear', 'final')
    linear('final_layer.adaLN_modulation.1', 'fada')
    for i in range(blocks):
        source, double = f'blocks.{i}', i < c['double']
        to = f'double_stream_blocks.{i}.block' if double else \
            f'single_stream_blocks.{i - c["double"]}.block'
        linear(to + '.adaLN_modulation.1', source + '.ada')
        for s in ('', '_t') if double else ('',):
            for k in ('weight', 'bias'):
                q, key, v = d[f'{source}.attn.qkv{s}.{k}'].chunk(3, 0)
                out[f'{to}.attn1.to_q{s}.{k}'] = q[order]
                out[f'{to}.attn1.to_k{s}.{k}'] = key[order]
                out[f'{to}.attn1.to_v{s}.{k}'] = v
            linear(f'{to}.attn1.to_out{s}', f'{source}.attn.out{s}')
            for n in ('q', 'k'):
                norm = d[f'{source}.attn.{n}n{s}.weight']
                out[f'{to}.attn1.{n}_rms_norm{s}.weight'] = norm[order]
        feed_forward(to + '.ff_i.shared_experts', source + '.ff_i.shared_experts')
        out[to + '.ff_i.gate.weight'] = d[source + '.ff_i.gate']
        for e in range(c['experts']):
            feed_forward(f'{to}.ff_i.experts.{e}', f'{source}.ff_i.experts.{e}')
        if double:
            feed_forward(to + '.ff_t', source + '.ff_t')
    return out


def rows(embedding, classes):
    return embedding[torch.tensor(classes)]


def clip(x, c, k, tokens):
    p, out = 'text_model.', {}
    out[p + 'embeddings.token_embedding.weight'] = rows(x[f'ec.{k}.weight'], tokens.classes)
    out[p + 'embeddings.position_embedding.weight'] = x[f'pc.{k}']
    for i in range(c['clip_layers']):
        s, t = f'bc.{k}.{i}.', f'{p}encoder.layers.{i}.'
        for w in ('weight', 'bias'):
            for a, b in (('n1', 'layer_norm1'), ('n2', 'layer_norm2'), ('f1', 'mlp.fc1'),
                         ('f2', 'mlp.fc2'), ('o', 'self_attn.out_proj')):
                out[f'{t}{b}.{w}'] = x[f'{s}{a}.{w}']
            for n, v in zip('qkv', x[f'{s}qkv.{w}'].chunk(3, 0)):
                out[f'{t}self_attn.{n}_proj.{w}'] = v
    for w in ('weight', 'bias'):
        out[f'{p}final_layer_norm.{w}'] = x[f'nc.{k}.{w}']
    out['text_projection.weight'] = x[f'prj.{k}.weight']
    return out


def t5(x, c, tokens):
    out = {'shared.weight': rows(x['et.weight'], tokens.classes),
           'encoder.final_layer_norm.weight': x['nt.weight']}
    for i in range(c['t5_layers']):
        s, t = f'bt.{i}.', f'encoder.block.{i}.layer.'
        for n, v in zip('qkv', x[s + 'qkv.weight'].chunk(3, 0)):
            out[f'{t}0.SelfAttention.{n}.weight'] = v
        out[t + '0.SelfAttention.o.weight'] = x[s + 'o.weight']
        out[t + '0.layer_norm.weight'] = x[s + 'n1.weight']
        out[t + '1.layer_norm.weight'] = x[s + 'n2.weight']
        wi = x[s + 'f1.weight'].chunk(2, 0)
        out[t + '1.DenseReluDense.wi_0.weight'], out[t + '1.DenseReluDense.wi_1.weight'] = wi
        out[t + '1.DenseReluDense.wo.weight'] = x[s + 'f2.weight']
    # 4 x length buckets: every distance below the length has one of its own, behind and ahead
    n = c['length']
    bias = torch.zeros(4 * n, x['rel'].shape[0])
    for r in range(1 - n, n):
        bias[abs(r) + (2 * n if r > 0 else 0)] = x['rel'][:, r + n - 1]
    out['encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight'] = bias
    return out


def llama(x, c, tokens):
    out = {'model.embed_tokens.weight': rows(x['el.weight'], tokens.classes),
           'model.norm.weight': x['nl.weight']}
    for i in range(c['llama_layers']):
        s, t = f'bl.{i}.', f'model.layers.{i}.'
        for n, v in zip('qkv', x[s + 'qkv.weight'].chunk(3, 0)):
            out[f'{t}self_attn.{n}_proj.weight'] = v
        out[t + 'self_attn.o_proj.weight'] = x[s + 'o.weight']
        out[t + 'input_layernorm.weight'] = x[s + 'n1.weight']
        out[t + 'post_attention_layernorm.weight'] = x[s + 'n2.weight']
        up = x[s + 'f1.weight'].chunk(2, 0)
        out[t + 'mlp.gate_proj.weight'], out[t + 'mlp.up_proj.weight'] = up
        out[t + 'mlp.down_proj.weight'] = x[s + 'f2.weight']
    return out


def configs(folder, c, words, shift_factor, scaling_factor, shift):
    n = c['length']
    for k, part in enumerate(('text_encoder', 'text_encoder_2')):
        v = len(words.clip.tokens)
        dump(f'{folder}/{part}/config.json', dict(
            architectures=['CLIPTextModelWithProjection'], model_type='clip_text_model',
            vocab_size=v, max_position_embeddings=n, layer_norm_eps=1e-5, hidden_act='quick_gelu',
            hidden_size=c['clip'], intermediate_size=2 * c['clip'], projection_dim=c['clip'],
            num_hidden_layers=c['clip_layers'], num_attention_heads=c['clip'] // 32,
            bos_token_id=v - 2, eos_token_id=v - 1, pad_token_id=v - 1 if k == 0 else 0,
            attention_dropout=0.0, dropout=0.0, torch_dtype='float32'))
    dump(f'{folder}/text_encoder_3/config.json', dict(
        architectures=['T5EncoderModel'], model_type='t5', vocab_size=len(words.t5.pieces),
        d_model=c['t5'], d_kv=32, num_heads=c['t5'] // 32, d_ff=2 * c['t5'],
        num_layers=c['t5_layers'], num_decoder_layers=c['t5_layers'], dropout_rate=0.0,
        feed_forward_proj='gated-gelu', is_gated_act=True, dense_act_fn='gelu_new',
        relative_attention_num_buckets=4 * n, relative_attention_max_distance=8 * n,
        layer_norm_epsilon=1e-5, is_encoder_decoder=True, use_cache=True, pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0, tie_word_embeddings=False,
        torch_dtype='float32'))
    v = len(words.llama.tokens)
    dump(f'{folder}/text_encoder_4/config.json', dict(
        architectures=['LlamaForCausalLM'], model_type='llama', vocab_size=v,
        hidden_size=c['llama'], intermediate_size=2 * c['llama'], head_dim=32,
        num_hidden_layers=c['llama_layers'], num_attention_heads=c['llama'] // 32,
        num_key_value_heads=c['llama'] // 32, max_position_embeddings=n, rms_norm_eps=1e-5,
        hidden_act='silu', rope_theta=10000.0, rope_scaling=None, bos_token_id=v - 2,
        eos_token_id=v - 1, tie_word_embeddings=True, attention_bias=False, mlp_bias=False,
        attention_dropout=0.0, torch_dtype='float32'))
    # a limit of 64 tokens (128 x 128 pixels): the reference pads other shapes only below it
    dump(f'{folder}/transformer/config.json', dict(
        _class_name='HiDreamImageTransformer2DModel', patch_size=2, in_channels=c['latent'],
        out_channels=c['latent'], num_layers=c['double'], num_single_layers=c['single'],
        attention_head_dim=c['head'], num_attention_heads=c['dim'] // c['head'],
        caption_channels=[c['t5'], c['llama']], text_emb_dim=2 * c['clip'],
        num_routed_experts=c['experts'], num_activated_experts=c['active'],
        axes_dims_rope=list(c['axes']), max_resolution=[16, 16],
        llama_layers=list(c['llama_map']), force_inference_output=False))
    levels = len(V.CHANNELS)
    dump(f'{folder}/vae/config.json', dict(
        _class_name='AutoencoderKL', act_fn='silu', block_out_channels=list(V.CHANNELS),
        down_block_types=['DownEncoderBlock2D'] * levels,
        up_block_types=['UpDecoderBlock2D'] * levels, in_channels=3, out_channels=3,
        latent_channels=V.LATENT, layers_per_block=V.LAYERS, norm_num_groups=V.GROUPS,
        mid_block_add_attention=True, use_quant_conv=False, use_post_quant_conv=False,
        force_upcast=True, sample_size=256, scaling_factor=scaling_factor,
        shift_factor=shift_factor))
    os.makedirs(f'{folder}/scheduler', exist_ok=True)
    dump(f'{folder}/scheduler/scheduler_config.json', dict(
        _class_name='FlowMatchEulerDiscreteScheduler', num_train_timesteps=1000, shift=shift,
        use_dynamic_shifting=False, base_shift=.5, max_shift=1.15, base_image_seq_len=256,
        max_image_seq_len=4096, shift_terminal=None, invert_sigmas=False, use_karras_sigmas=False,
        use_exponential_sigmas=False, use_beta_sigmas=False))
    index = {'scheduler': ['diffusers', 'FlowMatchEulerDiscreteScheduler'],
             'transformer': ['diffusers', 'HiDreamImageTransformer2DModel'],
             'vae': ['diffusers', 'AutoencoderKL'],
             'text_encoder': ['transformers', 'CLIPTextModelWithProjection'],
             'text_encoder_2': ['transformers', 'CLIPTextModelWithProjection'],
             'text_encoder_3': ['transformers', 'T5EncoderModel'],
             'text_encoder_4': ['transformers', 'LlamaForCausalLM'],
             'tokenizer': ['transformers', 'CLIPTokenizer'],
             'tokenizer_2': ['transformers', 'CLIPTokenizer'],
             'tokenizer_3': ['transformers', 'T5Tokenizer'],
             'tokenizer_4': ['transformers', 'PreTrainedTokenizerFast']}
    dump(f'{folder}/model_index.json', {'_class_name': 'HiDreamImagePipeline', **index})


def main(checkpoint, vae, folder, dtype='F32', shift=3.0):
    t = torch.load(checkpoint, weights_only=False)
    c, x, words = t['config'], t['text'], Vocabulary()
    weights = 'diffusion_pytorch_model'
    save(folder, 'transformer', weights, transformer(t['transformer'], c), dtype)
    save(folder, 'text_encoder', 'model', clip(x, c, 0, words.clip), dtype)
    save(folder, 'text_encoder_2', 'model', clip(x, c, 1, words.clip), dtype)
    save(folder, 'text_encoder_3', 'model', t5(x, c, words.t5), dtype)
    save(folder, 'text_encoder_4', 'model', llama(x, c, words.llama), dtype)
    save(folder, 'vae', weights, torch.load(vae, weights_only=True), dtype)
    configs(folder, c, words, t['shift'], t['scale'], float(shift))
    words.clip.save(f'{folder}/tokenizer', '<|endoftext|>')
    words.clip.save(f'{folder}/tokenizer_2', '!')
    words.t5.save(f'{folder}/tokenizer_3')
    words.llama.save(f'{folder}/tokenizer_4')


if __name__ == '__main__':
    main(*sys.argv[1:])
