"Static embeddings against model2vec and sentence-transformers, live: means, weights, truncation, unknown tokens, claims, errors"
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
tokenizers = pytest.importorskip("tokenizers")
safetensors = pytest.importorskip("safetensors.numpy")
from rerankers import InputError, Reranker  # noqa: E402
from rerankers.backends import static as ours  # noqa: E402
from rerankers.errors import ModelLoadError  # noqa: E402
from rerankers.registry import choose  # noqa: E402
from rerankers.testing import CHECKS, SAMPLE_TEXTS  # noqa: E402
from rerankers.tiny_models import VOCABULARY  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-6
QUERIES = ["who wrote hamlet ?", "goethe 2 faust and the city of london", "hamlet 哈姆雷特", "unheard-of"]
READABLE = [t for t in SAMPLE_TEXTS if "\ud800" not in t] + [     # the official libraries cannot read half a character
    "哈姆雷特 " * 600 + "hamlet", "a " * 511 + "faust hamlet", "the " * 5000, "hamlet", "who wrote hamlet ?"]


def worst(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b))


def by_position(results):
    return [results.get_score_by_docid(i) for i in range(len(results))]


def cosines(queries, documents):
    "The angle in double precision of vectors in single; 0 where there is none"
    queries, documents = (np.asarray(v, dtype="float64") for v in (queries, documents))
    queries, documents = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-30) for v in (queries, documents))
    return (queries @ documents.T).tolist()


def wordpieces():
    "Unknown scripts become [UNK], unknown words become letters; a post-processor stands ready to add special tokens"
    letters = [chr(c) for c in range(97, 123)] + list("0123456789")
    pieces = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *VOCABULARY, *letters, *("##" + c for c in letters)]))
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = tokenizers.normalizers.BertNormalizer(), tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.enable_padding(pad_id=0, pad_token="[PAD]")
    return made


def unigram():
    "A vocabulary whose unknown token is a number in the file"
    pieces = dict.fromkeys(["<pad>", "</s>", "<unk>", *(f"▁{w}" for w in VOCABULARY), *map(chr, range(97, 123)), "▁"])
    made = tokenizers.Tokenizer(tokenizers.models.Unigram([(p, -1.0 - 9.0 * (len(p) < 2) - i / 1e4) for i, p in enumerate(pieces)], unk_id=2))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    return made


def words_only():
    "No unknown token at all: unknown words vanish"
    made = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz ")}, []))
    made.normalizer = tokenizers.normalizers.Lowercase()
    return made


TOKENIZERS = {"wordpieces": wordpieces, "unigram": unigram, "letters": words_only}


def vectors(rows, seed=0, dtype="float32"):
    found = np.random.default_rng(seed).normal(size=(rows, 16))
    return (found * 30).astype("int8") if dtype == "int8" else found.astype(dtype)


def write(folder, tokenizer, tensors, **files):
    "A folder by hand: neither library is needed"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    safetensors.save_file(tensors, str(folder / "model.safetensors"))
    for name, content in files.items(): (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


MODULES = [{"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}]
POTION = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True}


@pytest.fixture(scope="module")
def potion(tmp_path_factory):
    made = wordpieces()
    return write(tmp_path_factory.mktemp("potion"), made, {"embeddings": vectors(made.get_vocab_size())}, config=POTION, modules=MODULES)


@pytest.fixture(scope="module")
def st_folder(tmp_path_factory):
    made = wordpieces()
    return write(tmp_path_factory.mktemp("st"), made, {"embedding.weight": vectors(made.get_vocab_size())}, modules=MODULES)


# ---- model2vec, live

def tensors_of(kind, tokens):
    "A plain table, or one with a vocabulary of clusters, or with weights alone"
    rng = np.random.default_rng(4)
    weights, mapping = rng.random(tokens).astype("float32"), rng.integers(0, 9, tokens)
    return {"plain": (vectors(tokens), None, None), "int8": (vectors(tokens, dtype="int8"), None, None), "weights": (vectors(tokens), weights, None),
            "mapping": (vectors(9), None, mapping), "both": (vectors(9), weights, mapping), "int8 both": (vectors(9, dtype="int8"), weights, mapping)}[kind]


@pytest.fixture(scope="module", params=[
    *((kind, "wordpieces", {}) for kind in ("plain", "int8", "weights", "mapping", "both", "int8 both")), ("plain", "unigram", {}), ("plain", "letters", {}),
    ("plain", "wordpieces", {"normalize": True}), ("plain", "wordpieces", {"max_length": 7}), ("plain", "wordpieces", {"max_length": None})], ids=str)
def official(request, tmp_path_factory):
    "A folder that model2vec saved, and the vectors that it gives"
    model2vec = pytest.importorskip("model2vec")
    kind, name, options = request.param
    made, folder = TOKENIZERS[name](), tmp_path_factory.mktemp("m2v")
    table, weights, mapping = tensors_of(kind, made.get_vocab_size())
    model2vec.StaticModel(table, made, weights=weights, token_mapping=mapping, **options).save_pretrained(folder)
    model = model2vec.StaticModel.from_pretrained(folder)
    return folder, model.encode(QUERIES), model.encode(READABLE)


@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_model2vec(official, batch_size):
    folder, queries, documents = official
    ranker, expected = Reranker(folder), cosines(queries, documents)
    assert isinstance(ranker, ours.StaticRanker)
    assert len({round(s, 3) for s in expected[0]}) > 5
    for query, results, scores in zip(QUERIES, ranker.rank_many(QUERIES, READABLE, batch_size=batch_size), expected):
        assert worst(by_position(results), scores) <= TOLERANCE
        assert worst(by_position(ranker.rank(query, READABLE, batch_size=batch_size)), scores) <= TOLERANCE


def test_vectors_of_model2vec(official):
    "Not the angle alone: lengths too, so that the inner product is theirs"
    folder, _, documents = official
    found, _ = Reranker(folder).embed(READABLE)
    scale = max(1.0, float(np.abs(documents).max()))    # int8 vectors reach a hundred
    assert np.abs(found - documents).max() <= TOLERANCE * scale


def test_half_precision(tmp_path):
    "A table in float16 has means in float16, there and here"
    model2vec = pytest.importorskip("model2vec")
    made = wordpieces()
    model2vec.StaticModel(vectors(made.get_vocab_size(), dtype="float16"), made).save_pretrained(tmp_path)
    model = model2vec.StaticModel.from_pretrained(tmp_path)
    expected = cosines(model.encode(QUERIES), model.encode(READABLE))
    assert worst(by_position(Reranker(tmp_path).rank(QUERIES[0], READABLE)), expected[0]) <= TOLERANCE


def test_a_callers_length(potion):
    model = pytest.importorskip("model2vec").StaticModel.from_pretrained(potion)
    ranker = Reranker(potion, max_length=5)
    expected = cosines(model.encode(QUERIES, max_length=5), model.encode(READABLE, max_length=5))
    assert worst(by_position(ranker.rank(QUERIES[0], READABLE)), expected[0]) <= TOLERANCE


# ---- sentence-transformers, live

@pytest.fixture(scope="module")
def st():
    found = pytest.importorskip("sentence_transformers")
    pytest.importorskip("sentence_transformers.base.modules")       # 6.0 and later
    return found


@pytest.fixture(scope="module", params=["plain", "normalised", "cut by the tokenizer", "prompts", "dot", "normalised dot"])
def st_official(request, st, tmp_path_factory):
    "A folder that sentence-transformers saved, and its scores"
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
    made, way, folder = wordpieces(), request.param, tmp_path_factory.mktemp("st")
    if way.startswith("cut"): made.enable_truncation(6)
    chain = [StaticEmbedding(made, embedding_weights=vectors(made.get_vocab_size()))] + [Normalize()] * way.startswith("normalised")
    options = {"prompts": {"query": "question : ", "document": "the text is "}} if way == "prompts" else {}
    st.SentenceTransformer(modules=chain, device="cpu", similarity_fn_name="dot" if "dot" in way else None, **options).save(
        str(folder), create_model_card=False)
    model = st.SentenceTransformer(str(folder), device="cpu")
    queries, documents = model.encode_query(QUERIES), model.encode_document(READABLE)
    return folder, (queries.astype("float64") @ documents.T.astype("float64")).tolist() if "dot" in way else cosines(queries, documents)


@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_sentence_transformers(st_official, batch_size):
    folder, expected = st_official
    ranker = Reranker(folder, model_type="static")
    for query, results, scores in zip(QUERIES, ranker.rank_many(QUERIES, READABLE, batch_size=batch_size), expected):
        largest = max(1.0, *map(abs, scores))       # inner products reach some tens
        assert worst(by_position(results), scores) <= TOLERANCE * largest
        assert worst(by_position(ranker.rank(query, READABLE, batch_size=batch_size)), scores) <= TOLERANCE * largest


def test_sentence_transformers_folders_are_recognised(st_official):
    assert choose(str(st_official[0])).backend is ours.StaticRanker


@pytest.mark.parametrize("kind", ["plain", "weights", "mapping", "both"])
def test_the_other_librarys_rules(kind, st, tmp_path):
    "A folder of model2vec in sentence-transformers: the unknown token counts, and tokenizer.json alone decides on length"
    made = wordpieces()
    table, weights, mapping = tensors_of(kind, made.get_vocab_size())
    tensors = {"embeddings": table, "weights": weights, "mapping": mapping}
    write(tmp_path, made, {k: v for k, v in tensors.items() if v is not None}, config=POTION, modules=MODULES)
    model = st.SentenceTransformer(str(tmp_path), device="cpu")
    expected = cosines(model.encode(QUERIES), model.encode(READABLE))
    ranker = Reranker(tmp_path, rules="sentence-transformers")
    for query, scores in zip(QUERIES, expected): assert worst(by_position(ranker.rank(query, READABLE)), scores) <= TOLERANCE
    assert worst(by_position(Reranker(tmp_path).rank(QUERIES[2], READABLE)), expected[2]) > 1e-3


# ---- the contract

@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("kind", ["potion", "st_folder"])
def test_contract(check, kind, request):
    check(Reranker(request.getfixturevalue(kind)))


def test_nothing_to_compare(potion):
    ranker = Reranker(potion)
    for text in ("", " ", "哈姆雷特", "\u0627"): assert ranker.score(QUERIES[0], text) == 0.0
    assert set(by_position(ranker.rank("哈姆雷特", ["hamlet", ""]))) == {0.0}


def test_what_was_cut(potion, st_folder):
    texts = ["hamlet", "a " * 511, "a " * 600, "the " * 500]
    assert sorted(r.doc_id for r in Reranker(potion).rank("hamlet", texts) if r.truncated) == [2, 3]      # the fourth by its characters
    assert not any(r.truncated for r in Reranker(st_folder).rank("hamlet", texts))
    assert all(r.truncated for r in Reranker(potion).rank("hamlet " * 600, texts))


def test_light(potion):
    "Neither torch nor transformers nor one of the two libraries is imported"
    code = (f"import sys; from rerankers import Reranker; Reranker({str(potion)!r}).rank('hamlet', ['faust', 'hamlet']);"
            "print([m for m in ('torch', 'transformers', 'model2vec', 'sentence_transformers', 'onnxruntime') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr[-2000:]


# ---- words and folders

@pytest.mark.parametrize(("model", "word"), [
    ("minishlab/potion-base-8M", "static"), ("minishlab/M2V_base_output", "static"), ("hotchpotch/bekko-static-embedding-v1", "static"),
    ("sentence-transformers/static-retrieval-mrl-en-v1", "static"), ("sentence-transformers/static-similarity-mrl-multilingual-v1", "static"),
    ("sentence-transformers/all-MiniLM-L6-v2", "biencoder")])
def test_names(model, word):
    assert choose(model).backend.words[0] == word


def test_words(potion):
    assert [choose("static", lang=lang).model for lang in ("en", "de")] == ["minishlab/potion-retrieval-32M", "minishlab/potion-multilingual-128M"]
    assert choose("model2vec").backend is ours.StaticRanker
    assert choose(str(potion)).backend is ours.StaticRanker


def test_a_table_in_a_folder_of_its_own(potion, tmp_path):
    inner = tmp_path / "0_StaticEmbedding"
    inner.mkdir()
    for name in ("tokenizer.json", "model.safetensors"): shutil.copyfile(potion / name, inner / name)
    (tmp_path / "modules.json").write_text(json.dumps([{**MODULES[0], "path": inner.name}]))
    assert worst(by_position(Reranker(tmp_path).rank(QUERIES[0], READABLE)), by_position(Reranker(potion).rank(QUERIES[0], READABLE))) <= TOLERANCE


@pytest.mark.parametrize(("break_it", "said"), [
    (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "only the pickle pytorch_model.bin"),
    (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\x08" + b"\0" * 7 + b"{}      "), "no tensor 'embeddings' or 'embedding.weight', but nothing"),
    (lambda f: (f / "model.safetensors").write_bytes(b"junk"), "cannot be read as arrays"),
    (lambda f: (f / "tokenizer.json").write_text("{}"), "is no tokenizer"),
    (lambda f: safetensors.save_file({"bert.embeddings.word_embeddings.weight": vectors(3)}, str(f / "model.safetensors")), "model_type='biencoder'"),
    (lambda f: safetensors.save_file({"embeddings": vectors(3)}, str(f / "model.safetensors")), "vectors for 3 tokens"),
    (lambda f: (f / "modules.json").write_text(json.dumps([*MODULES, {"idx": 1, "path": "1_Dense", "type": "x.Dense"}])), "StaticEmbedding, Dense"),
], ids=range(9))
def test_broken_folders(break_it, said, potion, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(potion, folder)
    break_it(folder)
    with pytest.raises(ModelLoadError, match=said): Reranker(folder, model_type="static")


@pytest.mark.parametrize("extended", [False, True])
def test_numbers_that_numpy_lacks(potion, tmp_path, extended):
    "Whether or not another library has taught NumPy the name bfloat16 in this process"
    torch = pytest.importorskip("torch")
    if extended: pytest.importorskip("ml_dtypes")
    from safetensors.torch import save_file
    shutil.copytree(potion, tmp_path / "m")
    save_file({"embeddings": torch.zeros(99, 4).bfloat16()}, str(tmp_path / "m" / "model.safetensors"))
    with pytest.raises(ModelLoadError, match="cannot be read as arrays"): Reranker(tmp_path / "m")


@pytest.mark.parametrize("option", [{"max_length": 0}, {"batch_size": 0}, {"rules": "gensim"}, {"similarity": "cosinus"}, {"pooling": "max"}])
def test_options(option, potion):
    with pytest.raises(InputError): Reranker(potion, **option)


def test_no_hub(monkeypatch):
    import huggingface_hub.constants
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match="could not be had from the hub"): Reranker("static")
