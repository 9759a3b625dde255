"""The front matter of a card: the YAML header of ``README.md``, read and edited without touching the rest.

    ---
    license: mit
    description: Sentiment of short reviews
    tags: [reviews, german]
    model-index: ...            what other tools keep there stays, byte for byte
    ---

The header is read by PyYAML, never with its tags for Python objects. An edit replaces the lines of one key; where that
would change any other key, it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from learndock.errors import PackageError

#: Bytes of a card, and of its header.
MAX_CARD_BYTES, MAX_HEADER_BYTES = 1 << 20, 32 << 10
#: Values of a header and how deep they are; libyaml keeps all other threads waiting while it makes a tree of them.
MAX_NODES, MAX_DEPTH = 100_000, 30
#: Values that a card may say, in characters.
MAX_LINE, MAX_DESCRIPTION, MAX_TAGS = 128, 4096, 64
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_REMEDY = "correct the header between the two lines ---"


@dataclass(frozen=True)
class FrontMatter:
    """What a card says of a learnware; None and empty where it does not say it."""

    license: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what is said, as JSON."""
        found = {"license": self.license, "description": self.description, "tags": list(self.tags)}
        return {key: value for key, value in found.items() if value}

    @classmethod
    def from_dict(cls, source: Mapping[str, Any]) -> FrontMatter:
        """Return what ``to_dict`` was made of.

        Raises:
            TypeError: it is not.
        """
        found = cls(source.get("license"), source.get("description"), tuple(source.get("tags", ())))
        if not all(
            value is None or isinstance(value, str) for value in (found.license, found.description, *found.tags)
        ):
            raise TypeError("what a card says is text")
        return found


SILENT = FrontMatter()


def decode_card(source: bytes) -> str:
    """Return the text of a card.

    Raises:
        PackageError: it is too large, or not UTF-8.
    """
    if len(source) > MAX_CARD_BYTES:
        raise PackageError(f"a card has at most {MAX_CARD_BYTES:,} bytes, this one {len(source):,}", about="README.md")
    try:
        return source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PackageError(
            f"the card is not UTF-8 ({error.reason})", remedy="save it as UTF-8", about="README.md"
        ) from None


def read_front_matter(text: str) -> FrontMatter:
    """Return what the card ``text`` says.

    Raises:
        PackageError: its header is not YAML, has aliases, or says something that is not a text.
    """
    found = _parsed(_parted(text)[0])
    license_, description = found.get("license"), found.get("description")
    if isinstance(license_, list) and len(license_) == 1:
        (license_,) = license_
    tags = found.get("tags") or []
    tags = [tags] if isinstance(tags, str) else tags
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise _wrong("its tags are not a list of words")
    for what, value in (("license", license_), ("description", description)):
        if value is not None and not isinstance(value, str):
            raise _wrong(f"its {what} is not a text")
    return _checked(FrontMatter(license_ or None, description or None, tuple(dict.fromkeys(tags))))


def edited(
    text: str,
    *,
    license: str | None = None,  # noqa: A002 - the card's word
    description: str | None = None,
    tags: Sequence[str] = (),
    untag: Sequence[str] = (),
) -> str:
    """Return the card with another license or description ("" removes it) and with tags added and removed.

    Raises:
        PackageError: the header cannot be read, or not be changed without losing something else in it.
    """
    before = read_front_matter(text)
    kept = [tag for tag in dict.fromkeys((*before.tags, *tags)) if tag not in untag]
    asked: dict[str, Any] = {"tags": kept}
    if license is not None:
        asked["license"] = license.strip()
    if description is not None:
        asked["description"] = " ".join(description.split())
    said = {"license": "", "description": "", "tags": [], **before.to_dict()}
    changes = {key: value for key, value in asked.items() if value != said[key]}
    wanted = _checked(FrontMatter.from_dict({**before.to_dict(), **changes}))
    for key, value in changes.items():
        text = _with_key(text, key, value)
    found = read_front_matter(text)
    if found.to_dict() != wanted.to_dict():
        raise _cannot()
    return text


def _checked(found: FrontMatter) -> FrontMatter:
    short = [found.license or "", *found.tags]
    if any(len(each) > MAX_LINE or "\n" in each or not each.isprintable() for each in short):
        raise _wrong(f"a license or tag is one line of at most {MAX_LINE} characters")
    if len(found.description or "") > MAX_DESCRIPTION or len(found.tags) > MAX_TAGS:
        raise _wrong(f"a description has at most {MAX_DESCRIPTION} characters, and there are at most {MAX_TAGS} tags")
    try:
        (found.description or "").encode()
    except UnicodeEncodeError:
        raise _wrong("the description has characters that are not Unicode") from None
    if any(not each.strip() for each in found.tags):
        raise _wrong("a tag is empty")
    return found


def _parted(text: str) -> tuple[str, str]:
    """Return the YAML of the header, or "", and what follows it."""
    front = _FRONT.match(text)
    return (front[1], text[front.end() :]) if front else ("", text)


def load_yaml(header: str) -> Any:
    """Return the value of a header.

    Raises:
        ValueError: it is not plain YAML, or a few of its bytes would become a large value; the message says what.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = nodes = 0
    try:
        for event in yaml.parse(header, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            nodes += isinstance(event, yaml.NodeEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("aliases (*) are not read; write the values out")
            if depth > MAX_DEPTH or nodes > MAX_NODES:
                raise ValueError(f"it has more than {MAX_NODES:,} values, or is nested more than {MAX_DEPTH} deep")
        return yaml.load(header, loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 2}"
        raise ValueError(f"it is not YAML{where}: {getattr(error, 'problem', None) or error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # PyYAML's own, for a tag that its value is none of: `!!bool x`, `!!int ""`, `!!timestamp x`.
        raise ValueError(f"a value is not what its tag says ({type(error).__name__})") from None


def _parsed(header: str) -> dict[str, Any]:
    if not header.strip():
        return {}
    if len(header.encode("utf-8", "surrogatepass")) > MAX_HEADER_BYTES:
        raise _wrong(f"it has more than {MAX_HEADER_BYTES:,} bytes")
    try:
        found = load_yaml(header)
    except ValueError as error:
        raise _wrong(" ".join(str(error).split())[:200]) from None
    if not isinstance(found, dict):
        raise _wrong("it is not a list of KEY: VALUE")
    return found


def _with_key(text: str, key: str, value: Any) -> str:
    import yaml

    header, rest = _parted(text)
    others = {k: v for k, v in _parsed(header).items() if k != key}
    lines, kept, inside = header.splitlines(keepends=True), [], False
    for line in lines:
        if re.match(rf"{key}[ \t]*:", line):
            inside = True
        elif line[:1] not in " \t-\r\n":
            inside = False
        if not inside:
            kept.append(line)
    if value:
        if kept and not kept[-1].endswith("\n"):
            kept[-1] += "\n"
        kept.append(yaml.safe_dump({key: value}, allow_unicode=True, default_flow_style=False, width=1000))
    new = "".join(kept)
    if {k: v for k, v in _parsed(new).items() if k != key} != others:
        raise _cannot()
    if not new.strip():
        return rest
    gap = "" if header or rest.startswith("\n") or not rest else "\n"
    return f"---\n{new}---\n{gap}{rest}"


def _wrong(why: str) -> PackageError:
    return PackageError(f"the front matter of the card: {why}", remedy=_REMEDY, about="README.md")


def _cannot() -> PackageError:
    return PackageError(
        "the front matter of the card cannot be edited without changing other parts of it",
        remedy="edit the card yourself and give it with --card",
        about="README.md",
    )
