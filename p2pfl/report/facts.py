"""What a report says, as facts: a pure function of a home's verified entries. No drawing, no text for people but names.

Records are the writer's matter below their outermost keys, and a liar may have written one: what does not have the
expected form is left out, and never an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from p2pfl.codec import Facts
from p2pfl.keys import fingerprint
from p2pfl.ledger import entry as entries
from p2pfl.ledger.entry import Entry, entry_of, utc_text
from p2pfl.report.reported import (
    LedgerFacts,
    ReportedChange,
    ReportedFigure,
    ReportedHeldOut,
    ReportedNote,
    ReportedPrivacy,
    ReportedRound,
    ReportedSite,
)

INCIDENTS: Final = ("abandoned", "breach", "budget", "dropped", "left", "missed")

MOST_TEXT: Final = 200  # characters of a name, a reason


def facts_of(federation: Sequence[Entry], site: Sequence[Entry]) -> LedgerFacts:
    """What these entries say. Entries that cannot be read are left out: verification tells of them."""
    read, own = list(_readable(federation)), list(_readable(site))
    kinds = {"federation": _by_kind(read), "site": _by_kind(own)}
    incidents = tuple(_note(one, held) for one, held in own if held["kind"] in INCIDENTS)
    versions = tuple(_versions(own))
    if not read or read[0][1]["kind"] != "genesis":
        return LedgerFacts(incidents=incidents, versions=versions, kinds=kinds)
    genesis = read[0][1]
    epochs, keys = _epochs(read)
    newest = max(epochs)
    rounds = tuple(_round(one, held, epochs) for one, held in read if held["kind"] == "round")
    last = [held for _, held in read if held["kind"] in ("genesis", "membership")][-1]
    agreements = [held["sha256"] for _, held in read if held["kind"] == "agreement"]
    return LedgerFacts(
        federation=genesis["federation"],
        epoch=newest,
        federation_digest=last["federation_digest"],
        began=rounds[0].at if rounds else "",
        sites=tuple(_sites(epochs, keys, rounds)),
        epochs=epochs,
        rounds=rounds,
        changes=tuple(_changes(read)),
        agreement=agreements[0] if agreements else None,
        privacy=_privacy(genesis["settings"], rounds),
        held_out=_held_out([held for _, held in own if held["kind"] == "look"]),
        agreed=genesis["settings"],
        incidents=incidents,
        versions=versions,
        kinds=kinds,
    )


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _readable(log: Iterable[Entry]) -> Iterable[tuple[Entry, Facts]]:
    for one in log:
        try:
            yield one, entries.read_record(one.record)
        except ValueError:
            continue


def _by_kind(read: Iterable[tuple[Entry, Facts]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for one, held in read:
        found.setdefault(held["kind"], []).append(one.index)
    return found


def _epochs(read: Iterable[tuple[Entry, Facts]]) -> tuple[dict[int, tuple[str, ...]], dict[str, str]]:
    """By epoch its members, and by site its newest key."""
    epochs, keys = dict[int, tuple[str, ...]](), dict[str, str]()
    for _, held in read:
        if held["kind"] in ("genesis", "membership"):
            epochs[held["epoch"]] = tuple(name for name, _ in held["peers"])
            keys |= dict(held["peers"])
    return epochs, keys


def _round(one: Entry, held: Facts, epochs: Mapping[int, tuple[str, ...]]) -> ReportedRound:
    configuration, outcome = held["configuration"], held["outcome"]
    members = epochs.get(held["epoch"], ())
    spent = {name: _epsilon(text) for name, text in held["epsilon"].items() if text}
    return ReportedRound(
        entry=one.index,
        run=held["run"],
        round=held["round"],
        attempt=held["attempt"],
        epoch=held["epoch"],
        at=utc_text(held["time_ms"] / 1000),
        purpose=_text(configuration.get("purpose")),
        survivors=tuple(held["survivors"]),
        absent=tuple(name for name in members if name not in held["survivors"]),
        left_out=tuple(held["left_out"]),
        metric=_text(outcome.get("metric")),
        figures=_figures(outcome.get("figures")),
        unmeasured=_text(outcome.get("unmeasured")),
        private=outcome.get("private") is True,
        refused=_text(outcome.get("refused")),
        epsilon=spent,
        model_before=held["model_before"],
        model_after=held["model_after"],
        parameters=_whole(configuration.get("parameters")),
        name=_text(configuration.get("name")),
        what=_summed(configuration),
        part=_part(configuration),
        noise=_noise(configuration),
        signed_by=tuple(sorted(one.signatures)),
    )


def _figures(held: object) -> dict[str, ReportedFigure]:
    found = {}
    for name, row in held.items() if isinstance(held, Mapping) else ():
        parts = [_real(part) for part in row] if isinstance(row, (list, tuple)) else []
        if len(parts) == 3 and parts[0] is not None:
            found[_text(name)] = ReportedFigure(parts[0], parts[1], parts[2])
    return found


def _summed(configuration: Facts) -> str:
    """`3 decimals (limit 1000), 1 integers`: what was summed, without the salt of each sum."""
    vectors = configuration.get("vectors")
    said = []
    for one in vectors if isinstance(vectors, (list, tuple)) else ():
        if isinstance(one, Mapping) and one.get("as") != "salt":
            limit = f", none above {_text(one['limit'])}" if "limit" in one else ""
            said.append(f"{_whole(one.get('length'))} {_text(one.get('as'))}{limit}")
    return "; ".join(said)


def _part(configuration: Facts) -> str:
    statistic = configuration.get("statistic")
    return _text(statistic.get("part")) if isinstance(statistic, Mapping) else ""


def _noise(configuration: Facts) -> str:
    """`multiplier 4 for each record, of 2 sites' parts`: the noise on a statistic's sum; empty where it is exact."""
    statistic = configuration.get("statistic")
    held = statistic.get("noise") if isinstance(statistic, Mapping) else None
    if not isinstance(held, Mapping):
        return ""
    unit, parts = _text(held.get("unit")), _whole(held.get("parts"))
    return f"multiplier {_text(held.get('noise_multiplier'))} for each {unit}, of {parts} sites’ parts"


def _sites(
    epochs: Mapping[int, tuple[str, ...]], keys: Mapping[str, str], rounds: Sequence[ReportedRound]
) -> Iterable[ReportedSite]:
    newest = epochs[max(epochs)]
    others = [name for name in keys if name not in newest]
    for name in (*newest, *others):
        spent = [one.epsilon[name] for one in rounds if name in one.epsilon]
        yield ReportedSite(
            name=name,
            key=keys[name],
            fingerprint=fingerprint(bytes.fromhex(keys[name])),
            member=name in newest,
            since=min(epoch for epoch, members in epochs.items() if name in members),
            in_rounds=sum(one.trains and name in one.survivors for one in rounds),
            charged=bool(spent),
            epsilon=_largest(spent),
        )


def _largest(spent: Sequence[float | None]) -> float | None:
    """The largest ε; None where one is unbounded."""
    finite = [one for one in spent if one is not None]
    return max(finite, default=0.0) if len(finite) == len(spent) else None


def _privacy(agreed: Facts, rounds: Sequence[ReportedRound]) -> ReportedPrivacy | None:
    unit = _text(agreed.get("unit"))
    if not unit:
        return None
    spent = [value for one in rounds for value in one.epsilon.values()]
    plain = unit == "none"
    steps = agreed.get("steps_per_round")
    numbers = ("delta", "max_epsilon", "noise_multiplier", "max_grad_norm", "sample_rate")
    known = {name: None if plain else _real(agreed.get(name)) for name in numbers}
    return ReportedPrivacy(
        unit=unit,
        epsilon=None if plain else _largest(spent),
        steps_per_round=_whole(steps) or None,
        parts=_whole(agreed.get("parts")) or None,
        **known,
    )


def _held_out(looks: Sequence[Facts]) -> ReportedHeldOut | None:
    if not looks:
        return None
    after, alone, delta, limit = (_real(looks[-1].get(name)) for name in ("after", "alone", "delta", "limit"))
    return ReportedHeldOut(sum(one["charged"] for one in looks), after, alone, delta, limit)


def _changes(read: Iterable[tuple[Entry, Facts]]) -> Iterable[ReportedChange]:
    for one, held in read:
        if held["kind"] in ("genesis", "agreement", "membership"):
            yield ReportedChange(one.index, entry_of(held).line, tuple(sorted(one.signatures)))


def _note(one: Entry, held: Facts) -> ReportedNote:
    return ReportedNote(one.index, held["kind"], utc_text(held["time"]), entry_of(held).line)


def _versions(own: Iterable[tuple[Entry, Facts]]) -> Iterable[ReportedNote]:
    before = ("", "")
    for one, held in own:
        if held["kind"] == "start" and (held["version"], held["python"]) != before:
            before = (held["version"], held["python"])
            yield _note(one, held)


# ── values of records ─────────────────────────────────────────────────────────────────────────────────────────


def _text(value: object) -> str:
    """A line of at most MOST_TEXT characters, all of them printable."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, int) else ""
    return "".join(one if one.isprintable() else "\ufffd" for one in text[:MOST_TEXT])


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _real(value: object) -> float | None:
    """A finite number in decimal text, or None."""
    try:
        found = float(value) if isinstance(value, (str, int)) else math.nan
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _epsilon(text: str) -> float | None:
    """ε as a record has it; None: unbounded."""
    return _real(text)
