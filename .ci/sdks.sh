#!/usr/bin/env bash
# Other people's clients against `rerankers serve`, each family in an environment of its own, since their pins fight; none has torch.
# Part of .ci/run, whose environment has the server and uv.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=.venv-ci/sdks

# One line an environment: the file of tests/sdks that runs in it, and what it needs
environments='
vendors          cohere==7.3.1 voyageai==0.5.0 mixedbread==0.54.0
through_litellm  litellm==1.110.2
in_langchain     langchain-cohere==0.6.0 langchain-voyageai==0.4.1
in_llama_index   llama-index-core==0.14.25 llama-index-postprocessor-cohere-rerank==0.10.0 llama-index-postprocessor-jinaai-rerank==0.6.0 llama-index-postprocessor-tei-rerank==0.6.0
in_haystack      haystack-ai==3.4.1 cohere-haystack==11.0.0 jina-haystack==2.0.1
in_pymilvus      pymilvus==3.0.2 pymilvus-model==0.3.4
'
rows() { sed '/^$/d' <<<"$environments"; }

make() {  # make NAME PACKAGES...: where uv is not to be had, or fails, pip does the same
  local python="$folder/$1/bin/python"; shift
  python -m venv --clear --without-pip "${python%/bin/python}" &&
  { uv pip install -q -p "$python" "$@" || pip --python "$python" install -qq "$@"; }
}

clients=(ours="$(command -v python)")   # our own rankers of hosted services are clients too
while read -r name packages; do
  make "$name" $packages </dev/null      # several words
  [ -z "$(find "$folder/$name" -maxdepth 5 -name torch -type d)" ] || { echo "$name has brought torch"; exit 1; }
  clients+=("$name=$folder/$name/bin/python")
done < <(rows)
python tests/sdks/serve_sdks.py "${clients[@]}"
