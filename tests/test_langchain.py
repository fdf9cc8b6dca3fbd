"LangChain's side: ids, metadata and classes of its documents come back, in both kinds of call, and nothing of the caller's changes"
import asyncio
import copy
import inspect

import pytest

pytest.importorskip("langchain_core")
from langchain_core.documents import BaseDocumentCompressor  # noqa: E402
from langchain_core.documents import Document as LangChainDocument  # noqa: E402
from langchain_core.retrievers import BaseRetriever  # noqa: E402
from langchain_core.runnables import RunnableLambda, RunnablePassthrough  # noqa: E402

from rerankers import BaseRanker, InputError, Reranker  # noqa: E402
from rerankers.integrations.langchain import RerankerLangChainCompressor  # noqa: E402
from rerankers.rankers import Ranking  # noqa: E402


class Chunk(LangChainDocument):
    "Somebody's own kind of document"
    page: int = 0


QUERY = "who wrote Hamlet?"
GIVEN = [LangChainDocument(page_content="Goethe wrote Faust.", id="f", metadata={"id": "not its id", "relevance_score": "of before", "deep": {"a": [1]}}),
         Chunk(page_content="Shakespeare wrote Hamlet.", id="h", metadata={"year": 1603}, page=7),
         LangChainDocument(page_content="", metadata={}), LangChainDocument(page_content="Shakespeare wrote Hamlet.", id="twice")]
BM25 = Reranker("bm25")


class Shelf(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager): return GIVEN
    async def _aget_relevant_documents(self, query, *, run_manager): return GIVEN


class Backwards(BaseRanker):
    "An order and no scores"
    def answer(self, tasks, call): return [Ranking(order=list(range(len(t.documents)))[::-1]) for t in tasks]


def both(compressor, documents, query, **options):
    "Both kinds of call, which must agree"
    found = compressor.compress_documents(documents, query, **options)
    assert asyncio.run(compressor.acompress_documents(documents, query, **options)) == found
    return found


@pytest.mark.parametrize("k", [1, 2, 9])
def test_documents_come_back_whole(k):
    before = copy.deepcopy(GIVEN)
    found = both(BM25.as_langchain_compressor(k=k), GIVEN, QUERY)
    scores = BM25.rank(QUERY, [d.page_content for d in GIVEN])
    assert [d.id for d in found] == ["h", "twice", "f", None][:k] and [d.metadata["relevance_score"] for d in found] == [r.score for r in scores][:k]
    for doc in found:
        mine = next(g for g in GIVEN if (g.id, g.page_content) == (doc.id, doc.page_content))
        assert type(doc) is type(mine) and doc is not mine and {**doc.metadata, "relevance_score": 0} == {**mine.metadata, "relevance_score": 0}
    assert GIVEN == before and found[0].page == 7


def test_a_call_may_say_how_many():
    compressor = BM25.as_langchain_compressor()
    assert compressor.k == 10 and len(both(compressor, GIVEN, QUERY)) == 4 and len(both(compressor, GIVEN, QUERY, k=2)) == 2
    assert len(both(BM25.as_langchain_compressor(k=None), GIVEN, QUERY)) == len(both(compressor, GIVEN * 5, QUERY, k=None)) / 5 == 4
    with pytest.raises(InputError, match="k=0"): both(compressor, GIVEN, QUERY, k=0)


def test_no_documents_give_none(): assert both(BM25.as_langchain_compressor(), [], QUERY) == []


def test_tuples_and_other_sequences_are_taken(): assert [d.id for d in both(BM25.as_langchain_compressor(k=1), tuple(GIVEN), QUERY)] == ["h"]


def test_an_order_alone_has_no_score():
    found = both(Backwards().as_langchain_compressor(k=2), GIVEN, QUERY)
    assert [(d.id, d.metadata["relevance_score"]) for d in found] == [("twice", None), (None, None)]


def test_errors_are_ours():
    for k in (0, -1, "two"):
        with pytest.raises(InputError, match="k="): BM25.as_langchain_compressor(k=k)
    with pytest.raises(InputError, match="the query is empty"): both(BM25.as_langchain_compressor(), GIVEN, "")


def test_options_of_rank_go_along():
    compressor = RerankerLangChainCompressor(model=BM25, k=1, kwargs={"top_k": 1, "batch_size": 2})
    assert [d.id for d in both(compressor, GIVEN, QUERY)] == ["h"]
    with pytest.raises(InputError, match="batch_size"): both(RerankerLangChainCompressor(model=BM25, kwargs={"batch_size": 0}), GIVEN, QUERY)


def test_it_is_what_langchain_looks_for():
    "Its pipelines read whether `callbacks` is among the parameters"
    compressor = BM25.as_langchain_compressor(k=1)
    assert isinstance(compressor, BaseDocumentCompressor)
    for method in (compressor.compress_documents, compressor.acompress_documents):
        assert list(inspect.signature(method).parameters)[:3] == ["documents", "query", "callbacks"]
    assert both(compressor, GIVEN, QUERY, callbacks=None)[0].id == "h"


def test_behind_the_classic_retriever_and_in_a_pipeline():
    classic = pytest.importorskip("langchain_classic.retrievers")
    from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
    pipeline = DocumentCompressorPipeline(transformers=[BM25.as_langchain_compressor(k=3), Backwards().as_langchain_compressor(k=1)])
    for compressor, expected in ((BM25.as_langchain_compressor(k=2), ["h", "twice"]), (pipeline, ["f"])):
        retriever = classic.ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Shelf())
        assert [d.id for d in retriever.invoke(QUERY)] == [d.id for d in asyncio.run(retriever.ainvoke(QUERY))] == expected


CHAINS = {
    "as_runnable": lambda compressor: {"query": RunnablePassthrough(), "documents": Shelf()} | compressor.as_runnable(),
    "a function of one's own": lambda compressor: {"query": RunnablePassthrough(), "documents": Shelf()} | RunnableLambda(
        lambda given: compressor.compress_documents(given["documents"], given["query"])),
    "its two methods": lambda compressor: {"query": RunnablePassthrough(), "documents": Shelf()} | RunnableLambda(
        lambda given: compressor.compress_documents(**given), lambda given: compressor.acompress_documents(**given)),
}


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_in_a_chain(make):
    chain = make(BM25.as_langchain_compressor(k=2))
    assert [d.id for d in chain.invoke(QUERY)] == [d.id for d in asyncio.run(chain.ainvoke(QUERY))] == ["h", "twice"]
    assert [[d.id for d in found] for found in chain.batch([QUERY, "Faust"])] == [["h", "twice"], ["f", "h"]]


@pytest.mark.parametrize("given", ["a query", {"query": "q"}, {"documents": []}, None, [1]], ids=str)
def test_a_step_says_what_it_takes(given):
    step = BM25.as_langchain_compressor().as_runnable()
    with pytest.raises(InputError, match="'query' and 'documents'"): step.invoke(given)
    with pytest.raises(InputError, match="'query' and 'documents'"): asyncio.run(step.ainvoke(given))


def test_async_does_not_go_through_the_other():
    "The ranker's own async side is awaited, so a hosted one holds no thread"
    called = []

    class Both(BaseRanker):
        def answer(self, tasks, call): raise AssertionError("the blocking side")
        async def answer_async(self, tasks, call):
            called.append(len(tasks))
            return [Ranking(order=list(range(len(t.documents)))) for t in tasks]

    compressor = Both().as_langchain_compressor(k=1)
    assert asyncio.run(compressor.acompress_documents(GIVEN, QUERY))[0].id == "f" and called == [1]
    assert asyncio.run(compressor.as_runnable().ainvoke({"query": QUERY, "documents": GIVEN}))[0].id == "f" and called == [1, 1]


def test_documents_may_come_one_by_one_and_strings_are_refused():
    compressor = Reranker("bm25").as_langchain_compressor(k=1)
    assert compressor.compress_documents((LangChainDocument(page_content=text) for text in ("Faust", "Hamlet")), "Hamlet")[0].page_content == "Hamlet"
    with pytest.raises(InputError, match="page_content"): compressor.compress_documents(["Hamlet"], "Hamlet")
    with pytest.raises(InputError, match="page_content"): asyncio.run(compressor.acompress_documents(["Hamlet"], "Hamlet"))


@pytest.mark.parametrize("model", ["bm25", "bm25:2 > bm25(b=0.5)", BM25.spec, {"name": "bm25", "options": {"b": 0.5}}, BM25], ids=str)
def test_what_describes_a_ranker_will_do_and_is_saved(model):
    compressor = RerankerLangChainCompressor(model=model, k=1)
    saved = compressor.model_dump_json()
    assert RerankerLangChainCompressor.model_validate_json(saved).model_dump_json() == saved
    assert [d.id for d in both(compressor, GIVEN, QUERY)] == [d.id for d in both(RerankerLangChainCompressor.model_validate_json(saved), GIVEN, QUERY)] == ["h"]


def test_its_own_validation_and_no_keys():
    with pytest.raises(ValueError, match="no ranker"): RerankerLangChainCompressor(model=17)
    assert "very-secret" not in RerankerLangChainCompressor(model=Reranker("cohere", api_key="very-secret")).model_dump_json()
