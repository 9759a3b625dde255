"""Help: at once, for every command, with examples that are commands; the reference page; completion in a shell."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from learndock.cli.app import ENTRIES, app
from learndock.cli.examples import EXAMPLES
from tests.support import work
from tests.support.terminal import executable, learndock

DOCS = Path(__file__).parents[2] / "docs"


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the tree with the words that call it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, each in inner.items():
        yield from commands(each, (*path, name))


ROOT = typer.main.get_command(app)
TREE = dict(commands(ROOT))
#: Commands that report nothing.
SILENT = {("serve",), ("completion",), ("mcp",)}


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_each_command_helps_reports_json_and_is_documented(words: tuple[str, ...]) -> None:
    helped = learndock(*words, "--help")
    assert (helped.code, helped.err) == (0, "")
    assert TREE[words].help.split("\n")[0][:60] in " ".join(helped.out.split())
    assert words in SILENT or "--json" in helped.out
    reference = (DOCS / "command-line.md").read_text()
    assert f"\n### learndock {' '.join(words)}\n" in reference
    for parameter in TREE[words].params:
        assert parameter.help, f"{words}: {parameter.name} says nothing"
        assert all(f"`{option}`" in reference for option in parameter.opts if option.startswith("-"))


def test_every_command_has_examples_and_no_others_are_there() -> None:
    assert {" ".join(words) for words in TREE} == set(EXAMPLES)


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_examples_are_shown_and_are_commands(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each is read by the command's own parser: an option that is renamed fails here."""
    monkeypatch.chdir(tmp_path)
    helped = learndock(*words, "--help").out
    for line in EXAMPLES[" ".join(words)]:
        assert f"    learndock {line}\n" in helped
        typed = shlex.split(line.partition(" > ")[0].partition(" < ")[0])
        assert typed[: len(words)] == list(words)
        with TREE[words].make_context(words[-1], typed[len(words) :]):
            pass


def typed_in_pages() -> Iterator[tuple[str, str]]:
    """Lines ``$ learndock ...`` of the README and the docs, with the page; ``...`` marks what is left out."""
    for page in [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            found = re.match(r"\s*\$ learndock (\w.*)", line)
            if found and "..." not in found[1] and page.name != "command-line.md":
                yield str(page.relative_to(DOCS.parent)), re.split(r" [|>&<] ?|  #", found[1])[0]


@pytest.mark.parametrize(("page", "line"), typed_in_pages(), ids=str)
def test_commands_in_readme_and_docs_are_commands(page: str, line: str) -> None:
    typed = shlex.split(line)
    words = next((tuple(typed[:n]) for n in (2, 1) if tuple(typed[:n]) in TREE), None)
    assert words is not None, line
    with contextlib.suppress(typer.Exit), TREE[words].make_context(words[-1], typed[len(words) :]):
        pass


def test_the_lines_of_the_root_fit_a_terminal_and_name_what_they_load() -> None:
    helped = learndock("--help").out
    for entry in ENTRIES:
        assert f"  {entry.name} " in helped
        assert entry.help in helped, f"{entry.name}: broken into two lines"
        assert ROOT.commands[entry.name].name == entry.name  # type: ignore[attr-defined]
    assert max(map(len, helped.splitlines())) <= 80


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version(flag: str) -> None:
    from learndock import __version__

    assert learndock(flag).out == f"learndock {__version__}\n"


def test_the_reference_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, DOCS / "make_reference.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_imports_nothing_heavy_and_no_command() -> None:
    """What keeps ``learndock --help`` under 0.3 s, whatever else the machine does."""
    code = """
import sys
from learndock.cli import main
try:
    main(["--help"])
except SystemExit:
    print("loaded", *sorted(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert "typer" in loaded
    heavy = {"numpy", "torch", "rich", "pydantic", "onnxruntime", "sklearn", "pyarrow", "sqlite3", "tomllib"}
    assert not {m.partition(".")[0] for m in loaded} & heavy
    code_of_commands = {f"learndock.cli.{e.where.partition(':')[0]}" for e in ENTRIES} - {"learndock.cli.completion"}
    assert not loaded & code_of_commands


def test_help_is_little_work() -> None:
    assert work.spent_by([executable(), "--help"]) < 5 * work.yardstick()


# --- completion ----------------------------------------------------------------------------------------------

TYPED = {
    "a command": (["ide"], {"identify"}),
    "a command of a group": (["token", ""], {"list", "make", "revoke"}),
    "an option": (["predict", "--fo"], {"--force"}),
    "a choice": (["list", "--sort", "n"], {"name"}),
}


@pytest.mark.parametrize("case", TYPED)
def test_completion_in_bash(case: str) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    words, wanted = TYPED[case]
    line = " ".join(shlex.quote(w) for w in ["learndock", *words])
    script = (
        f'eval "$(learndock completion bash)"\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}\n'
        '_learndock_completion learndock\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{Path(executable()).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120
    )
    assert set(done.stdout.split()) == wanted, done.stderr


@pytest.mark.parametrize(("shell", "start"), [("zsh", "#compdef learndock"), ("fish", "complete --command learndock")])
def test_scripts_of_other_shells_begin_as_these_need(shell: str, start: str) -> None:
    assert learndock("completion", shell).out.startswith(start)


def test_a_shell_that_is_not_supported() -> None:
    refused = learndock("completion", "tcsh")
    assert refused.code == 2
    assert "bash" in refused.complaint
