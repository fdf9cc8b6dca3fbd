"Scoring with language models: recipes, padding, instructions, truncation, memory of the head, and what is refused"
import json
import math
import os
import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
import torch  # noqa: E402
import transformers  # noqa: E402
from hypothesis import example, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from closeness import near  # noqa: E402
from rerankers import Document, InputError, ModelLoadError, Reranker, UnusableAnswer  # noqa: E402
from rerankers.engine.prompts import COUNTS, Prompt, PromptEncoder, fill  # noqa: E402
from rerankers.testing import QUERY, candidates  # noqa: E402
from rerankers.tiny_models import tiny_checkpoint, tiny_language_model, tiny_pieces  # noqa: E402

CPU, PIECES = {"device": "cpu"}, tiny_pieces()
DOCS = ["faust was written by goethe", "hamlet was written by william shakespeare", "the play was first in london", "", "hamlet " * 30]

# word -> architecture of its checkpoints
ENCODER_DECODERS = {"t5": "t5", "twolar": "t5", "flan-t5": "t5", "upr": "t5", "qlm-t5": "t5"}
DECODERS = {"llm-pointwise": "llama", "qwen3-reranker": "qwen3", "mxbaiv2": "qwen2", "bge-gemma": "gemma", "zerank": "qwen3", "ctxl": "qwen3",
            "followir": "mistral", "query-likelihood": "llama"}
WORDS = ENCODER_DECODERS | DECODERS


def load(word, **options):
    return Reranker(tiny_language_model(WORDS[word]), model_type=word, **CPU, **options)


def scores(results):
    return [results.get_score_by_docid(i) for i in range(len(results))]


# encoders are padded on the right; the positions of query likelihood's query are the last ones
SIDES = [(word, side) for word in WORDS for side in ("left", "right") if side != ("left" if word in ENCODER_DECODERS else "right" if "like" in word else "")]


@pytest.mark.parametrize(("word", "side"), SIDES)
def test_padding_changes_nothing(word, side):
    "On an accelerator batches are padded; scores are those of one pair at a time"
    ranker = load(word)
    alone = [scores(r) for r in ranker.rank_many(["who wrote hamlet ?", "who ?"], DOCS, batch_size=1)]
    ranker.side = side
    old = ranker.runtime
    ranker.runtime = type("Padded", (type(old),), {"padding": True, "max_tokens": 100_000})(old.model, old.read, ask=old.ask)
    for one, many in zip(alone, ranker.rank_many(["who wrote hamlet ?", "who ?"], DOCS)): assert scores(many) == pytest.approx(one, rel=1e-5, abs=2e-5)


# word -> where its authors' code pads
AUTHORS_SIDES = {"qwen3-reranker": "left", "mxbaiv2": "left", "zerank": "right", "ctxl": "left", "followir": "left", "llm-pointwise": "left"}


@pytest.mark.parametrize(("word", "side"), AUTHORS_SIDES.items())
def test_a_batch_is_padded_where_the_authors_pad(word, side):
    ranker, masks = load(word, share_prefix=False), []
    old = ranker.runtime
    ranker.runtime = type("Padded", (type(old),), {"overhead": math.inf, "max_tokens": 100_000})(old.model, old.read, ask=old.ask)
    old.model.register_forward_pre_hook(lambda model, args, given: masks.append(given["attention_mask"]), with_kwargs=True)
    ranker.rank("who ?", DOCS)
    [mask] = masks
    ends = {"left": mask[:, 0], "right": mask[:, -1]}
    assert not ends.pop(side).all() and ends.popitem()[1].all()


@pytest.mark.parametrize("share", [False, True])
def test_learned_positions_count_no_padding(tmp_path, share):
    "Where a position is a vector of its own, and not a rotation"
    size = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "attention_types": [[["global"], 1]], "max_position_embeddings": 512, "initializer_range": 0.4}
    transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(vocab_size=len(PIECES), bos_token_id=3, eos_token_id=1, **size)).save_pretrained(tmp_path)
    PIECES.save_pretrained(tmp_path)
    ranker = Reranker(str(tmp_path), model_type="llm-pointwise", activation="identity", share_prefix=share, **CPU)
    alone = scores(ranker.rank("who wrote hamlet ?", DOCS, batch_size=1))
    old = ranker.runtime
    ranker.runtime = type("Padded", (type(old),), {"overhead": math.inf, "max_tokens": 100_000})(old.model, old.read, ask=old.ask)
    assert ranker.side == "left" and scores(ranker.rank("who wrote hamlet ?", DOCS)) == pytest.approx(alone, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("word", ["llm-pointwise", "qwen3-reranker", "t5"])
def test_a_score_is_an_answers_logit_without_its_rivals(word):
    "And an answer that the caller names has no rival but the one that he names"
    def of(**tokens): return scores(load(word, activation="identity", **tokens).rank(QUERY, DOCS))
    recipe = load(word).recipe
    both, true, false = of(), of(true_token=recipe.true), of(true_token=recipe.false)
    assert of(true_token=recipe.true, false_token=recipe.false) == near(both)
    assert [a - b for a, b in zip(true, false)] == pytest.approx(both, rel=1e-4, abs=1e-4) and true != pytest.approx(both, abs=1e-2)


SHIFTED = [("mxbai-rerank-base-v2", "qwen2", 4.5, 1.0), ("mxbai-rerank-large-v2", "qwen2", 6.0, 1.0), ("zerank-1", "qwen3", 0.0, 5.0),
           ("Qwen3-Reranker-0.6B", "qwen3", 0.0, 1.0)]


@pytest.mark.parametrize(("name", "architecture", "shift", "temperature"), SHIFTED)
def test_a_probability_is_that_of_the_checkpoints_authors(tmp_path, name, architecture, shift, temperature):
    folder = tmp_path / name
    folder.symlink_to(tiny_language_model(architecture))
    logits, chances = (scores(Reranker(str(folder), activation=activation, **CPU).rank(QUERY, DOCS)) for activation in ("identity", "sigmoid"))
    assert chances == pytest.approx([1 / (1 + math.exp((shift - x) / temperature)) for x in logits], rel=1e-5)


@given(st.lists(st.lists(st.integers(-1, 6), min_size=3, max_size=3), min_size=1, max_size=4), st.integers(0, 99))
def test_log_probabilities_count_every_label_but_padding(labels, seed):
    "The first word of the vocabulary too"
    from rerankers.backends.query_likelihood import label_logprobs
    logits = torch.randn(len(labels), 3, 7, generator=torch.Generator().manual_seed(seed))
    found = label_logprobs(logits, torch.tensor(labels)).tolist()
    plain = logits.log_softmax(-1).tolist()
    expected = [[sum(row[at][i] for at, i in enumerate(wanted) if i >= 0), sum(i >= 0 for i in wanted)] for row, wanted in zip(plain, labels)]
    assert found == [pytest.approx(row, rel=1e-5, abs=1e-5) for row in expected]


@pytest.mark.parametrize("family", ["phi", "llama"])
def test_a_small_head_gives_the_logits_of_the_whole(family):
    "Its bias too, where it has one"
    from rerankers.engine.answers import keep_answers
    size = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **size)).eval()
    head = model.get_output_embeddings()
    assert (head.bias is not None) is (family == "phi")
    if head.bias is not None: torch.nn.init.normal_(head.bias)
    ids, wanted = torch.tensor([[5, 9, 31]]), [17, 3, 29]
    with torch.inference_mode(): whole = model(ids).logits[..., wanted]
    keep_answers(model, wanted)
    with torch.inference_mode(): assert torch.allclose(model(ids).logits, whole, atol=1e-5)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=5), st.lists(st.integers(0, 2), max_size=6))
def test_what_all_prompts_begin_with_leaves_each_of_them_something(rows, beginning):
    from rerankers.engine.answers import SHARED_FROM, shared_length
    rows = [beginning + row for row in rows] + [beginning] * bool(beginning)
    common = min(len(os.path.commonprefix(rows)), min(map(len, rows), default=1) - 1)
    assert shared_length(rows) == (common if len(rows) > 1 and common * (len(rows) - 1) >= SHARED_FROM * sum(map(len, rows)) else 0)


@pytest.mark.parametrize("word", ["qwen3-reranker", "mxbaiv2", "ctxl", "followir", "llm-pointwise"])
def test_an_instruction_is_followed_on_the_ranker_and_per_call(word):
    told, untold = load(word, instruction="prefer plays"), load(word)
    usual = scores(untold.rank(QUERY, DOCS))
    assert scores(told.rank(QUERY, DOCS)) == near(scores(untold.rank(QUERY, DOCS, instruction="prefer plays")))
    assert scores(told.rank(QUERY, DOCS)) != near(usual)
    assert scores(untold.rank(QUERY, DOCS)) == usual, "a call's instruction must not outlive the call"
    assert scores(untold.rank_many([QUERY], DOCS, instruction="prefer plays")[0]) == near(scores(told.rank(QUERY, DOCS)))


@pytest.mark.parametrize("word", ["t5", "upr", "bge-gemma", "zerank", "query-likelihood"])
def test_an_instruction_is_not_swallowed(word):
    with pytest.raises(InputError, match="instruction"): load(word).rank(QUERY, DOCS, instruction="prefer plays")
    with pytest.raises(InputError): load(word, instruction="prefer plays")


@pytest.mark.parametrize("word", WORDS)
def test_the_result_says_what_was_cut(word):
    options = {"max_query_length": 16} if word in ("upr", "qlm-t5", "query-likelihood") else {}
    room = {"zerank": 200, "ctxl": 200, "flan-t5": 200, "upr": 200, "qlm-t5": 200, "t5": 200, "twolar": 200}.get(word, 480)
    ranker = load(word, max_length=room, **options)
    found = ranker.rank("who ?", ["hamlet", Document("hamlet " * 600, doc_id=1)])
    assert {r.doc_id: r.truncated for r in found} == {0: False, 1: True}
    assert ranker.rank("hamlet " * 600, ["faust"])[0].truncated
    assert found.get_result_by_docid(1).to_dict()["truncated"] is True and "truncated" not in found.get_result_by_docid(0).to_dict()


def test_an_instruction_that_is_too_long_is_cut_and_said_so():
    ranker = load("qwen3-reranker", max_length=480)
    assert ranker.rank("who ?", ["hamlet"], instruction="prefer plays " * 200)[0].truncated


@pytest.mark.parametrize("word", WORDS)
def test_what_is_not_a_number_names_the_document(word):
    ranker = load(word)
    with torch.no_grad(): next(p for n, p in ranker.runtime.model.named_parameters() if "norm" in n.lower()).fill_(float("nan"))
    with pytest.raises(UnusableAnswer, match="document 'h'"): ranker.rank(QUERY, ["hamlet"], doc_ids=["h"])


@pytest.mark.parametrize("word", WORDS)
def test_another_architecture_is_refused_by_name(word):
    other = tiny_language_model("llama") if word in ENCODER_DECODERS else tiny_language_model("t5")
    with pytest.raises(ModelLoadError, match="wants"): Reranker(other, model_type=word, **CPU)
    with pytest.raises(ModelLoadError): Reranker(tiny_checkpoint("biencoder"), model_type=word, **CPU)


def test_code_of_a_repository_is_not_run(tmp_path):
    new = {"architectures": ["NewForCausalLM"], "model_type": "brand-new", "auto_map": {"AutoConfig": "configuration.New"}}
    (tmp_path / "config.json").write_text(json.dumps(new))
    (tmp_path / "configuration.py").write_text("raise SystemExit('somebody else\\'s code ran')")
    with pytest.raises(ModelLoadError, match="trust_remote_code|brand-new|custom code"): Reranker(str(tmp_path), model_type="llm-pointwise", **CPU)


@pytest.mark.parametrize(("word", "answers"), [("t5", 2), ("rankt5", 1), ("qwen3-reranker", 2), ("bge-gemma", 1), ("llm-pointwise", 2)])
def test_the_head_is_as_small_as_the_answers(word, answers):
    ranker = Reranker(tiny_language_model("t5"), model_type=word, true_token="▁yes", **CPU) if word == "rankt5" else load(word)
    assert ranker.runtime.model.get_output_embeddings().out_features == answers
    assert len(ranker.runtime.model.get_input_embeddings().weight) > 100


BY_NAME = {"Qwen/Qwen3-Reranker-4B": "qwen3-reranker", "tomaarsen/Qwen3-Reranker-0.6B-seq-cls": "qwen3-reranker",
           "mixedbread-ai/mxbai-rerank-large-v2": "mxbaiv2", "mixedbread-ai/mxbai-rerank-base-v1": "cross-encoder",
           "BAAI/bge-reranker-v2-gemma": "bge-gemma", "zeroentropy/zerank-1-small-reranker": "zerank", "zeroentropy/zerank-2": "zerank",
           "ContextualAI/ctxl-rerank-v2-instruct-multilingual-6b": "ctxl",
           "jhu-clsp/FollowIR-7B": "followir", "castorini/monot5-3b-msmarco-10k": "t5", "unicamp-dl/InRanker-small": "t5",
           "unicamp-dl/mt5-base-mmarco-v2": "t5",
           "unicamp-dl/ptt5-base-pt-msmarco-10k-v1": "t5", "Soyoung97/RankT5-large": "rankt5", "Dundalia/TWOLAR-xl": "twolar", "google/flan-t5-xl": "flan-t5",
           "castorini/rankllama-v1-7b-lora-passage": "rankllama", "BAAI/bge-reranker-v2-m3": "cross-encoder",
           "cross-encoder/ms-marco-MiniLM-L12-v2": "cross-encoder"}


@pytest.mark.parametrize(("name", "word"), BY_NAME.items())
def test_checkpoints_are_recognised_by_name(name, word):
    from rerankers.registry import choose
    assert choose(name).backend.words[0] == word


@pytest.mark.parametrize(("word", "lang", "model"), [("t5", "en", "unicamp-dl/InRanker-base"), ("monot5", "fr", "unicamp-dl/mt5-base-mmarco-v2"),
                                                     ("inranker", "en", "unicamp-dl/InRanker-base"), ("upr", "en", "google/t5-large-lm-adapt"),
                                                     ("mxbaiv2", "en", "mixedbread-ai/mxbai-rerank-base-v2"),
                                                     ("qwen3-reranker", "de", "Qwen/Qwen3-Reranker-0.6B")])
def test_words_have_defaults(word, lang, model):
    from rerankers.registry import choose
    assert choose(word, lang=lang).model == model


@pytest.mark.parametrize(("name", "architecture", "word"), [("my-Qwen3-Reranker-ft", "qwen3", "qwen3-reranker"), ("something", "qwen3", "llm-pointwise"),
                                                            ("zerank-9", "qwen3", "zerank"), ("zerank-9", "t5", "t5"), ("monot5-x", "t5", "t5")])
def test_folders_are_recognised_by_name_and_architecture(tmp_path, name, architecture, word):
    folder = tmp_path / name
    folder.symlink_to(tiny_language_model(architecture))
    assert Reranker(str(folder), **CPU).choice.backend.words[0] == word


def test_a_converted_classifier_keeps_its_prompt(tmp_path):
    "A sequence classifier that is called Qwen3-Reranker is asked as Qwen3-Reranker, not as a cross-encoder"
    folder = tmp_path / "Qwen3-Reranker-0.6B-seq-cls"
    folder.symlink_to(tiny_language_model("qwen3", labels=1))
    ranker = Reranker(str(folder), **CPU)
    assert ranker.choice.backend.words[0] == "qwen3-reranker" and "<|im_start|>" in ranker.encoder.prompt.head[0]
    for size in (1, 7, None): assert scores(ranker.rank(QUERY, DOCS, batch_size=size)) == near(scores(ranker.rank(QUERY, DOCS)))


def test_half_precision_stays_near():
    for word in ("t5", "qwen3-reranker"):
        half, whole = load(word, dtype="bfloat16", activation="identity"), load(word, activation="identity")
        spread = max(scores(whole.rank(QUERY, DOCS))) - min(scores(whole.rank(QUERY, DOCS)))
        assert max(abs(a - b) for a, b in zip(scores(half.rank(QUERY, DOCS)), scores(whole.rank(QUERY, DOCS)))) < 0.15 * max(spread, 1)


# ---- prompts

TEXT = st.text(st.sampled_from("ab {}%\n<|>"), max_size=40) | st.sampled_from(["hamlet", "{query}", "{document}", "who wrote hamlet ?"])
PROMPTS = [Prompt("{query} {document}"), Prompt("doc {document} q {query} end ?"), Prompt("b {document}", query="a {query}", between="\n", query_share=0.75),
           Prompt("{document}", query="{query}", head=("who", "wrote"), tail=("\n", "is it ?"), bos=True, counts="flag", query_share=0.75, keep_end=False),
           Prompt("{document}", query="{query}", head=("who",), tail=("is it ?",), counts="texts", query_share=0.5), Prompt("{document} {query}", eos=True)]



@given(query=TEXT, document=TEXT)
def test_a_filled_template_holds_the_texts_as_they_are(query, document):
    assert fill("<q>{query}</q>{not_a_field}<d>{document}</d>", query=query, document=document) == f"<q>{query}</q>{{not_a_field}}<d>{document}</d>"


@given(prompt=st.sampled_from(PROMPTS), length=st.integers(24, 60), texts=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_no_prompt_is_longer_than_it_may_be(prompt, length, texts):
    short, whole = PromptEncoder(PIECES, prompt, length), PromptEncoder(PIECES, prompt, None)
    head, tail = COUNTS[prompt.counts]
    most = length + (1 + head) * len(short.head) + (1 + tail) * len(short.tail)
    cut, full = short.pairs(texts), whole.pairs(texts)
    for ids, was_cut, all_ids in zip(cut["input_ids"], cut.cut, full["input_ids"]):
        assert len(ids) <= most and was_cut == (ids != all_ids)
        assert ids[:len(short.head)] == short.head and ids[len(ids) - len(short.tail):] == short.tail
    assert not any(full.cut)


@pytest.mark.parametrize(("given", "told"), [(None, "usual"), ("", None), ("another", "another")])
def test_an_empty_instruction_switches_the_usual_one_off(given, told):
    assert Prompt("{document}", instruction="Do: {instruction}", default="usual").with_instruction(given) == (f"Do: {told}" if told else "")
    rankers = [load("qwen3-reranker", **({} if each is None else {"instruction": each})) for each in (given, None)]
    usual = rankers[1].encoder.prompt.default
    assert ("retrieve relevant passages" in rankers[0].encoder.prompt.with_instruction(rankers[0].instruction)) is (given is None) and usual
    assert (scores(rankers[0].rank(QUERY, DOCS)) == scores(rankers[1].rank(QUERY, DOCS))) is (given is None)


LETTERS = st.text("abcd", min_size=1, max_size=90)


@given(pairs=st.lists(st.tuples(LETTERS, LETTERS), min_size=1, max_size=3))
@example(pairs=[("a" * 21, "b"), ("a", "b" * 51), ("a" * 20, "b" * 50)]).via("on either side of the bounds")
def test_texts_that_are_cut_by_characters_are_cut_and_marked(pairs):
    "As zerank's are"
    bounded, plain = (PromptEncoder(PIECES, Prompt("{query} {document}", strip=True, characters=most), None) for most in ((20, 50), (None, None)))
    found = bounded.pairs([(f" {q} ", f"\n{d}") for q, d in pairs])
    assert found.ids == plain.pairs([(q[:20], d[:50]) for q, d in pairs]).ids
    assert all(cut for cut, (q, d) in zip(found.cut, pairs) if len(q) > 20 or len(d) > 50)
    assert not any(bounded.pairs([(q[:20], d[:50]) for q, d in pairs]).cut)


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
@pytest.mark.parametrize(("wanted", "positions"), [(None, 100), (50, 100), (1000, 100), (1000, None), (50, None)])
def test_no_prompt_is_longer_than_the_model_has_positions_for(prompt, wanted, positions):
    found = PromptEncoder(PIECES, prompt, wanted, positions).pairs([("who wrote", "hamlet " * 2000)])
    most = min(n for n in (wanted and wanted + 20, positions) if n is not None)     # head and tail may come to what was wanted
    assert 20 < len(found["input_ids"][0]) <= most and found.cut == [True]


@given(document=st.integers(0, 80), query=st.integers(1, 5))
def test_what_follows_the_document_survives(document, query):
    encoder = PromptEncoder(PIECES, Prompt("Document: {document} Query: {query} Relevant:"), 32)
    ids = encoder.pairs([("hamlet " * query, "faust " * document)])["input_ids"][0]
    assert PIECES.decode(ids).endswith("Relevant:") and PIECES.decode(ids).count("hamlet") == query


def test_prompts_are_encoded_from_many_threads():
    from concurrent.futures import ThreadPoolExecutor
    encoder = PromptEncoder(PIECES, PROMPTS[0], 32)
    pairs = [(QUERY, str(d.text).replace("\ud800", "")) for d in candidates()]
    expected = encoder.pairs(pairs)
    with ThreadPoolExecutor(4) as pool: assert all(found == expected for found in pool.map(lambda _: encoder.pairs(pairs), range(12)))


def test_a_sentencepiece_word_is_looked_up_with_its_blank():
    "After 'Relevant:' a SentencePiece model writes '▁yes', not 'yes'"
    from rerankers.backends.llm_pointwise import spoken_id
    assert PIECES.convert_ids_to_tokens(spoken_id(PIECES, "yes", True, "it")) == "▁yes"


def test_a_gguf_file_that_is_not_there():
    folder = Path(tiny_language_model("llama"))
    with pytest.raises(ModelLoadError): Reranker(str(folder), model_type="llm-pointwise", gguf_file="no.gguf", **CPU)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_a_shared_prefix_uses_no_name_that_transformers_gives_up(family):
    "5.24 calls the state `cache`; the older name still works there, with a warning at each user's first ranking"
    ranker = Reranker(tiny_language_model(family), model_type="llm-pointwise", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        assert len(ranker.rank("who wrote hamlet ?", [f"hamlet was written by shakespeare in {i}" for i in range(8)])) == 8
