"""Prompts and completions from files: columns, messages, and rows that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.data import Schema, read_examples
from learndock.data.metrics import score
from learndock.data.prompts import Prompt
from learndock.errors import DataError, SchemaError

FREE = Schema("generation", (), (), "exact_match")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def test_columns_become_prompts_and_texts(tmp_path: Path) -> None:
    found = read_examples(write(tmp_path / "d.jsonl", [{"prompt": f"q{i}", "completion": f"a{i}"} for i in range(5)]))
    assert found.kind == "generation"
    assert found.schema == FREE
    assert found.inputs[1] == Prompt.of("q1")
    assert found.targets is not None
    assert found.targets.tolist() == ["a0", "a1", "a2", "a3", "a4"]


def test_messages_end_with_the_completion(tmp_path: Path) -> None:
    rows = [chat(("system", "be brief"), ("user", f"q{i}"), ("assistant", f"a{i}")) for i in range(4)]
    found = read_examples(write(tmp_path / "d.jsonl", rows))
    assert found.inputs[2] == Prompt((("system", "be brief"), ("user", "q2")))
    assert found.targets is not None
    assert found.targets[3] == "a3"
    unlabelled = read_examples(tmp_path / "d.jsonl", labels=False)
    assert unlabelled.targets is None
    assert unlabelled.inputs == found.inputs


def test_few_completions_are_labels(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "completion": ("yes", "no")[i % 2]} for i in range(8)]
    found = read_examples(write(tmp_path / "d.jsonl", rows))
    assert found.schema == Schema("classification", ("no", "yes"), ("no", "yes"), "accuracy")
    assert found.targets is not None
    np.testing.assert_array_equal(found.targets, [1, 0] * 4)
    assert '"no", "yes" throughout' in found.warnings[0]
    free = read_examples(tmp_path / "d.jsonl", schema=FREE)
    assert free.targets is not None
    assert free.targets[0] == "yes"


def test_columns_of_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [{"question": f"q{i}", "answer": f"a{i}"} for i in range(4)])
    found = read_examples(path, schema=FREE, text="question", label="answer")
    assert found.inputs[0] == Prompt.of("q0")
    with pytest.raises(DataError, match='no column "text" or "messages"; found "question", "answer"'):
        read_examples(path, schema=FREE)


def test_texts_stay_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [{"text": f"t{i}", "prompt": "p", "label": "ab"[i % 2]} for i in range(4)])
    assert read_examples(path).kind == "text"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q"}, r'row 3 \(line 3\): no completion in column "completion"'),
        ({"prompt": "q", "completion": "  "}, r"row 3 .*: no completion"),
        ({"prompt": " ", "completion": "a"}, r"row 3 .*: no prompt"),
        ({"prompt": "q", "completion": ["a"]}, "row 3 .*: the completion is a list, not a text"),
        ({"prompt": "q", "completion": "\ud800"}, "unpaired surrogate"),
    ],
)
def test_a_row_without_one_of_the_two(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    good = [{"prompt": "q", "completion": f"a{i}"} for i in range(2)]
    with pytest.raises(DataError, match=message):
        read_examples(write(tmp_path / "d.jsonl", [*good, row]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (chat(("user", "q")), "row 2 .*: the messages end with the user's"),
        (chat(("user", "q"), ("assistant", " ")), "the assistant's last message is empty"),
        (chat(("assistant", "a")), "there is no prompt before the completion"),
        (chat(("user", "q"), ("assistant", "a"), ("assistant", "b")), "two messages of the assistant"),
        (chat(("tool", "q"), ("assistant", "a")), 'a message needs a "role"'),
        (chat(("user", 3), ("assistant", "a")), 'a message needs a "role"'),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [1]}]},
            'a message has "tool_calls", which no prompt format writes',
        ),
        ({"messages": "q"}, "the messages are a str"),
        ({"messages": []}, "there are no messages"),
        ({"messages": None}, "no messages in column"),
    ],
)
def test_messages_that_are_none(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_examples(write(tmp_path / "d.jsonl", [chat(("user", "q"), ("assistant", "a")), row]))


def test_tools_beside_messages_are_said_not_to_be_read(tmp_path: Path) -> None:
    row = {**chat(("user", "q"), ("assistant", "a")), "tools": [{"name": "search"}]}
    found = read_examples(write(tmp_path / "d.jsonl", [row, row]))
    assert any('the column "tools" is not read' in remark for remark in found.warnings)


def test_a_schema_of_generation() -> None:
    assert Schema.from_dict({"type": "generation"}) == FREE
    assert Schema.from_dict({"metric": "token_f1"}).type == "generation"
    assert Schema.from_dict(FREE.to_dict()) == FREE
    with pytest.raises(SchemaError, match="generation has no labels"):
        Schema.from_dict({"type": "generation", "labels": ["a", "b"]})


def test_texts_are_scored() -> None:
    assert score(FREE, ["A  b", "c"], ["a b", "d"]) == 0.5
    f1 = Schema("generation", (), (), "token_f1")
    assert score(f1, ["the red boat", "x"], ["red boat", "y"]) == pytest.approx(0.4)
    assert score(f1, ["a a a"], ["a"]) == pytest.approx(0.5)
    with pytest.raises(DataError, match="1 texts written and 2 wanted"):
        score(FREE, ["a"], ["a", "b"])
