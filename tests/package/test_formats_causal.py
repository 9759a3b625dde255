"""Learnwares that write: whole models, adapters, GGUF; the journey through a dock, and what cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from learndock.data import Examples, Schema
from learndock.data.prompts import Prompt
from learndock.dock import identify, open_dock
from learndock.errors import ModelError, UnsafeModel, UsageError
from learndock.files import sha256_file
from learndock.package import open_learnware, pack
from learndock.package.formats.causal import CausalFormat
from learndock.package.formats.causal_peft import CausalPeftFormat
from learndock.package.formats.gguf import GgufFormat
from learndock.package.formats.registry import detect
from learndock.package.safety import check_files
from learndock.reuse import (
    evaluate,
    generate,
    load_generative_model,
    load_generative_models,
    merge_adapters,
    predict,
    write_predictions,
)
from learndock.spaces import Space
from learndock.spec import make_spec
from tests.support.causal import prompts, write_causal, write_causal_adapter, write_gguf

FREE = Schema("generation", (), (), "token_f1")
CHOICE = Schema("classification", ("sun", "goal"), ("sun", "goal"), "accuracy")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("writers")
    base = write_causal(place / "bases" / "lab" / "tiny", seed=5)
    for number in (1, 2):
        write_causal_adapter(place / f"adapter{number}", base, seed=number)
    return place


@pytest.fixture
def bases(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEARNDOCK_BASES", str(made / "bases"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return made / "bases"


@pytest.fixture
def folder(made: Path, bases: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "adapter1", tmp_path / "adapter"))


@pytest.fixture
def whole(bases: Path, tmp_path: Path) -> Path:
    found = Path(shutil.copytree(bases / "lab" / "tiny", tmp_path / "whole"))
    (found / "generation_config.json").unlink(missing_ok=True)
    return found


def change(folder: Path, edit: Any) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, **settings: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def bound(folder: Path, schema: Schema = FREE) -> dict[str, Any]:
    found = CausalPeftFormat()
    return {**found.check(folder, schema), "base": found.bind(folder, "lab/tiny").model_dump()}


def libraries_answer(network: Any, model: Any, prompt: Prompt, count: int) -> str:
    ids = torch.tensor([model.format.prompt(prompt)])
    with torch.inference_mode():
        found = network.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0
        )
    return str(model.format.tokenizer.decode(found[0, ids.shape[1] :].tolist())).strip()


# --- what a model answers ------------------------------------------------------------------------------------


def test_a_whole_model_writes_what_the_library_writes(whole: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert detect(whole).name == "causal"
    settings = CausalFormat().check(whole, FREE)
    assert settings["answers"] == "greedy"
    assert settings["prompt"]["format"] == "chatml"
    model = CausalFormat().load(whole, FREE, settings)
    network = AutoModelForCausalLM.from_pretrained(whole).eval()
    # Two batches, padded on the left
    asked = [*prompts(8)[0], Prompt.of("rain"), Prompt.of("the doctor and the nurse " * 4), Prompt.of("goal " * 9)]
    seen: list[tuple[int, int]] = []
    written = model.generate(asked, max_tokens=12, progress=lambda *at: seen.append(at))  # type: ignore[attr-defined]
    for prompt, text in zip(asked, written, strict=True):
        assert text == libraries_answer(network, model, prompt, 12)
    assert seen == [(8, 11), (11, 11)]


def test_an_adapter_that_names_its_base_needs_no_other(folder: Path, bases: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "lab/tiny"}))
    found = CausalPeftFormat().bind(folder, None)
    assert (found.name, found.sha256) == ("lab/tiny", sha256_file(bases / "lab" / "tiny" / "model.safetensors"))


def test_options_are_scored_as_the_library_scores_them(whole: Path) -> None:
    from transformers import AutoModelForCausalLM

    settings = CausalFormat().check(whole, CHOICE)
    assert settings["answers"] == "options"
    model: Any = CausalFormat().load(whole, CHOICE, settings)
    network = AutoModelForCausalLM.from_pretrained(whole).eval()
    asked, _ = prompts(4)
    found = model.predict(asked)
    np.testing.assert_allclose(found.sum(1), 1)
    for prompt, row in zip(asked, found, strict=True):
        start = model.format.prompt(prompt)
        scores = []
        for label in CHOICE.labels:
            ids = model.format.completion(label)
            with torch.inference_mode():
                known = network(torch.tensor([start + ids])).logits[0].double().log_softmax(-1)
            scores.append(sum(float(known[len(start) - 1 + i, t]) for i, t in enumerate(ids)))
        expected = np.exp(np.array(scores) - np.logaddexp.reduce(scores))
        np.testing.assert_allclose(row, expected, atol=1e-4)


def test_a_gguf_file_is_the_same_model(whole: Path, tmp_path: Path) -> None:
    place = tmp_path / "gguf"
    place.mkdir()
    write_gguf(whole, place / "model.gguf")
    assert detect(place).name == "gguf"
    check_files(place)
    model = GgufFormat().load(place, CHOICE, GgufFormat().check(place, CHOICE))
    other = CausalFormat().load(whole, CHOICE, CausalFormat().check(whole, CHOICE))
    asked, _ = prompts(5)
    np.testing.assert_allclose(model.predict(asked), other.predict(asked), atol=1e-5)


def test_an_adapter_writes_what_the_library_writes(folder: Path, bases: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    assert detect(folder).name == "causal-peft"
    model = CausalPeftFormat().load(folder, FREE, bound(folder))
    network = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases / "lab" / "tiny"), folder).eval()
    prompt = Prompt.of("cold rain")
    assert model.predict([prompt])[0] == libraries_answer(network, model, prompt, 128)


def test_adapters_share_a_base_that_is_loaded_once(
    made: Path, bases: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learndock.package.formats import _causal, causal_peft

    second = Path(shutil.copytree(made / "adapter2", tmp_path / "second"))
    alone = [CausalPeftFormat().load(f, CHOICE, bound(f, CHOICE)).predict(prompts(4)[0]) for f in (folder, second)]
    loaded = []
    load = _causal.load_causal

    def counted(base: Path) -> Any:
        loaded.append(base)
        return load(base)

    monkeypatch.setattr(_causal, "load_causal", counted)
    models = causal_peft.stand_on([(f, CHOICE, bound(f, CHOICE)) for f in (folder, second)])
    for _ in range(2):  # there and back
        for model, expected in zip(models, alone, strict=True):
            np.testing.assert_allclose(model.predict(prompts(4)[0]), expected, atol=1e-6)
    assert len(loaded) == 1
    assert np.abs(alone[0] - alone[1]).max() > 0.01


def test_pieces_of_an_answer_come_as_they_are_written(whole: Path) -> None:
    model: Any = CausalFormat().load(whole, FREE, CausalFormat().check(whole, FREE))
    pieces = list(model.stream(Prompt.of("cold day"), max_tokens=10))
    assert len(pieces) > 1
    assert "".join(pieces).strip() == model.generate([Prompt.of("cold day")], max_tokens=10)[0]


def test_a_prompt_longer_than_the_context_loses_its_beginning(whole: Path) -> None:
    config = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    model: Any = CausalFormat().load(whole, FREE, CausalFormat().check(whole, FREE))
    ids, cut = model.prompt(Prompt.of("bank loan " * 80 + "goal"), 16)
    assert len(ids) == 48
    assert cut > 50
    assert ids == model.format.prompt(Prompt.of("bank loan " * 80 + "goal"))[-48:]


# --- the journey ---------------------------------------------------------------------------------------------


def test_from_pack_to_reuse(tiny_causal_space: Space, folder: Path, made: Path, tmp_path: Path) -> None:
    asked, about = prompts(24)
    dock = open_dock(tmp_path / "dock")
    learnwares = {}
    for name, source in (("ann/one", folder), ("bob/two", shutil.copytree(made / "adapter2", tmp_path / "b"))):
        out = tmp_path / name.replace("/", "-")
        manifest = pack(
            source, out, name=name, schema=CHOICE, examples=Examples(asked), space=tiny_causal_space, base="lab/tiny"
        ).manifest
        assert manifest.format == "causal-peft"
        assert manifest.settings["answers"] == "options"
        assert manifest.base is not None
        assert manifest.base.name == "lab/tiny"
        dock.add(out)
        learnwares[name] = open_learnware(out)
    # A user whose answers are those of the second model on other prompts
    others, _ = prompts(32, 9)
    answers = predict(learnwares["bob/two"], others)
    wanted = (answers[:, 0] < np.median(answers[:, 0])).astype(np.int64)
    task = make_spec(Examples(others, wanted, CHOICE), space=tiny_causal_space)
    assert identify(dock, task).matches[0].name == "bob/two"
    folder = dock.get("bob/two", tmp_path / "got")
    got = open_learnware(folder)
    found = evaluate(got, Examples(others, wanted, CHOICE), CHOICE)
    assert found.score == pytest.approx(float((answers.argmax(1) == wanted).mean()))
    models = load_generative_models(learnwares)
    np.testing.assert_allclose(models["bob/two"].predict(others), answers, atol=1e-6)
    assert "".join(generate(models["ann/one"], "cold rain", max_tokens=8))
    assert about


def test_free_text_is_packed_greedily_and_evaluated(tiny_causal_space: Space, whole: Path, tmp_path: Path) -> None:
    asked, _ = prompts(5)
    manifest = pack(
        whole, tmp_path / "out", name="ann/w", schema=FREE, examples=Examples(asked), space=tiny_causal_space
    ).manifest
    assert manifest.settings["answers"] == "greedy"
    assert 'learndock generate ann/w "..."' in (tmp_path / "out" / "README.md").read_text()
    learnware = open_learnware(tmp_path / "out")
    texts = predict(learnware, asked)
    assert evaluate(learnware, Examples(asked, texts, FREE), FREE).score == 1.0
    write_predictions(tmp_path / "p.jsonl", learnware, asked, texts)
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert rows[2] == {"row": 3, "prediction": texts[2]}


def test_merged_adapters_add_up(made: Path, bases: Path, tmp_path: Path, tiny_causal_space: Space) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    asked, _ = prompts(8)
    learnwares = {}
    for number in (1, 2):
        source, out = shutil.copytree(made / f"adapter{number}", tmp_path / f"a{number}"), tmp_path / f"l{number}"
        pack(
            source,
            out,
            name=f"x/a{number}",
            schema=CHOICE,
            examples=Examples(asked),
            space=tiny_causal_space,
            base="lab/tiny",
        )
        learnwares[f"x/a{number}"] = open_learnware(out)
    folder = merge_adapters(learnwares, tmp_path / "merged", weights=[0.75, 0.25])
    assert CausalPeftFormat().check(folder, CHOICE)
    deltas = []
    for adapter in (made / "adapter1", made / "adapter2", folder):
        tensors = load_file(adapter / "adapter_model.safetensors")
        config = json.loads((adapter / "adapter_config.json").read_text())
        name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
        deltas.append(tensors[name.format("B")] @ tensors[name.format("A")] * config["lora_alpha"] / config["r"])
    np.testing.assert_allclose(deltas[2], 0.75 * deltas[0] + 0.25 * deltas[1], atol=1e-6)
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases / "lab" / "tiny"), folder)
    with pytest.raises(UsageError, match="exists"):
        merge_adapters(learnwares, folder)
    with pytest.raises(UsageError, match="2 adapters need as many finite weights"):
        merge_adapters(learnwares, tmp_path / "m", weights=[1.0, float("nan")])


# --- what cannot be used -------------------------------------------------------------------------------------


def test_the_wrong_base(folder: Path, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = bound(folder)
    other = write_causal(tmp_path / "others" / "lab" / "tiny", seed=6)
    monkeypatch.setenv("LEARNDOCK_BASES", str(tmp_path / "others"))
    with pytest.raises(ModelError, match="not the base that the adapter was trained on") as caught:
        CausalPeftFormat().load(folder, FREE, settings)
    assert sha256_file(other / "model.safetensors") in str(caught.value)


def test_a_base_of_another_size(folder: Path, tmp_path: Path) -> None:
    def widen(tensors: dict[str, Any]) -> None:
        name = next(n for n in tensors if "lora_A" in n)
        tensors[name] = np.ones((2, 64), np.float32)

    change(folder, widen)
    with pytest.raises(ModelError, match=r"has 64 where the base lab/tiny has 48; .* trained on another"):
        bound(folder)
    change(folder, lambda t: t.update({k.replace("layers.0", "layers.7"): t.pop(k) for k in list(t)}))
    with pytest.raises(ModelError, match=r"layers\.7.* which the base lab/tiny does not have"):
        bound(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t[min(t)].__setitem__((0, 0), np.inf), "values that are not finite"),
        (lambda t: [t[n].fill(0) for n in t if "lora_B" in n], "the adapter changes nothing"),
        (lambda t: t.update({"base_model.model.lm_head.weight": np.ones((4, 4), np.float32)}), "beside lora_A"),
        (lambda t: t.update({min(t): np.ones((3, 48), np.float32)}), r"has rank 3, adapter_config\.json says 2"),
    ],
)
def test_adapters_that_are_broken(folder: Path, edit: Any, message: str) -> None:
    change(folder, edit)
    with pytest.raises(ModelError, match=message):
        CausalPeftFormat().check(folder, FREE)


def test_whole_layers_beside_an_adapter(folder: Path) -> None:
    configure(folder, modules_to_save=["lm_head"])
    with pytest.raises(ModelError, match=r"modules_to_save names .*merge and pack the whole model"):
        CausalPeftFormat().check(folder, FREE)


def test_nothing_is_made_where_packing_fails(folder: Path, tmp_path: Path, tiny_causal_space: Space) -> None:
    change(folder, lambda t: t[min(t)].__setitem__((0, 0), np.nan))
    asked, _ = prompts(4)
    with pytest.raises(ModelError, match="not finite"):
        pack(
            folder,
            tmp_path / "out",
            name="a/b",
            schema=FREE,
            examples=Examples(asked),
            space=tiny_causal_space,
            base="lab/tiny",
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter"]


def test_a_gguf_that_is_cut_off_is_not_packed(whole: Path, tmp_path: Path, tiny_causal_space: Space) -> None:
    place = tmp_path / "gguf"
    place.mkdir()
    data = write_gguf(whole, tmp_path / "m.gguf").read_bytes()
    (place / "m.gguf").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ModelError, match=r"m\.gguf: cut off"):
        pack(
            place, tmp_path / "out", name="a/b", schema=FREE, examples=Examples(prompts(4)[0]), space=tiny_causal_space
        )
    assert not (tmp_path / "out").exists()


def test_chat_templates_are_refused_and_pickles_too(whole: Path) -> None:
    (whole / "chat_template.jinja").write_text("{{ x }}")
    with pytest.raises(UnsafeModel, match="never rendered"):
        check_files(whole)
    (whole / "chat_template.jinja").unlink()
    (whole / "x.gguf").write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(UnsafeModel, match="not GGUF but a zip archive"):
        check_files(whole)


def test_a_model_that_says_nothing(whole: Path, tmp_path: Path, tiny_causal_space: Space) -> None:
    """All states end in the token that ends a turn."""
    tensors = load_file(whole / "model.safetensors")
    tensors["model.norm.weight"][:] = 0
    tensors["model.norm.weight"][0] = 1
    tensors["model.embed_tokens.weight"][:, 0] = 0
    tensors["model.embed_tokens.weight"][2, 0] = 9
    for name in tensors:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensors[name][:] = 0
    tensors["model.embed_tokens.weight"][:, 0] += 1
    save_file(tensors, whole / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="the model wrote nothing for prompt 1"):
        pack(whole, tmp_path / "o", name="a/b", schema=FREE, examples=Examples(prompts(4)[0]), space=tiny_causal_space)
    assert not (tmp_path / "o").exists()


def test_prompt_formats_are_chosen_by_a_file(whole: Path) -> None:
    (whole / "prompt.json").write_text('{"format": "plain"}')
    assert CausalFormat().check(whole, FREE)["prompt"]["format"] == "plain"
    (whole / "prompt.json").write_text('{"format": "{{ jinja }}"}')
    with pytest.raises(ModelError, match=r"prompt\.json: must be"):
        CausalFormat().check(whole, FREE)


def test_a_classifier_does_not_write(tmp_path: Path) -> None:
    from learndock.package.learnware import Learnware
    from learndock.package.manifest import Manifest
    from tests.support import models

    models.write_bert(tmp_path / "m")
    manifest = Manifest(name="a/b", format="transformers", task=models.SENTIMENT.to_dict(), files=())
    with pytest.raises(UsageError, match="does not generate text; use `learndock predict`"):
        load_generative_model(Learnware(tmp_path / "m", manifest))
