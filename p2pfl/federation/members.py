"""The sites of a peers.yaml: one row each, and what no two of them may share. A card has the same values of one."""

from __future__ import annotations

from typing import Final

from p2pfl.errors.federation import DuplicateMember, KeyOfEverybody, TooFewPeers, TooManyPeers, WrongAddress
from p2pfl.federation.readers import Position, Table, Word, YamlNode, items, table, text
from p2pfl.federation.settings import HEX32
from p2pfl.keys import belongs_to_somebody
from p2pfl.roster import LEAST_PEERS, MOST_PEERS, NAME, Address, Member

MOST_ADDRESSES: Final = 8
NOWHERE: Final = ("0.0.0.0", "::")  # where to listen, never whom to dial

read_name: Final = text(NAME.pattern, "a name of small letters, digits and hyphens, at most 31, a letter first")


def read_members(top: Table) -> tuple[Member, ...]:
    """The sites under `peers`, in order. Raises TooFewPeers, TooManyPeers; DuplicateMember where two share a value."""
    rows = top.value("peers", items(table, 10 * MOST_PEERS))
    if len(rows) < LEAST_PEERS:
        raise TooFewPeers(evidence=f"{top.node('peers').place} lists {len(rows)}", count=len(rows))
    if len(rows) > MOST_PEERS:
        raise TooManyPeers(evidence=f"{top.node('peers').place} lists {len(rows)}", count=len(rows), most=MOST_PEERS)
    members = tuple(_member(row) for row in rows)
    holders: dict[str, str] = {}
    for row, one in zip(rows, members, strict=True):
        for key, what, value in _marks(one):
            if value in holders:
                _twice(row.node(key).place, what, holders[value], one.name)
            holders[value] = one.name
    return members


def _member(row: Table) -> Member:
    """One site: `name`, `key` (hex) and `addresses` (none: it dials out)."""
    row.only(("name", "key", "addresses"))
    name, key = row.value("name", read_name), row.value("key", read_key)
    return Member(name, key, row.value("addresses", items(read_address, MOST_ADDRESSES)))


def _marks(one: Member) -> list[tuple[str, str, str]]:
    """(key of the row, what it is, the value that no other site may have)."""
    dialled = {f"address {address.place}": address for address in one.addresses}
    addresses = [("addresses", f"the address {address}", place) for place, address in dialled.items()]
    return [
        ("name", f"the name {one.name}", f"name {one.name}"),
        ("key", f"the key {one.key.hex()[:16]}…", f"key {one.key.hex()}"),
        *addresses,
    ]


def _twice(place: Position, what: str, first: str, second: str) -> None:
    raise DuplicateMember(
        evidence=f"{what}, at {first} and again here",
        place=place,
        source=place.source,
        what=what,
        first=first,
        second=second,
    )


def read_key(node: YamlNode, key: str) -> bytes:
    """A site's 32-byte public key, in hex. Raises KeyOfEverybody where anybody could sign for it."""
    found = bytes.fromhex(HEX32(node, key))
    if not belongs_to_somebody(found):
        evidence = f"{found.hex()[:16]}… is of small order, or no canonical encoding"
        raise KeyOfEverybody(evidence=evidence, place=node.place, source=node.place.source)
    return found


def read_address(node: YamlNode, key: str) -> Address:
    """`host:port` that another site can dial: not the wildcard. Raises WrongAddress."""
    try:
        if not isinstance(node, Word):
            raise ValueError("it is not one word")
        address = Address.parse(node.text)
        if address.host in NOWHERE:
            raise ValueError(f"{address.host} names no machine: write the address by which the others reach it")
    except ValueError as reason:
        shown = node.shown if isinstance(node, Word) else key
        raise WrongAddress(evidence=str(reason), place=node.place, text=shown) from None
    return address
