#!/bin/sh
# Runs a training script as N data-parallel processes of one thread each: parallel.sh N SCRIPT ARGUMENT ...
# The allocator is told to keep big blocks: mapping and unmapping them costs a third of the time.
set -eu
n=$1
shift
export WORLD_SIZE="$n" MASTER_ADDR=127.0.0.1 MASTER_PORT=$((10000 + $$ % 20000)) USE_LIBUV=0
export OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TOP_PAD_=268435456
export MALLOC_TRIM_THRESHOLD_=8000000000
rank=1
while [ $rank -lt "$n" ]; do
    RANK=$rank python3 "$@" &
    rank=$((rank + 1))
done
RANK=0 python3 "$@"
wait
