"""Break the library in one place at a time and see whether a test fails: `python tests/mutations/run.py [WORD ...] [--jobs N] [--sound]`

Words choose by area or module. A test that is red without a fault would catch everything: `--sound` runs each line of tests on the tree as it is first."""
import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

root = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(root/"tests"))
LONGEST = 900   # seconds; a fault that hangs the tests was noticed

def areas():
    "Area -> its faults; an area is a file beside this one"
    names = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "run"))
    return {name: import_module(f"mutations.{name}").MUTATIONS for name in names}

def copied(folder):
    "The tree as it is now, in `folder`, with what lies beside it"
    tree = Path(folder)/"main"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in listed:
        if not (root/name).is_file(): continue      # deleted, not yet committed
        (tree/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root/name, tree/name)
    if (root.parent/"shared").is_dir(): os.symlink(root.parent/"shared", Path(folder)/"shared")
    return tree

def planted(tree, fault):
    "Make the fault in the module and in the notebook that it is exported from, whose cells would else bring the sound code; how often its text was there"
    module = tree/fault.where
    source = module.read_text(encoding="utf-8")
    if source.count(fault.old) != 1: return source.count(fault.old)
    module.write_text(source.replace(fault.old, fault.new), encoding="utf-8")
    named = re.search(r"File to edit: (\S+\.ipynb)", source)
    if named is None: return 1
    path = (module.parent/named[1]).resolve()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace(fault.old, fault.new)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return 1

def verdict(tree, tests):
    "What pytest says of a tree: passed, failed, timeout, or another word where it could not run"
    env = dict(os.environ, PYTHONPATH=f"{tree}{os.pathsep}{tree/'tests'}", HF_HUB_OFFLINE="1", PYTHONDONTWRITEBYTECODE="1")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *shlex.split(tests)]
    try: done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LONGEST)
    except subprocess.TimeoutExpired: return "timeout"
    return {0: "passed", 1: "failed"}.get(done.returncode, f"pytest ended with {done.returncode}: {done.stdout[-300:]}")

def tried(area, fault):
    "One fault in a copy of its own: (area, fault, what pytest said)"
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = copied(folder)
        there = planted(tree, fault)
        return area, fault, verdict(tree, fault.tests) if there == 1 else f"stale: its text stands there {there} times"

def unsound(rows, jobs):
    "Lines of tests that do not pass on the tree as it is, each with what pytest said"
    with tempfile.TemporaryDirectory(prefix="sound-") as folder, ThreadPoolExecutor(jobs) as pool:
        tree, lines = copied(folder), sorted({fault.tests for _, fault in rows})
        return {line: said for line, said in zip(lines, pool.map(lambda line: verdict(tree, line), lines)) if said != "passed"}

def wanted(words):
    "The chosen faults, all when no word is given"
    rows = [(area, fault) for area, faults in areas().items() for fault in faults]
    return [(area, fault) for area, fault in rows if not words or any(word in area or word in fault.where for word in words)]

def main():
    "Try each, report each, fail when one survives"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sound", action="store_true")
    args = parser.parse_args()
    rows, alive = wanted(args.words), 0
    red = unsound(rows, args.jobs) if args.sound else {}
    for line, said in red.items(): print(f"RED without a fault: {line} ({said})", flush=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        for area, fault, said in pool.map(lambda row: tried(*row), rows):
            caught = said in ("failed", "timeout")
            alive += not caught
            print(f"{'caught  ' if caught else 'SURVIVED'} {area:12} {fault.where} · {fault.why}{'' if said == 'failed' else f' ({said})'}", flush=True)
    print(f"{len(rows)} faults, {alive} survived ({100 * alive / max(len(rows), 1):.1f} %)")
    sys.exit(alive > 0 or bool(red))

if __name__ == "__main__": main()
