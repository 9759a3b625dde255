"""Data as people have it: what is read of each file, what is said about it, and what is refused with which remedy.

Each situation is one that public trackers or first users brought. ``docs/compatibility.md`` lists them under "Data".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.data import Schema, read_examples
from learndock.errors import DataError, UsageError

GOOD, BAD = ["good film", "fine, really"], ["bad film", "so so"]
TEXTS = [GOOD[0], BAD[0], GOOD[1], BAD[1]]
POS_NEG = ["pos", "neg", "pos", "neg"]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def labelled(path: Path, labels: Sequence[object]) -> Path:
    return jsonl(path, [{"text": f"text {i}", "label": v} for i, v in enumerate(labels)])


def names(path: Path, **options: Any) -> list[str]:
    """The label of each row as its class is called."""
    found = read_examples(path, **options)
    assert found.schema is not None
    assert found.targets is not None
    return [found.schema.labels[int(t)] for t in found.targets]


# --- csv as programs write it ------------------------------------------------------------------------------------

PLAIN = 'text,label\ngood film,pos\nbad film,neg\n"fine, really",pos\nso so,neg\n'
SEMICOLONS = "text;label\r\ngood film;pos\r\nbad film;neg\r\nfine, really;pos\r\nso so;neg\r\n"
TABS = SEMICOLONS.replace(";", "\t")
BARS = SEMICOLONS.replace(";", "|")


@pytest.mark.parametrize(
    ("name", "content", "remark"),
    [
        ("plain.csv", PLAIN, None),
        ("mark.csv", "\ufeff" + PLAIN, None),
        ("semicolons.csv", SEMICOLONS, "separated by semicolons here, not by commas"),
        ("tabs.csv", TABS, "separated by tabs here, not by commas"),
        ("bars.csv", BARS, "separated by vertical bars here"),
        ("commas.tsv", PLAIN, "separated by commas here, not by tabs"),
        ("declared.csv", "sep=;\r\n" + SEMICOLONS, 'separator ";", as the first line says'),
        ("declared.tsv", '"sep=\t"\r\n' + TABS, None),
        ("utf16.csv", PLAIN.encode("utf-16"), "read as UTF-16"),
        ("utf16be.csv", b"\xfe\xff" + PLAIN.encode("utf-16-be"), "read as UTF-16"),
        ("utf16bare.csv", PLAIN.encode("utf-16-le"), "read as UTF-16-LE: every second byte is zero"),
        ("utf16.tsv", TABS.encode("utf-16"), "read as UTF-16"),
        ("blank.csv", PLAIN + ",\n , \n", None),
        (
            "between.csv",
            PLAIN.replace("bad film", ",\nbad film"),
            "1 row without any value (the first in row 2) left out",
        ),
        ("spaced.csv", PLAIN.replace("text,label", " Text ,LABEL"), 'the column " Text " was read as "text"'),
    ],
)
def test_csv_of_many_programs_reads_the_same(
    tmp_path: Path, name: str, content: str | bytes, remark: str | None
) -> None:
    path = write(tmp_path / name, content)
    found = read_examples(path)
    assert found.inputs == TEXTS
    assert names(path) == POS_NEG
    if remark is None:
        assert found.warnings == ()
    else:
        assert any(remark in w for w in found.warnings)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_western_text_that_is_not_utf8_is_read_and_said(tmp_path: Path, encoding: str) -> None:
    content = "text;label\nein schönes Café am Fluß;gut\nzu teuer;schlecht\n"
    path = write(tmp_path / "d.csv", content.encode(encoding))
    found = read_examples(path)
    assert found.inputs == ["ein schönes Café am Fluß", "zu teuer"]
    (remark,) = [w for w in found.warnings if "cp1252" in w]
    assert '"schönes"' in remark
    assert "--encoding" in remark
    named = read_examples(path, encoding=encoding)
    assert named.inputs == found.inputs
    assert not any("cp1252" in w for w in named.warnings)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1250", "to był bardzo dobry film i są lepsze"),
        ("cp1251", "очень хороший фильм"),
        ("shift_jis", "とても良い映画"),
        ("gb18030", "这部电影非常好看"),
    ],
)
def test_other_alphabets_are_not_taken_for_western_text(tmp_path: Path, encoding: str, text: str) -> None:
    path = write(tmp_path / "d.csv", f"text,label\n{text},1\n{text}!,2\n".encode(encoding))
    with pytest.raises(DataError, match=r"is not UTF-8; save the file as UTF-8, or name its encoding with --encoding"):
        read_examples(path)
    assert read_examples(path, encoding=encoding).inputs == [text, text + "!"]


def test_a_named_encoding_that_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,label\né,1\nè,2\n")
    with pytest.raises(DataError, match=r"not text in utf-16"):
        read_examples(path, encoding="utf-16")


def test_text_with_separators_stays_one_column(tmp_path: Path) -> None:
    """A file of one column is not split at a sign that its texts happen to have."""
    path = write(tmp_path / "d.csv", "text\nfirst; second\nthird; fourth\nfifth; sixth\n")
    found = read_examples(path, labels=False)
    assert found.inputs == ["first; second", "third; fourth", "fifth; sixth"]
    assert found.warnings == ()


def test_a_broken_row_is_named_under_the_right_separator(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", SEMICOLONS.replace("so so;neg", "so; so;neg"))
    with pytest.raises(DataError, match=r"row 4 \(line 5\): 3 fields where the header has 2"):
        read_examples(path)


def test_a_separator_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text~label\na, b~1\nc, d~2\n")
    with pytest.raises(DataError, match=r'no column "text" or "label"'):
        read_examples(path)
    assert read_examples(path, separator="~").inputs == ["a, b", "c, d"]


# --- quotation marks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ["\t", ";", ","])
@pytest.mark.parametrize("labels", ["pos neg pos neg pos neg neg", "1.5 2 3.25 4 5.5 6 7"])
def test_lone_quotes_do_not_merge_lines(tmp_path: Path, separator: str, labels: str) -> None:
    texts = ["plain", '"open', "inner", 'close"', "last", "end", "more"]
    rows = list(zip(texts, labels.split(), strict=True))
    content = "\n".join(separator.join(r) for r in [("text", "label"), *rows]) + "\n"
    path = write(tmp_path / ("d.tsv" if separator == "\t" else "d.csv"), content)
    with pytest.raises(DataError, match=r"line 3: a quotation mark opens here and closes in line 5.*--no-quotes"):
        read_examples(path)
    found = read_examples(path, quotes=False)
    assert found.inputs == [text for text, _ in rows]
    assert len(read_examples(path, quotes=True)) == 5


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_quoted_texts_of_several_lines_are_one_row(tmp_path: Path, suffix: str) -> None:
    separator = "," if suffix == ".csv" else "\t"
    text = 'Dear all,\nplease, come\n"soon", thanks'
    quoted = '"' + text.replace('"', '""') + '"'
    rows = [separator.join((quoted, "pos")), separator.join(("no", "neg")), separator.join((quoted, "pos"))]
    path = write(tmp_path / f"d{suffix}", "\n".join([separator.join(("text", "label")), *rows]) + "\n")
    assert read_examples(path).inputs == [text, "no", text]


def test_an_unclosed_quote_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d.tsv", 'text\tlabel\nfine\tpos\n"open\tneg\nmore\tpos\n')
    with pytest.raises(DataError, match=r"line 3: not readable as a record.*--no-quotes"):
        read_examples(path)


# --- columns -----------------------------------------------------------------------------------------------------


def test_missing_columns_are_proposed_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "Date,Patient comment,Category\n1,a,x\n2,b,y\n")
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert str(caught.value) == (
        f'{path}: no column "text" or "label"; found "Date", "Patient comment", "Category"; name the columns with '
        '--text and --label, perhaps --text "Patient comment" --label Category'
    )
    assert read_examples(path, text="patient comment", label="category").inputs == ["a", "b"]


def test_a_file_without_a_header_is_asked_for_one(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "this is the first text of the file,1\nand this is another,0\n")
    with pytest.raises(DataError, match=r"the first row must hold the names of the columns"):
        read_examples(path)


def test_one_column_is_not_input_and_label(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'the column "text" is both input and label'):
        read_examples(write(tmp_path / "d.csv", PLAIN), label="text")


def test_a_misspelt_column_is_proposed(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "text,verdict\na,x\nb,y\n")
    with pytest.raises(DataError, match=r'no column "verdikt".*perhaps --label verdict'):
        read_examples(path, label="verdikt")


def test_columns_that_differ_in_case_only(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "Text,TEXT,label\na,b,x\nc,d,y\n")
    with pytest.raises(DataError, match=r'no column "text", but "Text", "TEXT" differ from it in case'):
        read_examples(path)
    assert read_examples(path, text="TEXT").inputs == ["b", "d"]


def test_numbers_are_not_texts(tmp_path: Path) -> None:
    rows = "".join(f"{10 + i * 0.37:.2f},{i % 2}\n" for i in range(12))
    path = write(tmp_path / "lab.csv", "mean radius,target\n" + rows)
    with pytest.raises(DataError, match=r"holds numbers, not texts; learndock reads texts, images and prompts"):
        read_examples(path, text="mean radius", label="target")
    german = "".join(f"{10 + i * 0.37:.2f};{i % 2}\n".replace(".", ",") for i in range(12))
    path = write(tmp_path / "labor.csv", "Hb;Diagnose\n" + german)
    with pytest.raises(DataError, match=r'the column "Hb" holds numbers, not texts'):
        read_examples(path, text="Hb", label="Diagnose")
    numbers = jsonl(tmp_path / "lab.jsonl", [{"text": 3.2, "label": 1}])
    with pytest.raises(DataError, match=r"the number 3.2, not a text; learndock reads texts, images and prompts"):
        read_examples(numbers)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("d.jsonl", {"separator": ";"}),
        ("d.jsonl", {"quotes": True}),
        ("d.csv", {"sheet": "Data"}),
        ("p.jsonl", {"text_pair": "other"}),
        ("p.jsonl", {"image": "picture", "schema": Schema("generation", (), (), "exact_match")}),
        ("i.jsonl", {"text_pair": "label"}),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    write(tmp_path / "d.csv", PLAIN)
    labelled(tmp_path / "d.jsonl", POS_NEG)
    jsonl(tmp_path / "p.jsonl", [{"prompt": "q", "completion": "a", "picture": "x"}] * 4)
    jsonl(tmp_path / "i.jsonl", [{"image": "a.png", "label": "x"}])
    flag = "--" + next(iter(options)).replace("_", "-")
    with pytest.raises(UsageError, match=flag):
        read_examples(tmp_path / name, **options)


def test_a_named_column_of_texts_is_not_replaced_by_images_or_prompts(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"image": "a.png", "prompt": "q", "label": "x"}])
    with pytest.raises(DataError, match=r'no column "words"'):
        read_examples(path, text="words")


# --- one label in several spellings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "expected", "remark"),
    [
        (
            ["Pos", "pos", "pos", "neg", "POS "],
            ["pos", "pos", "pos", "neg", "pos"],
            '"POS" are read as the label "pos"',
        ),
        ([0, 0.0, "0", "0.0", 1], ["0", "0", "0", "0", "1"], '"0.0" is read as the label "0"'),
        ([True, "true", "TRUE", False, "False"], ["True"] * 3 + ["False"] * 2, 'are read as the label "True"'),
        (
            ["neg", "neg\u200b", "pos", "\ufeffpos"],
            ["neg", "neg", "pos", "pos"],
            '"neg<U+200B>" is read as the label "neg"',
        ),
        (["café", "cafe\u0301", "neg", "neg"], ["café", "café", "neg", "neg"], '"cafe<U+0301>" is read as'),
        (["a b", "a\u00a0b", "a  b", "c"], ["a b", "a b", "a b", "c"], 'read as the label "a b"'),
        (["❤", "❤\ufe0f", "👎", "👎"], ["❤", "❤", "👎", "👎"], 'is read as the label "❤"'),
    ],
)
def test_spellings_of_one_label_are_merged_and_said(
    tmp_path: Path, labels: list[object], expected: list[str], remark: str
) -> None:
    path = labelled(tmp_path / "d.jsonl", labels)
    assert names(path) == expected
    assert any(remark in w for w in read_examples(path).warnings)


@pytest.mark.parametrize(
    "labels",
    [["01", "1", "01", "1"], ["C", "C++", "C#", "C"], ["👨‍👩‍👧", "👨👩👧", "a", "a"], ["a-b", "a b", "a_b", "ab"]],
)
def test_labels_that_differ_to_the_eye_stay_apart(tmp_path: Path, labels: list[str]) -> None:
    assert names(labelled(tmp_path / "d.jsonl", labels)) == labels


def test_a_schema_keeps_labels_apart_that_differ_in_case(tmp_path: Path) -> None:
    schema = Schema("classification", ("US", "us"), ("country", "we"), "accuracy")
    assert names(labelled(tmp_path / "d.jsonl", ["US", "us"]), schema=schema) == ["US", "us"]
    accents = Schema("classification", ("café", "bar"), ("c", "b"), "accuracy")
    assert names(labelled(tmp_path / "e.jsonl", ["cafe\u0301", "Bar\u200b"]), schema=accents) == ["café", "bar"]


def test_the_same_rule_for_completions_and_folders(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "completion": (0, 1, 1.0, "0")[i % 4]} for i in range(16)]
    found = read_examples(jsonl(tmp_path / "d.jsonl", rows))
    assert found.schema is not None
    assert found.schema.labels == ("0", "1")
    assert found.targets is not None
    assert found.targets.tolist() == [0, 1, 1, 0] * 4
    for folder in ("cat", "Cat", "dog", "dog "):
        picture(tmp_path / "images" / folder / "a.png")
    assert names(tmp_path / "images") == ["Cat", "Cat", "dog", "dog"]
    assert any('"cat" is read as the label "Cat"' in w for w in read_examples(tmp_path / "images").warnings)


def test_numbers_beside_words_are_said(tmp_path: Path) -> None:
    found = read_examples(labelled(tmp_path / "d.jsonl", [True, 1, "True", 1, 0, False]))
    assert any('some labels are numbers ("0", "1"), others are words ("False", "True")' in w for w in found.warnings)


# --- no label, and several ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["NA", "#N/A", "None", "NULL", "n/a", "<NA>", "null", "-", "unlabeled", "?", "no label"]
)
def test_words_for_no_label_are_said(tmp_path: Path, word: str) -> None:
    found = read_examples(labelled(tmp_path / "d.jsonl", ["pos", "neg", word, word, "pos"]))
    (remark,) = found.warnings
    assert f'"{word}" (2x, first in row 3) is a class here; if it means "no label", leave those rows out' in remark


@pytest.mark.parametrize("label", [None, "", " ", "\u200b", [], "[]"])
def test_rows_without_a_label_are_counted(tmp_path: Path, label: object) -> None:
    path = labelled(tmp_path / "d.jsonl", ["pos", label, "neg", label])
    with pytest.raises(DataError, match=r"row 2 \(line 2\): no label in column \"label\""):
        read_examples(path)
    if label != "[]":
        with pytest.raises(DataError, match=r"\(2 of 4 rows have none\)"):
            read_examples(path)


@pytest.mark.parametrize("text", ["nan", "NaN", "NULL", "None", "#N/A", "#REF!"])
def test_texts_that_programs_write_for_none_are_said(tmp_path: Path, text: str) -> None:
    rows = [{"text": t, "label": v} for t, v in zip([*TEXTS, text], [*POS_NEG, "pos"], strict=True)]
    found = read_examples(jsonl(tmp_path / "d.jsonl", rows))
    assert found.inputs[4] == text
    assert any(f'1 text (the first in row 5) is "{text}"' in w for w in found.warnings)


@pytest.mark.parametrize(
    "labels",
    [
        ["positive", "urgent", "positive, urgent", "negative"],
        ["positive;urgent", "negative;urgent", "positive", "negative"],
        ["a|b", "a", "b", "a"],
        ["pos#late", "pos", "late", "neg"],
    ],
)
def test_several_labels_in_a_cell_are_refused(tmp_path: Path, labels: list[str]) -> None:
    path = labelled(tmp_path / "d.jsonl", labels)
    with pytest.raises(DataError, match=r"several labels in one cell.*one label for each example.*yes and no"):
        read_examples(path)
    schema = Schema("classification", tuple(dict.fromkeys(labels)), tuple(dict.fromkeys(labels)), "accuracy")
    assert names(path, schema=schema) == labels


@pytest.mark.parametrize(
    "labels", [["Sports, football", "Sports, tennis", "News"], ["Paris, France", "Rome, Italy"], ["a;b", "c"]]
)
def test_names_with_commas_are_names(tmp_path: Path, labels: list[str]) -> None:
    path = labelled(tmp_path / "d.jsonl", labels)
    assert names(path) == labels
    assert read_examples(path).warnings == ()


@pytest.mark.parametrize(
    "cell", [["a", "b"], '["a", "b"]', "['a', 'b']", {"choices": ["a", "b"]}, '{"choices": ["a", "b"]}']
)
def test_a_list_of_labels_is_refused_with_its_row(tmp_path: Path, cell: object) -> None:
    with pytest.raises(DataError, match=r'row 3 \(line 3\): several labels \("a", "b"\); learndock reads one label'):
        read_examples(labelled(tmp_path / "d.jsonl", ["a", "b", cell]))


@pytest.mark.parametrize(
    "make", [lambda v: [v], lambda v: f'["{v}"]', lambda v: f"['{v}']", lambda v: {"choices": [v]}]
)
def test_a_list_of_one_is_its_label(tmp_path: Path, make: Any) -> None:
    path = labelled(tmp_path / "d.jsonl", [make(v) for v in POS_NEG])
    assert names(path) == POS_NEG
    assert any("4 labels are lists of one label" in w for w in read_examples(path).warnings)


def test_annotators_who_agree_gave_one_label(tmp_path: Path) -> None:
    """As Argilla flattens responses: one list for each record."""
    rows = [{"text": t, "mood.responses": [v, v]} for t, v in zip(TEXTS, POS_NEG, strict=True)]
    path = jsonl(tmp_path / "d.jsonl", rows)
    with pytest.raises(DataError, match=r"perhaps --label mood.responses"):
        read_examples(path)
    assert names(path, label="mood.responses") == POS_NEG


def test_spans_are_not_labels(tmp_path: Path) -> None:
    path = labelled(tmp_path / "d.jsonl", [[[0, 4, "PER"]], [[0, 4, "LOC"]]])
    with pytest.raises(DataError, match=r"row 1 .*list of spans"):
        read_examples(path)


def test_one_text_with_two_labels_is_said_for_prompts_too(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i % 7}", "completion": "ab"[i % 2]} for i in range(14)]
    found = read_examples(jsonl(tmp_path / "d.jsonl", rows))
    assert any("7 prompts with conflicting labels (the first in rows 1 and 8)" in w for w in found.warnings)


# --- numbers as people write them --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "values", "remark"),
    [
        (["4,5", "1,0", "3", "2,25"], [4.5, 1.0, 3.0, 2.25], '"4,5" as 4.5'),
        (["1.234,5", "12,0"], [1234.5, 12.0], '"1.234,5" as 1234.5'),
        (["1,000.5", "2,000", "3"], [1000.5, 2000.0, 3.0], '"1,000.5" as 1000.5'),
        (["1,5", "1,000"], [1.5, 1.0], "a decimal comma"),
        (["80.5%", "12 %"], [80.5, 12.0], "a percent sign"),
        (["80,5 %", "12,0 %"], [80.5, 12.0], "a percent sign"),
        (["$1.50", "$20"], [1.5, 20.0], "a currency sign"),
        (["1 000.5", "2 000"], [1000.5, 2000.0], "a thousands separator"),
        ([4.5, 1, 3], [4.5, 1.0, 3.0], "not whole"),
        (["1.234", "2.500"], [1.234, 2.5], 'the point in "1.234" was read as a decimal point'),
    ],
)
def test_numbers_are_read_where_their_writing_leaves_no_doubt(
    tmp_path: Path, labels: list[object], values: list[float], remark: str
) -> None:
    path = labelled(tmp_path / "d.jsonl", labels)
    for schema in (None, Schema("regression", (), (), "pearson")):
        found = read_examples(path, schema=schema)
        assert found.targets is not None
        assert found.targets.tolist() == values
        assert schema is not None or any(remark in w for w in found.warnings)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["1,000", "2,500", "999"], "may be a thousand or have a decimal comma"),
        (["4,5", "1.5"], "in several ways"),
        (["80%", "0.5"], "in several ways"),
        (["1,000.5", "1,5"], "a thousand|several ways"),
        (["4", "5", "4,5"], "may be the number 4.5 or two labels"),
    ],
)
def test_numbers_in_doubt_are_refused(tmp_path: Path, labels: list[object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_examples(labelled(tmp_path / "d.jsonl", labels))


def test_whole_percentages_stay_classes(tmp_path: Path) -> None:
    path = labelled(tmp_path / "d.jsonl", ["10%", "20%", "10%", "20%"])
    assert names(path) == ["10%", "20%", "10%", "20%"]
    assert any("look like numbers, but are read as names of classes" in w for w in read_examples(path).warnings)


def test_places_in_a_schema_are_said_or_refused(tmp_path: Path) -> None:
    schema = Schema("classification", ("negative", "positive"), ("n", "p"), "accuracy")
    path = labelled(tmp_path / "d.jsonl", [1, 0, 1, "0"])
    found = read_examples(path, schema=schema)
    assert found.targets is not None
    assert found.targets.tolist() == [1, 0, 1, 0]
    assert '0 as "negative", 1 as "positive"' in found.warnings[0]
    with pytest.raises(DataError, match=r'label 1 is not a name of a class.*--map "negative"=0'):
        read_examples(path, schema=schema, places=False)


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [("pos", "\u0440\u043es", '"<U+0440><U+043E>s"'), ("1", "\uff11", '"<U+FF11>"'), ("A", "\u0391", '"<U+0391>"')],
)
def test_labels_that_look_alike_are_remarked(one: str, other: str, shown: str, tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": (one, other, "x")[i % 3]} for i in range(6)]
    said = " ".join(read_examples(jsonl(tmp_path / "d.jsonl", rows)).warnings)
    assert f'"{one}"' in said
    assert shown in said
    assert "look alike, but are different letters" in said
    plain = [{**row, "label": "ab"[i % 2]} for i, row in enumerate(rows)]
    assert "look alike" not in " ".join(read_examples(jsonl(tmp_path / "e.jsonl", plain)).warnings)


# --- exports of annotation tools ---------------------------------------------------------------------------------


def test_prodigy(tmp_path: Path) -> None:
    rows = [
        {"text": t, "label": v, "answer": "reject" if i == 1 else "accept"}
        for i, (t, v) in enumerate(zip(TEXTS, POS_NEG, strict=True))
    ]
    path = jsonl(tmp_path / "d.jsonl", rows)
    found = read_examples(path)
    assert (found.inputs, list(found.rows)) == ([TEXTS[0], TEXTS[2], TEXTS[3]], [1, 3, 4])
    assert any('1 row (the first in row 2) left out: the column "answer"' in w for w in found.warnings)
    assert read_examples(path, labels=False).inputs == TEXTS
    assert names(path, label="answer") == ["accept", "reject", "accept", "accept"]
    options = [{"id": "pos", "text": "Positive"}, {"id": "neg", "text": "Negative"}]
    chosen = [
        {"text": t, "options": options, "accept": [v], "answer": "accept"} for t, v in zip(TEXTS, POS_NEG, strict=True)
    ]
    assert names(jsonl(tmp_path / "c.jsonl", chosen)) == POS_NEG


def test_rejected_labels_are_left_out_beside_rows_without_a_verdict(tmp_path: Path) -> None:
    rows = [
        {"text": t, "label": v, **({"answer": "reject"} if i == 1 else {"answer": "accept"} if i == 0 else {})}
        for i, (t, v) in enumerate(zip(TEXTS, POS_NEG, strict=True))
    ]
    found = read_examples(jsonl(tmp_path / "d.jsonl", rows))
    assert list(found.rows) == [1, 3, 4]
    assert any("1 row (the first in row 2) left out" in w for w in found.warnings)


def test_an_answer_that_is_no_verdict_leaves_no_row_out(tmp_path: Path) -> None:
    rows = [
        {"text": t, "label": v, "answer": "reject it" if v == "neg" else "accept"}
        for t, v in zip(TEXTS, POS_NEG, strict=True)
    ]
    assert read_examples(jsonl(tmp_path / "d.jsonl", rows)).inputs == TEXTS


def test_doccano(tmp_path: Path) -> None:
    rows = [
        {"id": i, "text": t, "label": [v], "Comments": []} for i, (t, v) in enumerate(zip(TEXTS, POS_NEG, strict=True))
    ]
    assert names(jsonl(tmp_path / "d.jsonl", rows)) == POS_NEG
    rows[2]["label"] = ["pos", "neg"]
    with pytest.raises(DataError, match=r"row 3 .*several labels"):
        read_examples(jsonl(tmp_path / "m.jsonl", rows))


def label_studio(text: str, *choices: list[str], cancelled: bool = False) -> dict[str, Any]:
    annotations = [
        {
            "was_cancelled": cancelled,
            "result": [{"from_name": "mood", "to_name": "text", "type": "choices", "value": {"choices": c}}],
        }
        for c in choices
    ]
    return {"id": 1, "data": {"text": text}, "annotations": annotations, "predictions": []}


def test_label_studio(tmp_path: Path) -> None:
    tasks = [
        label_studio("good", ["pos"], ["pos"]),
        label_studio("bad", ["neg"]),
        label_studio("not yet"),
        label_studio("skipped", ["pos"], cancelled=True),
        label_studio("divided", ["pos"], ["neg"]),
        label_studio("fine", ["pos"]),
    ]
    path = write(tmp_path / "export.json", json.dumps(tasks))
    found = read_examples(path)
    assert (found.inputs, list(found.rows)) == (["good", "bad", "fine"], [1, 2, 6])
    assert names(path) == ["pos", "neg", "pos"]
    said = " ".join(found.warnings)
    assert 'an export of Label Studio: labels are the answers to "mood"' in said
    assert "2 tasks without an annotation (the first in row 3) left out" in said
    assert "1 task whose annotators disagree (the first in row 5) left out" in said
    with pytest.raises(DataError, match=r"row 1: several labels"):
        read_examples(write(tmp_path / "m.json", json.dumps([label_studio("a", ["x", "y"])])))
    spans = {"id": 1, "data": {"text": "a"}, "annotations": [{"result": [{"value": {"start": 0, "labels": ["PER"]}}]}]}
    with pytest.raises(DataError, match=r"without a label of an example"):
        read_examples(write(tmp_path / "s.json", json.dumps([spans])))


def test_what_annotators_chose_goes_before_imported_labels(tmp_path: Path) -> None:
    tasks = [label_studio("good", ["pos"]), label_studio("bad", ["neg"])]
    for task in tasks:
        task["data"]["label"] = "pos"
    path = write(tmp_path / "d.json", json.dumps(tasks))
    assert names(path) == ["pos", "neg"]
    assert '2 tasks have (the first in row 1) a "label" among the imported data' in " ".join(
        read_examples(path).warnings
    )


def test_label_studio_in_csv(tmp_path: Path) -> None:
    content = "annotation_id,annotator,id,sentiment,text\n1,1,1,pos,good\n2,1,2,neg,bad\n"
    path = write(tmp_path / "d.csv", content)
    with pytest.raises(DataError, match=r"perhaps --label sentiment"):
        read_examples(path)
    assert names(path, label="sentiment") == ["pos", "neg"]
    several = content.replace(",neg,", ',"{""choices"":[""neg"",""late""]}",')
    with pytest.raises(DataError, match=r'row 2 .*several labels \("neg", "late"\)'):
        read_examples(write(tmp_path / "m.csv", several), label="sentiment")


def test_argilla(tmp_path: Path) -> None:
    def record(text: str, *values: str, status: str = "submitted") -> dict[str, Any]:
        responses = {"mood": [{"value": v, "user_id": "u", "status": status} for v in values]} if values else {}
        suggestions = {"mood": {"value": "pos", "score": 0.9, "agent": "a model"}}
        done = "pending" if text == "draft" else "completed"
        return {"fields": {"text": text}, "suggestions": suggestions, "responses": responses, "status": done}

    records = [
        record("good", "pos"),
        record("bad", "neg", "neg"),
        record("new"),
        record("no", "pos", status="discarded"),
        record("draft", "neg"),
    ]
    path = write(tmp_path / "d.json", json.dumps(records))
    assert read_examples(path).inputs == ["good", "bad", "draft"]
    assert names(path) == ["pos", "neg", "neg"]
    assert '1 record with responses is (the first in row 5) "pending"' in " ".join(read_examples(path).warnings)
    assert "2 tasks without an annotation (the first in row 3) left out" in " ".join(read_examples(path).warnings)


def test_json_arrays_and_what_only_looks_like_them(tmp_path: Path) -> None:
    rows = [{"text": t, "label": v} for t, v in zip(TEXTS, POS_NEG, strict=True)]
    assert names(write(tmp_path / "d.json", json.dumps(rows, indent=2))) == POS_NEG
    assert names(write(tmp_path / "e.json", "".join(json.dumps(r) + "\n" for r in rows))) == POS_NEG
    with pytest.raises(DataError, match=r'its rows are in "data"'):
        read_examples(write(tmp_path / "f.json", json.dumps({"version": 1, "data": rows})))
    with pytest.raises(DataError, match=r"not an array"):
        read_examples(write(tmp_path / "g.json", json.dumps({"text": {"0": "a"}, "label": {"0": "b"}})))
    with pytest.raises(DataError, match=r"or name the file .json"):
        read_examples(write(tmp_path / "h.jsonl", json.dumps(rows)))
    with pytest.raises(DataError, match=r"row 1 \(line 1\): .*duplicate key \"text\""):
        read_examples(write(tmp_path / "i.jsonl", '{"text": "a", "text": "b", "label": "c"}\n'))


# --- class names in parquet and saved datasets -------------------------------------------------------------------


def test_parquet_with_class_names_and_lists_of_them(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names_of = {"names": ["neg", "pos"], "_type": "ClassLabel"}
    for kind, column in (("Sequence", [[1], [0]]), ("List", [[1], [0]]), (None, [1, 0])):
        feature = names_of if kind is None else {"feature": names_of, "_type": kind}
        meta = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}, "label": feature}}}
        table = pa.table({"text": ["a", "b"], "label": column}).replace_schema_metadata(
            {"huggingface": json.dumps(meta)}
        )
        pq.write_table(table, tmp_path / f"{kind}.parquet")
        assert names(tmp_path / f"{kind}.parquet") == ["pos", "neg"]
    table = pa.table({"text": ["a", "b"], "label": [[1, 0], [0]]}).replace_schema_metadata(
        {"huggingface": json.dumps(meta)}
    )
    pq.write_table(table, tmp_path / "several.parquet")
    with pytest.raises(DataError, match=r"row 1: several labels"):
        read_examples(tmp_path / "several.parquet")


def test_parquet_of_decimals_categories_and_gaps(tmp_path: Path) -> None:
    from decimal import Decimal

    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"text": ["a", "b"], "label": [Decimal("1.50"), Decimal("2.00")]}), tmp_path / "d.parquet")
    found = read_examples(tmp_path / "d.parquet")
    assert found.targets is not None
    assert found.targets.tolist() == [1.5, 2.0]
    table = pa.table({"text": ["a", "b"], "label": pa.array(["x", "y"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "c.parquet")
    assert names(tmp_path / "c.parquet") == ["x", "y"]
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1.0, float("nan")]}), tmp_path / "n.parquet")
    with pytest.raises(DataError, match=r"row 2: label nan is not a finite number"):
        read_examples(tmp_path / "n.parquet")


# --- workbooks ---------------------------------------------------------------------------------------------------


def workbook(path: Path, *rows: Sequence[Any], change: Any = None) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Comments"
    for row in rows:
        sheet.append(list(row))
    if change is not None:
        change(book, sheet)
    book.save(path)
    return path


ROWS = [("Text", "Label"), *zip(TEXTS, POS_NEG, strict=True)]


def test_a_workbook_reads_as_its_csv(tmp_path: Path) -> None:
    path = workbook(tmp_path / "d.xlsx", *ROWS)
    found = read_examples(path)
    assert found.inputs == TEXTS
    assert names(path) == POS_NEG
    numbers = workbook(tmp_path / "n.xlsx", ("text", "label"), ("a", 1), ("b", 2.5), ("c", 3))
    found = read_examples(numbers)
    assert found.targets is not None
    assert found.targets.tolist() == [1.0, 2.5, 3.0]
    flags = workbook(tmp_path / "b.xlsx", ("text", "label"), ("a", True), ("b", False))
    assert names(flags) == ["True", "False"]


def test_a_workbook_with_several_sheets(tmp_path: Path) -> None:
    def more(book: Any, sheet: Any) -> None:
        for row in [("text", "label"), ("other", "x"), ("others", "y")]:
            book["Second"].append(row) if "Second" in book.sheetnames else book.create_sheet("Second").append(row)
        book.create_sheet("Empty")
        book.create_sheet("Notes").append(["hidden"])
        book["Notes"].sheet_state = "hidden"

    path = workbook(tmp_path / "d.xlsx", *ROWS, change=more)
    with pytest.raises(DataError, match=r'several sheets .*"Comments", "Second".*--sheet'):
        read_examples(path)
    found = read_examples(path, sheet="second")
    assert found.inputs == ["other", "others"]
    assert any('read from the sheet "Second" of 4' in w for w in found.warnings)
    with pytest.raises(DataError, match=r'no sheet "Third"; found "Comments"'):
        read_examples(path, sheet="Third")


@pytest.mark.parametrize(
    ("cell", "value", "words"),
    [
        ("B3", "=A1", r'row 2 \(line 3\): column "Label": a formula without a stored value'),
        ("A3", "=CONCAT(A1,A2)", r'column "Text": a formula without a stored value'),
        ("B3", None, r"row 2 \(line 3\): no label"),
        ("A3", 7, r"row 2 \(line 3\): column \"Text\" holds the number 7, not a text"),
        ("B3", "#REF!", r"the error #REF!"),
        ("B3", "DATE", "a date or a time; format the column as text"),
    ],
)
def test_cells_that_are_no_text_and_no_label(tmp_path: Path, cell: str, value: Any, words: str) -> None:
    import datetime

    given = datetime.date(2024, 1, 2) if value == "DATE" else value
    path = workbook(tmp_path / "d.xlsx", *ROWS, change=lambda _, sheet: sheet.__setitem__(cell, given))
    with pytest.raises(DataError, match=words):
        read_examples(path)


def test_merged_hidden_and_empty_rows_of_a_workbook(tmp_path: Path) -> None:
    merged = workbook(tmp_path / "m.xlsx", *ROWS, change=lambda _, sheet: sheet.merge_cells("B2:B3"))
    with pytest.raises(DataError, match=r'row 1 \(line 2\): column "Label": a merged cell'):
        read_examples(merged)

    def odd(_: Any, sheet: Any) -> None:
        sheet.row_dimensions[3].hidden = True
        sheet.append([None, None])
        sheet.append(["late", "neg"])
        sheet["A12"] = None

    path = workbook(tmp_path / "h.xlsx", *ROWS, change=odd)
    found = read_examples(path)
    assert found.inputs == [*TEXTS, "late"]
    assert any("1 hidden row (the first in row 2) read like the others" in w for w in found.warnings)
    empty = any("1 row without any value (the first in row 5) left out" in w for w in found.warnings)
    assert empty


def test_a_workbook_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    with pytest.raises(DataError, match=r"not a sound workbook"):
        read_examples(write(tmp_path / "d.xlsx", "text,label\na,b\n"))
    with pytest.raises(DataError, match=r"is empty; its first row|no visible sheet"):
        read_examples(workbook(tmp_path / "e.xlsx"))


# --- images ------------------------------------------------------------------------------------------------------


def picture(path: Path, seed: int = 0) -> Path:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed or sum(map(ord, str(path)))).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    image.fromarray(pixels).save(path)
    return path


def test_images_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "cat/x.bmp", "dog/x.tif", "cat/more/9.png"):
        picture(tmp_path / name)
    for litter in ("cat/Thumbs.db", "cat/.DS_Store", "desktop.ini"):
        write(tmp_path / litter, "x")
    found = read_examples(tmp_path)
    assert len(found) == 4
    assert [w.split(": ", 1)[1] for w in found.warnings] == [
        "2 files of other kinds left out (the first cat/x.bmp); images are read as .jpg, .jpeg, .png, .webp, .gif",
        "1 image in a folder inside a class left out (the first cat/more/9.png); move images into the class's folder",
    ]


def test_folders_of_splits_are_named(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match=f"holds the splits test, train; name one, as in {tmp_path}/test"):
        read_examples(tmp_path)
    assert names(tmp_path / "train") == ["cat", "dog"]


def test_a_table_beside_one_folder_of_images(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "b.png")
    table = write(tmp_path / "labels.csv", "image,label\nimages/a.png,cat\nimages/b.png,dog\n")
    with pytest.raises(DataError, match=r"labels.csv beside it; name the table"):
        read_examples(tmp_path)
    assert names(table) == ["cat", "dog"]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_folder_with_metadata(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    if name.endswith("csv"):
        write(tmp_path / name, "file_name,label\na.png,cat\nb.png,dog\n")
    else:
        jsonl(tmp_path / name, [{"file_name": "a.png", "label": "cat"}, {"file_name": "b.png", "label": "dog"}])
    assert read_examples(tmp_path).kind == "image"
    assert names(tmp_path) == ["cat", "dog"]
    assert names(tmp_path / name) == ["cat", "dog"]


def test_images_that_metadata_does_not_name_are_counted(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "more/d.png"):
        picture(tmp_path / name)
    write(tmp_path / "metadata.csv", "file_name,label\na.png,cat\n./b.png,dog\n")
    assert any(
        "2 images that it does not name left out (the first c.png)" in w for w in read_examples(tmp_path).warnings
    )
    write(tmp_path / "metadata.csv", "file_name,label\na.png,cat\nb.png,dog\nc.png,cat\nmore/d.png,dog\n")
    assert read_examples(tmp_path).warnings == read_examples(tmp_path / "metadata.csv").warnings


def test_classes_that_are_called_as_splits_are_remarked(tmp_path: Path) -> None:
    for name in ("train/a.png", "Test/b.png"):
        picture(tmp_path / name)
    assert any("the classes are called Test, train" in w for w in read_examples(tmp_path).warnings)


def test_images_inside_a_table(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.png").read_bytes()
    body = base64.b64encode(data).decode()
    rows = [{"image": f"data:image/png;base64,{body}", "label": "a"}, {"image": "a.png", "label": "b"}]
    found = read_examples(jsonl(tmp_path / "d.jsonl", rows))
    assert [image.data for image in found.inputs] == [data, data]
    for bad, words in (
        ("https://example.org/a.png", "learndock fetches no images"),
        (body, "an image in base64 without its type"),
        ("data:text/plain;base64,aGk=", "not an image in base64"),
        ("data:image/png;base64,a!b", "base64 is damaged"),
        ("none.png", "cannot be read"),
    ):
        path = jsonl(tmp_path / "bad.jsonl", [rows[0], {"image": bad, "label": "b"}])
        with pytest.raises(DataError, match=rf"row 2.*{words}"):
            read_examples(path)
