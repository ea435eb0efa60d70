"""Which coordinates a site sends, and what becomes of the rest: nomination, support, residual.

A round's *support* is the same for all; values on it are summed securely; what was not sent stays in the residual and
is sent once it has grown (error feedback). By method:

    none        every coordinate, and no residual
    nominate    the union of what the peers *nominate*, each its largest ⌈k/n⌉ coordinates of a = update + residual
    leader      what one peer nominates, its largest k; they take turns (docs/spec/sharing.md, `leader`)
    random      k positions that follow from the public model; also with leader, where the leader is not in the sum

This costs no privacy **only because** the update carries its full noise on all coordinates before anything here looks
at it: positions, residual and running mean see noised values only. Never let an un-noised value into this file. Every
peer sees which positions another nominates (docs/attacks.md); of the others, of none and of random it sees nothing.

Scores: |a|/‖a‖ + |running mean of own updates|/‖·‖, with scores "both" + |what the model has moved so far|/‖·‖, which
is public. The residual is never decayed.

A support travels as 4 bytes of count (little-endian) and the gaps between positions as LEB128 varints of at most
five bytes, each in its shortest form, the first gap counted from −1 and every gap less one. A set has one encoding;
any other is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfl.codec import Pieces
from p2pfl.errors.training import CompressionMisused, SupportMalformed
from p2pfl.training.compression.drawn import drawn_positions
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.model.checkpoint import pieces_of

Positions = NDArray[np.int64]
MOST_VARINT_BYTES: Final = 5
MOST_PARAMETERS: Final = 1 << 33
SAMPLE: Final = 1 << 20  # numbers that bound the largest ones
BLOCK: Final = 1 << 18  # coordinates worked on at a time
MEAN_KEEPS: Final = 0.9  # decay of the running mean of own updates, per round
METHODS: Final = ("none", "nominate", "leader", "random")
NAMES_POSITIONS: Final = ("nominate", "leader")


# ── supports as bytes ─────────────────────────────────────────────────────────────────────────────────────────


def encode_support(positions: Positions) -> bytes:
    """`positions` (k,), strictly increasing and ≥ 0, as bytes. Raises ValueError otherwise."""
    gaps = np.diff(positions, prepend=-1) - 1  # (k,)
    if positions.ndim != 1 or (len(gaps) and (gaps.min() < 0 or positions[-1] >= MOST_PARAMETERS)):
        raise ValueError("positions are not strictly increasing from 0 on")
    lengths = np.ones(len(gaps), dtype=np.int64)
    for power in range(1, MOST_VARINT_BYTES):
        lengths += gaps >= 1 << (7 * power)
    starts = np.cumsum(lengths) - lengths
    out = np.zeros(int(lengths.sum()), dtype=np.uint8)
    for place in range(MOST_VARINT_BYTES):
        reach = lengths > place
        more = (lengths[reach] > place + 1).astype(np.int64) << 7
        out[starts[reach] + place] = ((gaps[reach] >> (7 * place)) & 0x7F) | more
    return len(gaps).to_bytes(4, "little") + out.tobytes()


def most_bytes(count: int, parameters: int) -> int:
    """The longest nomination of `count` of so many coordinates: of its gaps so many at most take a byte more."""
    return 4 + count + sum(min(count, parameters >> (7 * power)) for power in range(1, MOST_VARINT_BYTES))


def decode_support(data: bytes, parameters: int, most: int, peer: str) -> Positions:
    """The positions (k,) that `data` holds, each < `parameters`, at most `most` of them.

    Raises SupportMalformed, naming `peer`, before it takes more memory than `data` itself justifies.
    """
    if len(data) < 4:
        _malformed(peer, f"{len(data)} bytes")
    count = int.from_bytes(data[:4], "little")
    if count > most or len(data) - 4 < count or len(data) - 4 > MOST_VARINT_BYTES * count:
        _malformed(peer, f"{count} positions in {len(data)} bytes, at most {most} are allowed")
    body = np.frombuffer(data, dtype=np.uint8, offset=4)
    ends = np.flatnonzero(body < 0x80)
    if len(ends) != count or (count and ends[-1] != len(body) - 1):
        _malformed(peer, f"{count} positions announced, {len(ends)} sent")
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > MOST_VARINT_BYTES or np.any((lengths > 1) & (body[ends] == 0)):
        _malformed(peer, "a gap that is not in its shortest form")
    starts = ends - lengths + 1
    gaps = np.zeros(count, dtype=np.int64)
    for place in range(MOST_VARINT_BYTES):
        reach = lengths > place
        gaps[reach] |= (body[starts[reach] + place].astype(np.int64) & 0x7F) << (7 * place)
    if int(gaps.max()) >= parameters:  # so the running sum below cannot overflow
        _malformed(peer, f"a position of {parameters} or more")
    positions = np.cumsum(gaps + 1) - 1
    if int(positions[-1]) >= parameters:
        _malformed(peer, f"a position of {parameters} or more")
    return positions


def union(supports: Sequence[Positions]) -> Positions:
    """All positions of `supports`, each once, increasing."""
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *supports]))


def largest(values: NDArray[np.float32], count: int) -> Positions:
    """Positions of the `count` largest of `values` (m,), increasing; of equals any.    (count,)

    A sample bounds the smallest of them from below, so that few are left to be put in order: 1.25·10⁸ numbers take a
    tenth of a second where all at once take three. Where the sample misleads, all are.
    """
    step = max(1, len(values) // SAMPLE)
    sample = values[::step]
    wanted = min(len(sample), int(1.2 * count / step) + 64)
    bound = np.partition(sample, len(sample) - wanted)[len(sample) - wanted]
    places = np.flatnonzero(values >= bound)
    if len(places) < count:
        places = np.arange(len(values))
    left = values[places]
    return np.sort(places[np.argpartition(left, len(left) - count)[len(left) - count :]]).astype(np.int64, copy=False)


def most_nominated(density: float, parameters: int, peers: int) -> int:
    """The most positions that each of `peers` peers may nominate: all together, `density` of the parameters."""
    return math.ceil(math.ceil(density * parameters) / peers)


def leader_of(names: Sequence[str], rounds_before: int) -> str:
    """Who nominates for all in the round behind so many others, of the roster's `names` in their order."""
    return names[rounds_before % len(names)]


def _malformed(peer: str, evidence: str) -> NoReturn:
    raise SupportMalformed(evidence=evidence, peer=peer)


# ── what one peer sends and keeps ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Ground:
    """What all sites know of a round before anybody trains for it, and what follows from that for this site.

    base     digest of the model that it starts from
    leads    this site is its leader
    moved    what the model has moved since the first one: float32 (m,)
    """

    base: bytes = bytes(32)
    leads: bool = False
    moved: Callable[[], NDArray[np.float32]] | None = None


NO_GROUND: Final = Ground()


class Compresses(Protocol):
    """How one site makes what it sends of an update, and what it keeps of it.

    length      the most numbers that a round sums
    nominated   the most positions that a site names; 0 where it names none
    """

    length: int
    nominated: int

    def subspace(self, first: NDArray[np.float32], model: NDArray[np.float32]) -> Subspace | None:
        """Where the round that starts from `model` (m,) may move, of a training from `first` (m,); None: everywhere."""

    def nominate(self, update: NDArray[Any], subspace: Subspace | None = None, ground: Ground = NO_GROUND) -> bytes:
        """Take up the round's noised `update`, made in `subspace`; return the encoded nomination."""

    def nomination(self, ground: Ground) -> bytes:
        """The nomination of what was taken up, for a round: another one than it was taken up for may have come."""

    def support(self, nominations: dict[str, bytes], base: bytes = NO_GROUND.base) -> Positions | None:
        """The round's support, of the peers' nominations by name; None: every number. Raises SupportMalformed.

        base    digest of the model that the round starts from
        """

    def values(self, support: Positions | None, subspace: Subspace | None = None) -> NDArray[Any]:
        """What this site would send in the round of that support and subspace."""

    def settle(self, support: Positions | None, sent: NDArray[np.float64]) -> None:
        """`sent` enters the sum: keep what does not."""

    def to_pieces(self) -> Pieces:
        """The state. Views of it: it must not change before they are written."""

    def restore(self, data: bytes) -> None:
        """Take up what `to_pieces` wrote. Raises CompressionMisused when it belongs to another model."""


class Compressor:
    """One site's error feedback: nominate, then settle once for each attempt, then the next update.

    An update enters a second attempt only when a certificate frees it (the caller's matter). It is then settled again
    from the same a: the first attempt's values are put back first.
    """

    def __init__(self, method: str, density: float, parameters: int, peers: int, scores: str = "own") -> None:
        """`density` is the part of the `parameters` coordinates in a round's support, all `peers` together."""
        if method not in METHODS or not 0.0 < density <= 1.0 or not 1 <= parameters <= MOST_PARAMETERS or peers < 1:
            raise ValueError(f"{method}, density {density}, {parameters} parameters, {peers} peers")
        self.method, self.parameters, self._scores = method, parameters, scores
        share = peers if method == "nominate" else 1
        most = most_nominated(density, parameters, share)
        self.length = parameters if method == "none" else min(share * most, parameters)
        # Each peer's part of the support: the most positions that a peer may nominate.
        self.nominated = most if method in NAMES_POSITIONS else 0
        held, scored = (parameters * (method in those) for those in (METHODS[1:], NAMES_POSITIONS))
        self._a = np.zeros(held, dtype=np.float32)  # update + residual, less what was sent of it
        self._mean = np.zeros(scored, dtype=np.float32)
        self._sent: tuple[Positions, NDArray[np.float32]] = _nothing()
        self._update = np.zeros(0, dtype=np.float32)  # method none: the update as it is

    @property
    def residual(self) -> NDArray[np.float32]:
        """What was held back so far.    (m,), or (0,) for method none"""
        return self._a

    def subspace(self, first: NDArray[np.float32], model: NDArray[np.float32]) -> None:
        """A round may move everywhere."""

    def nominate(
        self, update: NDArray[np.float32], subspace: Subspace | None = None, ground: Ground = NO_GROUND
    ) -> bytes:
        """Add the round's noised `update` (m,) to a; return the encoded nomination, b"" where this site names none."""
        if update.dtype != np.float32 or update.shape != (self.parameters,):
            raise CompressionMisused(evidence=f"{update.dtype}{update.shape} for {self.parameters} parameters")
        if self.method == "none":
            self._update = update.copy()
            return b""
        self._sent = _nothing()
        for part in _parts(self.parameters):
            self._a[part] += update[part]
            if self._mean.size:
                self._mean[part] *= np.float32(MEAN_KEEPS)
                self._mean[part] += np.float32(1.0 - MEAN_KEEPS) * update[part]
        return self.nomination(ground)

    def nomination(self, ground: Ground) -> bytes:
        """Of a, as it is: the largest scores' positions."""
        if not self.nominated or (self.method == "leader" and not ground.leads):
            return b""
        if self.nominated >= self.parameters:
            return encode_support(np.arange(self.parameters, dtype=np.int64))
        a, (positions, before) = self._a, self._sent
        if positions.size:  # of an attempt that came to nothing: it is put back when its values are sent again
            a = a.copy()
            a[positions] = before
        of = [a, self._mean]
        if self._scores == "both" and ground.moved is not None:
            of.append(ground.moved())
        return encode_support(largest(_score(of), self.nominated))

    def support(self, nominations: dict[str, bytes], base: bytes = NO_GROUND.base) -> Positions | None:
        """The round's, of the peers' nominations (by name); None for method none: every coordinate.

        Raises SupportMalformed naming the peer whose nomination breaks format or limit, or that is no leader.
        """
        said = nominations
        if self.method != "nominate":
            said = {peer: data for peer, data in nominations.items() if data}
            for peer in [*said][int(self.method == "leader") :]:
                _malformed(peer, f"{len(said[peer])} bytes where nothing is nominated")
        if self.method == "none":
            return None
        if not said:
            return drawn_positions(base, self.length, self.parameters)
        limits = self.parameters, self.nominated
        found = union([decode_support(data, *limits, peer) for peer, data in said.items()])
        named = found.size or self.method == "nominate"
        return found if named else drawn_positions(base, self.length, self.parameters)  # a leader's list of none

    def values(self, support: Positions | None, subspace: Subspace | None = None) -> NDArray[np.float32]:
        """What this site would send on `support`.    (len(support),), or (m,) for method none"""
        if (support is None) != (self.method == "none"):
            raise CompressionMisused(evidence=f"method {self.method}")
        if support is None:
            return self._update.copy()
        self._put_back()
        return self._a[support]

    def settle(self, support: Positions | None, sent: NDArray[np.float64]) -> None:
        """`sent` is what enters the sum on `support` (dequantise(quantise(values))); keep the difference.

        Call it, and make the state durable, before the first masked word leaves. If the sum then fails for good, what
        was sent is lost and never sent again: the residual keeps only what was never in y.
        """
        if support is None:
            return
        if sent.shape != support.shape:
            raise CompressionMisused(evidence=f"{sent.shape} values for {support.shape} positions")
        self._put_back()
        before = self._a[support]
        self._sent = (support.copy(), before)
        self._a[support] = (before - sent).astype(np.float32)

    def _put_back(self) -> None:
        positions, before = self._sent
        self._a[positions] = before
        self._sent = _nothing()

    def to_pieces(self) -> Pieces:
        """Residual, running mean and what an attempt under way has sent of it: safetensors. Home seals it.

        Views of all of them: the state must not change before they are written.
        """
        positions, before = self._sent
        tensors: dict[str, NDArray[Any]] = {
            "residual": self._a,
            "mean": self._mean,
            "sent.positions": positions,
            "sent.before": before,
            "update": self._update,
        }
        return pieces_of(tensors, {"method": self.method})

    def restore(self, data: bytes) -> None:
        """Take up the state that `to_pieces` wrote. Raises CompressionMisused when it belongs to another model."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            state = load(data)
            same = (state["residual"].shape, state["mean"].shape) == (self._a.shape, self._mean.shape)
            sent, update = (state["sent.positions"].copy(), state["sent.before"].copy()), state["update"].copy()
        except (SafetensorError, KeyError, ValueError) as error:
            raise CompressionMisused(evidence=f"{len(data)} bytes of state: {error}") from None
        if not same:
            raise CompressionMisused(evidence=f"state of {state['residual'].shape}, not {self._a.shape}")
        self._a, self._mean = state["residual"].copy(), state["mean"].copy()
        self._sent, self._update = sent, update


def _nothing() -> tuple[Positions, NDArray[np.float32]]:
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)


def _parts(count: int) -> Iterator[slice]:
    """A block at a time: of a large model every whole vector more is its size in memory, and seconds of page faults."""
    for start in range(0, count, BLOCK):
        yield slice(start, start + BLOCK)


def _score(of: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Σ |x|/‖x‖ over `of`, one after the other.    (m,)"""
    norms = (float(np.linalg.norm(one)) for one in of)
    lengths = [np.float32(norm if norm > 0.0 else 1.0) for norm in norms]  # one NaN would make all scores NaN
    out = np.empty_like(of[0])
    for part in _parts(out.size):
        out[part] = np.abs(of[0][part]) / lengths[0]
        for one, length in zip(of[1:], lengths[1:], strict=True):
            out[part] += np.abs(one[part]) / length
    return out
