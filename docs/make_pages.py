"""Write python.md from the docstrings of the public face, and troubleshooting.md from the table of errors.

python docs/make_pages.py            writes docs/python.md and docs/troubleshooting.md
python docs/make_pages.py --check    exits with 1 where one is not up to date (a test asks)
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from written import write_or_check

import learndock
from learndock import errors

PYTHON_PAGE = Path(__file__).with_name("python.md")
TROUBLE_PAGE = Path(__file__).with_name("troubleshooting.md")
#: The hand-written half of the page: symptoms that are no single error.
SYMPTOMS = Path(__file__).with_name("symptoms.md.in")

PYTHON_HEAD = """# Python

Made from the docstrings by `python docs/make_pages.py`; do not edit. Everything here is imported from `learndock`:
each command of the command line is one function, and every type and error that a function takes, returns or raises is
a public name. The examples run as tests, in a folder that holds `few.csv` (16 labelled texts), `model/` (a
scikit-learn pipeline saved with skops), `learnware/` (the same, packed) and `my-dock/`.

```python
import learndock

dock = learndock.open_dock("my-dock")
examples = learndock.read_examples("few.csv")
answer = learndock.identify(dock, learndock.make_spec(examples))
if answer.fits:
    learnware = learndock.open_learnware(dock.get(answer.matches[0].id, "model-that-fits"))
    print(learndock.evaluate(learnware, examples))
```
"""

#: Heading -> the names under it, in the order of the journey. Errors come last, as a table of their own.
SECTIONS = {
    "Examples": ("read_examples", "ReadOptions", "Examples", "Schema", "Image", "Prompt"),
    "Spaces": ("get_space", "list_spaces", "Space", "FileSource"),
    "Specifications": ("make_spec", "read_spec", "write_spec", "similarity", "Spec"),
    "Learnwares": ("pack", "Packed", "open_learnware", "Learnware", "Manifest", "Base", "File", "SpecFile", "Model"),
    "Docks": ("open_dock", "Dock", "LocalDock", "Record", "Summary", "Problem", "GcResult", "SpecTable"),
    "Search": ("identify", "Identification", "Match", "Filters"),
    "Use": ("predict", "write_predictions", "evaluate", "Evaluation", "try_matches", "Trial", "finetune"),
    "Generative models": (
        "load_generative_model", "load_generative_models", "generate", "GenerativeModel", "merge_adapters",
    ),
}  # fmt: skip

TROUBLE_HEAD = """# Troubleshooting

The lower half of this page is made from the table of errors by `python docs/make_pages.py`; do not edit it there.

Every command that fails prints one line on standard error: what happened, to what, and what to try. Nothing was
written. The exit code says which kind of error it was. In Python the same error is an exception of `learndock` with
the fields `message`, `about` (the file or name), `remedy` and, where waiting helps, `retry_after`; a service answers
with the same fields as JSON. Set `LEARNDOCK_DEBUG=1` to see the Python traceback.

"""


def python_page() -> str:
    """Return the page of the Python reference."""
    listed = {name for names in SECTIONS.values() for name in names}
    kinds = {kind.__name__ for kind in errors.STATUS}
    missing = set(learndock.__all__) - listed - kinds - {"__version__"}
    sections = dict(SECTIONS)
    if missing:
        sections["Other types"] = tuple(sorted(missing))
    parts = [PYTHON_HEAD]
    for heading, names in sections.items():
        parts.append(f"\n## {heading}\n")
        parts += [_entry(name, getattr(learndock, name)) for name in names]
    parts.append("\n## Errors\n\nThe tree of exceptions; [troubleshooting](troubleshooting.md) says what each means.\n")
    tree = re.search(r"((?:    [ │├└─]*[A-Z]\w+.*\n)+)", str(errors.__doc__))
    assert tree is not None
    parts.append(f"\n```text\n{inspect.cleandoc(tree[1])}\n```\n")
    return "".join(parts)


def trouble_page() -> str:
    """Return the page of errors: what each means, its codes, and what to do."""
    rows = [
        (f"`{kind.__name__}`", code, status, _ticks(_first(kind)), _ticks(_rest(kind)))
        for kind, (code, status) in errors.STATUS.items()
    ]
    head = ("error", "exit code", "HTTP status", "meaning", "what to do")
    lines = [head, tuple("---" for _ in head), *rows]
    table = "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    others = (
        "\nExit codes of other kinds: 0 done; 1 an error that is not ours; 70 a bug in learndock, please report it; "
        "71 not enough memory; 130 stopped with Ctrl-C; 141 the reader of the output is gone. "
        "[The command line](command-line.md#exit-codes) lists them all.\n"
    )
    return TROUBLE_HEAD + SYMPTOMS.read_text(encoding="utf-8") + "\n## Table of errors\n\n" + table + others


# --- one public name -------------------------------------------------------------------------------------------


def _entry(name: str, thing: Any) -> str:
    if inspect.isclass(thing):
        return _class_entry(name, thing)
    return f"\n### {name}\n\n{_signature(name, thing)}\n{_document(thing)}"


def _class_entry(name: str, kind: type) -> str:
    parts = [f"\n### {name}\n\n"]
    if dataclasses.is_dataclass(kind):
        fields = [f"{f.name}: {_type(f.type)}{_default(f)}" for f in dataclasses.fields(kind) if f.name[0] != "_"]
        parts.append("```python\n" + f"{name}(\n" + "".join(f"    {f},\n" for f in fields) + ")\n```\n\n")
    parts.append(_document(kind))
    rows = []
    for member, function, is_property in _members(kind):
        call = member if is_property else f"{member}({_parameters(function)})"
        rows.append(f"- `{call}`: {_ticks(_first(function))}\n")
    return "".join([*parts, "\n" if rows else "", *rows])


def _members(kind: type) -> Iterator[tuple[str, Any, bool]]:
    for member, value in vars(kind).items():
        if member.startswith("_"):
            continue
        is_property = isinstance(value, property) or hasattr(value, "func")
        function = getattr(value, "fget", getattr(value, "func", getattr(value, "__func__", value)))
        if inspect.isfunction(function) and function.__doc__ and not hasattr(function, "__pydantic_decorator__"):
            yield member, function, is_property


def _signature(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    parameters, starred = [], False
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not starred:
            starred = True
            parameters.append("*")
        if p.kind is p.VAR_POSITIONAL:
            starred = True
        star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        default = "" if p.default is p.empty else f" = {_value(p.default)}"
        parameters.append(f"{star}{p.name}: {_type(p.annotation)}{default}")
    returned = _type(signature.return_annotation)
    one = f"{name}({', '.join(parameters)}) -> {returned}"
    if len(one) <= 100:
        return f"```python\n{one}\n```\n"
    return f"```python\n{name}(\n" + "".join(f"    {p},\n" for p in parameters) + f") -> {returned}\n```\n"


def _parameters(function: Any) -> str:
    names = [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={_value(p.default)}" for p in names)


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return "..." if text == "_empty" else re.sub(r"\b[a-z_]+\.", "", text)


def _value(value: Any) -> str:
    return getattr(value, "__name__", None) or ("..." if " at 0x" in repr(value) else repr(value))


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f" = {_value(field.default)}"
    return "" if field.default_factory is dataclasses.MISSING else " = ..."


# --- docstrings ------------------------------------------------------------------------------------------------


def _document(thing: Any) -> str:
    """A docstring as Markdown: its text, then parameters, what it returns and raises, and the example."""
    text, *sections = re.split(r"^(Args|Returns|Raises|Example):\n", inspect.getdoc(thing) or "", flags=re.M)
    parts = [_ticks(_flowing(text))]
    for heading, body in zip(sections[::2], sections[1::2], strict=True):
        body = inspect.cleandoc(body)
        if heading == "Example":
            lines = [re.sub(r"  # doctest: .*$", "", line) for line in body.splitlines()]
            parts.append("```pycon\n" + "\n".join(lines) + "\n```")
        elif heading == "Returns":
            parts.append(f"**Returns** {_ticks(' '.join(body.split()))}")
        else:
            items = [f"- {_item(entry)}" for entry in re.split(r"\n(?=\S)", body)]
            parts.append(f"**{'Parameters' if heading == 'Args' else 'Raises'}**\n\n" + "\n".join(items))
    return "\n\n".join(part for part in parts if part) + "\n"


def _item(entry: str) -> str:
    names, colon, text = " ".join(entry.split()).partition(":")
    said = ", ".join(f"`{n.strip()}`" for n in names.split(","))
    return f"{said}: {_ticks(text.strip())}" if colon else said


def _flowing(text: str) -> str:
    """Paragraphs on one line each; what is indented stays as it is."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(p if p.startswith("    ") else " ".join(p.split()) for p in paragraphs)


def _ticks(text: str) -> str:
    """Markdown of a docstring's text: one backtick, and links to the pages that it names."""
    text = re.sub(r"docs/([\w-]+)\.md", lambda m: f"[{m[1].replace('-', ' ')}]({m[1]}.md)", text)
    return text.replace("``", "`")


def _first(thing: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _rest(thing: Any) -> str:
    text = (inspect.getdoc(thing) or "").partition("\n\n")[2].partition("Args:\n")[0]
    return " ".join(text.split())


def main() -> int:
    """Write the pages, or say which are not up to date."""
    return write_or_check({PYTHON_PAGE: python_page(), TROUBLE_PAGE: trouble_page()}, "make_pages.py")


if __name__ == "__main__":
    sys.exit(main())
