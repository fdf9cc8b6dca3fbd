"Code for rerankers 0.10 runs: the shapes of calls that public code has, on this library and live on the wheel of 0.10"
import ast
import asyncio
import copy
import inspect
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
from compat_shapes import DOCS, QUERY, SHAPES, outcomes, word_ranker
from hypothesis import example, given
from hypothesis import strategies as st
from nb_plugin import NURSERY
from official import wheel

from rerankers import BaseRanker, Document, InputError, RankedResults, Reranker, Result, UnknownModel, claims, registry
from rerankers.calls import Call
from rerankers.compat import FORMER, former_of, translated
from rerankers.rankers import PointwiseRanker, Ranking, make_tasks
from rerankers.reranker import options_of

ROOT = Path(__file__).resolve().parents[1]
OLD = "rerankers==0.10.0"
registry.load_backends()


# ---- the shapes

@pytest.fixture(scope="session")
def folder(tmp_path_factory, shared_dir):
    "A tiny checkpoint and a tiny graph of FlashRank's, as compat_shapes.py wants them"
    pytest.importorskip("torch")
    from rerankers.tiny_models import tiny_checkpoint
    home, kit = tmp_path_factory.mktemp("compat"), shared_dir / "parity" / "flashrank_onnx" / "model"
    shutil.copytree(tiny_checkpoint("bert"), home / "cross-encoder")
    for model in kit.iterdir(): shutil.copytree(model, home / "flashrank" / model.name, copy_function=shutil.copyfile)
    return home


@pytest.fixture(scope="session")
def ours(folder): return outcomes(folder)


@pytest.fixture(scope="session")
def theirs(folder):
    "What the wheel of 0.10 says, in a process that finds it before us"
    env = {**os.environ, "PYTHONPATH": str(wheel(OLD))}
    status, out, err = NURSERY.script((ROOT / "tests" / "compat_shapes.py").read_text(encoding="utf-8"), str(folder), env=env)
    assert status == 0, err
    return json.loads(out)


DELIBERATE = {      # shape -> what we say, what 0.10 says, and words of the page that tells why
    "lookup_of_an_absent_id": ("raises UnknownDocument", None, "An id that no result has"),
    "score_of_one": (True, "raises TypeError", "`score` of a cross-encoder"),
    "rank_of_one_document": ([1], [None], "One document has a rank"),
    "result_without_score_and_rank": (None, "raises ValueError", "A `Result` may have neither score nor rank"),
    "has_scores_when_nothing_is_said": (True, False, "`has_scores`"),
    "a_document_of_the_caller_keeps_its_id": (None, "new", "Nothing of the caller's is changed"),
    "what_is_printed": (False, True, "Nothing is printed"),
    "langchain_compressor": ([[f"id-{i}", DOCS[i], {"source": i, "relevance_score": 1.0}] for i in (0, 1)], "raises AttributeError", "LangChain 1"),
    "langchain_retriever": ([["id-0"], ["id-0"]], "raises ValidationError", "LangChain 1"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_gives_what_it_gave(name, ours, theirs):
    "The same as 0.10, unless the page says that it differs"
    if name in DELIBERATE: assert (ours[name], theirs[name]) == DELIBERATE[name][:2]
    else: assert ours[name] == theirs[name] and not str(theirs[name]).startswith("raises")


def test_there_are_enough_shapes(): assert len(SHAPES) >= 43 and set(DELIBERATE) < set(SHAPES)


def test_the_page_names_every_difference():
    page = (ROOT / "nbs" / "tutorials" / "from_0_10.ipynb").read_text(encoding="utf-8")
    assert [name for name, (_, _, words) in DELIBERATE.items() if words not in page] == []


# ---- modules and classes, as the wheel has them

def old_modules():
    "Module of 0.10's `models` -> its rankers, each with its options in order"
    found = {}
    for file in sorted((wheel(OLD) / "rerankers" / "models").glob("*.py")):
        classes = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef) and any(ast.unparse(b) == "BaseRanker" for b in n.bases)]
        made = {c.name: next(f for f in c.body if getattr(f, "name", "") == "__init__") for c in classes}
        found[file.stem] = {name: [a.arg for a in f.args.args[2:]] for name, f in made.items()}
    return found


def test_the_table_has_all_modules_classes_and_options_of_the_wheel():
    "In 0.10's order, since they could be given by position"
    wanted = {(module, name): options for module, classes in old_modules().items() for name, options in classes.items()}
    listed = {(row.module, row.name): row.order.split() for row in FORMER if row.module}
    assert wanted == listed
    assert {module for module, _ in wanted} | {"ranker"} == set(old_modules()) - {"__init__"} == {m.rpartition(".")[2] for m in sys.modules
                                                                                                   if m.startswith("rerankers.models.")}


def test_extras_of_0_10_are_there():
    "`pip install 'rerankers[gpt]'` brings something; pip would only warn of an extra that is not known"
    metadata = next(wheel(OLD).glob("rerankers-*.dist-info")) / "METADATA"
    theirs = re.findall(r"^Provides-Extra: (.*)$", metadata.read_text(), re.MULTILINE)
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    ours = {name.removesuffix("_requirements") for name in settings["DEFAULT"] if name.endswith("_requirements")}
    assert set(theirs) - {"all"} <= ours | {"langchain"} and len(theirs) > 8


GONE = {"return_logits", "processor_name"}      # T5's and MonoVLM's: the page says what stands for it


@pytest.mark.parametrize("row", FORMER, ids=lambda row: row.name)
def test_every_option_of_0_10_is_known_today(row):
    cls = registry.backend_named(row.word)
    options = translated(cls, {name: 1 for name in row.order.split() if name != "verbose"})
    assert set(options) - set(options_of(cls)) - {"device", "dtype", "batch_size"} <= GONE


def test_rerankers_0_10_names_every_class_that_model_type_takes():
    from official import pulled
    names = pulled(wheel(OLD) / "rerankers" / "reranker.py", "DEPS_MAPPING").DEPS_MAPPING
    assert set(names) == {row.name for row in FORMER}


@pytest.mark.parametrize("row", FORMER, ids=lambda row: row.name)
def test_a_class_of_0_10_is_ours(row):
    "In its module, in the package, and as model_type"
    cls = registry.BACKENDS[row.word]
    assert registry.backend_named(row.name) is registry.backend_named(row.name.lower()) is cls
    if not row.module: return
    assert getattr(import_module(f"rerankers.models.{row.module}"), row.name) is getattr(import_module("rerankers.models"), row.name) is cls
    assert issubclass(cls, import_module("rerankers.models.ranker").BaseRanker)
    with pytest.raises(ImportError): exec(f"from rerankers.models.ranker import {row.name}")


@pytest.mark.parametrize("cls", [pytest.param(cls, id=cls.__name__) for cls in registry.FAMILIES if cls.__module__.startswith("rerankers.")])
def test_the_class_names_of_today_are_types_too(cls): assert registry.backend_named(cls.__name__) is cls


def test_class_names_keep_to_their_model():
    assert registry.choose("some/model", model_type="TransformerRanker").model == "some/model"
    assert registry.choose("cross-encoder", model_type="TransformerRanker").model == registry.choose("cross-encoder").model
    with pytest.raises(UnknownModel, match="TransformerRankr"): registry.choose("some/model", model_type="TransformerRankr")


def test_a_class_name_that_two_have_names_neither(monkeypatch):
    for name in ("BACKENDS", "FAMILIES"):
        kept = getattr(registry, name).copy()
        for module in (claims, registry): monkeypatch.setattr(module, name, kept)
    for n in "12": type("Twins", (PointwiseRanker,), {"__module__": f"module{n}", "words": (f"twin-{n}",), "score_pairs": lambda *a, **k: []})
    with pytest.raises(UnknownModel, match="Twins"): registry.choose("some/model", model_type="Twins")


def test_modules_of_0_10_load_nothing():
    "Also where their classes are looked at; nothing is printed, no warning"
    code = """if True:
        import sys
        from rerankers.models import AVAILABLE_RANKERS
        from rerankers.compat import FORMER
        from importlib import import_module
        from rerankers.utils import get_device, get_dtype, prep_docs, vprint
        for row in FORMER:
            if row.module: getattr(import_module(f"rerankers.models.{row.module}"), row.name)
        heavy = {"torch", "transformers", "onnxruntime", "litellm", "httpx", "numpy", "tokenizers", "langchain_core", "pandas"}
        print(sorted(heavy & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_an_unknown_name_of_an_old_module_is_an_import_error():
    for name in ("rerankers.models", "rerankers.models.upr", "rerankers.models.ranker"):
        with pytest.raises(ImportError): exec(f"from {name} import Nothing")
        with pytest.raises(AttributeError, match=name): import_module(name).Nothing  # noqa: B018
        assert not hasattr(import_module(name), "__wrapped__")


# ---- options

def test_verbose_is_taken_by_every_class():
    "And changes no signature"
    from rerankers.backends.bm25 import BM25Ranker
    assert BM25Ranker(verbose=0).progress is False and BM25Ranker(verbose=1).progress is None and BM25Ranker().progress is None
    assert "verbose" not in inspect.signature(BM25Ranker).parameters and "verbose" not in options_of(BM25Ranker)
    with pytest.raises(InputError, match="'verbos'"): Reranker("bm25", verbos=0)


def test_options_by_position_and_by_name_are_the_same():
    from rerankers.models.api_rankers import APIRanker
    placed, named = APIRanker("m", "key-1", "cohere", 0, "http://127.0.0.1:9/x"), APIRanker("m", api_key="key-1", api_provider="cohere", url="http://127.0.0.1:9/x")
    assert placed.progress is False and named.progress is None
    assert {k: v for k, v in vars(placed).items() if k != "progress" and isinstance(v, str)} == {k: v for k, v in vars(named).items() if isinstance(v, str)}
    with pytest.raises(TypeError): type(Reranker("bm25"))("", 1.5)      # no class of 0.10: what follows the model is named


def first_arguments():
    "Class of 0.10 -> what its constructor called the model, and the model that it took when none was named"
    trees = [ast.parse(file.read_text()) for file in sorted((wheel(OLD) / "rerankers" / "models").glob("*.py"))]
    classes = {c.name: c for tree in trees for c in tree.body if isinstance(c, ast.ClassDef)}
    names = {row.name for row in FORMER} & set(classes)
    made = {name: next(f for f in classes[name].body if getattr(f, "name", "") == "__init__").args for name in names}
    return {name: (a.args[1].arg, ast.literal_eval(a.defaults[0]) if len(a.defaults) == len(a.args) - 1 else "") for name, a in made.items()}


FIRST = ("model", "model_name", "model_name_or_path")


def recording(name):
    "A class made from ours, whose own constructor keeps what it was called with"
    class Recording(registry.backend_named(name)):
        def __init__(self, model="", **options): self.called = (model, options)
    return Recording


def test_the_wheel_has_these_names_for_the_model():
    assert {first for first, _ in first_arguments().values()} <= set(FIRST) and len(first_arguments()) > 10


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("name", [row.name for row in FORMER if row.word])
def test_a_class_of_0_10_takes_its_model_by_name(name, first):
    "By any of the names, wherever it stands among the others; a model that is named twice is an error, as in any call"
    assert recording(name)(device="cpu", **{first: "some/model"}).called == ("some/model", {"device": "cpu"})
    with pytest.raises(TypeError, match="model"): recording(name)("some/model", **{first: "another/model"})


@pytest.mark.parametrize("name", sorted(first_arguments()))
def test_a_class_of_0_10_takes_the_model_that_it_took_unnamed(name):
    assert recording(name)(verbose=0).called[0] == first_arguments()[name][1]


def test_the_models_names_of_0_10_belong_to_its_classes_alone():
    from rerankers.backends.bm25 import BM25Ranker
    with pytest.raises(TypeError): BM25Ranker(model_name_or_path="some/model")


def test_a_class_that_is_made_from_one_of_0_10_has_arguments_of_its_own():
    "What they are called is its own affair, and a model that it does not ask for is not handed to it"
    from rerankers.models.mxbai_v2 import MxBaiV2Ranker

    class Named(MxBaiV2Ranker):
        def __init__(self, *, model_name="none"): self.called = model_name

    class Alone(MxBaiV2Ranker):
        def __init__(self): self.called = "nothing"

    class Later(MxBaiV2Ranker):
        def __init__(self, place, model="none"): self.called = place, model
    assert [Named(model_name="theirs").called, Named().called, Alone().called] == ["theirs", "none", "nothing"]
    assert Later("here", model="theirs").called == ("here", "theirs")


RENAMED = [
    ("t5", {"token_true": "a", "token_false": "b"}, {"true_token": "a", "false_token": "b"}), ("t5", {"inputs_template": "{text}"}, {"template": "{document}"}),
    ("t5", {"token_true": "auto", "token_false": "auto", "return_logits": False}, {}), ("t5", {"true_token": "a"}, {"true_token": "a"}),
    ("t5", {"return_logits": True}, {"return_logits": True}),
    ("llm-layerwise", {"max_sequence_length": 9, "compress_layer": [8], "cutoff_layers": [2]}, {"max_length": 9, "compress_layers": [8], "cutoff_layers": [2]}),
    ("upr", {"max_input_length": 9, "verbalizer": "Ask:"}, {"max_length": 9, "template": "Passage: {document}. Ask:"}),
    ("upr", {"verbalizer_head": "Text:"}, {"template": "Text: {document}. Please write a question based on this passage."}),
    ("upr", {"reduction": "mean"}, {"reduction": "mean"}),
    ("cross-encoder", {"max_length": 9}, {"max_length": 9}), ("bm25", {"token_true": "a"}, {"token_true": "a"}),
]


@pytest.mark.parametrize(("word", "before", "now"), RENAMED, ids=str)
def test_options_that_have_another_name_now(word, before, now):
    given = dict(before)
    assert translated(registry.BACKENDS[word], given) == now and given == before


def test_renamed_options_reach_the_model():
    pytest.importorskip("torch")
    from rerankers.models.t5ranker import T5Ranker
    from rerankers.tiny_models import tiny_language_model
    model = tiny_language_model("t5")
    new = Reranker(model, model_type="t5", device="cpu", template="Query: {query} Passage: {document} Relevant:", true_token="▁yes", false_token="▁no")
    old = {"inputs_template": "Query: {query} Passage: {text} Relevant:", "token_true": "▁yes", "token_false": "▁no", "device": "cpu"}
    wanted = new.rank(QUERY, DOCS)
    assert Reranker(model, model_type="T5Ranker", verbose=0, **old).rank(QUERY, DOCS) == wanted
    assert T5Ranker(model, **old).rank(QUERY, DOCS) == wanted
    assert T5Ranker(model, 32, "float32", "cpu", 0, "▁no", "▁yes", False, old["inputs_template"]).rank(QUERY, DOCS) == wanted
    assert wanted != Reranker(model, model_type="t5", device="cpu").rank(QUERY, DOCS)


def test_subclasses_are_what_they_are_made_of():
    "CohereRanker is an APIRanker, so it may be called as one"
    assert former_of(registry.BACKENDS["cohere"]).name == "APIRanker" and former_of(registry.BACKENDS["bm25"]) is None


# ---- classes with a rank of their own

class Longest(BaseRanker):
    "Long documents first, and only those of two letters or more"
    def __init__(self, model: str, verbose: int): self.model, self.verbose = object(), verbose
    def score(self, query, doc): return float(len(doc))
    def rank(self, query, docs, doc_ids=None):
        docs = [docs] if isinstance(docs, (str, Document)) else docs
        texts = [d if isinstance(d, str) else d.text for d in docs]
        ids = doc_ids or [i if isinstance(d, str) else d.doc_id for i, d in enumerate(docs)]
        found = sorted(zip(texts, ids, strict=True), key=lambda pair: -len(pair[0]))
        return RankedResults([Result(Document(t, i), self.score(query, t), n) for n, (t, i) in enumerate(found, start=1) if len(t) > 1], query)


LONGEST = Longest("model", 0)
MANY = [["a", "ccc", "bb"], ["dddd", "e"]]


def ids(results): return [r.doc_id for r in results]


@pytest.mark.parametrize("many", [LONGEST.rank_many, lambda *a, **k: asyncio.run(LONGEST.rank_many_async(*a, **k))], ids=["rank_many", "rank_many_async"])
def test_many_go_through_a_rank_of_ones_own(many):
    "Its answer is handed on as it is, a document that it left out stays out"
    assert many(["q", "r"], MANY) == [LONGEST.rank("q", MANY[0]), LONGEST.rank("r", MANY[1])]
    assert [ids(r) for r in many(["q", "r"], MANY[0], doc_ids=list("xyz"))] == [["y", "z"]] * 2
    assert [ids(r) for r in many(["q", "r"], MANY, doc_ids=[[7, 8, 9], [1, 2]], top_k=1)] == [[8], [1]]
    assert many([], []) == []
    with pytest.raises(InputError, match="docs has 2 entries for 1 query"): many(["q"], MANY)
    with pytest.raises(InputError, match="takes no metadata="): many(["q"], MANY[:1], metadata=[[{}] * 3])
    with pytest.raises(InputError, match="takes no batch_size="): many(["q"], MANY[:1], batch_size=2)
    with pytest.raises(InputError, match="top_k=0"): many(["q"], MANY[:1], top_k=0)


def test_one_goes_through_a_rank_of_ones_own():
    assert asyncio.run(LONGEST.rank_async("q", MANY[0])) == LONGEST.rank("q", MANY[0])
    assert ids(asyncio.run(LONGEST.rank_async("q", "single"))) == [0] and ids(asyncio.run(LONGEST.rank_async("q", MANY[0], top_k=1))) == [1]
    assert LONGEST.score("q", "abc") == 3.0 and "object" not in repr(LONGEST)
    assert LONGEST.answer([], Call()) == []


class Unsorted(BaseRanker):
    "Results as the documents came, as some rankers for 0.10 give them: `top_k` sorts"
    def __init__(self, ranked=False): self.ranked = ranked
    def score(self, query, doc): return float(len(doc))
    def rank(self, query, docs, doc_ids=None):
        texts = [d if isinstance(d, str) else d.text for d in docs]
        places = [1 + sum(len(other) > len(t) for other in texts) for t in texts]
        return RankedResults([Result(Document(t, i), len(t), p if self.ranked else None) for i, (t, p) in enumerate(zip(texts, places))], query)


@pytest.mark.parametrize("ranked", [True, False], ids=["by rank", "by score"])
def test_the_best_of_a_rank_that_does_not_sort(ranked):
    ranker, best = Unsorted(ranked), Unsorted(ranked).rank("q", MANY[0]).top_k(2)
    assert [r.doc_id for r in best] == [1, 2]
    found = [asyncio.run(ranker.rank_async("q", MANY[0], top_k=2)), ranker.rank_many(["q"], MANY[0], top_k=2)[0],
             asyncio.run(ranker.rank_many_async(["q"], MANY[0], top_k=2))[0]]
    assert [list(results) for results in found] == [best] * 3
    task = make_tasks(["q"], [MANY[0]])
    later = asyncio.run(ranker.answer_async(task, Call()))
    assert ranker.answer(task, Call())[0].order == later[0].order == [1, 2, 0]


def test_options_that_a_rank_of_ones_own_takes_are_handed_on():
    seen = []

    class Loose(Longest):
        def rank(self, query, docs, doc_ids=None, top_k=None, **kwargs):
            seen.append((top_k, kwargs))
            return super().rank(query, docs, doc_ids)

    loose = Loose("m", 0)
    assert [ids(r) for r in loose.rank_many(["q"], MANY[:1], top_k=1, batch_size=3, instruction=None)] == [[1]]
    assert ids(asyncio.run(loose.rank_async("q", MANY[0], metadata=[{}] * 3))) == [1, 2]
    assert seen == [(1, {"batch_size": 3}), (None, {"metadata": [{}] * 3})]


def test_a_subclass_that_changes_rank_changes_its_twins():
    "Of a class that was complete before"
    class Doubled(PointwiseRanker):
        def score_pairs(self, pairs, call): return [float(len(t)) for _, t in pairs]

    class Capped(Doubled):
        def rank(self, query, docs, *args, **kwargs): return super().rank(query, docs, *args, **kwargs)[:1]

    class Again(Capped):
        def rank(self, query, docs, *args, **kwargs): return super().rank(query, docs, *args, **kwargs)[:0]

    for cls, n in ((Doubled, 3), (Capped, 1), (Again, 0)):
        ranker = cls()
        found = [ranker.rank("q", MANY[0]), ranker.rank_many(["q"], MANY[:1])[0], asyncio.run(ranker.rank_async("q", MANY[0])),
                 asyncio.run(ranker.rank_many_async(["q"], MANY[:1]))[0]]
        assert [len(r) for r in found] == [n] * 4
    assert Doubled.rank_many is BaseRanker.rank_many


def test_classes_that_bring_both_keep_pooling():
    "RankGPT has its own `rank` and `rank_async`; many queries still go to the model together"
    assert registry.BACKENDS["rankgpt"].rank_many is BaseRanker.rank_many


@pytest.mark.parametrize("base", [BaseRanker, Longest])
def test_own_async_is_kept(base):
    "Whether the class has an `answer` from above or none"
    class Waits(base):
        def __init__(self): pass
        async def rank_async(self, query, docs, doc_ids=None): return "own"
        def rank(self, query, docs, doc_ids=None): return LONGEST.rank(query, docs, doc_ids)

    assert asyncio.run(Waits().rank_async("q", ["a"])) == "own" and Waits().rank_many(["q"], MANY[:1]) == LONGEST.rank_many(["q"], MANY[:1])


def test_a_class_without_rank_and_answer_is_no_ranker():
    class Nothing(BaseRanker):
        def score(self, query, doc): return 0.0

    with pytest.raises(TypeError, match="answer"): Nothing()


def test_a_class_of_ones_own_may_be_registered(monkeypatch):
    "And gets the `verbose` that its constructor insists on"
    for name in ("BACKENDS", "FAMILIES"):
        kept = getattr(registry, name).copy()
        for module in (claims, registry): monkeypatch.setattr(module, name, kept)
    cls = type("Registered", (word_ranker(),), {"words": ("my-words",), "defaults": {"en": "the-model"}})
    ranker = Reranker("my-words", verbose=0)
    assert (type(ranker), ranker.verbose, ranker.model, ranker.progress) == (cls, 0, "the-model", False)
    assert Reranker("x/y", model_type="Registered").verbose == 1
    assert ids(ranker.rank(QUERY, DOCS)) == ids(ranker.rank_many([QUERY], DOCS)[0]) == [0, 1, 2, 3]


def test_the_order_of_a_rank_of_ones_own_is_an_answer():
    "For what asks `answer`: a combination, the driver of a strategy"
    from rerankers.documents import to_documents
    from rerankers.rankers import Task
    task = Task("q", to_documents(["aa", "bbbb", "ccc"], doc_ids=list("xyz")))
    assert LONGEST.answer([task], Call()) == [Ranking(order=[1, 2, 0])] and task.documents[0].doc_id == "x"


# ---- results

KEYS = st.text(min_size=1, max_size=8)
OWN = {"score", "rank", "text", "title", "doc_id", "metadata", "document", *(n for n in dir(Result) if not n.startswith("_")), *vars(Result(Document("t"))),
       *Document.__dataclass_fields__}


@given(metadata=st.dictionaries(KEYS, st.integers(), max_size=4))
@example(metadata={"source": 1, "_private": 2, "__html__": 3, "_repr_html_": 4, "score": 5, "note": 6, "__deepcopy__": 7, "__getstate__": 8})
def test_metadata_keys_are_attributes(metadata):
    "What a result has itself comes first, what begins with an underscore never comes; copies and pickles are whole"
    result = Result(Document("t", "x", metadata), 0.5, 1)
    for key, value in metadata.items():
        if key in OWN or key.startswith("_"): assert getattr(result, key, None) is not value or not isinstance(getattr(Result, key, None), (type(None), int))
        else: assert getattr(result, key) == value
    for twin in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result)), pickle.loads(pickle.dumps(result, 0))): assert twin == result
    assert (result.score, result.rank, result.text, result.note) == (0.5, 1, "t", None)


@pytest.mark.parametrize("name", ["__html__", "_repr_html_", "_repr_mimebundle_", "__array__", "__len__", "_ipython_display_", "__fspath__", "_id"])
def test_nobody_is_told_how_to_treat_a_result_by_its_metadata(name):
    result = Result(Document("t", metadata={name: "their value"}))
    assert not hasattr(result, name)
    with pytest.raises(AttributeError, match=name): getattr(result, name)


def test_an_attribute_that_is_not_there_names_the_nearest_key():
    with pytest.raises(AttributeError, match="no attribute 'sorce'.*'source'"): Result(Document("t", metadata={"source": 1})).sorce  # noqa: B018
    with pytest.raises(AttributeError, match="'x'"): object.__new__(Result).x  # noqa: B018


def test_a_title_of_the_metadata_is_shown_to_no_model_and_breaks_no_table():
    results = Reranker("bm25").rank("title", ["a", "b"], metadata=[{"title": 5}, {"title": "title"}])
    assert [r.score for r in results] == [0.0, 0.0] and [r.title for r in results] == [5, "title"] and "<table>" in results._repr_html_()
    assert Result(Document("t", title="own", metadata={"title": "other"})).title == "own"


@given(rows=st.lists(st.tuples(st.none() | st.integers(1, 5), st.none() | st.floats(allow_infinity=False)), max_size=6), k=st.integers(0, 7))
def test_top_k_believes_ranks_and_then_scores(rows, k):
    results = RankedResults([Result(Document("t", i), score, rank) for i, (rank, score) in enumerate(rows)], "q")
    best = ids(results.top_k(k))
    if all(rank is not None for rank, _ in rows): expected = sorted(range(len(rows)), key=lambda i: rows[i][0])
    else:
        told = [i for i, (_, s) in enumerate(rows) if s is not None and s == s]
        expected = sorted(told, key=lambda i: rows[i][1], reverse=True) + [i for i in range(len(rows)) if i not in told]
    assert best == expected[:k] and ids(results) == list(range(len(rows)))


# ---- utils

def test_what_is_said_goes_to_the_log(caplog, capsys):
    from rerankers.utils import vprint
    with caplog.at_level(logging.INFO, "rerankers"):
        vprint("heard", 1)
        vprint("not heard", 0)
    assert "heard" in caplog.messages and "not heard" not in caplog.messages and capsys.readouterr() == ("", "")


def test_chunks_of_nothing_are_refused():
    from rerankers.utils import get_chunks, make_documents
    with pytest.raises(InputError, match="chunk_size=0"): get_chunks([1], 0)
    assert list(get_chunks("abc", 2)) == ["ab", "c"] and make_documents(["a"], ["x"]) == [Document("a", "x")]
