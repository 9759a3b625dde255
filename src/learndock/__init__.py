"""learndock: a dock for models.

    dock = learndock.open_dock("my-dock")
    spec = learndock.make_spec(learndock.read_examples("task.csv"))
    for match in learndock.identify(dock, spec).matches:
        print(match.name, match.score)

Importing this does no work: each name below is loaded from its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from learndock import _version

__version__ = _version.VERSION

if TYPE_CHECKING:
    from learndock.data import Examples, Schema, read_examples
    from learndock.dock import Dock, Record, open_dock
    from learndock.errors import LearndockError
    from learndock.package import Learnware, open_learnware, pack
    from learndock.reuse import evaluate, finetune, predict, try_matches
    from learndock.search import Identification, Match, identify
    from learndock.spaces import Space, get_space, list_spaces
    from learndock.spec import Spec, make_spec, read_spec, similarity, write_spec

__all__ = [
    "Dock",
    "Examples",
    "Identification",
    "LearndockError",
    "Learnware",
    "Match",
    "Record",
    "Schema",
    "Space",
    "Spec",
    "__version__",
    "evaluate",
    "finetune",
    "get_space",
    "identify",
    "list_spaces",
    "make_spec",
    "open_dock",
    "open_learnware",
    "pack",
    "predict",
    "read_examples",
    "read_spec",
    "similarity",
    "try_matches",
    "write_spec",
]

_ROOMS = {
    "learndock.data": ("Examples", "Schema", "read_examples"),
    "learndock.dock": ("Dock", "Record", "open_dock"),
    "learndock.errors": ("LearndockError",),
    "learndock.package": ("Learnware", "open_learnware", "pack"),
    "learndock.reuse": ("evaluate", "finetune", "predict", "try_matches"),
    "learndock.search": ("Identification", "Match", "identify"),
    "learndock.spaces": ("Space", "get_space", "list_spaces"),
    "learndock.spec": ("Spec", "make_spec", "read_spec", "similarity", "write_spec"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'learndock' has no attribute {name!r}")
    value = getattr(import_module(_ROOM_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
