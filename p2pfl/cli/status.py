"""`p2pfl status`: what this home holds, and the links of the process that works in it, beside which it reads."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from p2pfl.cli import output
from p2pfl.cli.model.held import ITEM
from p2pfl.cli.options import Unlock, home_option, json_option, reading, study_option, unlock_options
from p2pfl.cli.status_links import links_lines, links_told
from p2pfl.cli.watch import metric_of
from p2pfl.cli.wording import bounded, spent_text
from p2pfl.files import KEY_BYTES, read_file
from p2pfl.home import Home
from p2pfl.keys import fingerprint
from p2pfl.ledger import entry as entries
from p2pfl.ledger.federation_kinds import ROLL_CALL
from p2pfl.ledger.log import Log
from p2pfl.node import link_status
from p2pfl.sharing import loops


@click.command()
@study_option
@home_option
@unlock_options
@json_option
def status(peers_file: Path | None, home: Path, unlock: Unlock, as_json: bool) -> None:
    """What this home holds: the federation, rounds that are final, the model, privacy spent, the ledger."""
    with reading(home, unlock, peers_file) as opened:
        facts = _facts(opened)
    output.result(_text(facts), facts, as_json)


def _facts(home: Home) -> dict[str, Any]:
    process, seen = worker(home.folder), link_status.read(home)
    if seen is not None and seen["process"] == process and not link_status.is_there(seen, process):
        process = None  # a later process of that number, which has nothing to do with this home
    federation, site = Log.open(home, "federation"), Log.open(home, "site")
    records = [entries.read_record(one.record) for one in federation.records()]
    rounds = [held for held in records if held["kind"] == "round"]
    own = [entries.read_record(one.record) for one in site.records()]
    charges = [held for held in own if held["kind"] == "charge"]
    model = home.read(ITEM)
    return {
        "name": home.name,
        "home": str(home.path),
        "fingerprint": fingerprint(home.identity().key),
        "process": process,
        "federation": _genesis(records),
        "rounds": sum(held["configuration"].get("purpose") == "training" for held in rounds),
        "sums": sum(_part_of(held) == "" for held in rounds if held["configuration"].get("purpose") == "sum"),
        "questions": sum(_part_of(held) == ROLL_CALL for held in rounds),
        "last_round": _last(rounds[-1]) if rounds else None,
        "privacy": _privacy(charges),
        "held_out": _held_out([held for held in own if held["kind"] == "look"]),
        "model": _model(model, rounds),
        "ledger": {
            "federation": {"entries": len(federation), "root": federation.root().hex()},
            "site": {"entries": len(site), "root": site.root().hex()},
        },
        "links": seen and links_told(seen, link_status.is_there(seen, process)),
        "inner_loops": loops.built(),
    }


def _model(held: bytes | None, rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The model's file, and the digest by which the ledger, the model's card and `model export` name what is in it."""
    if not held:
        return None
    named = [one["model_after"] for one in rounds if one["configuration"].get("purpose") == "training"]
    return {"bytes": len(held), "sha256": hashlib.sha256(held).hexdigest(), "named": named[-1] if named else None}


def _part_of(held: Mapping[str, Any]) -> str:
    """Which part of a question about the sites' tables a round was; "" of any other."""
    return str(held["configuration"].get("statistic", {}).get("part", ""))


def worker(home: Path) -> int | None:
    """The process that works in `home`, None when there is none."""
    try:
        number = int(read_file(home / "lock", KEY_BYTES).decode("ascii") or "0")
    except (OSError, ValueError):  # unreadable: whoever works in it is of another user
        return None
    try:
        if number <= 0:
            return None
        os.kill(number, 0)  # signal 0: asks whether it is there
    except PermissionError:
        return number  # it is, under another user
    except (OSError, OverflowError):
        return None
    return number


def _genesis(records: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The federation's name, and its epoch: of the genesis, or of the last change of membership."""
    if not records:
        return None
    last = next(held for held in reversed(records) if held["kind"] in ("genesis", "membership"))
    return {
        "name": records[0]["federation"],
        "epoch": last["epoch"],
        "federation_digest": last["federation_digest"],
        "sites": [name for name, _ in last["peers"]],
    }


def _last(held: Mapping[str, Any]) -> dict[str, Any]:
    metric = metric_of(held["outcome"])
    return {
        "round": held["round"],
        "time": entries.utc_text(held["time_ms"] / 1000),
        "survivors": held["survivors"],
        "purpose": held["configuration"].get("purpose"),
        "metric": {"name": metric[0], "value": metric[1]} if metric else None,
        "epsilon": {name: bounded(float(text)) for name, text in held["epsilon"].items() if text},
        "model": held["model_after"],
    }


def _privacy(charges: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {**_spent(charges[-1]), "passes": len(charges)} if charges else None


def _held_out(looks: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {**_spent(looks[-1]), "looks": sum(one["charged"] for one in looks)} if looks else None


def _spent(last: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "epsilon": bounded(float(last["after"])),
        "epsilon_alone": bounded(float(last["alone"])) if last.get("alone") else None,
        "delta": float(last["delta"]),
        "max_epsilon": bounded(float(last["limit"])),
    }


def _text(facts: Mapping[str, Any]) -> str:
    federation, last, privacy, model = facts["federation"], facts["last_round"], facts["privacy"], facts["model"]
    held_out = facts["held_out"]
    at_work = f"process {facts['process']} is at work in it" if facts["process"] else "nobody is at work in it"
    rows = [
        ["  home", f"{facts['home']}; {at_work}"],
        ["  fingerprint", facts["fingerprint"]],
        [
            "  federation",
            f"{federation['name']}, epoch {federation['epoch']}: {', '.join(federation['sites'])}"
            if federation
            else "none yet: p2pfl join --peers peers.yaml --data records.csv, or p2pfl sum, begins one",
        ],
        ["  rounds", _rounds(facts["rounds"], facts["sums"], facts["questions"], last)],
        ["  model", f"{output.amount(model['bytes'])}, in the ledger {model['named']}" if model else "none yet"],
        [
            "  privacy",
            f"{spent_text(privacy)}, {output.counted(privacy['passes'], 'pass')} over this site's records"
            if privacy
            else "nothing spent",
        ],
        *([["  held out", f"{spent_text(held_out)}, {_looks(held_out['looks'])}"]] if held_out else []),
        *(
            [f"  {which} log", f"{output.counted(held['entries'], 'entry')}, root {held['root']}"]
            for which, held in facts["ledger"].items()
        ),
        ["  masks", _loops(facts["inner_loops"])],
    ]
    return "\n".join([facts["name"], output.aligned(rows), *links_lines(facts["links"], time.time())])


def _looks(count: int) -> str:
    return f"{output.counted(count, 'look')} at this site's held-out records"


def _loops(used: str) -> str:
    return "made by numpy: no compiled loops here" if used == loops.NUMPY else f"made by compiled loops, with {used}"


def _rounds(count: int, sums: int, questions: int, last: Mapping[str, Any] | None) -> str:
    if last is None:
        return "none is final yet"
    metric = f", {last['metric']['name']} {last['metric']['value']:.3f}" if last["metric"] else ""
    asked = f"of {output.counted(questions, 'question')}"
    told = [(count, f"{count} of training"), (sums, f"{sums} of sums"), (questions, asked)]
    what = ", ".join(text for number, text in told if number) or told[0][1]
    return f"{what}; the last entry {last['time']} over {', '.join(last['survivors'])}{metric}"
