"The first or last tokens of a text are those of the whole text, for every kind of tokenizer and text, and little is read to find them"
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")
from hypothesis import example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, models, trainers  # noqa: E402
from tokenizers import normalizers as N  # noqa: E402
from tokenizers import pre_tokenizers as P  # noqa: E402

from rerankers.engine.reading import USUAL, Pieces, SlowReader, TokenReader, apart, habits_of, own_tokenizer, word_ends  # noqa: E402
from rerankers.tiny_models import tiny_pieces, tiny_tokenizer  # noqa: E402


# ---- tokenizers of every kind that models have, trained here

SAMPLE = ("Who wrote the play about the prince of Denmark, and when? It wasn't me; 12345 people don't know 3.14159 either! "
          "莎士比亚写了哈姆雷特。这是一个很长的故事，没有空格。哈哈哈哈 こんにちは世界。안녕하세요 세계. Привет, мир! Ünïcödé naïve café résumé. "
          "aaaa bbbb abababab  \n\n def f(x):\n    return x+1\n\t\tx = y  # hm   \r\n hahaha ---- ==== ... !!! 🎭🎭 🇩🇪🇫🇷 ") * 20
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?"
         r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")
FROM_THE_RIGHT = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))|[^\r\n\p{L}\p{N}]?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"    # digits in groups of three
CLIP = r"'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def trained(model, trainer, normal=None, split=None):
    made = Tokenizer(model)
    if normal is not None: made.normalizer = normal
    if split is not None: made.pre_tokenizer = split
    made.train_from_iterator([SAMPLE] if split is not None else [word + " " for word in SAMPLE.split(" ")], trainer)
    return made


def bytewise(split, normal=None, **model):
    "BPE over bytes, as GPT-2 has it"
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<|end|>"], initial_alphabet=P.ByteLevel.alphabet(), show_progress=False)
    return trained(models.BPE(**model), trainer, normal, split)


def merged(normal, split, **model):
    "BPE over characters, with bytes for those that it lacks"
    special = ["<unk>", *(f"<0x{i:02X}>" for i in range(256))] if model.get("byte_fallback") else ["<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, limit_alphabet=60, show_progress=False)
    return trained(models.BPE(unk_token="<unk>", **model), trainer, normal, split)


def unigram(split, normal=None):
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False)
    return trained(models.Unigram(), trainer, normal, split)


def wordpiece(normal, split):
    return trained(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]", "[CLS]"], show_progress=False),
                   normal, split)


def by(pattern): return P.Sequence([P.Split(Regex(pattern), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)])


def with_tokens(made):
    "Added tokens that take blanks, that want to stand alone, that are found among letters"
    special = [AddedToken("<mask>", lstrip=True), AddedToken("wrote", single_word=True), AddedToken("[E]", rstrip=True, normalized=False)]
    made.add_tokens([*special, "  ", AddedToken("\n\n", normalized=False), "aa"])    # normalised it would be two blanks as well
    return made


FALLBACK = {"fuse_unk": True, "byte_fallback": True}
KINDS = {
    "tiny": lambda: tiny_tokenizer().backend_tokenizer, "tiny pieces": lambda: tiny_pieces().backend_tokenizer,
    "bert": lambda: wordpiece(N.BertNormalizer(), P.BertPreTokenizer()),
    "bert of words": lambda: wordpiece(N.Sequence([N.NFKC(), N.Lowercase()]), P.Whitespace()),
    "bert with tokens": lambda: with_tokens(wordpiece(N.BertNormalizer(), P.BertPreTokenizer())),
    "gpt2": lambda: bytewise(P.ByteLevel(add_prefix_space=False)),
    "roberta": lambda: with_tokens(bytewise(P.ByteLevel(add_prefix_space=True))),
    "modernbert": lambda: bytewise(P.ByteLevel(add_prefix_space=False), N.NFC()),
    "gpt4": lambda: bytewise(by(GPT4), N.NFC()), "gpt4o": lambda: bytewise(by(GPT4O)), "gpt4 with tokens": lambda: with_tokens(bytewise(by(GPT4), N.NFC())),
    "from the right": lambda: bytewise(by(FROM_THE_RIGHT)),
    "clip": lambda: bytewise(P.Sequence([P.Split(Regex(CLIP), "removed", True), P.ByteLevel(add_prefix_space=False)]),
                             N.Sequence([N.NFC(), N.Replace(Regex(r"\s+"), " "), N.Lowercase()]), end_of_word_suffix="</w>", unk_token="<|end|>"),
    "llama": lambda: merged(N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None, **FALLBACK),
    "gemma": lambda: merged(N.Replace(" ", "▁"), P.Split(" ", "merged_with_previous"), **FALLBACK),
    "unknown in runs": lambda: merged(None, P.Whitespace(), fuse_unk=True),
    "digits": lambda: merged(None, P.Sequence([P.Punctuation(), P.Digits(individual_digits=True), P.Metaspace(prepend_scheme="never")])),
    "xlm-r": lambda: unigram(P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), N.Sequence([N.NFKC(), N.Replace(Regex(" {2,}"), " ")])),
    "t5": lambda: unigram(P.Metaspace()), "t5 with tokens": lambda: with_tokens(unigram(P.Metaspace())),
    "deberta": lambda: unigram(P.Metaspace(), N.Sequence([N.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "), N.NFC(), N.Strip(left=False, right=True)])),
    "unigram in one word": lambda: unigram(P.Metaspace(split=False)),
    "fixed lengths": lambda: merged(None, P.FixedLength(5)) if hasattr(P, "FixedLength") else pytest.skip("this tokenizers has none"),
}


@cache
def kind(name):
    "A tokenizer as it is, and its reader"
    made = KINDS[name]()
    return own_tokenizer(made), TokenReader(made)


class Counting:
    "A tokenizer that counts the characters that it is given"
    def __init__(self, tokenizer): self.tokenizer, self.given = tokenizer, 0
    def __getattr__(self, name): return getattr(self.tokenizer, name)
    def encode_batch(self, texts, **how):
        self.given += sum(map(len, texts))
        return self.tokenizer.encode_batch(texts, **how)


def characters(reader, texts, most, ask="first"):
    "How many a reader gives its tokenizer"
    plain, reader.tokenizer = reader.tokenizer, Counting(reader.tokenizer)
    try:
        getattr(reader, ask)(texts, most)
        return reader.tokenizer.given
    finally: reader.tokenizer = plain


# ---- the same tokens

ATOMS = ["who wrote", "hamlet", " ", "  ", "\n", "\n\n", "\t", "哈", "莎士比亚", "。", "，", "é", "e\u0301", "\u0301", "a", "aa", "ab",
         "the prince of denmark", "1", "12", "12345", "3.14", "!", "...", "-", "🎭", "🇩🇪", "👨\u200d👩\u200d👧", "👍🏽", "<mask>", "[E]", "wrote", "don't",
         "'s", "'", "각", "\u1100\u1161\u11a8",
         "के", "क्ष", "ﷺ", "ﬁ", "½", "\u200b", "\x00", "<unk>", "▁", "Ġ", "[UNK]", "ABC", "aB", "X", "ю", "_", "\u00a0", "\u3000", "\r\n", "กำ"]
RUN = st.tuples(st.sampled_from(ATOMS), st.sampled_from([1, 1, 2, 5, 40, 300])).map(lambda pair: pair[0] * pair[1])
TEXT = st.lists(RUN, min_size=1, max_size=40).map("".join)
PROSE = st.lists(st.sampled_from(["hamlet", "who", "wrote", "x1", "哈哈", *ATOMS]), min_size=50, max_size=300).map(" ".join)
MOST = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 40])


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=25)
@given(text=TEXT | PROSE, most=MOST)
@example(text="1" * 2000, most=5)
@example(text="a" * 2000, most=5)
@example(text="哈" * 2000 + "。", most=5)
@example(text="🎭" * 2000, most=8)
@example(text=" " * 3000 + "who wrote hamlet", most=2)
@example(text="hamlet" + " \n" * 2000, most=1)
@example(text="e\u0301" * 2000, most=13)
@example(text=" <mask>".join(["a" + " " * 400] * 6), most=3)
def test_the_tokens_are_those_of_the_whole_text(name, text, most):
    "At either end, and it is known whether there are more"
    whole, reader = kind(name)
    ids = whole.encode(text, add_special_tokens=False).ids
    [first], [last] = reader.first([text], most), reader.last([text], most)
    assert (first.ids, first.more) == (ids[:most], len(ids) > most)
    assert (last.ids, last.more) == (ids[max(len(ids) - most, 0):], len(ids) > most)


@pytest.mark.parametrize("name", KINDS)
def test_wherever_digits_are_cut(name):
    "Groups of three begin on the left for some tokenizers and on the right for others"
    whole, reader = kind(name)
    texts = [before + ("345" * 500)[:n] + after for n in range(1300, 1304) for before in ("", "who wrote ") for after in ("", " hamlet" * 3)]
    ids = [e.ids for e in whole.encode_batch(texts, add_special_tokens=False)]
    for most in (1, 3, 12, 20):
        assert [r.ids for r in reader.first(texts, most)] == [some[:most] for some in ids]
        assert [r.ids for r in reader.last(texts, most)] == [some[-most:] for some in ids]


def test_an_added_token_is_not_taken_for_the_words_it_is_written_with():
    "Wherever reading ends within it"
    whole = wordpiece(N.BertNormalizer(), P.BertPreTokenizer())
    whole.add_tokens(["-.-.-.-."])
    reader = TokenReader(whole)
    texts = ["x" * n + " -.-.-.-. hamlet" * 40 for n in range(100, 200)]    # the long word is one token
    ids = [e.ids for e in whole.encode_batch(texts)]
    for most in (1, 2, 3): assert [r.ids for r in reader.first(texts, most)] == [some[:most] for some in ids]


def test_a_word_whose_first_piece_depends_on_its_last_letter():
    "Each two neighbours can be one piece, the later ones first: an even and an odd number of letters have no piece in common"
    letters = [chr(ord("\u4e00") + i) for i in range(1500)]
    pairs = list(zip(letters, letters[1:]))[::-1]
    words = {token: i for i, token in enumerate([*letters, *map("".join, pairs)])}
    whole = Tokenizer(models.BPE(words, pairs))
    reader, texts = TokenReader(whole), ["".join(letters[:n]) for n in (1499, 1500)]
    ids = [whole.encode(text).ids for text in texts]
    assert ids[0][0] != ids[1][0]
    for most in (1, 5, 20, 40): assert [r.ids for r in reader.first(texts, most)] == [some[:most] for some in ids]


@pytest.mark.parametrize("name", KINDS)
def test_many_texts_are_read_at_once_and_each_gets_its_own(name):
    whole, reader = kind(name)
    some = random.Random(7)
    texts = ["".join(some.choices(ATOMS, k=some.choice([0, 3, 200, 2000]))) for _ in range(40)]
    texts += texts[:5]
    assert [r.ids for r in reader.first(texts, 20)] == [whole.encode(t, add_special_tokens=False).ids[:20] for t in texts]
    assert [r.ids for r in reader.last(texts, None)] == [whole.encode(t, add_special_tokens=False).ids for t in texts]
    assert reader.first([], 5) == []


@pytest.mark.parametrize("name", ["tiny pieces", "t5", "gpt2"])
@settings(max_examples=25)
@given(text=TEXT, most=st.integers(1, 40))
def test_where_the_tokens_end_is_known(name, text, most):
    whole, reader = kind(name)
    encoding = whole.encode(text, add_special_tokens=False)
    if encoding.ids: assert reader.first([text], most)[0].end == encoding.offsets[min(most, len(encoding.ids)) - 1][1]


def test_a_reader_changes_nothing_and_survives_pickling_and_threads():
    given_one = tiny_tokenizer().backend_tokenizer
    given_one.enable_truncation(7, direction="left")
    given_one.enable_padding(length=30)
    before, text = given_one.to_str(), "who wrote hamlet " * 900
    reader = TokenReader(given_one)
    read = reader.first([text], 50)
    assert given_one.to_str() == before and len(read[0].ids) == 50
    assert pickle.loads(pickle.dumps(reader)).first([text], 50) == read
    with ThreadPoolExecutor(6) as pool: assert all(found == read for found in pool.map(lambda _: reader.first([text], 50), range(24)))


# ---- little is read

LONG = {"words": "who wrote the play ", "chinese": "莎士比亚写了哈姆雷特", "one character": "哈", "accents": "e\u0301a", "pictures": "🎭",
        "lines": "who\nwrote\r\n", "numbers": "12 345 ", "code": "def f(x):\n    return x+1\n", "one letter": "a", "blanks": " "}
USUAL_KINDS = ["tiny", "bert", "gpt2", "roberta", "modernbert", "gpt4", "gpt4o", "llama", "gemma", "xlm-r", "t5", "deberta"]
WHOLE = {   # what must be read whole, by whom and why
    "accents": {"tiny", "bert"},                                # an endless word, which becomes one unknown token
    "one letter": {"xlm-r", "t5", "deberta"}, "one character": {"xlm-r", "t5", "deberta"},     # how such a word begins depends on how long it is
    "blanks": {"roberta", "xlm-r", "deberta"}}                  # nothing, or eaten by a token that may follow


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("name", USUAL_KINDS)
def test_a_long_text_costs_what_a_shorter_one_costs(name, text):
    "For the first tokens of a text"
    _, reader = kind(name)
    some, more = ((LONG[text] * n)[:n] for n in (40_000, 160_000))
    if name in WHOLE.get(text, ()): assert characters(reader, [more], 100) < 1.6 * len(more)
    else: assert characters(reader, [some], 100) == characters(reader, [more], 100) < 30_000


@pytest.mark.parametrize("name", sorted(set(KINDS) - set(USUAL_KINDS)))
def test_no_text_is_read_much_more_than_once(name):
    "Not even where nothing is certain before the end"
    _, reader = kind(name)
    for text in LONG.values():
        for n in (1000, 40_000): assert characters(reader, [(text * n)[:n]], 100) < 1.6 * n


@pytest.mark.parametrize("name", ["tiny", "bert", "gpt2", "gpt4", "llama", "xlm-r", "t5", "deberta", "gemma"])
def test_so_do_the_last_tokens_of_a_long_text(name):
    _, reader = kind(name)
    for text in (LONG["words"], LONG["numbers"], LONG["code"]):
        assert characters(reader, [text * 20_000], 100, "last") == characters(reader, [text * 5000], 100, "last") < 10_000


@pytest.mark.parametrize("name", ["gpt2", "gpt4", "gpt4o"])
def test_an_endless_word_before_an_ending_is_not_read(name):
    "As a prompt ends with a question that stays, whatever the document is: exactly the tokens after the word are wanted"
    whole, reader = kind(name)
    ending = " who wrote the play?"
    most = len(whole.encode(ending, add_special_tokens=False).ids)
    some, more = ("x" * n + ending for n in (40_000, 160_000))
    assert characters(reader, [some], most, "last") == characters(reader, [more], most, "last") < 2_000
    assert reader.last([some], most)[0].ids == whole.encode(some, add_special_tokens=False).ids[-most:]


def test_usual_texts_are_read_once():
    "A text of a few more tokens than are wanted, and one of many more"
    _, reader = kind("tiny")
    for n in (100, 5000): assert characters(reader, ["who " * n], 90) <= max(400, USUAL * 90 + 2 * reader.habits.guard)


def test_equal_texts_are_read_once():
    _, reader = kind("tiny")
    assert characters(reader, ["hamlet"] * 50, 5) == len("hamlet")


# ---- what is known

@pytest.mark.parametrize("name", [n for n in KINDS if n != "fixed lengths"])
def test_usual_tokenizers_are_known(name):
    assert kind(name)[1].habits.known


@pytest.mark.parametrize("unknown", [lambda: merged(None, P.UnicodeScripts()), lambda: bytewise(P.ByteLevel(), dropout=0.5)], ids=["a step", "lots are drawn"])
def test_texts_are_read_whole_by_a_tokenizer_that_is_not_known(unknown):
    reader = TokenReader(unknown())
    assert not reader.habits.known and characters(reader, ["hamlet " * 1000], 5) == 7000


def test_patterns_that_look_ahead_are_told_from_harmless_ones():
    assert [habits_of(KINDS[name]()).far for name in ("gpt2", "gpt4", "gpt4o", "from the right")] == [False, False, False, True]


@pytest.mark.parametrize(("text", "at", "expected"), [("ab", 1, True), ("e\u0301a", 1, False), ("e\u0301a", 2, True), ("a b", 1, True), ("a b", 2, False),
                                                       ("\u1100\u1161", 1, False), ("क्ष", 2, False), ("🇩🇪", 1, False), ("👍🏽", 1, False), ("🎭🎭", 1, True),
                                                       ("x\u200dy", 1, False), ("x\u200dy", 2, False)])
def test_where_characters_stand_apart(text, at, expected):
    assert bool(apart(text, at)) is expected
    assert apart("  ", 1, blanks=True) and not apart("  ", 1)


@given(text=st.text(min_size=2, max_size=8))
def test_a_normaliser_keeps_apart_what_stands_apart(text):
    "Whatever follows and precedes: the library's normalisers are the reference"
    for normal in (N.NFC(), N.NFKC(), N.NFD(), N.NFKD(), N.Lowercase(), N.StripAccents(), N.BertNormalizer()):
        for at in range(1, len(text)):
            if apart(text, at): assert normal.normalize_str(text) == normal.normalize_str(text[:at]) + normal.normalize_str(text[at:])


def test_words_end_at_blanks_and_stops():
    assert [word_ends(t, 1) for t in ("a ", "1 ", "a.", "a，", "a'", "1.", "ab", "\u1161 ")] == [True] * 4 + [False] * 4


def test_endless_words_have_certain_beginnings():
    "However such a word goes on: held against every end that it may have"
    whole, reader = kind("gpt2")
    word = "a" * (4 * reader.pieces.longest)
    encoding = whole.encode(word, add_special_tokens=False)
    stays = reader.pieces.settled(encoding.tokens, encoding.ids)
    assert stays > 1
    for more in ("a", "aa", "aaa", "b", "ab", "abab", "哈", "é"):
        assert whole.encode(word + more, add_special_tokens=False).ids[:stays] == encoding.ids[:stays]


def test_a_short_word_is_not_settled():
    _, reader = kind("gpt2")
    assert reader.pieces.settled(["a"], [reader.tokenizer.token_to_id("a")]) == 0


def test_bytes_are_never_part_of_a_piece_unless_the_vocabulary_says_so():
    assert kind("llama")[1].pieces.bytes_apart
    odd = Tokenizer(models.BPE({"<0x41>": 0, "<0x42>": 1, "<0x41><0x42>": 2, "x": 3}, [("<0x41>", "<0x42>")], byte_fallback=True))
    assert not Pieces(odd).bytes_apart


# ---- tokenizers written in Python

def test_a_slow_tokenizer_reads_each_text_once_and_whole():
    asked, slow = [], transformers.CanineTokenizer()
    class Listening:
        def __call__(self, texts, **how):
            asked.extend(texts)
            return slow(texts, **how)
    reader = SlowReader(Listening())
    ids = slow("hamlet", add_special_tokens=False)["input_ids"]
    assert [r.ids for r in reader.first(["hamlet", "who", "hamlet"], 3)][::2] == [ids[:3]] * 2 and sorted(asked) == ["hamlet", "who"]
    assert [(r.ids, r.more) for r in reader.last(["hamlet"], 2)] == [(ids[-2:], True)]
    assert reader.last(["hamlet"], 0)[0].ids == [] and reader.first(["hamlet"], None)[0].more is False
    assert SlowReader(slow).first([], 3) == []
