"BGE-M3: all five official scores of the kit, what counts and what does not, how it is recognised, what is refused"
import json
import math
import shutil
from pathlib import Path

import pytest

torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
from closeness import distance, near  # noqa: E402
from rerankers import InputError, Reranker  # noqa: E402
from rerankers.backends import bge_m3  # noqa: E402
from rerankers.backends.bge_m3 import MODES, Encoded, as_query, colbert_scores, sparse_scores, text_length  # noqa: E402
from rerankers.engine.pytorch import TorchRuntime  # noqa: E402
from rerankers.errors import ModelLoadError  # noqa: E402
from rerankers.registry import choose  # noqa: E402
from rerankers.testing import CHECKS  # noqa: E402
from rerankers.tiny_models import tiny_tokenizer  # noqa: E402

KIT = Path(__file__).resolve().parents[2] / "shared" / "parity" / "bge_m3"
FP32 = {"device": "cpu", "dtype": "float32"}
QUERY, DOCS = "who wrote hamlet ?", ["hamlet was written by william shakespeare", "goethe wrote faust", "", "a play from london " * 20]
with_kit = pytest.mark.usefixtures("shared_dir")


class PaddedRuntime(TorchRuntime):
    "Batches texts of different lengths together, as on an accelerator"
    overhead = math.inf


def cases():
    return json.loads((KIT / "cases.json").read_text())["cases"]


@pytest.fixture(scope="module")
def rankers():
    return {}


def ranker_for(rankers, kwargs):
    "One ranker for every case with the same settings"
    name = json.dumps(kwargs)
    if name not in rankers: rankers[name] = Reranker(str(KIT / "model"), **kwargs, **FP32)
    return rankers[name]


def worst(results, official, **how):
    "The largest difference of any of the five sets, as a part of what rounding explains"
    ordered = [results.get_result_by_docid(i) for i in range(len(results))]
    assert set(official) == set(MODES)
    return max(distance([r.scores[mode] for r in ordered], official[mode], **how) for mode in MODES)


@with_kit
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_each_case(rankers, batch_size, padding):
    for case in cases():
        ranker = ranker_for(rankers, case["kwargs"])
        alone = ranker.runtime
        if padding: ranker.runtime = PaddedRuntime(alone.model, alone.read, ask=alone.ask)
        try: results = ranker.rank(case["query"], case["docs"], batch_size=batch_size)
        finally: ranker.runtime = alone
        assert worst(results, case["scores_by_mode"]) <= 1, case["name"]
        assert distance([results.get_score_by_docid(i) for i in range(len(results))], case["scores"]) <= 1, case["name"]


@with_kit
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_pooled_queries(rankers, batch_size):
    groups = {}
    for case in cases(): groups.setdefault(json.dumps(case["kwargs"]), []).append(case)
    for group in groups.values():
        ranker = ranker_for(rankers, group[0]["kwargs"])
        pooled = ranker.rank_many([c["query"] for c in group], [c["docs"] for c in group], batch_size=batch_size)
        for case, results in zip(group, pooled): assert worst(results, case["scores_by_mode"]) <= 1, case["name"]


@with_kit
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_ranks(mode):
    for case in cases()[:3]:
        results = Reranker(str(KIT / "model"), mode=mode, **case["kwargs"], **FP32).rank(case["query"], case["docs"])
        ours = [results.get_score_by_docid(i) for i in range(len(results))]
        assert ours == near(case["scores_by_mode"][mode])
        assert all(r.score == r.scores[mode] and list(r.scores) == list(MODES) for r in results)


@with_kit
def test_half_precision(rankers):
    "In bfloat16 the scores are the official ones but for its noise"
    case = cases()[0]
    results = Reranker(str(KIT / "model"), device="cpu", dtype="bfloat16", **case["kwargs"]).rank(case["query"], case["docs"])
    assert worst(results, case["scores_by_mode"], steps=0, floor=0.02) < 1


# From here on: a tiny random checkpoint in the layout of the published one
def write_model(folder):
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token, tokenizer.model_input_names = "[SEP]", ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.XLMRobertaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
                                           max_position_embeddings=129, type_vocab_size=1, pad_token_id=0, initializer_range=0.5)
    transformers.XLMRobertaModel(config).save_pretrained(folder)
    for name, outputs in (("sparse", 1), ("colbert", 16)): torch.save(torch.nn.Linear(32, outputs).state_dict(), folder / f"{name}_linear.pt")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("m3") / "my-embeddings")


@pytest.fixture(scope="module")
def ranker(folder):
    return Reranker(folder, **FP32)


@pytest.fixture
def broken(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path, dirs_exist_ok=True))


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_contract(ranker, check):
    check(ranker)


def test_each_text_is_encoded_once(ranker, monkeypatch):
    seen = []
    def counted(runtime, batch):
        seen.extend(map(tuple, batch["input_ids"].tolist()))
        return read_batch(runtime, batch)
    read_batch = bge_m3.read_batch
    monkeypatch.setattr(bge_m3, "read_batch", counted)
    ranker.rank_many([QUERY, "who wrote faust ?"], [*DOCS, DOCS[0]])
    assert len(seen) == 2 + len(DOCS)


def test_cut_texts_are_marked(folder):
    ranker = Reranker(folder, max_query_length=8, max_passage_length=40, **FP32)
    assert [r.truncated for r in sorted(ranker.rank(QUERY, DOCS), key=lambda r: r.doc_id)] == [False, False, False, True]
    assert all(r.truncated for r in ranker.rank(QUERY * 4, DOCS))


def test_lengths(ranker, folder):
    "512 or what there is room for; the two limits are the two sides' own"
    assert (ranker.query_encoder.max_length, ranker.document_encoder.max_length) == (128, 128)
    other = Reranker(folder, max_query_length=5, max_passage_length=9, **FP32)
    assert (other.query_encoder.max_length, other.document_encoder.max_length) == (5, 9)


def test_empty_document(ranker):
    found = ranker.rank(QUERY, ["", "\n"])
    assert all(abs(s) < float("inf") for r in found for s in r.scores.values()) and found[0].scores["sparse"] == 0


def test_special_tokens_carry_no_weight(ranker):
    "Nor do words outside the vocabulary: texts of nothing else share nothing"
    assert ranker.rank("[CLS] 哈", ["[CLS] 哈 [SEP] [PAD]"])[0].scores["sparse"] == 0
    assert ranker.rank("hamlet hamlet", ["hamlet"])[0].scores["sparse"] >= 0


def encoded(ids, weights, vectors, lengths):
    tokens = torch.tensor(ids)
    mask = torch.arange(1, tokens.shape[1]) < torch.tensor(lengths)[:, None]
    return Encoded(torch.ones(len(ids), 1), tokens, torch.tensor(weights), torch.tensor(vectors), mask)


def test_a_word_counts_once():
    "The larger of its weights on either side, as in the official maximum over the vocabulary"
    query = encoded([[2, 7, 7, 3]], [[0.0, 2.0, 1.0, 0.0]], [[[1.0]] * 3], [4])
    texts = encoded([[2, 7, 8, 7, 3], [2, 8, 3, 0, 0]], [[0.0, 0.25, 9.0, 0.5, 0.0], [0.0, 4.0, 0.0, 0.0, 0.0]], [[[1.0]] * 4] * 2, [5, 3])
    assert sparse_scores(as_query(query, 0), texts).tolist() == [1.0, 0.0]


def test_padding_takes_no_part_in_the_maximum():
    "A token that is unlike everything scores below zero, whatever stands in the batch beside its document"
    query = encoded([[2, 7, 3]], [[0.0, 1.0, 0.0]], [[[1.0], [-1.0]]], [3])
    texts = encoded([[2, 7, 3, 0]], [[0.0] * 4], [[[1.0], [0.5], [0.0]]], [3])
    assert colbert_scores(as_query(query, 0), texts).item() == (1 - 0.5) / 2


@pytest.mark.parametrize("name", ["BAAI/bge-m3", "someone/bge-m3-tuned", "bge-m3"])
def test_known_by_name(name):
    assert choose(name).backend is bge_m3.BGEM3Ranker


@pytest.mark.parametrize("name", ["BAAI/bge-reranker-v2-m3", "BAAI/bge-reranker-v2-gemma", "BAAI/bge-base-en-v1.5"])
def test_not_its_relatives(name):
    assert choose(name).backend is not bge_m3.BGEM3Ranker


def test_known_by_its_file(folder, broken):
    "Also among the files of sentence-transformers, which the published one has; a folder that lost the layers is what its modules say"
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    (broken / "modules.json").write_text(json.dumps(modules))
    for place in (folder, broken): assert choose(str(place)).reason == "it has the file colbert_linear.pt"
    (broken / "colbert_linear.pt").unlink()
    assert choose(str(broken)).backend.words[0] == "biencoder"


def test_defaults():
    assert {choose("bge-m3", lang=lang).model for lang in ("en", "de", "zh")} == {"BAAI/bge-m3"}


@pytest.mark.parametrize("name", ["sparse_linear.pt", "colbert_linear.pt"])
def test_missing_file(broken, name):
    (broken / name).unlink()
    with pytest.raises(ModelLoadError, match=f"{name} is missing.*biencoder"): Reranker(broken, model_type="bge-m3", **FP32)


class Bomb:
    "A pickle that would write a file"
    def __init__(self, path): self.path = str(path)
    def __reduce__(self): return open, (self.path, "w")


def layer(weight, bias): return {"weight": torch.zeros(weight), "bias": torch.zeros(bias)}


UNREADABLE = {"empty": b"", "pointer": b"version https://git-lfs.github.com/spec/v1", "list": [1, 2], "no weight": {"bias": torch.zeros(1)},
              "no matrix": layer(32, 1), "other bias": layer((1, 32), 3)}
UNFIT = {"other model": layer((1, 24), 1), "two outputs": layer((2, 32), 2)}


@pytest.mark.parametrize("content", [*UNREADABLE, *UNFIT])
def test_wrong_file(broken, content):
    found, path = (UNREADABLE | UNFIT)[content], broken / "sparse_linear.pt"
    if isinstance(found, bytes): path.write_bytes(found)
    else: torch.save(found, path)
    with pytest.raises(ModelLoadError, match=f"sparse_linear.pt {'is damaged' if content in UNREADABLE else 'does not belong'}"): Reranker(broken, **FP32)


def test_pickles_are_not_run(broken):
    torch.save(Bomb(broken / "ran"), broken / "sparse_linear.pt")
    with pytest.raises(ModelLoadError, match="sparse_linear.pt is damaged"): Reranker(broken, **FP32)
    assert not (broken / "ran").exists()


@pytest.mark.parametrize(("options", "said"), [
    ({"mode": "colber"}, "colbert"), ({"mode": None}, "mode"), ({"weights": (1, 1)}, "three"), ({"weights": (0, 0, 1)}, "not both 0"),
    ({"weights": (1, float("nan"), 1)}, "three"), ({"weights": (1, -1, 1)}, "three"), ({"weights": 1}, "three"), ({"batch_size": 0}, "batch_size"),
    ({"max_query_length": 129}, "max_query_length=129.*128"), ({"max_passage_length": 0}, "max_passage_length")])
def test_bad_options(folder, options, said):
    with pytest.raises(InputError, match=said): Reranker(folder, **options, **FP32)


@pytest.mark.parametrize(("wanted", "usable", "length"), [(None, 8192, 512), (None, 300, 300), (None, None, 512), (100, 8192, 100), (600, 8192, 600)])
def test_texts_are_cut_at_512_tokens_unless_the_caller_says_more(wanted, usable, length):
    assert text_length("max_length", wanted, usable) == length


def test_a_query_is_its_own_tokens_and_no_padding():
    "As a batch holds it beside a longer text: the last place is padding; a word that occurs twice has its larger weight"
    batch = Encoded(torch.ones(1, 2), torch.tensor([[1, 7, 7, 9]]), torch.tensor([[0.0, 0.5, 0.25, 0.0]]), torch.rand(1, 3, 2),
                    torch.tensor([[True, True, False]]))
    query = as_query(batch, 0)
    assert torch.equal(query.vectors, batch.vectors[0, :2])
    assert dict(zip(query.ids.tolist(), query.weights.tolist())) == {1: 0.0, 7: 0.5}


def test_what_is_kept_of_a_text_does_not_depend_on_its_neighbours(ranker):
    "Words of its own, and no padding"
    together, alone = ranker.encode(DOCS).vectors["sparse"], [ranker.encode([doc]).vectors["sparse"] for doc in DOCS]
    assert together.ids.tolist() == [i for one in alone for i in one.ids.tolist()]


@with_kit
def test_words_that_the_vocabulary_lacks_do_not_match_one_another(rankers):
    from transformers import AutoTokenizer
    tokenizer, umbrella = AutoTokenizer.from_pretrained(str(KIT / "model")), "the \u2602 play in"
    assert tokenizer.unk_token_id in tokenizer(umbrella)["input_ids"]
    words = ranker_for(rankers, {}).encode([umbrella]).vectors["sparse"]
    weights = dict(zip(words.ids.tolist(), words.weights.tolist()))
    assert weights.get(tokenizer.unk_token_id, 0) == 0 < max(weights.values())
