"""What is said to a language model, and what is to be said next: the inputs of generation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant")
#: What a message may hold beside its text, which no prompt format here writes.
_CALLS = ("tool_calls", "function_call", "audio", "reasoning_content")


@dataclass(frozen=True)
class Prompt:
    """A conversation up to the answer that is asked for: ``turns`` of ``(role, text)``, the last not the assistant's.

    How it is written for a model is not part of the prompt: a space fixes it for the helper, a learnware for
    its model. A chat template that came with a model is never rendered.
    """

    turns: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, text: str) -> Prompt:
        """One turn of the user."""
        return cls((("user", text),))

    @property
    def text(self) -> str:
        """All turns under each other, for people and for formats without roles."""
        return "\n".join(text for _, text in self.turns)


@dataclass(frozen=True)
class ScoredPrompt:
    """A prompt with some completions of it, whose probabilities are asked for."""

    prompt: Any
    completions: tuple[str, ...]


def split_messages(value: Any) -> tuple[Prompt, str]:
    """Chat ``messages`` as the prompt and the assistant's last answer.

    Raises:
        ValueError: no list of ``{"role", "content"}`` that ends with the assistant; says what is wrong.
    """
    turns = _turns(value)
    if turns[-1][0] != "assistant":
        raise ValueError(f"the messages end with the {turns[-1][0]}'s; the last must be the assistant's completion")
    if not turns[-1][1].strip():
        raise ValueError("the assistant's last message is empty; there is nothing to learn from it")
    return Prompt(check_turns(turns[:-1])), turns[-1][1]


def open_messages(value: Any) -> Prompt:
    """Chat ``messages`` as a prompt alone; an answer of the assistant at the end is left out.

    Raises:
        ValueError: no list of ``{"role", "content"}``.
    """
    turns = _turns(value)
    return Prompt(check_turns(turns[:-1] if turns[-1][0] == "assistant" else turns))


def _turns(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | dict):
        raise ValueError(f'the messages are a {type(value).__name__}, not a list of {{"role", "content"}}')
    found = []
    for message in value:
        role = message.get("role") if isinstance(message, dict) else None
        text = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(text, str):
            raise ValueError(f'a message needs a "role" ({", ".join(ROLES)}) and a "content" that is text')
        if calls := [key for key in _CALLS if message.get(key)]:
            raise ValueError(
                f'a message has "{calls[0]}", which no prompt format writes; leave the row out, or write it as text'
            )
        found.append((str(role), text))
    if not found:
        raise ValueError("there are no messages")
    return tuple(found)


def check_turns(turns: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return ``turns`` if they are a prompt.

    Raises:
        ValueError: there is none, or the assistant has the last word.
    """
    if not turns:
        raise ValueError("there is no prompt before the completion")
    if turns[-1][0] == "assistant":
        raise ValueError("two messages of the assistant follow each other; join them")
    return turns
