"Faults of batches without padding, and of a device that is given work ahead"
from mutations import Mutation

FLAT, TORCH, BATCHING = (f"rerankers/engine/{name}.py" for name in ("flat", "pytorch", "batching"))
TESTS = "tests/test_flat.py"

MUTATIONS = [
    Mutation(FLAT, "return seen & (gap >= 0) if causal else seen", "return seen", TESTS, "in a window a decoder sees what follows"),
    Mutation(FLAT, "gap.abs() < (window or before + length)", "gap.abs() <= (window or before + length)", TESTS, "a window one token too wide"),
    Mutation(FLAT, "is_causal=causal and not narrow and length > 1", "is_causal=False", TESTS, "a decoder sees what follows"),
    Mutation(FLAT, "start += count * length", "start += length", TESTS, "runs of equal texts overlap"),
    Mutation(FLAT, "alike = (cap * (alike / cap).tanh())", "alike = alike", TESTS + " -k gemma2", "no soft cap"),
    Mutation(FLAT, "(upto - before) * kept + marked", "upto * kept + marked", TESTS + " -k roberta", "RoBERTa counts on from text to text"),
    Mutation(FLAT, "if like not in FOUND: FOUND[like], why =", "if True: FOUND[like], why =", TESTS + " -k tried_once", "each model is tried"),
    Mutation(FLAT, "if isinstance(pooler, module): yield", "if False: yield", TESTS + " -k nomicbert", "a pooler reads the row"),
    Mutation(FLAT, "<= max(noise, allowed / 4) and", "<= 9 * allowed or", TESTS + " -k 'see_each_other or wrong or off_by_one'", "any numbers agree"),
    Mutation(FLAT, "for hook in hooks: hook.remove()", "pass", TESTS + " -k stays", "hooks stay on a model that is not flat"),
    Mutation(FLAT, "for cut in [*cuts, WHOLE]", "for cut in [WHOLE]", TESTS + " -k first_tokens", "the last layer is computed for nobody"),
    Mutation(FLAT, "[ASKED, BEHIND] if", "[BEHIND] if", TESTS + " -k first_tokens", "the last layer's query is computed for nobody"),
    Mutation(FLAT, "done += count", "done += 1", TESTS, "first tokens look at other texts"),
    Mutation(FLAT, "tokens + shared * (texts_before + 1)", "tokens + shared * texts_before", TESTS + " -k before_each", "shared keys over a text's own"),
    Mutation(FLAT, "in_sight(length, window, causal, q.device, shared)", "in_sight(length, window, causal, q.device)", TESTS + " -k begin_with", "no sight of what is shared"),
    Mutation(FLAT, "else row.places[row.firsts]", "else row.places[:states.shape[1]]", TESTS + " -k first_tokens", "first tokens of other texts"),
    Mutation(TORCH, "self._limit = min(self.max_tokens, max(items * tokens // 2, 1))", "pass", TESTS + " -k halves", "out of memory again and again"),
    Mutation(TORCH, "flat_row(batch, self.device) if self.flat else None", "None", TESTS + " -k computes_no", "padding is computed all the same"),
    Mutation(BATCHING, "if len(begun) > ahead: yield", "if begun: yield", TESTS + " -k next_batch", "the device waits for the processor"),
]
