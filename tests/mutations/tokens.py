"Faults of reading, tokens and prompts"
from mutations import Mutation

READING, TOKENS, PROMPTS = (f"rerankers/engine/{name}.py" for name in ("reading", "tokens", "prompts"))
SAME = "tests/test_reading.py -k \'tokens_are_those and {}\'"
LONG = "tests/test_long_text.py -k {}"

MUTATIONS = [
    Mutation(READING, "end, far, blanks = len(part) - self.habits.guard,", "end, far, blanks = len(part) - 1,", SAME.format("gpt2 or bert"),
             "the last tokens of a part are taken for those of the text"),
    Mutation(READING, "words[i - 1] != words[i] or self._parted(tokens, ids, i)), 0)", "True), 0)", SAME.format("gpt2"), "a text is cut within a word"),
    Mutation(READING, "(word_ends(part, p) if far else apart(part, p, blanks))", "apart(part, p, blanks)", SAME.format("right"),
             "digits that are grouped from the right are cut in the middle"),
    Mutation(READING, "not (free or word_ends(part, at))", "False", SAME.format("gpt4"), "the last tokens are out of step with the text"),
    Mutation(READING, "merged and self._parted(tokens, ids, i)", "self._parted(tokens, ids, i) or True", SAME.format("llama"), "the last tokens begin within a word"),
    Mutation(READING, "if found or n <= most or not self.habits.pieces or self.habits.far: return found", "return found",
             "tests/test_reading.py -k \'costs_what and gpt2\'", "an endless word is read whole"),
    Mutation(READING, "for one in RUNS if n else (): text", "for one in (): text", "tests/test_reading.py -k \'costs_what and bert\'", "five million blanks are read"),
    Mutation(READING, "for text in texts}     # text -> what", "for text in [str(t) for t in texts][:1]}     # text -> what",
             "tests/test_reading.py -k many_texts", "only the first text is read"),
    Mutation(READING, "len(text) <= 2 * width for text", "True for text", "tests/test_reading.py -k \'costs_what and tiny\'", "every text is read whole"),
    Mutation(TOKENS, "return (short, long) if first <= second", "return (short, long) if first < second", LONG.format("odd_token"), "equal texts share otherwise"),
    Mutation(TOKENS, "while room % 2 and most < COUNTED * room:", "while False:", LONG.format("odd_token"), "the odd token goes to the wrong text"),
    Mutation(TOKENS, "return ids[:most] if self.cut == \"right\" else", "return ids[:most] if True else", LONG.format("\'pairs_are and left\'"),
             "pairs are cut on the right whatever the tokenizer says"),
    Mutation(TOKENS, "cut=config.get(\"truncation_side\") or truncation.get(\"direction\", \"right\")", "cut=\"right\"", LONG.format("folder_says"),
             "a folder read without transformers is cut on the right"),
    Mutation(TOKENS, "positions -= (1 if pad is None else pad) + 1", "positions -= 0", LONG.format("\'longest_text and ibert\'"), "I-BERT overflows"),
    Mutation(TOKENS, "(0 if pad is None else pad + 1)", "0", LONG.format("\'longest_text and luke\'"), "a table's place for padding is counted as a position"),
    Mutation(TOKENS, "for n in (max_length, vocabulary.room) if", "for n in (max_length,) if", LONG.format("own_table"), "a model overflows its positions"),
    Mutation(TOKENS, "max(ids, default=0) >= self.known", "max(ids, default=0) > self.known", LONG.format("\'document and cross\'"), "the first lacking token is let through"),
    Mutation(TOKENS, "if self.vocabulary.kinds == 1: rows", "if False: rows", LONG.format("\'overflow and yoso\'"), "kinds that a model lacks reach it"),
    Mutation(PROMPTS, "first, last = (left - stays, stays) if right else (stays, left - stays)", "first, last = left - stays, stays",
             LONG.format("prompts_are_cut"), "a prompt is cut on the right whatever the tokenizer says"),
    Mutation(PROMPTS, "self.vocabulary.check(text, self._one(text))", "self.vocabulary.check(\"\", self._one(text))", LONG.format("\'document and pointwise\'"),
             "a lacking token is not named with its document"),
    Mutation("rerankers/rankers.py", "raise UnknownToken(f\"{owner(error.text, tasks)}: {error}\", error.text) from error", "raise",
             LONG.format("\'document and cross\'"), "the document with a lacking token is not named"),
    Mutation("rerankers/backends/bge_m3.py", "return wanted or min(512, usable or 512)", "return wanted or usable or 512", LONG.format("512_tokens"),
             "BGE-M3 reads more of a text than its authors\' code"),
    Mutation("rerankers/backends/cross_encoder.py", "(\"abdoelsayed/dear-*\",), max_length=228", "(\"abdoelsayed/dear-*\",), max_length=500", LONG.format("dear"),
             "DeAR reads more of a pair than its authors\' code"),
    Mutation("rerankers/llm/passages.py", "passages.shorten(text[:looked])", "passages.shorten(text)", LONG.format("book"), "books are built into prompts whole"),
    Mutation("rerankers/llm/local.py", "self._read(request, None if self.context is None else self.context + 1)", "self._read(request, None)", LONG.format("question"),
             "a local model makes tokens of a question that it has no room for"),
]
