"Run one notebook in this process as `nbdev_test` would: `python tests/nb_exec.py NOTEBOOK [--flags 'slow net'] [--write]`; or many, see `serve`"
import argparse
import atexit
import gc
import json
import os
import re
import signal
import sys
import tempfile
from contextlib import chdir, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType

import read_once
from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from nbdev.clean import clean_nb
from nbdev.config import get_config
from nbdev.process import extract_directives

class CellError(Exception):
    "A cell of a notebook failed; the message names notebook, cell and error"

def is_skipped(cell, skip):
    "Is `cell` not to be run: prose, `eval: false`, or marked with a word of `skip`?"
    if cell.cell_type != "code": return True
    directives = extract_directives(cell, remove=False) or {}
    return directives.get("eval:", [""])[0].lower() == "false" or bool(skip & directives.keys())

def trace(exc):
    "The traceback of `exc` from the notebook's own cell on, without colours"
    from traceback import TracebackException
    lines = list(TracebackException.from_exception(exc).format())
    own = next((i for i, line in enumerate(lines) if "execnb/shell.py" not in line and "IPython/core" not in line and i), 0)
    return re.sub(r"\x1b\[[0-9;]*m", "", "".join(lines[:1] + lines[own:]))

def describe(path, cell, exc):
    "Which notebook, which cell with its source, what went wrong"
    source = "\n".join(f"    {line}" for line in cell.source.splitlines())
    return f"{path}: cell {cell.idx_} (id {cell.get('id', '?')})\n{source}\n\n{trace(exc)}"

def run_notebook(path, flags=()):
    "The notebook at `path` with fresh outputs; cells marked with a word of `tst_flags` run only when it is in `flags`"
    nb, shell = read_nb(path), CaptureShell(path)
    skip = set(get_config().tst_flags.split()) - set(flags)
    with chdir(path.parent):
        for cell in nb.cells:
            if is_skipped(cell, skip): continue
            cell.outputs = []  # the shell leaves the old ones where a cell shows nothing
            shell.cell(cell)
            if shell.exc: raise CellError(describe(path, cell, shell.exc)) from None
    return nb

def write_clean(nb, path):
    "Write `nb` as `nbdev_clean` would leave it, and only when something changed"
    clean_nb(nb, clean_ids=True)
    before = path.read_text(encoding="utf-8")
    write_nb(nb, path)
    return path.read_text(encoding="utf-8") != before

def main(words=None):
    "Run the notebook named on the command line"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--flags", default="", help="words of tst_flags whose cells are to run")
    parser.add_argument("--write", action="store_true", help="keep the outputs in the file")
    args = parser.parse_args(words)
    path = args.notebook.resolve()
    os.environ["IN_TEST"] = "1"  # what nbdev's own helpers look at
    os.chdir(path.parent)        # where nbdev looks for settings.ini
    sys.path.insert(0, str(get_config().config_path))
    try: nb = run_notebook(path, args.flags.split())
    except CellError as e: sys.exit(str(e))
    if args.write: print("changed" if write_clean(nb, path) else "same", path)

# ---- many notebooks and scripts, each in a process of its own that need not import what most of them import

SHARED = ("pandas", "matplotlib.pyplot", "fastcore.test", "torch", "transformers", "transformers.modeling_utils", "transformers.models.auto.modeling_auto",
          "transformers.models.auto.tokenization_auto")     # imported only: nothing of them has run, so no thread of theirs is lost in a fork

def serve():
    "Run the notebook, or the script, of each JSON line of stdin in a fork of this process, and answer with its status and what it printed"
    for module in SHARED:
        with suppress(ImportError): import_module(module)
    with suppress(ImportError): read_once.gguf()
    gc.freeze()     # else each fork searches all of that for garbage, and copies the pages that it touches
    for line in sys.stdin:
        print(json.dumps(run_forked(**json.loads(line))), flush=True)

def run_forked(timeout, words=None, script=None):
    "`main(words)`, or a script, in a child: its exit status (negative: the signal that ended it), its output, and what a script said on stderr"
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as aside:
        child = os.fork()
        if not child: live(timeout, said, aside if script else said, (lambda: run_script(**script)) if script else lambda: main(words))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status < 0:
            with suppress(ProcessLookupError): os.killpg(child, signal.SIGKILL)     # its own children, which would wait for ever
        said.seek(0)
        aside.seek(0)
        return {"status": status, "output": said.read().decode(errors="replace"), "errors": aside.read().decode(errors="replace")}

def run_script(code, args, env):
    "What `python -c CODE ARGS` does in this environment, but for what is imported already"
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None     # what it was found to be
    sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv, sys.modules["__main__"] = ["-c", *args], ModuleType("__main__")
    exec(compile(code, "<script>", "exec"), vars(sys.modules["__main__"]))

def live(timeout, said, aside, work):
    "The life of a child: only what a script forks itself returns, or raises, and so ends as programs end"
    nothing, own = os.open(os.devnull, os.O_RDONLY), os.getpid()
    for ours, standard in ((nothing, 0), (said.fileno(), 1), (aside.fileno(), 2)): os.dup2(ours, standard)
    signal.setitimer(signal.ITIMER_REAL, timeout)   # its signal ends the process, whatever it does
    status = 1
    try:
        work()
        status = 0
    except SystemExit as end:
        if os.getpid() != own: raise
        if isinstance(end.code, str): print(end.code, file=sys.stderr)
        else: status = end.code or 0
    except BaseException as error:
        if os.getpid() != own: raise
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        if os.getpid() == own:
            atexit._run_exitfuncs()     # files that are to go at the end; `_exit` alone would leave them
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    sys.exit(status)

if __name__ == "__main__": serve() if sys.argv[1:] == ["--serve"] else main()
