"BM25 against the formula written out, and what counts as a word"
import math
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankers import InputError, Reranker
from rerankers.backends.bm25 import tokenize

WORDS = st.lists(st.sampled_from(["hamlet", "faust", "play", "a", "of", "london", "king"]), max_size=12)


def plain(query, documents, corpus=None, k1=1.2, b=0.75):
    "Robertson and Zaragoza's sum, with Lucene's weight of a word, of lists of words"
    known = documents if corpus is None else corpus
    mean = sum(map(len, known)) / len(known) or 1.0
    def weight(word):
        holders = sum(word in d for d in known)
        return math.log(1 + (len(known) - holders + 0.5) / (holders + 0.5))
    def score(words):
        found = Counter(words)
        return sum(weight(w) * found[w] * (k1 + 1) / (found[w] + k1 * (1 - b + b * len(words) / mean)) for w in query if w in found)
    return list(map(score, documents))


def scored(query, documents, **options):
    found = Reranker("bm25", **options).rank(" ".join(query), list(map(" ".join, documents)))
    return [found.get_score_by_docid(i) for i in range(len(documents))]


@given(query=WORDS.filter(bool), documents=st.lists(WORDS, min_size=1, max_size=6))
def test_scores_are_those_of_the_formula(query, documents):
    "With the usual constants; a word that the query repeats counts again, and documents without words are among those that are counted"
    assert scored(query, documents) == pytest.approx(plain(query, documents), rel=1e-12, abs=1e-12)


@given(query=WORDS.filter(bool), documents=st.lists(WORDS, min_size=1, max_size=4), corpus=st.lists(WORDS, min_size=1, max_size=6),
       k1=st.sampled_from([0, 0.9, 2.0]), b=st.sampled_from([0, 0.4, 1]))
def test_a_corpus_and_constants_of_ones_own(query, documents, corpus, k1, b):
    expected = plain(query, documents, corpus, k1, b)
    assert scored(query, documents, corpus=list(map(" ".join, corpus)), k1=k1, b=b) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("one", "other"), [
    ("STRASSE", "straße"), ("Hamlet", "HAMLET"), ("ﬁrst", "first"), ("Ｈａｍｌｅｔ", "hamlet"), ("e\u0301te\u0301", "\u00e9t\u00e9"), ("ΣΊΣΥΦΟΣ", "σίσυφος")])
def test_spellings_of_a_word_meet(one, other):
    assert tokenize(one) == tokenize(other) != []
    assert scored([one], [["king"], [other]])[1] > 0


@given(st.text(max_size=30))
def test_folding_once_is_folding_twice(text):
    "And NFKC, which is what indexes do, is no other word"
    assert tokenize(unicodedata.normalize("NFKC", text)) == tokenize(text)


@pytest.mark.parametrize(("text", "words"), [
    ("哈", ["哈"]), ("哈姆", ["哈姆"]), ("哈姆雷特", ["哈姆", "姆雷", "雷特"]), ("Hamlet哈姆雷", ["hamlet", "哈姆", "姆雷"]),
    ("สวัสดี", ["สว", "วั", "ัส", "สด", "ดี"]),
    ("snake_case don't", ["snake", "case", "don", "t"]), ("हैमलेट", ["हैमलेट"]), ("", []), ("— …", [])])
def test_scripts_without_blanks_are_pairs(text, words): assert tokenize(text) == words


@pytest.mark.parametrize("options", [{"k1": -0.1}, {"b": 1.1}, {"b": -0.1}, {"k1": "1"}])
def test_constants_that_make_no_sense(options):
    with pytest.raises(InputError, match="k1"): Reranker("bm25", **options)
