"Faults of documents, results, rankers"
from mutations import Mutation

MUTATIONS = [
    Mutation("rerankers/rankers.py", "key=scores.__getitem__, reverse=True)", "key=scores.__getitem__)",
             "tests/test_documents_results.py", "the worst document comes first"),
]
