"""Which events of a round are handled in the loop's own thread, since a hand-over to another would take longer.

A hand-over and the way back are two wake-ups, and twice the interpreter's lock: more than most steps take. The loop
carries links and heartbeats, so what is done in it takes a few milliseconds at most. An event is weighed by what it
*can* lead to: by its kind, by how many words its round has, and by how much its members nominate.

Never light: what brings many letters or signatures in one (Certificate, Handed, Evidence, a Members of many sites),
shares of a seed that are combined, questions, a link that came or went. Nor anything while much waits for its turn in
that round: whatever moves the phase hands all of it in. Of a round that is over little counts: its last timers, which
are dropped, what its members still sign, and that they need nothing more of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2pfl import messages as m
from p2pfl.sharing import events as e
from p2pfl.sharing.round import Round
from p2pfl.sharing.run import Run
from p2pfl.sharing.state import Phase

SMALL_WORDS: Final = 1 << 14  # of a round: each step over so many takes about a millisecond
SMALL_BYTES: Final = 64 << 10  # of all that was proposed in it: nominated positions, for the most part
MOST_EARLY: Final = 256  # letters ahead of their turn; of twenty honest sites about 120
FEW_SITES: Final = 8  # of so many a round is begun, and the time looked at, in a millisecond or two
SET_BYTES: Final = 8 << 10  # of a set, with a letter of each site: twelve take 5 ms if none came alone before
SUMMED_BYTES: Final = 4 << 20  # of all members' words of one chunk: to add and hash them takes a millisecond or two
FEW_EARLY: Final = 32  # of them for a round that begins: its members' shares, and what they have to propose
NO_WORDS: Final = (Phase.SHARE, Phase.PROPOSE)  # nothing that these lead to is of words
OF_ONE_CHUNK: Final = (m.Chunk, m.SumDigest, m.SumChunk, m.Nonce)  # while more has to come, however long the round
# What these lead to reads and writes no word, however many there are.
OF_ANY: Final = (
    m.Share, m.Ack, m.Propose, m.Held, m.Ready, m.Confirm,
    e.Dealt, e.Receipted, e.Accepted, e.SumsStored, e.BallotStored, e.RecordStored,
)  # fmt: skip
# These lead to masks, sums, tags and hashes of all the words.
OF_SMALL: Final = (
    m.Root, m.Chunk, m.SumDigest, m.SumChunk, m.Nonce, m.Tags, m.Ballot, m.Reveal,
    e.MasksReady, e.WordsReady, e.SomeSent, e.FirstSent, e.CertificateStored, e.Applied,
)  # fmt: skip


def is_light(run: Run, event: e.Event) -> bool:
    """Whatever the event leads to takes a few milliseconds at most."""
    letter = event.letter if isinstance(event, e.Received) else None
    number = getattr(event, "round", 0) if letter is None else letter.envelope.round
    if isinstance(event, e.OfAttempt) and number not in run.rounds:
        return True  # it is dropped
    if letter is not None and run.previous is not None and number == run.previous.number:
        return _ends(run.previous, letter)
    current = run.current
    if current is None or number != current.number or _proposed(current) > SMALL_BYTES or _waits_much(current):
        return False
    if letter is not None and isinstance(letter.message, m.Members):
        return letter.size <= SET_BYTES  # it leads to no word, however many there are
    if isinstance(event, e.Tick):
        return _few_sites(run) and (current.phase in NO_WORDS or _words(current, event) <= SMALL_WORDS)
    if isinstance(event, e.UpdateReady):
        return len(event.proposal.support) + len(event.proposal.configuration) <= SMALL_BYTES
    if letter is not None and (_is_one_of_many(current, letter) or _leaves_one_lacking(current, letter)):
        return True
    kind: type = type(event if letter is None else letter.message)
    return kind in OF_ANY or (kind in OF_SMALL and _words(current, event) <= SMALL_WORDS)


def begins_light(run: Run) -> bool:
    """The next round begins in a few milliseconds, with what came early for it."""
    return _few_sites(run) and run.current is None and len(run.early) <= FEW_EARLY and run.early.size <= SMALL_BYTES


def is_small(vectors: tuple[e.Vector, ...]) -> bool:
    """These words are read and written in about a millisecond."""
    return _size(vectors) <= SMALL_WORDS


def _few_sites(run: Run) -> bool:
    return len(run.context.roster.names) <= FEW_SITES


def _size(vectors: Iterable[e.Vector]) -> int:
    return sum(int(vector.words.size) for vector in vectors)


def _is_one_of_many(current: Round, letter: m.Letter[m.Message]) -> bool:
    """It leads to no more than the sum of its own chunk: tags of all words follow the last member's nonce.

    That may come before words of the sum: the check of them all follows the last of these.
    """
    gathering, members = current.state.gathering, len(current.state.survivors)
    if current.phase is not Phase.GATHER or gathering is None or not isinstance(letter.message, OF_ONE_CHUNK):
        return False
    if gathering.challenge:  # this site has told its tags
        more = len(gathering.sums) + 1 < len(gathering.pieces)
        return more and isinstance(letter.message, m.SumChunk) and letter.size <= SUMMED_BYTES
    opened = len(gathering.nonces.keys() - {current.state.context.me}) + isinstance(letter.message, m.Nonce)
    return opened < members - 1 and letter.size * members <= SUMMED_BYTES


def _leaves_one_lacking(current: Round, letter: m.Letter[m.Message]) -> bool:
    """A Root or a seed of another member has yet to come: nothing is summed, and nothing unmasked, before the last."""
    state, message = current.state, letter.message
    if isinstance(message, m.Root) and current.phase is Phase.GATHER and state.gathering is not None:
        return bool(set(state.survivors) - state.gathering.roots.keys() - {letter.sender})
    if isinstance(message, m.Reveal) and current.phase is Phase.UNMASK:
        return bool(set(state.survivors) - state.sum.reveals.keys() - {name for name, _ in message.seeds})
    return False


def _ends(over: Round, letter: m.Letter[m.Message]) -> bool:
    """A member signs what is final here already, or needs nothing more of it: then its words may be given back."""
    message = letter.message
    nothing = isinstance(message, m.Want) and message.what == m.Question.NOTHING
    return isinstance(message, m.Confirm) or (nothing and _gathered(over) <= SMALL_WORDS)


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
        return _size(vectors)
    making = current.state.masking.making
    if isinstance(event, (e.SomeSent, e.FirstSent)) and making is not None:
        return sum(length for _, length in making.segments)
    return _gathered(current)


def _gathered(one: Round) -> int:
    gathering = one.state.gathering
    return sum(length for _, length in gathering.segments) if gathering is not None else SMALL_WORDS + 1
