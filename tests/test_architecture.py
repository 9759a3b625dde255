"""The shape of the package: which room may know which, what an import costs, and errors that all have their line."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import learndock
from learndock import errors
from tests.support import work

PACKAGE = Path(learndock.__file__).parent
#: In the order in which data flows; a room knows those before it. The first eight are below all rooms.
ROOMS = (
    "errors", "_version", "files", "notebook", "progress", "settings", "strict_json", "tensor_file",
    "data", "spaces", "spec", "package", "search", "dock", "reuse", "tour", "demo", "bench",
    "service", "http", "cli",
)  # fmt: skip
#: Loaded in an instant and needed by everything, or not at all when learndock is only imported.
HEAVY = (
    "numpy",
    "torch",
    "onnxruntime",
    "transformers",
    "timm",
    "sklearn",
    "skops",
    "pyarrow",
    "tokenizers",
    "safetensors",
)


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Modules that a file names in import statements, wherever these stand, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield str(node.module), node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "learndock" and len(parts) > 1 and parts[1] in ROOMS else None


# --- rooms ---------------------------------------------------------------------------------------------------


def test_every_file_stands_in_a_known_room() -> None:
    strange = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in sources()} - {*ROOMS, "__init__"}
    assert not strange, "give the room its place in ROOMS"


def test_rooms_know_only_earlier_rooms() -> None:
    wrong = []
    for path in sources():
        here = room(module_of(path))
        if here is None:
            continue  # the package's own face shows all rooms
        for module, line in imports(path):
            there = room(module)
            if there is not None and ROOMS.index(there) > ROOMS.index(here):
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {here} imports {there}")
    assert not sorted(set(wrong))


def graph() -> dict[str, set[str]]:
    """Module -> the modules of learndock that it imports anywhere, for the type checker alone excepted."""
    modules = {module_of(path): path for path in sources()}
    found = {}
    for module, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        checks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
        for_types = {id(node) for check in checks for node in ast.walk(check)}
        named: set[str] = set()
        for node in ast.walk(tree):
            if id(node) in for_types:
                continue
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                within = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= within & set(modules) or {str(node.module)}
        found[module] = (named & set(modules)) - {module}
    return found


def circles(imported: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Groups of modules that reach each other by imports."""
    reached = {}
    for start in imported:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = imported[waiting.pop()] - seen
            seen |= new
            waiting += new
        reached[start] = seen
    found = {tuple(sorted({a} | {b for b in reached[a] if a in reached[b]})) for a in imported}
    return sorted(group for group in found if len(group) > 1)


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(graph()) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [("b", "c")]


def test_the_ground_floor_knows_no_room() -> None:
    grounds = {
        "errors": set(), "_version": set(), "files": {"errors"}, "notebook": set(), "progress": set(),
        "settings": {"errors"},
        "strict_json": set(),
        "tensor_file": {"errors", "strict_json"},
    }  # fmt: skip
    for file, allowed in grounds.items():
        assert {room(m) for m, _ in imports(PACKAGE / f"{file}.py")} - {None} == allowed


def test_the_check_sees_what_it_looks_for(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "import os\ndef f():\n    from learndock.cli import app\nif 0:\n    import learndock.dock.storage.layout\n"
    )
    assert [(room(m), line) for m, line in imports(file) if room(m)] == [("cli", 3), ("cli", 3), ("dock", 5)]


def test_no_file_is_a_heap() -> None:
    long = [f"{p.relative_to(PACKAGE)}: {n}" for p in sources() if (n := len(p.read_text().splitlines())) > 500]
    assert not long


def test_every_module_says_what_it_is() -> None:
    silent = [str(p) for p in sources() if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert not silent


# --- errors --------------------------------------------------------------------------------------------------


def error_classes() -> list[type[errors.LearndockError]]:
    found, waiting = [], [errors.LearndockError]
    while waiting:
        found.append(waiting.pop(0))
        waiting += [c for c in found[-1].__subclasses__() if c.__module__ == errors.__name__]
    return found


def test_every_error_has_its_line() -> None:
    assert set(error_classes()) == set(errors.STATUS)
    defined = [n.name for n in ast.parse((PACKAGE / "errors.py").read_text()).body if isinstance(n, ast.ClassDef)]
    assert sorted(defined) == sorted(c.__name__ for c in error_classes())


def test_every_error_stands_in_the_tree_under_its_parent() -> None:
    """The drawing in the docstring is the tree of classes."""
    depth_of, parents, stack = {}, {}, [""]
    for line in str(errors.__doc__).splitlines():
        found = re.match(r"^    ([│├└─ ]*)([A-Z]\w+)(?:  |$)", line)
        if found:
            depth = len(found[1]) // 4
            stack[depth:] = [found[2]]
            depth_of[found[2]] = depth
            parents[found[2]] = stack[depth - 1] if depth else "Exception"
    assert parents == {c.__name__: c.__bases__[0].__name__ for c in error_classes()}


def test_exit_codes_and_statuses() -> None:
    codes = [errors.exit_code(c("x")) for c in error_classes() if c is not errors.InputError]  # its own is data's
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 126 for code in codes)
    assert all(400 <= errors.http_status(c("x")) < 600 for c in error_classes())
    assert (errors.exit_code(ValueError()), errors.http_status(ValueError())) == (1, 500)

    class Own(errors.DataError):
        """Somebody's own kind of one of ours."""

    assert errors.exit_code(Own()) == errors.exit_code(errors.DataError())


# --- the package's face --------------------------------------------------------------------------------------


def test_all_names_are_there_and_in_order() -> None:
    assert learndock.__all__ == sorted(learndock.__all__)
    for name in learndock.__all__:
        assert getattr(learndock, name) is not None
    assert set(learndock.__all__) <= set(dir(learndock))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = learndock.nonsense


def test_names_for_the_type_checker_are_those_at_run_time() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    checked = next(n for n in tree.body if isinstance(n, ast.If))
    names = {
        (node.module, alias.name)
        for node in ast.walk(checked)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {n for _, n in names} == set(learndock.__all__) - {"__version__"}
    for module, name in names:
        assert getattr(learndock, name) is getattr(sys.modules[str(module)], name)


# --- what an import costs ------------------------------------------------------------------------------------


def python(code: str, *, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True)


LOADED = f"import sys; print([m for m in {HEAVY!r} if m in sys.modules])"


def test_importing_loads_nothing_heavy() -> None:
    assert python(f"import learndock; {LOADED}").stdout.strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['learndock', '--help']\n"
        "from learndock.cli import main\n"
        "try:\n    main()\nexcept SystemExit as error:\n    assert not error.code, error.code\n" + LOADED
    )
    lines = python(code).stdout.strip().splitlines()
    assert "Usage" in "".join(lines)
    assert lines[-1] == "[]"


@pytest.mark.parametrize("name", [r for r in ROOMS if r != "_version"])
def test_rooms_load_without_what_is_extra(name: str) -> None:
    extra = ("torch", "transformers", "peft", "timm", "sklearn", "skops", "pyarrow", "onnx", "onnxscript", "scipy")
    code = f"import learndock.{name}, sys; print([m for m in {extra!r} if m in sys.modules])"
    assert python(code).stdout.strip() == "[]"


def test_importing_is_little_work() -> None:
    assert work.spent_by_python("import learndock") - work.spent_by_python("pass") < work.yardstick()


def test_importing_says_nothing_and_sets_up_no_logging() -> None:
    code = "import logging, learndock; [getattr(learndock, n) for n in learndock.__all__]; print(logging.root.handlers)"
    done = python(code, flags=("-W", "error::DeprecationWarning:learndock"))
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_page_of_the_architecture_lists_the_rooms_in_their_order() -> None:
    page = Path(__file__).parents[1] / "docs" / "architecture.md"
    drawn = re.findall(r"^    (\w+)/  ", page.read_text(), re.MULTILINE)
    assert drawn == [room for room in ROOMS if (PACKAGE / room).is_dir()]
