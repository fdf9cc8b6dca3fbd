"Our scores against those of the official implementations on the same weights, for every case of every kit"
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from closeness import PROBABILITY, distance  # noqa: E402
from rerankers import Document, Reranker  # noqa: E402

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
    ("monot5", "scores", {}),
    ("monot5", "scores_logprob_pygaggle", {"activation": "log_sigmoid"}),
    ("qwen3_reranker", "scores", {"model_type": "qwen3-reranker"}),
    ("qwen3_reranker", "scores_qwen_script_logodds", {"model_type": "qwen3-reranker", "activation": "identity"}),
    ("qwen3_reranker", "scores_qwen_script_probability", {"model_type": "qwen3-reranker", "activation": "sigmoid"}),
    ("mxbai_v2", "scores", {"model_type": "mxbaiv2"}),
    ("mxbai_v2", "scores_normalized", {"model_type": "mxbaiv2", "activation": "sigmoid"}),
    ("bge_gemma", "scores", {"model_type": "bge-gemma"}),
    ("upr_t5", "scores", {"model_type": "upr"}),
    ("upr_t5", "scores_mean", {"model_type": "upr", "reduction": "mean"}),
    ("upr_t5", "scores_single_space", {"model_type": "upr", "template": "Passage: {document}. Please write a question based on this passage."}),
    ("upr_t5", "scores_llm_rankers_qlm", {"model_type": "qlm-t5", "max_query_length": 4096}),
]
# What another row's numbers become, by an activation or a mean: how texts are put into batches is held by that row
DERIVED = {"scores_st_default_activation", "scores_probability", "scores_logprob_pygaggle", "scores_qwen_script_logodds", "scores_qwen_script_probability",
           "scores_normalized", "scores_mean"}
OWN = [row for row in KITS if row[1] not in DERIVED]
BATCHES = [(*row, size) for row in KITS for size in ((1, 7, None) if row in OWN else (None,))]
OLD = transformers.__version__.startswith("4.")
FINE = {} if OLD else {"monot5-scores": {"floor": PROBABILITY}}      # the kit's scores are of transformers 5, the old one rounds otherwise
# The kits give cross-encoders twice the bound for batches. Against float64, cross_encoder_xlmr's official scores are off by 0.73 of it,
# ours in a row and each text alone by the same 0.73: both round, each in its way
BATCHED = {"cross_encoder_bert": {"floor": 2e-5}, "cross_encoder_xlmr": {"floor": 2e-5}, "cross_encoder_modernbert": {"floor": 2e-5},
           "cross_encoder_modernbert_mean": {"floor": 2e-5}, "cross_encoder_deberta_v2": {"floor": 2e-5}}


def bound(kit, key, alone=False):
    "What `distance` is told of a kit"
    return FINE.get(f"{kit}-{key}", {} if alone or "activation" in key else BATCHED.get(kit, {}))


def kit_folder(kit):
    return PARITY / kit


def cases(kit):
    return json.loads((kit_folder(kit) / "cases.json").read_text())["cases"]


def ranker_for(kit, options, case):
    if kit == "upr_t5" and OLD: pytest.skip("transformers 4 scales the decoder's states of this checkpoint, whose config says scale_decoder_outputs=false")
    return load_kit(kit, options, case)


def load_kit(kit, options, case):
    "A ranker with the case's settings; `bge` asks for FlagEmbedding's truncation on a checkpoint that is not called BGE"
    options, kwargs = dict(options), {k: v for k, v in case["kwargs"].items() if v is not None and k != "title"}
    if options.pop("bge", False):
        length = kwargs.get("max_length") or 512
        options |= {"truncation": "only_second", "query_length": length * 3 // 4}
    return Reranker(str(kit_folder(kit) / "model"), **{**kwargs, **options, **FP32})


def candidates_of(case):
    "The case's documents, with its title where it has one"
    return [Document(text, title=case["kwargs"].get("title")) for text in case["docs"]]


def by_position(results):
    return [results.get_score_by_docid(i) for i in range(len(results))]


@pytest.fixture(scope="module")
def rankers():
    return {}


def cached(rankers, kit, key, options, case):
    name = (kit, key, json.dumps(case["kwargs"]))
    if name not in rankers: rankers[name] = ranker_for(kit, options, case)
    return rankers[name]


@pytest.mark.parametrize(("kit", "key", "options", "batch_size"), BATCHES, ids=[f"{kit}-{key}-{size}" for kit, key, _, size in BATCHES])
def test_each_case(rankers, kit, key, options, batch_size):
    for case in cases(kit):
        ranker = cached(rankers, kit, key, options, case)
        ours = by_position(ranker.rank(case["query"], candidates_of(case), batch_size=batch_size))
        assert distance(ours, case[key], **bound(kit, key, alone=batch_size == 1)) <= 1, case["name"]


@pytest.mark.parametrize(("kit", "key", "options"), OWN, ids=[f"{kit}-{key}" for kit, key, _ in OWN])
def test_pooled_queries(rankers, kit, key, options):
    alike = {}
    for case in cases(kit): alike.setdefault(json.dumps(case["kwargs"]), []).append(case)
    for group in alike.values():
        ranker = cached(rankers, kit, key, options, group[0])
        pooled = ranker.rank_many([c["query"] for c in group], list(map(candidates_of, group)))
        for case, results in zip(group, pooled): assert distance(by_position(results), case[key], **bound(kit, key)) <= 1, case["name"]


def test_prompts_matter():
    "The bi-encoder's official scores without prompts are ours without prompts"
    kit = json.loads((kit_folder("biencoder") / "cases.json").read_text())
    ranker = Reranker(str(kit_folder("biencoder") / "model"), query_prompt="", document_prompt="", max_length=96, **FP32)
    assert distance(by_position(ranker.rank(kit["cases"][0]["query"], kit["cases"][0]["docs"])), kit["scores_without_prompts_short"]) <= 1


@pytest.mark.parametrize("kit", [*CLASSIFIERS, "ettin_chain"])
def test_live_cross_encoder(kit):
    "sentence-transformers itself, where it is installed, on the same folder"
    st = pytest.importorskip("sentence_transformers")
    folder = str(kit_folder(kit) / "model")
    official = st.CrossEncoder(folder, device="cpu", model_kwargs={"dtype": "float32"})
    ranker = Reranker(folder, **FP32)
    for case in cases(kit)[:9]:
        expected = official.predict([(case["query"], d) for d in case["docs"]], batch_size=1).tolist()
        assert distance(by_position(ranker.rank(case["query"], case["docs"])), expected) <= 1, case["name"]


def test_live_biencoder():
    st = pytest.importorskip("sentence_transformers")
    folder = str(kit_folder("biencoder") / "model")
    official, ranker = st.SentenceTransformer(folder, device="cpu"), Reranker(folder, **FP32)
    for case in cases("biencoder"):
        expected = official.similarity(official.encode_query(case["query"]), official.encode_document(case["docs"]))[0].tolist()
        assert distance(by_position(ranker.rank(case["query"], case["docs"])), expected) <= 1, case["name"]


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
            assert distance(by_position(ranker.rank(case["query"], case["docs"], batch_size=size)), case["scores"]) <= 1, case["name"]


ELSEWHERE = ("flashrank", "bge_minicpm", "bge_gemma2", "colbert", "bge_m3")     # test_flashrank.py, test_layerwise.py; late interaction is to come

PICTURES = ("clip_", "siglip_", "colmodernvbert", "colpali", "colqwen2", "jina_reranker_m0", "monoqwen2vl", "qwen3vl_reranker")   # no method here sees yet


def test_kits_are_complete():
    "Every kit of a method that reads is tested, here or elsewhere"
    there = {p.name for p in PARITY.iterdir() if Path(p / "cases.json").is_file()}
    assert {k for k in there if not k.startswith((*ELSEWHERE, *PICTURES))} == {kit for kit, _, _ in KITS}


@pytest.mark.parametrize("kit", ["cross_encoder_bert", "cross_encoder_xlmr"])
@pytest.mark.parametrize("name", ["bge-reranker-v2-m3", "bce-reranker-base_v1"])
def test_bge_is_recognised_by_name(tmp_path, kit, name):
    "A folder that is called BGE gets FlagEmbedding's truncation without being asked"
    folder = tmp_path / name
    folder.symlink_to(kit_folder(kit) / "model")
    for case in cases(kit)[:4]:
        ranker = Reranker(str(folder), activation="identity", max_length=case["kwargs"]["max_length"], **FP32)
        assert distance(by_position(ranker.rank(case["query"], case["docs"])), case["scores_flag"]) <= 1, case["name"]


@pytest.mark.parametrize(("name", "official"), [("monobert-large", "scores"), ("monoelectra-base", None)])
def test_two_labels_as_their_authors_score(tmp_path, name, official):
    "monoBERT: the second label's log-probability; monoELECTRA: its raw logit"
    folder = tmp_path / name
    folder.symlink_to(kit_folder("cross_encoder_2label") / "model")
    case = cases("cross_encoder_2label")[0]
    expected = case[official] if official else [row[1] for row in case["st_predict_logits"]]
    assert distance(by_position(Reranker(str(folder), **FP32).rank(case["query"], case["docs"])), expected) <= 1


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 130}
OTHER_ARCHITECTURES = {
    "electra": {**SMALL, "embedding_size": 16}, "roberta": SMALL, "camembert": SMALL, "mpnet": SMALL,
    "albert": {**SMALL, "embedding_size": 16}, "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 130},
}


@pytest.mark.parametrize("architecture", OTHER_ARCHITECTURES)
def test_other_architectures(tmp_path, architecture):
    "Classifiers without a kit, random weights, against sentence-transformers on the same folder"
    st, transformers = pytest.importorskip("sentence_transformers"), pytest.importorskip("transformers")
    import torch
    from rerankers.testing import SAMPLE_TEXTS
    from rerankers.tiny_models import tiny_tokenizer
    tokenizer = tiny_tokenizer()
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(architecture, vocab_size=len(tokenizer), pad_token_id=0, num_labels=1, initializer_range=0.3,
                                               **OTHER_ARCHITECTURES[architecture])
    if architecture in ("roberta", "camembert", "mpnet", "distilbert"): tokenizer.model_input_names = ["input_ids", "attention_mask"]
    if architecture in ("roberta", "camembert", "mpnet"): config.type_vocab_size = 1
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    docs = [t for t in SAMPLE_TEXTS if "\ud800" not in t]
    expected = st.CrossEncoder(str(tmp_path), device="cpu").predict([("who wrote hamlet ?", d) for d in docs], batch_size=1).tolist()
    ranker = Reranker(str(tmp_path), **FP32)
    assert len(set(expected)) > 3
    for size in (1, 7, None): assert distance(by_position(ranker.rank("who wrote hamlet ?", docs, batch_size=size)), expected) <= 1
