"Sphinx settings for .ci/docs.py"
import re
import sys
from configparser import ConfigParser
from functools import cache
from pathlib import Path

from sphinx.search.en import SearchEnglish

config = ConfigParser(delimiters=["="])
config.read(Path(__file__).resolve().parents[1]/"settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

project, author, version = cfg["lib_name"], cfg["author"], cfg["version"]
release, copyright = version, cfg["copyright"]
extensions = ["myst_nb"]
exclude_patterns = ["**/.ipynb_checkpoints", "_*"]

nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # what a cell displays as markdown may hold tables
nb_code_prompt_show = nb_code_prompt_hide = "Source"  # on the folded source of an API entry
myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath", "deflist", "tasklist"]
myst_heading_anchors = 6
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure", "myst.strikethrough"]

def anchor(title):
    "The anchor of a heading: GitHub's rule with the dots kept, since nbdev links to `page#class.method`"
    return re.sub(r"[^\w.\- ]", "", title.strip().lower()).replace(" ", "-")

# By name, and not the function itself: Sphinx warns of a setting that it cannot store
sys.path.insert(0, str(Path(__file__).parent))
myst_heading_slug_func = "conf.anchor"

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = html_show_sourcelink = html_use_index = False
html_static_path = [str(Path(__file__).with_name("static"))]
html_css_files = ["wide.css"]

# What Sphinx would do again for every page

SearchEnglish.stem = cache(SearchEnglish.stem)  # most words stand on many pages

@cache
def titles(env):
    "Each page's table of contents without its headings"
    found = {page: contents.deepcopy() for page, contents in env.tocs.items()}
    for contents in found.values():
        for entry in contents.children: entry.children = entry.children[:1]
    return found

def short_menu(app, page, template, context, doctree):
    "The menu shows titles only, for which Sphinx copies all headings of all pages, a third of its work: give it none to copy"
    menu, env = context.get("toctree"), app.env
    def of_titles(**options):
        whole, env.tocs = env.tocs, titles(env)
        try: return menu(**options)
        finally: env.tocs = whole
    if menu: context["toctree"] = of_titles

def setup(app):
    "Before the theme asks for its menu, which it does at 500"
    app.connect("html-page-context", short_menu, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
