"""What a task is: its type, its labels, what each label means in words, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from learndock.errors import SchemaError
from learndock.notebook import html_table
from learndock.strict_json import strict_json

TaskType = Literal["classification", "regression", "generation"]

CLASSIFICATION_METRICS = ("accuracy", "macro_f1", "f1", "matthews")
GENERATION_METRICS = ("exact_match", "token_f1")
REGRESSION_METRICS = ("pearson_spearman", "pearson", "spearman", "mean_squared_error")
#: What a task of each type may be scored by; the first is the default.
METRICS: dict[str, tuple[str, ...]] = {
    "classification": CLASSIFICATION_METRICS,
    "regression": REGRESSION_METRICS,
    "generation": GENERATION_METRICS,
}


@dataclass(frozen=True)
class Schema:
    """A task in words: its type, its labels and what they mean, and the metric it is scored by.

    ``labels`` are the names of the classes, in the order of their indices. For regression they are the two ends of
    the scale (low, high), as numbers in text, or empty where the scale has no known ends. Generation, where
    completions are free text, has none; where the possible completions are few, use classification.
    ``descriptions`` say what each label means, one for each label; by default they are the labels.

    Raises:
        SchemaError: a field contradicts another.

    Example:
        >>> learndock.Schema(
        ...     "classification", ("neg", "pos"), ("negative film review", "positive film review"), "accuracy"
        ... )
        <Schema: classification of neg, pos; accuracy>
    """

    type: TaskType
    labels: tuple[str, ...]
    descriptions: tuple[str, ...]
    metric: str

    def __post_init__(self) -> None:
        if self.type not in tuple(METRICS):  # whatever was read, hashable or not
            raise SchemaError(f'type "{self.type}" is unknown', remedy=f"use one of {', '.join(METRICS)}")
        known = METRICS[self.type]
        if self.metric not in known:
            raise SchemaError(
                f'metric "{self.metric}" is unknown for {self.type}', remedy=f"use one of {', '.join(known)}"
            )
        for name, values in (("labels", self.labels), ("descriptions", self.descriptions)):
            if any(not isinstance(v, str) or not v.strip() for v in values):
                raise SchemaError(f"{name} must be texts that are not empty, found {list(values)!r}")
        if len(set(self.labels)) != len(self.labels):
            raise SchemaError(f"labels must differ from each other, found {list(self.labels)!r}")
        if len(self.descriptions) != len(self.labels):
            raise SchemaError(
                f"{len(self.labels)} labels but {len(self.descriptions)} descriptions", remedy="give one for each label"
            )
        if self.type == "classification" and len(self.labels) < 2:
            raise SchemaError(f"classification needs at least 2 labels, found {list(self.labels)!r}")
        if self.type == "generation" and self.labels:
            raise SchemaError(
                "generation has no labels", remedy="where there are a few answers only, use classification"
            )
        if self.type == "regression" and len(self.labels) not in (0, 2):
            raise SchemaError(
                f"regression takes the two ends of its scale as labels, or none; found {list(self.labels)!r}"
            )

    def __repr__(self) -> str:
        labels = " of " + ", ".join(self.labels) if self.labels else ""
        return f"<Schema: {self.type}{labels}; {self.metric}>"

    def _repr_html_(self) -> str:
        rows = zip(self.labels, self.descriptions, strict=True)
        return html_table(("label", "meaning"), rows, caption=f"{self.type}, scored by {self.metric}")

    @property
    def classes(self) -> int:
        """Number of classes; 0 for regression and generation."""
        return len(self.labels) if self.type == "classification" else 0

    @classmethod
    def from_dict(cls, source: Mapping[str, Any]) -> Schema:
        """Read a schema from JSON, or a benchmark's ``tasks.json`` entry (``label_texts``, no ``type``).

        Raises:
            SchemaError: a field is missing or contradicts another.
        """
        if not isinstance(source, Mapping):
            raise SchemaError(f"a schema is a JSON object, found {type(source).__name__}")
        labels = source.get("labels", [])
        metric = source.get("metric")
        kind: Any = source.get("type") or next((t for t, m in METRICS.items() if metric in m), "classification")
        descriptions = source.get("descriptions") or source.get("label_texts") or labels
        for name, values in (("labels", labels), ("descriptions", descriptions)):
            if not isinstance(values, list | tuple):
                raise SchemaError(f"{name} must be a list, found {type(values).__name__}")
        default = METRICS.get(kind, CLASSIFICATION_METRICS)[0] if isinstance(kind, str) else "accuracy"
        return cls(
            type=kind,
            labels=tuple(str(v) if isinstance(v, int | float) else v for v in labels),
            descriptions=tuple(str(v) if isinstance(v, int | float) else v for v in descriptions),
            metric=metric or default,
        )

    @classmethod
    def from_file(cls, path: str | Path) -> Schema:
        """Read ``schema.json``; ``tasks.json#name`` picks one entry of a file that holds several.

        Raises:
            SchemaError: no such file, not JSON, or not a schema.
        """
        name, _, entry = str(path).partition("#")
        try:
            source = strict_json(Path(name).read_bytes())
        except FileNotFoundError:
            raise SchemaError("no such schema file", about=name) from None
        except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise SchemaError(f"not readable as JSON ({error})", about=name) from None
        if entry:
            if not isinstance(source, dict) or entry not in source:
                raise SchemaError(f'has no entry "{entry}"', about=name)
            source = source[entry]
        elif isinstance(source, dict) and source and all(isinstance(v, dict) for v in source.values()):
            some = ", ".join(list(source)[:5])
            raise SchemaError(f"holds several tasks ({some}, ...)", remedy=f"pick one with {name}#NAME", about=name)
        try:
            return cls.from_dict(source)
        except SchemaError as error:
            raise SchemaError(f"{error}", about=path) from None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; ``from_dict`` reads it back unchanged."""
        return {
            "type": self.type,
            "labels": list(self.labels),
            "descriptions": list(self.descriptions),
            "metric": self.metric,
        }
