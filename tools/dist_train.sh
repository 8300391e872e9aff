#!/usr/bin/env bash
# Train on several GPUs of this machine:
#     tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# On several machines run it on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -eu
CONFIG=${1:?name a config} GPUS=${2:?name the number of GPUs}
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "$@"
