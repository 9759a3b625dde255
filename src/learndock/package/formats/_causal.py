"""Causal language models in torch: loading one from local files, asking it, and how its prompts are written.

Shared by the formats of whole models, adapters and GGUF files. A chat template that came with a model is never
rendered: prompts are written in one of the formats of ``spaces/prompts.py``, which a file ``prompt.json`` beside the
model may name (``{"format": "plain"}``); without one it is chatml where the vocabulary has its marks, else plain.

A model's answer to a task with labels is how likely it finds each of them (*options*); otherwise it is what it writes,
the likeliest token each time (*greedy*). The manifest says which.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.errors import DataError, ModelError, SpaceError
from learndock.package.formats import Progress
from learndock.package.formats._loading import libraries, quiet
from learndock.package.formats._outputs import checked, softmax
from learndock.package.json_file import read_object
from learndock.package.safety import check_settings
from learndock.spaces.prompts import FORMATS, PromptFormat, prompt_format, read_format

CONFIG, TOKENIZER, PROMPT = "config.json", "tokenizer.json", "prompt.json"
#: Tokens that a model writes at most, where nobody says.
MAX_NEW_TOKENS = 128
#: Prompts that are written for, or scored, together.
BATCH = 8
#: A prompt and its completion have at most so many tokens, whatever the model's configuration allows.
MAX_CONTEXT = 4096


def asked_format(folder: Path) -> str | None:
    """The format that ``prompt.json`` names, or None where there is no such file.

    Raises:
        ModelError: it says something else.
    """
    if not (folder / PROMPT).is_file():
        return None
    said = read_object(folder / PROMPT)
    if set(said) != {"format"} or said["format"] not in FORMATS:
        raise ModelError(f'{PROMPT}: must be {{"format": one of {", ".join(FORMATS)}}}')
    return str(said["format"])


def settings_of(folder: Path, schema: Schema, vocabulary: bytes, end: Any) -> dict[str, Any]:
    """What the manifest says of a model that writes: how it answers, and how prompts are written for it.

    Raises:
        ModelError: a task of numbers, or no prompt format fits the vocabulary.
    """
    if schema.type == "regression":
        raise ModelError("a language model answers with texts; a regression needs a model that puts out a number")
    end = end[0] if isinstance(end, list) and end else end
    if end is not None and type(end) is not int:
        raise ModelError(f"{CONFIG}: eos_token_id is {end!r}")
    try:
        found = prompt_format(vocabulary, end=end, name=asked_format(folder))
    except SpaceError as error:
        raise ModelError(f"{error}; {PROMPT} beside the model may name another format") from None
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(f"{TOKENIZER}: not a tokenizer ({error}); save it again") from None
    return {"answers": "options" if schema.classes else "greedy", "prompt": found.describe()}


def tokenizer_of(folder: Path) -> bytes:
    """The bytes of ``tokenizer.json``.

    Raises:
        ModelError: there is none.
    """
    if not (folder / TOKENIZER).is_file():
        raise ModelError(f"{TOKENIZER}: missing in {folder}; save it with AutoTokenizer(...).save_pretrained")
    return (folder / TOKENIZER).read_bytes()


def load_causal(folder: Path) -> Any:
    """The causal model in ``folder`` as float32; local safetensors only, no code of its own.

    Raises:
        ModelError: it does not load; the message says why.
        UnsafeModel: its configuration names code.
    """
    torch, transformers = libraries("a language model")
    source = read_object(folder / CONFIG)
    check_settings(source, where=CONFIG)
    known = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if source.get("model_type") not in known:
        raise ModelError(
            f"{CONFIG}: model_type {source.get('model_type')!r} is no causal language model of transformers "
            f"{transformers.__version__}; update transformers"
        )
    try:
        with quiet():
            network, info = transformers.AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, local_files_only=True,
                trust_remote_code=False,
            )  # fmt: skip
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ImportError) as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder.name}: transformers cannot load it ({text}); save it again") from None
    missing = sorted(str(k) for k in info["missing_keys"])
    if missing or info["mismatched_keys"]:
        some = ", ".join([*missing, *(str(k) for k in info["mismatched_keys"])][:3])
        raise ModelError(f"{folder.name}: its weights are not those of its configuration ({some}); save it again")
    return network.eval()


@dataclass(frozen=True, eq=False)
class CausalModel:
    """A loaded language model (``Model``); ``adapter`` names the one that speaks, where several are loaded."""

    network: Any
    format: PromptFormat
    schema: Schema
    adapter: str | None = None

    def predict(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> NDArray[Any]:
        """Probabilities of the labels ``(n, classes)``, or the texts that are written: an object array ``(n,)``."""
        if self.schema.type == "generation":
            return self.write(inputs, progress=progress)
        scores = self.score(inputs, self.schema.labels, progress=progress)
        with np.errstate(invalid="ignore"):
            return checked(softmax(scores), self.schema, len(inputs))

    @property
    def context(self) -> int:
        """How many tokens a prompt and its completion have together, at most."""
        found = getattr(self.network.config, "max_position_embeddings", None) or MAX_CONTEXT
        return min(int(found), MAX_CONTEXT)

    def prompt(self, prompt: Input, room: int) -> tuple[list[int], int]:
        """Ids of a prompt that leave ``room`` tokens of the context, and how many were cut from its beginning."""
        try:
            ids = self.format.prompt(prompt)
        except DataError as error:
            raise ModelError(f"{str(error).replace('this space', 'this model')}") from None
        kept = max(self.context - room, 1)
        return ids[-kept:], max(len(ids) - kept, 0)

    def score(
        self, inputs: Sequence[Input], completions: Sequence[str], *, progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """Log-probabilities of each completion after each prompt, its end included: ``(n, completions)``."""
        import torch

        self.speak()
        ends = [self.format.completion(c) for c in completions]
        found = np.zeros((len(inputs), len(ends)), np.float64)
        starts = [self.prompt(i, max(len(e) for e in ends))[0] for i in inputs]
        for done, (row, start) in enumerate(zip(found, starts, strict=True), start=1):
            for first in range(0, len(ends), BATCH):
                some = ends[first : first + BATCH]
                longest = max(len(e) for e in some)
                ids = torch.tensor([start + e + [self.format.end] * (longest - len(e)) for e in some])
                with torch.inference_mode():
                    logits = self.network(input_ids=ids, use_cache=False, logits_to_keep=longest + 1).logits
                    known = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, -longest:, None]).squeeze(2)
                for i, end in enumerate(some):
                    row[first + i] = float(known[i, : len(end)].sum())
            if progress is not None:
                progress(done, len(inputs))
        return found

    def write(
        self, inputs: Sequence[Input], *, max_tokens: int = MAX_NEW_TOKENS, progress: Progress | None = None
    ) -> NDArray[Any]:
        """What the model writes after each prompt, the likeliest token each time: an object array of texts ``(n,)``.

        Raises:
            ModelError: its outputs are not finite.
        """
        self.speak()
        starts = [self.prompt(i, max_tokens)[0] for i in inputs]
        found = np.empty(len(inputs), object)
        written = greedy(self.network, starts, self._ends(), most=max_tokens, progress=progress)
        found[:] = [self.format.tokenizer.decode(ids).strip() for ids in written]
        return found

    def stream(self, prompt: Input, *, max_tokens: int = MAX_NEW_TOKENS) -> Iterator[str]:
        """What the model writes after one prompt, piece by piece, as it comes.

        Raises:
            ModelError: its outputs are not finite.
        """
        import torch

        self.speak()
        ids, _ = self.prompt(prompt, max_tokens)
        given, past, written, said = torch.tensor([ids]), None, [], ""
        for _ in range(max_tokens):
            with torch.inference_mode():
                result = self.network(input_ids=given, past_key_values=past, use_cache=True, logits_to_keep=1)
            logits, past = result.logits[0, -1], result.past_key_values
            if not bool(torch.isfinite(logits).all()):
                raise ModelError("the model's output is not finite; its weights are damaged or it diverged in training")
            token = int(logits.argmax())
            if token in self._ends():
                return
            written.append(token)
            text = self.format.tokenizer.decode(written)
            if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # half a character: the rest is still to come
                yield text[len(said) :]
                said = text
            given = torch.tensor([[token]])

    def _ends(self) -> set[int]:
        own = self.network.config.eos_token_id
        return {self.format.end, *(own if isinstance(own, list) else [own] if own is not None else [])}

    def speak(self) -> None:
        """Let this model's adapter answer, where several stand on one base."""
        if self.adapter is not None:
            self.network.set_adapter(self.adapter)


def greedy(
    network: Any, starts: Sequence[list[int]], ends: set[int], *, most: int, progress: Progress | None = None
) -> list[list[int]]:
    """The likeliest tokens after each of ``starts``, up to one of ``ends`` or ``most`` of them.

    Prompts of similar length are written for together, padded on the left; a network that does not say where its tokens
    stand (``position_ids``) gets them one by one.

    Raises:
        ModelError: the outputs are not finite.
    """
    whole = network.get_base_model() if hasattr(network, "get_base_model") else network
    together = BATCH if "position_ids" in inspect.signature(whole.forward).parameters else 1
    found: list[list[int]] = [[] for _ in starts]
    order = sorted(range(len(starts)), key=lambda i: len(starts[i]))
    for first in range(0, len(order), together):
        some = order[first : first + together]
        for i, ids in zip(some, _continue(network, [starts[i] for i in some], ends, most, together > 1), strict=True):
            found[i] = ids
        if progress is not None:
            progress(first + len(some), len(order))
    return found


def _continue(network: Any, starts: Sequence[list[int]], ends: set[int], most: int, placed: bool) -> list[list[int]]:
    import torch

    longest = max(len(s) for s in starts)
    given = torch.tensor([[0] * (longest - len(s)) + s for s in starts])
    mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in starts])
    places = (mask.cumsum(1) - 1).clamp(min=0)
    written: list[list[int]] = [[] for _ in starts]
    past, speaking = None, set(range(len(starts)))
    for _ in range(most):
        said = {"attention_mask": mask, "position_ids": places} if placed else {}
        with torch.inference_mode():
            result = network(input_ids=given, past_key_values=past, use_cache=True, logits_to_keep=1, **said)
        logits, past = result.logits[:, -1], result.past_key_values
        if not bool(torch.isfinite(logits).all()):
            raise ModelError("the model's output is not finite; its weights are damaged or it diverged in training")
        given = logits.argmax(1)[:, None]
        for i in sorted(speaking):
            token = int(given[i, 0])
            if token in ends:
                speaking.discard(i)
            else:
                written[i].append(token)
        if not speaking:
            break
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        places = places[:, -1:] + 1
    return written


def model_of(
    network: Any, schema: Schema, settings: Mapping[str, Any], vocabulary: bytes, adapter: str | None = None
) -> CausalModel:
    """A ``CausalModel`` with the prompt format that the manifest describes.

    Raises:
        ModelError: it describes none, or the vocabulary has more words than the model.
    """
    said = settings.get("prompt")
    if not isinstance(said, Mapping) or not {"format", "begin", "start", "end"} <= set(said):
        raise ModelError("the manifest does not say how prompts are written for this model; pack it again")
    form = read_format(vocabulary, said)
    words = network.get_input_embeddings().num_embeddings
    if form.tokenizer.get_vocab_size(with_added_tokens=True) > words:
        raise ModelError(f"the tokenizer has more words than the model ({words}); they do not belong together")
    return CausalModel(network, form, schema, adapter)


def not_tuned(kind: str) -> ModelError:
    """Why a language model is not tuned here, and what to do."""
    return ModelError(
        f"{kind}: language models are not tuned by `learndock finetune`; train an adapter on it with peft, then pack "
        "that with `learndock pack`"
    )
