"A file and a data set on a real Ray of two workers, of which one is killed: no row is lost, and none is there twice"
import json
import os
import signal
import warnings

import pytest

from rerankers import Reranker
from rerankers.errors import InputError, RerankersError
from rerankers.rankers import BaseRanker, Ranking
from rerankers.serve.daft import rank_frame
from rerankers.serve.files import begin, end, plan, rank_file
from rerankers.serve.ray import Crew, crew_for, in_shards, rank_dataset, rank_file_on_ray, shards_on_ray

TEXTS = ["Shakespeare wrote Hamlet", "Goethe wrote Faust", "it rains in Elsinore"] * 12


def rows(n): return [{"qid": f"q{i}", "query": f"who wrote number {i}", "docs": [{"text": t} for t in TEXTS]} for i in range(n)]
def write(path, rows): path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
def read(path): return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("RAY_AUTH_MODE", "disabled"), ("RAY_USAGE_STATS_ENABLED", "0")): patch.setenv(name, value)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=100_000_000)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
        ray.shutdown()


def test_a_worker_is_killed_and_a_row_raises(ray, tmp_path):
    asked, source = rows(48), tmp_path / "asked.jsonl"
    asked[17]["docs"].append({"image": "https://example.org/no.png", "id": "picture"})    # which `offline` refuses while it ranks
    write(source, asked)
    job = begin(in_shards(plan(source, tmp_path / "ranked.jsonl", "offline"), 24))
    told, left = [], []
    for row in shards_on_ray(job, Crew(2, 0.5)):
        if not told:
            os.kill(row["process"], signal.SIGKILL)
            left = [n for n in range(24) if not job.shard(n).exists()]
        told.append(row["shard"])
    assert left and sorted(told) == list(range(len(job.shards))) == list(range(24))
    report = end(job)
    found = read(tmp_path / "ranked.jsonl")
    assert (report.rows, report.done, report.failed) == (48, 48, 1) and [row["qid"] for row in found] == [row["qid"] for row in asked]
    assert [row["qid"] for row in found if row["error"]] == ["q17"] and "picture" in found[17]["error"] and found[17]["docs"] == asked[17]["docs"]
    rank_file(source, tmp_path / "alone.jsonl", "offline", shard_size=job.shard_size)
    assert (tmp_path / "alone.jsonl").read_bytes() == (tmp_path / "ranked.jsonl").read_bytes()


def test_a_job_goes_on_with_other_workers(ray, tmp_path):
    write(tmp_path / "asked.jsonl", rows(16))
    rank_file(tmp_path / "asked.jsonl", tmp_path / "shards", "bm25", shard_size=3, part=(1, 2))
    report = rank_file_on_ray(tmp_path / "asked.jsonl", tmp_path / "shards", "bm25", actors=2, num_cpus=0.5, progress=False)
    assert (report.done, len(report.files)) == (16, 6)
    assert [row["qid"] for path in report.files for row in read(path)] == [f"q{i}" for i in range(16)]
    with pytest.raises(RerankersError, match="there is no folder .*no-model"):
        rank_file_on_ray(tmp_path / "asked.jsonl", tmp_path / "none", str(tmp_path / "no-model"), actors=1, num_cpus=0.5)


def test_a_data_set_keeps_its_rows(ray):
    asked = [{**row, "n": n} for n, row in enumerate(rows(30))]
    asked[7] = {**asked[7], "query": " "}
    found = rank_dataset(ray.data.from_items(asked, override_num_blocks=1), "bm25", actors=2, num_cpus=0.5, rows=4, top_k=2, texts=False).take_all()
    assert sorted(row["n"] for row in found) == list(range(30)) and [row["n"] for row in found if row["error"]] == [7]
    wanted = Reranker("bm25").rank_many([row["query"] for row in asked[:7]], [row["docs"] for row in asked[:7]], top_k=2)
    for n, one in enumerate(wanted):
        assert [(r["doc_id"], r["rank"]) for r in next(row for row in found if row["n"] == n)["results"]] == [(r.doc_id, r.rank) for r in one]
    assert "docs" not in found[0]


def test_a_frame_of_daft_keeps_its_rows():
    daft = pytest.importorskip("daft")
    asked = [{**row, "n": n, "error": "theirs"} for n, row in enumerate(rows(9))]
    asked[4]["query"] = ""
    found = rank_frame(daft.from_pylist(asked), "bm25", workers=2, rows=2, top_k=1).sort("n").to_pylist()
    assert [(row["n"], row["qid"]) for row in found] == [(row["n"], row["qid"]) for row in asked] and [row["n"] for row in found if row["error"]] == [4]
    assert all(row["docs"] == one["docs"] for row, one in zip(found, asked)) and [r["rank"] for r in found[0]["results"]] == [1]


def test_workers_leave_room_for_reading():
    assert [crew_for(cpus, 0, actors, None, 0).num_cpus for cpus, actors in ((2, 2), (2, 1), (16, 3), (16, 30))] == [0.5, 1, 1, 0.5]
    assert crew_for(8, 4, None, None, 0.25) == Crew(16, 7 / 16, 0.25)
    with pytest.warns(UserWarning, match="leave nothing of the cluster's 2 CPUs"): crew_for(2, 0, 2, 1.0, 0)
    with pytest.warns(UserWarning, match="0 GPUs"): crew_for(8, 0, 2, None, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crew_for(1, 0, None, None, 0)


class Unwritten(BaseRanker):
    "Cannot be written down"
    def __init__(self, how): self.model = ""
    def answer(self, tasks, call): return [Ranking(order=list(range(len(t.documents)))) for t in tasks]


def test_a_ranker_never_travels(tmp_path):
    write(tmp_path / "asked.jsonl", rows(1))
    with pytest.raises(InputError): rank_file_on_ray(tmp_path / "asked.jsonl", tmp_path / "shards", Unwritten(print), actors=1)
    assert not (tmp_path / "shards").exists()
