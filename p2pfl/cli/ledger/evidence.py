"""`p2pfl ledger evidence`: the proofs against liars that a home keeps, and whether a file is one.

A proof is letters under their author's own signature that no honest site would have signed together
(sharing/evidence.py). The file holds exactly what the home keeps: msgpack of the letters, whose digest stands in the
`breach` entry of the site log. Whoever has peers.yaml can check it, with no home and no key.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any, Final

import click

from p2pfl import codec
from p2pfl.cli import output
from p2pfl.cli.options import PEERS, Unlock, home_option, json_option, read_whole, reading, unlock_options, write_new
from p2pfl.errors import EXIT_DONE, EXIT_INTEGRITY
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.home.sealing import EVIDENCE
from p2pfl.keys import digest
from p2pfl.ledger.log import Log
from p2pfl.messages import Letter, Message, read_letter, read_proof
from p2pfl.node.logs import epochs_of
from p2pfl.roster import Roster

VERB: Final = " ledger evidence"


@dataclass(frozen=True, slots=True)
class Proof:
    """Letters as they are kept, and what they show: `liar` is empty and `reason` says why when it is nothing."""

    name: str
    data: bytes
    letters: tuple[Letter[Message], ...]
    liar: str
    reason: str

    @property
    def text(self) -> str:
        """What the letters are: 2 Ready, round 7, attempt 0."""
        kinds = Counter(type(letter.message).__name__ for letter in self.letters)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "no letters"
        if not self.letters:
            return listed
        at = self.letters[0].envelope
        return f"{listed}, round {at.round}, attempt {at.attempt}"

    @property
    def facts(self) -> dict[str, Any]:
        """What `--json` says of it."""
        at = self.letters[0].envelope if self.letters else None
        return {
            "proof": digest("evidence", self.data).hex(),
            "convicts": self.liar or None,
            "reason": self.reason or None,
            "run": at.run.hex() if at else None,
            "round": at.round if at else None,
            "attempt": at.attempt if at else None,
            "letters": [{"kind": type(one.message).__name__, "sender": one.sender} for one in self.letters],
            "bytes": len(self.data),
        }


def proof_of(name: str, data: bytes, *rosters: Roster) -> Proof:
    """What `data` proves under the keys of one of these rosters: that of the epoch of which its letters are."""
    # Loaded late: it brings the arithmetic of the sums, which no other verb of the ledger needs.
    from p2pfl.sharing import evidence as proofs

    letters: tuple[Letter[Message], ...] = ()
    try:
        wires = read_proof(data)
        letters = tuple(read_letter(wire) for wire in wires)
        epoch = letters[0].envelope.epoch if letters else 0
        roster = next((one for one in rosters if one.epoch == epoch), rosters[-1])
        return Proof(name, data, letters, proofs.convict(wires, roster), "")
    except codec.Malformed as error:
        return Proof(name, data, letters, "", str(error))


def proofs_in(home: Home) -> list[Proof]:
    """The proofs in `home`, each checked with the keys that its ledger names for that epoch."""
    if not (home.folder / EVIDENCE).is_dir():  # of an earlier version, and never opened for writing since
        return []
    items = home.items(EVIDENCE)
    rosters = epochs_of(home, Log.open(home, "federation")).rosters if items else ()
    rosters = rosters or (Roster(0, ()),)  # without a genesis, no letter has a known author
    held = ((item.rpartition("/")[2], home.read(item)) for item in items)
    return [proof_of(name, data, *rosters) for name, data in held if data is not None]


@click.command()
@click.argument("chosen", metavar="[PROOF]", required=False)
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write that proof, or the only one, to this file; one that exists is never overwritten.",
)
@click.option(
    "--check",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Check such a file with peers.yaml alone; exit status 5 when it proves nothing.",
)
@click.option(
    "--peers",
    "peers_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --check: the peers file of the sites.  [default: peers.yaml]  Else, of a home of several studies, that "
    "of the study that is meant.",
)
@home_option
@unlock_options
@json_option
def evidence(
    chosen: str | None,
    target: Path | None,
    file: Path | None,
    peers_file: Path | None,
    home: Path,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """The proofs against sites that broke the protocol, which this home keeps; or whether a file is such a proof.

    PROOF is the beginning of a proof's name, as the list shows it.
    """
    if file is not None:
        if chosen is not None or target is not None:
            raise WrongUse(evidence="--check looks at a file alone: neither PROOF nor -o belongs to it", verb=VERB)
        _check(file, peers_file or PEERS, as_json)
        return
    with reading(home, unlock, peers_file) as opened:
        name, proofs = opened.name, proofs_in(opened)
    shown = [one for one in proofs if one.name.startswith(chosen or "")]
    if chosen is not None and not shown:
        raise WrongUse(evidence=f"no proof begins with {chosen!r}; {_names(proofs)}", verb=VERB)
    if target is not None:
        _write(shown, target, as_json)
        return
    facts: dict[str, object] = {"name": name, "proofs": [one.facts for one in shown]}
    output.result(_listed(name, shown), facts, as_json)


def _listed(name: str, proofs: list[Proof]) -> str:
    if not proofs:
        return f"{name}: no proof is kept here"
    rows = [[f"  {one.name}", _verdict(one), one.text, output.amount(len(one.data))] for one in proofs]
    return "\n".join([f"{name}: {output.counted(len(proofs), 'proof')}", output.aligned(rows, right=[3])])


def _verdict(one: Proof) -> str:
    return f"{one.liar} broke the protocol" if one.liar else f"proves nothing: {one.reason}"


def _names(proofs: list[Proof]) -> str:
    return f"kept here: {', '.join(one.name for one in proofs)}" if proofs else "none is kept here"


def _write(proofs: list[Proof], target: Path, as_json: bool) -> None:
    if len(proofs) != 1:
        raise WrongUse(evidence=f"-o writes one proof; say which: {_names(proofs)}", verb=VERB)
    (one,) = proofs
    write_new(target, one.data)
    check = f"any site can check it: p2pfl ledger evidence --check {quote(str(target))}"
    text = f"{target}: {_verdict(one)}; {one.text}\n{check}"
    output.result(text, {"path": str(target), **one.facts}, as_json)


def _check(file: Path, peers_file: Path, as_json: bool) -> None:
    from p2pfl.peer.epoch import sums_run, training_run

    federation = Federation.load(peers_file)
    roster = federation.roster
    one = proof_of(str(file), read_whole(file), roster)
    if one.liar and one.letters[0].envelope.run not in (training_run(federation), sums_run(federation)):
        # The same sites, with the same keys, may make up another federation, or have had another peers.yaml.
        one = replace(one, liar="", reason=f"letters under another peers.yaml than {peers_file}")
    signed = f"\n  signed by {one.liar}'s key in {peers_file}, {roster[one.liar].key.hex()}" if one.liar else ""
    output.result(f"{file}: {_verdict(one)}; {one.text}{signed}", one.facts, as_json)
    raise click.exceptions.Exit(EXIT_DONE if one.liar else EXIT_INTEGRITY)
