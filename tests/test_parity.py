"Our scores against those of the official implementations on the same weights, for every case of every kit"
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
from rerankers import Reranker  # noqa: E402

pytestmark = pytest.mark.usefixtures("shared_dir")     # skips where the kits are absent
PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"
FP32 = {"device": "cpu", "dtype": "float32"}
CLASSIFIERS = ("cross_encoder_bert", "cross_encoder_xlmr", "cross_encoder_deberta_v2", "cross_encoder_modernbert", "cross_encoder_modernbert_mean")

# kit, key of the official scores, options that ask for that official's settings
KITS = [
    *[(kit, "scores", {"model_type": "cross-encoder", "activation": "identity"}) for kit in CLASSIFIERS],
    *[(kit, "scores_st_default_activation", {"model_type": "cross-encoder"}) for kit in CLASSIFIERS],
    *[(kit, "scores_flag", {"model_type": "cross-encoder", "activation": "identity", "bge": True}) for kit in CLASSIFIERS[:2]],
    ("cross_encoder_2label", "scores", {"model_type": "cross-encoder"}),
    ("cross_encoder_2label", "scores_probability", {"model_type": "cross-encoder", "activation": "softmax"}),
    ("ettin_chain", "scores", {}),
    ("biencoder", "scores", {}),
]
IDS = [f"{kit}-{key}" for kit, key, _ in KITS]
TOLERANCE = 1e-5    # for every batch size, though the kits allow 2e-5 when batched


def kit_folder(kit):
    return PARITY / kit


def cases(kit):
    return json.loads((kit_folder(kit) / "cases.json").read_text())["cases"]


def ranker_for(kit, options, case):
    "A ranker with the case's settings; `bge` asks for FlagEmbedding's truncation on a checkpoint that is not called BGE"
    options, kwargs = dict(options), {k: v for k, v in case["kwargs"].items() if v is not None}
    if options.pop("bge", False):
        length = kwargs.get("max_length") or 512
        options |= {"truncation": "only_second", "query_length": length * 3 // 4}
    return Reranker(str(kit_folder(kit) / "model"), **options, **kwargs, **FP32)


def by_position(results):
    return [results.get_score_by_docid(i) for i in range(len(results))]


def worst(ours, official):
    assert len(ours) == len(official)
    return max(abs(a - b) for a, b in zip(ours, official))


@pytest.fixture(scope="module")
def rankers():
    return {}


def cached(rankers, kit, key, options, case):
    name = (kit, key, case["kwargs"].get("max_length"))
    if name not in rankers: rankers[name] = ranker_for(kit, options, case)
    return rankers[name]


@pytest.mark.parametrize("batch_size", [1, 7, None])
@pytest.mark.parametrize(("kit", "key", "options"), KITS, ids=IDS)
def test_each_case(rankers, kit, key, options, batch_size):
    for case in cases(kit):
        ranker = cached(rankers, kit, key, options, case)
        ours = by_position(ranker.rank(case["query"], case["docs"], batch_size=batch_size))
        assert worst(ours, case[key]) <= TOLERANCE, case["name"]


@pytest.mark.parametrize(("kit", "key", "options"), KITS, ids=IDS)
def test_pooled_queries(rankers, kit, key, options):
    by_length = {}
    for case in cases(kit): by_length.setdefault(case["kwargs"].get("max_length"), []).append(case)
    for group in by_length.values():
        ranker = cached(rankers, kit, key, options, group[0])
        pooled = ranker.rank_many([c["query"] for c in group], [c["docs"] for c in group])
        for case, results in zip(group, pooled): assert worst(by_position(results), case[key]) <= TOLERANCE, case["name"]


def test_prompts_matter():
    "The bi-encoder's official scores without prompts are ours without prompts"
    kit = json.loads((kit_folder("biencoder") / "cases.json").read_text())
    ranker = Reranker(str(kit_folder("biencoder") / "model"), query_prompt="", document_prompt="", max_length=96, **FP32)
    assert worst(by_position(ranker.rank(kit["cases"][0]["query"], kit["cases"][0]["docs"])), kit["scores_without_prompts_short"]) <= TOLERANCE


@pytest.mark.parametrize("kit", [*CLASSIFIERS, "ettin_chain"])
def test_live_cross_encoder(kit):
    "sentence-transformers itself, where it is installed, on the same folder"
    st = pytest.importorskip("sentence_transformers")
    folder = str(kit_folder(kit) / "model")
    official = st.CrossEncoder(folder, device="cpu", model_kwargs={"dtype": "float32"})
    ranker = Reranker(folder, **FP32)
    for case in cases(kit)[:9]:
        expected = official.predict([(case["query"], d) for d in case["docs"]], batch_size=1).tolist()
        assert worst(by_position(ranker.rank(case["query"], case["docs"])), expected) <= TOLERANCE, case["name"]


def test_live_biencoder():
    st = pytest.importorskip("sentence_transformers")
    folder = str(kit_folder("biencoder") / "model")
    official, ranker = st.SentenceTransformer(folder, device="cpu"), Reranker(folder, **FP32)
    for case in cases("biencoder"):
        expected = official.similarity(official.encode_query(case["query"]), official.encode_document(case["docs"]))[0].tolist()
        assert worst(by_position(ranker.rank(case["query"], case["docs"])), expected) <= TOLERANCE, case["name"]


@pytest.mark.parametrize("kit", ["flashrank_onnx", "flashrank_onnx_2out"])
def test_onnx_graph(kit):
    "A real exported graph on onnxruntime against FlashRank's scores, which are sigmoid or softmax[1]"
    pytest.importorskip("onnxruntime")
    folder = next(p for p in (kit_folder(kit) / "model").iterdir() if p.is_dir())
    graph = next(folder.glob("*.onnx")).name
    for case in cases(kit):
        activation = "softmax" if kit.endswith("2out") else "sigmoid"
        ranker = Reranker(str(folder), model_type="cross-encoder", backend="onnx", file_name=graph, activation=activation,
                          max_length=case["kwargs"]["max_length"])
        for size in (1, 7, None):
            assert worst(by_position(ranker.rank(case["query"], case["docs"], batch_size=size)), case["scores"]) <= TOLERANCE, case["name"]


def test_kits_are_complete():
    "Every kit of these families in the folder is tested here"
    there = {p.name for p in PARITY.iterdir() if Path(p / "cases.json").is_file()}
    assert {k for k in there if k.startswith(("cross_encoder", "ettin", "biencoder"))} == {kit for kit, _, _ in KITS}
