"""``learndock mcp``, asked by the official client over stdio: of a folder and of a service."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import learndock
from learndock.data import read_examples
from learndock.package.manifest import SpecFile
from learndock.spec import make_spec, write_spec
from tests.support.docking import make_learnware, seal
from tests.support.models import SENTIMENT, texts
from tests.support.serving import served

pytest.importorskip("mcp", reason='agents need "learndock[mcp]"')


def asked(dock: str, folder: Path, space: Path, calls: list[tuple[str, dict[str, Any]]]) -> tuple[list[str], list[Any]]:
    """Start the server as an agent's program does; returns its tools, and (failed, text, answer) of each call."""
    from mcp import Client, StdioServerParameters

    command = [sys.executable, "-c", "from learndock.cli import main; main()"]
    known = {
        k: v
        for k, v in os.environ.items()
        if k in ("PATH", "HOME", "PYTHONPATH", "LEARNDOCK_THREADS", "OMP_NUM_THREADS")
    }
    known.setdefault("PYTHONPATH", str(Path(learndock.__file__).parents[1]))
    arguments = [*command[1:], "mcp", "--dock", dock, "--folder", str(folder), "--space", str(space)]

    async def talk() -> tuple[list[str], list[Any]]:
        async with Client(StdioServerParameters(command=command[0], args=arguments, env=known)) as client:
            tools = sorted(t.name for t in (await client.list_tools()).tools)
            found = []
            for name, given in calls:
                answer = await client.call_tool(name, given)
                text = "".join(getattr(c, "text", "") for c in answer.content)
                found.append((bool(answer.is_error), text, answer.structured_content))
            return tools, found

    return asyncio.run(asyncio.wait_for(talk(), 120))


@pytest.fixture(scope="module")
def task(tiny_space: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled examples, their spec, and a dock with a learnware of the same question and another."""
    place = tmp_path_factory.mktemp("agent")
    inputs, targets = texts(60, 3)
    rows = [{"text": t, "label": SENTIMENT.labels[y]} for t, y in zip(inputs, targets, strict=True)]
    (place / "mine").mkdir()
    data = place / "mine" / "few.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    spec = make_spec(read_examples(data), space=str(tiny_space.folder))
    write_spec(spec, place / "mine" / "task.spec")
    dock = learndock.open_dock(place / "dock")
    generator = np.random.default_rng(0)
    for name, right in (("right", True), ("other", False)):
        guessed = np.eye(2)[targets if right else generator.permutation(targets)] * 0.8 + 0.1
        examples = read_examples(data)
        made = make_spec(examples, space=str(tiny_space.folder), predictions=guessed)
        folder = make_learnware(place / name, f"ada/{name}", schema=dict(spec.schema))
        (folder / "specs" / "tiny.spec").unlink()
        write_spec(made, folder / "specs" / "tiny.spec")
        seal(
            folder,
            f"ada/{name}",
            specs=(SpecFile(path="specs/tiny.spec", space="tiny", space_id=made.space_id),),
            schema=dict(spec.schema),
        )
        dock.publish(dock.admit(folder), vouched=True)
    (place / "secret.csv").write_text("text,label\na,b\n")
    (place / "mine" / "link.csv").symlink_to(place / "secret.csv")
    return place


def test_an_agent_finds_the_learnware_that_fits(task: Path, tiny_space: Any) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("identify", {"path": "few.jsonl"}),
        ("identify", {"path": str(task / "mine" / "task.spec"), "top": 1}),
        ("identify", {"path": "few.jsonl", "format": "gguf"}),
        ("show", {"name": "ada/right"}),
        ("list", {"text": "other"}),
        ("route", {"prompts": ["a good film", "a bad film"]}),
        ("show", {"name": "ada/absent"}),
        *(("identify", {"path": p}) for p in ("../secret.csv", "link.csv", str(task / "secret.csv"), "absent.csv")),
    ]
    tools, found = asked(str(task / "dock"), task / "mine", tiny_space.folder, calls)
    assert tools == ["identify", "list", "route", "show"]
    by_data, by_spec, filtered, shown, listed, routed, absent, *outside = found
    assert not by_data[0], by_data[1]
    assert (by_data[2]["fits"], by_data[2]["best"]) == (True, "ada/right")
    assert "ada/right" in by_data[2]["why"]
    assert [m["name"] for m in by_spec[2]["matches"]] == ["ada/right"]
    assert json.loads(by_spec[1]) == by_spec[2]
    assert (filtered[2]["fits"], filtered[2]["best"], filtered[2]["searched"]) == (False, None, 0)
    assert shown[2]["manifest"]["name"] == "ada/right"
    assert ([x["name"] for x in listed[2]["learnwares"]], listed[2]["count"]) == (["ada/other"], 1)
    assert routed[2]["searched"] == 2
    assert (absent[0], "no learnware" in absent[1] or "NotFound" in absent[1]) == (True, True)
    for failed, text, _ in outside[:3]:
        assert failed
        assert "only folder" in text
    assert outside[3][0]


def test_a_service_is_asked_in_the_same_way(task: Path, tiny_space: Any) -> None:
    with served(task / "dock") as site:
        _, found = asked(
            site.url, task / "mine", tiny_space.folder, [("identify", {"path": "few.jsonl"}), ("list", {})]
        )
    assert found[0][2]["best"] == "ada/right"
    assert found[1][2]["count"] == 2
