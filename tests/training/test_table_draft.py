"""A draft tells names and kinds of columns, and nothing else of the records that it was drafted from."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import P2PFLError
from p2pfl.errors.federation import TableUnfit
from p2pfl.errors.training import DataEmpty, DuplicateColumn, HeaderMissing, MissingColumn, MissingLabelColumn
from p2pfl.federation.table_schema import TableSchema
from p2pfl.training.records.column_map import ColumnMap
from p2pfl.training.records.table_draft import HEAD, NUMBER, read_draft
from tests.examples import examples

RAW = b'age,sex,"CRP, mg/l",stage,ill\n63,m,12.5,II,no\n44,w,?,I,yes\n'


def rows(text: str) -> list[str]:
    return text.removeprefix(HEAD).splitlines()


def test_names_and_kinds_are_written_and_every_number_is_left_to_people() -> None:
    assert rows(read_draft(RAW, "a.csv", ColumnMap(), ["ill"]).text("ill")) == [
        "label:",
        "  ill: {binary: [TODO, TODO], positive: [TODO]}   # all its levels, and those that count as yes",
        "model: linear                       # or {mlp: 16}: one hidden layer of 16 units",
        "learning_rate: 0.01                 # of each private step",
        "expected_batch: 2.0                 # about sample_rate × the records of a typical site: a round figure",
        "columns:",
        "  age: {number: TODO, low: TODO, high: TODO, centre: TODO, scale: TODO}",
        "  sex: {code: [TODO, TODO]}",
        '  "CRP, mg/l": {number: TODO, low: TODO, high: TODO, centre: TODO, scale: TODO}',
        "  stage: {code: [TODO, TODO]}",
    ]


@pytest.mark.parametrize(
    ("kind", "rows_of_label"),
    [
        ("class", ["  ill: {class: [TODO, TODO]}   # all its levels"]),
        ("number", [f"  ill: {NUMBER}   # the model tells this number"]),
    ],
)
def test_a_label_of_another_kind_has_that_kinds_row(kind: str, rows_of_label: list[str]) -> None:
    found = rows(read_draft(RAW, "a.csv", ColumnMap()).text("ill", kind))
    assert found[1 : 1 + len(rows_of_label)] == rows_of_label
    assert not any(row.startswith("  ill") for row in found[2:])


def test_a_time_and_its_event_are_two_rows_and_no_columns() -> None:
    found = rows(read_draft(RAW, "a.csv", ColumnMap(), ["age", "ill"]).text("age", "time", "ill"))
    assert [row.partition("   #")[0] for row in found[1:3]] == [
        "  age: {time: TODO, high: TODO, grid: [TODO]}",
        "  ill: {event: [TODO, TODO], positive: [TODO]}",
    ]
    assert not any(row.startswith(("  age", "  ill")) for row in found[3:])


def test_what_is_asked_is_drafted_without_what_a_model_needs() -> None:
    asked = ["stage", "age"]
    found = rows(read_draft(RAW, "a.csv", ColumnMap(), ["ill"], asked).text("ill", asked=asked))
    at = found.index(next(row for row in found if row.startswith("asked:")))
    assert found[at + 1 :] == ["  age: {number: TODO, low: TODO, high: TODO}", "  stage: {code: [TODO, TODO]}"]
    assert not any(row.startswith(("  age", "  stage")) for row in found[:at])
    with pytest.raises(MissingColumn, match="months"):
        read_draft(RAW, "a.csv", ColumnMap(), ["ill"], ["months"])


CELLS = st.text(string.ascii_letters + string.digits + " .-+:/éß", max_size=8)


@pytest.mark.claim("CLI-6")
@given(
    st.lists(
        st.tuples(CELLS, CELLS, st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
        min_size=1,
        max_size=20,
    )
)
@examples(200)
def test_two_files_of_the_same_kinds_give_the_same_draft_whatever_their_records_say(
    records: list[tuple[str, str, int, float]],
) -> None:
    """Words stay words and numbers numbers; how many records, which values and how many blanks is told by nothing."""
    lines = [f"w{one},v{two},{number},{measured!r}" for one, two, number, measured in records]
    raw = "\n".join(["one,two,number,measured", *lines]).encode()
    other = b"one,two,number,measured\na,b,1,2\n,,,\n"
    assert read_draft(raw, "a.csv", ColumnMap()) == read_draft(other, "b.csv", ColumnMap())


@pytest.mark.parametrize("delimiter", [b",", b";", b"\t"])
def test_any_delimiter_is_read(delimiter: bytes) -> None:
    found = read_draft(RAW.replace(b'"CRP, mg/l"', b"CRP").replace(b",", delimiter), "a.csv", ColumnMap())
    assert [(one.name, one.number) for one in found.columns] == [
        ("age", True),
        ("sex", False),
        ("CRP", True),
        ("stage", False),
        ("ill", False),
    ]


def test_a_column_map_gives_our_names_and_says_which_numbers_are_codes() -> None:
    written = b'columns: {Alter: age, "2nd": second}\ncodes: {second: {1: better, 2: worse}}\nmissing: [k.A.]\n'
    raw = b"Alter,2nd,note\nk.A.,1,\nk.A.,2,x\n63,1,\n"
    found = read_draft(raw, "a.csv", ColumnMap.parse(written, "map", None))
    assert [(one.name, one.number) for one in found.columns] == [("age", True), ("second", False), ("note", False)]


def test_decimal_commas_are_drafted_as_numbers_where_the_column_map_says_so() -> None:
    raw = b"Hb;ward\n13,2;A\n9,8;B\n"
    found = read_draft(raw, "a.csv", ColumnMap.parse(b"decimal: comma\n", "map", None))
    assert [(one.name, one.number) for one in found.columns] == [("Hb", True), ("ward", False)]


@pytest.mark.claim("CLI-2")
@pytest.mark.parametrize(
    "raw", [b"63,male,145\n44,female,130\n", b"Smith,1962-03-01\nJones,1970-01-01\n", b"?,x\n1,2\n"]
)
def test_a_file_without_a_header_is_not_drafted_and_its_first_record_not_repeated(raw: bytes) -> None:
    with pytest.raises(HeaderMissing) as caught:
        read_draft(raw, "a.csv", ColumnMap())
    assert not any(cell in caught.value.render() for cell in ("63", "145", "male", "Smith", "1962"))


def test_a_column_without_a_name_that_can_be_used_is_told_by_its_place() -> None:
    found = read_draft(b"age,," + b"x" * 65 + b",TODO,ill\n1,2,3,4,5\n", "a.csv", ColumnMap())
    assert [one.name for one in found.columns] == ["age", "ill"]
    assert found.unnamed == (2, 3, 4)
    assert rows(found.text("ill"))[-1] == "  # column 4 has a name that cannot be used: a column map gives it one"


@pytest.mark.parametrize(
    ("raw", "leaf"),
    [(b"", DataEmpty), (b"\n\n", DataEmpty), (b"age,age\n1,2\n", DuplicateColumn), (b"age\n1\n", MissingLabelColumn)],
)
def test_a_file_that_cannot_be_drafted_is_refused(raw: bytes, leaf: type[P2PFLError]) -> None:
    with pytest.raises(leaf):
        read_draft(raw, "a.csv", ColumnMap(), ["ill"])


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=8, unique_by=str.strip))
@examples(200)
def test_whatever_the_names_a_draft_lacks_only_what_is_to_be_filled_in(names: list[str]) -> None:
    header = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    try:
        found = read_draft(f"{header}\n".encode("utf-8", "surrogatepass"), "a.csv", ColumnMap())
    except P2PFLError:
        return
    with pytest.raises(TableUnfit) as caught:
        TableSchema.parse(found.text(None).encode(), "task.yaml")
    told = [caught.value.happened, *caught.value.evidence.splitlines()]
    assert (
        all("still to fill in" in line or line == "nothing else in it is wrong" for line in told) or not found.columns
    )
    if found.columns:
        filled = found.text(None).replace(
            "TODO: {binary: [TODO, TODO], positive: [TODO]}", "label of all: {binary: [a, b], positive: [a]}"
        )
        filled = filled.replace(
            "number: TODO, low: TODO, high: TODO, centre: TODO, scale: TODO",
            "number: x, low: 0, high: 2, centre: 1, scale: 1",
        ).replace("[TODO, TODO]", "[a, b]")
        assert [one.name for one in TableSchema.parse(filled.encode(), "t").columns] == [
            one.name for one in found.columns
        ]
