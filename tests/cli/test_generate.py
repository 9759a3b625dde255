"""Language models on the command line: from examples to an answer, and what people do wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from learndock.cli.generate import _printable
from learndock.spaces import Space
from tests.support.causal import prompts, write_causal, write_causal_adapter
from tests.support.terminal import learndock


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("desk")
    base = write_causal(place / "bases" / "lab" / "tiny", seed=5)
    for number in (1, 2):
        write_causal_adapter(place / f"adapter{number}", base, seed=number)
    asked, about = prompts(12)
    rows = [{"prompt": p.text, "completion": ("sun", "goal")[a]} for p, a in zip(asked, about, strict=True)]
    (place / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (place / "schema.json").write_text(json.dumps({"labels": ["sun", "goal"]}))
    return place


def test_the_journey(desk: Path, tiny_causal_space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNDOCK_BASES", str(desk / "bases"))
    monkeypatch.setenv("LEARNDOCK_DOCK", str(desk / "dock"))
    data = ("--data", desk / "d.jsonl", "--schema", desk / "schema.json", "--space", tiny_causal_space.folder)
    for number in (1, 2):
        name, out = f"lab/a{number}", desk / f"learnware{number}"
        packed = learndock(
            "pack", desk / f"adapter{number}", "--name", name, "-o", out, "--base", "lab/tiny", *data, "--json"
        )
        assert packed.json["format"] == "causal-peft"
        assert learndock("add", out).code == 0
    found = learndock("identify", *data, "--json").json
    assert {m["name"] for m in found["matches"] + found["closest"]} == {"lab/a1", "lab/a2"}
    plain = learndock("generate", "lab/a1", "cold rain", "--max-tokens", "6")
    said = learndock("generate", "lab/a1", "cold rain", "--max-tokens", "6", "--json").json
    assert plain.code == 0
    assert plain.out.strip() == _printable(said["completion"]).strip() != ""
    assert said["tokens_left_out"] == 0
    merged = learndock(
        "merge", "lab/a1", "lab/a2", "--weight", "0.7", "--weight", "0.3", "-o", desk / "merged", "--json"
    )
    assert sorted(p.name for p in Path(merged.json["folder"]).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    twice = learndock("merge", "lab/a1", "lab/a1", "-o", desk / "m")
    assert twice.code == 2
    assert "named twice" in twice.complaint
    # Whoever wants "goal" where a1 leans towards it finds a1, and merges it with what stands on its base
    asked, _ = prompts(96, seed=3)
    wanted, said_by, task = desk / "wanted.jsonl", desk / "answers.jsonl", desk / "task.spec"
    wanted.write_text("".join(json.dumps({"prompt": p.text, "completion": "sun"}) + "\n" for p in asked))
    assert learndock("predict", "lab/a1", wanted, "-o", said_by).code == 0
    leaning = [json.loads(line)["probabilities"]["goal"] for line in said_by.read_text().splitlines()]
    middle = sorted(leaning)[len(leaning) // 2]
    rows = [
        {"prompt": p.text, "completion": "goal" if x >= middle else "sun"} for p, x in zip(asked, leaning, strict=True)
    ]
    wanted.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert learndock("spec", "task", wanted, *data[2:], "-o", task).code == 0
    ranked = learndock("identify", "--spec", task, "--json").json
    by_match = learndock("merge", "--spec", task, "--top", "2", "-o", desk / "matched", "--json").json
    assert by_match["merged"] == [m["id"] for m in ranked["matches"]]
    assert sum(by_match["weights"]) == pytest.approx(1)
    both = learndock("merge", "lab/a1", "lab/a2", "--spec", task, "-o", desk / "m")
    assert "one of the two" in both.complaint
    empty = learndock("generate", "lab/a1", "  ")
    assert empty.code == 2
    assert "the prompt is empty" in empty.complaint


def test_a_row_without_a_completion(desk: Path, tiny_causal_space: Space, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text((desk / "d.jsonl").read_text() + '{"prompt": "rain"}\n')
    ended = learndock("spec", "task", path, "-o", tmp_path / "s.spec", "--space", tiny_causal_space.folder)
    assert ended.code == 3
    assert 'row 13 (line 13): no completion in column "completion"' in ended.complaint
    assert not (tmp_path / "s.spec").exists()


def test_a_space_of_something_else(tmp_path: Path) -> None:
    ended = learndock("space", "build", tmp_path, "-o", tmp_path / "out", "--input", "speech")
    assert ended.code == 2
    assert "use text or generation" in ended.complaint
