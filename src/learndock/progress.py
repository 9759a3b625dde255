"""How long work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable

#: Called with (how much is done, how much there is in all); the unit is said where it is taken.
Progress = Callable[[int, int], None]
