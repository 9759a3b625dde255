"""Images as inputs: what is decoded, how, and what is refused with the name of the file."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from learndock.data import Image, Schema, decode, read_examples
from learndock.data.images import MAX_PIXELS, check_image
from learndock.errors import DataError
from learndock.spaces.images import ImageEncoder

RED, BLUE = (200, 30, 30), (20, 40, 220)


def encoded(picture: Any, kind: str, **options: Any) -> Image:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return Image(stream.getvalue(), f"picture.{kind.lower()}")


def plain(size: tuple[int, int] = (8, 6), colour: Any = RED, mode: str = "RGB") -> Any:
    return Pillow.new(mode, size, colour)


# --- decoding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "kind", "options", "expected"),
    [
        (plain(), "PNG", {}, RED),
        (plain(), "WEBP", {"lossless": True}, RED),
        (plain(), "JPEG", {"quality": 95}, RED),
        (plain().quantize(4), "GIF", {}, RED),
        (plain(colour=77, mode="L"), "PNG", {}, (77, 77, 77)),
        (plain(colour=1, mode="1"), "PNG", {}, (255, 255, 255)),
        (plain(colour=40_000, mode="I;16"), "PNG", {}, (156, 156, 156)),
        (plain(colour=(0, 255, 255, 0), mode="CMYK"), "JPEG", {"quality": 95}, (254, 0, 0)),
        (plain(colour=(0, 0, 0, 0), mode="RGBA"), "PNG", {}, (255, 255, 255)),
        (plain(colour=(0, 100, 0, 128), mode="RGBA"), "PNG", {}, (127, 177, 127)),
        (plain(colour=(50, 0), mode="LA"), "PNG", {}, (255, 255, 255)),
        (plain((1, 1)), "PNG", {}, RED),
    ],
    ids=["png", "webp", "jpeg", "gif", "grey", "bits", "16-bit", "cmyk", "clear", "half", "grey-clear", "one-pixel"],
)
def test_every_kind_becomes_rgb(picture: Any, kind: str, options: Any, expected: tuple[int, int, int]) -> None:
    image = encoded(picture, kind, **options)
    check_image(image)
    pixels = decode(image)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (picture.height, picture.width, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= (3 if kind == "JPEG" else 1)


def test_a_palette_with_a_clear_colour_lies_on_white() -> None:
    picture = plain().quantize(4)
    image = encoded(picture, "PNG", transparency=picture.getpixel((0, 0)))
    assert decode(image).tolist() == np.full((6, 8, 3), 255).tolist()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = encoded(plain(), kind, save_all=True, append_images=[plain(colour=BLUE)], duration=50, **options)
    assert np.abs(decode(image).astype(int) - RED).max() <= 1


def test_a_photo_is_turned_as_its_exif_says() -> None:
    picture = plain((4, 2))
    picture.putpixel((0, 0), BLUE)
    exif = Pillow.Exif()
    exif[0x0112] = 6  # taken with the camera turned right
    pixels = decode(encoded(picture, "PNG", exif=exif))
    assert pixels.shape == (4, 2, 3)
    assert tuple(pixels[0, 1]) == BLUE


# --- refusing ------------------------------------------------------------------------------------------------


def png(width: int, height: int, data: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG by hand: its header may promise what its data do not hold."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def whole_and_cut(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = encoded(Pillow.fromarray(noise), kind).data
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a JPEG, PNG, WebP or GIF"),
        (b"hello, this is a text", "not a JPEG, PNG, WebP or GIF"),
        (encoded(plain(), "TIFF").data, "not a JPEG, PNG, WebP or GIF"),
        (encoded(plain(), "BMP").data, "not a JPEG, PNG, WebP or GIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not a JPEG, PNG, WebP or GIF"),
        (whole_and_cut("PNG"), "not a readable image"),
        (whole_and_cut("JPEG"), "not a readable image"),
        (whole_and_cut("WEBP"), "not a readable image"),
        (whole_and_cut("GIF"), "not a readable image"),
        (png(10_000, 10_000, b"\0" * 100), "10000 x 10000 pixels, at most 50 million are read"),
        (png(60_000, 60_000, b"\0" * 100), "picture"),
        (png(0, 5, b""), "picture"),
    ],
    ids=[
        "empty",
        "text",
        "tiff",
        "bmp",
        "postscript",
        "png",
        "jpeg",
        "webp",
        "gif",
        "100-megapixel",
        "bomb",
        "no-width",
    ],
)
def test_what_is_no_bearable_image_is_refused_by_name(data: bytes, why: str) -> None:
    image = Image(data, "picture 7")
    for read in (check_image, decode):
        with pytest.raises(DataError, match="picture 7") as caught:
            read(image)
        assert why in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    """A hundred million zeros in 100 kB: refused by the header, with no more memory than the file."""
    import tracemalloc

    image = Image(png(10_000, 10_000, b"\0" * 10_001 * 10_000), "bomb.png")
    assert len(image.data) < 200_000
    tracemalloc.start()
    with pytest.raises(DataError, match="bomb"):
        check_image(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 < MAX_PIXELS


@pytest.mark.parametrize("cut", [1, 7, 100, 1000])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_damaged_bytes_give_an_image_or_our_error(kind: str, cut: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    data = bytearray(encoded(Pillow.fromarray(noise), kind).data)
    generator = np.random.default_rng(cut)
    for place in generator.integers(0, len(data), 1 + len(data) // cut):
        data[place] = generator.integers(256)
    try:
        assert decode(Image(bytes(data), "damaged")).shape[2] == 3
    except DataError as error:
        assert "damaged" in str(error)  # noqa: PT017 - either way is right


# --- reading -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three images each."""
    for name, colour in (("red", RED), ("blue", BLUE)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(3):
            plain((8, 6 + i), colour).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"


SCHEMA = Schema("classification", ("red", "blue"), ("red", "blue"), "accuracy")


def check(path: Path, **options: Any) -> None:
    examples = read_examples(path, schema=SCHEMA, **options)
    assert examples.kind == "image"
    assert examples.targets is not None
    colours = [decode(i)[0, 0].tolist() for i in examples.inputs]
    assert len(colours) == 6
    assert all(c == list((RED, BLUE)[t]) for c, t in zip(colours, examples.targets, strict=True))


def files(folder: Path) -> list[tuple[str, str]]:
    return [(f"{name}/{i}.png", name) for name in ("red", "blue") for i in range(3)]


def test_a_folder_of_images_by_class(folder: Path) -> None:
    check(folder)
    (folder / ".hidden").mkdir()
    (folder / "red" / "notes.txt").write_text("no image")
    check(folder)
    assert read_examples(folder).schema == Schema("classification", ("blue", "red"), ("blue", "red"), "accuracy")
    unlabelled = read_examples(folder / "red", labels=False)
    assert (len(unlabelled), unlabelled.targets) == (3, None)


def test_csv_and_jsonl_with_paths(folder: Path) -> None:
    with (folder.parent / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("image", "label"), *((f"images/{p}", n) for p, n in files(folder))])
    check(folder.parent / "t.csv")
    rows = [{"picture": str(folder / p), "label": n} for p, n in files(folder)]
    (folder.parent / "t.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    check(folder.parent / "t.jsonl", image="picture")


def test_parquet_and_datasets_with_bytes(folder: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    data = [((folder / p).read_bytes(), n) for p, n in files(folder)]
    labels = [n for _, n in data]
    structs = [{"bytes": d, "path": "x.png"} for d, _ in data]
    pq.write_table(pa.table({"image": structs, "label": labels}), folder.parent / "a.parquet")
    check(folder.parent / "a.parquet")
    pq.write_table(pa.table({"img": [d for d, _ in data], "label": labels}), folder.parent / "b.parquet")
    check(folder.parent / "b.parquet")
    saved = folder.parent / "saved"
    saved.mkdir()
    table = pa.table({"image": structs, "label": labels})
    with pa.OSFile(str(saved / "data-00000.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000.arrow"}]}))
    check(saved)


def test_texts_stay_texts_beside_a_column_of_images(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,image,label\nhello,a.png,x\nbye,b.png,y\n")
    assert read_examples(tmp_path / "t.csv").kind == "text"


def test_a_bad_image_is_named_with_its_row(folder: Path) -> None:
    bad = folder / "blue" / "1.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(DataError, match=r"images row 2 \(blue/1.png\): not a readable image"):
        read_examples(folder)
    (folder.parent / "t.jsonl").write_text('{"image": "images/none.png", "label": "x"}\n')
    with pytest.raises(DataError, match=r"t.jsonl row 1 \(line 1\) \(images/none.png\).*No such file"):
        read_examples(folder.parent / "t.jsonl")
    os.mkfifo(folder.parent / "pipe.png")
    (folder.parent / "t.jsonl").write_text('{"image": "pipe.png", "label": "x"}\n')
    with pytest.raises(DataError, match="is not a file"):
        read_examples(folder.parent / "t.jsonl")
    (folder.parent / "t.jsonl").write_text('{"image": null, "label": "x"}\n')
    with pytest.raises(DataError, match="nothing where an image should be"):
        read_examples(folder.parent / "t.jsonl")


def test_images_beside_classes_are_refused(folder: Path) -> None:
    plain().save(folder / "lost.png")
    with pytest.raises(DataError, match=r"images beside folders of images; put lost.png"):
        read_examples(folder)


def test_the_same_image_with_two_labels_is_said(folder: Path) -> None:
    (folder / "blue" / "0.png").write_bytes((folder / "red" / "0.png").read_bytes())
    assert any("1 image with conflicting labels" in w for w in read_examples(folder).warnings)


# --- pixels for a graph --------------------------------------------------------------------------------------


def test_resizing_is_the_same_everywhere() -> None:
    """The space pins it: another Pillow that computes other pixels is noticed before a spec is made."""
    from learndock.spaces import get_space

    described = get_space("efficientnet-lite0").description["encoder"]
    assert ImageEncoder(224).fingerprint() == described["check"]
    assert ImageEncoder(224, "bilinear").fingerprint() != described["check"]


def test_the_middle_square_is_what_is_seen() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    (pixels,) = ImageEncoder(16)([Image.from_pixels(wide)])
    assert pixels.shape == (16, 16, 3)
    # The filter of one step sees a little of what lies beside the square
    assert pixels[:, 1:-1].min() == 255
    thin = Image.from_pixels(np.zeros((1, 40_000, 3), np.uint8))
    assert ImageEncoder(16)([thin])[0].shape == (16, 16, 3)
    with pytest.raises(DataError, match="this space reads images, not str"):
        ImageEncoder(16)(["a text"])
