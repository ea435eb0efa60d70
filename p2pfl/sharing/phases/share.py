"""SHARE: to the far end of each outgoing edge its seed, to everyone a backup share; then acknowledgements.

docs/spec/sharing.md §3. An acknowledgement is a receipt: its sender holds the bundles and its backup shares on its
disk, so that q−1 peers that acknowledged a bundle can open its self-mask under a certificate after its dealer is gone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from p2pfl import merkle
from p2pfl.codec import Malformed
from p2pfl.errors.round import BundleRejected, UnexpectedEvent
from p2pfl.keys import SEED_BYTES, Secret
from p2pfl.messages import Ack, Bundle, Letter, Members, Share, open_letter
from p2pfl.sharing import shamir
from p2pfl.sharing.certificate import check_order, same_attempt
from p2pfl.sharing.digests import commitment, edge_commitment, share_leaf
from p2pfl.sharing.events import Begin, Dealt, Effect, NoteBundle, Receipted
from p2pfl.sharing.graph import makes, outgoing
from p2pfl.sharing.parts import MOST_DEALT, Backup, Deal
from p2pfl.sharing.phases import mask, unlinked
from p2pfl.sharing.snapshot import persist
from p2pfl.sharing.state import State, two_statements

FIRST_ACK_S: Final = 2.0  # seconds to wait for the other bundles once a quorum is held
NEXT_ACK_S: Final = 0.25  # seconds from the first further bundle, so that one Ack covers those behind it too


def threshold(state: State) -> int:
    """Backup shares that open a self-mask seed: q−1."""
    return state.context.roster.quorums.q - 1


def deal(state: State, event: Begin | None = None) -> list[Effect]:
    """Draw this attempt's secrets and bind this peer to them. Durable before the first of them leaves."""
    if state.unmasking.deal is not None:
        raise UnexpectedEvent(event="Begin", phase="SHARE", evidence="this attempt's secrets are drawn already")
    draw, names, me = state.context.draw, state.names, state.context.me
    mine = {names[j] for j in outgoing(names.index(me), len(names))}
    self_mask, nonce = Secret(draw(SEED_BYTES), "self-mask seed"), Secret(draw(SEED_BYTES), "nonce")
    edges = {name: Secret(draw(SEED_BYTES), f"edge seed {me}→{name}") for name in names if name in mine}
    salts = [draw(32) for _ in names]
    polynomial = draw((threshold(state) - 1) * SEED_BYTES)
    backups = shamir.split(self_mask.reveal(), threshold(state), len(names), polynomial)
    seeds = [edges[name].reveal() if name in edges else b"" for name in names]
    bound = [edge_commitment(salt, seed) for salt, seed in zip(salts, seeds, strict=True)]
    leaves = [share_leaf(*row) for row in zip(salts, bound, backups, strict=True)]
    bundle = state.seal(
        Bundle(commitment("self-mask", self_mask.reveal()), commitment("nonce", nonce.reveal()), merkle.root(leaves))
    )
    paths = merkle.paths(leaves)
    shares = {
        name: Share(bundle.wire, seeds[place], backups[place], salts[place], paths[place])
        for place, name in enumerate(names)
    }
    state.unmasking.deal = Deal(self_mask, nonce, bundle)
    state.masking = replace(state.masking, edges=edges, shares=shares)
    state.proposals.bundles[me] = bundle
    here = names.index(me)
    state.unmasking.backups[me] = Backup(
        Secret(backups[here], "own backup share"), salts[here], bound[here], paths[here]
    )
    noted = NoteBundle(state.round, state.attempt, bundle.digest)
    return [noted, persist(state, Dealt, (state.sums_item, None), anew=True)]


def send(state: State, event: Dealt) -> list[Effect]:
    """The secrets are durable: each peer gets its share."""
    deal = state.unmasking.deal
    if deal is None:
        return []
    state.proposals.dealt = True
    dealt = [state.post_share(state.seal(state.masking.shares[name]), name) for name in state.context.others]
    return [*dealt, *_more(state)]


def accept(state: State, letter: Letter[Share]) -> list[Effect]:
    """Check a share against its dealer's bundle and hold it."""
    if state.closed:
        return []
    share, dealer = letter.message, letter.sender
    bundle = _bundle_of(state, letter)
    held = state.proposals.bundles.get(dealer)
    if held is not None and held.digest == bundle.digest and (share.edge == b"" or dealer in state.masking.received):
        return []
    older = [one for one in state.proposals.older.values() if one.sender == dealer]
    for one in (*older, *([held] if held is not None else [])):
        if one.envelope == bundle.envelope and one.digest != bundle.digest:
            raise two_statements(one, bundle, f"{one.digest.hex()[:16]} and {bundle.digest.hex()[:16]}")
    if held is not None and held.digest != bundle.digest:
        if bundle.digest in state.proposals.older or len(older) + 1 == MOST_DEALT:
            return []
        # The dealer died before it accepted a U, and dealt anew: its first process acknowledges and proposes nothing.
        state.proposals.acks.pop(dealer, None)
        state.proposals.proposes.pop(dealer, None)
        _put_by(state, dealer)
    state.proposals.bundles[dealer] = bundle
    bound = edge_commitment(share.salt, share.edge)
    state.unmasking.backups[dealer] = Backup(
        Secret(share.backup, f"share of {dealer}'s mask"), share.salt, bound, share.path
    )
    if share.edge:
        state.masking.received[dealer] = Secret(share.edge, f"edge seed {dealer}→{state.context.me}")
    return _more(state)


def _put_by(state: State, dealer: str) -> None:
    """Another bundle of this dealer is to be held: keep the one before it, with what opens it and what masks under it.

    A receipt stays true. The dealer may be a liar that makes up a process for this peer alone, and the others count on
    what this peer acknowledged first.
    """
    before = state.proposals.bundles.pop(dealer, None)
    backup, seed = state.unmasking.backups.pop(dealer, None), state.masking.received.pop(dealer, None)
    if before is None or backup is None:
        return
    state.proposals.older[before.digest] = before
    state.unmasking.older[before.digest] = backup
    if seed is not None:
        state.masking.older[before.digest] = seed


def hold_bundles(state: State, letter: Letter[Members]) -> None:
    """Hold the bundles of U as the Members message carries them; a backup share of another bundle is of no use."""
    for wire in letter.message.bundles:
        bundle = open_letter(wire, state.context.roster, Bundle)
        dealer, digest, held = bundle.sender, bundle.digest, state.proposals.bundles.get(bundle.sender)
        if held is not None and held.digest == digest:
            continue
        _put_by(state, dealer)
        state.proposals.older.pop(digest, None)
        state.proposals.bundles[dealer] = bundle
        if (backup := state.unmasking.older.pop(digest, None)) is not None:
            state.unmasking.backups[dealer] = backup
        if (seed := state.masking.older.pop(digest, None)) is not None:
            state.masking.received[dealer] = seed


def _bundle_of(state: State, letter: Letter[Share]) -> Letter[Bundle]:
    """The share's bundle, once everything about the share holds. Raises BundleRejected naming the dealer."""
    share, dealer, names = letter.message, letter.sender, state.names
    here = names.index(state.context.me)
    expects_seed = here in outgoing(names.index(dealer), len(names))
    try:
        bundle = open_letter(share.bundle, state.context.roster, Bundle)
    except Malformed as error:
        raise BundleRejected(peer=dealer, evidence=str(error)) from None
    if bundle.envelope != letter.envelope:
        raise BundleRejected(peer=dealer, evidence="the bundle is of another sender, attempt or process")
    if bool(share.edge) != expects_seed:
        found = f"edge seed of {len(share.edge)} bytes against the graph's direction"
        raise BundleRejected(peer=dealer, evidence=found)
    shown = share_leaf(share.salt, edge_commitment(share.salt, share.edge), share.backup)
    if not merkle.includes(bundle.message.shares, shown, here, len(names), share.path):
        raise BundleRejected(peer=dealer, evidence="the share is not under the bundle's root")
    return bundle


def _more(state: State) -> list[Effect]:
    """One more bundle is held: from a quorum on, set the time of the next Ack."""
    waits, state.proposals.fresh = state.proposals.fresh and "ack" in state.due, True
    least = state.context.roster.quorums.q
    # Whoever deals again and again moves no time that is set: nobody would ever acknowledge anything.
    if waits or len(state.proposals.bundles) < least or len(_held(state)) < least:
        return []
    return [state.timer("ack", FIRST_ACK_S if state.proposals.acknowledged is None else NEXT_ACK_S)]


def has_seed(state: State, dealer: str) -> bool:
    """The edge seed that `dealer` owes this peer, if it owes one, has come to this process: no disk holds seeds."""
    return dealer in state.masking.received or not _owes_seed(state, dealer)


def _owes_seed(state: State, dealer: str) -> bool:
    place = state.context.roster.index
    return dealer != state.context.me and makes(place(dealer), place(state.context.me), state.n)


def holds(state: State, dealer: str, digest: bytes) -> bool:
    """This process can mask under that bundle of `dealer`, and helps to open it: whether it is the last one or not."""
    held = state.proposals.bundles.get(dealer)
    if held is not None and held.digest == digest:
        return has_seed(state, dealer)
    return digest in state.proposals.older and (digest in state.masking.older or not _owes_seed(state, dealer))


def _held(state: State) -> tuple[tuple[str, bytes], ...]:
    bundles = state.proposals.bundles
    return tuple((name, bundles[name].digest) for name in state.names if name in bundles and has_seed(state, name))


def may_acknowledge(state: State) -> bool:
    """There is something new to acknowledge, and no reason to wait for more of it."""
    if not state.proposals.dealt or state.members is not None or state.voting.ballot is not None:
        return False
    if "ack" not in state.due:
        return False
    last = state.proposals.acknowledged
    if last is not None and state.peers.unlinked(state.now) != last.unlinked:
        return True  # said at once: the others may be waiting for one of them
    if not state.proposals.fresh:
        return False
    if not state.past("ack") and (last is not None or any(_is_awaited(state, name) for name in state.names)):
        return False  # checked after every letter, so the digests of all bundles only once no peer is awaited
    return last is None or _held(state) != last.held


def _is_awaited(state: State, name: str) -> bool:
    return name not in state.peers.down and (name not in state.proposals.bundles or not has_seed(state, name))


def receipt(state: State) -> list[Effect]:
    """Make what is acknowledged durable first: the others may come to depend on it."""
    state.proposals.acknowledged, state.proposals.fresh = Ack(_held(state), state.peers.unlinked(state.now)), False
    return [persist(state, Receipted)]


def acknowledge(state: State, event: Receipted) -> list[Effect]:
    """Say to all which bundles lie on the disk, and to whom this peer has no link. A later Ack takes the place."""
    if state.proposals.acknowledged is None:
        return []
    state.outbox = [sent for sent in state.outbox if not isinstance(sent.letter.message, Ack)]
    ack = state.seal(state.proposals.acknowledged)  # as it was written: nothing comes between the two
    state.proposals.acks[state.context.me] = ack
    return [state.post(ack), *(mask.ahead(state) if len(_held(state)) == state.n else [])]


def accept_ack(state: State, letter: Letter[Ack]) -> list[Effect]:
    """Hold a peer's acknowledgement. A later one replaces it: an Ack may grow."""
    if not state.closed and same_attempt(letter, state.envelope):
        check_order(letter.message, state.context.roster)
        state.proposals.acks[letter.sender] = letter
        return unlinked.pass_on(state, letter)
    return []
