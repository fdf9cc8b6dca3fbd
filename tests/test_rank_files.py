"`rank_file`: whatever happens, each row of the source stands in the target once, in order, ranked or with a reason"
import json
import os
import signal
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rerankers import Reranker
from rerankers.backends import api
from rerankers.cli import main
from rerankers.errors import AuthenticationError, InputError, RerankersError
from rerankers.rankers import BaseRanker, PointwiseRanker, Ranking
from rerankers.serve.estimate import estimate_job
from rerankers.serve.files import Job, Written, rank_file

TEXTS = ["Shakespeare wrote Hamlet", "Goethe wrote Faust", "it rains in Elsinore", "Hamlet is a prince"]
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
PATHS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")     # what the operating system is asked


class Long(PointwiseRanker):
    "Prefers long texts; `before` is called for each window and may end it"
    def __init__(self, before=lambda queries: None): self.model, self.before = "", before
    def score_pairs(self, pairs, call):
        self.before([query for query, _ in pairs])
        return [float(len(text)) for _, text in pairs]


class Order(BaseRanker):
    "Gives an order, longest first"
    def __init__(self): self.model = ""
    def answer(self, tasks, call): return [Ranking(order=sorted(range(len(t.documents)), key=lambda i: -len(t.documents[i].text))) for t in tasks]


def rows(n): return [{"qid": f"q{i}", "query": f"who wrote number {i}", "docs": TEXTS[:i % 3 + 1], "kept": {"i": i}} for i in range(n)]
def write(path, rows): path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
def read(*paths): return [json.loads(line) for path in paths for line in Path(path).read_bytes().splitlines()]


def killed_at(n, folder, work):
    "Was the process, which ends at the n-th thing that it does in the folder, where its source is too, killed before its work was over?"
    left = [n]
    def tick(*_):
        left[0] -= 1
        if not left[0]: os.kill(os.getpid(), signal.SIGKILL)
    def hook(event, args):
        if event in PATHS and os.fspath(folder) in str(args[0]): tick()
    if pid := os.fork(): return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    try:
        sys.addaudithook(hook)
        work(tick)
        os._exit(0)
    finally: os._exit(1)


@FORKS
def test_a_process_may_be_killed_at_any_moment(tmp_path):
    source, wanted = tmp_path / "asked.jsonl", tmp_path / "wanted.jsonl"
    write(source, rows(9))
    before = source.read_bytes()
    def job(target, seen=lambda queries: None): return rank_file(source, target, Long(seen), window=4, shard_size=5)
    job(wanted)
    assert [row["qid"] for row in read(wanted)] == [f"q{i}" for i in range(9)]
    for n in range(1, 200):
        folder = tmp_path / f"killed at {n}"
        folder.mkdir()
        if not killed_at(n, tmp_path, lambda tick, folder=folder: job(folder / "ranked.jsonl", tick)): break
        try: job(folder / "ranked.jsonl")
        except InputError as error: assert "is there already" in str(error)     # nothing was left to do but to clear away
        assert (folder / "ranked.jsonl").read_bytes() == wanted.read_bytes(), n
        assert not [p for p in folder.iterdir() if p.name != "ranked.jsonl" and not p.name.endswith(".old")], n
    assert n > 20   # so many moments there were
    assert source.read_bytes() == before


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(-3, 600), st.binary(max_size=12))
@example(3, 599, b"\0\0\0\0")
@example(3, 0, b"\n")
@example(3, -1, b"")     # the end of a line is missing, and no more
def test_a_journal_may_end_anywhere(tmp_path_factory, calls, cut, tail):
    folder = tmp_path_factory.mktemp("cut")
    write(folder / "asked.jsonl", rows(8))
    def stop(queries):
        nonlocal calls
        calls -= 1
        if not calls: raise KeyboardInterrupt
    def job(target, before=lambda queries: None): rank_file(folder / "asked.jsonl", folder / target, Long(before), window=3, shard_size=4, output="jsonl")
    job("wanted")
    try: job("found", stop)
    except KeyboardInterrupt: pass
    for journal in (folder / "found").glob("*.journal"):
        with journal.open("rb+") as file:
            file.truncate(min(cut, journal.stat().st_size) if cut >= 0 else max(journal.stat().st_size + cut, 0))
            file.seek(0, 2)
            file.write(tail)
    job("found")
    for part in sorted((folder / "wanted").glob("part-*")): assert (folder / "found" / part.name).read_bytes() == part.read_bytes()


def test_a_line_without_its_end_is_not_done(tmp_path):
    write(tmp_path / "asked.jsonl", rows(3))
    def stop(queries):
        if "who wrote number 2" in queries: raise KeyboardInterrupt
    def job(before=lambda queries: None): rank_file(tmp_path / "asked.jsonl", tmp_path / "out", Long(before), window=1, output="jsonl")
    with pytest.raises(KeyboardInterrupt): job(stop)
    journal = tmp_path / "out/_part-00000.journal"
    journal.write_bytes(journal.read_bytes()[:-1])
    job()
    assert [row["qid"] for row in read(tmp_path / "out/part-00000.jsonl")] == ["q0", "q1", "q2"]
    assert all(row["error"] is None for row in read(tmp_path / "out/part-00000.jsonl"))


WORDS, VALUES = st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=3), st.dictionaries(st.text(max_size=2), st.integers(), max_size=1))
DOCS = st.lists(st.one_of(WORDS, st.integers(), st.none()), max_size=3)
MORE = st.dictionaries(st.sampled_from(["qid", "kept", "metadata"]), VALUES)
ODD = ["{", "[]", "7", "null", '{"docs": ["a"]}', '{"query": "a"}', '{"query": "a", "docs": [{"text": "b", "id": 3}], "n": NaN}',
       '{"query": "\\ud800", "docs": ["\\ud800"]}', "\xe9"]
LINES = st.lists(st.one_of(st.builds(lambda q, docs, more: json.dumps({"query": q, "docs": docs} | more), WORDS, DOCS, MORE), st.sampled_from(ODD)), max_size=8)


@settings(max_examples=25, deadline=None)
@given(LINES, st.integers(1, 9), st.integers(1, 4))
def test_every_line_has_its_row(tmp_path_factory, lines, window, shard_size):
    folder = tmp_path_factory.mktemp("lines")
    (folder / "asked.jsonl").write_bytes("\n".join(["", '{"query": "a", "docs": ["b"], "kept": 1}', *lines]).encode("latin-1", "replace"))
    report = rank_file(folder / "asked.jsonl", folder / "ranked.jsonl", Long(), window=window, shard_size=shard_size)
    found = read(folder / "ranked.jsonl")
    assert report.rows == report.done == len(found) == len(lines) + 1
    assert report.failed == sum(row["error"] is not None for row in found)
    for line, row in zip(lines, found[1:]):
        try: told = json.loads(line.encode("latin-1", "replace"))
        except ValueError: told = None
        if not isinstance(told, dict):
            assert row["error"] and row["results"] == [] and "line" in row
            continue
        kept = {k: v for k, v in told.items() if k not in ("docs", "n")}
        assert {k: row[k] for k in kept} == kept
        if row["error"] is None: assert sorted(r["text"] for r in row["results"]) == sorted(d["text"] if isinstance(d, dict) else d for d in told["docs"])
        else: assert row.get("docs") == told.get("docs")


@pytest.mark.parametrize("spec", ["bm25", "offline", "bm25:2 > offline", "fusion(bm25, offline)", Order(), Long()], ids=str)
def test_any_ranker_ranks_a_file(tmp_path, spec):
    asked = rows(7)
    write(tmp_path / "asked.jsonl", asked)
    rank_file(tmp_path / "asked.jsonl", tmp_path / "ranked.jsonl", spec, window=500)
    ranker = spec if isinstance(spec, BaseRanker) else Reranker(spec)
    wanted = ranker.rank_many([row["query"] for row in asked], [row["docs"] for row in asked])
    for row, one, found in zip(asked, wanted, read(tmp_path / "ranked.jsonl")):
        told = {k: v for k, v in json.loads(one.to_json()).items() if k != "query"}
        for stage in told.get("stages", ()): del stage["seconds"]   # what differs from call to call is left out
        assert found | {"results": 0} == {k: v for k, v in row.items() if k != "docs"} | told | {"error": None, "results": 0}
        assert [(r["doc_id"], r["rank"]) for r in found["results"]] == [(r.doc_id, r.rank) for r in one]


def test_one_row_that_a_ranker_refuses_harms_no_other(tmp_path):
    write(tmp_path / "asked.jsonl", rows(20))
    def refuse(queries):
        if any(query.endswith(" 7") for query in queries): raise OSError("not that one")
    def job(target, **options): return rank_file(tmp_path / "asked.jsonl", tmp_path / target, shard_size=6, window=30, **options)
    report = job("shards", spec=Long(refuse))
    found = read(*report.files)
    assert (report.failed, [row["qid"] for row in found if row["error"]]) == (1, ["q7"])
    assert found[7]["error"] == "OSError: not that one" and found[7]["docs"] == rows(20)[7]["docs"]
    assert read(tmp_path / "shards" / "_part-00001.errors.jsonl") == [{"row": 7, "error": "OSError: not that one"}]
    asked = []
    again = job("shards", spec=Long(asked.extend))
    assert not asked and again == report     # what failed is done, until somebody asks for another try
    again = job("shards", spec=Long(asked.extend), retry_errors=True)
    assert again.failed == 0 and {query.rsplit(" ", 1)[1] for query in asked} == {str(i) for i in range(6, 12)}
    job("whole", spec=Long())
    for part in report.files: assert part.read_bytes() == (tmp_path / "whole" / part.name).read_bytes()


def test_a_row_that_is_nested_too_deep_is_one_error(tmp_path):
    (tmp_path / "asked.jsonl").write_text('{"query": "a", "docs": [{"x": "b"}]}\n{"query": "a", "docs": [{"x": ' + "[" * 900 + "]" * 900 + '}]}\n')
    assert rank_file(tmp_path / "asked.jsonl", tmp_path / "ranked.jsonl", Long(), rank_fields=["x"]).failed == 1


def test_a_file_that_cannot_be_opened_is_named(tmp_path, capsys):
    write(tmp_path / "asked.jsonl", rows(2))
    asked = str(tmp_path / "asked.jsonl")
    for target, more in ((f"{asked}/ranked.jsonl", ()), (f"{tmp_path}/{'x' * 300}.jsonl", ()), (f"{tmp_path}/a.jsonl", ("--queries", f"{tmp_path}/none")),
                         (f"{tmp_path}/b.jsonl", ("--corpus", f"{tmp_path}/none"))):
        assert main(["rank-file", asked, target, "--model", "bm25", "-q", *more]) == 1
        said = capsys.readouterr().err
        assert str(tmp_path) in said and said.count("\n") == 1, said


def test_an_estimate_of_odd_numbers_is_refused():
    for name, values in {"queries": (None, 10**400, 1e308), "documents": (None,), "workers": (None, 1e-320), "tokens": (None, 1e308),
                         "hourly": (-1, float("nan"), "5", None), "rate": (1e-320,), "result_bytes": (None,)}.items():
        for value in values:
            with pytest.raises(InputError): estimate_job(**{"queries": 10, "documents": 5, "rate": 5.0, name: value})


def test_a_job_stops_when_nothing_works_any_more_and_goes_on_later(tmp_path):
    write(tmp_path / "asked.jsonl", rows(20))
    calls = []
    def down(queries):
        calls.append(len(set(queries)))
        if len(calls) > 4: raise ConnectionError("nobody answers")
    def job(spec): return rank_file(tmp_path / "asked.jsonl", tmp_path / "ranked.jsonl", spec, shard_size=10, window=4, most_failures=3)
    with pytest.raises(RerankersError, match="3 rows failed one after the other.*nobody answers.*goes on from there"): job(Long(down))
    def wrong_key(queries): raise AuthenticationError("the key is wrong")
    with pytest.raises(AuthenticationError): job(Long(wrong_key))
    asked = []
    report = job(Long(asked.extend))
    assert (report.done, report.failed) == (20, 0) and not set(asked) & {f"who wrote number {i}" for i in range(sum(calls[:4]) - 3)}
    assert [row["qid"] for row in read(tmp_path / "ranked.jsonl")] == [f"q{i}" for i in range(20)]
    def now_and_then(queries):
        if any(query.endswith((" 3", " 13")) for query in queries): raise OSError("not that one")
    assert rank_file(tmp_path / "asked.jsonl", tmp_path / "odd", Long(now_and_then), window=4, most_failures=2).failed == 2


def test_several_processes_share_a_job(tmp_path):
    write(tmp_path / "asked.jsonl", rows(23))
    def job(target, part): return rank_file(tmp_path / "asked.jsonl", tmp_path / target, Long(), shard_size=4, part=part)
    assert job("shared", (1, 2)) == Written(23, 12, 0, [tmp_path / "shared" / f"part-0000{n}.jsonl" for n in (0, 2, 4)])
    both, alone = job("shared", (2, 2)), job("alone", (1, 1))
    assert both.done == 23 and [p.read_bytes() for p in both.files] == [p.read_bytes() for p in alone.files]
    with pytest.raises(InputError, match="second of eight"): job("alone", (0, 2))


def test_memory_holds_no_file(tmp_path):
    with (tmp_path / "asked.jsonl").open("w") as file:
        for i in range(400): file.write(json.dumps({"query": f"q{i}", "docs": [f"{i} " * 10_000]}) + "\n")
    rank_file(tmp_path / "asked.jsonl", tmp_path / "first", Long(), part=(400, 400))     # what is loaded once
    tracemalloc.start()
    report = rank_file(tmp_path / "asked.jsonl", tmp_path / "ranked.jsonl", Long(), window=5, shard_size=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.done == 400 and peak < 3e6 < (tmp_path / "asked.jsonl").stat().st_size / 4


def test_parquet_keeps_types_and_says_what_failed(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"n": pa.array(range(10), pa.uint8()), "question": [None if i == 4 else f"who wrote number {i}" for i in range(10)],
                      "docs": [[{"id": j, "text": text} for j, text in enumerate(TEXTS)]] * 10, "when": pa.array(range(10), pa.timestamp("us"))})
    (tmp_path / "asked").mkdir()
    pq.write_table(table[:7], tmp_path / "asked/a.parquet", row_group_size=2)
    pq.write_table(table[7:], tmp_path / "asked/b.parquet")
    report = rank_file(tmp_path / "asked", tmp_path / "ranked.parquet", Long(), shard_size=3, window=8, top_k=2)
    found = pq.read_table(tmp_path / "ranked.parquet")
    assert (report.done, report.failed) == (10, 1) and found.drop_columns(["results", "status", "error"]) == table
    assert [error is None for error in found["error"].to_pylist()] == [i != 4 for i in range(10)]
    assert found["results"][0].as_py() == [{"rank": 1, "score": 24.0, "doc_id": 0, "note": None}, {"rank": 2, "score": 20.0, "doc_id": 2, "note": None}]
    lean = pq.read_table(*rank_file(tmp_path / "asked", tmp_path / "lean", Long(), shard_size=50, texts=False).files[:1])
    assert lean.column_names == ["n", "question", "when", "results", "status", "error"]
    rank_file(tmp_path / "asked", tmp_path / "ranked.jsonl", Long())
    assert [row["n"] for row in read(tmp_path / "ranked.jsonl")] == list(range(10))
    pq.write_table(table[8:].append_column("more", pa.array(["a", "b"])).drop_columns("when"), tmp_path / "asked/b.parquet")
    rank_file(tmp_path / "asked", tmp_path / "both.parquet", Long(), window=5)
    both = pq.read_table(tmp_path / "both.parquet")
    assert both["more"].to_pylist() == [None] * 7 + ["a", "b"] and both["when"].null_count == 2
    pq.write_table(table[:0], tmp_path / "none.parquet")
    assert rank_file(tmp_path / "none.parquet", tmp_path / "empty.parquet", Long()).rows == 0
    assert pq.read_table(tmp_path / "empty.parquet").column_names == found.column_names
    for n, (doc, ident) in enumerate((({"payload": {"id": "h", "text": "a"}}, "h"), ({"text": "a"}, 0), ("a", 0), ({"text": "a", "docno": "h"}, "h"))):
        pq.write_table(pa.table({"query": ["who wrote Hamlet"], "docs": [[doc]]}), tmp_path / f"ids{n}.parquet")
        ids = pq.read_table(*rank_file(tmp_path / f"ids{n}.parquet", tmp_path / f"ids{n}", Long()).files)["results"].to_pylist()
        assert [r["doc_id"] for r in ids[0]] == [ident]
    write(tmp_path / "asked.jsonl", rows(2))
    with pytest.raises(InputError, match="Parquet is written from Parquet"): rank_file(tmp_path / "asked.jsonl", tmp_path / "no.parquet", Long())


def test_a_run_is_ranked_with_texts_from_elsewhere(tmp_path):
    write(tmp_path / "corpus.jsonl", [{"id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)])
    (tmp_path / "topics.tsv").write_text("".join(f"{i}\twho wrote number {i}\n" for i in range(4)))
    candidates = {q: (1, 3, 9 if q == 2 else 0) for q in range(5)}
    (tmp_path / "first.run").write_text("".join(f"{q} Q0 d{d} {n} {-n} bm25\n" for q, ids in candidates.items() for n, d in enumerate(ids, 1)))
    files = {"corpus": tmp_path / "corpus.jsonl", "queries": tmp_path / "topics.tsv"}
    report = rank_file(tmp_path / "first.run", tmp_path / "second.run", Long(), shard_size=2, **files)
    order: dict = {}
    for line in (tmp_path / "second.run").read_text().splitlines(): order.setdefault(line.split()[0], []).append(line.split()[2])
    best, kept = ["d0", "d1", "d3"], ["d1", "d3", "d0"]
    assert order == {"0": best, "1": best, "2": ["d1", "d3", "d9"], "3": best, "4": kept} and report.failed == 2
    errors = sorted((tmp_path / "second.run.parts").glob("*.errors.jsonl"))
    assert [row["error"] for row in read(*errors)] == ["the corpus has no document 'd9'", "the file of queries has no '4'"]
    rank_file(tmp_path / "first.run", tmp_path / "second.jsonl", Long(), **files)
    assert read(tmp_path / "second.jsonl")[0]["results"][0]["text"] == TEXTS[0]
    write(tmp_path / "asked.jsonl", [{"qid": "a b", "query": "x", "docs": [{"id": "white space", "text": "y"}]}, *rows(1)])
    report = rank_file(tmp_path / "asked.jsonl", tmp_path / "odd.run", Long())
    assert report.failed == 1 and (tmp_path / "odd.run").read_text().startswith("q0 Q0 0 1 ")


def test_what_is_somebody_elses_is_not_touched(tmp_path):
    source = tmp_path / "asked.jsonl"
    write(source, rows(3))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "theirs").write_text("")
    (tmp_path / "ranked.jsonl").write_text("theirs")
    for target, why in (("full", "is not empty"), ("ranked.jsonl", "is there already"), ("asked.jsonl", "is the source"), ("new", "top_k=0")):
        with pytest.raises(InputError, match=why): rank_file(source, tmp_path / target, "bm25", top_k=0 if target == "new" else None)
    with pytest.raises(InputError, match="no such file"): rank_file(tmp_path / "no.jsonl", tmp_path / "new", "bm25")
    with pytest.raises(InputError, match="is the source or in it"): rank_file(tmp_path / "full", tmp_path / "full" / "new.jsonl", "bm25", format="jsonl")
    with pytest.raises(InputError, match="is no folder"): rank_file(source, tmp_path / "full" / "theirs", "bm25")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["theirs"]
    assert not (tmp_path / "new").exists() and (tmp_path / "ranked.jsonl").read_text() == "theirs"
    rank_file(source, tmp_path / "mine", "bm25")
    with pytest.raises(InputError, match="spec is now 'offline', was 'bm25'"): rank_file(source, tmp_path / "mine", "offline")
    write(source, rows(4))
    with pytest.raises(InputError, match="source has changed since"): rank_file(source, tmp_path / "mine", "bm25")


def test_no_key_is_written(tmp_path):
    write(tmp_path / "asked.jsonl", [])
    ranker = Reranker("cohere", api_key="sk-very-secret")
    assert isinstance(ranker, api.APIRanker)
    rank_file(tmp_path / "asked.jsonl", tmp_path / "shards", ranker)
    assert not [p for p in (tmp_path / "shards").iterdir() if b"very-secret" in p.read_bytes()]


def test_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "asked.jsonl", [{"frage": row["query"], **row, "query": 7} for row in rows(5)])
    command = "rank-file asked.jsonl ranked.jsonl -m bm25 -k 1 --column query=frage --shard-size 2 -o k1=0.9 --no-texts".split()
    assert main(command) == 0 and capsys.readouterr().out == "5 rows\n"
    assert [(row["frage"], len(row["results"]), "text" in row["results"][0]) for row in read("ranked.jsonl")] == [(row["query"], 1, False) for row in rows(5)]
    assert main(command) == 1 and "is there already" in capsys.readouterr().err
    (tmp_path / "asked.jsonl").write_text((tmp_path / "asked.jsonl").read_text() + "{\n")
    assert main("rank-file asked.jsonl shards -m bm25 --part 1/2 --shard-size 1 --column query=frage --json".split()) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"rows": 6, "done": 3, "failed": 0, "files": [f"shards/part-0000{n}.jsonl" for n in (0, 2, 4)]}
    assert main("rank-file asked.jsonl shards -m bm25 --part 2/2 --shard-size 1 --column query=frage".split()) == 0
    assert capsys.readouterr().err == "rerankers: warning: rows that could not be ranked; the output says why: 1\n"
    assert main(["rank-file", "a", "b", "--part", "3"]) == 2


def test_a_job_is_plain_data(tmp_path):
    write(tmp_path / "asked.jsonl", rows(1))
    rank_file(tmp_path / "asked.jsonl", tmp_path / "shards", "bm25:3 > offline", columns={"query": "query"})
    facts = json.loads((tmp_path / "shards" / "_job.json").read_text())["facts"]
    assert facts["spec"] == "bm25:3 > offline" and {"columns", "options", "window"} <= facts.keys() < {*Job.__dataclass_fields__}
