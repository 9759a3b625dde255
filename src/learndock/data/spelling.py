"""When two labels are one label, and when a label is none: rules about spelling, the same for every kind of file.

    "Pos", "pos ", "pos<zero-width space>"      one label (case, outer space, what cannot be seen)
    "café", composed or with a combining accent  one label (Unicode normalisation)
    1, 1.0, "1", "1.0"                           one label (tables of numbers write one number in several ways)
    "01" and "1"                                 two labels (codes keep their zeros)

Words for "no label" in exports, several labels in one cell, and numbers as people write them are found here too;
``labels`` decides what is done about them.
"""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

#: Joiners make emoji and letters of some scripts; between other characters they are as invisible as the rest.
_JOINERS = "\u200c\u200d"
_VARIATION = "\ufe0e\ufe0f"
_WHOLE = re.compile(r"([+-]?[0-9]{1,18})\.0+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

#: What exports write where there is no label, as ``fold`` gives it.
NO_LABEL = frozenset((
    "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "none", "null", "nil", "-", "--", "---", "–", "—", "?", ".",
    "unlabeled", "unlabelled", "undefined", "missing", "empty", "tbd", "(blank)", "(empty)", "(none)", "(null)",
    "k.a.", "#value!", "#ref!", "#name?", "#null!", "#div/0!", "#num!", "not available", "not labeled",
    "not labelled", "no label", "no value", "no annotation", "keine angabe",
))  # fmt: skip


#: Letters of the Cyrillic and the Greek alphabet that look like Latin ones.
_ALIKE = str.maketrans(
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0405\u0406\u0408"
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0455\u0456\u0458"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bd\u03bf",
    "ABEKMHOPCTYXSIJaeopcyxsijABEZHIKMNOPTYXvo",
)


def look_alike(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that differ in the alphabet or the width of their letters alone, by their code points."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(fold(unicodedata.normalize("NFKC", label).translate(_ALIKE)), []).append(label)
    return [[_coded(label) for label in group] for group in groups.values() if len(group) > 1]


def _coded(label: str) -> str:
    return "".join(c if c.isascii() else f"<U+{ord(c):04X}>" for c in label)


@lru_cache(maxsize=4096)  # a column has few different labels
def fold(label: str) -> str:
    """What is left of a label without case, outer space, invisible characters and ways to compose accents."""
    text = unicodedata.normalize("NFC", label)
    if not text.isascii():
        text = "".join(c for c in text if c in _JOINERS or (unicodedata.category(c) != "Cf" and c not in _VARIATION))
        text = unicodedata.normalize("NFC", text.strip(_JOINERS + " "))
    elif not text.isprintable():
        text = "".join(c for c in text if c.isprintable() or c.isspace())
    return " ".join(text.split()).casefold()


def label_key(label: str) -> str:
    """``fold``, where a whole number has no decimals."""
    text = fold(label)
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def visible(label: str) -> str:
    """A label for a message: what cannot be seen is written as its code."""
    return "".join(
        c
        if (c.isprintable() and unicodedata.category(c) not in ("Cf", "Mn", "Zs")) or c == " "
        else f"<U+{ord(c):04X}>"
        for c in label
    )


def merge_spellings(labels: Sequence[str]) -> tuple[dict[str, str], list[Sequence[str]]]:
    """Return for each spelling the label that it is read as (its most frequent spelling), and the groups of several."""
    groups: dict[str, Counter[str]] = {}
    for label, count in Counter(labels).items():
        groups.setdefault(label_key(label), Counter())[label] = count
    chosen = {key: _best(spellings) for key, spellings in groups.items()}
    several = [[chosen[key], *(s for s in spellings if s != chosen[key])] for key, spellings in groups.items()]
    return {s: chosen[k] for k, spellings in groups.items() for s in spellings}, [g for g in several if len(g) > 1]


def _best(spellings: Counter[str]) -> str:
    # Whole numbers lose their decimals, other labels what cannot be seen in them
    return _cleaned(max(spellings, key=lambda s: spellings[s]))


def _cleaned(label: str) -> str:
    text = unicodedata.normalize("NFC", label)
    if not text.isascii():
        text = "".join(c for c in text if unicodedata.category(c) != "Cf" or c in _JOINERS).strip(_JOINERS + " ")
    text = " ".join(text.split())
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def number_in(text: str) -> float | None:
    """The finite number that a text is, or None."""
    stripped = text.strip()
    if not _NUMBER.fullmatch(stripped):
        return None
    value = float(stripped)
    return value if math.isfinite(value) else None


# --- numbers as people write them ------------------------------------------------------------------------------

_PERCENT = re.compile(r"(.*[0-9])\s?%")
_MONEY = re.compile(r"(?:[$€£¥]\s?(.*[0-9])|(.*[0-9])\s?[$€£¥])")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]{1,3}(?:[.\u00a0\u202f' ]?[0-9]{3})*,[0-9]+|[+-]?[0-9]+,[0-9]+")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:[\u00a0\u202f' ][0-9]{3})+(?:\.[0-9]+)?")


def written_number(text: str) -> tuple[str, str] | None:
    """How a number that Python does not read is written, and its digits as Python reads them; None for other texts.

    A comma before exactly three digits may be either sign: ``"1,000"`` is ``"ambiguous comma"``.
    """
    text = text.strip()
    for kind, pattern in (("percent sign", _PERCENT), ("currency sign", _MONEY)):
        if match := pattern.fullmatch(text):
            inner = next(g for g in match.groups() if g is not None).strip()
            if number_in(inner) is not None:
                return kind, inner
            deeper = written_number(inner)
            return None if deeper is None or deeper[0] == "ambiguous comma" else (kind, deeper[1])
    if _THOUSANDS.fullmatch(text):
        sure = "." in text or text.count(",") > 1
        return ("thousands separator" if sure else "ambiguous comma"), text.replace(",", "")
    if _DECIMAL_COMMA.fullmatch(text):
        return "decimal comma", re.sub(r"[.\u00a0\u202f' ]", "", text).replace(",", ".")
    if _GROUPED.fullmatch(text):
        return "thousands separator", re.sub(r"[\u00a0\u202f' ]", "", text)
    return None


# --- several labels in one cell --------------------------------------------------------------------------------

_JOINTS = (",", ";", "|", "#")


def listed(label: str) -> list[str] | None:
    """The items of a cell that spells a list, as tables of lists are saved to csv; None for other cells."""
    text = label.strip()
    if text.startswith('{"choices":'):
        try:
            found = json.loads(text).get("choices")
        except ValueError:
            return None
        return [str(v) for v in found] if isinstance(found, list) else None
    if not (text.startswith("[") and text.endswith("]")) or len(text) > 10_000:
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(v, str | int | float) for v in found):
            return [str(v) for v in found]
    return None


def joined(labels: Iterable[str]) -> tuple[str, list[str]] | None:
    """A label that is several of the others with a sign between them, and its parts; None where there is none."""
    keys = {fold(label): label for label in labels}
    for joint in _JOINTS:
        split = {key: [fold(p) for p in key.split(joint)] for key in keys if joint in key}
        uses = Counter(part for parts in split.values() for part in set(parts))
        for key, parts in split.items():
            if len(parts) > 1 and all(p and (p in keys or uses[p] > 1) for p in parts):
                return keys[key], [p.strip() for p in keys[key].split(joint)]
    return None


def no_label_words(labels: Iterable[str]) -> list[str]:
    """Those of ``labels`` that exports write where there is no label."""
    return [label for label in labels if fold(label) in NO_LABEL]


def count_by(rows: Mapping[str, Sequence[int]], names: Sequence[str], most: int = 6) -> str:
    """Names with how often each occurs, and in which row first."""
    shown = [f'"{visible(n)}" ({len(rows[n])}x, first in row {rows[n][0]})' for n in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
