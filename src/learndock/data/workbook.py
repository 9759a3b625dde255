"""Rows from a sheet of an Excel workbook (.xlsx); called by ``open_table``.

Read with openpyxl, which says what a faster reader (python-calamine 0.9) does not: a formula without a stored value,
and an error such as #N/A, are not empty cells.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from learndock.data.options import ReadOptions
from learndock.data.tables import Row, Table, Unusable, counted, skipped
from learndock.errors import DataError, MissingExtra

#: A workbook is a zip file of XML; unpacked it may have this many bytes.
MAX_UNPACKED = 1 << 30
_ERROR = re.compile(r"#(REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!|SPILL!|CALC!)")
_MERGED_CELL = Unusable("a merged cell, whose value belongs to several; unmerge it and fill each")
_NO_RESULT = Unusable(
    "a formula without a stored value; open the workbook in a spreadsheet program and save it, or paste values"
)
_MERGED = re.compile(rb'<mergeCell ref="([A-Z]+)([0-9]+):([A-Z]+)([0-9]+)"')
_HIDDEN = re.compile(rb'<row [^>]*\br="([0-9]+)"[^>]*\bhidden="(?:1|true)"')


def workbook(path: Path, options: ReadOptions) -> Table:
    """A sheet of a workbook, whose first row with a value names the columns.

    Raises:
        DataError: not a workbook, no such sheet, several sheets and none named, or no rows.
        MissingExtra: openpyxl is not installed.
    """
    openpyxl = _openpyxl(path)
    _check_size(path)
    book = _open(openpyxl, path, values=True)
    sheet = _sheet(path, book, options.sheet)
    header = next(((n, cells) for n, cells in _rows(sheet) if any(c is not None for c in cells)), None)
    if header is None:
        raise DataError(f'the sheet "{sheet.title}" is empty', remedy="its first row must name the columns", about=path)
    top, names = header
    columns = tuple("" if c is None else _shown(c) for c in names)
    merged, hidden = _marks(path, sheet)
    remarks = {}
    if len(book.worksheets) > 1:
        remarks["sheet"] = f'read from the sheet "{sheet.title}" of {len(book.worksheets)}'
    if hidden:
        numbers = [n - top for n in hidden if n > top]
        remarks["hidden"] = f"{counted(numbers, 'hidden row')} read like the others" if numbers else ""

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        twice = [c for c in wanted if columns.count(c) > 1]
        if twice:
            raise DataError(f'duplicate column "{twice[0]}" in the header', remedy="rename one", about=path)
        places = {c: columns.index(c) for c in wanted if c in columns}
        formulas: set[tuple[int, int]] | None = None
        empty: list[int] = []
        counted_before = 0
        for line, cells in _rows(_sheet(path, _open(openpyxl, path, values=True), sheet.title)):
            number = line - top
            if number < 1:
                continue
            if all(c is None for c in cells):
                empty.append(number)
                continue
            if len(empty) > counted_before:
                counted_before = len(empty)
                remarks["empty"] = skipped(empty, "row without any value", "rows without any value")
            found: dict[str, object] = {}
            for name, place in places.items():
                value = cells[place] if place < len(cells) else None
                if any(a <= line <= b and c <= place <= d for a, b, c, d in merged):
                    value = _MERGED_CELL
                elif value is None:
                    if formulas is None:
                        formulas = _formulas(_sheet(path, _open(openpyxl, path, values=False), sheet.title))
                    value = _NO_RESULT if (line, place) in formulas else None
                elif isinstance(value, str) and _ERROR.fullmatch(value):
                    value = Unusable(f"the formula's result is the error {value}; correct it or leave the row out")
                found[name] = value
            yield Row(number, line, found)

    return Table(path, columns, rows, remarks=remarks)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _rows(sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Rows of a sheet with their numbers in it, 1-based."""
    yield from enumerate(sheet.iter_rows(values_only=True), start=1)


def _formulas(sheet: Any) -> set[tuple[int, int]]:
    """Where the sheet has formulas: row (1-based) and place (0-based)."""
    return {
        (line, place)
        for line, cells in _rows(sheet)
        for place, value in enumerate(cells)
        if (isinstance(value, str) and value.startswith("="))
        or type(value).__name__ in ("ArrayFormula", "DataTableFormula")
    }


def _sheet(path: Path, book: Any, name: str | None) -> Any:
    sheets = list(book.worksheets)
    names = ", ".join(f'"{s.title}"' for s in sheets)
    if name is not None:
        found = [s for s in sheets if s.title == name] or [s for s in sheets if s.title.casefold() == name.casefold()]
        if not found:
            raise DataError(f'no sheet "{name}"', remedy=f"found {names}", about=path)
        return found[0]
    filled = [s for s in sheets if s.sheet_state == "visible" and next(iter(s.iter_rows(values_only=True)), None)]
    if len(filled) > 1:
        raise DataError(f"several sheets ({names})", remedy="name one with --sheet", about=path)
    if not filled:
        raise DataError("no visible sheet has any rows", remedy=f"found {names or 'none'}", about=path)
    return filled[0]


def _marks(path: Path, sheet: Any) -> tuple[list[tuple[int, int, int, int]], list[int]]:
    """Merged ranges (first and last row, 1-based; first and last place, 0-based), and hidden rows of a sheet."""
    merged, hidden = [], set()
    member = str(sheet._worksheet_path).lstrip("/")
    tail = b""
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        while piece := stream.read(1 << 20):
            text = tail + piece
            merged += [m.groups() for m in _MERGED.finditer(text)]
            hidden |= {int(m[1]) for m in _HIDDEN.finditer(text)}
            tail = text[text.rfind(b"<") :][-4096:]
    return [(int(b), int(d), _place(a), _place(c)) for a, b, c, d in dict.fromkeys(merged)], sorted(hidden)


def _place(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number - 1


def _check_size(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"not a sound workbook ({error})",
            remedy="save it again as .xlsx, without a password, or as .csv",
            about=path,
        ) from None
    if size > MAX_UNPACKED:
        raise DataError(
            f"{size >> 20} MiB when unpacked, at most {MAX_UNPACKED >> 20} are read",
            remedy="save it as .csv",
            about=path,
        )


def _open(openpyxl: Any, path: Path, *, values: bool) -> Any:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions that are not data
            return openpyxl.load_workbook(path, read_only=True, data_only=values, keep_links=False)
    except Exception as error:  # openpyxl raises what its XML and zip readers raise
        short = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"not a sound workbook ({short})", remedy="save it again as .xlsx, or as .csv", about=path
        ) from None


def _openpyxl(path: Path) -> Any:
    try:
        import openpyxl
    except ImportError:
        raise MissingExtra(
            "workbooks need openpyxl",
            remedy='install it with: pip install "learndock[xlsx]", or save it as .csv',
            about=path,
        ) from None
    return openpyxl
