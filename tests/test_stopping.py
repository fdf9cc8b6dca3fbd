"Who no longer waits for a ranking is not worked for: cancelled, timed out, interrupted or closed, the model stops at its next step"
import asyncio
import os
import pkgutil
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from tempfile import TemporaryDirectory

import pytest

import every_kind
from crowd import leap

from rerankers import Document, RankedResults, Reranker, Result
from rerankers.calls import STOP, Stop, check_wanted, in_thread, under

from rerankers.rankers import PointwiseRanker, SetwiseRanker
from rerankers.tiny_models import tiny_checkpoint, tiny_language_model

DOCS = [f"passage {i} of a long list about the prince of denmark" for i in range(40)]


class Steps:
    "Counts the steps of a model, and holds the `at`th until the test has done what it wants in the meantime"
    def __init__(self, at=2):
        self.n, self.at, self.reached, self.go = 0, at, threading.Event(), threading.Event()

    def __call__(self, *args, **kwargs):
        self.n += 1
        if self.n != self.at: return
        self.reached.set()
        assert self.go.wait(60), "the test forgot to let the model go on"


def stepping(ranker, module, steps=None):
    "The ranker, and the count of the forward passes of one of its torch modules"
    steps = steps or Steps()
    module.register_forward_pre_hook(steps)
    return ranker, steps


def local(kind="bert", **checkpoint):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return Reranker(tiny_checkpoint(kind, **checkpoint), device="cpu")


def language(architecture, word, **options):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return Reranker(tiny_language_model(architecture), model_type=word, device="cpu", **options)


def of_runtime(ranker): return stepping(ranker, ranker.runtime.model)
def of_fusion(ranker): return stepping(ranker, ranker.fusion.model.get_encoder())


def writing():
    "RankGPT with a tiny language model in this process"
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from rerankers.llm.local import LocalClient
    client = LocalClient(tiny_language_model("llama"), template="{% for m in messages %}{{ m.content }} {% endfor %}", device="cpu")
    short = {"template": "{query} {passages}", "window_size": 4, "max_tokens": 30}
    return stepping(Reranker("tiny", model_type="rankgpt", client=client, on_error="keep", **short), client.net)


KINDS = {
    "cross-encoder": lambda: of_runtime(local()),
    "chain": lambda: of_runtime(local("chain")),
    "biencoder": lambda: of_runtime(local("biencoder")),
    "t5": lambda: of_runtime(language("t5", "t5")),
    "query-likelihood": lambda: of_runtime(language("llama", "query-likelihood")),
    "qwen3-reranker": lambda: of_runtime(language("qwen3", "qwen3-reranker")),
    "duot5": lambda: of_runtime(language("t5", "duot5")),
    "listt5": lambda: of_fusion(language("t5", "listt5")),
    "lit5": lambda: of_fusion(language("t5", "lit5")),
    "rankgpt, writing": writing,
}


def of_graph(ranker, steps=None):
    "The ranker, and the count of the runs of its ONNX graph"
    session, steps = ranker.runtime.session, steps or Steps()
    class Counted:
        def __getattr__(self, name): return getattr(session, name)
        def run(self, *args, **kwargs):
            steps()
            return session.run(*args, **kwargs)
    ranker.runtime.opened = Counted()
    return ranker, steps


def of_layer(ranker):
    "For models with a loop of their own around the layers of another: the first layer's passes are counted"
    network = ranker.client.net if hasattr(ranker, "client") else ranker.runtime.model
    return stepping(ranker, next(part for name, part in network.named_modules() if name.endswith("layers.0")))


PLACE = TemporaryDirectory(prefix="tiny-kinds-")     # graphs are opened at the first use


def of_terms(ranker): return stepping(ranker, ranker.runtime.full.model)


def tiny(name, **options):
    "A kind of `every_kind`, ready to rank"
    for package in ("torch", "transformers", "onnxruntime"): pytest.importorskip(package)
    if name not in every_kind.EVERY: pytest.skip("the package with this model is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # of torch's exporter
        return every_kind.load(name, every_kind.write(name, PLACE.name), **options)


def first():
    "FIRST asks a tiny language model with room for its long prompt"
    model = tiny_language_model("llama", max_position_embeddings=4096)
    return of_layer(Reranker(model, model_type="first", chat_template=every_kind.PLAIN, window_size=4, device="cpu"))


KINDS |= {
    **{name: (lambda name=name: of_graph(tiny(name))) for name in ("onnx", "flashrank", "offline")},
    **{name: (lambda name=name: of_runtime(tiny(name))) for name in ("colbert", "bge-m3", "upr", "llm-pointwise", "offline-biencoder")},
    "splade": lambda: of_terms(tiny("splade")),
    "lit5-score": lambda: of_fusion(tiny("lit5-score")), "layerwise": lambda: of_layer(tiny("layerwise")),
    "jina-v3": lambda: of_layer(tiny("jina-v3", document_length=50, query_length=20, max_tokens=200)), "first": first,
}


def left_early(ranker, steps, leave):
    "Begin to rank in a loop, `leave` while the second step is under way, close the loop: how many steps there were in the end"
    async def main():
        task = asyncio.ensure_future(ranker.rank_async("who is the prince of denmark", DOCS, batch_size=1))
        await asyncio.to_thread(steps.reached.wait, 20)
        await leave(task)
        await asyncio.to_thread(leap, 0)    # the other loop has heard of it
        steps.go.set()
    asyncio.run(main())     # closing a loop waits for its threads
    return steps.n


async def cancelled(task):
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def timed_out(task):
    with pytest.raises(asyncio.TimeoutError): await asyncio.wait_for(task, 0.001)


@pytest.mark.parametrize("leave", [cancelled, timed_out])
@pytest.mark.parametrize("kind", ["cross-encoder", "rankgpt, writing"])
def test_ways_to_leave(kind, leave):
    ranker, steps = KINDS[kind]()
    left_early(ranker, steps, leave)
    settled(ranker)
    assert steps.n <= steps.at + 1


@pytest.mark.parametrize("kind", KINDS)
def test_cancelling_ends_the_work_at_the_next_step(kind):
    ranker, steps = KINDS[kind]()
    left_early(ranker, steps, cancelled)
    settled(ranker)
    assert steps.reached.is_set() and steps.n <= steps.at + 1   # a generation may begin one more forward pass before it asks


@pytest.mark.parametrize("leave", ["cancelled", "closed"])
def test_a_stream_that_is_left_works_no_more(leave):
    "Cancelled while it waits for its first result, or closed after it"
    ranker, steps = of_runtime(local())
    async def main():
        stream = ranker.rank_stream_async(((f"who {i}", DOCS) for i in range(5)), batch_size=1, window=1)
        task = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(steps.reached.wait, 20)
        if leave == "cancelled": await cancelled(task)
        await asyncio.to_thread(leap, 0)
        steps.go.set()
        if leave == "closed": assert len(await task) == len(DOCS)
        before = steps.n
        await stream.aclose()
        return before
    before = asyncio.run(main())    # closing a loop waits for its threads
    assert before < 2 * len(DOCS) and steps.n <= before + 1
    if leave == "cancelled": assert steps.n <= steps.at + 1


def settled(ranker):
    "Wait until a model that answers a queue has nothing under way"
    queue = getattr(getattr(ranker, "client", None), "queue", None)
    if queue is not None and queue.thread is not None: queue.thread.submit(lambda: None).result(60)


def test_a_ranker_is_whole_after_it_was_called_off():
    ranker, steps = KINDS["cross-encoder"]()
    before = [r.score for r in local().rank("who is the prince", DOCS)]
    left_early(ranker, steps, cancelled)
    assert [r.score for r in ranker.rank("who is the prince", DOCS)] == pytest.approx(before, rel=1e-6)
    assert asyncio.run(ranker.rank_async("who is the prince", DOCS))[0].rank == 1


def test_one_of_two_who_share_a_model_leaves():
    "The other still gets its answer"
    ranker, steps = KINDS["rankgpt, writing"]()
    async def main():
        leaves, stays = (asyncio.ensure_future(ranker.rank_async("who is the prince", DOCS[:n])) for n in (3, 4))
        await asyncio.to_thread(steps.reached.wait, 20)
        await cancelled(leaves)
        steps.go.set()
        return await stays
    assert len(asyncio.run(main())) == 4


@pytest.fixture
def interruptible():
    "A program that was started in the background may have been told to ignore the signal"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_work_of_other_threads(interruptible):
    "Control-C reaches the thread that waits, not the one that computes"
    ranker, steps = KINDS["rankgpt, writing"]()
    def interrupt():
        steps.reached.wait(60)
        os.kill(os.getpid(), signal.SIGINT)
        steps.go.set()
    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt): ranker.rank("who is the prince of denmark", DOCS)
    helper.join()
    asyncio.run(asyncio.sleep(0))
    settled(ranker)
    assert steps.n <= steps.at + 3      # the signal arrives a little later than the model goes on


def test_a_closed_coroutine_stops_its_thread():
    steps = Steps()
    def work():
        for _ in range(1_000):
            steps()
            check_wanted()

    async def main():
        waiting = in_thread(work)
        waiting.send(None)                  # it has begun
        await asyncio.to_thread(steps.reached.wait, 20)
        waiting.close()
        steps.go.set()
    asyncio.run(main())
    assert steps.n == steps.at


def test_a_setwise_method_stops_between_queries():
    class Slow(SetwiseRanker):
        steps = Steps()
        def score_documents(self, query, texts, call):
            self.steps()
            return [0.0] * len(texts)

    async def main():
        task = asyncio.ensure_future(Slow().rank_many_async([f"query {i}" for i in range(30)], ["a", "b"]))
        await asyncio.to_thread(Slow.steps.reached.wait, 20)
        await cancelled(task)
        Slow.steps.go.set()
    asyncio.run(main())
    assert Slow.steps.n == Slow.steps.at


def test_a_ranker_inside_another_call_ends_with_it():
    "What a thread begins on behalf of a call that was called off ends too, however deep"
    class Inner(PointwiseRanker):
        steps = Steps()
        def score_pairs(self, pairs, call):
            from rerankers.progress import progress_bar
            with progress_bar(len(pairs), False) as done:
                for _ in pairs:
                    self.steps()
                    done(1)
            return [0.0] * len(pairs)

    class Outer(PointwiseRanker):
        def score_pairs(self, pairs, call):
            return [asyncio.run(Inner().rank_async(pairs[0][0], [text for _, text in pairs]))[0].score] * len(pairs)

    assert left_early(Outer(), Inner.steps, cancelled) == Inner.steps.at


def test_nothing_stops_a_call_that_is_waited_for():
    assert STOP.get() is None and check_wanted() is None
    with ThreadPoolExecutor(2) as pool: assert list(pool.map(lambda n: under(Stop()).run(check_wanted), range(4))) == [None] * 4


class Loops:
    "Loops of ours that call no model: where each of their steps is, and a ranker that runs it"
    def bm25(): return "rerankers.backends.bm25.tokenize", lambda: Reranker("bm25")
    def tokens(): return "rerankers.engine.reading.TokenReader._tried", local
    def own_rank(): return f"{__name__}.counted", Own


def counted(*args): return None


class Own(SetwiseRanker):
    "As written for rerankers 0.10"
    def score_documents(self, query, texts, call): raise NotImplementedError
    def rank(self, query, docs, doc_ids=None, metadata=None):
        counted()
        return RankedResults([Result(Document(d, doc_id=i), 1.0, i + 1) for i, d in enumerate(docs)], query, True)


@pytest.mark.parametrize("kind", ["bm25", "tokens", "own_rank"])
def test_a_loop_of_ours_ends_too(kind, monkeypatch):
    where, make = vars(Loops)[kind]()
    ranker, steps, docs = make(), Steps(), [f"passage {i} of a long list" for i in range(2_000)]
    owner, _, name = where.rpartition(".")
    holder = pkgutil.resolve_name(owner)
    step = vars(holder)[name]
    def one(*args, **kwargs):
        steps()
        return step(*args, **kwargs)
    monkeypatch.setattr(holder, name, one)
    calls = (lambda: ranker.rank_many_async(["a list"] * 50, docs[:2])) if kind == "own_rank" else (lambda: ranker.rank_async("a list", docs))

    async def main():
        task = asyncio.ensure_future(calls())
        await asyncio.to_thread(steps.reached.wait, 60)
        await cancelled(task)
        steps.go.set()
    asyncio.run(main())
    assert steps.n == steps.at


@pytest.mark.parametrize("name", ["bm25_score", "summed_maxima"])
def test_a_loop_over_scores_ends_too(name, monkeypatch):
    "Of BM25, and of late interaction block by block"
    if name == "summed_maxima":
        np, _ = pytest.importorskip("numpy"), pytest.importorskip("torch")
        from rerankers.engine import maxsim as module
        vectors = module.TokenVectors.of([np.ones((3, 2), dtype="float32")] * 40)
        work = partial(module.maxsim, np.ones((2, 2), dtype="float32"), vectors, block=3)
    else:
        from rerankers.backends import bm25 as module
        work = partial(Reranker("bm25").rank, "a list", DOCS)
    steps, score = Steps(), vars(module)[name]
    def one(*args):
        steps()
        return score(*args)
    monkeypatch.setattr(module, name, one)
    async def main():
        task = asyncio.ensure_future(in_thread(work))
        await asyncio.to_thread(steps.reached.wait, 60)
        await cancelled(task)
        steps.go.set()
    asyncio.run(main())
    assert steps.n == steps.at
