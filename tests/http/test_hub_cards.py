"""Cards are read: tags, tasks, libraries and bases of models in descriptions and lists, to filter by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from learndock.dock import open_dock
from learndock.package.front_matter import read_front_matter
from learndock.service.metadata import Metadata, front_matter, metadata_of
from tests.http.test_hub_refusals import commit
from tests.support.docking import make_learnware
from tests.support.serving import BACKENDS, Site, served, served_by

CARD = """---
license: MIT
language: [en, no]
tags: [weather, 7]
datasets: imdb
base_model: ada/base
---
# A card
"""
BERT = {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}
ADAPTER = {"base_model_name_or_path": "ada/base", "peft_type": "LORA", "task_type": "SEQ_CLS", "auto_mapping": None}


@pytest.fixture(scope="module", params=BACKENDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("cards")
    with served_by(request.param, place / "dock") as site:
        for name, files, private in (
            ("base", {"config.json": json.dumps(BERT), "README.md": "# none\n"}, False),
            ("told", {"config.json": json.dumps(BERT), "README.md": CARD}, False),
            ("adapter", {"adapter_config.json": json.dumps(ADAPTER), "README.md": "# no front matter\n"}, False),
            ("hidden", {"README.md": CARD}, True),
            ("odd", {"README.md": "---\ntags: *x\n---\n"}, False),
        ):
            site.post("/api/repos/create", {"name": name, "private": private}, token=site.token("ada"))
            assert commit(site, f"ada/{name}", {k: v.encode() for k, v in files.items()}).status == 200
        assert site.publish(make_learnware(place / "lw", "ada/words"), site.token("ada")).status == 201
        yield site


def names(site: Site, token: str | None = None, **asked: Any) -> list[str]:
    answer = site.get(f"/api/models?{urlencode(asked, doseq=True)}", token=token)
    assert answer.status == 200, answer
    return [m["id"].partition("/")[2] for m in answer.body]


def test_a_description_has_what_card_and_files_say(site: Site) -> None:
    told = site.get("/api/models/ada/told").body
    assert (told["library_name"], told["pipeline_tag"]) == ("transformers", "text-classification")
    assert told["cardData"]["datasets"] == "imdb"
    assert told["tags"] == [
        "transformers", "bert", "weather", "7", "text-classification", "en", "no", "dataset:imdb",
        "base_model:ada/base", "base_model:finetune:ada/base", "license:mit",
    ]  # fmt: skip
    adapter = site.get("/api/models/ada/adapter").body
    assert adapter["library_name"] == "peft"
    assert {"base_model:ada/base", "base_model:adapter:ada/base"} <= set(adapter["tags"])
    assert "aliases (*) are not read" in site.get("/api/models/ada/odd").body["learndock"]["card"]
    assert {"learnware", "license:apache-2.0"} & set(site.get("/api/models/ada/words").body["tags"])


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"filter": "text-classification"}, {"base", "told"}),
        ({"pipeline_tag": "text-classification"}, {"base", "told"}),
        ({"filter": ["weather", "license:mit"]}, {"told"}),
        ({"filter": "Weather", "author": "ada"}, {"told"}),
        ({"filter": "weather", "author": "bob"}, set()),
        ({"filter": "base_model:adapter:ada/base"}, {"adapter"}),
        ({"filter": "base_model:ada/base"}, {"adapter", "told"}),
        ({"filter": "learnware"}, {"words"}),
        ({"library": "peft"}, {"adapter"}),
        ({"language": "no"}, {"told"}),
        ({"search": ["ada", "d"], "filter": "peft"}, {"adapter"}),
        ({"apps": "ollama"}, set()),
        ({"gated": "true"}, set()),
        ({"gated": "false"}, {"adapter", "base", "odd", "told", "words"}),
        ({"filter": "no such tag"}, set()),
    ],
)
def test_lists_are_filtered(site: Site, asked: dict[str, Any], found: set[str]) -> None:
    assert set(names(site, **asked)) == found


def test_private_cards_are_found_by_their_owner_alone(site: Site) -> None:
    assert "hidden" not in names(site, filter="weather")
    assert "hidden" in names(site, site.token("ada"), filter="weather")
    assert "hidden" not in names(site, site.token("bob"), filter="weather")


@pytest.mark.parametrize(
    "asked",
    ["sort=downloads", "sort=likes", "num_parameters=min:6B", "inference=warm", "apps=vllm", "expand=spaces", "moon=1",
     "limit=-1", "direction=7", "sort=createdAt&cursor=x"],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(site: Site, asked: str) -> None:
    answer = site.get(f"/api/models?{asked}")
    assert answer.status == 400
    assert answer.headers["x-error-message"]


def test_lists_are_sorted_and_come_in_pages(site: Site) -> None:
    for asked, expected in (
        ({"sort": "createdAt"}, ["words", "odd", "adapter", "told", "base"]),
        ({"sort": "lastModified", "direction": 1}, ["base", "told", "adapter", "odd", "words"]),
        ({}, ["adapter", "base", "odd", "told", "words"]),
    ):
        assert names(site, **asked) == expected
        seen, path = [], f"/api/models?{urlencode({**asked, 'limit': 2, 'author': 'ada'})}"
        while path:
            answer = site.get(path)
            seen += [m["id"].partition("/")[2] for m in answer.body]
            path = answer.headers.get("link", "").partition(">")[0].removeprefix(f"<{site.url}")
        assert seen == expected


def test_what_is_asked_for_is_shown(site: Site) -> None:
    (short,) = site.get("/api/models?filter=weather").body
    assert not {"cardData", "config", "siblings"} & set(short)
    (full,) = site.get("/api/models?filter=weather&full=true&config=true&cardData=true").body
    assert full["siblings"] == [{"rfilename": "README.md"}, {"rfilename": "config.json"}]
    assert (full["config"], full["cardData"]["license"]) == (BERT, "MIT")
    (only,) = site.get("/api/models?filter=weather&expand=tags&expand=sha").body
    assert set(only) == {"_id", "id", "modelId", "tags", "sha"}
    assert set(site.get("/api/models/ada/told?expand=pipeline_tag").body) == {"_id", "id", "modelId", "pipeline_tag"}


def test_a_card_is_read_again_when_it_changes(site: Site) -> None:
    site.post("/api/repos/create", {"name": "changes"}, token=site.token("bob"))
    for tag in ("first", "second"):
        assert commit(site, "bob/changes", {"README.md": f"---\ntags: [{tag}]\n---\n".encode()}).status == 200
        assert names(site, filter=tag) == ["changes"]
    assert names(site, filter="first") == []
    site.ask("DELETE", "/api/repos/delete", {"name": "bob/changes"}, token=site.token("bob"))
    assert names(site, filter="second") == []


def test_learnwares_without_a_repository_are_filtered_too(tmp_path: Path) -> None:
    open_dock(tmp_path / "dock").add(make_learnware(tmp_path / "hand", "old/hand"))
    with served(tmp_path / "dock") as site:
        assert names(site, filter="learnware") == ["hand"]
        assert names(site, filter="peft") == []
        assert site.get("/api/models?sort=createdAt").body[0]["id"] == "old/hand"


@pytest.mark.parametrize(
    "card",
    [b"---\n- 1\n---\n", b"---\na: [\n---\n", b"---\na: &x [1]\nb: *x\n---\n", b"---\n\xff\n---\n",
     b"---\na: !!python/name:os.system\n---\n", b"---\na: 2020-99-99\n---\n", b"---\na: " + b"[" * 999 + b"\n---\n"],
)  # fmt: skip
def test_front_matter_that_is_none_is_a_problem_told(site: Site, card: bytes) -> None:
    with pytest.raises(ValueError):
        front_matter(card)
    assert metadata_of(["README.md"], lambda _: card).problem
    if card.isascii():
        answer = site.post("/api/validate-yaml", {"content": card.decode(), "repoType": "model"})
        assert (answer.status, "README.md" in answer.body["errors"][0]["message"]) == (400, True)


def test_front_matter_is_json_whatever_it_holds() -> None:
    found = front_matter(b"---\na: .nan\nb: 2020-01-01\nc: !!binary eHh4\n1: {2: [~]}\n---\n")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert front_matter(b"# no front matter\n---\na: 1\n---\n") == {}
    assert metadata_of([], lambda _: b"") == Metadata()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("README.md", "---\na: !!bool x\n---\n"),
        ("README.md", "---\na: !!timestamp x\n---\n"),
        ("README.md", '---\na: !!int ""\n---\n'),
        ("README.md", '---\ntags: ["a\\0b"]\n---\n'),
        ("config.json", '{"model_type": "\\ud800"}'),
        ("config.json", '{"model_type": "a\\u0000b", "architectures": ["\\udc00ForCTC"]}'),
    ],
)
def test_no_repository_ends_the_list_of_all(site: Site, path: str, content: str) -> None:
    before = names(site)
    asked = {"name": "bad", "private": False}
    assert site.post("/api/repos/create", asked, token=site.token("eve")).status == 200
    try:
        assert commit(site, "eve/bad", {path: content.encode()}).status == 200
        assert names(site, full=True, config=True) == [*before, "bad"]
        assert site.get("/api/models/eve/bad").status == 200
    finally:
        site.ask("DELETE", "/api/repos/delete", {"name": "eve/bad"}, token=site.token("eve"))


def test_one_reader_of_front_matter_is_behind_both(site: Site) -> None:
    card = "\ufeff---\nlicense: mit\n---\n# Saved by an editor that marks UTF-8\n"
    assert read_front_matter(card).license == front_matter(card.encode())["license"] == "mit"
    with pytest.raises(ValueError, match="values"):
        front_matter(b"---\na: [" + b"1," * 100_000 + b"1]\n---\n")
