"""A pytest plug-in: `--rows 32` runs a parametrised test's rows thirty-two at a time as one test

pytest spends milliseconds on each test beside what the test does, and there are thousands of rows of microseconds. So CI asks for fewer, longer tests;
whoever works on one row leaves the option out, and each row is a test. All rows of a test run, and every row that fails is named as pytest names it
without the option. Only rows that share whatever is set up for them are joined: where a fixture is made anew for each test, a row stays a test."""
import inspect
from collections import Counter
from itertools import groupby

import pytest

SHOWN = 3   # failing rows that are told in full; the others in a line
AS_NEW = {"caplog": lambda caplog: caplog.clear()}     # fixtures that are made for each test, and what makes one as new for the next row

def pytest_addoption(parser):
    parser.getgroup("rows").addoption("--rows", type=int, default=1, metavar="N", help="run up to N rows of a parametrised test as one test")

class RowsFailed(Exception):
    "What the rows that failed have to say"

class Rows(pytest.Function):
    "Rows of one test, one after the other"

    @classmethod
    def of(cls, rows):
        "A test that runs all of these; its own function is theirs without what a row gives"
        name = f"{rows[0].name.removesuffix(']')} and {len(rows) - 1} more]"
        made = cls.from_parent(rows[0].parent, name=name, callobj=shared(rows[0]))
        made.rows = rows
        made.user_properties.append(("rows", len(rows)))
        return made

    def runtest(self):
        given, failed, skipped = {name: self.funcargs[name] for name in inspect.signature(self.obj).parameters}, [], Counter()
        for row in self.rows:
            try: row.obj(**given, **row.callspec.params)
            except pytest.skip.Exception as why: skipped[str(why)] += 1
            except (Exception, pytest.fail.Exception) as error: failed.append((row, error))
            for name in given.keys() & AS_NEW.keys(): AS_NEW[name](given[name])
        if failed: raise RowsFailed(told(failed, len(self.rows)))
        if skipped.total() == len(self.rows): pytest.skip(" / ".join(skipped))
        for why, count in skipped.items(): self.add_report_section("call", "rows", f"{count} of {len(self.rows)} skipped: {why}")

    def repr_failure(self, excinfo):
        return str(excinfo.value) if isinstance(excinfo.value, RowsFailed) else super().repr_failure(excinfo)

def shared(row):
    "What takes the fixtures of a row's function, and no parameters"
    def test(**fixtures): raise NotImplementedError     # `runtest` calls the function itself
    rest = [p for p in inspect.signature(row.obj).parameters.values() if p.name not in row.callspec.params]
    test.__signature__, test.__wrapped__, test.__doc__ = inspect.Signature(rest), row.obj, row.obj.__doc__
    test.pytestmark = [mark for mark in getattr(row.obj, "pytestmark", []) if mark.name != "parametrize"]
    return test

def told(failed, total):
    "The rows that failed, the first of them in full"
    def full(row, error):
        said = pytest.ExceptionInfo.from_exception(error)
        return str(said.getrepr(style="long", tbfilter=lambda e: e.traceback.cut(path=row.path)))
    parts = [f"{row.nodeid}\n{full(row, error)}" for row, error in failed[:SHOWN]]
    parts += [f"{row.nodeid}: {type(error).__name__}: {error}".splitlines()[0] for row, error in failed[SHOWN:]]
    return "\n\n".join([f"{len(failed)} of {total} rows failed", *parts])

# ---- which rows are joined

def joinable(item):
    "Does a row need nothing of its own but its parameters?"
    if not isinstance(item, pytest.Function) or item.cls or inspect.iscoroutinefunction(item.obj) or not hasattr(item, "callspec"): return False
    marks = [mark for mark in item.iter_markers("parametrize")]
    if item.callspec.marks or any(mark.kwargs.keys() - {"ids"} or len(mark.args) != 2 for mark in marks): return False
    fixtures, asked = item._fixtureinfo.name2fixturedefs, {*inspect.signature(item.obj).parameters}
    own = {*item.fixturenames} - {*item.callspec.params} - {*AS_NEW} - ({"request"} - asked)      # what other fixtures know of the request is theirs
    wide = all(fixtures.get(name) and fixtures[name][-1].scope != "function" for name in own)
    return wide and {*item.callspec.params} == {name for mark in marks for name in names(mark.args[0])}

def names(given): return [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given

@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(collector):
    "Join what has been made of one function"
    made, size = (yield), collector.config.getoption("--rows")
    if size < 2 or not isinstance(made, list): return made
    kinds = groupby(made, joinable)
    return [item for join, items in kinds for item in (in_parts([*items], size) if join else items)]

def in_parts(rows, size):
    "One test for so many rows, a single one as it is"
    parts = [rows[start:start + size] for start in range(0, len(rows), size)]
    return [Rows.of(part) if len(part) > 1 else part[0] for part in parts]

# ---- how many there were

def pytest_terminal_summary(terminalreporter, config):
    "With the option: rows and the tests that ran them"
    if config.getoption("--rows") < 2: return
    reports = [report for kind in ("passed", "failed", "skipped") for report in terminalreporter.stats.get(kind, []) if isinstance(report, pytest.TestReport)]
    done = [report for report in reports if report.when == "call" or report.skipped]
    rows = sum(dict(report.user_properties).get("rows", 1) for report in done)
    terminalreporter.write_line(f"{rows} rows in {len(done)} tests")
