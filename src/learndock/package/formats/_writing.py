"""How a language model's prompts are written and its answers end, by the files beside it; no library of models.

What the library that owns the folder would do decides: the token that its tokenizer puts before a text, the tokens of
``generation_config.json`` or else ``config.json`` that end an answer, and the options there that act on every answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from learndock.data.schema import Schema
from learndock.errors import ModelError, SpaceError
from learndock.package.formats import decoding
from learndock.package.formats._loading import libraries
from learndock.package.formats._quiet import quiet
from learndock.package.json_file import read_object
from learndock.spaces.prompts import FORMATS, plain_tokenizer, prompt_format

CONFIG, TOKENIZER, TOKENIZER_CONFIG = "config.json", "tokenizer.json", "tokenizer_config.json"
GENERATION, PROMPT = "generation_config.json", "prompt.json"


@dataclass(frozen=True, eq=False)
class Writing:
    """The bytes of ``tokenizer.json``, the token that begins a text, or None, and those that end an answer.

    The first of ``ends`` closes a completion in the plain format. ``template`` is a chat template that came with the
    model, which is never rendered: where it is not chatml, the owner chooses the format.
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
            "a language model answers with texts",
            remedy="for a regression use a model that puts out a number",
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
            f"eos_token_id is {said!r}, expected a token's number or a list of them", remedy="correct it", about=where
        )
    return Writing(vocabulary, _begin(vocabulary), tuple(ends))


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


def _begin(vocabulary: bytes) -> int | None:
    """The token that the tokenizer's own rule puts before a text, or None.

    ``add_bos_token`` in ``tokenizer_config.json`` has no effect: transformers 5 reads it only where there is no
    ``tokenizer.json``.
    """
    try:
        tokenizer = plain_tokenizer(vocabulary)
        bare, framed = (tokenizer.encode("a", add_special_tokens=on).ids for on in (False, True))
        before = framed[: len(framed) - len(bare)] if framed[len(framed) - len(bare) :] == bare else None
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(f"not a tokenizer ({error})", remedy="save it again", about=TOKENIZER) from None
    if before is None or len(before) > 1:
        raise ModelError(
            "puts more around a text than one token before it, and a token that ends the prompt would end the answer",
            remedy="save a tokenizer whose post-processor adds no [CLS], [SEP] or end token",
            about=TOKENIZER,
        )
    return before[0] if before else None


def library_writing(folder: Path, tokens: Path | None = None) -> Writing:
    """``folder_writing`` with the tokenizer as transformers builds it, whose class may change the rules of the file.

    Without ``tokenizer_config.json`` the file alone says everything.

    Raises:
        ModelError: see ``folder_writing``; or transformers does not load the tokenizer, or begins a text otherwise.
        MissingExtra
    """
    found, tokens = folder_writing(folder, tokens), tokens or folder
    if not (tokens / TOKENIZER_CONFIG).is_file():
        return found
    _, transformers = libraries("a language model")
    try:
        with quiet():
            own = transformers.AutoTokenizer.from_pretrained(tokens, local_files_only=True, trust_remote_code=False)
            vocabulary = own.backend_tokenizer.to_str().encode()
    except Exception as error:  # the tokenizers library raises bare Exception
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"transformers does not load this tokenizer ({text})", remedy="save it again", about=TOKENIZER_CONFIG
        ) from None
    if _begin(vocabulary) != found.begin:
        raise ModelError(
            f"transformers' {type(own).__name__} begins a text with {_begin(vocabulary)}, {TOKENIZER} alone with "
            f"{found.begin}",
            remedy="save the tokenizer again with AutoTokenizer(...).save_pretrained",
            about=TOKENIZER_CONFIG,
        )
    return replace(found, vocabulary=vocabulary)
