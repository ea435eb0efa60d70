"""What needs no process: numbers that are read, lines that are told, the table at the end."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import shlex
import statistics
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import click
import numpy as np
import pytest

from p2pfl.cli import demo
from p2pfl.cli.completion import _put
from p2pfl.cli.demo import _place, _temporary
from p2pfl.cli.demo.outcome import demo_facts, demo_text
from p2pfl.cli.firewall import firewall_lines
from p2pfl.cli.inputs import check_room, own_values, parts, read_off, summed_decimals
from p2pfl.cli.interrupts import INTERRUPTS
from p2pfl.cli.join_facts import _metric as metric_facts
from p2pfl.cli.joining import Access, ProxyChoice
from p2pfl.cli.main import run
from p2pfl.cli.options import _write_whole, key_command, reserved, typed, write_over
from p2pfl.cli.output import aligned, amount, counted, duration
from p2pfl.cli.stats.asking import _asked_there as question_there
from p2pfl.cli.stats.kinds import asking_command
from p2pfl.cli.status import worker
from p2pfl.cli.sum import _asked_there as sum_there
from p2pfl.cli.watch import Here, Watch
from p2pfl.cli.wording import bounded, dense_bytes, join_text, meaning, spent_text
from p2pfl.errors import federation as leaves
from p2pfl.errors import people
from p2pfl.errors import round as rounds
from p2pfl.errors.mesh import KeyNotListed
from p2pfl.errors.people import NoRoomForDecimals, ValueTooFine
from p2pfl.errors.sharing import ValueOverLimit
from p2pfl.errors.training import DataNotText
from p2pfl.federation import Federation
from p2pfl.node.progress import (
    NO_PORT,
    AttemptAbandoned,
    ChangeApproved,
    EpochBegan,
    LinkCameUp,
    LinkRefused,
    LinkWentDown,
    Listening,
    PassCharged,
    PassTrained,
    PhaseEntered,
    Progress,
    RoundFinal,
    RoundLeft,
    RoundsTakenOver,
    RuleBroken,
    StillWaiting,
)
from p2pfl.node.runs.metric import MEASURED_BEFORE, NOT_ALL_THERE, OTHER_SITES, metrics_of
from p2pfl.node.runs.results import SumResult, TrainResult
from p2pfl.node.runs.sums import encode
from p2pfl.peer import Peer
from p2pfl.roster import Address, Member, Roster
from tests.federation.sample import NAMES, peers_yaml

ROUND = RoundFinal(
    round=2,
    rounds=9,
    survivors=list(NAMES),
    outcome={"metric": "auc", "figures": {"auc": ["0.871000", "", ""]}},
    epsilon=dict.fromkeys(NAMES, "2.13"),
    configuration={"purpose": "training"},
    seconds=41.0,
    bytes_sent=3_100_000,
    payload_bytes=1000,
    taken_up=False,
)
DOCUMENTED = {
    "peers",
    "rounds_completed",
    "metric",
    "epsilon",
    "delta",
    "noise_multiplier",
    "max_grad_norm",
    "bytes_sent_per_peer",
    "dense_bytes_per_peer",
    "traffic_reduction",
    "field",
    "quorum",
    "survivors_per_round",
    "ledger",
    "tls",
    "dataset",
    "wall_s",
}


def watching(tmp_path: Path) -> tuple[Watch, list[str], list[float]]:
    lines: list[str] = []
    clock = [0.0]
    roster = Federation.parse(peers_yaml()).roster
    watch = Watch(
        roster,
        "p2pfl join --peers {peers} --data their.csv",
        max_epsilon=4.0,
        tell=lines.append,
        now=lambda: clock[0],
    )
    return watch, lines, clock


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_value_is_an_exact_decimal_and_a_dash_reads_it_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_values("61000.50", None, None) == [Decimal("61000.50")]
    monkeypatch.setattr("sys.stdin", io.StringIO("52000\n"))
    assert own_values("-", None, None) == [Decimal(52000)]


def test_a_file_without_a_header_is_told_so_and_no_number_of_it_is_repeated(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("52000,1\n61000,2\n")
    with pytest.raises(people.NoSuchColumn) as caught:
        own_values(None, file, "salary")
    assert "52000" not in caught.value.render()
    assert "a header is missing" in caught.value.evidence


def test_a_cell_too_long_for_a_csv_is_an_error_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('salary\n"' + "1" * 200_000 + '"\n')
    with pytest.raises(DataNotText):
        own_values(None, file, "salary")


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_a_columns_blank_cells_are_no_numbers_and_are_not_counted(tmp_path: Path, between: str) -> None:
    """Semicolons and tabs separate cells as they do for a training: a spreadsheet's export had no such column."""
    file = tmp_path / "a.csv"
    file.write_text("age,chol\n50,200\n60,\n70,?\n40,240.5\n".replace(",", between))
    assert own_values(None, file, "chol") == [Decimal(200), Decimal("240.5")]


@pytest.mark.claim("CLI-2")
@pytest.mark.parametrize(("cells", "line"), [("200\nhigh", 3), ("2,5", 2), ("nan1", 2), ("1\n\n2,", 4)])
def test_a_cell_that_is_no_number_is_named_by_line_and_not_repeated(tmp_path: Path, cells: str, line: int) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"chol\n{cells}\n")
    with pytest.raises(people.ValueNotANumber) as caught:
        own_values(None, file, "chol")
    assert caught.value.fields["place"] == f"{file}:{line}"
    assert "high" not in caught.value.render()


@pytest.mark.parametrize(
    "given",
    [
        (None, None, None),
        ("1", Path("a"), "b"),
        (None, Path("a"), None),
        ("1", None, "b"),
    ],
)
def test_neither_or_both_ways_to_give_a_number_are_refused(given: tuple[str | None, Path | None, str | None]) -> None:
    with pytest.raises(people.NothingToSum):
        own_values(*given)


@pytest.mark.parametrize("value", ["", "1e5", "0x10", "1_000", "inf", "nan", "1,5", "9" * 21])
def test_what_is_no_plain_decimal_is_refused(value: str) -> None:
    with pytest.raises(people.ValueNotANumber):
        own_values(value, None, None)


def test_a_missing_file_and_a_missing_column_say_so(tmp_path: Path) -> None:
    with pytest.raises(people.NotReadable):
        own_values(None, tmp_path / "a.csv", "chol")
    (tmp_path / "a.csv").write_text("age\n1\n")
    with pytest.raises(people.NoSuchColumn) as caught:
        own_values(None, tmp_path / "a.csv", "chol")
    assert "age" in caught.value.evidence


@pytest.mark.parametrize(("statistic", "wanted"), [("mean", "3"), ("sum", "9"), ("count", "3"), ("variance", "7")])
def test_the_statistic_of_three_sites_is_that_of_their_values_together(statistic: str, wanted: str) -> None:
    sites = [parts(statistic, [Decimal(value)], 0) for value in ("1", "2", "6")]
    total = [sum(column, Decimal(0)) for column in zip(*sites, strict=True)]
    assert read_off(statistic, total) == Decimal(wanted)


def test_the_variance_of_values_that_lie_close_together_is_exact() -> None:
    """Sums of squares that were rounded like the values told 0.109 in place of 0.0000385."""
    sites = [
        ["100.1234", "100.1312", "100.1291", "100.1265"],
        ["100.1444", "100.1377", "100.1302", "100.1288"],
        ["100.1391", "100.1333", "100.1319", "100.1404"],
    ]
    digits = summed_decimals("variance", 4)
    made = [
        encode(
            parts("variance", [Decimal(one) for one in values], 4),
            peers=3,
            bits=61,
            limit=None,
            decimals=digits,
            draw=os.urandom,
        )
        for values in sites
    ]
    reading = made[0].reading
    total = reading.read(reading.field.sum([one.vector.words for one in made]))
    found = read_off("variance", [Decimal(str(one)) for one in total])
    assert math.isclose(found, statistics.variance(float(one) for values in sites for one in values), rel_tol=1e-9)


def test_a_variance_of_values_finer_than_what_is_summed_is_refused() -> None:
    with pytest.raises(ValueTooFine, match="4 digits"):
        parts("variance", [Decimal("100.1234"), Decimal("1")], 3)
    assert parts("variance", [Decimal("100.1000")], 1)[0] == Decimal("100.1")


@pytest.mark.parametrize(
    ("statistic", "decimals", "fits"),
    [("variance", 6, 5), ("variance", 9, 5), ("variance", 5, None), ("mean", 9, None)],
)
def test_what_has_no_room_in_a_sum_is_said_with_the_digits_that_have(
    statistic: str, decimals: int, fits: int | None
) -> None:
    """Also of a value with as many digits as one may have; what is let through can be summed."""
    values = [Decimal("180.12346")] * 50

    def summed(digits: int) -> None:
        mine = parts(statistic, values, digits)
        encode(mine, peers=5, bits=61, limit=None, decimals=summed_decimals(statistic, digits), draw=os.urandom)

    if fits is None:
        check_room(statistic, values, decimals, 5)
        summed(decimals)
        return
    with pytest.raises(ValueOverLimit):
        summed(decimals)
    with pytest.raises(NoRoomForDecimals) as caught:
        check_room(statistic, values, decimals, 5)
    assert f"--decimals {fits}" in (caught.value.suggestion or "")
    summed(fits)
    with pytest.raises(NoRoomForDecimals):
        check_room("sum", [Decimal("9" * 20 + "." + "9" * 20)], 2, 5)


def test_no_site_waits_for_one_whose_numbers_have_no_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even a home is opened."""
    (tmp_path / "peers.yaml").write_bytes(peers_yaml())
    file = tmp_path / "x.csv"
    file.write_text("x\n" + "180.123456\n" * 50)
    asked = ["sum", "--peers", str(tmp_path / "peers.yaml"), "--home", str(tmp_path / "none"), "--csv", str(file)]
    assert run([*asked, "--column", "x", "--stat", "variance", "--decimals", "6"]) == 2
    assert "P2P-USE-038" in capsys.readouterr().err
    file.write_text("x\n1.123456\n")
    assert run([*asked, "--column", "x", "--stat", "variance", "--decimals", "6"]) == 2
    told = capsys.readouterr().err
    assert "P2P-HOME-001" in told and "the squares of each site may add up to 384307 at most" in told


def test_a_count_opens_the_count_alone() -> None:
    assert parts("count", [Decimal(3), Decimal(4)], 2) == (Decimal(2),)


# ── lines ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_round_is_one_line_with_numbers_units_and_what_they_are_compared_to(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    large = {"purpose": "training", "parameters": 77_250_000}
    watch(replace(ROUND, configuration=large))
    watch(replace(ROUND, round=3, outcome={"metric": "auc", "figures": {"auc": ["0.875", "", ""]}}))
    assert lines[0] == (
        "round 2  3 of 3 sites  AUC before it 0.871  ε 2.13 of 4.00  sent 3.1 MB (dense 412 MB, -99.2 %)  41.0 s"
    )
    assert "0.875 (+0.004)" in lines[1]
    assert "dense" not in lines[1]


def test_a_round_that_measures_nothing_says_why_and_names_who_is_away(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    for unmeasured, there in ((NOT_ALL_THERE, NAMES[:1]), (MEASURED_BEFORE, NAMES)):
        outcome = {"metric": "auc", "figures": {}, "unmeasured": unmeasured}
        watch(replace(ROUND, outcome=outcome, survivors=list(there)))
    assert f"  no AUC: {NOT_ALL_THERE} ({NAMES[1]}, {NAMES[2]} away)  " in lines[0]
    assert f"  no AUC: {MEASURED_BEFORE}  " in lines[1]


def test_a_training_whose_last_model_was_not_measured_says_why_and_who_was_away() -> None:
    """In the lines at its end, and in its JSON; of one that was, nothing."""
    measured = {"metric": "auc", "figures": {"auc": ["0.871", "", ""]}, "private": False}
    outcomes = [measured, {"metric": "auc", "figures": {}, "unmeasured": NOT_ALL_THERE}]
    purposes, told = ("training", "evaluation"), []
    for outcome, away in ((outcomes[1], [NAMES[2]]), (outcomes[0], [])):
        records: list[dict[str, object]] = [
            {"round": number, "configuration": {"purpose": purpose}, "outcome": one, "left_out": out}
            for number, purpose, one, out in ((1, purposes[0], outcomes[0], []), (2, purposes[1], outcome, away))
        ]
        result = TrainResult(1, np.zeros(1, np.float32), metrics_of(records), 1.0, 1e-5, records, "", None)
        told.append(metric_facts(result, ()))
    assert [one["unmeasured"] for one in told] == [{"why": NOT_ALL_THERE, "away": [NAMES[2]]}, None]
    spent = {"epsilon": 1.0, "max_epsilon": 4.0, "delta": 1e-5}
    rest = {
        "rounds_completed": 1,
        "rounds_here": 1,
        "ended": None,
        "bytes_sent": 1,
        "payload_sent": 1,
        "dense_bytes": 1,
        **spent,
    }
    ledger = {"verified": True, "entries": 3, "root": "ab"}
    last, first = (join_text({"name": "charite", "metric": one, "ledger": ledger, **rest}) for one in told)
    line = f"0.871 → not measured on the held-out records of all sites: {NOT_ALL_THERE} ({NAMES[2]} away)\n"
    assert line in last and "away" not in first


def test_a_figure_is_compared_with_the_last_one_that_was_measured(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(ROUND)
    watch(replace(ROUND, outcome={"metric": "auc", "figures": {}, "unmeasured": NOT_ALL_THERE}, survivors=[NAMES[0]]))
    watch(replace(ROUND, outcome={"metric": "auc", "figures": {"auc": ["0.875", "", ""]}}))
    assert "AUC before it 0.875 (+0.004)" in lines[2]


def test_who_is_away_is_of_the_epoch_that_the_round_is_of(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    first, fay = Federation.parse(peers_yaml()).roster, Member("fay", b"f" * 32, ())
    watch(EpochBegan(2, (*NAMES, "fay"), Roster(2, (*first.members, fay))))
    watch(replace(ROUND, outcome={"metric": "auc", "figures": {}, "unmeasured": OTHER_SITES}))
    assert f"no AUC: {OTHER_SITES} (fay away)" in lines[-1]


def test_a_sum_has_no_metric_and_no_reason_for_none(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(
        replace(ROUND, configuration={"purpose": "sum", "name": "beds"}, outcome={}, survivors=[NAMES[0]], epsilon={})
    )
    assert "no " not in lines[0] and "away" not in lines[0]


def test_the_line_of_a_round_that_was_taken_up_says_since_when_it_counts(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(replace(ROUND, taken_up=True))
    assert lines[0].endswith("sent 3.1 MB  41.0 s, both since it was taken up here")


def test_a_join_that_was_started_again_says_in_which_rounds_it_sent_that_much() -> None:
    facts = {
        **told_by(3_100_000),
        "name": "ada",
        "ended": None,
        "max_epsilon": 4.0,
        "delta": 1e-5,
        "dense_bytes": 9_000,
    }
    assert " since this start" not in join_text(facts)
    assert "), in the 3 rounds since this start\n" in join_text({**facts, "rounds_here": 3})


@pytest.mark.claim("PLAIN-1")
def test_a_training_without_privacy_says_so_in_every_line_that_would_say_epsilon(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(replace(ROUND, epsilon={"charite": "inf", "uppsala": "inf"}))
    assert "NO privacy" in lines[0] and "ε" not in lines[0]
    facts = {"epsilon": bounded(math.inf), "max_epsilon": bounded(math.inf), "delta": 1e-5}
    assert json.loads(json.dumps(facts))["epsilon"] is None
    assert spent_text(facts).startswith("NONE: trained without differential privacy")
    assert spent_text({**facts, "epsilon": 1.0}) == "ε 1.00 of no limit at δ 1e-05"


def test_waiting_for_a_site_never_seen_leads_to_doctor(tmp_path: Path) -> None:
    """The hint comes when the wait is said a second time."""
    watch, lines, clock = watching(tmp_path)
    for clock[0] in (0.0, 40.0):
        watch(StillWaiting(1, "share", {"uppsala": "its bundle"}, {"uppsala": None}))
    assert [line.split()[0] for line in lines] == ["waiting", "waiting", "p2pfl"]


def test_the_hint_to_doctor_names_the_study_and_the_home_of_this_process(tmp_path: Path) -> None:
    lines, clock = list[str](), [0.0]
    here = Here(tmp_path / "other peers.yaml", tmp_path / "home")
    watch = Watch(Federation.parse(peers_yaml()).roster, "x", here=here, tell=lines.append, now=lambda: clock[0])
    for clock[0] in (0.0, 40.0):
        watch(StillWaiting(1, "share", {"uppsala": "its bundle"}, {"uppsala": None}))
    words = f"p2pfl doctor --peers '{tmp_path}/other peers.yaml' --home {tmp_path / 'home'}, in another terminal"
    assert lines[-1].startswith(words)


def test_the_others_are_told_all_that_must_be_the_same_there(tmp_path: Path) -> None:
    assert sum_there("mean", None, None, 2, None) == "p2pfl sum --peers {peers} --value -"
    told = sum_there("variance", "a {b}", Decimal("1e3"), 0, "age")
    assert shlex.split(told.format(peers="p.yaml"))[2:] == [
        *("--peers", "p.yaml", "--csv", "THEIR.csv", "--column", "age"),
        *("--stat", "variance", "--name", "a {b}", "--limit", "1E+3", "--decimals", "0"),
    ]
    assert run(["stats", "describe", "--help"]) == 0
    context = click.Context(asking_command("quantiles"), info_name="quantiles")
    context.command.parse_args(
        context,
        [
            "--column",
            "max pulse",
            "--probabilities",
            "0.5",
            "--probabilities",
            "0.9",
            "--data",
            "own.csv",
            "--home",
            "h",
        ],
    )
    assert (
        question_there(context, "quantiles") == "quantiles --column 'max pulse' --probabilities 0.5 --probabilities 0.9"
    )


@pytest.mark.parametrize("where", ["p2pfl sum", "p2pfl stats", "Peer.sum", "Peer.ask", "the guide"])
def test_what_no_lock_can_see_is_said_where_people_ask(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Data of which one record has changed are new ones: the lock on them holds no longer."""
    if where.startswith("p2pfl"):
        assert run([where.split()[1], "--help"]) == 0
        text = capsys.readouterr().out
    elif where == "the guide":
        text = (Path(__file__).parents[2] / "docs" / "guide" / "statistics.md").read_text(encoding="utf-8")
    else:
        text = getattr(Peer, where.split(".")[1]).__doc__ or ""
    said = " ".join(text.split())
    assert re.search(r"of which one (number )?has changed (since )?are new (ones|data), and no program can tell", said)
    assert "away" in said


def test_who_was_never_seen_is_named_with_what_to_tell_them(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(StillWaiting(1, "share", {"uppsala": "its bundle"}, {"uppsala": None}))
    assert lines == [
        "waiting for uppsala: never seen (listed at 10.0.0.1:7002); there, run: "
        "p2pfl join --peers peers.yaml --data their.csv"
    ]


def test_a_site_that_runs_under_another_file_is_not_told_to_start(tmp_path: Path) -> None:
    watch, lines, clock = watching(tmp_path)
    watch(LinkRefused("uppsala", rounds.PeersFileDiffers(peer="uppsala", evidence="yours 0a, theirs 0b")))
    watch(StillWaiting(1, "share", {"uppsala": "its bundle"}, {"uppsala": None}))
    assert lines[-1] == "waiting for uppsala: it is there, and no link comes up: P2P-ROUND-033, above"
    watch(LinkCameUp("uppsala", "TLSv1.3", "c", "g", "direct", ""))
    clock[0] = 40.0
    watch(StillWaiting(1, "share", {"uppsala": "its bundle"}, {"uppsala": 75.0}))
    assert "last seen 75 s ago" in "".join(lines[-2:])


def test_who_fell_silent_is_named_with_when_and_why(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(LinkCameUp("uppsala", "TLSv1.3", "c", "g", "direct", ""))
    watch(LinkWentDown("uppsala", "closed by the far end"))
    assert len(lines) == 1
    watch(StillWaiting(1, "share", {"uppsala": "its root"}, {"uppsala": 75.0}))
    assert "is down: closed by the far end" in lines[1]
    assert "last seen 75 s ago" in lines[2]
    watch(LinkCameUp("uppsala", "TLSv1.3", "c", "g", "direct", ""))
    assert lines[3] == "link to uppsala is back"


def test_a_link_that_is_back_before_anybody_waits_is_no_news(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    up = LinkCameUp("uppsala", "TLSv1.3", "c", "g", "direct", "")
    for told in (up, LinkWentDown("uppsala", "cut"), up):
        watch(told)
    assert len(lines) == 1


def test_the_same_waiting_is_said_again_only_after_a_while(tmp_path: Path) -> None:
    watch, lines, clock = watching(tmp_path)
    told = StillWaiting(1, "share", {"uppsala": "its bundle"}, {"uppsala": 2.0})
    watch(told)
    watch(told)
    assert lines == ["waiting for uppsala: its bundle has not come yet"]
    clock[0] = 31.0
    watch(told)
    assert len(lines) == 2


def test_a_refused_link_shows_the_whole_error(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    error = leaves.TooFewPeers(evidence="two", count=2)
    watch(LinkRefused("uppsala", error))
    assert "P2P-FED-011" in lines[0]
    assert "try" in lines[0]


def test_a_round_left_behind_says_who_lacked_and_what_was_sent(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(RoundLeft(4, 1, lacking=["st-olav", "uppsala"], sent=True))
    watch(RoundLeft(5, 0, lacking=[], sent=False))
    assert lines == [
        "round 4  attempt 1 left behind, waiting for st-olav, uppsala; what this site sent is spent, "
        "and its sum may still come out",
        "round 5  attempt 0 left behind; nothing was sent",
    ]


def test_an_attempt_that_no_site_held_up_names_none(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(AttemptAbandoned(4, 1, ["st-olav", "uppsala"]))
    watch(AttemptAbandoned(4, 2, []))
    assert lines == [
        "round 4  attempt 1 abandoned, waiting for st-olav, uppsala; nothing is lost",
        "round 4  attempt 2 abandoned; nothing is lost",
    ]


def test_a_site_without_a_port_says_so(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(Listening(NO_PORT))
    watch(Listening("127.0.0.1:7401"))
    assert lines == ["no port: this site dials the others", "listening at 127.0.0.1:7401"]


def test_an_error_that_ended_a_link_is_told_in_one_sentence(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(LinkWentDown("uppsala", KeyNotListed(peer="uppsala", evidence="").happened))
    watch(StillWaiting(1, "share", {"uppsala": "its root"}, {"uppsala": 75.0}))
    assert lines[0].endswith("; it is dialled again")
    assert ".;" not in lines[0]


def test_a_change_is_due_after_the_round_under_way_and_never_before_a_past_one(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    fay = {"added": ["fay"], "removed": [], "rotated": [], "hub": None, "recovered": ["dot"]}
    watch(PhaseEntered(30, 0, "share"))
    for from_round in (2, 30, 31):
        watch(ChangeApproved(2, from_round, **fay))
    assert lines == [
        "approved: epoch 2, with one of the next rounds: fay joins, dot goes on from an older home",
        "approved: epoch 2, with one of the next rounds: fay joins, dot goes on from an older home",
        "approved: epoch 2, not before round 31: fay joins, dot goes on from an older home",
    ]


def test_a_newcomer_is_told_of_the_file_of_its_own_epoch(tmp_path: Path) -> None:
    """The others go on with the file that they have; a site that has joined since is in none of an earlier epoch."""
    watch, lines, _ = watching(tmp_path)
    first = Federation.parse(peers_yaml()).roster
    fay = Member("fay", bytes(31) + b"\x07", (Address("10.0.0.1", 7009),))
    watch(EpochBegan(2, (*NAMES, "fay"), Roster(2, (*first.members, fay))))
    watch(StillWaiting(31, "share", {}, {"fay": None, "uppsala": None}))
    assert lines[1:] == [
        "waiting for fay: never seen (listed at 10.0.0.1:7009); there, run: p2pfl join --peers peers-2.yaml --data "
        "their.csv   (peers-2.yaml: of epoch 2, by p2pfl peers adopt CHANGE -o peers-2.yaml)",
        "waiting for uppsala: never seen (listed at 10.0.0.1:7002); there, run: p2pfl join --peers peers.yaml --data "
        "their.csv",
    ]


def test_a_host_of_several_sites_is_named_once_to_the_firewall() -> None:
    first = Federation.parse(peers_yaml()).roster
    assert " ".join(firewall_lines(first)[0].split()) == (
        "charite in TCP 7000 from 10.0.0.1 out TCP to 10.0.0.1:7001 (st-olav), 10.0.0.1:7002 (uppsala)"
    )


def test_rounds_that_are_taken_over_are_told_with_whose_ledger_they_came_from(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(RoundsTakenOver(12, "st-olav"))
    assert lines == ["round 12  taken over from st-olav: finished while this site was away"]


def test_a_breach_is_one_line_with_who_what_and_where_its_proof_is(tmp_path: Path) -> None:
    watch, lines, _ = watching(tmp_path)
    proven = rounds.ProvenLiar(peer="uppsala", evidence="Ready, Ready; shown by\nst-olav")
    watch(RuleBroken("uppsala", proven, "0123456789abcdef"))
    words = rounds.BulkRejected(peer="uppsala", evidence="chunk 3")
    watch(RuleBroken("uppsala", words, ""))
    assert lines == [
        "uppsala broke the protocol: letters under its own signature prove it, to anyone "
        "(P2P-ROUND-019: Ready, Ready; shown by st-olav); proof 0123456789abcdef: p2pfl ledger evidence",
        "uppsala sent masked words that do not match what it signed (P2P-ROUND-007: chunk 3); "
        "no proof that others could check",
    ]


def test_a_liar_that_goes_on_and_on_fills_no_screen(tmp_path: Path) -> None:
    watch, lines, clock = watching(tmp_path)
    for number in range(100):
        error = rounds.MalformedMessage(peer="uppsala", evidence=f"letter {number}")
        watch(RuleBroken("uppsala", error, ""))
    assert len(lines) == 1
    other = rounds.MalformedMessage(peer="st-olav", evidence="letter 0")
    watch(RuleBroken("st-olav", other, ""))
    assert len(lines) == 2
    clock[0] = 31.0
    watch(RuleBroken("uppsala", error, ""))
    assert "letter 99" in lines[2]


@pytest.mark.parametrize(
    "event", [PhaseEntered(1, 0, "share"), PassTrained(1, 2.5), PassCharged(1, "0.5", "4.0")], ids=lambda one: one.kind
)
def test_what_is_no_news_prints_nothing(tmp_path: Path, event: Progress) -> None:
    watch, lines, _ = watching(tmp_path)
    watch(event)
    assert lines == []


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────


def told_by(sent: int, root: str = "ab" * 32) -> dict[str, object]:
    return {
        "bytes_sent": sent,
        "payload_sent": sent // 2,
        "rounds_completed": 8,
        "rounds_here": 8,
        "parameters": 32,
        "epsilon": 2.6,
        "epsilon_alone": None,
        "metric": {
            "name": "AUC",
            "figure": "auc",
            "initial": 0.5,
            "final": 0.88,
            "figures": {"auc": {"value": 0.88, "low": 0.85, "high": 0.91}},
        },
        "survivors_per_round": [list(NAMES)] * 8,
        "ledger": {"verified": True, "entries": 10, "root": root},
        "tls": {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "group": "X25519MLKEM768"},
    }


def facts_of(tmp_path: Path, *roots: str, settings: tuple[str, ...] = (), **said: object) -> dict[str, object]:
    """`said`: what each site says otherwise."""
    (tmp_path / "peers.yaml").write_bytes(peers_yaml(*settings))
    results = {name: told_by(1000, root) | said for name, root in zip(NAMES, roots, strict=True)}
    records = dict.fromkeys(NAMES, 100)
    return demo_facts(tmp_path / "peers.yaml", "UCI", records, results, dict.fromkeys(NAMES, 0.8), 12.3)


def test_the_demos_json_has_every_documented_key(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, *["ab" * 32] * 3)
    assert set(facts) >= DOCUMENTED
    assert facts["dense_bytes_per_peer"] == dense_bytes(3, 32, 8) == round(2 * 2 / 3 * 4 * 32 * 8)
    page = (Path(__file__).parents[2] / "docs/reference/json.md").read_text()
    section = page.partition("`p2pfl demo --json`")[2].partition("\n## ")[0]
    assert all(f"`{key}`" in section for key in facts)


def test_roots_that_differ_and_a_ledger_that_does_not_verify_cannot_be_overlooked(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, "ab" * 32, "ab" * 32, "cd" * 32)
    assert facts["ledger"]["identical_roots"] is False  # type: ignore[index]
    assert "THE ROOTS DIFFER" in demo_text(facts, "said", None)


def test_the_table_says_what_epsilon_means_in_one_plain_sentence(tmp_path: Path) -> None:
    text = demo_text(facts_of(tmp_path, *["ab" * 32] * 3), "said", None)
    assert "13.5 times likelier" in " ".join(text.split())
    assert meaning(2.6, 1e-5).count(".") == 2  # of the numbers only: it is one clause
    assert "too small to compress" in text


def test_a_demo_without_privacy_says_so_and_its_json_has_no_infinity(tmp_path: Path) -> None:
    """It trained to the end, and then failed at the table."""
    facts = facts_of(tmp_path, *["ab" * 32] * 3, settings=("privacy=none",), epsilon=None)
    text = " ".join(demo_text(facts, "said", None).split())
    assert "0.880 without privacy" in text and "privacy NONE: trained without differential privacy" in text
    told = json.loads(json.dumps(facts, allow_nan=False))
    assert [told[key] for key in ("epsilon", "max_epsilon", "max_grad_norm")] == [None] * 3


def test_a_demo_with_noise_in_parts_says_what_holds_against_all_other_sites(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, *["ab" * 32] * 3, epsilon_alone=7.25)
    assert facts["epsilon_alone"] == 7.25
    assert "against all other sites together ε 7.25 (noise" in demo_text(facts, "said", None)


def test_the_demos_table_fits_a_terminal_and_says_who_was_away(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, *["ab" * 32] * 3)
    facts["survivors_per_round"] = [list(NAMES)] * 2 + [list(NAMES[:2])] * 6
    facts["metric"] |= {"final": None}  # type: ignore[operator]
    text = demo_text(facts, "said", tmp_path)
    assert f"survivors   rounds 3 to 8 without {NAMES[2]}\n" in text
    assert "0.500 → not measured   with privacy\n  (a figure is taken over all sites or none" in text
    assert f"p2pfl report --home {tmp_path / NAMES[0] / 'home'}" in text
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 95


def test_amounts_durations_and_columns_read_as_people_write_them() -> None:
    assert [amount(count) for count in (0, 812, 3_100, 412e6, 2.5e9)] == ["0 B", "812 B", "3.1 kB", "412 MB", "2.5 GB"]
    assert [duration(seconds) for seconds in (41, 200, 7500)] == ["41 s", "3 min 20 s", "2 h 5 min"]
    assert [counted(1, "entry"), counted(0, "entry"), counted(2, "key"), counted(3, "pass"), counted(2, "study")] == [
        *("1 entry", "0 entries", "2 keys", "3 passes", "2 studies")
    ]
    assert aligned([["a", "1"], ["bbb", "22"]], right=[1]) == "a     1\nbbb  22"


# ── a sum ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_is_told_before_the_wait_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So Ctrl-C during that wait does not lose it; and only then the home lets go of it."""

    class Summed:
        async def sum(self, *_: object, **__: object) -> SumResult:
            return SumResult((Decimal(36), Decimal(3)), NAMES, 1, 3)

        async def forget_answer(self) -> None:
            told.append(capsys.readouterr().out)

    told: list[str] = []

    @asynccontextmanager
    async def join(*_: object, **__: object) -> AsyncIterator[Summed]:
        yield Summed()
        assert ["mean 12.00 over 3 sites" in line for line in told] == [True]
        raise KeyboardInterrupt

    monkeypatch.setattr(Access, "join", join)
    (tmp_path / "peers.yaml").write_bytes(peers_yaml())
    assert run(["sum", "--peers", str(tmp_path / "peers.yaml"), "--home", str(tmp_path), "--value", "12"]) == 130
    assert not capsys.readouterr().out


def test_a_sum_that_nobody_read_stays_in_the_home_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was let go of as if it had been told, and the exit status said that all was well."""

    class Summed:
        async def sum(self, *_: object, **__: object) -> SumResult:
            return SumResult((Decimal(36), Decimal(3)), NAMES, 1, 3)

        async def forget_answer(self) -> None:
            raise AssertionError("it was forgotten")

        def keep_answer(self) -> None:
            kept.append(True)

    @asynccontextmanager
    async def join(*_: object, **__: object) -> AsyncIterator[Summed]:
        yield Summed()

    kept = list[bool]()
    monkeypatch.setattr(Access, "join", join)
    (tmp_path / "peers.yaml").write_bytes(peers_yaml())
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        monkeypatch.setattr("sys.stdout", nobody)
        assert run(["sum", "--peers", str(tmp_path / "peers.yaml"), "--home", str(tmp_path), "--value", "12"]) == 1
    assert kept == [True]
    assert "the same command tells the answer" in capsys.readouterr().err


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_command_is_quoted_as_in_a_shell_and_a_quote_left_open_is_wrong_use() -> None:
    assert key_command("'/opt/my tool/key' --slot 1").arguments == ("/opt/my tool/key", "--slot", "1")
    with pytest.raises(people.WrongUse) as caught:
        key_command("'/opt/my tool")
    assert "no closing quotation" in caught.value.evidence


def test_what_is_replaced_keeps_its_mode_its_link_and_its_neighbours(tmp_path: Path) -> None:
    """It removed FILE.new, whosever that was, and left a file that all may read in place of the link."""
    real, link, neighbour = tmp_path / "real", tmp_path / "link", tmp_path / "link.new"
    real.write_bytes(b"before")
    real.chmod(0o600)
    neighbour.write_bytes(b"another's")
    link.symlink_to(real)
    write_over(link, b"after")
    assert (real.read_bytes(), real.stat().st_mode & 0o777, link.is_symlink()) == (b"after", 0o600, True)
    assert neighbour.read_bytes() == b"another's"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "link.new", "real"]


def test_what_is_no_plain_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, tmp_path / "none" / "file"):
        with pytest.raises(people.NotWritten):
            write_over(place, b"after")
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"] and (tmp_path / "pipe").is_fifo()


def test_a_reserved_file_is_gone_when_the_process_is_left_past_all_its_blocks(tmp_path: Path) -> None:
    """An interrupt during an import leaves at once: an empty report was in the way of the next one."""
    with reserved(tmp_path / "report.html"):
        assert INTERRUPTS.before_leaving is not None
        INTERRUPTS.before_leaving()
        assert not list(tmp_path.iterdir())
    assert INTERRUPTS.before_leaving is None
    with reserved(tmp_path / "report.html", 0o600) as write:
        write(b"whole")
        assert INTERRUPTS.before_leaving is not None
        INTERRUPTS.before_leaving()
    assert (tmp_path / "report.html").read_bytes() == b"whole"
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o600


def test_completions_do_not_wait_for_a_pipe_that_lies_in_their_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "_p2pfl")
    with pytest.raises(people.NotWritten):
        _put(tmp_path / "_p2pfl", "script")


def test_a_file_that_cannot_be_written_whole_is_not_left_behind(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "model"
    path.touch()
    with pytest.raises(OSError, match="No space"):
        _write_whole(path, Full(), b"abc")
    assert not path.exists()


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("", None),
        ("-1", None),
        ("9" * 30, None),
        ("two", None),
        ("\xff", None),
        pytest.param(str(os.getpid()), os.getpid(), id="itself"),
    ],  # two workers must agree on the name
)
def test_the_process_at_work_is_the_one_in_the_lock_and_nonsense_is_nobody(
    tmp_path: Path, written: str, found: int | None
) -> None:
    (tmp_path / "lock").write_text(written, "latin-1")
    assert worker(tmp_path) == found


def test_a_demo_in_a_place_where_no_folder_can_be_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(people.NotWritten):
        _place(tmp_path / "file" / "demo")


@pytest.mark.parametrize("given", ["0", "-1", "nan", "soon", ""])
def test_a_wait_that_would_never_end_or_is_none_is_wrong_use(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sum", "--value", "1", "--wait", given]) == 2
    assert "--wait" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "sum --value 1 --patience nan",
        "simulate --data x.csv --epsilon nan",
        "privacy plan --epsilon nan --records 100",
    ],
)
def test_what_is_no_number_is_in_no_range(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It was taken: nan is neither below nor above a bound."""
    assert run(line.split()) == 2
    assert "is no number" in capsys.readouterr().err


def test_a_file_that_a_command_does_not_take_is_no_hint_to_an_option_that_it_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["version", "peers.yaml"]) == 2
    assert "did you mean" not in capsys.readouterr().err
    assert run(["doctor", "peers.yaml"]) == 2
    assert "did you mean --peers peers.yaml?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["simulate", "--sites", "9" * 400], "no number that one can count to"),
        (["simulate", "--sites", "5", "--plot", ""], "names no file"),
        (["privacy", "plan", "--epsilon", "1", "--records", "100", "--plot", ""], "names no file"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_computed(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == 2
    assert said in capsys.readouterr().err


def test_what_is_typed_in_another_encoding_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a bug of ours; and no byte of it is repeated."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda *_: "pass phrase \udcff")
    with pytest.raises(people.WrongUse) as caught:
        typed("pass phrase: ")
    assert "udcff" not in caught.value.render()


def test_a_line_of_stdin_that_is_too_long_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was cut, and what was left of it could be one: 1, behind 199 blanks."""
    monkeypatch.setattr("sys.stdin", io.StringIO(" " * 199 + "123\n"))
    with pytest.raises(people.ValueNotANumber):
        own_values("-", None, None)


def test_a_demo_that_is_ended_at_once_leaves_no_keys_behind() -> None:
    with ExitStack() as held:
        place = _temporary(held)
        (place / "site.key").write_text("a key")
        assert INTERRUPTS.before_leaving is not None
        INTERRUPTS.before_leaving()
        assert not place.exists()


def test_a_line_that_is_shown_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "peers.yaml").write_bytes(b"version: 1\nfederation: \x1b[2Jgone\n")
    assert run(["peers", "show", str(tmp_path / "peers.yaml")]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["sum --value 1", "join --data a.csv", "doctor"])
def test_a_password_for_a_proxy_that_nobody_names_is_wrong_use(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("P2PFL_PROXY", raising=False)
    assert run([*verb.split(), "--proxy-password", "secret"]) == 2
    told = capsys.readouterr().err
    assert "P2P-USE-001" in told
    assert "--proxy-password, and neither --proxy nor P2PFL_PROXY names a proxy" in told
    assert f"p2pfl {verb.split()[0]} --help" in told
    monkeypatch.setenv("P2PFL_PROXY", "http://proxy.example:3128")
    assert run([*verb.split(), "--peers", "nowhere.yaml", "--proxy-password", "secret"]) == 2
    assert "P2P-FED-001" in capsys.readouterr().err


def test_no_proxy_counts_for_a_proxy_of_the_command_line_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", ".mayo.example")
    monkeypatch.setenv("P2PFL_PROXY", "http://proxy.example:3128")
    for choice in (ProxyChoice("http://other.example:3128"), ProxyChoice()):
        proxy = choice.proxy()
        assert proxy is not None
        assert proxy.no_proxy.entry_for(Address("a.mayo.example", 7443)) == ".mayo.example"
        assert proxy.no_proxy.entry_for(Address("mayo.example", 7443)) is None


@pytest.mark.parametrize(
    ("ledger", "status"),
    [
        ({"verified": True, "identical_roots": True}, 0),
        ({"verified": False, "identical_roots": True}, 5),
        ({"verified": True, "identical_roots": False}, 5),
    ],
)
def test_a_demo_whose_ledgers_do_not_hold_ends_with_5(
    ledger: dict[str, bool], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It printed NOT VERIFIED and ended with 0."""
    monkeypatch.setattr(demo, "_run", lambda *given: ({}, None))
    monkeypatch.setattr(demo, "sites_alone", lambda *given: {})
    monkeypatch.setattr(demo, "demo_facts", lambda *given: {"ledger": ledger})
    monkeypatch.setattr(demo, "demo_text", lambda *given: "told")
    assert run(["demo", "--peers", "3"]) == status
