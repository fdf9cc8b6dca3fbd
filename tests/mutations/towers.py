"Faults of the two-tower kind and of the encodings that are kept"
from mutations import Mutation

TOWERS, VECTORS, ENCODED = (f"rerankers/engine/{name}.py" for name in ("towers", "vectors", "encoded"))
BI, SPLADE, STATIC, M3, LATE = (f"rerankers/backends/{name}.py" for name in ("biencoder", "splade", "static", "bge_m3", "colbert"))
KIND, COLBERT = "tests/test_two_towers.py", "tests/test_colbert.py"

MUTATIONS = [
    Mutation(TOWERS, "place = {key: i for i, key in enumerate(dict.fromkeys(given))}\n    return list(place), [place[key] for key in given]",
             "return given, list(range(len(given)))", KIND + " -k 'once or distinct'", "what occurs twice is encoded twice"),
    Mutation(TOWERS, "truncated=[cut or lost for lost in sheet.cut]", "truncated=list(sheet.cut)", "tests/test_similarities.py", "a query that was cut is not marked"),
    Mutation(TOWERS, "for place, row in zip(places, rows): self.cut[place] = told.cut[row]", "for place in places: self.cut[place] = False", KIND + " -k fresh",
             "a document that was cut is not marked"),
    Mutation(TOWERS, "self.explained(query, doc if isinstance(doc, str) else self.view(doc), *sheet.homes[place])",
             'self.explained(query, doc if isinstance(doc, str) else doc.text or "", *sheet.homes[place])', KIND + " -k explanations",
             "an explanation of other words than those that were encoded"),
    Mutation(TOWERS, "list(dict.fromkeys(query for query, _ in lists)) if known is None else []", "list(dict.fromkeys(query for query, _ in lists))",
             KIND + " -k enough_time", "in a hurry a query is encoded with every part"),
    Mutation(TOWERS, "if len(row) != len(places): raise UnusableAnswer", "if False: raise UnusableAnswer", KIND + " -k too_few", "one score is given to all documents"),
    Mutation(TOWERS, "for doc in docs: check_text(doc, self.view)", "pass", KIND + " -k changed", "vectors of a text that is no longer there are ranked"),
    Mutation(TOWERS, '"fields": shown, **self', '"fields": None, **self', KIND + " -k fields", "vectors of other fields are ranked"),
    Mutation(TOWERS, "self._full([Task(\"\", items)])", "pass", KIND + " -k picture", "a picture is encoded as an empty text"),
    Mutation(TOWERS, "part = slice(start, start + COMPARED)", "part = slice(start, None)", KIND + " -k pieces", "the last documents are compared again and again"),
    Mutation(VECTORS, "exact if found.scales is None else exact * found.scales[:, None]", "exact", KIND + " -k fewer_bits", "vectors in eight bits have no length"),
    Mutation(VECTORS, "laid[query.ids] = query.weights", "laid[query.ids] = 1", KIND + " -k products", "weights of the query do not count"),
    Mutation(VECTORS, "SparseVectors(self.ids[at], self.weights[at], self.lengths[list(chosen)])", "SparseVectors(self.ids[at], self.weights[at], self.lengths)",
             KIND + " -k 'products or slice'", "words of other documents"),
    Mutation(VECTORS, "JointVectors(tuple(part.pick(chosen) for part in self.parts))", "JointVectors((*(p.pick(chosen) for p in self.parts[:1]), *self.parts[1:]))",
             KIND + " -k joint", "one part in another order than the others"),
    Mutation(ENCODED, 'theirs_by = {"encodings": store.vectors.kind, **store.made_by}', "theirs_by = {**store.made_by}", KIND + " -k version_1",
             "what ColBERT kept before is refused"),
    Mutation(ENCODED, 'if path.name not in files and path.stem.rpartition(".")[2] in ARRAYS: path.unlink()', "pass", KIND + " -k over_another",
             "files of an earlier save stay"),
    Mutation(ENCODED, '"metadata": dict(item.metadata)}', '"metadata": item.metadata}', KIND + " -k fields", "a changed document changes its store, and nothing is noticed"),
    Mutation(ENCODED, "if view(doc) != view(doc.store.items[doc.row]):", "if doc.text != doc.store.items[doc.row].text:", KIND + " -k fields",
             "a shown field that was changed after encoding is not noticed"),
    Mutation(ENCODED, "described: Sequence[str] = (*DESCRIPTIONS, *READING)", "described: Sequence[str] = READING", KIND + " -k old_name",
             "another tokenizer is not noticed"),
    Mutation(SPLADE, "paths=[path for _, path in document_side]", "paths=None", KIND + " -k place_of_its_own", "a tower in a folder of its own may change unseen"),
    Mutation(SPLADE, "queries_read = read if alike else", "queries_read = self.weigh(asked, call) if alike else", "tests/test_splade.py -k 'once or alike'",
             "a text that is query and document is read twice"),
    Mutation(M3, "known = fingerprint(folder, heads)", "known = fingerprint(folder)", KIND + " -k old_name", "other layers for words and tokens are not noticed"),
    Mutation(M3, "documents.dense.device), documents.pick(rows)", "documents.dense.device), documents.pick(range(len(rows)))", "tests/test_bge_m3.py -k pooled",
             "scores of other documents"),
    Mutation(LATE, 'return {"model": self.model, "projection": self.projection,', 'return {"model": self.model,', COLBERT + " -k settings_that",
             "a missing projection is not named"),
]
