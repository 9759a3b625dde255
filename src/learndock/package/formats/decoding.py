"""Greedy decoding: what a causal language model writes when it takes the likeliest token each time.

transformers' own ``generate`` does it, so that a model's caches and the options of its ``generation_config.json`` act
as they do there. Options that only change sampling or speed have no effect on the likeliest token; those of ``ACTING``
act; any other is refused by its name.

A prompt's answer does not depend on the prompts beside it: prompts are answered together, padded on the left, only by
families of which a test shows that they do not read padding. All others answer one prompt at a time: alike lengths are
no help where a batch is mixed up, as in transformers 5.23's RWKV.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from learndock.errors import ModelError
from learndock.package.formats import Progress
from learndock.package.formats._quiet import quiet

#: Prompts that are answered, or scored, together.
BATCH = 8
#: Families whose answers are the same with padding on the left (``tests/package/test_decoding.py``).
PADDED = frozenset(
    {
        "bert", "codegen", "cohere", "gemma", "gemma2", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "granite", "llama",
        "mistral", "mixtral", "olmo", "olmo2", "opt", "phi", "phi3", "qwen2", "qwen3", "smollm3", "stablelm",
        "starcoder2",
    }
)  # fmt: skip

#: Options that change the likeliest token, and the values at which they do nothing.
ACTING: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "sequence_bias": ({}, []),
    "exponential_decay_length_penalty": (),
}
#: Options without effect on the likeliest token, and those that a caller always states.
_WITHOUT_EFFECT = frozenset(
    {
        "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
        "max_length", "max_new_tokens", "max_cache_len", "use_cache", "cache_implementation", "cache_config",
        "compile_config", "disable_compile", "low_memory", "prefill_chunk_size", "continuous_batching_config",
        "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version",
        "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate",
        "early_stopping", "length_penalty", "renormalize_logits", "encoder_repetition_penalty",
        "encoder_no_repeat_ngram_size", "diversity_penalty", "is_assistant", "num_assistant_tokens",
        "num_assistant_tokens_schedule", "assistant_confidence_threshold", "max_matching_ngram_size",
        "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight", "speculation_type",
        "_from_model_config", "_commit_hash", "_original_object_hash",
    }
)  # fmt: skip
#: Values at which every other option is off; these few are off at one.
_OFF: tuple[Any, ...] = (None, False, 0, [], {}, "")
_ONE = ("num_beams", "num_beam_groups", "num_return_sequences", "guidance_scale")


def check_options(said: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The options of a generation configuration that act on the likeliest token.

    Raises:
        ModelError: an option is on that would change answers and is not followed here; names it.
    """
    for key, value in said.items():
        off = any(value == v for v in _OFF) or (key in _ONE and value == 1)
        if key not in ACTING and key not in _WITHOUT_EFFECT and not off:
            raise ModelError(
                f"{key} is {str(value)[:60]}, which would change what the model writes and is not followed here",
                remedy="remove it, or set it to its default",
                about=where,
            )
    return {k: said[k] for k, off in ACTING.items() if said.get(k) is not None and said[k] not in off}


def decode(
    network: Any,
    starts: Sequence[list[int]],
    ends: Collection[int],
    *,
    limits: Sequence[int],
    progress: Progress | None = None,
) -> list[list[int]]:
    """The likeliest tokens after each of ``starts``, up to one of ``ends`` (left out) or its own limit.

    Raises:
        ModelError: the outputs are not finite, or an option of the model's is not followed here.
    """
    import torch

    options = options_of(network)
    together = not options and _reads_no_padding(_inner(network).config)
    found: list[list[int]] = [[] for _ in starts]
    done = 0
    for some in _batches([len(s) for s in starts], limits, together):
        longest = max(len(starts[i]) for i in some)
        gaps = [longest - len(starts[i]) for i in some]
        ids = torch.tensor([[0] * gap + starts[i] for gap, i in zip(gaps, some, strict=True)])
        mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps])
        written = _generate(network, ids, mask, ends, limits[some[0]], options)
        for i, row in zip(some, written[:, longest:].tolist(), strict=True):
            found[i] = row[: next((at for at, token in enumerate(row) if token in ends), len(row))]
        done += len(some)
        if progress is not None:
            progress(done, len(starts))
    return found


def _reads_no_padding(config: Any) -> bool:
    """Whether answers are the same with padding on the left, and beside longer prompts."""
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type")
    by_length = kind == "dynamic" or (kind == "longrope" and rope.get("short_factor") != rope.get("long_factor"))
    return config.model_type in PADDED and not by_length  # the longest of a batch would set the frequencies of all


def _batches(lengths: Sequence[int], limits: Sequence[int], together: bool) -> Iterator[list[int]]:
    """Positions that are answered together, which have the same limit; similar lengths first."""
    order = sorted(range(len(lengths)), key=lambda i: (limits[i], lengths[i], i))
    for _, group in groupby(order, lambda i: limits[i]):
        same = list(group)
        step = BATCH if together else 1
        yield from (same[first : first + step] for first in range(0, len(same), step))


def options_of(network: Any) -> dict[str, Any]:
    """The options of a loaded model's generation configuration that act; see ``check_options``."""
    said = _inner(network).generation_config.to_dict()
    return check_options(said, where="generation_config.json")


def end_tokens(network: Any) -> set[int]:
    """The tokens that end what a loaded model writes, by its own generation configuration."""
    own = _inner(network).generation_config.eos_token_id
    return set(own) if isinstance(own, Iterable) else set() if own is None else {int(own)}


def _inner(network: Any) -> Any:
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def _generate(
    network: Any, ids: Any, mask: Any, ends: Collection[int], most: int, options: Mapping[str, Any], **more: Any
) -> Any:
    """Ids ``(n, length)`` with what is written after them, by ``generate``."""
    import transformers

    inner = _inner(network)
    last = sorted(ends)
    settings = transformers.GenerationConfig(
        **options, do_sample=False, num_beams=1, max_new_tokens=most, eos_token_id=last, pad_token_id=last[0]
    )
    try:
        with quiet():
            return inner.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=settings,
                logits_processor=[_finite],
                **more,
            )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, IndexError) as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"transformers {transformers.__version__} does not generate with this model of the type "
            f"{inner.config.model_type!r} ({text})",
            remedy="update transformers, or use a causal model of another type",
        ) from None


def _finite(ids: Any, scores: Any) -> Any:
    """Logits as they are; called by ``generate`` before the token is chosen."""
    import torch

    if bool(torch.isnan(scores).any() | torch.isposinf(scores).any()):
        raise ModelError(
            "the model's output is not finite",
            remedy="check its weights: they are damaged, or its training diverged",
        )
    return scores


# --- token by token ------------------------------------------------------------------------------------------


def stream(network: Any, start: list[int], ends: Collection[int], *, limit: int) -> Iterator[int]:
    """The likeliest tokens after ``start`` one by one, as they come; see ``decode``.

    ``generate`` runs in a thread of its own, which ends when the iterator is closed.
    """
    import torch

    options = options_of(network)
    tokens: SimpleQueue[int | BaseException | None] = SimpleQueue()
    closed = Event()

    def run() -> None:
        try:
            _generate(
                network, torch.tensor([start]), torch.ones(1, len(start), dtype=torch.long), ends, limit, options,
                streamer=_Streamer(tokens), stopping_criteria=[lambda ids, _: torch.tensor([closed.is_set()])],
            )  # fmt: skip
        except BaseException as error:
            tokens.put(error)
        tokens.put(None)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        while (found := tokens.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            if found in ends:
                break
            yield found
    finally:
        closed.set()
        thread.join()


class _Streamer:
    """Puts tokens into a queue; ``generate`` hands over the prompt first."""

    def __init__(self, tokens: SimpleQueue[int | BaseException | None]) -> None:
        self._tokens, self._prompt = tokens, True

    def put(self, value: Any) -> None:
        """Take the next ids."""
        if self._prompt:
            self._prompt = False
            return
        for token in value.reshape(-1).tolist():
            self._tokens.put(int(token))

    def end(self) -> None:
        """Nothing more comes."""
