"""A site's card: its name, public key and addresses under its own signature, to be handed to the others.

The signature shows that the card's writer holds the key, not whose key it is. That is what the eight words are for,
read aloud over a line that both people trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfl import codec
from p2pfl.errors.federation import CardForged, PeersFileNotCard
from p2pfl.federation import strict_yaml
from p2pfl.federation.federation import VERSION
from p2pfl.federation.members import MOST_ADDRESSES, read_address, read_key, read_name
from p2pfl.federation.readers import items, text, whole
from p2pfl.keys import Identity, fingerprint, verify
from p2pfl.roster import Address, Member

KIND = "card"
_read_signature = text(r"[0-9a-f]{128}", "128 hexadecimal digits, lower case")


@dataclass(frozen=True, slots=True)
class Card:
    """A member and the signature over its facts."""

    member: Member
    signature: bytes

    @classmethod
    def sign(cls, identity: Identity, name: str, addresses: Sequence[Address]) -> Card:
        """The card of `identity`."""
        member = Member(name, identity.key, tuple(addresses))
        return cls(member, identity.sign(KIND, facts(member)))

    @classmethod
    def load(cls, path: str | Path) -> Card:
        """Read the card at `path`; raises CardForged when the signature is not that of its key."""
        return cls.parse(strict_yaml.load(Path(path)), str(path))

    @classmethod
    def parse(cls, raw: bytes, source: str) -> Card:
        """The card that `raw` holds; raises a leaf of errors.federation with line and column, or CardForged."""
        top = strict_yaml.read_yaml(raw, source)
        if "peers" in top.rows and "signature" not in top.rows:
            raise PeersFileNotCard(source=source, evidence=f"it has {', '.join(top.rows)}")
        top.only(("version", "name", "key", "addresses", "signature"))
        top.value("version", whole(VERSION, VERSION))
        member = Member(
            name=top.value("name", read_name),
            key=top.value("key", read_key),
            addresses=top.value("addresses", items(read_address, MOST_ADDRESSES)),
        )
        signature = bytes.fromhex(top.value("signature", _read_signature))
        if not verify(member.key, KIND, facts(member), signature):
            raise CardForged(evidence=f"signature {signature.hex()[:16]}…, key {member.key.hex()[:16]}…", source=source)
        return cls(member, signature)

    @property
    def fingerprint(self) -> str:
        """Eight words."""
        return fingerprint(self.member.key)

    def to_bytes(self) -> bytes:
        """The card's file."""
        one = self.member
        addresses = ", ".join(f'"{address}"' for address in one.addresses)
        return (
            f"version: {VERSION}\n"
            f"name: {one.name}\n"
            f'key: "{one.key.hex()}"\n'
            f"addresses: [{addresses}]\n"
            f'signature: "{self.signature.hex()}"\n'
        ).encode()


def facts(member: Member) -> bytes:
    """What the signature covers: canonical JSON, so that layout and comments of the file do not matter."""
    return codec.facts(
        {
            "version": VERSION,
            "name": member.name,
            "key": member.key.hex(),
            "addresses": [str(address) for address in member.addresses],
        }
    )
