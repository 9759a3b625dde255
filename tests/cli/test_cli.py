"""The command line as a user meets it: the whole journey, what each command prints, and how fast help is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from learndock import __version__
from learndock.cli import show
from learndock.data import Schema, read_examples
from learndock.files import sha256_file
from tests.support.models import SENTIMENT, texts, write_onnx, write_sklearn
from tests.support.proxy import proxy
from tests.support.terminal import finish, learndock, start

DOCS = Path(__file__).parents[2] / "docs"
RECORD = {
    "number",
    "published",
    "deprecated",
    *("id", "name", "version", "format", "task", "license", "description", "spaces", "bytes"),
    *("private", "created"),
}
MATCH = {
    *("id", "name", "score", "domain", "behaviour", "reliability", "consensus", "interval", "p_value", "ranked_by"),
    *("can_answer", "missing", "task_type", "classes", "labels", "version", "latest", "deprecated"),
}
SPEC = {
    *("file", "kind", "space", "space_id", "recipe", "task", "n", "settings", "p_value", "privacy", "parts"),
    "reliability",
    *("bytes", "version"),
}


def write_rows(path: Path, n: int, seed: int, labels: Sequence[str] = SENTIMENT.labels) -> Path:
    inputs, targets = texts(n, seed)
    rows = [{"text": t, "label": labels[y]} for t, y in zip(inputs, targets, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Desk:
    """A user's folder with everything of the journey in it; made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.owner, self.user = write_rows(folder / "owner.jsonl", 60, 2), write_rows(folder / "user.jsonl", 32, 3)
        self.mine = write_rows(folder / "mine.jsonl", 32, 3, ["schlecht", "gut"])
        self.schema, self.my_schema = folder / "schema.json", folder / "mine.json"
        self.schema.write_text(json.dumps(SENTIMENT.to_dict()))
        self.my_schema.write_text(
            json.dumps({"labels": ["schlecht", "gut"], "descriptions": list(SENTIMENT.descriptions)})
        )
        self.dock, self.spec = folder / "dock", folder / "task.spec"
        self.learnwares = {"ann/words": folder / "words", "bob/bag": folder / "bag"}


@pytest.fixture(scope="module")
def desk(minilm: Any, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    pytest.importorskip("skops", reason="packs a scikit-learn pipeline")
    desk = Desk(tmp_path_factory.mktemp("desk"))
    models = write_sklearn(desk.folder / "sklearn"), write_onnx(desk.folder / "onnx")
    for (name, out), model in zip(desk.learnwares.items(), models, strict=True):
        packed = learndock(
            *("pack", model, "--name", name, "--data", desk.owner, "--schema", desk.schema, "-o", out),
            *("--license", "MIT", "--description", "[red]words[/] that \x1b[2J count", "--json"),
        ).json
        assert packed.keys() == {
            *("id", "folder", "format", "files", "metric", "score", "columns", "columns_by", "remarks"),
        }
        assert packed["id"].startswith(f"{name}@")
    task = learndock("spec", "task", desk.user, "--schema", desk.schema, "-o", desk.spec, "--json").json
    assert task.keys() == SPEC
    return desk


@pytest.fixture
def folder(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dock in a folder with both learnwares, meant by every command of the test."""
    folder = desk.folder / "docks" / str(time.monotonic_ns())
    monkeypatch.setenv("LEARNDOCK_DOCK", str(folder))
    for learnware in desk.learnwares.values():
        assert learndock("add", learnware).code == 0
    return folder


@pytest.fixture(scope="module")
def filled(desk: Desk) -> tuple[Path, dict[tuple[str, str], str]]:
    """The folder of a service with both learnwares, and a token that may write for all who appear here."""
    pytest.importorskip("fastapi", reason="serves a dock")
    from tests.support.serving import served

    folder = desk.folder / "docks" / "served"
    with served(folder) as site, pytest.MonkeyPatch.context() as patch:
        for name in ("bob", "me"):
            site.service.people.add_organisation(site.principal("ann", "admin"), name)
        patch.setenv("LEARNDOCK_TOKEN", site.token("ann"))
        for learnware in desk.learnwares.values():
            assert learndock("add", learnware, "--dock", site.url).code == 0
        return folder, site._tokens


@pytest.fixture
def address(
    desk: Desk, filled: tuple[Path, dict[tuple[str, str], str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """The same at an address."""
    from tests.support.serving import served

    folder, tokens = filled
    with served(shutil.copytree(folder, desk.folder / "docks" / str(time.monotonic_ns()))) as site:
        site._tokens.update(tokens)
        monkeypatch.setenv("LEARNDOCK_DOCK", site.url)
        monkeypatch.setenv("LEARNDOCK_TOKEN", site.token("ann"))
        yield site


@pytest.fixture(params=["folder", "address"])
def dock(request: pytest.FixtureRequest) -> Path:
    """Either of both; gives the folder in which its files lie."""
    found = request.getfixturevalue(request.param)
    return Path(found if request.param == "folder" else found.service.folder)


# --- specs ---------------------------------------------------------------------------------------------------


def test_spaces_say_where_they_are() -> None:
    found = {s["name"]: s for s in learndock("spaces", "--json").json["spaces"]}
    assert found["minilm-l6"].keys() == {
        *("name", "default", "input", "helper", "license", "numbers", "sketch", "present", "missing", "remedy"),
        *("id", "folder"),
    }
    assert found["minilm-l6"]["default"]
    assert found["minilm-l6"]["numbers"] == 110_592
    assert "minilm-l6 *" in learndock("spaces").out


def test_a_task_spec_says_what_it_holds(desk: Desk) -> None:
    shown = learndock("spec", "show", desk.spec, "--json").json
    assert shown.keys() == SPEC
    assert (shown["kind"], shown["n"], shown["space"]) == ("task", 32, "minilm-l6")
    assert shown["bytes"] == desk.spec.stat().st_size <= 20_000
    said = learndock("spec", "show", desk.spec).out
    for word in ("specification of a task", "negative, positive", "p = 0.0", "contains no examples"):
        assert word in said


def test_the_same_examples_make_the_same_spec(desk: Desk, tmp_path: Path) -> None:
    again = tmp_path / "again.spec"
    assert learndock("spec", "task", desk.user, "--schema", desk.schema, "-o", again).code == 0
    assert sha256_file(again) == sha256_file(desk.spec)


def test_a_model_spec_from_its_predictions(desk: Desk, tmp_path: Path) -> None:
    out, unlabelled = tmp_path / "model.spec", tmp_path / "unlabelled.jsonl"
    unlabelled.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts(60, 2)[0]))
    learnware = desk.learnwares["bob/bag"]
    made = learndock("spec", "model", learnware, "--data", unlabelled, "-o", out, "--json").json
    assert made.keys() == SPEC
    assert made["kind"] == "model"
    assert sha256_file(out) == sha256_file(
        learnware / "specs" / "minilm-l6.spec"
    )  # as pack made it, from labels unseen
    compared = learndock("spec", "compare", desk.spec, out, "--json").json
    assert compared.keys() == {"domain", "behaviour"}
    assert compared["behaviour"] > 0.5
    assert f"behaviour {compared['behaviour']:+.3f}" in learndock("spec", "compare", desk.spec, out).out


def dock_is_folder() -> bool:
    return not os.environ["LEARNDOCK_DOCK"].startswith("http")


# --- a dock --------------------------------------------------------------------------------------------------


def test_adding_twice_changes_nothing(desk: Desk, dock: Path) -> None:
    before = learndock("list", "--json").json
    (again,) = learndock("add", desk.learnwares["ann/words"], "--json").json["learnwares"]
    assert again.keys() == RECORD
    assert again["id"] == before["learnwares"][0]["id"]
    assert learndock("list", "--json").json == before


def test_list_and_show(dock: Path) -> None:
    listed = learndock("list", "--json").json["learnwares"]
    assert [r.keys() for r in listed] == [RECORD, RECORD]
    assert [(r["name"], r["format"]) for r in listed] == [("ann/words", "sklearn"), ("bob/bag", "onnx")]
    said = learndock("list").out
    assert all(r["name"] in said and r["version"][:8] in said for r in listed)
    shown = learndock("show", f"ann/words@{listed[0]['version'][:8]}", "--json").json
    assert shown.keys() == RECORD | {"manifest"}
    assert shown["manifest"]["task"] == SENTIMENT.to_dict()
    said = learndock("show", "ann/words").out
    for word in (listed[0]["id"], "a good review", "model.skops", "MIT", "minilm-l6"):
        assert word in said


def test_strangers_text_neither_moves_the_cursor_nor_is_markup(dock: Path) -> None:
    said = learndock("show", "ann/words").out
    assert "[red]words[/] that \\x1b[2J count" in said
    assert "\x1b" not in said


def test_an_empty_dock_says_so(desk: Desk, dock: Path) -> None:
    for name in desk.learnwares:
        assert learndock("remove", name, "--json").json.keys() == {*RECORD, "remaining"}
    assert learndock("list", "--json").json == {"learnwares": [], "found": 0, "of": 0}
    assert ("empty" if dock_is_folder() else "no learnware") in learndock("list").out
    asked = learndock("identify", "--spec", desk.spec)
    assert asked.code == 35
    assert "empty" in asked.out
    assert learndock("identify", "--spec", desk.spec, "--json").json["searched"] == 0
    # The name still stands for the content that was removed, and that may come back
    assert learndock("add", desk.learnwares["bob/bag"]).code == 0


def test_verify_rebuild_and_collect_leave_the_answers_as_they_were(desk: Desk, folder: Path) -> None:
    before = learndock("identify", "--spec", desk.spec, "--json").json, learndock("list", "--json").json
    assert learndock("verify", "--json").json == {"sound": True, "problems": []}
    assert learndock("verify", "bob/bag").out == "sound\n"
    assert learndock("rebuild", "--json").json == {"learnwares": 2}
    assert "2 learnwares" in learndock("rebuild").out
    assert learndock("gc", "--json").json.keys() == {"blobs", "unfinished", "leased"}
    assert (learndock("identify", "--spec", desk.spec, "--json").json, learndock("list", "--json").json) == before


def test_verify_finds_a_changed_byte(dock: Path) -> None:
    blob = max((f for f in (dock / "blobs").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    found = learndock("verify", "--json")
    assert found.code == 33
    assert not found.json["sound"]
    assert found.json["problems"][0].keys() == {"severity", "about", "message"}
    said = learndock("verify")
    assert said.code == 33
    assert said.out.endswith("\n1 error\n")


# --- a user --------------------------------------------------------------------------------------------------


def test_identify_by_spec_and_by_data_is_the_same(desk: Desk, dock: Path) -> None:
    by_spec = learndock("identify", "--spec", desk.spec, "--json").json
    by_data = learndock("identify", "--data", desk.user, "--schema", desk.schema, "--json").json
    assert by_spec == by_data
    assert by_spec.keys() == {"fits", "p_value_any", "searched", "reason", "matches", "closest", "p_value"}
    assert by_spec["fits"]
    assert {m["name"] for m in by_spec["matches"]} == set(desk.learnwares)
    assert all(m.keys() == MATCH for m in by_spec["matches"])
    said = learndock("identify", "--spec", desk.spec).out
    assert said.index(by_spec["matches"][0]["name"]) < said.index(by_spec["matches"][1]["name"])
    assert len(learndock("identify", "--spec", desk.spec, "--top", "1", "--json").json["matches"]) == 1


def test_identify_looks_only_where_it_is_told_to(desk: Desk, dock: Path) -> None:
    def found(*filters: str) -> list[str]:
        answer = learndock("identify", "--spec", desk.spec, "--json", *filters).json
        names = [m["name"] for m in (*answer["matches"], *answer["closest"])]
        assert answer["searched"] == len(names)
        return sorted(names)

    both = ["ann/words", "bob/bag"]
    assert found("--format", "onnx") == found("--owner", "Bob") == ["bob/bag"]
    assert found("--license", "mit") == found("--task-type", "classification") == found() == both
    assert found("--base", "a/b") == found("--task-type", "regression") == found("--license", "GPL") == []
    assert "no learnware of that kind" in learndock("identify", "--spec", desk.spec, "--base", "a/b").out


def test_identify_says_when_nothing_fits(desk: Desk, dock: Path, tmp_path: Path) -> None:
    flipped = write_rows(tmp_path / "flipped.jsonl", 32, 3, SENTIMENT.labels[::-1])
    found = learndock("identify", "--data", flipped, "--schema", desk.schema, "--json").json
    assert (found["fits"], found["matches"], len(found["closest"])) == (False, [], 2)
    said = learndock("identify", "--data", flipped, "--schema", desk.schema)
    assert said.code == 35
    assert said.out.startswith("Nothing here fits your task")


def test_matches_are_tried_on_the_users_examples(desk: Desk, dock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = desk.folder / "tmp" / str(time.monotonic_ns())
    place.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    ask = ("identify", "--data", desk.user, "--schema", desk.schema, "--try", "2")
    found = learndock(*ask, "--json").json
    assert [t.keys() for t in found["tried"]] == [{"id", "name", "score", "n", "why"}] * 2
    assert {t["id"] for t in found["tried"]} == {m["id"] for m in found["matches"]}
    assert [(t["score"], t["n"], t["why"]) for t in found["tried"]] == [(1.0, 32, None)] * 2
    assert "Tried on your 32 examples" in learndock(*ask).out

    one = learndock(*ask[:-1], "1", "--top", "1", "--json").json
    assert [t["id"] for t in one["tried"]] == [m["id"] for m in one["matches"]]

    mine = ("identify", "--data", desk.mine, "--schema", desk.my_schema, "--try", "1")
    (other,) = learndock(*mine, "--json").json["tried"]
    assert other["score"] is None
    assert "negative" in other["why"]
    named = ["--map", "negative=schlecht", "--map", "positive=gut"]
    assert learndock(*mine, *named, "--json").json["tried"][0]["score"] == 1.0

    assert learndock("identify", "--spec", desk.spec, "--try", "2").code == 2
    assert list(place.iterdir()) == [], "what was fetched left"


@pytest.mark.parametrize("name", ["ann/words", "bob/bag"])
def test_get_predict_and_evaluate(desk: Desk, dock: Path, tmp_path: Path, name: str) -> None:
    got = tmp_path / "got"
    assert learndock("get", name, "-o", got, "--json").json["folder"] == str(got)
    whole = {p.relative_to(got): sha256_file(p) for p in got.rglob("*") if p.is_file()}
    packed = desk.learnwares[name]
    assert whole == {p.relative_to(packed): sha256_file(p) for p in packed.rglob("*") if p.is_file()}

    for which, out in ((name, tmp_path / "a.jsonl"), (got, tmp_path / "b.jsonl")):
        assert learndock("predict", which, desk.user, "-o", out, "--json").json == {"file": str(out), "rows": 32}
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines[1].keys() == {"text", "label", "prediction", "probabilities"}
    given = [json.loads(r) for r in desk.user.read_text().splitlines()]
    assert [{"text": x["text"], "label": x["label"]} for x in lines] == given
    assert [x["prediction"] for x in lines] == [r["label"] for r in given]

    found = learndock("evaluate", name, desk.user, "--json").json
    assert found.keys() == {"learnware", "metric", "score", "n", "labels", "counts", "recall", "confusion"}
    assert (found["learnware"], found["score"], found["n"]) == (name, 1.0, 32)
    assert "accuracy 1.000 on 32 examples" in learndock("evaluate", got, desk.user).out


def test_evaluate_under_the_users_own_labels(desk: Desk, dock: Path) -> None:
    without = learndock("evaluate", "ann/words", desk.mine, "--schema", desk.my_schema)
    assert without.code == 2
    assert "--map theirs=yours" in without.complaint
    named = ["--map", "negative=schlecht", "--map", "positive=gut"]
    found = learndock("evaluate", "ann/words", desk.mine, "--schema", desk.my_schema, *named, "--json").json
    assert (found["score"], found["labels"]) == (1.0, ["schlecht", "gut"])
    assert learndock("evaluate", "ann/words", desk.mine, *named, "--json").json["score"] == 1.0


def test_evaluate_takes_no_number_for_a_place(desk: Desk, dock: Path, tmp_path: Path) -> None:
    examples = read_examples(desk.user, schema=Schema.from_file(desk.schema))
    assert examples.targets is not None
    turned = [{"text": t, "label": 1 - int(y)} for t, y in zip(examples.inputs, examples.targets, strict=True)]
    data = tmp_path / "numbers.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in turned))
    refused = learndock("evaluate", "ann/words", data)
    assert refused.code == 3
    assert 'is not a name of a class ("negative", "positive")' in refused.complaint
    assert '--map "negative"=0' in refused.complaint
    mapped = learndock("evaluate", "ann/words", data, "--map", "negative=1", "--map", "positive=0", "--json")
    assert mapped.json["score"] == 1.0


def test_finetune_makes_a_learnware_for_other_labels(desk: Desk, dock: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    made = learndock(
        *("finetune", "ann/words", desk.mine, "--schema", desk.my_schema, "--name", "me/mine", "-o", out, "--json")
    ).json
    assert made.keys() == {"id", "folder", "tuned_on", "held_out", "metric", "before", "after"}
    assert (made["tuned_on"], made["held_out"], made["before"]) == (26, 6, None)
    assert made["after"] > 0.6
    assert learndock("add", out, "--json").json["learnwares"][0]["id"] == made["id"]
    assert learndock("evaluate", "me/mine", desk.mine, "--json").json["score"] > 0.9


def test_the_installed_command(desk: Desk, folder: Path) -> None:
    ended = [
        finish(p)
        for p in (
            start("--version"),
            start("list", "--json"),
            start("identify", "--spec", desk.spec, "--json"),
            start("show", "no/body"),
        )
    ]
    assert [e.code for e in ended] == [0, 0, 0, 31]
    assert ended[0].out == f"learndock {__version__}\n"
    assert ended[1].out == learndock("list", "--json").out
    assert ended[2].out == learndock("identify", "--spec", desk.spec, "--json").out
    assert ended[3].complaint == "learndock: NotFound: no/body: not in this dock; `learndock list` shows what is there"


# --- at an address --------------------------------------------------------------------------------------------


def test_commands_of_operators_want_the_folder(address: Any) -> None:
    for words in (("rebuild",), ("gc",), ("serve",)):
        ended = learndock(*words)
        assert (ended.code, ended.complaint.endswith("name its folder with --dock") or words == ("serve",)) == (2, True)
    assert learndock("add", ".", "--private", "--dock", str(address.service.folder)).code == 2


def test_no_text_and_no_label_leaves_this_machine(
    desk: Desk, address: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words that stand nowhere but in DATA and SCHEMA are in no request of any command that takes these."""
    canaries = "qzxgood", "qzxbad", "qzxword"
    data, schema, blind = tmp_path / "data.jsonl", tmp_path / "schema.json", tmp_path / "blind.jsonl"
    inputs, targets = texts(32, 5)
    rows = [{"text": f"{t} qzxword", "label": canaries[1 - y]} for t, y in zip(inputs, targets, strict=True)]
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    blind.write_text("".join(json.dumps({"text": r["text"]}) + "\n" for r in rows))
    schema.write_text(json.dumps({"labels": ["qzxbad", "qzxgood"], "descriptions": ["a qzxbad one", "a qzxgood one"]}))
    with proxy(address.url) as between:
        monkeypatch.setenv("LEARNDOCK_DOCK", between.url)
        assert learndock("identify", "--data", data, "--schema", schema, "--json").json["searched"] == 2
        assert learndock("predict", "ann/words", blind, "-o", tmp_path / "out.jsonl").code == 0
        names = ("--map", "negative=qzxbad", "--map", "positive=qzxgood")
        assert learndock("evaluate", "ann/words", data, "--schema", schema, *names).code == 0
        tuned = ("--name", "me/qzxmine", "-o", tmp_path / "mine")
        assert learndock("finetune", "ann/words", data, "--schema", schema, *tuned).code == 0
        paths = {h.path.partition("?")[0].removeprefix("/api/v1/") for h in between.heard}
        assert {"identify", "learnwares/ann/words"} <= paths
        assert not [h.path for h in between.heard if h.holds(b"qzx")]
        # Heard is what is said: the same words are found where they are sent on purpose.
        assert learndock("identify", "--spec", desk.spec, "--owner", "qzxgood").code == 35
        assert [h.path for h in between.heard if h.holds(b"qzx")]


def test_what_hf_upload_brings_can_be_identified(desk: Desk, address: Any, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="uploads with hf")
    learndock("remove", "bob/bag")
    ours = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    pushed = subprocess.run(
        [Path(sys.executable).with_name("hf"), "upload", "bob/bag", desk.learnwares["bob/bag"]],
        env={
            **ours,
            "HF_ENDPOINT": address.url,
            "HF_TOKEN": address.token("ann"),
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert pushed.returncode == 0, pushed.stderr
    found = learndock("identify", "--spec", desk.spec, "--json").json
    assert "bob/bag" in [m["name"] for m in found["matches"]]
    assert learndock("evaluate", "bob/bag", desk.user, "--json").json["score"] == 1.0


# --- printing ------------------------------------------------------------------------------------------------


def test_json_holds_nothing_that_json_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_json({"a": float("nan"), "b": [float("inf"), 1.5, None, "ä\x1b"], "c": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5, None, "ä\x1b"], "c": "x"}


def test_json_in_a_terminal_that_knows_no_unicode(tmp_path: Path) -> None:
    code = "from learndock.cli.show import print_json; print_json({'a': 'ä'})"
    env = {"PYTHONIOENCODING": "ascii", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert json.loads(done.stdout) == {"a": "ä"}
