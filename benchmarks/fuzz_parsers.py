"""Every parser that reads strangers' bytes, against mutants: our own error or a result, within 2 s and 512 MB.

    python benchmarks/fuzz_parsers.py --json OUT [--count 100000] [--parsers onnx,skops] [--minutes 15]

Mutants (``mutants.py``) are numbered: ``--parsers onnx --first 4711 --count 1`` makes one again. Each parser runs in
processes of its own with a limited address space; a process that dies or hangs tells by the number at which it was.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import mmap
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import mutants
from learndock.errors import LearndockError, ModelError

#: Of the processor: a busy machine makes nobody slow.
SECONDS = 2.0
MEMORY = 512 << 20
BATCH = 5_000


@dataclass(frozen=True)
class Parser:
    """What is fuzzed: sound files, how to spoil them, and who reads them (from bytes, with a folder for files)."""

    seeds: Sequence[bytes]
    mutate: mutants.Mutate
    read: Callable[[bytes, Path], object]


def parsers(sound: Path) -> dict[str, Parser]:
    """All of them; ``sound`` holds the model folders of ``tests/support/corpus.py``, sealed."""
    import numpy as np
    from tests.support.docking import make_spec

    from learndock.dock.storage.publications import CardFile, Event, Publication, Version, parse
    from learndock.package.columns import names_in
    from learndock.package.deprecation import Deprecation
    from learndock.package.formats import _tokens, peft, transformers
    from learndock.package.front_matter import FrontMatter
    from learndock.package.json_file import parse_json, read_json
    from learndock.package.manifest import Manifest
    from learndock.package.onnx_file import read_onnx
    from learndock.package.safety import check_settings
    from learndock.package.skops_file import check_skops
    from learndock.spaces import space
    from learndock.spec.file import check_shape, spec_from_bytes, spec_to_bytes
    from learndock.tensor_file import safetensors_header

    draw = np.random.default_rng(0)
    contrasts = draw.normal(size=(4, 24)).astype(np.float32)
    specs = [
        spec_to_bytes(make_spec(draw)),
        spec_to_bytes(make_spec(draw, kind="task", contrasts=contrasts, p_value=0.5)),
    ]
    manifests = [(sound / base / "learnware.json").read_bytes() for base in ("onnx", "peft")]
    shelved = Manifest.from_bytes(manifests[0])
    first = Version(1, shelved.digest, 7, shelved.to_bytes(), "2026-01-31T12:00:00Z")
    publication = Publication.first(shelved.name, first).with_version(replace(first, number=2)).tagged("stable", 1)
    event = Event("2026-01-31T12:00:00Z", "ada", "card", "ab" * 32)
    publication = publication.with_card(CardFile("ab" * 32, 5), FrontMatter("mit", "reviews", ("short",)), event)
    publication = replace(publication, former=("ada/before",)).with_deprecation(Deprecation("ada/new", "better"), event)

    def shelf(source: bytes, folder: Path) -> None:
        found = parse(source, shelved.name, folder / "x.json")
        found.cards()
        found.about()
        parse(found.to_bytes(), shelved.name, folder / "x.json")

    def header(source: bytes, folder: Path) -> None:
        safetensors_header(io.BytesIO(source), len(source), where="x", error=ModelError)

    def spec(source: bytes, folder: Path) -> None:
        check_shape(spec_from_bytes(source))

    def space_file(source: bytes, folder: Path) -> None:
        (folder / "space.json").write_bytes(source)
        space.read_space(folder)

    def onnx(source: bytes, folder: Path) -> None:
        (folder / "model.onnx").write_bytes(source)
        read_onnx(folder / "model.onnx")

    def skops(source: bytes, folder: Path) -> None:
        (folder / "model.skops").write_bytes(source)
        check_skops(folder / "model.skops")

    def config(source: bytes, folder: Path) -> None:
        (folder / "config.json").write_bytes(source)
        value = read_json(folder / "config.json")
        check_settings(value, where="config.json")
        if isinstance(value, dict):
            transformers.check_config(value)
            names_in(value, where="config.json")

    def adapter(source: bytes, folder: Path) -> None:
        (folder / "adapter_config.json").write_bytes(source)
        found = peft.read_config(folder)
        header = peft.read_header(sound / "peft")
        peft.check_ranks(found, header)

    def tokenizer(source: bytes, folder: Path) -> None:
        (folder / "tokenizer.json").write_bytes(source)
        parse_json(source, where="tokenizer.json")
        tokens = _tokens.TextTokens(folder, positions=32)
        for _ in tokens.batches(["the film was good", ("a day", "bad"), ""]):
            pass

    tensors = [(sound / "transformers" / "model.safetensors").read_bytes(), specs[0]]
    published = Path(space.__file__).parent / "published" / "minilm-l6" / "space.json"

    def read(base: str, name: str) -> bytes:
        return (sound / base / name).read_bytes()

    return {
        "safetensors": Parser(tensors, mutants.safetensors_mutant, header),
        "spec": Parser(specs, mutants.spec_mutant, spec),
        "space": Parser([published.read_bytes()], mutants.json_mutant, space_file),
        "manifest": Parser(manifests, mutants.json_mutant, lambda source, _: Manifest.from_bytes(source).to_bytes()),
        "shelf": Parser(
            [publication.to_bytes(), publication.without().to_bytes()],
            mutants.json_mutant,
            shelf,
        ),
        "onnx": Parser([read("onnx", "model.onnx")], mutants.onnx_mutant, onnx),
        "skops": Parser([read("sklearn", "model.skops")], mutants.skops_mutant, skops),
        "config": Parser([read("transformers", "config.json")], mutants.json_mutant, config),
        "adapter": Parser([read("peft", "adapter_config.json")], mutants.json_mutant, adapter),
        "tokenizer": Parser([read("onnx", "tokenizer.json")], mutants.json_mutant, tokenizer),
    }


def xet_parsers() -> dict[str, Parser]:
    """Those of uploads in Xet's chunks."""
    from tests.support import xet

    from learndock.service.xet_format import XorbReader, read_shard

    chunks = xet.contents(1, 9, 5000, 70_000)
    shard = xet.shard_of([("ab" * 32, [(chunks, 0, 3), (chunks, 1, 2)]), ("cd" * 32, [(chunks, 2, 3)])])

    def read_xorb(source: bytes, folder: Path) -> None:
        reader = XorbReader()
        for start in range(0, len(source), 1000):
            for _ in reader.feed(source[start : start + 1000]):
                pass
        reader.end()

    def read_files(source: bytes, folder: Path) -> None:
        for file in read_shard(io.BytesIO(source)):
            file.size()

    xorbs = [xet.xorb_of(chunks, pack)[1] for pack in (xet.plain, xet.packed, xet.grouped)]
    return {
        "xorb": Parser(xorbs, mutants.words_mutant, read_xorb),
        "shard": Parser([shard], mutants.words_mutant, read_files),
    }


def make_sound(place: Path) -> Path:
    """What mutants are made of."""
    from tests.support import corpus

    corpus.write_sound(place)
    for base in ("onnx", "sklearn", "transformers", "peft"):
        corpus.seal(place / base, f"ada/{base}", base)
    return place


class Overdue(BaseException):
    """A mutant took more than its time; no ``Exception``, so that no parser takes it for an error of its own."""


def _overdue(*_: Any) -> None:
    raise Overdue


def one(parser: Parser, name: str, number: int, folder: Path) -> str:
    """How mutant ``number`` ends: ``read``, ``refused``, or what is wrong with the parser."""
    chance = Random(f"{name}:{number}")
    seed = chance.choice(parser.seeds)
    try:
        source = parser.mutate(seed, chance)
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError):
        source = mutants.flipped(seed, chance)  # a change of structure that nobody could write down
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        parser.read(source, folder)
        return "read"
    except LearndockError:
        return "refused"
    except Overdue:
        return f"more than {SECONDS:g} s"
    except BaseException as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def work(parser: Parser, name: str, numbers: range, at: mmap.mmap, say: int) -> None:
    """In a process of its own: all of ``numbers``, each noted before it is tried."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a panic writes to the descriptor itself
        os.dup2(nowhere.fileno(), 2)
    limit_memory()
    signal.signal(signal.SIGPROF, _overdue)
    ends: collections.Counter[str] = collections.Counter()
    wrong: list[tuple[int, str]] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        for number in numbers:
            at[:8] = number.to_bytes(8, "little")
            end = one(parser, name, number, Path(folder))
            ends[end if end in ("read", "refused") else "wrong"] += 1
            if end not in ("read", "refused") and len(wrong) < 50:
                wrong.append((number, end))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with os.fdopen(say, "w") as out:
        json.dump({"ends": dict(ends), "wrong": wrong, "peak_kb": peak}, out)


def limit_memory() -> None:
    """512 MB of address space for whatever a parser allocates, beside what is mapped already (libraries)."""
    with contextlib.suppress(OSError), open("/proc/self/statm") as stream:  # noqa: PTH123
        mapped = int(stream.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))


def fuzz(parser: Parser, name: str, first: int, count: int, until: float) -> dict[str, Any]:
    """``count`` mutants, in batches of a process each."""
    ends: collections.Counter[str] = collections.Counter()
    wrong: list[tuple[int, str]] = []
    peak, start, number = 0, time.monotonic(), first
    while number < first + count and time.monotonic() < until:
        numbers = range(number, min(number + BATCH, first + count))
        at, heard = mmap.mmap(-1, 8), os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(heard[0])
                work(parser, name, numbers, at, heard[1])
            finally:
                os._exit(0)
        os.close(heard[1])
        said = "".join(_heard(heard[0], child, at))
        _, status = os.waitpid(child, 0)
        if said:
            found = json.loads(said)
            ends.update(found["ends"])
            wrong += [(n, what) for n, what in found["wrong"]]
            peak = max(peak, found["peak_kb"])
            number = numbers.stop
            continue
        stopped = int.from_bytes(at[:8], "little")
        wrong.append((stopped, f"the process ended with status {os.waitstatus_to_exitcode(status)}"))
        ends["wrong"] += 1
        ends["not told"] += stopped - number  # tried before it, their ends died with the process
        number = stopped + 1
    tried = number - first
    return {
        "mutants": tried, "read": ends["read"], "refused": ends["refused"], "wrong": ends["wrong"],
        "examples": wrong[:20], "peak_mb": round(peak / 1024), "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


def _heard(stream: int, child: int, at: mmap.mmap) -> Iterator[str]:
    """What the child says; one that stands at the same mutant for far too long is ended."""
    import select

    seen, since = b"", time.monotonic()
    with os.fdopen(stream) as words:
        while True:
            ready, _, _ = select.select([words], [], [], 1.0)
            if ready:
                yield words.read()
                return
            if at[:8] != seen:
                seen, since = at[:8], time.monotonic()
            elif time.monotonic() - since > 10 * SECONDS:
                os.kill(child, signal.SIGKILL)


def main() -> int:
    """Run and print; write the figures as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--parsers")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=15.0)
    options = parser.parse_args()
    start = time.monotonic()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        known = parsers(make_sound(Path(folder))) | xet_parsers()
        names = options.parsers.split(",") if options.parsers else list(known)
        for place, name in enumerate(names):
            now = time.monotonic()
            share = (start + 60 * options.minutes - now) / (len(names) - place)  # so that time fails none of them
            found = result[name] = fuzz(known[name], name, options.first, options.count, now + share)
            print(
                f"{name:12s} {found['mutants']:7d} mutants: {found['read']} read, {found['refused']} refused, "
                f"{found['wrong']} wrong; {found['peak_mb']} MB, {found['seconds']} s",
                flush=True,
            )
            for number, what in found["examples"]:
                print(f"    {number}: {what}", flush=True)
    wrong = sum(found["wrong"] for found in result.values())
    whole = {"parsers": result, "wrong": wrong, "seconds": round(time.monotonic() - start, 1)}
    print(f"{sum(f['mutants'] for f in result.values())} mutants, {wrong} wrong, {whole['seconds']} s")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
