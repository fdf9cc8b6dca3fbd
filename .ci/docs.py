"""Build the documentation site from the notebooks: `python .ci/docs.py`, then open _docs/index.html

nbdev prepares the notebooks (front matter, where API entries go), this file makes plain notebooks of them, Sphinx renders those.
A new notebook needs no edit here: it appears in the menu by its folder and file name."""
import json
import os
import posixpath
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import yaml

root = Path(__file__).resolve().parents[1]
nbs = root/"nbs"
folders_first = ["", "tutorials", "engine", "web", "strategies", "llm", "backends", "evaluation"]  # the menu's order; other folders follow by name
captions = {"": "Core", "llm": "LLM", "api": "API"}                        # where the folder's name will not do
shown_folded = {"export", "exporti", "exports"}
left_out = {"hide", "default_exp"}

# Pages: where a notebook goes

def page_of(path):
    "`backends/03_t5.ipynb`, a path in nbs/ -> `backends/t5`: nbdev's names, numbers off"
    return str(Path(path).with_name(re.sub(r"^\d+[a-zA-Z0-9]*_", "", Path(path).stem.lower())))

@cache
def pages():
    "Every notebook that nbdev takes, path in nbs/ -> page"
    found = (p.relative_to(nbs) for p in sorted(nbs.rglob("*.ipynb")))
    return {str(p): page_of(p) for p in found if not any(part[0] in "._" for part in p.parts)}

@cache
def symbols():
    "What may stand in backticks -> the places (page, anchor) where it is described, by short and by full name"
    index = root/"rerankers"/"_modidx.py"
    modules = runpy.run_path(str(index))["d"]["syms"] if index.exists() else {}
    found = {}
    for module, names in modules.items():
        for full, (url, _) in names.items():
            page, anchor = url.split(".html#")
            place = page, anchor.split(".")[0]  # a method is described under its class
            for name in (full, full.removeprefix(f"{module}.")): found.setdefault(name, []).append(place)
    return found

def place_of(word, page):
    """Where the name in backticks is described, or None.
    Away from its own page a bare lower-case word is more often an argument or a model's name, so a function is written `name()` there"""
    found = symbols().get(word.removesuffix("()"), [])
    here = [place for place in found if place[0] == page]
    if here: return here[0]
    return found[0] if len(found) == 1 and re.search(r"[A-Z.]|\(\)$", word) else None

# Prose: links and headings

def up_to(page, target):
    "Link from one page to another"
    return posixpath.relpath(f"{target}.ipynb", posixpath.dirname(page) or ".")

def link_symbol(match, page):
    "`Name` -> a link to where Name is documented, when it is one of ours"
    place = place_of(match[1], page)
    return f"[`{match[1]}`]({up_to(page, place[0])}#{place[1]})" if place else match[0]

def link_page(match, page):
    "A written link: to a notebook -> to its page; out of nbs/, where the site has nothing -> its text alone"
    text, target, anchor = match.groups()
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
    if path in pages(): return f"[{text}]({up_to(page, pages()[path])}{anchor or ''})"
    return text if path.startswith("..") else match[0]

def link(text, page):
    "All links of a piece of prose; headings, code spans of several words and existing links are left alone"
    if re.match(r"#{1,6} ", text): return text
    text = re.sub(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#:]+)(#[^)\s]*)?\)", lambda m: link_page(m, page), text)
    parts = re.split(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\([^)]*\)|``.*?``)", text)
    return "".join(p if i % 2 else re.sub(r"`([^`\s]+)`", lambda m: link_symbol(m, page), p) for i, p in enumerate(parts))

def prose(text, page, level):
    "Markdown for the site, and the level of its last heading; headings never skip a level"
    out, fence = [], None
    for line in text.splitlines():
        ticks = re.match(r"\s*(`{3,}|~{3,})", line)
        if ticks and fence is None: fence = ticks[1]
        elif ticks and line.strip() == fence: fence = None
        elif fence is None and not line.startswith("    "):
            line = re.sub(r":::\s*\{\.callout-(\w+)[^}]*\}", r":::{\1}", line)
            if heading := re.match(r"(#{1,6})( .*)", line):
                level = min(len(heading[1]), level + 1)
                line = "#" * level + heading[2]
            line = link(line, page)
        out.append(line)
    return "\n".join(out), level

def api(text, page, level):
    "The entry of a function or class, one level below the prose that it belongs to"
    text = re.sub(r"^#+ ", "#" * min(level + 1, 6) + " ", text, count=1)
    return prose(text, page, level + 1)[0]

# Cells

def joined(text):
    "Notebooks keep a text as one string or as its lines"
    return text if isinstance(text, str) else "".join(text)

def directives(source):
    "The words and values of the leading `#|` lines: {'hide': '', 'eval': 'false'}"
    return dict(re.findall(r"^#\|[ \t]*([\w-]+):?[ \t]*(.*)$", source, re.M))

def markdown_cell(text): return {"cell_type": "markdown", "metadata": {}, "source": text}

def code_cell(cell, words):
    "A code cell without directives; exported source and `code-fold` are folded"
    source = re.sub(r"^#\|.*\n?", "", joined(cell["source"]), flags=re.M).strip()
    folded = shown_folded & words.keys() or words.get("code-fold") in ("true", "show")
    tags = ["hide-input"] if folded else ["remove-input"] if words.get("echo") == "false" else []
    if words.get("output") == "false": tags.append("remove-output")
    outputs = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]
    pictures = {"mystnb": {"image": {"alt": words["fig-alt"]}}} if "fig-alt" in words else {}  # what a reader who cannot see them is told
    return dict(cell, source=source, outputs=outputs, metadata={"tags": tags, **pictures})

def entries(cell):
    "The markdown that `show_doc` gave"
    return [joined(o["data"]["text/markdown"]) for o in cell.get("outputs", []) if "text/markdown" in o.get("data", {})]

def front_matter(nb):
    "Title and other facts, which nbdev has made YAML in the first cell"
    first = nb["cells"][0] if nb["cells"] else {"cell_type": ""}
    return yaml.safe_load(joined(first["source"]).strip().strip("-")) or {} if first["cell_type"] == "raw" else {}

def original_directives(path):
    "Cell id -> its directives as written: nbdev drops them while it works"
    cells = json.loads((nbs/path).read_text(encoding="utf-8"))["cells"]
    return {c["id"]: directives(joined(c["source"])) for c in cells if c["cell_type"] == "code" and "id" in c}

def plain_cells(nb, path, page):
    "The cells of a processed notebook as any notebook tool shows them, API entry before the source it documents"
    facts, written, level, waiting, described = front_matter(nb), original_directives(path), 1, [], []
    head = f"# {facts.get('title') or Path(page).name}"
    if facts.get("description"): head += "\n\n" + "\n".join(f"> {line}" for line in str(facts["description"]).splitlines())
    yield markdown_cell(prose(head, page, 0)[0])
    for cell in nb["cells"]:
        source = joined(cell["source"])
        if cell["cell_type"] == "raw" or "WARNING: THIS FILE WAS AUTOGENERATED" in source: continue
        if re.search(r"^show_doc\(", source, re.M):
            described = [markdown_cell(api(text, page, level)) for text in entries(cell)] + described  # nbdev has a cell's last name first
            continue
        yield from [*described, *waiting]
        waiting, described = [], []
        if cell["cell_type"] == "markdown":
            text, level = prose(source, page, level)
            yield markdown_cell(text)
            continue
        words = written.get(cell.get("id"), {}) | directives(source)
        if left_out & words.keys() or words.get("include") == "false": continue
        ready = code_cell(cell, words)
        if shown_folded & words.keys(): waiting = [ready]
        elif ready["source"] or ready["outputs"]: yield ready
    yield from [*described, *waiting]

def menu():
    "The table of contents: one group a folder, pages in the order of the file names"
    groups = {}
    for path, page in pages().items():
        if page != "index": groups.setdefault(path.split("/")[0] if "/" in path else "", []).append(page)
    order = sorted(groups, key=lambda f: (folders_first.index(f) if f in folders_first else len(folders_first), f))
    def group(f): return f"```{{toctree}}\n:hidden:\n:caption: {captions.get(f, f.capitalize())}\n\n" + "\n".join(groups[f]) + "\n```"
    return "\n\n".join(map(group, order))

# The build

def described(name, module):
    "The output of `show_doc(name)`: our entry of the exported object (entries.py says why), so that no cell need run"
    import entries
    return {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": entries.markdown(module, name)}}

def process(path, target):
    "Let nbdev prepare one notebook, and document what it exports"
    from execnb.nbio import read_nb, write_nb
    from nbdev.processors import FilterDefaults, exec_show_docs
    class Unrun(FilterDefaults):
        def base_procs(self): return [p for p in super().base_procs() if p is not exec_show_docs]
    nb = read_nb(nbs/path)
    exports = re.search(r"^#\|\s*default_exp\s+(\S+)", "\n".join(joined(c["source"]) for c in nb["cells"]), re.M)
    Unrun()(nb)
    for cell in nb["cells"]:
        if shown := re.search(r"^show_doc\(([\w.]+)", joined(cell["source"]), re.M): cell["outputs"] = [described(shown[1], f"rerankers.{exports[1]}")]
    write_nb(nb, target)

def process_some(paths, target):
    "Some notebooks into the folder `target`"
    for path in paths:
        (target/path).parent.mkdir(parents=True, exist_ok=True)
        try: process(path, target/path)
        except Exception as error: raise RuntimeError(f"nbs/{path} is not documented") from error

def process_all(target):
    "All notebooks into the folder `target`: those of other people's frameworks, whose import is half of the work, in a process of their own"
    os.environ.update(HF_HUB_OFFLINE="1")
    sys.path.insert(0, str(root))  # this checkout, not what is installed
    foreign = [path for path in pages() if path.startswith("integrations/")]
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        beside = pool.submit(process_some, foreign, target)
        process_some([path for path in pages() if path not in foreign], target)
        beside.result()

def write_page(processed, path, target):
    "The plain notebook that Sphinx renders"
    nb, page = json.loads(processed.read_text(encoding="utf-8")), pages()[path]
    cells = list(plain_cells(nb, path, page))
    if page == "index": cells.append(markdown_cell(menu()))
    for i, cell in enumerate(cells): cell["id"] = f"c{i}"
    out = target/f"{page}.ipynb"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(dict(nb, cells=cells)), encoding="utf-8")

def copy_pictures(target):
    "What stands beside the notebooks and may be linked from them"
    for f in nbs.rglob("*"):
        if f.suffix in {".png", ".svg", ".jpg", ".gif"} and not any(part[0] in "._" for part in f.relative_to(nbs).parts):
            out = target/f.relative_to(nbs)
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(f, out)

def raw_tables(html):
    "Pages whose text has a table that was not understood: a paragraph that begins with a bar"
    return [str(p.relative_to(html)) for p in sorted(html.rglob("*.html")) if re.search(r"<article.*<p>\s*\|", p.read_text(encoding="utf-8"), re.S)]

def main():
    "Build the site; any warning of Sphinx, a broken link for one, and any table that shows as text is an error"
    os.chdir(root)
    site = root/"_docs"
    shutil.rmtree(site, ignore_errors=True)
    with tempfile.TemporaryDirectory() as tmp:
        process_all(Path(tmp)/"processed")
        for path in pages(): write_page(Path(tmp)/"processed"/path, path, Path(tmp)/"src")
        copy_pictures(Path(tmp)/"src")
        sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "2", "-b", "html", "-c", str(root/".ci"), "-d", f"{tmp}/doctrees"]
        status = subprocess.run([*sphinx, f"{tmp}/src", f"{tmp}/html"]).returncode  # in tmp: myst-nb leaves a folder beside it
        if status: sys.exit(f"the documentation was not built (Sphinx gave {status})")
        if bad := raw_tables(Path(tmp)/"html"): sys.exit(f"tables that show as text: {', '.join(bad)}")
        shutil.copytree(f"{tmp}/html", site)
    print(f"{len(pages())} pages in {site.relative_to(root)}/index.html")

if __name__ == "__main__": main()
