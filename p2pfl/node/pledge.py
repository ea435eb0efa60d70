"""What every site signs when it joins: two records that follow from peers.yaml alone. docs/spec/ledger.md §1."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl.federation import Federation
from p2pfl.keys import Identity
from p2pfl.ledger.federation_kinds import AgreementEntry, GenesisEntry


@dataclass(frozen=True, slots=True)
class Pledge:
    """The two records that every site signs when it joins. `agreement` is empty when peers.yaml names none.

    genesis   of a later epoch: what the genesis would be of a federation that began with its peers.yaml
    log       of a later epoch: SHA-256 of the record with which the federation log begins
    """

    genesis: bytes
    agreement: bytes
    log: bytes = b""

    def sign(self, identity: Identity) -> tuple[bytes, bytes]:
        """This site's signatures over the two."""
        signed = identity.sign("record", self.agreement) if self.agreement else b""
        return identity.sign("record", self.genesis), signed


def genesis_of(federation: Federation) -> bytes:
    """Entry 0 of the federation log: a function of peers.yaml alone, so that all sites sign the same bytes."""
    roster, privacy = federation.roster, federation.privacy
    settings = {
        "rounds": federation.rounds,
        "unit": privacy.unit,
        "noise_multiplier": repr(privacy.noise_multiplier),
        "max_grad_norm": repr(privacy.max_grad_norm),
        "sample_rate": repr(privacy.sample_rate),
        "steps_per_round": privacy.steps_per_round,
        "delta": repr(privacy.delta),
        "max_epsilon": repr(privacy.max_epsilon),
        **({"noise": privacy.noise, "parts": privacy.parts} if privacy.is_distributed else {}),
        "field": federation.sharing.field,
        "compression": federation.compression.method,
        "weights": federation.weights,
    }
    return GenesisEntry(
        federation=federation.name,
        epoch=roster.epoch,
        federation_digest=federation.digest,
        peers=[(member.name, member.key) for member in roster.members],
        settings=settings,
    ).record


def pledge_of(federation: Federation) -> Pledge:
    """The records that every site signs when it joins."""
    roster, signed = federation.roster, b""
    if federation.agreement is not None:
        signed = AgreementEntry(epoch=roster.epoch, sha256=federation.agreement, members=roster.names).record
    return Pledge(genesis_of(federation), signed, federation.genesis)
