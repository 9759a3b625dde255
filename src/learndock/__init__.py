"""learndock: a dock for models.

    dock = learndock.open_dock("my-dock")
    spec = learndock.make_spec(learndock.read_examples("task.csv"))
    for match in learndock.identify(dock, spec).matches:
        print(match.name, match.score)

This module is the public face: what a program needs is here, and every type or error that a public function takes,
returns or raises. Importing it does no work. Each name is loaded from its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from learndock import _version

__version__ = _version.VERSION

if TYPE_CHECKING:
    from learndock.data import (
        Examples,
        Image,
        Prompt,
        ReadOptions,
        Schema,
        read_examples,
    )
    from learndock.dock import (
        Admitted,
        Dock,
        GcResult,
        LocalDock,
        Problem,
        Record,
        Removed,
        Summary,
        identify,
        open_dock,
        route,
    )
    from learndock.errors import (
        Conflict,
        Corrupt,
        DataError,
        DockError,
        Forbidden,
        InputError,
        LearndockError,
        MissingExtra,
        ModelError,
        NotFound,
        PackageError,
        QuotaExceeded,
        SchemaError,
        ServiceError,
        SpaceError,
        SpaceMismatch,
        SpecError,
        StorageFull,
        SuspectSpec,
        TooLarge,
        TooManyRequests,
        TooSlow,
        Unauthorized,
        Unavailable,
        UnsafeModel,
        UsageError,
        WeightsChanged,
        WeightsMissing,
    )
    from learndock.package import (
        Base,
        File,
        GenerativeModel,
        Learnware,
        Manifest,
        Model,
        Packed,
        SpecFile,
        open_learnware,
        pack,
    )
    from learndock.reuse import (
        Evaluation,
        Trial,
        evaluate,
        finetune,
        generate,
        load_generative_model,
        load_generative_models,
        merge_adapters,
        predict,
        try_matches,
        write_predictions,
    )
    from learndock.search import Answers, Filters, Identification, Match, Near, Route, SpecTable
    from learndock.spaces import FileSource, Space, get_space, list_spaces
    from learndock.spec import Domain, Spec, make_domain, make_spec, read_spec, similarity, write_spec

__all__ = [
    "Admitted",
    "Answers",
    "Base",
    "Conflict",
    "Corrupt",
    "DataError",
    "Dock",
    "DockError",
    "Domain",
    "Evaluation",
    "Examples",
    "File",
    "FileSource",
    "Filters",
    "Forbidden",
    "GcResult",
    "GenerativeModel",
    "Identification",
    "Image",
    "InputError",
    "LearndockError",
    "Learnware",
    "LocalDock",
    "Manifest",
    "Match",
    "MissingExtra",
    "Model",
    "ModelError",
    "Near",
    "NotFound",
    "PackageError",
    "Packed",
    "Problem",
    "Prompt",
    "QuotaExceeded",
    "ReadOptions",
    "Record",
    "Removed",
    "Route",
    "Schema",
    "SchemaError",
    "ServiceError",
    "Space",
    "SpaceError",
    "SpaceMismatch",
    "Spec",
    "SpecError",
    "SpecFile",
    "SpecTable",
    "StorageFull",
    "Summary",
    "SuspectSpec",
    "TooLarge",
    "TooManyRequests",
    "TooSlow",
    "Trial",
    "Unauthorized",
    "Unavailable",
    "UnsafeModel",
    "UsageError",
    "WeightsChanged",
    "WeightsMissing",
    "__version__",
    "evaluate",
    "finetune",
    "generate",
    "get_space",
    "identify",
    "list_spaces",
    "load_generative_model",
    "load_generative_models",
    "make_domain",
    "make_spec",
    "merge_adapters",
    "open_dock",
    "open_learnware",
    "pack",
    "predict",
    "read_examples",
    "read_spec",
    "route",
    "similarity",
    "try_matches",
    "write_predictions",
    "write_spec",
]

_ROOMS = {
    "learndock.data": (
        "Examples",
        "Image",
        "Prompt",
        "ReadOptions",
        "Schema",
        "read_examples",
    ),
    "learndock.dock": (
        "Admitted",
        "Dock",
        "GcResult",
        "LocalDock",
        "Problem",
        "Record",
        "Removed",
        "Summary",
        "identify",
        "open_dock",
        "route",
    ),
    "learndock.errors": (
        "Conflict",
        "Corrupt",
        "DataError",
        "DockError",
        "Forbidden",
        "InputError",
        "LearndockError",
        "MissingExtra",
        "ModelError",
        "NotFound",
        "PackageError",
        "QuotaExceeded",
        "SchemaError",
        "ServiceError",
        "SpaceError",
        "SpaceMismatch",
        "SpecError",
        "StorageFull",
        "SuspectSpec",
        "TooLarge",
        "TooManyRequests",
        "TooSlow",
        "Unauthorized",
        "Unavailable",
        "UnsafeModel",
        "UsageError",
        "WeightsChanged",
        "WeightsMissing",
    ),
    "learndock.package": (
        "Base",
        "File",
        "GenerativeModel",
        "Learnware",
        "Manifest",
        "Model",
        "Packed",
        "SpecFile",
        "open_learnware",
        "pack",
    ),
    "learndock.reuse": (
        "Evaluation",
        "Trial",
        "evaluate",
        "finetune",
        "generate",
        "load_generative_model",
        "load_generative_models",
        "merge_adapters",
        "predict",
        "try_matches",
        "write_predictions",
    ),
    "learndock.search": (
        "Answers",
        "Filters",
        "Identification",
        "Match",
        "Near",
        "Route",
        "SpecTable",
    ),
    "learndock.spaces": (
        "FileSource",
        "Space",
        "get_space",
        "list_spaces",
    ),
    "learndock.spec": (
        "Domain",
        "Spec",
        "make_domain",
        "make_spec",
        "read_spec",
        "similarity",
        "write_spec",
    ),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'learndock' has no attribute {name!r}")
    value = getattr(import_module(_ROOM_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
