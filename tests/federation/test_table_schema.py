"""The description of a table: what it means, and that all that does not fit is told at once, with its places."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import P2PFLError
from p2pfl.errors.federation import TableUnfit
from p2pfl.federation import Federation, draft
from p2pfl.federation.table_columns import CodeColumn, NumberColumn, is_column_name, number_in
from p2pfl.federation.table_labels import BinaryLabel, ClassLabel, NumberLabel, TimeLabel
from p2pfl.federation.table_schema import TableSchema
from p2pfl.training.tasks import heart
from tests.examples import examples
from tests.federation.sample import ASKED, CARDS, TABLE


def parsed(text: bytes | str) -> TableSchema:
    return TableSchema.parse(text if isinstance(text, bytes) else text.encode(), "task.yaml")


def refused(text: bytes) -> TableUnfit:
    with pytest.raises(TableUnfit) as caught:
        parsed(text)
    assert caught.value.exit_status == 2
    return caught.value


def test_every_word_of_a_description_is_kept() -> None:
    assert parsed(TABLE) == TableSchema(
        columns=(
            NumberColumn("age", "years", 0.0, 120.0, 50.0, 30.0),
            CodeColumn("sex", ("female", "male")),
        ),
        label=BinaryLabel(CodeColumn("ill", ("no", "yes")), ("yes",)),
        hidden=0,
        learning_rate=0.01,
        expected_batch=2.0,
    )


def test_flags_are_false_unless_they_are_said() -> None:
    found = parsed(
        TABLE.replace(b"scale: 30}", b"scale: 30, zero_is_missing: true, indicator: true}")
        .replace(b"[female, male]}", b"[I, II, III], ordered: true, indicator: false}")
        .replace(b"model: linear", b"model: {mlp: 16}")
    )
    age, sex = found.columns
    assert isinstance(age, NumberColumn)
    assert isinstance(sex, CodeColumn)
    assert (age.zero_is_missing, age.indicator, sex.ordered, sex.indicator) == (True, True, True, False)
    assert found.hidden == 16
    assert found.summary == "2 columns, an MLP of 16 hidden units of ill (yes or no)"


ILL = '  ill: {binary: ["no", "yes"], positive: ["yes"]}\n'
TIMED = "  months: {time: months, high: 240, grid: [12, 24.5, 60]}\n  died: {event: [alive, dead], positive: [dead]}\n"


def labelled(rows: str) -> str:
    text = TABLE.decode()
    assert text.count(ILL) == 1
    return text.replace(ILL, rows)


def test_a_label_may_be_one_of_several_classes() -> None:
    found = parsed(labelled("  grade: {class: [low, middle, high]}\n"))
    assert found.label == ClassLabel(CodeColumn("grade", ("low", "middle", "high")))
    assert found.summary.endswith("of grade (one of 3 classes)")


def test_a_label_may_be_a_number() -> None:
    found = parsed(labelled("  HbA1c: {number: mmol/mol, low: 10, high: 200, centre: 40, scale: 10}\n"))
    assert found.label == NumberLabel(NumberColumn("HbA1c", "mmol/mol", 10.0, 200.0, 40.0, 10.0))
    assert found.names[-1] == "HbA1c"
    assert found.summary.endswith("of HbA1c (a number, in mmol/mol)")


@pytest.mark.parametrize("rows", [TIMED, "".join(TIMED.splitlines(keepends=True)[::-1])])
def test_a_label_may_be_a_time_and_its_event_in_either_order(rows: str) -> None:
    found = parsed(labelled(rows))
    time = NumberColumn("months", "months", 0.0, 240.0, 0.0, 240.0)
    assert found.label == TimeLabel(time, CodeColumn("died", ("alive", "dead")), ("dead",), (12.0, 24.5, 60.0))
    assert found.names[-2:] == ("months", "died")
    assert found.summary.endswith("of months to died (in 3 intervals)")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("  a: {class: [x]}\n", "label.a.class must be a list of 2 to 256 levels, not of 1"),
        (f"  a: {{class: [{', '.join(map(str, range(65)))}]}}\n", "label.a.class must have at most 64 levels"),
        ("  a: {class: [x, y], positive: [x]}\n", "label.a.'positive' is not known; known here are class"),
        (
            "  a: {number: s, low: 0, high: 9, centre: 10, scale: 1}\n",
            "label.a.centre must lie from low to high (0 to 9)",
        ),
        (
            "  a: {number: s, low: 0, high: 9, centre: 5, scale: 1, indicator: true}\n",
            "label.a.'indicator' is not known",
        ),
        (
            "  a: {class: [x, y]}\n  b: {class: [x, y]}\n",
            "label must be one row, or one of a time and one of its event",
        ),
        ("  a: {class: [x, y]}\n  b: {number: s, low: 0, high: 9, centre: 5, scale: 1}\n", "label must be one row, or"),
        (TIMED + "  a: {class: [x, y]}\n", "label must be one row, or"),
        (TIMED.splitlines(keepends=True)[0], "label has a row of its time, and lacks one of its event"),
        (TIMED.splitlines(keepends=True)[1], "label has a row of its event, and lacks one of its time"),
        (TIMED.replace("[12, ", "[60, "), "label.months.grid must be a list of times that rise"),
        (TIMED.replace("[12, 24.5, 60]", "[]"), "label.months.grid must be a list of 1 to 64 times, not of 0"),
        (TIMED.replace("[12, ", "[0, "), "label.months.grid[0] must be a number above 0"),
        (TIMED.replace("high: 240", "high: 48"), "label.months.grid must end at high (48) or before"),
        (TIMED.replace("months:", "age:"), "age is the label, so it can be no column"),
        (
            TIMED.replace("time: months, ", ""),
            "label.months says no kind: one of binary, class, number, time, event must",
        ),
        (TIMED.replace("grid: [12, 24.5, 60]", "grid: [TODO]"), "label.months.grid is still to fill in"),
        ("  {}\n", "label must be one row"),
    ],
)
def test_a_label_that_does_not_fit_is_told(rows: str, told: str) -> None:
    error = refused(labelled(rows).encode())
    assert told in f"{error.happened}\n{error.evidence}"


def test_the_default_description_is_ucis_heart_disease() -> None:
    found = heart.heart()
    assert len(found.columns) == 13
    assert found.names[-1] == "num"
    assert found.label == BinaryLabel(CodeColumn("num", ("0", "1", "2", "3", "4")), ("1", "2", "3", "4"))
    assert found.summary == "13 columns, a linear model of num (yes or no)"


@pytest.mark.parametrize(
    ("levels", "values"),
    [
        (("0", "1"), (0.0, 1.0)),
        (("3", "6.0", "7"), (3.0, 6.0, 7.0)),
        (("no", "yes"), (0.0, 1.0)),
        (("1", "2", "unknown"), (0.0, 1.0, 2.0)),
    ],
)
def test_levels_that_are_numbers_stand_for_them_and_others_for_their_places(
    levels: tuple[str, ...], values: tuple[float, ...]
) -> None:
    assert CodeColumn("a", levels).values == values


@pytest.mark.parametrize(
    ("word", "level"),
    [("1", "1"), ("1.0", "1"), ("01", "1"), ("+1", "1"), ("1e0", "1"), ("male", "male"), ("Male", None), ("2", None),
     ("", None), ("nan", None), ("1_", None), ("inf", None), ("٣", None)],
)  # fmt: skip
def test_a_cell_is_a_level_by_its_text_or_as_an_equal_number(word: str, level: str | None) -> None:
    assert CodeColumn("a", ("1", "male")).level(word) == level


MISFITS = [  # (what stands there once, what instead, what the finding points at, told)
    ("number: years, ", "", "{low", "age says no kind"),
    ("number: years", "number: [years]", "[years]", "columns.age.number must be a unit"),
    ("low: 0, ", "", "{number", "columns.age.low is missing"),
    ("low: 0", "low: 120", "120, centre", "columns.age.high must lie above low (120)"),
    ("low: 0", "low: '0'", "'0'", "columns.age.low must be a number (found '0')"),
    ("low: 0", "low: nan", "nan", "columns.age.low must be a number"),
    ("low: 0", "low: -.5", "-.5", "columns.age.low must be a number"),
    ("centre: 50", "centre: 121", "121", "columns.age.centre must lie from low to high (0 to 120)"),
    ("scale: 30", "scale: 0", "0}", "columns.age.scale must be above 0"),
    ("scale: 30", "scale: -1", "-1}", "columns.age.scale must be above 0"),
    ("scale: 30", "scale: 30, indicator: yes", "yes", "columns.age.indicator must be true or false"),
    ("scale: 30", "scale: 30, unit: years", "unit", "columns.age.'unit' is not known; known here are number, low"),
    ("scale: 30", "scale: 30, code: [a, b]", "{number", "columns.age says number and code"),
    ("[female, male]", "[female]", "[female]", "columns.sex.code must be a list of 2 to 256 levels, not of 1"),
    ("[female, male]", "female", "female", "columns.sex.code must be a list"),
    ("[female, male]", "[1, '1.0']", "[1, ", "columns.sex.code has the level '1.0' twice"),
    ("[female, male]", "[female, NA]", "NA", "columns.sex.code[1] must be a word or a number"),
    ("[female, male]", "[female, '']", "''", "columns.sex.code[1] must be a word or a number"),
    ("[female, male]", "[female, [male]]", "[male]", "columns.sex.code[1] must be a word or a number"),
    ("{code: [female, male]}", "code", "code", "columns.sex must be a table of keys and values"),
    ("  sex: ", "  2nd: ", "2nd", "'2nd' is not a name"),
    ("  sex: ", '  "": ', '"":', "'' is not a name"),
    ("  sex: ", '  "a\\tb": ', '"a', "is not a name"),
    ("  sex: ", f"  {'a' * 65}: ", "aaa", "is not a name"),
    ("  ill: ", "  sex: ", "sex: {binary", "sex is the label, so it can be no column"),
    ('positive: ["yes"]', "positive: [ja]", "[ja]", "label.ill.positive has 'ja', and the levels are no, yes"),
    ('positive: ["yes"]', 'positive: ["yes", "no"]', '["yes"', "label.ill.positive must leave a level"),
    ('positive: ["yes"]', "positive: []", "[]", "label.ill.positive must be a list of 1 to 256 levels"),
    (', positive: ["yes"]', "", "{binary", "label.ill.positive is missing"),
    ("binary:", "binry:", "{binry", "label.ill says no kind: "),
    ("label:\n", "label:\n  well: {binary: [a, b], positive: [a]}\n", "well", "label must be one row"),
    ("label:", "lable:", "lable", "'lable' is not known; known here are columns, label"),
    ("model: linear", "model: resnet", "resnet", "model must be linear, or {mlp: UNITS}"),
    ("model: linear", "model: {mlp: 0}", "0}", "model.mlp must be a whole number from 1 to 4096"),
    ("model: linear", "model: {mlp: 8, depth: 2}", "{mlp", "model must be linear, or {mlp: UNITS}"),
    ("learning_rate: 0.01", "learning_rate: 0", "0", "learning_rate must be a number above 0"),
    ("expected_batch: 2.0\n", "", "columns", "expected_batch is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "at", "told"), MISFITS, ids=[row[1][:40] for row in MISFITS])
def test_what_does_not_fit_is_told_with_line_and_column(old: str, new: str, at: str, told: str) -> None:
    text = TABLE.decode()
    assert text.count(old) == 1
    text = text.replace(old, new)
    error = refused(text.encode())
    places = [error.happened.partition(", in the desc")[0].partition(": ")]
    places += [
        line.removeprefix("line ").replace(", column ", ":", 1).partition(": ") for line in error.evidence.splitlines()
    ]
    where = next(place for place, _, what in places if told in what)
    line, column = map(int, where.removeprefix("task.yaml:").split(":"))
    assert text.splitlines()[line - 1][column - 1 :].startswith(at)


def test_all_that_does_not_fit_is_told_at_once() -> None:
    text = TABLE.replace(b"low: 0", b"low: x").replace(b"[female, male]", b"[female]").replace(b"linear", b"cubic")
    error = refused(text.replace(b"expected_batch: 2.0\n", b"speed: 9\n"))
    assert error.happened == ("task.yaml:1:1: expected_batch is missing, in the description of a task.")
    assert error.evidence.splitlines() == [
        "line 2, column 29: columns.age.low must be a number (found 'x')",
        "line 3, column 15: columns.sex.code must be a list of 2 to 256 levels, not of 1 (found a list)",
        "line 6, column 8: model must be linear, or {mlp: UNITS} with 1 to 4096 hidden units (found 'cubic')",
        "line 8, column 1: 'speed' is not known; known here are columns, label, model, learning_rate, expected_batch, "
        "patient, asked",
    ]


def test_what_a_draft_leaves_to_fill_in_is_told_line_by_line() -> None:
    text = TABLE.replace(b"low: 0, high: 120", b"low: TODO, high: TODO").replace(b"[female, male]", b"[TODO, TODO]")
    error = refused(text.replace(b"  ill:", b"  TODO:").replace(b'["no", "yes"]', b"[TODO, TODO]"))
    assert error.happened.startswith("task.yaml:2:29: columns.age.low, high are still to fill in")
    assert error.evidence.splitlines() == [
        "line 3, column 16: columns.sex.code is still to fill in",
        "line 5, column 3: label's name, binary are still to fill in",
    ]


def test_a_thousand_misfits_are_told_by_their_first_and_their_number() -> None:
    rows = "".join(f"  a{place}: {{number: TODO}}\n" for place in range(1000))
    error = refused(TABLE.replace(b"columns:\n", b"columns:\n" + rows.encode()))
    assert len(error.evidence.splitlines()) == 41
    assert error.evidence.endswith("more")


def test_an_error_of_a_table_in_peers_yaml_names_the_line_there() -> None:
    from p2pfl.federation import Federation
    from tests.federation.sample import replaced

    with pytest.raises(TableUnfit) as caught:
        Federation.parse(replaced("scale: 30", "scale: none"))
    assert caught.value.happened.startswith("peers.yaml:")
    assert "task.table.columns.age.scale must be a number" in caught.value.happened


# ── asked, not learned ────────────────────────────────────────────────────────────────────────────────────────


def test_a_column_that_is_asked_has_bounds_or_levels_and_is_no_column() -> None:
    found = parsed(TABLE + ASKED)
    months, died = found.asked
    assert isinstance(months, NumberColumn) and isinstance(died, CodeColumn)
    assert (months.name, months.unit, months.low, months.high) == ("months", "months", 0, 240)
    assert months.zero_is_missing
    assert (died.name, died.levels) == ("died", ("alive", "dead"))
    assert (found.columns, found.label, found.names) == (
        parsed(TABLE).columns,
        parsed(TABLE).label,
        ("age", "sex", "ill"),
    )
    assert [one.name for one in found.described] == ["age", "sex", "ill", "months", "died"]
    assert found.asking == "; asked, not learned: months, died" and not parsed(TABLE).asking
    assert found.summary == parsed(TABLE).summary


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("high: 240", "high: 240, centre: 60", "asked.months.'centre' is not known; known here are number, low, high"),
        ("[alive, dead]", "[alive, dead], ordered: true", "asked.died.'ordered' is not known; known here are code"),
        ("[alive, dead]", "[alive]", "asked.died.code must be a list of 2 to 256 levels"),
        ("low: 0, high: 240", "low: 240, high: 240", "asked.months.high must lie above low (240)"),
        ("number: months, ", "", "asked.months says no kind: one of number, code must stand there"),
        ("code: [alive", "event: [alive", "asked.died says no kind: one of number, code must stand there"),
        ("  died:", "  sex:", "sex is a column or the label, and may be asked as that"),
        ("  died:", "  ill:", "ill is a column or the label, and may be asked as that"),
        ("  died:", "  4th:", "'4th' is not a name"),
        ("  died: {code", "  died: [code]\n  gone: {code", "asked.died must be a table"),
        ("high: 240", "high: TODO", "asked.months.high is still to fill in"),
        ("asked:", "patient: died\nasked:", "died is a column that the model sees, or the label, or one that may be"),
    ],
)
def test_what_does_not_fit_of_an_asked_column_is_told(old: str, new: str, told: str) -> None:
    text = (TABLE + ASKED).decode()
    assert text.count(old) == 1
    error = refused(text.replace(old, new).encode())
    assert told in f"{error.happened}\n{error.evidence}"


@pytest.mark.parametrize("rows", [b"asked: {}\n", b"asked: [a]\n", b"asked: all\n"])
def test_asked_holds_a_row_at_least(rows: bytes) -> None:
    error = refused(TABLE + rows)
    assert "asked must be" in error.happened and error.evidence == "nothing else in it is wrong"


def test_what_may_be_asked_is_agreed_on_and_rules_name_it() -> None:
    """Another bound is another peers.yaml, for which no site approved anything; `never` may name what is asked."""
    lines = draft.description_lines(TABLE + ASKED, "task.yaml")
    members = [card.member for card in CARDS]
    one = Federation.parse(draft.peers_file("trial", members, lines, ["statistics.never=[died]"]))
    other = Federation.parse(one.raw.replace(b"high: 240", b"high: 360"))
    assert one.digest != other.digest
    assert (one.statistics.allows("months"), one.statistics.allows("died")) == (True, False)
    with pytest.raises(P2PFLError, match="rules on statistics name columns"):
        draft.peers_file("trial", members, draft.description_lines(TABLE, "task.yaml"), ["statistics.never=[died]"])


@given(st.text(max_size=70))
@examples(200)
def test_any_name_is_one_that_a_file_can_hold_or_none(name: str) -> None:
    if is_column_name(name):
        assert name.isprintable()
        assert number_in(name) is None


PIECES = st.sampled_from(
    ["{", "}", "[", "]", ",", ": ", "TODO", "null", "\n  ", "- ", "'", "number", "code", "1e9", "é"]
)


@given(st.integers(0, 400), st.integers(0, 30), st.lists(PIECES, max_size=5).map("".join))
@examples(300)
def test_a_damaged_description_is_read_or_refused_by_a_leaf(start: int, length: int, instead: str) -> None:
    text = TABLE.decode()
    with contextlib.suppress(P2PFLError):  # any other exception fails the test
        found = parsed(text[:start] + instead + text[start + length :])
        assert found.label.columns
        assert not {one.name for one in found.columns} & {one.name for one in found.label.columns}
