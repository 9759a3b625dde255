"""Networks among texts: the helper's architecture tuned whole, and what can be asked where a pool has such.

Two methods compare what tuning changed, in activations or in weights; a user's own network, tuned on the few examples,
stands on the other side. That network is also what a user has who looks for no learnware at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.bench.baselines import cosines
from learndock.bench.cache import Arrays
from learndock.bench.experiments import Finding, Reference, aligned, beyond
from learndock.bench.learners import Answers, degrade, softmax
from learndock.bench.methods import Method
from learndock.bench.pool import Bench, adapt, examples_of, grade, read_out
from learndock.bench.size import Size
from learndock.bench.writers import PROBES
from learndock.data import Examples, Schema
from learndock.data.examples import Input
from learndock.data.metrics import score
from learndock.data.prompts import Prompt, ScoredPrompt
from learndock.spaces.helper import Progress
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.space import Space, get_space
from learndock.spec.sketch import count_sketch
from learndock.spec.spec import identity

Float = NDArray[np.float64]
#: Numbers that the difference of all weights is sketched to.
KEPT = 4096
#: Steps in which a user's own network is tuned on the few examples, at least.
OWN_STEPS = 30
BATCH = 16
#: Longer texts are cut for networks: two cores train them in half the time.
TOKENS = 128


class Network:
    """The helper's own architecture and weights with a linear output layer, all of it tuned."""

    def __init__(self, space: Space, schema: Schema, seed: int) -> None:
        import torch
        from transformers import AutoModel

        torch.manual_seed(seed)
        weights = space.find("model.safetensors")
        assert weights is not None
        self.schema, self.encoder = schema, load_helper(space).encoder
        self.folder = weights.parent
        self.body = AutoModel.from_pretrained(self.folder)
        width = self.body.config.hidden_size
        self.head = torch.nn.Linear(width, max(schema.classes, 1))

    def forward(self, encoded: list[NDArray[Any]]) -> tuple[Any, Any]:
        """Mean-pooled features ``(n, width)`` and logits."""
        features = self._pooled(self.body, encoded)
        return features, self.head(features)

    def _pooled(self, body: Any, encoded: list[NDArray[Any]]) -> Any:
        import torch

        batch = self.encoder.pad_batch(encoded)
        mask = torch.from_numpy(batch["mask"])
        found = body(input_ids=torch.from_numpy(batch["ids"][batch["slots"]]), attention_mask=mask).last_hidden_state
        kept = mask[..., None].float()
        return (found * kept).sum(1) / kept.sum(1)

    def _encode(self, inputs: Sequence[Input]) -> list[NDArray[Any]]:
        return [e[:TOKENS] for e in self.encoder(list(inputs))]

    def changed(self) -> Arrays:
        """What tuning changed: ``activations`` ``(width,)`` on prompts of no task, all ``weights`` as a sketch."""
        import torch
        from transformers import AutoModel

        before = AutoModel.from_pretrained(self.folder).eval()
        probes = self._encode(PROBES)
        self.body.eval()
        with torch.inference_mode():
            moved = (self._pooled(self.body, probes) - self._pooled(before, probes)).mean(0).numpy()
            pairs = zip(self.body.parameters(), before.parameters(), strict=True)
            weights = np.concatenate([(now - then).numpy().ravel() for now, then in pairs])
        return {"activations": moved, "weights": count_sketch(0, len(weights), KEPT)(weights[None])[0]}

    def tune(self, examples: Examples, epochs: int, seed: int, progress: Progress | None = None) -> Network:
        """Adam, learning rate 5e-5 rising and falling, batches of 16 of similar length, no weight decay."""
        import torch

        assert examples.targets is not None
        encoded = self._encode(examples.inputs)
        parameters = [*self.body.parameters(), *self.head.parameters()]
        optimiser = torch.optim.Adam(
            [{"params": self.body.parameters(), "lr": 5e-5}, {"params": self.head.parameters(), "lr": 1e-3}]
        )
        steps = math.ceil(len(encoded) / BATCH) * epochs
        warm = max(steps // 10, 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda s: min((s + 1) / warm, (steps - s) / max(steps - warm, 1))
        )
        generator = np.random.Generator(np.random.Philox(key=[seed, 74]))
        regression = self.schema.type == "regression"
        values = np.asarray(examples.targets, np.float32)
        self.scale = (float(values.mean()), float(values.std()) or 1.0) if regression else (0.0, 1.0)
        done = 0
        self.body.train()
        for _ in range(epochs):
            order = np.argsort([len(e) + generator.random() * 8 for e in encoded])
            pieces = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
            for i in generator.permutation(len(pieces)):
                rows = pieces[int(i)]
                logits = self.forward([encoded[r] for r in rows])[1]
                if regression:
                    wanted = torch.from_numpy((values[rows] - self.scale[0]) / self.scale[1])
                    loss = torch.nn.functional.mse_loss(logits[:, 0], wanted)
                else:
                    wanted = torch.from_numpy(np.asarray(examples.targets, np.int64)[rows])
                    loss = torch.nn.functional.cross_entropy(logits, wanted)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
                schedule.step()
                done += 1
                if progress:
                    progress(done, steps)
        return self

    def answer(self, inputs: Sequence[Input]) -> Answers:
        """Probabilities or values, and the features of unit length as codes."""
        import torch

        from learndock.spaces.onnx_helper import batches

        self.body.eval()
        encoded = self._encode(inputs)
        features = np.zeros((len(encoded), self.head.in_features))
        logits = np.zeros((len(encoded), self.head.out_features))
        with torch.inference_mode():
            for rows in batches([len(e) for e in encoded]):
                f, z = self.forward([encoded[i] for i in rows])
                features[rows], logits[rows] = f.numpy(), z.numpy()
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        if self.schema.type == "regression":
            mean, spread = getattr(self, "scale", (0.0, 1.0))
            return Answers(logits[:, 0] * spread + mean, features)
        return Answers(softmax(logits), features)


def train_network(
    space: Space, schema: Schema, examples: Examples, quality: str, size: Size, seed: int,
    progress: Progress | None = None,
) -> Network:  # fmt: skip
    """The network of a quality; ``corrupted`` keeps the helper's weights scrambled and an untrained head."""
    import torch

    network = Network(space, schema, seed)
    if quality == "corrupted":
        with torch.no_grad():
            for p in network.body.parameters():
                # Drawn again at the size they had: a network that was never trained on anything
                p.copy_(torch.randn_like(p) * p.std() + p.mean() if p.numel() > 1 else p)
        return network
    data = degrade(quality, examples.take(range(min(size.network_fit, len(examples)))), seed)
    # Few examples get as many steps as a quarter of the full data would
    epochs = (
        size.network_epochs if quality != "little" else max(size.network_epochs, size.network_fit // 4 // len(data))
    )
    return network.tune(data, epochs, seed, progress)


def own_network(bench: Bench, task: str, seed: int) -> Arrays:
    """What a user gets who tunes the helper on the few examples: ``changed()``, and ``outputs`` for the test."""
    found = bench.tasks[task]
    few = examples_of(found, bench, seed)
    epochs = math.ceil(OWN_STEPS / math.ceil(len(few) / BATCH))
    key = {"space": identity(bench.space.describe("one-pass")), "task": found.digest, "shots": bench.size.shots,
           "seed": seed, "epochs": epochs}  # fmt: skip

    def make() -> Arrays:
        network = Network(bench.space, found.schema, seed).tune(few, epochs, seed)
        return {**network.changed(), "outputs": network.answer(list(found.test.inputs)).outputs}

    return bench.cache.get("own", key, make)


def _compare_changes(part: str) -> Method:
    def choose(bench: Bench, task: str, seed: int, places: Sequence[int]) -> Float:
        changed = [bench.entries[p].changed for p in places]
        query = np.asarray(own_network(bench, task, seed)[part], np.float64)
        # Only networks have weights and activations to compare: the others stand behind
        found = np.full(len(places), -1.0)
        those = [i for i, c in enumerate(changed) if c]
        found[those] = cosines([np.asarray(changed[i][part], np.float64) for i in those], query)
        return found

    return Method(choose, note="among networks, the user's tuned on the few examples", pays="nothing")


METHODS = {
    "delta activations": _compare_changes("activations"),
    "weights": _compare_changes("weights"),
}


def tuned_whole(bench: Bench, task: str, seed: int) -> float:
    """The helper tuned on the few examples, on the test examples."""
    found = bench.tasks[task]
    assert found.test.targets is not None
    return grade(found.schema, own_network(bench, task, seed)["outputs"], found.test.targets)


def larger(name: str) -> Reference:
    """A read-out on the frozen features of a larger helper, on the first ``cross_test`` test examples."""

    def ask(bench: Bench, task: str, seed: int) -> float:
        found = bench.tasks[task]
        tested = found.test.inputs[: bench.size.cross_test]
        places, labels = bench.drawn(task, seed)
        few = [found.user.inputs[i] for i in bench.rows[task]]
        read = _read(bench, name, [*few, *tested]).astype(np.float64)
        assert found.test.targets is not None
        said = read_out(found.schema, read[: len(few)][places], labels, read[len(few) :])
        return score(found.schema, said, found.test.targets[: len(tested)])

    return ask


def _read(bench: Bench, name: str, inputs: Sequence[Input]) -> NDArray[np.float32]:
    space = get_space(name)
    texts = [str(t) for t in adapt(inputs, "")]
    given: list[Any] = [ScoredPrompt(Prompt.of(t), ()) for t in texts] if space.input == "generation" else list(texts)
    key = {"space": identity(space.describe("one-pass")), "inputs": repr(texts)}
    return bench.cache.get("larger", key, lambda: {"x": load_helper(space).features(given)})["x"]


def references(size: Size) -> dict[str, Reference]:
    """What a user has without any learnware, by name."""
    found: dict[str, Reference] = {"helper tuned whole, no learnware": tuned_whole}
    if size.larger:
        found[f"{size.larger}, no learnware"] = larger(size.larger)
    return found


def aligned_networks(bench: Bench) -> Finding:
    """``experiments.aligned`` with the methods that need networks, and with what users have alone."""
    return aligned(bench, METHODS, references(bench.size))


def beyond_networks(bench: Bench) -> Finding:
    """``experiments.beyond``, likewise."""
    return beyond(bench, METHODS, references(bench.size))
