"Packaging: every fact lives in settings.ini; edit there, not here."
import shlex
from configparser import ConfigParser
from pathlib import Path

import setuptools

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here/"settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
licences = {"apache2": "Apache-2.0"}  # nbdev's word -> the SPDX word that setuptools wants

def requirements(key):
    "The requirements listed under `key`, none when the key is missing"
    return shlex.split(cfg.get(key, ""), comments=True)

FRAMEWORKS = ("haystack", "llama-index", "lancedb", "pyterrier", "dspy", "mcp", "ray", "daft")  # large, and there already where they are used

def extras():
    "`X_requirements` as the extra `X`, and `all`: everything a user, not a developer, may want"
    end = "_requirements"
    each = {k.removesuffix(end).replace("_", "-"): requirements(k) for k in cfg if k.endswith(end)}
    return each | {"all": sorted({r for name, rs in each.items() if name not in ("dev", "rank-llm", *FRAMEWORKS) for r in rs})}

setuptools.setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here/"README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    license=licences[cfg["license"]],
    keywords=cfg["keywords"].split(),
    python_requires=f">={cfg['min_python']}",
    packages=[*setuptools.find_packages(include=[cfg["lib_path"], f"{cfg['lib_path']}.*"]),
              "haystack_integrations.components.rankers.rerankers"],  # a namespace of Haystack's, for saved pipelines
    package_data={cfg["lib_path"]: ["py.typed", "evaluation/facts/*.csv"]},
    zip_safe=False,
    install_requires=requirements("requirements"),
    extras_require=extras(),
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],
        "rerankers.backends": ["builtin = rerankers.backends"],
    },
)
