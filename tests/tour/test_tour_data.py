"""The tour's data: parsers on small handmade files, fetching that runs nothing, and the real packages."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from learndock.data import Schema, require_classes
from learndock.errors import LearndockError
from learndock.tour import diagnoses, sentiment
from learndock.tour.data import load_tour_data, tumour_tasks
from learndock.tour.fetch import Package, fetch

LINES = "1\t2.5\tWhat a  day &amp; night!\n2\t-1.25\tlate again\n\n3\t-1\twhat a day & NIGHT!\n4\t0\t \n"
XML = b"""<?xml version="1.0"?><ICD10CM.tabular><chapter><section>
<diag><name>C16</name><desc>Malignant neoplasm of stomach</desc>
  <excludes1><note>not this</note></excludes1>
  <diag><name>C16.0</name><desc>Malignant neoplasm of cardia</desc>
    <inclusionTerm><note>Malignant neoplasm of  gastro-esophageal junction</note></inclusionTerm></diag>
  <diag><name>C16.9</name><desc>malignant neoplasm of STOMACH</desc></diag></diag>
<diag><name>D30</name><desc>Benign neoplasm of urinary organs</desc></diag>
<diag><name>S82</name><desc>Fracture of lower leg, including ankle</desc>
  <diag><name>S82.0</name><desc>Fracture of patella</desc>
    <diag><name>S82.001A</name>
      <desc>Fracture of right patella, initial encounter for fracture</desc></diag>
    <diag><name>S82.001D</name>
      <desc>Fracture of right patella, subsequent encounter for fracture with routine healing</desc></diag>
    <diag><name>S82.001S</name><desc>Fracture of right patella, sequela</desc></diag></diag></diag>
</section></chapter></ICD10CM.tabular>"""


def test_ratings_are_parsed_and_repeats_left_out() -> None:
    assert sentiment.parse_ratings(LINES.splitlines(), where="tweets") == [
        ("What a day & night!", 2.5),
        ("late again", -1.25),
    ]
    for bad in ("1\tgood", "1\tx\tgood"):
        with pytest.raises(LearndockError, match="tweets line 2: not an ID, a rating and a text"):
            sentiment.parse_ratings(["1\t1\tfine", bad], where="tweets")


def test_ratings_lie_in_an_archive_in_an_archive(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        member = tarfile.TarInfo("hutto_ICWSM_2014/tweets_GroundTruth.txt")
        member.size = len(LINES)
        tar.addfile(member, io.BytesIO(LINES.encode()))
    path = tmp_path / "ratings.zip"
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    assert len(sentiment.read_ratings(path, "tweets")["tweets"]) == 2
    for broken, name in ((path, "novels"), (tmp_path / "x.zip", "tweets")):
        (tmp_path / "x.zip").write_bytes(b"PK")
        with pytest.raises(LearndockError, match="does not hold the rated texts"):
            sentiment.read_ratings(broken, name)


def test_diagnoses_are_parsed_without_repeats_and_visits() -> None:
    found = diagnoses.parse_diagnoses(io.BytesIO(XML), "CS")
    assert [(d.code[:5], d.text) for d in found] == [
        ("C16.0", "Malignant neoplasm of cardia"),
        ("C16.0", "Malignant neoplasm of gastro-esophageal junction"),
        ("C16.9", "malignant neoplasm of STOMACH"),
        ("S82.0", "Fracture of right patella"),
        ("S82.0", "Fracture of patella"),
        ("S82", "Fracture of lower leg, including ankle"),
    ]
    assert {d.title for d in found} == {
        "Malignant neoplasm of stomach",
        "Fracture of lower leg, including ankle",
    }


@pytest.mark.parametrize(
    ("code", "site", "nature"),
    [
        ("C16.0", "digestive organs", "malignant"),
        ("C4A.1", "skin, bone and soft tissue", "malignant"),
        ("C7A.0", None, "malignant"),
        ("C80", None, "malignant"),
        ("D05.1", "breast, genital and urinary organs", "in situ or uncertain"),
        ("D33", "brain, eye and glands", "benign"),
        ("D3A.0", None, "benign"),
        ("D45", "blood and lymph", "in situ or uncertain"),
        ("D49", None, None),
    ],
)
def test_sites_and_natures_of_categories(code: str, site: str | None, nature: str | None) -> None:
    assert diagnoses.category_label(code, diagnoses.SITES) == site
    assert diagnoses.category_label(code, diagnoses.NATURES) == nature


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("Fracture at wrist and hand level", "fracture"),
        ("Injury of cranial nerve", "nerve, vessel or muscle"),
        ("Injury of nerves and spinal cord at neck level", "nerve, vessel or muscle"),
        ("Injury of muscle and tendon at ankle and foot level", "nerve, vessel or muscle"),
        ("Injury of heart", None),
        ("Crushing injury of head", None),
    ],
)
def test_kinds_of_injury(title: str, kind: str | None) -> None:
    assert diagnoses.title_label(title) == kind


def test_two_tasks_over_the_same_inputs() -> None:
    codes = ["C16", "C34", "C44", "C50", "C71", "C81", "D12", "D14", "D22", "D24", "D33", "D03"]
    found = [diagnoses.Diagnosis(f"{c} text {i}", c, c) for c in codes for i in range(60)]
    found += [diagnoses.Diagnosis(f"C16 more {i}", "C16", "C16") for i in range(900)]
    site, nature = tumour_tasks(found).values()
    for one, other in ((site.train, nature.train), (site.test, nature.test)):
        assert [text for text, _ in one] == [text for text, _ in other]
    assert len(site.test) == 400
    assert not {t for t, _ in site.train} & {t for t, _ in site.test}
    for task in (site, nature):
        counts = Counter(label for _, label in task.train + task.test)
        assert set(counts) == set(task.schema.labels)
        assert max(counts.values()) <= 5 * min(counts.values())  # of 17 to 1 before
    assert tumour_tasks(found) == tumour_tasks(found)


def source_archive(folder: Path, canary: Path) -> Package:
    """A source archive whose setup.py leaves a trace when it is run."""
    folder.mkdir()
    files = {
        "PKG-INFO": "Metadata-Version: 1.1\r\nName: tour-canary\r\nVersion: 0.1\r\n",
        "setup.py": f"open({str(canary)!r}, 'w').close()\n"
        "from setuptools import setup\nsetup(name='tour-canary', version='0.1')\n",
    }
    path = folder / "tour-canary-0.1.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"tour-canary-0.1/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return Package("tour-canary", "0.1", path.name, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip without any index: it finds what lies in the folder, and nothing else."""
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return tmp_path / "links"


def test_fetching_a_source_archive_runs_nothing_of_it(offline: Path, tmp_path: Path) -> None:
    package = source_archive(offline, tmp_path / "canary")
    cache = tmp_path / "cache"
    cache.mkdir()
    (path,) = fetch([package], cache)
    assert path.read_bytes() == (offline / package.file).read_bytes()
    assert not (tmp_path / "canary").exists()
    assert [p.name for p in cache.iterdir()] == [package.file]
    (offline / package.file).unlink()
    assert fetch([package], cache) == [path]  # what is there is not fetched again


def test_fetching_into_a_relative_folder(offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = source_archive(offline, tmp_path / "canary")
    (tmp_path / "cache").mkdir()
    monkeypatch.chdir(tmp_path)
    (path,) = fetch([package], Path("cache"))
    assert path == tmp_path.resolve() / "cache" / package.file


def test_a_changed_file_is_refused(offline: Path, tmp_path: Path) -> None:
    package = source_archive(offline, tmp_path / "canary")
    (offline / package.file).write_bytes((offline / package.file).read_bytes() + b"\0")
    cache = tmp_path / "cache"
    cache.mkdir()
    with pytest.raises(LearndockError, match=r"tour-canary 0\.1: .*HASH.*check the network"):
        fetch([package], cache)
    assert list(cache.iterdir()) == []
    assert not (tmp_path / "canary").exists()


def test_packages_that_cannot_be_fetched(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(LearndockError) as caught:
        load_tour_data(tmp_path / "cache")
    message = str(caught.value)
    assert "vaderSentiment 0.5 and simple-icd-10-cm 1.5.0" in message
    assert "No matching distribution" in message or "Could not find a version" in message
    assert f"into {tmp_path / 'cache'} yourself" in message
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real data, made from the real packages."""
    folder = tmp_path_factory.mktemp("tour")
    try:
        load_tour_data(folder)
    except LearndockError as error:
        pytest.skip(f"the tour's packages cannot be fetched here: {error}")
    return folder


def test_the_real_data(cache: Path) -> None:
    tasks = load_tour_data(cache)
    assert list(tasks) == [
        "tweet_sentiment",
        "product_sentiment",
        "movie_sentiment",
        "tweet_intensity",
        "tumour_site",
        "tumour_nature",
        "injury_kind",
        "injury_region",
    ]
    for name, task in tasks.items():
        assert 1200 <= len(task.train) <= 3000, name
        assert 400 <= len(task.test) <= 600, name
        assert not set(task.train.inputs) & set(task.test.inputs), name
        assert require_classes(task.train, task.schema, least=16) == ()
        assert require_classes(task.test, task.schema) == ()
        assert task.train.warnings + task.test.warnings == (), name
        assert "license" in task.source
        assert Schema.from_file(f"{cache / 'tasks.json'}#{name}") == task.schema
        if task.schema.type == "classification":
            assert task.train.targets is not None
            counts = np.bincount(task.train.targets)
            assert counts.max() <= 3.5 * counts.min(), (name, counts)
    for one, other in (("tumour_site", "tumour_nature"), ("injury_kind", "injury_region")):
        assert tasks[one].train.inputs == tasks[other].train.inputs
        assert tasks[one].test.inputs == tasks[other].test.inputs
    assert not set(tasks["tweet_sentiment"].train.inputs) & set(tasks["tweet_intensity"].test.inputs)


def test_the_cache_needs_no_network_and_mends_itself(cache: Path, offline: Path) -> None:
    before = {p.name: p.read_bytes() for p in cache.iterdir()}
    load_tour_data(cache)
    (cache / "injury_kind.test.jsonl.gz").write_bytes(b"damaged")
    calls: list[tuple[int, int]] = []
    load_tour_data(cache, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (8, 8)
    assert {p.name: p.read_bytes() for p in cache.iterdir()} == before
    entries = json.loads(before["tasks.json"])
    (cache / "tasks.json").write_text(json.dumps({n: {**e, "edition": 0} for n, e in entries.items()}))
    load_tour_data(cache)
    assert (cache / "tasks.json").read_bytes() == before["tasks.json"]
