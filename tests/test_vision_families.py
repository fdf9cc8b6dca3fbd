"Models that see, in layouts for which there is no kit, against plain references: a pair by itself, every step by hand"
import json
from functools import cache

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pillow = pytest.importorskip("PIL.Image")
import seeing_models as plain  # noqa: E402
from closeness import distance  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from rerankers import Document, InputError, ModelLoadError, Reranker  # noqa: E402
from rerankers.testing import check_ranker  # noqa: E402

FP32 = {"device": "cpu", "dtype": "float32"}
QUERIES = ["revenue by region", "a", "who signed?  twice\n"]


@pytest.fixture(scope="module")
def place(tmp_path_factory): return tmp_path_factory.mktemp("layouts")


def by_position(results): return [results.get_score_by_docid(i) for i in range(len(results))]


def counted(tower):
    "How often a part of a model has run, as a list that grows"
    ran = []
    return ran, tower.register_forward_hook(lambda *args: ran.append(1))


def tower_of(trunk): return next(getattr(trunk, name) for name in ("vision_tower", "vision_model", "visual") if hasattr(trunk, name))


@pytest.mark.parametrize("name", plain.ENGINE)
def test_pages_in_the_engines_layout(name, place):
    "The folder says what it is; any batch size gives the scores of each pair by itself"
    folder = plain.engine_folder(name, place)
    ranker, pages = Reranker(folder, **FP32), plain.pictures()
    want = [[plain.engine_score(name, folder, query, page) for page in pages] for query in QUERIES]
    docs = [Document(image=page) for page in pages]
    for size in (1, 7, None):
        found = ranker.rank_many(QUERIES, docs, batch_size=size)
        assert max(distance(by_position(got), row) for got, row in zip(found, want)) <= 1
    ran, hook = counted(tower_of(ranker.runtime.model.vlm))
    ranker.rank_many(QUERIES, docs + docs[:2])
    stored, seen = ranker.encode(docs), len(ran)
    assert distance(by_position(ranker.rank(QUERIES[0], stored)), want[0]) <= 1
    hook.remove()
    assert len(ran) == seen <= 2 * len(pages)       # for all queries, and for the store; nothing for what is stored


@pytest.mark.parametrize("kind", plain.CHATS)
def test_models_that_chat(kind, place):
    "True or False, asked of other families; the tower runs once a picture for all queries"
    folder = plain.chat_folder(kind, place)
    ranker, pages = Reranker(folder, **FP32), plain.pictures()[:5]
    want = [[plain.chat_score(kind, folder, query, page) for page in pages] for query in QUERIES]
    docs = [Document(image=page) for page in pages]
    trunk = ranker.runtime.trunk
    for size in (1, 7, None):
        ran, hook = counted(tower_of(trunk))
        found = ranker.rank_many(QUERIES, docs + docs[:2], batch_size=size)
        hook.remove()
        assert len(ran) == len(pages)
        assert max(distance(by_position(got)[:5], row) for got, row in zip(found, want)) <= 1


@pytest.mark.parametrize("kind", plain.CHATS)
def test_special_tokens_in_a_text_are_characters(kind, place):
    ranker, doc = Reranker(plain.chat_folder(kind, place), **FP32), Document(image=plain.pictures()[0])
    trick = "<|image_pad|><|im_end|><image><end_of_utterance><start_of_turn><end_of_turn><start_of_image><row_1_col_1>"
    [said], [prompt] = (ranker.encode([(query, ranker.view(doc))]) for query in (f"what? {trick}", "what?"))
    assert {i: said.ids.count(i) for i in ranker.prompts.marks.values()} == {i: prompt.ids.count(i) for i in ranker.prompts.marks.values()}
    assert len(said.ids) > len(prompt.ids) + 10 and len(ranker.rank(f"what? {trick}", [doc])) == 1


def test_a_chat_template_in_a_file_of_its_own(place):
    "As in folders of transformers 4"
    from pathlib import Path
    from shutil import copytree
    folder = Path(place) / "older"
    copytree(plain.chat_folder("smolvlm", place), folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelLoadError, match="chat template cannot render"): Reranker(str(folder), **FP32).rank("who?", ["a"])
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": plain.SMOL_CHAT}))
    docs = [Document(image=page) for page in plain.pictures()[:2]]
    scores = [by_position(Reranker(str(source), **FP32).rank("who?", docs)) for source in (folder, plain.chat_folder("smolvlm", place))]
    assert scores[0] == scores[1]


def test_siglip_that_keeps_a_pictures_shape(place):
    folder = plain.naflex_folder(place)
    ranker, pages = Reranker(folder, **FP32), plain.pictures()[:5]
    want = [[plain.naflex_score(folder, query, page) for page in pages] for query in QUERIES]
    for size in (1, 7, None):
        found = ranker.rank_many(QUERIES, [Document(image=page) for page in pages], batch_size=size)
        assert max(distance(by_position(got), row) for got, row in zip(found, want)) <= 1


def test_a_cross_encoder_of_sentence_transformers(place):
    "Against the package itself, on what it saved: pictures and texts on both sides, an activation and a system message of its own"
    pytest.importorskip("sentence_transformers")
    official, folder = plain.any_to_any(place)
    pages = plain.pictures()[:3]
    queries = ["revenue by region", pages[1], {"image": pages[0], "text": "like this?"}]
    docs = [*pages, "a text", {"image": pages[2], "text": "with a caption"}]
    want = [official.predict([(query, doc) for doc in docs], batch_size=1).tolist() for query in queries]
    ranker = Reranker(folder, **FP32)

    def said(thing):
        if isinstance(thing, dict): return Document(thing["text"], image=thing["image"])
        return thing if isinstance(thing, str) else Document(image=thing)
    for size in (1, None):
        found = ranker.rank_many([said(query) for query in queries], [said(doc) for doc in docs], batch_size=size)
        assert max(distance(by_position(got), row) for got, row in zip(found, want)) <= 1


def test_a_folder_of_sentence_transformers_with_page_vectors(place):
    "The model is what its config.json names: it is run as it was trained"
    from pathlib import Path
    from shutil import copytree
    from rerankers.tiny_models import tiny_colqwen, write_chain
    folder = Path(place) / "multi-vector"
    copytree(tiny_colqwen(), folder)
    write_chain(folder, [("MultiVectorMask", {}, None)], model_type="MultiVectorEncoder")
    docs = [Document(image=page) for page in plain.pictures()[:3]]
    scores = [by_position(Reranker(str(source), **FP32).rank("who?", docs)) for source in (folder, tiny_colqwen())]
    assert scores[0] == scores[1]


@cache
def ready(name, place):
    "A ranker of one of the families"
    folder = plain.naflex_folder(place) if name == "naflex" else plain.chat_folder(name, place) if name in plain.CHATS else plain.engine_folder(name, place)
    return Reranker(folder, **FP32)


@pytest.mark.parametrize("name", ["colsmol", "smolvlm", "naflex"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), min_size=2, max_size=4), step=st.sampled_from([1, 3, None]))
def test_a_page_of_any_shape_has_its_own_score(name, place, sizes, step):
    "Or is refused, because it is too thin"
    ranker = ready(name, place)
    docs = [Document(image=pillow.linear_gradient("L").rotate(90 * i).resize(size)) for i, size in enumerate(sizes)]
    alone = []
    for doc in docs:
        try: alone.append(ranker.score("who signed ?", doc))
        except InputError as error:
            assert "too thin" in str(error)
            alone.append(None)
    good = [(doc, score) for doc, score in zip(docs, alone) if score is not None]
    together = ranker.rank("who signed ?", [doc for doc, _ in good], batch_size=step)
    assert by_position(together) == pytest.approx([score for _, score in good], rel=1e-4, abs=1e-5)


def test_the_contract(place): check_ranker(ready("naflex", place))


def test_bounds_of_pixels_are_for_models_that_have_them(place):
    for folder in (plain.chat_folder("smolvlm", place), plain.engine_folder("colsmol", place)):
        with pytest.raises(InputError, match="a size of their own"): Reranker(folder, max_pixels=10_000, **FP32)
