"""Rows from parquet files and from folders of ``datasets.save_to_disk``; called by ``open_table``.

Read with pyarrow alone, in batches. ``datasets`` is never imported: a saved folder is arrow files beside
two JSON files, of which ``state.json`` lists the former and ``dataset_info.json`` names the classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from learndock.data.tables import ACCEPTED, Row, Table
from learndock.errors import DataError, MissingExtra
from learndock.strict_json import strict_json

BATCH = 1024

#: Yields the record batches of a file, holding the wanted columns at least.
Batches = Callable[[Sequence[str]], Iterator[Any]]


def parquet(path: Path) -> Table:
    """One parquet file.

    Raises:
        DataError: not parquet, or damaged.
        MissingExtra: pyarrow is not installed.
    """
    pa = _pyarrow(path)
    import pyarrow.parquet as pq

    def batches(wanted: Sequence[str]) -> Iterator[Any]:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=BATCH, columns=list(wanted))

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            columns = tuple(schema.names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"not a sound parquet file ({_short(error)})", remedy="write it again", about=path) from None
    return _table(path, columns, batches, _class_names(_embedded_features(schema)))


def saved_dataset(folder: Path) -> Table:
    """One split that ``datasets`` saved: ``state.json``, ``dataset_info.json`` and arrow files.

    Raises:
        DataError: several splits, another kind of folder, or damaged files.
        MissingExtra: pyarrow is not installed.
    """
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        names = _json(splits).get("splits", [])
        raise DataError(
            f"holds the splits {', '.join(map(str, names))}",
            remedy=f"name one, as in {folder / str(names[0] if names else 'train')}",
            about=folder,
        )
    state = folder / "state.json"
    if not state.is_file():
        raise DataError(
            "a folder without state.json, so not one of datasets' save_to_disk, and without images",
            remedy=f"name a file in it (learndock reads {ACCEPTED})",
            about=folder,
        )
    files = _data_files(state)
    pa = _pyarrow(folder)
    schema, columns = _stream_schema(pa, files[0])
    info = folder / "dataset_info.json"
    features = _json(info).get("features") if info.is_file() else _embedded_features(schema)

    def batches(wanted: Sequence[str]) -> Iterator[Any]:
        for file in files:
            with pa.memory_map(str(file)) as source:
                yield from _reader(pa, source)

    return _table(folder, columns, batches, _class_names(features))


def _table(path: Path, columns: tuple[str, ...], batches: Batches, class_names: Mapping[str, tuple[str, ...]]) -> Table:
    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        twice = [c for c in wanted if columns.count(c) > 1]
        if twice:
            raise DataError(f'duplicate column "{twice[0]}"', remedy="rename one", about=path)
        present = [c for c in wanted if c in columns]
        number = 0
        for batch in _sound(path, batches, present):
            values = [_values(path, batch.column(c), c, number) for c in present]
            for offset in range(batch.num_rows):
                number += 1
                yield Row(number, None, {c: v[offset] for c, v in zip(present, values, strict=True)})

    return Table(path, columns, rows, class_names)


def _sound(path: Path, batches: Batches, wanted: Sequence[str]) -> Iterator[Any]:
    """The batches, cut to a bearable size, with pyarrow's complaints in our words."""
    pa = _pyarrow(path)
    done = 0
    source = batches(wanted)
    while True:
        try:
            batch = next(source, None)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"damaged after row {done} ({_short(error)})", remedy="write the data again", about=path
            ) from None
        if batch is None:
            return
        _check_columns(pa, path, batch, wanted, done)
        done += batch.num_rows
        for begin in range(0, batch.num_rows, BATCH):
            yield batch.slice(begin, BATCH)


def _check_columns(pa: Any, path: Path, batch: Any, wanted: Sequence[str], before: int) -> None:
    """Refuse a batch whose buffers do not hold what its header says: reading it could crash the process."""
    try:
        names = batch.schema.names
    except UnicodeDecodeError:
        names = []
    for name in wanted:
        if names.count(name) != 1:
            raise DataError(
                f'no column "{name}" from row {before + 1} on, or two', remedy="write the data again", about=path
            )
        try:
            batch.column(name).validate(full=True)
        except pa.ArrowException as error:
            if "UTF8" in str(error):
                continue  # offsets are sound by then; the row is named where its text is read
            raise DataError(
                f"damaged after row {before} ({_short(error)})", remedy="write the data again", about=path
            ) from None


def _values(path: Path, column: Any, name: str, before: int) -> list[Any]:
    """Return a column's values as Python objects; ``before`` rows precede it."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        for offset in range(len(column)):
            try:
                column[offset].as_py()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path} row {before + offset + 1}: byte 0x{error.object[error.start]:02x} at position "
                    f'{error.start} of column "{name}" is not UTF-8',
                    remedy="write the column as UTF-8",
                ) from None
        raise


def _data_files(state: Path) -> list[Path]:
    known = _json(state)
    if known.get("_indices_data_files"):
        raise DataError(
            "rows are picked by an index", remedy="save dataset.flatten_indices() instead", about=state.parent
        )
    entries = known.get("_data_files")
    names = [e.get("filename") for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    if not names or len(names) != len(entries or ()):
        raise DataError("lists no data files", remedy="save the dataset again with save_to_disk", about=state)
    # A name from a file must not lead out of the folder.
    odd = [n for n in names if not isinstance(n, str) or not n or n in (".", "..") or Path(n).name != n]
    if odd:
        raise DataError(f"{odd[0]!r} is not a plain file name", about=state)
    files = [state.parent / n for n in names if isinstance(n, str)]
    for file in files:
        if not file.is_file():
            raise DataError("listed in state.json but missing", remedy="save the dataset again", about=file)
    return files


def _stream_schema(pa: Any, file: Path) -> tuple[Any, tuple[str, ...]]:
    """The arrow schema of a file, and its column names."""
    try:
        with pa.memory_map(str(file)) as source:
            schema = _open_arrow(pa, source).schema
            return schema, tuple(schema.names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"not a sound arrow file ({_short(error)})", remedy="save the dataset again", about=file
        ) from None


def _reader(pa: Any, source: Any) -> Iterator[Any]:
    opened = _open_arrow(pa, source)
    if hasattr(opened, "num_record_batches"):
        for index in range(opened.num_record_batches):
            yield opened.get_batch(index)
    else:
        yield from opened


def _open_arrow(pa: Any, source: Any) -> Any:
    """A reader for arrow's stream format, which ``datasets`` writes, or its file format."""
    magic = source.read(6)
    source.seek(0)
    return pa.ipc.open_file(source) if magic == b"ARROW1" else pa.ipc.open_stream(source)


def _embedded_features(schema: Any) -> Any:
    """The features that ``datasets`` leaves in a schema's metadata, or None."""
    try:
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None  # other tools write other metadata: a file without class names is an ordinary file


def _class_names(features: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(features, dict):
        return {}
    found = {}
    for column, feature in features.items():
        if isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
            feature = feature["feature"]  # a list of labels
        elif isinstance(feature, list) and feature:
            feature = feature[0]
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, list) and names and feature.get("_type") == "ClassLabel":
            found[column] = tuple(str(n) for n in names)
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = strict_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"not readable as JSON ({error})", remedy="save the dataset again with save_to_disk", about=path
        ) from None
    if not isinstance(found, dict):
        raise DataError("not a JSON object", remedy="save the dataset again with save_to_disk", about=path)
    return found


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingExtra(
            "parquet and arrow files need pyarrow",
            remedy='install it with: pip install "learndock[parquet]"',
            about=path,
        ) from None
    return pyarrow


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
