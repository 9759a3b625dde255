"""Answers of a service as ours: a manifest must have the digest that its id says."""

from __future__ import annotations

from typing import Any

from learndock.dock.protocol import Record
from learndock.dock.summary import Summary
from learndock.errors import Corrupt, PackageError, ServiceError
from learndock.package.deprecation import Deprecation
from learndock.package.front_matter import FrontMatter
from learndock.package.manifest import Manifest
from learndock.spec.spec import canonical


def record_of(found: Any, url: str) -> Record:
    """Return the learnware that the service at ``url`` describes; one of 0.1.0 says nothing of versions.

    Raises:
        ServiceError: it is not one.
        Corrupt: its manifest is not the one that its digest names.
    """
    try:
        named, digest, sequence = str(found["name"]), str(found["digest"]), found["sequence"]
        manifest = Manifest.from_bytes(canonical(found["manifest"]), where=f"{url}: {named[:100]}")
        tags = tuple(map(str, found.get("tags", ())))
        supersedes = found.get("supersedes")
        published_at = str(found.get("published_at", ""))
        former = tuple(map(str, found.get("former", ())))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise strange(url) from None
    except PackageError as error:
        raise Corrupt(error.message, remedy="tell the operator of the dock", about=error.about) from None
    if manifest.digest != digest or manifest.name not in (named, *former):
        raise Corrupt(
            f"the manifest of {named[:100]} is not the one that its version {digest[:12]} names",
            remedy="do not trust this dock",
            about=url,
        )
    return Record(
        named,
        digest,
        manifest,
        number(sequence, url),
        found.get("private") is True,
        version=number(found.get("version", 1), url),
        latest=number(found.get("latest", 1), url),
        tags=tags,
        published_at=published_at,
        supersedes=None if supersedes is None else str(supersedes),
        deprecated=_deprecation(found, url),
        said=_said(found, url),
        former=former,
    )


def summary_of(found: Any, url: str) -> Summary:
    """Return what the service at ``url`` lists of a learnware.

    Raises:
        ServiceError: it is not that.
    """
    try:
        return Summary(
            name=str(found["name"]),
            digest=str(found["digest"]),
            sequence=number(found["sequence"], url),
            format=str(found["format"]),
            task={**found["task"], "type": str(found["task"]["type"])},
            license=None if found["license"] is None else str(found["license"]),
            base=None if found["base"] is None else str(found["base"]),
            description=str(found["description"]),
            spaces=tuple(map(str, found["spaces"])),
            bytes=number(found["bytes"], url),
            private=found["private"] is True,
            version=number(found.get("version", 1), url),
            published_at=str(found.get("published_at", "")),
            deprecated=_deprecation(found, url),
            tags=_said(found, url).tags,
        )
    except (KeyError, TypeError, AttributeError):
        raise strange(url) from None


def number(value: Any, url: str) -> int:
    """Return an integer of an answer.

    Raises:
        ServiceError: it is not one.
    """
    if type(value) is not int:
        raise strange(url)
    return value


def strange(url: str) -> ServiceError:
    """Return the error of an answer that no service gives."""
    return ServiceError("unexpected response", remedy="check that a learndock service is at this address", about=url)


def _said(found: Any, url: str) -> FrontMatter:
    """Return what the card says of license, description and tags."""
    try:
        said = FrontMatter.from_dict(found.get("said") or {})
        texts = [said.license, said.description, *said.tags]
        if not all(text is None or isinstance(text, str) for text in texts):
            raise strange(url)
        return said
    except (TypeError, AttributeError):
        raise strange(url) from None


def _deprecation(found: Any, url: str) -> Deprecation | None:
    if found.get("deprecated") is None:
        return None
    try:
        return Deprecation.from_dict(found["deprecated"])
    except (KeyError, TypeError):
        raise strange(url) from None
