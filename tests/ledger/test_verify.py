"""What each entry claims is checked: its form, who signed it, and that it follows from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from p2pfl.codec import facts
from p2pfl.keys import Identity
from p2pfl.ledger import entry
from p2pfl.ledger.entry import FIRST, Entry, Place, Spent
from p2pfl.ledger.log import Log
from p2pfl.ledger.verify import check_federation, check_site, verify
from tests.ledger.sample import (
    NAMES,
    RUN,
    SITES,
    Signed,
    federation_records,
    filled,
    genesis,
    round_,
    signed,
    site_records,
)


def log_of(records: Sequence[Signed]) -> list[Entry]:
    """Entries as a reader without any key would hold them."""
    entries, previous = [], FIRST
    for index, (record, signatures) in enumerate(records):
        entries.append(Entry(index, record, signatures, previous))
        previous = entries[-1].hash
    return entries


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


def test_a_round_that_fewer_than_the_quorum_signed_is_told() -> None:
    assert told([genesis(), round_(0)]) == []
    assert told([genesis(), round_(0, NAMES[:2])]) == [(1, "round: 2 valid signatures, 3 are wanted")]


def test_a_genesis_that_somebody_did_not_sign_is_told() -> None:
    record, signatures = genesis()
    assert told([(record, {name: signatures[name] for name in NAMES[:2]})]) == [(0, "genesis: not signed by ucl")]


def test_a_signature_of_a_stranger_or_over_another_record_is_told() -> None:
    record, signatures = round_(0)
    stranger = {**signatures, "mallory": Identity.generate().sign("record", record)}
    assert told([genesis(), (record, stranger)]) == [(1, "round: signed by mallory, who is not in the roster")]
    swapped = {**signatures, "ucl": signatures["charite"]}
    assert (1, "round: the signature of ucl is not over this record") in told([genesis(), (record, swapped)])
    other_kind = {name: SITES[name].sign("ballot", record) for name in NAMES}
    assert len(told([genesis(), (record, other_kind)])) == 4


def test_any_changed_digit_of_a_signed_record_is_told() -> None:
    record, signatures = round_(0)
    forged = record.replace(b'"epsilon":{"charite":"0.01"', b'"epsilon":{"charite":"0.00"')
    assert forged != record
    assert {number for number, _ in told([genesis(), (forged, signatures)])} == {1}


def test_an_unknown_kind_is_unsupported_and_not_skipped() -> None:
    unknown = signed(facts({"kind": "weather"}))
    ((number, what),) = told([genesis(), unknown])
    assert (number, what.startswith("unsupported")) == (1, True)


def test_a_log_begins_with_its_one_genesis() -> None:
    assert told([round_(0)]) == [(0, "the log begins with round, not with a genesis")]
    assert told([genesis(), genesis()]) == [(1, "a second genesis")]


def test_rounds_of_one_run_go_forward_and_rest_on_each_other() -> None:
    assert told([genesis(), round_(1), round_(0)])[0] == (2, "round 0 comes after round 1 of the same run")
    ((number, what),) = told([genesis(), round_(0), round_(2)])
    assert (number, "rests on a model" in what) == (2, True)
    other_run = round_(0, run="99" * 32, epsilon=dict.fromkeys(NAMES, ""))
    assert told([genesis(), round_(0), round_(1), other_run]) == []


def test_a_round_of_another_epoch_roster_or_size_is_told() -> None:
    cases: list[tuple[dict[str, object], str]] = [
        ({"epoch": 2}, "epoch"),
        ({"survivors": ["charite", "st-olav"]}, "quorum"),
        ({"survivors": [*NAMES, "mallory"]}, "roster"),
        ({"survivors": [*NAMES, "ucl"]}, "twice"),
    ]
    for changed, word in cases:
        found = told([genesis(), round_(0, **changed)])
        assert found, changed
        assert word in found[0][1]


def test_an_epsilon_that_goes_down_is_told() -> None:
    sinking = round_(1, epsilon={**dict.fromkeys(NAMES, "0.5"), "ucl": "0.001"})
    ((number, what),) = told([genesis(), round_(0), sinking])
    assert (number, "ucl went down from 0.01 to 0.001" in what) == (2, True)


def test_an_agreement_is_signed_by_every_member_that_it_names() -> None:
    record = entry.agreement(epoch=1, sha256=bytes(32), members=NAMES)
    assert told([genesis(), signed(record)]) == []
    assert told([genesis(), signed(record, NAMES[1:])])[0] == (1, "agreement: not signed by charite")
    stranger = entry.agreement(epoch=1, sha256=bytes(32), members=[*NAMES, "mallory"])
    assert len(told([genesis(), signed(stranger)])) == 2


def test_a_second_other_ballot_in_one_attempt_is_told() -> None:
    place = Place(RUN, 1, 4, 0)
    yes = entry.ballot(place, time=1, survivors=True, attempt_digest=bytes(32), view=bytes(32))
    no = entry.ballot(place, time=2, survivors=False, waited_for=["ucl"])
    assert told_of_site(yes, yes) == []
    assert told_of_site(yes, no) == [(1, "a second, other ballot in round 4")]
    assert told_of_site(yes, entry.ballot(Place(RUN, 1, 4, 1), time=2, survivors=False)) == []


def charge(before: str, after: str, limit: str = "3") -> bytes:
    spent = Spent(before, after, "1e-5", limit)
    return entry.charge(time=1, run=RUN, round=0, mechanism={"sigma": "1.1"}, spent=spent)


def test_a_privacy_account_that_sinks_or_passes_its_limit_is_told() -> None:
    assert told_of_site(charge("0", "1"), charge("1", "2.5")) == []
    assert told_of_site(charge("0", "1"), charge("0.5", "1.5"))[0][0] == 1
    assert told_of_site(charge("0", "1"), charge("1", "0.9"))[0][0] == 1
    assert told_of_site(charge("0", "3.5")) == [(0, "epsilon 3.5 is above its limit")]


def test_an_entry_in_the_wrong_log_or_of_no_form_is_told() -> None:
    assert told_of_site(genesis()[0]) == [(0, "genesis does not belong in this log")]
    assert told_of_site(b"not facts")[0][1].startswith("malformed")
    assert told_of_site(facts({"kind": "weather"}))[0][1].startswith("unsupported")


@pytest.mark.parametrize("index", range(4))
def test_every_federation_entry_has_a_line_for_people(index: int) -> None:
    line = entry.render(log_of(federation_records())[index])
    assert line.split()[0] == str(index)
    assert "3 sites" in line
    assert "[3 signatures]" in line


def test_every_kind_has_a_line_for_people_and_a_builder_that_its_reader_takes() -> None:
    place = Place(RUN, 1, 2, 0)
    records = [record for record, _ in [*federation_records(1), *site_records(6)]]
    records += [
        entry.agreement(epoch=1, sha256=bytes(32), members=NAMES),
        entry.budget(time=1, run=RUN, round=9, spent="2.9", would_be="3.1", limit="3"),
        entry.query(time=1, run=RUN, round=9, query="salary", data=bytes(32), members=NAMES),
        entry.dropped(time=1, log="site", segment=3, size=12),
        entry.ballot(place, time=1, survivors=False, waited_for=["ucl"]),
    ]
    assert {entry.read(record)["kind"] for record in records} == set(entry.KINDS)
    for index, record in enumerate(records):
        line = entry.render(Entry(index, record, {}, FIRST))
        assert "unsupported" not in line
        assert "\n" not in line


def test_a_builder_refuses_what_a_reader_would() -> None:
    with pytest.raises(ValueError, match="before"):
        charge("much", "1")
    with pytest.raises(ValueError, match="float"):
        entry.operator(time=1, command="join", options={"rate": 0.1})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="members"):
        entry.agreement(epoch=1, sha256=bytes(32), members=["No Name"])
