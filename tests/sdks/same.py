"What all clients check: the best three documents and their scores are those that `rank` gives in the process of the server"
import json
import math
import os
from pathlib import Path

URL = os.environ["RERANK_URL"]
EXPECTED = json.loads(Path(os.environ["RERANK_EXPECTED"]).read_text(encoding="utf-8"))
QUERY, TEXTS, BEST, MODEL = EXPECTED["query"], EXPECTED["texts"], EXPECTED["best"], EXPECTED["model"]
KEY, TOP = "any-key", len(BEST)


def check(**clients):
    "Call each client, a function that gives pairs of position and score; say which one was right, and fail with the first that is not"
    for name, call in clients.items():
        found = [(int(i), float(s)) for i, s in call()]
        same = len(found) == TOP and all(i == j and math.isclose(a, b, rel_tol=1e-6) for (i, a), (j, b) in zip(found, BEST, strict=True))
        assert same, f"{name}: {found} instead of {BEST}"
        print(f"  {name}: ok")


def position(text): return TEXTS.index(text)
