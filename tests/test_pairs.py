"What is computed from saved scores is what running the rankers would have given"
import json
import random

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankers import Cascade, Document, Fusion, InputError, MissingDependency, Reranker, ServerError
from rerankers.combine import Adaptive
from rerankers.evaluation.beir import TestSet
from rerankers.evaluation.pairs import Grid, QueryRow, ScoreTable, cascade_run, depth_run, fusion_run, score_all, threshold_run
from rerankers.rankers import PointwiseRanker, Ranking
from rerankers.results import Usage


class Points(PointwiseRanker):
    "Scores by chance, the same for the same pair; some equal, some not judged"
    def __init__(self, salt=0, levels=5, unjudged=0.0): self.salt, self.levels, self.unjudged, self.seen = salt, levels, unjudged, 0
    def score_pairs(self, pairs, call):
        self.seen += len(pairs)
        chance = [random.Random(f"{self.salt} {q} {text}") for q, text in pairs]
        scores = [None if c.random() < self.unjudged else float(c.randrange(self.levels)) for c in chance]
        return Ranking(scores, usage=Usage(calls=1), status="complete" if None not in scores else "some were not judged")


class Broken(Points):
    "Fails for one query"
    def score_pairs(self, pairs, call):
        if any(q == "query 1" for q, _ in pairs): raise ServerError("no answer")
        return super().score_pairs(pairs, call)


def a_set(sizes, seed=0):
    "Queries with so many candidates each, and grades for some of them"
    rng, docs = random.Random(seed), [f"d{i}" for i in range(40)]
    first = {f"q{i}": rng.sample(docs, size) for i, size in enumerate(sizes)}
    qrels = {q: {d: rng.randrange(3) for d in rng.sample(docs, 10)} for q in first}
    return TestSet({q: f"query {q[1:]}" for q in first}, {d: Document(f"text of {d}", d) for d in docs}, qrels), first


def ran(ranker, data, first):
    "The run of a ranker"
    found = ranker.rank_many([data.queries[q] for q in first], [[data.corpus[d] for d in ids] for ids in first.values()])
    return {q: [r.doc_id for r in results] for q, results in zip(first, found)}


SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=4)

@given(SIZES, st.integers(1, 35), st.integers(0, 5), st.sampled_from([0.0, 0.3]))
def test_another_depth_is_what_running_there_gives(sizes, depth, seed, unjudged):
    data, first = a_set(sizes, seed)
    table = score_all(Points(seed, unjudged=unjudged), data, first)
    shallow = {q: ids[:depth] for q, ids in first.items()}
    assert depth_run(table, depth) == {q: [*run, *first[q][depth:]] for q, run in ran(Points(seed, unjudged=unjudged), data, shallow).items()}


@given(SIZES, st.integers(1, 35), st.integers(0, 5))
def test_a_cascade_from_tables_is_the_cascade(sizes, depth, seed):
    data, first = a_set(sizes, seed)
    for cheap in (Points(seed), Reranker("bm25")):
        derived = cascade_run(score_all(cheap, data, first), score_all(Points(9), data, first), depth)
        assert derived == ran(Cascade((cheap, depth), Points(9)), data, first)


@given(SIZES, st.integers(0, 5), st.sampled_from([{}, {"k": 3}, {"method": "combsum", "normalise": "zscore"}, {"method": "combmnz"}, {"weights": [1, 3]}]))
def test_a_fusion_from_tables_is_the_fusion(sizes, seed, options):
    data, first = a_set(sizes, seed)
    parts = [Points(seed, 50), Reranker("bm25")]
    assert fusion_run([score_all(part, data, first) for part in parts], **options) == ran(Fusion(*parts, **options), data, first)


def test_a_fusion_needs_the_same_documents():
    data, first = a_set([4, 4])
    table = score_all(Points(), data, first)
    for other in ({**first, "q1": first["q1"][::-1]}, {"q0": first["q0"]}):
        with pytest.raises(InputError, match="did not score the same documents of query 'q1'"): fusion_run([table, score_all(Points(1), data, other)])
    with pytest.raises(InputError, match="no tables"): fusion_run([])
    with pytest.raises(InputError, match="method='rff'"): fusion_run([table], method="rff")
    assert fusion_run([table, score_all(Broken(1), data, first)]).keys() == first.keys(), "where one failed, the others decide"


def test_a_threshold_leaves_out_what_scores_less():
    data, first = a_set([12, 5])
    table = score_all(Points(unjudged=0.3), data, first)
    for least in (0.0, 2.0, 9.0):
        found = threshold_run(table, least)
        expected = {q: {d for d, s in zip(row.ids, row.scores) if s is not None and s >= least} for q, row in table.rows.items()}
        assert {q: set(ids) for q, ids in found.items()} == expected
        assert all(ids == [d for d in table.rows[q].run() if d in ids] for q, ids in found.items())
    assert threshold_run(score_all(Broken(), data, first), 0.0)["q1"] == []
    order = ScoreTable("order", False, True, "", {"q": QueryRow("q", ["a"], [0], None, [False], 0.0)})
    with pytest.raises(InputError, match="order without scores"): threshold_run(order, 0.5)


def test_the_frame_has_a_row_for_each_pair():
    data, first = a_set([4, 3])
    frame = score_all(Points(), data, first).frame()
    assert list(frame.columns) == ["query", "document", "score", "rank", "truncated", "seconds", "tokens"] and len(frame) == 7
    row = ScoreTable("t", True, True, "", {"q": QueryRow("q", ["a", "b"], [1, 0], [0.1, 0.2], [False, True], 3.0, Usage(1, 30, 10))}).frame()
    assert row["seconds"].tolist() == [1.5, 1.5] and row["tokens"].tolist() == [20, 20] and row["truncated"].tolist() == [True, False]


@given(SIZES, st.integers(0, 5), st.integers(1, 12), st.sampled_from([0.0, 0.4]))
def test_curves_are_the_measures_of_the_runs(sizes, seed, k, unjudged):
    data, first = a_set(sizes, seed)
    tables = {"a": score_all(Points(seed, unjudged=unjudged), data, first), "b": score_all(Points(7), data, first)}
    grid, depths = Grid(tables, data.qrels, k), [1, 2, 5, 10, 29, 40]
    measure = ir_measures.nDCG @ k
    def plain(run):
        scored = {q: {d: float(-i) for i, d in enumerate(ids)} for q, ids in run.items()}
        return [row.value for row in sorted(ir_measures.iter_calc([measure], data.qrels, scored), key=lambda row: int(row.query_id[1:]))]
    for depth, alone, after in zip(depths, grid.curve("a", depths), grid.curve("b", depths, first="a")):
        assert list(alone) == pytest.approx(plain(depth_run(tables["a"], depth)), abs=1e-9)
        assert list(after) == pytest.approx(plain(cascade_run(tables["a"], tables["b"], depth)), abs=1e-9)


def test_what_was_scored_is_not_scored_again(tmp_path):
    data, first = a_set([5] * 20)
    whole = score_all(Points(), data, first, name="points")
    for cut in range(0, 2000, 97):
        path, ranker = tmp_path / f"{cut}.jsonl", Points()
        full = tmp_path / "full.jsonl"
        whole.save(full)
        path.write_bytes(full.read_bytes()[:max(len(whole.head) + 1, cut)])
        there = path.read_text().count("\n") - 1
        again = score_all(ranker, data, first, name="points", path=path)
        assert again.run() == whole.run() and ranker.seen == 5 * (20 - there) and ScoreTable.load(path).run() == whole.run()


def test_one_query_that_fails_does_not_lose_the_others(tmp_path):
    data, first = a_set([5] * 12)
    path = tmp_path / "t.jsonl"
    table = score_all(Broken(), data, first, name="p", path=path)
    assert table.failures == {"q1": "ServerError: no answer"} and len(table.rows) == 12
    assert table.run()["q1"] == first["q1"], "what failed keeps the order of the first stage"
    mended = score_all(Points(), data, first, name="p", path=path) if Points().__repr__() == Broken().__repr__() else None
    assert mended is None, "the file says which ranker it is of"
    assert ScoreTable.load(path).failures == table.failures


@pytest.mark.parametrize("change", ["query", "text", "order", "ranker", "fewer"])
def test_a_file_of_something_else_is_refused(tmp_path, change):
    data, first = a_set([5] * 3)
    path = tmp_path / "t.jsonl"
    score_all(Points(), data, first, name="p", path=path)
    before = path.read_bytes()
    if change == "query": data.queries["q0"] = "another one"
    if change == "text": data.corpus[first["q0"][0]] = Document("another text", first["q0"][0])
    if change == "order": first["q0"] = first["q0"][::-1]
    if change == "fewer": first.pop("q2")
    with pytest.raises(InputError, match="give another path"):
        score_all(Points(), data, first, name="another" if change == "ranker" else "p", path=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", ["[]", "{}", "nothing", '{"query": "q"}'])
def test_a_broken_file_names_its_line(tmp_path, line):
    data, first = a_set([5] * 3)
    path = tmp_path / "t.jsonl"
    score_all(Points(), data, first, path=path)
    lines = path.read_text().splitlines()
    for number in (1, 3):
        path.write_text("\n".join([*lines[:number - 1], line, *lines[number:]]) + "\n")
        with pytest.raises(InputError, match=f"line {number}"): ScoreTable.load(path)


def test_rows_keep_everything():
    row = QueryRow("q", ["a", "b"], [1, 0], [None, 0.5], [True, False], 0.25, Usage(1, 20, 3, cost=0.1), "1 of 2 …", None)
    assert QueryRow.from_json(row.to_json()) == row and json.loads(row.to_json())["usage"]["cost"] == 0.1


def test_methods_that_look_at_documents_together_are_refused():
    data, first = a_set([5] * 3)
    table = score_all(Reranker("bm25"), data, first, name="bm25")
    for derive in (lambda: depth_run(table, 3), lambda: cascade_run(table, table, 3), lambda: Grid({"bm25": table}, data.qrels).curve("bm25", [3])):
        with pytest.raises(InputError, match="bm25 looks at documents together"): derive()


def test_documents_that_a_ranker_adds_are_in_its_table():
    data, first = a_set([5, 5])
    graph = {d: [o for o in data.corpus if o not in first["q0"]][:3] for d in data.corpus}
    table = score_all(Adaptive(Points(), neighbours=graph, documents=data.corpus, budget=8, batch=2), data, first)
    assert all(len(ids) == len(set(ids)) == 8 and set(ids) > set(first[q]) for q, ids in table.run().items())
    assert {q: row.ids[:5] for q, row in table.rows.items()} == first


# ---------- odd files, candidates and depths

def few():
    corpus = {f"é{i}": Document(f"text {i % 3}", f"é{i}") for i in range(6)}
    return TestSet({"q0": "first", "q1": "second"}, corpus, {q: {d: i % 3 for i, d in enumerate(corpus)} for q in ("q0", "q1")})

def test_a_file_that_ends_within_a_letter_is_gone_on_with(tmp_path):
    whole = score_all(Reranker("bm25"), few(), path=tmp_path / "t.jsonl").run()
    written = (tmp_path / "t.jsonl").read_bytes()
    (tmp_path / "t.jsonl").write_bytes(written[:written.rindex("é".encode()) + 1])
    assert list(ScoreTable.load(tmp_path / "t.jsonl").rows) == ["q0"]
    assert score_all(Reranker("bm25"), few(), path=tmp_path / "t.jsonl").run() == whole
    (tmp_path / "t.jsonl").write_bytes(written.replace("é".encode(), b"\xff"))
    with pytest.raises(InputError, match="line 2"): ScoreTable.load(tmp_path / "t.jsonl")

@pytest.mark.parametrize(("candidates", "word"), [
    ({"q0": ["é0", "é1", "é0"]}, "'é0' of query 'q0' is there twice"), ({"q0": ["nowhere"]}, "'nowhere' of query 'q0' is not in"),
    ({"q9": ["é0"]}, "'q9', which is not in the queries")])
def test_odd_candidates(candidates, word):
    with pytest.raises(InputError, match=word): score_all(Reranker("bm25"), few(), candidates)

def test_a_judged_query_without_its_text_is_left_out():
    data = few()
    data.qrels["gone"] = {"é0": 1}
    assert list(score_all(Reranker("bm25"), data).rows) == ["q0", "q1"]

@pytest.mark.parametrize("depth", [-1, 2.5, True, "3", None])
def test_odd_depths(depth):
    rows = {"q0": QueryRow("q0", ["a", "b"], [1, 0], [0.0, 1.0], [False] * 2, 0.0)}
    table = ScoreTable("t", True, True, "", rows)
    for wrong in (lambda: depth_run(table, depth), lambda: cascade_run(table, table, depth), lambda: Grid({"t": table}, {"q0": {"b": 1}}).curve("t", [depth])):
        with pytest.raises(InputError, match="depth="): wrong()
    with pytest.raises(InputError, match="no depths"): Grid({"t": table}, {"q0": {"b": 1}}).curve("t", [])

def test_a_cascade_needs_the_same_documents_in_both():
    def table(ids): return ScoreTable("t", True, True, "", {"q0": QueryRow("q0", ids, [*range(len(ids))], [0.0] * len(ids), [False] * len(ids), 0.0)})
    for first in (table(["a", "b", "added"]), table(["b", "a"]), ScoreTable("t", True, True, "", {})):
        with pytest.raises(InputError, match="did not score the same documents of query 'q0'"): cascade_run(first, table(["a", "b"]), 1)


def test_a_file_of_the_same_ranker_with_other_options_is_refused(tmp_path):
    score_all(Reranker("bm25"), few(), name="words", path=tmp_path / "t.jsonl")
    with pytest.raises(InputError, match="give another path"): score_all(Reranker("bm25", k1=2.0), few(), name="words", path=tmp_path / "t.jsonl")
    graphs = [{f"é{i}": [f"é{(i + step) % 6}"] * 100 for i in range(6)} for step in (1, 2)]
    score_all(Adaptive("bm25", neighbours=graphs[0]), few(), name="wide", path=tmp_path / "w.jsonl")
    assert len(ScoreTable.load(tmp_path / "w.jsonl").ranker) < 1100
    with pytest.raises(InputError, match="give another path"):
        score_all(Adaptive("bm25", neighbours=graphs[1]), few(), name="wide", path=tmp_path / "w.jsonl")

def test_what_failed_is_asked_again(tmp_path):
    data, first = a_set([3, 3])
    assert set(score_all(Broken(), data, first, name="b", path=tmp_path / "t.jsonl").failures) == {"q1"}
    lines = (tmp_path / "t.jsonl").read_text().replace("no answer", "an earlier failure")
    (tmp_path / "t.jsonl").write_text(lines)
    again = score_all(Broken(), data, first, name="b", path=tmp_path / "t.jsonl")
    assert again.failures == {"q1": "ServerError: no answer"} and list(again.rows) == ["q0", "q1"]


class Ordered(Points):
    "An order alone"
    pointwise = False
    def score_pairs(self, pairs, call): return Ranking([float(-len(text)) for _, text in pairs], truncated=[True] * len(pairs))
    def answer(self, tasks, call): return [Ranking(order=found.best_first()) for found in super().answer(tasks, call)]


FORMS = ["table.jsonl", "table.json", "table.parquet", "table"]

@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ranker", [Points(), Points(unjudged=0.4), Broken(), Ordered()], ids=["scores", "some scores", "a failure", "an order"])
def test_every_form_gives_the_same_table_back(form, ranker, tmp_path):
    pytest.importorskip("pyarrow")
    data, first = a_set([3, 1, 30])
    table = score_all(ranker, data, first, name="語 \"n\"\n")
    table.rows["empty"] = QueryRow("empty", [], [], None, [], 0.0)
    table.save(tmp_path / form)
    assert ScoreTable.load(tmp_path / form) == table and str(ScoreTable.load(str(tmp_path / form)).rows) == str(table.rows)


def test_parquet_is_read_by_others(tmp_path):
    pq, pd = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pandas")
    data, first = a_set([3, 5])
    table = score_all(Points(), data, first)
    table.save(tmp_path / "a.parquet")
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert list(frame.columns) == ["query", "document", "place", "score", "rank", "truncated"] and len(frame) == 8
    by_rank = frame.sort_values("rank").groupby("query")["document"].agg(list).to_dict()
    assert by_rank == table.run() and {q: list(rows["document"]) for q, rows in frame.groupby("query")} == first
    shuffled = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(shuffled.take(random.Random(0).sample(range(8), 8)), tmp_path / "b.parquet")
    assert ScoreTable.load(tmp_path / "b.parquet") == table, "the order of the rows does not count"


@pytest.mark.parametrize(("name", "content"), [
    *(("a.json", content) for content in (b"[1]", b"{", b"{}", b'{"rows": [1]}', b"\xff", b"")), ("a.parquet", b"no"), ("a.parquet", b"")])
def test_what_is_no_table_is_named(name, content, tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: no "): ScoreTable.load(tmp_path / name)


def test_other_parquet_is_no_table(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="metadata"): ScoreTable.load(tmp_path / "a.parquet")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    from rerankers.evaluation import data as reading
    monkeypatch.setattr(reading, "installed", lambda name: name != "pyarrow")
    for call in (lambda: ScoreTable("n", True, True, "").save(tmp_path / "a.parquet"), lambda: ScoreTable.load(tmp_path / "a.parquet")):
        with pytest.raises(MissingDependency, match="Parquet needs the package `pyarrow`, which is not installed: pip install pyarrow"): call()


@pytest.mark.parametrize("name", ["a.parquet", "a.json"])
def test_rows_are_not_added_to_such_a_file(name, tmp_path):
    data, first = a_set([3])
    with pytest.raises(InputError, match=r"ends in \.jsonl"): score_all(Points(), data, first, path=tmp_path / name)
    assert not (tmp_path / name).exists()


def test_any_exception_of_a_ranker_is_a_row():
    class Bug(Points):
        def score_pairs(self, pairs, call):
            if any(q == "query 1" for q, _ in pairs): raise IndexError("list index\nout of range")
            return super().score_pairs(pairs, call)
    data, first = a_set([3, 4, 5])
    table = score_all(Bug(), data, first)
    assert table.failures == {"q1": "IndexError: list index out of range"} and len(table.rows["q2"].order) == 5
    class Stop(Points):
        def score_pairs(self, pairs, call): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): score_all(Stop(), data, first)
