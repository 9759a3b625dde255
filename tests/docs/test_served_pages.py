"""The commands of the pages that need a running service, run against one, as a user types them.

The blocks are those that ``<!-- served: why -->`` marks (see ``test_snippets``). What a page abbreviates, such as
``ldk_6ElP...``, is in later commands what the command really printed; its addresses and folders are those of the test.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from learndock.package import pack
from learndock.spaces import Space
from tests.docs.test_snippets import ROOT, Block, Page, blocks, prepare
from tests.support import models
from tests.support.serving import served

pytest.importorskip("skops")
pytestmark = pytest.mark.slow
SECRET = re.compile(r"ldk_[\w-]+(?:\.\.\.)?")
#: Page -> the name that its learnware has there.
PAGES = {
    "docs/service.md": "ada/tumours",
    "docs/hub.md": "ada/reviews",
    "docs/operating.md": "ada/reviews",
    "docs/tutorials/operator.md": "ada/reviews",
}


class ServedPage(Page):
    """A page whose commands ask a service; ``port`` is where it is, or where `learndock serve` will start it."""

    def __init__(self, folder: Path, port: int, dock: Path) -> None:
        super().__init__(folder)
        self.environment = {k: v for k, v in self.environment.items() if not k.startswith("HF_")}
        self.environment |= {"HF_HOME": str(folder.with_name("hf")), "HF_HUB_DISABLE_TELEMETRY": "1"}
        self.port = port
        self.replaced = {
            "http://dock.example:7080": f"http://127.0.0.1:{port}",
            "127.0.0.1:7080": f"127.0.0.1:{port}",
            "/var/lib/learndock-new": str(folder.with_name("restored")),
            "/var/lib/learndock": str(dock),
            "/backup/": f"{folder.with_name('backup')}/",
        }
        self.running: subprocess.Popen[bytes] | None = None

    def typed(self, text: str) -> str:
        """What a person types where the page shows ``text``."""
        for shown, meant in self.replaced.items():
            text = text.replace(shown, meant)
        return text

    def _command(self, block: Block, command: str, lines: list[str], status: int) -> str:
        if command.startswith("learndock serve"):
            printed = self._serve(command)
        else:
            printed = super()._command(block, self.typed(command), [self.typed(line) for line in lines], status)
        for shown, came in zip(SECRET.findall("\n".join(lines)), SECRET.findall(printed), strict=False):
            if shown.endswith("..."):
                self.replaced[shown] = came
        return printed

    def _serve(self, command: str) -> str:
        with (self.cwd / "log").open("w") as log:
            running = self.running = subprocess.Popen(
                [*self.typed(command).split(), "--port", str(self.port)], cwd=self.cwd, env=self.environment, stderr=log
            )
        ends = time.monotonic() + 60
        while "#link=" not in (printed := (self.cwd / "log").read_text()):
            assert running.poll() is None and time.monotonic() < ends, printed  # noqa: PT018
            time.sleep(0.1)
        return printed

    def _python(self, block: Block) -> None:
        script = f". {self.state}\ncd {self.cwd}\n{sys.executable} - <<'END'\n{block.text}\nEND"
        done = subprocess.run(["bash", "-c", script], env=self.environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{block.where}\n{done.stderr}"

    def close(self) -> None:
        if self.running is not None:
            self.running.terminate()
            self.running.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def page_at_a_service(page: str, folder: Path) -> Iterator[ServedPage]:
    """The page with its service, at which ada has logged in by a link, as the documentation says."""
    if page.endswith("operator.md"):
        yield ServedPage(folder, free_port(), folder)
        return
    with served(folder.with_name("dock")) as site:
        running = ServedPage(folder, site.running.port, folder.with_name("dock"))
        people = site.service.people
        operator = people.principal(site.operator())
        people.add_user(operator, "ada")
        link = f"{site.url}#link={people.invite(operator, 'ada')}"
        running.run(Block(page, 0, "console", f"$ learndock login {link}\n"))
        yield running


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says_at_a_service(page: str, minilm: Space, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    prepare(folder)
    models.write_bert(folder / "model")
    models.write_sklearn(tmp_path / "fitted")
    made = folder / ("reviews" if page.endswith("operator.md") else "learnware")
    pack(tmp_path / "fitted", made, name=PAGES[page], examples=models.sentiment(32), space=minilm)
    found = [b for b in blocks(page, (ROOT / page).read_text(encoding="utf-8")) if b.mark == "served"]
    assert found
    with page_at_a_service(page, folder) as running:
        try:
            for block in found:
                running.run(block.plain())
        finally:
            running.close()
