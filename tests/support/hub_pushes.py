"""Push to new names, and load from them, with the libraries that build on the hub's client: PYTHON hub_pushes.py JSON.

Prints one line of JSON: what -> "works", "not installed" or what went wrong.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def transformers_model(owner: str, work: Path) -> None:
    """Push a model, its tokenizer and a card into new names; a pipeline finds its task."""
    from huggingface_hub import HfApi, ModelCard, ModelCardData
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    from tests.support.models import write_bert

    folder = write_bert(work / "bert")
    repo = f"{owner}/pushed"
    AutoModelForSequenceClassification.from_pretrained(folder).push_to_hub(repo)
    AutoTokenizer.from_pretrained(folder).push_to_hub(f"{owner}/pushed-tokenizer")
    AutoTokenizer.from_pretrained(folder).push_to_hub(repo)
    data = ModelCardData(license="mit", tags=["films"], library_name="transformers")
    ModelCard.from_template(data, model_id=repo, template_str="---\n{{ card_data }}\n---\n# x\n").push_to_hub(repo)
    ModelCard("---\nlicense: mit\n---\n# x").push_to_hub(f"{owner}/pushed")
    info = HfApi().model_info(repo)
    assert (info.pipeline_tag, info.library_name) == ("text-classification", "transformers"), info
    here = pipeline("text-classification", model=str(folder))("the film was good")
    there = pipeline(model=repo)("the film was good")
    assert here == there, (here, there)
    pinned = AutoModelForSequenceClassification.from_pretrained(repo, revision=info.sha)
    assert pinned.config.architectures == ["BertForSequenceClassification"]


def peft_adapter(owner: str, work: Path) -> None:
    """Push an adapter; it is found by its base."""
    from huggingface_hub import HfApi
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForSequenceClassification

    base = f"{owner}/pushed"
    model = AutoModelForSequenceClassification.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    adapted.push_to_hub(f"{owner}/adapted")
    assert [m.id for m in HfApi().list_models(filter=f"base_model:adapter:{base}")] == [f"{owner}/adapted"]
    PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base), f"{owner}/adapted")


def mixin(owner: str, work: Path) -> None:
    """Push and load a plain torch module."""
    import torch
    from huggingface_hub import PyTorchModelHubMixin

    class Small(torch.nn.Module, PyTorchModelHubMixin):
        def __init__(self, width: int = 3) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(width, 2)

    first = Small(width=4)
    first.push_to_hub(f"{owner}/mixin")
    again = Small.from_pretrained(f"{owner}/mixin")
    assert torch.equal(first.layer.weight, again.layer.weight)


def trainer(owner: str, work: Path) -> None:
    """Push from a trainer; the state of the run is left out."""
    import torch
    from huggingface_hub import HfApi
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    folder = work / "bert"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = dict(tokenizer("the film was good"))
    rows: Any = [{**text, "labels": i % 2} for i in range(4)]
    arguments = TrainingArguments(
        output_dir=str(work / "trained"), push_to_hub=True, hub_model_id=f"{owner}/trained", max_steps=2, save_steps=1,
        report_to=[], use_cpu=True, per_device_train_batch_size=2, hub_strategy="all_checkpoints",
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.manual_seed(0)
    run = Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
    run.train()
    run.push_to_hub(commit_message="done")
    files = set(HfApi().list_repo_files(f"{owner}/trained"))
    assert {"model.safetensors", "README.md", "config.json"} <= files, files
    assert not [f for f in files if f.endswith((".bin", ".pt", ".pth"))], files
    AutoModelForSequenceClassification.from_pretrained(f"{owner}/trained")


def sentence_transformer(owner: str, work: Path) -> None:
    """Push and load a sentence transformer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    body = Transformer(str(work / "bert"))
    model = SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension())], device="cpu")
    model.push_to_hub(f"{owner}/sentences")
    again = SentenceTransformer(f"{owner}/sentences", device="cpu")
    assert (model.encode("a film") == again.encode("a film")).all()


#: What -> the packages that it needs, and what does it.
PUSHES: dict[str, tuple[tuple[str, ...], Callable[[str, Path], None]]] = {
    "transformers: model, tokenizer, card; pipeline(model=...)": (("transformers", "torch"), transformers_model),
    "PEFT: push_to_hub, adapters of a base": (("peft",), peft_adapter),
    "PyTorchModelHubMixin": (("torch",), mixin),
    "Trainer.push_to_hub with checkpoints": (("transformers", "accelerate"), trainer),
    "sentence-transformers: push_to_hub": (("sentence_transformers",), sentence_transformer),
}


def main() -> None:
    """Run all of them, in order: later ones use what earlier ones pushed."""
    asked = json.loads(sys.argv[1])
    found = {}
    for what, (needed, push) in PUSHES.items():
        if any(importlib.util.find_spec(name) is None for name in needed):
            found[what] = "not installed"
            continue
        try:
            push(asked["owner"], Path(asked["work"]))
            found[what] = "works"
        except Exception:
            found[what] = traceback.format_exc()[-1500:]
    print(json.dumps(found))  # noqa: T201 - it is what the test reads


if __name__ == "__main__":
    main()
