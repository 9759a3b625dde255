"""Help texts and error messages keep to the words of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import learndock

PACKAGE = Path(learndock.__file__).parent

#: What a sentence of ours does not say, and what it says instead.
REFUSED = {
    r"(?<!there )(?<!There )\bis no (?!longer\b|better\b)": "is not a",
    r"\b[Ss]omebody\b": "name the actor",
    r"\b[Nn]obody\b": "name the actor",
    r"\b[Ww]hoever\b": "name the actor",
    r"\banew\b": "again",
    r"\bstands twice\b": "duplicate",
    r"\b[Mm]eanwhile\b": "while ...",
    r"\bfor ever\b": "without end, or leave it out",
}

#: Files that still say such words, and how often; their next prose pass takes the line out. None is left.
LEFT: dict[str, int] = {}


def _is_help(node: ast.AST) -> bool:
    """Whether a node is a function that typer makes a command of: its docstring is the help."""
    calls = [d.func for d in getattr(node, "decorator_list", []) if isinstance(d, ast.Call)]
    return any(isinstance(call, ast.Attribute) and call.attr in ("command", "callback") for call in calls)


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """String literals with their lines; docstrings only where they are the help of a command."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr) and not _is_help(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def found() -> dict[str, list[str]]:
    """By file: each refused word, with its line and what to say."""
    said: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, text in sentences(path):
            for word, instead in REFUSED.items():
                for match in re.finditer(word, text):
                    name = str(path.relative_to(PACKAGE))
                    said.setdefault(name, []).append(f"{name}:{line}: “{match[0]}”: {instead}: {text[:70]!r}")
    return said


def test_messages_and_help_are_plain() -> None:
    said = found()
    new = [line for name, lines in said.items() if len(lines) > LEFT.get(name, 0) for line in lines]
    assert not new, "\n".join(new)


def test_what_is_left_shrinks() -> None:
    """A file that says fewer of these words than its line here allows: lower the line, or take it out."""
    counts = Counter({name: len(lines) for name, lines in found().items()})
    assert {name: counts[name] for name in LEFT} == LEFT


def test_the_check_sees_what_it_looks_for(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    text = '"""Nobody."""\n{}def f(x):\n    """Made anew."""\n    raise E(f"{{x}} is no number; {{x}} stands twice")\n'
    for decorator, count in (("", 2), ("@app.command('f')\n", 3)):
        file.write_text(text.format(decorator))
        said = " ".join(text for _, text in sentences(file))
        assert sum(bool(re.search(word, said)) for word in REFUSED) == count
