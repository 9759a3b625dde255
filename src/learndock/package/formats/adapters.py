"""What a LoRA adapter adds to each layer of its base, as plain matrices: read from its files, and written to new ones.

No library is needed. Scales follow PEFT: alpha over the rank, or over its square root (rsLoRA, arXiv 2312.03732), with
ranks and alphas that may differ from layer to layer by patterns.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.errors import ModelError
from learndock.package.formats import peft
from learndock.package.formats._tensors import read_tensor
from learndock.package.formats.peft import CONFIG, LORA, WEIGHTS

Float = NDArray[np.float32]
TASK = "CAUSAL_LM"
#: Patterns that are followed: names, with no part that repeats, which may never end on a long name.
_NAME = re.compile(r"[A-Za-z0-9_.^\\]{1,200}")


@dataclass(frozen=True, eq=False)
class Update:
    """``B A`` is added to a layer: ``A`` is ``(rank, in)``, ``B`` is ``(out, rank)`` with the scale in it."""

    A: Float
    B: Float


def read_updates(folder: Path) -> dict[str, Update]:
    """What the adapter of a language model in ``folder`` adds, by the name of the layer in its base.

    Raises:
        ModelError: it changes its base in another way than by adding ``B A``; names the setting.
    """
    config = peft.read_config(folder, TASK)
    for key, off in (("use_dora", False), ("lora_bias", False), ("bias", "none"), ("modules_to_save", None)):
        if config.get(key) not in (off, None, []):
            raise ModelError(
                f"{key} is {config[key]}: this adapter does more than add two matrices, so that a weighted "
                "sum is not defined",
                remedy="merge adapters of plain LoRA or rsLoRA",
                about=CONFIG,
            )
    header = peft.read_header(folder)
    found: dict[str, dict[str, Float]] = {}
    for name, entry in header.tensors.items():
        match = LORA.fullmatch(name)
        if match is None:
            raise ModelError(
                f"has {name} beside lora_A and lora_B", remedy="merge adapters of plain LoRA", about=WEIGHTS
            )
        values = np.asarray(read_tensor(folder / WEIGHTS, entry, name=name), np.float32)
        found.setdefault(match["module"], {})[match["part"]] = values
    peft.check_ranks(config, header)
    return {
        module: Update(parts["A"], np.float32(_scale(config, module, len(parts["A"]))) * parts["B"])
        for module, parts in found.items()
    }


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = float(_by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", 8)))
    said = _by_pattern(config.get("rank_pattern"), module, config["r"])
    if said != rank:
        raise ModelError(
            f"{module} has rank {rank}, {CONFIG} says {said}", remedy="they do not belong together", about=WEIGHTS
        )
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that the end of a layer's name matches, as PEFT finds it."""
    for pattern, value in (patterns or {}).items():
        if _NAME.fullmatch(pattern) is None:
            raise ModelError(
                f"the pattern {pattern[:80]!r} is not the end of a layer's name",
                remedy="write the name out",
                about=CONFIG,
            )
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def write_updates(folder: Path, updates: Mapping[str, Update], *, base: str) -> None:
    """Write updates as an adapter of the base called ``base``, as PEFT keeps it; each has the scale one.

    Raises:
        ModelError: there is nothing to write.
    """
    from safetensors.numpy import save_file

    ranks = {module: len(update.A) for module, update in updates.items()}
    if not ranks:
        raise ModelError("nothing is left to merge: no layer has an adapter with a weight that is not zero")
    usual = Counter(ranks.values()).most_common(1)[0][0]
    other = {re.escape(module): rank for module, rank in ranks.items() if rank != usual}
    config = {
        "peft_type": "LORA",
        "task_type": TASK,
        "base_model_name_or_path": base,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": other,
        "alpha_pattern": other,
        "target_modules": sorted(ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    tensors = {}
    for module, update in updates.items():
        for part, values in (("A", update.A), ("B", update.B)):
            tensors[f"base_model.model.{module}.lora_{part}.weight"] = np.ascontiguousarray(values, np.float32)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
