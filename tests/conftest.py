"What several test files share; the notebooks are collected by nb_plugin.py"
import os
from pathlib import Path

import pytest

shared = Path(__file__).resolve().parents[2]/"shared"  # parity kits and data sets, beside the checkout

@pytest.fixture(scope="session")
def shared_dir():
    "The folder of parity kits and data sets: may be missing on a laptop, never in CI"
    if shared.is_dir(): return shared
    if os.environ.get("CI") == "true": pytest.fail(f"{shared} is missing")
    pytest.skip(f"no {shared} here")

try: from hypothesis import settings
except ModuleNotFoundError: pass  # the parity tests alone run without it, see oldest_transformers.sh
else:
    # Reproducible in CI, and no deadline: a busy machine is no bug
    settings.register_profile("steady", deadline=None, max_examples=60, database=None, derandomize=bool(os.environ.get("CI")))
    settings.load_profile("steady")
