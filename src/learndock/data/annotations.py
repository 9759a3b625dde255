"""Exports of annotation tools whose JSON nests texts and labels: Label Studio, and Argilla.

Label Studio keeps a task's text under ``data`` and what each annotator chose under ``annotations``; Argilla keeps
``fields``, ``responses`` and ``suggestions``. Both become rows with a column for each field and each question. Only
what people decided counts: predictions, suggestions and discarded responses are not labels. Flat exports (Doccano,
Prodigy, csv of any tool) need nothing of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from learndock.data.tables import counted, skipped

#: What Label Studio calls values that are one label, rating or number for a task.
_VALUES = ("choices", "rating", "number", "text", "taxonomy")


@dataclass(frozen=True)
class Flattened:
    """Rows with their numbers in the export, and remarks on those that were left out."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[int, Mapping[str, Any]]]
    remarks: Mapping[str, str]


def flatten(objects: Sequence[Mapping[str, Any]]) -> Flattened | None:
    """The rows of an export, or None where the objects are not one of these exports.

    Raises:
        ValueError: nothing in it is a label; says what it is.
    """
    first = objects[0]
    if isinstance(first.get("data"), dict) and isinstance(first.get("annotations", first.get("completions")), list):
        return _collect("Label Studio", [(_task_data(o), _task_answers(o)) for o in objects])
    if isinstance(first.get("fields"), dict) and isinstance(first.get("responses"), dict):
        found = _collect("Argilla", [(_table(o.get("fields")), _responses(o)) for o in objects])
        return replace(found, remarks={**found.remarks, **_pending(objects)})
    return None


def _pending(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Argilla writes a draft like a submitted response; only the record's status tells that it is not completed."""
    rows = [i for i, r in enumerate(records, start=1) if r.get("status") == "pending" and _responses(r)]
    if not rows:
        return {}
    count = counted(rows, "record with responses is", "records with responses are")
    return {"pending": f'{count} "pending": the export does not say whether such a response is a draft; check them'}


def _collect(tool: str, tasks: Sequence[tuple[Mapping[str, Any], Mapping[str, list[Any]]]]) -> Flattened:
    questions = list(dict.fromkeys(name for _, answers in tasks for name in answers))
    if not questions:
        raise ValueError(
            f"an export of {tool} without a label of an example; export tasks after they were "
            "annotated, with choices (spans, boxes and suggestions are not labels)"
        )
    # With one question its answer is the label, whatever the question is called
    alias = questions[0] if len(questions) == 1 else None
    rows: list[tuple[int, Mapping[str, Any]]] = []
    without, divided, imported = [], [], []
    for number, (data, answers) in enumerate(tasks, start=1):
        if not answers:
            without.append(number)
        elif any(value != values[0] for values in answers.values() for value in values):
            divided.append(number)
        else:
            cells = {**data, **{name: values[0] for name, values in answers.items()}}
            if alias is not None:
                if "label" in data and alias != "label":
                    imported.append(number)
                cells["label"] = cells[alias]
            rows.append((number, cells))
    columns = list(dict.fromkeys(key for _, cells in rows for key in cells))
    remarks = {"export": f"an export of {tool}: " + (f'labels are the answers to "{alias}"' if alias else "")}
    if alias is None:
        remarks["export"] += f"it has the questions {', '.join(questions)}; name one with --label"
    if imported:
        count = counted(imported, "task has", "tasks have")
        remarks["imported"] = f'{count} a "label" among the imported data; the answer to "{alias}" was taken instead'
    if without:
        remarks["without"] = skipped(without, "task without an annotation", "tasks without an annotation")
    if divided:
        remarks["divided"] = skipped(divided, "task whose annotators disagree", "tasks whose annotators disagree")
    return Flattened(tuple(columns), rows, remarks)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _task_data(task: Mapping[str, Any]) -> Mapping[str, Any]:
    return _table(task.get("data"))


def _task_answers(task: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What each annotator chose, by the name of the control."""
    found: dict[str, list[Any]] = {}
    for annotation in task.get("annotations", task.get("completions")) or ():
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        for region in annotation.get("result") or ():
            value = _table(_table(region).get("value"))
            kind = next((k for k in _VALUES if k in value), None)
            # A span or box has a place in the input; a choice for it is not a label of the input
            if kind is not None and not {"start", "x", "points"} & set(value):
                found.setdefault(str(region.get("from_name")), []).append(value[kind])
    return found


def _responses(record: Mapping[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for question, given in _table(record.get("responses")).items():
        for response in given if isinstance(given, list) else [given]:
            if isinstance(response, dict) and response.get("status", "submitted") == "submitted":
                found.setdefault(question, []).append(response.get("value"))
    return found
