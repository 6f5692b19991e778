#!/bin/sh
# Trains the model that ships, from nothing to a diffusers folder: config/demo-model/train.sh [FOLDER]
#
# Everything is made here: the pictures are drawn by scenes.py, the sentences by captions.py.  Seeds are fixed;
# the phases are limited by time, so two runs on different machines agree in kind, not to the last bit.
#
#   PROCESSES=3   processes of one thread each that train together (CPU); a CUDA device is used when there is one
#   MINUTES=220   for the transformer; the autoencoder takes a fifth of that, twice
#   SHARE=100     per cent of the pictures to draw
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
work=${1:-${TMPDIR:-/tmp}/reverie-demo-model}
processes=${PROCESSES:-3} minutes=${MINUTES:-220} share=${SHARE:-100}
mkdir -p "$work/data"
work=$(CDPATH='' cd -- "$work" && pwd -P)
cd "$here"
if python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    together() { python3 "$@"; }
    echo "One CUDA device."
else
    together() { ./parallel.sh "$processes" "$@"; }
    echo "$processes processes on the CPU."
fi
vae_minutes=$((minutes / 5 + 1))
echo "About $((minutes + 2 * vae_minutes + 40)) minutes in all; results go to $work."
data=$work/data

say() { echo "[$(date +%H:%M)] $*"; }
while read -r count width height; do
    [ -e "$data/${width}x$height.pkl" ] ||
        python3 draw.py "$data" $((count * share / 100)) "$width" "$height" 1 "$processes"
done <<SIZES
9000 128 128
3000 192 128
3000 128 192
7000 256 256
2000 320 192
2000 192 320
1500 256 192
1500 192 256
1500 384 256
1500 256 384
700 384 384
500 512 512
500 512 320
500 320 512
SIZES

say "autoencoder, $vae_minutes minutes"
together train_vae.py full "$data" "$work/vae-full.pt" "$vae_minutes"
say "latents"
export OMP_NUM_THREADS=1
for name in $(cd "$data" && ls ./*.pkl | sed 's,^./,,; s,.pkl$,,'); do
    echo "$name"
done | xargs -P "$processes" -n 1 python3 encode.py "$work/vae-full.pt" "$data"
say "decoder, $vae_minutes minutes"
together train_vae.py decoder "$data" "$work/vae.pt" "$vae_minutes" "$work/vae-full.pt"
say "transformer and text encoders, $minutes minutes"
together train.py --data "$data" --vae "$work/vae.pt" --out "$work/model" --minutes "$minutes"
say "export"
python3 export.py "$work/model.pt" "$work/vae.pt" "$work/export"
python3 check_export.py "$work/model.pt" "$work/vae.pt" "$work/export"
say "figures"
python3 evaluate.py reader "$data" "$work/reader.pt"
python3 evaluate.py truth "$work/reader.pt" "$work/vae.pt"
python3 evaluate.py "$work/model.pt" "$work/reader.pt" "$work/vae.pt" --grid "$work/pictures.png"
say "done: $work/export, packed by: reverie quantize $work/export reverie-demo.gguf q8_0"
