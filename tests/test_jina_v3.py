"jina-reranker-v3 against its authors' procedure written out in plain transformers, and what is refused"
import json
import pickle
import shutil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
from safetensors.torch import load_file, save_file  # noqa: E402

from closeness import distance  # noqa: E402
from rerankers import InputError, Reranker  # noqa: E402
from rerankers.backends.jina_v3 import SYSTEM, document_blocks, list_prompt, without_marks  # noqa: E402
from rerankers.errors import ModelLoadError  # noqa: E402
from rerankers.registry import choose  # noqa: E402
from rerankers.testing import CHECKS, QUERY, SAMPLE_TEXTS, check_order_free  # noqa: E402
from rerankers.tiny_models import tiny_language_model  # noqa: E402

READABLE = [t for t in SAMPLE_TEXTS if "\ud800" not in t]
FP32 = {"device": "cpu", "dtype": "float32"}
CONFIG = {"architectures": ["JinaForRanking"], "auto_map": {"AutoModel": "modeling.JinaForRanking"}, "max_position_embeddings": 131072}


def write_model(folder, *, bias=False, **config):
    "A checkpoint in the layout of jinaai/jina-reranker-v3, small and random"
    source = tiny_language_model("qwen3")
    random = torch.Generator().manual_seed(4)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if k != "lm_head.weight"}
    weights |= {"projector.0.weight": torch.randn(16, 32, generator=random), "projector.2.weight": torch.randn(12, 16, generator=random)}
    if bias: weights |= {"projector.0.bias": torch.randn(16, generator=random), "projector.2.bias": torch.randn(12, generator=random)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**known, **CONFIG, **config}))
    transformers.AutoTokenizer.from_pretrained(source, model_max_length=131072).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("jina") / "jina-reranker-v3")


@pytest.fixture(scope="module")
def ranker(folder):
    return Reranker(folder, **FP32)


class Plain:
    "The authors' procedure step by step, with nothing of this library in it"

    def __init__(self, folder, bias=False):
        weights = load_file(folder / "model.safetensors")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config.from_pretrained(folder)).eval()
        self.model.load_state_dict({k: v for k, v in weights.items() if k.startswith("model.")}, strict=False)
        self.projector = torch.nn.Sequential(torch.nn.Linear(32, 16, bias=bias), torch.nn.ReLU(), torch.nn.Linear(16, 12, bias=bias))
        self.projector.load_state_dict({k[len("projector."):]: v for k, v in weights.items() if k.startswith("projector.")})

    def cut(self, text, most):
        ids = self.tokenizer(text, truncation=True, max_length=most)["input_ids"]
        return (self.tokenizer.decode(ids) if len(ids) >= most else text), len(ids)

    def prompt(self, query, docs, instruction):
        def clean(text): return text.replace("<|rerank_token|>", "").replace("<|embed_token|>", "")
        query, docs = clean(query), [clean(d) for d in docs]
        lines = ["<|im_start|>system", SYSTEM + "<|im_end|>", "<|im_start|>user",
                 f"I will provide you with {len(docs)} passages, each indicated by a numerical identifier. Rank the passages based on their relevance "
                 f"to query: {query}"]
        if instruction: lines += ["<instruct>", instruction, "</instruct>"]
        for i, doc in enumerate(docs): lines += [f'<passage id="{i}">', doc + "<|embed_token|>", "</passage>"]
        lines += ["<query>", query + "<|rerank_token|>", "</query><|im_end|>", "<|im_start|>assistant", "<think>", "", "</think>", "", ""]
        return "\n".join(lines)

    def block(self, query, docs, instruction):
        batch = self.tokenizer([self.prompt(query, docs, instruction)], padding=True, return_tensors="pt")
        mark = {name: self.tokenizer.convert_tokens_to_ids(f"<|{name}_token|>") for name in ("embed", "rerank")}
        with torch.no_grad():
            out = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True, use_cache=False)
            hidden = out.hidden_states[-1]
            texts, asked = (self.projector(hidden[batch["input_ids"] == mark[name]]) for name in ("embed", "rerank"))
        return texts, asked, ((1 + torch.cosine_similarity(texts, asked.expand_as(texts))) / 2).max()

    def scores(self, query, docs, *, instruction=None, query_length=512, document_length=2048, max_tokens=131072, most=125):
        query, query_size = self.cut(query, query_length)
        parts, current, room = [], [], max_tokens - 2 * query_size
        for doc in docs:
            text, size = self.cut(doc, document_length)
            current.append(text)
            room -= size
            if len(current) >= most or room <= document_length:
                parts.append(self.block(query, current, instruction))
                current, room = [], max_tokens - 2 * query_size
        if current: parts.append(self.block(query, current, instruction))
        shares = torch.stack([share for _, _, share in parts])
        asked = (torch.stack([a[0] for _, a, _ in parts]) * shares[:, None]).sum(0) / shares.sum()
        return torch.cosine_similarity(torch.cat([t for t, _, _ in parts]), asked[None]).tolist()


def by_position(results):
    return [results.get_score_by_docid(i) for i in range(len(results))]


def worst(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b))


# ---- scores

SETTINGS = {
    "as the authors": {}, "few documents a prompt": {"most": 3}, "one document a prompt": {"most": 1}, "cut documents": {"document_length": 9},
    "a budget of tokens": {"max_tokens": 260, "document_length": 40}, "a budget below one document": {"max_tokens": 30, "document_length": 20},
    "cut query": {"query_length": 4}, "instruction": {"instruction": "prefer plays to people"}, "empty instruction": {"instruction": ""},
    "all": {"most": 5, "document_length": 12, "query_length": 6, "max_tokens": 120, "instruction": "be strict"},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_authors_procedure(folder, setting):
    options = SETTINGS[setting]
    expected = Plain(folder).scores(QUERY, READABLE, **options)
    renamed = {("max_documents" if k == "most" else k): v for k, v in options.items()}
    ranker = Reranker(folder, **FP32, **renamed)
    for size in (1, 7, None): assert distance(by_position(ranker.rank(QUERY, READABLE, batch_size=size)), expected) <= 1
    assert len({round(s, 4) for s in expected}) > 5
    pooled = ranker.rank_many(["who wrote faust ?", QUERY], [READABLE[:3], READABLE])
    assert distance(by_position(pooled[1]), expected) <= 1


def test_over_125_documents(folder, ranker):
    docs = [f"hamlet {i} was written in the year {i * 7}" for i in range(130)]
    assert distance(by_position(ranker.rank(QUERY, docs)), Plain(folder).scores(QUERY, docs)) <= 1


def test_a_projector_with_biases(tmp_path):
    made = write_model(tmp_path / "biased", bias=True)
    assert distance(by_position(Reranker(made, **FP32).rank(QUERY, READABLE)), Plain(made, bias=True).scores(QUERY, READABLE)) <= 1


def test_weights_in_several_files(folder, tmp_path):
    made = tmp_path / "sharded"
    shutil.copytree(folder, made)
    weights = load_file(made / "model.safetensors")
    halves = [{k: weights[k] for k in list(weights)[i::2]} for i in range(2)]
    names = [f"model-0000{i + 1}-of-00002.safetensors" for i in range(2)]
    for name, half in zip(names, halves): save_file(half, made / name, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {k: name for name, half in zip(names, halves) for k in half}}
    (made / "model.safetensors.index.json").write_text(json.dumps(index))
    (made / "model.safetensors").unlink()
    assert distance(by_position(Reranker(made, **FP32).rank(QUERY, READABLE)), Plain(folder).scores(QUERY, READABLE)) <= 1


def test_half_precision_is_near(folder, ranker):
    half = Reranker(folder, device="cpu", dtype="bfloat16")
    assert next(half.runtime.read.projector.parameters()).dtype == torch.bfloat16
    assert worst(by_position(half.rank(QUERY, READABLE)), by_position(ranker.rank(QUERY, READABLE))) < 0.2


def test_only_marked_positions_are_read(ranker):
    rows = ranker.vectors("who", ["a", "b", "c"])
    assert rows.shape == (4, 12)
    assert ranker.runtime.model.get_output_embeddings() is None     # no head over the vocabulary


# ---- the contract

@pytest.mark.parametrize("check", [c for c in CHECKS if c is not check_order_free], ids=lambda c: c.__name__)
def test_contract(ranker, check):
    check(ranker)


def test_order_matters_as_it_does_for_the_authors(folder, ranker):
    plain, backwards = Plain(folder), READABLE[::-1]
    forth, back = plain.scores(QUERY, READABLE), plain.scores(QUERY, backwards)
    assert worst(forth, back[::-1]) > 0.01
    assert distance(by_position(ranker.rank(QUERY, backwards)), back) <= 1
    assert ranker.order_free is False


def test_it_travels(ranker):
    twin = pickle.loads(pickle.dumps(ranker))
    assert by_position(twin.rank(QUERY, READABLE)) == by_position(ranker.rank(QUERY, READABLE))


def test_loading_writes_to_no_stream(folder, capfd):
    "transformers does not know the projector and would report it"
    Reranker(folder, **FP32).rank(QUERY, ["Hamlet was written by William Shakespeare."])
    assert capfd.readouterr() == ("", "")


# ---- texts

MARKED = ["a<|embed_token|>b", "<|rerank_token|>", "<|rerank_<|embed_token|>token|>", "<|embed_<|embed_<|rerank_token|>token|>token|>x"]


@pytest.mark.parametrize("text", MARKED)
def test_marks_in_texts_are_removed(ranker, text):
    clean = without_marks(text)
    assert "<|embed_token|>" not in clean and "<|rerank_token|>" not in clean
    docs = ["hamlet", text, "faust"]
    assert by_position(ranker.rank(QUERY, docs)) == by_position(ranker.rank(QUERY, ["hamlet", clean, "faust"]))
    assert len(ranker.rank("who? " + text, docs, instruction=text or None)) == 3


def test_the_prompt_to_the_byte(folder):
    plain = Plain(folder)
    for docs in (["a"], ["a", "b\n", " "], ["{query} %s"] * 11):
        for told in (None, "", "be strict"): assert list_prompt("who <b>?", docs, told) == plain.prompt("who <b>?", docs, told)


def test_truncated(folder):
    ranker = Reranker(folder, **FP32, document_length=8, query_length=12)
    docs = ["hamlet", " ".join(["hamlet"] * 8), " ".join(["hamlet"] * 9)]
    assert [r.truncated for r in sorted(ranker.rank("who ?", docs), key=lambda r: r.doc_id)] == [False, False, True]
    assert all(r.truncated for r in ranker.rank("who wrote " * 20, docs))


def test_blocks_hold_every_document_once():
    lengths = [(i * 37) % 50 + 1 for i in range(200)]
    for room, longest, most in ((10, 50, 7), (200, 50, 7), (200, 50, 500), (5000, 50, 125)):
        found = document_blocks(lengths, 4, max_tokens=room, longest=longest, most=most)
        assert [i for part in found for i in range(200)[part]] == list(range(200))
        assert all(part.stop - part.start <= most for part in found)


@given(lengths=st.lists(st.integers(1, 6), max_size=30), query=st.integers(0, 3), longest=st.integers(1, 6), room=st.integers(6, 40), most=st.integers(1, 5))
@example(lengths=[6, 3, 2], query=2, longest=6, room=16, most=9).via("exactly the longest document's room is left")
def test_a_block_ends_when_the_longest_document_would_fill_it_or_it_holds_enough(lengths, query, longest, room, most):
    "And not before"
    found = document_blocks(lengths, query, max_tokens=room, longest=longest, most=most)
    ends = [part.stop for part in found]
    for part in found:
        for end in range(part.start + 1, part.stop + 1):
            full = end - part.start == most or room - 2 * query - sum(lengths[part.start:end]) <= longest or end == len(lengths)
            assert full is (end in ends)
    assert [i for part in found for i in range(len(lengths))[part]] == list(range(len(lengths)))


# ---- what is loaded and what is not

def test_words_and_claims(folder):
    for word in ("jina-v3", "jina-reranker-v3"):
        found = choose(word)
        assert (found.backend.words[0], found.model) == ("jina-v3", "jinaai/jina-reranker-v3")
    assert choose("jinaai/jina-reranker-v3").backend.words[0] == "jina-v3"
    assert choose(str(folder)).reason == "its architecture is JinaForRanking"
    for other in ("jinaai/jina-reranker-v2-base-multilingual", "jinaai/jina-reranker-v1-tiny-en"): assert choose(other).backend.words[0] == "cross-encoder"


@pytest.mark.parametrize("name", ["jinaai/jina-reranker-v3.5", "jinaai/Jina-Reranker-v3.5-mlx"])
def test_a_later_version_is_refused_by_name(name):
    with pytest.raises(ModelLoadError, match="later version.*Use jinaai/jina-reranker-v3$"): Reranker(name)


def test_a_later_version_is_refused_by_its_configuration(tmp_path):
    made = write_model(tmp_path / "renamed", use_sliding_window=True, sliding_window=1024, layer_types=["full_attention", "sliding_attention"])
    with pytest.raises(ModelLoadError, match="attends in windows"): Reranker(made, **FP32)


def rewritten(folder, made, change):
    "The folder with its tensors changed"
    shutil.copytree(folder, made)
    save_file(change(load_file(made / "model.safetensors")), made / "model.safetensors", metadata={"format": "pt"})
    return made


def test_damaged_checkpoints(folder, tmp_path):
    def without(name): return lambda tensors: {k: v for k, v in tensors.items() if not k.startswith(name)}
    cases = {"projector.2": "no projector.2.weight", "projector": "no projector.0.weight and no projector.2.weight", "model.layers.1": "RANDOM"}
    for name, said in cases.items():
        with pytest.raises(ModelLoadError, match=said): Reranker(rewritten(folder, tmp_path / name, without(name)), **FP32)
    crooked = rewritten(folder, tmp_path / "crooked", lambda tensors: {**tensors, "projector.2.weight": torch.zeros(5, 7)})
    with pytest.raises(ModelLoadError, match="does not fit together"): Reranker(crooked, **FP32)
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelLoadError, match="cannot be read"): Reranker(broken, **FP32)


def test_a_tokenizer_without_the_marks(folder, tmp_path):
    from rerankers.tiny_models import tiny_tokenizer
    made = shutil.copytree(folder, tmp_path / "other")
    tiny_tokenizer().save_pretrained(made)
    with pytest.raises(ModelLoadError, match="embed_token"): Reranker(made, **FP32)


@pytest.mark.parametrize("option", [{"query_length": 0}, {"document_length": -1}, {"max_documents": 0}, {"max_tokens": 10**6}, {"max_tokens": "many"}])
def test_options_out_of_range(folder, option):
    with pytest.raises(InputError, match=next(iter(option))): Reranker(folder, **FP32, **option)
