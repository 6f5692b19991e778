#!/bin/sh
# quantised.sh REVERIE PRECISION MODEL: pictures of the model that ships, in smaller weights and in eight-bit products,
# against those of the same model in float32 (PSNR over four prompts).
set -eu
reverie=$1 precision=$2 model=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$reverie" quantize "$model" "$folder/f32.gguf" f32 >/dev/null
failed=0
# check WHAT LEAST MODEL [fast]
check() {
    what=$1 least=$2
    shift 2
    psnr=$("$precision" "$folder/f32.gguf" "$@" | sed -n 's/^psnr //p')
    echo "$what: ${psnr:-nothing} dB, at least $least"
    awk "BEGIN {exit !(\"$psnr\" == \"inf\" || (\"$psnr\" != \"\" && $psnr + 0 >= $least))}" || failed=1
}
for pair in q8_0:40 q4_K:28 q4_0:20; do
    "$reverie" quantize "$model" "$folder/other.gguf" "${pair%:*}" >/dev/null
    check "${pair%:*}" "${pair#*:}" "$folder/other.gguf"
done
check "fast, float32 weights" 40 "$folder/f32.gguf" fast
check "fast, weights as shipped" 40 "$model" fast
exit $failed
