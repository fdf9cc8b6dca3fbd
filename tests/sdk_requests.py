"""What the providers' own SDKs send and read: `python tests/sdk_requests.py FOLDER [PROVIDER ...] > tests/golden_sdk_requests.json`

FOLDER has a virtual environment a package, `FOLDER/<package>/bin/python`. Each snippet runs there against a server on loopback that notes the request
and gives the answer of nbs/backends/hosted_exchanges.json. test_api_parity.py holds our requests and scores to what comes out.
"""
import json
import subprocess
import sys
from pathlib import Path

from servers import Scripted

EXCHANGES = Path(__file__).resolve().parents[1] / "nbs" / "backends" / "hosted_exchanges.json"
READ = "import json; print(json.dumps([[r.index, r.{}] for r in {}]))"

SNIPPETS = {    # provider -> package, version, code that leaves [[index, score], …] on its last line
    "cohere": ("cohere", "7.3.1", "import cohere\nr = cohere.ClientV2(api_key=KEY, base_url=URL).rerank(model=MODEL, query=QUERY, documents=DOCS)\n"
               + READ.format("relevance_score", "r.results")),
    "vercel": ("cohere", "7.3.1", "import cohere\nr = cohere.ClientV2(api_key=KEY, base_url=URL).rerank(model=MODEL, query=QUERY, documents=DOCS)\n"
               + READ.format("relevance_score", "r.results")),
    "voyage": ("voyageai", "0.5.0", "import voyageai\nr = voyageai.Client(api_key=KEY, base_url=URL + '/v1').rerank(QUERY, DOCS, model=MODEL)\n"
               + READ.format("relevance_score", "r.results")),
    "mixedbread.ai": ("mixedbread", "0.54.0", "from mixedbread import Mixedbread\n"
                      "r = Mixedbread(api_key=KEY, base_url=URL).rerank(model=MODEL, query=QUERY, input=DOCS, return_input=False)\n"
                      + READ.format("score", "r.data")),
    "pinecone": ("pinecone", "10.2.0", "from pinecone import Pinecone\n"
                 "r = Pinecone(api_key=KEY, host=URL).inference.rerank(model=MODEL, query=QUERY, documents=DOCS, return_documents=False)\n"
                 + READ.format("score", "r.data")),
    "isaacus": ("isaacus", "0.22.1", "from isaacus import Isaacus\n"
                "r = Isaacus(api_key=KEY, base_url=URL + '/v1').rerankings.create(model=MODEL, query=QUERY, texts=DOCS)\n"
                + READ.format("score", "r.results")),
    "zeroentropy": ("zeroentropy", "0.1.0a11", "from zeroentropy import ZeroEntropy\n"
                    "r = ZeroEntropy(api_key=KEY, base_url=URL + '/v1').models.rerank(model=MODEL, query=QUERY, documents=DOCS)\n"
                    + READ.format("relevance_score", "r.results")),
    "contextual": ("contextual-client", "0.11.0", "from contextual import ContextualAI\n"
                   "r = ContextualAI(api_key=KEY, base_url=URL + '/v1').rerank.create(model=MODEL, query=QUERY, documents=DOCS)\n"
                   + READ.format("relevance_score", "r.results")),
    "together": ("together", "3.1.1", "from together import Together\n"
                 "r = Together(api_key=KEY, base_url=URL).rerank.create(model=MODEL, query=QUERY, documents=DOCS, return_documents=False)\n"
                 + READ.format("relevance_score", "r.results")),
    "dashscope: gte-rerank-v2": ("dashscope", "2.0.2", "import dashscope\ndashscope.base_http_api_url = URL + '/api/v1'\n"
                                 "r = dashscope.TextReRank.call(model=MODEL, query=QUERY, documents=DOCS, return_documents=False, api_key=KEY)\n"
                                 + READ.format("relevance_score", "r.output.results")),
    "siliconflow": ("siliconflow", "0.5.0 (llama-index-postprocessor-siliconflow-rerank)",
                    "from llama_index.postprocessor.siliconflow_rerank import SiliconFlowRerank\nfrom llama_index.core.schema import NodeWithScore, TextNode\n"
                    "c = SiliconFlowRerank(model=MODEL, base_url=URL + '/v1/rerank', api_key=KEY, top_n=len(DOCS), return_documents=False)\n"
                    "r = c.postprocess_nodes([NodeWithScore(node=TextNode(text=d, id_=str(i)), score=0.0) for i, d in enumerate(DOCS)], query_str=QUERY)\n"
                    "import json; print(json.dumps([[int(n.node.node_id), n.score] for n in r]))"),
    "nim": ("langchain-nvidia-ai-endpoints", "1.5.0", "from langchain_nvidia_ai_endpoints import NVIDIARerank\nfrom langchain_core.documents import Document\n"
            "c = NVIDIARerank(model=MODEL, base_url=URL + '/v1', api_key=KEY, truncate='END', top_n=len(DOCS))\n"
            "r = c.compress_documents([Document(d, metadata={'i': i}) for i, d in enumerate(DOCS)], QUERY)\n"
            "import json; print(json.dumps([[d.metadata['i'], d.metadata['relevance_score']] for d in r]))"),
}


def exchanges():
    "The recorded exchanges by provider, those of a provider's other models by both names"
    rows = json.loads(EXCHANGES.read_text(encoding="utf-8"))
    return {row["provider"]: row for row in rows} | {f"{v['provider']}: {v['model']}": v for row in rows for v in row.get("variants", ())}


def seen_by(row, python, code):
    "The request of one snippet, and the scores it read"
    given = {"KEY": "key-1", "MODEL": row["model"], "QUERY": row["query"], "DOCS": row["documents"]}
    with Scripted(lambda seen: row["response"] if seen.method == "POST" else {"object": "list", "data": [{"id": row["model"]}]}) as server:
        head = "".join(f"{name} = {value!r}\n" for name, value in {**given, "URL": server.url.removesuffix("/v1")}.items())
        done = subprocess.run([python, "-W", "ignore", "-c", head + code], capture_output=True, text=True, timeout=120)
        if done.returncode: sys.exit(f"{row['provider']}: {done.stderr[-2000:]}")
        asked = next(s for s in server.seen if s.method == "POST")
        named = {name: asked.headers[name] for name in ("authorization", "api-key", "x-pinecone-api-version") if name in asked.headers}
        return {"path": asked.path, "headers": named, "request": asked.json, "scores": dict(json.loads(done.stdout.strip().splitlines()[-1]))}


def main(folder, *only):
    rows, found = exchanges(), {}
    for provider, (package, version, code) in SNIPPETS.items():
        if only and provider not in only: continue
        row = rows[provider]
        got = seen_by(row, str(Path(folder) / package / "bin" / "python"), code)
        got["scores"] = [got["scores"][i] for i in range(len(row["documents"]))]
        found[provider] = {"package": f"{package} {version}", **got}
    print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__": main(*sys.argv[1:])
