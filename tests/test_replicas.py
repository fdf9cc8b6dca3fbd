"`devices=` and the token budget: the same scores, every device at work, and never more tokens than fit"
import pickle
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from rerankers import Reranker
from rerankers.engine import pytorch
from rerankers.engine.pytorch import best_budget
from rerankers.engine.replicas import Replicas
from rerankers.errors import InputError
from rerankers.tiny_models import tiny_checkpoint, tiny_language_model

QUERY = "who wrote hamlet"
TEXTS = [" ".join(["hamlet", "faust", "the play"][i % 3:] * (i % 40 + 1)) for i in range(120)]


def scores(ranker, texts=TEXTS, **how): return [r.score for r in sorted(ranker.rank(QUERY, texts, **how), key=lambda r: r.doc_id)]


@pytest.fixture(scope="module")
def alone(): return Reranker(tiny_checkpoint(), device="cpu")


@pytest.fixture(scope="module")
def both(): return Reranker(tiny_checkpoint(), devices=["cpu", "cpu"])


def test_scores_are_the_same_and_both_devices_work(alone, both):
    for how in ({}, {"batch_size": 1}, {"batch_size": 7}): np.testing.assert_allclose(scores(both, **how), scores(alone, **how), atol=1e-6)
    assert all(replica.batches > 50 for replica in both.runtime.replicas)
    assert {len({id(p) for p in r.model.parameters()} & {id(p) for p in both.runtime.runtimes[0].model.parameters()}) > 0
            for r in both.runtime.runtimes} == {True, False}    # two models and not one twice


def test_each_batch_goes_to_the_device_with_the_least_before_it():
    held, seen = threading.Event(), [[], []]
    class Runtime:
        overhead, max_tokens = 0, 100
        def __init__(self, i): self.i = i
        def __call__(self, batch):
            if self.i == 0: held.wait(20)       # the first device is busy for long
            seen[self.i].append(len(batch["input_ids"]))
            return np.zeros((len(batch["input_ids"]), 1))
    replicas = Replicas([Runtime(0), Runtime(1)])
    batch = {"input_ids": np.ones((2, 3), dtype=np.int64)}
    first = replicas.start(batch)
    for _ in range(3): replicas(batch)
    held.set()
    first()
    assert seen == [[2], [2, 2, 2]]


def test_an_error_on_a_device_reaches_the_caller(both):
    def fail(*_): raise ZeroDivisionError("on the second device")
    hook = both.runtime.runtimes[1].model.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError, match="second device"): scores(both)
    hook.remove()
    assert len(scores(both)) == len(TEXTS)


def test_it_can_be_pickled_and_written_down(alone, both):
    for again in (pickle.loads(pickle.dumps(both)), Reranker(str(both.spec))):
        assert len(again.runtime.runtimes) == 2
        np.testing.assert_allclose(scores(again), scores(alone), atol=1e-6)


def test_threads_share_the_devices(alone, both):
    wanted, found = scores(alone), [None] * 4
    def ask(i): found[i] = scores(both)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    for one in found: np.testing.assert_allclose(one, wanted, atol=1e-6)


def test_a_language_model_has_replicas_too():
    one, two = (Reranker(tiny_language_model(), model_type="llm-pointwise", **how) for how in ({"device": "cpu"}, {"devices": ["cpu", "cpu"]}))
    np.testing.assert_allclose(scores(two, TEXTS[:9]), scores(one, TEXTS[:9]), atol=1e-5)


@pytest.mark.parametrize(("word", "how", "said"), [
    ("", {"devices": "cuda:0"}, "give a list"), ("", {"devices": []}, "give a list"), ("", {"devices": ["cpu"], "device": "cpu"}, "both given"),
    ("", {"devices": ["cpu", "gpu"]}, "device='gpu'"), ("cohere", {"devices": ["cpu"], "api_key": "k"}, "no option 'devices'")], ids=str)
def test_mistakes_are_named(word, how, said):
    with pytest.raises(InputError, match=said): Reranker(word or tiny_checkpoint(), **how)


# ---------------------------------------------------------------- the budget

MEMORY = 300    # Tokens


@pytest.fixture
def small_card(monkeypatch):
    "A processor that is searched like a graphics card, with memory for few tokens; counts how often that did not do"
    monkeypatch.setattr(pytorch, "SEARCHED", ("cpu",))
    monkeypatch.setattr(pytorch, "BUDGETS", {"cpu": 64})
    monkeypatch.setattr(pytorch, "TEXT", 8)
    monkeypatch.setattr(pytorch, "TRIED", (64, 128, 256, 512, 1024))
    ranker, failed = Reranker(tiny_checkpoint(), device="cpu"), []
    def check(module, args, kwargs):
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids.numel() <= MEMORY: return
        failed.append(ids.numel())
        raise torch.cuda.OutOfMemoryError("too much")
    ranker.runtime.model.bert.embeddings.register_forward_pre_hook(check, with_kwargs=True)
    return ranker, failed


def test_a_budget_is_found_that_fits(small_card, alone):
    ranker, failed = small_card
    np.testing.assert_allclose(scores(ranker), scores(alone), atol=1e-5)
    assert 64 <= ranker.runtime.max_tokens <= MEMORY and len(failed) <= 1     # one try too large, and no batch of the work
    before = list(failed)
    scores(ranker)
    assert failed == before     # it is not tried again


def test_a_short_call_tries_nothing(small_card):
    ranker, _ = small_card
    scores(ranker, TEXTS[:3])
    assert ranker.runtime._found is None


@pytest.mark.parametrize(("seconds", "best"), [({10: 1, 20: 1, 40: 1.5, 80: 3.0}, 40), ({10: 1, 20: 2.1, 40: 1}, 10),
                                               ({10: 1, 20: 1}, 20), ({}, None)], ids=str)
def test_a_larger_batch_must_pay(seconds, best):
    def take(tokens):
        if tokens not in seconds: raise torch.cuda.OutOfMemoryError("too much")
        return seconds[tokens]
    assert best_budget(take, (10, 20, 40, 80)) == best

