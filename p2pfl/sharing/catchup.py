"""How a site that was away comes to the rounds that it missed: whom it asks, what it answers, which answers count.

Pure, and the very same in a node and in a simulated peer: the driver says the time, sends what is returned, and writes
what counts into its ledger. A record counts when a quorum signed it, or one that rests on it, and a model when a record
names its digest; so anyone may be asked. The last round is not taken over as a record while its sum can still be had
(phases/fetch.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from p2pfl import codec
from p2pfl.codec import Malformed
from p2pfl.errors.round import BulkRejected, MalformedMessage
from p2pfl.federation.membership import Epochs, genesis_digest
from p2pfl.keys import SignedRecord
from p2pfl.messages import Behind, Entries, Letter, Message, ModelPart, Question, Want
from p2pfl.roster import Roster
from p2pfl.sharing.events import Send
from p2pfl.sharing.history import Base, check_rows, to_adopt
from p2pfl.sharing.run import Run

AGAIN_S: Final = 5.0  # least seconds between two questions for entries to one peer
ROWS: Final = 128  # most entries in one answer …
ROWS_BYTES: Final = 8 << 20  # … and bytes of them
PART_BYTES: Final = 256 << 10
PARTS: Final = 32  # most parts of a model in answer to one question


class Ledger(Protocol):
    """A federation log, as far as it is read here."""

    @property
    def entries(self) -> int:
        """How many it holds."""

    @property
    def epochs(self) -> Epochs | None:
        """What it says of membership; None of a log that holds rounds of one epoch alone."""

    def bases(self) -> Mapping[bytes, Base]:
        """By run, its last final round and the digest of that record."""

    def rows(self, first: int, most: int, most_bytes: int) -> list[SignedRecord]:
        """Entries from `first` on with their signatures: at most `most`, and `most_bytes` but for the first of them."""


class CatchUpRules:
    """Which entries to ask for and when, what to answer, and which rows of an answer count.

    genesis   SHA-256 of the first entry, as a peers.yaml of a later epoch names it; empty in epoch 1
    """

    def __init__(self, ledger: Ledger, roster: Roster, genesis: bytes) -> None:
        self._ledger, self._roster, self._genesis = ledger, roster, genesis
        self._asked: dict[str, float] = {}  # by peer: when
        self._open: set[str] = set()  # peers that were asked, and of whose entries none have been judged since
        self._claimed: dict[str, int] = {}  # by peer: entries that its log holds, as far as it said or showed so
        self._went_on = ("", 0.0)  # who was asked by `ask_on` the last time, and when

    # ── whom to ask ───────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, peer: str, now: float) -> Behind | None:
        """The question for entries that this log lacks; None when `peer` was asked less than AGAIN_S ago."""
        if now - self._asked.get(peer, -AGAIN_S) < AGAIN_S:
            return None
        self._asked[peer] = now
        self._open.add(peer)
        return Behind(self._ledger.entries, b"", 0)

    def ask_on_link(self, peer: str, entries: int, now: float) -> Behind | None:
        """A link to `peer` stands, whose hello says how many entries its log holds: as many as here, or more.

        Asked at once, however short ago the last question was: a link that ended may have lost the answer, and a peer
        that is as far as this one when it says hello may be a round further when it answers. A site that comes to that
        round too late has proposed on an older one, is in no set, and would count that against the others.
        """
        self._asked.pop(peer, None)
        self._claimed[peer] = entries
        return self.ask(peer, now) if entries >= self._ledger.entries else None

    def ask_on_letter(self, letter: Letter[Message], run: Run, now: float) -> Behind | None:
        """A letter of a round past the next one: its sender holds rounds that this site lacks."""
        ahead = letter.envelope.round > max(run.number, run.final_round) + 1
        if not ahead:
            return None
        self._claimed[letter.sender] = max(self._claimed.get(letter.sender, 0), self._ledger.entries + 1)
        return self.ask(letter.sender, now)

    def ask_on_sending(self, effect: Send, now: float) -> Behind | None:
        """A peer is asked for the sum of a round: it may be further on than that round."""
        message = effect.letter.message
        fetches = isinstance(message, Want) and message.what == Question.SUM
        return self.ask(effect.to, now) if fetches and effect.to is not None else None

    @property
    def is_behind(self) -> bool:
        """A peer says that its log holds more than this one."""
        held = self._ledger.entries if self._claimed else 0
        self._claimed = {peer: entries for peer, entries in self._claimed.items() if entries > held}
        return bool(self._claimed)

    def ask_on(self, up: Collection[str], now: float) -> tuple[str, Behind] | None:
        """Another peer that says so, and the question for it, once in AGAIN_S.

        Whoever handed the first entries over may have died, or lie; what the others answered beside it did not fit. A
        question that came too soon behind another one is put at last, too: at the end of a run no letter brings it up.
        """
        last, at = self._went_on
        further = sorted(self._claimed.keys() & set(up)) if self.is_behind and now - at >= AGAIN_S else []
        if not further:
            return None
        peer = next((name for name in further if name > last), further[0])
        self._went_on = (peer, now)
        question = self.ask(peer, now)
        return (peer, question) if question is not None else None

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

    def answer(self, question: Behind, model_of: Callable[[bytes], memoryview | None]) -> list[Message]:
        """What this site has of what a peer lacks: entries, or parts of a model; nothing when it has none.

        model_of   by digest, the bytes of a model that this site serves
        """
        if question.model:
            model = model_of(question.model)
            return [] if model is None else _parts(question, model)
        rows = self._ledger.rows(question.entries, ROWS, ROWS_BYTES)
        listed = tuple((record, tuple(sorted(signed.items()))) for record, signed in rows)
        return [Entries(question.entries, self._ledger.entries, listed)] if rows else []

    def rows_that_count(self, sender: str, message: Entries, current: Mapping[bytes, int]) -> list[SignedRecord]:
        """The rows of an answer that the ledger is to take over, in order; of a peer that was not asked, none.

        Each row holds a quorum of signatures to be checked: a liar's rows are as many as this site asked it for.

        current   by run, the round whose sum is still wanted here (`wanted_round`)
        Raises MalformedMessage naming `sender` when they do not hold.
        """
        self._claimed[sender] = message.entries
        if sender not in self._open or message.first != self._ledger.entries or not message.rows:
            return []
        self._open.discard(sender)
        rows = [(record, dict(signed)) for record, signed in message.rows]
        try:
            counted = check_rows(rows, self._roster, self._ledger.bases(), self._steps(rows))
        except (Malformed, KeyError) as error:
            raise MalformedMessage(peer=sender, evidence=f"entries of its ledger: {error}") from None
        last = codec.read_facts(counted[-1][0]) if counted else {}
        if "run" in last:  # behind the last round of an epoch stands the change: then that round is taken over too
            counted = to_adopt(counted, current.get(bytes.fromhex(last["run"]), 0))
        if counted:
            self._asked.pop(sender, None)  # there may be more
        return counted

    def _steps(self, rows: Sequence[SignedRecord]) -> Epochs | None:
        """The epochs of this log, to be followed through the rows. Raises Malformed when they begin elsewhere."""
        epochs = self._ledger.epochs
        if epochs is not None and not self._ledger.entries and genesis_digest(rows[0][0]) != self._genesis:
            raise Malformed("the log does not begin with the genesis that peers.yaml names")
        return epochs


def newest_rounds(rows: Sequence[SignedRecord]) -> dict[bytes, tuple[int, bytes]]:
    """By run, the last round among `rows`, and its record."""
    found: dict[bytes, tuple[int, bytes]] = {}
    for record, _ in rows:
        facts = codec.read_facts(record)
        if "run" in facts:
            found[bytes.fromhex(facts["run"])] = (facts["round"], record)
    return found


def wanted_round(run: Run, more: bool) -> int:
    """The round whose sum is wanted, not its record alone: the one under way, or the one about to begin; 0 for none.

    more   rounds of the run are still to come here
    A sum whose words are gone is not waited for: its record is taken over.
    """
    if run.current is not None and run.current.sum_is_gone:
        return 0
    return run.number or (run.final_round + 1 if more else 0)


# ── when a round may begin ────────────────────────────────────────────────────────────────────────────────────


def begins_next(run: Run, final: int, rounds: int) -> bool:
    """The next round begins here: fewer than `rounds` are `final` or held until they are, and nothing keeps it."""
    return final + len(run.held) < rounds and run.may_begin


def epoch_ends(run: Run, announced: bytes) -> bool:
    """The round on which any further one would rest is the last of its epoch.

    announced   digest of the change that the last final round announces; empty when it announces none
    """
    tip = run.rounds[run.held[-1]].state.confirming.record if run.held else b""
    # Asked after every event: most records are not even read, since a canonical one that has the key has these bytes.
    return bool(announced) or (b'"announced":' in tip and "announced" in codec.read_facts(tip))


# ── the newest model ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class WantedModel:
    """A model that is being fetched."""

    digest: bytes
    peer: str
    length: int  # bytes, as this site's own task says: a peer that claims another length sends no model of it
    data: bytearray = field(default_factory=bytearray)


class ModelFetch:
    """The model that the ledger names and this site has not, fetched from one peer part by part."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.wanted: WantedModel | None = None

    def ask_for(self, digest: bytes, peer: str, length: int) -> Behind:
        """The question for a model of `length` bytes, from its first one on."""
        self.wanted = WantedModel(digest, peer, length)
        return Behind(self._ledger.entries, digest, 0)

    def add(self, sender: str, part: ModelPart) -> tuple[Behind | None, bytes | None]:
        """The next question for the model, and its bytes once they are whole.

        Raises BulkRejected naming `sender` when its part is of no such model.
        """
        wanted = self.wanted
        if wanted is None or (sender, part.model) != (wanted.peer, wanted.digest):
            return None, None
        if part.start != len(wanted.data) and part.length == wanted.length:
            return None, None  # in answer to an earlier question, or behind parts that were lost with a full queue
        fits = part.start == len(wanted.data) and part.length == wanted.length and part.data
        if not fits or len(wanted.data) + len(part.data) > wanted.length:
            raise BulkRejected(peer=sender, evidence=f"a part of a model at {part.start} of {part.length}")
        wanted.data += part.data
        if len(wanted.data) == wanted.length:
            self.wanted = None
            return None, bytes(wanted.data)
        answered = len(wanted.data) % (PARTS * PART_BYTES) == 0
        return (Behind(self._ledger.entries, wanted.digest, len(wanted.data)) if answered else None), None


def _parts(question: Behind, model: memoryview) -> list[Message]:
    """The next bytes of a model, at most PARTS parts of them."""
    starts = range(question.start, min(len(model), question.start + PARTS * PART_BYTES), PART_BYTES)
    return [ModelPart(question.model, len(model), at, bytes(model[at : at + PART_BYTES])) for at in starts]
