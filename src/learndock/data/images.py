"""Images as inputs: encoded bytes that travel unread, and the one place that decodes them.

A file of bytes from anywhere is opened here by four decoders only (JPEG, PNG, WebP, GIF), after its size in the
header was found bearable, and becomes pixels in one way: first frame, turned as its EXIF says, 16 bits reduced to
8, transparency laid on white, RGB.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.tables import Unusable
from learndock.errors import DataError, MissingExtra

#: Decoders that may look at the bytes. MPO is what phones call a JPEG with a second picture behind it.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
#: Decoded, an image of this many pixels takes 200 MB at most.
MAX_PIXELS = 50_000_000
MAX_BYTES = 64 << 20
#: How JPEG, PNG, GIF and WebP begin in base64.
_BASE64_BEGINNINGS = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR")
_SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@dataclass(frozen=True, repr=False)
class Image:
    """An encoded image. ``name`` is for messages; images with the same bytes are equal."""

    data: bytes
    name: str = field(default="an image", compare=False)

    def __repr__(self) -> str:
        return f"Image(sha256={hashlib.sha256(self.data).hexdigest()})"

    @classmethod
    def from_pixels(cls, pixels: NDArray[np.uint8], name: str = "an image") -> Image:
        """An image of an array: ``(height, width, 3)`` or grey ``(height, width)``, uint8, kept without loss."""
        stream = io.BytesIO()
        _pillow(name).fromarray(np.ascontiguousarray(pixels, np.uint8)).save(stream, "PNG")
        return cls(stream.getvalue(), name)


def decode(image: Image) -> NDArray[np.uint8]:
    """The pixels of an image, ``(height, width, 3)`` uint8, as the module's head says.

    Raises:
        DataError: no image, damaged, cut off, or too large; names it.
        MissingExtra: Pillow is not installed.
    """
    return np.asarray(pillow_image(image), np.uint8)


def pillow_image(image: Image) -> Any:
    """Return the same as an RGB image of Pillow, for callers that resize."""
    opened = _open(image)
    with _complaints(image):
        from PIL import ImageOps

        opened.seek(0)
        opened.load()
        return _to_rgb(ImageOps.exif_transpose(opened))


def check_image(image: Image) -> None:
    """Read an image to its end, as cheaply as its format allows.

    Raises:
        DataError, MissingExtra: see ``decode``.
    """
    opened = _open(image)
    with _complaints(image):
        # A JPEG is read to its end but only an eighth of its width is computed; others know no such thing
        opened.draft("RGB", (1, 1))
        opened.seek(0)
        opened.load()


def image_size(image: Image) -> tuple[int, int]:
    """Width and height as the header says; nothing is decoded.

    Raises:
        DataError, MissingExtra: see ``decode``.
    """
    width, height = _open(image).size
    return int(width), int(height)


def read_image_file(path: Path, name: str) -> Image:
    """The image in a file; the bytes only, nothing is decoded.

    Raises:
        DataError: no such file, not a regular file, or too large.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path} is not a file", remedy="name an image", about=name)
        if found.st_size > MAX_BYTES:
            raise DataError(f"{path} has {found.st_size >> 20} MiB, at most {MAX_BYTES >> 20} are read", about=name)
        # Checked before it is opened, so that a pipe cannot hold us; read by what was opened
        with path.open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise DataError(f"{path} is not a file", remedy="name an image", about=name)
            return Image(stream.read(MAX_BYTES + 1), name)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} cannot be read ({why or error})", remedy="check the path", about=name) from None


def image_in_cell(value: object, folder: Path, name: str) -> Image:
    """The image in a table's cell: bytes, a data URI, a path relative to ``folder``, or bytes and path together as
    ``datasets`` keeps them.

    Raises:
        DataError: none of these, or see ``read_image_file``.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, Unusable):
        raise DataError(f"{name}: {value.why}")
    if isinstance(value, str) and value[:5].lower() == "data:":
        value = _data_uri(value, name)
    if isinstance(value, bytes):
        if len(value) > MAX_BYTES:
            raise DataError(f"{len(value) >> 20} MiB of image, at most {MAX_BYTES >> 20} are read", about=name)
        return Image(value, name)
    if isinstance(value, str) and value.strip():
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", value):
            raise DataError(
                f"{name}: an address ({value[:60]})",
                remedy="learndock fetches no images: download them and give their paths",
            )
        if len(value) > 100 and value.startswith(_BASE64_BEGINNINGS):
            raise DataError(
                f"{name}: an image in base64 without its type",
                remedy="write it as data:image/png;base64,... or as a file",
            )
        return read_image_file(folder / value, name)
    kind = "nothing" if value is None or value == "" else f"a {type(value).__name__}"
    raise DataError(f"{name}: {kind} where an image should be", remedy="give its bytes, its path or a data URI")


def _data_uri(value: str, name: str) -> bytes:
    """The bytes of a data URI of an image (RFC 2397, base64)."""
    head, comma, body = value.partition(",")
    if not comma or not re.fullmatch(r"data:image/[a-z0-9.+-]+(?:;[a-z0-9=-]+)*;base64", head, re.IGNORECASE):
        raise DataError(f"{name}: a data URI that is not an image in base64 ({head[:60]})")
    if len(body) > MAX_BYTES * 4 // 3 + 4:
        raise DataError(f"{name}: {len(body) * 3 // 4 >> 20} MiB of image, at most {MAX_BYTES >> 20} are read")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except ValueError as error:
        raise DataError(
            f"{name}: a data URI whose base64 is damaged ({error})", remedy="write the image again"
        ) from None


def _open(image: Image) -> Any:
    """The image with its header read and its size found bearable."""
    pil = _pillow(image.name)
    with _complaints(image), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own remark on size; ours is stricter
        opened = pil.open(io.BytesIO(image.data), formats=FORMATS)
        width, height = opened.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{width} x {height} pixels, at most {MAX_PIXELS // 10**6} million are read",
            remedy="make it smaller",
            about=image.name,
        )
    return opened


class _complaints:  # noqa: N801 - a context manager, used like a function
    """Whatever a decoder raises over bad bytes, as a DataError that names the image."""

    def __init__(self, image: Image) -> None:
        self.image = image

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        # Decoders raise what they like (OSError, SyntaxError, struct.error, ...): all of it means unreadable
        if isinstance(error, Exception) and not isinstance(error, DataError | MissingExtra):
            short = (str(error).splitlines() or [kind.__name__])[0][:120]
            if "cannot identify" in short:
                short = "not a JPEG, PNG, WebP or GIF"
            raise DataError(f"not a readable image ({short})", remedy="save it again", about=self.image.name) from None


def _to_rgb(opened: Any) -> Any:
    pil = _pillow("images")
    if opened.mode in _SIXTEEN:
        wide = np.clip(np.asarray(opened).astype(np.int64), 0, 65_535)
        return pil.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if opened.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in opened.info:
        layers = opened.convert("RGBA")
        ground = pil.new("RGBA", layers.size, (255, 255, 255, 255))
        return pil.alpha_composite(ground, layers).convert("RGB")
    return opened.convert("RGB")


def _pillow(what: str) -> Any:
    try:
        import PIL.Image
    except ImportError:
        raise MissingExtra(
            "images need Pillow", remedy='install it with: pip install "learndock[images]"', about=what
        ) from None
    return PIL.Image
