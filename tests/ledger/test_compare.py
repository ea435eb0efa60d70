"""Two exported files: nothing is compared that its site did not sign; a fork is shown with who signed both sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli.main import run
from p2pfl.ledger import note
from p2pfl.ledger.compare import Relation, check_head, compare
from p2pfl.ledger.export import read_export
from p2pfl.ledger.note import Head
from p2pfl.ledger.read_log import HashChain
from tests.federation.changes import IDENTITIES, all_three, new_keys, two_epochs
from tests.federation.test_recovery import recovery
from tests.ledger.exports import chain_of, file_of, log_of
from tests.ledger.sample import NAMES, SITES, federation_records, genesis, round_, site_records


def compared(folder: Path, *files: bytes) -> int:
    """The exit status of `p2pfl ledger compare`."""
    for name, raw in zip("ab", files, strict=True):
        (folder / name).write_bytes(raw)
    return run(["ledger", "compare", str(folder / "a"), str(folder / "b"), "--json"])


RECORDS = federation_records(4)
FORKED = [*RECORDS[:2], round_(2, salt="b" * 64), *RECORDS[3:]]
WHOLE = file_of(log_of(RECORDS))


def told(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    captured = capsys.readouterr()
    return json.loads(captured.out.splitlines()[-1]), captured.err


@pytest.mark.parametrize("hidden", [False, True])
def test_two_files_are_identical_or_one_is_behind(
    tmp_path: Path, hidden: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    other = log_of(RECORDS, "ucl", show=lambda index: index == 0 or not hidden)
    assert compared(tmp_path, WHOLE, file_of(other)) == 0
    found, _ = told(capsys)
    assert (found["relation"], found["entry"]) == ("identical", None)
    assert [head["signed_by"] for head in found["heads"]] == [["charite"], ["ucl"]]
    assert compared(tmp_path, WHOLE, file_of(log_of(RECORDS[:3], "ucl"))) == 1
    found, _ = told(capsys)
    assert (found["relation"], found["entry"], found["behind"]) == ("prefix", 3, "ucl")


@pytest.mark.parametrize("index", range(5))
def test_a_file_with_a_changed_signature_is_identical_to_none(
    tmp_path: Path, index: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """No leaf covers it, and no head does: it is checked by itself, also against a name that is no site's."""
    changed = log_of(RECORDS)
    signatures = changed["entries"][index]["signatures"]
    name = sorted(signatures)[-1]
    signatures[name] = signatures[name][:-2] + ("00" if signatures[name][-2:] != "00" else "01")
    assert compared(tmp_path, WHOLE, file_of(changed)) == 5
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"]["code"] in ("P2P-LEDGER-012", "P2P-LEDGER-013")
    stranger = log_of(RECORDS)
    stranger["entries"][index]["signatures"]["somebody"] = signatures[name]
    assert compared(tmp_path, WHOLE, file_of(stranger)) == 5


@pytest.mark.claim("LEDGER-9")
def test_a_fork_is_shown_with_who_signed_both_heads_and_both_entries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = log_of(RECORDS, by={"charite": SITES["charite"], "st-olav": SITES["st-olav"]})
    theirs = log_of(FORKED, "ucl", by={"ucl": SITES["ucl"], "st-olav": SITES["st-olav"]})
    assert compared(tmp_path, file_of(mine), file_of(theirs)) == 5
    found, _ = told(capsys)
    assert (found["relation"], found["entry"]) == ("fork", 2)
    assert {head["entries"] for head in found["heads"]} == {5}
    assert len({head["root"] for head in found["heads"]}) == 2
    assert found["signed_both"] == {"heads": ["st-olav"], "entries": sorted(NAMES)}


def test_of_a_fork_behind_the_heads_no_head_is_blamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    early = Head(note.federation_origin(RECORDS[0][0]), 2, chain_of(RECORDS[:2]).tree.root())
    files = [file_of(log_of(rows, head=early)) for rows in (RECORDS, FORKED)]
    assert compared(tmp_path, *files) == 5
    found, _ = told(capsys)
    assert found["signed_both"]["heads"] == []
    assert found["signed_both"]["entries"] == sorted(NAMES)


def test_a_hidden_entry_is_signed_by_nobody_that_one_can_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [file_of(log_of(rows, show=lambda index: index == 0)) for rows in (RECORDS, FORKED)]
    assert compared(tmp_path, *files) == 5
    assert told(capsys)[0]["signed_both"] == {"heads": ["charite"], "entries": []}


def edited(find: str, put: str) -> bytes:
    held = log_of(RECORDS)
    assert find in held["signed_head"]
    return file_of({**held, "signed_head": held["signed_head"].replace(find, put, 1)})


ORIGIN = note.federation_origin(RECORDS[0][0])


@pytest.mark.claim("LEDGER-9")
@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (edited("\n5\n", "\n4\n"), "not over those that it holds"),
        (edited("\n5\n", "\n6\n"), "not over those that it holds"),
        (edited(ORIGIN, ORIGIN[:-1] + "x"), "the log is"),
        (edited("— charite ", "— ucl "), "with none of its keys"),
        (edited("— charite ", "— mallory "), "no site has that name"),
        (edited("\n\n", "\nmore\n\n"), "with none of its keys"),
        (file_of({**log_of(RECORDS), "signed_head": None}), "no signed head"),
        (file_of({**log_of(RECORDS), "signed_head": "nonsense"}), "a note is"),
        (file_of(log_of(RECORDS, by={"charite": IDENTITIES["ada"]})), "with none of its keys"),
        (file_of(log_of(RECORDS, by={"ucl": SITES["ucl"]})), "signed by ucl alone"),
        (file_of(log_of(RECORDS, by={"charite": SITES["charite"], "ucl": IDENTITIES["ada"]})), "with none of its keys"),
        (file_of(log_of(RECORDS, head=Head(ORIGIN, 5, bytes(32)))), "not over those that it holds"),
        (file_of({**log_of(RECORDS), "site": "ucl"}), "signed by charite alone"),
    ],
)
def test_a_file_that_its_site_did_not_sign_is_compared_with_nothing(
    tmp_path: Path, raw: bytes, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for files in ((WHOLE, raw), (raw, WHOLE)):
        assert compared(tmp_path, *files) == 5
        found, err = told(capsys)
        assert found["error"]["code"] == "P2P-LEDGER-012"
        assert why in " ".join(err.split())


@pytest.mark.claim("LEDGER-9")
def test_a_file_that_does_not_prove_who_its_sites_are_is_compared_with_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, signed = RECORDS[0]
    alone = [(record, {"charite": signed["charite"]}), *RECORDS[1:]]
    hidden = log_of(RECORDS, show=lambda index: index > 0)
    change = all_three(("ada", "ben"))  # too few
    made_up = log_of(two_epochs(change), "ada", new_keys(change))
    for held in (log_of(alone), hidden, made_up):
        assert compared(tmp_path, WHOLE, file_of(held)) == 5
        assert "P2P-LEDGER-013" in told(capsys)[1]


def test_a_head_counts_with_every_key_that_its_site_had(tmp_path: Path) -> None:
    rows = two_epochs(all_three())
    for key in ("ben", "ben again"):  # signed before, or after, the change was in force
        held = read_export(file_of(log_of(rows, "ben", {"ben": IDENTITIES[key]})), "x")
        assert set(check_head(held, "x").signers) == {"ben"}


def test_a_site_log_is_judged_by_the_federation_log_that_lies_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = log_of(RECORDS)
    mine = log_of(site_records(4), log="site", beside=beside)
    assert compared(tmp_path, *[file_of(mine, federation=beside)] * 2) == 0
    capsys.readouterr()
    unlike = log_of(FORKED)
    assert compared(tmp_path, file_of(mine, federation=beside), file_of(mine, federation=unlike)) == 5
    assert "P2P-LEDGER-012" in told(capsys)[1]
    assert compared(tmp_path, WHOLE, file_of(mine, federation=beside)) == 2


def test_logs_of_two_studies_of_the_same_sites_convict_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is honest, and no site signed two things of one federation."""
    other = [genesis("another", b"3" * 32), round_(1)]
    for files in (
        (log_of(RECORDS), log_of(other)),
        tuple(
            log_of(site_records(count), log="site", beside=beside) | {"federation": beside}
            for count, beside in ((3, log_of(RECORDS)), (4, log_of(other)))
        ),
    ):
        assert compared(tmp_path, *map(file_of, files)) == 2
        found, _ = told(capsys)
        assert (found["relation"], found["signed_both"]) == ("unlike", {"heads": [], "entries": []})


def test_two_geneses_under_one_peers_file_are_a_fork(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(tmp_path, WHOLE, file_of(log_of([genesis("another"), round_(1)]))) == 5
    assert told(capsys)[0]["signed_both"]["entries"] == list(NAMES)


def test_the_own_logs_of_two_sites_are_no_fork(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beside = log_of(RECORDS), log_of(RECORDS, "ucl")
    mine = log_of(site_records(3), log="site", beside=beside[0]) | {"federation": beside[0]}
    other = log_of(site_records(4)[1:], "ucl", log="site", beside=beside[1]) | {"federation": beside[1]}
    assert compared(tmp_path, file_of(mine), file_of(other)) == 2


@pytest.mark.parametrize("before", [-1, None], ids=["written before the change", "both behind the change"])
def test_a_log_that_went_on_from_an_older_home_by_approval_convicts_nobody(
    tmp_path: Path, before: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it wrote in the home that was lost is another history, under the same key."""
    rows = two_epochs(recovery())
    at = next(index for index, (record, _) in enumerate(rows) if b'"kind":"membership"' in record)
    by = {"eve": IDENTITIES["eve"]}
    files = []
    for records, beside in ((site_records(4), rows[: at if before else None]), (site_records(5)[1:], rows)):
        over = log_of(beside, "eve", by)
        files.append(file_of(log_of(records, "eve", by, log="site", beside=over), federation=over))
    assert compared(tmp_path, *files) == 5
    assert told(capsys)[0]["signed_both"]["heads"] == ([] if before else ["eve"])


def test_an_empty_log_needs_no_head() -> None:
    nothing = {
        "log": "federation",
        "site": "ucl",
        "size": 0,
        "root": HashChain().tree.root().hex(),
        "head": "00" * 32,
        "signed_head": None,
        "entries": [],
    }
    empty, whole = read_export(file_of(nothing), "x"), read_export(WHOLE, "y")
    assert check_head(empty, "x").size == 0
    assert compare(empty, whole).relation is Relation.PREFIX
