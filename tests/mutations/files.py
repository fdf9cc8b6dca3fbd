"Faults in files of queries"
from . import Mutation

FILES, ROWS = "rerankers/serve/files.py", "rerankers/serve/rows.py"
TESTS, BOOK = "tests/test_rank_files.py", "nbs/serve/rows.ipynb"

MUTATIONS = [
    Mutation(FILES, "                journal.keep(start)\n", "", TESTS, "a row that a killed process left in the middle of a window is there twice"),
    Mutation(FILES, "            if end > len(journal):", "            if start >= len(journal):", TESTS, "a window of which some rows are known is not finished"),
    Mutation(FILES, 'line.endswith(b"\\n") and ', "", TESTS, "a line that lost its end counts, and the next one is written into it"),
    Mutation(FILES, "    write(part)\n", "    part = path\n    write(part)\n", TESTS, "a shard that is half written counts as finished"),
    Mutation(FILES, "        except RerankersError:\n            journal.settle()\n            raise", "        except RerankersError: raise", TESTS,
             "rows that failed while a server was down are not tried again"),
    Mutation(FILES, 'said["stages"] = [{k: v for k, v in stage.items() if k != "seconds"} for stage in said["stages"]]', "pass", TESTS,
             "the same job writes another file each time"),
    Mutation(FILES, "        self.failing = 0\n", "", TESTS, "a job with failures here and there stops as if nothing worked any more"),
    Mutation(FILES, 'given = row.rest if record["error"] is None else row.given', "given = row.rest", TESTS, "a row that failed loses its documents"),
    Mutation(FILES, "for n in range(which - 1, len(job.shards), of)", "for n in range(len(job.shards))", TESTS, "each of several processes does all of the work"),
    Mutation(ROWS, "                first, n = first + n, 0\n", "                first, n = first, 0\n", TESTS, "errors name the wrong rows"),
    Mutation(ROWS, "start, n = max(start - batch.num_rows, 0), n - piece.num_rows", "start, n = 0, n - piece.num_rows", BOOK, "a shard of Parquet begins at another row"),
    Mutation(ROWS, "        if last in seen: raise", "        if last is None: raise", BOOK, "a query whose lines are scattered over a run is ranked in pieces"),
]
