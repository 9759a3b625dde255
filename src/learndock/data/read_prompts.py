"""Reading prompts and completions: two columns, or chat ``messages`` whose last is the assistant's.

Where a few completions come again and again they are labels, and a model's answer is whichever of them it finds most
likely; otherwise they are free text, and its answer is what it writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from learndock.data.examples import Examples
from learndock.data.labels import label_reader, schema_of
from learndock.data.prompts import Prompt, open_messages, split_messages
from learndock.data.schema import Schema
from learndock.data.tables import Row, Table
from learndock.errors import DataError

PROMPT, COMPLETION, MESSAGES = "prompt", "completion", "messages"
#: At most so many different completions, each four times on average, are taken for labels where no schema says.
FEW, OFTEN = 12, 4
MAX_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class PromptColumns:
    """``messages`` is None where prompts and completions have columns of their own."""

    prompt: str = PROMPT
    completion: str = COMPLETION
    messages: str | None = None


def prompt_columns(table: Table, schema: Schema | None, text: str, label: str) -> PromptColumns | None:
    """Which columns hold prompts and completions, or None where the table is of another kind.

    With a schema of type generation ``text`` and ``label`` may name the two columns.

    Raises:
        DataError: the schema's type is generation, and there are no such columns.
    """
    asked = schema is not None and schema.type == "generation"
    if text in table.columns and not asked:
        return None
    if MESSAGES in table.columns:
        return PromptColumns(messages=MESSAGES)
    prompt = PROMPT if PROMPT in table.columns and text == "text" else text
    completion = COMPLETION if label == "label" and label not in table.columns else label
    if prompt in table.columns and (asked or prompt == PROMPT):
        return PromptColumns(prompt, completion)
    if asked:
        names = ", ".join(f'"{c}"' for c in table.columns[:20]) or "none"
        raise DataError(
            f'no column "{prompt}" or "{MESSAGES}"; found {names}',
            remedy="name the column of prompts with --text and that of completions with --label",
            about=table.path,
        )
    return None


def read_prompts(
    table: Table,
    columns: PromptColumns,
    *,
    schema: Schema | None,
    labels: bool | None,
    source: str,
    limit: int | None,
) -> Examples:
    """Prompts with their completions as targets: indices into the schema's labels, or an object array of texts.

    Raises:
        DataError: a row without a prompt or a completion, or messages that are none; names file and row.
    """
    if labels is None:
        labels = columns.messages is not None or columns.completion in table.columns
    if labels and columns.messages is None and columns.completion not in table.columns:
        names = ", ".join(f'"{c}"' for c in table.columns[:20])
        raise DataError(
            f'no column "{columns.completion}"; found {names}',
            remedy="name the column of completions with --label",
            about=table.path,
        )
    wanted = [columns.messages] if columns.messages else [columns.prompt, *([columns.completion] if labels else [])]
    prompts: list[Prompt] = []
    completions: list[str] = []
    rows: list[int] = []
    places: list[Callable[[str], DataError]] = []
    for row in islice(table.rows(wanted), limit):
        where = _where(table, row)
        prompt, completion = _read(row, columns, where, bool(labels))
        prompts.append(prompt)
        completions.append(completion)
        rows.append(row.number)
        places.append(where)
    if not prompts:
        raise DataError("no examples in it", remedy="add rows", about=table.path)
    remark = None
    if labels and schema is None:
        schema, remark = _infer(completions)
    targets: Any = None
    if labels and schema is not None and schema.type != "generation":
        read = label_reader(schema, columns.completion)
        kind = np.float64 if schema.type == "regression" else np.int64
        targets = np.array([read(c, where) for c, where in zip(completions, places, strict=True)], kind)
    elif labels:
        targets = np.array(completions, object)
    return Examples(prompts, targets, schema, source, rows, () if remark is None else (f"{source}: {remark}",))


def _where(table: Table, row: Row) -> Callable[[str], DataError]:
    return lambda why: DataError(f"{table.path} {row.place}: {why}")


def _read(row: Row, columns: PromptColumns, where: Callable[[str], DataError], labels: bool) -> tuple[Prompt, str]:
    if columns.messages is not None:
        value = row.cells.get(columns.messages)
        if value is None:
            raise where(f'no messages in column "{columns.messages}"; add them or leave the row out')
        try:
            found = split_messages(value) if labels else (open_messages(value), "")
        except ValueError as error:
            raise where(str(error)) from None
        for _, text in found[0].turns:
            _check(text, "message", where)
        return found[0], _check(found[1], "completion", where)
    prompt = _check(row.cells.get(columns.prompt), "prompt", where)
    if not prompt.strip():
        raise where(f'no prompt in column "{columns.prompt}"; add one or leave the row out')
    if not labels:
        return Prompt.of(prompt), ""
    completion = _check(row.cells.get(columns.completion), "completion", where)
    if not completion.strip():
        raise where(f'no completion in column "{columns.completion}"; add one or leave the row out')
    return Prompt.of(prompt), completion


def _check(value: object, what: str, where: Callable[[str], DataError]) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise where(f"the {what} is a {type(value).__name__}, not a text; write it as text")
    if len(value) > MAX_CHARACTERS:
        raise where(f"the {what} has {len(value):,} characters, at most {MAX_CHARACTERS:,} are read; shorten it")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise where(f"the {what} holds half a character (a lone surrogate); mend it")
    return value


def _infer(completions: list[str]) -> tuple[Schema, str | None]:
    names = sorted({c.strip() for c in completions})
    if 2 <= len(names) <= FEW and len(completions) >= OFTEN * len(names):
        some = ", ".join(f'"{n}"' for n in names)
        return schema_of(names), (
            f"no schema was given: the completions are {some} throughout, so they are taken for labels; pass a schema "
            "of type generation if they are free text"
        )
    return Schema("generation", (), (), "exact_match"), None
