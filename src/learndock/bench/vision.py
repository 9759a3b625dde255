"""The kinds of models of the vision bench beside the helper's features, and its own two questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.bench.compare import compare
from learndock.bench.experiments import Finding
from learndock.bench.learners import Answers, Linear, corrupt, degrade, softmax
from learndock.bench.methods import DEFAULT, METHODS, PARTS
from learndock.bench.pool import Bench, Report
from learndock.bench.size import Size
from learndock.data import Examples, Schema
from learndock.data.examples import Input
from learndock.spaces.helper import Progress
from learndock.spaces.images import ImageEncoder

Float = NDArray[np.float64]
#: Good and shuffled learnwares whose test scores differ by less tell nothing.
MARGIN = 0.1


class Shapes:
    """Edges and colours, with no network: orientations of gradients in 8 x 8 cells, and the colours of 4 x 4."""

    side, cell, bins = 64, 8, 9

    def __init__(self) -> None:
        self.encoder = ImageEncoder(self.side)
        self.known: dict[Any, Float] = {}

    def __call__(self, inputs: Sequence[Input]) -> Float:
        """``(n, 624)``."""
        for item in inputs:
            if item not in self.known:
                self.known[item] = self._describe(self.encoder([item])[0].astype(np.float64) / 255)
        return np.stack([self.known[i] for i in inputs])

    def _describe(self, pixels: Float) -> Float:
        rows, columns = np.gradient(pixels.mean(2))
        length = np.hypot(rows, columns)
        angle = ((np.arctan2(rows, columns) % np.pi) / np.pi * self.bins).astype(int) % self.bins
        cells = self.side // self.cell
        found = np.zeros((cells, cells, self.bins))
        place = np.arange(self.side) // self.cell
        np.add.at(found, (place[:, None], place[None, :], angle), length)
        found = np.sqrt(found / (np.linalg.norm(found) + 1e-9))
        colours = pixels.reshape(4, 16, 4, 16, 3).mean((1, 3))
        return np.concatenate([found.ravel(), colours.ravel()])


def train_shapes(encode: Shapes, schema: Schema, examples: Examples, quality: str, seed: int) -> Linear:
    """A linear SVM on edges and colours."""
    from sklearn.svm import LinearSVC

    data = degrade(quality, examples, seed)
    estimator = LinearSVC(C=0.3)
    estimator.fit(encode(list(data.inputs)), data.targets)
    return Linear(schema, encode, corrupt(schema, estimator, seed) if quality == "corrupted" else estimator)


class SmallNetwork:
    """A convolutional network of three layers on 32 x 32 pixels, trained from nothing."""

    def __init__(self, schema: Schema, seed: int) -> None:
        import torch
        from torch import nn

        torch.manual_seed(seed)
        self.schema, self.encoder = schema, ImageEncoder(32)
        layers: list[nn.Module] = []
        for entering, out in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(entering, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 64), nn.ReLU())
        self.head = nn.Linear(64, schema.classes)

    def _pixels(self, inputs: Sequence[Input]) -> Any:
        import torch

        pixels = np.stack(self.encoder(inputs)).transpose(0, 3, 1, 2)
        return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1)

    def fit(self, data: Examples, epochs: int, seed: int) -> SmallNetwork:
        """Train by Adam."""
        import torch

        x, y = self._pixels(data.inputs), torch.from_numpy(np.asarray(data.targets, np.int64))
        optimiser = torch.optim.Adam([*self.body.parameters(), *self.head.parameters()], lr=2e-3)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            shuffled = torch.randperm(len(y), generator=generator)
            for start in range(0, len(y), 32):
                rows = shuffled[start : start + 32]
                if len(rows) < 2:
                    continue  # a batch norm needs two
                loss = torch.nn.functional.cross_entropy(self.head(self.body(x[rows])), y[rows])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        self.body.eval()
        return self

    def answer(self, inputs: Sequence[Input]) -> Answers:
        """Probabilities, and as codes the features under the last layer."""
        import torch

        with torch.inference_mode():
            parts = [self.body(self._pixels(inputs[i : i + 256])) for i in range(0, len(inputs), 256)]
            codes = torch.cat(parts)
            logits = self.head(codes).numpy().astype(np.float64)
        return Answers(softmax(logits), codes.numpy().astype(np.float64))


def train_network(
    schema: Schema, examples: Examples, quality: str, size: Size, seed: int, progress: Progress | None = None
) -> SmallNetwork:
    """The small network at a quality; ``corrupted`` is left untrained."""
    network = SmallNetwork(schema, seed)
    if quality == "corrupted":
        network.body.eval()
        return network
    return network.fit(degrade(quality, examples, seed), size.network_epochs, seed)


def meanings(bench: Bench, _: Report) -> Finding:
    """Other questions of the same images: is the right one first among all learnwares over these images?"""
    over: dict[str, list[int]] = {
        task: [i for i, e in enumerate(bench.entries) if bench.tasks[e.task].base == found.base]
        for task, found in bench.tasks.items()
    }
    asked = [t for t, places in over.items() if len({bench.entries[p].task for p in places}) > 1]
    methods = {name: PARTS[name] for name in ("random", "oracle", DEFAULT, "behaviour", "domain")}
    methods |= {name: METHODS[name] for name in ("rkme", "logme", "direct")}
    summary = compare(bench, methods, lambda task: over[task], tasks=asked).summary()
    names = list(methods)
    rows: list[list[Any]] = []
    for task in asked:
        found = summary["tasks"][task]
        rows.append([task, *(float(np.mean(found[n]["own"])) for n in names)])
    rows.append(["mean", *(summary["methods"][n]["top1_own_dataset"] for n in names)])
    rows.append(["with relatives at half", *(summary["methods"][n]["top1_or_relative"] for n in names)])
    bars = {n: summary["methods"][n]["top1_own_dataset"] for n in names}
    return Finding(
        "Other meanings of the same images", summary, ("task", *names), rows,
        ("bars", {"values": bars, "label": "right meaning first"}),
        "Share of draws with a learnware of the right question first, among all learnwares over the same images.",
    )  # fmt: skip


def order(bench: Bench, _: Report) -> Finding:
    """Is the well-trained learnware ahead of the one trained on shuffled labels, wherever their scores differ?"""
    rows: list[list[Any]] = []
    ahead: list[float] = []
    for task in bench.tasks:
        for kind in dict.fromkeys(e.kind for e in bench.entries):
            pair = [
                next((i for i, e in enumerate(bench.entries) if (e.task, e.kind, e.quality) == (task, kind, q)), None)
                for q in ("good", "shuffled")
            ]
            if None in pair:
                continue
            places = [p for p in pair if p is not None]
            worth = bench.scores[task][0, places]
            if worth[0] - worth[1] < MARGIN:
                continue
            given = np.array([METHODS[DEFAULT].choose(bench, task, s, places) for s in range(bench.size.seeds)])
            share = float((given[:, 0] > given[:, 1]).mean())
            ahead.append(share)
            rows.append([f"{task}, {kind}", float(worth[0]), float(worth[1]), float(given[:, 0].mean()),
                         float(given[:, 1].mean()), share])  # fmt: skip
    mean = float(np.mean(ahead)) if ahead else float("nan")
    rows.append(["mean", "", "", "", "", mean])
    columns = ("learnwares", "score, good", "score, shuffled", "similarity, good", "similarity, shuffled", "good ahead")
    return Finding(
        "Good ahead of shuffled", {"methods": {DEFAULT: {"good_ahead": mean, "pairs": len(ahead)}}, "tasks": {}},
        columns, rows,
        ("bars", {"values": {r[0]: r[3] - r[4] for r in rows[:-1]}, "label": "similarity, good less shuffled"}),
        f"Pairs whose test scores differ by {MARGIN} or more.",
    )  # fmt: skip
