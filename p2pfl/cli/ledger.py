"""`p2pfl ledger`: verify, show, export, compare and evidence. All of it only reads, beside a `join` that runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal

import click

from p2pfl.cli import output
from p2pfl.cli.evidence import evidence
from p2pfl.cli.options import Unlock, home_option, json_option, unlock_options, write_new
from p2pfl.cli.predict import read_whole
from p2pfl.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTEGRITY, EXIT_USAGE
from p2pfl.errors.people import WrongUse
from p2pfl.home import Home
from p2pfl.ledger import entry as entries
from p2pfl.ledger import export as exports
from p2pfl.ledger.compare import Relation, Signed, check_head
from p2pfl.ledger.compare import compare as compare_exports
from p2pfl.ledger.log import Log
from p2pfl.ledger.read_log import Finding
from p2pfl.ledger.verify import LogFacts, Report
from p2pfl.ledger.verify import verify as verify_home

LogName = Literal["federation", "site"]
VERIFIER = "verify_ledger.py"
STATUS = {
    Relation.IDENTICAL: EXIT_DONE,
    Relation.PREFIX: EXIT_FAILED,
    Relation.FORK: EXIT_INTEGRITY,
    Relation.UNLIKE: EXIT_USAGE,
}


def log_option(command: Callable[..., None]) -> Callable[..., None]:
    """--log federation|site."""
    choice = click.Choice(["federation", "site"])
    return click.option(
        "--log",
        "which",
        type=choice,
        default="federation",
        show_default=True,
        help="The one that all sites hold alike, or this site's own.",
    )(command)


@click.group()
def ledger() -> None:
    """Verify, show, export and compare the ledger; and the proofs against sites that broke the protocol."""


ledger.add_command(evidence)


@ledger.command()
@home_option
@unlock_options
@json_option
def verify(home: Path, unlock: Unlock, as_json: bool) -> None:
    """Check both logs: frames, chain, Merkle root, signed heads, signatures, and what each entry claims.

    Exit status 5 when something is not what was signed; each finding says which entry.
    """
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        report = verify_home(opened)
        name = opened.name
    output.result(_verified(name, report), {"name": name} | facts_of(report), as_json)
    if not report.verified:
        raise click.exceptions.Exit(EXIT_INTEGRITY)


def _verified(name: str, report: Report) -> str:
    rows = [
        [f"  {which} log", f"{held.entries} entries", f"root {held.root.hex()}", f"{held.signed} under a signed head"]
        for which, held in (("federation", report.federation), ("site", report.site))
    ]
    found = [f"  {'NOT WHAT WAS SIGNED' if finding.fault else 'note'}: {finding}" for finding in report.findings]
    verdict = "verified" if report.verified else f"{sum(f.fault for f in report.findings)} findings"
    return "\n".join([f"{name}: ledger {verdict}", output.aligned(rows), *found])


def facts_of(report: Report) -> dict[str, object]:
    """What `--json` says of a verified ledger."""
    return {
        "verified": report.verified,
        "federation": _log_facts(report.federation),
        "site": _log_facts(report.site),
        "findings": [_finding(finding) for finding in report.findings],
    }


def _log_facts(held: LogFacts) -> dict[str, object]:
    return {"entries": held.entries, "root": held.root.hex(), "head": held.head.hex(), "signed": held.signed}


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "log": finding.log,
        "entry": finding.entry,
        "segment": finding.segment,
        "what": finding.what,
        "fault": finding.fault,
    }


@ledger.command()
@log_option
@click.option("--last", type=click.IntRange(1), help="Only so many of the newest entries.")
@home_option
@unlock_options
@json_option
def show(which: LogName, last: int | None, home: Path, unlock: Unlock, as_json: bool) -> None:
    """The entries of a log, one line each; with --json their records as they were signed."""
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        log = Log.open(opened, which)
        held = list(log.records())
        root = log.root().hex()
    shown = held[-last:] if last else held
    text = "\n".join(entries.render(one) for one in shown) or f"the {which} log is empty"
    facts: dict[str, object] = {
        "log": which,
        "entries": len(held),
        "root": root,
        "records": [
            {"index": one.index, "record": json.loads(one.record), "signed_by": sorted(one.signatures)} for one in shown
        ],
    }
    output.result(text, facts, as_json)


@ledger.command()
@log_option
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; one that exists is never overwritten.",
)
@home_option
@unlock_options
@click.option(
    "--without-rounds",
    is_flag=True,
    help="Hashes in place of rounds, and of all of a site's own log: enough to compare, not to audit.",
)
@click.option(
    "--with-verifier",
    is_flag=True,
    help=f"Also write {VERIFIER} beside it: one file of Python with which an auditor checks the export, without p2pfl.",
)
@json_option
def export(
    which: LogName, target: Path, without_rounds: bool, with_verifier: bool, home: Path, unlock: Unlock, as_json: bool
) -> None:
    """Write a log as it was signed: entries, signatures, root, signed head. To be compared, or for an auditor.

    Nobody needs a key to read it.
    """
    if without_rounds and with_verifier:
        raise WrongUse(
            evidence="there is nothing to audit in hashes: choose one of --without-rounds, --with-verifier",
            verb=" ledger export",
        )
    program = target.with_name(VERIFIER)
    if with_verifier:
        _write_verifier(program)
    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        log = Log.open(opened, which)
        beside = Log.open(opened, "federation") if which == "site" else None  # second: its head never runs ahead of it
        raw = exports.export(log, opened.name, beside, rounds=not without_rounds)
        size, root = len(log), log.root().hex()
    write_new(target, raw)
    facts: dict[str, object] = {
        "path": str(target),
        "log": which,
        "entries": size,
        "root": root,
        "verifier": str(program) if with_verifier else None,
    }
    check = [f"{program}: check it with", f"  python3 -I {program} {target}"] if with_verifier else []
    output.result("\n".join([f"{target}: {size} entries, root {root}", *check]), facts, as_json)


def _write_verifier(path: Path) -> None:
    """The auditor's program lies at `path`; where the same one lies already, that is left."""
    source = (resources.files("p2pfl.ledger") / "auditor.py").read_bytes()
    if not path.exists() or path.read_bytes() != source:
        write_new(path, source)


@ledger.command()
@click.argument("files", nargs=2, type=click.Path(path_type=Path, dir_okay=False))
@json_option
def compare(files: Sequence[Path], as_json: bool) -> None:
    """Whether two exported logs are the same, one a beginning of the other, or a fork, and from which entry on.

    Each must have the head that its site signed. Exit status 0 when they are the same, 1 when one is behind, 2 for a
    site's log beside a federation's, 5 for a fork, which is shown with who signed both sides of it, and for a file that
    its site did not sign.
    """
    one, other = (exports.read(read_whole(file), str(file)) for file in files)
    found = compare_exports(one, other, (check_head(one, str(files[0])), check_head(other, str(files[1]))))
    facts: dict[str, object] = {
        "relation": found.relation.value,
        "entry": found.entry,
        "behind": found.shorter,
        "roots": [one.root.hex(), other.root.hex()],
        "heads": [_head_facts(head) for head in found.heads or ()],
        "signed_both": {"heads": list(found.both_heads), "entries": list(found.both_entries)},
    }
    output.result(f"{found.relation.value}: {found.text}", facts, as_json)
    raise click.exceptions.Exit(STATUS[found.relation])


def _head_facts(head: Signed) -> dict[str, object]:
    return {"site": head.site, "entries": head.size, "root": head.root.hex(), "signed_by": sorted(head.signers)}
