"A ranker written down: every form says the same, and makes the same ranker"
import copy
import enum
import json
import pickle
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankers import InputError, Reranker, Spec
from rerankers.backends.bm25 import BM25Ranker
from rerankers.claims import BACKENDS, FAMILIES
from rerankers.combine.combined import Ask, CombinedRanker
from rerankers.rankers import Ranking
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
    ("a(x=1, x=2)", "x= is given twice"), ("(".join("a" * 200), "too deep"), ("a(x=" + "[" * 100_000, "too deep"), ("a>b:", "a number is missing"),
    ("", "a name or a value"), ("a(x=)", "a name or a value"), ("a(x=[1)", "no JSON"), ("a(b)(c)", "nothing may follow"), ("(a)", "a name")])
def test_what_is_no_line_is_shown_its_place(text, place):
    with pytest.raises(InputError, match=place): Spec.parse(text)


@pytest.mark.parametrize("odd", [lambda: 1, object(), b"x", {1, 2}, [object()], {"a": {"b": print}}])
def test_what_has_no_text_is_refused_by_name(odd):
    with pytest.raises(InputError, match="the option client= of 'rankgpt' is a"): Spec("rankgpt", options={"client": odd})


@pytest.mark.parametrize("odd", [float("nan"), [1.0, float("nan")]])
def test_what_does_not_equal_itself_is_refused(odd):
    with pytest.raises(InputError, match="k= of 'm' is a NaN"): Spec("m", options={"k": odd})


def test_a_value_without_an_end_is_refused():
    ring = {"inner": []}
    ring["inner"].append(ring)
    with pytest.raises(InputError, match="without an end"): Spec("m", options={"k": ring})


class Colour(str, enum.Enum): RED = "red one"
class Count(enum.IntEnum): TWO = 2


@pytest.mark.parametrize(("given", "plain"), [(Colour.RED, "red one"), (Count.TWO, 2), ("np.float64(0.9)", 0.9), ("np.float32(0.5)", 0.5), ("np.int64(3)", 3),
                                              ("np.bool_(True)", True), ("np.str_('a b')", "a b"),
                                              ("torch.float16", "float16"), ("torch.device('cuda:1')", "cuda:1")])
def test_scalars_and_names_of_other_packages_are_written_plainly(given, plain):
    if not isinstance(given, enum.Enum):
        package = {"np": "numpy"}.get(given.split(".")[0], "torch")
        given = eval(given, {given.split(".")[0]: pytest.importorskip(package)})
    spec = Spec("m", options={"k": [given]})
    assert spec.options == {"k": [plain]} and type(spec.options["k"][0]) is type(plain)
    assert Spec.parse(str(spec)) == spec == Spec.from_toml(spec.to_toml()) == Spec.from_json(spec.to_json())


def test_equal_specs_are_one_in_a_set():
    "Options have no order, and 1 is 1.0"
    same = [Spec("m", options={"a": 1, "b": [2]}), Spec("m", options={"b": [2.0], "a": 1.0})]
    assert same[0] == same[1] and len({*same}) == 1
    assert len({*same, Spec("m", options={"a": 1}), Spec("m", ("a", "b")), Spec("n", options={"a": 1, "b": [2]})}) == 4


def test_what_is_handed_out_is_a_copy():
    spec = Spec("m", options={"k": [1], "d": {"a": [2]}})
    row = spec.to_dict()
    row["options"]["k"].append(2)
    row["options"]["d"]["a"].append(3)
    assert spec == Spec("m", options={"k": [1], "d": {"a": [2]}})


@pytest.mark.parametrize("name", [None, 5, b"a", ["a"]])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(InputError, match="no name of a ranker"): Spec(name)


@pytest.mark.parametrize("key", ["x y", "", 5, "a-b"])
def test_what_is_no_name_of_an_option_is_refused(key):
    "A keyword argument could not have it, and the line would not come back"
    with pytest.raises(InputError, match="no name of an option of 'm'"): Spec("m", options={key: 1})


def test_names_of_options_and_models_that_look_like_values_stay_as_they_are():
    for spec in (Spec("m", options={"true": 1, "nan": 2}), Spec("cascade", ("1e3", "007"))): assert Spec.parse(str(spec)) == spec
    assert Spec.parse("1e3 > 007") == Spec("cascade", ("1e3", "007"))


@pytest.mark.parametrize("broken", [lambda: Spec.from_json("{"), lambda: Spec.from_json("[" * 100_000), lambda: Spec.from_toml("name = "),
                                    lambda: Spec.from_dict([1]), lambda: Spec.from_dict({"name": "a", "options": [1]}),
                                    lambda: Spec.from_dict({"name": "a", "parts": "bm25"})])
def test_what_cannot_be_read_is_an_error_of_ours(broken):
    with pytest.raises(InputError): broken()


@pytest.mark.parametrize("line", ["bm25:100 > bm25", "bm25:0.5 > bm25(b=0)", "bm25:9 > bm25 > bm25", 'bm25:{"margin": 0.2} > bm25:3 > bm25', "bm25 > bm25"])
def test_a_cascade_goes_to_toml_and_comes_back(line):
    "Which has no word for nothing, as the last stages pass on"
    for spec in (Spec.parse(line), Reranker(line).spec):
        assert Spec.from_toml(spec.to_toml()) == spec == Reranker(spec).spec
    assert Reranker(line).depths == Reranker(Spec.parse(line)).depths and len(Reranker(line).depths) == line.count("bm25")


def test_parts_in_a_file_may_be_lines():
    "As people write them by hand"
    spec = Spec.from_toml('name = "cascade"\nparts = ["bm25", "offline(max_length=64)"]\noptions = {depths = [20]}')
    assert spec == Spec.parse("cascade(bm25, offline(max_length=64), depths=[20])")


def test_many_chains_within_chains_are_read_once_each():
    "Reading each twice would take a million steps here"
    line = "a > b"
    for _ in range(20): line = f"f({line}) > c"
    assert str(Spec.parse(line)).count("cascade") == 21


@pytest.mark.parametrize(("line", "said"), [("bm25(bm25)", "not made of 1 rankers"), ("cross-encoder(bm25)", "takes a model"),
                                            ("rankgpt(bm25)", "takes a model")])
def test_what_is_not_made_of_rankers_says_so(line, said):
    with pytest.raises(InputError, match=said): Reranker(line)


@pytest.fixture
def forgotten():
    "Words that a test registers are not known to others"
    families, words = [*FAMILIES], {**BACKENDS}
    yield
    FAMILIES[:] = families
    for word in [*BACKENDS]: words.get(word) or BACKENDS.pop(word)


def test_a_combination_may_call_its_part_a_model(forgotten):
    class Wrapped(CombinedRanker):
        words = ("wrapped-model",)
        def __init__(self, model, *, times=1): self.rankers, self.times = {"model": model}, times
        def combine(self, task, call):
            [found] = yield [Ask("model", range(len(task.documents)))]
            return Ranking([self.times * s for s in found.scores])
    ranker = Reranker("wrapped-model(bm25(k1=0.9), times=2)")
    assert str(ranker.spec) == "wrapped-model(bm25(k1=0.9), times=2)" and Reranker(ranker.spec).spec == ranker.spec


def test_what_is_said_beside_a_ranker_made_of_rankers_reaches_its_parts():
    ranker = Reranker("fusion(bm25, bm25(lang=fr))", lang="de", verbose=0)
    assert str(ranker.spec) == "fusion(bm25(lang=de), bm25(lang=fr))" and [r.progress for r in ranker.rankers.values()] == [False, False]
    with pytest.raises(InputError, match="write it at the part"): Reranker("fusion(bm25, bm25)", model_type="bm25")


@pytest.mark.parametrize("row", [{}, {"name": 5}, {"name": "a", "option": {}}, {"model": "a"}])
def test_another_dictionary_is_no_spec(row):
    with pytest.raises(InputError, match="name, parts and options"): Spec.from_dict(row)


@pytest.mark.parametrize("name", ["api_key", "token", "headers", "default_headers", "extra_headers"])
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
