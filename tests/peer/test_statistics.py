"""Questions about three sites' tables: the pooled figure, or nothing; each site's rules, before anything leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.errors.privacy_units import PatientsUnknown
from p2pfl.errors.questions import (
    ColumnNotAsked,
    GroupTooSmall,
    QuestionNotApproved,
    QuestionRefused,
    QuestionsLost,
    QuestionsSpent,
    QuestionTooLarge,
    QuestionUnfit,
)
from p2pfl.errors.round import TooFewContribute
from p2pfl.errors.statistics import NoiseUnbounded
from p2pfl.errors.training import MissingColumn, PassWouldOverspend
from p2pfl.federation import draft
from p2pfl.federation.table_schema import TableSchema
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.ledger.log import Log
from p2pfl.node.runs import statistics as parts
from p2pfl.node.runs.question_counts import ITEM, AskedOf
from p2pfl.node.runs.site_tables import read_records
from p2pfl.node.withdrawals import withdraw
from p2pfl.peer import Peer
from p2pfl.peer.blocking import BlockingPeer
from p2pfl.peer.statistics import StatisticAnswer
from p2pfl.statistics.describe import Describe, Described, Histogram
from p2pfl.statistics.linear import Linear
from p2pfl.statistics.meta import Meta
from p2pfl.statistics.question import Factor, Quantity, Statistic
from tests.peer.sites import DEADLINE_S, NAMES, Sites
from tests.peer.test_cancelled import left, proposed

TABLE = b"""\
columns:
  age: {number: years, low: 0, high: 120, centre: 50, scale: 30}
  sex: {code: [female, male]}
label:
  ill: {binary: ["no", "yes"], positive: ["yes"]}
model: linear
learning_rate: 0.01
expected_batch: 2.0
asked:
  ward: {code: [north, south, east]}
  weight: {number: kg, low: 1, high: 300}
"""  # what no model sees is guarded as the rest
TASK = draft.description_lines(TABLE, "task.yaml")
SEX = Factor("sex", ("female", "male"))
AGE = Quantity("age", 0.0, 120.0)
WARD = Factor("ward", ("north", "south", "east"))
WEIGHT = Quantity("weight", 1.0, 300.0)
RULES = (
    "statistics.standing=[describe, quantiles]",
    "statistics.questions=5",
    "statistics.never=[ill]",
    "statistics.most_numbers=5000",
)
COLUMNS = ("age", "sex", "ward", "weight", "ill")

HEARD = (
    GroupTooSmall,
    QuestionRefused,
    QuestionsLost,
    QuestionsSpent,
    TooFewContribute,
    NoiseUnbounded,
    PassWouldOverspend,
)

Row = tuple[str, ...]


def rows_of(name: str) -> list[Row]:
    """Twenty patients; nobody anywhere is in the ward east, but for one at ben; one site alone knows weights."""
    at = NAMES.index(name)
    found: list[Row] = []
    for index in range(20):
        ward = "east" if (name, index) == ("ben", 7) else ("north", "south")[index % 2]
        weight = str(60 + index) if name == "cyd" else ""
        found.append((str(25 + 18 * at + index), ("female", "male")[index % 2], ward, weight, ("no", "yes")[at % 2]))
    return found


def csv_of(rows: list[Row]) -> str:
    return "\n".join(",".join(row) for row in [COLUMNS, *rows]) + "\n"


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    made = Sites(tmp_path, TASK, *RULES)
    for name in NAMES:
        (tmp_path / f"{name}.csv").write_text(csv_of(rows_of(name)))
    return made


def asks(sites: Sites, *statistics: Statistic) -> Callable[[BlockingPeer], list[Any]]:
    """Ask one after the other; what each gave, or raised where all sites hear the same."""

    def one(peer: BlockingPeer) -> list[Any]:
        found: list[Any] = []
        for statistic in statistics:
            try:
                found.append(peer.ask(statistic, sites.folder / f"{peer.peer.name}.csv"))
            except HEARD as error:
                found.append(error)
        return found

    return one


def opened(sites: Sites, name: str) -> Home:
    return Home.open(sites.folder / name, unlock=[KeyFile(sites.folder / f"{name}.key")], write=False)


def log_of(sites: Sites, name: str, which: Literal["federation", "site"], kind: str) -> list[codec.Facts]:
    with opened(sites, name) as home:
        held = [codec.read_facts(one.record) for one in Log.open(home, which).records()]
    return [facts for facts in held if facts["kind"] == kind]


def test_a_question_left_in_its_roll_call_and_asked_again_is_answered(sites: Sites) -> None:
    """The round stayed the first call's, and the second was told that the others had finished it without this site."""

    async def scene() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(DEADLINE_S):
            peers = {}
            for name in NAMES:
                joined = Peer.join(sites.folder / "peers.yaml", **sites.options(name))
                peers[name] = await stack.enter_async_context(joined)

            def asked(name: str) -> asyncio.Task[StatisticAnswer]:
                return asyncio.create_task(peers[name].ask(Describe((AGE,)), sites.folder / f"{name}.csv"))

            there = proposed(peers["ada"])
            first, ben = asked("ada"), asked("ben")
            await there.wait()
            await left(first)
            again, cyd = asked("ada"), asked("cyd")
            found = [(await one).result for one in (again, ben, cyd)]
            assert found[0] == found[1] == found[2]

    asyncio.run(scene())


def together(sites: Sites, *statistics: Statistic) -> dict[str, list[Any]]:
    found = sites.all(dict.fromkeys(NAMES, asks(sites, *statistics)))
    for name, one in found.items():
        if isinstance(one, BaseException):
            raise AssertionError(name) from one
    return found  # type: ignore[return-value]


def test_a_column_map_beside_the_csv_is_used_as_training_uses_it(sites: Sites) -> None:
    """Whoever asked from Python had to read it, and to know of which class it is."""
    theirs = sites.folder / "cyd.csv"
    theirs.write_text(theirs.read_text().replace("age,", "Alter,", 1))
    (sites.folder / "cyd.columns.yaml").write_text("columns: {Alter: age}\n")
    found = together(sites, Describe((AGE,)))
    assert [one.result.records for (one,) in found.values()] == [60, 60, 60]


@pytest.mark.claim("STAT-1", "STAT-2", "STAT-3")
def test_the_pooled_figure_or_nothing_comes_out_and_every_ledger_says_what_was_asked(sites: Sites) -> None:
    """Of one process: answered; with a small group, which counts three times; of too few sites; one too many."""
    first, small, lonely = Describe((AGE, SEX)), Describe((AGE, WARD)), Describe((WEIGHT,))
    found = together(sites, first, small, lonely, first, Describe((SEX,)), Describe((AGE,)), first)
    pooled = np.array([float(row[0]) for name in NAMES for row in rows_of(name)])
    for answers in found.values():
        answer, too_small, too_few, again, third, spent, free = answers
        assert isinstance(answer, StatisticAnswer) and isinstance(answer.result, Described)
        assert answer.survivors == NAMES
        (age,), (sex,) = answer.result.quantities, answer.result.factors
        assert (age.count, age.missing, sex.counts) == (60, 0, (30, 30))
        assert age.mean == pytest.approx(pooled.mean(), rel=1e-12)
        assert age.variance == pytest.approx(pooled.var(ddof=1), rel=1e-12)
        # One patient in the ward east, at one site: nobody learns that it is one, or where.
        assert isinstance(too_small, GroupTooSmall) and "; ward east" in too_small.evidence
        assert isinstance(too_few, TooFewContribute) and "1 site" in too_few.evidence
        assert again.result == answer.result == free.result  # the same question of the same records is free
        assert isinstance(third, StatisticAnswer)
        assert isinstance(spent, QuestionsSpent)
    _ledgers_say_it(sites, first)
    assert len({tuple(map(str, log_of(sites, name, "federation", "round"))) for name in NAMES}) == 1


def test_a_question_by_its_parameters_and_what_comes_out_as_frames(sites: Sites) -> None:
    """Medians are told to a step that no group of few is in; pandas brings the records, and takes the answer."""
    pandas = pytest.importorskip("pandas", reason="records and answers as DataFrames")

    def one(peer: BlockingPeer) -> StatisticAnswer:
        rows = rows_of(peer.peer.name)
        return peer.stats("quantiles", pandas.DataFrame(rows, columns=COLUMNS), column="age", probabilities=[0.5])

    found = sites.all(dict.fromkeys(NAMES, one))
    ages = np.array([float(row[0]) for name in NAMES for row in rows_of(name)])
    for answer in found.values():
        assert isinstance(answer, StatisticAnswer), answer
        (frame,) = answer.frames()
        low, high = float(frame["above"][0]), float(frame["up to"][0])
        assert low < np.quantile(ages, 0.5, method="inverted_cdf") <= high
        assert high - low < 120 / 2  # it came further than one halving, and less far than the eight that were asked for
        assert high - low > 120 / 256


@pytest.mark.claim("STAT-7", "STAT-8", "STAT-9")
def test_with_noise_no_guard_is_asked_every_asking_is_charged_and_then_refused(tmp_path: Path) -> None:
    """One patient in the ward east: with noise nothing is refused for it, and nothing exact is opened."""
    sites = noisy(tmp_path)
    asked, too_much = Describe((AGE, WARD)), Histogram(AGE, (0.0, 50.0, 120.0))
    found = together(sites, asked, asked, Linear(AGE, (SEX,)), too_much)
    told = [[one.result.as_json() for one in found[name][:2]] for name in NAMES]
    assert told[0] == told[1] == told[2]
    assert told[0][0] != told[0][1], "the noise is drawn anew"
    for name in NAMES:
        first, again, unbounded, spent = found[name]
        assert first.noise is not None and again.noise is not None
        assert (first.noise.sums, first.noise.parts, first.noise.unit) == (2, 2, "record")
        age, error = first.result.quantities[0], first.noise.errors["result"]["quantities"][0]
        assert abs(age.mean - MEAN) < 6 * error["mean"] and 0 < error["mean"] < 20
        assert isinstance(unbounded, NoiseUnbounded) and "linear" in unbounded.render()
        assert isinstance(spent, PassWouldOverspend)  # said to each site's people: here it is every one's
        charges = log_of(sites, name, "site", "charge")
        assert [float(one["after"]) for one in charges] == [float(one.noise.epsilon) for one in (first, again)]
        assert charges[0]["mechanism"] == {
            "mechanism": "poisson-gaussian-of-parts", "noise_multiplier": repr(0.99 * 4.0), "sample_rate": "1.0",
            "steps": 2, "parts": 2,
        }  # fmt: skip
        assert len(log_of(sites, name, "site", "budget")) == 0, "it was not begun"
    rounds = [one["configuration"]["statistic"] for one in log_of(sites, "ada", "federation", "round")]
    assert [one["part"] for one in rounds] == ["roll call", "sum 1", "sum 2"] * 2 + ["roll call"]
    assert rounds[1]["noise"] == {"noise_multiplier": "4.0", "parts": 2, "unit": "record"}


def test_the_estimates_that_sites_show_stand_under_their_names(tmp_path: Path) -> None:
    """They stood under places, and who was first was nowhere to be read."""
    sites = Sites(tmp_path, TASK, "statistics.standing=[meta]")
    for name in NAMES:
        (tmp_path / f"{name}.csv").write_text(csv_of(rows_of(name)))

    def shows(peer: BlockingPeer) -> Any:
        own = peer.peer.name != "ben"
        return peer.ask(Meta("mean", AGE), sites.folder / f"{peer.peer.name}.csv", shows_own=own)

    for answer in sites.all(dict.fromkeys(NAMES, shows)).values():
        assert isinstance(answer, StatisticAnswer), answer
        assert [(one.name, one.site) for one in answer.result.sites] == [("ada", 0), ("cyd", 2)]
        assert [row[0] for row in answer.result.tables()[0].rows] == ["ada", "cyd"]
        assert [one["name"] for one in answer.result.as_json()["sites"]] == ["ada", "cyd"]


MEAN = float(np.mean([float(row[0]) for name in NAMES for row in rows_of(name)]))


def noisy(folder: Path) -> Sites:
    """The budget holds two questions of two sums."""
    standing = "statistics.standing=[describe, linear, histogram]"
    made = Sites(folder, TASK, standing, "statistics.noise_multiplier=4", "privacy.max_epsilon=2.1")
    for name in NAMES:
        (folder / f"{name}.csv").write_text(csv_of(rows_of(name)))
    return made


def test_one_record_of_each_patient_is_asked_where_patients_are_protected(tmp_path: Path) -> None:
    text = TABLE.decode().replace("model: linear", "patient: pid\nmodel: linear")
    schema = TableSchema.parse(text.encode(), "task.yaml")
    rows = [("30", "female", "a"), ("31", "female", "a"), ("60", "male", "b"), ("32", "female", "a")]
    file = tmp_path / "x.csv"

    def read(chosen: list[tuple[str, ...]]) -> list[float]:
        file.write_text("\n".join(",".join(row) for row in [("age", "sex", "pid"), *chosen]) + "\n")
        read = read_records(schema, ["age", "sex"], file, noised=True, one_each=True)
        assert read.table.noised and len(read.names) == read.table.records
        return sorted(read.table.columns["age"].tolist())

    both = read(rows)
    assert len(both) == 2 and both == read(rows[::-1])
    assert read(rows[:2] + rows[3:]) == both[:1], "who else is there changes nobody's record"
    with pytest.raises(PatientsUnknown):
        read([*rows, ("50", "male", "")])


def _ledgers_say_it(sites: Sites, first: Statistic) -> None:
    rounds = log_of(sites, "ada", "federation", "round")
    parts_of_all = [one["configuration"]["statistic"]["part"] for one in rounds]
    assert parts_of_all[:5] == ["roll call", "guard 1", "guard 1, rest", "sum 1", "sum 2"]
    asked = rounds[0]["configuration"]["statistic"]["question"]
    assert asked["kind"] == "describe" and asked["columns"] == [{"column": "age"}, {"column": "sex"}]
    assert rounds[0]["configuration"]["name"] == "describe of age, sex"
    assert rounds[0]["survivors"] == list(NAMES)
    # The small group's question: a roll call, and a guard in two rounds; no sum.
    at = next(i for i, one in enumerate(rounds) if one["configuration"]["name"] == "describe of age, ward")
    end = next(i for i, one in enumerate(rounds) if one["configuration"]["name"] == "describe of weight")
    assert parts_of_all[at:end] == ["roll call", "guard 1", "guard 1, rest"]
    assert parts_of_all[end] == "roll call" and parts_of_all[end + 1] == "roll call"
    for name in NAMES:
        asked = [one["options"] for one in log_of(sites, name, "site", "operator") if one["command"] == "stats ask"]
        allowed = [one["allowed"] for one in asked if "allowed" in one]
        assert len(allowed) == 7 and set(allowed) == {"standing"}
        assert [one["counted"] for one in asked if "counted" in one] == [1, 2, 3, 4, 4]


@pytest.mark.claim("STAT-2")
def test_were_there_no_guard_the_one_patient_would_be_counted(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.Inquiry, "refuse_small", lambda inquiry, ask, enough: None)
    (answer,) = together(sites, Describe((WARD,)))["ada"]
    assert answer.result.factors[0].counts[2] == 1


@pytest.mark.claim("STAT-4")
def test_one_sites_rules_refuse_for_all_and_nobody_learns_whose(sites: Sites) -> None:
    """Ben's records were asked about as often as is allowed, before this federation asked anything."""
    with Home.open(sites.folder / "ben", unlock=[KeyFile(sites.folder / "ben.key")]) as home:
        names = read_records(TableSchema.parse(TABLE, "task.yaml"), ["age"], sites.folder / "ben.csv").names
        for before in range(5):
            AskedOf.of(home, bytes([before]), Describe((AGE,)), names, names, 5, "peers.yaml").count()
    found = together(sites, Describe((AGE,)))
    assert isinstance(found["ben"][0], QuestionsSpent)
    for name in ("ada", "cyd"):
        (refused,) = found[name]
        assert isinstance(refused, QuestionRefused) and "ben" not in refused.render()
        assert log_of(sites, name, "site", "query") == []  # no data were bound: another question is as free as before
    assert len(log_of(sites, "ada", "federation", "round")) == 1


@pytest.mark.claim("HOME-15", "STAT-4")
def test_counts_that_are_lost_at_one_site_refuse_for_all_once_somebody_withdrew(sites: Sites) -> None:
    """Its log says how many there were. Without it the second answer told what the one who withdrew had."""
    together(sites, Describe((AGE,)))
    with opened(sites, "ben") as home:
        names = read_records(TableSchema.parse(TABLE, "task.yaml"), (), sites.folder / "ben.csv").names
        withdraw(home, names[:1], 1)
        home.place(ITEM).unlink()
    found = together(sites, Describe((AGE,)))
    assert [type(found[name][0]) for name in NAMES] == [
        QuestionsLost if name == "ben" else QuestionRefused for name in NAMES
    ]


@pytest.fixture
def alone(sites: Sites) -> Callable[..., None]:
    """Ask at one site; what is refused there is refused before the others are needed."""

    def one(statistic: Statistic, text: str = "") -> None:
        if text:
            (sites.folder / "ada.csv").write_text(text)
        with sites.joined("ada") as peer:
            peer.ask(statistic, sites.folder / "ada.csv")

    return one


def test_what_the_rules_forbid_is_refused_before_anything_leaves(sites: Sites, alone: Callable[..., None]) -> None:
    with pytest.raises(ColumnNotAsked, match="ill"):
        alone(Describe((AGE, Factor("ill", ("no", "yes")))))
    with pytest.raises(QuestionNotApproved, match="histogram of age"):
        alone(Histogram(AGE, (0.0, 50.0, 120.0)))
    with pytest.raises(QuestionTooLarge, match="5000"):
        alone(Describe((AGE, WEIGHT), bins=4096))
    with pytest.raises(QuestionUnfit, match="columns are not as"):  # another version of the schema
        alone(Describe((Quantity("age", 0.0, 130.0),)))
    with pytest.raises(MissingColumn, match="sex"):
        alone(Describe((AGE, SEX)), "age,ward\n50,north\n")
    assert log_of(sites, "ada", "federation", "round") == []
