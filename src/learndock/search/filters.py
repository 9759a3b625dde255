"""Which learnwares are looked at: by format, type of task, license, base model and owner."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from learndock.dock import Record


@dataclass(frozen=True)
class Filters:
    """What a learnware must be to be looked at; None for whatever it is."""

    format: str | None = None
    task: str | None = None
    license: str | None = None
    base: str | None = None
    owner: str | None = None

    @property
    def empty(self) -> bool:
        """Whether every learnware is taken."""
        return self == Filters()

    def to_dict(self) -> dict[str, str]:
        """What is asked for, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def take(self, record: Record) -> bool:
        """Whether a learnware is such a one."""
        manifest = record.manifest
        return (
            (self.format is None or manifest.format == self.format)
            and (self.task is None or manifest.task.get("type") == self.task)
            and (self.license is None or (manifest.license or "").casefold() == self.license.casefold())
            and (self.base is None or (manifest.base is not None and manifest.base.name == self.base))
            and (self.owner is None or record.name.partition("/")[0].casefold() == self.owner.casefold())
        )


EVERY = Filters()
