"""The whole journey in the core install: every extra is made impossible to import, and everything still runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from learndock.errors import exit_code
from tests.support import models

EXTRAS = (
    "torch", "transformers", "peft", "sklearn", "skops", "pyarrow", "onnx", "onnxscript", "scipy", "datasets", "pandas",
    "timm", "torchvision",
)  # fmt: skip

BLOCK = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ImportError(f"{{name}} is not installed here")
sys.meta_path.insert(0, Block())
"""

JOURNEY = """
import json, sys
from pathlib import Path
import learndock
space, place = sys.argv[1], Path(sys.argv[2])
schema = learndock.Schema.from_file(place / "schema.json")
examples = learndock.read_examples(place / "task.jsonl", schema=schema)
task = learndock.make_spec(examples, space=space)
learndock.write_spec(task, place / "task.spec")
task = learndock.read_spec(place / "task.spec")
learndock.pack(place / "model", place / "learnware", name="lab/mood", schema=schema, examples=examples, space=space)
dock = learndock.open_dock(place / "dock")
record = dock.add(place / "learnware")
found = learndock.identify(dock, task)
got = learndock.open_learnware(dock.get("lab/mood", place / "got"))
predictions = learndock.predict(got, ["a good film", "an awful film"])
score = learndock.evaluate(got, examples, schema).score
loaded = [m for m in %r if m in sys.modules]
print(json.dumps({
    "id": record.id, "first": found.matches[0].id, "behaviour": found.matches[0].behaviour,
    "predicted": predictions.argmax(1).tolist(), "score": score, "loaded": loaded, "verify": len(dock.verify()),
}))
""" % (EXTRAS,)  # noqa: UP031 - braces are Python's here


def run(code: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    models.write_onnx(tmp_path / "model")
    inputs, labels = models.texts(48)
    names = models.SENTIMENT.labels
    rows = [{"text": t, "label": names[c]} for t, c in zip(inputs, labels, strict=True)]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "schema.json").write_text(json.dumps(models.SENTIMENT.to_dict()))
    return tmp_path


def test_the_journey_needs_no_extra(place: Path, tiny_space: Any) -> None:
    done = run(JOURNEY, tiny_space.folder, place)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["loaded"] == []
    assert found["first"] == found["id"]
    assert found["behaviour"] > 0.9  # the model is right about these very examples
    assert found["predicted"] == [1, 0]
    assert found["score"] == 1
    assert found["verify"] == 0


def command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    code = "import sys\nsys.argv[0] = 'learndock'\nfrom learndock.cli import main\nmain()\n"
    return run(code, *arguments)


def test_the_command_line_needs_no_extra(place: Path, minilm: Any) -> None:
    schema, data, dock = place / "schema.json", place / "task.jsonl", place / "dock"
    packed = command(
        "pack", place / "model", "-o", place / "learnware", "--name", "lab/mood", "--schema", schema, "--data", data
    )
    assert packed.returncode == 0, packed.stderr
    assert command("add", place / "learnware", "--dock", dock).returncode == 0
    found = command("identify", "--data", data, "--schema", schema, "--dock", dock, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["matches"][0]["name"] == "lab/mood"


def test_what_needs_an_extra_names_it(place: Path, tiny_space: Any) -> None:
    from learndock.errors import MissingExtra

    (place / "task.parquet").write_bytes(b"PAR1")
    for code, remedy in (
        (f"learndock.read_examples({str(place / 'task.parquet')!r})", "learndock[parquet]"),
        (f"learndock.make_spec(examples, space={str(tiny_space.folder)!r}, recipe='paper')", "learndock[torch]"),
        ("author.build_space('x', 'y', name='z')", "learndock[torch]"),
    ):
        done = run(
            "import learndock\nfrom learndock.spaces.authoring import author\nfrom learndock.errors import exit_code\n"
            f"examples = learndock.read_examples({str(place / 'task.jsonl')!r}, "
            f"schema=learndock.Schema.from_file({str(place / 'schema.json')!r}))\n"
            f"try:\n    {code}\nexcept learndock.LearndockError as error:\n"
            "    print(exit_code(error), error)\n"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{exit_code(MissingExtra())} "), done.stdout
        assert f'pip install "{remedy}"' in done.stdout
