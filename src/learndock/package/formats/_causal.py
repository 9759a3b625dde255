"""Causal language models in torch: what a folder says of one, loading it, asking it.

Shared by the formats of models, adapters and GGUF files. A chat template that came with a model is never
rendered: prompts are written in one of the formats of ``spaces/prompts.py``, which a file ``prompt.json`` beside the
model may name (``{"format": "plain"}``); without one it is chatml where the vocabulary has its marks, else plain. They
begin with the token with which the model's own tokenizer begins a text, where it does.

A model's answer to a task with labels is how likely it finds each of them (*options*); otherwise it is what it writes,
the likeliest token each time (*greedy*). The manifest says which.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.errors import DataError, ModelError, SpaceError
from learndock.package.formats import MAX_NEW_TOKENS, Progress, decoding
from learndock.package.formats._loading import libraries
from learndock.package.formats._outputs import checked, softmax
from learndock.package.formats._quiet import quiet
from learndock.package.formats._writing import Writing
from learndock.package.formats.decoding import BATCH
from learndock.package.json_file import read_object
from learndock.package.safety import check_settings
from learndock.spaces.prompts import PromptFormat, read_format

CONFIG = "config.json"
#: A prompt and its completion have at most so many tokens, whatever the model's configuration allows.
MAX_CONTEXT = 4096
#: What a model of a kind that is not known raises when it runs.
_FAILURES = (ValueError, RuntimeError, TypeError, KeyError, AttributeError, IndexError)


def load_causal(folder: Path) -> Any:
    """The causal model in ``folder`` as float32; local safetensors only, no code of its own.

    Raises:
        ModelError: it does not load, or is not causal; the message says why.
        UnsafeModel: its configuration names code.
    """
    torch, transformers = libraries("a language model")
    source = read_object(folder / CONFIG)
    check_settings(source, where=CONFIG)
    known = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if source.get("model_type") not in known:
        raise ModelError(
            f"model_type {source.get('model_type')!r} is not a causal language model of transformers "
            f"{transformers.__version__}",
            remedy="update transformers",
            about=CONFIG,
        )
    try:
        with quiet():
            network, info = transformers.AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, local_files_only=True,
                trust_remote_code=False,
            )  # fmt: skip
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ImportError) as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"transformers cannot load it ({text})", remedy="save it again", about=folder.name) from None
    missing = sorted(str(k) for k in info["missing_keys"])
    if missing or info["mismatched_keys"]:
        some = ", ".join([*missing, *(str(k) for k in info["mismatched_keys"])][:3])
        raise ModelError(
            f"its weights are not those of its configuration ({some})", remedy="save it again", about=folder.name
        )
    decoding.options_of(network)
    return _require_causal(network.eval())


def _require_causal(network: Any) -> Any:
    """Refuse a model that looks ahead: its log-probabilities of a text would be wrong.

    Raises:
        ModelError: an output changes with a token that comes after it, or the model does not run.
    """
    import torch

    words = int(network.get_input_embeddings().weight.shape[0])
    ids = torch.arange(1, 7).remainder(words)[None].repeat(2, 1)
    ids[1, -1] = (ids[1, -1] + 1) % words
    kind = network.config.model_type
    try:
        with quiet(), torch.inference_mode():
            logits = network(input_ids=ids).logits[:, :-1].float()
    except _FAILURES as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"a model of the type {kind!r} does not run on a text alone ({text})",
            remedy="use a causal language model",
            about=CONFIG,
        ) from None
    if bool(torch.isnan(logits).any()):
        raise ModelError(
            "the model's output is not finite",
            remedy="check its weights: they are damaged, or its training diverged",
            about=CONFIG,
        )
    if not bool(torch.isclose(logits[0], logits[1], rtol=1e-3, atol=1e-3).all()):
        raise ModelError(
            f"this model of the type {kind!r} reads the tokens that come after a token, so that it is not a "
            "causal language model",
            remedy="if it was trained as a decoder, its configuration must say so (is_decoder)",
            about=CONFIG,
        )
    return network


@dataclass(frozen=True, eq=False)
class CausalModel:
    """A loaded language model (``GenerativeModel``).

    ``adapter`` names the one that answers where several are loaded; ``ends`` are the tokens that end an answer.
    """

    network: Any
    format: PromptFormat
    schema: Schema
    ends: frozenset[int]
    adapter: str | None = None
    #: (prompts that lost their beginning, all prompts) of the last predictions
    _cut: list[int] = field(default_factory=lambda: [0, 0], repr=False)

    def predict(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> NDArray[Any]:
        """Probabilities of the labels ``(n, classes)``, or the texts that are written: an object array ``(n,)``."""
        if self.schema.type == "generation":
            return self.generate(inputs, progress=progress)
        scores = self.score(inputs, self.schema.labels, progress=progress)
        with np.errstate(invalid="ignore"):
            return checked(softmax(scores), self.schema, len(inputs))

    @property
    def context(self) -> int:
        """How many tokens a prompt and its completion have together, at most."""
        config = self.network.config
        named = (getattr(config, key, None) for key in ("max_position_embeddings", "n_positions", "max_seq_len"))
        return min(next((int(n) for n in named if n), MAX_CONTEXT), MAX_CONTEXT)

    def prompt(self, prompt: Input, room: int) -> tuple[list[int], int]:
        """Ids of a prompt that leave ``room`` tokens of the context, and how many were cut from its beginning.

        The token that begins every text is kept.
        """
        try:
            ids = self.format.prompt(prompt)
        except DataError as error:
            raise ModelError(f"{str(error).replace('this space', 'this model')}") from None
        first = 0 if self.format.begin is None else 1
        kept = max(self.context - room, first + 1)
        if len(ids) <= kept:
            return ids, 0
        return ids[:first] + ids[len(ids) - kept + first :], len(ids) - kept

    def start(self, prompt: Input, max_tokens: int) -> tuple[list[int], int, int]:
        """Ids of a prompt to answer, how many tokens may follow, and how many were cut from its beginning.

        A prompt that fits into the context is not cut for an answer's sake: of a long one a quarter of the context is
        kept free, or ``max_tokens`` where they are fewer.
        """
        ids, cut = self.prompt(prompt, min(max_tokens, max(self.context // 4, 1)))
        return ids, min(max_tokens, self.context - len(ids)), cut

    def left_out(self, prompt: Input, *, max_tokens: int = MAX_NEW_TOKENS) -> int:
        """See ``GenerativeModel``."""
        if self.schema.classes:
            return self.prompt(prompt, max(len(self.format.completion(label)) for label in self.schema.labels))[1]
        return self.start(prompt, max_tokens)[2]

    def score(
        self, inputs: Sequence[Input], completions: Sequence[str], *, progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """See ``GenerativeModel``.

        Raises:
            ModelError: a completion is longer than the model's context.
        """
        import torch

        self.speak()
        ends = [self.format.completion(c) for c in completions]
        longest = max(len(e) for e in ends)
        if longest >= self.context:
            raise ModelError(
                f"a completion has {longest} tokens, the model reads {self.context} with the prompt",
                remedy="shorten it",
            )
        found = np.zeros((len(inputs), len(ends)), np.float64)
        starts = [ids for ids, _ in self._counted([self.prompt(i, longest) for i in inputs])]
        for done, (row, start) in enumerate(zip(found, starts, strict=True), start=1):
            for first in range(0, len(ends), BATCH):
                some = ends[first : first + BATCH]
                longest = max(len(e) for e in some)
                ids = torch.tensor([start + e + [self.format.end] * (longest - len(e)) for e in some])
                with torch.inference_mode():
                    logits = _last_logits(self.network, ids, longest + 1)
                    known = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, -longest:, None]).squeeze(2)
                for i, end in enumerate(some):
                    row[first + i] = float(known[i, : len(end)].sum())
            if progress is not None:
                progress(done, len(inputs))
        return found

    def generate(
        self, inputs: Sequence[Input], *, max_tokens: int = MAX_NEW_TOKENS, progress: Progress | None = None
    ) -> NDArray[Any]:
        """See ``GenerativeModel``.

        Raises:
            ModelError: its outputs are not finite, or an option of its generation is not followed here.
        """
        self.speak()
        started = [self.start(i, max_tokens) for i in inputs]
        starts = [ids for ids, _ in self._counted([(ids, cut) for ids, _, cut in started])]
        found = np.empty(len(inputs), object)
        limits = [limit for _, limit, _ in started]
        written = decoding.decode(self.network, starts, self.ends, limits=limits, progress=progress)
        found[:] = [self.format.tokenizer.decode(ids).strip() for ids in written]
        return found

    def stream(self, prompt: Input, *, max_tokens: int = MAX_NEW_TOKENS) -> Iterator[str]:
        """See ``GenerativeModel``.

        Raises:
            ModelError: see ``generate``.
        """
        self.speak()
        ids, limit, _ = self.start(prompt, max_tokens)
        written: list[int] = []
        said = ""
        for token in decoding.stream(self.network, ids, self.ends, limit=limit):
            written.append(token)
            text = self.format.tokenizer.decode(written)
            if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # half a character: the rest is still to come
                yield text[len(said) :]
                said = text

    def _counted(self, prompts: list[tuple[list[int], int]]) -> list[tuple[list[int], int]]:
        self._cut[:] = [sum(cut > 0 for _, cut in prompts), len(prompts)]
        return prompts

    def remarks(self) -> tuple[str, ...]:
        """How many prompts of the last predictions were longer than the model reads."""
        cut, count = self._cut
        if not cut:
            return ()
        read = f"{self.context:,} tokens, answer included"
        return (f"{cut} of {count} prompts are longer than the model reads ({read}): their beginnings were left out",)

    def speak(self) -> None:
        """Let this model's adapter answer, where several share one base."""
        if self.adapter is not None:
            self.network.set_adapter(self.adapter)


def _last_logits(network: Any, ids: Any, count: int) -> Any:
    """Logits ``(n, count, words)`` at the last positions; no others are computed where the model can leave them out."""
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    taken = inspect.signature(inner.forward).parameters
    options: dict[str, Any] = {"logits_to_keep": count} if "logits_to_keep" in taken else {}
    if "use_cache" in taken:
        options["use_cache"] = False
    try:
        return network(input_ids=ids, **options).logits[:, -count:]
    except _FAILURES as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the model does not run on {ids.shape[1]} tokens ({text})", remedy="use a causal language model"
        ) from None


def model_of(
    network: Any, schema: Schema, settings: Mapping[str, Any], writing: Writing, adapter: str | None = None
) -> CausalModel:
    """A ``CausalModel`` with the prompt format that the manifest describes.

    Raises:
        ModelError: it describes none, or the vocabulary has more words than the model.
    """
    said = settings.get("prompt")
    if not isinstance(said, Mapping) or not {"format", "begin", "start", "end"} <= set(said):
        raise ModelError("the manifest does not say how prompts are written for this model", remedy="pack it again")
    try:
        form = read_format(writing.vocabulary, said)
    except SpaceError as error:
        raise ModelError(str(error)) from None
    words = int(network.get_input_embeddings().weight.shape[0])
    if form.tokenizer.get_vocab_size(with_added_tokens=True) > words:
        raise ModelError(
            f"the tokenizer has more words than the model ({words})", remedy="give the model its own tokenizer"
        )
    ends = {form.end, *writing.ends, *decoding.end_tokens(network)}
    return CausalModel(network, form, schema, frozenset(e for e in ends if 0 <= e < words), adapter)


def not_tuned(kind: str) -> ModelError:
    """Why a language model is not tuned here, and what to do."""
    return ModelError(
        "language models are not tuned by `learndock finetune`",
        remedy="train an adapter on it with peft, then pack that with `learndock pack`",
        about=kind,
    )
