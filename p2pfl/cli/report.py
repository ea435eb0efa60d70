"""`p2pfl report`: one page, to be read, printed and signed, of what this home's ledger says of a study."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pfl._version import __version__
from p2pfl.cli import output
from p2pfl.cli.options import (
    NamedFile,
    Unlock,
    home_option,
    json_option,
    reading,
    reserved,
    study_option,
    unlock_options,
)
from p2pfl.codec import Malformed
from p2pfl.errors import EXIT_INTEGRITY, P2PFLError
from p2pfl.errors.reports import ReportLibraryMissing
from p2pfl.federation import Federation
from p2pfl.home import Home

if TYPE_CHECKING:
    from p2pfl.ledger.witness import HeldNotes
    from p2pfl.report.study import Beside, Curves, SentBytes, StudyReport

DEFAULT = Path("report.html")


@click.command()
@click.option(
    "-o",
    "--output",
    "target",
    type=NamedFile(),
    help=f"The page to write; one that exists is never overwritten.  [default: {DEFAULT}, with --json none]",
)
@click.option(
    "--audit", is_flag=True, help="Also each safeguard of HIPAA and the GDPR, with its evidence in this ledger."
)
@study_option
@home_option
@unlock_options
@json_option
def report(
    *, target: Path | None, audit: bool, peers_file: Path | None, home: Path, unlock: Unlock, as_json: bool
) -> None:
    """Write a report of a study as one HTML page: for an ethics board, a privacy officer, the investigators.

    Who took part, every round, how good the model is, what it tells of one patient, and who signed the ledger that
    says so. The ledger is verified first; exit status 5 when it is not what was signed, and the page says so before
    all else. It reads beside a running site. The page loads nothing and runs nothing; a browser prints it to PDF.
    """
    where = target or (None if as_json else DEFAULT)
    draw = _drawer() if where is not None else None
    with ExitStack() as held:
        write = held.enter_context(reserved(where)) if where is not None else None
        made = held_report(home, unlock, peers_file, audit=audit)
        facts = {**made.as_json(), "path": None, "sha256": None}
        text = _told(made)
        if where is not None and write is not None and draw is not None:
            data = draw(made).encode("utf-8")
            write(data)
            digest = hashlib.sha256(data).hexdigest()
            facts |= {"path": str(where), "sha256": digest}
            text += f"\n{where}: {output.amount(len(data))}, SHA-256 {digest}"
    output.result(text, facts, as_json)
    if not made.verified:
        raise click.exceptions.Exit(EXIT_INTEGRITY)


def held_report(home: Path, unlock: Unlock, peers_file: Path | None, *, audit: bool) -> StudyReport:
    """What the home says of the study, at this moment."""
    from p2pfl.ledger.entry import utc_text
    from p2pfl.report.study import report_of

    with reading(home, unlock, peers_file) as opened:
        made = utc_text(time.time())
        return report_of(opened, _notes(opened), _beside(opened), f"p2pfl {__version__}", made, audit=audit)


def _notes(home: Home) -> HeldNotes:
    """The heads that others countersigned; none where they cannot be read: no entry depends on them."""
    from p2pfl.ledger.witness import HeldNotes
    from p2pfl.node.witness import held_notes

    try:
        return held_notes(home)
    except (P2PFLError, Malformed):
        return HeldNotes()


def _drawer() -> Callable[[StudyReport], str]:
    """What writes the page. Raises ReportLibraryMissing."""
    try:
        from p2pfl.report.page import page
    except ImportError as error:
        raise ReportLibraryMissing(evidence=str(error)) from None
    return page


def _told(made: StudyReport) -> str:
    """The first line says whether the ledger verifies."""
    faults = [one for one in made.verification.findings if one.fault]
    verdict = (
        "ledger verified" if made.verified else f"THE LEDGER DOES NOT VERIFY, {output.counted(len(faults), 'finding')}"
    )
    ledger = made.ledger
    name = ledger.federation or "no study has begun"
    rounds, questions = output.counted(ledger.count_trained, "round"), output.counted(len(ledger.questions), "question")
    rows = f"{len(ledger.sites)} sites, {rounds} of training, {questions}"
    return "\n".join([f"{made.site}: {verdict}", *(f"  {one}" for one in faults), f"  {name}: {rows}"])


def _beside(home: Home) -> Beside:
    """What the home knows beside its logs. What cannot be read is left out: verification tells what is damaged."""
    from p2pfl.report.study import Beside

    federation = _agreed(home)
    if federation is None:
        return Beside()
    card, why = _card(home, federation)
    return Beside(task_line(federation), card, why, _sent(home), _curves(home))


def _sent(home: Home) -> list[SentBytes]:
    """What this site sent in each round of the training, the last time that it was summed here."""
    from p2pfl.node.live import read_traffic
    from p2pfl.report.reported import EVALUATION, TRAINING
    from p2pfl.report.study import SentBytes

    rows = [row for row in read_traffic(home) if row[1] in (TRAINING, EVALUATION)]
    return [SentBytes(row[0], *row[2:]) for _, row in sorted({row[0]: row for row in rows}.items())]


def _curves(home: Home) -> Curves | None:
    """Those of the last measured model, as this site drew them."""
    from p2pfl.node.runs.metric import read_curves
    from p2pfl.report.study import Curves

    held = read_curves(home)
    try:
        return None if held is None else Curves.read(held)
    except (KeyError, TypeError, ValueError):
        return None


def _agreed(home: Home) -> Federation | None:
    """The peers.yaml that the home goes on under."""
    from p2pfl.node.epochs import AGREED

    try:
        held = home.read(AGREED)
        return Federation.parse(held, "peers.yaml in this home") if held is not None else None
    except P2PFLError:
        return None


def _card(home: Home, federation: Federation) -> tuple[Mapping[str, Any] | None, str]:
    """The card of the home's model; or why there is none."""
    from p2pfl.cli.model.facts import card_of
    from p2pfl.cli.model.held import model_of
    from p2pfl.training.model.file import held_state

    try:
        return card_of(home, federation, held_state(model_of(home), str(home.path)), None).facts, ""
    except P2PFLError as error:
        return None, f"There is no card of the newest model. {error.happened} ({error.code})"
    except (ArithmeticError, LookupError, TypeError, ValueError):  # of records that a quorum never signed
        return None, "There is no card of the newest model: the ledger's rounds are not of the form that they have."


def task_line(federation: Federation) -> str:
    """What is learned, in a line."""
    table, scans = federation.task.table, federation.task.scans
    if scans is not None:
        return scans.summary
    return f"{table.summary}{table.asking}" if table is not None else federation.task.label
