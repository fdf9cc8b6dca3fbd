"Faults of forked processes, ONNX graphs, and of what is kept from reporting"
from mutations import Mutation

FORKS, GRAPHS, ONNX, ERRORS = (f"rerankers/{name}.py" for name in ("engine/forks", "engine/graphs", "engine/onnx", "errors"))
TOYS = "tests/test_onnx_inputs.py -k"
QUIET = "tests/test_quiet.py -k"
NOTEBOOK = "nbs/engine/17_forks.ipynb"

MUTATIONS = [
    Mutation(FORKS, "if not (PAST.spoilt and shared()): return", "return", NOTEBOOK, "a child of a thread that ranked waits for ever"),
    Mutation(FORKS, "if not (PAST.spoilt and shared()): return", "if not PAST.spoilt: return", NOTEBOOK, "one thread of torch's is refused, which could rank"),
    Mutation(FORKS, "if not PAST.forked: return work", "if True: return work", NOTEBOOK, "what others computed before the fork makes a child wait for ever"),
    Mutation(FORKS, 'if "forked subprocess" not in str(error): raise', "raise", NOTEBOOK, "a lost graphics card is an error of torch's"),
    Mutation(FORKS, "    for thing in list(CARRIED): thing.forget()", "    pass", "tests/test_fork.py -k lock_that_another",
             "a lock that was held at the fork is held for ever"),
    Mutation(FORKS, "PAST.spoilt or PAST.computed, None", "PAST.computed, None", "tests/test_fork.py -k neither_loading", "a child of a child waits for ever"),
    Mutation(FORKS, "    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))", "    pass", NOTEBOOK, "a child with a session hangs when it ends"),
    Mutation(GRAPHS, "if unknown := [name for name, role in roles.items() if role is None]:", "if unknown := []:", f"{TOYS} refused_by_name",
             "inputs that nobody makes are let through"),
    Mutation(GRAPHS, "if len(same) > 1: raise", "if False: raise", f"{TOYS} not_clear", "two inputs that may be the ids both get them"),
    Mutation(GRAPHS, "mask.cumsum(axis=1) * mask + (1 if pad is None else pad)", "mask.cumsum(axis=1) * mask", f"{TOYS} transformers_makes",
             "RoBERTa's positions begin at zero"),
    Mutation(GRAPHS, "(2 if kind in FROM_TWO else 0)", "0", f"{TOYS} transformers_makes", "two families' positions begin at zero"),
    Mutation(GRAPHS, "np.arange(mask.shape[1]) - mask.argmax(axis=1)[:, None]", "np.arange(mask.shape[1]) - 0 * mask", f"{TOYS} whatever_the_graph",
             "padding on the left is counted"),
    Mutation(GRAPHS, "if (cast != array).any(): raise", "if False: raise", f"{TOYS} cannot_hold", "an id that overflows is another word"),
    Mutation(GRAPHS, 'np.zeros_like(ids) if config.get("type_vocab_size") == 1 else types', "types", f"{TOYS} one_kind_of_segment",
             "a model with one kind of segment gets two"),
    Mutation(GRAPHS, "found.reshape(items, 1) if found.size == items else found", "found", f"{TOYS} single_numbers", "scores in other brackets are refused"),
    Mutation(GRAPHS, "if tokens and \"attention_mask\" not in roles.values(): raise", "if False: raise", f"{TOYS} fixed_length_without",
             "padding is read as text"),
    Mutation(ONNX, 'return self.wanted.has("attention_mask")', "return True", f"{TOYS} without_a_mask_nothing", "a graph without a mask reads padding as text"),
    Mutation(ONNX, "items + more)[:items]", "items + more)", f"{TOYS} fixed_sizes", "what fills a batch comes back as scores"),
    Mutation(ONNX, "(*session_errors(), RuntimeError, ValueError)", "(ZeroDivisionError,)", f"{TOYS} fails_on_a_batch", "an error of onnxruntime's leaves"),
    Mutation(ONNX, "width > self.most: raise", "width > self.most + 1: raise", f"{TOYS} more_than_the_graph", "a text that is too long reaches the graph"),
    Mutation(ERRORS, "if name not in os.environ]", "]", f"{QUIET} what_is_set_stays", "what the user has set is overridden"),
    Mutation(ERRORS, "if not self.inside: self.ours", "if True: self.ours", f"{QUIET} silence_ends", "a second import makes the variables stay"),
    Mutation(ERRORS, "self.ours if not self.inside else ()", "self.ours", f"{QUIET} silence_ends", "one import ends the silence of another"),
    Mutation(ERRORS, "nullcontext() if module in sys.modules else SILENCE", "nullcontext()", f"{QUIET} imported_in_silence", "onnxruntime phones home"),
    Mutation("rerankers/backends/cross_encoder.py", "if most and max_length and max_length > most: raise", "if False: raise", f"{TOYS} more_than_the_graph",
             "a max_length beyond the graph is accepted"),
]
