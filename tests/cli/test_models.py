"""predict, evaluate and finetune as a person meets them: what is said, what is kept, what comes next."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import SENTIMENT, texts, write_sklearn
from tests.support.terminal import learndock

pytest.importorskip("skops", reason="packs a scikit-learn pipeline")


@pytest.fixture(scope="module")
def place(tiny_space: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 labelled rows and the learnware ``lw`` in the tiny space."""
    folder = tmp_path_factory.mktemp("models")
    inputs, targets = texts(40, 3)
    with (folder / "data.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text", "label"])
        writer.writerows([n, t, SENTIMENT.labels[y]] for n, (t, y) in enumerate(zip(inputs, targets, strict=True)))
    data = ("--data", folder / "data.csv", "--space", tiny_space.folder)
    done = learndock("pack", write_sklearn(folder / "model"), "--name", "ann/words", *data, "-o", folder / "lw")
    assert done.code == 0, done.err
    (folder / "space").symlink_to(tiny_space.folder)
    return folder


def test_predict_shows_rows_and_counts_and_the_next_command(place: Path) -> None:
    said = learndock("predict", place / "lw", place / "data.csv").out
    assert "40 predictions: 20 " in said
    assert said.splitlines()[2].startswith("  1  ")
    assert said.splitlines()[-1] == f"To keep them: learndock predict {place}/lw {place}/data.csv -o answers.csv"
    found = learndock("predict", place / "lw", place / "data.csv", "--json").json
    assert (found["rows"], len(found["predictions"]), found["file"]) == (40, 40, None)


def test_predictions_never_replace_a_file_unless_forced(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    out.write_text("mine")
    given = ("predict", place / "lw", place / "data.csv", "-o", out)
    refused = learndock(*given)
    assert (refused.code, "--force" in refused.complaint, out.read_text()) == (2, True, "mine")
    assert "40 predictions in" in learndock(*given, "--force").out
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[3].keys() == {"id", "text", "label", "prediction", "probability_negative", "probability_positive"}
    assert [r["prediction"] for r in rows] == [r["label"] for r in rows]
    assert learndock("predict", place / "lw", place / "data.csv", "--force").code == 2  # there is nothing to replace


def test_the_next_command_reads_the_file_as_this_one_did(place: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "own columns.csv"
    head, *rows = (place / "data.csv").read_text().splitlines()
    assert head == "id,text,label"
    renamed.write_text("\n".join(["id,My text,My label", *rows]) + "\n")
    said = learndock("predict", place / "lw", renamed, "--text", "My text", "--separator", ",", "--no-quotes").out
    how = f"'{renamed}' --text 'My text' --separator , --no-quotes"
    assert said.splitlines()[-1] == f"To keep them: learndock predict {place}/lw {how} -o answers.csv"


def test_evaluate_says_how_to_map_names_of_your_own(place: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text((place / "data.csv").read_text().replace(",negative", ",complaint").replace(",positive", ",praise"))
    refused = learndock("evaluate", place / "lw", own)
    assert refused.code == 3
    assert 'as in --map "negative"="complaint"' in refused.complaint
    said = learndock("evaluate", place / "lw", own, "--map", "negative=complaint", "--map", "positive=praise").out
    assert "It is right on 40 of 40" in said


def test_evaluate_says_how_many_are_right_beside_a_constant_answer(place: Path) -> None:
    said = learndock("evaluate", place / "lw", place / "data.csv").out
    assert "It is right on 40 of 40; always saying the commonest label is right on 20." in said
    assert said.splitlines()[-1].startswith(f"Next: learndock predict {place}/lw ")


def test_finetune_shows_scores_before_and_after(place: Path, tmp_path: Path) -> None:
    """All of finetune's options: their values are in what comes out."""
    outs = iter([tmp_path / name for name in "abcde"])
    base = ("finetune", place / "lw", place / "data.csv")

    def tune(*more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        out = next(outs)
        given = (*base, "--out", out, "--name", "me/mine", "--space", (place / "space").resolve())
        made = learndock(*given, *more, "--json").json
        assert made["folder"] == str(out)
        return made, json.loads((out / "learnware.json").read_text())

    made, manifest = tune("--description", "a sentence")
    assert made.keys() == {"id", "folder", "tuned_on", "held_out", "metric", "before", "after"}
    assert (made["tuned_on"], made["held_out"], made["before"]) == (32, 8, 1.0)
    assert (manifest["name"], manifest["description"]) == ("me/mine", "a sentence")
    assert [s["space"] for s in manifest["specs"]] == ["tiny"]

    none, _ = tune("--hold-out", "0")
    assert (none["tuned_on"], none["held_out"], none["before"], none["after"]) == (40, 0, None, None)
    half, _ = tune("--hold-out", "0.5")
    assert (half["tuned_on"], half["held_out"]) == (20, 20)
    other, _ = tune("--seed", "7")
    assert other["id"] != made["id"]  # other rows were held out

    said = learndock(*base, "--out", next(outs), "--name", "me/mine", "--space", (place / "space").resolve()).out
    assert "held-out examples: 1.000 before, " in said
    assert said.splitlines()[-1].startswith("Next: learndock add ")


def test_pack_prints_the_columns_and_the_score(place: Path, tmp_path: Path) -> None:
    data = ("--name", "ann/words", "--data", place / "data.csv", "--space", place / "space")
    done = learndock("pack", place / "model", *data, "-o", tmp_path / "a")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[1:5] == [
        "The model's columns, matched by name:", "  0  negative = negative", "  1  positive = positive",
        "accuracy on your 40 examples: 1.000",
    ]  # fmt: skip
    turned = ("--map", "negative=positive", "--map", "positive=negative")
    wrong = learndock("pack", place / "model", *data, *turned, "-o", tmp_path / "b", "--json")
    assert wrong.json["columns"] == [
        {"column": 0, "name": "negative", "label": "positive"}, {"column": 1, "name": "positive", "label": "negative"},
    ]  # fmt: skip
    assert (wrong.json["columns_by"], wrong.json["score"]) == ("map", 0.0)
    assert "100% of your examples would be right instead of 0%" in wrong.err
    (tmp_path / "own.json").write_text(json.dumps(["positive"] * 40))
    refused = learndock("pack", place / "model", *data, "--expect", tmp_path / "own.json", "-o", tmp_path / "c")
    assert refused.code == 22
    assert "20 of 40 inputs are answered otherwise" in refused.err
    assert not (tmp_path / "c").exists()
