"Loading from a hub: a small one on this machine's loopback speaks the protocol that huggingface_hub documents"
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

pytest.importorskip("transformers")
import test_bge_m3  # noqa: E402
import test_layerwise  # noqa: E402
from closeness import near  # noqa: E402
from rerankers import Reranker  # noqa: E402
from rerankers.engine.hub import first_line  # noqa: E402
from rerankers.tiny_models import tiny_checkpoint  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
QUERY, DOCS = "who wrote hamlet ?", ["hamlet was written by william shakespeare", "goethe wrote faust", ""]
CHECKPOINTS = {"someone/plain-reranker": (lambda: tiny_checkpoint("bert"), {}),
               "someone/chain-reranker": (lambda: tiny_checkpoint("chain"), {"model_type": "cross-encoder"}),
               "someone/embedding": (lambda: tiny_checkpoint("biencoder"), {"model_type": "biencoder"}),
               "someone/graph-reranker": (lambda: tiny_checkpoint("bert", onnx=True), {"backend": "onnx"}),
               "someone/tiny-bge-m3": (lambda: test_bge_m3.write_model(fresh()), {"dtype": "float32"}),   # recognised by its name, in the cache by its files
               "someone/tiny-layerwise": (lambda: sharded(fresh()), {"cutoff_layers": 4, "dtype": "float32"})}


def fresh(): return Path(tempfile.mkdtemp(prefix="repository-"))


def sharded(folder):
    "A model whose upper layers, which do not run, are in a file of their own"
    test_layerwise.write(folder, "gemma")
    test_layerwise.shard(folder, test_layerwise.CONFIGS["gemma"], first=4)
    return folder


@cache
def folder_of(repository): return Path(CHECKPOINTS[repository][0]())


class Hub(BaseHTTPRequestHandler):
    "Repository facts under /api/models, files under /NAME/resolve/REVISION; notes each file that was asked for"
    asked: list[str] = []

    def log_message(self, *args): pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "X-Repo-Commit": COMMIT, **headers}.items(): self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET": self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        if path.startswith("api/models/"): return self.facts("/".join(path.split("/")[2:4]), path)
        name, _, rest = path.partition("/resolve/")
        file = folder_of(name) / rest.partition("/")[2] if name in CHECKPOINTS else Path("nowhere")
        if not file.is_file(): return self.answer(404, X_Error_Code="EntryNotFound" if name in CHECKPOINTS else "RepoNotFound")
        if self.command == "GET": self.asked.append(f"{name}:{file.relative_to(folder_of(name))}")
        body = file.read_bytes()
        self.answer(200, body, ETag=f'"{sha1(body).hexdigest()}"')

    do_HEAD = do_GET

    def facts(self, name, path):
        "A repository's files: all of them, or as the tree of one folder"
        if name not in CHECKPOINTS: return self.answer(404, X_Error_Code="RepoNotFound")
        files = {str(p.relative_to(folder_of(name))): p.stat().st_size for p in folder_of(name).rglob("*") if p.is_file()}
        found: object = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": f} for f in files]}
        if "/tree/" in path:
            below = path.partition("/tree/")[2].partition("/")[2]
            found = [{"type": "file", "path": f, "size": size, "oid": sha1(f.encode()).hexdigest()} for f, size in files.items() if f.startswith(below)]
            if not found: return self.answer(404, X_Error_Code="EntryNotFound")
        self.answer(200, json.dumps(found).encode(), Content_Type="application/json")


@pytest.fixture(scope="module")
def hub():
    for repository in CHECKPOINTS: folder_of(repository)     # made before anybody asks
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


RANK = """
import json, os, sys, warnings
warnings.simplefilter("error")
import numpy, torch, onnxruntime, safetensors.torch, tokenizers     # what asks no hub: the places are read when huggingface_hub is imported

def ranked(name, query, docs, options):
    try: return [[r.doc_id, r.score] for r in Reranker(name, **options).rank(query, docs)]
    except Exception as error: return f"{type(error).__name__}: {error}"

for environment, wanted in json.loads(sys.argv[1]):
    if hasattr(os, "fork") and os.fork():     # a child a place, one after the other
        if os.wait()[1]: sys.exit("a place failed")
        continue
    os.environ.update(environment)
    from rerankers import Reranker
    print(json.dumps({name: ranked(name, *more) for name, *more in wanted}), flush=True)
    break
"""
NOWHERE = "http://127.0.0.1:9"      # where nothing listens


def ranked_there(places):
    "Scores by id for each repository, from processes that know the place, or what was raised"
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | {"PYTHONPATH": str(ROOT)}
    found = []
    for part in [places] if hasattr(os, "fork") else [[place] for place in places]:
        done = subprocess.run([sys.executable, "-c", RANK, json.dumps(part)], capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        found += map(json.loads, done.stdout.splitlines())
    return found


@pytest.fixture(scope="module")
def there(hub, tmp_path_factory):
    "What comes from the hub into an empty cache, then from the cache with the hub gone; and into another where no hub can be reached"
    home, other = map(str, (tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("home")))
    whole = [[name, QUERY, DOCS, {"device": "cpu", **options}] for name, (_, options) in CHECKPOINTS.items()]
    lost = {backend: [["someone/a-reranker", QUERY, DOCS, {"backend": backend}]] for backend in ("torch", "onnx")}
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    places = [[{"HF_ENDPOINT": hub, "HF_HOME": home, **quiet}, whole], [{"HF_ENDPOINT": NOWHERE, "HF_HOME": home, "HF_HUB_OFFLINE": "1", **quiet}, whole],
              *([{"HF_ENDPOINT": NOWHERE, "HF_HOME": other}, wanted] for wanted in lost.values())]
    return dict(zip(("hub", "cache", *lost), ranked_there(places), strict=True))


@pytest.mark.parametrize("place", ["hub", "cache"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_repository_ranks_as_its_folder_does(there, name, place):
    local = Reranker(folder_of(name), device="cpu", **CHECKPOINTS[name][1]).rank(QUERY, DOCS)
    assert there[place][name] == [[r.doc_id, near(r.score)] for r in local]


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_hub_that_cannot_be_reached_is_an_error_of_ours(there, backend):
    "huggingface_hub retries for a while and then raises what its HTTP library raises"
    assert there[backend]["someone/a-reranker"].startswith("ModelLoadError: 'someone/a-reranker' is no folder here")


def test_the_revision_that_was_asked_for_is_loaded(tmp_path):
    "Two states of one repository in the cache"
    home = tmp_path / "models--someone--plain-reranker"
    states = {"main": ("a" * 40, tiny_checkpoint("bert")), "v2": ("b" * 40, tiny_checkpoint("bert", labels=2))}
    (home / "refs").mkdir(parents=True)
    for name, (commit, folder) in states.items():
        shutil.copytree(folder, home / "snapshots" / commit)
        (home / "refs" / name).write_text(commit)

    def ranked(name, **options):
        ranker = Reranker(str(name), model_type="cross-encoder", device="cpu", **options)
        return [(r.doc_id, r.score) for r in ranker.rank(QUERY, DOCS)]
    alone = {name: ranked(folder) for name, (_, folder) in states.items()}
    for options, name in (({}, "main"), ({"revision": "main"}, "main"), ({"revision": "v2"}, "v2"), ({"revision": "b" * 40}, "v2")):
        assert ranked("someone/plain-reranker", cache_dir=str(tmp_path), **options) == alone[name]
    assert alone["main"] != alone["v2"]


@pytest.mark.parametrize(("said", "line"), [("the reason\nwhere\nwhat else", "the reason."), ("\n  the reason.\n\nmore", "the reason."), ("", "OSError."),
                                            ("x" * 900, "x" * 300 + ".")])
def test_of_a_long_message_the_first_line_is_said(said, line): assert first_line(OSError(said)) == line


def fetched(name): return {asked.partition(":")[2] for asked in Hub.asked if asked.startswith(f"{name}:")}


def test_a_graph_comes_without_the_other_weights(there):
    "Of a repository that has both, only what onnxruntime needs is fetched"
    files = fetched("someone/graph-reranker")
    assert "onnx/model.onnx" in files and "tokenizer.json" in files
    assert not any(f.endswith(".safetensors") for f in files)


def test_layers_that_do_not_run_stay_there(there):
    files = fetched("someone/tiny-layerwise")
    assert "model-00001-of-00002.safetensors" in files and "model-00002-of-00002.safetensors" not in files
