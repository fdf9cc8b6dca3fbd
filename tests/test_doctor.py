"The doctor: servers on loopback that are ill on purpose, one for each fault of the table, and healthy ones in several languages"
import json
import math
import re

import pytest
from servers import Say, Scripted

from rerankers import InputError, Reranker
from rerankers.cli import main
from rerankers.errors import AuthenticationError, ServerError, UnusableAnswer
from rerankers.rankers import PointwiseRanker
from rerankers.serve.doctor import BY_FAULT, FAULTS, QUERY, TEXTS, examine, sigmoid, softmax


class Words(PointwiseRanker):
    "Log-odds by the words that a document shares with the query: the model of these servers"
    def score_pairs(self, pairs, call=None):
        def words(text): return set(re.findall(r"\w+", text.lower().replace("written", "wrote").replace("william", "who")))
        return [4.0 * len(words(q) & words(d)) - 6.0 + len(words(d)) / 100 for q, d in pairs]


class Chances(Words):
    "The same as probabilities"
    def score_pairs(self, pairs, call=None): return [sigmoid(s) for s in super().score_pairs(pairs)]


MODEL = Words()


def scores(query, texts, model=MODEL): return model.score_pairs([(query, text) for text in texts])


def results(found, top=None):
    "Index and score, best first"
    return sorted(enumerate(found), key=lambda pair: -pair[1])[:top]


def vllm(body, answer):
    if "documents" not in body: return Say({"error": {"message": "documents are missing"}}, status=400)
    return {"results": [{"index": i, "relevance_score": s} for i, s in answer(body["query"], body["documents"], body.get("top_n"))]}


def tei(body, answer):
    if "texts" not in body: return Say({"error": "texts are missing", "error_type": "Validation"}, status=422)
    return [{"index": i, "score": s} for i, s in answer(body["query"], body["texts"], None)]


def mixedbread(body, answer):
    if "input" not in body: return Say({"detail": "input is missing"}, status=422)
    return {"data": [{"index": i, "score": s} for i, s in answer(body["query"], body["input"], body.get("top_k"))]}


def deepinfra(body, answer):
    return {"scores": [s for _, s in sorted(answer(body["queries"][0], body["documents"], None))]}


LANGUAGES = {"vllm": ("/v1/rerank", vllm), "text-embeddings-inference": ("/rerank", tei), "mixedbread.ai": ("/v1/reranking", mixedbread),
             "deepinfra": ("/v1/inference/m", deepinfra)}


def server(answer, language="vllm", seen=None):
    "A server that speaks one language and gives the pairs of index and score that `answer(query, texts, top)` finds"
    path, speak = LANGUAGES[language]

    def script(request):
        if request.path != path: return Say({"detail": "Not Found"}, status=404)
        if seen is not None: seen.append(request)
        found = speak(request.json, answer)
        return found if isinstance(found, Say) else Say(json.dumps(found), headers={"Content-Type": "application/json"})
    return Scripted(script)


def examined(answer, model=MODEL, language="vllm", **options):
    with server(answer, language) as there: return examine(f"http://127.0.0.1:{there.port}", model=model, **options)


# ---- healthy


def healthy(query, texts, top=None): return results(scores(query, texts), top)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_healthy_server_has_no_fault_in_any_language(language):
    for options in ({"model": None}, {}, {"provider": language}):
        found = examined(healthy, language=language, name="m", **options)
        assert (found.faults, found.language, found.reads) == ([], language, 3000)
        assert {f.state for f in found.findings} <= {"ok", "not checked"}


def test_a_real_model_that_cuts_long_texts_itself_is_healthy():
    offline = Reranker("offline")
    def answer(query, texts, top): return [(r.doc_id, r.score) for r in offline.rank(query, texts)][:top]
    found = examined(answer, model=offline)
    assert found.faults == [] and found.reads < 1000


def test_a_model_whose_scores_depend_on_other_documents_is_healthy():
    words = Reranker("bm25")
    def answer(query, texts, top): return [(r.doc_id, r.score) for r in words.rank(query, texts)][:top]
    found = examined(answer, model=words)
    assert found.faults == [] and next(f.state for f in found.findings if f.name == "neighbours") == "not checked"


def test_of_several_models_the_named_one_is_examined():
    seen = []
    def speaks_both(request):
        seen.append(request.json)
        if "texts" in request.json: found = [{"index": i, "score": -s} for i, s in results(scores(QUERY, request.json["texts"]))]    # another model, the first
        else: found = LANGUAGES["vllm"][1](request.json, healthy)
        return Say(json.dumps(found), headers={"Content-Type": "application/json"})
    with Scripted(speaks_both) as there: found = examine(f"http://127.0.0.1:{there.port}", model=MODEL, name="second")
    assert found.faults == [] and {body["model"] for body in seen} == {"second"}


def test_a_tolerance_that_is_none_is_refused():
    for odd in (float("nan"), -1, float("inf"), "x", None):
        with pytest.raises(InputError, match="tolerance="): examine("http://127.0.0.1:9", tolerance=odd)


def test_the_whole_address_and_a_key_are_used():
    seen = []
    with server(healthy, seen=seen) as there: assert not examine(f"http://127.0.0.1:{there.port}/v1/rerank", api_key="open-sesame").faults
    assert {request.headers.get("authorization") for request in seen} == {"Bearer open-sesame"}


# ---- ill


def changed(change):
    "A server that changes the scores of a request"
    def answer(query, texts, top): return results(change(scores(query, texts)), top)
    return answer


def relisted(change):
    "A server that changes the list of a request"
    def answer(query, texts, top): return change(healthy(query, texts, None))[:top]
    return answer


def by_length(query, texts, top):
    "Sorts a batch by length, and does not put the scores back"
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    return results(scores(query, [texts[i] for i in order]), top)


def first_of_all(query, texts, top): return sorted(healthy(query, texts[:top]), key=lambda pair: -pair[1])


def cut_at(words):
    def answer(query, texts, top): return results(scores(query, [" ".join(text.split()[:words]) for text in texts]), top)
    return answer


def restless():
    calls = iter(range(10**6))
    return changed(lambda found: [s + 3 * next(calls) for s in found])


def merged(query, texts, top): return healthy(query, texts)[:max(1, len(texts) - 1)]


def minus_best(found): return [-s for s in found]


ILL = {     # what the server does -> its answer, the fault by which it must be known, does it show without a model?
    "overflow": (changed(lambda found: [math.nan if s > 1 else s for s in found]), "NaN", True),
    "no score": (relisted(lambda found: [(i, None) for i, _ in found]), "NaN", True),
    "one result less": (merged, "lost results", True),
    "refuses a single document": (lambda q, t, top: healthy(q, t, top) if len(t) > 1 else [], "lost results", True),
    "counts from 1": (relisted(lambda found: [(i + 1, s) for i, s in found]), "wrong indices", True),
    "numbered after sorting": (relisted(lambda found: [(place, s) for place, (_, s) in enumerate(found)]), "wrong indices", True),
    "in the order of a batch": (by_length, "wrong indices", True),
    "twice the same index": (relisted(lambda found: [(0, s) for _, s in found]), "wrong indices", True),
    "indices as text": (relisted(lambda found: [(str(i), s) for i, s in found]), "wrong indices", True),
    "not sorted": (lambda q, t, top: list(enumerate(scores(q, t)))[:top] if top == len(t) else healthy(q, t, top), "lost order", True),
    "worst first": (relisted(lambda found: found[::-1]), "reversed order", True),
    "the other label": (changed(minus_best), "reversed order", True),
    "cut before sorting": (first_of_all, "wrong best", True),
    "other scores each time": (restless(), "unsteady", True),
    "a softmax": (changed(softmax), "neighbours", True),
    "stretched": (changed(lambda found: [(s - min(found)) / (max(found) - min(found) or 1) for s in found]), "neighbours", True),
    "a softmax of which a model knows": (changed(softmax), "hidden sigmoid", False),
    "cut early": (cut_at(60), "cut text", True),
    "cut later": (cut_at(700), "cut text", False),
    "a sigmoid": (changed(lambda found: [sigmoid(s) for s in found]), "hidden sigmoid", False),
    "two sigmoids": (changed(lambda found: [sigmoid(sigmoid(s)) for s in found]), "hidden sigmoid", True),
    "an untrained head": (changed(lambda found: [0.1 * (hash(round(s, 3)) % 7) for s in found]), "other scores", False),
    "all the same": (changed(lambda found: [0.5 for _ in found]), "other scores", True),
}


@pytest.mark.parametrize("ill", ILL)
def test_a_fault_is_named(ill):
    answer, fault, outside = ILL[ill]
    found = examined(answer)
    assert fault in found.faults, found.rows()
    said = next(f for f in found.findings if f.name == fault)
    assert said.seen and said.remedy == BY_FAULT[fault].remedy
    if outside: assert fault in examined(answer, model=None).faults
    assert fault not in examined(answer, allow=[fault]).faults


def test_every_fault_of_the_table_has_a_server_that_has_it():
    assert {fault for _, fault, _ in ILL.values()} | {"missing template"} == {fault.name for fault in FAULTS}


def test_an_order_that_is_kept_is_one_fault_alone():
    "A harmless change is not reported under other names too"
    assert examined(ILL["a sigmoid"][0]).faults == ["hidden sigmoid"] == examined(ILL["two sigmoids"][0]).faults
    assert examined(ILL["cut later"][0]).faults == ["cut text"]


def test_missing_log_odds_are_named():
    found = examined(healthy, model=Chances())
    assert found.faults == ["hidden sigmoid"] and "log-odds" in next(f.seen for f in found.findings if f.state == "fault")


def test_a_missing_template_is_proven():
    pytest.importorskip("torch")
    from rerankers.backends.llm_pointwise import LLMPointwiseRanker
    from rerankers.tiny_models import tiny_language_model
    folder = tiny_language_model("qwen3", seed=3)
    right, bare = (LLMPointwiseRanker(folder, template=template, activation="identity")
                   for template in ("Question: {query}\nText: {document}\nIs it relevant?", "{query}{document}"))
    def served(model): return lambda query, texts, top: [(r.doc_id, r.score) for r in model.rank(query, texts)][:top]
    assert examined(served(right), model=right).faults == []
    found = examined(served(bare), model=right, tolerance=1e-3)
    assert "missing template" in found.faults and "other scores" not in found.faults


# ---- what cannot be examined


def test_nothing_to_examine_is_an_error():
    with Scripted([Say({"detail": "no key"}, status=401)]) as there, pytest.raises(AuthenticationError): examine(there.url)
    with Scripted([Say({"detail": "Not Found"}, status=404)]) as there, pytest.raises(InputError, match="known languages.*Not Found"): examine(there.url)
    with Scripted([Say({"results": []})]) as there, pytest.raises(UnusableAnswer, match="nothing to examine"): examine(there.url, provider="vllm")
    with pytest.raises(ServerError, match="cannot connect"): examine(there.url)
    with pytest.raises(InputError, match="hidden sigmoid"): examine(there.url, allow=["hidden sigmoids"])
    with server(healthy) as there, pytest.raises(InputError, match="no scores"):
        from integrations.watched import Backwards
        examine(f"http://127.0.0.1:{there.port}", model=Backwards())


def test_from_the_command_line(capsys):
    def said(answer, *argv):
        with server(answer) as there: code = main(["doctor", f"http://127.0.0.1:{there.port}", *argv])
        return code, capsys.readouterr()
    code, (out, err) = said(healthy)
    assert (code, err) == (0, "") and out.splitlines()[0].split() == ["fault", "state", "what", "was", "seen"] and "no fault found" in out
    code, (out, err) = said(ILL["two sigmoids"][0], "--json")
    assert (code, err, json.loads(out)["faults"]) == (3, "", ["hidden sigmoid"])
    assert said(ILL["two sigmoids"][0], "--allow", "hidden sigmoid")[0] == 0
    code, (out, err) = said(healthy, "--provider", "vlm")
    assert (code, out) == (1, "") and "vllm" in err


def test_the_probes_are_what_they_say():
    "The text that answers is the best one for a real model too, alone and among others"
    best = Reranker("offline").rank(QUERY, list(TEXTS))[0]
    assert best.text == TEXTS[3]
