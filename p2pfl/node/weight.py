"""Which events of a round are handled in the loop's own thread, since a hand-over to another would take longer.

A hand-over and the way back are two wake-ups, and twice the interpreter's lock: more than most steps take. The loop
carries links and heartbeats, so what is done in it takes a few milliseconds at most. An event is weighed by what it
*can* lead to: by its kind, by how many words its round has, and by how much its members nominate.

Never light: what brings many letters or signatures in one (Members, Ballot, Certificate, Handed, Evidence), shares of a
seed that are combined, questions, the time, a link that came or went, and all that is not of the round under way. Nor
anything while much waits for its turn in that round: whatever moves the phase hands all of it in.
"""

from __future__ import annotations

from typing import Final

from p2pfl import messages as m
from p2pfl.sharing import events as e
from p2pfl.sharing.round import Round
from p2pfl.sharing.run import Run

SMALL_WORDS: Final = 1 << 14  # of a round: each step over so many takes about a millisecond
SMALL_BYTES: Final = 64 << 10  # of all that was proposed in it: nominated positions, for the most part
MOST_EARLY: Final = 256  # letters ahead of their turn; of twenty honest sites about 120
# What these lead to reads and writes no word, however many there are.
OF_ANY: Final = (
    m.Share, m.Ack, m.Propose, m.Held, m.Ready, m.Confirm,
    e.Dealt, e.Receipted, e.Accepted, e.SumsStored, e.BallotStored, e.RecordStored,
)  # fmt: skip
# These lead to masks, sums, tags and hashes of all the words.
OF_SMALL: Final = (
    m.Root, m.Chunk, m.SumDigest, m.SumChunk, m.Nonce, m.Tags, m.Reveal,
    e.MasksReady, e.WordsReady, e.CertificateStored, e.Applied,
)  # fmt: skip


def is_light(run: Run, event: e.Event) -> bool:
    """Whatever the event leads to in the round under way takes a few milliseconds at most."""
    current = run.current
    if current is None:
        return False
    letter = event.letter if isinstance(event, e.Received) else None
    kind: type = type(event if letter is None else letter.message)
    number = getattr(event, "round", 0) if letter is None else letter.envelope.round
    if number != current.number or _proposed(current) > SMALL_BYTES or _waits_much(current):
        return False
    return kind in OF_ANY or (kind in OF_SMALL and _words(current, event) <= SMALL_WORDS)


def _proposed(current: Round) -> int:
    """Bytes of the proposals of its attempt, and of the set that holds them again."""
    state = current.state
    members = state.members.size if state.members is not None else 0
    return members + sum(letter.size for letter in state.proposals.proposes.values())


def _waits_much(current: Round) -> bool:
    """A peer may send thousands of letters ahead of their turn, and those of a later attempt in any size."""
    return len(current.early) > MOST_EARLY or current.early.size > SMALL_BYTES


def _words(current: Round, event: e.Event) -> int:
    """Words of its vectors; more than any small round has where they are not known, as after a restart."""
    if isinstance(event, (e.WordsReady, e.MasksReady)):
        vectors = event.vectors if isinstance(event, e.WordsReady) else current.state.masking.words or event.masks
        return sum(int(vector.words.size) for vector in vectors)
    gathering = current.state.gathering
    return sum(length for _, length in gathering.segments) if gathering is not None else SMALL_WORDS + 1
