#!/usr/bin/env bash
# What a graphics card gains by batches without padding: random weights of published shapes, one table, under five minutes.
# Without a card: bash tests/benchmarks/gpu.sh --device cpu --tiny
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHONPATH="$PWD" PYTHONUNBUFFERED=1 python3 tests/benchmarks/gpu.py "$@"
