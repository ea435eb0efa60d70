"""From one epoch to the next in a home: which peers.yaml it goes on under, and what of the epoch before it lets go.

All of it happens before a node starts, in an order that a crash may cut anywhere: the change stands in the ledger
behind the round that announced it; what rounds of the epoch before left on the disk is gone, since none of them can
come to a sum any more; then the home holds the new file.
"""

from __future__ import annotations

from typing import Final

from p2pfl import codec
from p2pfl.errors.ledger import PeersFileUnknown
from p2pfl.errors.membership import NewKeyMissing, NotAMember, NothingToChange
from p2pfl.errors.round import NotInRoster
from p2pfl.federation import Federation
from p2pfl.federation.cards import Card
from p2pfl.federation.membership import Change, Lineage
from p2pfl.home import Home
from p2pfl.home.rekey import next_identity, take_identity
from p2pfl.ledger.log import Log
from p2pfl.node.hello import PEERS_ITEM
from p2pfl.node.logs import epochs_of
from p2pfl.roster import Member

AGREED: Final = "state/federation"
CHANGE: Final = "membership/change"
MOST_HELD: Final = 4 << 20
# Of an older home nobody can say whether words of this update have left, or what else the seed was used for.
OF_A_PASS: Final = ("state/residual", "state/pass")


def held_change(home: Home) -> Change | None:
    """The next change that this home was given, with its signatures. Unchecked: its user checks it again."""
    data = home.read(CHANGE)
    if data is None:
        return None
    record, signed = codec.unpack(data, most=MOST_HELD, items=4096)
    return Change(record, dict(signed))


def keep_change(home: Home, change: Change) -> None:
    """The home holds the change; also beside a process that works in it."""
    with home.beside():
        home.replace(CHANGE, codec.pack((change.record, tuple(sorted(change.signatures.items())))))


def standing(home: Home, given: Federation) -> tuple[Federation, Lineage]:
    """The peers.yaml of the epoch that this home's ledger has reached, and how it came to it. Changes nothing.

    Raises NothingToChange, OtherFederation, PeersFileUnknown, MembershipBroken.
    """
    log = Log.open(home, "federation")
    lineage = epochs_of(home, log).lineage
    if lineage is None:
        raise NothingToChange(evidence=f"the federation log in {home.path} is empty")
    if not _akin(given, lineage):
        log.expect_genesis(b"", b"another")  # raises
    return _agreed(home, given, lineage), lineage


def current(home: Home, given: Federation) -> Federation:
    """The peers.yaml of the epoch that this home's ledger has reached; `given` while that has not begun."""
    try:
        return standing(home, given)[0]
    except NothingToChange:
        return given


def enter(home: Home, given: Federation) -> Federation:
    """The peers.yaml under which this home goes on: `given`, or that of the epoch which its ledger has reached.

    A file of an earlier epoch names the federation as well as the newest one does, so a service need not be told of
    each change. Raises NotAMember, NotInRoster, NewKeyMissing, PeersFileUnknown, MembershipBroken.
    """
    federation = _reached(home, given)
    waits, before = _key_waits(home, federation), home.read(AGREED)
    if before is not None and (waits or before != federation.raw):  # also behind a leap that was cut short
        _let_go(home, *(OF_A_PASS if _recovered(home, federation) else ()))
    if before != federation.raw:
        home.replace(AGREED, federation.raw)
    if waits:
        _take_key(home, federation.roster[home.name])
    return federation


def leap(home: Home, federation: Federation) -> bool:
    """The others have gone to an epoch that lists another key of this site: so does this home, without its ledger yet.

    True when it did, and `enter` finds the next peers.yaml. Raises NotAMember when the change is that this site leaves.
    """
    change = held_change(home)
    lineage = standing(home, federation)[1]
    if change is None or change.facts.get("before") != lineage.federation_digest.hex():
        return False
    new = Federation.parse(lineage.after(change).file, "the next peers.yaml")
    if home.name in new.roster and new.roster[home.name].key == home.identity().key:
        return False  # it is spoken with, and shown what it lacks
    waits = _key_waits(home, new)
    # The file first: no ledger leads to it yet, and with its new key this site is nobody in the epoch before. What
    # rounds left goes only then: without its ballots this site would vote once more in an epoch that it has not left.
    home.replace(AGREED, new.raw)
    _let_go(home)
    if waits:
        _take_key(home, new.roster[home.name])
    return True


def _recovered(home: Home, federation: Federation) -> bool:
    """The change that began this epoch lets this home go on although it is an older one."""
    log = Log.open(home, "federation")
    changes = (codec.read_facts(one.record) for one in log.records() if b'"kind":"membership"' in one.record)
    return any(
        one["federation_digest"] == federation.digest.hex() and home.name in one.get("recovered", {}) for one in changes
    )


def _let_go(home: Home, *more: str) -> None:
    """What rounds of the epoch before left is gone, secrets and all.

    more   items of which an older home cannot know what became
    """
    from p2pfl.node.runs import answers  # only here: doctor and peers read epochs, and need no numpy
    from p2pfl.sharing.state import ITEMS

    answers.hold_words(home, ITEMS)
    for item in (*ITEMS, PEERS_ITEM, *more):
        if home.exists(item):
            home.remove(item, anew=True)


def _reached(home: Home, given: Federation) -> Federation:
    log = Log.open(home, "federation")
    try:
        epochs = epochs_of(home, log)
        change = held_change(home)
        if epochs.announced and change is not None and change.digest == epochs.announced:
            epochs.add_entry(change.record, change.signatures)  # raises before it is written
            log.append(change.record, dict(change.signatures))
    finally:
        log.close()
    lineage = epochs.lineage
    stored = _stored(home)
    if lineage is None or not _akin(given, lineage):
        return given  # a log that has not begun, or another federation's: Books says which
    if stored is not None and stored.roster.epoch > lineage.roster.epoch:
        return stored  # this home knows its epoch, and has yet to fetch what led to it
    return _agreed(home, given, lineage)


def _agreed(home: Home, given: Federation, lineage: Lineage) -> Federation:
    """The peers.yaml of the epoch that the ledger has reached."""
    if given.digest == lineage.federation_digest:
        return given
    if lineage.file:
        return Federation.parse(lineage.file, f"peers.yaml of epoch {lineage.roster.epoch}")
    stored = _stored(home)
    if stored is None or stored.digest != lineage.federation_digest:
        evidence = f"given: epoch {given.roster.epoch}, SHA-256 {given.digest.hex()[:16]}"
        raise PeersFileUnknown(epoch=lineage.roster.epoch, evidence=evidence)
    return stored


def _stored(home: Home) -> Federation | None:
    held = home.read(AGREED)
    return Federation.parse(held, "peers.yaml in this home") if held is not None else None


def _akin(given: Federation, lineage: Lineage) -> bool:
    return given.digest in lineage.digests or (given.first, given.genesis) == (lineage.first, lineage.genesis)


def _key_waits(home: Home, federation: Federation) -> bool:
    """The key that the epoch lists is the next one of this home, not yet taken, or not wholly.

    False when it is the home's. Raises NotAMember, NotInRoster, NewKeyMissing when it is neither.
    """
    roster, name, key = federation.roster, home.name, home.identity().key
    if name not in roster:
        if roster.epoch > 1:
            evidence = f"sites: {', '.join(roster.names)}"
            raise NotAMember(name=name, epoch=roster.epoch, evidence=evidence)
        raise NotInRoster(name=name, source=federation.source, evidence=f"key here {key.hex()[:16]}, there none")
    listed, made = roster[name], next_identity(home)
    if made is not None and made.key == listed.key:  # not yet taken, or by a process that died before it had done all
        return True
    if listed.key != key:
        evidence = f"key here {key.hex()[:16]}, there {listed.key.hex()[:16]}"
        if roster.epoch > 1:
            raise NewKeyMissing(name=name, epoch=roster.epoch, evidence=evidence)
        raise NotInRoster(name=name, source=federation.source, evidence=evidence)
    return False


def _take_key(home: Home, listed: Member) -> None:
    """The next key becomes this home's, last of all: while it waits, `enter` lets go of what the epoch before left."""

    def publish() -> None:
        home.publish_card(Card.sign(home.identity(), listed.name, listed.addresses).to_bytes())

    take_identity(home, publish)
