"LlamaIndex's side: the same nodes come back in new hits, listeners hear of it, and settings are saved"
import asyncio
import base64
import copy
import pickle

import pytest

pytest.importorskip("llama_index.core")
from llama_index.core import QueryBundle, Settings, SummaryIndex  # noqa: E402
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler  # noqa: E402
from llama_index.core.instrumentation import get_dispatcher  # noqa: E402
from llama_index.core.instrumentation.event_handlers import BaseEventHandler  # noqa: E402
from llama_index.core.llms import MockLLM  # noqa: E402
from llama_index.core.postprocessor import SimilarityPostprocessor  # noqa: E402
from llama_index.core.schema import Document, ImageDocument, ImageNode, MediaResource, MetadataMode, Node, NodeWithScore, TextNode  # noqa: E402
from watched import Adds, Async, Backwards, Sees  # noqa: E402

from rerankers import InputError, Reranker  # noqa: E402
from rerankers.integrations.llama_index import RerankersPostprocessor, picture  # noqa: E402

QUERY = "who wrote Hamlet?"
GIVEN = [NodeWithScore(node=TextNode(id_="f", text="Goethe wrote Faust.", metadata={"deep": {"a": [1]}}), score=0.9),
         NodeWithScore(node=TextNode(id_="h", text="Shakespeare wrote Hamlet.", metadata={"year": 1603, "file": "h.txt"},
                                     excluded_embed_metadata_keys=["file"])),
         NodeWithScore(node=Document(id_="e", text=""), score=0.0), NodeWithScore(node=TextNode(id_="twice", text="Shakespeare wrote Hamlet."), score=-1.0)]
BM25 = Reranker("bm25")


def both(postprocessor, nodes, query=QUERY):
    "Both kinds of call, which must agree"
    found = postprocessor.postprocess_nodes(nodes, query_str=query)
    assert asyncio.run(postprocessor.apostprocess_nodes(nodes, QueryBundle(query))) == found
    return found


def ids(hits): return [hit.node.node_id for hit in hits]


@pytest.mark.parametrize("n", [1, 2, 9, None])
def test_nodes_come_back_whole(n):
    before = copy.deepcopy(GIVEN)
    found = both(RerankersPostprocessor(model=BM25, top_n=n), GIVEN)
    scores = BM25.rank(QUERY, [hit.node.get_content(metadata_mode=MetadataMode.EMBED) for hit in GIVEN])
    assert ids(found) == ["twice", "h", "f", "e"][:n] and [hit.score for hit in found] == [r.score for r in scores][:n]
    assert all(any(hit.node is g.node and hit is not g for g in GIVEN) for hit in found) and GIVEN == before


def test_a_score_of_zero_is_a_score():
    "It stands above negative ones, which a sort by `-score if score else 0` would not do"
    class Centred(Backwards):
        def answer(self, tasks, call): return [type(r)([1.0 - i for i in range(4)]) for r in super().answer(tasks, call)]
    assert [hit.score for hit in both(RerankersPostprocessor(model=Centred()), GIVEN)] == [1.0, 0.0, -1.0, -2.0]


def test_the_ranker_is_shown_what_would_be_embedded():
    assert both(RerankersPostprocessor(model=BM25), GIVEN, "1603")[0].score > 0 == both(RerankersPostprocessor(model=BM25), GIVEN, "txt")[0].score


def test_an_order_alone_has_no_score():
    assert [(hit.node.node_id, hit.score) for hit in both(RerankersPostprocessor(model=Backwards(), top_n=2), GIVEN)] == [("twice", None), ("e", None)]


def test_without_a_query_or_nodes():
    postprocessor = RerankersPostprocessor(model=BM25)
    assert both(postprocessor, []) == []
    for nodes in (GIVEN, []):
        with pytest.raises(InputError, match="no query"): postprocessor.postprocess_nodes(nodes)
        with pytest.raises(InputError, match="no query"): asyncio.run(postprocessor.apostprocess_nodes(nodes))
    with pytest.raises(InputError, match="the query is empty"): both(postprocessor, GIVEN, "")
    with pytest.raises(InputError, match="by the ids"): both(RerankersPostprocessor(model=Adds()), GIVEN)


@pytest.mark.parametrize("bad", [{"model": 17}, {"model": "bm25", "top_n": 0}, {}], ids=str)
def test_its_own_validation(bad):
    with pytest.raises(ValueError, match="model|top_n"): RerankersPostprocessor(**bad)


@pytest.mark.parametrize("model", ["bm25", BM25, "bm25:2 > bm25(b=0.5)", {"name": "bm25", "options": {"b": 0.5}},
                                   Reranker("fallback(bm25, bm25(b=0.5))").spec], ids=str)
def test_settings_are_saved(model):
    made = RerankersPostprocessor(model=model, top_n=2, rank_options={"batch_size": 1})
    for again in (RerankersPostprocessor.from_dict(made.to_dict()), RerankersPostprocessor.from_json(made.to_json()), pickle.loads(pickle.dumps(made))):
        assert again.to_dict() == made.to_dict() and both(again, GIVEN) == both(made, GIVEN)
    assert made.to_dict()["class_name"] == "RerankersPostprocessor"


def test_keys_are_never_saved():
    made = RerankersPostprocessor(model=Reranker("cohere", api_key="very-secret"))
    assert "very-secret" not in made.to_json() + repr(made) and made.to_dict()["model"] == "cohere"


@pytest.fixture
def heard():
    "Class names and events that LlamaIndex's dispatcher hands to a listener"
    said = []

    class Listener(BaseEventHandler):
        def handle(self, event, **more): said.append(event) if "ReRank" in event.class_name() else None
    dispatcher, listener = get_dispatcher("rerankers.integrations.llama_index"), Listener()
    dispatcher.add_event_handler(listener)
    yield said
    dispatcher.event_handlers.remove(listener)


@pytest.mark.parametrize(("model", "name"), [
    (BM25, "bm25"), (Reranker("bm25:2 > bm25(b=0.5)"), "cascade(bm25, bm25(b=0.5), depths=[2])"), (Backwards(object()), "Backwards")])
def test_listeners_hear_of_it(heard, model, name):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    postprocessor = RerankersPostprocessor(model=model, top_n=None, callback_manager=CallbackManager([debug]))
    now, later = postprocessor.postprocess_nodes, postprocessor.apostprocess_nodes
    for call in (lambda: now(GIVEN, query_str=QUERY), lambda: asyncio.run(later(GIVEN, query_str=QUERY))):
        found = call()
        start, end = heard
        assert (start.class_name(), start.query, start.nodes, start.top_n, start.model_name) == ("ReRankStartEvent", QUERY, GIVEN, 4, name)
        assert (end.class_name(), end.nodes) == ("ReRankEndEvent", found)
        (before, after), = debug.get_event_pairs(CBEventType.RERANKING)
        assert before.payload == {EventPayload.NODES: GIVEN, EventPayload.MODEL_NAME: name, EventPayload.QUERY_STR: QUERY, EventPayload.TOP_K: 4}
        assert after.payload == {EventPayload.NODES: found}
        heard.clear()
        debug.flush_event_logs()


def test_async_does_not_go_through_the_other():
    "The ranker's own async side is awaited, so a hosted one holds no thread"
    ranker = Async()
    assert ids(asyncio.run(RerankersPostprocessor(model=ranker, top_n=1).apostprocess_nodes(GIVEN, query_str=QUERY))) == ["f"] and ranker.called == [1]


BYTES = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 40).decode()
PICTURED = {"bytes": ImageNode(image=BYTES), "a file": ImageNode(image_path="page.png"), "an address": ImageNode(image_url="https://example.invalid/page.png"),
            "with a text": ImageNode(text="a page", image=BYTES), "a document with bytes": ImageDocument(image=BYTES),
            "a resource": Node(image_resource=MediaResource(url="https://example.invalid/page.png")),
            "a resource's file": Node(image_resource=MediaResource(path="page.png"))}


@pytest.mark.parametrize("node", PICTURED.values(), ids=PICTURED)
def test_a_picture_is_shown_to_a_method_that_sees(node):
    hits = [GIVEN[1], NodeWithScore(node=node, score=0.1)]
    found = both(RerankersPostprocessor(model=Sees()), hits)     # scores are numbers of pictures
    assert found[0].node is node and [hit.score for hit in found] == [1.0, 0.0] and picture(GIVEN[0].node) == {}
    if not node.get_content():
        with pytest.raises(InputError, match="document 1"): both(RerankersPostprocessor(model=BM25), hits)


def test_in_a_query_engine_beside_other_postprocessors():
    previous, Settings.llm = Settings._llm, MockLLM()
    try:
        engine = SummaryIndex([hit.node for hit in GIVEN]).as_query_engine(
            response_mode="no_text", node_postprocessors=[RerankersPostprocessor(model=BM25), SimilarityPostprocessor(similarity_cutoff=0.1)])
        assert ids(engine.query(QUERY).source_nodes) == ids(asyncio.run(engine.aquery(QUERY)).source_nodes) == ["twice", "h", "f"]
    finally: Settings._llm = previous
