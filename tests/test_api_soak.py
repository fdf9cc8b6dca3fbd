"Two thousand requests from fifty tasks, a tenth of which fail: nothing lost, nothing left open, memory flat"
import asyncio
import gc
import random
import re
import time
from pathlib import Path

import pytest

pytest.importorskip("httpx")
from servers import Say, Scripted  # noqa: E402

from rerankers import Reranker  # noqa: E402

TASKS, EACH, DOCS = 50, 40, 8
BROKEN = (Say({"message": "slow down"}, 429), Say({"message": "boom"}, 500), Say(cut=-1, reset=True))


def resident():
    "Megabytes of memory in use now"
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def open_sockets():
    "Of this process, the server's ends included"
    kinds = []
    for fd in Path("/proc/self/fd").iterdir():
        try: kinds.append(str(fd.readlink()))
        except OSError: continue    # the one that lists the folder
    return sum(kind.startswith("socket:") for kind in kinds)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory and sockets are read from /proc")
def test_a_soak():
    chance = random.Random(5)

    def script(seen):
        if chance.random() < 0.1: return chance.choice(BROKEN)
        n = len(seen.json["documents"])
        return {"results": [{"index": i, "relevance_score": (i + 1) / n} for i in chance.sample(range(n), n)], "meta": {"billed_units": {"search_units": 1}}}

    with Scripted(script) as server:
        before = open_sockets()
        rankers = [Reranker("rerank-v4.0-pro", model_type="cohere", base_url=server.url.removesuffix("/v1"), api_key="key-1", concurrency=16, retries=8,
                            backoff=0.001, timeout=20)]
        memory, used = [], []

        async def one(task):
            for i in range(EACH):
                docs = [f"passage {task} {i} {k}" for k in range(DOCS)]
                results = await rankers[0].rank_async(f"query {task} {i}", docs)
                assert [r.doc_id for r in results] == list(range(DOCS - 1, -1, -1)) and sorted(r.text for r in results) == docs
                used.append(results.usage)
                if len(used) % 100 == 0: memory.append(resident())

        async def all_tasks(): await asyncio.gather(*map(one, range(TASKS)))
        begun = time.monotonic()
        asyncio.run(all_tasks())
        seconds = time.monotonic() - begun
        assert len(used) == TASKS * EACH == sum(u.calls for u in used) == sum(u.units for u in used)
        assert len(server.seen) == sum(u.calls + u.retries for u in used), "every request is accounted for"
        assert server.most <= 16 and server.connections <= 16
        kept = sum(len(s.body) for s in server.seen) / 2 ** 20     # the server's own notes grow in this process too
        half = len(memory) // 2
        assert max(memory[half:]) - max(memory[:half]) < 8 + 4 * kept, f"memory grew from {max(memory[:half]):.0f} to {max(memory[half:]):.0f} MB"
        print(f"{len(server.seen)} requests for {len(used)} rankings in {seconds:.1f} s; memory {memory[0]:.0f}, {memory[half]:.0f}, {memory[-1]:.0f} MB")
        rankers.clear()
        gc.collect()
        assert server.wait(lambda: server.connections == 0), "the ranker is gone, its connections are not"
        assert open_sockets() <= before + 2     # the loop of requests has a pair of its own, made at its first use
    assert seconds < 60
