"""What an earlier learndock leaves: run by ``test_upgrade`` in a checkout of it, with that checkout's own helpers.

python old_dock.py FOLDER SETTINGS      serves the dock in FOLDER, fills it, prints what is there as one line of JSON
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any


def fill(folder: str, settings: dict[str, Any]) -> dict[str, Any]:
    """People, an organisation, tokens, public and private learnwares, one removed, and plain repositories."""
    from tests.support.docking import make_learnware
    from tests.support.serving import served

    facts: dict[str, Any] = {"files": {}, "private": ["ada/hidden", "bob/draft"], "commits": {}}
    with tempfile.TemporaryDirectory() as work, served(Path(folder), **settings) as site:
        ada, bob = site.token("ada"), site.token("bob")
        site.service.people.add_organisation(site.principal("bob"), "lab")
        learnwares = (("ada/words", ada), ("ada/hidden", ada), ("lab/shared", bob), ("ada/gone", ada))
        for name, token in learnwares:
            made = make_learnware(Path(work) / name.replace("/", "-"), name)
            assert site.publish(made, token, private=name in facts["private"]).status == 201
        assert site.ask("DELETE", "/api/v1/learnwares/ada/gone", token=ada).status == 204
        for name, token in (("ada/plain", ada), ("bob/draft", bob)):
            asked = {"name": name, "private": name in facts["private"]}
            assert site.post("/api/v1/repositories", asked, token=token).status == 201
            for text in ("first", "second"):
                add = {"README.md": site.upload(f"# {name} {text}\n".encode(), token)}
                done = site.post(f"/api/v1/repositories/{name}/commits", {"title": text, "add": add}, token=token)
                assert done.status == 201, done
        for name in ("ada/words", "ada/hidden", "lab/shared", "ada/plain", "bob/draft"):
            token = ada if name.startswith("ada") else bob
            tree = site.get(f"/api/v1/repositories/{name}/tree/main", token=token).body
            facts["files"][name] = {f["path"]: f["sha256"] for f in tree["files"]}
            commits = site.get(f"/api/v1/repositories/{name}/commits", token=token).body["commits"]
            facts["commits"][name] = [[c["id"], c["title"]] for c in commits]
        facts["digests"] = {n: site.get(f"/api/v1/learnwares/{n}", token=t).body["digest"] for n, t in learnwares[:3]}
        facts["tokens"] = {"ada": ada, "bob": bob, "": site.operator()}
    return facts


if __name__ == "__main__":
    print(json.dumps(fill(sys.argv[1], json.loads(sys.argv[2]))))  # noqa: T201 - it is what the test reads
