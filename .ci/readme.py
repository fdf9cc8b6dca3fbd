"Write README.md from nbs/index.ipynb: `python .ci/readme.py [DESTINATION]`"
import json
import posixpath
import re
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
hidden = {"hide", "default_exp", "export", "exporti"}

def directives(source):
    "The words and values of the leading `#|` lines: {'hide': '', 'eval': 'false'}"
    return dict(re.findall(r"^#\|[ \t]*([\w-]+):?[ \t]*(.*)$", source, re.M))

def joined(text):
    "Notebooks keep a text as one string or as its lines"
    return text if isinstance(text, str) else "".join(text)

def fenced(text, language):
    "`text` as a fenced block, the fence longer than any run of backticks inside"
    ticks = "`" * max([3, *(len(run) + 1 for run in re.findall("`{3,}", text))])
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"

def output(out):
    "One output as markdown; pictures and error streams are left to the notebook, HTML to its plain twin"
    if out["output_type"] == "stream": return fenced(joined(out["text"]), "text") if out["name"] == "stdout" else ""
    data = out.get("data", {})
    if any(kind.startswith("image/") for kind in data): return ""
    if "text/markdown" in data: return joined(data["text/markdown"]).strip()
    return fenced(joined(data["text/plain"]), "text") if "text/plain" in data else ""

def code(cell):
    "A code cell: its source without directives, and its outputs"
    source = joined(cell["source"])
    words = directives(source)
    if hidden & words.keys() or words.get("include") == "false": return []
    source = re.sub(r"^#\|.*\n?", "", source, flags=re.M).strip()
    shown = [fenced(source, "python")] if source and words.get("echo") != "false" else []
    return shown + [output(o) for o in cell.get("outputs", []) if words.get("output") != "false"]

def from_root(match):
    "A link as written in nbs/, as it must read one folder up"
    before, target, after = match.groups()
    if re.match(r"[a-z]+:|#|/", target): return match[0]
    return before + posixpath.normpath(posixpath.join("nbs", target)) + after

def prose(text):
    "Markdown with its links moved to the root; code blocks stay as they are"
    parts = re.split(r"(^```.*?^```[^\n]*$)", text.strip(), flags=re.M | re.S)
    return "".join(p if p.startswith("```") else re.sub(r"(\]\()([^)\s]+)((?:\s+\"[^\"]*\")?\))", from_root, p) for p in parts)

def readme(nb):
    "The whole notebook as markdown"
    blocks = []
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown": blocks.append(prose(joined(cell["source"])))
        elif cell["cell_type"] == "code": blocks += code(cell)
    return "\n\n".join(b for b in blocks if b) + "\n"

def main():
    "Write README.md, or the file named on the command line"
    nb = json.loads((root/"nbs"/"index.ipynb").read_text(encoding="utf-8"))
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else root/"README.md"
    target.write_text(readme(nb), encoding="utf-8")

if __name__ == "__main__": main()
