"""UNMASK: under the certificate each member opens its self-mask seed; what is left of the masked sum is the aggregate.

docs/spec/sharing.md §8. What may be revealed is decided in `disclosure.py` alone. There are no backup shares in this
version, so a certified round waits for a member that has not yet revealed.
"""

from __future__ import annotations

from p2pfl.errors.round import SeedRejected
from p2pfl.keys import Secret
from p2pfl.messages import Bundle, Members, Reveal
from p2pfl.sharing import disclosure, prg
from p2pfl.sharing.certificate import proposals
from p2pfl.sharing.events import Apply, CertificateStored, Effect, Received, Send, Vector
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.masking import unmask
from p2pfl.sharing.phases.share import commitment
from p2pfl.sharing.state import State


def reveal(state: State, event: CertificateStored) -> list[Effect]:
    """The certificate is durable: open this peer's b_i."""
    seed = disclosure.seed_to_reveal(state)
    me = state.setting.me
    state.reveals[me] = seed
    if state.certificate is not None:
        state.outbox.append(Send(None, state.certificate))
    return [state.post(Reveal(((me, seed.reveal()),)))]


def accept(state: State, event: Received) -> list[Effect]:
    """Hold a member's b_i, if it is the one that its bundle committed to."""
    letter, message = event.letter, event.letter.message
    if not isinstance(message, Reveal):
        return []
    for name, seed in message.seeds:
        if name != letter.sender:
            # Only Shamir backups let a peer open another's seed, and this version has none.
            raise SeedRejected(peer=letter.sender, message="seed of another site", evidence=f"it opened {name}'s")
        bundle = state.bundles[name].message
        if not isinstance(bundle, Bundle) or bundle.self_mask != commitment("self-mask", seed):
            raise SeedRejected(peer=name, message="self-mask seed", evidence=f"round {state.round}")
    state.reveals.update({name: Secret(seed, f"self-mask seed of {name}") for name, seed in message.seeds})
    return []


def opened(state: State) -> bool:
    """Every b_i of U is held, and so are the masked sums."""
    return bool(state.masked) and state.certificate is not None and len(state.reveals) == state.n


def compute(state: State) -> list[Effect]:
    """Σx = Y − Σ PRG(b_i) over all of U."""
    state.total = tuple(_unmasked(state, segment, vector) for segment, vector in enumerate(state.masked))
    state.masked = ()
    return apply(state)


def apply(state: State) -> list[Effect]:
    """Hand the aggregate to whoever applies it to the model."""
    members = state.members
    if members is None or not isinstance(members.message, Members):
        return []
    proposed = proposals(members, state.setting.roster)
    supports = tuple(proposal.support for proposal in proposed.values())
    configuration = proposed[state.setting.me].configuration
    return [Apply(state.attempt_digest, supports, members.message.survivors, state.total, configuration)]


def _unmasked(state: State, segment: int, vector: Vector) -> Vector:
    setting = state.setting
    keys = []
    for place, name in enumerate(state.names):
        context = prg.context(setting.run, setting.roster.epoch, state.round, state.attempt, (place, place), segment)
        keys.append(prg.stream_key(state.reveals[name], "prg/self", context))
    return Vector(vector.bits, unmask(vector.words, keys, field=FIELDS[vector.bits]))
