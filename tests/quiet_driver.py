"Ranks, and writes down which names were looked up, where connections went and which files were written; a program that test_quiet.py starts"
import json
import os
import sys

HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0")
SEEN = {"network": [], "files": []}
QUERY, DOCS = "who wrote hamlet?", ["hamlet was written by william shakespeare", "goethe wrote faust"]


def watch(event, args):
    "An audit hook: Python tells of every look-up, connection and opened file before it happens"
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"): note(event, args[0])
    elif event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple): note(event, args[1][0])
    elif event == "open" and isinstance(args[0], (str, bytes)) and args[2] & (os.O_WRONLY | os.O_RDWR): SEEN["files"].append(os.fsdecode(args[0]))
    elif event in ("os.mkdir", "os.rename", "sqlite3.connect"): SEEN["files"].append(str(args[0]))


def note(event, host):
    host = host.decode() if isinstance(host, bytes) else host
    if host is not None and host not in HERE: SEEN["network"].append(f"{event} {host}")


def local(sources):
    "Every kind of ranker that runs here"
    import every_kind
    for name, source in sources.items(): assert len(every_kind.load(name, source).rank(QUERY, DOCS)) == len(DOCS)


def here(groups, kinds):
    "Groups of kinds, of which each is told apart, then folders of every sort"
    found = {}
    for name, sources in groups.items():
        SEEN.update(network=[], files=[])
        local(sources)
        found[name] = {**SEEN, "changed": changed()}
    SEEN["groups"] = found
    if kinds: loading(kinds)


def loading(kinds):
    "Tiny folders of every sort, made here and loaded as each kind, right or wrong"
    import io
    import logging
    import shutil
    import tempfile
    from pathlib import Path
    from rerankers import Reranker, RerankersError
    from rerankers.tiny_models import tiny_checkpoint, tiny_language_model, tiny_late
    kept = io.StringIO()
    log = logging.getLogger("rerankers")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(kept))
    log.propagate = False
    folders = [tiny_checkpoint(), tiny_checkpoint(headless=True), tiny_checkpoint("chain"), tiny_checkpoint("biencoder"), tiny_language_model("t5"),
               tiny_language_model(), *map(tiny_late, ("stanford", "pylate", "multi-vector"))]
    SEEN.update(loaded=0, refused=0)
    for kind, folder in ((kind, folder) for kind in kinds for folder in folders):
        try: Reranker(folder, model_type=kind).rank(QUERY, DOCS)
        except RerankersError: SEEN["refused"] += 1
        else: SEEN["loaded"] += 1
    SEEN["log"] = kept.getvalue()
    for made in Path(tempfile.gettempdir()).glob("*"): shutil.rmtree(made)


def hosted(url):
    "A hosted ranker, and a chat client over HTTP"
    from rerankers import Reranker
    assert len(Reranker("any", model_type="cohere", api_key="k", base_url=f"{url}/rerank").rank(QUERY, DOCS)) == len(DOCS)
    assert len(Reranker("any", model_type="rankgpt", api_key="k", base_url=url).rank(QUERY, DOCS)) == len(DOCS)


def litellm(url):
    "Providers of which litellm wants to know more than the package holds: prices, headers, tokenizers"
    from rerankers import Reranker, RerankersError
    options = {"headers": {"anthropic-beta": "context-1m-2025-08-07"}, "timeout": 60, "retries": 0, "on_error": "keep"}
    for model in ("hosted_vllm/any", "anthropic/claude-sonnet-4-5", "together_ai/meta-llama/Llama-3-8b-chat-hf", "groq/llama-3.1-8b-instant", "openai/gpt-4o"):
        try: Reranker(model, model_type="rankgpt", client="litellm", api_key="k", base_url=url, **options).rank(QUERY, DOCS)
        except RerankersError as error: print(model, error, file=sys.stderr)      # what it answers is not the matter here


def hub(address):
    "A model that is asked of a hub, which has none"
    from rerankers import ModelLoadError, Reranker
    wanted = {"some/graph": {"backend": "onnx"}, "some/model": {"backend": "torch"}, "ms-marco-TinyBERT-L-2-v2": {"model_type": "flashrank"}}
    for model, options in wanted.items():
        try: Reranker(model, **options)
        except ModelLoadError: continue
        raise AssertionError(f"{model} was found")


def changed(): return sorted(name for name in {*BEFORE, *os.environ} if BEFORE.get(name) != os.environ.get(name))


if __name__ == "__main__":
    sys.addaudithook(watch)
    BEFORE = dict(os.environ)
    globals()[sys.argv[1]](*json.loads(sys.argv[2]))
    print(json.dumps({**SEEN, "changed": changed()}))
