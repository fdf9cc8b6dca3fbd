"Documents of other people's frameworks, stores and tables: read by what they look like, ids and metadata kept, nothing of theirs changed or imported"
import asyncio
import collections
import copy
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace as Thing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rerankers import Document, InputError, Reranker, Result
from rerankers.documents import CONVERTERS, to_document, to_documents

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
BM25 = Reranker("bm25")
HAMLET, YEAR = "Shakespeare wrote Hamlet.", {"year": 1603}


def fields(docs): return [(d.text, d.doc_id, d.metadata) for d in docs]


# ---- the frameworks themselves

def haystack(text=HAMLET, ident="h", meta=YEAR, **more):
    return pytest.importorskip("haystack").Document(id=ident, content=text, meta=dict(meta), **more)


def langchain(text=HAMLET, ident="h", meta=YEAR):
    return pytest.importorskip("langchain_core.documents").Document(page_content=text, id=ident, metadata=dict(meta))


def dspy(text=HAMLET, ident="h", meta=YEAR): return pytest.importorskip("dspy").Example(long_text=text, pid=ident, **meta)


def qdrant(payload, kind="ScoredPoint"):
    models = pytest.importorskip("qdrant_client.models")
    more = {"version": 1, "score": 0.5} if kind == "ScoredPoint" else {}
    return getattr(models, kind)(id="h", payload=payload, **more)


def hit(**source): return {"_index": "plays", "_id": "h", "_score": 1.25, "_source": source}


Pandas = collections.namedtuple("Pandas", "Index docno text year")
Beir = collections.namedtuple("Beir", "doc_id text title")


def sqlite_row():
    base = sqlite3.connect(":memory:")
    base.row_factory = sqlite3.Row
    return base.execute("select 'h' as id, ? as text, 1603 as year", [HAMLET]).fetchone()


def series(): return pytest.importorskip("pandas").Series({"id": "h", "text": HAMLET, "year": 1603})


FOREIGN = {     # one document each: h, 1603
    "Haystack": haystack, "LangChain": langchain, "DSPy": dspy,
    "LangChain with its score": lambda: (langchain(), 0.25), "Haystack with its score": lambda: (haystack(), None),
    "LangChain with a score of NumPy": lambda: (langchain(), pytest.importorskip("numpy").float32(0.25)),
    "dictionary with its score": lambda: ({"id": "h", "text": HAMLET, **YEAR}, 1), "Document with its score": lambda: (Document(HAMLET, "h", YEAR), 0.5),
    "id and dictionary": lambda: ("h", {"text": HAMLET, **YEAR}), "id and LangChain": lambda: ("h", langchain(ident=None)),
    "Qdrant point": lambda: qdrant({"text": HAMLET, **YEAR}), "Qdrant record": lambda: qdrant({"text": HAMLET, **YEAR}, "Record"),
    "Qdrant point of LangChain": lambda: qdrant({"page_content": HAMLET, "metadata": YEAR}),
    "Weaviate object": lambda: Thing(uuid="h", properties={"text": HAMLET, **YEAR}, metadata=Thing(score=1.0)),
    "Pinecone match": lambda: Thing(id="h", score=0.5, values=[], metadata={"text": HAMLET, **YEAR}),
    "LlamaIndex node": lambda: Thing(text=HAMLET, id_="h", node_id="h", metadata=YEAR),
    "LlamaIndex hit": lambda: Thing(node=Thing(text=HAMLET, id_="h", node_id="h", metadata=YEAR), score=0.5),
    "others' chunk": lambda: Thing(content=HAMLET, id="h", metadata=YEAR), "pydantic model with doc_id": lambda: Thing(text=HAMLET, doc_id="h", metadata=YEAR),
    "DSPy, as a dictionary": lambda: {"long_text": HAMLET, "pid": "h", **YEAR},
    "row of SQLite": sqlite_row, "row of a data frame": series, "named tuple": lambda: collections.namedtuple("Row", "id text year")("h", HAMLET, 1603),
    "a result of ours": lambda: Result(Document(HAMLET, "h", YEAR), 0.5, 1),
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_one_document_of_a_framework(make):
    "Alone, in a list, and in rank_many; the caller's object stays as it is"
    thing = make()
    before = repr(thing) if isinstance(thing, sqlite3.Row) else copy.deepcopy(thing)
    alone = not isinstance(thing, tuple) or hasattr(thing, "_fields")
    for docs in [[thing], iter([thing]), *([thing] if alone and not hasattr(thing, "iloc") else [])]:
        doc, = to_documents(docs)
        assert (doc.text, doc.doc_id, doc.metadata) == (HAMLET, "h", YEAR)
    doc.metadata["new"] = doc.text = "changed"
    found = BM25.rank_many(["who wrote Hamlet?", "Faust"], [thing, "Goethe wrote Faust."])
    assert [results[0].doc_id for results in found] == ["h", 1]
    if isinstance(before, str): assert repr(thing) == before
    elif hasattr(before, "equals"): assert before.equals(thing)
    elif isinstance(thing, Result): assert thing == before
    else: assert repr(thing) == repr(before)


def test_elasticsearch_hits():
    "`_id` is the id even where the source has one of its own, and what the hit says is metadata like any other key"
    given = [hit(text=HAMLET, year=1603, id=17), {"_id": 2, "_source": {"body": "Goethe wrote Faust.", "title": "Faust", "metadata": {"lang": "en"}}}]
    before = copy.deepcopy(given)
    assert fields(to_documents(given)) == [(HAMLET, "h", {"_index": "plays", "_score": 1.25, "year": 1603, "id": 17}),
                                           ("Goethe wrote Faust.", 2, {"lang": "en"})]
    assert to_documents(given)[1].title == "Faust" and given == before


@pytest.mark.parametrize("wrapper", ["_source", "payload", "entity", "fields", "properties", "metadata"])
@pytest.mark.parametrize("ident", ["_id", "id"])
def test_records_of_stores(wrapper, ident):
    assert fields(to_documents([{ident: "h", wrapper: {"text": HAMLET, **YEAR}}])) == [(HAMLET, "h", YEAR)]
    assert fields(to_documents([{wrapper: {"docid": "h", "text": HAMLET, **YEAR}}])) == [(HAMLET, "h", YEAR)]      # where only the record has an id


def test_a_text_beside_a_wrapper_is_the_text():
    "A key that only looks like a store's is metadata"
    for name in ("_source", "payload", "entity", "fields", "properties"):
        assert fields(to_documents([{"text": HAMLET, name: {"text": "another"}}])) == [(HAMLET, 0, {name: {"text": "another"}})]


def test_named_tuples_are_read_by_their_names():
    assert fields(to_documents([Pandas(0, "h", HAMLET, 1603)])) == [(HAMLET, "h", {"Index": 0, "year": 1603})]
    doc, = to_documents([Beir("h", HAMLET, "Hamlet")])
    assert (doc.text, doc.doc_id, doc.title) == (HAMLET, "h", "Hamlet")
    assert fields(to_documents([collections.namedtuple("Pair", "key value")("h", HAMLET)])) == [(HAMLET, "h", {})]     # its names say nothing


def test_corpus_items_of_beir():
    corpus = {"h": {"title": "Hamlet", "text": HAMLET}, "f": {"title": "", "text": "Goethe wrote Faust."}}
    docs = to_documents(corpus.items())
    assert fields(docs) == [(HAMLET, "h", {}), ("Goethe wrote Faust.", "f", {})] and docs[0].title == "Hamlet"


def test_results_can_be_ranked_again():
    "Ids, titles and metadata go along from one ranker to the next; a key of the metadata is not taken for a field"
    first = BM25.rank("Hamlet", [Document(HAMLET, "h", {"id": 7, "year": 1603}, title="Hamlet"), Document("Faust", "f")])
    again = BM25.rank("Hamlet", first)
    assert [r.document for r in again] == [r.document for r in first] and again[0].document is not first[0].document


@pytest.mark.parametrize(("make", "said"), [
    (lambda: haystack(None), "no text"),
    (lambda: haystack(None, blob=pytest.importorskip("haystack.dataclasses").ByteStream(b"%PDF")), "blob"),
    (lambda: Thing(content=None, meta={}, dataframe="a frame"), "dataframe"),
    (lambda: qdrant(None), "payload is None"), (lambda: qdrant({"headline": "x"}), "headline"), (lambda: hit(headline="x"), "headline"),
    (lambda: ("a text", 0.5), "no text"), (lambda: ("h", float("nan")), "no text"), (lambda: ("h", None), "no text"),
    (lambda: (langchain(), "a text"), "not hashable"),
    (lambda: object(), "object is no kind of document"), (lambda: dict, "type is no kind of document"), (lambda: Document, "type is no kind of document"),
    (lambda: Thing(id=3, metadata={"headline": "x"}), "no kind of document"), (lambda: Thing(text=b"bytes"), "no kind of document"),
])
def test_what_has_no_text_is_an_error_that_says_so(make, said):
    with pytest.raises(InputError, match=f"document 0: .*{said}"): BM25.rank("a query", [make()])


def test_a_text_column_with_holes_is_not_read_as_texts_with_scores():
    "Else the ids would be ranked as texts"
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"id": ["h", "f"], "text": [HAMLET, float("nan")]}, dtype=object)
    with pytest.raises(InputError, match="document 1: no text"): BM25.rank("a query", list(zip(frame["id"], frame["text"], strict=True)))


# ---- columns and tables

def pandas_frame(rows): return pytest.importorskip("pandas").DataFrame(rows)
def polars_frame(rows): return pytest.importorskip("polars").DataFrame(rows)
def arrow_table(rows): return pytest.importorskip("pyarrow").Table.from_pylist(rows)


TABLES = {
    "pandas": pandas_frame, "polars": polars_frame, "lazy polars": lambda rows: polars_frame(rows).lazy(), "Arrow": arrow_table,
    "Arrow batch": lambda rows: arrow_table(rows).to_batches()[0], "Arrow reader": lambda rows: arrow_table(rows).to_reader(),
    "Arrow, chunked": lambda rows: pytest.importorskip("pyarrow").concat_tables([arrow_table(rows[:1]), arrow_table(rows[1:])], promote_options="default"),
    "list of rows of pandas": lambda rows: list(pandas_frame(rows).itertuples(index=False)),
    "generator of rows of polars": lambda rows: polars_frame(rows).iter_rows(named=True),
    "mapped dictionaries": lambda rows: map(dict, rows),
}
ROWS = [{"docno": "h", "text": HAMLET, "title": "A play", "year": 1603}, {"docno": "f", "text": "Goethe wrote Faust.", "title": None, "year": 1808}]


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_a_table_is_its_rows(make):
    docs = to_documents(make(ROWS))
    assert fields(docs) == [(HAMLET, "h", {"year": 1603}), ("Goethe wrote Faust.", "f", {"year": 1808})]
    assert [d.title for d in docs] == ["A play", None] and {type(d.metadata["year"]) for d in docs} == {int}
    assert [r.doc_id for r in BM25.rank("Faust", make(ROWS))] == ["f", "h"]


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_rank_many_takes_a_table_for_all_and_a_table_each(make):
    assert [[r.doc_id for r in results] for results in BM25.rank_many(["Hamlet", "Faust"], make(ROWS))] == [["h", "f"], ["f", "h"]]
    assert [[r.doc_id for r in results] for results in BM25.rank_many(["Hamlet", "Faust"], [make(ROWS), make(ROWS[:1])])] == [["h", "f"], ["h"]]


@pytest.mark.parametrize("make", [TABLES[name] for name in ("pandas", "polars", "Arrow")], ids=["pandas", "polars", "Arrow"])
def test_columns_of_a_table(make):
    "For texts, ids and metadata: the values are plain Python"
    table = make(ROWS)
    docs = to_documents(table["text"], doc_ids=table["docno"])
    assert [(d.text, d.doc_id) for d in docs] == [(row["text"], row["docno"]) for row in ROWS] and {type(d.text) for d in docs} == {str}
    years = to_documents(["a", "b"], doc_ids=table["year"], metadata=make([{"lang": "en"}, {"lang": "de"}]))
    assert [(d.doc_id, type(d.doc_id), d.metadata) for d in years] == [(1603, int, {"lang": "en"}), (1808, int, {"lang": "de"})]
    found = BM25.rank_many(["Hamlet", "Faust"], table["text"], doc_ids=table["docno"], metadata=make([{"n": 1}, {"n": 2}]))
    assert [(r[0].doc_id, r[0].metadata) for r in found] == [("h", {"n": 1}), ("f", {"n": 2})]


def test_structs_are_metadata():
    pa, pl = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    for column in (pa.array([YEAR, None]), pa.chunked_array([[YEAR], [None]]), pl.Series([YEAR, None]), pandas_frame({"m": [YEAR, float("nan")]})["m"]):
        assert [d.metadata for d in to_documents(["a", "b"], metadata=column)] == [YEAR, {}]


def test_scalars_of_arrow():
    pa = pytest.importorskip("pyarrow")
    assert fields(to_documents([pa.scalar(HAMLET), pa.scalar({"id": "h", "text": "x"})])) == [(HAMLET, 0, {}), ("x", "h", {})]


def test_arrays_without_dimensions_are_one_value():
    np = pytest.importorskip("numpy")
    assert fields(to_documents(np.array(HAMLET), doc_ids=np.array(7))) == [(HAMLET, 7, {})]


@pytest.mark.parametrize("column", ["pandas", "nullable pandas", "polars", "Arrow"])
def test_an_id_that_is_missing_is_no_id(column):
    "NaN, NA and null alike; the position stands in"
    pd, pl, pa = map(pytest.importorskip, ("pandas", "polars", "pyarrow"))
    makes = {"pandas": pd.Series, "nullable pandas": lambda v: pd.Series(v, dtype="Int64"), "polars": pl.Series, "Arrow": pa.array}
    ids = makes[column]([7, None, 9])
    assert [d.doc_id for d in to_documents(["a", "b", "c"], doc_ids=ids)] == [7, 1, 9]
    assert [d.doc_id for d in to_documents([Document("a", "own"), "b", "c"], doc_ids=makes[column]([None, 1, 2]))] == ["own", 1, 2]
    table = {"polars": pl.DataFrame, "Arrow": pa.table}.get(column, pd.DataFrame)
    assert [d.doc_id for d in to_documents(table({"id": ids, "text": ["a", "b", "c"]}))] == [7, 1, 9]


@pytest.mark.parametrize("nothing", [None, float("nan"), "NA", "NaT"], ids=str)
def test_nothing_is_no_id_no_title_and_no_metadata(nothing):
    if isinstance(nothing, str): nothing = getattr(pytest.importorskip("pandas"), nothing)
    shapes = [{"id": nothing, "text": "a", "title": nothing, "metadata": nothing}, (nothing, "a", nothing), Document("a", nothing, nothing, title=nothing),
              Thing(page_content="a", id=nothing, metadata=nothing), {"_id": nothing, "_source": {"text": "a", "title": nothing}}]
    for doc, n in zip(to_documents(shapes), range(len(shapes)), strict=True): assert (doc.doc_id, doc.title, doc.metadata) == (n, None, {})
    assert to_documents([{"_id": nothing, "id": 5, "text": "a"}])[0].doc_id == 5       # the next name that has one


# ---- ids that meet

KEYS = st.integers(-2, 9) | st.sampled_from(["0", "1", "2", "x", 1.0, True, (1,)])


@given(ids=st.lists(st.none() | KEYS, max_size=8), beside=st.booleans())
@example(ids=[1, None], beside=False)
@example(ids=[None, "0", 2, None], beside=True)
def test_positions_meet_no_id_that_a_document_brings(ids, beside):
    "Brought ids stay as they are, repeated ones too; the others are the position where that is free, and never another document's"
    docs = to_documents(["text"] * len(ids), doc_ids=ids) if beside else to_documents([{"id": i, "text": "text"} for i in ids])
    found, brought = [d.doc_id for d in docs], [i for i in ids if i is not None]
    assert [f for f, i in zip(found, ids, strict=True) if i is not None] == brought
    filled = {n: f for n, (f, i) in enumerate(zip(found, ids, strict=True)) if i is None}
    written = set(map(str, brought))
    assert len(set(filled.values())) == len(filled) and not written & set(map(str, filled.values())) and not set(brought) & set(filled.values())
    for n, f in filled.items(): assert f == n or f >= len(ids) and (n in brought or str(n) in brought)


@given(n=st.integers(0, 6))
def test_without_ids_positions_count_from_zero(n): assert [d.doc_id for d in to_documents(["text"] * n)] == list(range(n))


def test_ids_that_met_can_be_looked_up_and_written_as_a_run():
    found = BM25.rank("a text", [{"id": "1", "text": "one"}, "a text", {"id": 3, "text": "three"}, "four"])
    assert sorted(map(str, (r.doc_id for r in found))) == ["1", "3", "4", "5"]
    assert found.get_result_by_docid("1").text == "one" and len(found.to_trec().splitlines()) == 4


SETS = [{"doc_ids": {"h", "f"}}, {"doc_ids": frozenset({"h", "f"})}, {"metadata": frozenset({("a", 1), ("b", 2)})}]


@pytest.mark.parametrize("call", SETS, ids=["set", "frozenset", "metadata"])
def test_ids_in_no_order_are_refused(call):
    "Which id belongs to which document would be chance"
    name = next(iter(call))
    for rank, queries in ((BM25.rank, "Hamlet"), (BM25.rank_many, ["Hamlet", "Faust"])):
        with pytest.raises(InputError, match=f"{name} is a set"): rank(queries, ["Hamlet", "Faust"], **call)
    with pytest.raises(InputError, match=f"{name} is a set"): BM25.rank_many(["Hamlet"], [["Hamlet", "Faust"]], **{name: [call[name]]})


@pytest.mark.parametrize("labels", [{"doc_ids": ["h", "f"]}, {"metadata": [{}, {}]}], ids=str)
def test_documents_in_no_order_take_no_labels(labels):
    for rank, queries in ((BM25.rank, "Hamlet"), (BM25.rank_many, ["Hamlet"])):
        with pytest.raises(InputError, match="docs is a set"): rank(queries, {"Hamlet", "Faust"}, **labels)
        assert len(rank(queries, {"Hamlet", "Faust"})) in (1, 2)


def test_ordered_things_that_look_like_sets_are_taken():
    assert [d.doc_id for d in to_documents(["a", "b"], doc_ids={"x": 0, "y": 0}.keys())] == ["x", "y"]
    assert to_documents(["a"], doc_ids=b"x")[0].doc_id == b"x"


# ---- the fields that count

BOOKS = [{"sku": 1, "name": "Hamlet", "by": "Shakespeare", "tags": ["tragedy", "ghost"], "year": 1603},
         {"sku": 2, "name": "Faust", "by": "Goethe", "tags": None, "year": 1808}]
Book = collections.namedtuple("Book", BOOKS[0])
SHAPES = {
    "dictionaries": lambda rows: rows, "hits": lambda rows: [{"_id": n, "_source": row} for n, row in enumerate(rows)], "data frame": pandas_frame,
    "polars": polars_frame, "Arrow": arrow_table, "points": lambda rows: [qdrant(row) for row in rows],
    "named tuples": lambda rows: [Book(**row) for row in rows],
    "DSPy": lambda rows: [pytest.importorskip("dspy").Example(**row) for row in rows],
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_chosen_fields_are_the_text(make):
    "In the order in which they are named; the record stays whole"
    docs = to_documents(make(BOOKS), rank_fields=["by", "name", "tags"])
    assert [d.text for d in docs] == ["Shakespeare Hamlet tragedy, ghost", "Goethe Faust"] and [d.title for d in docs] == [None, None]
    for doc, book in zip(docs, BOOKS, strict=True): assert {k: v for k, v in book.items() if v is not None}.items() <= doc.metadata.items()


def test_every_entry_takes_rank_fields():
    import asyncio
    call = {"docs": BOOKS, "doc_ids": ["h", "f"], "rank_fields": ("name", "by")}
    found = BM25.rank("goethe", **call)
    assert [r.doc_id for r in found] == ["f", "h"] and found[0].text == "Faust Goethe"
    assert asyncio.run(BM25.rank_async("goethe", **call)) == found and BM25.rank_many(["goethe"], **call) == [found]
    assert asyncio.run(BM25.rank_many_async(["goethe"], **call)) == [found]
    assert BM25.rank_many(["goethe"], [BOOKS], rank_fields="by")[0][0].text == "Goethe"
    assert "goethe" not in str(BM25.rank("goethe", BOOKS, rank_fields="name")[0].text).lower()


def test_titles_and_metadata_are_fields_too():
    docs = [Document(HAMLET, title="Hamlet", metadata=YEAR), langchain(), HAMLET, ("h", HAMLET)]
    made = to_documents(docs, metadata=[{"lang": "en"}] * 4, rank_fields=["title", "lang", "text"])
    assert [d.text for d in made] == [f"Hamlet en {HAMLET}"] + [f"en {HAMLET}"] * 3
    assert docs[0] == Document(HAMLET, title="Hamlet", metadata=YEAR)      # nothing of the caller's is changed
    assert to_documents(docs, rank_fields=["text"])[0].content == HAMLET and to_documents([langchain()], rank_fields="page_content")[0].text == HAMLET


@pytest.mark.parametrize(("wanted", "said"), [
    (["name", "autor"], "no document has a field 'autor'"), (["nam"], "document 0: .*'name'"), (["tags"], "document 1: it has none"),
])
def test_fields_that_are_not_there(wanted, said):
    with pytest.raises(InputError, match=said): to_documents(BOOKS, rank_fields=wanted)


# ---- the table

def test_no_framework_is_imported():
    "Reading look-alikes of every kind loads none of the packages that they come from"
    code = """if True:
        import sys
        from types import SimpleNamespace as Thing
        from rerankers.documents import to_documents
        to_documents([Thing(page_content="a", metadata={}), Thing(content="a", meta={}), {"_source": {"text": "a"}}, (Thing(text="a"), 1)])
        print(" ".join(name for name in sys.modules if "." not in name))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})
    assert done.returncode == 0, done.stderr
    assert not {"langchain_core", "haystack", "dspy", "qdrant_client", "pyarrow", "polars", "pandas", "numpy", "llama_index"} & set(done.stdout.split())


def test_the_error_for_what_is_no_document_names_what_is_accepted():
    with pytest.raises(InputError, match=re.escape("pass a string, a dictionary with 'text', or rerankers.Document")) as said: to_document(object())
    assert all(row.name in str(said.value) for row in CONVERTERS)


def test_vectors_in_a_record_are_no_matter():
    "Whether an array is missing cannot be asked in one word"
    np, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    for vector in (np.zeros(3), torch.zeros(3), torch.tensor([0.5]), [0.5, 1.0]):
        doc, = to_documents([{"id": 1, "text": HAMLET, "vector": vector}], rank_fields=["text"])
        assert doc.text == HAMLET and doc.metadata["vector"] is vector


def test_a_frame_that_is_no_frame_of_pandas_is_no_foreign_error():
    class Lazy:
        "As dask's: it has rows, and no way to give them as dictionaries"
        columns, iterrows = ["text"], None
    with pytest.raises(InputError, match="Lazy is no kind of document"): to_documents(Lazy())


def test_kinds_are_rows_with_names(): assert len({row.name for row in CONVERTERS}) == len(CONVERTERS) >= 12


@pytest.mark.parametrize("many", [BM25.rank_many, lambda *a: asyncio.run(BM25.rank_many_async(*a))], ids=["rank_many", "rank_many_async"])
@pytest.mark.parametrize("queries, docs", [({"cat", "dog"}, [["cat"], ["dog"]]), (frozenset({"cat", "dog"}), ["cat"]),
({"cat": 1, "dog": 2}, [["cat"], ["dog"]]),
                                           (["cat", "dog"], {frozenset({"cat"}), frozenset({"dog"})}), (["cat"], frozenset({frozenset({"cat", "dog"})}))])
def test_what_has_no_order_is_not_paired_by_chance(many, queries, docs):
    "A dictionary has one, but its keys are no list of questions"
    with pytest.raises(InputError, match="pass a list of queries|docs is a set of lists"): many(queries, docs)


def test_a_set_of_documents_for_all_queries_is_ranked():
    assert [[r.text for r in results] for results in BM25.rank_many(["cat", "dog"], {"cat", "dog"})] == [["cat", "dog"], ["dog", "cat"]]


# ---- values of columns

def test_values_of_arrow_are_what_they_hold():
    pa = pytest.importorskip("pyarrow")
    queries, ids = pa.array(["who wrote hamlet", "who wrote faust"]), list(pa.array([7, 8]))
    found = Reranker("bm25").rank_many(queries, ["Goethe wrote Faust", "Shakespeare wrote Hamlet"], doc_ids=ids)
    assert [r.query for r in found] == ["who wrote hamlet", "who wrote faust"] and [type(r.doc_id) for r in found[0]] == [int, int]
    assert found[0].get_result_by_docid(8).rank == 1


def test_an_id_without_a_hash_is_named():
    from decimal import Decimal
    with pytest.raises(InputError, match="the id of document 0"): Reranker("bm25").rank("q", ["a", "b"], doc_ids=[Decimal("sNaN"), "x"])
