"""Write command-line.md from the commands themselves, and settings.md from the table of settings.

python docs/make_reference.py            writes docs/command-line.md and docs/settings.md
python docs/make_reference.py --check    exits with 1 where it is not up to date (a test asks)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from written import write_or_check

from learndock.cli import outcome
from learndock.cli.app import app
from learndock.cli.examples import EXAMPLES
from learndock.errors import NOTHING_FITS, STATUS
from learndock.settings import described

PAGE = Path(__file__).with_name("command-line.md")
SETTINGS_PAGE = Path(__file__).with_name("settings.md")

HEAD = """# The command line

Made from the commands by `python docs/make_reference.py`; do not edit. `learndock COMMAND --help` says the same.

Every command that reports has `--json`: one JSON document on standard output. Warnings and progress go to standard
error. Where a command fails, its last line on standard error says what happened, to what, and what to try; nothing was
written, and the exit code says of which kind it was (at the end of this page).
"""

SETTINGS_HEAD = """# Settings of the service

Made from `learndock/settings.py` by `python docs/make_reference.py`; do not edit. A flag of `learndock serve` wins over
the environment, that over the file `learndock.toml` in the dock's folder (or `--config`), that over the default. A line
of the file is the flag without its dashes, `_` for `-`: `port = 7080`, `max_file = "50GB"`.

"""

VARIABLES = {
    "LEARNDOCK_DOCK": "folder of the dock, where `--dock` names none",
    "LEARNDOCK_SPACES": "folders in which spaces are looked for before the installed ones, separated by `:`",
    "LEARNDOCK_WEIGHTS": "folder in which weights of helpers are looked for first: `SPACE/FILE`, or `FILE`",
    "LEARNDOCK_THREADS": "how many threads a helper may use; default: all cores",
    "LEARNDOCK_BASES": "folders in which the base models of adapters are looked for first, separated by `:`",
    "LEARNDOCK_TOKEN": "token for services; wins over what `learndock login` stores",
    "LEARNDOCK_REMEMBER": "0: `get` does not note which versions it wrote, so no match is called newer",
    "LEARNDOCK_DEBUG": "anything: show where an error came from (a Python traceback)",
}

OTHER_CODES = [
    (0, "", "done"),
    (NOTHING_FITS, "", "`learndock identify`: nothing in the dock fits the task"),
    (outcome.BUG, "", "a bug in learndock; please report it"),
    (outcome.NO_MEMORY, "MemoryError", "not enough memory"),
    (outcome.STOPPED, "", "stopped with Ctrl-C"),
    (outcome.READER_GONE, "", "the reader of standard output has gone, as in `learndock list | head -1`"),
]


def page() -> str:
    """The whole page."""
    tree = typer.main.get_command(app)
    sections: dict[str, list[str]] = {}
    for words, command, heading in commands(tree):
        sections.setdefault(heading, []).append(command_text(words, command))
    parts = [HEAD]
    for heading, texts in sections.items():
        parts += [f"## {heading}\n", *texts]
    return "\n".join([*parts, variables_text(), codes_text()])


def settings_page() -> str:
    """The page of settings."""
    rows = [(f"`{flag}`", f"`{variable}`", f"`{default}`" if default else "", about)
            for flag, variable, default, about in described()]  # fmt: skip
    return SETTINGS_HEAD + table(("flag", "variable", "default", "means"), rows)


def commands(
    command: Any, words: tuple[str, ...] = (), heading: str = ""
) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Every command of the tree, with the words that call it and the heading it stands under."""
    if not hasattr(command, "commands"):
        yield words, command, heading
        return
    for name, each in command.commands.items():
        own = getattr(each, "rich_help_panel", None)
        yield from commands(each, (*words, name), own if isinstance(own, str) else heading)


def command_text(words: tuple[str, ...], command: Any) -> str:
    """One command: what it does, how it is called, and its arguments and options."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    call = " ".join(["learndock", *words, *(_argument(a) for a in arguments), *(_required(o) for o in options)]).split()
    text = f"### learndock {' '.join(words)}\n\n{_cell(command.help)}\n\n    {' '.join(call)} [OPTIONS]\n"
    typed = "\n".join(f"    $ learndock {line}" for line in EXAMPLES[" ".join(words)])
    text += f"\nExamples:\n\n{typed}\n"
    rows = [(f"`{_argument(a)}`", a.help, "") for a in arguments]
    rows += [(", ".join(f"`{name}`" for name in o.opts), o.help, _default(o)) for o in options]
    return text + "\n" + table(("", "", "default"), rows)


def variables_text() -> str:
    """The environment variables."""
    return "## Environment\n\n" + table(("variable", "means"), [(f"`{k}`", v) for k, v in VARIABLES.items()])


def codes_text() -> str:
    """The exit codes."""
    ours = [(code, f"`{kind.__name__}`", (kind.__doc__ or "").split("\n\n")[0]) for kind, (code, _) in STATUS.items()]
    others = [(code, name and f"`{name}`", means) for code, name, means in OTHER_CODES]
    return "## Exit codes\n\n" + table(("code", "error", "means"), sorted([*ours, *others]))


def table(columns: tuple[str, ...], rows: list[Any]) -> str:
    """A table in Markdown."""
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "".join("| " + " | ".join(_cell(str(v)) for v in row) + " |\n" for row in lines)


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()).strip("[]")
    return name if argument.required else f"[{name}]"


def _required(option: Any) -> str:
    return f"{min(option.opts, key=len)} {option.name.upper()}" if option.required else ""


def _default(option: Any) -> str:
    if option.required:
        return "required"
    value = option.default
    if option.is_flag or value is None or value in ("", []):
        return ""
    return f"`{value}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def main() -> int:
    """Write the pages, or say whether they are up to date."""
    return write_or_check({PAGE: page(), SETTINGS_PAGE: settings_page()}, "make_reference.py")


if __name__ == "__main__":
    sys.exit(main())
