"""Inspect uploaded files in a separate process without network, with limited memory and a deadline.

The server itself opens none of them. One such process is kept and asked one question at a time. If it dies or takes too
long, the files that it was inspecting are refused, and the next question starts a new process.

    python -m learndock.service.inspection      reads {"do": "files" | "admit", "folder": ...}, a line each, and answers
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

from learndock.dock.admission import Admitted, admit
from learndock.errors import STATUS, LearndockError, ModelError, PackageError, UnsafeModel
from learndock.package.json_file import read_json
from learndock.package.manifest import Manifest, is_base_name
from learndock.package.safety import check_files

MEMORY = 1 << 30
#: Hashing 50 GB takes minutes; what is no larger than usual, a blink.
SECONDS, BYTES_A_SECOND = 60.0, 50e6
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
_KINDS = {kind.__name__: kind for kind in STATUS}


class Inspector:
    """Asks the separate process; safe for threads, which wait for each other."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def check_files(self, folder: Path) -> None:
        """See ``package.safety.check_files``.

        Raises:
            UnsafeModel, ModelError, PackageError: see there; or the files could not be looked at in time.
        """
        self._ask("files", folder)

    def check_learnware(self, folder: Path) -> None:
        """Check a folder as ``dock.admission.admit`` does.

        Raises:
            UnsafeModel, ModelError, PackageError, SpecError: see there; or it could not be looked at in time.
        """
        self._ask("admit", folder)

    def admit(self, folder: Path) -> Admitted:
        """See ``dock.admission.admit``."""
        self.check_learnware(folder)
        return Admitted(folder, Manifest.from_folder(folder))

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, what: str, folder: Path) -> None:
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        with self._lock:
            # Absolute, because the process changes into each folder that it is asked about
            answer = self._answer({"do": what, "folder": str(folder.absolute())}, self._seconds + size / BYTES_A_SECOND)
        if answer is None:
            raise ModelError("inspecting the files took too much time or memory", remedy="check them")
        if "error" in answer:
            raise _KINDS.get(answer.pop("error"), ModelError)(**answer)

    def _answer(self, question: dict[str, str], seconds: float) -> dict[str, Any] | None:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], seconds)
            line = process.stdout.readline() if ready else b""
            found = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            found = None
        if found is None:
            self._end()
        return found

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "learndock.service.inspection"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                # A signal to the server's group must not end what it is waiting for.
                start_new_session=True,
            )
        return self._process

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process = None


def _shut_in() -> None:
    """Give up, for the rest of this process, the network, other programs, pickles, and memory above ``MEMORY``."""
    # Where the system allows it, a network of its own, in which there is nothing.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        libc.unshare(_NEW_USER | _NEW_NETWORK)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    refused = ("socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.system", "os.fork", "pickle.find_class")

    def hook(event: str, _: tuple[Any, ...]) -> None:
        if event.startswith(refused):
            raise UnsafeModel(f"looking at these files led to {event}; they are refused")

    sys.addaudithook(hook)


def _check_bases(folder: Path) -> None:
    """Refuse adapters that name their base by a place: loading them would read from there."""
    for path in sorted(folder.rglob("adapter_config.json")):
        where = path.relative_to(folder).as_posix()
        config = read_json(path, where=where)
        base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
        if base and not (isinstance(base, str) and is_base_name(base)):
            raise PackageError(
                "base_model_name_or_path is a path or an address",
                remedy="write the base's name, OWNER/NAME, and push again",
                about=where,
            )


def _serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    for line in questions:
        question = json.loads(line)
        found: dict[str, Any] = {}
        try:
            # Files are named relative to their folder: where the service keeps it is not for the sender to know.
            os.chdir(question["folder"])
            folder = Path()
            if question["do"] == "files":
                # Folders come in several commits, and models file by file: parts may be missing yet.
                check_files(folder, complete=False)
                _check_bases(folder)
            else:
                admit(folder)
        except LearndockError as error:
            kind = next(k.__name__ for k in type(error).__mro__ if k in STATUS)
            found = {"error": kind, "message": error.message, "remedy": error.remedy, "about": error.about}
        except MemoryError:
            found = {
                "error": "ModelError",
                "message": "looking at the files takes too much memory",
                "remedy": "check them",
            }
        except Exception as error:
            found = {"error": "ModelError", "message": f"the files could not be inspected ({type(error).__name__})"}
        answers.write(json.dumps(found).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    _shut_in()
    _serve(sys.stdin.buffer, sys.stdout.buffer)
