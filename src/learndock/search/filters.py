"""Which learnwares are ranked: by format, type of task, license, base model and owner."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from learndock.package.manifest import Manifest


@dataclass(frozen=True)
class Filters:
    """What a learnware must be to be ranked; None is no condition."""

    format: str | None = None
    task: str | None = None
    license: str | None = None
    base: str | None = None
    owner: str | None = None

    @property
    def empty(self) -> bool:
        """Whether every learnware passes."""
        return self == Filters()

    def to_dict(self) -> dict[str, str]:
        """Return the conditions that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def passes(self, manifest: Manifest, *, name: str | None = None, license: str | None = None) -> bool:  # noqa: A002
        """Whether a learnware passes every filter; ``name`` and ``license`` where these are not the manifest's."""
        name, license = name or manifest.name, license or manifest.license  # noqa: A001
        return (
            (self.format is None or manifest.format == self.format)
            and (self.task is None or manifest.task.get("type") == self.task)
            and (self.license is None or (license or "").casefold() == self.license.casefold())
            and (self.base is None or (manifest.base is not None and manifest.base.name == self.base))
            and (self.owner is None or name.partition("/")[0].casefold() == self.owner.casefold())
        )


EVERY = Filters()
