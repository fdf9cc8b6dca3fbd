"What goes in comes out: documents of any shape, ids and metadata, and everything that a ranking can become"
import asyncio
import copy
import json
import math
import pickle
import re
from collections import UserDict
from html.parser import HTMLParser
from types import MappingProxyType, SimpleNamespace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rerankers import Document, InputError, RankedResults, Reranker, Result, UnknownDocument, UnusableAnswer
from rerankers.documents import to_documents
from rerankers.text import readable
from rerankers.rankers import BaseRanker, PointwiseRanker, Ranking, SetwiseRanker
from rerankers.results import Stage, Usage


ANY_TEXT = st.text(st.characters(), max_size=40) | st.text(st.characters(categories=["Cs"]), max_size=4)     # lone surrogates too
QUERIES  = ANY_TEXT.filter(lambda q: q.strip())
NUMBERS  = st.floats(allow_nan=False, allow_infinity=False)
IDS      = st.recursive(st.integers() | st.text(max_size=8) | st.binary(max_size=4) | st.booleans() | NUMBERS | st.uuids() | st.dates(),
                        lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=2), max_leaves=3)
JSON     = st.recursive(st.none() | st.booleans() | st.integers() | NUMBERS | st.text(max_size=8),
                        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=5)
METADATA = st.dictionaries(st.text(max_size=6), JSON | st.binary(max_size=3) | st.sets(st.integers(), max_size=2), max_size=3)
ROWS     = st.lists(st.tuples(ANY_TEXT, IDS, METADATA), max_size=6)
SCORES   = st.lists(NUMBERS, max_size=12)


class Given(SetwiseRanker):
    "Answers with the scores it was made with"
    def __init__(self, scores): self.scores = scores
    def score_documents(self, query, texts, call): return self.scores


class GivenOrder(BaseRanker):
    "Answers with the order it was made with"
    def __init__(self, order): self.order = order
    def answer(self, tasks, call): return [Ranking(order=self.order) for _ in tasks]


BM25 = Reranker("bm25")


# ---- documents

SHAPES = {      # how (text, id, metadata) may be written
    "Document": lambda t, i, m: Document(t, i, m),
    "dictionary": lambda t, i, m: {"text": t, "doc_id": i, "metadata": m},
    "mapping": lambda t, i, m: MappingProxyType({"text": t, "_id": i, "metadata": m}),
    "user dictionary": lambda t, i, m: UserDict(contents=t, id=i, metadata=m),
    "triple": lambda t, i, m: (i, t, m),
    "LangChain": lambda t, i, m: SimpleNamespace(page_content=t, id=i, metadata=m),
}


def fields(docs): return [(d.text, d.doc_id, d.metadata) for d in docs]


@pytest.mark.parametrize("shape", SHAPES)
@given(rows=ROWS)
def test_any_text_id_and_metadata_survive_a_ranking(shape, rows):
    "Each document comes back once, whole, in every shape that a caller may choose; the empty text is a text"
    docs, before = [SHAPES[shape](*row) for row in rows], copy.deepcopy(rows)
    remaining = list(rows)
    for result in BM25.rank("a query", docs): remaining.remove((result.text, result.doc_id, result.metadata))
    assert remaining == [] and rows == before


@given(rows=ROWS)
def test_ids_and_metadata_as_arguments_survive(rows):
    texts, ids, metas = ([row[i] for row in rows] for i in range(3))
    before = copy.deepcopy((texts, ids, metas))
    docs = to_documents(texts, doc_ids=ids, metadata=metas)
    assert fields(docs) == rows
    assert all(type(d.doc_id) is type(i) for d, i in zip(docs, ids, strict=True))      # True stays True, 1.0 stays 1.0
    for d in docs: d.metadata["new"] = d.doc_id = d.text = "changed"
    assert (texts, ids, metas) == before


@given(rows=ROWS)
def test_documents_are_copies(rows):
    "What is done to a result is not done to the caller's document"
    docs = [Document(*row, title="title") for row in rows]
    before = copy.deepcopy(docs)
    for result in BM25.rank("a query", docs, metadata=[{"more": 1}] * len(docs)):
        result.metadata["new"] = 1
        result.document.text = result.document.doc_id = result.document.title = "changed"
    assert docs == before


@given(rows=st.lists(st.tuples(ANY_TEXT.filter(bool), IDS, METADATA), min_size=1, max_size=6), data=st.data())
def test_shapes_may_be_mixed(rows, data):
    shapes = data.draw(st.lists(st.sampled_from(sorted(SHAPES)), min_size=len(rows), max_size=len(rows)))
    assert fields(to_documents([SHAPES[s](*row) for s, row in zip(shapes, rows, strict=True)])) == rows


def numpy_array(values, **kwargs): return pytest.importorskip("numpy").array(values, **kwargs)
def pandas_series(values, **kwargs): return pytest.importorskip("pandas").Series(values, **kwargs)


COLLECTIONS = {
    "list": list, "tuple": tuple, "generator": lambda texts: (t for t in texts), "iterator": iter, "map": lambda texts: map(str, texts),
    "dictionary's values": lambda texts: dict(enumerate(texts)).values(),
    "NumPy": numpy_array, "NumPy objects": lambda texts: numpy_array(texts, dtype=object),
    "pandas": pandas_series, "pandas, odd index": lambda texts: pandas_series(texts, index=range(10, 10 + len(texts))),
}


@pytest.mark.parametrize("make", COLLECTIONS.values(), ids=COLLECTIONS)
def test_collections_of_texts(make):
    "Whatever is walked through, texts are plain strings and ids are positions"
    texts = ["Hamlet is a play.", "", "哈姆雷特"]
    docs = to_documents(make(texts))
    assert fields(docs) == [(t, n, {}) for n, t in enumerate(texts)]
    assert {type(d.text) for d in docs} == {str}


@pytest.mark.parametrize("make", COLLECTIONS.values(), ids=COLLECTIONS)
def test_collections_of_ids(make):
    "Ids from an array are plain Python values"
    docs = to_documents(["one", "two"], doc_ids=make(["x", "y"]))
    assert [(d.doc_id, type(d.doc_id)) for d in docs] == [("x", str), ("y", str)]


@pytest.mark.parametrize("make", [numpy_array, pandas_series])
def test_ids_that_are_numbers_in_an_array(make):
    docs = to_documents(["one", "two"], doc_ids=make([7, 8]), metadata=iter([{"a": 1}, None]))
    assert [(d.doc_id, type(d.doc_id), d.metadata) for d in docs] == [(7, int, {"a": 1}), (8, int, {})]


def test_data_frame_is_rows():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"docno": ["h", "f"], "text": ["Hamlet", "Faust"], "title": ["A play", ""], "year": [1603, 1808]}, index=[5, 5])
    before = frame.copy(deep=True)
    docs = to_documents(frame)
    assert fields(docs) == [("Hamlet", "h", {"year": 1603}), ("Faust", "f", {"year": 1808})] and docs[0].title == "A play"
    assert type(docs[0].metadata["year"]) is int
    assert len(BM25.rank("Hamlet", frame)) == 2
    pd.testing.assert_frame_equal(frame, before)


def test_data_frame_with_missing_titles_can_be_ranked():
    "BEIR's corpora lack titles here and there, which pandas fills with NaN"
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"_id": ["a", "b"], "title": ["A play", None], "text": ["Hamlet", "Faust"]})
    assert {r.doc_id for r in BM25.rank("Hamlet", frame)} == {"a", "b"}


class Node:
    "Iterates over its fields, as pydantic's models do, and thereby those of LlamaIndex"
    def __init__(self, text, metadata=None): self.text, self.metadata = text, metadata or {}
    def __iter__(self): yield from vars(self).items()


ONE = {"string": str, "Document": Document, "dictionary": lambda t: {"text": t}, "mapping": lambda t: MappingProxyType({"text": t}),
       "LangChain": lambda t: SimpleNamespace(page_content=t), "LlamaIndex": Node}


@pytest.mark.parametrize("make", ONE.values(), ids=ONE)
def test_one_document_needs_no_list(make):
    assert fields(to_documents(make("a text"), doc_ids="x", metadata={"k": 1})) == [("a text", "x", {"k": 1})]
    assert [r.text for r in BM25.rank("a query", make("a text"))] == ["a text"]
    assert [[r.text for r in results] for results in BM25.rank_many(["a query", "another"], make("a text"))] == [["a text"], ["a text"]]


PAIRS = {"id and text": lambda t: (t.lower(), t), "id, text, metadata": lambda t: (t.lower(), t, {"k": 1}),
         "id and document": lambda t: (t.lower(), Document(t)), "document and score": lambda t: (Document(t), 0.5)}


@pytest.mark.parametrize("make", [*ONE.values(), *PAIRS.values()], ids=[*ONE, *PAIRS])
def test_rank_many_takes_a_flat_list_as_shared(make):
    "Two queries and two documents: each query gets both"
    found = BM25.rank_many(["Hamlet", "Faust"], [make("Hamlet"), make("Faust")])
    assert [[r.text for r in results] for results in found] == [["Hamlet", "Faust"], ["Faust", "Hamlet"]]


NAMES_OF_IDS = ("doc_id", "id", "id_", "node_id", "uuid")      # as other frameworks call them, in the order in which they are believed


@pytest.mark.parametrize("name", NAMES_OF_IDS)
@pytest.mark.parametrize("none", [None, math.nan], ids=str)
def test_of_several_ids_of_an_object_the_first_that_is_there_counts(name, none):
    ids = {other: none if place < NAMES_OF_IDS.index(name) else other for place, other in enumerate(NAMES_OF_IDS)}
    for order in (list(ids), list(ids)[::-1]):
        assert to_documents([SimpleNamespace(text="a text", **{other: ids[other] for other in order})])[0].doc_id == name


def test_every_key_of_a_dictionary_is_kept():
    doc, = to_documents([{"_id": 1, "id": 2, "text": "t", "contents": "c", "lang": "en", "title": "T", "metadata": {"k": "v"}}])
    assert (doc.text, doc.doc_id, doc.title, doc.metadata) == ("t", 1, "T", {"id": 2, "contents": "c", "lang": "en", "k": "v"})


META = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9))


@given(loose=META, own=META, given_too=META)
def test_metadata_has_an_order_of_precedence(loose, own, given_too):
    "A row's own `metadata` wins over its loose fields, the caller's argument over both; nothing else is lost, and nothing of the caller's changes"
    row, argument = {"text": "t", **loose, "metadata": own}, dict(given_too)
    before = copy.deepcopy((row, argument))
    doc, = to_documents([row], metadata=[argument])
    assert doc.metadata == {**loose, **own, **given_too} and (row, argument) == before


@pytest.mark.parametrize("make", [lambda **fields: Document(**fields), lambda **fields: to_documents([fields])[0]])
def test_a_title_comes_before_the_text(make):
    "Models see both, in this order, with one blank; what is empty leaves no blank"
    shown = [make(text=text, title=title).content for text, title in [("Hamlet", "A play"), ("Hamlet", ""), ("", "A play"), ("Hamlet", None)]]
    assert shown == ["A play Hamlet", "Hamlet", "A play", "Hamlet"]


def test_given_ids_win_over_own_ones_and_positions_fill_the_gaps():
    docs = [Document("a", "own"), {"text": "b", "id": 0}, "c", ("t", "d")]
    assert [d.doc_id for d in to_documents(docs)] == ["own", 0, 2, "t"]
    assert [d.doc_id for d in to_documents(docs, doc_ids=[None, "x", None, None])] == ["own", "x", 2, "t"]


@given(n=st.integers(0, 4), ids=st.none() | st.integers(0, 4), metas=st.none() | st.integers(0, 4))
def test_lengths_must_agree(n, ids, metas):
    call = {"doc_ids": None if ids is None else list(range(ids)), "metadata": None if metas is None else [{}] * metas}
    if ids in (None, n) and metas in (None, n): assert len(to_documents(["text"] * n, **call)) == n
    else:
        with pytest.raises(InputError, match=f"for {n} document"): to_documents(["text"] * n, **call)


NO_DOCUMENTS = {
    "None": None, "a number": 5, "bytes": b"text",
    "None in a list": [None], "a number in a list": [5], "bytes in a list": [b"text"], "NaN in a list": [math.nan],
    "a list in a list": [["text"]],
    "a dictionary without text": {"headline": "x"}, "text that is None": {"text": None}, "text that is a number": {"text": 5},
    "a Document without text": Document(), "a tuple of four": [(1, "text", {}, {})], "a title that is a number": {"text": "t", "title": 5},
    "an id that is a list": {"text": "t", "id": ["x"]}, "an id that is a set": [({1}, "text")],
    "metadata of a dictionary": {"text": "t", "metadata": "words"}, "metadata of a tuple": [(1, "text", "words")],
    "metadata of a Document": Document("t", 1, "words"), "metadata of an object": SimpleNamespace(page_content="t", metadata="words"),
}


@pytest.mark.parametrize("docs", NO_DOCUMENTS.values(), ids=NO_DOCUMENTS)
def test_what_is_no_document_is_an_input_error(docs):
    "Ours, and never a bare TypeError from the depths"
    with pytest.raises(InputError): BM25.rank("a query", docs)


@pytest.mark.parametrize("call", [{"doc_ids": [["x"]]}, {"doc_ids": [{}]}, {"metadata": ["words"]}, {"metadata": 5}], ids=str)
def test_labels_that_cannot_be_are_input_errors(call):
    with pytest.raises(InputError): BM25.rank("a query", ["a text"], **call)


def test_the_offending_document_is_named():
    with pytest.raises(InputError, match="document 2"): to_documents(["a", "b", None, "d"])


@pytest.mark.parametrize("query", [None, 5, b"query", "", " \n\t", ["query"], Document("query")], ids=str)
def test_what_is_no_query_is_an_input_error(query):
    with pytest.raises(InputError): BM25.rank(query, ["a text"])


@pytest.mark.parametrize("name", ["top_k", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, True, 2.5, "3"], ids=repr)
def test_numbers_that_are_no_counts_are_input_errors(name, value):
    with pytest.raises(InputError, match=name): BM25.rank("a query", ["a text"], **{name: value})


@given(text=ANY_TEXT)
@example("\ud83d\ude00").via("a surrogate pair")
def test_readable_can_be_encoded_and_keeps_all_else(text):
    "What a model sees is valid Unicode; text without surrogates is untouched"
    shown = readable(text)
    shown.encode("utf-8")
    assert readable(shown) == shown
    joined = re.sub("[\ud800-\udbff][\udc00-\udfff]", lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    assert shown == re.sub("[\ud800-\udfff]", "\ufffd", joined)


# ---- ranking

@given(scores=SCORES, k=st.none() | st.integers(1, 14))
@example(scores=[0.0, -0.0, 0.0], k=None)
def test_rank_is_a_stable_permutation(scores, k):
    "Best first, equal scores in the caller's order, every document once, ranks from 1"
    found = Given(scores).rank("a query", ["same text"] * len(scores), top_k=k)
    expected = [i for s in sorted(set(scores), reverse=True) for i in range(len(scores)) if scores[i] == s][:k]
    assert [r.doc_id for r in found] == expected
    assert [r.score for r in found] == [scores[i] for i in expected]
    assert [r.rank for r in found] == list(range(1, len(expected) + 1))


@given(order=st.integers(0, 8).flatmap(lambda n: st.permutations(range(n))))
def test_an_order_alone_is_kept(order):
    found = GivenOrder(order).rank("a query", ["text"] * len(order))
    assert [r.doc_id for r in found] == list(order) and {r.score for r in found} <= {None}
    assert found.has_scores is (not order)


@pytest.mark.parametrize("order", [[0], [0, 1, 1], [0, 1, 3], [0, 1, 2, 3], []], ids=str)
def test_what_is_no_order_is_an_unusable_answer(order):
    with pytest.raises(UnusableAnswer): GivenOrder(order).rank("a query", ["a", "b", "c"])


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0, 3.0], [1.0, math.nan], [math.inf, 1.0], [1.0, -math.inf], []], ids=str)
def test_scores_that_are_missing_or_no_number_are_an_unusable_answer(scores):
    with pytest.raises(UnusableAnswer): Given(scores).rank("a query", ["a", "b"])


@pytest.mark.parametrize("make", [lambda scores: numpy_array(scores, dtype="float32"), tuple, lambda scores: list(map(int, scores))])
def test_scores_become_python_floats(make):
    found = Given(make([1.0, 3.0, 2.0])).rank("a query", ["a", "b", "c"])
    assert [(r.score, type(r.score)) for r in found] == [(3.0, float), (2.0, float), (1.0, float)]


@given(query=QUERIES)
def test_the_query_is_kept_as_it_was(query):
    assert BM25.rank(query, ["a text"]).query == query


@given(queries=st.lists(QUERIES, min_size=1, max_size=3), data=st.data())
def test_rank_many_is_rank_for_each(queries, data):
    lists = [data.draw(st.lists(st.text(max_size=12), max_size=4)) for _ in queries]
    ids = [[f"{n}-{i}" for i in range(len(docs))] for n, docs in enumerate(lists)]
    metas = [[{"n": n}] * len(docs) for n, docs in enumerate(lists)]
    pooled = BM25.rank_many(queries, lists, doc_ids=ids, metadata=metas, top_k=2)
    assert pooled == [BM25.rank(*args, top_k=2) for args in zip(queries, lists, ids, metas, strict=True)]


@given(queries=st.lists(QUERIES, max_size=3), docs=st.lists(st.text(max_size=12), max_size=4))
def test_rank_many_shares_one_list(queries, docs):
    found = BM25.rank_many(queries, docs, doc_ids=range(10, 10 + len(docs)), metadata=[{"k": 1}] * len(docs))
    assert found == [BM25.rank(q, docs, doc_ids=range(10, 10 + len(docs)), metadata=[{"k": 1}] * len(docs)) for q in queries]
    for a in found:
        for result in a: result.metadata["own"] = True     # results of one query are not those of another
    assert len({id(r.document) for a in found for r in a}) == len(queries) * len(docs)


@pytest.mark.parametrize("make", COLLECTIONS.values(), ids=COLLECTIONS)
def test_rank_many_shares_any_collection(make):
    "Also one that can be walked through only once: documents, ids and metadata alike"
    texts = ["Hamlet is a play.", "Faust is a play."]
    found = BM25.rank_many(["Hamlet", "Faust"], make(texts), doc_ids=make(["h", "f"]))
    assert [r[0].doc_id for r in found] == ["h", "f"] and [len(r) for r in found] == [2, 2]


def test_rank_many_shares_metadata_that_is_a_generator():
    found = BM25.rank_many(["Hamlet", "Faust"], ["Hamlet", "Faust"], metadata=({"n": n} for n in range(2)))
    assert [r[0].metadata for r in found] == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize("docs", [[["a"]], [["a"], ["b"], ["c"]], [["a"], "b"]], ids=str)
def test_rank_many_needs_a_list_a_query(docs):
    with pytest.raises(InputError): BM25.rank_many(["one", "two"], docs)


@pytest.mark.parametrize("queries", ["one string", ["fine", ""], [None], None, 5], ids=str)
def test_rank_many_needs_queries(queries):
    with pytest.raises(InputError): BM25.rank_many(queries, ["a text"])


# ---- results

def results_of(rows, *whole):
    "A ranking of (text, id, metadata, title, score, what else is known of it) in the order given"
    found = [Result(Document(t, i, m, title=title), s, n, **more) for n, (t, i, m, title, s, more) in enumerate(rows, start=1)]
    return RankedResults(found, *whole)


TITLES  = st.none() | st.text(max_size=5)
COUNTS  = st.integers(0, 99)
USAGES  = st.none() | st.builds(Usage, COUNTS, COUNTS, COUNTS, NUMBERS, st.none() | NUMBERS, COUNTS)
STAGES  = st.lists(st.builds(Stage, st.text(max_size=5), COUNTS, NUMBERS, USAGES, st.text(max_size=5)), max_size=2)
MORE    = st.fixed_dictionaries({}, optional={     # what only some methods say of a document
    "truncated": st.booleans(), "scores": st.dictionaries(st.text(max_size=4), NUMBERS, max_size=2), "note": st.text(max_size=5),
    "stage": st.text(max_size=5), "passage": st.tuples(COUNTS, COUNTS),
})
RESULTS = st.builds(results_of, st.lists(st.tuples(ANY_TEXT, IDS, METADATA, TITLES, NUMBERS, MORE), max_size=6), ANY_TEXT, st.booleans(), USAGES,
                    st.dictionaries(st.text(max_size=5), COUNTS, max_size=2), st.sampled_from(["complete", "1 of 2 missing"]), STAGES)


@given(results=RESULTS, part=st.slices(8), k=st.integers(0, 8))
def test_results_are_a_sequence(results, part, k):
    listed = list(results)
    assert len(results) == results.results_count() == len(listed) and bool(results) is bool(listed)
    assert list(reversed(results)) == listed[::-1] and [results[i] for i in range(-len(listed), len(listed))] == listed * 2
    assert vars(results[part]) == {**vars(results), "results": listed[part]}
    assert results.top_k(k) == listed[:k] == list(results[:k])
    assert all(r in results and results[results.index(r)] == r and results.count(r) == listed.count(r) for r in listed)
    with pytest.raises(IndexError): results[len(listed)]


@given(results=RESULTS)
def test_a_result_is_one_dot_from_its_document(results):
    for name in ("text", "doc_id", "metadata", "title"):
        assert all(getattr(r, name) is getattr(r.document, name) for r in results)


@given(results=RESULTS)
def test_lookup_gives_the_best_ranked_of_an_id(results):
    for r in results:
        first = min((other for other in results if other.doc_id == r.doc_id), key=lambda o: o.rank)
        assert results.get_result_by_docid(r.doc_id) is first and results.get_score_by_docid(r.doc_id) == first.score
    with pytest.raises(UnknownDocument, match="nobody"): results.get_result_by_docid("nobody's id")
    with pytest.raises(KeyError): results.get_score_by_docid("nobody's id")


def test_repeated_ids_all_come_back():
    found = BM25.rank("Hamlet", ["nothing", "Hamlet", "Hamlet Hamlet"], doc_ids=["same"] * 3)
    assert sorted(r.text for r in found) == ["Hamlet", "Hamlet Hamlet", "nothing"]
    assert found.get_result_by_docid("same").text == "Hamlet Hamlet"


TRIPS = {
    "dictionary": lambda r: RankedResults.from_dict(r.to_dict()), "pickle": lambda r: pickle.loads(pickle.dumps(r)),
    "old pickle": lambda r: pickle.loads(pickle.dumps(r, 2)), "deepcopy": copy.deepcopy, "copy": copy.copy,
}


@pytest.mark.parametrize("travel", TRIPS.values(), ids=TRIPS)
@given(results=RESULTS)
def test_results_survive_travel(travel, results):
    assert vars(travel(results)) == vars(results)


@given(results=RESULTS)
def test_results_survive_json(results):
    "Wherever JSON can hold ids, metadata and text"
    theirs = [results.query, *([r.text, r.title, r.doc_id, r.metadata] for r in results)]    # of no rows, too
    try: known = json.loads(json.dumps(theirs)) == theirs
    except TypeError:
        with pytest.raises(InputError, match="default=str"): results.to_json()
        assert json.loads(results.to_json(default=str))["query"] == json.loads(json.dumps(results.query))
        return
    assume(known)       # tuples come back as lists, a surrogate pair as one character: JSON's doing
    for options in ({}, {"indent": 1, "ensure_ascii": False}):
        assert vars(RankedResults.from_dict(json.loads(results.to_json(**options)))) == vars(results)


def test_metadata_with_keys_that_json_has_not():
    "A tuple as a key is no less an InputError"
    results = BM25.rank("a query", ["a text"], metadata=[{("a", "tuple"): 1}])
    with pytest.raises(InputError): results.to_json()


def test_a_dictionary_of_results_shares_nothing_with_them():
    results = BM25.rank("a query", ["a text"], metadata=[{"k": 1}])
    results.to_dict()["results"][0]["metadata"]["k"] = 2
    assert results[0].metadata == {"k": 1}


def test_pictures_survive_a_dictionary():
    page = Document(None, 1, {}, "image", "page.png", "aGVsbG8=", "A page")
    results = RankedResults([Result(page, 1.0, 1)], "a query")
    assert RankedResults.from_dict(results.to_dict()) == results


def test_repr_is_that_of_rerankers_0_10():
    shown = ("RankedResults(results=[Result(document=Document(text='I really like you', doc_id=1, metadata={'source': 'twitter'}), "
             "score=-2.453125, rank=1)], query='I love you', has_scores=True)")
    assert repr(Given([-2.453125]).rank("I love you", ["I really like you"], doc_ids=[1], metadata=[{"source": "twitter"}])) == shown


@given(results=RESULTS, tag=st.sampled_from(["rerankers", "run-1"]))
def test_trec_run_can_be_read_back(results, tag):
    "Six columns a line; what would break the columns or count twice is refused"
    ids = [str(r.doc_id) for r in results]
    if len(set(ids)) < len(ids) or any(i.split() != [i] for i in ids):
        with pytest.raises(InputError): results.to_trec("q1", tag)
        return
    rows = [line.split(" ") for line in results.to_trec("q1", tag).split("\n")[:-1]]
    read = [(q, q0, i, int(rank), float(score), t) for q, q0, i, rank, score, t in rows]
    assert read == [("q1", "Q0", str(r.doc_id), r.rank, r.score, tag) for r in results]


@pytest.mark.parametrize("call", [{"qid": ""}, {"qid": "a b"}, {"qid": "a\n"}, {"tag": ""}, {"tag": "my run"}], ids=str)
def test_trec_columns_have_no_blanks(call):
    with pytest.raises(InputError): BM25.rank("a query", ["a text"]).to_trec(**call)


def test_trec_run_of_an_order_falls_from_rank_to_rank():
    assert GivenOrder([1, 0]).rank("a query", ["a", "b"]).to_trec(7) == "7 Q0 1 1 -1 rerankers\n7 Q0 0 2 -2 rerankers\n"


def test_trec_run_is_understood_by_ir_measures(tmp_path):
    ir = pytest.importorskip("ir_measures")
    (tmp_path / "run").write_text(BM25.rank("Hamlet", ["Faust", "Hamlet"], doc_ids=["f", "h"]).to_trec("q1"))
    assert ir.calc_aggregate([ir.nDCG @ 10], {"q1": {"h": 1}}, ir.read_trec_run(str(tmp_path / "run"))) == {ir.nDCG @ 10: 1.0}


def test_data_frame_of_results():
    pd = pytest.importorskip("pandas")
    metadata = [{"year": 1808, "score": "his own", "rank": 7, "metadata.rank": 8, "text": "theirs"}, {"lang": "en"}]
    frame = BM25.rank("Hamlet", ["Faust", "Hamlet"], doc_ids=["f", "h"], metadata=metadata).to_dataframe()
    assert list(frame.columns)[:4] == ["rank", "score", "doc_id", "text"]
    assert set(frame.columns[4:]) == {"year", "lang", "metadata.score", "metadata.rank", "metadata.metadata.rank", "metadata.text"}
    assert frame.iloc[1][["metadata.score", "metadata.text", "year"]].tolist() == ["his own", "theirs", 1808]
    assert sorted(frame.iloc[1][["metadata.rank", "metadata.metadata.rank"]]) == [7, 8]
    assert frame["doc_id"].tolist() == ["h", "f"] and frame["score"].iloc[1] == 0.0 and pd.isna(frame["year"].iloc[0])


def test_metadata_and_a_field_of_the_same_name_do_not_share_a_column():
    "Also where only some documents have the field"
    pytest.importorskip("pandas")
    frame = BM25.rank("Hamlet", [Document("Faust", title="own"), Document("Hamlet", metadata={"title": "theirs"})]).to_dataframe()
    assert frame["title"].tolist()[1] == "own" and frame["metadata.title"].tolist()[0] == "theirs" and frame["title"].isna().tolist() == [True, False]
    frame = BM25.rank("Hamlet", [Document("Hamlet", metadata={"title": "theirs"})]).to_dataframe()
    assert frame["title"].tolist() == ["theirs"]


@given(results=RESULTS)
@example(RankedResults([Result(Document("half a \ud800", "\udfff", {"\ud800": 1}), 0.5, 1)], "q"))
def test_no_entry_of_the_metadata_is_lost_in_a_data_frame(results):
    pytest.importorskip("pandas")
    frame = results.to_dataframe()
    assert len(frame) == len(results) and len(set(frame.columns)) == len(frame.columns)
    for n, r in enumerate(results):
        assert frame["score"].iloc[n] == r.score and frame["rank"].iloc[n] == r.rank
        for key in r.metadata: assert any(str(c).endswith(str(key)) for c in frame.columns)


@given(keys=st.permutations(["metadata." * depth + name for depth in range(3) for name in ("rank", "text", "theirs")]))
def test_any_names_of_metadata_have_columns_of_their_own(keys):
    "Also those that look like the names that a data frame makes up"
    pytest.importorskip("pandas")
    frame = BM25.rank("a query", ["a text"], metadata=[{key: f"the {key}" for key in keys}]).to_dataframe()
    assert len(frame.columns) == len(set(frame.columns)) == 4 + len(keys) and {f"the {key}" for key in keys} < set(frame.iloc[0])


class Seen(HTMLParser):
    "What a browser would make of a page: tags and the text between them"
    def __init__(self, page):
        super().__init__()
        self.tags, self.words = [], ""
        self.feed(page)
        self.close()
    def handle_starttag(self, tag, attributes): self.tags.append(tag)
    def handle_data(self, data): self.words += data


NASTY = "<script>alert('{query}')</script>\"&amp;"


@given(results=RESULTS)
@example(RankedResults([Result(Document(NASTY, NASTY, title=NASTY), 1.0, 1), Result(Document(None, 2, image_path=NASTY), None, 2)], NASTY))
@example(RankedResults([Result(Document("t"), math.inf, 1), Result(Document("t"), 0.0, 2), Result(Document("t"), -math.inf, 3)], "q"))
def test_html_shows_text_and_runs_none(results):
    "No tag comes from a document, an id or a query, and all of the page can be encoded"
    page = results._repr_html_()
    page.encode("utf-8")
    seen, plain = Seen(page), Seen(RankedResults([Result(Document("t"), r.score, r.rank) for r in results], "q")._repr_html_())
    assert seen.tags == plain.tags
    shown = [results.query, *(str(r.doc_id) for r in results)]
    assert all(readable(text) in seen.words for text in shown)


@given(scores=st.lists(st.integers(-99, 99), min_size=2, max_size=8, unique=True))
def test_a_better_score_has_a_longer_bar(scores):
    "And the best fills it"
    widths = [int(w) for w in re.findall(r"#4c78a8 (\d+)%", Given(scores).rank("a query", ["a text"] * len(scores))._repr_html_())]
    assert len(widths) == len(scores) and widths == sorted(widths, reverse=True) and widths[0] == 100 and 0 < widths[-1] < 100


def test_html_of_a_long_ranking_says_how_much_is_hidden():
    page = Given([0.0] * 30).rank("a query", ["text"] * 30)._repr_html_()
    assert page.count("<tr>") == 21 and "30 results, the best 20 shown" in page


def said_of(texts):
    "A ranking that says something else of every text"
    return Ranking([len(t) for t in texts], truncated=[t.startswith("a") for t in texts], notes=[f"note on {t}" for t in texts],
                   sets={"half": [len(t) / 2 for t in texts]}, explain=lambda i: f"why {texts[i]}")

class PairsNoted(PointwiseRanker):
    def score_pairs(self, pairs, call): return said_of([text for _, text in pairs])

class SetNoted(SetwiseRanker):
    def score_documents(self, query, texts, call): return said_of(texts)


@pytest.mark.parametrize("kind", [PairsNoted, SetNoted])
@pytest.mark.parametrize("call", [{}, {"deadline": 1e6}], ids=["at once", "in parts"])
@given(lists=st.lists(st.lists(st.text("abc", max_size=4), max_size=5), min_size=1, max_size=3))
def test_what_a_method_says_of_a_document_reaches_that_document(kind, call, lists):
    "Whatever the order is, and also where a text is there twice and several queries are answered together"
    for results in kind().rank_many([f"query {n}" for n in range(len(lists))], lists, **call):
        for r in results:
            assert (r.score, r.truncated, r.note, r.scores) == (len(r.text), r.text.startswith("a"), f"note on {r.text}", {"half": len(r.text) / 2})
            assert r.explain() == f"why {r.text}"


@pytest.mark.parametrize("name, own, asked, used", [
    ("batch_size", 4, None, 4), ("batch_size", 4, 2, 2), ("batch_size", None, 2, 2), ("progress", True, None, True), ("progress", False, None, False),
    ("progress", True, False, False), ("progress", False, True, True), ("progress", None, False, False),
])
@pytest.mark.parametrize("kind", [PointwiseRanker, SetwiseRanker])
def test_a_call_s_own_wish_comes_before_the_ranker_s(kind, name, own, asked, used):
    class Asked(kind):
        def score_pairs(self, pairs, call): return self.score_documents("", pairs, call)
        def score_documents(self, query, texts, call):
            self.wishes.append(getattr(call, name))
            return [0.0] * len(texts)

    ranker = Asked()
    ranker.wishes = []
    setattr(ranker, name, own)
    ranker.rank("a query", ["a text"], **{name: asked})
    ranker.rank_many(["a query"], [["a text"]], **{name: asked})
    asyncio.run(ranker.rank_async("a query", ["a text"], **{name: asked}))
    assert ranker.wishes == [used] * 3


def test_a_run_may_be_named_by_a_number():
    assert Reranker("bm25").rank("q", ["q"]).to_trec(1, 5).split()[::5] == ["1", "5"]
