"""README and docs do what they say: their python, pycon and console blocks run, page by page, in a folder of their own.

The blocks of a page run in order: python blocks share their names, commands (lines that begin with ``$ ``) the folder
and what they export. A command must succeed, and the lines that the page shows under it must come, in that order;
numbers, hashes and the width of columns may differ. What a page needs is made by the page itself or by ``prepare``.
Comments on the line before a block change that:

    <!-- no-run: why -->           the block is not run
    <!-- served: why -->           the block is run with a service, by ``test_served_pages``
    <!-- exit: 3 -->               the block's last command ends with this status
    <!-- output-varies: why -->    what the commands print is not compared
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import learndock
from learndock.spaces import Space
from tests.support import models

ROOT = Path(__file__).parents[2]
#: Made from docstrings, whose examples are tests of their own.
GENERATED = {"docs/python.md", "docs/command-line.md", "docs/settings.md", "docs/troubleshooting.md"}
PAGES = sorted(
    name
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    if path.is_file() and (name := str(path.relative_to(ROOT))) not in GENERATED
)
#: Pages that are to be written again with blocks that run.
LATER: set[str] = set()
RUN = ("python", "pycon", "console")
NOT_HERE = ("no-run", "served")
MARK = re.compile(r"<!-- (no-run|served|exit|output-varies): (.+?) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, its text and the comment before it."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    value: str = ""

    def plain(self) -> Block:
        """The block without the comment before it."""
        return replace(self, mark="", value="")

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> Iterator[Block]:
    """The blocks of a page that name a language we run."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        opened = re.match(r"( *)```(\w+)$", lines[at])
        if not opened or opened[2] not in RUN:
            at += 1
            continue
        end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == "```")
        mark = MARK.match(lines[at - 1].strip()) if at else None
        own = [line.removeprefix(opened[1]) for line in lines[at + 1 : end]]
        yield Block(page, at + 1, opened[2], "\n".join(own) + "\n", *(mark.groups() if mark else ()))
        at = end + 1


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that the page shows under it."""
    found: list[tuple[str, list[str]]] = []
    open_ended = False
    for line in block.text.rstrip("\n").split("\n"):
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif open_ended:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        else:
            assert found, f"{block.where}: a console block begins with a command, after `$ `"
            found[-1][1].append(line)
            continue
        open_ended = line.endswith("\\")
    yield from found


def masked(line: str) -> str:
    """A line without what differs between two runs: numbers, hashes, rules and the width of gaps."""
    line = re.sub(r"\bldk_[\w-]+(\.\.\.)?", "ldk_#", line)
    line = re.sub(r"\b[0-9a-f]{12,}\b", "#", line)
    line = re.sub(r"[-+<]?\d[\d.,:]*", "0", line)
    return " ".join(re.sub("[─━]+", "─", line).split())


class Page:
    """A page that is being run: its folder, the names of its python blocks and what its commands exported."""

    def __init__(self, folder: Path) -> None:
        self.cwd, self.state = folder, folder.with_name("state")
        self.names: dict[str, Any] = {"__name__": "page", "learndock": learndock, "np": np}
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("LEARNDOCK", "XDG"))} | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "XDG_DATA_HOME": str(folder.with_name("data")),
            "XDG_CONFIG_HOME": str(folder.with_name("config")),
            "LEARNDOCK_THREADS": "1",
            "COLUMNS": "100",
        }

    def run(self, block: Block) -> None:
        """Run a block.

        Raises:
            AssertionError: it failed, or printed something else; says where.
        """
        if block.mark in NOT_HERE:
            return
        if block.language == "console":
            found = list(commands(block))
            for i, (command, lines) in enumerate(found):
                status = int(block.value) if block.mark == "exit" and i == len(found) - 1 else 0
                self._command(block, command, lines, status)
        else:
            self._python(block)

    def _command(self, block: Block, command: str, lines: list[str], status: int) -> str:
        """Run a command, compare what it prints, and return that."""
        script = (
            f"[ -e {self.state} ] && . {self.state}\ncd {self.cwd}\n{command}\n"
            f"ended=$?; export -p > {self.state}; pwd > {self.state}.folder; exit $ended"
        )
        done = subprocess.run(
            ["bash", "-c", script], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            stdin=subprocess.DEVNULL, check=False, timeout=300,
        )  # fmt: skip
        where = f"{block.where}: $ {command}"
        assert done.returncode == status, f"{where}\nended with {done.returncode}:\n{done.stdout}"
        self.cwd = Path((self.state.with_name("state.folder")).read_text().strip())
        if block.mark != "output-varies":
            came = iter([masked(line) for line in done.stdout.split("\n")])
            for line in lines:
                shown = masked(line)
                assert shown in ("", "...") or shown in came, f"{where}\nprints no line {line!r}:\n{done.stdout}"
        return done.stdout

    def _python(self, block: Block) -> None:
        with contextlib.chdir(self.cwd):
            if block.language == "python":
                code = compile("\n" * block.line + block.text, block.page, "exec")
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(code, self.names)
                return
            test = doctest.DocTestParser().get_doctest(block.text, self.names, block.where, block.page, block.line)
            out = io.StringIO()
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
            runner.run(test, out=out.write, clear_globs=False)
            self.names = test.globs
            assert runner.summarize(verbose=False).failed == 0, f"{block.where}\n{out.getvalue()}"


def prepare(folder: Path) -> None:
    """What pages may take as given: ``few.csv``, 32 labelled texts, and ``schema.json``."""
    folder.mkdir()
    texts, targets = models.texts(32, 3)
    labels = models.SENTIMENT.labels
    rows = [f'"{text}",{labels[y]}' for text, y in zip(texts, targets, strict=True)]
    (folder / "few.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (folder / "schema.json").write_text(json.dumps(models.SENTIMENT.to_dict()))


# Every page runs commands for a while: in the everyday run the README only
@pytest.mark.parametrize(
    "page", [name if name == "README.md" else pytest.param(name, marks=pytest.mark.slow) for name in PAGES]
)
def test_a_page_does_what_it_says(page: str, minilm: Space, tmp_path: Path) -> None:
    found = list(blocks(page, (ROOT / page).read_text(encoding="utf-8")))
    if page in LATER:
        pytest.skip("is to be written again")
    if not any(block.mark not in NOT_HERE for block in found):
        pytest.skip("nothing on this page runs")
    pytest.importorskip("skops")
    prepare(tmp_path / "page")
    running = Page(tmp_path / "page")
    for block in found:
        running.run(block)


def page_of(text: str, folder: Path) -> None:
    folder.mkdir()
    running = Page(folder)
    for block in blocks("page.md", text):
        running.run(block)


SOUND = """
```console
$ echo "score 0.93 of \\
 12" > a.txt
$ mkdir sub && cd sub && export SAID=yes
$ cat ../a.txt; echo $SAID
score 0.81 of 15
...
yes
```
<!-- no-run: it would fail -->
```console
$ false
```
<!-- exit: 3 -->
```console
$ echo $SAID
yes
$ exit 3
```
```python
from pathlib import Path
text = Path("../a.txt").read_text()
```
```pycon
>>> text[:5]
'score'
```
```json
nothing
```
"""


def test_a_sound_page_runs(tmp_path: Path) -> None:
    page_of(SOUND, tmp_path / "page")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("$ mkdir sub", "$ mkdir no/sub"),
        ("score 0.81 of 15", "mark 0.81 of 15"),
        ("$ exit 3", "$ exit 4"),
        ("$ echo $SAID\nyes", "$ echo $SAID\nyes\nyes"),
        ("../a.txt", "b.txt"),
        ("'score'", "'scare'"),
    ],
)
def test_a_broken_page_fails(before: str, after: str, tmp_path: Path) -> None:
    assert before in SOUND
    with pytest.raises((AssertionError, FileNotFoundError)):
        page_of(SOUND.replace(before, after), tmp_path / "page")
