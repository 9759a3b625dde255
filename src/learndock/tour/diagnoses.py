"""Tour texts from medicine: the ICD-10-CM tabular list, and what a code says about its text.

Source: ICD-10-CM, April 2026, of the US National Center for Health Statistics (public domain), as the package
simple-icd-10-cm carries it. A code is a letter, two characters for the category, and up to four more; sites,
natures, kinds and regions are read off the category.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple
from xml.etree import ElementTree

from learndock.errors import LearndockError

_MEMBER = "simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml"

#: Ranges of categories, both ends included. Those that name no one site are left out. Categories that end in
#: a letter do not stand where the alphabet puts them (D3A follows D36), so they are named by themselves.
SITES = {
    "digestive organs": "C00-C26 D00-D01 D10-D13 D37-D37",
    "chest and airways": "C30-C39 C45-C45 D02-D02 D14-D15 D38-D38",
    "skin, bone and soft tissue": "C40-C44 C4A-C4A C46-C49 D03-D04 D16-D18 D20-D23",
    "breast, genital and urinary organs": "C50-C68 D05-D07 D24-D30 D39-D41",
    "brain, eye and glands": "C69-C75 D31-D35 D42-D44",
    "blood and lymph": "C81-C96 D45-D47",
}
NATURES = {
    "malignant": "C00-C96 C4A-C4A C7A-C7B",
    "benign": "D10-D36 D3A-D3A",
    "in situ or uncertain": "D00-D09 D37-D48",
}
REGIONS = {
    "head and neck": "S00-S19",
    "trunk": "S20-S39",
    "arm and hand": "S40-S69",
    "leg and foot": "S70-S99",
}
#: How the title of an injury's category begins.
KINDS = {
    "fracture": "Fracture ",
    "open wound": "Open wound ",
    "superficial injury": "Superficial injury ",
    "dislocation or sprain": "Dislocation and sprain ",
    "nerve, vessel or muscle": "Injury of (cranial )?(nerve|blood vessel|muscle|nerves and spinal)",
}

#: What the seventh character of an injury's code adds: which visit it is, and how it heals.
_EXTENSION = re.compile(r",? (initial encounter|subsequent encounter|sequela)( (for|with) [^,]*)?$")


class Diagnosis(NamedTuple):
    """A text, its code, and the title of the code's category."""

    text: str
    code: str
    title: str


def read_diagnoses(package: Path, letters: str) -> list[Diagnosis]:
    """The texts of all codes that begin with one of ``letters``, without repeats.

    Raises:
        LearndockError: the package does not hold the list.
    """
    try:
        with zipfile.ZipFile(package) as archive, archive.open(_MEMBER) as stream:
            return parse_diagnoses(stream, letters)
    except (KeyError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise LearndockError(
            f"does not hold the list of diagnoses ({error})", remedy="delete it and try again", about=package
        ) from None


def parse_diagnoses(stream: IO[bytes], letters: str) -> list[Diagnosis]:
    """Descriptions and inclusion terms in the order of the list; of equal texts, the first.

    Raises:
        ElementTree.ParseError: not XML.
    """
    found: dict[str, Diagnosis] = {}
    titles: dict[str, str] = {}
    for code, texts in _codes(stream, letters):
        if len(code) == 3:
            titles[code] = texts[0]
        for text in texts:
            clean = _EXTENSION.sub("", " ".join(text.split()))
            if clean:
                found.setdefault(clean.casefold(), Diagnosis(clean, code, ""))
    return [d._replace(title=titles.get(d.code[:3], d.text)) for d in found.values()]


def _codes(stream: IO[bytes], letters: str) -> Iterator[tuple[str, list[str]]]:
    """Codes with their description and inclusion terms; an element is let go once it is read."""
    for _, element in ElementTree.iterparse(stream, events=("end",)):
        if element.tag != "diag":
            continue
        code, description = element.findtext("name", ""), element.findtext("desc", "")
        if code[:1] and code[0] in letters and description:
            terms = [note.text or "" for note in element.findall("inclusionTerm/note")]
            yield code, [description, *terms]
        element.clear()


def category_label(code: str, labels: dict[str, str]) -> str | None:
    """The label whose ranges hold the category of ``code``, or None."""
    category = code[:3]
    for label, ranges in labels.items():
        for low, _, high in (r.partition("-") for r in ranges.split()):
            if low <= category <= high and category[2:].isdigit() == low[2:].isdigit():
                return label
    return None


def title_label(title: str) -> str | None:
    """The kind of injury that a category's title begins with, or None."""
    return next((label for label, start in KINDS.items() if re.match(start, title)), None)
