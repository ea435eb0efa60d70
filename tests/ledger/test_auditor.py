"""The auditor's single file: it runs with cryptography alone, agrees with `ledger verify`, takes no changed byte."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli.ledger import export as exporting
from p2pfl.cli.main import run
from p2pfl.errors.ledger import ExportUnsigned
from p2pfl.federation.membership import Change
from p2pfl.home import Home, notes
from p2pfl.home.segments import LogName
from p2pfl.keys import SMALL_ORDER
from p2pfl.ledger import auditor, export, note
from p2pfl.ledger.compare import check_head
from p2pfl.ledger.entry import Entry
from p2pfl.ledger.export import read_export
from p2pfl.ledger.log import Log
from p2pfl.ledger.site_kinds import ActsEntry
from p2pfl.ledger.verify import check_federation, check_site, verify
from p2pfl.ledger.witness import HeldNotes
from p2pfl.node.acts import acts_of, looked_at_between
from tests.federation.changes import (
    IDENTITIES,
    NAMES,
    all_three,
    change,
    federation,
    lineage,
    member,
    new_keys,
    old_keys,
    round_row,
    two_epochs,
)
from tests.federation.changes import with_agreement as under_agreement
from tests.ledger.exports import chain_of, file_of, log_of, waiting_row
from tests.ledger.sample import (
    SITES,
    agreement,
    ballot,
    charge,
    federation_records,
    genesis,
    home,
    look,
    round_,
    signed,
    site_records,
    write,
)

OF, JOINS = under_agreement()
TWO_EPOCHS = two_epochs(JOINS, of=OF)  # an agreement, a site that joins under it, rounds before and after
ADA = {"ada": IDENTITIES["ada"]}


def whole(records: Any, site: str = "ada", by: Any = None) -> bytes:
    return file_of(log_of(records, site, by or ADA))


def found(raw: bytes, genesis: str | None = None) -> list[str]:
    """What the program says of a file, without its places."""
    try:
        facts = auditor.checked(raw, genesis)
    except auditor.BAD as error:
        return [str(error)]
    assert facts["verified"] == (not facts["findings"])
    return [one["what"] for one in facts["findings"]]


def alone(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The file as an auditor runs it: isolated, away from any checkout, with nothing of p2pfl to be found."""
    guard = (
        "import runpy, sys; sys.modules['p2pfl'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", guard, str(folder / "verify_ledger.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, check=False)


def lived_in(folder: Path, patch: pytest.MonkeyPatch, rounds: int = 3) -> Home:
    """A home with both logs, whose own key is the one that the genesis lists."""
    made = home(folder)
    patch.setitem(SITES, "charite", made.identity())
    write(made, "federation", federation_records(rounds))
    write(made, "site", site_records(6))
    return made


# ── it is handed out, and runs alone ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def handed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the export of a home's federation log, that of its site log, and the program."""
    with lived_in(tmp_path, monkeypatch) as at:
        folder = at.path
    opened = ["--home", str(folder), "--key-file", str(tmp_path / "charite.key")]
    for log in ("federation", "site"):
        target = str(tmp_path / f"{log}.json")
        assert run(["ledger", "export", "--log", log, "-o", target, "--with-verifier", *opened]) == 0
    return tmp_path


@pytest.mark.claim("LEDGER-6")
def test_it_runs_isolated_with_nothing_of_p2pfl_and_says_what_it_found(handed: Path) -> None:
    for log, count in (("federation", 4), ("site", 6)):
        done = alone(handed, f"{log}.json", "--json")
        facts = json.loads(done.stdout)
        assert (done.returncode, done.stderr, facts["verified"]) == (0, "", True)
        assert (facts["log"], facts["site"], facts["entries"]) == (log, "charite", count)
        assert facts["sites"] == {name: SITES[name].key.hex() for name in SITES}
        done = alone(handed, f"{log}.json")
        assert done.returncode == 0
        assert done.stdout.startswith(f"VERIFIED: {log}.json")
        assert f"  rounds        {facts['rounds']}, {facts['trained']} of training; last 20" in done.stdout


def test_it_says_in_words_what_is_wrong_and_where(handed: Path) -> None:
    text = (handed / "federation.json").read_text()
    (handed / "federation.json").write_text(text.replace('"signatures":{"charite":"', '"signatures":{"charite":"00', 1))
    done = alone(handed, "federation.json")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("NOT VERIFIED: federation.json")
    assert alone(handed, "nowhere.json").returncode == 1
    assert alone(handed).returncode == 2


def test_it_holds_the_first_entry_against_what_another_site_said(handed: Path) -> None:
    record = federation_records()[0][0]
    named = auditor.sha(record).hex()
    assert alone(handed, "federation.json", "--genesis", named.upper()).returncode == 0
    done = alone(handed, "federation.json", "--genesis", "00" * 32)
    assert done.returncode == 1
    assert f"the first entry is {named}, not the one that was named" in done.stdout


def test_the_program_is_not_written_over_another_file_and_not_for_hashes(
    handed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = ["--home", str(handed / "charite"), "--key-file", str(handed / "charite.key")]
    (handed / "verify_ledger.py").write_text("mine")
    assert run(["ledger", "export", "-o", str(handed / "x"), "--with-verifier", *opened]) == 2
    assert (handed / "verify_ledger.py").read_text() == "mine"
    assert not (handed / "x").exists()
    assert run(["ledger", "export", "-o", str(handed / "x"), "--with-verifier", "--without-rounds", *opened]) == 2
    assert "nothing to audit in hashes" in capsys.readouterr().err


def test_no_character_of_a_file_steers_the_terminal(handed: Path) -> None:
    (handed / "odd.json").write_bytes(file_of({"\x1b[2J": 1}))
    done = alone(handed, "odd.json")
    assert done.returncode == 1
    assert done.stdout.isprintable() or set(done.stdout) - {"\n"} <= {chr(k) for k in range(32, 127)}
    assert "\x1b" not in done.stdout


# ── it agrees with `ledger verify` ────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("LEDGER-6")
@pytest.mark.parametrize("rounds", [0, 1, 2, 3, 7])
def test_it_agrees_on_homes_with_any_number_of_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    with lived_in(tmp_path, monkeypatch, rounds) as at:
        assert verify(at).verified
        log, site = Log.open(at, "federation"), Log.open(at, "site")
        waiting = export.waiting_of(site, at.name, at.identity(), ActsEntry(time=0, acts=(), salt=bytes(16)))
        facts = auditor.checked(export.export(site, at.name, log, waiting=waiting), None)
    assert (facts["verified"], facts["findings"]) == (True, [])
    assert (facts["entries"], facts["root"]) == (len(site), site.root().hex())
    assert (facts["rounds"], facts["head"]) == (rounds, {"entries": 6, "signed_by": ["charite"]})


def test_it_agrees_on_two_epochs_under_an_agreement() -> None:
    facts = auditor.checked(whole(TWO_EPOCHS), None)
    assert facts["findings"] == []
    assert (facts["epoch"], facts["changes"], facts["rounds"], facts["agreement"]) == (2, 1, 5, "ab" * 32)
    assert list(facts["sites"]) == [*NAMES, "fay"]
    assert facts["epsilon"]["fay"] == "0.05"
    assert auditor.checked(whole(two_epochs(all_three())), None)["verified"]


def log_entries(records: Any) -> list[Entry]:
    return chain_of(records).entries


def fewer(row: Any, *names: str) -> Any:
    return row[0], {name: one for name, one in row[1].items() if name in names}


def otherwise(number: int, **changed: object) -> list[Any]:
    """A log of four rounds, the last of which says something else."""
    return [*federation_records(number - 1), round_(number, **changed)]


MADE = all_three(NAMES[:4])
ROWS = two_epochs(MADE)
SPOILT: dict[str, Callable[[], Any]] = {
    "a genesis that not all signed": lambda: [fewer(ROWS[0], *NAMES[1:]), *ROWS[1:]],
    "a round that too few signed": lambda: [*ROWS[:-1], fewer(ROWS[-1], "ada", "ben")],
    "a false signature": lambda: [*ROWS[:-1], (ROWS[-1][0], {**ROWS[-1][1], "ada": bytes(64)})],
    "a stranger's signature": lambda: [*ROWS[:-1], (ROWS[-1][0], {**ROWS[-1][1], "gus": bytes(64)})],
    "a change that too few signed": lambda: two_epochs(all_three(NAMES[:3])),
    "a change without the key that is given up": lambda: two_epochs(all_three(("ada", "cyd", "dot", "eve"))),
    "a change that no round announced": lambda: two_epochs(MADE, announced="ab" * 32),
    "a change that stands too early": lambda: two_epochs(MADE, last=2),
    "a round where the change belongs": lambda: [*ROWS[:4], round_row(4, ROWS[3][0], old_keys())],
    "a round of the epoch before": lambda: [*ROWS[:5], round_row(4, ROWS[3][0], old_keys())],
    "a round with a key that was given up": lambda: [
        *ROWS[:5],
        round_row(4, ROWS[3][0], {**new_keys(MADE), "ben": IDENTITIES["ben"]}, epoch=2),
    ],
    "who joins has not signed": lambda: two_epochs(under_agreement(NAMES)[1], of=OF),
    "who joins has a false signature": lambda: two_epochs(
        Change(JOINS.record, {**JOINS.signatures, "fay": bytes(64)}), of=OF
    ),
    "an agreement that the first did not sign": lambda: [TWO_EPOCHS[0], *TWO_EPOCHS[2:]],
    "an agreement that one did not sign": lambda: [TWO_EPOCHS[0], fewer(TWO_EPOCHS[1], *NAMES[1:]), *TWO_EPOCHS[2:]],
    "a round that is left out": lambda: [*ROWS[:2], *ROWS[3:]],
    "two that changed places": lambda: [*ROWS[:1], ROWS[2], ROWS[1], *ROWS[3:]],
    "no genesis": lambda: ROWS[1:],
    "a second genesis": lambda: [*ROWS, ROWS[0]],
}
OF_THREE: dict[str, Callable[[], Any]] = {
    "a sum over too few": lambda: otherwise(3, survivors=["ucl", "charite"]),
    "a sum over one twice": lambda: otherwise(3, survivors=["ucl", "ucl", "charite"]),
    "a sum over a stranger": lambda: otherwise(3, survivors=["ucl", "charite", "gus"]),
    "privacy that goes down": lambda: otherwise(3, epsilon={"ucl": "0.001"}),
    "another model": lambda: otherwise(3, model_before="0" * 64),
    "another base": lambda: otherwise(3, base="0" * 64),
    "a number again": lambda: otherwise(3, round=2),
    "an epoch that is none": lambda: otherwise(3, epoch=2),
    "a field more": lambda: otherwise(3, more=1),
    "a field that is no number": lambda: otherwise(3, round="3"),
    "a real number": lambda: [*federation_records(2), signed(b'{"kind":"round","round":1.5}')],
    "a kind of the other log": lambda: [*federation_records(2), site_records(1)[0]],
    "an unknown kind": lambda: [*federation_records(2), signed(b'{"kind":"wish"}')],
    "an agreement in the middle": lambda: [
        *federation_records(2),
        signed(agreement(list(SITES))),
    ],
    "an agreement of a stranger": lambda: [
        genesis(),
        signed(agreement([*SITES, "gus"])),
    ],
}


@pytest.mark.claim("LEDGER-6")
@pytest.mark.parametrize("name", [*SPOILT, *OF_THREE])
def test_what_verify_refuses_it_refuses(name: str) -> None:
    records = (SPOILT.get(name) or OF_THREE[name])()
    raw = whole(records) if name in SPOILT else file_of(log_of(records))
    assert [one for one in check_federation(log_entries(records)) if one.fault]
    assert found(raw)


@pytest.mark.claim("MEMBER-7")
def test_it_says_so_when_the_name_of_a_site_that_left_is_given_to_another_key() -> None:
    old, stays = federation(), ("ada", "ben", "cyd", "eve")
    first = change(old, lineage(old), remove=["dot"])
    second = lineage(old).after(first)
    rows = two_epochs(first, after=1)
    for key, ends in (("dot", []), ("fay", ["dot left with another key"])):
        here = replace(second, keys={})  # whoever writes such a change has forgotten it
        again = change(first.federation(), here, stays, from_round=6, add=[member("dot", key)])
        said = round_row(5, rows[-1][0], new_keys(first), epoch=2, announced=again.digest.hex())
        records = [*rows, said, (again.record, again.signatures)]
        assert found(whole(records)) == ends
        assert bool([one for one in check_federation(log_entries(records)) if one.fault]) is bool(ends)


def test_a_round_that_few_signed_counts_when_a_later_one_rests_on_it() -> None:
    records = federation_records(4)
    records[2] = fewer(records[2], "ucl")
    records[3] = fewer(records[3], "ucl")
    assert not check_federation(log_entries(records))
    assert found(file_of(log_of(records))) == []
    assert found(file_of(log_of(records[:4]))) == ["1 sites signed the round, too few"] * 2


SITE_ROWS = site_records(6)


def site_file(rows: Any, federation: Any = None, **heads: Any) -> bytes:
    beside = federation or log_of(federation_records(2))
    return file_of(log_of(rows, log="site", beside=beside, **heads), federation=beside)


def site_head(rows: Any, site: str = "charite", beside: Any = None) -> note.Head:
    """A head of a site log over these rows."""
    over = log_of(rows, site, {site: SITES[site]}, log="site", beside=beside or log_of(federation_records(2)))
    return note.parse_note(over["signed_head"])[0]


def cosigned(head: note.Head, *signers: str) -> str:
    """The note of the head, signed by each of these."""
    first, *others = signers
    text = note.sign(head, first, SITES[first])
    for name in others:
        text = note.cosign(text, name, SITES[name])
    return text


OF_A_SITE = {
    "privacy that goes down": [(charge("0", "1").record, {}), (charge("0.5", "1.5").record, {})],
    "privacy above its limit": [(charge("0", "4").record, {})],
    "looks that go down": [(look("0", "1").record, {}), (look("0.5", "1").record, {})],
    "looks above their limit": [(look("0", "1.5").record, {})],
    "a look that was not charged, and spent": [(look("0", "0.5", charged=False).record, {})],
    "a second, other ballot": [
        (ballot(survivors=True).record, {}),
        (ballot(survivors=False, time=2).record, {}),
    ],
    "a kind of the other log": [(genesis()[0], {})],
}


@pytest.mark.parametrize("name", OF_A_SITE)
def test_what_verify_refuses_of_a_sites_own_log_it_refuses(name: str) -> None:
    rows = [SITE_ROWS[0], *OF_A_SITE[name]]
    assert check_site(log_entries(rows))
    assert found(site_file(rows))


def test_an_account_of_looks_is_held_against_no_charge() -> None:
    looks = [charge("0", "3"), look("0", "1"), look("2", "2", charged=False)]
    assert found(site_file([SITE_ROWS[0], *((one.record, {}) for one in looks)])) == []


def test_a_sites_own_log_is_held_against_the_federations() -> None:
    assert found(site_file(SITE_ROWS)) == []
    (told,) = found(site_file([SITE_ROWS[1], *SITE_ROWS[2:]]))[:1]
    assert "carries a head of this log that it never had" in told
    other = log_of(federation_records(1))
    held = log_of(SITE_ROWS, log="site", beside=log_of(federation_records(2)))
    assert found(file_of(held, federation=other))
    assert found(file_of(held, federation={**log_of(federation_records(2)), "site": "ucl"}))


@pytest.mark.claim("LEDGER-11")
def test_heads_that_others_cosigned_are_held_against_the_log_and_told() -> None:
    heads = [cosigned(site_head(SITE_ROWS[:count]), "charite", by) for count, by in ((3, "ucl"), (5, "st-olav"))]
    facts = auditor.checked(site_file(SITE_ROWS, cosigned=heads), None)
    assert (facts["findings"], facts["witnesses"]) == ([], {"st-olav": 5, "ucl": 3})
    assert "witness       ucl saw its first 3 entries" in auditor.told("x", facts)
    assert check_head(read_export(site_file(SITE_ROWS, cosigned=heads), "x"), "x").size == 6


@pytest.mark.claim("LEDGER-11")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda: cosigned(site_head([SITE_ROWS[1], *SITE_ROWS[2:4]]), "charite", "ucl"),  # its log was another one then
        lambda: cosigned(site_head([*SITE_ROWS, SITE_ROWS[0]]), "charite", "ucl"),  # it was cut since
        lambda: cosigned(site_head(SITE_ROWS[:3]), "ucl"),  # it never signed that
        lambda: cosigned(site_head(SITE_ROWS[:3]), "charite", "ucl").replace("— ucl", "— st-olav"),
        lambda: cosigned(site_head(SITE_ROWS[:3], beside=log_of(otherwise(2, attempt=1))), "charite", "ucl"),
        lambda: cosigned(site_head(SITE_ROWS[:3], "ucl"), "ucl", "charite"),  # of the log of another
        lambda: "no head",
    ],
)
def test_a_log_that_is_not_the_one_which_others_cosigned_is_not_what_was_signed(wrong: Callable[[], str]) -> None:
    raw = site_file(SITE_ROWS, cosigned=[wrong()])
    assert found(raw)
    with pytest.raises(ExportUnsigned):
        check_head(read_export(raw, "x"), "x")


def test_an_export_made_beside_a_process_at_work_verifies_and_says_what_it_lacks() -> None:
    """A round became final, and the site's log grew before it, between the reading of the one log and of the other."""
    behind, grown = federation_records(2), [*SITE_ROWS, SITE_ROWS[1]]
    carried = dict.fromkeys(SITES, chain_of(grown).tree.root().hex())
    later = log_of([*behind, round_(3, site_heads=carried)])
    held = log_of(SITE_ROWS, log="site", beside=log_of(behind))
    facts = auditor.checked(file_of(held, federation=later), None)
    assert (facts["verified"], facts["findings"]) == (True, [])
    assert "entry 3 of the federation log carries a head that is not in this log" in facts["notes"][0]
    covers = log_of(SITE_ROWS, log="site", beside=later)
    assert found(file_of(covers, federation=later)) == [
        "entry 3 of the federation log carries a head of this log that it never had"
    ]


def test_heads_are_read_before_the_logs_that_they_speak_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a process at work the other way round an honest export lacked what its own heads are over."""
    read: list[str] = []

    class Noted(Log):
        @classmethod
        def open(cls, home: Home, which: LogName) -> Log:
            read.append(which)
            return super().open(home, which)

    def notes_of(home: Home) -> HeldNotes:
        read.append("notes")
        return HeldNotes()

    with lived_in(tmp_path, monkeypatch) as at:
        folder = at.path
    monkeypatch.setattr(exporting, "Log", Noted)
    monkeypatch.setattr(exporting, "held_notes", notes_of)
    opened = ["--home", str(folder), "--key-file", str(tmp_path / "charite.key")]
    assert run(["ledger", "export", "--log", "site", "-o", str(tmp_path / "site.json"), *opened]) == 0
    assert read == ["notes", "site", "federation"]


def test_a_head_of_another_study_is_not_told_as_one_of_this() -> None:
    """The same sites may have several: laid beside that site's export of this study it would look like a fork."""
    mine = cosigned(site_head(SITE_ROWS[:4], "ucl"), "ucl", "charite")
    other = cosigned(site_head(SITE_ROWS[1:5], "ucl", log_of([genesis("another")])), "ucl")
    facts = auditor.checked(site_file(SITE_ROWS, seen=[mine, other]), None)
    assert (facts["verified"], [one[3:] for one in facts["seen"]]) == (True, [[], ["of another study or history"]])


def test_heads_of_others_that_a_site_saw_are_told_with_their_roots() -> None:
    theirs = site_head(SITE_ROWS[:4], "ucl")
    other = site_head(SITE_ROWS[1:5], "ucl")
    facts = auditor.checked(
        site_file(SITE_ROWS, seen=[cosigned(theirs, "ucl", "charite"), cosigned(other, "ucl")]), None
    )
    assert facts["findings"] == []
    assert facts["seen"] == [["ucl", 4, theirs.root.hex()], ["ucl", 4, other.root.hex()]]
    for wrong in (cosigned(theirs, "charite"), cosigned(theirs, "ucl").replace("4\n", "5\n", 1), "nonsense"):
        assert found(site_file(SITE_ROWS, seen=[wrong]))


# ── what people did that the log does not hold yet ────────────────────────────────────────────────────────────

PREDICTED = {"command": "predict", "options": {"model": "ab" * 32, "times": 1, "at": 1_700_000_000}}


@pytest.mark.claim("LEDGER-6")
def test_an_export_holds_what_people_did_since_the_last_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log has it behind the next round: what was done after a study's last one stood in no export."""
    with lived_in(tmp_path, monkeypatch) as at:
        notes.put(at, "predict", 1_700_000_000, {"model": "ab" * 32})
    target = tmp_path / "site.json"
    command = ["ledger", "export", "--log", "site", "-o", str(target), "--home", str(at.path)]
    command += ["--key-file", str(tmp_path / "charite.key")]
    assert run([*command, "--with-verifier"]) == 0
    facts = auditor.checked(target.read_bytes(), None)
    assert (facts["verified"], facts["entries"], facts["waiting"]) == (True, 6, [PREDICTED])
    assert "waits for it  predict {" in alone(tmp_path, "site.json").stdout
    target.unlink()
    assert run(command) == 0
    told = [act["command"] for act in auditor.checked(target.read_bytes(), None)["waiting"]]
    assert told == ["predict", "ledger export"]
    target.unlink()
    assert run([*command, "--without-rounds"]) == 0
    assert b"predict" not in target.read_bytes()
    assert run(["ledger", "compare", str(target), str(target)]) == 0


@pytest.mark.claim("LEDGER-6")
@pytest.mark.parametrize(
    "waiting",
    [
        None,
        {**waiting_row(chain_of(SITE_ROWS).head, "charite", [PREDICTED]), "signatures": {}},
        waiting_row(chain_of(SITE_ROWS[:-1]).head, "charite", [PREDICTED]),
        waiting_row(chain_of(SITE_ROWS).head, "ucl", [PREDICTED]),
        {**waiting_row(chain_of(SITE_ROWS).head, "charite", [PREDICTED]), "record": SITE_ROWS[0][0].decode()},
    ],
    ids=["taken out", "unsigned", "as of an earlier entry", "signed by another", "an entry of another kind"],
)
def test_what_waits_for_a_log_is_signed_by_its_site_as_of_its_last_entry(waiting: Any) -> None:
    held = log_of(SITE_ROWS, log="site", beside=(beside := log_of(federation_records(2))))
    raw = file_of({**held, "waiting": waiting}, federation=beside)
    (what,) = found(raw)
    assert what.startswith("what waits for it is ")
    assert len(found(file_of({**held, "waiting": waiting, "signed_head": None}, federation=beside))) == 2
    if waiting is not None:  # with hashes in place of its entries it is hidden too
        with pytest.raises(ExportUnsigned):
            check_head(read_export(raw, "x"), "x")


def test_what_waits_is_looked_for_before_the_log_and_behind_it(tmp_path: Path) -> None:
    """Beside a process that takes up notes: what it takes up between the two stands in the export, and once."""
    at = home(tmp_path)
    write(at, "site", site_records(6))
    notes.put(at, "predict", 1_700_000_000, {"model": "ab" * 32})
    moments = iter((True, False))

    def taken_up(held: list[notes.Note]) -> None:
        log = Log.open(at, "site")
        log.append(ActsEntry(time=0, acts=acts_of(held), salt=bytes(16)).record)
        log.close()

    def logs() -> dict[str, Log]:
        if next(moments, False):
            notes.hand_over(at, lambda: 6, taken_up, lambda _: False)
        return {at.study: Log.open(at, "site")}

    found, untold = looked_at_between(at, logs)
    acts = [one for entry in found[""].records() for one in json.loads(entry.record).get("acts", ())]
    assert (acts, untold) == ([PREDICTED], [])
    at.close()


# ── no byte of it may change ──────────────────────────────────────────────────────────────────────────────────

SMALL = site_file(
    [SITE_ROWS[0], (charge("0", "1").record, {})],
    FEDERATION := log_of([genesis(), round_(1)], by={"charite": SITES["charite"], "ucl": SITES["ucl"]}),
    cosigned=[cosigned(site_head([SITE_ROWS[0]], beside=FEDERATION), "charite", "ucl")],
    seen=[cosigned(site_head(SITE_ROWS[1:3], "ucl"), "ucl", "charite")],
    waiting=[PREDICTED],
)


@pytest.mark.claim("LEDGER-6")
def test_every_byte_of_an_export_is_guarded() -> None:
    assert found(SMALL) == []
    taken = [place for place in range(len(SMALL)) if not found(_flipped(place, 1 + place % 255))]
    assert taken == []


def test_every_bit_of_every_tenth_byte_is_guarded() -> None:
    taken = [
        (place, bit) for place in range(0, len(SMALL), 10) for bit in range(8) if not found(_flipped(place, 1 << bit))
    ]
    assert taken == []


def test_an_export_that_was_cut_is_refused_wherever_it_was() -> None:
    assert [size for size in range(len(SMALL)) if not found(SMALL[:size])] == []


def _flipped(place: int, by: int) -> bytes:
    return SMALL[:place] + bytes([SMALL[place] ^ by]) + SMALL[place + 1 :]


@pytest.mark.parametrize(
    "held",
    [
        {},
        {"format": "p2pfl-ledger-export/1"},
        {**log_of(federation_records(1)), "entries": 4},
        {**log_of(federation_records(1)), "signed_head": None},
        {**log_of(federation_records(1)), "signed_head": 7},
        {**log_of(federation_records(1)), "signed_head": "a\n\nb"},
        {**log_of(federation_records(1)), "size": True},
        log_of(federation_records(2), show=lambda index: index == 0),
        log_of(federation_records(2), by={"ucl": SITES["ucl"]}),
        log_of(federation_records(2), by={"charite": SITES["ucl"]}),
    ],
)
def test_what_is_no_export_is_refused_in_words(held: Any) -> None:
    assert all(found(file_of(held)))
    assert found(file_of(held))


def test_a_log_that_was_made_up_whole_is_told_by_its_first_entry_alone() -> None:
    made_up = [genesis("another")]
    raw = file_of(log_of(made_up))
    assert found(raw) == []
    assert found(raw, auditor.sha(federation_records()[0][0]).hex()) != []


def test_a_signature_under_a_key_of_small_order_counts_for_nothing() -> None:
    """It holds for every message: R = A = the neutral point, S = 0."""
    for y in sorted(SMALL_ORDER):
        for sign in (0, 1):
            key = (y | sign << 255).to_bytes(32, "little")
            assert not auditor.signed(key.hex(), "confirm", b"anything", key + bytes(32))
