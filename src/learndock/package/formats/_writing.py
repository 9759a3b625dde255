"""How a language model's prompts are written and its answers end, by the files beside it; no library of models.

What the library that owns the folder would do decides: the token that its tokenizer puts before a text, the tokens of
``generation_config.json`` or else ``config.json`` that end an answer, and the options there that act on every answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learndock.data.schema import Schema
from learndock.errors import ModelError, SpaceError
from learndock.package.formats import decoding
from learndock.package.formats._loading import libraries, quiet
from learndock.package.json_file import read_object
from learndock.spaces.prompts import FORMATS, plain_tokenizer, prompt_format

CONFIG, TOKENIZER, TOKENIZER_CONFIG = "config.json", "tokenizer.json", "tokenizer_config.json"
GENERATION, PROMPT = "generation_config.json", "prompt.json"


@dataclass(frozen=True, eq=False)
class Writing:
    """The bytes of ``tokenizer.json``, the token that begins a text, or None, and those that end an answer.

    The first of ``ends`` closes a completion in the plain format. ``template`` is a chat template that came with the
    model, which is never rendered: where it does not speak of chatml, the owner says which format is right.
    """

    vocabulary: bytes
    begin: int | None
    ends: tuple[int, ...]
    template: str | None = None


def asked_format(folder: Path) -> str | None:
    """The format that ``prompt.json`` names, or None where there is no such file.

    Raises:
        ModelError: it says something else.
    """
    if not (folder / PROMPT).is_file():
        return None
    said = read_object(folder / PROMPT)
    if set(said) != {"format"} or said["format"] not in FORMATS:
        raise ModelError(f'must be {{"format": one of {", ".join(FORMATS)}}}', about=PROMPT)
    return str(said["format"])


def settings_of(folder: Path, schema: Schema, writing: Writing) -> dict[str, Any]:
    """What the manifest says of a generative model: how it answers, how prompts are written, which tokens end it.

    Raises:
        ModelError: a task of numbers, or no prompt format fits the vocabulary.
    """
    if schema.type == "regression":
        raise ModelError(
            "a language model answers with texts", remedy="a regression needs a model that puts out a number"
        )
    asked = asked_format(folder)
    end = writing.ends[0] if writing.ends else None
    try:
        found = prompt_format(writing.vocabulary, end=end, begin=writing.begin, name=asked)
    except SpaceError as error:
        raise ModelError(f"{error}", remedy=f"{PROMPT} beside the model may name another format") from None
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(f"not a tokenizer ({error})", remedy="save it again", about=TOKENIZER) from None
    if asked is None and writing.template and not (found.name == "chatml" and "<|im_start|>" in writing.template):
        raise ModelError(
            "the chat template in the file is of another format than the ones known here "
            f"({', '.join(FORMATS)}), and templates are never run",
            remedy="if the model answers prompts in one of these too, "
            f'say so in a file {PROMPT} beside it: {{"format": "plain"}}',
        )
    ends = sorted({found.end, *writing.ends})
    return {"answers": "options" if schema.classes else "greedy", "prompt": found.describe(), "ends": ends}


def folder_writing(folder: Path, tokens: Path | None = None) -> Writing:
    """How the model in a folder of transformers writes; ``tokens`` is where its tokenizer is, if elsewhere.

    Raises:
        ModelError: there is no tokenizer, ids that are not whole numbers, or options that are not followed here.
    """
    tokens = tokens or folder
    vocabulary = tokenizer_of(tokens)
    config = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    own = read_object(folder / GENERATION) if (folder / GENERATION).is_file() else None
    decoding.check_options(own or {}, where=GENERATION)
    where = CONFIG if own is None or own.get("eos_token_id") is None else GENERATION
    said = config.get("eos_token_id") if own is None or where == CONFIG else own["eos_token_id"]
    ends = said if isinstance(said, list) else [] if said is None else [said]
    if not all(type(e) is int for e in ends):
        raise ModelError(
            f"eos_token_id is {said!r}, expected a token's number or a list of them", remedy="mend it", about=where
        )
    return Writing(vocabulary, _begin(vocabulary, tokens), tuple(ends))


def tokenizer_of(folder: Path) -> bytes:
    """The bytes of ``tokenizer.json``.

    Raises:
        ModelError: there is none.
    """
    if not (folder / TOKENIZER).is_file():
        raise ModelError(
            f"missing in {folder}", remedy="save it with AutoTokenizer(...).save_pretrained", about=TOKENIZER
        )
    return (folder / TOKENIZER).read_bytes()


def _begin(vocabulary: bytes, folder: Path) -> int | None:
    """The token that the tokenizer puts before a text, by its own rule or by ``tokenizer_config.json``."""
    said = read_object(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}
    try:
        tokenizer = plain_tokenizer(vocabulary)
        bare, framed = (tokenizer.encode("a", add_special_tokens=on).ids for on in (False, True))
        before = framed[: len(framed) - len(bare)] if framed[len(framed) - len(bare) :] == bare else None
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(f"not a tokenizer ({error})", remedy="save it again", about=TOKENIZER) from None
    if "add_bos_token" in said or "add_eos_token" in said:  # these replace the rule
        named = said.get("add_bos_token") and said.get("bos_token") is not None
        before = [_special(tokenizer, said, "bos_token")] if named else []
        if said.get("add_eos_token"):
            before = None
    if before is None or len(before) > 1:
        raise ModelError(
            "puts more around a text than one token before it",
            remedy="a token that ends the prompt would end "
            "the answer. Save the tokenizer with add_eos_token=False and without [CLS] and [SEP]",
            about=TOKENIZER,
        )
    return before[0] if before else None


def _special(tokenizer: Any, said: dict[str, Any], key: str) -> int:
    text = said.get(key)
    found = tokenizer.token_to_id(str(text.get("content") if isinstance(text, dict) else text))
    if found is None:
        raise ModelError(
            f"adds {key}, which the vocabulary does not have", remedy="save the tokenizer again", about=TOKENIZER_CONFIG
        )
    return int(found)


#: Texts on which tokenizers of different rules differ: case, spaces, digits, accents, line ends, other scripts.
_PROBES = (
    "The Quick brown fox, 12345.\n",
    "  na\u00efve \u00c4rger\tx  y ",
    "hello",
    "don't \u4f60\u597d \U0001f642",
    "\n\nA",
)


def require_same_tokens(folder: Path, writing: Writing) -> None:
    """Refuse a tokenizer that transformers reads otherwise than ``tokenizer.json`` alone says.

    Its class and ``tokenizer_config.json`` may change what a text becomes. Without that file nothing is compared.

    Raises:
        ModelError: the ids of a text differ, or transformers does not load the tokenizer.
        MissingExtra
    """
    if not (folder / TOKENIZER_CONFIG).is_file():
        return
    _, transformers = libraries("a language model")
    try:
        with quiet():
            own = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"transformers does not load this tokenizer ({text})", remedy="save it again", about=TOKENIZER_CONFIG
        ) from None
    plain = plain_tokenizer(writing.vocabulary)
    begin = [] if writing.begin is None else [writing.begin]
    for text in _PROBES:
        ids, expected = begin + plain.encode(text, add_special_tokens=False).ids, list(own(text)["input_ids"])
        if ids != expected:
            raise ModelError(
                f"transformers' {type(own).__name__} reads {text!r} as {expected[:12]}, this file alone "
                f"as {ids[:12]}: {TOKENIZER_CONFIG} changes the rule. Save the tokenizer again with "
                "AutoTokenizer.from_pretrained(...).save_pretrained",
                about=TOKENIZER,
            )
