"""What a list shows of a learnware: less than its manifest, so that a service can send thousands of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from learndock.package.deprecation import Deprecation

if TYPE_CHECKING:
    from learndock.dock.protocol import Record


@dataclass(frozen=True)
class Summary:
    """A learnware in a list. A service's summary is not checked against the digest; ``get_record`` is.

    ``bytes`` is the size of all files. ``private`` is whether only its owner may see it, or None in a folder, where
    nothing is private. ``version`` is the number of the version tagged ``latest``; ``published_at`` and ``deprecated``
    are as in ``Record``, and ``tags`` are those of the card.
    """

    name: str
    digest: str
    sequence: int
    format: str
    task: Mapping[str, Any]
    license: str | None
    base: str | None
    description: str
    spaces: tuple[str, ...]
    bytes: int
    private: bool | None = field(default=None, compare=False)
    version: int = 1
    published_at: str = field(default="", compare=False)
    deprecated: Deprecation | None = field(default=None, compare=False)
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: Record) -> Summary:
        """Return what a list shows of ``record``."""
        manifest = record.manifest
        return cls(
            name=record.name,
            digest=record.digest,
            sequence=record.sequence,
            format=manifest.format,
            task=manifest.task,
            license=record.license,
            base=None if manifest.base is None else manifest.base.name,
            description=record.description,
            spaces=tuple(s.space for s in manifest.specs),
            bytes=sum(f.size for f in manifest.files),
            private=record.private,
            version=record.version,
            published_at=record.published_at,
            deprecated=record.deprecated,
            tags=record.said.tags,
        )

    @property
    def id(self) -> str:
        """``owner/name@sha256``."""
        return f"{self.name}@{self.digest}"

    @cached_property
    def words(self) -> str:
        """What a search by words looks at, without case."""
        return words_of(self.name, self.description, self.task, self.tags)


def words_of(name: str, description: str, task: Mapping[str, Any], tags: Iterable[str] = ()) -> str:
    """Return what a search by words looks at, without case: name, description, labels and what these mean, tags."""
    said = [task.get(key) for key in ("labels", "descriptions", "label_texts")]
    labels = [str(word) for words in said if isinstance(words, list | tuple) for word in words]
    return " ".join([name, description, *labels, *tags]).casefold()


def has_words(learnware: Record | Summary, text: str) -> bool:
    """Return whether all words of ``text`` occur in what describes the learnware."""
    return not text or all(word in learnware.words for word in text.casefold().split())
