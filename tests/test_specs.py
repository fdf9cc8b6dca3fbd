"A ranker written down: every form says the same, and makes the same ranker"
import copy
import json
import pickle
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankers import InputError, Reranker, Spec
from rerankers.backends.bm25 import BM25Ranker
from rerankers.registry import load_backends
from rerankers.specs import is_line

tomllib = pytest.importorskip("tomllib", reason="TOML is read from Python 3.11 on")
load_backends()

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", "10", "true", "null", "1e5", "a b",
     'a"b', "a\\b", "a(b)", "x=1", "[1]", "{}", ",", "BAAI/bge-reranker-v2-m3", "C:\\models\\mine", "nan", "None", "'", "ü 莎\n\t"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUE = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)
NAME = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in ("api_key", "token", "headers"))
SPEC = st.recursive(st.builds(Spec, TEXT, st.just(()), st.dictionaries(NAME, VALUE, max_size=3)),
                    lambda inner: st.builds(Spec, TEXT, st.lists(inner, max_size=3).map(tuple), st.dictionaries(NAME, VALUE, max_size=2)), max_leaves=5)


@given(spec=SPEC)
def test_every_form_comes_back(spec):
    assert Spec.parse(str(spec)) == spec == Spec.from_json(spec.to_json()) == Spec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert pickle.loads(pickle.dumps(spec)) == spec == copy.deepcopy(spec) and hash(Spec.parse(str(spec))) == hash(spec)
    assert eval(repr(spec), {"Spec": Spec.parse}) == spec


def nothing_in_a_list(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, list) and None in value or any(map(nothing_in_a_list, inner))


def nothing_within(value):
    return value is None or isinstance(value, list) and any(map(nothing_within, value)) or isinstance(value, dict) and any(map(nothing_within, value.values()))


@given(spec=SPEC)
def test_toml_comes_back_where_it_has_words_for_it(spec):
    "It has none for nothing"
    if nothing_in_a_list(spec.to_dict()):
        with pytest.raises(InputError, match="to_json"): spec.to_toml()
        return
    found = Spec.from_toml(spec.to_toml())
    assert found.name == spec.name and len(found.parts) == len(spec.parts)
    if not nothing_within(spec.to_dict()): assert found == spec


@pytest.mark.parametrize(("text", "place"), [
    ("a(b", "a comma or a bracket"), ("a(b c)", "a comma or a bracket"), ("a(x=1, b)", "parts stand before"), ("a)b", "nothing may follow"),
    ("", "a name or a value"), ("a(x=)", "a name or a value"), ("a(x=[1)", "no JSON"), ("a(b)(c)", "nothing may follow"), ("(a)", "a name")])
def test_what_is_no_line_is_shown_its_place(text, place):
    with pytest.raises(InputError, match=place): Spec.parse(text)


@pytest.mark.parametrize("odd", [lambda: 1, object(), b"x", {1, 2}, [object()], {"a": {"b": print}}])
def test_what_has_no_text_is_refused_by_name(odd):
    with pytest.raises(InputError, match="the option client= of 'rankgpt' is a"): Spec("rankgpt", options={"client": odd})


@pytest.mark.parametrize("row", [{}, {"name": 5}, {"name": "a", "option": {}}, {"model": "a"}])
def test_another_dictionary_is_no_spec(row):
    with pytest.raises(InputError, match="name, parts and options"): Spec.from_dict(row)


@pytest.mark.parametrize("name", ["api_key", "token", "headers"])
def test_a_key_is_never_written(name):
    for made in (Spec("cohere", options={name: "secret-1"}), Reranker("cohere", api_key="secret-1", headers={"X-Key": "secret-1"}).spec):
        assert "secret-1" not in f"{made}{made!r}{made.to_dict()}{pickle.dumps(made)}{vars(made)}"


def test_a_ranker_does_not_keep_its_key_among_its_arguments():
    ranker = Reranker("cohere", api_key="secret-1")
    assert "secret-1" not in f"{ranker.made_with}{ranker.made_from}"


@pytest.mark.parametrize(("made", "line"), [
    (lambda: Reranker("bm25"), "bm25"), (lambda: Reranker("bm25", k1=0.9), "bm25(k1=0.9)"), (lambda: BM25Ranker(b=0.4), "bm25(b=0.4)"),
    (lambda: Reranker("bm25", lang="de"), "bm25(lang=de)"),
    (lambda: Reranker("my-model", model_type="cohere", api_key="k", chunk_size=5), "my-model(model_type=cohere, chunk_size=5)"),
    (lambda: Reranker("bm25(k1=0.9)", b=0.1), "bm25(k1=0.9, b=0.1)"), (lambda: Reranker(Spec("bm25", options={"k1": 0.9})), "bm25(k1=0.9)")])
def test_a_ranker_says_what_it_was_made_with(made, line):
    assert str(made().spec) == line
    if "cohere" not in line: assert Reranker(line).spec == made().spec


def test_a_ranker_with_a_function_has_no_spec_and_works():
    ranker = Reranker("rankgpt", client=lambda messages: "[1]")
    with pytest.raises(InputError, match="client= of 'rankgpt' is a function"): str(ranker.spec)
    assert ranker.rank("q", ["a", "b"], top_k=1)[0].doc_id == 0


def test_a_spec_travels_with_a_pickled_ranker():
    ranker = Reranker("bm25", k1=0.9)
    assert pickle.loads(pickle.dumps(ranker)).spec == ranker.spec


def test_a_folder_with_brackets_is_a_folder(tmp_path):
    from rerankers.tiny_models import tiny_checkpoint
    pytest.importorskip("torch")
    folder = tmp_path / "model (old)"
    shutil.copytree(tiny_checkpoint("bert"), folder)
    assert is_line(str(folder))
    ranker = Reranker(str(folder), device="cpu")
    assert ranker.spec.name == str(folder) and Spec.parse(str(ranker.spec)) == ranker.spec
    assert Reranker(str(ranker.spec)).score("who?", "he") == ranker.score("who?", "he")
