"Where rerankers 0.10 had its classes; nbs/old_modules.ipynb says how they are found"
from rerankers.old_modules import open_modules

__getattr__ = open_modules(__name__)
