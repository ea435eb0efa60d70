"""peers propose, approve, adopt, new-key, revoke: what people hand on, what each signs once, what is refused."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2pfl.cli.main import run
from p2pfl.cli.peers.changes import begins
from p2pfl.codec import read_facts
from p2pfl.errors.membership import Revoked
from p2pfl.federation import Federation, changefile, draft
from p2pfl.federation.amend import amend
from p2pfl.federation.cards import Card
from p2pfl.federation.membership import Change, Lineage, record_of
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.home.rekey import keys_of
from p2pfl.keys import Identity
from p2pfl.ledger import note
from p2pfl.ledger.log import Log
from p2pfl.ledger.site_kinds import OperatorEntry
from p2pfl.ledger.witness import HeldNotes
from p2pfl.node.epochs import enter, held_change, standing
from p2pfl.node.pending_change import PendingChange
from p2pfl.node.pledge import genesis_of, pledge_of
from p2pfl.node.revocations import revoked_keys
from p2pfl.roster import Address
from tests.cli.sites import DEADLINE_S
from tests.federation.sample import TASK

NAMES = ("ada", "ben", "cyd", "dot", "eve")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five homes whose ledgers have begun, their peers.yaml, and the card of a sixth site."""
    monkeypatch.chdir(tmp_path)
    identities, members = {}, []
    for index, name in enumerate((*NAMES, "fay")):
        with Home.create(tmp_path / name, name, [KeyFile(tmp_path / f"{name}.key")]) as home:
            card = Card.sign(home.identity(), name, [Address("10.0.0.1", 7000 + index)])
            home.publish_card(card.to_bytes())
            identities[name] = home.identity()
            members.append(card.member)
    (tmp_path / "peers.yaml").write_bytes(draft.peers_file("trial", members[:5], TASK))
    genesis = genesis_of(Federation.load("peers.yaml"))
    for name in NAMES:
        with opened(name) as home:
            Log.open(home, "federation").append(
                genesis, {one: identities[one].sign("record", genesis) for one in NAMES}
            )
    return tmp_path


def opened(name: str) -> Home:
    return Home.open(Path(name), unlock=[KeyFile(Path(f"{name}.key"))])


def at(name: str, *arguments: str) -> int:
    """`p2pfl peers …` at that site."""
    return run(["peers", *arguments, "--home", name, "--key-file", f"{name}.key"])


def proposed(*steps: str, name: str = "ada", file: str = "change.yaml") -> str:
    assert at(name, "propose", *steps, "-o", file) == 0
    return file


def test_a_change_that_a_quorum_approves_lies_in_the_home_of_whoever_signed_last(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proposed("add", "fay/fay.card", "remove", "eve")
    for name in ("ben", "cyd"):
        assert at(name, "approve", "change.yaml", "--yes") == 0
        with opened(name) as home:
            assert held_change(home) is None
    capsys.readouterr()
    assert at("dot", "approve", "change.yaml", "--yes", "--json") == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out.splitlines()[-1])
    assert (facts["approved"], facts["signed_by"], facts["epoch"]) == (True, ["ada", "ben", "cyd", "dot"], 2)
    assert (facts["added"], facts["removed"], facts["rotated"]) == (["fay"], ["eve"], [])
    assert "-  - name: eve" in captured.err
    assert "fay  " in captured.err  # her eight words
    with opened("dot") as home:
        held = held_change(home)
        assert held is not None
        assert held.record == changefile.load("change.yaml").record


@pytest.fixture
def agreed(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, under an agreement that lies there as a file."""
    (here / "baa.pdf").write_bytes(b"what the hospitals promise one another")
    named = hashlib.sha256((here / "baa.pdf").read_bytes()).hexdigest()
    return begun_anew(here, f"agreement.sha256={named}")


def begun_anew(here: Path, *lines: str) -> Path:
    """The sites have another peers.yaml, and ledgers that begin with it."""
    members = [Card.load(f"{name}/{name}.card").member for name in NAMES]
    (here / "peers.yaml").write_bytes(draft.peers_file("trial", members, TASK, lines))
    pledge, keys = pledge_of(Federation.load("peers.yaml")), dict[str, Identity]()
    for name in NAMES:
        with opened(name) as home:
            keys[name] = home.identity()
    for name in NAMES:
        shutil.rmtree(here / name / "ledger")
        with opened(name) as home:
            log = Log.open(home, "federation")
            for record in filter(None, (pledge.genesis, pledge.agreement)):
                log.append(record, {one: keys[one].sign("record", record) for one in NAMES})
    return here


def test_who_knows_that_a_site_has_spent_more_does_not_sign_its_recovery(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert at("ada", "propose", "recover", "eve", "--epsilon", "0.5", "-o", "change.yaml") == 0
    assert 'eve: "0.5"' in Path("change.yaml").read_text()
    head = note.Head(note.site_origin("eve"), 9, bytes(32), ("federation 1 " + "A" * 43 + "=", "epsilon 0.75"))
    with opened("ben") as home:
        text = note.sign(head, "eve", home.identity())
        home.replace("state/heads", HeldNotes({"eve": text.encode()}).to_bytes())
    capsys.readouterr()
    assert at("ben", "approve", "change.yaml", "--yes") == 2
    assert "an epsilon of 0.750000, more than" in " ".join(capsys.readouterr().err.split())
    assert at("cyd", "approve", "change.yaml", "--yes") == 0
    assert at("ben", "propose", "recover", "eve", "--epsilon", "1e9", "-o", "other.yaml") == 2
    assert at("ben", "propose", "recover", "eve", "-o", "other.yaml") == 0
    assert 'eve: "0.750000"' in Path("other.yaml").read_text()


def test_an_epsilon_of_no_recovery_is_wrong_use_and_signs_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was left aside without a word."""
    assert at("ada", "propose", "remove", "eve", "--epsilon", "0.5", "-o", "change.yaml") == 2
    assert "--epsilon is of recover NAME" in capsys.readouterr().err
    assert not Path("change.yaml").exists()
    assert at("ada", "propose", "remove", "dot", "-o", "change.yaml") == 0


def test_a_joiner_signs_the_agreement_or_its_change_is_not_approved(
    agreed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proposed("add", "fay/fay.card")
    shutil.copy("change.yaml", "hers.yaml")
    for name in ("ben", "cyd", "dot"):
        assert at(name, "approve", "change.yaml", "--yes") == 0
    told = capsys.readouterr().out
    assert "no signature of fay, which joins, under the agreement" in told
    assert "p2pfl peers accept change.yaml     (at fay)" in told
    assert at("ada", "adopt", "change.yaml") == 2
    assert "P2P-FED-035" in capsys.readouterr().err

    assert at("fay", "accept", "hers.yaml", "--agreement", "baa.pdf", "--yes", "--json") == 0
    captured = capsys.readouterr()
    named = hashlib.sha256(Path("baa.pdf").read_bytes()).hexdigest()
    assert json.loads(captured.out.splitlines()[-1])["agreement"] == named
    assert f"agreement SHA-256 {named}" in captured.err
    assert at("ada", "adopt", "change.yaml", "hers.yaml", "--json") == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (facts["approved"], facts["joins_signed"]) == (True, ["fay"])
    with opened("ada") as home:
        held = held_change(home)
        assert held is not None
        assert set(held.signatures) == {"ada", "ben", "cyd", "dot", "fay"}


@pytest.mark.claim("MEMBER-3")
@pytest.mark.parametrize(
    ("name", "more", "code"),
    [
        ("ben", ["--yes"], "P2P-FED-047"),  # a member already
        ("fay", ["--yes", "--agreement", "peers.yaml"], "P2P-FED-048"),  # another document
        ("fay", ["--yes"], "P2P-FED-057"),  # none
        ("fay", ["--agreement", "baa.pdf"], "P2P-USE-001"),  # nobody was asked
    ],
)
def test_who_does_not_join_or_holds_another_agreement_does_not_sign(
    agreed: Path, name: str, more: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    proposed("add", "fay/fay.card")
    assert at(name, "accept", "change.yaml", *more) == 2
    err = capsys.readouterr().err
    assert f"error {code}:" in err
    if code == "P2P-FED-047":
        assert run(err.splitlines()[-1].split()[2:]) == 0
        assert capsys.readouterr().out.startswith(f"  {name}  ")
    assert set(changefile.load("change.yaml").signatures) == {"ada"}


def test_signatures_of_several_copies_are_put_together(here: Path) -> None:
    proposed("remove", "eve")
    for name in ("ben", "cyd"):
        shutil.copy("change.yaml", f"{name}.yaml")
        assert at(name, "approve", f"{name}.yaml", "--yes") == 0
    assert at("dot", "approve", "ben.yaml", "cyd.yaml", "--yes") == 0
    assert set(changefile.load("ben.yaml").signatures) == {"ada", "ben", "cyd", "dot"}
    assert at("eve", "adopt", "ben.yaml", "-o", "peers-2.yaml") == 0
    assert Federation.load("peers-2.yaml").roster.names == NAMES[:4]


def test_a_change_is_not_adopted_where_the_file_that_was_asked_for_cannot_be_written(here: Path) -> None:
    """The home had it, and the exit status said that nothing was done."""
    proposed("remove", "eve")
    for name in ("ben", "cyd", "dot"):
        assert at(name, "approve", "change.yaml", "--yes") == 0
    assert at("eve", "adopt", "change.yaml", "-o", "peers.yaml") == 2
    with opened("eve") as home:
        assert held_change(home) is None


@pytest.mark.claim("MEMBER-2")
def test_a_site_signs_one_change_for_each_epoch(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proposed("remove", "eve")
    assert at("ada", "propose", "remove", "dot", "-o", "other.yaml") == 2
    assert "P2P-FED-033" in capsys.readouterr().err
    assert not Path("other.yaml").exists()
    proposed("remove", "dot", name="ben", file="other.yaml")
    assert at("ada", "approve", "other.yaml", "--yes") == 2
    assert set(changefile.load("other.yaml").signatures) == {"ben"}
    assert at("ada", "approve", "change.yaml", "--yes") == 0  # the same one again is no second one


@pytest.mark.claim("MEMBER-2")
def test_what_is_signed_is_on_the_disk_before_its_signature_is_seen(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("p2pfl.federation.membership.Change.sign", fail)
    assert at("ada", "propose", "remove", "eve", "-o", "change.yaml") == 130
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert at("ada", "propose", "remove", "dot", "-o", "other.yaml") == 2
    proposed("remove", "eve")


def test_a_signed_change_whose_file_was_lost_is_written_once_more(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert at("ada", "propose", "--again", "-o", "change.yaml") == 2
    assert "P2P-FED-050" in capsys.readouterr().err
    proposed("remove", "eve")
    lost = changefile.load("change.yaml")
    Path("change.yaml").unlink()
    assert at("ada", "propose", "--again", "remove", "dot", "-o", "change.yaml") == 2
    assert at("ada", "propose", "-o", "change.yaml") == 2
    assert at("ada", "propose", "--again", "-o", "change.yaml") == 0
    assert changefile.load("change.yaml") == lost


@pytest.mark.claim("MEMBER-4")
def test_a_change_that_would_never_begin_is_not_signed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every approver sees when it begins.

    A site signs one change for each epoch: an approved one that never begins would end all changes for good.
    """
    assert at("ada", "propose", "remove", "eve", "--from-round", "1000000", "-o", "change.yaml") == 2
    assert "P2P-FED-051" in capsys.readouterr().err
    federation, lineage = _standing("ben")
    record = record_of(
        lineage, amend(federation, federation.roster.members[:4], lineage.genesis), of="training", from_round=1 << 40
    )
    Path("change.yaml").write_bytes(changefile.to_bytes(Change(record, {})))
    assert at("ben", "approve", "change.yaml", "--yes") == 2
    assert "P2P-FED-051" in capsys.readouterr().err
    Path("change.yaml").unlink()
    assert at("ada", "propose", "remove", "eve", "--from-round", "7", "-o", "change.yaml") == 0
    assert at("ben", "approve", "change.yaml", "--yes") == 0
    assert "not before round 7 of the training" in capsys.readouterr().err


def _standing(name: str) -> tuple[Federation, Lineage]:
    with opened(name) as home:
        return standing(home, Federation.load("peers.yaml"))


@pytest.mark.claim("MEMBER-4")
@pytest.mark.parametrize("keys", [b"\x03", b"\x04", b"n\n", b"\n"], ids=repr)
def test_whoever_does_not_say_yes_at_the_prompt_has_signed_nothing(here: Path, keys: bytes) -> None:
    proposed("remove", "eve")
    before = Path("change.yaml").read_bytes()
    ben = ["approve", "change.yaml", "--home", "ben", "--key-file", "ben.key"]
    assert at_a_terminal(ben, b"sign it as ben?", keys) == 130
    assert Path("change.yaml").read_bytes() == before
    assert not Path("ben/membership/signed").exists()


def at_a_terminal(arguments: list[str], prompt: bytes, keys: bytes) -> int:
    """The status of `p2pfl peers …` at a terminal, at which somebody types `keys` when it shows the prompt."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "p2pfl", "peers", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    shown, until = b"", time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < until:
            if select.select([ours], [], [], 0.5)[0]:
                shown += os.read(ours, 4096)
            elif prompt in shown:  # what is typed while the line editor takes the terminal over may be lost
                os.write(ours, keys)
    except OSError:  # Linux says EIO when the other end is closed
        pass
    finally:
        os.close(ours)  # hangs up, should it still be there
    return child.wait(DEADLINE_S)


@pytest.mark.claim("MEMBER-5")
def test_a_change_that_cannot_be_written_is_not_signed(here: Path) -> None:
    assert at("ada", "propose", "remove", "eve", "-o", "no/such/folder/change.yaml") == 1
    Path("change.yaml").symlink_to("nowhere")
    assert at("ada", "propose", "remove", "eve", "-o", "change.yaml") == 2
    Path("change.yaml").unlink()
    proposed("remove", "dot")


@pytest.mark.claim("MEMBER-5")
def test_a_signature_that_is_spoilt_in_one_copy_takes_no_good_one_of_another_away(here: Path) -> None:
    proposed("remove", "eve")
    good = changefile.load("change.yaml")
    Path("ben.yaml").write_bytes(changefile.to_bytes(replace(good, signatures={"ada": bytes(64)})))
    for files in (("change.yaml", "ben.yaml"), ("ben.yaml", "change.yaml")):
        assert at("ben", "approve", *files, "--yes") == 0
        assert changefile.load(files[0]).signatures["ada"] == good.signatures["ada"]


@pytest.mark.claim("HOME-3")
def test_what_somebody_lays_beside_a_change_is_not_written_through(here: Path) -> None:
    proposed("remove", "eve")
    Path("mine").write_text("of great value")
    Path("change.yaml.new").symlink_to("mine")
    assert at("ben", "approve", "change.yaml", "--yes") == 0
    assert Path("mine").read_text() == "of great value"
    assert not Path("change.yaml").is_symlink()
    assert set(changefile.load("change.yaml").signatures) == {"ada", "ben"}


def test_without_a_terminal_nothing_is_signed_unless_it_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proposed("remove", "eve")
    assert at("ben", "approve", "change.yaml") == 2
    assert "--yes" in capsys.readouterr().err
    assert set(changefile.load("change.yaml").signatures) == {"ada"}


@pytest.mark.claim("MEMBER-1", "MEMBER-7")
@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("max_epsilon: 3.0", "max_epsilon: 9.0", "P2P-FED-036"),
        ("rounds: 8", "rounds: 9", "P2P-FED-036"),
        ("federation: trial", "federation: trail", "P2P-FED-036"),
        ("removed: [eve]", "removed: []", "P2P-FED-034"),
        ("from_round: 2", "from_round: 1", "P2P-FED-007"),
        ("  first:", "  frist:", "P2P-FED-004"),
    ],
)
def test_a_change_that_was_edited_is_not_signed(
    here: Path, old: str, new: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(proposed("remove", "eve")).read_text()
    assert old in text
    Path("change.yaml").write_text(text.replace(old, new))
    assert at("ben", "approve", "change.yaml", "--yes") == 2
    assert f"error {code}:" in capsys.readouterr().err


@pytest.fixture
def starred(here: Path) -> Path:
    """The same with a hub, ada."""
    return begun_anew(here, "topology=hub", "hub=ada")


def test_removing_the_hub_without_a_successor_is_refused(starred: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that the refusal shows makes a change that is approved."""
    assert at("ben", "propose", "remove", "ada", "-o", "change.yaml") == 2
    told = capsys.readouterr().err
    assert "error P2P-FED-043:" in told
    command = told[told.index("p2pfl peers propose remove") :].split()
    assert at("ben", *command[2:]) == 0
    assert "-hub: ada" in (shown := capsys.readouterr().out)
    assert "ben is the hub then" in shown
    for name in ("cyd", "dot", "eve"):
        assert at(name, "approve", "change.yaml", "--yes", "--json") == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (facts["approved"], facts["removed"], facts["hub"]) == (True, ["ada"], "ben")


def test_a_change_whose_file_makes_a_hub_of_a_mesh_is_not_signed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(proposed("remove", "eve")).read_text()
    Path("change.yaml").write_text(text.replace("topology: mesh", "topology: hub").replace("hub: null", "hub: ben"))
    assert at("ben", "approve", "change.yaml", "--yes") == 2
    assert "error P2P-FED-036:" in capsys.readouterr().err


def test_a_change_that_is_not_approved_is_not_adopted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proposed("remove", "eve")
    assert at("ben", "adopt", "change.yaml") == 2
    captured = capsys.readouterr().err
    assert "P2P-FED-035" in captured
    assert "is not approved yet: 3 more signatures (1 of 4 there)." in captured


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        (["remove", "gus"], "P2P-FED-031"),
        (["rotate", "gus", "fay/fay.card"], "P2P-FED-031"),
        (["rotate", "eve", "fay/fay.card"], "P2P-FED-031"),
        (["add", "eve/eve.card"], "P2P-FED-032"),
        (["add"], "P2P-USE-001"),
        (["swap", "eve"], "P2P-USE-001"),
        (["hub", "ben", "hub", "cyd"], "P2P-USE-001"),
        (["hub", "ben"], "P2P-FED-044"),
        (["remove", "eve", "remove", "dot", "remove", "cyd"], "P2P-FED-011"),
    ],
)
def test_a_step_that_cannot_be_is_refused_before_anything_is_signed(
    here: Path, steps: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert at("ada", "propose", *steps, "-o", "change.yaml") == 2
    assert f"error {code}:" in capsys.readouterr().err
    assert not Path("change.yaml").exists()
    proposed("remove", "eve")


def test_a_change_is_never_said_to_begin_with_a_round_that_is_past() -> None:
    change = cast(Change, SimpleNamespace(facts={"from_round": 2, "of": "training"}))
    assert begins(change, 1) == "not before round 2 of the training"
    assert begins(change, 2) == begins(change, 30) == "with one of the next rounds of the training"


def test_before_the_ledger_has_begun_there_is_nothing_to_change(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert at("fay", "propose", "remove", "eve", "-o", "change.yaml") == 2
    assert "P2P-FED-039" in capsys.readouterr().err


def test_a_site_that_has_moved_is_listed_elsewhere_under_the_key_that_it_has(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As docs/guide/members-and-keys.md says."""
    key = Federation.load("peers.yaml").roster["ben"].key
    card = ["--name", "ben", "--card", "--address", "ben.example:7443", "--home", "ben"]
    assert run(["init", *card, "--open-with", "key-file:ben.key"]) == 0
    assert Card.load("ben/ben.card").member.key == key
    capsys.readouterr()
    proposed("rotate", "ben", "ben/ben.card")
    shown = "".join(capsys.readouterr()).splitlines()
    assert [line.strip() for line in shown if line.startswith("+") and "ben" in line] == [
        '+    addresses: ["ben.example:7443"]'
    ]


def test_another_key_waits_in_the_home_until_its_epoch_begins(here: Path) -> None:
    with opened("ben") as home:
        before = home.identity().key
    assert at("ben", "new-key") == 0
    assert at("ben", "new-key", "-o", "again.card") == 0  # the same one, until it is taken
    card = Card.load("ben.next.card")
    assert card.member == Card.load("again.card").member
    assert card.member.key != before
    with opened("ben") as home:
        assert home.identity().key == before
        next_file = Federation.load("peers.yaml").raw.replace(before.hex().encode(), card.member.key.hex().encode())
        enter(home, Federation.parse(next_file))
        assert keys_of(home) == (card.member.key, before)
        assert Card.load("ben/ben.card").member.key == card.member.key


def test_a_key_is_revoked_at_once_and_only_as_many_as_the_quorum_can_stand(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert at("ada", "revoke", "eve") == 0
    assert "p2pfl peers propose remove eve" in capsys.readouterr().out
    with opened("ada") as home:
        assert revoked_keys(home) == [Federation.load("peers.yaml").roster["eve"].key]
    assert at("ada", "revoke", "eve") == 0
    assert at("ada", "revoke", "dot") == 2
    assert "P2P-FED-042" in capsys.readouterr().err
    for name in ("ada", "gus"):
        assert at("ada", "revoke", name) == 2
        assert "P2P-FED-031" in capsys.readouterr().err


@pytest.mark.claim("MEMBER-14")
def test_a_key_that_was_revoked_by_mistake_is_accepted_again_and_each_is_noted_once(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert at("ada", "revoke", "--undo", "eve") == 2
    assert "P2P-FED-052" in capsys.readouterr().err
    noted: list[OperatorEntry] = []
    with opened("ada") as home:
        logs: Any = SimpleNamespace(
            site=SimpleNamespace(records=lambda: noted),
            revocations=lambda: Counter(bytes.fromhex(read_facts(one.record)["options"]["key"]) for one in noted),
            time=1,
            note=lambda entry: noted.append(entry.salted(os.urandom)),
            entries=0,
        )
        watched = PendingChange(home, logs, Federation.load("peers.yaml"), print)
        for step in (("revoke", "eve"), ("revoke", "--undo", "eve"), ("revoke", "eve")):
            assert at("ada", *step) == 0
            for _ in range(2):
                assert watched._look() == ([] if "--undo" in step else ["eve"])
    assert [read_facts(one.record)["options"].get("undo", False) for one in noted] == [False, True, False]
    with pytest.raises(Revoked):
        watched.check_key("eve")


def test_all_of_it_works_beside_a_process_that_holds_the_home(here: Path) -> None:
    with opened("ada"):
        proposed("remove", "eve")
        assert at("ada", "revoke", "eve") == 0
        assert at("ada", "new-key") == 0
