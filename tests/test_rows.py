"Rows of a parametrised test that run as one test: all of them run, and each that fails is named as it is called alone"
import os
import subprocess
import sys
from pathlib import Path

ROWS = '''
import logging
import pytest

RAN = []

@pytest.fixture(scope="module")
def wide(): return "wide"

@pytest.fixture
def narrow(): return "narrow"

@pytest.fixture(params=["x", "y"])
def several(request): return request.param

@pytest.mark.parametrize("n", range(7))
def test_seven(wide, n):
    RAN.append(n)
    if n == 5: pytest.skip("not five")
    assert n not in (1, 2, 3, 6), "an unlucky number"

@pytest.mark.parametrize("a", ["p", "q"])
@pytest.mark.parametrize(("b", "c"), [(1, 2), (3, 4)])
def test_stacked(a, b, c): RAN.append((a, b, c))

@pytest.mark.parametrize("n", [1, 2])
def test_narrow(narrow, n): RAN.append(narrow)

@pytest.mark.parametrize("n", [1, 2])
def test_as_new(caplog, n):
    logging.getLogger("x").warning("row %d", n)
    assert caplog.messages == [f"row {n}"]
    RAN.append(caplog.messages[0])

@pytest.fixture(scope="module")
def place(tmp_path_factory): return tmp_path_factory.mktemp("place")

@pytest.mark.parametrize("n", [1, 2])
def test_place(place, n): RAN.append("placed")

@pytest.mark.parametrize("n", [1, 2])
def test_several(several, n): RAN.append(several)

@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.skip), 3, 4])
def test_marked(n): RAN.append(-n)

def test_all_ran():
    every = [*range(7), ("p", 1, 2), ("q", 1, 2), ("p", 3, 4), ("q", 3, 4), *["narrow"] * 2, *"xxyy", -1, -3, -4, "row 1", "row 2", *["placed"] * 2]
    assert sorted(map(str, RAN)) == sorted(map(str, every))
'''


def test_rows_together(tmp_path):
    (tmp_path / "test_it.py").write_text(ROWS)
    (tmp_path / "test_other.py").write_text("import pytest; pytest.skip('nothing here', allow_module_level=True)")
    command = [sys.executable, "-m", "pytest", "-p", "rows_plugin", "-p", "no:xdist", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    out = subprocess.run([*command, "--rows", "4"], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300).stdout
    assert "3 of 4 rows failed" in out and "1 of 3 rows failed" in out
    for n in (1, 2, 3): assert f"test_it.py::test_seven[{n}]\n" in out, "in full"
    assert out.count("an unlucky number") >= 4 and ">       assert n not in" in out and "test_it.py::test_seven[5]" not in out
    assert "26 rows in 15 tests" in out and "2 failed, 12 passed, 2 skipped" in out
