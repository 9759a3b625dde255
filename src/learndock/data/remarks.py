"""What is odd about examples although they can be used: said to the person, never repaired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from learndock.data.examples import Input
from learndock.data.images import Image
from learndock.data.prompts import Prompt
from learndock.data.schema import Schema
from learndock.data.tables import counted

#: A text longer than this is remarked: helpers and models read the beginning only.
LONG_CHARACTERS = 20_000
#: More rows than this share that repeat an earlier row, label and all, are remarked.
MANY_COPIES = 0.1
#: What programs write for a missing text; people write the like as answers in words, which are texts.
_PLACEHOLDERS = frozenset(("nan", "NaN", "NULL", "null", "None", "<NA>", "#N/A", "N/A", "undefined", "NaT"))
_PLACEHOLDERS_OF_SHEETS = frozenset(("#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!"))


def remarks_on(
    inputs: Sequence[Input], targets: Sequence[float] | None, rows: Sequence[int], schema: Schema | None
) -> Iterator[str]:
    """Remarks on long and empty texts, on rows that contradict or repeat each other, and on values off the scale."""
    texts = [_texts(given) for given in inputs]
    long = [row for row, parts in zip(rows, texts, strict=True) if any(len(p) > LONG_CHARACTERS for p in parts)]
    if long:
        yield (
            f"{counted(long, 'text')} of more than {LONG_CHARACTERS:,} characters; "
            "only the beginning is read by the helper"
        )
    empty = [row for row, parts in zip(rows, texts, strict=True) if any(not p or p.isspace() for p in parts)]
    if empty:
        yield f"{counted(empty, 'empty text')}; kept, though nothing can be learnt from them"
    placeholders = [
        (row, p.strip())
        for row, parts in zip(rows, texts, strict=True)
        for p in parts
        if len(p) < 12 and p.strip() in _PLACEHOLDERS | _PLACEHOLDERS_OF_SHEETS
    ]
    if placeholders:
        words = ", ".join(f'"{w}"' for w in dict.fromkeys(word for _, word in placeholders))
        found = [row for row, _ in placeholders]
        are = "is" if len(found) == 1 else "are"
        yield f"{counted(found, 'text')} {are} {words}; if that means no text, leave such rows out"
    if targets is None:
        return
    yield from _conflicts(inputs, targets, rows)
    yield from _copies(inputs, targets, rows)
    if schema is not None and schema.type == "regression" and schema.labels:
        yield from _off_scale(targets, rows, schema)


def _texts(given: Input) -> tuple[str, ...]:
    if isinstance(given, Prompt):
        return tuple(text for _, text in given.turns)
    return given if isinstance(given, tuple) else (given,) if isinstance(given, str) else ()


def _conflicts(inputs: Sequence[Input], targets: Sequence[float], rows: Sequence[int]) -> Iterator[str]:
    """Say how many inputs occur in several rows with different labels."""
    seen: dict[Input, int] = {}
    clashing: dict[Input, tuple[int, int]] = {}
    for index, (given, target) in enumerate(zip(inputs, targets, strict=True)):
        first = seen.setdefault(given, index)
        if targets[first] != target and given not in clashing:
            clashing[given] = (rows[first], rows[index])
    if clashing:
        one, other = next(iter(clashing.values()))
        thing = "image" if isinstance(inputs[0], Image) else "prompt" if isinstance(inputs[0], Prompt) else "text"
        texts = f"{len(clashing):,} {thing}{'' if len(clashing) == 1 else 's'}"
        yield f"{texts} with conflicting labels (the first in rows {one} and {other}); all rows were kept"


def _copies(inputs: Sequence[Input], targets: Sequence[float], rows: Sequence[int]) -> Iterator[str]:
    """Say how many rows repeat an earlier one, where they are many: p-values count rows."""
    first: dict[tuple[Input, float], int] = {}
    again = []
    for given, target, row in zip(inputs, targets, rows, strict=True):
        if first.setdefault((given, target), row) != row:
            again.append(row)
    if len(again) > 2 and len(again) > MANY_COPIES * len(rows):
        found = counted(again, "row that repeats an earlier one", "rows that repeat earlier ones")
        yield f"{found}; p-values count every row, so the result will look more certain than it is"


def _off_scale(targets: Sequence[float], rows: Sequence[int], schema: Schema) -> Iterator[str]:
    try:
        low, high = sorted(float(v) for v in schema.labels)
    except ValueError:
        return  # ends in words are not bounds
    outside = [row for row, v in zip(rows, targets, strict=True) if not low <= v <= high]
    if outside:
        yield f"{counted(outside, 'label')} outside the schema's scale {low:g} to {high:g}; kept as they are"
