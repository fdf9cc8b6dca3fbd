"In a comparison no document is encoded twice and no pair is scored twice, and nothing else changes"
import pytest

from rerankers import Cascade, Document, Fusion, InputError, Reranker, ServerError
from rerankers.combine.budgets import Budget
from rerankers.engine.towers import DenseTowerRanker, Encodings
from rerankers.evaluation import TestSet, compare
from rerankers.evaluation.once import Memory, Shelf
from rerankers.evaluation.pairs import score_all
from rerankers.rankers import PointwiseRanker, Ranking
from rerankers.results import Usage

np = pytest.importorskip("numpy")


def a_set(queries=20, documents=30, size=12):
    "Queries whose candidates overlap"
    corpus = {f"d{i}": Document(f"{'red' if i % 2 else 'blue'} thing number {i * 7 % documents}", f"d{i}") for i in range(documents)}
    asked = {f"q{i}": f"{'red' if i % 3 else 'blue'} thing {i}" for i in range(queries)}
    pool = {q: [f"d{(3 * i + k) % documents}" for k in range(size)] for i, q in enumerate(asked)}
    return TestSet(asked, corpus, {q: {ids[i % size]: 1} for i, (q, ids) in enumerate(pool.items())}, pool)


class Tower(DenseTowerRanker):
    "Counts letters; remembers which documents it has read"
    def __init__(self, broken="no document", salt=0): self.broken, self.salt, self.read, self.asked = broken, salt, [], []
    similarity = staticmethod(lambda query, documents: (documents @ query.T)[:, 0])
    def encode_texts(self, queries, documents, call):
        from rerankers.engine.vectors import DenseVectors
        if any(self.broken in text for text in documents): raise ServerError("unreadable")
        self.read += documents
        self.asked += queries
        rows = [[text.count(c) + self.salt for c in "abcdefghijklmnopqrstuvwxyz0123456789"] for text in (*queries, *documents)]
        return Encodings(DenseVectors(np.array(rows, np.float32).reshape(-1, 36)), [len(text) > 20 for text in (*queries, *documents)]).split(len(queries))


class Words(PointwiseRanker):
    "Counts common words and its calls, and tells what it used"
    takes_instruction = True
    def __init__(self, broken="no query"): self.pairs, self.broken = [], broken
    def score_pairs(self, pairs, call):
        if any(self.broken in q for q, _ in pairs): raise ServerError("no answer")
        self.pairs += pairs
        extra = 9.0 if self.instruction else 0.0
        return Ranking([len({*q.split()} & {*t.split()}) + float(t.split()[-1]) / 100 * (1 + extra) for q, t in pairs], truncated=["1" in t for _, t in pairs],
                       usage=Usage(len(pairs), 10 * len(pairs)))


@pytest.fixture
def data(): return a_set()


def plainly(ranker, data):
    "What a ranker says of each query in a call of its own"
    return {q: ranker.rank(data.queries[q], [data.corpus[d] for d in ids]) for q, ids in data.candidates.items()}


def same(table, data, ranker):
    "A table says what the ranker says"
    for q, results in plainly(ranker, data).items():
        row = table.rows[q]
        assert row.run() == [r.doc_id for r in results] and row.status == results.status
        assert row.scores == pytest.approx([results.get_score_by_docid(d) for d in row.ids])
        assert row.truncated == [results.get_result_by_docid(d).truncated for d in row.ids]


def test_each_document_is_encoded_once(data):
    tower = Tower()
    table = score_all(tower, data, data.candidates)
    assert sorted(tower.read) == sorted({doc.text for doc in data.corpus.values()}) and len(tower.asked) == len(data.queries)
    same(table, data, Tower())


def test_also_in_combinations_and_where_one_ranker_is_in_several(data):
    tower = Tower()
    found = compare({"tower": tower, "fused": Fusion("bm25", tower), "deep": Cascade((Fusion(tower, "bm25"), 5), tower)}, data, timed=0)
    first = [data.corpus[d].text for d in data.candidates["q0"]]        # each ranker is asked once before, to see whether it works
    assert len(tower.read) == len(data.corpus) + len(first) * 3 + 5
    for name, plain in (("tower", Tower()), ("fused", Fusion("bm25", Tower())), ("deep", Cascade((Fusion(Tower(), "bm25"), 5), Tower()))):
        assert found.tables[name].run() == {q: [r.doc_id for r in results] for q, results in plainly(plain, data).items()}


def test_a_part_that_is_not_compared_encodes_once_too(data):
    tower = Tower()
    score_all(Fusion("bm25", tower), data, data.candidates)
    assert len(tower.read) == len(data.corpus)


def test_other_settings_are_other_encodings(data):
    "Two of one class are told apart, whatever their encodings are recorded as"
    tables = compare({"plain": Tower(), "salted": Tower(salt=5)}, data, timed=0).tables
    same(tables["salted"], data, Tower(salt=5))
    same(tables["plain"], data, Tower())


def test_a_document_that_cannot_be_encoded_loses_its_own_queries(data):
    table = score_all(Tower(broken="number 7"), data, data.candidates)
    bad = next(d for d, doc in data.corpus.items() if doc.text.endswith("number 7"))
    assert set(table.failures) == {q for q, ids in data.candidates.items() if bad in ids} and 0 < len(table.failures) < len(data.queries)
    assert all("unreadable" in why for why in table.failures.values())


def test_documents_that_were_encoded_before_are_not_encoded_again(data):
    tower = Tower()
    store = tower.encode(list(data.corpus.values()))
    tower.read.clear()
    score_all(tower, TestSet(data.queries, {doc.doc_id: doc for doc in store}, data.qrels), data.candidates)
    assert tower.read == []


def test_encodings_are_in_files_that_go_away(data, tmp_path):
    with Memory(data, tmp_path) as memory:
        tower = Tower()
        score_all(tower, data, data.candidates, memory=memory)
        assert isinstance(memory.shelf(tower).store.vectors.values, np.memmap) and len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        compare({"stopped": Tower()}, data, folder=tmp_path, timed=0, progress=lambda *told: (_ for _ in ()).throw(KeyboardInterrupt))
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    again = compare({"stopped": Tower()}, data, folder=tmp_path, timed=0)
    same(again.tables["stopped"], data, Tower())


def test_files_without_room_are_told_and_what_was_half_written_does_not_count(data, tmp_path):
    tower, docs = Tower(), list(data.corpus.values())
    shelf = Shelf(tower, tmp_path / "shelf")
    shelf.learn(docs[:3])
    before = shelf.store.vectors.values.copy()
    real, shelf.longer = shelf.longer, lambda name, more: (real(name, more), (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left on device.*folder="): shelf.learn(docs[3:6])
    shelf.longer = real
    shelf.learn(docs[6:8])
    assert (shelf.store.vectors.values[:3] == before).all() and [doc.doc_id for doc in shelf.store] == ["d0", "d1", "d2", "d6", "d7"]
    assert shelf.encoded(docs[7]).row == 4


@pytest.mark.parametrize("whole", [False, True])
def test_combinations_quote_the_tables_of_their_parts(whole, data):
    words = Words()
    cascade = Cascade(("bm25", None if whole else 4), words)
    rankers = {"cascade": cascade, "twice": Fusion(cascade, words), "words": words}      # the order does not matter
    found = compare(rankers, data, timed=0)
    pairs = {(data.queries[q], data.corpus[d].text) for q, ids in data.candidates.items() for d in ids}
    loading = 12 + (12 if whole else 4) + 12 + (12 if whole else 4)     # the first query of each ranker, to see whether it works
    assert len(words.pairs) == len(pairs) + loading and list(found.tables) == list(rankers)
    for name in ("cascade", "words"): same(found.tables[name], data, rankers[name])
    row = found.tables["cascade"].rows["q3"]
    assert row.usage == Usage(12, 120) if whole else row.usage == Usage(4, 40)
    assert sum(row.truncated) > 0


def test_words_are_known_by_their_specs(data):
    found = compare(["bm25", "bm25:4 > bm25(k1=2)"], data, timed=0)
    assert set(found.tables) == {"bm25", "bm25:4 > bm25(k1=2)"} and not found.failed


def test_an_instruction_makes_another_ranker(data):
    words = Words()
    told = words.instructed("the last word counts most")
    found = compare({"plain": words, "told": told, "cascade": Cascade(("bm25", 6), told)}, data, timed=0)
    same(found.tables["cascade"], data, Cascade(("bm25", 6), told))
    assert found.tables["plain"].run() != found.tables["told"].run()
    other = compare({"plain": words, "cascade": Cascade(("bm25", 6), told)}, data, timed=0)
    assert other.tables["cascade"].run() == found.tables["cascade"].run()


def test_several_runs_draw_anew(data):
    words = Words()
    compare({"words": words, "twice": [Cascade(("bm25", 4), words), Cascade(("bm25", 4), words)]}, data, timed=0)
    assert len(words.pairs) == 240 + 12 + 2 * (80 + 4)
    words.pairs.clear()
    compare({"twice": [words, words], "cascade": Cascade(("bm25", 4), words)}, data, timed=0)
    assert len(words.pairs) == 2 * (240 + 12) + 80 + 4, "none of several runs is the one to quote"


def test_where_time_or_money_is_limited_the_ranker_is_asked_itself(data):
    words = Words()
    compare({"words": words, "paid": Budget(words, seconds=10_000)}, data, timed=0)
    assert len(words.pairs) == 2 * (240 + 12)


def test_a_query_that_failed_is_asked_again(data):
    words = Words(broken="thing 5")
    found = compare({"words": words, "cascade": Cascade(("bm25", 4), words)}, data, timed=0)
    assert set(found.tables["words"].failures) == {"q5"} == set(found.tables["cascade"].failures)
    with Memory(data) as memory:
        memory.keep(words, found.tables["words"])
        words.broken = "no query"
        assert [r.doc_id for r in memory.of(Cascade(("bm25", 4), words)).rank(data.queries["q5"], [data.corpus[d] for d in data.candidates["q5"]])]
    assert sum(q == data.queries["q5"] for q, _ in words.pairs) == 4


def test_those_of_others_are_not_touched(data):
    words = Words()
    cascade = Cascade(("bm25", 4), words)
    compare({"words": words, "cascade": cascade}, data, timed=0)
    assert cascade.rankers["Words"] is words and Reranker(Reranker("bm25:4 > bm25").spec)
