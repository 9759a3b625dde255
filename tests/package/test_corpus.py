"""The whole corpus at every door of a machine without a network: each is shut, in our words, and no payload runs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from learndock.dock import Admitted, LocalDock, open_dock
from learndock.errors import STATUS, LearndockError, http_status
from learndock.package import open_learnware
from learndock.package.formats.registry import get_format
from learndock.package.manifest import Manifest
from learndock.package.safety import REFUSED_KEYS
from tests.support import corpus, models
from tests.support.corpus import Hostile
from tests.support.docking import MEMORY
from tests.support.terminal import learndock

CASES = corpus.cases()
#: One of each kind, for doors behind which the same check stands.
SOME = list({case.kind: case for case in corpus.models_spoilt()}.values())
ENDS = dict(STATUS.values())


@pytest.fixture(scope="module", autouse=True)
def memory() -> Iterator[Path]:
    """Where docks lie and commands put what they fetch: there is no disk to wait for."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
def place(memory: Path) -> Iterator[Path]:
    """A fresh folder there."""
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.write_sound(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A few labelled texts, and their schema."""
    folder = tmp_path_factory.mktemp("texts")
    rows = [{"text": t, "label": models.SENTIMENT.labels[i % 2]} for i, t in enumerate(models.texts(8)[0])]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "schema.json").write_text(json.dumps(models.SENTIMENT.to_dict()))
    return folder / "texts.jsonl", folder / "schema.json"


@pytest.fixture(scope="module")
def dock(memory: Path) -> Path:
    open_dock(memory / "dock")
    return memory / "dock"


@pytest.fixture
def canary(place: Path) -> Iterator[Path]:
    yield place / "canary"
    assert not (place / "canary").exists(), "a payload ran"


def each(cases: list[Hostile]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[c.name for c in cases])


# -- the corpus itself ---------------------------------------------------------------------------------------


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """Otherwise nothing here could fail."""
    corpus.live(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} >= {"pickle", "code", "array", "zip"}


def test_the_corpus_is_whole() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 200
    assert {case.name.split(" in ")[0] for case in CASES} >= set(REFUSED_KEYS)


@pytest.mark.parametrize("base", ["onnx", "sklearn", "transformers", "peft", "timm"])
def test_what_attacks_start_from_is_sound(base: str, sound: Path, tmp_path: Path) -> None:
    """So that it is the attack that is refused."""
    case = Hostile("nothing", "", base, lambda folder, canary: None)
    folder = case.learnware(tmp_path / "learnware", sound, tmp_path / "canary")
    assert open_dock(tmp_path / "dock").add(folder).manifest.format == base


# -- the doors -----------------------------------------------------------------------------------------------


@each(CASES)
def test_no_dock_takes_it_in(case: Hostile, sound: Path, dock: Path, place: Path, canary: Path) -> None:
    folder = case.learnware(place / "learnware", sound, canary)
    with pytest.raises(LearndockError) as caught:
        open_dock(dock).add(folder)
    assert http_status(caught.value) == 422, caught.value
    assert len(open_dock(dock)) == 0
    assert "Traceback" not in str(caught.value)


@each(SOME)
def test_every_command_stays_shut(
    case: Hostile, sound: Path, dock: Path, texts: tuple[Path, Path], place: Path, canary: Path
) -> None:
    data, schema = texts
    model = case.model(place / "model", sound, canary)
    folder = case.learnware(place / "learnware", sound, canary)
    out = place / "out"
    for command in (
        ("pack", model, "--name", "mallory/x", "--data", data, "--schema", schema, "-o", out),
        ("add", folder, "--dock", dock),
        ("add", folder, "--dock", dock, "--vouch"),
        ("predict", folder, data, "-o", place / "out.csv"),
        ("evaluate", folder, data, "--schema", schema),
        ("finetune", folder, data, "--schema", schema, "--name", "mallory/y", "-o", out),
    ):
        ended = learndock(*command)
        assert ENDS[ended.code] == 422, (command[0], ended.err)
        assert ended.complaint
        assert not list(place.glob("out*"))
        assert not canary.exists(), command[0]


def careless(folder: Path) -> Admitted:
    """The door of a dock that is malicious itself."""
    return Admitted(folder, Manifest.from_folder(folder))


@pytest.fixture(scope="module")
def malicious(sound: Path, memory: Path) -> tuple[LocalDock, dict[str, Hostile], Path]:
    """A dock that took in one of each kind and base, where a manifest can name its files."""
    place = memory / "malicious"
    place.mkdir()
    dock, held = open_dock(place / "dock", admit=careless), {}
    chosen = {(case.kind, case.base): case for case in CASES}
    for number, case in enumerate(chosen.values()):
        try:
            record = dock.add(case.learnware(place / str(number), sound, place / "canary"), vouched=True)
        except LearndockError:
            continue  # not even that: no manifest can name it
        held[record.name] = case
    return dock, held, place / "canary"


def test_a_malicious_dock_reaches_nobody(
    malicious: tuple[LocalDock, dict[str, Hostile], Path], texts: tuple[Path, Path], place: Path
) -> None:
    dock, held, canary = malicious
    assert len(held) >= 15
    data, _ = texts
    for name, case in held.items():
        ended = learndock("predict", name, data, "-o", place / "out.csv", "--dock", dock.folder)
        assert ENDS[ended.code] == 422, (case.name, ended.code, ended.err)
        assert not canary.exists(), case.name
    for command in (("list",), ("show", next(iter(held))), ("verify",)):
        assert learndock(*command, "--dock", dock.folder).code == 0
    assert not canary.exists()


def test_behind_the_first_wall_stands_a_second(
    malicious: tuple[LocalDock, dict[str, Hostile], Path], place: Path
) -> None:
    """A client that skips ``check_files`` still runs nobody's code: formats look for themselves."""
    dock, held, canary = malicious
    for number, name in enumerate(held):
        folder = dock.get(name, place / str(number))
        opened = open_learnware(folder)
        with contextlib.suppress(LearndockError):
            get_format(opened.manifest.format).load(folder, models.SENTIMENT, opened.settings)
        assert not canary.exists(), held[name].name


def test_nothing_that_loads_models_is_imported_at_the_door(sound: Path, place: Path) -> None:
    folders = [
        Hostile("nothing", "", base, lambda folder, canary: None).learnware(place / base, sound, place / "c")
        for base in ("onnx", "sklearn", "transformers", "peft", "timm")
    ]
    for number, folder in enumerate(folders):
        corpus.seal(folder, f"ada/model{number}", folder.name)
    script = (
        "import sys\nfrom learndock.dock import open_dock\n"
        f"dock = open_dock({str(place / 'dock')!r})\n"
        f"for folder in {[str(f) for f in folders]!r}: dock.add(folder)\n"
        "loaders = ('torch', 'transformers', 'peft', 'timm', 'sklearn', 'skops', 'onnxruntime', 'tokenizers')\n"
        "print(len(dock), [m for m in loaders if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1) == ["5", "[]\n"]
