"""A hospital's own file: other names, codes and marks are read; every misfit is one named error with its place."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import P2PFLError
from p2pfl.errors.federation import UnknownKey, WrongValue
from p2pfl.errors.training import (
    CellNotANumber,
    CellsUnfit,
    DataEmpty,
    DataNotText,
    DuplicateColumn,
    MissingColumn,
    MissingLabel,
    MissingLabelColumn,
    OutOfRange,
    RaggedRecord,
    UnknownCode,
    WrongColumnMap,
)
from p2pfl.training.records.column_map import MapFile
from p2pfl.training.tasks.heart import heart
from p2pfl.training.tasks.table import TableTask
from tests.training.tables import described, of_heart

TASK = TableTask(heart())
HEADER = heart().names
GOOD = ("63", "1", "1", "145", "233", "1", "2", "150", "0", "2.3", "3", "0", "6", "0")


def file(*rows: tuple[str, ...], header: tuple[str, ...] = HEADER, delimiter: str = ",") -> bytes:
    return "".join(delimiter.join(row) + "\n" for row in (header, *rows)).encode()


def changed(name: str, cell: str) -> tuple[str, ...]:
    place = HEADER.index(name)
    return (*GOOD[:place], cell, *GOOD[place + 1 :])


def without(name: str) -> bytes:
    place = HEADER.index(name)
    header, row = (tuple(cells[:place] + cells[place + 1 :]) for cells in (HEADER, GOOD))
    return file(row, header=header)


@pytest.mark.parametrize(("grade", "label"), [("0", 0), ("1", 1), ("4", 1), ("2.0", 1)])
def test_any_grade_above_zero_is_disease(grade: str, label: int) -> None:
    assert TASK.read(file(changed("num", grade)), "site.csv").y.tolist() == [label]


@pytest.mark.parametrize("mark", ["", "?", "-9", "NA", "nan", " "])
def test_marks_of_not_measured_become_zero_and_an_indicator(mark: str) -> None:
    found = TableTask(of_heart("thal")).read(file(changed("thal", mark)), "site.csv")
    assert found.x.tolist() == [[0, 0, 0, 2]]


@pytest.mark.claim("DP-7")
def test_scaling_never_looks_at_the_records_beside() -> None:
    alone = TASK.read(file(GOOD), "a").x
    beside = TASK.read(file(GOOD, changed("chol", "600"), changed("age", "99")), "a").x
    assert np.array_equal(alone[0], beside[0])


def test_a_spreadsheets_marks_separators_and_blank_lines_are_read() -> None:
    plain = TASK.read(file(GOOD), "a")
    for raw in (
        b"\xef\xbb\xbf" + file(GOOD),
        file(GOOD).replace(b"\n", b"\r\n"),
        file(GOOD) + b"\n\n",
        file(GOOD, delimiter=";"),
        file(GOOD, delimiter="\t"),
    ):
        assert np.array_equal(TASK.read(raw, "a").x, plain.x)
        assert TASK.read(raw, "a").identities == plain.identities


def test_columns_may_stand_in_any_order_beside_others() -> None:
    header, row = (*HEADER[::-1], "note"), (*GOOD[::-1], "anything, really".replace(",", " "))
    assert np.array_equal(TASK.read(file(row, header=header), "a").x, TASK.read(file(GOOD), "a").x)


MAP = b"""
columns: {Alter: age, Geschlecht: sex, Diagnose: num}
codes:
  sex: {m: 1, w: 0}
  num: {gesund: 0, krank: 1.0}
missing: ["", "k.A."]
absent: [ca, thal]
"""


def test_a_column_map_translates_names_codes_marks_and_what_is_absent() -> None:
    theirs = {"age": "Alter", "sex": "Geschlecht", "num": "Diagnose"}
    keep = [place for place, name in enumerate(HEADER) if name not in ("ca", "thal")]
    header = tuple(theirs.get(HEADER[place], HEADER[place]) for place in keep)
    cells = dict(zip(HEADER, GOOD, strict=True)) | {"sex": "w", "num": "krank", "slope": "k.A."}
    found = TASK.read(file(tuple(cells[HEADER[place]] for place in keep), header=header), "site.csv", MAP)
    ours = cells | {"sex": "0", "num": "1", "slope": "", "ca": "", "thal": ""}
    assert np.array_equal(found.x, TASK.read(file(tuple(ours.values())), "a").x)
    assert found.y.tolist() == [1]


@pytest.mark.parametrize("cell", ["2,3", '"2,30"'])
def test_decimal_commas_are_read_where_the_column_map_says_so(cell: str) -> None:
    found = TASK.read(file(changed("oldpeak", cell), delimiter=";"), "site.csv", b"decimal: comma\n")
    assert np.array_equal(found.x, TASK.read(file(GOOD), "site.csv").x)


def test_a_point_among_decimal_commas_is_no_number_since_it_may_mark_thousands() -> None:
    with pytest.raises(CellNotANumber):
        TASK.read(file(changed("oldpeak", "1.000"), delimiter=";"), "site.csv", b"decimal: comma\n")


@pytest.mark.parametrize(
    ("name", "point", "comma"), [("num", "2.0", "2,0"), ("cp", "1.0", "1,0"), ("thal", "6.0", "6,0")]
)
def test_codes_that_are_numbers_are_read_with_decimal_commas_too(name: str, point: str, comma: str) -> None:
    """pandas and SPSS write a column of codes with a blank in it as 1,0."""
    plain = TASK.read(file(changed(name, point)), "a.csv")
    rows = [tuple(cell.replace(".", ",") for cell in changed(name, comma))]
    found = TASK.read(file(*rows, delimiter=";"), "a.csv", b"decimal: comma\n")
    assert np.array_equal(found.x, plain.x) and np.array_equal(found.y, plain.y)


def test_a_data_frame_is_read_with_the_column_map_of_an_export_with_commas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([[float(cell) for cell in GOOD]], columns=HEADER)
    found = TASK.from_frame(frame, MapFile.of(b"decimal: comma\n", "map.yaml"))
    assert np.array_equal(found.x, TASK.read(file(GOOD), "a.csv").x)


def test_a_point_among_decimal_commas_is_not_answered_with_advice_already_taken() -> None:
    with pytest.raises(CellNotANumber) as caught:
        TASK.read(file(changed("oldpeak", "1.000"), delimiter=";"), "site.csv", b"decimal: comma\n")
    assert "point" in caught.value.evidence


def test_the_numbers_that_a_column_map_states_itself_keep_their_points() -> None:
    written = b"decimal: comma\ncodes: {oldpeak: {high: 2.3}}\n"
    found = TASK.read(file(changed("oldpeak", "high"), delimiter=";"), "site.csv", written)
    assert np.array_equal(found.x, TASK.read(file(GOOD), "site.csv").x)


MISFITS = [
    ("an empty file", b"", DataEmpty, ""),
    ("blanks only", b" \n\n", DataEmpty, ""),
    ("a header and nothing below", file(), DataEmpty, "header"),
    ("a spreadsheet", b"PK\x03\x04\xff\xfe", DataNotText, "UTF-8"),
    ("zero bytes", file(GOOD).replace(b"63", b"\0\0"), DataNotText, "zero bytes"),
    ("a quote without an end", file(changed("age", '"63')), DataNotText, "line"),
    ("a column twice", file((*GOOD, "1"), header=(*HEADER, "age")), DuplicateColumn, "age"),
    ("a column missing", without("chol"), MissingColumn, "chol"),
    ("the label's column missing", without("num"), MissingLabelColumn, "num"),
    ("a label missing", file(GOOD, changed("num", "")), MissingLabel, "line 3"),
    ("a word for a number", file(GOOD, changed("chol", "high")), CellNotANumber, "line 3, column chol"),
    ("a decimal comma", file(changed("oldpeak", '"2,3"')), CellNotANumber, "line 2, column oldpeak"),
    ("an infinite number", file(changed("chol", "inf")), CellNotANumber, "chol"),
    ("underscores", file(changed("chol", "2_33")), CellNotANumber, "chol"),
    ("mmol/l for mg/dl", file(changed("chol", "6.2")), OutOfRange, "mg/dl"),
    ("an age of 630", file(changed("age", "630")), OutOfRange, "0 to 120"),
    ("an unknown code", file(changed("thal", "5")), UnknownCode, "known are 3, 6, 7"),
    ("a word for a code", file(changed("sex", "male")), UnknownCode, "line 2, column sex"),
    ("an unknown grade", file(changed("num", "7")), UnknownCode, "num"),
    ("a cell too few", file(GOOD, GOOD[:-1]), RaggedRecord, "line 3"),
    ("a cell too many", file((*GOOD, "x")), RaggedRecord, "line 2"),
]


@pytest.mark.parametrize(("what", "raw", "leaf", "shown"), MISFITS, ids=[row[0] for row in MISFITS])
def test_each_misfit_is_its_own_error_and_says_where(what: str, raw: bytes, leaf: type[P2PFLError], shown: str) -> None:
    with pytest.raises(leaf) as caught:
        TASK.read(raw, "site.csv")
    assert type(caught.value) is leaf
    assert "site.csv" in caught.value.render()
    assert shown in caught.value.render()
    assert caught.value.exit_status == 2


@pytest.mark.claim("CLI-2")
@pytest.mark.parametrize(("column", "value"), [("chol", "secret77"), ("age", "4711"), ("sex", "4712"), ("num", "4713")])
def test_an_error_never_repeats_a_patients_value(column: str, value: str) -> None:
    with pytest.raises(P2PFLError) as caught:
        TASK.read(file(GOOD, changed(column, value)), "site.csv")
    assert value not in caught.value.render()
    assert value not in str(caught.value.as_json())


@pytest.mark.claim("CLI-2")
def test_a_file_without_a_header_is_told_so_and_its_first_record_is_not_repeated() -> None:
    for column_map in (None, b"columns: {Alter: age}\n"):
        with pytest.raises(MissingColumn) as caught:
            TASK.read(b"\n".join(file(GOOD, GOOD).split(b"\n")[1:]), "site.csv", column_map)
        assert "a header is missing" in caught.value.evidence
        assert not any(cell in caught.value.evidence for cell in ("63", "145", "233", "150", "2.3"))


@pytest.mark.parametrize(
    ("written", "leaf", "shown"),
    [
        (b"columns: {Alter: agee}\n", WrongColumnMap, "map:1:"),
        (b"columns: {Alter: age}\n", MissingColumn, "Alter"),
        (b"columns: {trestbps: chol}\n", DuplicateColumn, "chol"),
        (b"absent: [height]\n", WrongColumnMap, "height"),
        (b"codes: {height: {a: 1}}\n", WrongColumnMap, "height"),
        (b"codes:\n  sex: {m: male}\n", WrongColumnMap, "map:2:"),
        (b"colums: {}\n", UnknownKey, "did you mean columns"),
        (b"decimal: ','\n", WrongValue, "one of point, comma"),
    ],
)
def test_a_wrong_column_map_says_line_and_name(written: bytes, leaf: type[P2PFLError], shown: str) -> None:
    with pytest.raises(leaf) as caught:
        TASK.read(file(GOOD), "site.csv", written)
    assert shown in caught.value.render()


def test_all_columns_that_do_not_fit_are_told_at_once() -> None:
    """Those that a file lacks, the label among them, those that its map names in vain, and those taken twice."""
    keep = [place for place, name in enumerate(HEADER) if name not in ("chol", "thal", "num")]
    header = (*(HEADER[place] for place in keep), "age")
    raw = file((*(GOOD[place] for place in keep), "63"), header=header)
    with pytest.raises(MissingColumn) as caught:
        TASK.read(raw, "site.csv", MapFile.of(b"columns: {Chol: chol, Herz: thal}\n", "site.columns.yaml"))
    assert caught.value.happened == "site.csv lacks the columns Chol, Herz, num."
    told = caught.value.evidence
    assert told.startswith(
        "site.columns.yaml names Chol, Herz; age is taken from columns 1 and 12; the header has age,"
    )


def test_two_columns_that_are_there_twice_are_told_at_once() -> None:
    with pytest.raises(DuplicateColumn) as caught:
        TASK.read(file((*GOOD, "63", "1"), header=(*HEADER, "age", "sex")), "site.csv")
    assert caught.value.happened == "site.csv: two columns are both taken for age, sex."
    assert caught.value.evidence == "age is taken from columns 1 and 15; sex is taken from columns 2 and 16"


def test_all_cells_that_do_not_fit_are_told_at_once_by_column_and_reason() -> None:
    raw = file(GOOD, changed("chol", "secret77"), changed("chol", "4711"), changed("sex", "4712"), GOOD[:-1],
               *[changed("num", "4713")] * 5, changed("num", ""))  # fmt: skip
    with pytest.raises(CellsUnfit) as caught:
        TASK.read(raw, "site.csv")
    assert caught.value.happened == "site.csv: 10 cells or records do not fit, from line 3 on."
    assert caught.value.evidence.splitlines() == [
        "column chol, line 3: it is no number",
        "column chol, line 4: plausible is 50 to 1000 (mg/dl)",
        "column sex, line 5: known are 0, 1",
        "line 6: the header has another number of cells",
        "column num, lines 7, 8, 9 and 2 more: known are 0, 1, 2, 3, 4",
        "column num, line 12: the cell is blank",
    ]
    assert not any(value in caught.value.render() for value in ("secret77", "4711", "4712", "4713"))


def test_a_misfit_of_a_whole_column_is_one_error_that_says_in_how_many_lines() -> None:
    with pytest.raises(CellNotANumber) as caught:
        TASK.read(file(*[changed("oldpeak", '"2,3"')] * 100), "site.csv")
    assert caught.value.happened == "site.csv, line 2, column oldpeak: this is not a number."
    assert caught.value.evidence == "lines 2, 3, 4 and 97 more: it is no number"


def test_a_file_with_more_different_cells_than_are_kept_in_mind_is_read_whole() -> None:
    task = TableTask(described("t: {number: s, low: 0, high: 1, centre: 0, scale: 1}"))
    cells = np.arange(10_000) / 10_000
    found = task.read(b"t,ill\n" + b"".join(b"%.4f,no\n" % cell for cell in cells), "site.csv")
    assert np.array_equal(found.x[:, 0], cells.astype(np.float32))


def test_words_are_levels_and_a_map_translates_into_them() -> None:
    task = TableTask(described("sex: {code: [female, male]}", "stage: {code: [I, II, III]}"))
    plain = task.read(b"sex,stage,ill\nmale,II,yes\nfemale,,no\n", "site.csv")
    theirs = b'codes: {sex: {m: male, w: female}, stage: {2: II}, ill: {1: "yes", 0: "no"}}\n'
    mapped = task.read(b"sex,stage,ill\nm,2,1\nw,,0\n", "site.csv", theirs)
    assert plain.x.tolist() == mapped.x.tolist() == [[1, 0, 2, 0], [-1, 0, 0, 0]]
    assert plain.y.tolist() == mapped.y.tolist() == [1, 0]
    assert plain.identities == mapped.identities


def test_a_sites_own_mark_of_not_measured_goes_before_a_level() -> None:
    task = TableTask(described("stage: {code: [I, II, X], indicator: true}"))
    found = task.read(b"stage,ill\nX,yes\n", "site.csv", b"missing: [X]\n")
    assert found.x.tolist() == [[0, 0, 0, 2]]


def test_a_label_that_the_map_calls_absent_is_missed_once_and_not_in_each_line() -> None:
    with pytest.raises(MissingLabelColumn) as caught:
        TASK.read(file(GOOD, GOOD), "site.csv", b"absent: [num]\n")
    assert "num is absent in site.csv's column map" in caught.value.evidence
    assert len(TASK.read(file(GOOD, GOOD), "site.csv", b"absent: [num]\n", labelled=False)) == 2


def test_all_that_is_wrong_in_a_column_map_is_told_at_once_and_names_the_map() -> None:
    written = b"columns: {Alter: agee}\ncodes:\n  sex: {m: male}\n  height: {a: 1}\nabsent: [weight]\n"
    with pytest.raises(WrongColumnMap) as caught:
        TASK.read(file(GOOD), "site.csv", MapFile.of(written, "maps/site.yaml"))
    assert caught.value.happened == (
        "maps/site.yaml:1:18: the column map says something that does not fit: there is no column 'agee'; "
        "line 3: 'm' is not translated to one of 0, 1; line 4: there is no column 'height'; "
        "line 5: there is no column 'weight'."
    )
    assert caught.value.suggestion == "cat maps/site.yaml"


def test_for_predict_no_label_is_needed() -> None:
    found = TASK.read(without("num"), "new.csv", labelled=False)
    assert np.array_equal(found.x, TASK.read(file(GOOD), "a").x)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_by_name(raw: bytes) -> None:
    with contextlib.suppress(P2PFLError):  # any other exception fails the test
        TableTask(of_heart("age")).read(b"age,num\n" + raw, "site.csv")
