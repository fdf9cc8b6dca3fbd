"""Two thousand requests from fifty tasks to a server that fails every tenth time: nothing lost, nothing left open, memory flat.

The server is a process of its own (`python tests/test_api_soak.py`), so that its sockets and its memory are not ours.
"""
import asyncio
import gc
import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
import zlib
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("httpx")
from servers import Say, Scripted  # noqa: E402

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="sockets and memory are read from /proc")
TASKS, EACH, DOCUMENTS = 50, 40, 20
SECONDS = 30        # for all of it
MEGABYTES = 2       # that the second half may need on top of the first; to keep its answers would take twice that


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
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        url = process.stdout.readline().strip()
        yield url, lambda: {k: v for path in ("count", "connections") for k, v in json.load(opener.open(f"{url}/{path}", timeout=10)).items()}
    finally:
        process.stdin.close()       # it waits for that
        process.wait(10)
        process.stdout.close()


# ---- the crowd

def retries_of(query):
    "Attempts that fail before one works"
    attempt = 1
    while fate(query, attempt): attempt += 1
    return attempt - 1


async def one(ranker, name, halfway=lambda: None):
    "A user with 40 queries, one after the other; how many attempts failed"
    failed = 0
    for i in range(EACH):
        query = f"query {name}-{i}"
        docs = [f"{query}, passage {k}" for k in range(DOCUMENTS)]
        results = await ranker.rank_async(query, docs)
        assert [r.doc_id for r in results] == sorted(range(DOCUMENTS), key=lambda k: -score(query, docs[k])), query
        assert [r.text for r in results] == [docs[r.doc_id] for r in results] and results.query == query
        assert (results.usage.calls, results.usage.units, results.usage.retries) == (1, 1.0, retries_of(query))
        failed += results.usage.retries
        if i == EACH // 2: halfway()
    return failed


def sockets():
    "Open sockets of this process"
    kinds = []
    for fd in Path("/proc/self/fd").iterdir():
        try: kinds.append(os.readlink(fd))
        except FileNotFoundError: continue      # the listing's own
    return sum(kind.startswith("socket:") for kind in kinds)


def memory():
    "Megabytes of this process that are in use"
    gc.collect()
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def becomes(true, seconds=5.0):
    "Does it become true in time?"
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end: time.sleep(0.02)
    return true()


@pytest.fixture
def bad_day():
    "A ranker in a list, what its server has seen, and the sockets that were open before"
    from rerankers import Reranker
    from rerankers.engine.http import wait_for
    wait_for(asyncio.sleep(0))      # the loop has sockets of its own
    with unreliable() as (url, count):
        yield [Reranker("m-1", model_type="cohere", base_url=url, api_key="key-1", retries=8, backoff=0.002, timeout=20, concurrency=TASKS)], count, sockets()


def assert_given_back(rankers, count, before):
    "Once the ranker is gone, so are its connections, at both ends"
    rankers.clear()
    gc.collect()
    assert becomes(lambda: count()["now"] == 0), "the ranker is gone, its connections are not"
    assert becomes(lambda: sockets() == before), f"{sockets() - before} sockets are left open"


def test_two_thousand_requests(bad_day):
    (rankers, count, before), used = bad_day, []

    async def crowd():
        first = one(rankers[0], 0, lambda: used.append(memory()))
        return sum(await asyncio.gather(first, *(one(rankers[0], name) for name in range(1, TASKS))))

    begun = time.monotonic()
    failed = asyncio.run(crowd())
    seconds, half, whole = time.monotonic() - begun, *used, memory()
    seen, kept = count(), sockets() - before
    print(f"{seconds:.1f} s, {failed} failures, {seen['opened']} connections over time, {kept} kept, {half:.1f} -> {whole:.1f} MB")
    assert seconds < SECONDS and whole - half < MEGABYTES
    assert failed == sum(retries_of(f"query {name}-{i}") for name in range(TASKS) for i in range(EACH)) > 0.08 * TASKS * EACH, "the server was well"
    assert seen["seen"] == TASKS * EACH + failed, "a request for each query and each failure, and no other"
    assert seen["most"] <= TASKS and seen["now"] == kept <= TASKS, "a connection is left that one side does not know of"
    assert_given_back(rankers, count, before)


def test_half_of_the_crowd_gives_up(bad_day):
    "Calls that are cancelled on the way leave no connection behind, and the others lose nothing"
    rankers, count, before = bad_day

    async def some_leave():
        tasks = [asyncio.ensure_future(one(rankers[0], name)) for name in range(20)]
        assert await asyncio.to_thread(becomes, lambda: count()["seen"] > 100)
        for task in tasks[::2]: task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    ends = asyncio.run(some_leave())
    assert all(isinstance(end, asyncio.CancelledError) for end in ends[::2]) and all(isinstance(end, int) for end in ends[1::2]), ends
    assert becomes(lambda: count()["now"] == sockets() - before <= 20)
    assert_given_back(rankers, count, before)


if __name__ == "__main__":
    with Scripted(Unreliable()) as scripted:
        print(scripted.url.removesuffix("/v1"), flush=True)
        sys.stdin.read()
