"""What a helper could not read of some inputs: said in a spec, so that "nothing fits" has a reason.

Three things are counted over a sample of the inputs and reported as coarse shares: texts in languages or notations
that the helper's vocabulary does not know, texts longer than it reads, and images far from its resolution.

A vocabulary that knows a language writes its words in few pieces. The bundled MiniLM has 0.20 to 0.27 pieces per letter
on fifteen English tasks (at most 2.2% of a task's texts above 0.36), 0.40 to 0.51 on sentences in other languages of
Latin letters, about 1 in Cyrillic, Greek, Arabic or Hebrew, and no pieces at all for most of Chinese.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from learndock.data.images import Image, image_size
from learndock.spaces.languages import WORDS, language, script

#: At most so many inputs are looked at; their shares are taken for those of all.
SAMPLE = 512
#: A share below this is not worth a remark.
LEAST = 0.1
#: Pieces per letter above which a vocabulary does not know a language: of alphabets, and of scripts whose letters are
#: syllables or words.
PIECES, PIECES_OF_SYLLABLES = 0.36, 1.05
_SYLLABLES = frozenset(("CJK", "HIRAGANA", "KATAKANA", "HANGUL"))
#: Letters that a text must have before it is judged.
LETTERS = 20
#: Share of a language's most frequent words that a vocabulary that knows it has as one piece each.
KNOWN_WORDS = 0.85
#: Resizing that leaves little: an image smaller or larger than the helper's by these factors, or cut to less than this.
SMALLER, LARGER, CUT = 3, 8, 0.5


def what_was_not_read(helper: Any, inputs: Sequence[Any]) -> dict[str, Any]:
    """What a spec's ``settings["reading"]`` says: shares, ``languages``, and ``remarks`` in words.

    Empty where the helper could read the inputs, or cannot say.
    """
    read = getattr(getattr(helper, "encoder", None), "reading", None)
    return dict(read(inputs)) if read is not None else {}


def sample(inputs: Sequence[Any]) -> list[Any]:
    """At most ``SAMPLE`` of the inputs, evenly spaced."""
    step = max(-(-len(inputs) // SAMPLE), 1)
    return list(inputs[::step])


def unknown_token(tokenizer: Any) -> str | None:
    """What a tokenizer writes for what its vocabulary does not have, or None where it has everything in bytes."""
    name = getattr(tokenizer.model, "unk_token", None)
    if name is None:
        name = next((t for t in ("<unk>", "[UNK]") if tokenizer.token_to_id(t) is not None), None)
    return name


class Vocabulary:
    """What a tokenizer knows: judged by the pieces that it makes of texts."""

    def __init__(self, tokenizer: Any, unknown: str | None) -> None:
        self.tokenizer, self.unknown = tokenizer, unknown
        self._known: dict[str, bool] = {}

    def hard(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is in a language, or of a kind, that the vocabulary does not know."""
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [self._hard(text, found) for text, found in zip(texts, encodings, strict=True)]

    def _hard(self, text: str, encoding: Any) -> bool:
        end = max((stop for _, stop in encoding.offsets), default=0)  # the text may have been cut
        letters = sum(map(str.isalpha, text[:end]))
        if letters < LETTERS:
            return False
        spans = [text[a:b] for a, b in encoding.offsets]
        pieces = sum(span.isalpha() or any(map(str.isalpha, span)) for span in spans)
        unknown = sum(
            sum(map(str.isalpha, span))
            for span, token in zip(spans, encoding.tokens, strict=True)
            if token == self.unknown
        )
        most = PIECES_OF_SYLLABLES if script(text) in _SYLLABLES else PIECES
        if pieces > most * letters or unknown > LEAST * letters:
            return True
        name = language(text)
        return name in WORDS and not self.knows(str(name))

    def knows(self, name: str) -> bool:
        """Whether the vocabulary has the frequent words of a language as one piece each."""
        if name not in self._known:
            encodings = self.tokenizer.encode_batch([" " + w for w in WORDS[name]], add_special_tokens=False)
            single = [len(e.tokens) == 1 and e.tokens[0] != self.unknown for e in encodings]
            self._known[name] = sum(single) >= KNOWN_WORDS * len(single)
        return self._known[name]


def text_remarks(vocabulary: Vocabulary, texts: Sequence[str], cut: Sequence[bool], limit: str) -> dict[str, Any]:
    """What a spec says about texts of which ``cut`` were longer than ``limit``; empty where nothing is odd."""
    found: dict[str, Any] = {}
    remarks = []
    hard = vocabulary.hard(texts)
    share = _share(hard)
    if share >= LEAST:
        names = _names(text for text, is_hard in zip(texts, hard, strict=True) if is_hard)
        found |= {"hard": _coarse(share), "languages": names}
        seem = f" They seem to be: {', '.join(names)}." if names else ""
        remarks.append(
            f"{_about(share)} of the texts are in a language or notation that this space's helper hardly "
            f"reads: its vocabulary breaks their words into many small pieces.{seem} Use a space with a helper that "
            "reads them, such as a multilingual one"
        )
    share = _share(cut)
    if share >= LEAST:
        found["cut"] = _coarse(share)
        remarks.append(f"{_about(share)} of the texts are longer than {limit}; the helper read only their beginning")
    return {**found, "remarks": remarks} if remarks else {}


def image_remarks(images: Sequence[Image], size: int) -> dict[str, Any]:
    """What a spec says about images for a helper that reads ``size`` x ``size`` pixels; empty where nothing is odd."""
    sides = [sorted(image_size(image)) for image in images]
    found: dict[str, Any] = {}
    remarks = []
    for name, odd, what in (
        ("small", [low * SMALLER < size for low, _ in sides], f"less than a third of {size} pixels wide or high"),
        ("large", [low > LARGER * size for low, _ in sides], f"more than {LARGER} times {size} pixels wide and high"),
        ("long", [low < CUT * high for low, high in sides], "more than twice as long as wide"),
    ):
        share = _share(odd)
        if share >= LEAST:
            found[name] = _coarse(share)
            effect = {
                "small": "they are enlarged, and the helper sees no detail",
                "large": "small details vanish",
                "long": "only the middle square is read",
            }[name]
            remarks.append(f"{_about(share)} of the images are {what}: {effect}")
    return {**found, "remarks": remarks} if remarks else {}


def _about(share: float) -> str:
    """A share in words: coarse, as everything that a spec says about inputs."""
    return "nearly all" if _coarse(share) == 1 else f"about {_coarse(share):.0%}"


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / max(len(flags), 1)


def _coarse(share: float) -> float:
    """A share to one digit, since a spec may be published."""
    return round(share, 1)


def _names(texts: Iterable[str]) -> list[str]:
    counts = Counter(name for text in texts if (name := language(text)) is not None and name != "English")
    total = sum(counts.values())
    return [name for name, n in counts.most_common(3) if n >= LEAST * total]
