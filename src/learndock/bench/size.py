"""How much of everything a run takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

#: Of learnwares; see ``learners``.
QUALITIES = ("good", "little", "noisy30", "noisy60", "corrupted")


@dataclass(frozen=True)
class Size:
    """The numbers that make a run long or short; part of every cache key that they touch.

    ``fit`` and ``spec`` count the owner's examples, ``shots`` are the user's per class, of ``pool_shots`` per class
    that are set aside; ``test`` examples score a learnware on its own labels, ``cross_test`` of them on other tasks'.
    ``qualities`` are those of the pool's learnwares, ``other_qualities`` of those with features of their own
    (default: the same); ``network_qualities`` says which of the graded networks are trained, ``larger`` names a space
    whose helper serves as a larger encoder, ``paper_tasks`` on how many tasks the expensive recipe runs, with
    ``paper_steps`` steps.
    """

    tasks: int | None = None
    seeds: int = 3
    shots: int = 16
    pool_shots: int = 64
    fit: int = 800
    spec: int = 256
    test: int = 400
    cross_test: int = 150
    network_qualities: tuple[str, ...] = ("good", "noisy60")
    network_fit: int = 400
    network_epochs: int = 2
    qualities: tuple[str, ...] = QUALITIES
    other_qualities: tuple[str, ...] | None = None
    larger: str | None = None
    paper_tasks: int = 5
    paper_steps: int = 300
    finetune: bool = True

    def to_dict(self) -> dict[str, Any]:
        """For results.json."""
        return asdict(self)


FULL = Size(cross_test=100, larger="smollm2-135m", paper_tasks=4)
#: No networks: half an hour on two cores, most of it the papers' recipe.
SHORT = replace(FULL, network_qualities=(), larger=None)
QUICK = Size(
    tasks=3, seeds=1, pool_shots=16, fit=160, spec=64, test=80, cross_test=40,
    network_qualities=(), paper_tasks=0, finetune=False,
)  # fmt: skip
#: Images: no descriptions to share the helper's passes by, so every spec costs one. The short form is half of it.
IMAGES = Size(
    seeds=2, pool_shots=16, fit=600, spec=128, test=300, cross_test=100,
    qualities=(*QUALITIES, "shuffled"), other_qualities=("good", "noisy60", "shuffled"), network_qualities=("good",),
    network_epochs=12, paper_tasks=0, finetune=False,
)  # fmt: skip
IMAGES_SHORT = replace(
    IMAGES, qualities=("good", "little", "noisy60", "corrupted", "shuffled"), other_qualities=("good", "shuffled"),
    network_qualities=(),
)  # fmt: skip
IMAGES_QUICK = Size(
    tasks=4, seeds=1, pool_shots=8, shots=8, fit=120, spec=48, test=80, cross_test=40,
    qualities=("good", "shuffled"), network_qualities=(), paper_tasks=0, finetune=False,
)  # fmt: skip
#: Language models: ``network_epochs`` passes of the owner's data train a good adapter.
WRITERS = Size(
    seeds=2, shots=12, pool_shots=16, fit=384, network_fit=384, spec=96, test=120, cross_test=32,
    qualities=("good", "brief", "noisy60", "shuffled"), network_qualities=(), network_epochs=3, paper_tasks=2,
    paper_steps=100, finetune=False,
)  # fmt: skip
WRITERS_QUICK = replace(
    WRITERS, tasks=3, seeds=1, shots=8, pool_shots=8, fit=48, network_fit=48, spec=32, test=40, cross_test=24,
    qualities=("good", "shuffled"), paper_tasks=0,
)  # fmt: skip
