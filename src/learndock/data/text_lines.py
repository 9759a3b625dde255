"""Lines of text from files of bytes: compression, encodings, and bytes that are none of them.

UTF-8 is read line by line in bytes, so that a broken byte is reported with its line and position, and memory stays at
one line however big the file is.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from learndock.errors import DataError

#: Longest line in bytes. A text may have a million characters; other columns may be wide as well.
MAX_LINE = 64 << 20
#: How much of a file is looked at to find its encoding.
SAMPLE = 1 << 20
#: Western text has few letters outside ASCII. Where more than this share is, another alphabet is likelier than cp1252.
MOST_ACCENTS = 0.2

_BOM = b"\xef\xbb\xbf"
#: Bytes that begin a file in these encodings; longer marks first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
#: Signs of cp1252 that follow no letter there, and are letters in the tables of Central Europe and Turkey.
_OTHER_TABLE = re.compile(rb"[A-Za-z][\xa1\xa3\xa5\xa6\xaf\xb1\xb3\xb9\xbc\xbe\xbf]")
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


@dataclass(frozen=True)
class TextFile:
    """A file of text, whose encoding was named or found; ``remark`` says what was found."""

    path: Path
    zipped: bool
    encoding: str = "utf-8"
    remark: str | None = None

    def lines(self) -> Iterator[str]:
        """The lines with their ends: LF, CRLF, or CR.

        Raises:
            DataError: a byte that is not text in the encoding, a damaged or unreadable file, or an endless line.
        """
        if self.encoding == "utf-8":
            yield from _utf8_lines(self)
            return
        with open_bytes(self.path, self.zipped) as stream:
            text = io.TextIOWrapper(stream, encoding=self.encoding, newline="")
            number = 0
            try:
                while line := text.readline(MAX_LINE):
                    number += 1
                    if len(line) == MAX_LINE:
                        raise _too_long(self.path, number)
                    yield line.removeprefix("\ufeff") if number == 1 else line
            except UnicodeError as error:
                raise DataError(
                    f"{self.path} after line {number}: not text in {self.encoding} ({error})",
                    remedy="name another encoding with --encoding, or save the file as UTF-8",
                ) from None
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"{self.path} after line {number}: cannot be read ({error})") from None


def text_file(path: Path, *, zipped: bool, encoding: str | None) -> TextFile:
    """Open the text in ``path``; ``encoding`` None finds it from the first bytes.

    Raises:
        DataError: the file cannot be read, or is compressed without saying so.
    """
    if encoding is not None:
        name = codecs.lookup(encoding).name
        return TextFile(path, zipped, "utf-8" if name in ("utf-8", "utf-8-sig", "ascii") else encoding)
    sample = _sample(path, zipped)
    if sample.startswith(b"\x1f\x8b"):
        raise DataError("the file is gzipped", remedy=f"name it {path.name}.gz", about=path)
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return TextFile(path, zipped, name, f"read as {name.upper()}, as its first bytes say")
    if sample[:2].count(0) == 1 and sample.count(0) * 3 > len(sample):
        name = "utf-16-be" if sample[0] == 0 else "utf-16-le"
        return TextFile(path, zipped, name, f"read as {name.upper()}: every second byte is zero")
    if (word := _accented(sample)) is not None:
        remark = f'not UTF-8; read as cp1252 (Windows, Western Europe), where it has "{word}"; if that is wrong, name '
        return TextFile(path, zipped, "cp1252", remark + "the encoding with --encoding")
    return TextFile(path, zipped)


def _accented(sample: bytes) -> str | None:
    """A word of a text in cp1252 that is not UTF-8, or None where the sample is UTF-8 or something else."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        return None
    except UnicodeDecodeError as error:
        at = error.start
    high = sum(byte > 127 for byte in sample)
    letters = high + sum(65 <= byte | 32 <= 122 for byte in sample if byte < 128)
    # 0xFF is a rare letter in cp1252, and common in what is not text
    if _MULTIBYTE.search(sample) or _OTHER_TABLE.search(sample) or b"\xff" in sample or high > MOST_ACCENTS * letters:
        return None
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return None
    before = re.search(r"\w*$", text[max(at - 20, 0) : at])
    after = re.match(r"\W?\w*", text[at : at + 20])
    return f"{before[0] if before else ''}{after[0] if after else ''}".strip()


def _sample(path: Path, zipped: bool) -> bytes:
    with open_bytes(path, zipped) as stream:
        try:
            return stream.read(SAMPLE)
        except (OSError, EOFError, zlib.error):
            return b""  # reported with its line when the lines are read


def _utf8_lines(file: TextFile) -> Iterator[str]:
    begin = 0
    with open_bytes(file.path, file.zipped) as stream:
        for number, line in enumerate(_byte_lines(file.path, stream), start=1):
            skip = len(_BOM) if number == 1 and line.startswith(_BOM) else 0
            try:
                text = line[skip:].decode("utf-8")
            except UnicodeDecodeError as error:
                position = begin + skip + error.start
                raise DataError(
                    (
                        f"{file.path} line {number}: byte 0x{line[skip + error.start]:02x} at position {position} "
                        f"of the {'unzipped ' if file.zipped else ''}file is not UTF-8"
                    ),
                    remedy="save the file as UTF-8, or name its encoding with --encoding (cp1252 in Western Europe)",
                ) from None
            begin += len(line)
            if "\r" in text and text.find("\r") < len(text.rstrip("\r\n")):
                yield from io.StringIO(text, newline="")
            else:
                yield text


def _byte_lines(path: Path, stream: IO[bytes]) -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(MAX_LINE + 1)
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"damaged gzip at line {number} ({error})",
                remedy="zip it again, or drop .gz from its name if it is not zipped",
                about=path,
            ) from None
        except EOFError:
            raise DataError(
                f"the gzip file is cut off after line {number - 1}", remedy="fetch or write it again", about=path
            ) from None
        except OSError as error:
            raise DataError(f"{path} line {number}: cannot be read ({error.strerror or error})") from None
        if not line:
            return
        if len(line) > MAX_LINE:
            raise _too_long(path, number)
        yield line


def _too_long(path: Path, number: int) -> DataError:
    return DataError(
        f"{path} line {number}: longer than {MAX_LINE >> 20} MiB", remedy="is this a text file of examples?"
    )


def open_bytes(path: Path, zipped: bool) -> IO[bytes]:
    """The (uncompressed) bytes of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        # GzipFile reads like any binary stream but is not declared as one.
        return cast("IO[bytes]", gzip.open(path, "rb")) if zipped else path.open("rb")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", about=path) from None
