"""UNMASK: under the certificate the self-mask seeds of U are opened; what is left of the masked sum is the aggregate.

docs/spec/sharing.md §8. What may be revealed is decided in `disclosure.py` alone, from the certificate alone: no
request opens more. A silent member's seed comes back from q−1 peers that acknowledged its bundle.
"""

from __future__ import annotations

from p2pfl import merkle
from p2pfl.errors.round import BackupRejected, SeedRejected
from p2pfl.keys import Secret
from p2pfl.messages import BackupShare, Letter, Reveal
from p2pfl.sharing import disclosure, masking, prg, shamir
from p2pfl.sharing.certificate import proposals
from p2pfl.sharing.digests import commitment, share_leaf
from p2pfl.sharing.events import Apply, CertificateStored, Effect, Send, Stop, Vector
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.masked_sums import MaskedSums
from p2pfl.sharing.masking import unmask
from p2pfl.sharing.phases import questions, unlinked
from p2pfl.sharing.phases.ballot import LEAVE_S
from p2pfl.sharing.phases.share import threshold
from p2pfl.sharing.state import State


def reveal(state: State, event: CertificateStored) -> list[Effect]:
    """The certificate is durable: open this peer's b_i, and set the time at which backups follow."""
    if (lost := disclosure.lost_bundle(state)) is not None:
        return [Stop(lost)]
    seed = disclosure.seed_to_reveal(state)
    me, members = state.context.me, state.members
    if members is None:
        return []
    effects: list[Effect] = unlinked.tell_certificate(state)
    if state.certificate is not None:
        state.outbox.append(Send(None, state.certificate))
    effects += _tell_leavers(state)
    if seed is not None:
        state.sum.reveals[me] = seed
        effects.append(state.post_opened(state.seal(Reveal(((me, seed.reveal()),)))))
    seconds = members.message.deadline_ms / 1000
    steps = {"backup": seconds / 4, "fetch": seconds / 2, "leave": seconds + LEAVE_S}
    return [*effects, *(state.timer(what, after) for what, after in steps.items())]


def _tell_leavers(state: State) -> list[Effect]:
    """Who has cast LEAVE soon asks nobody any more, and a liar may have kept its ballot back until then."""
    return [effect for name in state.leaving.leaves for effect in questions.certificate(state, name)]


def accept(state: State, letter: Letter[Reveal]) -> list[Effect]:
    """Hold seeds that U's bundles committed to, from any sender."""
    found = {}
    for name, seed in letter.message.seeds:
        bundle = state.proposals.bundles[name].message if name in state.survivors else None
        if bundle is None or bundle.self_mask != commitment("self-mask", seed):
            evidence = f"the one of {name}, round {state.round}"
            raise SeedRejected(peer=letter.sender, message="self-mask seed", evidence=evidence)
        found[name] = Secret(seed, f"self-mask seed of {name}")
    new = [name for name in found if name not in state.sum.reveals]
    for name, opened in found.items():
        state.sum.reveals.setdefault(name, opened)
    return unlinked.tell_seeds(state, new)


# ── backups ───────────────────────────────────────────────────────────────────────────────────────────────────


def backups_due(state: State) -> bool:
    """A quarter of the deadline after the certificate, some seed is lacking whose backup share this peer holds."""
    return state.past("backup") and bool(_to_back_up(state))


def _to_back_up(state: State) -> list[str]:
    lacking = [name for name in state.survivors if name not in state.sum.reveals and name not in state.sum.backed_up]
    return [name for name in lacking if name in state.unmasking.backups]


def back_up(state: State) -> list[Effect]:
    """Broadcast this peer's shares of the seeds that have not come."""
    names = _to_back_up(state)
    shares = {name: disclosure.share_to_reveal(state, name) for name in names}
    state.sum.backed_up |= frozenset(names)
    rows = tuple(
        (name, one.share.reveal(), one.salt, one.edge, one.path) for name, one in shares.items() if one is not None
    )
    if not rows:
        return []
    letter = state.seal(BackupShare(rows))
    for name, share, *_ in rows:
        state.unmasking.pieced.setdefault(name, {})[state.context.me] = share
        state.unmasking.shown_shares.setdefault(name, {})[state.context.me] = letter
    return [state.post_opened(letter), *_tell_outside(state)]


def _tell_outside(state: State) -> list[Effect]:
    """A peer outside of U may lack a ballot that a liar kept from it, and its backup shares are needed now.

    The first c+1 members tell it: one of them is honest, and n of them would send n² copies.
    """
    certificate, first = state.certificate, state.survivors[: state.context.roster.quorums.c + 1]
    if certificate is None or state.context.me not in first:
        return []
    names = [name for name in state.names if name not in state.survivors and name not in state.voting.told]
    state.voting.told.update(names)
    return [Send(name, certificate) for name in names]


def accept_shares(state: State, letter: Letter[BackupShare]) -> list[Effect]:
    """Hold a peer's shares that are under their bundles' roots; give it the seeds that it lacks and that are here."""
    message = letter.message
    place = state.context.roster.index(letter.sender)
    for name, share, salt, edge, path in message.shares:
        bundle = state.proposals.bundles[name].message if name in state.survivors else None
        shown = share_leaf(salt, edge, share)
        if bundle is None or not merkle.includes(bundle.shares, shown, place, state.n, path):
            raise BackupRejected(peer=letter.sender, evidence=f"its share of {name}'s seed is not under the root")
        state.unmasking.pieced.setdefault(name, {})[letter.sender] = share
        state.unmasking.shown_shares.setdefault(name, {})[letter.sender] = letter
    known = [name for name, *_ in message.shares if name in state.sum.reveals]
    if not known:
        return []
    seeds = tuple((name, state.sum.reveals[name].reveal()) for name in known)
    return [Send(letter.sender, state.seal(Reveal(seeds)))]


def can_combine(state: State) -> bool:
    """q−1 shares of a seed that is still lacking are here."""
    return _combinable(state) != ""


def _combinable(state: State) -> str:
    enough = threshold(state)
    return next(
        (
            name
            for name in state.survivors
            if name not in state.sum.reveals
            and name not in state.sum.misdealt
            and len(state.unmasking.pieced.get(name, {})) >= enough
        ),
        "",
    )


def combine(state: State) -> list[Effect]:
    """Open a silent member's seed from its shares, and tell it to all. Raises SeedRejected when its dealer lied."""
    name = _combinable(state)
    chosen = sorted(state.unmasking.pieced[name], key=state.context.roster.index)[: threshold(state)]
    seed = shamir.combine(
        {state.context.roster.index(holder): state.unmasking.pieced[name][holder] for holder in chosen}
    )
    bundle = state.proposals.bundles[name]
    if bundle.message.self_mask != commitment("self-mask", seed):
        # Each share is under the root that the dealer signed: it dealt shares of something else.
        state.sum.misdealt.add(name)
        held = state.unmasking.shown_shares.get(name, {})
        proof = (bundle, *(held[holder] for holder in chosen if holder in held))
        evidence = f"{len(chosen)} of its backup shares open something else, round {state.round}"
        raise SeedRejected(peer=name, message="self-mask seed", evidence=evidence, proof=proof)
    state.sum.reveals[name] = Secret(seed, f"self-mask seed of {name}")
    return [state.post_opened(state.seal(Reveal(((name, seed),))))]


# ── the sum ───────────────────────────────────────────────────────────────────────────────────────────────────


def opened(state: State) -> bool:
    """Every b_i of U is held, and so are the masked sums."""
    everyone = state.certificate is not None and all(name in state.sum.reveals for name in state.survivors)
    return bool(state.sum.masked) and everyone and not state.sum.total


def compute(state: State) -> list[Effect]:
    """Σx = Y − Σ PRG(b_i) over all of U."""
    # Y becomes Σx where it lies: no letter is sent from there. What was read from the disk cannot be written to.
    masked, state.sum.masked = state.sum.masked, ()
    state.sum.total = tuple(_unmasked(state, segment, one) for segment, one in enumerate(masked))
    return apply(state)


def _unmasked(state: State, segment: int, one: Vector) -> Vector:
    own = one.words.flags.writeable
    words = one.words if own else one.words.copy()  # there they begin at any byte, which the compiled loops do not take
    # Each was found to be a word of the field before.
    masking.combine(words, [], _self_keys(state, segment), FIELDS[one.bits], out=words)
    return Vector(one.bits, words, one.room if own else None)


def masked_again(state: State) -> tuple[Vector, ...]:
    """Y, from Σx and the seeds, for a peer that has only the certificate to check a sum against."""
    if state.sum.masked or not state.sum.total or any(name not in state.sum.reveals for name in state.survivors):
        return state.sum.masked
    again = []
    for segment, one in enumerate(state.sum.total):
        field = FIELDS[one.bits]
        minus = unmask(field.zeros(one.words.size), _self_keys(state, segment), field=field)
        again.append(Vector(one.bits, field.subtract(one.words, minus)))
    return tuple(again)


def apply(state: State) -> list[Effect]:
    """Have the aggregate applied to the model."""
    members = state.members
    if members is None:
        return []
    proposed = proposals(members, state.context.roster)
    supports = tuple(proposal.support for proposal in proposed.values())
    any_of = next(iter(proposed.values()))
    return [
        Apply(
            state.round,
            any_of.rests_on,
            state.attempt_digest,
            supports,
            state.survivors,
            state.sum.total,
            any_of.configuration,
            _masked_sums(state),
        )
    ]


def _masked_sums(state: State) -> MaskedSums | None:
    """Of what on the disk this sum was made, where that stays until the round after the next."""
    opened = all(name in state.sum.reveals for name in state.survivors)
    if not (state.sum.stored and opened and state.leaving.slot is None):
        return None
    segments = range(len(state.sum.total))
    keys = tuple(tuple(key.reveal() for key in _self_keys(state, segment)) for segment in segments)
    return MaskedSums(state.sums_item, state.attempt_digest, keys)


def _self_keys(state: State, segment: int) -> list[Secret]:
    run, epoch, keys = state.context.run, state.context.roster.epoch, []
    for name in state.survivors:
        place = state.context.roster.index(name)
        bound = prg.context(run, epoch, state.round, state.attempt, (place, place), segment)
        keys.append(prg.stream_key(state.sum.reveals[name], "prg/self", bound))
    return keys
