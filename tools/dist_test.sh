#!/usr/bin/env bash
# Test on several GPUs of this machine:
#     tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# On several machines run it on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -eu
CONFIG=${1:?name a config} CHECKPOINT=${2:?name a checkpoint} GPUS=${3:?name the number of GPUs}
shift 3
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$(dirname "$0")/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "$@"
