"""The bench of language models: split layers say what the whole model says, adapters are PEFT's, and a run resumes."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learndock.bench import llm
from learndock.bench.cache import Cache
from learndock.bench.llm_tasks import llm_tasks, worked
from learndock.bench.run import bench_llm
from learndock.bench.size import WRITERS_QUICK
from learndock.bench.writers import Adapter, Base
from learndock.data import Schema
from learndock.data.prompts import ScoredPrompt
from learndock.errors import DataError, UsageError
from learndock.package.formats._causal import load_causal, model_of
from learndock.package.formats._writing import folder_writing, settings_of
from learndock.package.formats.causal_peft import stand_on
from learndock.spaces import Space
from learndock.spaces.authoring.causal_helper import CausalRecipe, load_causal_helper
from tests.support.causal import prompts, write_causal

CHOICE = Schema("classification", ("sun", "goal", "a cold doctor"), ("sun", "goal", "a cold doctor"), "accuracy")
LEAST = replace(
    WRITERS_QUICK, tasks=None, seeds=1, shots=3, pool_shots=3, fit=16, network_fit=16, spec=12, test=10, cross_test=6,
    qualities=("good", "shuffled"), network_epochs=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("bases") / "lab" / "three", seed=3, layers=3)


@pytest.fixture(scope="module")
def base(folder: Path, tiny_causal_space: Space) -> Base:
    """Adapters on the last of three layers."""
    helper = load_causal_helper(folder, CausalRecipe(rank=3, prompt_tokens=48, completion_tokens=12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("learndock.spaces.authoring.causal_helper.space_causal_helper", lambda _: helper)
        return Base(tiny_causal_space, 0.3)


def asked(n: int) -> list[ScoredPrompt]:
    return [ScoredPrompt(p, CHOICE.labels) for p in prompts(n)[0]]


def trained(base: Base, count: int = 120) -> Adapter:
    reads = base.read(asked(32))
    return base.train([r.only(i % 2) for i, r in enumerate(reads)], count)


def test_split_layers_say_what_the_whole_model_says(base: Base, folder: Path) -> None:
    assert (base.first, len(base.targets)) == (2, 7)
    writing = folder_writing(folder)
    whole = model_of(load_causal(folder), CHOICE, settings_of(folder, CHOICE, writing), writing)
    total, mean = base.ask(None, base.read(asked(9)))
    wanted = whole.score(prompts(9)[0], CHOICE.labels)
    assert total == pytest.approx(wanted, abs=0.02)  # states are kept in half precision
    lengths = [len(whole.format.completion(c)) for c in CHOICE.labels]
    assert mean == pytest.approx(wanted / lengths, abs=0.02)


def test_one_completion_of_several_is_the_prompt_with_it_alone(base: Base) -> None:
    several, alone = base.read(asked(3)), base.read([ScoredPrompt(a.prompt, (CHOICE.labels[2],)) for a in asked(3)])
    for one, other in zip([r.only(2) for r in several], alone, strict=True):
        assert np.array_equal(one.laid, other.laid)
        assert np.allclose(one.states, other.states, atol=2e-2)


def test_training_teaches_and_repeats(base: Base) -> None:
    adapter = trained(base)
    assert np.array_equal(adapter.flat, trained(base).flat)
    reads, right = base.read(asked(32)), np.arange(32) % 2
    before, after = (base.ask(a, reads)[0] for a in (None, adapter))
    assert (after.argmax(1) == right).mean() > max(0.7, (before.argmax(1) == right).mean())
    assert (after - before)[np.arange(32), right].mean() > 3  # nats


def test_an_adapter_is_one_that_peft_loads(base: Base, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LEARNDOCK_BASES", str(folder.parent.parent))
    adapter = trained(base)
    base.save(adapter, tmp_path / "adapter", "lab/three")
    bound = {"base": {"name": "lab/three", "sha256": None}}
    monkeypatch.setattr("learndock.package.formats.peft.base_folder", lambda _: folder)
    (model,) = stand_on([(tmp_path / "adapter", CHOICE, bound)])
    assert model.score(prompts(9)[0], CHOICE.labels) == pytest.approx(
        base.ask(adapter, base.read(asked(9)))[0], abs=0.03
    )
    assert base.generate(adapter, prompts(6)[0], 5) == list(model.generate(prompts(6)[0], max_tokens=5))
    assert torch.is_grad_enabled()


def test_worked_answers_lose_the_calculators_notes() -> None:
    assert (
        worked("She has 2*3=<<2*3=6>>6 eggs.\nSold $<<6/2=3>>3.\n#### 3")
        == "She has 2*3=6 eggs. Sold $3. The answer is 3."
    )


# --- a whole run ----------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """As many rows as a run takes, of the shape of the real ones."""
    generator = np.random.default_rng(0)
    about = {
        "financial_headlines": ["negative", "positive"], "medical_abstracts": ["heart", "blood"],
        "trec": ["who", "where"], "tweet_emotion": ["joy", "anger"], "subj": ["said", "seen"],
    }  # fmt: skip
    rows: dict[str, list[dict[str, Any]]] = {}
    for part in ("train", "test"):
        texts = [p.text for p in prompts(60, 1 + (part == "test"))[0]]
        for name, labels in about.items():
            rows[f"text/{name}.{part}"] = [
                {"text": t + " 7" * int(generator.integers(2)), "label": labels["rain" in t]} for t in texts
            ]
        rows[f"llm/pubmedqa.{part}"] = [
            {"question": f"{t}?", "long_answer": t, "answer": ("yes", "no", "maybe")[i % 3]}
            for i, t in enumerate(texts)
        ]
        rows[f"llm/gsm8k.{part}"] = [
            {"question": f"{t} {i}?", "answer": f"{'$' * (i % 2)}{i} = " + "<<1>>" * (1 + i % 4) + f"{i}.\n#### {i}"}
            for i, t in enumerate(texts)
        ]
    for name, found in rows.items():
        path = tmp_path / "data" / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt", encoding="utf-8") as stream:
            stream.writelines(json.dumps(r) + "\n" for r in found)
    (tmp_path / "data" / "text" / "tasks.json").write_text(json.dumps({n: {"labels": x} for n, x in about.items()}))
    return tmp_path / "data"


@pytest.mark.slow
def test_a_run_writes_what_it_found_and_goes_on_where_it_stopped(
    data: Path, tiny_causal_space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learndock.bench.run.get_space", lambda _: tiny_causal_space)
    said: list[str] = []
    monkeypatch.setattr(
        "learndock.bench.llm_tasks.llm_tasks",
        lambda data, size: [t for t in llm_tasks(data, size) if t.name in ("trec", "pubmedqa", "gsm8k")],
    )
    size = LEAST
    only = ["aligned", "fields", "alone", "similarities", "pairs", "nothing_fits"]
    found = bench_llm(data, tmp_path / "out", size=size, report=lambda what, *_: said.append(what), only=only)
    assert (found["learnwares"], found["tasks"]) == (6, ["trec", "pubmedqa", "gsm8k"])
    methods = found["experiments"]["aligned"]["methods"]
    assert {"one-pass", "oracle", "the base itself", "delta activations", "weights, naive", "weights, shared A"} <= set(
        methods
    )
    assert methods["oracle"]["gap_closed"] == 1.0
    assert methods["random"]["mean_score"] < methods["oracle"]["mean_score"]
    assert (tmp_path / "out" / "similarities.png").stat().st_size > 5000
    monkeypatch.setattr(Base, "train", lambda *_, **__: pytest.fail("trained again"))
    again = bench_llm(data, tmp_path / "out", size=size, report=lambda *_: None, only=["aligned"])
    # ScoredPrompt anew, and what was there of the same pool is there still
    assert set(again["experiments"]) == set(only)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["experiments"].keys() == set(only)
    report = (tmp_path / "out" / "report.md").read_text()
    assert [report.count(f"(`{n}`)") for n in only] == [1] * len(only)
    (tmp_path / "out" / "results.json").write_text('{"experiments": 3}')
    ours_alone = bench_llm(data, tmp_path / "out", size=size, report=lambda *_: None, only=["pairs"])
    assert set(ours_alone["experiments"]) == {"pairs"}
    ours, theirs = (r["experiments"]["aligned"]["methods"]["one-pass"]["mean_score"] for r in (again, found))
    assert ours == theirs


def test_nobody_shares_an_example(data: Path) -> None:
    for task in llm_tasks(data, LEAST):
        user, fit, spec = (set(p.inputs) for p in (task.user, task.fit, task.spec))
        assert not (user & fit or user & spec or fit & spec) or task.base != "gsm8k"
        assert task.schema.classes == 0 or len(task.draw(3, 0)) == 3 * task.schema.classes


def test_what_a_run_needs(data: Path, tiny_space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "llm" / "pubmedqa.test.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"pubmedqa\.test"):
        llm_tasks(data, LEAST)
    with pytest.raises(DataError, match="holds the folders text and llm"):
        llm_tasks(tmp_path, LEAST)
    monkeypatch.setattr("learndock.bench.run.get_space", lambda _: tiny_space)
    with pytest.raises(UsageError, match="one of prompts"):
        bench_llm(data, tmp_path / "out", size=LEAST, report=lambda *_: None)


def test_a_user_without_classes_gives_twice_the_shots(data: Path, tiny_causal_space: Space) -> None:
    task = next(t for t in llm_tasks(data, LEAST) if t.name == "gsm8k")
    assert len(task.draw(3, 0)) == 6
    reads = llm.read(Base(tiny_causal_space), Cache(data / "cache"), llm.asked_of(task, task.spec))
    assert len(reads) == len(task.spec)
