"""`p2pfl peers show`: who is in peers.yaml, what they agreed on, and what each firewall must open."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from p2pfl.cli import output
from p2pfl.cli.firewall import firewall_lines
from p2pfl.cli.options import PEERS, json_option
from p2pfl.cli.peers.fit import check_fit
from p2pfl.cli.peers.members import federation_facts, member_lines
from p2pfl.cli.wording import NO_PRIVACY
from p2pfl.errors import ConfigurationError
from p2pfl.errors.counts import counted
from p2pfl.federation import Federation, strict_yaml
from p2pfl.federation.task_choice import TaskChoice

WIDTH: Final = 100  # characters of a line that is shown


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=PEERS)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Who is in FILE, what they agreed on, what each firewall must open. Where FILE is wrong, the line is shown."""
    raw = strict_yaml.load(file)
    try:
        federation = Federation.parse(raw, str(file))
    except ConfigurationError as error:
        _point(raw, error)
        raise
    check_fit(federation)
    quorums = federation.roster.quorums
    sharing, compression = federation.sharing, federation.compression
    lines = [
        f"{federation.name}  epoch {federation.roster.epoch}  SHA-256 {federation.digest.hex()}",
        *member_lines(federation.roster.members),
        f"{quorums.n} sites; {quorums.q} of them certify a sum; up to {quorums.c} may lie",
        f"task         {_task(federation.task)}; {counted(federation.rounds, 'round')}",
        f"privacy      {_privacy(federation)}",
        f"sharing      {sharing.field}-bit field, clip {sharing.clip:g}, largest value {sharing.scale:g}; "
        f"sums are {'checked' if sharing.verify else 'NOT checked'}",
        f"compression  {compression.method}"
        + ("" if compression.method == "none" else f", {100 * compression.density:g} % of the coordinates"),
        f"topology     {federation.topology}" + (f" {federation.hub}" if federation.hub else ""),
        f"agreement    {_agreement(federation)}",
        "what each site's firewall lets through:",
        *firewall_lines(federation.roster),
    ]
    output.result("\n".join(lines), {"path": str(file)} | federation_facts(federation), as_json)


def _task(task: TaskChoice) -> str:
    if task.python is not None:
        return f"{task.label}, which each site makes in Python: NO code is pinned, and nobody has approved any"
    if task.client is not None:
        first = f"SHA-256 {task.client.first.hex()}" if task.client.first else "zeros"
        averaged = ", ".join(task.client.metrics) or "no metric"
        return f"a {task.label} of each site's own, from {first}; averaged is {averaged}"
    if task.scans is not None:
        return task.scans.summary
    return f"a table: {task.table.summary}{task.table.asking}" if task.table is not None else task.label


def _privacy(federation: Federation) -> str:
    one = federation.privacy
    if one.is_none:
        return NO_PRIVACY
    shared = ""
    if one.is_distributed:
        against = federation.roster.quorums.q - one.parts
        shared = (
            f"; each site adds a part of the noise, that of {one.parts} is enough: against {against} colluding sites"
        )
    return (
        f"one {one.unit}: noise {one.noise_multiplier:g}, clip {one.max_grad_norm:g}, "
        f"sample rate {one.sample_rate:g}, {counted(one.steps_per_round, 'step')} a round; "
        f"ε at most {one.max_epsilon:g} at δ = {one.delta:g}{shared}"
    )


def _agreement(federation: Federation) -> str:
    if federation.agreement is None:
        return "none is named"
    return f"SHA-256 {federation.agreement.hex()}: `sha256sum` of the document that each site signs at its first start"


def _point(raw: bytes, error: ConfigurationError) -> None:
    """The line of the finding on stderr, with a caret under its column."""
    line, _, column = error.fields.get("place", "").rpartition(":")
    line = line.rpartition(":")[2]
    if line.isdigit() and column.isdigit():
        at = int(column) - 1
        first = max(0, at - WIDTH // 2) if at >= WIDTH else 0  # of a line of any length, what is around the place
        text = raw.decode("utf-8", "replace").split("\n")[int(line) - 1][first : first + WIDTH]
        text = "".join(one if one.isprintable() else "\ufffd" for one in text)  # it may steer the terminal
        output.progress(f"{int(line):>5} | {text}\n      | {' ' * (at - first)}^")
