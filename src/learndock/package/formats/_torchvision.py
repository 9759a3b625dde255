"""torchvision, which timm imports, beside a torch of another build.

The torchvision of the package index is compiled for the torch of the same index. Beside another build, torch for
processors alone above all, its compiled part does not load; then its Python part fails while it is imported
("operator torchvision::nms does not exist"), and with it timm, and transformers too. Neither needs the compiled
part for what is done here. The missing operators are therefore declared without an implementation; torch says so to
a program that calls one.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_MISSING = re.compile(r"operator torchvision::\w+ does not exist")
#: Where torchvision says how its operators behave on tensors without numbers: they must exist by then.
_TOLD = re.compile(r"""register_fake\(["']torchvision::(\w+)["']\)""")
#: Declarations last as long as what made them.
_kept: list[Any] = []


def mend_torchvision() -> None:
    """Make torchvision importable where only its compiled part is in the way; a working one is left alone."""
    if "torchvision" in sys.modules or find_spec("torchvision") is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on parts that did not load, for reading images from files
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if _MISSING.search(str(error)) is None:
                raise
            _declare_operators()
            importlib.import_module("torchvision")


def _declare_operators() -> None:
    import torch

    found = find_spec("torchvision")
    assert found is not None
    assert found.origin is not None
    source = Path(found.origin).with_name("_meta_registrations.py").read_text("utf-8")
    made: Any = torch.library.Library  # without types
    library = made("torchvision", "DEF")
    for name in sorted(set(_TOLD.findall(source))):
        library.define(f"{name}(Tensor boxes) -> Tensor")
    _kept.append(library)
