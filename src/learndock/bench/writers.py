"""Language models for the bench: one base, LoRA adapters on its last layers, and what each makes of prompts.

All adapters share the layers under them, so the states that these give an example are computed once and kept; to
train an adapter, or to ask it, then costs the last layers alone. What comes out is an ordinary LoRA adapter (Hu et al.
2022): ``Adapter.save`` writes the folder that PEFT loads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from learndock.bench.cache import Arrays
from learndock.data.prompts import ScoredPrompt
from learndock.errors import ModelError
from learndock.spaces.authoring.packed import Layout, laid_out
from learndock.spaces.authoring.torch_helper import adapted
from learndock.spaces.helper import Progress
from learndock.spaces.prompts import Integers
from learndock.spaces.space import Space
from learndock.spec.paper import PaperSettings, steps

if TYPE_CHECKING:
    import torch

#: States of an example's tokens, ``(tokens, width)`` in half precision.
States = NDArray[np.float16]
RANK = 8
#: The share of layers, counted from the last, that carry adapters.
UPPER = 0.2
LEARNING_RATE, WARM_UP, BATCH = 1e-3, 0.1, 8
#: Examples that are read together.
READ = 16
#: Prompts of no task, for Delta Activations.
PROBES = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "Please provide a response.",
    "Answer the following question.",
    "Complete the task described above.",
    "Here is the input. What is the output?",
)


@dataclass(frozen=True, eq=False)
class Adapter:
    """Matrices of ``targets``, in their order: A ``(rank, in)`` and B ``(out, rank)``, scale one."""

    A: list[NDArray[np.float32]]
    B: list[NDArray[np.float32]]

    @property
    def flat(self) -> NDArray[np.float32]:
        """All numbers in one row."""
        return np.concatenate([m.ravel() for pair in zip(self.A, self.B, strict=True) for m in pair])

    def arrays(self) -> Arrays:
        """For a cache."""
        return {f"{part}{i}": m for part, all_ in (("A", self.A), ("B", self.B)) for i, m in enumerate(all_)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Adapter:
        """What ``arrays`` gave."""
        count = sum(n.startswith("A") for n in arrays)
        return cls([arrays[f"A{i}"] for i in range(count)], [arrays[f"B{i}"] for i in range(count)])


@dataclass(frozen=True, eq=False)
class Read:
    """An example as the frozen layers left it: tokens laid out ``(tokens, 4)`` (see ``prompts``) and their states."""

    laid: Integers
    states: States

    def only(self, choice: int) -> Read:
        """The prompt with one of its completions."""
        kept = (self.laid[:, 1] == 0) | (self.laid[:, 1] == choice + 1)
        places = np.cumsum(kept) - 1
        laid = self.laid[kept].copy()
        scored = laid[:, 3] >= 0
        laid[scored, 3] = places[laid[scored, 3]]
        laid[:, 1] = (laid[:, 1] > 0).astype(np.int64)
        return Read(laid, self.states[kept])


class Base:
    """The helper of a space of prompts, as the base of adapters."""

    def __init__(self, space: Space, upper: float = UPPER) -> None:
        import torch

        from learndock.spaces.authoring.causal_helper import space_causal_helper

        self.space = space
        self.helper = space_causal_helper(space)
        self.body = self.helper.model.model
        self.layers = self.body.layers
        self.first = len(self.layers) - max(round(upper * len(self.layers)), 1)
        self.targets = [
            (name, module)
            for name, module in self.helper.model.named_modules()
            if isinstance(module, torch.nn.Linear) and self._number(name) >= self.first
        ]

    @staticmethod
    def _number(name: str) -> int:
        return next((int(part) for part in name.split(".") if part.isdigit()), -1)

    def start(self, seed: int = 0) -> Adapter:
        """An adapter that changes nothing: A as PEFT draws it (uniform, Kaiming), B zero."""
        generator = np.random.Generator(np.random.Philox(key=[seed, 81]))
        A, B = [], []
        for _, layer in self.targets:
            bound = 1 / layer.in_features**0.5
            A.append(generator.uniform(-bound, bound, (RANK, layer.in_features)).astype(np.float32))
            B.append(np.zeros((layer.out_features, RANK), np.float32))
        return Adapter(A, B)

    def read(self, inputs: Sequence[ScoredPrompt], progress: Progress | None = None) -> list[Read]:
        """Run the frozen layers over examples."""
        import torch

        encoder = self.helper.encoder
        laid = encoder(inputs)
        found: list[Read | None] = [None] * len(laid)
        order = sorted(range(len(laid)), key=lambda i: len(laid[i]))
        for start in range(0, len(order), READ):
            some = order[start : start + READ]
            arrays = encoder.pad_batch([laid[i] for i in some])
            ids, positions = torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays["positions"])
            with torch.inference_mode(), self._only(self.layers[: self.first]), laid_out(_layout(arrays)):
                with self._leaving() as kept:
                    self.body(input_ids=ids[None], attention_mask=None, position_ids=positions[None], use_cache=False)
                states = kept[0].squeeze(0)
            at = 0
            for i in some:
                found[i] = Read(laid[i], states[at : at + len(laid[i])].numpy().astype(np.float16))
                at += len(laid[i])
            if progress is not None:
                progress(min(start + READ, len(order)), len(order))
        return [f for f in found if f is not None]

    @contextmanager
    def _leaving(self) -> Iterator[list[torch.Tensor]]:
        """What leaves the last of the layers that run, before the norm that follows."""
        kept: list[torch.Tensor] = []
        handle = self.body.norm.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        try:
            yield kept
        finally:
            handle.remove()

    @contextmanager
    def _only(self, layers: Any) -> Iterator[None]:
        """Some of the layers in place of all."""
        self.body.layers = layers
        try:
            yield
        finally:
            self.body.layers = self.layers

    def _upper(
        self, batch: Sequence[Read], A: Sequence[torch.Tensor], B: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, NDArray[Any]]]:
        """Last states ``(tokens, width)`` after the last norm, and the batch as the encoder lays it out."""
        import torch

        arrays = self.helper.encoder.pad_batch([r.laid for r in batch])
        states = torch.from_numpy(np.concatenate([r.states for r in batch]).astype(np.float32))
        positions = torch.from_numpy(arrays["positions"])
        with self._only(self.layers[self.first :]), adapted(self.targets, A, B), laid_out(_layout(arrays)):
            last = self.body(
                inputs_embeds=states[None], attention_mask=None, position_ids=positions[None], use_cache=False
            ).last_hidden_state
        return last.squeeze(0), arrays

    def _scores(
        self, batch: Sequence[Read], A: Sequence[torch.Tensor], B: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, NDArray[Any]]]:
        """Log-probability of every scored token."""
        import torch

        last, arrays = self._upper(batch, A, B)
        scored = self.helper.scored(last, torch.from_numpy(arrays["at"]), torch.from_numpy(arrays["answers"]))
        return scored, arrays

    def train(self, data: Sequence[Read], count: int, *, seed: int = 0, start: int = 0) -> Adapter:
        """LoRA by AdamW, ``count`` steps of ``BATCH`` examples, each with one completion; loss on its tokens alone.

        ``start`` draws A; ``seed`` the order.

        Raises:
            ModelError: the weights left the finite numbers.
        """
        import torch

        first = self.start(start)
        A = [torch.from_numpy(m.copy()).requires_grad_() for m in first.A]
        B = [torch.from_numpy(m.copy()).requires_grad_() for m in first.B]
        optimiser = torch.optim.AdamW([*A, *B], lr=LEARNING_RATE, weight_decay=0.0)
        warm = max(int(WARM_UP * count), 1)
        settings = PaperSettings(steps=count, batch=BATCH)
        for step, rows in enumerate(steps([len(r.laid) for r in data], settings, seed)):
            for group in optimiser.param_groups:
                rise, fall = (step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / count))
                group["lr"] = LEARNING_RATE * min(rise, 1.0) * fall
            scored, arrays = self._scores([data[int(i)] for i in rows], A, B)
            loss = -(scored * torch.from_numpy(arrays["share"])).sum() / len(rows)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        found = Adapter([a.detach().numpy() for a in A], [b.detach().numpy() for b in B])
        if not np.isfinite(found.flat).all():
            raise ModelError("the training left the finite numbers", remedy="lower the learning rate")
        return found

    def ask(self, adapter: Adapter | None, data: Sequence[Read]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log-probability of each completion ``(n, most completions)``, summed over its tokens, and their mean.

        Where an example has fewer completions the rest is -inf.
        """
        import torch

        most = max(int(r.laid[:, 1].max()) for r in data)
        total, mean = np.full((len(data), most), -np.inf), np.full((len(data), most), -np.inf)
        A, B = self._tensors(adapter)
        order = sorted(range(len(data)), key=lambda i: len(data[i].laid))
        for start in range(0, len(order), READ):
            some = order[start : start + READ]
            with torch.inference_mode():
                scored, arrays = self._scores([data[i] for i in some], A, B)
            values = scored.numpy().astype(np.float64)
            sums, means = np.zeros((len(some), most)), np.zeros((len(some), most))
            np.add.at(sums, (arrays["rows"], arrays["choices"]), values)
            np.add.at(means, (arrays["rows"], arrays["choices"]), values * arrays["share"])
            for place, i in enumerate(some):
                there = int(data[i].laid[:, 1].max())
                total[i, :there], mean[i, :there] = sums[place, :there], means[place, :there]
        return total, mean

    def states_after(self, adapter: Adapter | None, data: Sequence[Read]) -> NDArray[np.float32]:
        """The last state of each prompt's last token, ``(n, width)``."""
        import torch

        A, B = self._tensors(adapter)
        with torch.inference_mode():
            last, arrays = self._upper(data, A, B)
        ends = np.cumsum(arrays["mask"].sum(1)) - 1
        return np.asarray(last.numpy()[ends], np.float32)

    def generate(self, adapter: Adapter | None, prompts: Sequence[Any], most: int) -> list[str]:
        """What is written after each prompt, the likeliest token each time, at most ``most`` tokens."""
        from learndock.package.formats.decoding import decode

        form, limit = self.helper.encoder.format, self.helper.encoder.prompt_tokens
        model = self.helper.model
        before = model.config._attn_implementation
        model.set_attn_implementation("sdpa")
        try:
            with adapted(self.targets, *self._tensors(adapter)):
                starts = [form.prompt(p)[-limit:] for p in prompts]
                found = decode(model, starts, {form.end}, limits=[most] * len(starts))
        finally:
            model.set_attn_implementation(before)
        return [form.tokenizer.decode(ids).strip() for ids in found]

    def _tensors(self, adapter: Adapter | None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        import torch

        found = adapter or self.start()
        return [torch.from_numpy(m) for m in found.A], [torch.from_numpy(m) for m in found.B]

    def save(self, adapter: Adapter, folder: Path, base: str) -> None:
        """The adapter as PEFT keeps it, for the base called ``base``."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": RANK,
            "lora_alpha": RANK, "lora_dropout": 0.0, "bias": "none", "inference_mode": True,
            "target_modules": sorted({n.rsplit(".", 1)[-1] for n, _ in self.targets}),
            "layers_to_transform": sorted({self._number(n) for n, _ in self.targets}),
        }  # fmt: skip
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        tensors = {}
        for (name, _), A, B in zip(self.targets, adapter.A, adapter.B, strict=True):
            tensors[f"base_model.model.{name}.lora_A.weight"] = np.ascontiguousarray(A)
            tensors[f"base_model.model.{name}.lora_B.weight"] = np.ascontiguousarray(B)
        save_file(tensors, folder / "adapter_model.safetensors")


def _layout(arrays: Mapping[str, NDArray[Any]]) -> Layout:
    import torch

    found = {n: torch.from_numpy(arrays[n]) for n in ("mask", "slots", "places", "segments")}
    return Layout(found["mask"].to(torch.float32), found["slots"], found["places"], found["segments"])
