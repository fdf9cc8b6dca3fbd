"Events instead of clocks: who is under way at once, and the clock of the loop that sends requests, which a test moves on itself"
import asyncio
import threading
import time

FOR_EVER = 120.0    # seconds after which something that must happen never will; no test takes the longer for it that passes


def becomes(true, seconds=FOR_EVER):
    "Wait until it is true; False where it never becomes true"
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end: time.sleep(0.005)
    return bool(true())


class Crowd:
    """How many are under way at once. The first `wanted` wait until they are together, so that it takes no luck for them to meet; then a few turns more,
    in which one too many would come"""
    turns = 50

    def __init__(self, wanted=0): self.wanted, self.now, self.most, self.lock = wanted, 0, 0, threading.Lock()
    def __reduce__(self): return Crowd, (self.wanted,)      # a copy counts anew

    def _step(self, by):
        with self.lock:
            self.now += by
            self.most = max(self.most, self.now)

    def __enter__(self):
        "In a thread"
        self._step(1)
        becomes(lambda: self.most >= self.wanted)
        time.sleep(0.002)

    async def __aenter__(self):
        "In a loop"
        self._step(1)
        end = time.monotonic() + FOR_EVER
        while self.most < self.wanted and time.monotonic() < end: await asyncio.sleep(0)
        for _ in range(self.turns): await asyncio.sleep(0)

    def __exit__(self, *_): self._step(-1)
    async def __aexit__(self, *_): self._step(-1)


def leap(seconds):
    "Move the clock of the loop of requests on: what waits for less than that is over when this returns, what waits for more is not"
    from rerankers.web.http import BACKGROUND
    loop = BACKGROUND.running()

    async def move():
        if not hasattr(loop, "ahead"):
            real, loop.ahead = loop.time, 0.0
            loop.time = lambda: real() + loop.ahead
        loop.ahead += seconds
        for _ in range(20): await asyncio.sleep(0)      # timers that are due, and what follows from them
    asyncio.run_coroutine_threadsafe(move(), loop).result(FOR_EVER)
