"""The demo's outcome: the object that `--json` prints, and the same as a table. Pure: facts in, text out.

Keys of the object are a contract: documented in docs/reference/json.md, tested, only ever added to.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from shlex import quote
from statistics import fmean
from typing import Any, Final

from p2pfl.cli.output import aligned, amount, counted, duration
from p2pfl.cli.wording import NO_PRIVACY, SMALL, bounded, dense_bytes, meaning, spent_text
from p2pfl.federation import Federation

UNMEASURED: Final = "  (a figure is taken over all sites or none, and one was away at the end)"
WIDTH: Final = 80  # of a terminal that nobody made wider


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
        "epsilon": _largest(reports, "epsilon"),
        "epsilon_alone": _largest(reports, "epsilon_alone"),
        "max_epsilon": bounded(federation.privacy.max_epsilon),
        "delta": federation.privacy.delta,
        "noise_multiplier": federation.privacy.noise_multiplier,
        "max_grad_norm": bounded(federation.privacy.max_grad_norm),
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


def _largest(reports: Sequence[Mapping[str, Any]], what: str) -> float | None:
    """The largest of all sites; None where one has none: its ε is unbounded, or it has no second one."""
    found = [one[what] for one in reports]
    return None if None in found else max(map(float, found))


def demo_text(facts: Mapping[str, Any], said: str, home: Path | None) -> str:
    """The table at the end of the demo."""
    metric, ledger, tls = facts["metric"], facts["ledger"], facts["tls"]
    name = metric["name"]
    alone = metric["site_alone"]
    sites = zip(facts["dataset"]["sites"], facts["dataset"]["records_per_site"], strict=True)
    rows = [[f"  {site}", f"{count} records", f"alone {alone[site]:.3f}"] for site, count in sites]
    rounds = facts["rounds_completed"]
    lines = [
        f"{facts['peers']} peers, {counted(rounds, 'round')}, {duration(facts['wall_s'])}; {said}",
        "",
        f"{name} on the held-out quarter of every site's records",
        aligned(rows),
        f"  mean of the sites alone   {metric['site_alone_mean']:.3f}   without privacy",
        f"  the federation            {_measured(metric['initial'])} → {_measured(metric['final'])}   "
        f"{'without' if facts['epsilon'] is None else 'with'} privacy",
        *([] if metric["final"] is not None else [UNMEASURED]),
        "",
        *_privacy(facts),
        f"traffic     {_traffic(facts)}",
        *_killed(facts.get("killed")),
        *_survivors(facts),
        f"ledger      {'verified' if ledger['verified'] else 'NOT VERIFIED'}, {counted(ledger['entries'], 'entry')}, "
        f"{'identical roots at all peers' if ledger['identical_roots'] else 'THE ROOTS DIFFER'}",
        f"            root {ledger['root']}",
        f"links       {tls['version']}, {tls['cipher']}, {tls['group']}; both ends pinned",
    ]
    if home is not None:
        site = facts["dataset"]["sites"][0]
        kept = quote(str(home / site / "home"))
        lines += ["", f"kept in {home}; for example", f"  p2pfl ledger show --home {kept}"]
        lines += [f"  p2pfl report --home {kept} -o report.html     (a page for an ethics board)"]
    return "\n".join(lines)


def _measured(value: float | None) -> str:
    """A figure is taken over all sites or over none."""
    return "not measured" if value is None else f"{value:.3f}"


def _privacy(facts: Mapping[str, Any]) -> list[str]:
    if facts["epsilon"] is None:
        return _headed("privacy     ", NO_PRIVACY)
    mechanism = f"(noise {facts['noise_multiplier']:g}, clip {facts['max_grad_norm']:g}):"
    told = f"privacy     {spent_text(facts)} {mechanism}"
    return [told, *_indented(meaning(facts["epsilon"], facts["delta"]))]


def _killed(killed: Mapping[str, Any] | None) -> list[str]:
    if killed is None:
        return []
    after = "started again, and its ledger is the others'" if killed["returned"] else "not started again"
    return _headed("killed      ", f"{killed['site']}, as it trained for round {killed['round']}; {after}")


def _indented(text: str) -> list[str]:
    return _headed(" " * 12, text)


def _headed(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * 12)


def _traffic(facts: Mapping[str, Any]) -> str:
    payload, overhead = fmean(facts["payload_bytes_per_peer"]), fmean(facts["overhead_bytes_per_peer"])
    dense = facts["dense_bytes_per_peer"]
    text = f"each peer sent {amount(payload)} of payload, {amount(overhead)} of overhead; dense fp32: {amount(dense)}"
    if facts["parameters"] < SMALL:
        few = (
            f"({counted(facts['parameters'], 'parameter')}: too small to compress; most of the payload "
            "measures the model)"
        )
        return f"{text}\n            {few}"
    return f"{text}\n            ({100 * facts['traffic_reduction']:.1f} % fewer bytes)"


def _survivors(facts: Mapping[str, Any]) -> list[str]:
    """Who was in the sums; rounds that follow one another and lack the same sites are told together."""
    everybody = set(facts["dataset"]["sites"])
    lacking = [", ".join(sorted(everybody - set(names))) for names in facts["survivors_per_round"]]
    told, first = [], 1
    for away, rounds in groupby(lacking):
        last = first + len(list(rounds)) - 1
        if away:
            told.append(f"{f'round {first}' if first == last else f'rounds {first} to {last}'} without {away}")
        first = last + 1
    return _headed("survivors   ", "; ".join(told) or "all sites in every round")
