"""The keys of which this site accepts nothing, as its home keeps them: of each, how often its people decided.

A key is revoked after an odd number of decisions. The list never loses a row, and the site log has an entry of each
decision: so a list that was lost, or an older copy of it, is found, and nobody's key comes back without a decision.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from p2pfl import codec
from p2pfl.errors.home import ItemDamaged
from p2pfl.errors.membership import RevocationsLost, Revoked
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.keys import KEY_BYTES
from p2pfl.roster import Member

REVOKED: Final = "membership/revoked"
COUNT_BYTES: Final = 4
ROW_BYTES: Final = KEY_BYTES + COUNT_BYTES
Decisions = Mapping[bytes, int]  # by key: how often it was revoked, or accepted again


def decisions_of(home: Home) -> Decisions:
    """What the home keeps. Raises ItemDamaged."""
    try:
        return parse_decisions(home.read(REVOKED) or b"")
    except codec.Malformed as error:
        raise ItemDamaged(evidence=str(error), item=REVOKED, name=home.name, path=home.path) from None


def parse_decisions(data: codec.Buffer) -> dict[bytes, int]:
    """What `packed` gave. Raises Malformed."""
    raw, found = bytes(data), dict[bytes, int]()
    for at in range(0, len(raw), ROW_BYTES):
        row = raw[at : at + ROW_BYTES]
        found[row[:KEY_BYTES]] = int.from_bytes(row[KEY_BYTES:], "big")
    if packed(found) != raw:
        raise codec.Malformed("no keys that rise, each with how often it was decided on")
    return found


def packed(decisions: Decisions) -> bytes:
    """The item's bytes: rows of a key and a number, by key."""
    return b"".join(key + count.to_bytes(COUNT_BYTES, "big") for key, count in sorted(decisions.items()) if count)


def decide(home: Home, noted: Decisions, key: bytes, *, revoked: bool) -> bool:
    """The key is revoked from now on, or accepted again; True when it was not. The caller holds `home.beside()`.

    noted   what the site log tells of: a list that was lost, or is an older one, goes on from there
    """
    held = decisions_of(home)
    last = max(held.get(key, 0), noted.get(key, 0))
    changes = is_revoked(last) != revoked
    if last + changes != held.get(key, 0):
        home.replace(REVOKED, packed({**held, key: last + changes}))
    return changes


def is_revoked(decisions: int) -> bool:
    """After so many decisions."""
    return decisions % 2 == 1


def revoked_keys(home: Home) -> list[bytes]:
    """The keys that are revoked at this site."""
    return [key for key, count in decisions_of(home).items() if is_revoked(count)]


def check_whole(home: Home, federation: Federation, held: Decisions, noted: Decisions) -> None:
    """Raises RevocationsLost when the site log tells of more decisions on a member's key than the home holds."""
    for member in federation.roster.members:
        here, there = held.get(member.key, 0), noted.get(member.key, 0)
        if here < there:
            evidence = f"key {member.key.hex()[:16]}: decided on {there} times by the site log, {here} by {REVOKED}"
            evidence += "" if is_revoked(there) else "; it was accepted again last: with --undo it is so once more"
            raise RevocationsLost(peer=member.name, home=home.path, evidence=evidence, source=federation.source)


def refuse(member: Member, keys: Collection[bytes]) -> None:
    """Raises Revoked when the member's key is one of these."""
    if member.key in keys:
        raise revocation(member)


def revocation(member: Member) -> Revoked:
    """What is told of a member whose key is revoked here."""
    return Revoked(peer=member.name, evidence=f"key {member.key.hex()[:16]}")
