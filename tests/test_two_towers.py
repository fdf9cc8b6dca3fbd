"Two towers: each text encoded once, and documents whose encodings are kept, for every method that has them"
import asyncio
import gc
import hashlib
import json
import pickle
import shutil
import weakref
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
import every_kind  # noqa: E402
import numpy as np  # noqa: E402
from closeness import near  # noqa: E402

import rerankers.calls as calls  # noqa: E402
from rerankers import Document, InputError  # noqa: E402
from rerankers.calls import check_wanted  # noqa: E402
from rerankers.engine.encoded import EncodedDocuments, digest  # noqa: E402
from rerankers.engine.towers import COMPARED, Encodings, TwoTowerRanker, distinct  # noqa: E402
from rerankers.engine.vectors import DenseVectors, JointVectors, SparseVectors  # noqa: E402
from rerankers.errors import UnusableAnswer  # noqa: E402
from rerankers.evaluation import TestSet  # noqa: E402
from rerankers.evaluation.pairs import score_all  # noqa: E402
from rerankers.testing import check_ranker  # noqa: E402

KINDS = ["biencoder", "static", "splade", "bge-m3", "colbert"]
QUERY, OTHER = "who wrote the play hamlet ?", "where was faust new ?"
TEXTS = ["faust was written by goethe .", "hamlet was written by william shakespeare .", "", "the play was first in london",
         "hamlet " * 900, "hamlet was written by william shakespeare ."]      # the last but one is cut, the last is there already


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("towers")
    return cache(lambda kind: every_kind.write(kind, base))


@pytest.fixture(scope="module")
def rankers(folders):
    return cache(lambda kind: every_kind.load(kind, folders(kind)))


@pytest.fixture(params=KINDS)
def kind(request): return request.param


@pytest.fixture
def ranker(kind, rankers): return rankers(kind)


def of(results): return [results.get_result_by_docid(i) for i in range(len(results))]
def told(results): return [(r.score, r.scores, r.truncated) for r in of(results)]
def sets(results): return [{"": r.score, **r.scores} for r in of(results)]


def alike(ours, theirs, rel=1e-6):
    "Equal but for the rounding of another batch: relative to the largest score of a set, as a score near zero is a difference of larger numbers"
    for name in theirs[0]:
        largest = max(abs(row[name]) for row in theirs)
        assert [row[name] for row in ours] == pytest.approx([row[name] for row in theirs], rel=rel, abs=rel * largest)


@pytest.fixture
def seen(kind, ranker, monkeypatch):
    "Texts that the model read, a number for each of its passes"
    found = []
    if kind == "static":
        read = ranker.encoder
        def counted(texts):
            if texts: found.append(len(texts))
            return read(texts)
        monkeypatch.setattr(ranker, "encoder", counted)
        yield found
        return
    runtime = getattr(ranker.runtime, "full", ranker.runtime)
    hook = runtime.model.register_forward_hook(lambda model, args, output: found.append(len(output[0])))
    yield found
    hook.remove()


# ---- each text once

def test_a_ranked_store_costs_one_pass_for_the_query(ranker, seen):
    store = ranker.encode(TEXTS)
    assert sum(seen) == len(set(TEXTS))
    seen.clear()
    ranker.rank(QUERY, store)
    assert seen == [1]
    ranker.rank_many([QUERY, OTHER, QUERY], store)
    assert sum(seen) == 3


def test_each_distinct_text_is_encoded_once(ranker, seen):
    ranker.rank_many([QUERY, OTHER], [TEXTS, [*TEXTS[::-1], "new"]])
    assert sum(seen) == 2 + len({*TEXTS, "new"})


def test_stored_and_fresh_ones_in_one_list_encode_the_fresh_ones(ranker, seen):
    store = ranker.encode(TEXTS[:2])
    seen.clear()
    ranker.rank(QUERY, [*store, TEXTS[3], store[0], TEXTS[3]])
    assert sum(seen) == 2


def test_a_comparison_encodes_each_text_once_for_all_queries(ranker, seen):
    asked = {f"q{i}": f"{QUERY} {'new ' * i}" for i in range(17)}      # more than are ranked together
    corpus = {f"d{i}": Document(text, f"d{i}") for i, text in enumerate([*TEXTS, "new"])}
    pool = {q: [f"d{(i + k) % len(corpus)}" for k in range(5)] for i, q in enumerate(asked)}
    table = score_all(ranker, TestSet(asked, corpus, {}), pool)
    assert sum(seen) == len(asked) + len({doc.text for doc in corpus.values()}) and not table.failures
    for q in ("q0", "q16"):
        plain = ranker.rank(asked[q], [corpus[d] for d in pool[q]])
        alike([{"": s} for s in table.rows[q].scores], [{"": plain.get_score_by_docid(d)} for d in pool[q]])


# ---- scores

def test_stored_documents_score_as_fresh_ones(ranker):
    fresh, kept = ranker.rank(QUERY, TEXTS), ranker.rank(QUERY, ranker.encode(TEXTS))
    alike(sets(kept), sets(fresh))
    assert [r.truncated for r in of(kept)] == [r.truncated for r in of(fresh)] == [n == 4 for n in range(len(TEXTS))]
    assert len({r.score for r in fresh}) >= 4


def test_many_queries_over_one_store(ranker):
    store = ranker.encode(TEXTS)
    for found, query in zip(ranker.rank_many([QUERY, OTHER], store), (QUERY, OTHER)): alike(sets(found), sets(ranker.rank(query, TEXTS)))
    for found, part in zip(ranker.rank_many([QUERY, OTHER], [store[1:3], store]), (TEXTS[1:3], TEXTS)):
        alike(sets(replace(found, results=[replace(r, document=Document(r.text, i)) for r in found for i in [list(part).index(r.text)]]))
              if len(set(part)) == len(part) else sets(found), sets(ranker.rank(found.query, part)))


def test_mixed_lists(ranker):
    first, second = ranker.encode(TEXTS), ranker.encode(TEXTS[::-1])
    mixed = [first[0], TEXTS[1], second[3], Document(TEXTS[3]), second[1], first[1]]
    alike(sets(ranker.rank(QUERY, mixed, doc_ids=range(6))), sets(ranker.rank(QUERY, TEXTS)))


def test_the_order_of_stored_documents_does_not_matter(ranker):
    store = ranker.encode(TEXTS)
    found = ranker.rank(QUERY, [store[i] for i in (3, 0, 3, 5)], doc_ids=range(4))
    whole = of(ranker.rank(QUERY, store))
    assert [r.score for r in of(found)] == near([whole[i].score for i in (3, 0, 3, 5)])


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_fewer_bits(kind, ranker, precision, tmp_path):
    if kind == "splade":
        with pytest.raises(InputError, match=f"precision='{precision}'.*keeps float32"): ranker.encode(TEXTS, precision=precision)
        return
    small, exact = ranker.encode(TEXTS, precision=precision), sets(ranker.rank(QUERY, TEXTS))
    alike(sets(ranker.rank(QUERY, small)), exact, rel=2e-2)
    size = {p: sum(a.nbytes for a in ranker.encode(TEXTS, precision=p).vectors.arrays().values()) for p in ("float32", precision)}
    assert size[precision] < size["float32"]
    small.save(tmp_path)
    assert told(ranker.rank(QUERY, EncodedDocuments.load(tmp_path))) == told(ranker.rank(QUERY, small))


def test_an_unknown_precision_is_refused_before_anything_is_read(ranker, seen):
    with pytest.raises(InputError, match="precision='float8'"): ranker.encode(TEXTS, precision="float8")
    assert not seen


# ---- on disk

def test_there_and_back(ranker, tmp_path):
    docs = [Document(text, f"d{i}", {"n": i}, title="Hamlet" if i == 1 else None) for i, text in enumerate(TEXTS)]
    store = ranker.encode(docs)
    store.save(tmp_path)
    again = EncodedDocuments.load(tmp_path)
    first, second = ranker.rank(QUERY, store), ranker.rank(QUERY, again)
    assert first == second and [r.document for r in second] == [docs[r.metadata["n"]] for r in second]
    assert all(isinstance(a, np.memmap) or name.endswith("lengths") for name, a in again.vectors.arrays().items())


def test_a_slice_is_a_store(ranker, tmp_path):
    store = ranker.encode(TEXTS)
    whole = {r.doc_id: r.score for r in ranker.rank(QUERY, store)}
    for part in (store[1:4], store[::-1], store[::2], store[:0]):
        part.save(tmp_path)
        again = EncodedDocuments.load(tmp_path)
        assert again.items == part.items and again.vectors.about() == part.vectors.about()
        assert {r.doc_id: r.score for r in ranker.rank(QUERY, again)} == near({d.doc_id: whole[d.doc_id] for d in part.items})


def test_no_documents_are_a_store_too(ranker, tmp_path):
    empty = ranker.encode([])
    empty.save(tmp_path)
    assert len(EncodedDocuments.load(tmp_path)) == 0 and len(ranker.rank(QUERY, EncodedDocuments.load(tmp_path))) == 0


def test_a_file_that_was_changed_is_found_out(ranker, tmp_path):
    store = ranker.encode(TEXTS)
    store.save(tmp_path / "sound")
    for name in [*(f"{n}.npy" for n in store.vectors.arrays()), "documents.jsonl"]:
        folder = Path(shutil.copytree(tmp_path / "sound", tmp_path / name))
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(InputError, match=f"{name} is not the file"): EncodedDocuments.load(folder)
        (folder / name).unlink()
        with pytest.raises(InputError, match=f"{name} is missing"): EncodedDocuments.load(folder)


def first_line(line): return lambda about, lines: lines.__setitem__(0, line)


DAMAGE = {"made_by": lambda about, lines: about.update(made_by=["a"]), "no digest": lambda about, lines: about["files"].pop("documents.jsonl"),
          "metadata": first_line('{"text": "a", "doc_id": 1, "metadata": [1]}'), "text": first_line('{"text": 5, "doc_id": 1}'),
          "list": first_line("[1]"), "deep": first_line("[" * 100_000)}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_folder_that_somebody_else_wrote_is_refused_at_once(what, rankers, tmp_path):
    "Its digests are right, and what it says is not"
    rankers("static").encode(TEXTS).save(tmp_path)
    about, lines = json.loads((tmp_path / "about.json").read_text()), (tmp_path / "documents.jsonl").read_text().splitlines()
    DAMAGE[what](about, lines)
    (tmp_path / "documents.jsonl").write_text("\n".join(lines) + "\n")
    if "documents.jsonl" in about["files"]: about["files"]["documents.jsonl"] = digest(tmp_path / "documents.jsonl")
    (tmp_path / "about.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="does not describe the files beside it"): EncodedDocuments.load(tmp_path)


def test_a_file_is_no_folder_to_save_to(rankers, tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(InputError, match="is a file"): rankers("static").encode(TEXTS[:1]).save(tmp_path / "mine")


def test_a_save_over_another_kind_leaves_nothing_of_it(rankers, tmp_path):
    (tmp_path / "mine.npy").write_bytes(b"")        # a file that is none of ours stays
    for name in (*KINDS, *KINDS[::-1]):
        store = rankers(name).encode(TEXTS, precision="float32" if name == "splade" else "int8")
        store.save(tmp_path)
        assert {p.name for p in tmp_path.glob("*.npy")} == {"mine.npy", *(f"{n}.npy" for n in store.vectors.arrays())}
        assert told(rankers(name).rank(QUERY, EncodedDocuments.load(tmp_path))) == told(rankers(name).rank(QUERY, store))


# ---- folders of version 1, which held token vectors alone

def word(content):
    "The digest of a small file in version 1"
    return hashlib.sha256(str(len(content)).encode() + content).hexdigest()[:16]


def old_fingerprint(folder, ranker):
    "Of configuration, tokenizer and weights, all of them small, and of the layers after the transformer"
    found = hashlib.sha256()
    for name in ("config.json", "adapter_config.json", "modules.json", "tokenizer.json", "vocab.txt", "model.safetensors"):
        if (Path(folder) / name).is_file(): found.update(f"{name} {word((Path(folder) / name).read_bytes())} ".encode())
    for layer in ranker.runtime.read.layers:
        for weight in getattr(layer, "parameters", list)(): found.update(weight.detach().numpy().tobytes())
    return found.hexdigest()[:16]


def old_store(place, folder, ranker, precision):
    "A folder as it was written before there were other kinds"
    rows = ranker.vectors(TEXTS, ranker.documents, calls.Call(progress=False))
    values = np.concatenate(rows[0])
    arrays = {"values": values, "lengths": np.array([len(row) for row in rows[0]], dtype=np.int64)}
    if precision == "int8":
        arrays["scales"] = (np.abs(values).max(axis=1, initial=1e-12).astype(np.float32) / 127)
        arrays["values"] = np.round(values / arrays["scales"][:, None]).astype(np.int8)
    else: arrays["values"] = values.astype(precision)
    lines = "".join(json.dumps({"text": text, "doc_id": i, "metadata": {"n": i}, "document_type": "text", **({"truncated": True} if cut else {})}) + "\n"
                    for i, (text, cut) in enumerate(zip(TEXTS, rows[1])))
    (place / "documents.jsonl").write_text(lines, encoding="utf-8")
    for name, array in arrays.items(): np.save(place / f"{name}.npy", array)
    s = ranker.settings
    made_by = {"model": "somewhere/else", "projection": True, "dim": 16, "fingerprint": old_fingerprint(folder, ranker), "document_marker": s.document_marker,
               "inserted": s.inserted, "document_prompt": s.document_prompt, "document_length": s.document_length, "skiplist": list(s.skiplist),
               "skip_pieces": s.skip_pieces, "skip_documents": s.skip_documents, "only": list(s.only), "lower": s.lower, "strip": s.strip}
    about = {"version": 1, "documents": len(TEXTS), "tokens": len(values), "dim": 16, "dtype": precision,
             "files": {p.name: word(p.read_bytes()) for p in place.iterdir()}, "made_by": made_by}
    (place / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_folders_of_version_1_still_load(folders, rankers, precision, tmp_path):
    ranker = rankers("colbert")
    old_store(tmp_path, folders("colbert"), ranker, precision)
    store = EncodedDocuments.load(tmp_path)
    assert told(ranker.rank(QUERY, store)) == told(ranker.rank(QUERY, ranker.encode(TEXTS, precision=precision)))
    assert [d.metadata for d in store] == [{"n": i} for i in range(len(TEXTS))] and store.cut == [n == 4 for n in range(len(TEXTS))]
    store.save(tmp_path)        # over itself, in today's form
    assert json.loads((tmp_path / "about.json").read_text())["version"] == 2
    assert told(ranker.rank(QUERY, EncodedDocuments.load(tmp_path))) == told(ranker.rank(QUERY, store))
    with pytest.raises(InputError, match="encodings='tokens'"): rankers("biencoder").rank(QUERY, store)


# ---- whose encodings?

CHANGES = [("biencoder", {"document_prompt": "text : "}, "document_prompt=''"), ("biencoder", {"max_length": 16}, "max_length"),
           ("biencoder", {"truncate_dim": 8}, "truncate_dim=None"), ("static", {"document_prompt": "text : "}, "document_prompt=''"),
           ("static", {"max_length": 16}, "max_length"), ("static", {"rules": "sentence-transformers"}, "rules='model2vec'"),
           ("splade", {"document_prompt": "text : "}, "document_prompt=''"), ("splade", {"max_length": 16}, "max_length"),
           ("splade", {"max_terms": 3}, "max_terms=None"), ("bge-m3", {"max_passage_length": 16}, "max_passage_length"),
           ("colbert", {"document_prompt": "text : "}, "document_prompt=''"), ("colbert", {"document_length": 16}, "document_length")]


@pytest.mark.parametrize(("kind", "options", "said"), CHANGES, ids=lambda value: value if isinstance(value, str) else "+".join(value))
def test_a_store_that_was_made_otherwise_is_refused_by_name(folders, kind, options, said):
    store, other = every_kind.load(kind, folders(kind), **options).encode(TEXTS), every_kind.load(kind, folders(kind))
    with pytest.raises(InputError, match=f"encoded with {next(iter(options))}=.*this ranker has {said}"): other.rank(QUERY, store)
    with pytest.raises(InputError, match=f"encoded with {said}"): every_kind.load(kind, folders(kind), **options).rank(QUERY, [other.encode(TEXTS)[0], "a"])


KEPT = [("biencoder", {"query_prompt": "q : ", "similarity": "dot"}), ("static", {"query_prompt": "q : ", "similarity": "manhattan"}),
        ("splade", {"query_prompt": "q : "}), ("bge-m3", {"mode": "sparse", "weights": (1, 2, 3), "max_query_length": 8}),
        ("colbert", {"query_prompt": "q : ", "query_length": 8, "mean": True})]


@pytest.mark.parametrize(("kind", "options"), KEPT, ids=lambda value: value if isinstance(value, str) else "+".join(value))
def test_what_changes_no_document_may_change(folders, rankers, kind, options):
    other, store = every_kind.load(kind, folders(kind), **options), rankers(kind).encode(TEXTS)
    alike(sets(other.rank(QUERY, store)), sets(other.rank(QUERY, TEXTS)))
    assert [r.score for r in other.rank(QUERY, store)] != near([r.score for r in rankers(kind).rank(QUERY, store)])


FILES = {"biencoder": ["model.safetensors", "tokenizer.json", "config.json"], "static": ["model.safetensors", "tokenizer.json", "config.json"],
         "splade": ["model.safetensors", "1_SpladePooling/config.json"], "bge-m3": ["model.safetensors", "sparse_linear.pt", "colbert_linear.pt"],
         "colbert": ["model.safetensors"]}


def retouched(path):
    "The same file with other numbers in it, as after further training, or with another entry"
    import torch
    from safetensors.torch import load_file, save_file
    if path.suffix == ".json": path.write_text(json.dumps({**json.loads(path.read_text()), "note": 1} if path.name == "config.json" and
                                                          "Splade" not in str(path) else json.loads(path.read_text()), indent=7))
    elif path.suffix == ".pt": torch.save({name: tensor * 1.01 for name, tensor in torch.load(path, weights_only=True).items()}, path)
    else: save_file({name: tensor * 1.01 for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})


@pytest.mark.parametrize(("kind", "file"), [(kind, file) for kind, files in FILES.items() for file in files])
def test_a_model_that_was_changed_under_its_old_name(folders, tmp_path, kind, file):
    folder = Path(shutil.copytree(folders(kind), tmp_path / "model"))
    store = every_kind.load(kind, str(folder)).encode(TEXTS[:2])
    same = Path(shutil.copytree(folder, tmp_path / "same"))
    assert len(every_kind.load(kind, str(same)).rank(QUERY, store)) == 2
    retouched(folder / file)
    with pytest.raises(InputError, match="encoded with model=.*fingerprint"): every_kind.load(kind, str(folder)).rank(QUERY, store)


def test_weights_of_a_document_tower_with_a_place_of_its_own(tmp_path):
    "A Router's document side is looked at, and its queries' table may change"
    splade = pytest.importorskip("test_splade")
    base = splade.tiny(tmp_path / "base")
    folder = splade.routed(base, tmp_path / "routed")
    (folder / "idf.json").write_text('{"hamlet": 2.0}')
    store = every_kind.load("splade", str(folder)).encode(TEXTS[:2])
    (folder / "idf.json").write_text('{"hamlet": 3.0, "wrote": 1.0}')
    assert len(every_kind.load("splade", str(folder)).rank(QUERY, store)) == 2
    retouched(folder / "document_0_MLMTransformer" / "model.safetensors")
    with pytest.raises(InputError, match="fingerprint"): every_kind.load("splade", str(folder)).rank(QUERY, store)


@pytest.mark.parametrize("theirs", KINDS)
def test_a_store_of_another_method_is_refused(ranker, rankers, kind, theirs):
    if theirs == kind: return
    with pytest.raises(InputError, match="these documents were encoded with"): ranker.rank(QUERY, rankers(theirs).encode(TEXTS[:2]))


def test_one_folder_read_by_two_methods(folders, tmp_path):
    "The same weights: what tells the encodings apart is their kind"
    from rerankers import Reranker
    joint, single = (Reranker(folders("bge-m3"), model_type=word, device="cpu") for word in ("bge-m3", "biencoder"))
    with pytest.raises(InputError, match=r"encodings='dense', this ranker has encodings='dense\+sparse\+tokens'"): joint.rank(QUERY, single.encode(TEXTS))


# ---- what the model is shown

def test_another_choice_of_fields_refuses_the_store(folders, kind):
    docs = [Document(text, i, {"year": 1600 + i, "seen": 0}) for i, text in enumerate(TEXTS[:3])]
    plain, dated = (every_kind.load(kind, folders(kind), **options) for options in ({}, {"fields": ("text", "year")}))
    store = dated.encode(docs)
    alike(sets(dated.rank(QUERY, store)), sets(dated.rank(QUERY, docs)))
    with pytest.raises(InputError, match=r"encoded with fields=\['text', 'year'\], this ranker has fields=None"): plain.rank(QUERY, store)
    with pytest.raises(InputError, match="encoded with fields=None"): dated.rank(QUERY, plain.encode(docs))
    doc = store[1]
    doc.metadata["seen"] = 1
    assert len(dated.rank(QUERY, [doc])) == 1
    doc.metadata["year"] = 1900
    with pytest.raises(InputError, match="document 1 was changed after it was encoded"): dated.rank(QUERY, [doc])
    assert store.items[1].metadata == {"year": 1601, "seen": 0}


def test_a_text_that_was_changed_is_refused(ranker):
    doc = ranker.encode(TEXTS)[1]
    doc.text = "goethe"
    with pytest.raises(InputError, match="document 1 was changed after it was encoded"): ranker.rank(QUERY, ["a", doc])


def test_a_picture_without_a_text_is_not_encoded_as_nothing(ranker):
    with pytest.raises(InputError, match="is a picture without a text"): ranker.encode([Document("a"), Document(image_path="page.png")])
    assert len(ranker.encode([Document("a", image_path="page.png")])) == 1


# ---- in a hurry, in pieces, in other processes

@pytest.fixture
def clock(monkeypatch):
    "A clock that a test moves itself"
    now = [0.0]
    monkeypatch.setattr(calls, "monotonic", lambda: now[0])
    return now


def test_enough_time_changes_nothing_and_reads_a_query_once(ranker, seen, clock):
    docs = [f"{text} {i}" for i in range(8) for text in TEXTS[:4]]
    expected = sets(ranker.rank(QUERY, docs))
    seen.clear()
    found = ranker.rank(QUERY, docs, deadline=60)
    alike(sets(found), expected)
    assert found.status == "complete" and sum(seen) == 1 + len(docs)
    store = ranker.encode(docs)
    seen.clear()
    alike(sets(ranker.rank(QUERY, store, deadline=60)), expected)
    assert seen == [1]


class Slow(TwoTowerRanker):
    "Letters of texts, a second for each text"
    kind, fingerprint, model, explains = "dense", "slow", "slow", True
    def __init__(self, clock): self.clock = clock
    def encode_texts(self, queries, documents, call):
        for _ in (*queries, *documents):
            self.clock[0] += 1
            check_wanted()
        counts = np.array([[t.count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for t in (*queries, *documents)], dtype=np.float32).reshape(-1, 26)
        return Encodings(DenseVectors(counts), [len(t) > 8 for t in (*queries, *documents)]).split(len(queries))
    def compare(self, query, documents, rows): return documents.rows(rows) @ query.rows([0])[0]
    def explained(self, query, text, documents, row): return query, text, documents.rows([row])[0].sum()


def test_what_time_is_left_for_is_scored_and_the_rest_follows(clock):
    docs = ["x" * n for n in (3, 9, 1, 7, 5, 8, 2, 6, 4, 10, 12, 11)]
    results = Slow(clock).rank("x", docs, deadline=10)
    scored = [r for r in results if r.score is not None]
    assert [r.doc_id for r in scored] == sorted(range(8), key=lambda i: -len(docs[i])) and [r.doc_id for r in results[8:]] == [8, 9, 10, 11]
    assert results.status == "4 of 12 documents were not judged: the deadline passed" and clock[0] <= 11
    assert scored[0].explain() == ("x", "x" * 9, 9) and [r.truncated for r in scored] == [True, *[False] * 7]
    assert not Slow(clock).rank("x", docs, deadline=0.5).has_scores, "there was no time for the query"


def test_a_store_is_ranked_in_the_time_that_the_query_takes(clock):
    store = Slow(clock).encode(["x" * n for n in range(1, 300)])
    assert Slow(clock).rank("x", store, deadline=2).status == "complete"


def test_explanations_of_stored_and_fresh_documents(clock):
    ranker = Slow(clock)
    store = ranker.encode(["ab", "abc", "a"])
    for result in ranker.rank("who", [store[1], "abcde", store[2]]): assert result.explain() == ("who", result.text, len(result.text))
    ranker.fields = ("title", "text")
    [result] = ranker.rank("who", ranker.encode([Document("ab", title="c")]))
    assert result.explain() == ("who", "c ab", 3)


def test_other_processes_threads_and_loops(ranker, tmp_path):
    store = ranker.encode(TEXTS)
    found = ranker.rank(QUERY, store)
    twin = pickle.loads(pickle.dumps(ranker))
    alike(sets(twin.rank(QUERY, store)), sets(found))
    alike(sets(twin.rank(QUERY, pickle.loads(pickle.dumps(store)))), sets(found))
    alike(sets(asyncio.run(ranker.rank_async(QUERY, store))), sets(found))
    assert len(pickle.dumps(found)) <= len(pickle.dumps(ranker.rank(QUERY, TEXTS))) and pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize("size", [1, 3])
def test_batch_size_and_progress_of_encode(ranker, size):
    alike(sets(ranker.rank(QUERY, ranker.encode(TEXTS, batch_size=size, progress=False))), sets(ranker.rank(QUERY, TEXTS)))
    with pytest.raises(InputError, match="batch_size=0"): ranker.encode(TEXTS, batch_size=0)


def test_documents_pass_through_where_encodings_are_large(rankers, monkeypatch):
    "Of BGE-M3's batches no more than the one that is compared and the one before it are held"
    ranker, alive, most = rankers("bge-m3"), [], []
    compare = ranker.compare
    def watched(query, documents, rows):
        if not any(ref() is documents for ref in alive): alive.append(weakref.ref(documents))
        gc.collect()
        most.append(sum(ref() is not None for ref in alive))
        return compare(query, documents, rows)
    monkeypatch.setattr(ranker, "compare", watched)
    ranker.rank_many([QUERY, OTHER], [f"hamlet {i}" for i in range(12)], batch_size=1)
    assert len(alive) == 12 and max(most) <= 2


# ---- the kind by itself

class Letters(Slow):
    "Without the clock"
    asked = []
    def __init__(self): super().__init__([0])
    def compare(self, query, documents, rows):
        self.asked.append(len(rows))
        return super().compare(query, documents, rows)


def test_a_method_of_the_kind_keeps_the_contract(): check_ranker(Letters())


def test_many_documents_are_compared_in_pieces():
    ranker = Letters()
    store = EncodedDocuments([Document("a", i) for i in range(2 * COMPARED + 5)], DenseVectors(np.ones((2 * COMPARED + 5, 26), dtype=np.float32)),
                             ranker.made_by)
    Letters.asked.clear()
    assert len(ranker.rank("abc", store)) == len(store) and Letters.asked == [COMPARED, COMPARED, 5]


def test_scores_that_are_too_few_are_no_answer():
    class Short(Letters):
        def compare(self, query, documents, rows): return super().compare(query, documents, rows)[:1]
    with pytest.raises(UnusableAnswer, match="1 scores for 2 documents"): Short().rank("a", ["a", "b"])


def test_distinct():
    assert distinct("abca") == (["a", "b", "c"], [0, 1, 2, 0]) and distinct([]) == ([], [])


def test_products_of_words_are_those_of_whole_rows():
    rng = np.random.default_rng(1)
    rows = np.where(rng.random((7, 40)) < 0.2, rng.random((7, 40)), 0).astype(np.float32)
    rows[3] = 0
    kept = SparseVectors.of([(np.flatnonzero(row), row[np.flatnonzero(row)]) for row in rows])
    for chosen in (range(7), [5, 0, 3], [2, 2], []):
        found = kept.products(kept.pick([4]), chosen)
        assert found.tolist() == near([float(rows[4].astype(float) @ rows[i]) for i in chosen])
        assert kept.pick(chosen).products(kept.pick([4]), range(len(list(chosen)))).tolist() == found.tolist()


def test_parts_of_joint_encodings_stay_together():
    dense = DenseVectors(np.arange(8, dtype=np.float32).reshape(4, 2))
    words = SparseVectors.of([(np.arange(n), np.full(n, n, dtype=np.float32)) for n in range(4)])
    picked = JointVectors((dense, words)).pick([3, 1])
    assert picked["dense"].values.tolist() == [[6, 7], [2, 3]] and picked["sparse"].lengths.tolist() == [3, 1] and len(picked) == 2
