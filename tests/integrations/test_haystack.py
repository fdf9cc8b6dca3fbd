"Haystack's side: documents come back whole, in both kinds of run, and a saved pipeline loads as it was"
import asyncio
import copy
import importlib
import os

import pytest

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
pytest.importorskip("haystack")
from haystack import Document as HaystackDocument  # noqa: E402
from haystack import Pipeline, component  # noqa: E402
from haystack.core.errors import DeserializationError, PipelineRuntimeError  # noqa: E402
from haystack.dataclasses import ByteStream  # noqa: E402
from watched import Adds, Async, Backwards, Sees  # noqa: E402

from rerankers import BaseRanker, InputError, Reranker  # noqa: E402
from rerankers.integrations.haystack import HOME, RerankersRanker  # noqa: E402

QUERY = "who wrote Hamlet?"
GIVEN = [HaystackDocument(id="f", content="Goethe wrote Faust.", meta={"id": "not its id", "score": 1, "deep": {"a": [1]}}, score=0.5, embedding=[0.1]),
         HaystackDocument(id="h", content="Shakespeare wrote Hamlet.", meta={"year": 1603}, blob=ByteStream(b"%PDF", mime_type="application/pdf")),
         HaystackDocument(id="e", content=""), HaystackDocument(id="twice", content="Shakespeare wrote Hamlet.")]
BM25 = Reranker("bm25")


def both(ranker, documents, query=QUERY, **options):
    "Both kinds of run, which must agree"
    found = ranker.run(query, documents, **options)["documents"]
    assert asyncio.run(ranker.run_async(query, documents, **options))["documents"] == found
    return found


@pytest.mark.parametrize("k", [1, 2, 9, None])
def test_documents_come_back_whole(k):
    before = copy.deepcopy(GIVEN)
    found = both(RerankersRanker(BM25, top_k=k), GIVEN)
    scores = BM25.rank(QUERY, [d.content for d in GIVEN])
    assert [d.id for d in found] == ["h", "twice", "f", "e"][:k] and [d.score for d in found] == [r.score for r in scores][:k]
    for doc in found:
        mine = next(g for g in GIVEN if g.id == doc.id)
        assert doc is not mine and copy.copy(doc).to_dict() | {"score": 0} == mine.to_dict() | {"score": 0}
    assert GIVEN == before


def test_a_run_may_say_how_many():
    ranker = RerankersRanker("bm25")
    assert ranker.top_k == 10 and len(both(ranker, GIVEN)) == 4 and len(both(ranker, GIVEN, top_k=2)) == 2 and both(ranker, []) == []
    for bad in (0, -1, "two"):
        with pytest.raises(InputError, match="top_k="): RerankersRanker("bm25", top_k=bad)
        with pytest.raises(InputError, match="top_k="): both(ranker, GIVEN, top_k=bad)


def test_of_one_id_the_highest_score_stays():
    "As in Haystack's own rankers: two retrievers may have found it"
    again = [HaystackDocument(id="f", content="Goethe wrote Faust.", meta={"from": score}, score=score) for score in (None, 0.2, 0.9, 0.9, 0.1)]
    assert [(d.id, d.meta) for d in both(RerankersRanker(BM25), [*again, GIVEN[1]])] == [("h", {"year": 1603}), ("f", {"from": 0.9})]


def test_an_order_alone_has_no_score():
    assert [(d.id, d.score) for d in both(RerankersRanker(Backwards()), GIVEN)] == [("twice", None), ("e", None), ("h", None), ("f", None)]


def test_the_model_is_loaded_when_it_is_needed_and_once():
    with pytest.raises(InputError, match="no ranker"): RerankersRanker(17).warm_up()
    ranker = RerankersRanker("bm25")
    assert ranker.ranker is None
    ranker.warm_up()
    loaded = ranker.ranker
    ranker.warm_up()
    assert isinstance(loaded, BaseRanker) and ranker.ranker is loaded and both(ranker, GIVEN)[0].id == "h" and ranker.ranker is loaded
    ranker.close()
    assert ranker.ranker is None and both(ranker, GIVEN)[0].id == "h"


PIPELINES = {"a word": ("bm25", "bm25"), "a ranker": (BM25, "bm25"),
             "a cascade": (Reranker("bm25:2 > bm25(b=0.5)"), None), "a line": ("bm25(k1=1.0)", "bm25(k1=1.0)"),
             "a spec": (BM25.spec, "bm25"), "a fallback": (Reranker("fallback(bm25(b=0.5), bm25)"), None),
             "a dictionary": ({"name": "bm25", "options": {"b": 0.5}}, "bm25(b=0.5)")}


@pytest.mark.parametrize(("model", "written"), PIPELINES.values(), ids=PIPELINES)
def test_a_saved_pipeline_loads_without_an_allow_list(model, written):
    pipeline = Pipeline()
    pipeline.add_component("ranker", RerankersRanker(model, top_k=2, rank_options={"rank_fields": ["content"]}))
    saved = pipeline.dumps()
    again = Pipeline.loads(saved)
    asked = {"ranker": {"query": QUERY, "documents": GIVEN}}
    assert again.dumps() == saved and f"type: {HOME}" in saved and (written is None or f"model: {written}\n" in saved)
    assert again.run(asked) == pipeline.run(asked) == asyncio.run(again.run_async(asked))


def test_its_module_under_haystacks_own_name():
    home, _, name = HOME.rpartition(".")
    assert getattr(importlib.import_module(home), name) is component.registry[HOME] is RerankersRanker


def test_a_class_of_ones_own_keeps_its_name():
    @component
    class Mine(RerankersRanker): "Somebody's"
    saved = Mine("bm25").to_dict()
    assert saved["type"].endswith("Mine") and isinstance(Mine.from_dict(saved), Mine)
    with pytest.raises(DeserializationError): RerankersRanker.from_dict(saved)


def test_keys_are_never_saved():
    saved = RerankersRanker(Reranker("cohere", api_key="very-secret")).to_dict()
    assert "secret" not in str(saved) and saved["init_parameters"]["model"] == "cohere"


def test_what_cannot_be_written_down_is_not_saved():
    with pytest.raises(InputError, match="written"): RerankersRanker(Backwards(object())).to_dict()


def test_options_of_rank_go_along():
    ranker = RerankersRanker(BM25, rank_options={"rank_fields": ["year", "content"]})
    assert both(ranker, GIVEN, "1603")[0].id == "h" and both(ranker, GIVEN, "1603")[0].score > 0
    with pytest.raises(InputError, match="batch_size"): both(RerankersRanker(BM25, rank_options={"batch_size": 0}), GIVEN)


def test_a_picture_is_shown_to_a_method_that_sees():
    picture = HaystackDocument(id="p", blob=ByteStream(b"\x89PNG\r\n\x1a\n0", mime_type="image/png"))
    found = both(RerankersRanker(Sees()), [GIVEN[1], picture])      # scores are numbers of pictures
    assert [(d.id, d.score, d.blob) for d in found] == [("p", 1.0, picture.blob), ("h", 0.0, GIVEN[1].blob)]
    with pytest.raises(InputError, match="document 1"): both(RerankersRanker(BM25), [GIVEN[1], picture])


def test_async_does_not_go_through_the_other():
    "The ranker's own async side is awaited, so a hosted one holds no thread"
    ranker = Async()
    assert asyncio.run(RerankersRanker(ranker).run_async(QUERY, GIVEN))["documents"][0].id == "f" and ranker.called == [1]


def test_errors_come_through_the_pipeline():
    pipeline = Pipeline()
    pipeline.add_component("ranker", RerankersRanker("bm25"))
    with pytest.raises(PipelineRuntimeError, match="the query is empty"): pipeline.run({"ranker": {"query": " ", "documents": GIVEN}})
    with pytest.raises(InputError, match="by the ids"): both(RerankersRanker(Adds()), GIVEN)
