"What a newcomer tried and found: each case is an error that says what to do, or simply works"
import os
from pathlib import Path

import pytest

from rerankers import Document, InputError, ModelLoadError, ProviderError, RankedResults, Reranker, RerankersError, Result, UnknownModel, claims, registry
from rerankers.errors import ProviderTimeoutError
from rerankers.rankers import PointwiseRanker, SetwiseRanker
from rerankers.claims import Claims
from rerankers.registry import Shortcut, register_shortcut
from servers import Say, Scripted, need_litellm


def said(error, call):
    "What an error of ours says, where it is the kind that is expected and no foreign one"
    with pytest.raises(error) as caught: call()
    assert isinstance(caught.value, RerankersError)
    return str(caught.value)


@pytest.fixture(scope="session")
def tiny():
    "A tiny classifier's folder"
    pytest.importorskip("torch")
    from rerankers.tiny_models import tiny_checkpoint
    return tiny_checkpoint()


@pytest.fixture(scope="session")
def graph(tmp_path_factory):
    "The same with an ONNX graph and no other weights"
    for module in ("torch", "onnx", "onnxruntime"): pytest.importorskip(module)
    import shutil
    from rerankers.tiny_models import tiny_checkpoint
    folder = tmp_path_factory.mktemp("newcomer") / "graph"
    shutil.copytree(tiny_checkpoint(onnx=True), folder)
    (folder / "model.safetensors").unlink()
    return str(folder)


@pytest.fixture
def tables(monkeypatch):
    "Backends may be registered, and are forgotten again"
    registry.load_backends()
    for name in ("FAMILIES", "BACKENDS"):
        kept = getattr(registry, name).copy()
        for module in (claims, registry): monkeypatch.setattr(module, name, kept)
    monkeypatch.setattr(registry, "SHORTCUTS", dict(registry.SHORTCUTS))


# ---- methods without a model

@pytest.mark.parametrize("model", ["any/path", "BAAI/bge-reranker-base", "offline-model"])
def test_a_method_without_a_model_says_so(model):
    assert f"'bm25' takes no model: leave {model!r} out" in said(InputError, lambda: Reranker(model, model_type="bm25"))
    assert "takes no model" in said(InputError, lambda: Reranker(model, model_type="BM25Ranker", k1=1.0))
    assert Reranker("bm25", model_type="bm25").model == ""


def test_a_method_of_somebody_else_without_a_model_says_so(tables):
    type("Counts", (SetwiseRanker,), {"words": ("newcomer-counts",), "__init__": lambda self, *, k=1: None, "score_documents": lambda *a: []})
    assert "'newcomer-counts' takes no model" in said(InputError, lambda: Reranker("x/y", model_type="newcomer-counts"))


def test_a_method_that_needs_a_model_and_has_no_default_says_so(tables):
    type("Wants", (SetwiseRanker,), {"words": ("newcomer-wants",), "__init__": lambda self, model: None, "score_documents": lambda *a: []})
    assert "'newcomer-wants' needs a model" in said(InputError, lambda: Reranker("newcomer-wants"))


# ---- what is no name

@pytest.mark.parametrize("name", [None, 5, 0.5, True, [], ["bm25"], {}, object(), b"bm25", "", "  "],
                         ids=lambda name: "object" if type(name) is object else repr(name))
def test_what_names_no_model_is_refused(name):
    assert "name a family, a checkpoint or a folder" in said(InputError, lambda: Reranker(name))


@pytest.mark.parametrize("option", ["lang", "model_type"])
@pytest.mark.parametrize("value", [5, b"en", ["en"], "", " ", True], ids=repr)
def test_words_are_strings(option, value):
    assert f"{option}={value!r}" in said(InputError, lambda: Reranker("bm25", **{option: value}))


def test_a_language_without_effect_is_refused():
    "A word that stands for one model has no default for another language"
    words = said(UnknownModel, lambda: Reranker("offline", lang="de"))
    assert "lang='de'" in words and "Reranker('cross-encoder', lang='de')" in words


@pytest.mark.parametrize("service", ["openai", "anthropic", "gemini", "groq", "ollama", "OpenAI"])
def test_a_service_of_chat_models_points_to_the_method(service):
    words = said(UnknownModel, lambda: Reranker(service, api_key="k"))
    assert "model_type='rankgpt'" in words and f"client={service.lower()!r}" in words and "Did you mean" not in words


@pytest.mark.parametrize(("name", "whole"), [("bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3"), ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
                                             ("BGE-M3", "BAAI/bge-m3"), ("siglip2-base-patch16-224", "google/siglip2-base-patch16-224")])
def test_a_hub_name_without_its_owner_is_recognised(name, whole):
    "Whether a name says what kind of model it is or not"
    pytest.importorskip("transformers")
    assert repr(whole) in said((UnknownModel, ModelLoadError), lambda: Reranker(name))


def test_lang_needs_a_word(): assert "lang=None" in said(InputError, lambda: Reranker("bm25", lang=None))


def test_paths_are_names(tiny):
    "Of a folder, in `Reranker` and where a class is called"
    from rerankers.models.transformer_ranker import TransformerRanker
    path, wanted = Path(tiny), Reranker(tiny, device="cpu").rank("hamlet", ["a", "hamlet"])
    assert Reranker(path, device="cpu").rank("hamlet", ["a", "hamlet"]) == wanted
    for made in (TransformerRanker(path, device="cpu"), TransformerRanker(model_name_or_path=path, device="cpu")):
        assert made.rank("hamlet", ["a", "hamlet"]) == wanted and made.model == tiny


# ---- options of another place

@pytest.mark.parametrize("name", ["top_k", "progress", "rank_fields", "doc_ids", "metadata", "query", "docs"])
def test_what_belongs_to_rank_is_named(name):
    words = said(InputError, lambda: Reranker("bm25", **{name: 3}))
    assert f"{name}= belongs to rank()" in words and "Did you mean" not in words


def test_an_instruction_where_none_is_followed():
    words = said(InputError, lambda: Reranker("bm25", instruction="prefer primary sources"))
    assert "'bm25' follows no instruction" in words and "Did you mean" not in words


def test_a_misspelt_option_is_still_helped(): assert "'k1'" in said(InputError, lambda: Reranker("bm25", k_1=3))


# ---- number formats

@pytest.mark.parametrize("dtype", ["float17", "klingon", "", 5], ids=repr)
@pytest.mark.parametrize("kind", ["tiny", "graph"])
def test_a_number_format_that_is_none_is_refused(kind, dtype, request):
    folder = request.getfixturevalue(kind)
    assert f"dtype={dtype!r}" in said(InputError, lambda: Reranker(folder, dtype=dtype, device="cpu"))


def test_no_torch_is_needed_to_refuse_one():
    from rerankers.engine.hub import LoadOptions
    assert "float16" in said(InputError, lambda: LoadOptions(dtype="flota16"))


@pytest.mark.parametrize("dtype", ["auto", None, "float32", "fp16", "bf16", "half"])
def test_a_graph_has_its_own_number_format(graph, dtype, caplog):
    "So one that is right is let pass, as a device is for BM25; that it has no effect is said"
    with caplog.at_level("WARNING", logger="rerankers"): chosen = Reranker(graph, dtype=dtype)
    assert chosen.rank("hamlet", ["a"]) == Reranker(graph).rank("hamlet", ["a"])
    assert ("has no effect" in caplog.text) == (dtype not in ("auto", None))


# ---- folders and files

@pytest.mark.parametrize("options", [{}, *({"model_type": word} for word in ("cross-encoder", "biencoder", "colbert", "t5"))], ids=str)
@pytest.mark.parametrize("path", ["/no/such/model", "./models/mine", "../mine", "models/of/mine", "mine/", "~/no/such/model"])
def test_a_folder_that_is_not_there(path, options, recwarn):
    words = said(ModelLoadError, lambda: Reranker(path, **options))
    assert f"no folder {path!r}" in words and "Repo id" not in words and not [w for w in recwarn if "taken for" in str(w.message)]


def test_a_folder_at_home_is_not_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "mine").mkdir()
    assert os.path.join(str(tmp_path), "mine") in said(ModelLoadError, lambda: Reranker("~/mine"))


@pytest.mark.parametrize("options", [{}, {"model_type": "cross-encoder"}, {"model_type": "biencoder"}], ids=str)
@pytest.mark.parametrize("name", ["config.json", "model.onnx", "onnx/model.onnx", "cross-encoder.bin"])
def test_a_file_where_a_folder_is_wanted(tmp_path, name, options, recwarn):
    (tmp_path / "onnx").mkdir()
    (tmp_path / name).write_text("{}")
    words = said(ModelLoadError, lambda: Reranker(tmp_path / name, **options))
    assert f"is a file: give its folder, {str(tmp_path)!r}" in words and not [w for w in recwarn if "taken for" in str(w.message)]


def test_a_servers_own_paths_are_left_to_it():
    "A server may call its models by paths of its own machine"
    pytest.importorskip("httpx")
    assert Reranker("/models/qwen", model_type="rankgpt", base_url="http://127.0.0.1:9/v1", api_key="k").model == "/models/qwen"


# ---- a graph alone

@pytest.mark.parametrize("options", [{"backend": "torch"}, {"model_type": "biencoder"}, {"model_type": "colbert"}, {"model_type": "splade"}], ids=str)
def test_a_folder_with_a_graph_only(graph, options):
    words = said(ModelLoadError, lambda: Reranker(graph, **options))
    assert "an ONNX graph only" in words and "backend='onnx'" in words


# ---- text that does not fit

@pytest.mark.parametrize("most", [3, 4])
@pytest.mark.parametrize("kind", ["tiny", "graph"])
def test_a_length_that_leaves_no_token_of_a_document(kind, most, request):
    "Three special tokens stand around a pair"
    folder = request.getfixturevalue(kind)
    words = said(InputError, lambda: Reranker(folder, max_length=most))
    assert f"max_length={most}" in words and "at least 5" in words
    assert len(Reranker(folder, max_length=5).rank("hamlet", ["faust", "hamlet"])) == 2


def test_a_length_that_leaves_no_token_of_a_single_text():
    pytest.importorskip("torch")
    from rerankers.tiny_models import tiny_checkpoint
    assert "at least 3" in said(InputError, lambda: Reranker(tiny_checkpoint("biencoder"), max_length=2))


# ---- tuples

ROWS = ("(id, text)", "(id, text, metadata)", "iter_rows(named=True)", "to_dict('records')")


WRONG = [("hamlet", 1, 2), ("hamlet", "a", 1), ("hamlet", "a", "b"), ("a", "b", {}, 1), ("hamlet", 5), (1, None), ("hamlet",), ()]


@pytest.mark.parametrize("row", WRONG, ids=repr)
def test_a_row_that_is_no_document_shows_what_one_is(row):
    words = said(InputError, lambda: Reranker("bm25").rank("hamlet", [row]))
    assert "document 0" in words and all(part in words for part in ROWS)


def test_rows_of_a_frame_by_name():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"text": ["hamlet", "faust"], "id": ["a", "b"]})
    assert [r.doc_id for r in Reranker("bm25").rank("hamlet", frame.iter_rows(named=True))] == ["a", "b"]


# ---- the best few

@pytest.mark.parametrize("k", [-1, "2", 1.5, True, [1]], ids=repr)
def test_a_number_of_results_that_is_none(k):
    results = RankedResults([Result(Document("a", 0), 1.0, 1), Result(Document("b", 1), 0.5, 2)], "q")
    assert f"k={k!r}" in said(InputError, lambda: results.top_k(k))
    assert [len(results.top_k(n)) for n in (0, 1, 2, 9, None)] == [0, 1, 2, 2, 2]


# ---- declarations

DECLARED = [("words", "toyword"), ("words", ("",)), ("words", (5,)), ("words", 5), ("requires", {"extra": "toyword"}), ("requires", "torch")]


@pytest.mark.parametrize(("name", "value"), DECLARED, ids=str)
def test_a_declaration_that_would_be_taken_apart(tables, name, value):
    "A string where several are wanted would be its letters"
    before = set(registry.BACKENDS)
    words = said(InputError, lambda: type("Toy", (PointwiseRanker,), {"words": ("toyword",), name: value, "score_pairs": lambda *a, **k: []}))
    assert f"Toy.{name}" in words and ("('toyword',)" in words or "toyword" not in repr(value))
    assert set(registry.BACKENDS) == before


@pytest.mark.parametrize("name", list(Claims.__dataclass_fields__))
def test_claims_that_would_be_taken_apart(name):
    assert f"{name}='*toy*'" in said(InputError, lambda: Claims(**{name: "*toy*"}))


def test_a_shortcut_that_would_be_taken_apart(tables):
    assert "also='splade'" in said(InputError, lambda: register_shortcut(Shortcut("toy", "bm25", lambda: ("", {}), lambda: True, also="splade")))


# ---- models to test with

@pytest.mark.parametrize("kind", ["nope", "", "BERT", None], ids=repr)
def test_tiny_models_name_their_kinds(kind):
    pytest.importorskip("torch")
    from rerankers.tiny_models import tiny_checkpoint, tiny_language_model, tiny_late
    assert all(f"'{name}'" in said(InputError, lambda: tiny_checkpoint(kind)) for name in ("bert", "chain", "biencoder"))
    assert all(f"'{name}'" in said(InputError, lambda: tiny_late(kind)) for name in ("stanford", "pylate", "multi-vector"))
    assert "architecture" in said(InputError, lambda: tiny_language_model(kind))




# ---- attempts

WEB = {"api_key": "k", "backoff": 0.0}
ASKED = {"cohere": {"model_type": "cohere"}, "rankgpt": {"model_type": "rankgpt"}, "litellm": {"model_type": "rankgpt", "client": "litellm"}}
BROKEN = {"500": Say({"error": "no"}, status=500), "429": Say({"error": "no"}, status=429, headers={"Retry-After": "0"}), "hangs up": Say(cut=-1)}


def hosted(way, server, **options):
    "A ranker whose work the server does, or the test is skipped"
    pytest.importorskip("httpx")
    if way == "litellm": need_litellm()
    path = "/rerank" if way == "cohere" else "/v1"
    return Reranker("openai/any" if way == "litellm" else "any", base_url=server.url + path, **WEB, **ASKED[way], **options)


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("way", ["cohere", "rankgpt"])
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_an_error_says_how_often_was_tried(way, fault, retries):
    with Scripted([BROKEN[fault]] * 9) as server:
        words = said(ProviderError, lambda: hosted(way, server, retries=retries).rank("q", ["a", "b"]))
    assert len(server.seen) == retries + 1
    assert (f"{retries + 1} attempts; retries=0 makes one" in words) is (retries > 0) and "1 attempts" not in words


@pytest.mark.parametrize("way", ["cohere", "rankgpt"])
def test_a_timeout_says_that_it_was_one_attempts(way):
    with Scripted([Say(delay=float("inf"))] * 9) as server:
        words = said(ProviderTimeoutError, lambda: hosted(way, server, retries=1, timeout=0.2).rank("q", ["a", "b"]))
    assert "within 0.2 s" in words and "2 attempts; retries=0 makes one" in words


def test_what_no_other_attempt_would_change_is_tried_once():
    with Scripted([Say({"error": "no"}, status=400)]) as server:
        assert "attempts" not in said(ProviderError, lambda: hosted("cohere", server, retries=3).rank("q", ["a"]))


@pytest.mark.parametrize("way", ASKED)
def test_requests_that_failed_are_counted(way):
    "What went out is what was answered and what failed"
    with Scripted([BROKEN["500"]] * 9) as server: results = hosted(way, server, retries=1, on_error="keep").rank("q", ["a", "b"])
    assert (results.usage.calls, results.usage.retries) == (0, 2) and len(server.seen) == 2 and sum(results.faults.values()) == 1


@pytest.mark.parametrize("way", ["cohere", "rankgpt"])
def test_an_answer_that_is_none_is_counted_too(way):
    with Scripted([BROKEN["500"], Say("<html>no</html>")]) as server: results = hosted(way, server, retries=1, on_error="keep").rank("q", ["a", "b"])
    assert results.usage.calls + results.usage.retries == len(server.seen) == 2 and results.usage.cost is None


def test_attempts_travel_with_the_error():
    import pickle
    with Scripted([BROKEN["500"]] * 9) as server, pytest.raises(ProviderError) as caught: hosted("cohere", server, retries=1).rank("q", ["a"])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value) and caught.value.attempts == 2


# ---- what the README says of documents

def test_ids_and_titles_are_as_the_readme_says():
    ranker = Reranker("bm25")
    docs = [Document("a text", doc_id="mine"), {"text": "another"}, ("its own", "a third")]
    assert sorted(map(str, (r.doc_id for r in ranker.rank("text", docs)))) == ["1", "its own", "mine"]
    assert sorted(r.doc_id for r in ranker.rank("text", docs, doc_ids=["x", "y", "z"])) == ["x", "y", "z"]
    assert ranker.rank("hamlet", [Document("a play", title="Hamlet"), Document("a play")])[0].title == "Hamlet"
    assert ranker.score("hamlet", Document("a play", title="Hamlet")) == ranker.score("hamlet", "Hamlet a play") > 0


def test_help_lists_the_options_of_a_method():
    import pydoc
    shown = pydoc.render_doc(type(Reranker("bm25")), renderer=pydoc.plaintext)
    assert "k1: 'float' = 1.2" in shown or "k1: float = 1.2" in shown
