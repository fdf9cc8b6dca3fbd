"""The API entry of a function or class, for .ci/docs.py: its signature with the comments beside it, its docstring, its public methods

nbdev would describe what the notebook has just defined, but Python knows no source for classes made there, so that fields would
lose their comments. An entry is of the same name in the exported module; what is delegated brings its own comments."""
import ast
import inspect
import io
import textwrap
import tokenize
from functools import cache, cached_property
from importlib import import_module
from types import FunctionType

empty, Kind = inspect.Parameter.empty, inspect.Parameter
width = 110
member_kinds = (FunctionType, property, cached_property, classmethod, staticmethod)
stars = {Kind.VAR_POSITIONAL: "*", Kind.VAR_KEYWORD: "**"}

# Comments: beside an argument or field, or on the lines above it

def places(node):
    "Name of an argument or field -> its line; the value of a function is `return`"
    if isinstance(node, ast.ClassDef): return {n.target.id: n.end_lineno for n in node.body if isinstance(n, ast.AnnAssign)}
    a = node.args
    found = {arg.arg: arg.end_lineno for arg in [*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg] if arg}
    return found | ({"return": node.returns.end_lineno} if node.returns else {})

def comment_lines(source):
    "Line -> its comment, and whether the line is nothing else"
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: (t.string.lstrip("#").strip(), t.line.lstrip().startswith("#")) for t in tokens if t.type == tokenize.COMMENT}

def above(line, found):
    "The comment lines right above a line, joined"
    first = line
    while found.get(first - 1, ("", False))[1]: first -= 1
    return " ".join(found[n][0] for n in range(first, line))

@cache
def classes(module):
    "Qualified name -> the source of each class of a module, which `inspect` would parse anew for each"
    source = inspect.getsource(import_module(module))
    lines = source.splitlines(keepends=True)
    def within(node, prefix):
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            name = f"{prefix}{child.name}" if named else ""
            if isinstance(child, ast.ClassDef):
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                yield name, "".join(lines[first - 1:child.end_lineno])
            yield from within(child, prefix if not named else f"{name}." if isinstance(child, ast.ClassDef) else f"{name}.<locals>.")
    return dict(within(ast.parse(source), ""))

def source_of(obj):
    "The source of a function or class"
    return classes(obj.__module__)[obj.__qualname__] if inspect.isclass(obj) else inspect.getsource(obj)

@cache
def written_comments(obj):
    "Name -> comment in the source of one function or class; several names on a line have none"
    source = textwrap.dedent(source_of(obj))
    found, lines = comment_lines(source), places(ast.parse(source).body[0])
    alone = {name: line for name, line in lines.items() if list(lines.values()).count(line) == 1}
    return {name: found[line][0] if line in found else above(line, found) for name, line in alone.items()}

def has_fields(obj):
    "Is it a dataclass or a named tuple, whose constructor is generated from its fields?"
    return inspect.isclass(obj) and ("__dataclass_fields__" in vars(obj) or "_fields" in vars(obj))

def exported(module, name):
    "An object by its module and qualified name"
    found = import_module(module)
    for part in name.split("."): found = getattr(found, part)
    return found

def origins(obj):
    "What a signature is written in: a function and whatever it delegates to; a class with fields and those above it"
    while obj is not None:
        owner = obj.__qualname__.rpartition(".")[0]
        if owner and obj.__name__ == "__init__" and has_fields(made := exported(obj.__module__, owner)): obj = made
        yield from [c for c in obj.__mro__ if has_fields(c)] if has_fields(obj) else [inspect.unwrap(obj)]
        obj = getattr(obj, "__delwrap__", None)

def comments(obj):
    "Name of an argument or field -> its comment"
    found = {}
    for origin in origins(obj): found = written_comments(origin) | {name: text for name, text in found.items() if text}
    return found

# Signatures

def plain(annotation):
    "An annotation as it is written"
    return getattr(annotation, "__forward_arg__", None) or inspect.formatannotation(annotation).strip("'")

def default(value):
    "A default as Python shows it; functions by their name, and dots for what is made anew each time"
    shown = getattr(value, "__name__", None) or repr(value)
    return "..." if shown.startswith("<") else shown

def parameter(p):
    "One argument: name, type and default"
    return stars.get(p.kind, "") + p.name + (f": {plain(p.annotation)}" if p.annotation is not empty else "") + (
        (" = " if p.annotation is not empty else "=") + default(p.default) if p.default is not empty else "")

def arguments(obj, notes):
    "Each argument and its comment; a star stands before those that must be named"
    named = False
    for p in inspect.signature(obj).parameters.values():
        if p.name in ("self", "cls"): continue
        if p.kind is Kind.KEYWORD_ONLY and not named: yield "*", ""
        named = named or p.kind in (Kind.VAR_POSITIONAL, Kind.KEYWORD_ONLY)
        yield parameter(p), notes.get(p.name)

def signature(obj, name, kind, returned=empty):
    "A definition: on one line when that is short and says all, else a line an argument"
    notes = comments(obj)
    given = list(arguments(obj, notes))
    value = f" -> {plain(returned)}" if returned is not empty else ""
    about = f"  # {notes['return']}" if value and notes.get("return") else ""
    short = f"{kind} {name}({', '.join(text for text, _ in given)}){value}"
    if len(short) <= width and not any(note for _, note in given): return short + about
    lines = [f"    {text}," + (f"  # {note}" if note else "") for text, note in given]
    return "\n".join([f"{kind} {name}(", *lines, f"){value}{about}"])

def constructor(cls):
    "What a class is made with when it says so itself, else None; a protocol's constructor is Python's"
    own = next((getattr(cls, name) for name in ("__init__", "__new__") if name in vars(cls)), None)
    return cls if has_fields(cls) else own if own and own.__module__ == cls.__module__ else None

def class_definition(cls, name):
    "How a class is made, or the classes that it takes that from"
    if made := constructor(cls): return signature(made, name, "class")
    bases = [b.__name__ for b in cls.__bases__ if b is not object]
    return f"class {name}" + (f"({', '.join(bases)})" if bases else "")

def definition(obj, name):
    "The first lines of a function, property or class"
    if inspect.isclass(obj): return class_definition(obj, name)
    if getter := getattr(obj, "fget", None) or getattr(obj, "func", None): return f"{name}: {plain(inspect.signature(getter).return_annotation)}"
    kind = "async def" if inspect.iscoroutinefunction(inspect.unwrap(obj)) else "def"
    return signature(obj, name, kind, inspect.signature(obj).return_annotation)

# Entries

def entry(obj, name):
    "Definition and docstring"
    said = inspect.cleandoc(obj.__doc__ or "")
    if said and "\n" not in said: said = f"*{said}*"
    return f"```python\n{definition(obj, name)}\n```\n\n{said}".rstrip()

def methods(cls):
    "Name -> public method or property with a docstring; what only fills in a base class's contract is described there"
    for name, held in vars(cls).items():
        inherited = any(hasattr(base, name) for base in cls.__bases__)
        if not name.startswith("_") and not inherited and isinstance(held, member_kinds) and getattr(cls, name).__doc__: yield name, getattr(cls, name)

def markdown(module, name):
    "The whole entry below a heading: `name`, then the methods when it is a class"
    obj = exported(module, name)
    found = methods(obj) if inspect.isclass(obj) else []
    return "\n\n".join([f"### {name}", entry(obj, name), *(entry(m, f"{name}.{n}") for n, m in found)])
