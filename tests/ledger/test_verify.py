"""What each entry claims is checked: its form, who signed it, and that it follows from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from p2pfl import merkle
from p2pfl.codec import Facts, facts, read_facts
from p2pfl.keys import Identity
from p2pfl.ledger import entry, note
from p2pfl.ledger.entry import FIRST, Entry
from p2pfl.ledger.federation_kinds import GenesisEntry
from p2pfl.ledger.log import Log
from p2pfl.ledger.site_kinds import (
    ActsEntry,
    BreachEntry,
    BudgetEntry,
    DroppedEntry,
    LeftEntry,
    MissedEntry,
    OperatorEntry,
    QueryEntry,
)
from p2pfl.ledger.verify import check_federation, check_site, verify
from tests.federation.changes import all_three as a_change
from tests.ledger.sample import (
    NAMES,
    RUN,
    SALT,
    SITES,
    Signed,
    agreement,
    ballot,
    base_of,
    charge,
    federation_records,
    filled,
    genesis,
    home,
    look,
    round_,
    signed,
    site_records,
)

KEY = SITES["charite"].key
PLACE: dict[str, Any] = {"time": 1, "salt": SALT, "run": RUN, "epoch": 1, "round": 4, "attempt": 2}


def log_of(records: Sequence[Signed]) -> list[Entry]:
    """Entries as a reader without any key would hold them."""
    entries, previous = [], FIRST
    for index, (record, signatures) in enumerate(records):
        entries.append(Entry(index, record, signatures, previous))
        previous = entries[-1].hash
    return entries


def facts_of(record: bytes) -> Facts:
    return read_facts(record)


def told(records: Sequence[Signed]) -> list[tuple[int | None, str]]:
    return [(finding.entry, finding.what) for finding in check_federation(log_of(records)) if finding.fault]


def told_of_site(*records: bytes) -> list[tuple[int | None, str]]:
    return [(finding.entry, finding.what) for finding in check_site(log_of([(record, {}) for record in records]))]


def test_a_whole_ledger_verifies_with_nothing_to_say(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        report = verify(at)
        assert (report.verified, report.findings) == (True, [])
        assert (report.federation.entries, report.federation.signed, report.site.entries) == (4, 4, 6)
        assert report.federation.root == Log.open(at, "federation").root()


def test_an_empty_home_verifies(tmp_path: Path) -> None:
    from tests.ledger.sample import home

    with home(tmp_path) as at:
        assert verify(at).findings == []


def test_verifying_changes_no_byte_of_the_home(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        before = {file: file.read_bytes() for file in at.path.rglob("*") if file.is_file()}
        verify(at)
        assert {file: file.read_bytes() for file in at.path.rglob("*") if file.is_file()} == before


@pytest.mark.claim("LEDGER-5")
def test_a_round_that_fewer_than_the_quorum_signed_is_told() -> None:
    assert told([genesis(), round_(1)]) == []
    assert told([genesis(), round_(1, NAMES[:2])]) == [(1, "round: 2 valid signatures, 3 are wanted")]


FEW = [(1, "round: 2 valid signatures, 3 are wanted")]


def test_a_round_that_few_signed_is_final_by_a_later_one() -> None:
    """By one that rests on it and that a quorum signed."""
    few = round_(1, NAMES[:2])
    assert told([genesis(), few, round_(2)]) == []
    assert told([genesis(), few, round_(2, NAMES[:1]), round_(3)]) == []
    assert told([genesis(), few, round_(2, NAMES[1:])]) == [*FEW, (2, "round: 2 valid signatures, 3 are wanted")]


def test_a_round_of_another_run_covers_nothing() -> None:
    other = round_(1, run="99" * 32)
    assert told([genesis(), round_(1, NAMES[:2]), other]) == FEW


def test_a_covered_round_is_still_told_of_when_a_signature_of_it_is_wrong() -> None:
    record, signatures = round_(1)
    swapped = {**signatures, "ucl": signatures["charite"]}
    told_of = told([genesis(), (record, swapped), round_(2)])
    assert told_of == [(1, "round: the signature of ucl is not over this record")]


def test_a_round_that_does_not_rest_on_the_one_before_it_is_told() -> None:
    at_two = "round 2 does not rest on the round before it in this log"
    for changed in ({"base": "0" * 64}, {"rests_on": 0}, {"rests_on": 0, "base": "0" * 64}):
        assert (2, at_two) in told([genesis(), round_(1), round_(2, **changed)]), changed
    assert (1, "round 1 does not rest on the round before it in this log") in told([genesis(), round_(1, rests_on=1)])


def test_a_round_that_was_slipped_in_is_covered_by_nothing() -> None:
    slipped_in = round_(1, (), salt="b" * 64)
    told_of = told([genesis(), slipped_in, round_(2)])
    assert (2, "round 2 does not rest on the round before it in this log") in told_of
    assert (1, "round: 0 valid signatures, 3 are wanted") in told_of


def test_a_round_that_was_left_behind_is_a_number_that_is_missing_and_no_fault() -> None:
    first, _ = round_(1)
    held = {"rests_on": 1, "base": base_of(first), "model_before": facts_of(first)["model_after"]}
    assert told([genesis(), round_(1), round_(3, **held)]) == []


@pytest.mark.claim("LEDGER-5")
@pytest.mark.parametrize(
    "peers",
    [
        [("charite", KEY), ("charite", bytes(range(32))), ("ucl", SITES["ucl"].key)],
        [("charite", bytes(32)), ("st-olav", KEY), ("ucl", SITES["ucl"].key)],
        [("charite", KEY), ("ucl", SITES["ucl"].key)],
    ],
    ids=["one name twice", "a key for which everybody signs", "two sites"],
)
def test_a_genesis_of_good_form_that_names_no_federation_is_told(peers: list[tuple[str, bytes]]) -> None:
    made = GenesisEntry(federation="f", epoch=1, federation_digest=bytes(32), peers=peers, settings={})
    ((number, what),) = told([(made.record, {}), round_(1)])
    assert (number, what.partition(":")[0]) == (0, "genesis")


def test_a_head_over_nothing_of_an_empty_log_is_judged(tmp_path: Path) -> None:
    """Somebody with the home's keys may have put it there: it says nothing, and one of another log is refused."""
    with home(tmp_path) as at:
        for which, of, fault in (("site", note.site_origin("charite"), False), ("federation", "p2pfl/1/x", True)):
            head = note.Head(of, 0, merkle.root([]))
            at.replace(f"ledger/{which}/head", note.sign(head, "charite", at.identity()).encode())
            assert [one.log for one in verify(at).findings if one.fault and one.log == which] == [which] * fault


def test_a_genesis_that_somebody_did_not_sign_is_told() -> None:
    record, signatures = genesis()
    assert told([(record, {name: signatures[name] for name in NAMES[:2]})]) == [(0, "genesis: not signed by ucl")]


def test_a_signature_of_a_stranger_or_over_another_record_is_told() -> None:
    record, signatures = round_(1)
    stranger = {**signatures, "mallory": Identity.generate().sign("record", record)}
    assert told([genesis(), (record, stranger)]) == [(1, "round: signed by mallory, who is not in the roster")]
    swapped = {**signatures, "ucl": signatures["charite"]}
    assert (1, "round: the signature of ucl is not over this record") in told([genesis(), (record, swapped)])
    other_kind = {name: SITES[name].sign("ballot", record) for name in NAMES}
    assert len(told([genesis(), (record, other_kind)])) == 4


def test_any_changed_digit_of_a_signed_record_is_told() -> None:
    record, signatures = round_(1)
    forged = record.replace(b'"epsilon":{"charite":"0.01"', b'"epsilon":{"charite":"0.00"')
    assert forged != record
    assert {number for number, _ in told([genesis(), (forged, signatures)])} == {1}


def test_an_unknown_kind_is_unsupported_and_not_skipped() -> None:
    unknown = signed(facts({"kind": "weather"}))
    ((number, what),) = told([genesis(), unknown])
    assert (number, what.startswith("unsupported")) == (1, True)


def test_a_log_begins_with_its_one_genesis() -> None:
    assert told([round_(1)]) == [(0, "the log begins with round, not with a genesis")]
    assert told([genesis(), genesis()]) == [(1, "a second genesis")]


def test_rounds_of_one_run_go_forward_and_rest_on_each_other() -> None:
    after_two = round_(1, rests_on=2, base=base_of(round_(2, rests_on=0, base="0" * 64)[0]))
    backwards = told([genesis(), round_(2, rests_on=0, base="0" * 64), after_two])
    assert backwards[0] == (2, "round 1 comes after round 2 of the same run")
    ((number, what),) = told([genesis(), round_(1), round_(2, model_before="a" * 64)])
    assert (number, "rests on a model" in what) == (2, True)
    other_run = round_(1, run="99" * 32, epsilon=dict.fromkeys(NAMES, ""))
    assert told([genesis(), round_(1), round_(2), other_run]) == []


def test_a_round_of_another_epoch_roster_or_size_is_told() -> None:
    cases: list[tuple[dict[str, object], str]] = [
        ({"epoch": 2}, "epoch"),
        ({"survivors": ["charite", "st-olav"]}, "quorum"),
        ({"survivors": [*NAMES, "mallory"]}, "roster"),
        ({"survivors": [*NAMES, "ucl"]}, "twice"),
    ]
    for changed, word in cases:
        found = told([genesis(), round_(1, **changed)])
        assert found, changed
        assert word in found[0][1]


@pytest.mark.claim("DP-5")
def test_an_epsilon_that_goes_down_is_told() -> None:
    sinking = round_(2, epsilon={**dict.fromkeys(NAMES, "0.5"), "ucl": "0.001"})
    ((number, what),) = told([genesis(), round_(1), sinking])
    assert (number, "ucl went down from 0.01 to 0.001" in what) == (2, True)


def test_an_agreement_is_signed_by_every_member_that_it_names() -> None:
    record = agreement()
    assert told([genesis(), signed(record)]) == []
    assert told([genesis(), signed(record, NAMES[1:])])[0] == (1, "agreement: not signed by charite")
    stranger = agreement([*NAMES, "mallory"])
    assert len(told([genesis(), signed(stranger)])) == 2
    for part in (
        agreement(NAMES[1:]),
        agreement(epoch=2),
    ):
        assert (1, "an agreement that is not of all sites of the genesis") in told([genesis(), signed(part)])


def test_a_second_other_ballot_in_one_attempt_is_told() -> None:
    yes, no = ballot(4, survivors=True).record, ballot(4, survivors=False, time=2).record
    assert told_of_site(yes, yes) == []
    assert told_of_site(yes, no) == [(1, "a second, other ballot in round 4")]
    assert told_of_site(yes, ballot(4, 1, survivors=False, time=2).record) == []


def test_a_privacy_account_that_sinks_or_passes_its_limit_is_told() -> None:
    assert told_of_site(charge("0", "1").record, charge("1", "2.5").record) == []
    assert told_of_site(charge("0", "1").record, charge("0.5", "1.5").record)[0][0] == 1
    assert told_of_site(charge("0", "1").record, charge("1", "0.9").record)[0][0] == 1
    assert told_of_site(charge("0", "3.5").record) == [(0, "epsilon 3.5 is above its limit")]


def test_an_account_of_looks_is_held_against_its_own_entries_and_against_no_charge() -> None:
    """A look that noise alone took the place of spends nothing, whatever a study with a larger limit has spent."""
    alone = look("2", "2", charged=False).record
    assert told_of_site(charge("0", "2").record, look("0", "1").record, charge("2", "3").record, alone) == []
    assert told_of_site(look("0", "1").record, look("0.5", "1").record)[0][0] == 1
    assert told_of_site(look("0", "1.5").record) == [(0, "epsilon 1.5 is above its limit")]
    assert told_of_site(look("0", "0.5", charged=False).record) == [(0, "epsilon 0.5 is above its limit")]


def test_an_entry_in_the_wrong_log_or_of_no_form_is_told() -> None:
    assert told_of_site(genesis()[0]) == [(0, "genesis does not belong in this log")]
    assert told_of_site(b"not facts")[0][1].startswith("malformed")
    assert told_of_site(facts({"kind": "weather"}))[0][1].startswith("unsupported")


def test_an_entry_of_the_site_log_in_the_federation_log_is_told() -> None:
    astray = signed(LeftEntry(**PLACE, lacking=[], sent=False).record)
    assert told([genesis(), astray, round_(1)]) == [(1, "left does not belong in this log")]


def test_a_round_left_behind_and_a_breach_are_entries_of_the_site_log() -> None:
    left = LeftEntry(**PLACE, lacking=["ucl"], sent=True).record
    proven = BreachEntry(**PLACE, peer="ucl", code="P2P-ROUND-019", proof=bytes(32)).record
    unproven = BreachEntry(**PLACE, peer="ucl", code="P2P-ROUND-007", proof=None).record
    assert told_of_site(left, proven, unproven) == []
    lines = [entry.render(one) for one in log_of([(record, {}) for record in (left, proven, unproven)])]
    assert "round 4 left behind, for want of ucl; this site's update is spent" in lines[0]
    assert "ucl broke the protocol (P2P-ROUND-019), proof 000000000000" in lines[1]
    assert lines[2].endswith("ucl broke the protocol (P2P-ROUND-007)")


@pytest.mark.parametrize("changed", [{"sent": 1}, {"lacking": ["No Name"]}, {"lacking": None}, {"attempt": -1}])
def test_a_round_left_behind_holds_whom_it_lacked_and_whether_anything_was_sent(changed: dict[str, object]) -> None:
    held = facts_of(LeftEntry(**PLACE, lacking=["ucl"], sent=True).record)
    assert told_of_site(facts({**held, **changed}))[0][1].startswith("malformed: left")


@pytest.mark.parametrize("changed", [{"peer": ""}, {"code": 19}, {"proof": ""}, {"proof": "ab"}])
def test_a_breach_holds_who_what_and_the_digest_of_its_proof_or_none(changed: dict[str, object]) -> None:
    held = facts_of(BreachEntry(**PLACE, peer="ucl", code="P2P-ROUND-019", proof=None).record)
    assert told_of_site(facts({**held, **changed}))[0][1].startswith("malformed: breach")


@pytest.mark.parametrize("index", range(4))
def test_every_federation_entry_has_a_line_for_people(index: int) -> None:
    line = entry.render(log_of(federation_records())[index])
    assert line.split()[0] == str(index)
    assert "3 sites" in line
    assert "[3 signatures]" in line


def test_every_kind_has_a_line_for_people_and_a_builder_that_its_reader_takes() -> None:
    records = [record for record, _ in [*federation_records(1), *site_records(6)]]
    made = [
        look("0", "0.5"),
        BudgetEntry(time=1, salt=SALT, run=RUN, round=9, spent="2.9", would_be="3.1", limit="3"),
        QueryEntry(time=1, salt=SALT, run=RUN, round=9, attempt=1, query="salary", data=bytes(32), members=NAMES),
        DroppedEntry(time=1, salt=SALT, log="site", segment=3, bytes=12),
        ActsEntry(time=1, salt=SALT, acts=[{"command": "withdraw", "options": {"records": 2}}]),
        ballot(survivors=False),
        LeftEntry(**PLACE, lacking=["ucl"], sent=False),
        MissedEntry(**PLACE, coordinator="ucl"),
        BreachEntry(**PLACE, peer="ucl", code="P2P-ROUND-019", proof=bytes(32)),
    ]
    records += [
        *(one.record for one in made),
        agreement(),
        a_change().record,  # written by membership.py, which is no part of this room
    ]
    assert {entry.read_record(record)["kind"] for record in records} == set(entry.KINDS)
    for index, record in enumerate(records):
        line = entry.render(Entry(index, record, {}, FIRST))
        assert "unsupported" not in line
        assert "\n" not in line


def test_a_builder_refuses_what_a_reader_would() -> None:
    with pytest.raises(ValueError, match="before"):
        _ = charge("much", "1").record
    with pytest.raises(ValueError, match="float"):
        _ = OperatorEntry(time=1, salt=SALT, command="join", options={"rate": 0.1}).record  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="salt"):
        _ = OperatorEntry(time=1, command="join", options={}).record
    with pytest.raises(ValueError, match="acts"):
        _ = ActsEntry(time=1, salt=SALT, acts=[{"command": "withdraw"}]).record
    with pytest.raises(ValueError, match="members"):
        agreement(["No Name"])
