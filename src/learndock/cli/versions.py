"""Names that live: versions and their tags, the card, deprecation, another name."""

from __future__ import annotations

from pathlib import Path
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


def edit(
    name: Name,
    card: Annotated[Path | None, typer.Option("--card", metavar="FILE", help="Replace the card by this file.")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help='License of the model (an SPDX name); "" removes it.')
    ] = None,
    description: Annotated[str | None, typer.Option(help='A sentence about the model; "" removes it.')] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Add a tag to the card, such as medicine.")] = None,
    untag: Annotated[list[str] | None, typer.Option("--untag", help="Take a tag off the card.")] = None,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Edit the card of a learnware: license, description, tags, or all of it. No version changes."""
    from learndock.errors import UsageError
    from learndock.package.front_matter import decode_card

    if card is None and license_ is None and description is None and not tag and not untag:
        raise UsageError("nothing to edit", remedy="give --card, --license, --description, --tag or --untag")
    text = None if card is None else decode_card(card.read_bytes())
    record = open_existing(dock).edit(
        name, card=text, license=license_, description=description, tags=tag or (), untag=untag or ()
    )
    if json:
        show.print_json({**as_json(record), "license": record.license, "description": record.description})
        return
    show.say(f"{record.name}: license {record.license or 'not stated'}" + _described(record))


def deprecate(
    name: Name,
    use: Annotated[str | None, typer.Option("--use", metavar="NAME", help="The learnware to use instead.")] = None,
    because: Annotated[str, typer.Option("--because", help="Why, in a sentence.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Say that a learnware should not be used any more. Those who find or get it are told."""
    from learndock.errors import UsageError

    if undo and (use or because):
        raise UsageError("--undo takes a deprecation back", remedy="leave --use and --because out")
    record = open_existing(dock).deprecate(name, use=use, because=because, undo=undo)
    if json:
        show.print_json(as_json(record))
    else:
        show.say(f"{record.name} is {record.deprecated or 'not deprecated'}")


def move(
    old: Name,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new owner/name, never used before.")],
    dock: options.Dock = None,
    json: options.Json = False,
) -> None:
    """Give a learnware another name or owner. The old name leads to the new one."""
    record = open_existing(dock).move(old, new)
    if json:
        show.print_json(as_json(record))
    else:
        show.say(f"{old} is {record.name} now; the old name leads to it")


def _described(record: Record) -> str:
    tags = f", tags {', '.join(record.said.tags)}" if record.said.tags else ""
    return tags + (f"; {record.description}" if record.description else "")


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
