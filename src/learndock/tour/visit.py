"""What travels from the tour to its report: a user, and what the user found."""

from __future__ import annotations

from dataclasses import dataclass, field

from learndock.data.images import Image
from learndock.search import Identification, Match
from learndock.spec import Spec


@dataclass(frozen=True)
class User:
    """One user of the tour: a task, and a sentence about it; ``tune`` if the user tunes the best match."""

    task: str
    story: str
    tune: bool = False


@dataclass(frozen=True, eq=False)
class Visit:
    """What one user found, and what it was worth; ``best`` is the match that the user took.

    Scores are on the user's own test examples: of ``best`` as it is (``reused``), after tuning (``tuned``), of a model
    trained from scratch on the same few examples (``scratch``), and of all learnwares with the task's labels
    (``others``). ``drawn`` are some test images: image, label, and what ``best`` predicts.
    """

    user: User
    spec: Spec
    found: Identification
    metric: str
    best: Match | None = None
    reused: float | None = None
    tuned: float | None = None
    scratch: float | None = None
    others: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    drawn: tuple[tuple[Image, str, str], ...] = ()
