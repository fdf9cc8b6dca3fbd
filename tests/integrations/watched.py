"Rankers that several tests of frameworks use: what they do can be seen from outside"
from rerankers import BaseRanker
from rerankers.documents import pictures_in
from rerankers.rankers import Ranking


class Backwards(BaseRanker):
    "An order and no scores: the last document first"
    def __init__(self, option=None): self.option = option
    def answer(self, tasks, call): return [Ranking(order=list(range(len(t.documents)))[::-1]) for t in tasks]


class Adds(Backwards):
    "Looks for further documents by the ids of the given ones"
    adds = True


class Async(BaseRanker):
    "Waits rather than works, and notes how many queries it was asked at once"
    def __init__(self): self.called = []
    def answer(self, tasks, call): raise AssertionError("the blocking side")

    async def answer_async(self, tasks, call):
        self.called.append(len(tasks))
        return [Ranking(order=list(range(len(t.documents)))) for t in tasks]


class Sees(BaseRanker):
    "A document's score is the number of its pictures"
    sees = True
    def answer(self, tasks, call): return [Ranking([float(len(pictures_in(self.view(d)))) for d in t.documents]) for t in tasks]
