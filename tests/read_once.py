"""A large GGUF is read once in a run of the tests, by whichever process needs it first

transformers takes ten seconds and more to read one, three times for one model. What its `load_gguf_checkpoint` returned is kept in a folder
that all processes of a run share, under what the file is and what was asked of it. Reading it parses the file once, not once for the
configuration and once for the weights. Nothing else of loading is replaced."""
import os
import shutil
import tempfile
from functools import cache, lru_cache, wraps
from hashlib import sha256
from pathlib import Path

PLACE = "RERANKERS_TESTS_READ_ONCE"     # the variable that names the folder; without it everything is read as ever

def begin():
    "Make the folder, unless the process that started this one has; gives a function that removes it"
    if PLACE in os.environ: return lambda: None
    os.environ[PLACE] = tempfile.mkdtemp(prefix="read-once-")
    return lambda: shutil.rmtree(os.environ.pop(PLACE), ignore_errors=True)

def gguf():
    "Have transformers' reader of GGUF files keep what it read and take what is kept; imports torch and transformers"
    import gguf as package
    import torch
    from filelock import FileLock       # comes with torch
    from transformers import modeling_gguf_pytorch_utils as reader
    read, parse = reader.load_gguf_checkpoint, lru_cache(1)(lambda path, size, changed: opened(path))
    if PLACE not in os.environ or hasattr(read, "__wrapped__"): return
    opened = package.GGUFReader
    package.GGUFReader = lambda path: parse(path, os.stat(path).st_size, os.stat(path).st_mtime_ns)     # a model and its configuration each ask
    package.get_tensor_name_map = cache(package.get_tensor_name_map)    # asked for anew for each module, always alike

    @wraps(read)
    def once(path, return_tensors=False, model_to_load=None, **more):
        file = os.stat(path)
        asked = (os.path.realpath(path), file.st_size, file.st_mtime_ns, return_tensors, type(model_to_load).__name__, sorted(more.items()))
        kept = Path(os.environ[PLACE]) / sha256(repr(asked).encode()).hexdigest()
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                torch.save(read(path, return_tensors, model_to_load, **more), f"{kept}.part")
                os.rename(f"{kept}.part", kept)
        return torch.load(kept, mmap=True, weights_only=False)
    reader.load_gguf_checkpoint = once
