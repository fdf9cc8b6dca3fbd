"""A thousand requests from fifty tasks to a server that fails every tenth time: nothing lost, nothing left open, memory flat.

The crowd is a process of its own and the server another, so that every socket and every object that is counted belongs to the one or the other:
in pytest's process, connections that earlier tests left are closed at any moment. Nothing is timed, so that a busy machine only takes longer: connections
do not end by themselves, and what is in memory is counted, in objects, at two moments when nothing is under way.
`python tests/test_api_soak.py crowd` shows what it measures.
"""
import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import urllib.request
import zlib
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("httpx")
from crowd import FOR_EVER, becomes  # noqa: E402
from servers import Say, Scripted  # noqa: E402

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="sockets and memory are read from /proc")
TASKS, EACH, DOCUMENTS = 50, 20, 20
BLOCKS = 1          # of Python's memory that each request of the second half may leave behind; its answer alone has a hundred


# ---- the server: whether a request fails follows from its query and the attempt, so each run is the same

def fate(query, attempt):
    "What happens to an attempt: one in ten fails, each in its own way"
    return {0: 429, 1: 500, 2: "in the middle", 3: 429, 4: 500, 5: "at once"}.get(zlib.crc32(f"{query} {attempt}".encode()) % 60)


def score(query, text):
    "A number from 0 to 1 that both sides can work out"
    return zlib.crc32(f"{query}: {text}".encode()) / 2 ** 32


class Unreliable:
    "Cohere on a bad day"

    def __init__(self): self.attempts = Counter()

    def __call__(self, seen):
        query, texts = seen.json["query"], seen.json["documents"]
        self.attempts[query] += 1
        results = [{"index": i, "relevance_score": score(query, text)} for i, text in enumerate(texts)]
        random.Random(query).shuffle(results)
        good = {"id": query, "results": results, "meta": {"billed_units": {"search_units": 1}}}
        end = fate(query, self.attempts[query])
        if end is None: return good
        return Say({"message": "not now"}, end) if isinstance(end, int) else Say(good, cut=-1 if end == "at once" else 50, reset=True)


@contextmanager
def unreliable():
    "Its address, and a function that tells what it has seen"
    process = subprocess.Popen([sys.executable, __file__, "server"], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        url = process.stdout.readline().strip()
        yield url, lambda: {k: v for path in ("count", "connections") for k, v in json.load(opener.open(f"{url}/{path}", timeout=FOR_EVER)).items()}
    finally:
        process.stdin.close()       # it waits for that
        process.wait(FOR_EVER)
        process.stdout.close()


# ---- the crowd

def retries_of(query):
    "Attempts that fail before one works"
    attempt = 1
    while fate(query, attempt): attempt += 1
    return attempt - 1


async def one(ranker, name, rounds=range(EACH)):
    "A user with twenty queries, one after the other; how many attempts failed"
    failed = 0
    for i in rounds:
        query = f"query {name}-{i}"
        docs = [f"{query}, passage {k}" for k in range(DOCUMENTS)]
        results = await ranker.rank_async(query, docs)
        assert [r.doc_id for r in results] == sorted(range(DOCUMENTS), key=lambda k: -score(query, docs[k])), query
        assert [r.text for r in results] == [docs[r.doc_id] for r in results] and results.query == query
        assert (results.usage.calls, results.usage.units, results.usage.retries) == (1, 1.0, retries_of(query))
        failed += results.usage.retries
    return failed


def sockets():
    "Open sockets of this process"
    kinds = []
    for fd in Path("/proc/self/fd").iterdir():
        try: kinds.append(os.readlink(fd))
        except FileNotFoundError: continue      # the listing's own
    return sum(kind.startswith("socket:") for kind in kinds)


def memory():
    "Blocks of Python's memory that are in use"
    gc.collect()
    return sys.getallocatedblocks()


async def everybody(ranker, count):
    "Fifty tasks to their end, with a rest in the middle"
    failed, used = 0, []
    for half in (range(EACH // 2), range(EACH // 2, EACH)):
        failed += sum(await asyncio.gather(*(one(ranker, name, half) for name in range(TASKS))))
        used.append(memory())
    return {"failed": failed, "more": used[1] - used[0]}


async def some_leave(ranker, count):
    "Twenty tasks, of which every other one is cancelled on the way"
    tasks = [asyncio.ensure_future(one(ranker, name, range(2 * EACH))) for name in range(20)]
    assert await asyncio.to_thread(becomes, lambda: count()["seen"] > 100)
    for task in tasks[::2]: task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return {"ends": [type(end).__name__ for end in ends]}


def measured(work):
    "What a crowd saw, the connections that both sides count with the ranker alive, and what is left once it is gone"
    import httpx
    from rerankers import Reranker
    from rerankers.web.http import wait_for
    wait_for(asyncio.sleep(0))      # the loop has sockets of its own
    httpx.Limits.__init__.__kwdefaults__["keepalive_expiry"] = None     # five seconds otherwise
    with unreliable() as (url, count):
        before = sockets()
        ranker = Reranker("m-1", model_type="cohere", base_url=url, api_key="key-1", retries=8, backoff=0.002, timeout=FOR_EVER, connect_timeout=FOR_EVER,
                          concurrency=TASKS)
        facts = asyncio.run(work(ranker, count))
        agree = becomes(lambda: count()["now"] == sockets() - before)
        facts |= {"agree": agree, "kept": sockets() - before} | count()
        del ranker
        gc.collect()
        becomes(lambda: count()["now"] == 0 and sockets() == before)
        return facts | {"left": [sockets() - before, count()["now"]]}


# ---- what must hold

def facts_of(crowd):
    "What a process of its own measured"
    done = subprocess.run([sys.executable, __file__, crowd], capture_output=True, text=True, timeout=10 * FOR_EVER)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return json.loads(done.stdout)


def test_a_thousand_requests():
    facts = facts_of("crowd")
    assert facts["more"] < BLOCKS * TASKS * EACH / 2
    expected = sum(retries_of(f"query {name}-{i}") for name in range(TASKS) for i in range(EACH))
    assert facts["failed"] == expected > 0.08 * TASKS * EACH, "the server was well"
    assert facts["seen"] == TASKS * EACH + expected, "a request for each query and each failure, and no other"
    assert facts["agree"] and 0 < facts["kept"] <= TASKS >= facts["most"], "a connection is left that one side does not know of"
    assert facts["left"] == [0, 0], "the ranker is gone, its connections are not"


def test_half_of_the_crowd_gives_up():
    "Calls that are cancelled on the way leave no connection behind, and the others lose nothing"
    facts = facts_of("leavers")
    assert facts["ends"] == ["CancelledError", "int"] * 10
    assert facts["agree"] and 0 < facts["kept"] <= 20
    assert facts["left"] == [0, 0]


def serve():
    "Until our standard input ends"
    with Scripted(Unreliable()) as scripted:
        print(scripted.url.removesuffix("/v1"), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    roles = {"server": serve, "crowd": lambda: print(json.dumps(measured(everybody))), "leavers": lambda: print(json.dumps(measured(some_leave)))}
    roles[sys.argv[1]]()
