#!/bin/sh
# gguf.sh REVERIE MODEL GOLDENS: the model written as one bfloat16 file passes what the folder passes; a 4-bit file can
# be read, is smaller, and does not pass by accident.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$1" quantize "$2" "$dir/bf16.gguf" bf16
"$1" inspect "$dir/bf16.gguf" | grep -q 'variant: Full'
"$1" parity "$dir/bf16.gguf" "$3" tokenizers text_encoders transformer vae
"$1" quantize "$dir/bf16.gguf" "$dir/q4_0.gguf" q4_0
[ "$(stat -c %s "$dir/q4_0.gguf")" -lt "$(stat -c %s "$dir/bf16.gguf")" ]
if "$1" parity "$dir/q4_0.gguf" "$3" transformer >"$dir/log"; then
    echo "a 4-bit model passes the limits of float32: what is compared?"
    exit 1
fi
grep -q '^PASS  transformer/square.tap.patches ' "$dir/log"
