"The tool for agents, called by the official client, in process and through the command line"
import asyncio
import os
import sys

import pytest

pytest.importorskip("mcp.server.mcpserver")
from mcp import Client, StdioServerParameters  # noqa: E402
from watched import Adds, Backwards  # noqa: E402

from rerankers import Reranker  # noqa: E402
from rerankers.integrations.mcp import rank_server  # noqa: E402

QUERY, DOCS = "who wrote Hamlet?", ["Goethe wrote Faust.", "Shakespeare wrote Hamlet.", ""]
BM25 = Reranker("bm25")


def called(server, *calls):
    "The answers to several calls over one connection"
    async def ask():
        async with Client(server) as client: return [await client.call_tool("rank_documents", call) for call in calls]
    return asyncio.run(ask())


def rows(answer): return [(row["index"], row["score"], row["text"]) for row in answer.structured_content["result"]]


def test_the_best_documents_come_back():
    whole, one, none = called(rank_server(BM25), {"query": QUERY, "documents": DOCS}, {"query": QUERY, "documents": DOCS, "top_k": 1},
                              {"query": QUERY, "documents": []})
    expected = [(r.doc_id, r.score, r.text) for r in BM25.rank(QUERY, DOCS)]
    assert rows(whole) == expected and rows(one) == expected[:1] and rows(none) == []


def test_an_order_alone_has_no_score():
    answer, = called(rank_server(Backwards()), {"query": QUERY, "documents": DOCS, "top_k": 2})
    assert rows(answer) == [(2, None, ""), (1, None, DOCS[1])]


def test_the_agent_is_told_what_is_wrong():
    wrong = {"the query is empty": {"query": " ", "documents": DOCS}, "top_k=0": {"query": QUERY, "documents": DOCS, "top_k": 0},
             "documents": {"query": QUERY}, "documents.0": {"query": QUERY, "documents": [{"a": 1}]}}
    *refused, then = called(rank_server("bm25"), *wrong.values(), {"query": QUERY, "documents": DOCS})
    for said, answer in zip(wrong, refused, strict=True): assert answer.is_error and said in answer.content[0].text
    assert rows(then)[0][0] == 1     # the server goes on


def test_a_ranker_that_needs_ids_is_refused():
    answer, = called(rank_server(Adds()), {"query": QUERY, "documents": DOCS})
    assert answer.is_error and "by the ids" in answer.content[0].text


def test_from_the_command_line():
    code = "from rerankers.cli import main; main(['mcp', 'bm25:2 > bm25(b=0.5)'])"
    process = StdioServerParameters(command=sys.executable, args=["-c", code], env={"PYTHONPATH": os.pathsep.join(sys.path)})
    answer, = called(process, {"query": QUERY, "documents": DOCS, "top_k": 1})
    assert rows(answer)[0][0] == 1
