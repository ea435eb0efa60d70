"""Homes whose ledgers hold a whole study of any shape, signed as sites sign."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from p2pfl.codec import facts
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.keys import Identity, digest
from p2pfl.ledger.federation_kinds import GenesisEntry
from p2pfl.ledger.site_kinds import BreachEntry, ChargeEntry, OperatorEntry, SiteEntry, StartEntry
from p2pfl.roster import Quorums
from tests.ledger.sample import Signed, base_of, write

BEGAN = 1_700_000_000
AUC = {"auc": ["0.871000", "0.820000", "0.922000"], "sensitivity": ["0.900000", "0.850000", "0.940000"]}
AUC |= {"specificity": ["0.800000", "0.740000", "0.850000"], "calibration_error": ["0.075000", "", ""]}


@cache
def identity(name: str) -> Identity:
    return Identity(digest("test identity", name.encode()))


def model_of(step: int, run: str = "11" * 32) -> str:
    """The digest of the model with which round `step` of a training begins."""
    return digest("model", run.encode() + step.to_bytes(4, "big")).hex()


@dataclass
class Sample:
    """A study to be written. figures: of each measured model; absent: by round, who; parts: of statistics."""

    names: Sequence[str] = ("charite", "st-olav", "ucl")
    rounds: int = 3
    questions: Sequence[str] = ()
    parts: Sequence[str] = ()
    federation: str = "rare-disease"
    unit: str = "record"
    metric: str = "auc"
    figures: Mapping[str, Sequence[str]] = field(default_factory=lambda: AUC)
    absent: Mapping[int, Sequence[str]] = field(default_factory=dict)
    outcome: Mapping[str, Any] | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    agreed: Mapping[str, Any] = field(default_factory=dict)  # settings beside the usual ones
    own: Sequence[SiteEntry] = ()  # entries of the site's own log behind the usual ones

    def write_into(self, folder: Path) -> Home:
        """The home of the first site, both logs in it with heads over all, open for writing."""
        name = self.names[0]
        made = Home.create(folder / name, name, [KeyFile(folder / f"{name}.key")])
        # The genesis names the key that the home has.
        self.keys = {one: identity(one) for one in self.names} | {name: made.identity()}
        write(made, "federation", list(self._federation()))
        write(made, "site", [(one.record, {}) for one in self._site()])
        return made

    def signed(self, record: bytes, names: Sequence[str]) -> Signed:
        return record, {name: self.keys[name].sign("record", record) for name in names}

    def _federation(self) -> Iterator[Signed]:
        plain = self.unit == "none"
        agreed: dict[str, Any] = {"rounds": self.rounds, "unit": self.unit, "steps_per_round": 80}
        agreed |= {"max_epsilon": "inf" if plain else "3.0", "delta": "1e-05", "noise_multiplier": "1.1"}
        agreed |= {"max_grad_norm": "inf" if plain else "1.0", "sample_rate": "0.02", "compression": "none"}
        agreed |= self.agreed
        peers = [(one, self.keys[one].key) for one in self.names]
        genesis = GenesisEntry(
            federation=self.federation, epoch=1, federation_digest=bytes(32), peers=peers, settings=agreed
        )
        yield self.signed(genesis.record, self.names)
        purposes = ["training"] * self.rounds + (["evaluation"] if self.rounds else [])
        yield from self._run("11" * 32, purposes)
        yield from self._run("22" * 32, ["sum"] * len(self.questions))

    def _run(self, run: str, purposes: Sequence[str]) -> Iterator[Signed]:
        quorum, base = Quorums(len(self.names)).q, bytes(32).hex()
        for number, purpose in enumerate(purposes, start=1):
            away = self.absent.get(number, ())
            there = [name for name in self.names if name not in away]
            record = facts(self._round(run, number, purpose, there, base))
            yield self.signed(record, there[:quorum])
            base = base_of(record)

    def _round(self, run: str, number: int, purpose: str, there: Sequence[str], base: str) -> dict[str, Any]:
        steps = [number, number + (purpose == "training")] if purpose != "sum" else [0, 0]
        before, after = (model_of(step, run) for step in steps)
        spent = "inf" if self.unit == "none" else f"{0.5 + 2.0 * min(number, self.rounds) / max(self.rounds, 1):.6f}"
        measured = purpose != "sum" and len(there) == len(self.names)
        outcome: dict[str, Any] = {} if purpose == "sum" else {"model": "before", "metric": self.metric, "figures": {}}
        if measured:
            outcome |= {"figures": dict(self.figures), "private": False}
        elif purpose != "sum":
            outcome |= {"unmeasured": "not every site is in the sum"}
        vector = {"as": "decimals", "decimals": 2, "limit": "1000", "length": 2, "field": 61}
        asked: dict[str, Any] = {"name": self.questions[number - 1], "vectors": [vector]} if purpose == "sum" else {}
        if purpose == "sum" and self.parts:
            asked["statistic"] = {"part": self.parts[number - 1], "question": "0" * 64}
        model = {"parameters": 5000, "task": "table", "field": 31} if purpose != "sum" else {}
        return {
            "kind": "round",
            "run": run,
            "epoch": 1,
            "round": number,
            "attempt": 0,
            "rests_on": number - 1,
            "base": base,
            "survivors": list(there),
            "left_out": [],
            "attempt_digest": "d" * 64,
            "view": "e" * 64,
            "total": "f" * 64,
            "model_before": before,
            "model_after": after,
            "configuration": {"purpose": purpose, **model, **asked, **self.configuration},
            "outcome": dict(self.outcome) if self.outcome is not None else outcome,
            "epsilon": {} if purpose == "sum" else dict.fromkeys(self.names, spent),
            "site_heads": {},
            "time_ms": 1000 * BEGAN + 60_000 * number,
            "salt": digest("salt", number.to_bytes(4, "big")).hex(),
        }

    def _site(self) -> Iterator[Any]:
        yield StartEntry(time=BEGAN, salt=bytes(16), version="0.1.0", python="3.11", incarnation="00" * 16)
        yield OperatorEntry(time=BEGAN + 1, salt=bytes(16), command="join", options={"rounds": self.rounds})
        if self.rounds:
            spent: dict[str, Any] = {"before": "0", "after": "0.5", "delta": "1e-05", "limit": "3"}
            yield ChargeEntry(
                time=BEGAN + 2, salt=bytes(16), run=bytes(32), round=1, mechanism={"sigma": "1.1"}, **spent
            )
            place: dict[str, Any] = {
                "run": bytes(32),
                "epoch": 1,
                "round": 2,
                "attempt": 0,
                "time": BEGAN + 3,
                "salt": bytes(16),
            }
            yield BreachEntry(**place, peer=self.names[1], code="P2P-ROUND-010", proof=None)
        yield from self.own
