"""SHARE: to the far end of each outgoing edge its seed; to everyone the signed bundle; then one acknowledgement.

docs/spec/sharing.md §3. Backup shares of the self-mask come in a later version: `backup` is empty here.
"""

from __future__ import annotations

from p2pfl import merkle
from p2pfl.codec import Malformed
from p2pfl.errors.round import BundleRejected, TwoStatements, UnexpectedEvent
from p2pfl.keys import SEED_BYTES, Secret, digest
from p2pfl.messages import Ack, Bundle, Letter, Share, open_letter
from p2pfl.sharing.certificate import same_attempt
from p2pfl.sharing.events import Begin, Dealt, Effect, Noted, Received, Send
from p2pfl.sharing.graph import outgoing
from p2pfl.sharing.state import SUMS_ITEM, Deal, State


def commitment(kind: str, value: bytes) -> bytes:
    """Binds a dealer to a 32-byte secret; uniform secrets need no salt."""
    return digest("commitment/" + kind, value)


def leaf(salt: bytes, edge: bytes, backup: bytes) -> bytes:
    """The Merkle leaf of one share: salted, so that the root tells nothing of an edge's seed."""
    return digest("share", salt, edge, backup)


def deal(state: State, event: Begin | None = None) -> list[Effect]:
    """Draw this attempt's secrets and bind this peer to them. Durable before the first of them leaves."""
    if state.deal is not None:
        raise UnexpectedEvent(event="Begin", phase="SHARE", evidence="this attempt's secrets are drawn already")
    draw, names, me = state.setting.draw, state.names, state.setting.me
    mine = {names[j] for j in outgoing(names.index(me), len(names))}
    self_mask, nonce = Secret(draw(SEED_BYTES), "self-mask seed"), Secret(draw(SEED_BYTES), "nonce")
    edges = {name: Secret(draw(SEED_BYTES), f"edge seed {me}→{name}") for name in names if name in mine}
    salts = [draw(32) for _ in names]
    seeds = [edges[name].reveal() if name in edges else b"" for name in names]
    leaves = [leaf(salt, seed, b"") for salt, seed in zip(salts, seeds, strict=True)]
    bundle = state.seal(
        Bundle(commitment("self-mask", self_mask.reveal()), commitment("nonce", nonce.reveal()), merkle.root(leaves))
    )
    shares = {
        name: Share(bundle.wire, seeds[place], b"", salts[place], merkle.path(leaves, place))
        for place, name in enumerate(names)
    }
    state.deal = Deal(self_mask, nonce, bundle, edges, shares)
    state.bundles[me] = bundle
    return [state.persist(Dealt, (SUMS_ITEM, None))]


def send(state: State, event: Dealt) -> list[Effect]:
    """The secrets are durable: each peer gets its share."""
    deal = state.deal
    if deal is None:
        return []
    state.dealt = True
    bound = Noted("commitment", {"round": state.round, "attempt": state.attempt, "digest": deal.bundle.digest.hex()})
    return [bound, *(state.post(deal.shares[name], name) for name in state.setting.others), *_acknowledge(state)]


def accept(state: State, event: Received) -> list[Effect]:
    """Check a share against its dealer's bundle and hold it; acknowledge once every dealer's is held."""
    letter, share = event.letter, event.letter.message
    if not isinstance(share, Share):
        return []
    dealer = letter.sender
    bundle = _bundle(state, letter, share)
    held = state.bundles.get(dealer)
    if held is not None and held.digest != bundle.digest:
        raise TwoStatements(
            peer=dealer, message="Bundle", evidence=f"{held.digest.hex()[:16]} and {bundle.digest.hex()[:16]}"
        )
    state.bundles[dealer] = bundle
    if share.edge:
        state.received[dealer] = Secret(share.edge, f"edge seed {dealer}→{state.setting.me}")
    return _acknowledge(state)


def _bundle(state: State, letter: Letter, share: Share) -> Letter:
    """The share's bundle, once everything about the share holds. Raises BundleRejected naming the dealer."""
    dealer, names = letter.sender, state.names
    here = names.index(state.setting.me)
    expects_seed = here in outgoing(names.index(dealer), len(names))
    try:
        bundle = open_letter(share.bundle, state.setting.roster, Bundle)
    except Malformed as error:
        raise BundleRejected(peer=dealer, evidence=str(error)) from None
    body = bundle.message
    if bundle.envelope != letter.envelope or not isinstance(body, Bundle):
        raise BundleRejected(peer=dealer, evidence="the bundle is of another sender, attempt or process")
    if bool(share.edge) != expects_seed:
        found = f"edge seed of {len(share.edge)} bytes against the graph's direction"
        raise BundleRejected(peer=dealer, evidence=found)
    if not merkle.check(body.shares, leaf(share.salt, share.edge, share.backup), here, len(names), share.path):
        raise BundleRejected(peer=dealer, evidence="the share is not under the bundle's root")
    return bundle


def _acknowledge(state: State) -> list[Effect]:
    """One Ack to all when all bundles are held (this version's U is everyone, so a partial one helps nobody)."""
    if state.acknowledged or len(state.bundles) < state.n or not state.dealt:
        return []
    state.acknowledged = True
    ack: Send = state.post(Ack(tuple((name, state.bundles[name].digest) for name in state.names)))
    state.acks[state.setting.me] = ack.letter
    return [ack]


def acknowledged(state: State, event: Received) -> list[Effect]:
    """Hold a peer's acknowledgement. A later one replaces it: an Ack may grow."""
    if not same_attempt(event.letter, state.envelope):
        return []
    state.acks[event.letter.sender] = event.letter
    return []
