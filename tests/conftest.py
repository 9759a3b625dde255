"""What all tests share: no network, and spaces.

tiny_space, tiny_masked_space, tiny_causal_space  committed; what they are: tests/support/tiny.py
minilm                                            published, for tests that need real weights; skips without them
"""

from __future__ import annotations

import os
import random
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from learndock.spaces import Space, get_space
from tests.support.tiny import TINY, source_of

# Before any test imports a library that would ask a hub
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LEARNDOCK_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

LOOPBACK = ("127.", "::1", "localhost")


class NetworkUse(RuntimeError):
    """A test reached for the network."""


def _stay_here(event: str, args: tuple[Any, ...]) -> None:
    """Audit hook: sockets may talk to this machine only."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        host = address[0] if args[0].family in (socket.AF_INET, socket.AF_INET6) and address else "localhost"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0] or "localhost"
    else:
        return
    if not str(host if isinstance(host, str) else host.decode()).startswith(LOOPBACK):
        raise NetworkUse(f"{event} to {host}: tests use no network")


sys.addaudithook(_stay_here)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, help="run in a random order drawn from this seed; 0 draws the seed too")


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed once; workers are handed it with the other options."""
    if config.option.shuffle == 0:
        config.option.shuffle = random.SystemRandom().randrange(1, 10**6)


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"order: --shuffle={config.option.shuffle}"] if config.option.shuffle else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.shuffle:
        terminalreporter.write_line(f"in the order of --shuffle={config.option.shuffle}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what takes a minute unless ``-m`` asks for it; with ``--shuffle``, shuffle files and the tests in them."""
    if "slow" not in config.getoption("-m"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes a minute; run with -m slow"))
    if seed := config.option.shuffle:
        draw = random.Random(seed)
        files = {item.path: draw.random() for item in items}
        places = {item.nodeid: (files[item.path], draw.random()) for item in items}
        items.sort(key=lambda item: places[item.nodeid])


@pytest.fixture(scope="session", autouse=True)
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made first: a module that moves temporary files elsewhere would otherwise take all later tests' folders along."""
    return tmp_path_factory.getbasetemp()


# --- spaces --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny_space() -> Space:
    """A space of 768 numbers; use ``tiny_space.folder`` where a folder is asked for."""
    return get_space(TINY / "tiny")


@pytest.fixture(scope="session")
def tiny_masked_space() -> Space:
    """A space that reads a masked LM at the mask of a template."""
    return get_space(TINY / "tiny-masked")


@pytest.fixture(scope="session")
def tiny_causal_space() -> Space:
    """A space of prompts and completions."""
    return get_space(TINY / "tiny-causal")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the BERT that ``tiny_space`` is made of."""
    return source_of("tiny", tmp_path_factory.mktemp("encoders") / "bert")


@pytest.fixture(scope="session")
def tiny_masked_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the RoBERTa that ``tiny_masked_space`` is made of."""
    return source_of("tiny-masked", tmp_path_factory.mktemp("encoders") / "roberta")


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the causal model that ``tiny_causal_space`` is made of."""
    return source_of("tiny-causal", tmp_path_factory.mktemp("causal") / "llama")


@pytest.fixture(scope="session")
def minilm() -> Space:
    """The published space minilm-l6."""
    space = get_space("minilm-l6")
    absent = [file for file in space.files if space.find(file) is None]
    if absent:
        pytest.skip(f"weights of minilm-l6 are not on this machine ({', '.join(absent)})")
    return space
