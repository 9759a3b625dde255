"""The tour's data: eight tasks over four sets of real texts, made once and kept as small files.

    fetch (two packages, by hash) -> sentiment, diagnoses (texts with what is known of them)
        -> data (tasks, split and balanced) -> files in the cache -> Examples

Two pairs of tasks share their inputs and ask other questions of them: tumours by site and by nature, injuries
by kind and by region. Telling those apart is what the behaviour part of a specification is for.
"""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from learndock.data import Examples, Schema, read_examples
from learndock.errors import SchemaError
from learndock.files import atomic_write, sha256_bytes, sha256_file, storage_errors
from learndock.progress import Progress
from learndock.tour import diagnoses, sentiment
from learndock.tour.fetch import Package, fetch

#: Called with (done, total) while the data is made.

RATINGS = Package(
    "vaderSentiment",
    "0.5",
    "vaderSentiment-0.5.zip",
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
)
ICD = Package(
    "simple-icd-10-cm",
    "1.5.0",
    "simple_icd_10_cm-1.5.0-py3-none-any.whl",
    "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
)
#: Raised when the way of making tasks changes, so that older files are made again.
EDITION = 1

_T = TypeVar("_T")

_RATINGS_SOURCE = "Hutto and Gilbert, ICWSM 2014: ground truth of the package vaderSentiment 0.5 (MIT license)"
_ICD_SOURCE = (
    "ICD-10-CM, April 2026, US National Center for Health Statistics (public domain), "
    "in the package simple-icd-10-cm 1.5.0 (MIT license)"
)


@dataclass(frozen=True)
class TourTask:
    """One task of the tour, ready to train on and to test with."""

    name: str
    schema: Schema
    train: Examples
    test: Examples
    source: str


@dataclass(frozen=True)
class _Made:
    """A task in the making: rows of (text, label); a label is a class name or a number."""

    schema: Schema
    source: str
    train: list[tuple[str, str | float]]
    test: list[tuple[str, str | float]]


def load_tour_data(cache: Path, *, progress: Progress | None = None) -> dict[str, TourTask]:
    """The tour's tasks by name, from ``cache`` if they are there and complete, else made again.

    The folder is laid out as the benchmark's: ``tasks.json`` beside ``NAME.train.jsonl.gz`` and
    ``NAME.test.jsonl.gz``.

    Raises:
        LearndockError: the packages cannot be fetched; the message says what to try.
        StorageFull: no room in the cache.
    """
    kept = _kept(cache)
    if kept is None:
        with storage_errors(cache):
            cache.mkdir(parents=True, exist_ok=True)
        kept = _make(cache, progress)
    return {name: _load(cache, name, entry) for name, entry in kept.items()}


def _kept(cache: Path) -> dict[str, dict[str, Any]] | None:
    """What ``tasks.json`` says, if it is of this edition and all its files are unchanged."""
    try:
        entries = json.loads((cache / "tasks.json").read_text(encoding="utf-8"))
        for name, entry in entries.items():
            Schema.from_dict(entry)
            files = entry["files"]
            whole = all(sha256_file(cache / f"{name}.{part}.jsonl.gz") == files[part] for part in ("train", "test"))
            if not whole or entry["edition"] != EDITION or not isinstance(entry["source"], str):
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SchemaError):
        return None  # absent, half, or of another edition: the caller makes it again
    return dict(entries)


def _load(cache: Path, name: str, entry: dict[str, Any]) -> TourTask:
    schema = Schema.from_dict(entry)
    train, test = (read_examples(cache / f"{name}.{part}.jsonl.gz", schema=schema) for part in ("train", "test"))
    return TourTask(name, schema, train, test, entry["source"])


def _make(cache: Path, progress: Progress | None) -> dict[str, dict[str, Any]]:
    ratings, icd = fetch((RATINGS, ICD), cache)
    made = {
        **sentiment_tasks(sentiment.read_ratings(ratings, "tweets", "amazonReviewSnippets", "movieReviewSnippets")),
        **tumour_tasks(diagnoses.read_diagnoses(icd, "CD")),
        **injury_tasks(diagnoses.read_diagnoses(icd, "S")),
    }
    entries: dict[str, dict[str, Any]] = {}
    for done, (name, task) in enumerate(made.items()):
        if progress is not None:
            progress(done, len(made))
        entries[name] = _write(cache, name, task)
    with atomic_write(cache / "tasks.json") as stream:
        stream.write((json.dumps(entries, indent=1, ensure_ascii=False) + "\n").encode())
    if progress is not None:
        progress(len(made), len(made))
    return entries


def _write(cache: Path, name: str, task: _Made) -> dict[str, Any]:
    """Write the two files of a task; return its entry in ``tasks.json``."""
    hashes = {}
    for part, rows in (("train", task.train), ("test", task.test)):
        content = io.BytesIO()
        # No time in the gzip header: equal rows give equal bytes.
        with gzip.GzipFile(fileobj=content, mode="wb", mtime=0) as zipped:
            for text, label in rows:
                zipped.write(json.dumps({"text": text, "label": label}, ensure_ascii=False).encode() + b"\n")
        with atomic_write(cache / f"{name}.{part}.jsonl.gz") as stream:
            stream.write(content.getvalue())
        hashes[part] = sha256_bytes(content.getvalue())
    counts = {"n_train": len(task.train), "n_test": len(task.test)}
    return {**task.schema.to_dict(), "source": task.source, **counts, "edition": EDITION, "files": hashes}


# --- sentiment ------------------------------------------------------------------------------------------


def sentiment_tasks(rated: dict[str, list[sentiment.Rated]]) -> dict[str, _Made]:
    """Mood of tweets, of sentences about products and about films, and the strength of the tweets' mood."""
    tweets = _shuffled(rated["tweets"], seed=1)[:3600]
    products = _shuffled(rated["amazonReviewSnippets"], seed=2)
    films = _shuffled([r for r in rated["movieReviewSnippets"] if abs(r.rating) >= 0.5], seed=3)[:3000]
    scale = Schema(
        "regression",
        ("-4", "4"),
        ("a tweet in an extremely bad mood", "a tweet in an extremely good mood"),
        "pearson_spearman",
    )
    return {
        "tweet_sentiment": _moods(tweets, 600, 0.5, ("a tweet in a bad mood", "a tweet in a good mood"), "macro_f1"),
        "product_sentiment": _moods(
            products, 600, 0.4, ("a complaint about a product", "praise for a product"), "macro_f1"
        ),
        "movie_sentiment": _moods(films, 600, 0.5, ("a bad review of a film", "a good review of a film"), "accuracy"),
        "tweet_intensity": _Made(
            scale,
            _RATINGS_SOURCE,
            [(r.text, round(r.rating, 4)) for r in tweets[600:]],
            [(r.text, round(r.rating, 4)) for r in tweets[:600]],
        ),
    }


def _moods(
    rated: Sequence[sentiment.Rated], tests: int, least: float, descriptions: tuple[str, str], metric: str
) -> _Made:
    """Negative and positive; the first ``tests`` texts are for testing, ratings under ``least`` left out."""

    def rows(part: Sequence[sentiment.Rated]) -> list[tuple[str, str | float]]:
        clear = [r for r in part if abs(r.rating) >= least]
        return [(r.text, "positive" if r.rating > 0 else "negative") for r in clear]

    schema = Schema("classification", ("negative", "positive"), descriptions, metric)
    return _Made(schema, _RATINGS_SOURCE, rows(rated[tests:]), rows(rated[:tests]))


# --- diagnoses ------------------------------------------------------------------------------------------

_SITE_PHRASES = {
    "digestive organs": "a tumour of the mouth, stomach, bowel, liver or pancreas",
    "chest and airways": "a tumour of the nose, throat, lung or chest",
    "skin, bone and soft tissue": "a tumour of the skin, a bone or soft tissue",
    "breast, genital and urinary organs": "a tumour of the breast, womb, prostate, kidney or bladder",
    "brain, eye and glands": "a tumour of the brain, a nerve, an eye or a hormone gland",
    "blood and lymph": "a cancer of the blood or the lymph nodes",
}
_NATURE_PHRASES = {
    "malignant": "cancer, a malignant tumour",
    "benign": "a harmless, benign growth",
    "in situ or uncertain": "an early or uncertain growth that may become cancer",
}
_KIND_PHRASES = {
    "fracture": "a broken bone",
    "open wound": "an open wound: a cut, a bite or a puncture",
    "superficial injury": "a scratch, a bruise, a blister or an insect bite",
    "dislocation or sprain": "a joint out of place or a sprained ligament",
    "nerve, vessel or muscle": "an injured nerve, blood vessel, muscle or tendon",
}
_REGION_PHRASES = {
    "head and neck": "an injury of the head, face or neck",
    "trunk": "an injury of the chest, belly, back or pelvis",
    "arm and hand": "an injury of the shoulder, arm or hand",
    "leg and foot": "an injury of the hip, leg or foot",
}


def tumour_tasks(found: Sequence[diagnoses.Diagnosis]) -> dict[str, _Made]:
    """Where a tumour is, and what its nature is, of the same texts."""
    known = [
        _Known(d.text, site, nature)
        for d in found
        if (site := diagnoses.category_label(d.code, diagnoses.SITES))
        and (nature := diagnoses.category_label(d.code, diagnoses.NATURES))
    ]
    rows = _balanced(_shuffled(known, seed=4), ratio=3, most=1700)
    return _two_tasks(rows, 400, ("tumour_site", _SITE_PHRASES), ("tumour_nature", _NATURE_PHRASES))


def injury_tasks(found: Sequence[diagnoses.Diagnosis]) -> dict[str, _Made]:
    """What kind of injury it is, and where, of the same texts."""
    known = [
        _Known(d.text, kind, region)
        for d in found
        if (kind := diagnoses.title_label(d.title)) and (region := diagnoses.category_label(d.code, diagnoses.REGIONS))
    ]
    rows = _balanced(_shuffled(known, seed=5), ratio=2, most=2600)
    return _two_tasks(rows, 600, ("injury_kind", _KIND_PHRASES), ("injury_region", _REGION_PHRASES))


@dataclass(frozen=True)
class _Known:
    """A text with its answers to two questions."""

    text: str
    first: str
    second: str


def _balanced(rows: Sequence[_Known], *, ratio: int, most: int) -> list[_Known]:
    """Up to ``most`` rows, no answer more than about ``ratio`` times as frequent as another.

    Pairs of answers take turns, so that none is crowded out while its answers have room.
    """
    counts = [Counter(r.first for r in rows), Counter(r.second for r in rows)]
    room = [{a: min(n, ratio * min(c.values())) for a, n in c.items()} for c in counts]
    before: Counter[tuple[str, str]] = Counter()
    turns = []
    for row in rows:
        turns.append((before[row.first, row.second], row))
        before[row.first, row.second] += 1
    taken = []
    for _, row in sorted(turns, key=lambda turn: turn[0]):
        if room[0][row.first] and room[1][row.second]:
            room[0][row.first] -= 1
            room[1][row.second] -= 1
            taken.append(row)
    return _shuffled(taken, seed=6)[:most]


def _two_tasks(
    rows: Sequence[_Known], tests: int, first: tuple[str, dict[str, str]], second: tuple[str, dict[str, str]]
) -> dict[str, _Made]:
    """Two tasks over the same inputs with the same split."""
    made = {}
    for (name, descriptions), answer in ((first, "first"), (second, "second")):
        schema = Schema("classification", tuple(descriptions), tuple(descriptions.values()), "macro_f1")
        labelled: list[tuple[str, str | float]] = [(r.text, getattr(r, answer)) for r in rows]
        made[name] = _Made(schema, _ICD_SOURCE, labelled[tests:], labelled[:tests])
    return made


def _shuffled(rows: Sequence[_T], *, seed: int) -> list[_T]:
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(rows))
    return [rows[int(i)] for i in order]
