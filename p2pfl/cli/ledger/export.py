"""`p2pfl ledger export`: a log as it was signed, to be compared, or for an auditor."""

from __future__ import annotations

import contextlib
import shlex
import time
from importlib import resources
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import (
    Unlock,
    home_option,
    json_option,
    log_option,
    new_file_option,
    reading,
    study_option,
    unlock_options,
    write_new,
)
from p2pfl.errors.home import DiskRefused
from p2pfl.errors.people import WrongUse
from p2pfl.files import read_file
from p2pfl.home import notes
from p2pfl.home.segments import LogName
from p2pfl.ledger import export as exports
from p2pfl.ledger.log import Log
from p2pfl.ledger.site_kinds import ActsEntry
from p2pfl.node.acts import acts_of, looked_at_between
from p2pfl.node.witness import held_notes

VERIFIER = "verify_ledger.py"


@click.command()
@log_option
@new_file_option
@study_option
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
    which: LogName,
    target: Path,
    without_rounds: bool,
    with_verifier: bool,
    peers_file: Path | None,
    home: Path,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """Write a log as it was signed: entries, signatures, root, signed head. To be compared, or for an auditor.

    Nobody needs a key to read it. A site's own log comes with what people did since its last round: the log takes that
    up behind the next one.
    """
    if without_rounds and with_verifier:
        raise WrongUse(
            evidence="there is nothing to audit in hashes: choose one of --without-rounds, --with-verifier",
            verb=" ledger export",
        )
    program = target.with_name(VERIFIER)
    if with_verifier:
        _write_verifier(program)
    with reading(home, unlock, peers_file) as opened:
        # In this order beside a process at work: the heads that others cosigned are over what the log holds by then,
        # and its own head speaks of what the federation log holds by then.
        held = held_notes(opened)
        if which == "site":
            logs, untold = looked_at_between(opened, lambda: {opened.study: Log.open(opened, "site")})
            log, beside = logs[opened.study], Log.open(opened, "federation")
            acts = ActsEntry(time=int(time.time()), acts=acts_of(untold)).salted(opened.draw)
            waiting = exports.waiting_of(log, opened.name, opened.identity(), acts)
        else:
            log, beside, waiting = Log.open(opened, "federation"), None, None
        raw = exports.export(log, opened.name, beside, held, waiting, rounds=not without_rounds)
        size, root = len(log), log.root().hex()
        with contextlib.suppress(DiskRefused):  # a copy of a home on a medium that is read only
            notes.put(opened, "ledger export", int(time.time()), {"log": which})
    write_new(target, raw)
    facts: dict[str, object] = {
        "path": str(target),
        "log": which,
        "entries": size,
        "root": root,
        "verifier": str(program) if with_verifier else None,
    }
    command = shlex.join(["python3", "-I", str(program), str(target)])
    check = [f"{program}: check it with", f"  {command}"] if with_verifier else []
    output.result("\n".join([f"{target}: {output.counted(size, 'entry')}, root {root}", *check]), facts, as_json)


def _write_verifier(path: Path) -> None:
    """The auditor's program lies at `path`; where the same one lies already, that is left."""
    source = (resources.files("p2pfl.ledger") / "auditor.py").read_bytes()
    with contextlib.suppress(OSError):
        if read_file(path, len(source)) == source:
            return
    write_new(path, source)
