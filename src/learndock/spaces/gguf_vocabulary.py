"""The vocabulary in a GGUF file as ``tokenizer.json``, and which tokens begin a text and end an answer.

Two kinds are read: byte-level BPE (``gpt2``), whose rule for splitting texts goes by a name, and SentencePiece's BPE
(``llama``), whose merges follow from the scores of its pieces. Defaults are those of llama.cpp (``llama-vocab.cpp``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from learndock.errors import ModelError
from learndock.spaces.gguf import Gguf

MODEL, PRE, TOKENS = "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens"
CHAT_TEMPLATE = "tokenizer.chat_template"
_NORMAL, _CONTROL, _USER_DEFINED, _BYTE = 1, 3, 4, 6

_QUOTES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(digits: str) -> list[dict[str, Any]]:
    regex = {"Regex": _QUOTES + digits + _REST}
    return [{"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False}]


#: How texts are split before merges, by what the file calls it.
_SPLITS: dict[str, list[dict[str, Any]]] = {
    "smollm": [{"type": "Digits", "individual_digits": True}],
    "gpt-2": [],
    "qwen2": _split(r"\p{N}"),
    "llama-bpe": _split(r"\p{N}{1,3}"),
}
#: Splits with a pattern of their own, which then are not split by GPT-2's.
_OWN_PATTERN = ("qwen2", "llama-bpe")
#: Texts of these begin with the begin token unless the file says otherwise.
_BEGINS = ("llama-bpe",)
#: Tokens that end an answer wherever a vocabulary has them.
_ENDS = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>",
    "<eos>", "<turn|>", "<|tool_response>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~[",
    # Those of filling in the middle end an answer too
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>",
    "<reponame>", "<|file_sep|>",
)  # fmt: skip
_END_KEYS = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")

_READ = frozenset(
    {
        MODEL, PRE, TOKENS, "tokenizer.ggml.token_type", "tokenizer.ggml.scores", "tokenizer.ggml.merges",
        "tokenizer.ggml.add_bos_token", *(f"tokenizer.ggml.{key}_token_id" for key in (*_END_KEYS, "bos", "unknown")),
        CHAT_TEMPLATE,
    }
)  # fmt: skip
#: Names of tokens that neither begin nor end anything here.
_NAMES = frozenset(
    f"tokenizer.ggml.{key}_token_id"
    for key in (
        "padding", "seperator", "separator", "cls", "mask", "fim_pre", "fim_suf", "fim_mid", "prefix", "suffix",
        "middle",
    )
)  # fmt: skip
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tokenizer.ggml.add_eos_token": (False,),
    "tokenizer.ggml.add_sep_token": (False,),
    "tokenizer.ggml.remove_extra_whitespaces": (False,),
    "tokenizer.ggml.suppress_tokens": ([],),
}
_SPACE_PREFIX = "tokenizer.ggml.add_space_prefix"


def check_vocabulary_settings(file: Gguf) -> None:
    """Refuse settings of the vocabulary that are not read.

    Raises:
        ModelError: names the first of them.
    """
    for key, value in file.settings.items():
        if not key.startswith("tokenizer.") or key in _READ | _NAMES or key.startswith(CHAT_TEMPLATE):
            continue
        neutral = _NEUTRAL.get(key, ())
        if key == _SPACE_PREFIX:
            # Byte-level vocabularies know no such space: llama.cpp passes over it, transformers does not
            neutral = (True, False) if _kind(file) == "llama" else (False,)
        if value not in neutral:
            why = f"is {str(value)[:40]!r}" if neutral else "is there"
            raise ModelError(
                f"{key} {why}, which is not read here",
                remedy="if it does not matter for this model, remove "
                f"it with `gguf-new-metadata --remove-metadata {key}`, else save the model as safetensors",
                about=file.path.name,
            )


def chat_template(file: Gguf) -> str | None:
    """The template with which the file says prompts are written, or None. It is a program and is never run."""
    found = file.settings.get(CHAT_TEMPLATE)
    return found if isinstance(found, str) and found.strip() else None


def begin_token(file: Gguf) -> int | None:
    """The token that begins every text, or None where none does.

    Raises:
        ModelError: there is to be one, and the file does not say which.
    """
    kind = _kind(file)
    default = kind == "llama" or file.settings.get(PRE) in _BEGINS
    if not file.settings.get("tokenizer.ggml.add_bos_token", default):
        return None
    found = _token(file, "bos", 1 if kind == "llama" else None)
    if found is None:
        raise ModelError(
            "texts begin with a token (tokenizer.ggml.add_bos_token), and "
            "tokenizer.ggml.bos_token_id does not say which",
            remedy="write it again",
            about=file.path.name,
        )
    return found


def end_tokens(file: Gguf) -> list[int]:
    """The tokens that end an answer, that of ``eos_token_id`` first: those that are said, and those known by name.

    Raises:
        ModelError: an id is not one of the vocabulary.
    """
    first = _token(file, "eos", 2 if _kind(file) == "llama" else None)
    said = [first, *(_token(file, key, None) for key in _END_KEYS[1:])]
    words = {word: i for i, word in enumerate(file.settings.get(TOKENS) or [])}
    found = [i for i in said if i is not None] + [words[text] for text in _ENDS if text in words]
    if "<|call|>" in words and "<|return|>" in words and "<|end|>" in words:
        found = [i for i in found if i != words["<|end|>"]]  # there it ends a part of an answer
    return list(dict.fromkeys(found))


def _token(file: Gguf, key: str, default: int | None) -> int | None:
    name = f"tokenizer.ggml.{key}_token_id"
    found = file.settings.get(name, default)
    words = file.settings.get(TOKENS) or []
    if found is not None and (type(found) is not int or not 0 <= found < max(len(words), 1)):
        raise ModelError(
            f"{name} is {found!r}, which is not one of its {len(words)} tokens",
            remedy="write it again",
            about=file.path.name,
        )
    return found


def _kind(file: Gguf) -> str:
    return str(file.settings.get(MODEL))


# --- tokenizer.json ------------------------------------------------------------------------------------------


def tokenizer_bytes(file: Gguf) -> bytes:
    """``tokenizer.json`` of the vocabulary. The same file gives the same bytes.

    Raises:
        ModelError: another kind of vocabulary, or one that contradicts itself.
    """
    known = file.settings
    words = known.get(TOKENS)
    kinds = known.get("tokenizer.ggml.token_type") or [_NORMAL] * len(words or [])
    if not words or len(kinds) != len(words) or len(set(words)) != len(words):
        raise ModelError(
            f"its vocabulary of {len(words or [])} tokens and {len(kinds)} types is incomplete, or has a token twice",
            remedy="put the model's tokenizer.json beside it",
            about=file.path.name,
        )
    if _kind(file) == "gpt2":
        made = _byte_level(file, words)
    elif _kind(file) == "llama":
        made = _pieces(file, words, kinds)
    else:
        raise _foreign(file)
    special = [_added(i, words[i], kinds[i]) for i in range(len(words)) if kinds[i] in (_CONTROL, _USER_DEFINED)]
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, **made}
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode()


def _added(number: int, text: str, kind: int) -> dict[str, Any]:
    return {
        "id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": kind == _CONTROL,
    }  # fmt: skip


def _foreign(file: Gguf) -> ModelError:
    split = file.settings.get(PRE)
    return ModelError(
        f"the vocabulary {_kind(file)}/{split} is not read from GGUF ({MODEL}, {PRE})",
        remedy="put the model's tokenizer.json beside it",
        about=file.path.name,
    )


def _model(words: Sequence[str], merges: list[list[str]], **settings: Any) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **settings,
        "vocab": {word: i for i, word in enumerate(words)},
        "merges": merges,
    }


def _byte_level(file: Gguf, words: Sequence[str]) -> dict[str, Any]:
    split, merges = file.settings.get(PRE), file.settings.get("tokenizer.ggml.merges")
    if split not in _SPLITS or not merges:
        raise _foreign(file)
    own = split in _OWN_PATTERN
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": not own}
    settings = {"ignore_merges": True} if split == "llama-bpe" else {}
    return {
        "normalizer": {"type": "NFC"} if split == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*_SPLITS[split], bytewise]},
        "post_processor": None,
        "decoder": {**bytewise, "use_regex": True, "add_prefix_space": True},
        "model": _model(words, [merge.split(" ", 1) for merge in merges], **settings),
    }


def _pieces(file: Gguf, words: Sequence[str], kinds: Sequence[int]) -> dict[str, Any]:
    """SentencePiece's BPE: of all neighbours that make a piece, those of the highest score are joined first."""
    scores = file.settings.get("tokenizer.ggml.scores") or []
    joined = {w: s for w, s, kind in zip(words, scores, kinds, strict=False) if kind == _NORMAL}
    bytewise = {f"<0x{i:02X}>" for i in range(256)}
    if len(scores) != len(words) or not bytewise <= {w for w, k in zip(words, kinds, strict=True) if k == _BYTE}:
        raise ModelError(
            f"its vocabulary has {len(scores)} scores for {len(words)} pieces, or not all 256 byte pieces",
            remedy="put the model's tokenizer.json beside it",
            about=file.path.name,
        )
    if any(kind == _USER_DEFINED and "\u2581" in word for word, kind in zip(words, kinds, strict=True)):
        raise ModelError(
            "its vocabulary has user-defined pieces with spaces, which are not read here",
            remedy="put the model's tokenizer.json beside it",
            about=file.path.name,
        )
    merges = _merges(file, joined, {word: i for i, word in enumerate(words)})
    unknown = _token(file, "unknown", 0)
    prefix = [{"type": "Prepend", "prepend": "\u2581"}] if file.settings.get(_SPACE_PREFIX, True) else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    space, word = {"String": " "}, {"String": "\u2581"}
    normal = {"type": "Sequence", "normalizers": [*prefix, {"type": "Replace", "pattern": space, "content": "\u2581"}]}
    back = [{"type": "Replace", "pattern": word, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]
    return {
        "normalizer": normal,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": back},
        "model": _model(
            words, merges, unk_token=None if unknown is None else words[unknown], fuse_unk=True, byte_fallback=True
        ),
    }


def _merges(file: Gguf, scores: dict[str, float], order: dict[str, int]) -> list[list[str]]:
    """All pairs of pieces that make a piece, those of the highest score first."""
    found: list[tuple[float, int, int, str, str]] = []
    seen: dict[float, str] = {}
    for piece, score in scores.items():
        pairs = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        pairs = [(left, right) for left, right in pairs if left in scores and right in scores]
        if pairs and seen.setdefault(score, piece) != piece:
            raise ModelError(
                f"the pieces {seen[score]!r} and {piece!r} of its vocabulary have the same score, so "
                "that it does not say which is joined first",
                remedy="put the model's tokenizer.json beside it",
                about=file.path.name,
            )
        found += [(-score, order[left], order[right], left, right) for left, right in pairs]
    return [[left, right] for *_, left, right in sorted(found)]
