"""Spaces: found, checked byte for byte, installed, and run; what they compute is in test_author."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from learndock.data.examples import Examples
from learndock.data.schema import Schema
from learndock.errors import DataError, SpaceError, WeightsChanged, WeightsMissing
from learndock.spaces import Space, get_space, list_spaces
from learndock.spaces.heads import description_prototypes, head_for, mean_prototypes
from learndock.spaces.install import install_space
from learndock.spaces.onnx_helper import BATCH_STRETCH, BATCH_TOKENS, batches, load_helper
from learndock.spaces.space import read_space
from learndock.spaces.text import MAX_CHARACTERS
from learndock.spec import make_spec
from learndock.spec.spec import identity

FILES = ("model.safetensors", "tokenizer.json", "config.json", "features.onnx", "gradients.onnx", "center.safetensors")
SENTIMENT = Schema("classification", ("bad", "good"), ("a bad review", "a good review"), "accuracy")


@pytest.fixture
def copied(tiny_space: Space, tmp_path: Path) -> Path:
    """A copy of the tiny space that a test may damage."""
    return Path(shutil.copytree(tiny_space.folder, tmp_path / "copy" / "tiny"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "space.json"
    source = json.loads(path.read_text())
    change(source)
    path.write_text(json.dumps(source))


# --- finding -------------------------------------------------------------------------------------------------


def test_the_default_space_is_built_in() -> None:
    assert get_space().name == "minilm-l6"
    assert "minilm-l6" in [s.name for s in list_spaces()]
    assert (get_space().width, get_space().size) == (384, 110_592)


def test_a_space_is_found_by_folder_and_by_name(
    tiny_space: Space, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get_space(tiny_space) is tiny_space
    assert get_space(copied).folder == copied
    monkeypatch.setenv("LEARNDOCK_SPACES", str(copied.parent))
    assert get_space("tiny").folder == copied
    assert {"tiny", "minilm-l6"} <= {s.name for s in list_spaces()}


def test_an_unknown_space_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SpaceError, match=r'no space "nowhere"; installed: .*minilm-l6.*learndock space build'):
        get_space("nowhere")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '{"space": 1}', '{"space": 1, "name": "x", "description": {}, "external": {}}'],
)
def test_a_broken_folder_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "space.json").write_text(content)
    with pytest.raises(SpaceError, match=rf"{tmp_path}.*not a readable space"):
        get_space(tmp_path)


def test_a_space_of_the_future_is_refused(copied: Path) -> None:
    rewrite(copied, lambda s: s.update(space=2))
    with pytest.raises(SpaceError, match=r"space format 2 is not known here; update learndock"):
        get_space(copied)


@pytest.mark.parametrize("name", ["../outside", "/etc/x", "", ".hidden", "a/b", "a\n"])
def test_names_that_lead_elsewhere_are_refused(copied: Path, name: str, tmp_path: Path) -> None:
    rewrite(copied, lambda s: s.update(name=name))
    with pytest.raises(SpaceError, match="not a plain name"):
        install_space(copied, into=tmp_path / "installed")
    assert not (tmp_path / "installed").exists()


def test_files_that_lead_elsewhere_are_refused(copied: Path, tmp_path: Path) -> None:
    def move(source: dict[str, Any]) -> None:
        files = source["description"]["files"]
        files["../evil"] = files["config.json"]

    rewrite(copied, move)
    (copied.parent / "evil").write_bytes((copied / "config.json").read_bytes())
    with pytest.raises(SpaceError, match="not a plain name"):
        install_space(copied, into=tmp_path / "installed")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "installed").exists()


def test_a_source_cannot_make_python_import_a_package(copied: Path) -> None:
    source = {"kind": "package", "name": "antigravity.module", "path": "x"}
    rewrite(copied, lambda s: s.update(sources={"model.safetensors": [source]}))
    with pytest.raises(SpaceError, match="not a plain name"):
        get_space(copied)


# --- identity ------------------------------------------------------------------------------------------------


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, inner in pairs for leaf in leaves(inner, (*path, key))]
    return [path]


def test_the_id_changes_with_everything_that_matters(tiny_space: Space, copied: Path) -> None:
    known = {identity(tiny_space.describe("one-pass")), identity(tiny_space.describe("paper"))}
    assert len(known) == 2
    places = leaves(tiny_space.description)
    assert ("adapters", "seed") in places
    assert ("files", "model.safetensors") in places
    for *path, last in places:
        description = json.loads(json.dumps(tiny_space.description))
        inner = description
        for key in path:
            inner = inner[key]
        inner[last] = "other"
        known.add(identity(replace(tiny_space, description=description).describe("one-pass")))
    assert len(known) == 2 + len(places)


def test_the_id_does_not_depend_on_where_files_lie(tiny_space: Space, copied: Path) -> None:
    hub = {"kind": "hub", "name": "somebody/encoder", "path": "model.safetensors"}
    rewrite(copied, lambda s: s.update(sources={"model.safetensors": [hub]}, about={"license": "mit"}))
    assert get_space(copied).sources["model.safetensors"][0].name == "somebody/encoder"
    assert identity(get_space(copied).describe("one-pass")) == identity(tiny_space.describe("one-pass"))


# --- weights -------------------------------------------------------------------------------------------------


def test_missing_weights_are_answered_with_the_ways_to_get_them(copied: Path) -> None:
    sources = [
        {"kind": "package", "name": "no_such_weights", "path": "m", "distribution": "no-such-weights"},
        {"kind": "hub", "name": "somebody/encoder", "path": "model.safetensors"},
    ]
    rewrite(copied, lambda s: s.update(sources={"model.safetensors": sources}))
    (copied / "model.safetensors").unlink()
    space = get_space(copied)
    assert not space.present()
    with pytest.raises(WeightsMissing) as caught:
        _ = load_helper(space)
    for part in (
        "space tiny: model.safetensors is not on this machine",
        "`pip install --no-deps no-such-weights`",
        "`hf download somebody/encoder model.safetensors`",
    ):
        assert part in str(caught.value)


def test_missing_files_without_a_source(copied: Path) -> None:
    (copied / "features.onnx").unlink()
    with pytest.raises(WeightsMissing, match=r"features\.onnx is not on this machine"):
        _ = load_helper(get_space(copied))


def from_a_folder(place: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "given").mkdir()
    weights.rename(place / "given" / weights.name)
    monkeypatch.setenv("LEARNDOCK_WEIGHTS", str(place / "given"))


def from_a_folder_of_several(place: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "given" / "tiny").mkdir(parents=True)
    (place / "given" / weights.name).write_bytes(b"of another space")
    weights.rename(place / "given" / "tiny" / weights.name)
    monkeypatch.setenv("LEARNDOCK_WEIGHTS", str(place / "given"))


def from_the_hub_cache(place: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = place / "hf" / "hub" / "models--somebody--encoder" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    weights.rename(snapshot / weights.name)
    monkeypatch.setenv("HF_HOME", str(place / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


def from_a_package(place: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = place / "site" / "weights_of_a_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('nobody asked to import this')")
    weights.rename(package / weights.name)
    monkeypatch.syspath_prepend(str(place / "site"))
    importlib.invalidate_caches()


@pytest.mark.parametrize("put", [from_a_folder, from_a_folder_of_several, from_the_hub_cache, from_a_package])
def test_weights_are_found_where_a_source_says(
    put: Callable[[Path, Path, pytest.MonkeyPatch], None],
    copied: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = [
        {"kind": "package", "name": "weights_of_a_test", "path": "model.safetensors"},
        {"kind": "hub", "name": "somebody/encoder", "path": "model.safetensors"},
    ]
    rewrite(copied, lambda s: s.update(sources={"model.safetensors": sources}))
    put(tmp_path, copied / "model.safetensors", monkeypatch)
    space = get_space(copied)
    assert space.present()
    assert load_helper(space).features(["good film"]).shape == (1, 32)
    # What was found there is checked like any other file
    found = space.find("model.safetensors")
    assert found is not None
    found.write_bytes(found.read_bytes()[:-1] + b"\0")
    with pytest.raises(WeightsChanged, match="not the published file"):
        _ = load_helper(read_space(copied))


@pytest.mark.parametrize("file", FILES)
def test_one_altered_byte_stops_everything_before_data_is_read(file: str, copied: Path) -> None:
    path = copied / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))

    space = get_space(copied)
    for use in (lambda: load_helper(space), lambda: install_space(copied, into=copied.parent / "into")):
        with pytest.raises(WeightsChanged) as caught:
            use()
        assert str(path) in str(caught.value)
        assert "stopped before any data was read" in str(caught.value)
    # Were an input looked at first, it would be refused: it is no text
    examples = Examples([object()] * 4, np.array([0, 1, 0, 1]), SENTIMENT)
    with pytest.raises(WeightsChanged):
        make_spec(examples, space=space)


@pytest.mark.parametrize("part", ["adapters", "encoder", "files", "head", "helper", "sketch"])
def test_an_altered_description_is_another_space(part: str, copied: Path, tiny_space: Space) -> None:
    """Whoever changes what the hash covers has made a space that nobody's specs are of."""

    def change(source: dict[str, Any]) -> None:
        described = source["description"][part]
        key = sorted(described)[0]
        described[key] = "0" * 64 if part == "files" else [described[key]]

    rewrite(copied, change)
    assert identity(get_space(copied).describe("one-pass")) != identity(tiny_space.describe("one-pass"))


@pytest.mark.parametrize("file", ["features.onnx", "gradients.onnx"])
def test_a_graph_that_is_none_is_a_space_error(copied: Path, file: str) -> None:
    import hashlib

    (copied / file).write_bytes(b"nonsense")
    digest = hashlib.sha256(b"nonsense").hexdigest()
    rewrite(copied, lambda s: s["description"]["files"].update({file: digest}))
    with pytest.raises(SpaceError, match=rf"space tiny: {file} does not load"):
        # The graph of features is opened when it is first asked for
        load_helper(get_space(copied)).features(["a text"])


# --- installing ----------------------------------------------------------------------------------------------


def test_installing_copies_what_was_checked_and_nothing_else(copied: Path, tmp_path: Path) -> None:
    (copied / "run_me.py").write_text("print('no')")
    target = tmp_path / "spaces"
    for _ in range(2):  # again: the same
        space = install_space(copied, into=target)
        assert space.folder == target / "tiny"
        assert sorted(p.name for p in space.folder.iterdir()) == sorted([*FILES, "space.json"])
        for file in FILES:
            assert (space.folder / file).read_bytes() == (copied / file).read_bytes()
    assert [p.name for p in target.iterdir()] == ["tiny"]


def test_installing_collects_weights_from_their_source(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_a_folder(tmp_path, copied / "model.safetensors", monkeypatch)
    space = install_space(copied, into=tmp_path / "spaces")
    monkeypatch.delenv("LEARNDOCK_WEIGHTS")
    assert space.present()


def test_another_space_of_the_name_is_not_replaced(copied: Path, tmp_path: Path) -> None:
    target = tmp_path / "spaces"
    install_space(copied, into=target)
    before = {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    rewrite(copied, lambda s: s["description"]["adapters"].update(seed=5))
    with pytest.raises(SpaceError, match="another space of that name is installed; remove it first"):
        install_space(copied, into=target)
    assert {p: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before


def test_a_file_that_changed_leaves_nothing_behind(copied: Path, tmp_path: Path) -> None:
    (copied / "center.safetensors").write_bytes(b"other")
    with pytest.raises(WeightsChanged):
        install_space(copied, into=tmp_path / "spaces")
    assert list((tmp_path / "spaces").iterdir()) == []


# --- running -------------------------------------------------------------------------------------------------


def test_features_do_not_depend_on_the_company(tiny_space: Space) -> None:
    texts = ["good film", "a very long day and " * 10, "no", ("the nurse", "a good question"), ""]
    together = load_helper(tiny_space).features(texts)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for i, text in enumerate(texts):
        np.testing.assert_allclose(load_helper(tiny_space).features([text])[0], together[i], atol=1e-5)


def test_gradients_come_with_their_example_and_direction(tiny_space: Space) -> None:
    texts = ["good film", "a very long day and the night", "no"] * 15
    directions = np.random.default_rng(0).normal(size=(45, 2, 32)).astype(np.float32)
    directions[3, 1] = 0
    seen = np.zeros((45, 2), int)
    kept = {}
    told: list[tuple[int, int]] = []
    for batch in load_helper(tiny_space).gradients(texts, directions, progress=lambda *a: told.append(a)):
        assert batch.gradients.shape == (len(batch.rows), 768)
        np.add.at(seen, (batch.rows, batch.columns), 1)
        kept.update({(int(r), int(c)): g for r, c, g in zip(batch.rows, batch.columns, batch.gradients, strict=True)})
    expected = np.ones((45, 2), int)
    expected[3, 1] = 0  # a direction of length zero has no gradient, and costs none
    np.testing.assert_array_equal(seen, expected)
    assert told[-1] == (89, 89)
    alone = next(iter(load_helper(tiny_space).gradients([texts[1]], directions[1:2, 1:])))
    np.testing.assert_allclose(kept[1, 1], alone.gradients[0], atol=2e-6 * np.abs(alone.gradients).max() + 1e-6)


def test_gradients_are_linear_in_the_direction(tiny_space: Space) -> None:
    one, other = np.random.default_rng(1).normal(size=(2, 32)).astype(np.float32)
    directions = np.stack([one, other, one + 2 * other])[None]
    first, second, third = next(iter(load_helper(tiny_space).gradients(["good film"], directions))).gradients
    np.testing.assert_allclose(first + 2 * second, third, atol=1e-5 * np.abs(third).max())


@pytest.mark.parametrize("seed", range(5))
def test_batches_are_whole_and_small(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 400, size=200).tolist()
    found = list(batches(lengths))
    assert sorted(np.concatenate(found).tolist()) == list(range(200))
    for rows in found:
        together, longest = sum(lengths[i] for i in rows), max(lengths[i] for i in rows)
        assert len(rows) == 1 or together <= BATCH_TOKENS
        assert len(rows) * longest <= BATCH_STRETCH * together


@pytest.mark.parametrize("value", [3, b"bytes", None, ("a", "b", "c"), ("a", 1), ["a"]])
def test_inputs_that_are_no_texts(tiny_space: Space, value: Any) -> None:
    with pytest.raises(DataError, match=r"this space reads texts, not .*; choose a space for such inputs"):
        load_helper(tiny_space).features([value])


def test_long_texts_are_cut(tiny_space: Space) -> None:
    (ids,) = load_helper(tiny_space).encoder(["film " * 5000])
    assert len(ids) == 64
    (pair,) = load_helper(tiny_space).encoder([("film " * 5000, "day")])
    assert len(pair) == 64
    assert pair[-2] == ids.dtype.type(load_helper(tiny_space).encoder(["day"])[0][1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "word " * 400,
        "é" * 300,
        "x" * (MAX_CHARACTERS + 7),
        "日本語 " * 100,
        "\n\t " * 200,
        "🙂🙃 " * 90,
        "ab" * 31,
    ],
)
def test_a_template_keeps_its_mask(tiny_masked_space: Space, text: str) -> None:
    mask = tiny_masked_space.description["encoder"]["mask"]
    for value in (text, (text, text)):
        (ids,) = load_helper(tiny_masked_space).encoder([value])
        assert (ids == mask).sum() == 1
        assert len(ids) <= 64
        assert np.isfinite(load_helper(tiny_masked_space).features([value])).all()


def test_a_text_that_spells_a_token_does_not_contain_it(minilm: Space, tiny_masked_space: Space) -> None:
    for space in (minilm, tiny_masked_space):
        encoder: Any = cast("Any", load_helper(space)).encoder
        spelt = sorted(t.content for t in encoder.tokenizer.get_added_tokens_decoder().values() if t.special)
        assert spelt
        (plain,) = encoder(["a good film"])
        for token in spelt:
            (ids,) = encoder([f"a good {token} film"])
            meant = encoder.tokenizer.token_to_id(token)
            assert (ids == meant).sum() == (plain == meant).sum()


@pytest.mark.parametrize("length", range(40, 70))
def test_a_template_keeps_its_mask_at_every_length(tiny_masked_space: Space, length: int) -> None:
    draw = np.random.default_rng(length)
    letters = [chr(c) for c in (*range(97, 123), 32, 32, 32, 0xE9, 0x4E00, 0x1F600)]
    texts = ["".join(draw.choice(letters, size=length)) for _ in range(50)]
    for ids in load_helper(tiny_masked_space).encoder(texts):
        assert (ids == tiny_masked_space.description["encoder"]["mask"]).sum() == 1


# --- heads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("descriptions", "head"),
    [
        (("bad", "good"), "descriptions"),
        (("0", "1"), "means"),
        (("class 0", "class 1"), "means"),
        (("LABEL_0", "LABEL_1"), "means"),
        (("good", "1"), "means"),
        (("first class hotel", "second class hotel"), "descriptions"),
    ],
)
def test_words_make_a_phrase_head_and_bare_numbers_do_not(descriptions: tuple[str, ...], head: str) -> None:
    assert head_for(Schema("classification", descriptions, descriptions, "accuracy"), get_space()) == head


def test_a_scale_without_ends_has_no_phrases() -> None:
    assert head_for(Schema("regression", (), (), "pearson"), get_space()) == "means"
    schema = Schema("regression", ("0", "5"), ("unrelated", "the same"), "pearson")
    assert head_for(schema, get_space()) == "descriptions"
    # A helper that reads no words has no head of them, whatever the schema says
    assert head_for(schema, get_space("efficientnet-lite0")) == "means"


def test_description_prototypes_are_centred(tiny_space: Space, tiny_masked_space: Space) -> None:
    schema = Schema("classification", ("a", "b", "c"), ("bad", "good film", "no"), "accuracy")
    for space in (tiny_space, tiny_masked_space):
        prototypes = description_prototypes(load_helper(space), schema)
        assert prototypes.points.shape == (3, 32)
        np.testing.assert_allclose(prototypes.points.sum(0), 0, atol=1e-5)
        assert np.linalg.norm(prototypes.points, axis=1).min() > 0.05


def test_a_verbalizer_is_the_output_embedding_of_the_word(tiny_masked_space: Space) -> None:
    from safetensors.numpy import load
    from tokenizers import Tokenizer

    table = load(tiny_masked_space.read("model.safetensors"))["roberta.embeddings.word_embeddings.weight"]
    tokenizer = Tokenizer.from_buffer(tiny_masked_space.read("tokenizer.json"))
    for description in ("good", "a very bad film"):
        rows = table[tokenizer.encode(f"It was {description}", add_special_tokens=False).ids]
        known = len(tokenizer.encode("It was", add_special_tokens=False).ids)
        expected = rows[known:].mean(0)
        found = load_helper(tiny_masked_space).description_prototypes([description])[0]
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_mean_anchors_leave_the_example_out(soft: bool) -> None:
    draw = np.random.default_rng(3)
    features = draw.normal(size=(12, 5)).astype(np.float32)
    soft_labels = draw.dirichlet(np.ones(3), size=12) if soft else np.eye(3)[np.arange(12) % 3]
    found = mean_prototypes(features, soft_labels)
    for i in range(12):
        others = [j for j in range(12) if j != i]
        means = np.stack([np.average(features[others], axis=0, weights=soft_labels[others, c]) for c in range(3)])
        np.testing.assert_allclose(found.points[i], means - means.mean(0), atol=1e-5)
    weights = draw.normal(size=(12, 3))
    for i in range(12):
        np.testing.assert_allclose(found.direct(weights)[i], weights[i] @ found.points[i], atol=1e-5)
        np.testing.assert_array_equal(found.of(1, [i])[0], found.points[i, 1])


def test_a_label_that_one_example_carries_says_nothing_about_it() -> None:
    features = np.random.default_rng(4).normal(size=(5, 4)).astype(np.float32)
    found = mean_prototypes(features, np.eye(2)[[0, 0, 0, 0, 1]])
    # Own mean unknown (zero) beside the other's mean, then centred
    others = features[:4].mean(0)
    np.testing.assert_allclose(found.points[4], np.stack([others / 2, -others / 2]), atol=1e-6)


def test_whitened_means_are_those_of_the_ridge_formula() -> None:
    """Against the formula written out in full: e (X'X + e)^-1 on every leave-one-out mean."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(12, 30)).astype(np.float32)
    soft_labels = np.eye(3)[np.arange(12) % 3]
    plain, white = (mean_prototypes(features, soft_labels, w).points.astype(np.float64) for w in (None, 64.0))
    X = (features - features.mean(0)).astype(np.float64)
    e = np.trace(X @ X.T) / 64
    expected = plain @ (e * np.linalg.inv(X.T @ X + e * np.eye(30)))
    np.testing.assert_allclose(white, expected, atol=1e-6)
