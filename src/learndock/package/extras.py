"""The door to the optional libraries: a missing one is answered with the command that installs it."""

from __future__ import annotations

import importlib
from typing import Any

from learndock.errors import MissingExtra


def need(module: str, *, extra: str, why: str) -> Any:
    """Import ``module``, which the extra ``extra`` brings.

    Raises:
        MissingExtra: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f'{why} needs {error.name or module}, which is not installed: pip install "learndock[{extra}]"'
        ) from None
