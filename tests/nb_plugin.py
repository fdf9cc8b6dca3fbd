"A pytest plug-in: every notebook under nbs/ is one test, run in a process of its own as a reader would run it"
import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import read_once

skipped_folders = {"_proc", "_docs", ".ipynb_checkpoints"}
runner = Path(__file__).with_name("nb_exec.py")

# Before anything imports torch, transformers or onnxruntime: no test may reach a hub or report to anybody, forked tokenizers only warn, and a second
# thread of torch's that waits for work leaves the core to others
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", ORT_DISABLE_TELEMETRY="1", OMP_WAIT_POLICY="passive")

def pytest_addoption(parser):
    "Our two options"
    group = parser.getgroup("notebooks")
    group.addoption("--nb-flags", default="", help="words of tst_flags whose cells are to run, such as 'slow net'")
    group.addoption("--nb-timeout", type=float, default=900, help="seconds that one notebook may take")

@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    "With several workers: share the cores between them, and let an idle worker take tests from a busy one"
    config.add_cleanup(read_once.begin())
    workers = getattr(config.option, "numprocesses", None)  # no such option without pytest-xdist
    if not workers: return
    if config.option.dist == "no": config.option.dist = "worksteal"
    n_threads = max(1, (os.cpu_count() or 1) // workers) if isinstance(workers, int) else 1
    os.environ.setdefault("OMP_NUM_THREADS", str(n_threads))

@pytest.hookimpl(wrapper=True)
def pytest_collection():
    "Python's search for garbage pauses, and passes over what collecting has made ever after: thirteen thousand tests, torch and the like, none of it garbage"
    gc.disable()
    try: return (yield)
    finally:
        gc.enable()
        gc.freeze()

@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    "The same after each file: what is left of it, such as a module that it imported first, is there to stay"
    try: return (yield)
    finally:
        if nextitem is None or nextitem.path != item.path:
            gc.collect()
            gc.freeze()

def pytest_collect_file(file_path, parent):
    "Take the notebooks under nbs/, none of those that tools leave there"
    nbs = parent.config.rootpath/"nbs"
    if file_path.suffix == ".ipynb" and nbs in file_path.parents and not skipped_folders & set(file_path.parts):
        return NotebookFile.from_parent(parent, path=file_path)

def pytest_collection_modifyitems(items):
    "Notebooks first, those in folders before the others: they load models, and the longest must not start last"
    items.sort(key=lambda item: (not isinstance(item, Notebook), -len(item.path.parts) if isinstance(item, Notebook) else 0))

class NotebookFailed(Exception):
    "A notebook that did not run to its end, with the report of its process"

def plain(words, timeout, env=os.environ):
    "Exit status, output and errors of a Python of its own; of a notebook's, all that it printed comes as output"
    aside = subprocess.PIPE if words[0] == "-c" else subprocess.STDOUT
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, stderr=aside, text=True, stdin=subprocess.DEVNULL, timeout=timeout, env=env)
    return done.returncode, done.stdout, done.stderr

class Nursery:
    """A process that has imported what most notebooks and many scripts of tests import, and forks one child each; an import of torch and transformers
    takes seconds"""
    process = None

    def run(self, words, timeout):
        "What the notebook's process ended with, and what it printed"
        if not hasattr(os, "fork"): return plain([str(runner), *words], timeout)[:2]
        return self.ask(words=words, timeout=timeout)[:2]

    def script(self, code, *args, env=os.environ, timeout=800):
        "Exit status, output and errors of `python -c CODE ARGS`, where torch and transformers may be imported already; `env` counts from then on"
        if not hasattr(os, "fork"): return plain(["-c", code, *args], timeout, env)
        return self.ask(script={"code": code, "args": args, "env": dict(env)}, timeout=timeout)

    def ask(self, **job):
        "What became of a fork of the process, which is started first where there is none"
        if self.process is None:
            self.process = subprocess.Popen([sys.executable, str(runner), "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer: raise NotebookFailed(f"the process that runs notebooks ended with {self.process.wait()}")
        return tuple(json.loads(answer).values())

    def close(self):
        "Let it end"
        if self.process is not None: self.process.communicate()

NURSERY = Nursery()

def pytest_unconfigure(config): NURSERY.close()

class NotebookFile(pytest.File):
    def collect(self): yield Notebook.from_parent(self, name="notebook")

class Notebook(pytest.Item):
    def runtest(self):
        timeout = self.config.getoption("--nb-timeout")
        status, output = NURSERY.run([str(self.path), "--flags", self.config.getoption("--nb-flags")], timeout)
        if status == -signal.SIGALRM: raise NotebookFailed(f"{self.path}: not done after {timeout:g} s (--nb-timeout)")
        if status: raise NotebookFailed(f"{output}\n(exit status {status})")

    def repr_failure(self, excinfo):
        return str(excinfo.value) if isinstance(excinfo.value, NotebookFailed) else super().repr_failure(excinfo)

    def reportinfo(self): return self.path, None, str(self.path.relative_to(self.config.rootpath))
