"LanceDB's side: rows come back whole and in order from every kind of search, with the scores that were asked for"
import asyncio

import pytest

pytest.importorskip("lancedb")
import lancedb  # noqa: E402
import pyarrow as pa  # noqa: E402
from lancedb.index import FTS  # noqa: E402
from lancedb.query import MatchQuery  # noqa: E402
from lancedb.rerankers import AnswerdotaiRerankers  # noqa: E402
from watched import Adds, Backwards, Sees  # noqa: E402

from rerankers import InputError, Reranker  # noqa: E402
from rerankers.integrations.lancedb import RerankersReranker  # noqa: E402

QUERY = "who wrote Hamlet?"
ROWS = [{"id": "f", "text": "Goethe wrote Faust.", "vector": [0.9, 0.1]}, {"id": "h", "text": "Shakespeare wrote Hamlet.", "vector": [0.6, 0.4]},
        {"id": "p", "text": "The play is on at nine.", "vector": [0.1, 0.9]}, {"id": "m", "text": "Macbeth, too, is his.", "vector": [0.0, 1.0]}]
BM25 = Reranker("bm25")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lance")
    lancedb.connect(path).create_table("plays", ROWS).create_index("text", config=FTS())
    return path


@pytest.fixture(scope="module")
def table(folder): return lancedb.connect(folder).open_table("plays")


SEARCHES = {
    "vectors": lambda table, reranker: table.search([1.0, 0.0]).limit(3).rerank(reranker, QUERY),
    "words": lambda table, reranker: table.search(QUERY, query_type="fts").rerank(reranker),
    "a query of LanceDB's": lambda table, reranker: table.search(MatchQuery(QUERY, "text"), query_type="fts").rerank(reranker),
    "both": lambda table, reranker: table.search(query_type="hybrid").vector([1.0, 0.0]).text(QUERY).limit(3).rerank(reranker),
}
FOUND = {"vectors": ["h", "f", "p"], "words": ["h", "f"], "a query of LanceDB's": ["h", "f"], "both": ["h", "f", "p"]}


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("scores", ["relevance", "all"])
def test_rows_come_back_whole_and_in_order(table, search, scores):
    found = SEARCHES[search](table, RerankersReranker(BM25, return_score=scores)).to_arrow()
    kept = {"vectors": ["_distance"], "both": ["_distance", "_score"]}.get(search, ["_score"]) if scores == "all" else []
    assert [n for n in found.column_names if n.startswith("_") and n != "_rowid"] == [*kept, "_relevance_score"]
    assert found.schema.field("_relevance_score").type == pa.float32()
    mine = {row["id"]: row for row in ROWS}
    assert found["id"].to_pylist() == FOUND[search] and found["text"].to_pylist() == [mine[i]["text"] for i in FOUND[search]]
    by_hand = BM25.rank(QUERY, [mine[i]["text"] for i in sorted(FOUND[search])], doc_ids=sorted(FOUND[search]))
    assert found["_relevance_score"].to_pylist() == pytest.approx([by_hand.get_score_by_docid(i) for i in FOUND[search]], rel=1e-6)


def test_hybrid_rows_keep_the_scores_of_both_searches(table):
    row = SEARCHES["both"](table, RerankersReranker(BM25, return_score="all")).to_list()[0]
    assert row["id"] == "h" and row["_score"] > 0 and row["_distance"] == pytest.approx(0.32)


@pytest.mark.parametrize("search", ["vectors", "words", "both"])    # it takes no query of LanceDB's
def test_as_lancedbs_own_class_for_this_package(table, search):
    theirs = SEARCHES[search](table, AnswerdotaiRerankers(model_type="bm25", model_name="bm25")).to_arrow()
    assert SEARCHES[search](table, RerankersReranker("bm25")).to_arrow().to_pylist() == theirs.to_pylist()


@pytest.mark.parametrize(("model", "scores"), [(Backwards(), [-1, -2, -3]), ("bm25:1 > bm25(b=0.5)", [-1, -2, -3])], ids=str)
@pytest.mark.parametrize("search", ["vectors", "both"])
def test_an_order_is_kept_by_ranks(table, model, scores, search):
    "Where scores are none, or those of two stages, which do not fall"
    found = SEARCHES[search](table, RerankersReranker(model)).to_list()
    assert [row["_relevance_score"] for row in found] == scores and len({row["id"] for row in found}) == 3


@pytest.mark.parametrize("search", SEARCHES)
def test_nothing_found(table, search):
    found = SEARCHES[search](table, RerankersReranker(BM25)).where("id = 'nobody'", prefilter=True).to_arrow()
    assert found.num_rows == 0 and "_relevance_score" in found.column_names


def test_its_own_tables():
    "As LanceDB hands them over; the given table is not changed, and a column of an earlier ranking gives way"
    vectors = pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2))
    given = pa.table({"text": ["Faust", "Hamlet"], "_rowid": [3, 4], "_distance": [0.5, 0.1], "_relevance_score": [9.0, 9.0], "v": vectors})
    before = given.to_pydict()
    found = RerankersReranker("bm25", return_score="all").rerank_vector("Hamlet", given)
    assert found["text"].to_pylist() == ["Hamlet", "Faust"] and found.schema.field("v") == given.schema.field("v")
    assert sorted(found.column_names) == sorted(given.column_names) and found["_relevance_score"].to_pylist() != [9.0, 9.0]
    assert given.to_pydict() == before
    several = RerankersReranker("bm25").rerank_multivector([given.select(["text", "_rowid"])] * 2, "Hamlet", deduplicate=True)
    assert several["_rowid"].to_pylist() == [4, 3]


def test_pictures_and_options():
    given = pa.table({"text": [None, "a text"], "scan": [b"\x89PNG\r\n\x1a\n0", None]})
    assert RerankersReranker(Sees(), image_column="scan").rerank_vector("q", given)["_relevance_score"].to_pylist() == [1.0, 0.0]
    with pytest.raises(InputError, match="batch_size"): RerankersReranker(BM25, rank_options={"batch_size": 0}).rerank_fts("q", given.slice(1))
    with pytest.raises(InputError, match="document 0: no text"): RerankersReranker(BM25).rerank_fts("q", given)


def test_errors_say_what_is_missing(table):
    with pytest.raises(InputError, match="no column 'txet'.*'text'"): SEARCHES["words"](table, RerankersReranker(BM25, column="txet")).to_arrow()
    with pytest.raises(InputError, match="the query is a NoneType"): RerankersReranker(BM25).rerank_vector(None, pa.table({"text": ["Hamlet"]}))
    with pytest.raises(InputError, match="by the ids"): SEARCHES["words"](table, RerankersReranker(Adds())).to_arrow()
    with pytest.raises(ValueError, match="relevance"): RerankersReranker(BM25, return_score="some")


def test_in_an_event_loop(folder):
    async def ask():
        table = await (await lancedb.connect_async(folder)).open_table("plays")
        vectors = table.query().nearest_to([1.0, 0.0]).limit(3)
        return [await search.rerank(RerankersReranker(BM25), **more).to_list() for search, more in (
            (vectors, {"query_string": QUERY}), (table.query().nearest_to_text(QUERY), {}), (vectors.nearest_to_text(QUERY), {}))]
    assert [[row["id"] for row in found] for found in asyncio.run(ask())] == [["h", "f", "p"], ["h", "f"], ["h", "f", "p"]]
