"""How public code calls rerankers 0.10: each function is one shape of call, and what it gives is plain enough for JSON.

test_compat.py runs all of them on this library; as a script (`python tests/compat_shapes.py FOLDER`) they run on whatever `rerankers`
Python finds, such as the wheel of 0.10. FOLDER has `cross-encoder`, a tiny checkpoint, and `flashrank/NAME`, a tiny graph of FlashRank's.
Whose code a shape comes from is beside it. Nothing here may know which of the two libraries it runs on."""
import asyncio
import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace as Some

QUERY = "who wrote hamlet?"
DOCS = ["goethe wrote faust in a city", "hamlet was written by william shakespeare", "the question is for other people", "shakespeare"]
SHAPES = {}     # name -> function


def shape(function):
    SHAPES[function.__name__] = function
    return function


# ---- what the shapes share

KEPT = {}       # the ranker without options, which most shapes share


def cross_encoder(given, **options):
    from rerankers import Reranker
    if not options and KEPT: return KEPT["plain"]
    ranker = Reranker(str(given.folder / "cross-encoder"), model_type="cross-encoder", verbose=0, **options)
    if not options: KEPT["plain"] = ranker
    return ranker


def word_ranker():
    "A ranker as plug-ins are written: a constructor, `rank` and `score`, and nothing else"
    from rerankers.documents import Document
    from rerankers.models.ranker import BaseRanker
    from rerankers.results import RankedResults, Result
    from rerankers.utils import prep_docs, vprint

    class WordRanker(BaseRanker):
        def __init__(self, model_name_or_path: str, verbose: int = 1):
            self.verbose, self.model = verbose, model_name_or_path
            vprint(f"Loaded {model_name_or_path}", self.verbose)

        def score(self, query, doc): return float(len(set(query.strip("?").split()) & set(doc.split())))

        def rank(self, query, docs, doc_ids=None, metadata=None):
            docs = prep_docs(docs, doc_ids, metadata)
            found = sorted(((d, self.score(query, d.text)) for d in docs), key=lambda pair: -pair[1])
            assert all(isinstance(d, Document) for d, _ in found)
            return RankedResults([Result(document=d, score=s, rank=n + 1) for n, (d, s) in enumerate(found)], query=query, has_scores=True)
    return WordRanker


def words(given=None): return word_ranker()("words", verbose=0)
def ids(results): return [r.doc_id for r in results]
def run(coroutine): return asyncio.run(coroutine)


def langchain_documents():
    from langchain_core.documents import Document
    return [Document(page_content=text, id=f"id-{i}", metadata={"source": i}) for i, text in enumerate(DOCS)]


# ---- constructing

@shape
def reranker_with_all_common_options(given):            # LanceDB, ragbits, SurfSense and most others
    return ids(cross_encoder(given, lang="en", device="cpu", dtype="float32", batch_size=2).rank(QUERY, DOCS))

@shape
def reranker_with_options_of_loading(given):            # 0.10's README
    return ids(cross_encoder(given, model_kwargs={}, tokenizer_kwargs={}).rank(QUERY, DOCS))

@shape
def reranker_by_position(given):                        # name, lang, model_type, verbose
    from rerankers import Reranker
    return ids(Reranker(str(given.folder / "cross-encoder"), "en", "cross-encoder", 0).rank(QUERY, DOCS))

@shape
def reranker_by_class_name(given):                      # vektra
    from rerankers import Reranker
    return ids(Reranker(str(given.folder / "cross-encoder"), model_type="TransformerRanker", verbose=0).rank(QUERY, DOCS))

@shape
def flashrank_by_class_name(given):                     # vektra
    from rerankers import Reranker
    return ids(Reranker(given.graph, model_type="FlashRankRanker", verbose=0, cache_dir=str(given.folder / "flashrank")).rank(QUERY, DOCS))

@shape
def flashrank_class(given):                             # raglite's default configuration, and its test of types
    from rerankers.models.flashrank_ranker import FlashRankRanker
    from rerankers.models.ranker import BaseRanker
    ranker = FlashRankRanker(given.graph, verbose=0, cache_dir=str(given.folder / "flashrank"))
    return [isinstance(ranker, BaseRanker), ids(ranker.rank(query=QUERY, docs=DOCS).results)]

@shape
def flashrank_class_by_position(given):
    from rerankers.models.flashrank_ranker import FlashRankRanker
    return ids(FlashRankRanker(given.graph, 0, str(given.folder / "flashrank")).rank(QUERY, DOCS))

@shape
def transformer_class(given):                           # 0.10's tests
    from rerankers import Reranker
    from rerankers.models.transformer_ranker import TransformerRanker
    made = TransformerRanker(str(given.folder / "cross-encoder"), "float32", "cpu", 2, 0)
    return [ids(made.rank(QUERY, DOCS)), isinstance(cross_encoder(given), TransformerRanker), made.batch_size, Reranker is not None]

@shape
def class_of_the_package(given):                        # forks import from the package
    from rerankers.models import AVAILABLE_RANKERS, TransformerRanker
    return [AVAILABLE_RANKERS["TransformerRanker"] is TransformerRanker, "FlashRankRanker" in AVAILABLE_RANKERS, "Nobody" in AVAILABLE_RANKERS]

@shape
def class_by_attribute(given):
    import rerankers
    return [rerankers.models.transformer_ranker.TransformerRanker.__mro__[-1] is object, callable(rerankers.utils.prep_docs), callable(rerankers.Reranker)]

@shape
def class_is_a_subclass(given):
    from rerankers.models.ranker import BaseRanker
    from rerankers.models.transformer_ranker import TransformerRanker
    return issubclass(TransformerRanker, BaseRanker)

@shape
def patched_rank(given):                                # 0.10's tests/test_crossenc.py
    from unittest.mock import patch
    cross_encoder(given)
    with patch("rerankers.models.transformer_ranker.TransformerRanker.rank") as rank:
        rank.return_value = "patched"
        found = cross_encoder(given).rank(query=QUERY, docs=DOCS)
    rank.assert_called_once_with(query=QUERY, docs=DOCS)
    return found

@shape
def transformer_class_by_names(given):                  # the model's name in 0.10's signature
    from rerankers.models.transformer_ranker import TransformerRanker
    return ids(TransformerRanker(model_name_or_path=str(given.folder / "cross-encoder"), device="cpu", verbose=0).rank(QUERY, DOCS))

@shape
def flashrank_class_by_names(given):
    from rerankers.models.flashrank_ranker import FlashRankRanker
    return ids(FlashRankRanker(cache_dir=str(given.folder / "flashrank"), verbose=0, model_name_or_path=given.graph).rank(QUERY, DOCS))

@shape
def hosted_class(given):
    from rerankers.models.api_rankers import APIRanker
    ranker = APIRanker("rerank-v3.5", "key", "cohere", 0)
    return ranker.model

@shape
def subclass_of_a_class(given):                         # a Taskfile project patches FlashRankRanker so
    from rerankers.models.transformer_ranker import TransformerRanker

    class Reversed(TransformerRanker):
        def rank(self, query, docs, doc_ids=None, metadata=None):
            results = super().rank(query, docs, doc_ids, metadata)
            results.results = results.results[::-1]
            return results
    ranker = Reversed(str(given.folder / "cross-encoder"), verbose=0)
    return [ids(ranker.rank(QUERY, DOCS).results), ids(run(ranker.rank_async(QUERY, DOCS)).results)]

@shape
def names_of_the_modules(given):                        # an Azure ranker takes RankedResults from models.ranker
    from rerankers.documents import Document
    from rerankers.models.ranker import BaseRanker, RankedResults
    from rerankers.reranker import Reranker
    from rerankers.results import Result
    return [BaseRanker.__name__, RankedResults.__name__, Document.__name__, Result.__name__, Reranker.__name__]

# ---- ranking

@shape
def strings_and_positions(given):                       # raglite, vektra, mhqa, several servers
    results = cross_encoder(given).rank(query=QUERY, docs=DOCS)
    return [r.doc_id for r in results.results]

@shape
def one_string(given): return [r.text for r in cross_encoder(given).rank(QUERY, DOCS[0])]

@shape
def documents_with_metadata(given):                     # SurfSense, FastAPI fronts
    from rerankers import Document
    docs = [Document(text=t, doc_id=f"chunk-{i}", metadata={"document": {"id": i}}) for i, t in enumerate(DOCS)]
    results = cross_encoder(given).rank(query=QUERY, docs=docs)
    return [[r.document.doc_id, r.document.metadata.get("document"), r.rank, isinstance(r.score, float)] for r in results.results]

@shape
def documents_by_position(given):
    from rerankers import Document
    return ids(words().rank(QUERY, [Document(t, i * 10, {"k": i}) for i, t in enumerate(DOCS)]))

@shape
def one_document(given):
    from rerankers import Document
    return ids(cross_encoder(given).rank(QUERY, Document(DOCS[1], 7)))

@shape
def ids_and_metadata_as_arguments(given):               # 0.10's README
    results = cross_encoder(given).rank(query=QUERY, docs=DOCS, doc_ids=[10, 11, 12, 13], metadata=[{"source": i} for i in range(4)])
    return [[r.doc_id, r.metadata["source"]] for r in results]

@shape
def ids_as_a_range(given):                              # LanceDB
    results = cross_encoder(given).rank(QUERY, DOCS, doc_ids=list(range(4)))
    return [results.get_result_by_docid(i).rank for i in range(4)]

@shape
def top_k_of_results(given):                            # ragbits, legal QA
    return [ids(cross_encoder(given).rank(QUERY, DOCS).top_k(n)) for n in (1, 2, 9)]

@shape
def slices_and_iteration(given):
    results = cross_encoder(given).rank(QUERY, DOCS)
    return [results.results_count(), results[0].doc_id, ids(results[:2]), [r.rank for r in results], results.query, results.has_scores]

@shape
def lookups(given):
    results = words().rank(QUERY, DOCS, doc_ids=["a", "b", "c", "d"])
    return [results.get_score_by_docid("a"), results.get_result_by_docid("b").text]

@shape
def lookup_of_an_absent_id(given):                      # 0.10's tests/test_results.py
    return words().rank(QUERY, DOCS).get_score_by_docid("absent")

@shape
def score_of_one(given): return isinstance(float(cross_encoder(given).score(query=QUERY, doc=DOCS[1])), float)

@shape
def async_rank(given):                                  # an evaluation harness, fronts
    return ids(run(cross_encoder(given).rank_async(query=QUERY, docs=DOCS, doc_ids=["a", "b", "c", "d"])))

@shape
def in_a_thread(given):                                 # asyncio.to_thread(ranker.rank, ...)
    return ids(run(asyncio.to_thread(cross_encoder(given).rank, query=QUERY, docs=DOCS)))

@shape
def batch_size_of_a_call(given): return ids(cross_encoder(given).rank(QUERY, DOCS, batch_size=1))

@shape
def rank_of_one_document(given):                        # fronts that print it
    return [r.rank for r in cross_encoder(given).rank(QUERY, DOCS[:1])]

# ---- results

@shape
def metadata_keys_as_attributes(given):                 # 0.10's README
    result = words().rank(QUERY, DOCS, metadata=[{"source": i, "page_no": i * 2} for i in range(4)])[0]
    return [result.source, result.page_no, hasattr(result, "nothing"), getattr(result, "nothing", "default")]

@shape
def fields_of_the_document_as_attributes(given):
    result = words().rank(QUERY, DOCS)[0]
    return [result.text, result.doc_id, result.metadata, result.document_type, result.image_path, result.base64]

@shape
def a_title_in_the_metadata(given): return words().rank(QUERY, DOCS[:1], metadata=[{"title": "Faust"}])[0].title

@shape
def metadata_called_score(given):
    result = words().rank(QUERY, DOCS, metadata=[{"score": "theirs", "rank": "theirs"}] * 4)[0]
    return [result.score, result.rank, result.metadata["score"]]

@shape
def results_made_by_hand(given):                        # 0.10's tests/test_results.py
    from rerankers.documents import Document
    from rerankers.results import RankedResults, Result
    made = [Result(document=Document("a", 0), score=0.1, rank=2), Result(document=Document("b", 1), score=0.9, rank=1)]
    return ids(RankedResults(results=made, query=QUERY, has_scores=True).top_k(1))

@shape
def results_made_by_hand_without_ranks(given):
    from rerankers.documents import Document
    from rerankers.results import RankedResults, Result
    made = [Result(Document("a", 0), 0.1), Result(Document("b", 1), 0.9)]
    return ids(RankedResults(made, QUERY, True).top_k(2))

@shape
def results_made_by_hand_without_scores(given):
    from rerankers.documents import Document
    from rerankers.results import RankedResults, Result
    made = [Result(Document("a", 0), rank=2), Result(Document("b", 1), rank=1)]
    return ids(RankedResults(made, QUERY, False).top_k(1))

@shape
def result_without_score_and_rank(given):               # 0.10's tests/test_results.py
    from rerankers.documents import Document
    from rerankers.results import Result
    return Result(Document("a", 0)).score

@shape
def has_scores_when_nothing_is_said(given):
    from rerankers.results import RankedResults
    return RankedResults([], QUERY).has_scores

@shape
def a_document_of_the_caller_keeps_its_id(given):
    from rerankers import Document
    mine = Document("shakespeare")
    words().rank(QUERY, [mine], doc_ids=["new"])
    return mine.doc_id

# ---- rankers of one's own

@shape
def own_ranker(given):                                  # an Azure ranker; a fork's PyLate and EcoRank
    ranker = words()
    return [[[r.doc_id, r.score, r.rank] for r in ranker.rank(QUERY, DOCS)], ranker.score(QUERY, DOCS[1])]

@shape
def own_ranker_async(given): return ids(run(words().rank_async(QUERY, DOCS, ["a", "b", "c", "d"])))

@shape
def own_ranker_whose_constructor_calls_super(given):    # the Azure ranker
    from rerankers.models.ranker import BaseRanker
    plain = word_ranker()

    class Ranker(BaseRanker):
        rank, score = plain.rank, plain.score
        def __init__(self, model_name_or_path="own", verbose=1, **kwargs):
            super().__init__(model_name_or_path, verbose)
            self.verbose = verbose
    ranker = Ranker(verbose=0)
    return [ids(ranker.rank(QUERY, DOCS)), ranker.verbose]

@shape
def own_ranker_that_takes_only_strings(given):
    from rerankers.documents import Document
    from rerankers.models.ranker import BaseRanker
    from rerankers.results import RankedResults, Result

    class Strings(BaseRanker):
        def __init__(self, model, verbose): pass
        def score(self, query, doc): return float(len(doc))
        def rank(self, query, docs, doc_ids=None):
            assert all(type(d) is str for d in docs)
            return RankedResults([Result(Document(d, i), self.score(query, d), i + 1) for i, d in enumerate(docs)][:2], query, True)
    return ids(run(Strings("m", 0).rank_async(QUERY, DOCS)))

@shape
def helpers(given):                                     # plug-in rankers of forks
    from rerankers.utils import get_chunks, get_device, get_dtype, prep_docs
    docs = prep_docs(["a", "b"], ["x", "y"], [{"k": 1}, {"k": 2}])
    return [[[d.text, d.doc_id, d.metadata] for d in docs], [d.doc_id for d in prep_docs("a")], get_device("cpu", verbose=0),
            str(get_dtype("bf16", "cpu", 0)), str(get_dtype(None, "cpu", 0)), list(get_chunks([1, 2, 3], 2)), str(get_device(None, 0, no_mps=True))]

@shape
def what_is_printed(given):
    "Where `verbose` is 1, as it is when nothing is said"
    with contextlib.redirect_stdout(io.StringIO()) as out: word_ranker()("words").rank(QUERY, DOCS)
    return bool(out.getvalue())

# ---- LangChain

@shape
def langchain_compressor(given):                        # docindex, a Streamlit comparison, four RAG programs
    found = words().as_langchain_compressor(k=2).compress_documents(langchain_documents(), QUERY)
    return [[d.id, d.page_content, d.metadata] for d in found]

@shape
def langchain_retriever(given):
    from langchain_classic.retrievers import ContextualCompressionRetriever
    from langchain_core.retrievers import BaseRetriever

    class Everything(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager): return langchain_documents()
    retriever = ContextualCompressionRetriever(base_compressor=words().as_langchain_compressor(k=1), base_retriever=Everything())
    return [[d.id for d in retriever.invoke(QUERY)], [d.id for d in run(retriever.ainvoke(QUERY))]]

@shape
def langchain_runnable(given):                          # RunnableLambda over `rank`
    from langchain_core.runnables import RunnableLambda
    ranker, docs = words(), langchain_documents()
    step = RunnableLambda(lambda query: [docs[r.doc_id].id for r in ranker.rank(query, [d.page_content for d in docs]).top_k(2)])
    return step.invoke(QUERY)


def outcome(function, given):
    "What a shape gives, or the class of what it raises"
    try: return json.loads(json.dumps(function(given)))
    except BaseException as error: return f"raises {type(error).__name__}"


def outcomes(folder):
    given = Some(folder=Path(folder), graph=next(p.name for p in (Path(folder) / "flashrank").iterdir()))
    return {name: outcome(function, given) for name, function in SHAPES.items()}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()): found = outcomes(sys.argv[1])
    print(json.dumps(found))
