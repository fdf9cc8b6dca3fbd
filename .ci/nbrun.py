"Run notebooks, keep their outputs, clean them: `python .ci/nbrun.py [NOTEBOOK ...] [--jobs N] [--flags WORDS]`, all when none is named"
import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

root = Path(__file__).resolve().parents[1]
skipped_folders = {"_proc", "_docs", ".ipynb_checkpoints"}

def notebooks():
    "Every notebook of the project, in reading order"
    return sorted(p for p in (root/"nbs").rglob("*.ipynb") if not skipped_folders & set(p.parts))

def run(path, flags):
    "Run one notebook in a process of its own: its report, and whether it went well"
    # no hub, and no bars of other libraries in the kept outputs
    env = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_PROGRESS_BARS="1")
    command = [sys.executable, str(root/"tests"/"nb_exec.py"), str(path), "--write", "--flags", flags]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=env)
    if done.returncode: return f"FAILED {path}\n{done.stdout}{done.stderr}", False
    return done.stdout.strip(), True

def main():
    "Run all, report each, fail when one failed"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--flags", default="", help="words of tst_flags whose cells are to run")
    args = parser.parse_args()
    failed = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for report, ok in pool.map(lambda p: run(p.resolve(), args.flags), args.notebooks or notebooks()):
            print(report, flush=True)
            failed += not ok
    if failed: sys.exit(f"{failed} notebook(s) failed")

if __name__ == "__main__": main()
