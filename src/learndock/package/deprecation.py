"""What is said about a learnware beside its content, and may change after it is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Deprecation:
    """Why a learnware should not be used any more, and the name of the one to ``use`` instead, where there is one.

    ``time`` is in UTC, and ``by`` is who said so, or "" where the dock does not know people.
    """

    use: str | None = None
    because: str = ""
    time: str = ""
    by: str = ""

    def __str__(self) -> str:
        use = "" if self.use is None else f", use {self.use} instead"
        return f"deprecated{use}" + (f": {self.because}" if self.because else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"use": self.use, "because": self.because, "time": self.time, "by": self.by}

    @classmethod
    def from_dict(cls, source: Mapping[str, Any]) -> Deprecation:
        """Return what ``to_dict`` was made of."""
        use = source["use"]
        return cls(None if use is None else str(use), str(source["because"]), str(source["time"]), str(source["by"]))
