"A document that the filter's model says nothing of is treated alike wherever it stands"
import re

import pytest

from rerankers import Reranker, UnusableAnswer
from rerankers.backends.relevance_filter import chunks
from rerankers.strategies.plans import rehearse


def forgets(messages):
    "All are relevant, and of an odd one nothing is said"
    asked = messages[-1]["content"].rpartition("<documents>")[2]
    said = [f"<document id={i}><explanation>why</explanation><answer>RELEVANT</answer></document>"
            for i, text in re.findall(r"<document id=(\d+)>\n(.*?)\n</document>", asked, re.S) if "odd" not in text]
    return "\n".join(said) or "Sorry."


@pytest.mark.parametrize("n", [2, 20, 21, 22, 40, 41, 61])
@pytest.mark.parametrize("label", ["RELEVANT", "NOT_RELEVANT"])
def test_a_forgotten_document_has_the_default_label_wherever_it_stands(n, label):
    ranker = Reranker("llm-relevance-filter", client=forgets, default_label=label)
    for odd in {0, n // 2, n - 2, n - 1}:
        results = ranker.rank("q", ["odd" if i == odd else f"d{i}" for i in range(n)])
        assert results.faults == {"missing": 1}
        forgotten = results.get_result_by_docid(odd)
        assert (forgotten.score, forgotten.note) == (float(label == "RELEVANT"), None)
        assert all(r.score == 1.0 and r.note == "why" for r in results if r.doc_id != odd)


def test_no_verdict_at_all_is_no_answer():
    ranker = Reranker("llm-relevance-filter", client=forgets)
    for docs in (["odd"], ["odd"] * 3, ["odd"] * 21):
        with pytest.raises(UnusableAnswer, match="Sorry."): ranker.rank("q", docs)
    kept = Reranker("llm-relevance-filter", client=forgets, on_error="keep").rank("q", ["odd"])
    assert ([r.score for r in kept], kept.faults) == ([1.0], {"wrong_format": 1})


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_pieces_are_even(size):
    for n in range(70):
        sizes = []
        found = rehearse(chunks(n, size), lambda request, sizes=sizes: sizes.append(len(request)) or list(request))
        assert list(found.ranking.scores) == list(range(n)) and found.calls == -(-n // size)
        assert not sizes or max(sizes) <= size and max(sizes) - min(sizes) <= 1
        assert size < 3 or n < 2 or min(sizes) > 1
