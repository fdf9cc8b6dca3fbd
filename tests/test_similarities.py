"Bi-encoders: each similarity against sentence-transformers', prompts by their names, and whose word counts"
import json
import shutil

import pytest

np, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
pytest.importorskip("transformers")
from closeness import near  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from rerankers import InputError, Reranker  # noqa: E402
from rerankers.backends.biencoder import SIMILARITIES, saved_prompts  # noqa: E402
from rerankers.tiny_models import tiny_checkpoint  # noqa: E402

NUMBERS = st.integers(-8, 8).map(float)
QUERY, DOCS = "who wrote hamlet ?", ["hamlet was written by shakespeare", "goethe wrote faust", "the play was in london", "hamlet " * 300]


@given(st.integers(1, 5).flatmap(lambda dim: st.lists(st.tuples(*[st.lists(NUMBERS, min_size=dim, max_size=dim)] * 2), min_size=1, max_size=5)))
def test_each_similarity_is_that_of_sentence_transformers(pairs):
    "Higher is better for all of them, so distances are negative"
    util = pytest.importorskip("sentence_transformers.util")
    official = {"cosine": util.pairwise_cos_sim, "dot": util.pairwise_dot_score,
                "euclidean": util.pairwise_euclidean_sim, "manhattan": util.pairwise_manhattan_sim}
    assert set(official) == set(SIMILARITIES)
    queries, docs = (np.array(side) for side in zip(*pairs))
    for name, theirs in official.items(): assert SIMILARITIES[name](queries, docs).tolist() == near(theirs(queries, docs).tolist())


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_text_is_never_less_like_itself_than_like_another(similarity):
    "Of equal lengths, or by distance"
    same, other = np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])
    assert SIMILARITIES[similarity](same, same)[0] > SIMILARITIES[similarity](same, other)[0]


@pytest.mark.parametrize("name", ["document", "passage", "corpus"])
def test_what_stands_before_documents_has_three_names(name):
    assert saved_prompts({"prompts": {"query": "ask: ", name: "tell: "}}) == ("ask: ", "tell: ")
    assert saved_prompts({"prompts": {name: "tell: "}}) == ("", "tell: ")


def test_of_several_names_the_first_that_says_something_counts():
    assert saved_prompts({"prompts": {"query": "q", "document": "", "passage": "p", "corpus": "c"}}) == ("q", "p")
    assert saved_prompts({"prompts": None}) == saved_prompts({}) == ("", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A bi-encoder that says what it wants: sums of differences, since its vectors have one length, and a prompt for each side"
    made = tmp_path_factory.mktemp("biencoder") / "model"
    shutil.copytree(tiny_checkpoint("biencoder"), made)
    saved = made / "config_sentence_transformers.json"
    config = json.loads(saved.read_text()) if saved.is_file() else {}
    saved.write_text(json.dumps({**config, "similarity_fn_name": "manhattan", "prompts": {"query": "question ", "corpus": "answer "}}))
    return made


def scores(ranker, docs=DOCS):
    found = ranker.rank(QUERY, docs)
    return [found.get_score_by_docid(i) for i in range(len(docs))]


def test_the_folders_similarity_is_the_default_and_the_callers_wins(folder):
    usual = scores(Reranker(folder, device="cpu"))
    assert usual == near(scores(Reranker(folder, device="cpu", similarity="manhattan")))
    for name in ("cosine", "euclidean", "dot"): assert scores(Reranker(folder, device="cpu", similarity=name)) != near(usual)
    assert all(-1.001 <= s <= 1.001 for s in scores(Reranker(folder, device="cpu", similarity="cosine")))
    with pytest.raises(InputError, match="similarity='cos'"): Reranker(folder, device="cpu", similarity="cos")


def test_each_prompt_goes_before_its_own_side(folder):
    "A saved prompt is as good as one that the texts bring, and on the other side it is not"
    bare = Reranker(folder, device="cpu", query_prompt="", document_prompt="")
    found = bare.rank("question " + QUERY, ["answer " + d for d in DOCS[:3]])
    assert scores(Reranker(folder, device="cpu"), DOCS[:3]) == near([found.get_score_by_docid(i) for i in range(3)])
    assert scores(Reranker(folder, device="cpu", query_prompt="answer ", document_prompt="question "), DOCS[:3]) != near(
        [found.get_score_by_docid(i) for i in range(3)])


def test_a_query_that_was_cut_marks_every_result(folder):
    ranker = Reranker(folder, device="cpu", max_length=12)
    assert [r.truncated for r in ranker.rank("who", ["hamlet", "hamlet " * 30])] == [r.doc_id == 1 for r in ranker.rank("who", ["hamlet", "hamlet " * 30])]
    assert all(r.truncated for r in ranker.rank("who wrote hamlet " * 10, ["hamlet", "faust"]))
