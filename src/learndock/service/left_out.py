"""Files of a training run that a client is asked to leave out of a commit: state, not model, and pickles mostly.

Only names that trainers give their state are on the list. A model's weights as a pickle are not: a push without its
model would look like a success.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_STATE = re.compile(
    r"training_args\.bin|optimizer(?:_[0-9]+)?\.(?:pt|bin)|scheduler(?:_[0-9]+)?\.(?:pt|bin)|scaler(?:_[0-9]+)?\.pt"
    r"|rng_state(?:_[0-9]+)?\.pth|random_states_[0-9]+\.pkl|events\.out\.tfevents\..+|\.DS_Store|zero_to_fp32\.py"
)
_FOLDERS = frozenset({"__pycache__", ".ipynb_checkpoints"})
#: So many are named.
_NAMED = 5


def is_training_state(path: str) -> bool:
    """Return whether a file is known, by its name, as the state of a training run or the leftover of a tool."""
    *folders, name = path.split("/")
    return _STATE.fullmatch(name) is not None or not _FOLDERS.isdisjoint(folders)


def said_of_left_out(paths: Sequence[str]) -> str:
    """Return one sentence that names what was left out, and why."""
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return (
        f"left out, as state of the training run that no model needs and that could run code when loaded: "
        f"{', '.join(paths[:_NAMED])}{more}"
    )
