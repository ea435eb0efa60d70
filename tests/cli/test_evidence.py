"""`ledger evidence`: what a node keeps against a liar is shown, written, and checked by anyone who has peers.yaml."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.cli.main import run
from p2pfl.errors.round import ProvenLiar
from p2pfl.keys import Identity, digest
from p2pfl.ledger.log import Log
from p2pfl.messages import Ack, Envelope, Letter, Message, Ready, seal
from p2pfl.node.effects import EffectRunner
from p2pfl.node.progress import Progress, RuleBroken
from p2pfl.node.store import Store
from p2pfl.peer.epoch import sums_run, training_run
from p2pfl.sharing import events as e
from p2pfl.sharing.evidence import convict
from tests.node.runs.homes import NAMES, Place, places

ME, LIAR, OTHER = NAMES
D = digest("attempt")


@dataclass
class Site:
    """A home whose node accuses, peers.yaml beside it, and what the command printed."""

    place: Place
    folder: Path
    capsys: pytest.CaptureFixture[str]
    told: list[Progress]

    @property
    def run(self) -> bytes:
        return training_run(self.place.federation)

    def said(self, message: Message, by: str = LIAR, attempt: int = 0, run: bytes = b"", epoch: int = 1) -> Letter:
        envelope = Envelope(run or self.run, epoch, 7, attempt, by, bytes(16))
        return seal(message, envelope, self.place.identities[by])

    def proof(self, attempt: int = 0, by: str = LIAR, **place: Any) -> tuple[bytes, ...]:
        """Two READYs of one attempt under one signature."""
        return tuple(self.said(Ready(D, bytes([k]) * 32), by, attempt, **place).wire for k in (1, 2))

    def accuse(self, proof: Sequence[bytes], peer: str = LIAR) -> None:
        """As a running node does it."""
        logs = self.place.logs()
        nothing: Any = SimpleNamespace(clocks=None)
        store = Store(self.place.home, logs, nothing)
        runner = EffectRunner(nothing, store, nothing, nothing, nothing, self.told.append)
        held: Any = SimpleNamespace(
            run=SimpleNamespace(context=SimpleNamespace(run=self.run, roster=self.place.federation.roster))
        )
        error = ProvenLiar(peer=peer, evidence="two statements")
        asyncio.run(runner._accuse(held, e.Accuse(peer, 7, 0, error, tuple(proof))))

    def keep(self, *proofs: Sequence[bytes]) -> None:
        for proof in proofs:
            data = codec.pack(tuple(proof))
            self.place.home.replace(f"state/evidence/{digest('evidence', data).hex()[:16]}", data)

    def p2pfl(self, *arguments: str) -> tuple[int, str, str]:
        """`p2pfl ledger evidence` with these arguments: exit status, stdout, stderr."""
        self.capsys.readouterr()
        status = run(["ledger", "evidence", *arguments])
        out, err = self.capsys.readouterr()
        return status, out, err

    def shown(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        status, out, _ = self.p2pfl(*arguments, "--json")
        found = json.loads(out.splitlines()[-1])
        assert isinstance(found, dict)
        return status, found

    def file(self, proof: object, name: str = "a.proof") -> str:
        path = self.folder / name
        path.write_bytes(proof if isinstance(proof, bytes) else codec.pack(proof))
        return str(path)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    one, other = places(tmp_path)
    one.logs()
    (tmp_path / "peers.yaml").write_bytes(one.federation.raw)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P2PFL_HOME", str(one.home.path))
    yield Site(one, tmp_path, capsys, [])
    for each in (one, other):
        each.home.close()


def test_what_a_node_keeps_against_a_liar_is_shown_and_is_what_its_log_names(site: Site) -> None:
    site.accuse(site.proof())
    status, found = site.shown()
    (one,) = found["proofs"]
    assert (status, found["name"], one["convicts"], one["reason"]) == (0, ME, LIAR, None)
    assert (one["round"], one["attempt"], one["run"]) == (7, 0, site.run.hex())
    assert one["letters"] == [{"kind": "Ready", "sender": LIAR}] * 2
    entry = codec.read_facts(list(Log.open(site.place.home, "site").records())[-1].record)
    assert (entry["kind"], entry["peer"], entry["proof"]) == ("breach", LIAR, one["proof"])
    (told,) = site.told
    assert isinstance(told, RuleBroken)
    assert one["proof"].startswith(told.proof)


def test_a_home_without_a_proof_says_so(site: Site) -> None:
    assert site.p2pfl() == (0, f"{ME}: no proof is kept here\n", "")
    assert site.shown() == (0, {"name": ME, "proofs": []})
    (site.place.home.path / "state/evidence").rmdir()  # a home of an earlier version
    assert site.p2pfl()[0] == 0


def test_the_list_says_who_broke_what_in_one_line_for_each_proof(site: Site) -> None:
    site.keep(site.proof(), site.proof(1, OTHER), [site.said(Ready(D, D)).wire])
    status, out, _ = site.p2pfl()
    first, *lines = out.splitlines()
    assert (status, first, len(lines)) == (0, f"{ME}: 3 proofs", 3)
    assert any(f"{LIAR} broke the protocol" in line and "2 Ready, round 7, attempt 0" in line for line in lines)
    assert any(f"{OTHER} broke the protocol" in line and "attempt 1" in line for line in lines)
    assert any("proves nothing: " in line and "1 Ready" in line for line in lines)


@pytest.mark.claim("LIAR-4")
def test_a_proof_is_written_to_a_file_that_others_check_with_peers_yaml_alone(site: Site) -> None:
    site.keep(site.proof())
    status, written = site.shown("-o", "out.proof")
    assert (status, written["path"], written["convicts"]) == (0, "out.proof", LIAR)
    wires = codec.unpack((site.folder / "out.proof").read_bytes(), most=1 << 20, items=8)
    assert convict(wires, site.place.federation.roster) == LIAR
    status, checked = site.shown("--check", "out.proof", "--peers", "peers.yaml", "--home", "nowhere")
    assert (status, checked) == (0, {key: value for key, value in written.items() if key != "path"})
    status, out, _ = site.p2pfl("--check", "out.proof")
    assert (status, out.startswith(f"out.proof: {LIAR} broke the protocol; 2 Ready")) == (0, True)
    assert site.place.identities[LIAR].key.hex() in out


def test_what_a_home_of_one_study_keeps_is_listed_without_a_peers_file(site: Site) -> None:
    site.keep(site.proof())
    (site.folder / "peers.yaml").unlink()
    assert len(site.shown()[1]["proofs"]) == 1


def test_a_file_is_never_overwritten(site: Site) -> None:
    site.keep(site.proof())
    site.file(b"mine", "out.proof")
    assert site.p2pfl("-o", "out.proof")[0] == 2
    assert (site.folder / "out.proof").read_bytes() == b"mine"


def test_of_several_proofs_the_one_that_is_named_is_written(site: Site) -> None:
    site.keep(site.proof(), site.proof(1, OTHER))
    names = [one["proof"][:16] for one in site.shown()[1]["proofs"]]
    status, _, err = site.p2pfl("-o", "out.proof")
    assert (status, all(name in err for name in names)) == (2, True)
    assert site.p2pfl("ffffffffffffffff0", "-o", "out.proof")[0] == 2
    assert not (site.folder / "out.proof").exists()
    for number, name in enumerate(names):
        status, found = site.shown(name[:8], "-o", f"{number}.proof")
        assert (status, found["proof"][:16]) == (0, name)
    assert len(site.shown(names[0])[1]["proofs"]) == 1


def test_nothing_to_write_is_wrong_use(site: Site) -> None:
    status, _, err = site.p2pfl("-o", "out.proof")
    assert (status, "none is kept here" in err) == (2, True)


def test_check_takes_neither_a_proof_of_the_home_nor_a_file_to_write(site: Site) -> None:
    path = site.file(site.proof())
    for more in (["-o", "out.proof"], ["abcd"]):
        assert site.p2pfl("--check", path, *more)[0] == 2


def innocent(site: Site) -> dict[str, object]:
    """What proves nothing, and must not be taken for a proof."""
    one, two = site.proof()
    stranger = Identity(bytes([9]) * 32)
    place = Envelope(site.run, 1, 7, 0, LIAR, bytes(16))
    forged = [seal(Ready(D, bytes([k]) * 32), place, stranger).wire for k in (1, 2)]
    grown = [site.said(Ack(held, ())).wire for held in ((), ((ME, D),))]
    return {
        "nothing": b"",
        "no msgpack": b"\xc1",
        "no list": codec.pack(one),
        "numbers": codec.pack((1, 2)),
        "no letters": (),
        "one letter": (one,),
        "the same twice": (one, one),
        "rubbish in a list": (one, b"rubbish"),
        "more behind it": codec.pack((one, two)) + b"\0",
        "cut": codec.pack((one, two))[:-1],
        "of two sites": (one, site.proof(by=OTHER)[1]),
        "of two attempts": (one, site.proof(1)[1]),
        "forged": tuple(forged),
        "acknowledgements, which may grow": tuple(grown),
        "letters without end": (one,) * 1000,
        "under another peers.yaml": site.proof(run=bytes(32)),
        "of another epoch": site.proof(epoch=2),
    }


def test_a_file_that_proves_nothing_ends_with_5_and_names_nobody(site: Site) -> None:
    for what, proof in innocent(site).items():
        path = site.file(proof)
        status, found = site.shown("--check", path)
        assert (status, found["convicts"], bool(found["reason"])) == (5, None, True), what
        status, out, err = site.p2pfl("--check", path)
        assert (status, out.startswith(f"{path}: proves nothing: "), err) == (5, True, ""), what


def test_a_lie_in_a_sum_is_proven_as_one_in_a_training_is(site: Site) -> None:
    path = site.file(site.proof(run=sums_run(site.place.federation)))
    assert site.shown("--check", path)[1]["convicts"] == LIAR


def test_a_proof_against_a_site_of_another_federation_is_none_here(site: Site) -> None:
    path = site.file(site.proof())
    other, _ = places(site.folder / "other")
    (site.folder / "other.yaml").write_bytes(other.federation.raw)
    assert site.shown("--check", path, "--peers", "other.yaml")[0] == 5
    assert site.shown("--check", path)[0] == 0


def test_a_file_that_is_not_there_and_a_missing_peers_file_are_errors_of_their_own(site: Site) -> None:
    assert site.p2pfl("--check", "nowhere")[0] == 2
    (site.folder / "peers.yaml").unlink()
    assert site.p2pfl("--check", site.file(site.proof()))[0] == 2


def test_a_breach_without_letters_keeps_nothing(site: Site) -> None:
    site.accuse(())
    assert site.shown()[1]["proofs"] == []
    assert [one.proof for one in site.told if isinstance(one, RuleBroken)] == [""]
