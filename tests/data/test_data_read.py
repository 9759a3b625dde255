"""Reading examples: every kind of file, every label, every bad input with its file, row and remedy."""

from __future__ import annotations

import builtins
import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learndock.data import Examples, ReadOptions, Schema, few_shot, read_examples, require_classes
from learndock.errors import DataError, MissingExtra, UsageError, exit_code
from tests.support.soak import examples

MOOD = Schema("classification", ("negative", "positive"), ("a bad mood", "a good mood"), "accuracy")
COLOURS = Schema("classification", ("red", "green", "blue"), ("red", "green", "blue"), "macro_f1")
SCALE = Schema("regression", ("0", "5"), ("unlike", "alike"), "pearson_spearman")
OPEN_SCALE = Schema("regression", (), (), "pearson")
ROWS = [
    ("good film", "positive"),
    ("bad film", "negative"),
    ("fine, really", "positive"),
    ("so so", "negative"),
]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(path: Path, *rows: object) -> Path:
    return write(path, "".join(json.dumps(r) + "\n" for r in rows))


def refused(path: Path, *words: str, **options: Any) -> str:
    """Read, and expect a DataError that names the path and all ``words``, and an untouched folder."""
    before = sorted(p.name for p in path.parent.iterdir())
    with pytest.raises(DataError) as caught:
        read_examples(path, **options)
    message = str(caught.value)
    for word in (str(path), *words):
        assert word in message
    assert "\n" not in message
    assert exit_code(caught.value) == 3
    assert sorted(p.name for p in path.parent.iterdir()) == before
    return message


# --- the kinds of files ---------------------------------------------------------------------------------


def as_csv(folder: Path) -> Path:
    with (folder / "d.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "label", "text"), *((i, b, a) for i, (a, b) in enumerate(ROWS))])
    return folder / "d.csv"


def as_tsv(folder: Path) -> Path:
    return write(folder / "d.tsv", "text\tlabel\r\n" + "".join(f"{a}\t{b}\r\n" for a, b in ROWS))


def as_jsonl(folder: Path) -> Path:
    return jsonl(folder / "d.jsonl", *({"text": a, "label": b} for a, b in ROWS))


def zipped(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def make_zipped(folder: Path) -> Path:
        plain = make(folder)
        return write(folder / (plain.name + ".gz"), gzip.compress(plain.read_bytes()))

    return make_zipped


def as_parquet(folder: Path) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"label": [b for _, b in ROWS], "x": [1, 2, 3, 4], "text": [a for a, _ in ROWS]})
    pq.write_table(table, folder / "d.parquet", row_group_size=3)
    return folder / "d.parquet"


def as_dataset(
    folder: Path, *, labels: tuple[Any, ...] = (1, 0, 1, 0), names: tuple[str, ...] = ("negative", "positive")
) -> Path:
    """A folder as ``datasets.save_to_disk`` writes it: two arrow streams, state.json, dataset_info.json."""
    pa = pytest.importorskip("pyarrow")
    saved = folder / "saved"
    saved.mkdir(parents=True)
    table = pa.table({"text": [a for a, _ in ROWS], "label": pa.array(labels)})
    files = []
    for part, (begin, length) in enumerate([(0, 3), (3, 1)]):
        files.append({"filename": f"data-0000{part}-of-00002.arrow"})
        with (
            pa.OSFile(str(saved / files[-1]["filename"]), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as stream,
        ):
            stream.write_table(table.slice(begin, length))
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": names, "_type": "ClassLabel"},
    }
    (saved / "dataset_info.json").write_text(json.dumps({"features": features}))
    state = {"_data_files": files, "_fingerprint": "0", "_format_type": None, "_split": "train"}
    (saved / "state.json").write_text(json.dumps(state))
    return saved


KINDS = [as_csv, as_tsv, as_jsonl, zipped(as_csv), zipped(as_tsv), zipped(as_jsonl), as_parquet, as_dataset]


@pytest.mark.parametrize("make", KINDS)
def test_each_kind_of_file_reads_the_same(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    examples = read_examples(path, schema=MOOD)
    assert examples.inputs == [a for a, _ in ROWS]
    assert examples.targets is not None
    assert examples.targets.dtype == np.int64
    assert examples.targets.tolist() == [1, 0, 1, 0]
    assert list(examples.rows) == [1, 2, 3, 4]
    assert (examples.schema, examples.source, examples.warnings) == (MOOD, str(path), ())
    bare = read_examples(path, labels=False, limit=3)
    assert (bare.inputs, bare.targets, bare.schema) == ([a for a, _ in ROWS[:3]], None, None)
    assert read_examples(path).schema == Schema("classification", MOOD.labels, MOOD.labels, "accuracy")


@settings(deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda t: t.strip()), min_size=1),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl"]),
)
def test_any_text_comes_back_unchanged(tmp_path: Path, texts: list[str], suffix: str) -> None:
    path = tmp_path / f"d{suffix}"
    if suffix == ".jsonl":
        jsonl(path, *({"text": t} for t in texts))
    else:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter="," if suffix == ".csv" else "\t")
            writer.writerows([["text", "n"], *([t, "1"] for t in texts)])
    # Trusted quotes: lines inside a text may look like rows, which is otherwise refused
    quotes = None if suffix == ".jsonl" else True
    assert read_examples(path, labels=False, quotes=quotes).inputs == texts


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.text(st.sampled_from('abé01"\n\t,;|\r '), min_size=1).filter(lambda t: t.strip()), min_size=2, max_size=8
    ),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_table_comes_back_whatever_separates_it(
    tmp_path: Path, texts: list[str], separator: str, encoding: str
) -> None:
    path, labels = tmp_path / "d.csv", ["pos", "neg"] * 4
    with path.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=separator).writerows([("text", "label"), *zip(texts, labels, strict=False)])
    found = read_examples(path, quotes=True)
    assert found.inputs == texts
    assert found.schema is not None
    assert found.targets is not None
    assert [found.schema.labels[i] for i in found.targets] == labels[: len(texts)]


def test_csv_stays_text_and_byte_order_mark_and_old_line_ends_are_known(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", b"\xef\xbb\xbftext,label\r007,red\r1e5,blue\r\r")
    examples = read_examples(path, schema=COLOURS)
    assert examples.inputs == ["007", "1e5"]
    assert examples.targets is not None
    assert examples.targets.tolist() == [0, 2]


def test_other_columns_and_pairs(tmp_path: Path) -> None:
    rows = [{"q": "who?", "a": "me", "y": "red"}, {"q": "where?", "a": "", "y": "blue"}]
    path = jsonl(tmp_path / "d.jsonl", *rows)
    examples = read_examples(path, schema=COLOURS, text="q", text_pair="a", label="y")
    assert examples.inputs == [("who?", "me"), ("where?", "")]
    assert "1 empty text (the first in row 2)" in examples.warnings[0]
    assert read_examples(path, schema=COLOURS, text="q", label="y").inputs == ["who?", "where?"]
    refused(path, '"b"', '"q", "a", "y"', "--text-pair", text="q", text_pair="b", label="y")
    empty = jsonl(tmp_path / "e.jsonl", {"text": "a", "text_pair": ""}, {"text": "b", "text_pair": None})
    assert read_examples(empty, labels=False).inputs == ["a", "b"]
    half = jsonl(tmp_path / "h.jsonl", {"text": "a", "text_pair": "b"}, {"text": "c"})
    refused(half, "row 2", '"text_pair"', "every row", labels=False)


def test_options_of_the_command_line_are_those_of_the_reader(tmp_path: Path) -> None:
    from learndock.cli.options import READING

    assert {name: default for name, (_, default) in READING.items()} == vars(ReadOptions())
    path = jsonl(tmp_path / "d.jsonl", {"q": "who?", "y": "red"}, {"q": "where?", "y": "blue"})
    assert read_examples(path, ReadOptions(text="q"), label="y").inputs == ["who?", "where?"]


@pytest.mark.parametrize(
    ("name", "value"), [("separator", ""), ("separator", '"'), ("separator", ";;"), ("encoding", "utf-9")]
)
def test_options_that_cannot_be(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        ReadOptions(**{name: value})


# --- labels ---------------------------------------------------------------------------------------------


def targets(path: Path, schema: Schema, *labels: object) -> list[float]:
    jsonl(path, *({"text": f"t{i}", "label": v} for i, v in enumerate(labels)))
    found = read_examples(path, schema=schema).targets
    assert found is not None
    return list(found.tolist())


def test_a_label_is_a_name_or_an_index(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    assert targets(path, COLOURS, "red", " Blue", "GREEN", 0, 2.0, "1", "2.0") == [0, 2, 1, 0, 2, 1, 2]
    assert targets(path, MOOD, True, False) == [1, 0]
    agreed = Schema("classification", ("Yes", "No"), ("it is so", "it is not so"), "accuracy")
    assert targets(path, agreed, True, False) == [0, 1]
    truth = Schema("classification", ("true", "false"), ("t", "f"), "accuracy")
    assert targets(path, truth, True, False) == [0, 1]
    cases = Schema("classification", ("US", "us"), ("country", "we"), "accuracy")
    assert targets(path, cases, "US", "us") == [0, 1]


def test_labels_that_are_numbers_are_names_and_never_places(tmp_path: Path) -> None:
    stars = Schema("classification", ("1", "2", "3"), ("bad", "fair", "good"), "accuracy")
    assert targets(tmp_path / "d.jsonl", stars, 1, "2", 3.0) == [0, 1, 2]
    path = jsonl(tmp_path / "e.jsonl", {"text": "a", "label": 1}, {"text": "b", "label": 0})
    message = refused(path, "row 2 (line 2)", "unknown label 0", '"1", "2", "3"', schema=stars)
    assert "0 to 2" not in message


@pytest.mark.parametrize("label", ["purple", 3, -1, "3", 0.5, True, "", None, [1, 2], {"a": 1}])
def test_unknown_or_missing_label(tmp_path: Path, label: object) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"text": "a", "label": "red"}, {"text": "b", "label": label})
    words: list[str] = []
    if label is None or label == "":
        words = ["no label", "leave the row out"]
    if isinstance(label, list):
        words = ['several labels ("1", "2")', "one label for each example"]
    if isinstance(label, dict):
        words = ["not a name or a number"]
    refused(
        path,
        "row 2 (line 2)",
        *(words or ["unknown label", '"red", "green", "blue", or 0 to 2']),
        schema=COLOURS,
    )


def test_a_label_that_fits_two_names_but_for_case(tmp_path: Path) -> None:
    cases = Schema("classification", ("US", "us"), ("country", "we"), "accuracy")
    path = jsonl(tmp_path / "d.jsonl", {"text": "a", "label": "Us"})
    refused(path, "row 1", "unknown label", schema=cases)


@pytest.mark.parametrize("label", ["NaN", "nan", "inf", "-Infinity", "1e999", float("nan"), float("inf"), 10**400])
def test_target_that_is_not_finite(tmp_path: Path, label: object) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"text": "a", "label": 1.5}, {"text": "b", "label": label})
    refused(path, "row 2 (line 2)", "not a finite number", "leave the row out", schema=SCALE)


@pytest.mark.parametrize("label", ["high", "1_000", True])
def test_target_that_is_no_number(tmp_path: Path, label: object) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"text": "a", "label": label})
    refused(path, "row 1", "is not a number", schema=OPEN_SCALE)


def test_regression_reads_numbers_and_says_what_is_off_the_scale(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label\na,2.5\nb, 4 \nc,1e1\n")
    examples = read_examples(path, schema=SCALE)
    assert examples.targets is not None
    assert examples.targets.dtype == np.float64
    assert examples.targets.tolist() == [2.5, 4.0, 10.0]
    assert "1 label (the first in row 3) outside the schema's scale 0 to 5" in examples.warnings[0]
    assert read_examples(path, schema=OPEN_SCALE).warnings == ()


def test_schema_made_from_the_labels(tmp_path: Path) -> None:
    def made(*labels: object) -> Examples:
        return read_examples(
            jsonl(tmp_path / "d.jsonl", *({"text": f"t{i}", "label": v} for i, v in enumerate(labels)))
        )

    words = made("b", "a", " b")
    assert words.schema == Schema("classification", ("a", "b"), ("a", "b"), "accuracy")
    assert words.targets is not None
    assert words.targets.tolist() == [1, 0, 1]
    whole = made(*range(11))
    assert whole.schema is not None
    assert whole.schema.labels == tuple(str(i) for i in range(11))
    assert whole.targets is not None
    assert whole.targets.tolist() == list(range(11))
    assert "names or descriptions would help" in whole.warnings[0]
    values = made(1, 2.5, 3)
    assert values.schema == Schema("regression", (), (), "pearson_spearman")
    assert values.targets is not None
    assert values.targets.tolist() == [1.0, 2.5, 3.0]
    refused(jsonl(tmp_path / "one.jsonl", *[{"text": "a", "label": "x"}] * 3), "at least two classes")
    many = jsonl(tmp_path / "many.jsonl", *({"text": "a", "label": f"c{i}"} for i in range(201)))
    refused(many, "201 different labels", "--schema")
    refused(jsonl(tmp_path / "nan.jsonl", {"text": "a", "label": float("nan")}), "row 1", "finite")


def test_class_names_of_a_dataset(tmp_path: Path) -> None:
    swapped = Schema("classification", ("positive", "negative"), ("good", "bad"), "accuracy")
    found = read_examples(as_dataset(tmp_path / "a"), schema=swapped)
    assert found.targets is not None
    assert found.targets.tolist() == [0, 1, 0, 1]  # by name, not by place
    other = read_examples(as_dataset(tmp_path / "b", names=("neg", "pos")), schema=MOOD)
    assert other.targets is not None
    assert other.targets.tolist() == [1, 0, 1, 0]
    assert '"neg", "pos"' in other.warnings[0]
    with pytest.raises(DataError, match='row 1: unknown label "pos"'):  # a learnware's own order is not the file's
        read_examples(as_dataset(tmp_path / "f", names=("neg", "pos")), schema=MOOD, places=False)
    refused(as_dataset(tmp_path / "c", names=("negative", "glad")), "row 1", '"glad"', schema=MOOD)
    refused(as_dataset(tmp_path / "d", labels=(1, 0, -1, 0)), "row 3", "unlabelled", schema=MOOD)
    refused(as_dataset(tmp_path / "e", labels=(1, 0, 7, 0)), "row 3", "2 classes")


# --- bad files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_empty_file_and_header_only(tmp_path: Path, suffix: str) -> None:
    refused(write(tmp_path / f"d{suffix}", ""), "empty")
    refused(write(tmp_path / f"e{suffix}", "\n\n"), "empty")
    refused(write(tmp_path / f"d{suffix}.gz", gzip.compress(b"")), "empty")
    if suffix != ".jsonl":
        header = "text,label\n" if suffix == ".csv" else "text\tlabel\n"
        refused(write(tmp_path / f"h{suffix}", header), "no examples", "add rows")


def test_missing_file_unknown_suffix_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.csv", "no such file")
    refused(write(tmp_path / "d.xls", "PK"), '".xls"', ".csv", ".jsonl", ".parquet", ".xlsx", "save_to_disk")
    refused(write(tmp_path / "data", "a"), "no suffix", ".csv")
    refused(write(tmp_path / "d.parquet.gz", "a"), ".parquet")
    folder = tmp_path / "folder"
    folder.mkdir()
    as_csv(folder)
    refused(folder, "state.json", "name a file")


def test_missing_column(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "words,class\na,b\n")
    refused(path, 'no column "text" or "label"', '"words", "class"', "--text and --label, perhaps --label class")
    refused(path, 'no column "label"', '"words", "class"', "--label", text="words")
    late = jsonl(tmp_path / "d.jsonl", {"text": "a", "label": "red"}, {"label": "red"})
    refused(late, "row 2 (line 2)", 'no text in column "text"', schema=COLOURS)
    twice = write(tmp_path / "t.csv", "text,label,label\na,b,c\n")
    refused(twice, 'duplicate column "label"')


@pytest.mark.parametrize("value", [3, None, ["a"], {"a": "b"}, True])
def test_text_that_is_none(tmp_path: Path, value: object) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"text": "a"}, {"text": value})
    refused(path, "row 2 (line 2)", '"text"', labels=False)


def test_empty_texts_are_kept_with_a_warning_unless_all_are(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label\na,red\n,blue\n  ,red\n")
    examples = read_examples(path, schema=COLOURS)
    assert examples.inputs == ["a", "", "  "]
    assert "2 empty texts (the first in row 2)" in examples.warnings[0]
    refused(write(tmp_path / "e.csv", "text,label\n,red\n,blue\n"), "empty in all 2 rows", "--text")


def test_half_a_character(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"text": "a"}\n{"text": "b\\ud800"}\n')
    refused(path, "row 2 (line 2)", "unpaired surrogate", labels=False)


@pytest.mark.parametrize("name", ["d.csv", "d.tsv.gz", "d.jsonl"])
def test_undecodable_bytes(tmp_path: Path, name: str) -> None:
    # A letter in UTF-8 before it: the file is not simply in another encoding
    start = ('{"text": "fiñe"}\n{"text": "caf' if "jsonl" in name else "text\nfiñe\ncaf").encode()
    content = start + b"\xe9" + (b'"}\n' if "jsonl" in name else b"\n")
    path = write(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    line = 2 if "jsonl" in name else 3
    refused(path, f"line {line}", "0xe9", f"position {len(start)}", "save the file as UTF-8", labels=False)


def test_gzip_without_its_suffix(tmp_path: Path) -> None:
    refused(write(tmp_path / "e.csv", gzip.compress(b"text,label\n")), "gzipped", "e.csv.gz")


def test_broken_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b"text,label\n" + b"".join(b"%d,red\n" % (i * i * 7919) for i in range(5000)))
    refused(write(tmp_path / "a.csv.gz", whole[: len(whole) // 2]), "cut off after line", schema=COLOURS)
    refused(write(tmp_path / "b.csv.gz", b"text,label\na,red\n"), "gzip", "drop .gz", schema=COLOURS)
    flipped = whole[:-8] + bytes(b ^ 255 for b in whole[-8:])
    refused(write(tmp_path / "c.csv.gz", flipped), "gzip", "zip it again", schema=COLOURS)
    refused(write(tmp_path / "d.csv.gz", b""), "empty")


@pytest.mark.parametrize("row", ["a", "a,red,x", '"a,red'])
def test_ragged_or_unclosed_csv_rows(tmp_path: Path, row: str) -> None:
    path = write(tmp_path / "d.csv", f'text,label\n"two\nlines",red\n{row}\n')
    refused(path, "line 4", "quote", schema=COLOURS)


@pytest.mark.parametrize("row", ["{", '{"text": "a"} x', "[1, 2]", '"text"', "3", "null", "[" * 100_000])
def test_jsonl_row_that_is_no_object(tmp_path: Path, row: str) -> None:
    path = write(tmp_path / "d.jsonl", '{"text": "a"}\n\n' + row + "\n")
    refused(path, "row 2 (line 3)", "JSON", labels=False)


def test_long_texts(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"text": "x" * 100_000}, {"text": "y" * 20_000}, {"text": "z" * 20_001})
    examples = read_examples(path, labels=False)
    assert [len(t) for t in examples.inputs] == [100_000, 20_000, 20_001]
    assert "2 texts (the first in row 1) of more than 20,000 characters" in examples.warnings[0]
    wide = write(tmp_path / "d.csv", "text,label\na,red\n" + "x" * 1_000_000 + ",red\n")
    assert len(read_examples(wide, schema=COLOURS).inputs[1]) == 1_000_000
    wider = write(tmp_path / "e.csv", "text,label\na,red\n" + "x" * 1_000_001 + ",red\n")
    refused(wider, "row 2 (line 3)", "1,000,001 characters", "shorten", schema=COLOURS)


def test_many_copies_are_remarked_upon(tmp_path: Path) -> None:
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(20)]
    path = tmp_path / "d.csv"
    path.write_text("\n".join(["text,label", *rows, *rows[:2]]) + "\n")
    assert not any("repeat" in w for w in read_examples(path).warnings)
    path.write_text("\n".join(["text,label", *rows, *rows[:3]]) + "\n")
    assert any("3 rows that repeat earlier ones (the first in row 21)" in w for w in read_examples(path).warnings)


def test_conflicting_labels_are_counted_and_kept(tmp_path: Path) -> None:
    rows = ["a,red", "b,red", "a,blue", "a,green", "b,red", "c,red", "c,blue"]
    examples = read_examples(write(tmp_path / "d.csv", "\n".join(["text,label", *rows])), schema=COLOURS)
    assert len(examples) == 7
    (warning,) = examples.warnings
    assert warning.startswith(f"{tmp_path / 'd.csv'}: 2 texts with conflicting labels (the first in rows 1 and 3)")
    assert warning.endswith("all rows were kept")


def test_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"text": "a"}\n{"text": "b"}\nnot JSON\n')
    assert read_examples(path, labels=False, limit=2).inputs == ["a", "b"]
    with pytest.raises(UsageError, match="limit"):
        read_examples(path, labels=False, limit=0)


def test_big_files_are_streamed(tmp_path: Path) -> None:
    """A row beyond the limit is never looked at, so a file of any size costs what is read of it."""
    path = tmp_path / "d.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b"text,label\n" + b"a,red\n" * 3)
        stream.write(b"\xff" * (65 << 20))
    assert len(read_examples(path, schema=COLOURS, limit=3)) == 3
    refused(path, "line 5", "longer than 64 MiB", schema=COLOURS)


# --- parquet and saved datasets -------------------------------------------------------------------------


def test_parquet_that_is_not(tmp_path: Path) -> None:
    whole = as_parquet(tmp_path).read_bytes()
    for name, content in {"a": b"", "b": b"text,label\n", "c": whole[:-40], "d": whole[:40]}.items():
        refused(write(tmp_path / f"{name}.parquet", content), "not a sound parquet file", "write it again")


def test_parquet_with_damaged_pages(tmp_path: Path) -> None:
    whole = bytearray(as_parquet(tmp_path).read_bytes())
    whole[4:60] = b"\xff" * 56
    refused(write(tmp_path / "e.parquet", bytes(whole)), "damaged", schema=MOOD)


def test_parquet_types_and_bytes(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = pa.array(["a", "b"]).dictionary_encode()
    pq.write_table(pa.table({"text": texts, "label": [0.0, 1.0]}), tmp_path / "a.parquet")
    examples = read_examples(tmp_path / "a.parquet", schema=MOOD)
    assert examples.inputs == ["a", "b"]
    assert examples.targets is not None
    assert examples.targets.tolist() == [0, 1]
    pq.write_table(pa.table({"text": [b"a", b"b"], "label": [0, 1]}), tmp_path / "b.parquet")
    refused(tmp_path / "b.parquet", "row 1", "bytes, not a text", schema=MOOD)
    broken = pa.array([b"x"] * 1500 + [b"ok\xe9"]).cast(pa.string(), safe=False).view(pa.string())
    pq.write_table(pa.table({"text": broken}), tmp_path / "c.parquet")
    refused(tmp_path / "c.parquet", "row 1501", "0xe9", "position 2", '"text"', "UTF-8", labels=False)


def test_saved_dataset_that_is_damaged(tmp_path: Path) -> None:
    saved = as_dataset(tmp_path)
    arrow = saved / "data-00001-of-00002.arrow"
    whole = arrow.read_bytes()
    refused(tmp_path / "saved", labels=True, text="none")
    arrow.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"damaged|not a sound arrow file"):
        read_examples(saved)
    arrow.unlink()
    with pytest.raises(DataError, match=r"listed in state.json but missing"):
        read_examples(saved)
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../etc/passwd"}]}))
    with pytest.raises(DataError, match="not a plain file name"):
        read_examples(saved)
    (saved / "state.json").write_text("{")
    with pytest.raises(DataError, match="not readable as JSON"):
        read_examples(saved)
    (saved / "state.json").write_text(json.dumps({"_data_files": []}))
    with pytest.raises(DataError, match="lists no data files"):
        read_examples(saved)


def test_bit_flips_in_arrow_files_never_crash(tmp_path: Path) -> None:
    saved = as_dataset(tmp_path)
    arrow = saved / "data-00000-of-00002.arrow"
    whole = arrow.read_bytes()
    generator = np.random.Generator(np.random.Philox(key=0))
    outcomes = set()
    for _ in range(300):
        mutant = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            mutant[place] ^= int(generator.integers(1, 256))
        arrow.write_bytes(bytes(mutant))
        try:
            read_examples(saved, schema=MOOD)
            outcomes.add("read")
        except DataError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_several_splits(tmp_path: Path) -> None:
    as_dataset(tmp_path).rename(tmp_path / "train")
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    refused(tmp_path, "train, test", str(tmp_path / "train"))
    assert len(read_examples(tmp_path / "train", schema=MOOD)) == 4


@pytest.mark.parametrize("make", [as_parquet, as_dataset])
def test_without_pyarrow(make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path)
    real = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra) as caught:
        read_examples(path)
    assert str(path) in str(caught.value)
    assert 'pip install "learndock[parquet]"' in str(caught.value)


# --- enough examples, and a few of them -----------------------------------------------------------------


def given_targets(schema: Schema, *values: float) -> Examples:
    kind = np.float64 if schema.type == "regression" else np.int64
    return Examples([f"t{i}" for i in range(len(values))], np.array(values, kind), schema, "mine.csv")


def test_require_classes() -> None:
    assert require_classes(given_targets(COLOURS, 0, 0, 1, 1, 2, 2), COLOURS) == ()
    (warning,) = require_classes(given_targets(COLOURS, 0, 0, 2, 2), COLOURS)
    assert "mine.csv" in warning
    assert '"green"' in warning
    with pytest.raises(DataError, match=r'mine.csv: all 3 examples are of the class "blue"; a task needs at least two'):
        require_classes(given_targets(COLOURS, 2, 2, 2), COLOURS)
    with pytest.raises(DataError, match=r'mine.csv: class "green" has 1 example, at least 2 .*add more'):
        require_classes(given_targets(COLOURS, 0, 0, 1), COLOURS)
    with pytest.raises(DataError, match=r'"red" has 2 examples, at least 5'):
        require_classes(given_targets(COLOURS, 0, 0, 1, 1), COLOURS, least=5)
    assert require_classes(given_targets(SCALE, 1, 1, 1, 2), SCALE) == ()
    with pytest.raises(DataError, match=r"mine.csv: 3 examples, a regression needs at least 4"):
        require_classes(given_targets(SCALE, 1, 2, 3), SCALE)
    with pytest.raises(DataError, match=r"mine.csv: all 4 labels are 2.5"):
        require_classes(given_targets(SCALE, 2.5, 2.5, 2.5, 2.5), SCALE)
    with pytest.raises(DataError, match=r"mine.csv: .*no labels.*--label"):
        require_classes(Examples(["a"], None, None, "mine.csv"), SCALE)


def test_few_shot_takes_k_of_each_class_and_leaves_the_rest() -> None:
    examples = given_targets(COLOURS, *([0] * 50 + [1] * 3 + [2] * 20))
    chosen, rest = few_shot(examples, COLOURS, 8, seed=3)
    assert examples.targets is not None
    assert np.bincount(examples.targets[chosen]).tolist() == [8, 3, 8]
    assert sorted([*chosen, *rest]) == list(range(73))
    again, _ = few_shot(examples, COLOURS, 8, seed=3)
    other, _ = few_shot(examples, COLOURS, 8, seed=4)
    assert np.array_equal(chosen, again)
    assert not np.array_equal(chosen, other)
    with pytest.raises(UsageError):
        few_shot(examples, COLOURS, 0, seed=0)


def test_few_shot_spreads_over_a_regression() -> None:
    examples = given_targets(SCALE, *np.linspace(5, 0, 320))
    chosen, rest = few_shot(examples, SCALE, 16, seed=0)
    assert examples.targets is not None
    assert (len(chosen), len(rest)) == (32, 288)
    # one from each slice of ten
    assert sorted(set(chosen // 10)) == list(range(32))
    assert len(few_shot(given_targets(SCALE, 1, 2, 3), SCALE, 16, seed=0)[0]) == 3


def test_few_shot_is_the_same_everywhere() -> None:
    chosen, _ = few_shot(given_targets(MOOD, *([0, 1] * 20)), MOOD, 3, seed=7)
    assert chosen.tolist() == [0, 22, 23, 29, 34, 35]
