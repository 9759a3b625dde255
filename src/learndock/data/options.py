"""How a file of examples is to be read, where the file itself does not say it."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TypedDict

from learndock.errors import UsageError


@dataclass(frozen=True)
class ReadOptions:
    """Which columns hold what, and how a file's bytes become a table.

    ``text``, ``text_pair``, ``label`` and ``image`` name columns; ``image`` is None where the reader may choose.
    ``encoding``, ``separator`` and ``sheet`` are None where the reader may detect them; it reports what it chose.
    ``quotes`` False makes quotation marks in csv and tsv files ordinary characters; None refuses a file in which they
    seem to merge rows, True trusts them.
    """

    text: str = "text"
    text_pair: str = "text_pair"
    label: str = "label"
    image: str | None = None
    encoding: str | None = None
    separator: str | None = None
    quotes: bool | None = None
    sheet: str | None = None

    def __post_init__(self) -> None:
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise UsageError(
                f"separator {self.separator!r} is not usable",
                remedy="give one character, as in --separator \";\" (a tab is $'\\t' in most shells)",
            )
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise UsageError(
                    f'encoding "{self.encoding}" is unknown', remedy="use a name such as utf-8, cp1252 or utf-16"
                ) from None


class ReadKeywords(TypedDict, total=False):
    """The fields of ``ReadOptions`` as keyword arguments."""

    text: str
    text_pair: str
    label: str
    image: str | None
    encoding: str | None
    separator: str | None
    quotes: bool | None
    sheet: str | None
