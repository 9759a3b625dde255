"""What an agent may ask of a dock: the functions behind ``learndock mcp``, each with a JSON answer.

Files are read only inside one folder, which the user names when the server starts, whatever path an agent asks for.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from learndock.data import ReadOptions, read_examples
from learndock.data.schema import Schema
from learndock.dock import Dock, route
from learndock.errors import UsageError
from learndock.search import Filters
from learndock.spec import make_domain, make_spec, read_spec

#: Learnwares of one list, and matches of one answer: an agent's context is small.
MOST_LISTED, MOST_MATCHES = 200, 20


class Tools:
    """The tools over ``dock``; examples and specs are read below ``folder``. Safe for threads: one call at a time."""

    def __init__(self, dock: Dock, folder: Path, *, space: str | None = None) -> None:
        self._dock, self._folder, self._space = dock, folder.resolve(), space
        self._lock = threading.Lock()

    def identify(
        self,
        path: str,
        *,
        text: str = "text",
        label: str = "label",
        schema: str | None = None,
        top: int = 5,
        filters: Filters = Filters(),  # noqa: B008 - frozen
    ) -> dict[str, Any]:
        """Rank the learnwares for the task in ``path``: labelled examples, or a spec file.

        Raises:
            UsageError: the path is outside the folder.
            and the errors of ``read_examples``, ``make_spec`` and ``Dock.identify``.
        """
        place, remarks = self._inside(path), []
        with self._lock:
            if place.suffix in (".spec", ".safetensors"):
                spec = read_spec(place)
            else:
                means = None if schema is None else Schema.from_file(str(self._inside(schema)))
                examples = read_examples(place, ReadOptions(text=text, label=label), schema=means)
                remarks = list(examples.warnings)
                spec = make_spec(examples, space=self._space)
            found = self._dock.identify(spec, top=_between(top, MOST_MATCHES), filters=filters)
        answer = found.to_dict()
        return {
            "fits": found.fits,
            "best": found.matches[0].name if found.fits and found.matches else None,
            "why": _why(answer, spec.p_value),
            "p_value": spec.p_value,
            **answer,
            "remarks": remarks,
        }

    def route(self, prompts: list[str], *, filters: Filters = Filters()) -> dict[str, Any]:  # noqa: B008 - frozen
        """Name the learnware that ``prompts`` should go to; they are read here."""
        with self._lock:
            return route(self._dock, make_domain(prompts, space=self._space), filters=filters).to_dict()

    def show(self, name: str) -> dict[str, Any]:
        """Return one learnware with its manifest."""
        with self._lock:
            record = self._dock.get_record(name)
        return {
            "name": record.name,
            "id": record.id,
            "version": record.version,
            "latest": record.latest,
            "license": record.license,
            "description": record.description,
            "deprecated": None if record.deprecated is None else str(record.deprecated),
            "manifest": record.manifest.model_dump(mode="json"),
        }

    def list(self, *, text: str = "", limit: int = 50, filters: Filters = Filters()) -> dict[str, Any]:  # noqa: B008
        """Return learnwares whose name, description or labels have every word of ``text``, and how many there are."""
        with self._lock:
            every = self._dock.summaries(text, filters=filters)
        page = every[: _between(limit, MOST_LISTED)]
        shown = [
            {
                "name": s.name,
                "description": s.description,
                "format": s.format,
                "task": dict(s.task),
                "license": s.license,
                "base": s.base,
                "bytes": s.bytes,
            }
            for s in page
        ]
        return {"learnwares": shown, "count": len(every)}

    def _inside(self, path: str) -> Path:
        """The file below the folder.

        Raises:
            UsageError: it is elsewhere.
        """
        place = (self._folder / path).resolve()
        if not place.is_relative_to(self._folder):
            raise UsageError(
                f"{path} is outside {self._folder}, the only folder that this server reads",
                remedy="copy the file there, or start `learndock mcp` with --folder",
            )
        return place


def _between(value: int, most: int) -> int:
    return min(max(value, 1), most)


def _why(answer: dict[str, Any], p_value: float | None) -> str:
    """One sentence that an agent can repeat."""
    if answer["fits"] and answer["matches"]:
        best = answer["matches"][0]
        lacks = "" if best["can_answer"] else f" It cannot answer: {', '.join(best['missing'])}."
        return f"{best['name']} agrees best with the labels of {answer['searched']} learnwares.{lacks}"
    if not answer["searched"]:
        return "No learnware here has a spec in this space and passes the filters."
    weak = p_value is not None and p_value > 0.05
    more = " The examples alone do not show that labels depend on inputs; give more." if weak else ""
    return f"None of {answer['searched']} learnwares agrees with the labels better than chance.{more}"
