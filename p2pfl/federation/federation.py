"""peers.yaml ► Federation: what the sites agreed on, frozen and validated as a whole, with its digest.

SHA-256 over the file's raw bytes is the federation digest. It travels in every hello, so a comment that differs is a
difference. A Federation is built whole or not at all; after that nothing in it is optional but what may be null.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from p2pfl.errors.federation import (
    CardNotPeersFile,
    HubNotAMember,
    HubNotNamed,
    HubWithoutAddress,
    SettingsDoNotFit,
)
from p2pfl.errors.privacy_units import PatientsUnknown
from p2pfl.errors.round import NotInRoster
from p2pfl.federation import strict_yaml
from p2pfl.federation.distributed_noise import DISTRIBUTED, check_noise, exceeds_sum, with_parts
from p2pfl.federation.members import read_members, read_name
from p2pfl.federation.model_terms import ModelTerms
from p2pfl.federation.optimisers import EarlyStop, ModelAverage, ServerOptimiser, SiteOptimiser
from p2pfl.federation.readers import Position, Table, Word, table, whole
from p2pfl.federation.settings import HEADINGS, HEX32, PLAIN, SETTINGS, TOP
from p2pfl.federation.statistics_rules import StatisticsRules
from p2pfl.federation.task_choice import TaskChoice, read_task
from p2pfl.roster import Member, Roster

VERSION: Final = 1
MOST_KEPT: Final = 4  # files of which what was read is kept


@dataclass(frozen=True, slots=True)
class Privacy:
    """What bounds that the model tells of one `unit`; the same at every site.

    unit        record, patient; or none: nothing is clipped or noised, and nothing bounds it (NO_PRIVACY)
    noise       local: each site's is enough by itself; distributed: that of `parts` sites is, against `colluders`
    parts       honest sites whose noise is in every sum, which follows from the quorum; 1 where noise is local
    """

    unit: str
    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    steps_per_round: int
    delta: float
    max_epsilon: float
    noise: str = "local"
    colluders: int | None = None
    parts: int = field(default=1, compare=False)

    @property
    def is_distributed(self) -> bool:
        """Each site adds a part of the noise, and the sum alone is private."""
        return self.noise == DISTRIBUTED

    @property
    def is_none(self) -> bool:
        """The sites agreed to train without differential privacy."""
        return self.unit == "none"


# `privacy: none`: batches as by default, so that a task trains as it would with privacy, without clipping and noise.
NO_PRIVACY: Final = Privacy("none", 0.0, math.inf, 0.02, 80, 1e-5, math.inf)


@dataclass(frozen=True, slots=True)
class Sharing:
    """How updates become words: field bits (16, 31, 61), L2 clip, largest absolute value of a coordinate."""

    field: int
    verify: bool
    clip: float
    scale: float


@dataclass(frozen=True, slots=True)
class Compression:
    """What of an update is summed: by `method`, the part `density` of its coordinates; nominated ones by `scores`."""

    method: str
    density: float
    scores: str = "own"


@dataclass(frozen=True, slots=True)
class Measuring:
    """How a model is judged: by exact counts of held-out records, or, above 0, with noise.

    noise_multiplier   of the sum, in units of what one held-out record or patient moves
    looks              rounds of a training that measure
    epsilon            that no held-out record or patient spends more of, by all looks
    """

    noise_multiplier: float
    looks: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Minimum:
    """The fewest sites with a value, and the fewest records, whose statistic is opened."""

    sites: int
    records: int


@dataclass(frozen=True, slots=True)
class Federation:
    """One peers.yaml, whole. `raw` are its bytes and `source` the name that errors use.

    genesis   after a change of membership: SHA-256 of the federation log's first entry; empty in epoch 1
    """

    name: str
    roster: Roster
    task: TaskChoice
    rounds: int
    privacy: Privacy
    local: SiteOptimiser
    server: ServerOptimiser
    average: ModelAverage
    stop: EarlyStop
    measures: Measuring
    sharing: Sharing
    compression: Compression
    minimum: Minimum
    statistics: StatisticsRules
    weights: str
    model: ModelTerms
    agreement: bytes | None
    topology: str
    hub: str | None
    raw: bytes
    source: str
    origin: bytes = b""
    genesis: bytes = b""

    @property
    def first(self) -> bytes:
        """Digest of the peers.yaml of epoch 1, which names the training run in every epoch."""
        return self.origin or self.digest

    @property
    def digest(self) -> bytes:
        """SHA-256 of the raw bytes: what every hello compares."""
        return hashlib.sha256(self.raw).digest()

    def own(self, name: str, key: bytes) -> Member:
        """The member with a home's name and key. Raises NotInRoster."""
        member = next((one for one in self.roster.members if one.name == name), None)
        if member is None or member.key != key:
            there = member.key.hex()[:16] if member else "none"
            raise NotInRoster(name=name, source=self.source, evidence=f"key here {key.hex()[:16]}, there {there}")
        return member

    @classmethod
    def load(cls, path: str | Path) -> Federation:
        """Read the file at `path`. Raises a leaf of errors.federation with line and column."""
        return cls.parse(strict_yaml.load(Path(path)), str(path))

    @classmethod
    def parse(cls, raw: bytes, source: str = "peers.yaml") -> Federation:
        """The federation that `raw` describes. A command meets the same file several times, and reads it once."""
        held = _LATELY.get(raw)
        if held is None:
            held = cls._read(raw, source)
            if len(_LATELY) >= MOST_KEPT:
                _LATELY.clear()
            _LATELY[raw] = held
        return held if held.source == source else replace(held, source=source)

    @classmethod
    def _read(cls, raw: bytes, source: str) -> Federation:
        top = strict_yaml.read_yaml(raw, source)
        if "signature" in top.rows and "peers" not in top.rows:
            raise CardNotPeersFile(source=source, evidence=f"it has {', '.join(top.rows)}")
        top.only((*TOP, "lineage"))
        top.value("version", whole(VERSION, VERSION))
        values = _settings(top)
        epoch = top.value("epoch", whole(1, 1 << 31))
        origin, genesis = _lineage(top, epoch)
        federation = cls(
            name=top.value("federation", read_name),
            roster=Roster(epoch, read_members(top)),
            task=read_task(top.value("task", table)),
            rounds=values["rounds"],
            privacy=Privacy(**_under(values, "privacy")) if "privacy.unit" in values else NO_PRIVACY,
            local=SiteOptimiser(**_under(values, "local"), rounds=values["rounds"]),
            server=ServerOptimiser(**_under(values, "server")),
            average=ModelAverage(values["average.decay"]),
            stop=EarlyStop(**_under(values, "stop")),
            measures=Measuring(**_under(values, "measures")),
            sharing=Sharing(**{**_under(values, "sharing"), "field": int(values["sharing.field"])}),
            compression=Compression(**_under(values, "compression")),
            minimum=Minimum(**_under(values, "minimum")),
            statistics=StatisticsRules(**_under(values, "statistics")),
            weights=values["weights"],
            model=ModelTerms(**_under(values, "model")),
            agreement=bytes.fromhex(values["agreement.sha256"]) if values["agreement.sha256"] else None,
            topology=values["topology"],
            hub=values["hub"],
            raw=raw,
            source=source,
            origin=origin,
            genesis=genesis,
        )
        _check_fit(federation, top)
        return with_parts(federation)


_LATELY: Final[dict[bytes, Federation]] = {}  # by their bytes: files that were read, and nothing of them changes


def _lineage(top: Table, epoch: int) -> tuple[bytes, bytes]:
    """The lineage of an epoch after the first; empty in the first, which must not have that key."""
    if epoch == 1:
        top.only(TOP)
        return b"", b""
    row = top.value("lineage", table)
    row.only(("first", "genesis"))
    return bytes.fromhex(row.value("first", HEX32)), bytes.fromhex(row.value("genesis", HEX32))


def _settings(top: Table) -> dict[str, Any]:
    """Every row of SETTINGS, read; none of privacy's where the file says `privacy: none`.

    Raises UnknownKey for a key under a heading that is in no row.
    """
    plain = isinstance(top.node("privacy"), Word)
    if plain:
        top.value("privacy", PLAIN)
    headings = [heading for heading in HEADINGS if not (plain and heading == "privacy")]
    tables = {"": top} | {heading: top.value(heading, table) for heading in headings}
    for heading in headings:
        tables[heading].only(setting.name for setting in SETTINGS if setting.table == heading)
    rows = [setting for setting in SETTINGS if setting.table in tables]
    return {setting.key: tables[setting.table].value(setting.name, setting.read) for setting in rows}


def _under(values: Mapping[str, Any], heading: str) -> dict[str, Any]:
    return {key.rpartition(".")[2]: value for key, value in values.items() if key.startswith(heading + ".")}


# ── how the parts fit ───────────────────────────────────────────────────────────────────────────────────────────────


def _check_fit(federation: Federation, top: Table) -> None:
    """Raises SettingsDoNotFit where settings contradict one another."""
    sharing = top.value("sharing", table)
    if federation.sharing.scale > federation.sharing.clip:
        _misfit(
            sharing.node("scale").place,
            "a coordinate cannot be larger than the whole update's norm",
            f"scale {federation.sharing.scale:g} > clip {federation.sharing.clip:g}",
        )
    steps = federation.rounds * federation.privacy.steps_per_round
    if federation.local.warmup_steps >= steps:
        _misfit(
            top.value("local", table).node("warmup_steps").place,
            "the learning rate would rise until the training is over",
            f"warmup_steps {federation.local.warmup_steps} of {steps} steps",
        )
    if federation.task.client is not None and not federation.privacy.is_none:
        _misfit(
            top.node("privacy").place,
            "a client of a site's own is not trained privately: that needs `privacy: none`, by --set privacy=none",
            f"task: {federation.task.label}, privacy: {federation.privacy.unit}",
        )
    if federation.task.client is not None and federation.measures.noise_multiplier:
        _misfit(
            top.value("measures", table).node("noise_multiplier").place,
            "what a client of a site's own counts has no bound that noise could hide",
            f"noise_multiplier {federation.measures.noise_multiplier:g}",
        )
    described = federation.task.table or federation.task.scans
    if federation.privacy.unit == "patient" and described is not None and not described.patient:
        raise PatientsUnknown(evidence=f"{top.node('task').place}: it has no key `patient`", source=top.place.source)
    if not federation.model.fit(federation.task.table):
        _misfit(
            top.value("model", table).node("threshold").place,
            "a threshold is of a probability of yes, and the label is not of that kind",
            f"threshold {federation.model.threshold:g}",
        )
    if unknown := federation.statistics.unknown_to(federation.task.table):
        _misfit(
            top.node("statistics").place,
            "rules on statistics name columns of the table that is described under task, and of no other",
            f"not described: {', '.join(unknown)}",
        )
    check_noise(federation, top)
    _check_looks(federation, top)
    _check_hub(federation, top)


def _check_looks(federation: Federation, top: Table) -> None:
    """Raises SettingsDoNotFit where a look's noise would be made up by fewer honest sites than the sum holds."""
    if federation.measures.noise_multiplier and exceeds_sum(federation):
        _misfit(
            top.value("privacy", table).node("colluders").place,
            "with noise on measures, a sum over a quorum must hold two honest sites against the colluders",
            f"colluders {federation.privacy.colluders}, at most {federation.roster.quorums.q - 2}",
        )


def _check_hub(federation: Federation, top: Table) -> None:
    """Raises Hub… unless `topology: hub` names a hub, which is a site that the others can dial, or neither is there."""
    hub, place = federation.hub, top.node("hub").place
    if (federation.topology == "hub") != (hub is not None):
        raise HubNotNamed(
            evidence=f"topology: {federation.topology}, hub: {hub or 'null'}", place=place, source=place.source
        )
    if hub is None:
        return
    if hub not in federation.roster:
        raise HubNotAMember(
            evidence=f"sites: {', '.join(federation.roster.names)}", place=place, source=place.source, hub=hub
        )
    if not federation.roster[hub].addresses:
        raise HubWithoutAddress(evidence="its addresses are []", place=place, source=place.source, hub=hub)


def _misfit(place: Position, what: str, evidence: str) -> None:
    raise SettingsDoNotFit(evidence=evidence, place=place, source=place.source, what=what)
