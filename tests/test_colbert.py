"Late interaction: official scores, all formats, MaxSim, saved vectors, and what is refused"
import gc
import json
import os
import pickle
import shutil
import string
import tracemalloc
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from closeness import FLOOR, near  # noqa: E402
from rerankers import Document, InputError, ModelLoadError, Reranker  # noqa: E402
from rerankers.backends.colbert import EncodedDocuments, native_config  # noqa: E402
from rerankers.engine.maxsim import EMPTY, TokenVectors, maxsim  # noqa: E402
from rerankers.testing import CHECKS, QUERY, check_ranker  # noqa: E402
from rerankers.tiny_models import tiny_checkpoint, tiny_language_model, tiny_late, tiny_tokenizer  # noqa: E402

PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"
KITS = ["colbert_stanford", "colbert_stanford_attend", "colbert_pylate_modernbert", "colbert_pylate_bert", "colbert_pylate_noskip"]
RELATIVE = 1e-5     # of sums of 32 maxima
DOCS = ["faust was written by goethe .", "hamlet was written by william shakespeare .", "", "hamlet " * 30]


def cases(kit): return json.loads((PARITY / kit / "cases.json").read_text())["cases"]
def scores(results): return [results.get_score_by_docid(i) for i in range(len(results))]
def load(folder, **options): return Reranker(str(folder), device="cpu", **options)


@pytest.fixture(scope="module")
def kits(shared_dir):
    known = {}
    def get(kit, kwargs, **options):
        key = kit, json.dumps([kwargs, options])
        if key not in known: known[key] = load(PARITY / kit / "model", **kwargs, **options)
        return known[key]
    return get


# ---- official scores

@pytest.mark.parametrize("batch_size", [1, 7, None])
@pytest.mark.parametrize("kit", KITS)
def test_each_case(kits, kit, batch_size):
    for case in cases(kit):
        found = scores(kits(kit, case["kwargs"]).rank(case["query"], case["docs"], batch_size=batch_size))
        assert found == pytest.approx(case["scores"], rel=RELATIVE), case["name"]


@pytest.mark.parametrize("kit", KITS)
def test_the_folder_says_it_all(kits, kit):
    "What the kit passes as options, the folder's own files say too"
    usual = cases(kit)[0]["kwargs"]
    for case in cases(kit):
        if case["kwargs"] != usual: continue
        assert scores(kits(kit, {}).rank(case["query"], case["docs"])) == pytest.approx(case["scores"], rel=RELATIVE), case["name"]


@pytest.mark.parametrize("kit", KITS)
def test_pooled_queries(kits, kit):
    group = [c for c in cases(kit) if c["kwargs"] == cases(kit)[0]["kwargs"]]
    pooled = kits(kit, {}).rank_many([c["query"] for c in group], [c["docs"] for c in group])
    for case, found in zip(group, pooled): assert scores(found) == pytest.approx(case["scores"], rel=RELATIVE), case["name"]


@pytest.mark.parametrize("kit", KITS)
def test_from_encoded_documents(kits, kit):
    ranker = kits(kit, {})
    for case in [c for c in cases(kit) if c["kwargs"] == cases(kit)[0]["kwargs"]]:
        assert scores(ranker.rank(case["query"], ranker.encode(case["docs"]))) == pytest.approx(case["scores"], rel=RELATIVE), case["name"]


@pytest.mark.parametrize("kit", KITS)
def test_sentence_transformers_does_not_strip(kits, kit):
    "Where it differs from PyLate, it is by the blanks around a text"
    for case in cases(kit):
        if "scores_st_mve" not in case: continue
        found = kits(kit, case["kwargs"], strip=False).rank(case["query"], case["docs"])
        assert scores(found) == pytest.approx(case["scores_st_mve"], rel=RELATIVE), case["name"]


@pytest.mark.parametrize("kit", KITS)
def test_a_folder_that_sentence_transformers_wrote(shared_dir, tmp_path, kit):
    "The same model in sentence-transformers' own format, saved and scored by itself"
    official = pytest.importorskip("sentence_transformers").MultiVectorEncoder(str(PARITY / kit / "model"), device="cpu")
    official.save_pretrained(str(tmp_path), create_model_card=False)
    ranker = load(tmp_path)
    assert ranker.choice.backend.words[0] == "colbert"
    for case in cases(kit)[:9]:
        query = official.encode_query([case["query"]])[0]
        documents = [official.encode_document([d])[0] for d in case["docs"]]
        expected = [(query.float() @ d.float().T).max(1).values.sum().item() for d in documents]
        assert scores(ranker.rank(case["query"], case["docs"])) == pytest.approx(expected, rel=RELATIVE), case["name"]


def official_scores(folder, query, docs):
    "By sentence-transformers itself, one document at a time"
    official = pytest.importorskip("sentence_transformers").MultiVectorEncoder(str(folder), device="cpu")
    asked = official.encode_query([query])
    return [float(official.similarity(asked, official.encode_document([d]))[0][0]) for d in docs]


ST_DOCS = ["faust was written by goethe .", "Hamlet was written by William Shakespeare.  ", "", " ", "哈姆雷特", "  the play .",
           "hamlet , play ! who is 2 " * 60]
FIXED = {"strategy": "fixed", "attend": False, "length": 32}
LEAST = {"strategy": "min", "attend": False, "length": 8}
CHAINS = {  # Transformer, mask, and what else of the model differs
    "plain": {}, "fixed": {"text": {"query_expansion": FIXED}, "mask": {"skiplist_words": [".", "?", "!", "[NO]"]}},
    "attended, with prompts": {"text": {"query_expansion": FIXED | {"attend": True}, "document_length": 20},
                               "model": {"prompts": {"query": "who : ", "document": "is : "}}},
    "at least": {"text": {"query_expansion": LEAST, "query_length": 12}}, "at least, no length": {"text": {"query_expansion": LEAST}},
    "mean": {"text": {"query_expansion": FIXED}, "model": {"similarity_fn_name": "meanmaxsim"}},
    "both skip": {"text": {"query_expansion": FIXED}, "mask": {"skiplist_words": ["?", "."], "skiplist_tasks": ["query", "document"]}},
    "queries alone skip": {"mask": {"skiplist_words": ["?", ".", "hamlet"], "skiplist_tasks": ["query"]}},
    "documents alone skip": {"mask": {"skiplist_words": ["?", ".", "hamlet"], "skiplist_tasks": "document"}},
    "some ids alone": {"mask": {"keep_only_token_ids": [5, 6, 7, 8, 2]}}, "no Normalize": {"normalize": False},
    "no mask": {"text": {"query_expansion": FIXED}, "mask": None}, "lower case": {"text": {"do_lower_case": True}},
    "tokenizer's limit": {"limit": 10}, "tokenizer's limit, at least": {"limit": 10, "text": {"query_expansion": LEAST}}}


def seeded_dense():
    "Its random projection"
    from sentence_transformers.base.modules import Dense
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Dense(32, 16, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings")


@pytest.mark.parametrize(("family", "name"), [*(("bert", name) for name in CHAINS), ("modernbert", "fixed"), ("xlm-roberta", "plain"), ("qwen3", "at least")])
def test_each_setting_of_a_folder_that_sentence_transformers_wrote(tmp_path, family, name):
    encoder = pytest.importorskip("sentence_transformers.multi_vector_encoder")
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    wanted = {"text": {}, "mask": {}, "model": {}, "normalize": True, "limit": None} | CHAINS[name]
    masks = [] if wanted["mask"] is None else [MultiVectorMask(**wanted["mask"])]
    ends = [Normalize(module_input_name="token_embeddings")] if wanted["normalize"] else []
    model = encoder.MultiVectorEncoder(modules=[Transformer(trunk(family, tmp_path / "trunk"), **wanted["text"]), seeded_dense(), *masks, *ends], device="cpu",
                                       **wanted["model"])
    if wanted["limit"]: model.max_seq_length = wanted["limit"]
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    expected = official_scores(tmp_path / "model", QUERY, ST_DOCS)
    assert scores(load(tmp_path / "model").rank(QUERY, ST_DOCS)) == pytest.approx(expected, rel=RELATIVE)


def test_lower_case_that_the_tokenizer_does_not_know_of(tmp_path):
    "A folder that says so by hand; what sentence-transformers saves has it in the tokenizer too"
    model = pytest.importorskip("sentence_transformers").MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    source = tiny_language_model("qwen3")       # its tokenizer tells capitals apart
    made(transformers.AutoModel.from_pretrained(source), transformers.AutoTokenizer.from_pretrained(source), tmp_path / "trunk")
    chain = [Transformer(str(tmp_path / "trunk")), seeded_dense(), Normalize(module_input_name="token_embeddings")]
    model(modules=chain, device="cpu").save_pretrained(str(tmp_path / "model"), create_model_card=False)
    docs = ["HAMLET Play", "hamlet play"]
    assert len(set(scores(load(tmp_path / "model").rank(QUERY, docs)))) == 2
    changed(tmp_path / "model" / "sentence_bert_config.json", do_lower_case=True)
    found = scores(load(tmp_path / "model").rank(QUERY, docs))
    assert found[0] == found[1] and found == pytest.approx(official_scores(tmp_path / "model", QUERY, docs), rel=RELATIVE)


@pytest.mark.parametrize("entries", [{"prompts": {"query": "who : ", "document": "is : "}}, {"prompts": {"query": "[Q] who : ", "document": None}},
                                     {"query_length": None, "document_length": None}, {"do_query_expansion": False}, {"attend_to_expansion_tokens": True}])
def test_entries_of_a_folder_that_pylate_wrote(tmp_path, entries):
    folder = copied("pylate", tmp_path)
    changed(folder / "config_sentence_transformers.json", **entries)
    docs = [d for d in DOCS if len(d) < 99]      # of a longer one each cuts another part: sentence-transformers has no limit where PyLate has 180
    assert scores(load(folder).rank(QUERY, docs)) == pytest.approx(official_scores(folder, QUERY, docs), rel=RELATIVE)


def test_what_pylate_does_with_entries_that_are_not_there(tmp_path):
    "Null is as good as absent, older PyLate wrote no type, and artifact.metadata counts only where there is no Dense"
    usual, folder = load(tiny_late("pylate")), copied("pylate", tmp_path)
    changed(folder / "config_sentence_transformers.json", query_prefix=None, document_prefix=None, model_type=None)
    (folder / "artifact.metadata").write_text(json.dumps({"query_maxlen": 16, "doc_maxlen": 40, "query_token_id": "[unused0]", "doc_token_id": "[unused1]"}))
    found = load(folder, model_type="colbert")
    assert found.settings == usual.settings and scores(found.rank(QUERY, DOCS)) == scores(usual.rank(QUERY, DOCS))
    changed(folder / "config_sentence_transformers.json", query_prefix="")
    assert load(folder, model_type="colbert").settings.query_marker == ""


def test_a_marker_of_pylates_that_is_not_in_the_vocabulary(tmp_path):
    folder = copied("pylate", tmp_path)
    changed(folder / "config_sentence_transformers.json", query_prefix="[NOT THERE] ")
    with pytest.raises(ModelLoadError, match="NOT THERE"): load(folder)


# ---- the contract

KINDS = ["stanford", "pylate", "multi-vector"]


@pytest.mark.parametrize("check", CHECKS, ids=[c.__name__ for c in CHECKS])
@pytest.mark.parametrize("kind", [*KINDS, "bare"])
def test_contract(kind, check):
    if kind == "bare": check(Reranker(tiny_checkpoint("bert", headless=True), model_type="colbert", projection=False, device="cpu"))
    else: check(load(tiny_late(kind)))


def made(model, tokenizer, folder):
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def trunk(kind, folder):
    "A tiny transformer of another family than BERT, without a projection"
    tokenizer = tiny_tokenizer()
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
             "max_position_embeddings": 130, "initializer_range": 0.4, "pad_token_id": tokenizer.pad_token_id}
    config = {"modernbert": ("ModernBertConfig", {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}),
              "xlm-roberta": ("XLMRobertaConfig", {}), "bert": ("BertConfig", {}), "qwen3": ("Qwen3Config", {"num_key_value_heads": 1, "head_dim": 16})}[kind]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return made(transformers.AutoModel.from_config(getattr(transformers, config[0])(**shape, **config[1])), tokenizer, folder)


@pytest.mark.parametrize("kind", ["modernbert", "xlm-roberta", "qwen3", "qwen3 that adds no token"])
def test_contract_of_other_trunks(tmp_path, kind):
    folder = tiny_language_model("qwen3") if " " in kind else trunk(kind, tmp_path)
    check_ranker(load(folder, model_type="colbert", projection=False))


def test_texts_without_a_token(tmp_path):
    "A tokenizer that adds nothing of its own leaves nothing of an empty document, or of a query of a space that has no width"
    ranker = load(tiny_language_model("qwen3"), model_type="colbert", projection=False)
    encoded = ranker.encode(["", "hamlet"])
    encoded.save(tmp_path)
    for docs in (["", "hamlet"], encoded, EncodedDocuments.load(tmp_path)):
        found = scores(ranker.rank(QUERY, docs))
        assert found[0] == EMPTY < found[1]
    assert scores(ranker.rank(QUERY, ["", ""])) == [EMPTY, EMPTY] and len(ranker.encode([""]).vectors.values) == 0
    assert ranker.rank(QUERY, ["hamlet", ""])[1].explain().score == EMPTY
    ranker = load(tiny_language_model("qwen3"), model_type="colbert", projection=False, do_query_expansion=False)
    ranker.queries = lambda texts: (ranker.documents([""] * len(texts))[0], [[]] * len(texts))
    found = ranker.rank("hamlet", ["", "faust"])
    assert scores(found) == [EMPTY, 0.0] and found[0].explain().score == 0.0


@pytest.mark.parametrize("word", ["colbert", "pylate", "late-interaction"])
def test_words(word):
    assert type(Reranker(tiny_late("pylate"), model_type=word, device="cpu")).__name__ == "ColBERTRanker"


@pytest.mark.parametrize(("name", "word"), [("colbert-ir/colbertv2.0", "colbert"), ("lightonai/GTE-ModernColBERT-v1", "colbert"),
                                            ("lightonai/LateOn", "colbert"),
                                            ("answerdotai/answerai-colbert-small-v1", "colbert"), ("mixedbread-ai/mxbai-edge-colbert-v0-17m", "colbert"),
                                            ("perplexity-ai/pplx-embed-v1-late-0.6b", "colbert"), ("nlpai-lab/KURE-v2", "colbert"),
                                            ("DataScience-UIBK/uibk-embedding-v1", "colbert"), ("BAAI/bge-small-en", "biencoder")])
def test_checkpoints_are_recognised_by_name(name, word):
    from rerankers.registry import choose
    if word == "biencoder": name = "BAAI/bge-small-en-v1.5"
    assert choose(name).backend.words[0] == word


def test_padding_changes_nothing():
    ranker = load(tiny_late("stanford"))
    alone = scores(ranker.rank(QUERY, DOCS, batch_size=1))
    old = ranker.runtime
    ranker.runtime = type("Padded", (type(old),), {"padding": True, "max_tokens": 100_000})(old.model, old.read)
    assert scores(ranker.rank(QUERY, DOCS)) == pytest.approx(alone, rel=1e-5)


# ---- MaxSim

def random_vectors(lengths, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    made = [rng.normal(size=(n, dim)).astype(np.float32) for n in lengths]
    return [m / np.linalg.norm(m, axis=1, keepdims=True) if len(m) else m for m in made]


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12), words=st.integers(1, 9), block=st.integers(1, 60), seed=st.integers(0, 99))
def test_blocks_change_nothing(lengths, words, block, seed):
    texts, query = random_vectors(lengths, seed=seed), random_vectors([words], seed=seed + 1)[0]
    plain = [sum(max(float(q @ d) for d in text) for q in query) if len(text) else EMPTY for text in texts]
    store = TokenVectors.of(texts)
    assert maxsim(query, store, block=block).tolist() == pytest.approx(plain, rel=1e-5, abs=1e-5)
    order = np.random.default_rng(seed).permutation(len(lengths)).tolist()
    assert maxsim(query, store.pick(order), block=block).tolist() == pytest.approx([plain[i] for i in order], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=8), seed=st.integers(0, 99), data=st.data())
def test_picked_texts_are_those_texts(precision, lengths, seed, data):
    "In any order, neighbours or not"
    store = TokenVectors.of(random_vectors(lengths, seed=seed), precision, 8)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1)) | st.slices(len(lengths)).map(lambda part: list(range(len(lengths)))[part]))
    picked = store.pick(chosen)
    assert len(picked) == len(chosen) and all(np.array_equal(picked[n], store[i]) for n, i in enumerate(chosen))


@given(lengths=st.lists(st.integers(0, 20), min_size=2, max_size=8), block=st.integers(1, 60), seed=st.integers(0, 99), data=st.data())
def test_texts_of_several_stores(lengths, block, seed, data):
    texts, query = random_vectors(lengths, seed=seed), random_vectors([5], seed=seed + 1)[0]
    stores = [TokenVectors.of(texts[:1]), TokenVectors.of(texts[1:], "int8")]
    homes = [(stores[0], 0), *((stores[1], i) for i in range(len(texts) - 1))]
    chosen = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=12))
    alone = [float(maxsim(query, TokenVectors.of([store[i]]))[0]) for store, i in homes]
    assert maxsim(query, [homes[i] for i in chosen], block=block).tolist() == pytest.approx([alone[i] for i in chosen], rel=1e-5, abs=1e-5)


def random_store(ranker, texts, tokens, precision="float32"):
    values = np.random.default_rng(0).normal(size=(texts * tokens, ranker.dim)).astype(np.float32)
    values = values if precision == "float32" else values.astype(np.float16)
    return EncodedDocuments([Document(f"hamlet {i}", doc_id=i) for i in range(texts)], TokenVectors(values, np.full(texts, tokens)), ranker.made_by)


@pytest.mark.parametrize("which", ["whole", "all but one", "reversed", "mixed with fresh ones", "two stores"])
def test_memory_is_bounded_by_the_block(which):
    ranker = load(tiny_late("stanford"), block=2_000)
    store, second = random_store(ranker, 1_000, 400, "float16"), random_store(ranker, 10, 5)
    docs = {"whole": store, "all but one": [store[i] for i in range(1, len(store))], "reversed": [store[i] for i in range(len(store))][::-1],
            "mixed with fresh ones": [*store, "hamlet"], "two stores": [*store, *second]}[which]
    ranker.rank(QUERY, second)
    gc.collect()
    tracemalloc.start()
    ranker.rank(QUERY, docs, top_k=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < store.vectors.values.nbytes / 3    # in float32 the store would take twice its own size


def test_where_texts_begin_is_counted_once():
    store = TokenVectors.of(random_vectors([3, 0, 5]))
    assert store.offsets is store.offsets and store.offsets.tolist() == [0, 3, 3, 8]


def test_a_second_query_costs_the_query_alone():
    "What issue and benchmark state in seconds (20 times as fast), counted as tokens that the model sees"
    ranker, seen = load(tiny_late("stanford")), []
    model = ranker.runtime.model
    model.register_forward_pre_hook(lambda module, args, inputs: seen.append(inputs["input_ids"].numel()), with_kwargs=True)
    docs = [f"hamlet {i} " * 40 for i in range(40)]
    encoded = ranker.encode(docs)
    seen.clear()
    expected = scores(ranker.rank(QUERY, docs))
    again = sum(seen)
    seen.clear()
    assert scores(ranker.rank(QUERY, encoded)) == pytest.approx(expected, rel=1e-5)
    assert seen == [32] and again >= 20 * sum(seen)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_fewer_bits_stay_near(precision):
    texts, query = random_vectors([20, 5, 0, 300]), random_vectors([32], seed=5)[0]
    near, exact = maxsim(query, TokenVectors.of(texts, precision)), maxsim(query, TokenVectors.of(texts))
    assert near == pytest.approx(exact, abs=0.02 * 32) and (near[2], exact[2]) == (EMPTY, EMPTY)


def test_a_document_without_tokens_comes_last_and_is_a_number():
    ranker = load(tiny_late("pylate"), skiplist=[])
    vocabulary = ranker.tokenizer.get_vocab()
    ranker.documents.skipped = frozenset(i for t, i in vocabulary.items() if t != "faust")     # of other texts nothing is left
    found = ranker.rank(QUERY, ["", "faust", "hamlet"])
    assert found[0].text == "faust" and {r.score for r in found[1:]} == {EMPTY}


# ---- saved vectors

@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_saved_and_loaded(tmp_path, precision):
    ranker = load(tiny_late("stanford"))
    docs = [Document(t, doc_id=f"d{i}", metadata={"n": i}, title="Hamlet" if i == 1 else None) for i, t in enumerate(DOCS)]
    encoded = ranker.encode(docs, precision=precision)
    encoded.save(tmp_path)
    again = EncodedDocuments.load(tmp_path)
    first, second = ranker.rank(QUERY, encoded), ranker.rank(QUERY, again)
    assert [(r.doc_id, r.score, r.metadata, r.title) for r in first] == [(r.doc_id, r.score, r.metadata, r.title) for r in second]
    exact = ranker.rank(QUERY, docs)
    assert [r.score for r in first] == near([exact.get_score_by_docid(r.doc_id) for r in first], floor=FLOOR if precision == "float32" else 0.3)


@pytest.mark.parametrize("first", ["float32", "float16", "int8"])
@pytest.mark.parametrize("second", ["float32", "float16", "int8"])
def test_the_last_save_wins(tmp_path, first, second):
    ranker = load(tiny_late("stanford"))
    ranker.encode(DOCS, precision=first).save(tmp_path)
    last = ranker.encode([*DOCS, "goethe"], precision=second)
    last.save(tmp_path)
    assert scores(ranker.rank(QUERY, EncodedDocuments.load(tmp_path))) == scores(ranker.rank(QUERY, last))
    assert (tmp_path / "scales.npy").is_file() == (second == "int8") and not [f for f in tmp_path.iterdir() if f.name.startswith(".")]


def test_saved_where_it_was_loaded_from_and_beside_a_reader(tmp_path):
    ranker = load(tiny_late("stanford"))
    ranker.encode([f"hamlet {i}" for i in range(600)]).save(tmp_path)       # more than a page of memory
    reader, again = EncodedDocuments.load(tmp_path), EncodedDocuments.load(tmp_path)
    expected = scores(ranker.rank(QUERY, reader))
    again.save(tmp_path)
    assert scores(ranker.rank(QUERY, EncodedDocuments.load(tmp_path))) == expected
    ranker.encode(["goethe"]).save(tmp_path)
    assert scores(ranker.rank(QUERY, reader)) == scores(ranker.rank(QUERY, again)) == expected


def rewritten(name, change):
    def apply(folder): (folder / name).write_text(change((folder / name).read_text()))
    return apply


def resaved(name, change):
    def apply(folder): np.save(folder / name, change(np.load(folder / name)))
    return apply


BROKEN = {
    "documents.jsonl": [rewritten("documents.jsonl", lambda t: "\n".join(t.splitlines()[:2])), rewritten("documents.jsonl", lambda t: t * 2),
                        rewritten("documents.jsonl", lambda t: t.replace('{"text"', '{"x": 1, "text"')),
                        rewritten("documents.jsonl", lambda t: "1\n2\n3\n4"), rewritten("documents.jsonl", lambda t: t.replace("faust", "hamle")),
                        lambda folder: (folder / "documents.jsonl").unlink()],
    "values.npy": [resaved("values.npy", lambda a: a[:20]), resaved("values.npy", lambda a: a[1:]), resaved("values.npy", lambda a: a[:, :8]),
                   resaved("values.npy", lambda a: -a), lambda folder: (folder / "values.npy").write_bytes(b""),
                   lambda folder: (folder / "values.npy").unlink(),
                   lambda folder: os.truncate(folder / "values.npy", (folder / "values.npy").stat().st_size - 100)],
    "lengths.npy": [resaved("lengths.npy", lambda a: a[:3]), resaved("lengths.npy", lambda a: a - 1),
                    lambda folder: (folder / "lengths.npy").write_bytes(b"")],
    "scales.npy": [lambda folder: (folder / "scales.npy").unlink(), resaved("scales.npy", lambda a: a * 2)],
    "about.json": [rewritten("about.json", lambda t: "[]"), rewritten("about.json", lambda t: "{}"),
                   rewritten("about.json", lambda t: t.replace('"dim": 16', '"dim": 8')),
                   rewritten("about.json", lambda t: t.replace('"version": 2', '"version": 3')),
                   rewritten("about.json", lambda t: t.replace('"files"', '"fil"')),
                   lambda folder: (folder / "about.json").unlink(), rewritten("about.json", lambda t: t[:-5])]}


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, changes in BROKEN.items() for i in range(len(changes))])
def test_files_that_do_not_belong_together(tmp_path, name, number):
    load(tiny_late("stanford")).encode(DOCS, precision="int8").save(tmp_path)
    BROKEN[name][number](tmp_path)
    with pytest.raises(InputError, match="about.json" if name == "about.json" else name): EncodedDocuments.load(tmp_path)


@pytest.mark.parametrize("moves", range(4))
def test_a_save_that_breaks_off_is_never_taken_for_a_store(tmp_path, monkeypatch, moves):
    "Same numbers of documents and tokens, other texts: only the content tells"
    ranker, left, move = load(tiny_late("stanford")), [moves], os.replace
    ranker.encode(["hamlet was written", "faust was written"]).save(tmp_path)
    def replace(source, target):
        left[0] -= 1
        if left[0] < 0: raise OSError("no space left on device")
        move(source, target)
    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(OSError, match="no space"): ranker.encode(["london was written", "goethe was written"]).save(tmp_path)
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]
    if moves: pytest.raises(InputError, EncodedDocuments.load, tmp_path)
    else: assert EncodedDocuments.load(tmp_path)[0].text == "hamlet was written"


def test_what_was_cut_is_remembered(tmp_path):
    ranker = load(tiny_late("stanford"))
    long = ranker.encode(["hamlet", "hamlet " * 200])
    long.save(tmp_path)
    for docs in (["hamlet", "hamlet " * 200], long, EncodedDocuments.load(tmp_path), long[0:2], [long[0], "hamlet " * 200], ["hamlet", long[1]]):
        found = ranker.rank(QUERY, docs, doc_ids=[0, 1])
        assert {r.doc_id: r.truncated for r in found} == {0: False, 1: True}


@pytest.mark.parametrize("part", [slice(1, 3), slice(None, None, -1), slice(0, None, 2), slice(3, None), slice(0, 0)], ids=str)
def test_a_slice_knows_which_of_its_documents_were_cut(part):
    docs = ["hamlet", "hamlet " * 200, "faust", "who " * 200, "london"]
    sliced = load(tiny_late("stanford")).encode(docs)[part]
    assert [document.text for document in sliced] == docs[part] and list(sliced.cut) == [len(text) > 99 for text in docs[part]]
    found = load(tiny_late("stanford")).rank(QUERY, sliced)
    assert {r.text: r.truncated for r in found} == {text: len(text) > 99 for text in docs[part]}


def test_nothing_of_a_document_is_lost(tmp_path):
    ranker = load(tiny_late("stanford"))
    whole = Document("hamlet", np.int64(7), {"a": [1, None, {"b": 0.5}], "ü\u2028": "\ud800"}, "image", "p.png", "QUJD", "a title")
    encoded = ranker.encode([whole])
    encoded.save(tmp_path)
    for docs in ([whole], encoded, EncodedDocuments.load(tmp_path)): assert ranker.rank(QUERY, docs)[0].document == whole
    assert type(EncodedDocuments.load(tmp_path)[0].doc_id) is int


@pytest.mark.parametrize(("metadata", "said"), [({1: "a"}, r"metadata\[1\]"), ({"t": (1, 2)}, r"metadata\['t'\]"),
                                                ({"x": [{"y": {2}}]}, r"\['x'\]\[0\]\['y'\]"), ({"n": np.float64(1)}, r"\['n'\]")])
def test_metadata_that_json_would_change(tmp_path, metadata, said):
    encoded = load(tiny_late("stanford")).encode([Document("a", "d1", metadata)])
    with pytest.raises(InputError, match=f"document 'd1': JSON would change .*{said}"): encoded.save(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_result_does_not_carry_the_store():
    ranker = load(tiny_late("stanford"))
    docs = [*DOCS, *(f"hamlet {i}" for i in range(500))]
    found, fresh = ranker.rank(QUERY, ranker.encode(docs), top_k=1), ranker.rank(QUERY, docs, top_k=1)
    assert len(pickle.dumps(found)) <= len(pickle.dumps(fresh)) and pickle.loads(pickle.dumps(found)) == found
    encoded = ranker.encode(DOCS)
    assert encoded[0] == Document(DOCS[0], 0) and Document(DOCS[0], 0) == encoded[0] and encoded[0] != encoded[1]
    assert encoded == encoded and encoded != ranker.encode(DOCS)     # two stores are two things, and nothing is raised
    assert len(pickle.dumps(ranker.encode(encoded))) == len(pickle.dumps(encoded))


def test_a_slice_is_a_store(tmp_path):
    ranker = load(tiny_late("stanford"))
    encoded = ranker.encode(DOCS, precision="int8")
    for part in (encoded[1:3], encoded[::-1], encoded[:0]):
        part.save(tmp_path)
        again = EncodedDocuments.load(tmp_path)
        assert again.items == part.items and ranker.rank(QUERY, again) == ranker.rank(QUERY, part)
        whole = ranker.rank(QUERY, encoded)
        assert all(r.score == pytest.approx(whole.get_score_by_docid(r.doc_id), rel=1e-6) for r in ranker.rank(QUERY, again))


def test_a_document_that_was_changed_after_it_was_encoded():
    ranker = load(tiny_late("stanford"))
    doc = ranker.encode(DOCS)[1]
    doc.metadata["seen"] = True
    ranker.rank(QUERY, [doc])
    doc.text = "goethe"
    with pytest.raises(InputError, match="document 1 was changed after it was encoded"): ranker.rank(QUERY, [doc])


def test_encoded_and_fresh_documents_may_be_mixed():
    ranker = load(tiny_late("stanford"))
    encoded = ranker.encode(DOCS)
    mixed = [encoded[0], DOCS[1], encoded[2], Document(DOCS[3])]
    assert scores(ranker.rank(QUERY, mixed)) == pytest.approx(scores(ranker.rank(QUERY, DOCS)), rel=1e-5)
    assert scores(ranker.rank(QUERY, encoded[1:3], doc_ids=[0, 1])) == pytest.approx(scores(ranker.rank(QUERY, DOCS[1:3])), rel=1e-5)
    many = ranker.rank_many([QUERY, "who ?"], encoded)
    assert [len(m) for m in many] == [4, 4] and scores(many[0]) == pytest.approx(scores(ranker.rank(QUERY, DOCS)), rel=1e-5)


def test_ids_of_the_call_win_and_encoded_documents_stay_as_they_are():
    ranker = load(tiny_late("stanford"))
    encoded = ranker.encode(DOCS)
    found = ranker.rank(QUERY, encoded, doc_ids=list("abcd"), metadata=[{"m": i} for i in range(4)])
    assert {r.doc_id for r in found} == set("abcd") and [d.doc_id for d in encoded] == [0, 1, 2, 3] and all(d.metadata == {} for d in encoded)
    assert pickle.loads(pickle.dumps(found)) == found


def test_vectors_of_another_model_are_refused(tmp_path):
    encoded = load(tiny_late("stanford")).encode(DOCS)
    with pytest.raises(InputError, match="encoded with model="): load(tiny_late("pylate")).rank(QUERY, encoded)
    with pytest.raises(InputError, match="document_length"): load(tiny_late("stanford"), document_length=20).rank(QUERY, encoded)
    with pytest.raises(InputError, match="no encoded documents"): EncodedDocuments.load(tmp_path)
    with pytest.raises(InputError, match="precision='float8'"): load(tiny_late("stanford")).encode(DOCS, precision="float8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_model_elsewhere(tmp_path, monkeypatch, kind):
    folder = copied(kind, tmp_path)
    ranker = load(tiny_late(kind))
    encoded, expected = ranker.encode(DOCS), scores(ranker.rank(QUERY, DOCS))
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    for place in (folder, f"{folder}/", "model", "./link"): assert scores(load(place).rank(QUERY, encoded)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("kind", "file", "weight"), [("stanford", "model.safetensors", "bert.encoder.layer.0.output.dense.weight"),
                                                      ("stanford", "model.safetensors", "linear.weight"),
                                                      ("pylate", "1_Dense/model.safetensors", "linear.weight"),
                                                      ("multi-vector", "model.safetensors", "encoder.layer.0.output.dense.weight")])
def test_a_model_that_was_trained_further_under_its_old_name(tmp_path, kind, file, weight):
    from safetensors.torch import load_file, save_file
    folder = copied(kind, tmp_path)
    encoded, weights = load(folder).encode(DOCS), load_file(folder / file)
    weights[weight] *= 1.01
    save_file(weights, folder / file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"encoded with model='{folder}' .fingerprint .*this ranker has model="): load(folder).rank(QUERY, encoded)


@pytest.mark.parametrize(("option", "said"), [
    ({"strip": True}, "strip=False"), ({"document_prefix": "[unused0]"}, "document_marker"), ({"skiplist": []}, "skiplist"),
    ({"projection": False}, "projection=True"), ({"document_prompt": "passage: "}, "document_prompt=''"), ({"query_length": 8}, None), ({"mean": True}, None),
    ({"query_prefix": "[unused1]"}, None), ({"dtype": "bfloat16"}, None)])
def test_settings_that_change_vectors_are_compared_and_others_are_not(option, said):
    encoded, other = load(tiny_late("stanford")).encode(DOCS), load(tiny_late("stanford"), **option)
    if said is None: assert len(other.rank(QUERY, encoded)) == 4
    else: pytest.raises(InputError, other.rank, QUERY, encoded).match(said)


def test_ids_and_metadata_that_cannot_be_saved(tmp_path):
    ranker = load(tiny_late("stanford"))
    with pytest.raises(InputError, match="ids"): ranker.encode([Document("a", doc_id=("t", 1))]).save(tmp_path / "x")
    with pytest.raises(InputError, match="JSON"): ranker.encode([Document("a", metadata={"x": object()})]).save(tmp_path / "x")
    assert not (tmp_path / "x").exists()


# ---- explanations

def test_an_explanation_sums_to_the_score():
    ranker = load(tiny_late("stanford"))
    found = ranker.rank(QUERY, DOCS[:2])
    for result in found:
        matrix = result.explain()
        assert matrix.similarities.shape == (len(matrix.query), len(matrix.document))
        assert matrix.similarities.max(1).sum() == pytest.approx(result.score, rel=1e-5)
        assert "." not in matrix.document and len(matrix.best()) == len(matrix.query)
    with pytest.raises(InputError, match="no explanation"): pickle.loads(pickle.dumps(found))[0].explain()


@pytest.mark.parametrize("options", [{}, {"mean": True}])
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_an_explanation_is_of_the_vectors_that_were_ranked(options, precision):
    ranker = load(tiny_late("stanford"), **options)
    for result in ranker.rank(QUERY, [*ranker.encode(DOCS, precision=precision)[:3], "hamlet"]):
        assert result.explain().score == pytest.approx(result.score, rel=1e-6)


# ---- broken folders

def copied(kind, tmp_path):
    return Path(shutil.copytree(tiny_late(kind), tmp_path / "model"))


def changed(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_a_projection_that_is_missing_or_does_not_fit(tmp_path):
    from safetensors.torch import load_file, save_file
    folder = copied("stanford", tmp_path)
    weights = load_file(folder / "model.safetensors")
    for projection, said in ((None, "no linear.weight in model.safetensors"), (torch.zeros(16, 48), "takes vectors of 48 numbers"),
                             (torch.zeros(8, 32), "artifact.metadata says dim=16")):
        rest = {k: v for k, v in weights.items() if k != "linear.weight"} | ({} if projection is None else {"linear.weight": projection})
        save_file(rest, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelLoadError, match=said): load(folder)


@pytest.mark.parametrize("same", [True, False])
def test_a_dense_layer_and_a_matrix_among_the_main_weights(tmp_path, same):
    from safetensors.torch import load_file, save_file
    folder = copied("pylate", tmp_path)
    dense = load_file(folder / "1_Dense" / "model.safetensors")["linear.weight"]
    weights = load_file(folder / "model.safetensors") | {"linear.weight": dense.clone() if same else torch.zeros(4, 32)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    if same: assert scores(load(folder).rank(QUERY, DOCS)) == scores(load(tiny_late("pylate")).rank(QUERY, DOCS))
    else: pytest.raises(ModelLoadError, load, folder).match("two projections that disagree: linear.weight in model.safetensors and the layers in 1_Dense")


def test_a_dense_layer_that_artifact_metadata_contradicts(tmp_path):
    folder = copied("pylate", tmp_path)
    (folder / "artifact.metadata").write_text(json.dumps({"dim": 4}))
    with pytest.raises(ModelLoadError, match="artifact.metadata says dim=4, the projection 1_Dense gives 16"): load(folder)


@pytest.mark.parametrize("kind", ["Mystery", "HierarchicalTokenPooling", "Pooling"])
@pytest.mark.parametrize("form", ["pylate", "multi-vector"])
def test_a_module_that_would_be_left_out(tmp_path, form, kind):
    folder = copied(form, tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"idx": 9, "name": "9", "path": f"9_{kind}", "type": f"somebody.{kind}"}]))
    with pytest.raises(ModelLoadError, match=f"9_{kind}.*" + ("biencoder" if kind == "Pooling" else "not known here")): load(folder)


@pytest.mark.parametrize(("entries", "said"), [
    ({"query_maxlen": "32"}, "query_maxlen='32'"), ({"doc_maxlen": 0}, "doc_maxlen=0"), ({"doc_maxlen": 1.5}, "doc_maxlen=1.5"),
    ({"similarity": "l2"}, "similarity='l2'"), ({"interaction": "flipr"}, "interaction='flipr'"), (None, "artifact.metadata is a list"),
    ({"query_token_id": "[unused77]"}, r"marker '\[unused77\]', which is not in its vocabulary")])
def test_an_odd_artifact_metadata(tmp_path, entries, said):
    folder = copied("stanford", tmp_path)
    if entries is None: (folder / "artifact.metadata").write_text("[1]")
    else: changed(folder / "artifact.metadata", **entries)
    with pytest.raises(ModelLoadError, match=said): load(folder)
    if "vocabulary" in said: assert load(folder, query_prefix="[unused0]").score(QUERY, "hamlet") == load(tiny_late("stanford")).score(QUERY, "hamlet")


@pytest.mark.parametrize("ending", ["bin", "safetensors"])
def test_weights_in_several_files(tmp_path, ending):
    from safetensors.torch import load_file, save_file
    folder = copied("stanford", tmp_path)
    weights = load_file(folder / "model.safetensors")
    stem = "pytorch_model" if ending == "bin" else "model"
    (folder / "model.safetensors").unlink()
    parts = {f"{stem}-0000{i + 1}-of-00002.{ending}": sorted(weights)[i::2] for i in range(2)}
    for name, keys in parts.items():
        part = {k: weights[k] for k in keys}
        if ending == "bin": torch.save(part, folder / name)
        else: save_file(part, folder / name, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": {k: name for name, keys in parts.items() for k in keys}}
    (folder / f"{stem}.{'bin' if ending == 'bin' else 'safetensors'}.index.json").write_text(json.dumps(index))
    assert scores(load(folder).rank(QUERY, DOCS)) == scores(load(tiny_late("stanford")).rank(QUERY, DOCS))


def test_options_by_other_names():
    usual = scores(load(tiny_late("stanford"), query_prefix="[unused1]", document_prefix="[unused0]", skiplist=["hamlet"]).rank(QUERY, DOCS))
    named = load(tiny_late("stanford"), query_token="[unused1]", document_token="[unused0]", skiplist_words=["hamlet"])
    assert scores(named.rank(QUERY, DOCS)) == usual
    with pytest.raises(InputError, match="query_prefix= and query_token= are one option"): load(tiny_late("stanford"), query_prefix="a", query_token="b")
    for name in ("skiplist", "skiplist_words"):
        with pytest.raises(InputError, match="'hamlet' is one string"): load(tiny_late("stanford"), **{name: "hamlet"})


@pytest.mark.parametrize("kind", ["pylate", "multi-vector"])
def test_a_late_model_is_no_embedding_model(kind):
    with pytest.raises(ModelLoadError, match="model_type='colbert'"): load(tiny_late(kind), model_type="biencoder")


def test_dense_layers_that_disagree(tmp_path):
    from safetensors.torch import save_file
    folder = copied("pylate", tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"idx": 2, "name": "2", "path": "2_Dense", "type": "pylate.models.Dense.Dense"}]))
    (folder / "2_Dense").mkdir()
    config = {"in_features": 24, "out_features": 8, "activation_function": "torch.nn.modules.linear.Identity"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
    save_file({"linear.weight": torch.zeros(8, 24)}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelLoadError, match="2_Dense takes vectors of 24 numbers, what comes before it gives 16"): load(folder)


@pytest.mark.parametrize("option", [{"document_length": 129}, {"query_length": 4000}, {"document_length": 0}, {"query_length": -1}, {"block": 0}])
def test_lengths_that_do_not_fit(option):
    with pytest.raises(InputError, match=next(iter(option))): load(tiny_late("stanford"), **option)


def test_a_filling_that_the_vocabulary_does_not_have(tmp_path):
    folder = copied("multi-vector", tmp_path)
    changed(folder / "sentence_bert_config.json", query_expansion={"strategy": "fixed", "length": 32, "token": "[NOT_THERE]"})
    with pytest.raises(ModelLoadError, match="NOT_THERE"): load(folder)


# ---- trunks that bring their own code

CODE = """
from transformers import BertConfig, BertModel
class FlashConfig(BertConfig):
    model_type = "somebodys-flash"
class FlashModel(BertModel):
    config_class = FlashConfig
"""


def test_a_trunk_with_its_own_code_runs_when_it_is_trusted_and_not_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = copied("stanford", tmp_path)
    expected = scores(load(folder).rank(QUERY, DOCS))
    (folder / "flash.py").write_text(CODE)
    changed(folder / "config.json", model_type="somebodys-flash", auto_map={"AutoConfig": "flash.FlashConfig", "AutoModel": "flash.FlashModel"})
    with pytest.raises(ModelLoadError): load(folder)
    assert scores(load(folder, trust_remote_code=True).rank(QUERY, DOCS)) == pytest.approx(expected, rel=1e-6)


# ---- jina-colbert-v2: XLM-R with rotary positions. Names and arithmetic are those of jinaai/xlm-roberta-flash-implementation, as copied at
# github.com/aoncevay/jina-wrapper (d3188e6), settings those of an index that colbert-ai wrote, github.com/emehmet/jina-colbert-v2 (4932f04)

HEADS, LAYERS, HIDDEN = 4, 3, 64
JINA = {"architectures": ["HF_ColBERT"], "model_type": "xlm-roberta", "position_embedding_type": "rotary", "rotary_emb_base": 20000.0, "hidden_act": "gelu",
        "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 96, "max_position_embeddings": 8194,
        "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "use_flash_attn": True, "emb_pooler": None,
        "lora_adaptations": None, "torch_dtype": "bfloat16", "auto_map": {
            "AutoConfig": "jinaai/xlm-roberta-flash-implementation--configuration_xlm_roberta.XLMRobertaFlashConfig",
            "AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_xlm_roberta.XLMRobertaModel"}}
STANFORD = {"query_token_id": "[QueryMarker]", "doc_token_id": "[DocumentMarker]", "query_token": "[QueryMarker]", "doc_token": "[DocumentMarker]",
            "query_maxlen": 32, "doc_maxlen": 300, "dim": 128, "attend_to_mask_tokens": True, "mask_punctuation": True, "similarity": "cosine"}
LONG = "to be , or not to be : that is the question . " * 60
JINA_QUERIES = [QUERY, "hamlet", "who wrote the play ? " * 20]
JINA_DOCS = [*DOCS, LONG, "!?.", "zürich, 2 many times!"]


def jina_tokenizer():
    "As XLM-R's: a Unigram model, `<s> … </s>` around a text, the markers behind all other tokens"
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from rerankers.tiny_models import VOCABULARY
    pieces = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *(f"▁{w}" for w in VOCABULARY), "▁", *(chr(c) for c in range(33, 127))])
    made = Tokenizer(models.Unigram([(p, -1.0 - 9.0 * (len(p) < 2) - i / 1e4) for i, p in enumerate(pieces)], unk_id=3, byte_fallback=False))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]), decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    named = {"<s>": ("bos", "cls"), "</s>": ("eos", "sep"), "<unk>": ("unk",), "<pad>": ("pad",), "<mask>": ("mask",)}
    names = {f"{role}_token": token for token, roles in named.items() for role in roles}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=8192, model_input_names=["input_ids", "attention_mask"], **names)
    tokenizer.add_tokens(["[QueryMarker]", "[DocumentMarker]"], special_tokens=True)
    return tokenizer


def jina_weights(words):
    "Random weights in bfloat16 under the names that Jina's code gives them"
    made = {"roberta.embeddings.word_embeddings": (words, HIDDEN), "roberta.embeddings.token_type_embeddings": (1, HIDDEN), "roberta.emb_ln": (HIDDEN,),
            "roberta.pooler.dense": (HIDDEN, HIDDEN), "linear": (128, HIDDEN)}
    for layer in (f"roberta.encoder.layers.{i}" for i in range(LAYERS)):
        made |= {f"{layer}.mixer.Wqkv": (3 * HIDDEN, HIDDEN), f"{layer}.mixer.out_proj": (HIDDEN, HIDDEN), f"{layer}.norm1": (HIDDEN,),
                 f"{layer}.mlp.fc1": (96, HIDDEN), f"{layer}.mlp.fc2": (HIDDEN, 96), f"{layer}.norm2": (HIDDEN,)}
    source, found = torch.Generator().manual_seed(4), {}
    for name, shape in made.items():
        found[f"{name}.weight"] = torch.randn(shape, generator=source) * 0.2 + (len(shape) == 1)
        if "embeddings" not in name and name != "linear": found[f"{name}.bias"] = torch.randn(shape[:1], generator=source) * 0.2
    return {name: w.to(torch.bfloat16) for name, w in found.items()}


def jina_folder(folder, **entries):
    "A folder with the files that the hub has; an entry that is None is left out of config.json"
    from safetensors.torch import save_file
    tokenizer = jina_tokenizer()
    tokenizer.save_pretrained(folder)
    changed(folder / "tokenizer_config.json", tokenizer_class="XLMRobertaTokenizerFast")
    save_file(jina_weights(len(tokenizer)), folder / "model.safetensors", metadata={"format": "pt"})
    config = JINA | {"vocab_size": len(tokenizer)} | entries
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    (folder / "artifact.metadata").write_text(json.dumps(STANFORD))
    return folder


def slow_trunk(weights, ids, seen, base):
    "The forward pass of Jina's code for one text, one head and one position at a time, in float64: (tokens,) -> (tokens, hidden)"
    def linear(name, x): return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    def norm(name, x):
        centred = x - x.mean(1, keepdim=True)
        return centred / (centred.pow(2).mean(1, keepdim=True) + JINA["layer_norm_eps"]).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    def rotated(rows):      # number j and number j + half of a head are one complex number, turned by position * base ** (-j / half)
        half = rows.shape[1] // 2
        turned = [torch.complex(r[:half], r[half:]) * torch.tensor([np.exp(1j * t * base ** (-j / half)) for j in range(half)]) for t, r in enumerate(rows)]
        return torch.stack([torch.cat([z.real, z.imag]) for z in turned])

    size, hidden = HIDDEN // HEADS, torch.tensor([bool(s) for s in seen]).logical_not()
    x = norm("roberta.emb_ln", weights["roberta.embeddings.word_embeddings.weight"][ids] + weights["roberta.embeddings.token_type_embeddings.weight"][0])
    for layer in (f"roberta.encoder.layers.{i}" for i in range(LAYERS)):
        packed, mixed = linear(f"{layer}.mixer.Wqkv", x), []
        for start in range(0, HIDDEN, size):
            q, k, v = (packed[:, part + start:part + start + size] for part in (0, HIDDEN, 2 * HIDDEN))
            likeness = (rotated(q) @ rotated(k).T / size ** 0.5).masked_fill(hidden, -torch.inf)
            mixed.append(torch.softmax(likeness, 1) @ v)
        x = norm(f"{layer}.norm1", x + linear(f"{layer}.mixer.out_proj", torch.cat(mixed, 1)))
        grown = linear(f"{layer}.mlp.fc1", x)
        x = norm(f"{layer}.norm2", x + linear(f"{layer}.mlp.fc2", grown * (1 + torch.erf(grown / 2 ** 0.5)) / 2))
    return x


def slow_scores(folder, query, docs, base=20000.0, attend=True):
    "MaxSim as Stanford's recipe has it, over that trunk"
    from safetensors.torch import load_file
    weights, tokenizer = {k: w.double() for k, w in load_file(folder / "model.safetensors").items()}, jina_tokenizer()
    skipped = {tokenizer.encode(c, add_special_tokens=False)[0] for c in string.punctuation}    # what colbert-ai's ColBERT leaves out
    def vectors(text, marker, length, fill):
        ids = tokenizer(text, truncation=True, max_length=length - 1).input_ids
        ids = [ids[0], tokenizer.convert_tokens_to_ids(marker), *ids[1:]]
        seen = [1] * len(ids) + [attend] * (length - len(ids)) * fill
        ids += [tokenizer.mask_token_id] * (length - len(ids)) * fill
        found = slow_trunk(weights, torch.tensor(ids), seen, base) @ weights["linear.weight"].T
        return torch.nn.functional.normalize(found, dim=1)[[fill or i not in skipped for i in ids]]
    asked = vectors(query, "[QueryMarker]", 32, True)
    return [(asked @ vectors(doc, "[DocumentMarker]", 300, False).T).max(1).values.sum().item() for doc in docs]


native = pytest.mark.skipif(not hasattr(transformers, "JinaEmbeddingsV3Model"), reason="transformers has the class since 5.4")


@pytest.fixture(scope="module")
def jina(tmp_path_factory): return jina_folder(tmp_path_factory.mktemp("jina"))


@native
def test_jina_says_in_its_files_how_it_wants_to_be_used(jina):
    ranker = load(jina)
    settings, usual = ranker.settings, ranker.tokenizer.get_vocab()
    assert type(ranker).__name__ == "ColBERTRanker" and type(ranker.runtime.model).__name__ == "JinaEmbeddingsV3Model"
    assert (settings.query_marker, settings.document_marker, settings.attend) == ("[QueryMarker]", "[DocumentMarker]", True)
    assert (settings.query_length, settings.expansion, settings.document_length, ranker.dim) == (32, 32, 300, 128)
    asked, scored = ranker.queries([QUERY])
    ids, mask = asked["input_ids"][0], asked["attention_mask"][0]
    assert ids[:2] == [0, usual["[QueryMarker]"]] and ids[-1] == usual["<mask>"] and len(ids) == 32 and mask == [1] * 32 and scored[0] == [True] * 32
    found = ranker.documents([LONG])[0]["input_ids"][0]
    assert found[:2] == [0, usual["[DocumentMarker]"]] and len(found) == 300


@native
def test_what_is_not_scored_is_the_first_piece_of_each_sign(jina):
    "As colbert-ai has it; a sign that ends a word is another piece, and is scored"
    tokens, scored = load(jina).documents(["hamlet , was written. a play ?"])
    pieces = jina_tokenizer().convert_ids_to_tokens(tokens["input_ids"][0])
    assert [p for p, kept in zip(pieces, scored[0]) if not kept] == ["▁,", "▁?"] and "." in pieces


@native
def test_jina_scores(jina):
    ranker = load(jina)
    for query in JINA_QUERIES:
        expected = slow_scores(jina, query, JINA_DOCS)
        for size in (1, 7, None): assert scores(ranker.rank(query, JINA_DOCS, batch_size=size)) == pytest.approx(expected, rel=RELATIVE), (query, size)


@native
@pytest.mark.parametrize(("entries", "base"), [({"rotary_emb_base": None}, 10000.0), ({"rotary_emb_base": 500}, 500.0), ({"model_type": None}, 20000.0),
                                               ({"auto_map": None}, 20000.0)])
def test_jina_with_other_entries(tmp_path, entries, base):
    "Without a base it is that of Jina's code, not that of the native class; either sign is enough to be known by"
    folder = jina_folder(tmp_path, **entries)
    expected, elsewhere = slow_scores(folder, QUERY, JINA_DOCS, base), slow_scores(folder, QUERY, JINA_DOCS, base * 2)
    assert scores(load(folder).rank(QUERY, JINA_DOCS)) == pytest.approx(expected, rel=RELATIVE)
    assert max(abs(a / b - 1) for a, b in zip(expected, elsewhere)) > 100 * RELATIVE    # the check can tell them apart


@native
def test_jina_without_attended_filling_scores_otherwise(tmp_path):
    folder = jina_folder(tmp_path)
    changed(folder / "artifact.metadata", attend_to_mask_tokens=False)
    expected = slow_scores(folder, QUERY, JINA_DOCS, attend=False)
    assert scores(load(folder).rank(QUERY, JINA_DOCS)) == pytest.approx(expected, rel=RELATIVE)
    assert max(abs(a / b - 1) for a, b in zip(expected, slow_scores(folder, QUERY, JINA_DOCS))) > 100 * RELATIVE


@native
def test_jina_needs_no_foreign_code_even_where_it_is_trusted(jina):
    assert scores(load(jina, trust_remote_code=True).rank(QUERY, JINA_DOCS)) == scores(load(jina).rank(QUERY, JINA_DOCS))


@native
@pytest.mark.parametrize("check", CHECKS, ids=[c.__name__ for c in CHECKS])
def test_contract_of_jina(jina, check): check(load(jina))


@native
@pytest.mark.parametrize("lost", ["roberta.encoder.layers.1.mixer.Wqkv.weight", "roberta.emb_ln.bias", "roberta.encoder.layers.2.norm2.weight"])
@pytest.mark.parametrize("instead", [None, "original"])
def test_jina_with_a_weight_missing_is_refused(tmp_path, lost, instead):
    "Or under another name, as adapters of jina-embeddings-v3's kind call the weight that they change"
    from safetensors.torch import load_file, save_file
    folder = jina_folder(tmp_path)
    renamed = None if instead is None else "{}.parametrizations.{}.original".format(*lost.rsplit(".", 1))
    rest = {renamed if k == lost else k: w for k, w in load_file(folder / "model.safetensors").items()}
    save_file({k: w for k, w in rest.items() if k is not None}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match="RANDOM"): load(folder)


def test_jina_on_an_older_transformers_says_what_to_do(jina, monkeypatch):
    monkeypatch.setattr("transformers.JinaEmbeddingsV3Config", None, raising=False)
    with pytest.raises(ModelLoadError, match=r"since 5\.4: upgrade it; with transformers 4, trust_remote_code=True"): load(jina)


@pytest.mark.parametrize("odd", [{"rotary_emb_interleaved": True}, {"rotary_emb_scale_base": 512}, {"rotary_emb_dim": 8}])
def test_jina_that_the_native_class_would_compute_wrongly_is_refused(tmp_path, odd):
    with pytest.raises(ModelLoadError, match=f"{next(iter(odd))}=.* own class"): load(jina_folder(tmp_path, **odd))


@pytest.mark.parametrize("entries", [{"position_embedding_type": "absolute"}, {"position_embedding_type": None},
                                     {"model_type": "bert", "auto_map": None}])
def test_other_trunks_stay_what_they_are(tmp_path, entries):
    config = {k: v for k, v in (JINA | entries).items() if v is not None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert native_config(tmp_path) is None and native_config(tmp_path / "nowhere") is None


def test_a_callers_skiplist_is_for_documents_whatever_the_folder_skips(tmp_path):
    "In this folder queries alone skip; a list that the caller gives leaves tokens of documents out"
    folder = shutil.copytree(tiny_late("multi-vector"), tmp_path / "model")
    [file] = folder.glob("*MultiVectorMask/config.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "skiplist_tasks": ["query"]}))
    shown = [load(folder, **options).explain(QUERY, "hamlet was a play").document for options in ({}, {"skiplist": ["hamlet"]})]
    assert ["hamlet" in tokens for tokens in shown] == [True, False] and "play" in shown[1]
