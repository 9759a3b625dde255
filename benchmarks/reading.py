"""How hard the texts of a folder are for the vocabulary of a space: the figures in docs/data.md.

    python benchmarks/reading.py FOLDER [SPACE]

FOLDER holds NAME.train.jsonl.gz files of English tasks. Each line has the pieces per letter over all texts of a task,
the share of texts with more than ``reading.PIECES``, and the share that a spec would call hard.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from learndock.data import read_examples
from learndock.spaces import get_space
from learndock.spaces.onnx_helper import read_encoder
from learndock.spaces.reading import LETTERS, PIECES, Vocabulary, unknown_token

MOST = 1500


def pieces_and_letters(tokenizer: Any, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """For each text the count of pieces that have letters, and of letters in what was read of it; ``(n,)`` each."""
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    pieces = [
        sum(any(c.isalpha() for c in t[a:b]) for a, b in e.offsets) for t, e in zip(texts, encodings, strict=True)
    ]
    ends = [max((b for _, b in e.offsets), default=0) for e in encodings]
    return np.array(pieces), np.array([sum(map(str.isalpha, t[:end])) for t, end in zip(texts, ends, strict=True)])


def main(folder: str, space: str = "minilm-l6") -> None:
    """Print a line for each file of ``folder``."""
    encoder: Any = read_encoder(get_space(space))
    vocabulary = Vocabulary(encoder.tokenizer, unknown_token(encoder.tokenizer))
    print(f"{'':28} texts  pieces per letter  above {PIECES}   hard")
    for path in sorted(Path(folder).glob("*.train.jsonl.gz")):
        inputs = read_examples(path, labels=False, limit=MOST).inputs
        texts = [" ".join(i) if isinstance(i, tuple) else i for i in inputs]
        pieces, letters = pieces_and_letters(encoder.tokenizer, texts)
        above = (pieces > PIECES * letters)[letters >= LETTERS].mean()
        hard = np.mean(vocabulary.hard(texts))
        name = path.name.removesuffix(".train.jsonl.gz")
        print(f"{name:28} {len(texts):5} {pieces.sum() / letters.sum():18.3f} {above:11.1%} {hard:6.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
