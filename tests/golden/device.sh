#!/bin/sh
# device.sh REVERIE MODEL GOLDENS: every golden with products made through ggml's Vulkan back end; skipped where there is
# none.  A driver in software will do (mesa-vulkan-drivers, minutes): `make vulkan` brings it.
set -u
export REVERIE_DEVICE=Vulkan
# Named, so that ggml takes a driver in software, too, where there is no GPU.
export GGML_VK_VISIBLE_DEVICES="${GGML_VK_VISIBLE_DEVICES:-0}"
out=$("$1" parity "$2" "$3" vae 2>&1)
case $out in
*'there is no device'*)
    echo "no Vulkan device"
    exit 77 ;;
esac
exec "$1" parity "$2" "$3"
