"""Homes of one federation with real logs, a trainer of four numbers, and rounds made by hand: no network, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfl import codec
from p2pfl.federation import Federation, draft
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.keys import Draw, Identity, Secret, SignedRecord, digest
from p2pfl.node.logs import Logs
from p2pfl.node.pledge import genesis_of, pledge_of
from p2pfl.node.progress import Observer, unseen
from p2pfl.node.runs.training import TrainingRun
from p2pfl.node.source import Offer
from p2pfl.peer.epoch import training_run
from p2pfl.roster import Address, Member
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.measures.classification import Binary
from p2pfl.training.measures.joint import Joint
from p2pfl.training.measures.measure import Figure
from p2pfl.training.privacy.account import Charge
from p2pfl.training.update import FlatVector, TensorLayout
from tests.federation.sample import TASK
from tests.home.home_fixtures import make

NAMES = ("charite", "st-olav", "uppsala")
ME, OTHERS = NAMES[0], NAMES[1:]


def draw(count: int) -> bytes:
    """The same bytes each time: what is equal before quantising is equal behind it."""
    return bytes(range(count))


class Killed(BaseException):
    """A process dies in the middle of a pass."""


@dataclass
class Four:
    """The pass of charge k moves each of four numbers by k tenths; nobody is held out unless `held` says so."""

    held: NDArray[np.int64] = field(default_factory=lambda: np.zeros(Binary.size, np.int64))
    frozen: bytes = bytes(32)
    layout: TensorLayout = field(default_factory=lambda: TensorLayout((("w", (4,)),)))
    passes: int = 0
    records: bytes = b"records"
    seeds: list[tuple[int, bytes]] = field(default_factory=list)  # of each pass: its charge, and its seed
    trained: list[FlatVector] = field(default_factory=list)  # the model that each pass started from
    rounds_before: list[int] = field(default_factory=list)  # … and how many rounds are in that model
    dies: bool = False
    measured: list[FlatVector] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        return self.layout.parameters

    def initial(self, seed: bytes) -> FlatVector:
        return np.zeros(self.parameters, np.float32)

    def inputs(self, model: FlatVector, rounds_before: int) -> bytes:
        return digest("four", self.records, model.tobytes(), bytes([rounds_before]))

    def train(
        self, model: FlatVector, charge: Charge, seed: Secret, rounds_before: int, subspace: Subspace | None = None
    ) -> FlatVector:
        self.rounds_before.append(rounds_before)
        self.passes += 1
        self.seeds.append((charge.number, seed.reveal()))
        self.trained.append(model)
        if self.dies:
            raise Killed
        return np.full(4 if subspace is None else subspace.length, 0.1 * charge.number, np.float32)

    @property
    def counts(self) -> int:
        return Binary.size

    def evaluate(self, model: FlatVector) -> NDArray[np.int64]:
        self.measured.append(model)
        return self.held

    def figures(self, total: NDArray[np.int64]) -> Mapping[str, Figure]:
        return Joint([Binary()], "four").figures(total)


@dataclass
class FourOf(Four):
    """It says which records it brings."""

    brings: tuple[bytes, ...] = ()

    def names(self) -> tuple[bytes, ...]:
        return self.brings


@dataclass
class FourOut(Four):
    """It says which records it holds out, and counts exactly these: (name, place of its count)."""

    out: tuple[tuple[bytes, int], ...] = ()

    def held_out_names(self) -> tuple[bytes, ...]:
        return tuple(name for name, _ in self.out)

    def evaluate(self, model: FlatVector) -> NDArray[np.int64]:
        return np.bincount([place for _, place in self.out], minlength=Binary.size)


@dataclass
class Place:
    """A home with its federation, as one process after another finds it."""

    home: Home
    federation: Federation
    identities: dict[str, Identity]
    trainer: Four = field(default_factory=Four)
    draw: Draw = draw

    def logs(self) -> Logs:
        """Both logs as a process that starts finds them on the disk; all sites signed the genesis."""
        logs = Logs(self.home, self.home.identity(), pledge_of(self.federation), lambda: 1_700_000_000.0)
        logs.started(bytes(16))
        genesis = genesis_of(self.federation)
        logs.begin({name: one.sign("record", genesis) for name, one in self.identities.items()}, {})
        return logs

    def started(self, trainer: Four | None = None, observer: Observer = unseen) -> TrainingRun:
        """As after a start: everything is read from the disk."""
        run, brought = training_run(self.federation), trainer or self.trainer
        return TrainingRun(self.federation, self.home, self.logs(), run, brought, "four", self.draw, observer)


def places(folder: Path, *settings: str) -> tuple[Place, Place]:
    """The homes of two of three sites."""
    homes = {name: make(folder, name) for name in NAMES[:2]}
    third = Identity(bytes([3]) * 32)
    identities = {**{name: home.identity() for name, home in homes.items()}, NAMES[2]: third}
    members = [
        Member(name, one.key, (Address("10.0.0.1", 7000 + at),)) for at, (name, one) in enumerate(identities.items())
    ]
    federation = Federation.parse(draft.peers_file("trial", members, TASK, ["rounds=3", *settings]))
    one, other = (Place(home, federation, identities) for home in homes.values())
    return one, other


def beside(place: Place) -> Home:
    """The same home, as another process opens it."""
    key = place.home.path.parent / "keys" / f"{place.home.name}.key"
    return Home.open(place.home.path, unlock=[KeyFile(key)], write=False)


# ── a round by hand ───────────────────────────────────────────────────────────────────────────────────────────


def attempt_digest(number: int, attempt: int = 0) -> bytes:
    return digest("attempt", bytes([number, attempt]))


def masked(run: TrainingRun, number: int, offer: Offer, attempt: int = 0) -> tuple[e.Vector, ...]:
    """What this site sums in an attempt over all three sites, which all offer the same."""
    supports = (offer.support,) * len(NAMES)
    return run.words(e.Quantise(number, attempt, attempt_digest(number, attempt), NAMES, supports))


def times(vectors: Sequence[e.Vector], count: int) -> tuple[e.Vector, ...]:
    """The sum when so many sites did the same."""
    found = []
    for vector in vectors:
        rows = [vector.words.copy() for _ in range(count)]
        found.append(e.Vector(vector.bits, FIELDS[vector.bits].sum(rows)))
    return tuple(found)


def summed(run: TrainingRun, number: int, base: int | None = None) -> tuple[bytes, codec.Facts]:
    """Propose, mask, and apply the sum of three sites that all did the same: model after, outcome."""
    before = number - 1 if base is None else base
    offer = run.propose(number, before)
    total = times(masked(run, number, offer), len(NAMES))
    return run.apply(applied(number, before, total, NAMES, offer.support, codec.facts(offer.configuration)))


def by_others(run: TrainingRun, number: int, base: int, by: float = 0.5) -> tuple[bytes, codec.Facts]:
    """Apply the sum of the two other sites, each of which moved the model by so much."""
    moved = np.full(4, by, np.float32)
    words, _ = run.updates.quantiser.quantise(moved, digest("rotation", attempt_digest(number)), draw(32))
    scalars = e.Vector(61, FIELDS[61].encode(np.zeros(Binary.size + 2, np.int64)))
    total = times((e.Vector(run.federation.sharing.field, words), scalars), len(OTHERS))
    return run.apply(applied(number, base, total, OTHERS, b"", agreed(run)))


def agreed(run: TrainingRun) -> bytes:
    """The configuration that all propose in a round that measures its model."""
    return codec.facts({**run.configuration, "unmeasured": ""})


def applied(
    number: int, base: int, total: tuple[e.Vector, ...], survivors: tuple[str, ...], support: bytes, facts: bytes
) -> e.Apply:
    return e.Apply(number, base, attempt_digest(number), (support,) * len(survivors), survivors, total, facts)


def row(
    run: TrainingRun,
    identities: dict[str, Identity],
    number: int,
    after: bytes,
    outcome: codec.Facts,
    **changed: object,
) -> SignedRecord:
    """The record of the round that comes next in this site's log, signed by all sites."""
    before = run.logs.model_after(run.run) or run.digest_of(run.trainer.initial(b""))
    rests_on, base = run.logs.base(run.run)
    record = codec.facts(
        {
            "kind": "round",
            "run": run.run.hex(),
            "epoch": 1,
            "round": number,
            "attempt": 0,
            "rests_on": rests_on,
            "base": base.hex(),
            "survivors": list(NAMES),
            "left_out": [],
            "attempt_digest": "d" * 64,
            "view": "e" * 64,
            "total": "f" * 64,
            "salt": "0" * 64,
            "model_before": before.hex(),
            "model_after": after.hex(),
            "configuration": run.configuration,
            "outcome": outcome,
            "epsilon": dict.fromkeys(NAMES, "1.0"),
            "site_heads": dict.fromkeys(NAMES, "a" * 64),
            "time_ms": 1_700_000_000_000 + number,
            **changed,
        }
    )
    return record, {name: one.sign("record", record) for name, one in identities.items()}


def recorded(
    place: Place, run: TrainingRun, number: int, after: bytes, outcome: codec.Facts, **changed: object
) -> None:
    """The round's entry in the federation log: what it names stands."""
    record, signatures = row(run, place.identities, number, after, outcome, **changed)
    run.logs.finish(record, signatures)


def finished(
    place: Place, run: TrainingRun, number: int, after: bytes, outcome: codec.Facts, **changed: object
) -> None:
    """All that makes an applied round final, in its order on the disk (effects.py)."""
    run.models.write_next(number)
    recorded(place, run, number, after, outcome, **changed)
    run.models.make_current(number)


def charges(run: TrainingRun) -> list[codec.Facts]:
    held = (codec.read_facts(one.record) for one in run.logs.site.records())
    return [facts for facts in held if facts["kind"] == "charge"]
