"Where rerankers 0.10 had its classes; nbs/compat.ipynb says how they are found"
from rerankers.compat import open_modules

__getattr__ = open_modules(__name__)
