"""The pages of the documentation: up to date where they are made, linked to places that exist, all in the site."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.S)


def anchors(page: Path) -> set[str]:
    """The ids that a site makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), flags=re.M)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("script", ["make_pages.py", "make_reference.py"])
def test_made_pages_are_up_to_date(script: str) -> None:
    done = subprocess.run([sys.executable, DOCS / script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in anchors(found)):
            lost.append(target)
    assert not lost


def test_every_page_is_in_the_navigation_once() -> None:
    named = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.M)
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def check_site() -> object:
    spec = importlib.util.spec_from_file_location("check_site", DOCS / "check_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<link rel="stylesheet" href="https://fonts.example/css">', ["https://fonts.example/css"]),
        ('<script src="//cdn.example/x.js"></script>', ["//cdn.example/x.js"]),
        ('<img src="images/a.svg"><a href="https://arxiv.org/abs/2505.13425">a paper</a>', []),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_seen(text: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(text)
    assert [address for _, address in check_site().loads(tmp_path)] == found  # type: ignore[attr-defined]


def test_a_style_that_loads_from_elsewhere_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a { background: url('https://x.example/a.png') } b { background: url(b.png) }")
    found = [address for _, address in check_site().loads(tmp_path)]  # type: ignore[attr-defined]
    assert found == ["https://x.example/a.png"]


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path], cwd=ROOT, check=True)
    assert list(check_site().loads(tmp_path)) == []  # type: ignore[attr-defined]
    assert (tmp_path / "python.html").stat().st_size > 10_000
