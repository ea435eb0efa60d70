"""`p2pfl ledger verify`: is everything in both logs what was signed?"""

from __future__ import annotations

from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, reading, study_option, unlock_options
from p2pfl.errors import EXIT_INTEGRITY
from p2pfl.ledger.read_log import Finding
from p2pfl.ledger.verify import LogFacts, Report
from p2pfl.ledger.verify import verify as verify_home


@click.command()
@study_option
@home_option
@unlock_options
@json_option
def verify(peers_file: Path | None, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Check both logs: frames, chain, Merkle root, signed heads, signatures, and what each entry claims.

    Exit status 5 when something is not what was signed; each finding says which entry.
    """
    with reading(home, unlock, peers_file) as opened:
        with output.doing("verifying the ledger"):
            report = verify_home(opened)
        name = opened.name
    output.result(_verified(name, report), {"name": name} | report_facts(report), as_json)
    if not report.verified:
        raise click.exceptions.Exit(EXIT_INTEGRITY)


def _verified(name: str, report: Report) -> str:
    rows = [
        [
            f"  {which} log",
            output.counted(held.entries, "entry"),
            f"root {held.root.hex()}",
            f"{held.signed} under a signed head",
        ]
        for which, held in (("federation", report.federation), ("site", report.site))
    ]
    found = [f"  {'NOT WHAT WAS SIGNED' if finding.fault else 'note'}: {finding}" for finding in report.findings]
    verdict = "verified" if report.verified else output.counted(sum(f.fault for f in report.findings), "finding")
    return "\n".join([f"{name}: ledger {verdict}", output.aligned(rows), *found])


def report_facts(report: Report) -> dict[str, object]:
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
