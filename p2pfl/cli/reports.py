"""The demo's outcome: the object that `--json` prints, and the same as a table. Pure: facts in, text out.

Keys of the object are a contract: documented in docs/reference/json.md, tested, only ever added to.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from p2pfl.cli.output import aligned, amount, duration
from p2pfl.federation import Federation

WIDTH = 100
NO_PRIVACY = "NONE: trained without differential privacy, ε is unbounded: the model may tell of any one patient"
SMALL = 100_000  # parameters below which sending a part of them saves nothing


def demo_facts(
    peers_file: Path,
    dataset: str,
    records: Mapping[str, int],
    results: Mapping[str, Mapping[str, Any]],
    alone: Mapping[str, float],
    wall_s: float,
    killed: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """What `demo --json` prints.

    results   each peer's own `join --json`, in the order of the sites; of one that died there is none
    killed    of `--kill`: site, round, and whether it was started again
    """
    federation = Federation.load(peers_file)
    reports = list(results.values())
    first = reports[0]
    sent = [int(one["bytes_sent"]) for one in reports]
    payload = [int(one["payload_sent"]) for one in reports]
    roots = {one["ledger"]["root"] for one in reports}
    count, rounds = len(records), min(int(one["rounds_completed"]) for one in reports)
    dense = dense_bytes(count, int(first["parameters"]), rounds)
    return {
        "peers": count,
        "rounds_completed": rounds,
        "metric": {**first["metric"], "site_alone_mean": fmean(alone.values()), "site_alone": dict(alone)},
        "epsilon": max(float(one["epsilon"]) for one in reports),
        "max_epsilon": federation.privacy.max_epsilon,
        "delta": federation.privacy.delta,
        "noise_multiplier": federation.privacy.noise_multiplier,
        "max_grad_norm": federation.privacy.max_grad_norm,
        "parameters": int(first["parameters"]),
        "bytes_sent_per_peer": sent,
        "payload_bytes_per_peer": payload,
        "overhead_bytes_per_peer": [whole - part for whole, part in zip(sent, payload, strict=True)],
        "dense_bytes_per_peer": dense,
        "traffic_reduction": 1 - fmean(sent) / dense if dense else 0.0,
        "compression": federation.compression.method,
        "field": federation.sharing.field,
        "quorum": federation.roster.quorums.q,
        "survivors_per_round": first["survivors_per_round"],
        "ledger": {
            "verified": all(one["ledger"]["verified"] for one in reports),
            "entries": int(first["ledger"]["entries"]),
            "root": first["ledger"]["root"],
            "identical_roots": len(roots) == 1,
        },
        "tls": first["tls"],
        "dataset": {"name": dataset, "records_per_site": list(records.values()), "sites": list(records)},
        "killed": killed,
        "wall_s": round(wall_s, 2),
    }


def dense_bytes(count: int, parameters: int, rounds: int) -> int:
    """Bytes that each peer of a plain fp32 all-reduce of the whole model sends."""
    return round(2 * (count - 1) / count * 4 * parameters * rounds)


def bounded(epsilon: float) -> float | None:
    """ε for JSON, which has no infinity: null is no bound at all."""
    return epsilon if math.isfinite(epsilon) else None


def join_text(facts: Mapping[str, Any]) -> str:
    """What `join` prints at its end."""
    metric, ledger = facts["metric"], facts["ledger"]
    before, after = (
        f"{value:.3f}" if value is not None else "not measured" for value in (metric["initial"], metric["final"])
    )
    interval = metric["figures"].get(metric["figure"], {})
    if interval.get("low") is not None:
        after += f" ({interval['low']:.3f} to {interval['high']:.3f})"
    classes = [[f"  {name}", told] for name, told in of_classes(metric["figures"])]
    return "\n".join(
        [
            f"{facts['name']}: {facts['rounds_completed']} rounds are final"
            + (f": {facts['ended']}" if facts["ended"] else ""),
            f"  {metric['name']:<8} {before} → {after} on the held-out records of all sites"
            + (", with noise" if metric.get("private") else ""),
            *([aligned(classes)] if classes else []),
            f"  privacy  {spent_text(facts)}",
            f"  sent     {amount(facts['bytes_sent'])}, of which payload {amount(facts['payload_sent'])} "
            f"(dense fp32: {amount(facts['dense_bytes'])})",
            f"  ledger   {'verified' if ledger['verified'] else 'NOT VERIFIED'}, {ledger['entries']} entries, "
            f"root {ledger['root']}",
        ]
    )


def spent_text(facts: Mapping[str, Any]) -> str:
    """What the passes over a site's records have spent: `epsilon` of `max_epsilon`, at `delta`.

    `epsilon_alone`, where it is one, is that against all other sites together.
    """
    if facts["epsilon"] is None:
        return NO_PRIVACY
    limit = "no limit" if facts["max_epsilon"] is None else f"{facts['max_epsilon']:g}"
    told = f"ε {facts['epsilon']:.2f} of {limit} at δ {facts['delta']:g}"
    alone = facts.get("epsilon_alone")
    return told if alone is None else f"{told}; against all other sites together ε {alone:.2f}"


def of_classes(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What is said of single classes, by their names: "recall of malignant", 0.912 (0.870 to 0.951)."""
    return [
        (row["name"], figure_text(row["value"], row["low"], row["high"]))
        for row in figures.values()
        if " of " in row.get("name", "")
    ]


def figure_text(value: float, low: float | None, high: float | None) -> str:
    """A figure and its interval, where it has one: 0.871 (0.820 to 0.922)."""
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else "")


def meaning(epsilon: float, delta: float) -> str:
    """One plain sentence on what ε says."""
    factor = math.exp(epsilon)
    return (
        f"no conclusion about one patient becomes more than e^{epsilon:.2f} ≈ {factor:.1f} times likelier because that "
        f"patient's record was used, except with a chance of {delta:g}"
    )


def demo_text(facts: Mapping[str, Any], said: str, home: Path | None) -> str:
    """The table at the end of the demo."""
    metric, ledger, tls = facts["metric"], facts["ledger"], facts["tls"]
    name = metric["name"]
    alone = metric["site_alone"]
    sites = zip(facts["dataset"]["sites"], facts["dataset"]["records_per_site"], strict=True)
    rows = [[f"  {site}", f"{count} records", f"alone {alone[site]:.3f}"] for site, count in sites]
    rounds = facts["rounds_completed"]
    fewest = min((len(names) for names in facts["survivors_per_round"]), default=0)
    lines = [
        f"{facts['peers']} peers, {rounds} rounds, {duration(facts['wall_s'])}; {said}",
        "",
        f"{name} on the held-out quarter of every site's records",
        aligned(rows),
        f"  mean of the sites alone   {metric['site_alone_mean']:.3f}   without privacy",
        f"  the federation            {_measured(metric['initial'])} → {_measured(metric['final'])}   with privacy",
        "",
        f"privacy     ε {facts['epsilon']:.2f} of {facts['max_epsilon']:g} at δ {facts['delta']:g} "
        f"(noise {facts['noise_multiplier']:g}, clip {facts['max_grad_norm']:g}):",
        *_indented(meaning(facts["epsilon"], facts["delta"])),
        f"traffic     {_traffic(facts)}",
        *_killed(facts.get("killed")),
        f"survivors   {'all sites in every round' if fewest == facts['peers'] else _survivors(facts)}",
        f"ledger      {'verified' if ledger['verified'] else 'NOT VERIFIED'}, {ledger['entries']} entries, "
        f"{'identical roots at all peers' if ledger['identical_roots'] else 'THE ROOTS DIFFER'}",
        f"            root {ledger['root']}",
        f"links       {tls['version']}, {tls['cipher']}, {tls['group']}; both ends pinned",
    ]
    if home is not None:
        site = facts["dataset"]["sites"][0]
        lines += ["", f"kept in {home}; for example", f"  p2pfl ledger show --home {home / site / 'home'}"]
    return "\n".join(lines)


def _measured(value: float | None) -> str:
    """A figure is taken over all sites or over none."""
    return "not measured" if value is None else f"{value:.3f}"


def _killed(killed: Mapping[str, Any] | None) -> list[str]:
    if killed is None:
        return []
    after = "started again, and its ledger is the others'" if killed["returned"] else "not started again"
    return [f"killed      {killed['site']}, as it trained for round {killed['round']}; {after}"]


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * 12, subsequent_indent=" " * 12)


def _traffic(facts: Mapping[str, Any]) -> str:
    payload, overhead = fmean(facts["payload_bytes_per_peer"]), fmean(facts["overhead_bytes_per_peer"])
    dense = facts["dense_bytes_per_peer"]
    text = f"each peer sent {amount(payload)} of payload, {amount(overhead)} of overhead; dense fp32: {amount(dense)}"
    if facts["parameters"] < SMALL:
        few = f"({facts['parameters']} parameters: too small to compress; most of the payload measures the model)"
        return f"{text}\n            {few}"
    return f"{text}\n            ({100 * facts['traffic_reduction']:.1f} % fewer bytes)"


def _survivors(facts: Mapping[str, Any]) -> str:
    everybody = set(facts["dataset"]["sites"])
    missing = [
        f"round {number} without {', '.join(sorted(everybody - set(names)))}"
        for number, names in enumerate(facts["survivors_per_round"], start=1)
        if everybody - set(names)
    ]
    return "; ".join(missing)
