"Loading from a hub: a small one on this machine's loopback speaks the protocol that huggingface_hub documents"
import json
import os
import subprocess
import sys
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

pytest.importorskip("transformers")
from closeness import near  # noqa: E402
from rerankers import Reranker  # noqa: E402
from rerankers.tiny_models import tiny_checkpoint  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
QUERY, DOCS = "who wrote hamlet ?", ["hamlet was written by william shakespeare", "goethe wrote faust", ""]
REPOSITORIES = {"someone/plain-reranker": ("bert", {}), "someone/chain-reranker": ("chain", {}), "someone/embedding": ("biencoder", {}),
                "someone/graph-reranker": ("bert", {"onnx": True})}


def folder_of(repository):
    kind, options = REPOSITORIES[repository]
    return Path(tiny_checkpoint(kind, **options))


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
        file = folder_of(name) / rest.partition("/")[2] if name in REPOSITORIES else Path("nowhere")
        if not file.is_file(): return self.answer(404, X_Error_Code="EntryNotFound" if name in REPOSITORIES else "RepoNotFound")
        if self.command == "GET": self.asked.append(f"{name}:{file.relative_to(folder_of(name))}")
        body = file.read_bytes()
        self.answer(200, body, ETag=f'"{sha1(body).hexdigest()}"')

    do_HEAD = do_GET

    def facts(self, name, path):
        "A repository's files: all of them, or as the tree of one folder"
        if name not in REPOSITORIES: return self.answer(404, X_Error_Code="RepoNotFound")
        files = {str(p.relative_to(folder_of(name))): p.stat().st_size for p in folder_of(name).rglob("*") if p.is_file()}
        found: object = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": f} for f in files]}
        if "/tree/" in path:
            below = path.partition("/tree/")[2].partition("/")[2]
            found = [{"type": "file", "path": f, "size": size, "oid": sha1(f.encode()).hexdigest()} for f, size in files.items() if f.startswith(below)]
            if not found: return self.answer(404, X_Error_Code="EntryNotFound")
        self.answer(200, json.dumps(found).encode(), Content_Type="application/json")


@pytest.fixture(scope="module")
def hub():
    for repository in REPOSITORIES: folder_of(repository)     # made before anybody asks
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


RANK = """
import json, warnings
warnings.simplefilter("error")
from rerankers import Reranker
ranker = Reranker({name!r}, device="cpu", **{options!r})
print(json.dumps([[r.doc_id, r.score] for r in ranker.rank({query!r}, {docs!r})]))
"""


def ranked_there(name, options, home, endpoint, **more):
    "Scores by id from a fresh process that knows the hub and has an empty cache"
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **more}
    code = RANK.format(name=name, options=options, query=QUERY, docs=DOCS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


CASES = {"someone/plain-reranker": {}, "someone/chain-reranker": {"model_type": "cross-encoder"}, "someone/embedding": {"model_type": "biencoder"},
         "someone/graph-reranker": {"backend": "onnx"}}


@pytest.mark.parametrize("name", CASES)
def test_a_repository_ranks_as_its_folder_does(hub, tmp_path, name):
    "From the hub, then once more from the cache with the hub gone"
    local = Reranker(str(folder_of(name)), device="cpu", **CASES[name]).rank(QUERY, DOCS)
    expected = {r.doc_id: near(r.score) for r in local}
    assert ranked_there(name, CASES[name], tmp_path, hub) == expected
    assert ranked_there(name, CASES[name], tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1") == expected


def test_a_graph_comes_without_the_other_weights(hub, tmp_path):
    "Of a repository that has both, only what onnxruntime needs is fetched"
    Hub.asked.clear()
    ranked_there("someone/graph-reranker", {"backend": "onnx"}, tmp_path, hub)
    fetched = {a.partition(":")[2] for a in Hub.asked}
    assert "onnx/model.onnx" in fetched and "tokenizer.json" in fetched
    assert not any(f.endswith(".safetensors") for f in fetched)
