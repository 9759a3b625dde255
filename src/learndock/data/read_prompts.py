"""Reading prompts and completions: two columns, or chat ``messages`` whose last is the assistant's.

Where a few completions come again and again they are labels, and a model's answer is whichever of them it finds most
likely; otherwise they are free text, and its answer is what it writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from learndock.data.columns import COMPLETION, MESSAGES, PROMPT, like, missing_columns
from learndock.data.examples import Examples
from learndock.data.label_column import Column, Complain, quoted
from learndock.data.labels import infer_classes, label_name, read_labels
from learndock.data.options import ReadOptions
from learndock.data.prompts import Prompt, open_messages, split_messages
from learndock.data.remarks import remarks_on
from learndock.data.schema import Schema
from learndock.data.tables import Row, Table, Unusable
from learndock.errors import DataError, UsageError

#: At most so many different completions, each four times on average, are taken for labels where no schema says.
FEW, OFTEN = 12, 4
MAX_CHARACTERS = 1_000_000
#: Descriptions of tools beside chat messages.
TOOLS = "tools"


@dataclass(frozen=True)
class PromptColumns:
    """``messages`` is None where prompts and completions have columns of their own."""

    prompt: str = PROMPT
    completion: str | None = COMPLETION
    messages: str | None = None


def prompt_columns(
    table: Table, schema: Schema | None, options: ReadOptions, labels: bool | None, remarks: list[str]
) -> PromptColumns:
    """Which columns hold prompts and completions; ``completion`` is None where none are read.

    With a schema of type generation ``text`` and ``label`` may name the two columns.

    Raises:
        DataError: a column is missing; proposes others.
    """
    if (messages := like(table, MESSAGES, remarks)) is not None:
        if TOOLS in table.columns:
            remarks.append(f'the column "{TOOLS}" is not read: prompts are written without the tools that it describes')
        return PromptColumns(messages=messages)
    prompt_name = PROMPT if options.text == "text" and like(table, PROMPT, []) is not None else options.text
    prompt = like(table, prompt_name, remarks)
    if prompt is None:
        raise missing_columns(table, [("--text", prompt_name)], also=f'"{MESSAGES}"')
    named = options.label != "label" or like(table, "label", []) is not None
    completion_name = options.label if named else COMPLETION
    completion = like(table, completion_name, remarks) if labels is not False else None
    if labels and completion is None:
        raise missing_columns(table, [("--label", completion_name)])
    return PromptColumns(prompt, completion)


def read_prompts(
    table: Table,
    options: ReadOptions,
    *,
    schema: Schema | None,
    labels: bool | None,
    source: str,
    limit: int | None,
    places: bool = True,
) -> Examples:
    """Prompts with their completions as targets: indices into the schema's labels, or an object array of texts.

    Raises:
        DataError: a row without a prompt or a completion, or messages that are none; names file and row.
        UsageError: options for texts or images.
    """
    for flag, asked in (("--text-pair", options.text_pair != "text_pair"), ("--image", options.image is not None)):
        if asked:
            raise UsageError(f"{flag} does not act on prompts", remedy="leave it out", about=table.path)
    remarks: list[str] = []
    columns = prompt_columns(table, schema, options, labels, remarks)
    labels = labels is not False and (columns.messages is not None or columns.completion is not None)
    wanted = [columns.messages] if columns.messages else [c for c in (columns.prompt, columns.completion) if c]
    prompts: list[Prompt] = []
    completions: list[str] = []
    rows: list[int] = []
    complain: list[Complain] = []
    for row in islice(table.rows(wanted), limit):
        where = _where(table, row)
        prompt, completion = _read(row, columns, where, labels)
        prompts.append(prompt)
        completions.append(completion)
        rows.append(row.number)
        complain.append(where)
    if not prompts:
        raise DataError("no examples in it", remedy="add rows", about=table.path)
    targets: Any = None
    if labels:
        column = Column(
            name=columns.completion or MESSAGES,
            values=completions,
            rows=rows,
            complain=complain,
            refuse=lambda why, remedy="": DataError(why, remedy=remedy, about=table.path),
            class_names=table.class_names.get(columns.completion or "", ()),
            places=places,
        )
        schema, targets, more = _targets(column, completions, schema)
        remarks += more
    numbers = None if targets is None or targets.dtype == object else targets.tolist()
    remarks = [*(w for w in table.remarks.values() if w), *remarks, *remarks_on(prompts, numbers, rows, schema)]
    return Examples(prompts, targets, schema, source, rows, tuple(f"{source}: {w}" for w in remarks))


def _targets(column: Column, completions: list[str], schema: Schema | None) -> tuple[Schema, Any, list[str]]:
    """What completions are: labels of a schema, labels because they are few, or free text."""
    remarks: list[str] = []
    if schema is None and _few(completions):
        some, _, _ = infer_classes(completions)
        remarks.append(
            f"no schema was given: the completions are {quoted(some)} throughout, so they are taken for labels; pass a "
            "schema of type generation if they are free text"
        )
    elif schema is None or schema.type == "generation":
        return schema or Schema("generation", (), (), "exact_match"), np.array(completions, object), []
    found = read_labels(column, schema)
    kind = np.float64 if found.schema.type == "regression" else np.int64
    # The remark on numbers without names says the same
    more = [
        r for r in found.remarks if schema is not None or not r.startswith("no schema was given: the labels are the")
    ]
    return found.schema, np.array(found.targets, kind), [*remarks, *more]


def _few(completions: list[str]) -> bool:
    raw = set(completions)
    if len(raw) > OFTEN * FEW:  # even if they differ in spelling only
        return False
    different = len(infer_classes(list(raw))[0])
    return 2 <= different <= FEW and len(completions) >= OFTEN * different


def _where(table: Table, row: Row) -> Complain:
    return lambda why, remedy="": DataError(f"{table.path} {row.place}: {why}", remedy=remedy)


def _read(row: Row, columns: PromptColumns, where: Complain, labels: bool) -> tuple[Prompt, str]:
    if columns.messages is not None:
        value = row.cells.get(columns.messages)
        if value is None:
            raise where(f'no messages in column "{columns.messages}"', "add them or leave the row out")
        try:
            found = split_messages(value) if labels else (open_messages(value), "")
        except ValueError as error:
            raise where(str(error)) from None
        for _, text in found[0].turns:
            _check(text, "message", where)
        return found[0], _check(found[1], "completion", where)
    prompt = _check(row.cells.get(columns.prompt), "prompt", where)
    if not prompt.strip():
        raise where(f'no prompt in column "{columns.prompt}"', "add one or leave the row out")
    if not labels or columns.completion is None:
        return Prompt.of(prompt), ""
    completion = _check(row.cells.get(columns.completion), "completion", where)
    if not completion.strip():
        raise where(f'no completion in column "{columns.completion}"', "add one or leave the row out")
    return Prompt.of(prompt), completion


def _check(value: object, what: str, where: Complain) -> str:
    if value is None:
        return ""
    if isinstance(value, Unusable):
        raise where(value.why)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return label_name(value)
    if not isinstance(value, str):
        raise where(f"the {what} is a {type(value).__name__}, not a text", "write it as text")
    if len(value) > MAX_CHARACTERS:
        raise where(f"the {what} has {len(value):,} characters, at most {MAX_CHARACTERS:,} are read", "shorten it")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise where(f"the {what} contains an unpaired surrogate", "fix its encoding")
    return value
