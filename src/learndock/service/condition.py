"""Whether a service can answer, and what keeps it from it: the picture, the databases, the store of bytes, the disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from learndock.dock.storage.reserve import LEAST, SIZE
from learndock.errors import LearndockError
from learndock.service.service import Service


@dataclass(frozen=True)
class Condition:
    """``answers`` is whether questions are answered now; ``problems`` name what is wrong and where.

    A full disk is a problem and no reason not to answer: reading and deleting work on it.
    """

    answers: bool
    full: bool
    problems: tuple[str, ...]
    free: int


class Examination:
    """Looks at a service again and again; ``step`` names what it is looking at, for when that does not answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.step = "its start"

    def look(self) -> Condition:
        """Return the condition that the service is in."""
        service, problems = self._service, []
        if not service.catalogue.drawn:
            problems.append("the catalogue is being read; it answers when that is done")
        parts: tuple[tuple[str, Callable[[], object]], ...] = (
            ("the service's database", service.database.change),
            ("the dock's records", service.dock.__len__),
            (service.storage.blobs.place, service.storage.blobs.check),
        )
        for self.step, ask in parts:
            try:
                ask()
            except (LearndockError, OSError) as error:
                problems.append(f"{self.step}: no answer ({type(error).__name__})")
        answers = not problems
        self.step = "the disk of the service's folder"
        reserve = service.storage.reserve
        free = reserve.room
        full = free < LEAST or (not reserve.there and free < LEAST + SIZE)
        if full:
            problems.append(
                f"the disk of the service's folder is full ({free >> 20} MB free): nothing can be added; deleting works"
            )
        return Condition(answers, full, tuple(problems), free)
