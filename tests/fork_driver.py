"Loads rankers, forks in several ways, and prints as JSON what became of the children, mode by mode; a program that test_fork.py starts"
import asyncio
import gc
import json
import multiprocessing
import os
import select
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec

QUERY = "who wrote the play hamlet?"
DOCS = ["hamlet was written by william shakespeare " * 6, "goethe wrote faust", "the play was first performed in london " * 4]
IN_FULL = ("cross-encoder", "first", "onnx")    # the others are forked once before and once after ranking
LONGEST = int(os.environ.get("LONGEST", 90))   # seconds after which a process hangs


def told(results): return {str(r.doc_id): r.score if r.score is not None else -r.rank for r in results}


def opened(name, source):
    "A ranker of a kind. Each mode imports the library for itself: one that was there before the mode's own fork would know of that"
    import every_kind
    return every_kind.load(name, source)


def attempt(work):
    "What a function gives, or the name of an error of ours; other errors with all that is known of them"
    from rerankers import RerankersError
    try: return work()
    except RerankersError as error: return f"{type(error).__name__}: {error}"
    except Exception: return f"foreign: {traceback.format_exc()[-600:]}"


def forked(work):
    "Begin a child that does `work`; gives a function that waits for what it says, or for `hangs`"
    here, there = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(there, "w") as stream: json.dump(attempt(work), stream)
        os._exit(0)
    os.close(there)
    def wait():
        said = ""
        while select.select([here], [], [], LONGEST)[0]:
            if not (part := os.read(here, 65536).decode()): break
            said += part
        else: os.kill(child, signal.SIGKILL)
        os.close(here)
        os.waitpid(child, 0)
        return json.loads(said) if said else "hangs"
    return wait


def in_thread(work):
    "What a function gives in another thread"
    box = []
    thread = threading.Thread(target=lambda: box.append(work()))
    thread.start()
    thread.join()
    return box[0]


def with_one_thread(work):
    def run():
        import torch
        torch.set_num_threads(1)
        return work()
    return run


def ends(work=None):
    "The exit status of a child that ends as programs end"
    child = os.fork()
    if not child:
        signal.alarm(LONGEST)
        if work: work()
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def loaded(name, source, rank):
    "What becomes of the forks of a ranker that was only loaded"
    def load(): return told(opened(name, source).rank(QUERY, DOCS))
    found = {"child": forked(rank)()}
    if name not in IN_FULL: return found
    return {**found, "grandchild": forked(lambda: forked(rank)())(),
            "child and its child": forked(lambda: [rank(), forked(rank)()][1])(), "child loads": forked(load)(), "fork in a thread": in_thread(forked(rank))}


def meanwhile(ranks):
    "Children and parent rank at the same time"
    begun = {name: forked(rank) for name, (rank, _) in ranks.items()}
    found = {name: {"parent": attempt(rank)} for name, (rank, _) in ranks.items()}
    return {name: {**found[name], "child": wait()} for name, wait in begun.items()}


def ranked(name, source, rank, rank_async):
    "What becomes of the forks of a thread that has ranked"
    def load(): return told(opened(name, source).rank(QUERY, DOCS))
    found = {"child": forked(rank)(), "parent": attempt(rank)}
    if name not in IN_FULL: return found
    after = {"child loads": load, "grandchild": lambda: forked(rank)(), "child with one thread": with_one_thread(rank), "child, async": rank_async}
    return {**found, **{what: forked(work)() for what, work in after.items()}, "fork in a thread": in_thread(lambda: forked(rank)())}


def every(sources):
    "All kinds are loaded here, then forked, then all rank here, and are forked again"
    rankers = {name: opened(name, source) for name, source in sources.items()}
    calls = {name: (lambda r=r: told(r.rank(QUERY, DOCS)), lambda r=r: told(asyncio.run(r.rank_async(QUERY, DOCS)))) for name, r in rankers.items()}
    found = {"loaded": {name: loaded(name, source, calls[name][0]) for name, source in sources.items()}}
    # each child has all rankers, and takes all of them down: a second of work
    found["ends"] = {"a child": ends(), "a child that ranks": ends(lambda: [calls[name][0]() for name in IN_FULL])}
    found |= {"meanwhile": meanwhile(calls), "ranked": {name: ranked(name, source, *calls[name]) for name, source in sources.items()}}
    found["ends"]["a child of one that ranked"] = ends()
    return found


def rank_given(ranker): return attempt(lambda: told(ranker.rank(QUERY, DOCS)))
def rank_carried(_): return rank_given(CARRIED)


def pools(*items):
    "What pools of forked processes give: of multiprocessing and of concurrent.futures, with the ranker that they carry and with one that is sent"
    context, found = multiprocessing.get_context("fork"), {}
    for how, call, item in (("carried", rank_carried, 0), ("sent", rank_given, CARRIED)):
        with context.Pool(2) as pool: found[f"Pool, {how}"] = pool.map_async(call, [item] * 2).get(LONGEST)[0]
        with ProcessPoolExecutor(1, mp_context=context) as pool: found[f"executor, {how}"] = pool.submit(call, item).result(LONGEST)
    return found


def multiply():
    "What somebody else may do with torch"
    import torch
    return float((torch.ones(1500, 1500) @ torch.ones(1500, 1500)).sum())


def usual(sources):
    "What servers do, with one ranker"
    global CARRIED
    CARRIED = opened("cross-encoder", sources["cross-encoder"])
    def rank(): return told(CARRIED.rank(QUERY, DOCS))
    found = {"own torch in the child": forked(multiply)(), **{f"loaded: {how}": said for how, said in pools().items()}}
    multiply()
    found["own torch in the parent"] = forked(rank)()
    found["expected"] = rank()
    return found | {f"ranked: {how}": said for how, said in pools().items()}


def single(sources):
    "With one thread of torch's there is nothing to lose"
    ranker = opened("cross-encoder", sources["cross-encoder"])
    return {"expected": told(ranker.rank(QUERY, DOCS)), "child": forked(lambda: told(ranker.rank(QUERY, DOCS)))()}


def in_mode(mode, sources, threads):
    "What a mode finds, with so many of torch's threads"
    if find_spec("torch"):
        import torch
        from rerankers.engine import pytorch
        torch.set_num_threads(threads)
        pytorch.PACKED_FROM = 1     # so that tiny models start torch's threads at load, as large ones do
        gc.freeze()     # what is imported, not what is loaded: each child that ends as programs end would search all of it, for two seconds
    return globals()[mode](sources)


def apart(*given):
    "The same in a process of its own, which need not import torch and transformers again"
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if not child:       # an error, or the end of a child that ends as programs end, goes its way from here
            json.dump(in_mode(*given), said)
            said.flush()
            os._exit(0)
        if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]): sys.exit(f"{given[0]} ended with {status}")
        said.seek(0)
        return json.load(said)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if find_spec("torch"):
        import torch  # noqa: F401
        import transformers.generation  # noqa: F401
    print(json.dumps({mode: apart(mode, *given) for mode, given in json.loads(sys.argv[1]).items()}))
