"""`p2pfl studies`: the studies that this home takes part in, and what they have spent of its records together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, unlock_options
from p2pfl.cli.status import worker
from p2pfl.cli.wording import bounded
from p2pfl.federation.membership import run_of
from p2pfl.home import Home
from p2pfl.ledger import entry as entries
from p2pfl.ledger.log import Log
from p2pfl.node.studies import Study, studies_of

if TYPE_CHECKING:
    from p2pfl.federation import Federation
    from p2pfl.training.privacy.accounts import Accounts, Group


@click.command()
@home_option
@unlock_options
@json_option
def studies(home: Path, unlock: Unlock, as_json: bool) -> None:
    """The studies that this home takes part in, and what was spent of which records by all of them together.

    Each study has its own ledger, model and links: `p2pfl status --peers THAT.yaml` shows them.
    """
    from p2pfl.node.runs.accounts import read_accounts  # brings numpy
    from p2pfl.node.runs.looks import MEASURED

    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        accounts, held_out = read_accounts(opened), read_accounts(opened, MEASURED)
        facts = {
            "name": opened.name,
            "home": str(opened.path),
            "studies": [_study(one, accounts, held_out) for one in studies_of(opened)],
            "accounts": [_account(group) for group in accounts.groups],
            "held_out_accounts": [_account(group) for group in held_out.groups],
        }
    output.result(_text(facts), facts, as_json)


def _study(study: Study, accounts: Accounts, held_out: Accounts) -> dict[str, Any]:
    federation, log = study.federation, Log.open(study.home, "federation")
    records = [entries.read_record(one.record) for one in log.records()]
    run = run_of(federation.first, federation.digest, "training")
    held, delta = accounts.studies.get(run), federation.privacy.delta
    return {
        "name": federation.name,
        "folder": str(study.home.folder),
        "epoch": federation.roster.epoch,
        "sites": list(federation.roster.names),
        "rounds": sum(one["kind"] == "round" for one in records),
        "process": worker(study.home.folder),
        "passes": held.passes if held else 0,
        "epsilon": bounded(accounts.reached(run, delta)),
        "delta": delta,
        "max_epsilon": bounded(federation.privacy.max_epsilon),
        "held_out": _held_out(federation, held_out, run),
    }


def _held_out(federation: Federation, accounts: Accounts, run: bytes) -> dict[str, Any] | None:
    """What its looks have spent of the held-out records; None where it has charged none."""
    held, delta = accounts.studies.get(run), federation.privacy.delta
    if held is None or not held.passes:
        return None
    alone = held.last.get("alone")
    return {
        "epsilon": bounded(accounts.reached(run, delta)),
        "epsilon_alone": None if alone is None else bounded(float(alone)),
        "delta": delta,
        "max_epsilon": bounded(federation.measures.epsilon),
        "looks": held.passes,
    }


def _account(group: Group) -> dict[str, Any]:
    spent = [{"study": one.study, "passes": one.passes, "last": one.last} for one in group.by.values()]
    return {"marks": len(group.marks), "passes": group.account.passes, "spent_by": spent}


def _text(facts: dict[str, Any]) -> str:
    if not facts["studies"]:
        return (
            f"{facts['name']}: no study yet: p2pfl join --peers peers.yaml --data records.csv, or p2pfl sum, begins one"
        )
    rows = [
        [
            f"  {one['name']}",
            f"epoch {one['epoch']}",
            f"{len(one['sites'])} sites",
            output.counted(one["rounds"], "round"),
            _spent(one),
            f"process {one['process']}" if one["process"] else "nobody is at work in it",
            one["folder"],
        ]
        for one in facts["studies"]
    ]
    lines = [f"{facts['name']}: {output.counted(len(rows), 'study')}", output.aligned(rows)]
    if facts["accounts"]:
        lines.append("accounts, one for each group of records with one history:")
        lines.append(output.aligned([_account_row(one, "pass") for one in facts["accounts"]]))
    if facts["held_out_accounts"]:
        lines.append("accounts of held-out records, for looks with noise:")
        lines.append(output.aligned([_account_row(one, "look") for one in facts["held_out_accounts"]]))
    return "\n".join(lines)


def _spent(one: dict[str, Any]) -> str:
    held = one["held_out"]
    looks = f"; held-out {_of_limit(held)}, {output.counted(held['looks'], 'look')}" if held else ""
    if not one["passes"]:
        return f"no pass yet{looks}"
    if one["epsilon"] is None or one["max_epsilon"] is None:
        return f"ε is unbounded{looks}"
    return f"{_of_limit(one)} at δ {one['delta']:g}{looks}"


def _of_limit(one: dict[str, Any]) -> str:
    return f"ε {one['epsilon']:.2f} of {one['max_epsilon']:g}"


def _account_row(one: dict[str, Any], charge: str) -> list[str]:
    by = ", ".join(
        f"{spent['passes']} by {spent['study']}, last {time.strftime('%Y-%m-%d', time.gmtime(spent['last']))}"
        for spent in one["spent_by"]
    )
    marks = one["marks"]
    what = f"{marks} records and patients" if marks != 1 else "1 record or patient"
    return [f"  {what}", by or f"no {charge} yet"]
