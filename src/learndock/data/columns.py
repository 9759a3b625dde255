"""Which column holds what: exact names first, then without case and outer space; anything else is asked for.

A column is never guessed from what its values look like. Where one is missing, the message proposes those whose names
come close, as the options that would name them.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from learndock.data.options import ReadOptions
from learndock.data.schema import Schema
from learndock.data.spelling import fold, number_in
from learndock.data.tables import Table
from learndock.errors import DataError, UsageError

#: What a column of images is called where no option names one; ``img`` is what some public data sets write, and
#: ``file_name`` what ``datasets`` wants in the metadata of a folder of images.
IMAGE_COLUMNS = ("image", "img", "file_name")
PROMPT, COMPLETION, MESSAGES = "prompt", "completion", "messages"
#: Words in the names of columns that often hold texts, or labels.
_TEXTS = frozenset((
    "text", "texts", "sentence", "comment", "comments", "content", "review", "reviews", "body", "message", "utterance",
    "question", "document", "description", "tweet", "post", "title", "abstract", "feedback", "note", "notes", "query",
    "kommentar", "texte", "texto", "testo", "tekst",
))  # fmt: skip
_LABELS = frozenset((
    "label", "labels", "class", "classes", "category", "categories", "target", "sentiment", "intent", "topic", "tag",
    "rating", "responses", "score", "stars", "annotation", "gold", "answer", "choice", "verdict", "kategorie",
    "klasse", "categoria",
))  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """The columns that are read; ``image`` is None where the inputs are texts, ``label`` where no labels are read."""

    text: str
    pair: str
    label: str | None
    image: str | None = None
    #: A column that says of each row whether an annotator accepted its label.
    verdict: str | None = None
    remarks: Sequence[str] = field(default=())

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the inputs."""
        return (self.text, self.pair) if self.image is None else (self.image,)


def kind_of(table: Table, schema: Schema | None, options: ReadOptions) -> str:
    """What the inputs are, by the names of the columns: ``text``, ``image`` or ``generation``.

    Columns of prompts and of images count only where there is no column of texts.
    """
    if schema is not None and schema.type == "generation":
        return "generation"
    if options.image is not None:
        return "image"
    if like(table, options.text, []) is not None:
        return "text"
    if options.text == "text" and any(like(table, name, []) is not None for name in (PROMPT, MESSAGES)):
        return "generation"
    if options.text != "text":
        return "text"  # a column that was asked for is reported as missing
    return "image" if any(like(table, name, []) is not None for name in IMAGE_COLUMNS) else "text"


def find_columns(table: Table, options: ReadOptions, *, labels: bool) -> Columns:
    """The columns of inputs, and with ``labels`` that of the labels.

    Raises:
        DataError: a column is missing, or several answer to its name; proposes names and options.
        UsageError: a second text for images, or one column for inputs and labels.
    """
    remarks: list[str] = []
    text = like(table, options.text, remarks)
    pair = like(table, options.text_pair, remarks)
    image = None
    if options.image is not None:
        image = like(table, options.image, remarks)
    elif text is None and options.text == "text":
        image = next((found for name in IMAGE_COLUMNS if (found := like(table, name, remarks)) is not None), None)
    label = like(table, options.label, remarks) if labels else None
    if labels and label is None and options.label == "label" and {"accept", "options"} <= set(table.columns):
        label = "accept"
        remarks.append('labels were read from the column "accept", as Prodigy writes choices')
    missing = []
    if options.image is not None and image is None:
        missing.append(("--image", options.image))
    elif image is None and text is None:
        missing.append(("--text", options.text))
    if labels and label is None:
        missing.append(("--label", options.label))
    if options.text_pair != "text_pair" and pair is None:  # asked for by name, so it must be there
        missing.append(("--text-pair", options.text_pair))
    if missing:
        raise missing_columns(table, missing)
    if label is not None and label in (text, image):
        raise UsageError(
            f'the column "{label}" is both input and label', remedy="name another with --label", about=table.path
        )
    if image is not None and options.text_pair != "text_pair":
        raise UsageError(
            "--text-pair names a second text, but images are read", remedy="leave it out", about=table.path
        )
    verdict = "answer" if label is not None and label != "answer" and "answer" in table.columns else None
    # Keys of JSON rows are their own: a pair may be missing from the first row and occur in a later one
    return Columns(text or options.text, pair or options.text_pair, label, image, verdict, tuple(remarks))


def like(table: Table, name: str, remarks: list[str]) -> str | None:
    """The column called ``name``, exactly or but for case and outer space (which is remarked), or None.

    Raises:
        DataError: several columns answer to the name.
    """
    if name in table.columns:
        return name
    found = [c for c in table.columns if fold(c) == fold(name)]
    if len(set(found)) > 1:
        shown = ", ".join(f'"{c}"' for c in found)
        raise DataError(
            f'no column "{name}", but {shown} differ from it in case or space', remedy="name one", about=table.path
        )
    if not found:
        return None
    remarks.append(f'the column "{found[0]}" was read as "{name}"')
    return found[0]


def missing_columns(table: Table, missing: Sequence[tuple[str, str]], also: str = "") -> DataError:
    """The error for columns that are not there; ``missing`` are options with the names that they have."""
    names = " or ".join([*(f'"{name}"' for _, name in missing), *([also] if also else [])])
    listed = ", ".join(f'"{c}"' for c in table.columns[:20]) or "none"
    taken: set[str] = set()
    proposals = []
    for option, name in missing:
        close = [c for c in _close(table.columns, option, name) if c not in taken][:1]
        taken.update(close)
        proposals += [f"{option} {_quoted(close[0])}"] if close else []
    flags = " and ".join(option for option, _ in missing)
    if proposals:
        remedy = f"name the column{'s' if len(missing) > 1 else ''} with {flags}, perhaps {' '.join(proposals)}"
    else:
        remedy = f"name the column{'s' if len(missing) > 1 else ''} with {flags}"
    if any(number_in(c) is not None or len(c.split()) > 5 for c in table.columns):
        remedy = "the first row must hold the names of the columns; if it does, " + remedy
    if len(table.columns) == 1 and re.search(r"[;,\t|]", table.columns[0]):
        remedy = "the header was read as one column: name the separator with --separator, or " + remedy
    return DataError(f"no column {names}; found {listed}", remedy=remedy, about=table.path)


def _close(columns: Sequence[str], option: str, name: str) -> list[str]:
    """Columns that may be meant, the likeliest first."""
    folded = {fold(c): c for c in columns}
    spelled = [folded[f] for f in difflib.get_close_matches(fold(name), list(folded), cutoff=0.75)]
    usual = _LABELS if option == "--label" else _TEXTS if option.startswith("--text") else frozenset(IMAGE_COLUMNS)
    words = {c: set(re.split(r"[^\w]+|_", f)) for f, c in folded.items()}
    by_word = [c for c, found in words.items() if usual & found and not found & {"id", "ids", "no", "nr", "number"}]
    return list(dict.fromkeys([*spelled, *by_word]))


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name and '"' not in name else shlex.quote(name)
