"""What the verbs that change the membership share: a change read from its copies, signed once, kept, and shown.

All of it works beside a `join` that runs: what it leaves in the home is taken up there within a second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import click

from p2pfl import codec
from p2pfl.errors.membership import ChangeNeverDue, ChangeOfSettings, ChangeUnfit, NothingSigned, SecondProposal
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation, changefile
from p2pfl.federation.amend import settings_of
from p2pfl.federation.difference import difference
from p2pfl.federation.membership import RUNS, Change, Lineage
from p2pfl.home import Home
from p2pfl.keys import fingerprint
from p2pfl.ledger import entry as entries
from p2pfl.ledger.log import Log
from p2pfl.node.epochs import keep_change
from p2pfl.roster import Quorums

SIGNED = "membership/signed"
BEHIND_ROUNDS = 2  # the last model's evaluation is a round, too, and a change may begin behind it

yes_option = click.option("--yes", is_flag=True, help="Do not ask: the difference was read elsewhere.")


def merged(files: Sequence[Path], federation: Federation, lineage: Lineage) -> Change:
    """One change with the signatures of all its copies, fit for the present epoch."""
    copies = [changefile.load(file) for file in files]
    first = copies[0]
    for file, copy in zip(files, copies, strict=True):
        if copy.record != first.record:
            _unfit(file, lineage, f"{files[0]} is another change")
    try:
        lineage.check_change(first)
    except codec.Malformed as error:
        _unfit(files[0], lineage, str(error))
    if settings_of(first.federation()) != settings_of(federation):
        evidence = difference(federation.raw, first.federation().raw).strip().splitlines()
        raise ChangeOfSettings(source=files[0], evidence="; ".join(evidence[3:7]))
    check_due(files[0], federation, first)
    # Of each copy, the signatures that count: a spoilt one must not replace a good one of another copy.
    counted = [lineage.counted(copy) for copy in copies]
    return Change(first.record, {name: one for copy in counted for name, one in copy.signatures.items()})


def _unfit(file: Path, lineage: Lineage, why: str) -> None:
    raise ChangeUnfit(source=file, epoch=lineage.roster.epoch, evidence=why)


def sign_once(home: Home, change: Change, lineage: Lineage) -> Change:
    """The change with this site's signature, which it gives to one change for each epoch. Raises SecondProposal."""
    epoch = lineage.roster.epoch + 1
    with home.beside():
        data = home.read(SIGNED)
        if data is not None:
            signed, record = codec.unpack(data, most=1 << 22, items=2)
            if signed >= epoch and record != change.record:
                evidence = f"signed before {Change(record, {}).digest.hex()[:16]}, now {change.digest.hex()[:16]}"
                raise SecondProposal(epoch=epoch, evidence=evidence)
        home.replace(SIGNED, codec.pack((epoch, change.record)))  # durable before the signature is seen
    return change.sign(home.identity(), home.name)


def signed_record(home: Home, lineage: Lineage) -> bytes:
    """The record of the one change to the next epoch that this site has signed. Raises NothingSigned."""
    data, epoch = home.read(SIGNED), lineage.roster.epoch + 1
    signed, record = codec.unpack(data, most=1 << 22, items=2) if data is not None else (0, b"")
    if signed != epoch:
        raise NothingSigned(epoch=epoch, evidence=f"the last one was to epoch {signed}" if signed else "none ever")
    return bytes(record)


def check_due(source: Path, federation: Federation, change: Change) -> None:
    """Raises ChangeNeverDue for a change that begins after the last round: it would waste every site's signature."""
    held, rounds = change.facts, federation.rounds
    if held["of"] == RUNS[0] and held["from_round"] > rounds + BEHIND_ROUNDS:
        evidence = f"from round {held['from_round']} of the {held['of']}"
        raise ChangeNeverDue(source=source, rounds=rounds, evidence=evidence)


def keep_if_complete(home: Home, change: Change, lineage: Lineage) -> bool:
    if lineage.lacking(change):
        return False
    keep_change(home, change)
    return True


def rounds_done(home: Home, of: str) -> int:
    """The last final round of the runs that a change counts, by this home's ledger; 0 before the first."""
    records = (entries.read_record(one.record) for one in Log.open(home, "federation").records())
    rounds = (held for held in records if held["kind"] == "round")
    return max(
        (held["round"] for held in rounds if (held["configuration"].get("purpose") == "sum") == (of == "sums")),
        default=0,
    )


def begins(change: Change, done: int) -> str:
    """When the change comes into force; `done` as in `rounds_done`."""
    held = change.facts
    if held["from_round"] <= done:
        return f"with one of the next rounds of the {held['of']}"
    return f"not before round {held['from_round']} of the {held['of']}"


def change_lines(federation: Federation, change: Change, done: int) -> list[str]:
    """The difference line by line, and the words of every key that is new."""
    new, held = change.federation(), change.facts
    shown_difference = difference(federation.raw, new.raw, f"epoch {federation.roster.epoch}", f"epoch {held['epoch']}")
    words = [f"  {name}  {fingerprint(new.roster[name].key)}" for name in (*held["added"], *held["rotated"])]
    quorums: Quorums = new.roster.quorums
    lines = [
        shown_difference.rstrip("\n"),
        begins(change, done),
        *([f"{new.hub} is the hub then"] if new.hub != federation.hub else []),
        *(
            f"{name} goes on from an older home of its own, with an epsilon of {spent} spent at the least"
            for name, spent in held.get("recovered", {}).items()
        ),
        f"then {quorums.n} sites; {quorums.q} of them certify a sum; up to {quorums.c} may lie",
        *_noise_lines(new),
    ]
    return [*lines, *(["new keys; have their words read to you by those whose they are:"] if words else []), *words]


def _noise_lines(new: Federation) -> list[str]:
    """Where noise is no longer made for as many colluding sites as were agreed on."""
    agreed, most = new.privacy.colluders, new.roster.quorums.q - 2
    noised = new.privacy.is_distributed or new.measures.noise_multiplier or new.statistics.noise_multiplier
    if not noised or agreed is None or agreed <= most:
        return []
    return [
        f"noise of which each site adds a part is then for {most} colluding sites, as many as a sum holds out, "
        f"and not for {agreed}: of updates and questions, and of looks at held-out records"
    ]


def signature_lines(lineage: Lineage, change: Change, path: Path, complete: bool, done: int) -> list[str]:
    """Who has signed the change, and what happens next; `done` as in `rounds_done`."""
    held, quorums = change.facts, lineage.roster.quorums
    sites = f"{quorums.q} of the {quorums.n} sites of epoch {lineage.roster.epoch} are needed"
    lines = [f"{path}: signed by {signers(lineage, change)}; {sites}"]
    if complete:
        with_ = "one of the next rounds" if held["from_round"] <= done else f"round {held['from_round']} or a later one"
        return [*lines, f"it is approved, and begins with {with_}; a join that runs hands it to the others"]
    file, added = quote(path.name), ", ".join(held["added"])
    joins = [f"  p2pfl peers accept {file}     (at {added})"] if "agreement" in held else []
    lacking = f"still lacking: {lineage.lacking(change)}; hand this file on, and there run"
    return [*lines, lacking, f"  p2pfl peers approve {file}", *joins]


def signers(lineage: Lineage, change: Change) -> str:
    return ", ".join(lineage.signers(change)) or "nobody"


def change_facts(path: Path, change: Change, lineage: Lineage) -> dict[str, object]:
    held = change.facts
    return {
        "path": str(path),
        "change": change.digest.hex(),
        "approved": not lineage.lacking(change),
        "signed_by": lineage.signers(change),
        "joins_signed": lineage.joiners(change),
        "quorum": lineage.roster.quorums.q,
        "hub": change.federation().hub,
        "recovered": held.get("recovered", {}),
        **{key: held[key] for key in ("epoch", "of", "from_round", "federation_digest", "added", "removed", "rotated")},
    }


def confirm(question: str, verb: str = "approve") -> None:
    if not sys.stdin.isatty():
        raise WrongUse(
            evidence="stdin is no terminal to ask at; --yes says that the difference was read", verb=f" peers {verb}"
        )
    click.confirm(question, abort=True, err=True)
