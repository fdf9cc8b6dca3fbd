"`rerankers retrieve` and `rerankers evaluate`, as a shell sees them"
import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import ir_measures
import pytest
import pytrec_eval
import yaml

from rerankers import Reranker
from rerankers.cli import main
from rerankers.evaluation.data import read_beir
from rerankers.evaluation.runs import END, parse_run

ROOT = Path(__file__).resolve().parents[1]
DOCS = {"h": "Hamlet is a play by Shakespeare.", "f": "Goethe wrote Faust.", "w": "The weather is fine today."}
RUN = "q1 Q0 f 1 3.5 t\nq1 Q0 h 2 1.5 t\nq2 Q0 w 1 2.0 t\nq2 Q0 h 2 2.0 t\n"
QRELS = "q1 0 f 2\nq1 0 h 0\nq2 0 h 1\n"


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    "Run a command in a folder with a collection, queries, a run and judgements: exit code, standard output, standard error"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("docs.jsonl").write_text("".join(json.dumps({"_id": d, "text": t}) + "\n" for d, t in DOCS.items()), encoding="utf-8")
    Path("queries.tsv").write_text("q1\twho wrote Faust?\nq2\tHamlet the play\n", encoding="utf-8")
    Path("a.run").write_text(RUN, encoding="utf-8")
    Path("qrels").write_text(QRELS, encoding="utf-8")

    def call(*argv, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main(list(argv))
        return code, *capsys.readouterr()
    return call


@pytest.fixture
def refused(cli):
    "The one line that a user's mistake gives"
    def call(*argv):
        code, out, err = cli(*argv)
        assert (code, out) == (1, "") and err.startswith("rerankers: error: ") and err.count("\n") == 1
        return err.removeprefix("rerankers: error: ").rstrip("\n")
    return call


# retrieve

def test_a_run_of_bm25(cli):
    code, out, err = cli("retrieve", "docs.jsonl", "queries.tsv")
    assert (code, err) == (0, "")
    expected = {q: Reranker("bm25").rank(text, DOCS.values(), doc_ids=list(DOCS)) for q, text in (("q1", "who wrote Faust?"), ("q2", "Hamlet the play"))}
    found = parse_run(out, Counter())
    assert found == {q: {r.doc_id: pytest.approx(r.score) for r in ranked if r.score} for q, ranked in expected.items()}
    assert [list(scores) for scores in found.values()] == [[r.doc_id for r in ranked if r.score] for ranked in expected.values()]
    assert all(line.endswith(" bm25") for line in out.splitlines())

def test_depth_tag_and_header(cli):
    code, out, err = cli("retrieve", "docs.jsonl", "queries.tsv", "--depth", "1", "--tag", "mine", "--header")
    header, body = out.split(END + "\n")
    facts = yaml.safe_load("".join(line.strip("#") for line in header.splitlines(keepends=True)[1:]))
    assert (code, err, [line.split()[0] for line in body.splitlines()]) == (0, "", ["q1", "q2"]) and all(line.endswith(" mine") for line in body.splitlines())
    assert facts["data"] == {"test collection": {"name": "docs.jsonl"}} and facts["method"].keys() == {"score ties", "retrieval"} and facts["tag"] == "mine"

def test_what_is_odd_is_told(cli):
    Path("queries.tsv").write_text("q1\tFaust\nq1\tFaust\nq2\tbicycle\n")
    code, out, err = cli("retrieve", "docs.jsonl", "queries.tsv")
    assert code == 0 and out.startswith("q1 Q0 f 1 ") and out.count("\n") == 1
    assert err == "rerankers: warning: query ids given twice: 1\nrerankers: warning: queries that found nothing: 1\n"

@pytest.mark.parametrize(("name", "text", "said"), [
    ("docs.jsonl", '{"_id": "h", "text": "Hamlet"}\n{"_id": "f"\n', "docs.jsonl, line 2 is not JSON"),
    ("docs.jsonl", '{"_id": "h"}\n', "docs.jsonl, line 1: a dictionary without"),
    ("queries.tsv", "q1\tFaust\nq2\n", "queries.tsv, line 2 has 1 column:"),
    ("docs.jsonl", '{"_id": "my play", "text": "Faust"}\n', "the id 'my play' has white space")])
def test_broken_collections(refused, name, text, said):
    Path(name).write_text(text)
    assert said in refused("retrieve", "docs.jsonl", "queries.tsv")

def test_missing_files(refused):
    assert refused("retrieve", "nowhere.jsonl", "queries.tsv") == "nowhere.jsonl: No such file or directory"
    assert refused("evaluate", "a.run", "nowhere") == "nowhere: No such file or directory"

def test_progress_is_for_people(tmp_path):
    "Nothing but the run in a pipe, and nothing on standard error"
    (tmp_path / "docs.txt").write_text("Hamlet\nFaust\n")
    (tmp_path / "queries.txt").write_text("Hamlet\n")
    done = subprocess.run([sys.executable, "-m", "rerankers.cli", "retrieve", "docs.txt", "queries.txt"], cwd=tmp_path, capture_output=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.startswith(b"0 Q0 0 1 ") and done.stdout.count(b"\n") == 1


# evaluate

def test_means(cli):
    code, out, err = cli("evaluate", "a.run", "qrels")
    assert (code, err) == (0, "rerankers: warning: documents of a run with the same score as the one before: 1\n")
    assert [line.split() for line in out.splitlines()] == [
        ["mean", "measure,", "2", "queries"], ["0.8155", "nDCG@10"], ["0.7500", "RR@10"], ["1.0000", "R@100"], ["0.7500", "Judged@10"]]

def test_json(cli):
    code, out, err = cli("evaluate", "a.run", "qrels", "--json", "--measures", "P@1", "AP", "nDCG@1")
    assert code == 0 and json.loads(out) == {
        "queries": 2, "measures": {"P@1": 0.5, "AP": 0.75, "nDCG@1": 0.5}, "notes": {"documents of a run with the same score as the one before": 1}}

def test_a_run_from_a_pipe(cli):
    code, run, err = cli("retrieve", "docs.jsonl", "queries.tsv", "--header")
    code, out, err = cli("evaluate", "-", "qrels", "--measures", "P@1", stdin=run)
    assert (code, err, out.split()[-2:]) == (0, "", ["1.0000", "P@1"])

def test_queries_on_one_side_only(cli):
    Path("qrels").write_text(QRELS + "q3 0 h 1\nq4 0 h 1\n")
    Path("a.run").write_text("q1 Q0 f 1 1.0 t\nq9 Q0 f 1 1.0 t\n")
    code, out, err = cli("evaluate", "a.run", "qrels", "--measures", "RR")
    assert (code, out.split()[-2:]) == (0, ["0.2500", "RR"]) and err.splitlines() == [
        "rerankers: warning: queries of the run that nobody judged, left out: 1", "rerankers: warning: judged queries that are not in the run, counted as 0: 3"]

@pytest.mark.parametrize(("name", "text", "said"), [
    ("a.run", "q1 Q0 f 1 3.5 t\nq1 Q0 f 3.5 t\n", "a.run, line 2 has 5 columns"), ("qrels", "q1 0 f 2\n\nq1 0 h\n", "qrels, line 3 has 3 columns"),
    ("qrels", "q1 0 f good\n", "qrels, line 1: the relevance 'good'"),
    ("a.run", "Q1 Q0 f 1 3.5 t\n", "no query of a.run is judged in qrels: the first have ids like ['Q1']"),
    ("a.run", "", "no query of a.run is judged"), ("a.run", b"q1 Q0 \xe9 1 3.5 t\n", "a.run, line 1 is not utf-8")])
def test_broken_runs_and_judgements(refused, name, text, said):
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in refused("evaluate", "a.run", "qrels")

@pytest.mark.parametrize(("measure", "said"), [
    ("nDGC@10", "measure not found: nDGC"), ("nDCG@", "problem parsing"), ("nDCG@0", "nDCG@0 looks at no document"), ("nDCG@-1", "problem parsing"),
    ("nDCG(depth=3)@10", "nDCG(depth=3)@10 cannot be computed here: 'depth'"), ("nDCG@1.5", "cannot be computed here: invalid param cutoff=1.5")])
def test_unknown_measures(refused, measure, said):
    assert said in refused("evaluate", "a.run", "qrels", "--measures", measure)

@pytest.mark.parametrize("argv", [
    ["retrieve"], ["retrieve", "docs.jsonl"], ["retrieve", "docs.jsonl", "queries.tsv", "--depth", "0"], ["evaluate", "a.run"],
    ["evaluate", "a.run", "qrels", "--measures"]])
def test_usage(cli, argv):
    code, out, err = cli(*argv)
    assert (code, out) == (2, "") and err.startswith("usage: rerankers")

@pytest.mark.parametrize("command", ["retrieve", "evaluate"])
def test_help(cli, command):
    code, out, err = cli(command, "--help")
    assert (code, err) == (0, "") and out.startswith(f"usage: rerankers {command}") and all(len(line) <= 80 for line in out.splitlines())

def test_cranfield_is_what_pytrec_eval_says(cli, shared_dir):
    "BM25 over a whole collection, written, read by others, and judged to the same numbers"
    folder = shared_dir / "data" / "cranfield"
    code, run, err = cli("retrieve", str(folder / "corpus.jsonl"), str(folder / "queries.jsonl"))
    assert code == 0 and err == "" and len(run.splitlines()) == 225 * 100
    Path("bm25.run").write_text(run)
    code, out, err = cli("evaluate", "bm25.run", str(folder / "qrels" / "test.tsv"), "--json", "--measures", "nDCG@10", "AP", "R@100")
    qrels = read_beir(folder).qrels
    with open("bm25.run") as file: theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "map", "recall.100"}).evaluate(pytrec_eval.parse_run(file))
    means = {m: sum(row[m] for row in theirs.values()) / len(qrels) for m in ("ndcg_cut_10", "map", "recall_100")}
    assert list(json.loads(out)["measures"].values()) == pytest.approx(list(means.values()), abs=1e-6) and len(theirs) == len(qrels)
    assert ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, ir_measures.read_trec_run("bm25.run"))[ir_measures.nDCG @ 10] > 0.3
