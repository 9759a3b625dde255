"""Check a built site: no page, style or script loads anything from another host, and the site works from a folder.

python docs/check_site.py SITE    exits with 1 and the places where one does
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

#: Attributes by which a browser loads something by itself; links that a person follows are no load.
LOADS = {
    "img": ("src", "srcset"), "script": ("src",), "iframe": ("src",), "source": ("src", "srcset"), "video": ("src",),
    "audio": ("src",), "embed": ("src",), "object": ("data",), "input": ("src",),
}  # fmt: skip
#: Relations of ``<link>`` that load, or open a connection.
RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "manifest", "modulepreload"}
ELSEWHERE = re.compile(r"(?:https?:)?//")


class _Loads(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "link" and RELATIONS & set((said.get("rel") or "").split()):
            self.found.append(said.get("href") or "")
        self.found += [said[name] or "" for name in LOADS.get(tag, ()) if name in said]


def loads(site: Path) -> Iterator[tuple[Path, str]]:
    """Every (file, address) that a browser would fetch from another host."""
    for page in sorted(site.rglob("*.html")):
        reader = _Loads()
        reader.feed(page.read_text(encoding="utf-8"))
        yield from ((page, address) for address in reader.found if ELSEWHERE.match(address.strip()))
    for style in sorted(site.rglob("*.css")):
        text = style.read_text(encoding="utf-8")
        for address in re.findall(r"url\(\s*[\"']?([^)\"']+)|@import\s+[\"']([^\"']+)", text):
            found = "".join(address)
            if ELSEWHERE.match(found):
                yield style, found


def main() -> int:
    """Print what the site loads from elsewhere."""
    site = Path(sys.argv[1])
    found = list(loads(site))
    for page, address in found:
        sys.stderr.write(f"{page} loads {address}\n")
    return 1 if found or not (site / "index.html").is_file() else 0


if __name__ == "__main__":
    sys.exit(main())
