"""The versions of a learnware: list them, tag them, take a tag away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.common import open_existing

if TYPE_CHECKING:
    from learndock.dock import Record

Name = Annotated[str, typer.Argument(metavar="NAME", help="owner/name of a learnware.")]
Which = Annotated[str, typer.Argument(metavar="ID", help="owner/name, or owner/name@v2, @TAG or @DIGITS.")]


def versions(name: Name, dock: options.Dock = None, json: options.Json = False) -> None:
    """List the versions of a learnware. The name alone means the version tagged latest."""
    found = open_existing(dock).versions(name)
    if json:
        show.print_json({"name": found[0].name, "versions": [as_json(r) for r in found]})
        return
    rows = [
        [f"v{r.version}", r.digest[:12], r.published_at[:10], ", ".join(_tags(r)), r.supersedes or ""] for r in found
    ]
    show.table(["version", "digest", "published", "tags", "supersedes"], rows)
    if found[0].deprecated is not None:
        show.say(f"{found[0].name} is {found[0].deprecated}.")


def tag(
    which: Which,
    tag: Annotated[str, typer.Argument(metavar="TAG", help="Such as stable. latest is what the name alone means.")],
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Tag a version. A tag that another version has moves to this one."""
    record = open_existing(dock).tag(which, tag)
    if json:
        show.print_json(as_json(record))
    else:
        show.say(f"{record.name}@{tag} is v{record.version}")


def untag(
    name: Name,
    tag: Annotated[str, typer.Argument(metavar="TAG", help="A tag of the learnware; latest can only be moved.")],
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Take a tag away. The version stays."""
    record = open_existing(dock).untag(name, tag)
    if json:
        show.print_json(as_json(record))
    else:
        show.say(f"{record.name} has no tag {tag} any more; it was v{record.version}")


def as_json(record: Record) -> dict[str, Any]:
    """A version as JSON."""
    return {
        "id": record.id,
        "name": record.name,
        "number": record.version,
        "latest": record.latest,
        "digest": record.digest,
        "tags": _tags(record),
        "published": record.published_at or None,
        "supersedes": record.supersedes,
        "deprecated": None if record.deprecated is None else record.deprecated.to_dict(),
    }


def _tags(record: Record) -> list[str]:
    return (["latest"] if record.version == record.latest else []) + list(record.tags)
