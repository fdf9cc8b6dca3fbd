"""Start `rerankers serve offline` and run the clients of tests/sdks against it, each with the Python that is named for it:

    python tests/sdks/serve_sdks.py vendors=.venv-sdks/vendors/bin/python …"""
import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUERY = "who wrote Hamlet?"
TEXTS = ["The next train to London leaves at nine.", "Hamlet is a play about a prince of Denmark.", "Flour, water and salt make bread.",
         "Hamlet was written by William Shakespeare around 1600.", "Goethe wrote Faust.", "A patch and some glue mend a tyre."]


def write_expected(path):
    "What `rank` gives in process"
    from rerankers import Reranker
    best = [(r.doc_id, r.score) for r in Reranker("offline").rank(QUERY, TEXTS, doc_ids=range(len(TEXTS)))]
    path.write_text(json.dumps({"model": "offline", "query": QUERY, "texts": TEXTS, "best": best[:3]}), encoding="utf-8")


@contextmanager
def serving():
    "The address of a server in a process of its own"
    command = [sys.executable, "-m", "rerankers.cli", "serve", "offline", "--port", "0", "--no-access-log"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        lines = iter(process.stdout.readline, "")
        yield next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
    finally:
        process.terminate()
        process.communicate(timeout=60)


def main(pythons):
    "Run each file; what the process ends with"
    with tempfile.TemporaryDirectory() as folder, serving() as url:
        write_expected(Path(folder) / "expected.json")
        env = {**os.environ, "RERANK_URL": url, "RERANK_EXPECTED": str(Path(folder) / "expected.json")}
        failed = []
        for name, python in (pair.split("=", 1) for pair in pythons):
            print(name, flush=True)
            if subprocess.run([python, str(HERE / f"{name}.py")], env=env).returncode: failed.append(name)
    return f"failed: {', '.join(failed)}" if failed else 0


if __name__ == "__main__": sys.exit(main(sys.argv[1:]))
