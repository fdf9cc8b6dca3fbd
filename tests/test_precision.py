"Number formats, threads and other ways to compute a model: what they change, what they must not, and how one is picked"
import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
import every_kind  # noqa: E402
from closeness import near  # noqa: E402
from rerankers import InputError, ModelLoadError, Reranker  # noqa: E402
from rerankers.claims import Choice  # noqa: E402
from rerankers.engine import int8, precision, pytorch  # noqa: E402
from rerankers.engine.kept import keep, kept, place_of  # noqa: E402
from rerankers.errors import installed  # noqa: E402
from rerankers.rankers import PointwiseRanker  # noqa: E402
from rerankers.registry import FAMILIES, is_ready, load_backends  # noqa: E402
from rerankers.reranker import build, options_of  # noqa: E402

load_backends()
QUERY = "who wrote the play hamlet?"
DOCS = ["Hamlet was written by William Shakespeare.", "Goethe wrote Faust.", "a play " * 40, "London is a city in England, and rain falls there."]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path): monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    "Each kind's checkpoint, written once"
    return cache(partial(every_kind.write, place=tmp_path_factory.mktemp("kinds")))


def scores(ranker, docs=DOCS):
    results = ranker.rank(QUERY, docs)
    return [results.get_score_by_docid(i) for i in range(len(docs))]


# ---- threads

OURS = [f for f in FAMILIES if is_ready(f) and f.__module__.startswith("rerankers.")]     # other tests define families of their own


@pytest.mark.parametrize("kind", every_kind.GRAPHS)
def test_threads_reach_the_session_of_every_kind(kind, folders):
    ranker = every_kind.load(kind, folders(kind), threads=3)
    assert ranker.runtime.session.get_session_options().intra_op_num_threads == 3
    assert pickle.loads(pickle.dumps(ranker)).runtime.session.get_session_options().intra_op_num_threads == 3


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.words[0])
def test_threads_are_refused_where_they_have_no_effect(cls, folders):
    "With words: by those without onnxruntime, and by cross-encoders in torch"
    if "threads" in options_of(cls) and cls.words[0] != "cross-encoder": return
    with pytest.raises(InputError, match="threads"):
        build(Choice(cls, "" if cls.words[0] == "bm25" else folders("cross-encoder"), ""), {"threads": 2})


# ---- formats that are slow here

def test_a_slow_format_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(int8, "SAID", set())
    for _ in range(3): int8.warn_of_slowness("bfloat16", lambda name, threads: 3.0)
    int8.warn_of_slowness("float16", lambda name, threads: 0.5)
    int8.warn_of_slowness("float32", lambda name, threads: 3.0)
    assert [r.levelname for r in caplog.records] == ["WARNING"] and "'bfloat16'" in caplog.text and "3.0 times" in caplog.text


def test_loading_says_what_the_processor_says(monkeypatch, caplog, folders):
    "By the measure, not by a flag: of a format that is slow here one warning for any number of models"
    monkeypatch.setattr(int8, "SAID", set())
    for _ in range(2): every_kind.load("cross-encoder", folders("cross-encoder"), dtype="bfloat16")
    slow = int8.slowness("bfloat16", torch.get_num_threads()) >= 1.1
    assert sum("'bfloat16' is slower" in r.getMessage() for r in caplog.records) == slow


# ---- eight bits

EIGHT_BITS = pytest.mark.skipif(isinstance(int8.steps_here(), str), reason="no eight-bit products on this processor")
KINDS = ["cross-encoder", "chain", "biencoder", "colbert"]


@EIGHT_BITS
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_do_not_move_scores_in_eight_bits(kind, folders, monkeypatch):
    monkeypatch.setattr(pytorch, "PACKED_FROM", 1)      # a tiny model's layers are small
    exact = scores(every_kind.load(kind, folders(kind)))
    ranker = every_kind.load(kind, folders(kind), dtype="int8")
    layers = [m for m in ranker.runtime.model.modules() if isinstance(getattr(m, "forward", None), int8.Int8Linear)]
    found = scores(ranker)
    assert layers and all(layer.forward.packed is not None for layer in layers[:1]) and found != exact
    assert found == pytest.approx(exact, rel=0.1, abs=0.1)      # 32 random numbers a vector: little averages out
    assert [ranker.score(QUERY, doc) for doc in DOCS] == near(found)
    assert scores(ranker, [*DOCS, "a hundred " * 100])[:len(DOCS)] == near(found)
    assert scores(pickle.loads(pickle.dumps(ranker))) == near(found)


@EIGHT_BITS
@pytest.mark.parametrize("rows", [1, 2, 33])
def test_a_row_is_rounded_by_itself(rows):
    "Bit for bit, whatever stands beside it; also rows of zeros, of one huge number, and of numbers that are no numbers"
    torch.manual_seed(0)
    layer, x = int8.Int8Linear(torch.randn(40, 64), torch.randn(40)), torch.randn(rows, 64)
    huge = torch.cat([x, torch.zeros(1, 64), torch.full((1, 64), 1e30), torch.full((1, 64), float("nan"))])
    with torch.inference_mode():
        assert torch.equal(layer(huge)[:rows], torch.cat([layer(row[None]) for row in x]))
        assert torch.equal(layer(huge)[rows], layer.bias) and layer(huge)[rows + 2].isnan().all()


@EIGHT_BITS
def test_a_number_added_to_all_of_a_row_is_not_rounded():
    "Steps lie between a row's least and largest number, wherever these are"
    torch.manual_seed(0)
    layer, x = int8.Int8Linear(torch.randn(40, 64), torch.randn(40)), torch.randn(9, 64)
    with torch.inference_mode():
        assert torch.allclose(layer(x + 50) - layer(x), 50 * layer.sums, rtol=0, atol=2e-3 * 50 * float(layer.sums.abs().mean()))


@EIGHT_BITS
def test_weights_use_the_steps_that_nothing_overflows_with():
    "With the largest activations: on processors that add two products in sixteen bits as well, and finer than seven bits there"
    torch.manual_seed(0)
    weight, x = torch.randn(64, 96), torch.randint(0, 2, (33, 96)) * 2.0 - 1
    weight[:8, :2] = 20.0                   # two large ones side by side, and one alone
    weight[8:16, 7] = -20.0
    layer = int8.Int8Linear(weight, None)
    with torch.inference_mode():
        found, rounded = layer(x), int8.unpacked(layer.packed).dequantize()
        assert (found - x @ rounded.T).abs().max() < 1e-4 * found.abs().max()
        seven = ((rounded - weight).abs().amax(1) / (weight.abs().amax(1) / 63 / 2))[16:]      # in half steps of seven bits
        assert seven.max() <= 1.01 and seven.mean() < 0.9
    again = pickle.loads(pickle.dumps(layer))
    with torch.inference_mode(): assert torch.equal(again(x), found)
    pairs = int8.unpacked(int8.packed_int8(weight, 1)[0]).int_repr().int().unflatten(1, (-1, 2))      # as such a processor has them
    assert all(255 * part.clamp_min(0).sum(2).max() < 2**15 for part in (pairs, -pairs))


@EIGHT_BITS
def test_eight_bits_want_the_cpu(folders):
    with pytest.raises(InputError, match="on the CPU only"): pytorch.pick_dtype("int8", torch.device("cuda"))


# ---- what is picked

class Made(PointwiseRanker):
    "Scores by the length of a text, off by a share of it"
    def __init__(self, off=0.0): self.off = off

    def score_pairs(self, pairs, call): return [len(text) * (1 + self.off) for _, text in pairs]


def ways_of(*names): return [precision.Way(name, {"name": name}) for name in names]


def make(options):
    if options.get("name") == "broken": raise ModelLoadError("its file is damaged")
    return Made({"near": 0.001, "far": 0.5}.get(options.get("name"), 0.0))


def test_each_way_is_measured_or_refused_with_words(monkeypatch):
    monkeypatch.setattr(precision, "fastest_of", lambda rankers, lists: [[8.0, 9.0], [4.0, 3.0]])
    others = [*ways_of("near", "far", "broken"), precision.Way("absent", {}, "it is not installed")]
    report = precision.tried("m", make, Made(), others, {})
    told = {trial.way: trial for trial in report.trials}
    assert report.picked == "near" and report.options == {"name": "near"} and (told["near"].short, told["near"].passages) == (2.0, 3.0)
    assert "scores change by up to" in told["far"].refused and "damaged" in told["broken"].refused and told["absent"].refused == "it is not installed"
    assert told["near"].change <= report.bound < told["far"].change
    for row in report.rows(): assert row["way"] in str(report) and row["way"] in report._repr_html_()


def test_nothing_is_picked_that_is_not_faster(monkeypatch):
    monkeypatch.setattr(precision, "fastest_of", lambda rankers, lists: [[8.0, 8.0], [7.9, 7.9]])
    report = precision.tried("m", make, Made(), ways_of("near"), {})
    assert report.picked == "exact" and report.trials[1].refused == "not faster"


def test_rankers_take_turns_and_the_least_time_counts():
    ticks, turns = iter([0, 5, 10, 12, 20, 23, 30, 31, 40, 49, 50, 52]), []
    class Noted(Made):
        def score_pairs(self, pairs, call): return turns.append(self.off) or super().score_pairs(pairs, call)
    assert precision.fastest_of([Noted(0.0), Noted(1.0)], [("q", ["a", "b"])], lambda: next(ticks)) == [[3], [1]]
    assert turns == [0.0, 1.0] * precision.ROUNDS


def test_the_decision_is_remembered_and_a_damaged_file_is_not_believed(folders, monkeypatch):
    tried, real = [], precision.tried
    monkeypatch.setattr(precision, "tried", lambda *given: tried.append(real(*given) if not tried else tried[0]) or tried[-1])     # measured once
    def load(): return Reranker(folders("cross-encoder"), device="cpu", precision="fast").precision_report
    first = load()
    assert load() == first and len(tried) == 1
    file = next(place_of("precision", None).parent.glob("*.json"))
    said = json.loads(file.read_text())
    for damage in ("", "{", json.dumps(said | {"value": {}}), json.dumps(said | {"value": said["value"] | {"picked": "another"}}),
                   json.dumps(said | {"key": []}), "[]"):
        file.write_text(damage)
        before = len(tried)
        load()
        assert len(tried) == before + 1, damage


def test_no_token_is_kept(folders, tmp_path):
    Reranker(folders("cross-encoder"), device="cpu", precision="fast", token="hf_secret", model_kwargs={"token": "hf_secret"})
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert files and not any(b"hf_secret" in path.read_bytes() for path in files)


def test_many_writers_leave_one_whole_fact():
    def write(n): return [keep("facts", "one", {"n": n, "text": "x" * 10_000}) or kept("facts", "one") for _ in range(20)]
    with ThreadPoolExecutor(8) as pool: found = [value for part in pool.map(write, range(8)) for value in part]
    assert all(len(value["text"]) == 10_000 for value in found)
    assert os.listdir(place_of("facts", "one").parent) == [place_of("facts", "one").name]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep("facts", "one", 1)
    assert kept("facts", "one") is None


@pytest.mark.parametrize("cls", [f for f in OURS if "dtype" not in options_of(f)], ids=lambda cls: cls.words[0])
def test_precision_is_refused_by_methods_that_have_no_model_here(cls):
    with pytest.raises(InputError, match="leave it out"): build(Choice(cls, "", ""), {"precision": "fast"})


@pytest.mark.parametrize("more", [{"precision": "quick"}, {"precision": "fast", "dtype": "bfloat16"}, {"precision": "fast", "backend": "onnx"}])
def test_a_wrong_precision_is_an_input_error(more, folders):
    with pytest.raises(InputError, match="precision="): Reranker(folders("cross-encoder"), **more)


# ---- OpenVINO

@pytest.mark.skipif(not installed("openvino"), reason="openvino is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_openvino_gives_the_scores_of_torch(kind, folders, tmp_path):
    "From a graph that is exported once, alone and in batches, and after a journey to another process"
    exact = scores(every_kind.load(kind, folders(kind)))
    ranker = every_kind.load(kind, folders(kind), backend="openvino")
    assert scores(ranker) == near(exact, floor=1e-4) and [ranker.score(QUERY, doc) for doc in DOCS] == near(exact, floor=1e-4)
    assert scores(pickle.loads(pickle.dumps(ranker))) == near(exact, floor=1e-4)
    graphs = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.xml")}
    every_kind.load(kind, folders(kind), backend="openvino")
    assert len(graphs) == 1 and graphs == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.xml")}


@pytest.mark.parametrize("kind", ["t5", "layerwise", "llm-pointwise", "bge-m3"])
def test_openvino_is_refused_by_other_models(kind, folders):
    with pytest.raises(InputError, match="backend='openvino' runs cross-encoders"): every_kind.load(kind, folders(kind), backend="openvino")
