"PyTerrier's side: frames of several queries, its validation, inspection and experiments, all without Java"
import pytest

pytest.importorskip("pyterrier")
import pandas as pd  # noqa: E402
import pyterrier as pt  # noqa: E402
from watched import Adds, Backwards  # noqa: E402

from rerankers import BaseRanker, InputError, Reranker  # noqa: E402
from rerankers.integrations.pyterrier import RerankersTransformer  # noqa: E402
from rerankers.rankers import Ranking  # noqa: E402

HAMLET, FAUST, PLAY = "Shakespeare wrote Hamlet.", "Goethe wrote Faust.", "The play is on at nine."
ROWS = [("q2", "when is the play?", "h", HAMLET, 4.0), ("q1", "who wrote Hamlet?", "f", FAUST, 3.0), ("q2", "when is the play?", "p", PLAY, 2.0),
        ("q1", "who wrote Hamlet?", "h", HAMLET, 1.0), ("q1", "who wrote Hamlet?", "twice", HAMLET, 0.5)]
FRAME = pd.DataFrame(ROWS, columns=["qid", "query", "docno", "text", "score"]).assign(url=[f"u{i}" for i in range(5)], rank=0)
BM25 = Reranker("bm25")


def first_stage(): return pt.Transformer.from_df(pt.model.add_ranks(FRAME.drop(columns="query")))
TOPICS = FRAME[["qid", "query"]].drop_duplicates()


@pytest.mark.parametrize("index", [range(5), [7, 7, 7, 1, 0], list("abcde")], ids=str)
def test_rows_come_back_whole(index):
    given = FRAME.set_index(pd.Index(index))
    before = given.copy(deep=True)
    found = RerankersTransformer(BM25)(given)
    assert found[["qid", "docno", "rank"]].values.tolist() == [["q2", "p", 0], ["q2", "h", 1], ["q1", "h", 0], ["q1", "twice", 1], ["q1", "f", 2]]
    pd.testing.assert_frame_equal(given, before)
    for qid, rows in FRAME.groupby("qid"):
        by_hand = BM25.rank(rows["query"].iloc[0], rows["text"].tolist(), doc_ids=rows["docno"].tolist())
        assert found[found["qid"] == qid]["score"].tolist() == [r.score for r in by_hand]
    kept = ["qid", "query", "docno", "text", "url"]
    assert sorted(map(tuple, found[kept].values)) == sorted(map(tuple, FRAME[kept].values)) and list(found.columns) == [*kept[:4], "score", "url", "rank"]


def test_all_queries_are_ranked_together():
    asked = []

    class Counts(BaseRanker):
        def answer(self, tasks, call):
            asked.append([(t.query, len(t.documents)) for t in tasks])
            return [Ranking([0.0] * len(t.documents)) for t in tasks]
    RerankersTransformer(Counts())(FRAME)
    assert asked == [[("when is the play?", 2), ("who wrote Hamlet?", 3)]]


@pytest.mark.parametrize("model", [Backwards(), "bm25:1 > bm25(b=0.5)"], ids=str)
def test_an_order_is_kept_by_ranks(model):
    "Where scores are none, or those of two stages, which do not fall"
    found = RerankersTransformer(model)(FRAME)
    assert found["score"].tolist() == [-1, -2, -1, -2, -3] and found["rank"].tolist() == [0, 1, 0, 1, 2]


def test_equal_scores_keep_the_order_of_the_ranking():
    class Level(BaseRanker):
        def answer(self, tasks, call): return [Ranking([1.0] * len(t.documents)) for t in tasks]
    found = RerankersTransformer(Level())(FRAME)
    assert found[["docno", "rank"]].values.tolist() == [["h", 0], ["p", 1], ["f", 0], ["h", 1], ["twice", 2]]


def test_empty_frames_pass():
    for given in (FRAME.iloc[:0], pd.DataFrame(columns=["qid", "query", "docno", "text"])):
        found = RerankersTransformer(BM25)(given)
        assert len(found) == 0 and set(found.columns) == {*given.columns, "score", "rank"} and found["score"].dtype == float


@pytest.mark.parametrize("missing", ["qid", "query", "docno", "text"])
def test_its_own_validation(missing):
    with pytest.raises(pt.validate.InputValidationError, match=missing): RerankersTransformer(BM25)(FRAME.drop(columns=missing))


def test_errors_are_ours():
    with pytest.raises(InputError, match="no text"): RerankersTransformer(BM25)(FRAME.assign(text=[None, *["x"] * 4]))
    with pytest.raises(InputError, match="no ranker"): RerankersTransformer(17)
    with pytest.raises(InputError, match="by the ids"): RerankersTransformer(Adds())(FRAME)
    with pytest.raises(InputError, match="batch_size"): RerankersTransformer(BM25, rank_options={"batch_size": 0})(FRAME)


def test_pipelines_and_inspection():
    ranker = RerankersTransformer(Reranker("bm25"), "body")
    pipeline = first_stage() % 2 >> pt.apply.generic(lambda frame: frame.rename(columns={"text": "body"})) >> ranker % 1
    assert pipeline(TOPICS)[["qid", "docno"]].values.tolist() == [["q2", "p"], ["q1", "h"]]
    assert pt.inspect.transformer_inputs(ranker) == [["qid", "docno", "query", "body"]]
    assert pt.inspect.transformer_outputs(ranker, ["qid", "query", "docno", "body"]) == ["qid", "query", "docno", "body", "score", "rank"]
    assert {a.name for a in pt.inspect.transformer_attributes(ranker)} == {"model", "text_field", "rank_options"} and "bm25" in repr(ranker).lower()
    assert list(ranker.transform_iter(FRAME.rename(columns={"text": "body"}).to_dict("records")))[0]["docno"] == "p"


def test_experiments():
    qrels = pd.DataFrame([("q1", "h", 1), ("q2", "p", 1)], columns=["qid", "docno", "label"])
    found = pt.Experiment([first_stage(), first_stage() % 2 >> RerankersTransformer(BM25)], TOPICS, qrels, ["recip_rank"], names=["first", "ours"], baseline=0)
    assert found["recip_rank"].tolist() == [0.5, 1.0] and "recip_rank p-value" in found
    assert not pt.java.started()
