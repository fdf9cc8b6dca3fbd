"SPLADE against sentence-transformers' SparseEncoder, live: poolings, activations, inference-free queries, truncation, claims, errors"
import json
import math
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from closeness import distance, near  # noqa: E402
from rerankers import InputError, Reranker  # noqa: E402
from rerankers.backends import splade as ours  # noqa: E402
from rerankers.engine.pytorch import TorchRuntime  # noqa: E402
from rerankers.errors import ModelLoadError  # noqa: E402
from rerankers.registry import choose  # noqa: E402
from rerankers.testing import CHECKS, SAMPLE_TEXTS  # noqa: E402
from rerankers.tiny_models import tiny_checkpoint, tiny_tokenizer, write_chain  # noqa: E402

QUERIES = ["who wrote hamlet ?", "goethe 2 faust and the city of london", "哈姆雷特", "hamlet hamlet hamlet"]
READABLE = [t for t in SAMPLE_TEXTS if "\ud800" not in t]      # the official library cannot read half a character
WAYS = [("max", "relu"), ("sum", "relu"), ("max", "log1p_relu"), ("sum", "log1p_relu")]


def by_position(results):
    return [results.get_score_by_docid(i) for i in range(len(results))]


def tiny(folder):
    "A BERT with a language-model head of random weights, most of its logits negative as those of a trained SPLADE are"
    config = transformers.BertConfig(vocab_size=len(tiny_tokenizer()), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                                     intermediate_size=64, max_position_embeddings=128, initializer_range=0.2)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = transformers.BertForMaskedLM(config).eval()
    with torch.no_grad(): model.cls.predictions.bias.fill_(-1.0)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(tiny(tmp_path_factory.mktemp("mlm")))


@pytest.fixture(scope="module")
def plain(base, tmp_path_factory):
    "A folder in sentence-transformers' layout, written without it"
    folder = tmp_path_factory.mktemp("plain") / "m"
    shutil.copytree(base, folder)
    write_chain(folder, [("SpladePooling", {"pooling_strategy": "max", "activation_function": "relu"}, None)], model_type="SparseEncoder")
    return folder


@pytest.fixture(scope="module")
def st():
    "sentence-transformers, with the modules as 6.0 lays them out"
    pytest.importorskip("sentence_transformers.base.modules")
    import sentence_transformers
    return sentence_transformers


@pytest.fixture(scope="module", params=[*WAYS, "router", "few", "prompts"], ids=str)
def official(request, st, base, tmp_path_factory):
    "A folder that sentence-transformers saved, and its scores of all queries and documents"
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
    way = request.param if isinstance(request.param, tuple) else ("max", "relu")
    chain, more = [Transformer(base, transformer_task="fill-mask"), SpladePooling(*way)], {}
    if request.param == "router":
        rarity = torch.rand(len(tiny_tokenizer()), generator=torch.Generator().manual_seed(1))
        chain = [Router.for_query_document(query_modules=[SparseStaticEmbedding(tiny_tokenizer(), rarity)], document_modules=chain)]
    if request.param == "few": more = {"max_active_dims": 5}
    if request.param == "prompts": more = {"prompts": {"query": "question : ", "document": "text : "}}
    made, folder = st.SparseEncoder(modules=chain, device="cpu", **more), tmp_path_factory.mktemp("st")
    made.save(str(folder), create_model_card=False)
    model = st.SparseEncoder(str(folder), device="cpu")
    queries, documents = ([f([t]).to_dense()[0] for t in texts] for f, texts in ((model.encode_query, QUERIES), (model.encode_document, READABLE)))
    return folder, [[float(q.double() @ d.double()) for d in documents] for q in queries]


# ---- sentence-transformers, live

@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_scores(official, batch_size):
    folder, expected = official
    ranker = Reranker(folder, device="cpu")
    assert isinstance(ranker, ours.SpladeRanker)
    assert len({round(s, 3) for s in expected[0]}) > 5
    pooled = ranker.rank_many(QUERIES, READABLE, batch_size=batch_size)
    for query, results, scores in zip(QUERIES, pooled, expected):
        assert distance(by_position(results), scores) <= 1
        assert distance(by_position(ranker.rank(query, READABLE, batch_size=batch_size)), scores) <= 1
        assert all(type(r.score) is float for r in results)


def test_padded_batches(official, monkeypatch):
    "As on an accelerator: texts of different lengths share a batch"
    monkeypatch.setattr(TorchRuntime, "overhead", math.inf)
    folder, expected = official
    for results, scores in zip(Reranker(folder, device="cpu").rank_many(QUERIES, READABLE, batch_size=7), expected):
        assert distance(by_position(results), scores) <= 1


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_pooling_alone(st, way):
    "Weights of padded logits are those of the official module, number for number"
    from sentence_transformers.sparse_encoder.modules import SpladePooling
    logits = torch.randn(3, 9, 50, generator=torch.Generator().manual_seed(2)) * 3
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [0] * 6 + [1] * 3])
    read = ours.pooling_reader({"pooling_strategy": way[0], "activation_function": way[1]})
    found = read(transformers.modeling_outputs.MaskedLMOutput(logits=logits), {"attention_mask": mask})
    expected = SpladePooling(*way).eval()({"token_embeddings": logits.clone(), "attention_mask": mask})["sentence_embedding"]
    assert distance(found.flatten().tolist(), expected.flatten().tolist()) <= 1


def test_max_length(st, base, tmp_path):
    "A folder's own limit and a caller's"
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling
    folder = tmp_path / "m"
    made = st.SparseEncoder(modules=[Transformer(base, transformer_task="fill-mask"), SpladePooling()], device="cpu")
    made.save(str(folder), create_model_card=False)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9, "do_lower_case": True, "transformer_task": "fill-mask"}))
    model = st.SparseEncoder(str(folder), device="cpu")
    long = "HAMLET was written by shakespeare and faust by goethe in another year , not in london"
    for ranker, size in ((Reranker(folder, device="cpu"), 9), (Reranker(folder, device="cpu", max_length=14), 14)):
        model.max_seq_length = size
        q, d = model.encode_query([QUERIES[0]]).to_dense()[0], model.encode_document([long]).to_dense()[0]
        results = ranker.rank(QUERIES[0], [long, "hamlet"])
        assert by_position(results)[0] == near(float(q @ d))
        assert [r.doc_id for r in results if r.truncated] == [0]
    with pytest.raises(InputError, match="has room for 128"): Reranker(folder, device="cpu", max_length=129)


def test_a_bare_masked_language_model(st, base):
    "Without modules.json: max and relu, as there"
    model = st.SparseEncoder(base, device="cpu")
    q, documents = model.encode_query([QUERIES[0]]).to_dense()[0], [model.encode_document([t]).to_dense()[0] for t in READABLE]
    ranker = Reranker(base, model_type="splade", device="cpu")
    assert distance(by_position(ranker.rank(QUERIES[0], READABLE)), [float(q @ d) for d in documents]) <= 1


# ---- the contract

@pytest.fixture(scope="module")
def ranker(plain):
    return Reranker(plain, device="cpu")


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_contract(check, ranker):
    check(ranker)


def test_each_text_once(plain, monkeypatch):
    ranker, seen = Reranker(plain, device="cpu"), []
    full = ranker.runtime.full
    def counted(batch):
        seen.append(len(batch["input_ids"]))
        return full(batch)
    counted.max_tokens, counted.overhead = full.max_tokens, full.overhead
    monkeypatch.setattr(ranker.runtime, "full", counted)
    ranker.rank_many(["a", "b"], ["a", "c", "d", "c"])
    assert sum(seen) == 4


def test_terms(ranker):
    "Weights above zero alone are kept, and `expand` names the heaviest"
    found = ranker.weigh(["hamlet was written by shakespeare"])["hamlet was written by shakespeare"]
    assert 0 < len(found.ids) < len(tiny_tokenizer()) and (found.weights > 0).all() and not found.cut
    named = ranker.expand("hamlet was written by shakespeare", top_k=3)
    assert list(named.values()) == sorted(found.weights.tolist(), reverse=True)[:3]
    assert set(named) <= set(tiny_tokenizer().get_vocab())
    with pytest.raises(InputError, match="wants a text"): ranker.expand(["hamlet"])
    with pytest.raises(InputError, match="top_k"): ranker.expand("hamlet", top_k=0)


def test_max_terms(plain):
    ranker = Reranker(plain, device="cpu", max_terms=2)
    assert all(len(t.ids) == 2 for t in ranker.weigh(["hamlet", "who wrote faust ?"]).values())


def test_large_vocabularies_have_small_batches(ranker):
    assert ranker.runtime.max_tokens == ranker.runtime.full.max_tokens
    assert ours.TermsRuntime(ranker.runtime.full, 2**22).max_tokens == 64


# ---- folders and words

def routed(base, folder, query="SparseStaticEmbedding"):
    "An inference-free folder, written by hand"
    shutil.copytree(base, folder / "document_0_MLMTransformer")
    (folder / "document_1_SpladePooling").mkdir()
    (folder / "document_1_SpladePooling" / "config.json").write_text("{}")
    tiny_tokenizer().save_pretrained(folder / f"query_0_{query}")
    types = {n: f"m.{n.split('_')[-1]}" for n in (f"query_0_{query}", "document_0_MLMTransformer", "document_1_SpladePooling")}
    config = {"types": types, "structure": {"query": list(types)[:1], "document": list(types)[1:]}, "parameters": {"default_route": "document"}}
    (folder / "router_config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text('[{"idx": 0, "path": "", "type": "sentence_transformers.base.modules.Router"}]')
    return folder


def test_weights_by_token(base, plain, tmp_path):
    "idf.json, in the module's folder or at the root"
    folder = routed(base, tmp_path)
    (folder / "idf.json").write_text(json.dumps({"hamlet": 2.0, "who": 0.5, "no-such-token": 9.0}))
    assert choose(str(folder)).backend is ours.SpladeRanker
    ranker, weights = Reranker(folder, device="cpu"), Reranker(plain, device="cpu").expand("faust", top_k=1000)
    assert ranker.score("who wrote hamlet hamlet ?", "faust") == near(2 * weights.get("hamlet", 0) + 0.5 * weights.get("who", 0))
    assert weights.get("hamlet", 0) + weights.get("who", 0) > 0


def test_router_without_what_is_needed(base, tmp_path):
    folder = routed(base, tmp_path / "a")
    with pytest.raises(ModelLoadError, match="has no weights"): Reranker(folder, device="cpu")
    (folder / "idf.json").write_text("{}")
    (folder / "router_config.json").write_text('{"types": {}}')
    with pytest.raises(ModelLoadError, match="does not say"): Reranker(folder, device="cpu")
    with pytest.raises(ModelLoadError, match="sends queries through WordWeights"): Reranker(routed(base, tmp_path / "b", "WordWeights"), device="cpu")


@pytest.mark.parametrize(("model", "word"), [
    ("naver/splade-v3", "splade"), ("prithivida/Splade_PP_en_v1", "splade"), ("ibm-granite/granite-embedding-30m-sparse", "splade"),
    ("opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte", "splade"), ("ibm-granite/granite-embedding-107m-multilingual", "biencoder")])
def test_names(model, word):
    assert choose(model).backend.words[0] == word


def test_words():
    assert (choose("splade").model, choose("SPLADE").backend) == ("prithivida/Splade_PP_en_v1", ours.SpladeRanker)


def test_a_masked_language_model_needs_the_name_too(base, tmp_path):
    named = tmp_path / "my-splade"
    shutil.copytree(base, named)
    assert choose(str(named)).backend is ours.SpladeRanker
    classifier = tmp_path / "splade-reranker"
    shutil.copytree(tiny_checkpoint("bert"), classifier)
    assert choose(str(classifier)).backend.words[0] == "cross-encoder"
    with pytest.warns(UserWarning, match="nothing says"): assert choose(base).backend.words[0] == "cross-encoder"


def edited(plain, folder, **files):
    shutil.copytree(plain, folder)
    for name, text in files.items(): Path(folder / name.replace("__", "/")).with_suffix(".json").write_text(text)
    return folder


def test_other_folders(plain, tmp_path):
    with pytest.raises(ModelLoadError, match="RANDOM"): Reranker(tiny_checkpoint("bert", headless=True), model_type="splade", device="cpu")
    with pytest.raises(ModelLoadError, match="a chain of Transformer, Pooling, Normalize"): Reranker(tiny_checkpoint("biencoder"), model_type="splade")
    wrong = edited(plain, tmp_path / "a", **{"1_SpladePooling__config": '{"activation_function": "gelu"}'})
    with pytest.raises(ModelLoadError, match="'gelu' is not known"): Reranker(wrong, device="cpu")
    cosine = edited(plain, tmp_path / "b", config_sentence_transformers='{"similarity_fn_name": "cosine"}')
    with pytest.raises(ModelLoadError, match="inner product"): Reranker(cosine, device="cpu")
    with pytest.raises(InputError, match="max_terms"): Reranker(plain, max_terms=0)
