"""A federation of five in memory: who they are, their genesis, and changes that any of them signed."""

from __future__ import annotations

from p2pfl.codec import facts
from p2pfl.federation import Federation, amend, draft
from p2pfl.federation.cards import Card
from p2pfl.federation.membership import Change, Lineage, record_of, run_of
from p2pfl.keys import Identity, SignedRecord, digest
from p2pfl.node.pledge import genesis_of, pledge_of
from p2pfl.roster import Address, Member
from p2pfl.sharing.digests import base_digest
from tests.federation.sample import TASK
from tests.ledger.sample import round_facts

AGREEMENT = "ab" * 32
NAMES = ("ada", "ben", "cyd", "dot", "eve")
IDENTITIES = {name: Identity(digest("test identity", name.encode())) for name in (*NAMES, "fay", "ben again")}


def member(name: str, key: str = "") -> Member:
    """The site `name`; with another key than its own where `key` names one."""
    address = Address(f"{name}.example", 7443)
    return Card.sign(IDENTITIES[key or name], name, [address]).member


def federation(*settings: str) -> Federation:
    """Epoch 1."""
    return Federation.parse(draft.peers_file("trial", [member(name) for name in NAMES], TASK, settings))


def lineage(of: Federation) -> Lineage:
    """Where its ledger stands after the genesis."""
    return Lineage.of_genesis(genesis_of(of))


def next_file(of: Federation, here: Lineage, **steps: object) -> bytes:
    """The peers.yaml after `add`, `remove` and `rotate`, as amend.changed takes them."""
    return amend.amend(of, amend.changed(of.roster, **steps), here.genesis)  # type: ignore[arg-type]


def change(
    of: Federation,
    here: Lineage,
    signers: tuple[str, ...] = NAMES,
    from_round: int = 4,
    what: str = "training",
    recovered: dict[str, str] | None = None,
    **steps: object,
) -> Change:
    """Signed by those names with the keys that they have in epoch 1."""
    file = next_file(of, here, **steps)
    made = Change(record_of(here, file, of=what, from_round=from_round, recovered=recovered), {})
    for name in signers:
        made = made.sign(IDENTITIES[name], name)
    return made


def with_agreement(signers: tuple[str, ...] = (*NAMES, "fay")) -> tuple[Federation, Change]:
    """A federation under an agreement, and the change by which fay joins, signed by those names."""
    of = federation(f"agreement.sha256={AGREEMENT}")
    return of, change(of, lineage(of), signers, add=[member("fay")])


def all_three(signers: tuple[str, ...] = NAMES) -> Change:
    """fay joins, eve leaves, ben has another key."""
    of = federation()
    return change(
        of, lineage(of), signers, add=[member("fay")], remove=["eve"], rotate={"ben": member("ben", "ben again")}
    )


# ── a ledger of two epochs ────────────────────────────────────────────────────────────────────────────────────


def new_keys(change: Change) -> dict[str, Identity]:
    """By name, the identities of the epoch that the change begins."""
    by_key = {one.key: one for one in IDENTITIES.values()}
    return {member.name: by_key[member.key] for member in change.federation().roster.members}


def old_keys() -> dict[str, Identity]:
    return {name: IDENTITIES[name] for name in NAMES}


def round_row(
    number: int, before: bytes, by: dict[str, Identity], epoch: int = 1, of: Federation | None = None, **changed: object
) -> SignedRecord:
    """A round of the training, resting on the record `before` (empty: none), signed by all of `by`."""
    run = run_of((of or federation()).first, b"", "training")
    held = round_facts(
        number,
        run=run.hex(),
        epoch=epoch,
        survivors=list(by),
        epsilon=dict.fromkeys(by, f"0.{number:02}"),
        rests_on=number - 1,
        base=base_digest(before).hex() if before else bytes(32).hex(),
        site_heads=dict.fromkeys(by, "a" * 64),
        **changed,
    )
    record = facts(held)
    return record, {name: one.sign("record", record) for name, one in by.items()}


def genesis_row(of: Federation | None = None) -> SignedRecord:
    return _by_all(genesis_of(of or federation()))


def agreement_rows(of: Federation | None) -> list[SignedRecord]:
    """The entry behind the genesis, where there is one."""
    record = pledge_of(of).agreement if of else b""
    return [_by_all(record)] if record else []


def _by_all(record: bytes) -> SignedRecord:
    return record, {name: one.sign("record", record) for name, one in old_keys().items()}


def two_epochs(
    change: Change, last: int = 3, announced: str | None = None, after: int = 2, of: Federation | None = None
) -> list[SignedRecord]:
    """Genesis, `last` rounds of which the last announces the change, the change, and rounds under the new roster."""
    rows = [genesis_row(of), *agreement_rows(of)]
    for number in range(1, last + 1):
        says = {"announced": change.digest.hex() if announced is None else announced} if number == last else {}
        rows.append(round_row(number, rows[-1][0] if number > 1 else b"", old_keys(), of=of, **says))
    rows.append((change.record, change.signatures))
    before = rows[-2][0]
    for number in range(last + 1, last + 1 + after):
        rows.append(round_row(number, before, new_keys(change), epoch=2, of=of))
        before = rows[-1][0]
    return rows
