"""CONFIRM: one record of the round, a function of D, the nonces and the sum; q signatures make it final.

docs/spec/sharing.md §9. The record is what goes into every federation log, byte for byte. Each signature over it keeps
the vow of `vows.py`. How a peer that lacks the sum comes by it: `fetch.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from p2pfl import codec
from p2pfl.errors.round import RecordDiffers
from p2pfl.keys import verify
from p2pfl.messages import Confirm, Letter, Question, Want
from p2pfl.sharing import record as records
from p2pfl.sharing.digests import total_digest
from p2pfl.sharing.events import Applied, Effect, Finished, NoteMissed, RecordStored, Send, Stop
from p2pfl.sharing.parts import Unmasking
from p2pfl.sharing.snapshot import persist
from p2pfl.sharing.state import State

MOST_ASKED: Final = 6  # questions, each after twice the wait
PATIENCE_S: Final = 3.0  # seconds that a peer with the sum waits for q confirmations before it begins the next round


def record(state: State, event: Applied) -> list[Effect]:
    """Write the round's record and make it durable."""
    confirming = state.confirming
    facts = _record(state, total_digest(state.sum.total), event.model, codec.facts(event.outcome))
    if confirming.record and confirming.record != facts:
        # A record that this site signed before it restarted: another one now would be a second statement.
        evidence = "the record on disk is not the one computed now"
        return [Stop(RecordDiffers(peer=state.context.me, evidence=evidence))]
    confirming.record = facts
    return [state.timer("patience", PATIENCE_S)]


def read(state: State, message: Confirm) -> bytes:
    """The record that a peer confirms. Raises Malformed."""
    return _record(state, message.total, message.model, message.outcome)


def _record(state: State, total: bytes, model: bytes, outcome: bytes) -> bytes:
    if state.members is None:
        raise codec.Malformed("no members")
    return records.make(state.members, state.view, state.context.roster, total, model, outcome)


def may_sign(state: State) -> bool:
    """This peer has the record, and signing it breaks no READY of a later round that does not rest on this one."""
    confirming = state.confirming
    return bool(confirming.record) and not confirming.signed and state.peers.vows.may_confirm(state.round)


def vow(state: State) -> list[Effect]:
    """Bind this peer to the record, durably, before its signature is seen."""
    state.confirming.signed = True
    state.peers.vows.confirmed.add(state.round)
    return [persist(state, RecordStored)]


def sign(state: State, event: RecordStored | None = None) -> list[Effect]:
    """Sign the record for the ledgers of all."""
    confirming = state.confirming
    if not confirming.signed:
        return []
    cosignature = state.context.identity.sign("record", confirming.record)
    confirming.confirms[state.context.me] = (confirming.record, cosignature)
    letter = state.seal(Confirm(*records.said(confirming.record), cosignature))
    confirming.confirm_letters[state.context.me] = letter
    return [state.post(letter)]


def accept(state: State, letter: Letter[Confirm]) -> list[Effect]:
    """Hold a peer's confirmation, if its signature is good. One of another record is reported and counts for nothing.

    If q peers signed that other record, this peer's own is the wrong one.
    """
    confirming = state.confirming
    message, sender = letter.message, letter.sender
    if state.members is None:
        return []
    theirs = read(state, message)
    if not verify(state.context.roster[sender].key, "record", theirs, message.cosignature):
        raise RecordDiffers(peer=sender, evidence="its signature is not over the record that its sum and model give")
    if confirming.record and confirming.confirms.get(sender, (b"", b""))[0] == confirming.record != theirs:
        raise _differs(state, sender, theirs)  # what it signed before stands: others may be final by it
    confirming.confirms[sender] = (theirs, message.cosignature)
    confirming.confirm_letters[sender] = letter
    if not confirming.record or theirs == confirming.record:
        return []
    if agreed(state) not in (b"", confirming.record):
        return [Stop(_differs(state, state.context.me, theirs))]
    raise _differs(state, sender, theirs)


def _differs(state: State, sender: str, theirs: bytes) -> RecordDiffers:
    try:
        ours, other = codec.read_facts(state.confirming.record), codec.read_facts(theirs)
        fields = [name for name in sorted({*ours, *other}) if ours.get(name) != other.get(name)]
    except codec.Malformed as error:
        fields = [str(error)]
    return RecordDiffers(peer=sender, evidence=f"round {state.round}: {', '.join(fields)} differ")


def agreed(state: State) -> bytes:
    """The record that q peers signed, or nothing."""
    quorum, confirms = state.context.roster.quorums.q, state.confirming.confirms
    if len(confirms) < quorum:
        return b""
    held = Counter(theirs for theirs, _ in confirms.values())
    return next((theirs for theirs, count in held.items() if count >= quorum), b"")


def lacks_confirms(state: State) -> bool:
    """The sum is here, and no quorum of confirmations: a peer may have kept its own from this one."""
    confirming = state.confirming
    due = state.past("ask") if "ask" in state.due else state.past("patience")
    return due and confirming.signed and confirming.asked_confirms < MOST_ASKED and not final(state)


def ask(state: State) -> list[Effect]:
    """Ask all for the confirmations that they hold."""
    confirming = state.confirming
    confirming.asked_confirms += 1
    wait = PATIENCE_S * 2**confirming.asked_confirms
    return [Send(None, state.seal(Want(Question.CONFIRMS, ()))), state.timer("ask", wait)]


def final(state: State) -> bool:
    """q peers confirm the record that this peer computed from the sum that it holds."""
    confirming = state.confirming
    waits = confirming.signed and state.context.me not in confirming.confirms  # its own word is on its way to the disk
    return bool(state.sum.total) and bool(confirming.record) and not waits and agreed(state) == confirming.record


def finish(state: State) -> list[Effect]:
    """The round stands, and every secret of it is destroyed."""
    confirming = state.confirming
    state.unmasking = Unmasking()
    cosignatures = {
        name: signature for name, (theirs, signature) in confirming.confirms.items() if theirs == confirming.record
    }
    missed = NoteMissed(state.round, state.attempt, state.coordinator)
    return [
        *([missed] if state.missed else []),
        Finished(state.round, confirming.record, cosignatures),
    ]


def settled(state: State) -> list[Effect]:
    """The round is in this peer's ledger: it needs nothing more. A peer that has heard this from all may leave."""
    state.confirming.here = True
    let_go(state)
    return [state.post(state.seal(Want(Question.NOTHING, ())))]


def has_let_go(state: State) -> bool:
    """Every ledger has the round, as each peer said itself: its words are held no more."""
    return state.confirming.here and state.confirming.settled.issuperset(state.context.others)


def let_go(state: State) -> None:
    """Once every ledger has the round nobody asks for its sum any more, and the words are not held on."""
    if has_let_go(state):
        state.sum.keep(None)
