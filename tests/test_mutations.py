"The table of deliberate faults still fits the modules: each names text that stands there once, and changes it"
from pathlib import Path

import pytest
from mutations.run import areas

root = Path(__file__).resolve().parents[1]
ROWS = [pytest.param(fault, id=f"{area}-{i}") for area, faults in areas().items() for i, fault in enumerate(faults)]


@pytest.mark.parametrize("fault", ROWS)
def test_a_fault_stands_in_its_module(fault):
    assert (root/fault.where).read_text(encoding="utf-8").count(fault.old) == 1
    assert fault.new != fault.old and (root/fault.tests.split()[0]).is_file()
