"""CONFIRM: one record of the round, a function of D, the nonces and the sum; q signatures make it final.

docs/spec/sharing.md §9. The record is what goes into every federation log, byte for byte. Each signature over it keeps
the vow of `peers.py`. How a peer that lacks the sum comes by it: `fetch.py`.
"""

from __future__ import annotations

from typing import Final

from p2pfl import codec
from p2pfl.errors.round import RecordDiffers
from p2pfl.keys import verify
from p2pfl.messages import BackupShare, Confirm, Letter, Reveal, Share, Want
from p2pfl.sharing import record as records
from p2pfl.sharing.digests import total_digest
from p2pfl.sharing.events import Applied, Effect, Finished, Noted, RecordStored, Send, Stop
from p2pfl.sharing.snapshot import persist
from p2pfl.sharing.state import State

NOTHING: Final = "nothing"
CONFIRMS: Final = "confirms"
MOST_ASKED: Final = 6  # times, each after twice as long
SECRET: Final = (Share, Reveal, BackupShare)
PATIENCE_S: Final = 3.0  # a peer that holds the sum waits so long for q confirmations before it begins the next round


def record(state: State, event: Applied) -> list[Effect]:
    """Write the round's record and make it durable."""
    facts = _record(state, total_digest(state.total), event.model, codec.facts(event.outcome))
    if state.record and state.record != facts:
        # A record that this site signed before it restarted: another one now would be a second statement.
        evidence = "the record on disk is not the one computed now"
        return [Stop(RecordDiffers(peer=state.setting.me, evidence=evidence))]
    state.record = facts
    return [state.timer("patience", PATIENCE_S)]


def read(state: State, message: Confirm) -> bytes:
    """The record that a peer confirms. Raises Malformed."""
    return _record(state, message.total, message.model, message.outcome)


def _record(state: State, total: bytes, model: bytes, outcome: bytes) -> bytes:
    if state.members is None:
        raise codec.Malformed("no members")
    return records.make(state.members, state.view, state.setting.roster, total, model, outcome)


def may_sign(state: State) -> bool:
    """This peer has the record, and to sign it breaks no READY of a later round that does not rest on this one."""
    return bool(state.record) and not state.signed and state.others.vows.may_confirm(state.round)


def vow(state: State) -> list[Effect]:
    """Bind this peer to the record, durably, before its signature is seen."""
    state.signed = True
    state.others.vows.confirmed.add(state.round)
    return [persist(state, RecordStored)]


def sign(state: State, event: RecordStored | None = None) -> list[Effect]:
    """Sign the record for the ledgers of all."""
    cosignature = state.setting.identity.sign("record", state.record)
    state.confirms[state.setting.me] = (state.record, cosignature)
    letter = state.seal(Confirm(*records.said(state.record), cosignature))
    state.confirm_letters[state.setting.me] = letter
    return [state.post(letter)]


def accept(state: State, letter: Letter[Confirm]) -> list[Effect]:
    """Hold a peer's confirmation, if its signature is good. One of another record is told, and counts for nothing here.

    Unless q peers signed that other one: then it is this peer's own that is wrong.
    """
    message, sender = letter.message, letter.sender
    if state.members is None:
        return []
    theirs = read(state, message)
    if not verify(state.setting.roster[sender].key, "record", theirs, message.cosignature):
        raise RecordDiffers(peer=sender, evidence="its signature is not over the record that its sum and model give")
    if state.record and state.confirms.get(sender, (b"", b""))[0] == state.record != theirs:
        raise _differs(state, sender, theirs)  # what it signed before stands: others may be final by it
    state.confirms[sender] = (theirs, message.cosignature)
    state.confirm_letters[sender] = letter
    if not state.record or theirs == state.record:
        return []
    if agreed(state) not in (b"", state.record):
        return [Stop(_differs(state, state.setting.me, theirs))]
    raise _differs(state, sender, theirs)


def _differs(state: State, sender: str, theirs: bytes) -> RecordDiffers:
    try:
        ours, other = codec.read_facts(state.record), codec.read_facts(theirs)
        fields = [name for name in sorted({*ours, *other}) if ours.get(name) != other.get(name)]
    except codec.Malformed as error:
        fields = [str(error)]
    return RecordDiffers(peer=sender, evidence=f"round {state.round}: {', '.join(fields)} differ")


def agreed(state: State) -> bytes:
    """The record that q peers signed, or nothing."""
    held = [theirs for theirs, _ in state.confirms.values()]
    quorum = state.setting.roster.quorums.q
    return next((theirs for theirs in held if held.count(theirs) >= quorum), b"")


def lacks_confirms(state: State) -> bool:
    """The sum is here and no quorum of confirmations: somebody may have kept its own from this peer."""
    due = state.past("ask") if "ask" in state.due else state.past("patience")
    return due and state.signed and state.asked_confirms < MOST_ASKED and not final(state)


def ask(state: State) -> list[Effect]:
    """Ask all for the confirmations that they hold."""
    state.asked_confirms += 1
    wait = PATIENCE_S * 2**state.asked_confirms
    return [Send(None, state.seal(Want(CONFIRMS, ()))), state.timer("ask", wait)]


def final(state: State) -> bool:
    """q peers confirm the record that this peer computed from the sum that it holds."""
    waits = state.signed and state.setting.me not in state.confirms  # its own word is on its way to the disk
    return bool(state.total) and bool(state.record) and not waits and agreed(state) == state.record


def finish(state: State) -> list[Effect]:
    """The round stands, and every secret of it is destroyed."""
    state.deal, state.masked, state.backups, state.received = None, (), {}, {}
    state.pieced, state.shown_shares = {}, {}
    state.outbox = [sent for sent in state.outbox if not isinstance(sent.letter.message, SECRET)]
    cosignatures = {name: signature for name, (theirs, signature) in state.confirms.items() if theirs == state.record}
    missed = {"round": state.round, "attempt": state.attempt, "coordinator": state.coordinator}
    return [*([Noted("missed", missed)] if state.missed else []), Finished(state.round, state.record, cosignatures)]


def settled(state: State) -> list[Effect]:
    """The round is in this peer's ledger: it needs nobody any more. Who has heard that from all may leave."""
    return [state.post(state.seal(Want(NOTHING, ())))]
