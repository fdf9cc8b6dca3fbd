#!/usr/bin/env bash
# The tests of parity, of late interaction and of language models on the oldest transformers that settings.ini allows, the last 4.x, and the first 5.x that
# tokenises XLM-R as 4.x and today's do (5.0 to 5.2 do not, and are excluded).
#   tests/oldest_transformers.sh [VERSION ...]      VENV=folder keeps the virtual environment
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
[ $# -gt 0 ] || set -- 4.56.0 4.57.6 5.3.0

if [ -z "${VENV:-}" ]; then
  VENV=$(mktemp -d "${TMPDIR:-/tmp}/rerankers-oldest.XXXXXX")
  trap 'rm -rf "$VENV"' EXIT
fi
python3 -m venv "$VENV"
export PATH="$VENV/bin:$PATH"
pip install -qq torch==2.13.0  # first: left to a dependency it becomes the build with CUDA

status=0
for version in "$@"; do
  pip install -qq "transformers==$version" -e '.[transformers,onnx]' pytest hypothesis  # brings the tokenizers and hub client of its time
  echo "== $(pip list 2>/dev/null | grep -E '^(transformers|tokenizers|huggingface_hub|torch|numpy) ' | tr -s ' \n' ' ')"
  pytest tests/test_parity.py tests/test_colbert.py tests/test_bge_m3.py tests/test_layerwise.py tests/test_language_models.py tests/test_listwise_t5.py -q -p no:cacheprovider || status=$?
done
exit "$status"
