"""`p2pfl dashboard`: a page of this machine alone that shows what a site does at this moment."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.interrupts import INTERRUPTS
from p2pfl.cli.options import NamedFile, Unlock, home_option, reading, study_option, unlock_options
from p2pfl.errors.federation import WontOverwrite
from p2pfl.errors.people import NotWritten
from p2pfl.errors.reports import DashboardLibraryMissing, DashboardPortBusy, NowhereToShowTheLink

LOOPBACK = "127.0.0.1"


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of 127.0.0.1.  [default: a free one]")
@click.option(
    "--token-file",
    type=NamedFile(),
    metavar="FILE",
    help="Write the link to this new file, which this user alone can read, and show it nowhere else; gone at the end.",
)
@click.option(
    "--questions",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("."),
    show_default="this folder",
    metavar="FOLDER",
    help="Where the questions lie that other sites proposed: those that wait for approval here are shown.",
)
@study_option
@home_option
@unlock_options
def dashboard(
    *, port: int, token_file: Path | None, questions: Path, peers_file: Path | None, home: Path, unlock: Unlock
) -> None:
    """Show a page for a browser on this machine: links, the round under way, figures, ledger, members. Read-only.

    It shows what waits for people here too: questions that other sites proposed. It reads the home beside a running or
    a stopped site, and answers on 127.0.0.1 alone. The link works once, and a new one is shown when it was used. Ctrl-C
    ends it.
    """
    try:
        from p2pfl.dashboard.keys import Doorkeeper
        from p2pfl.dashboard.server import Dashboard, serve
    except ImportError as error:
        raise DashboardLibraryMissing(evidence=str(error)) from None
    from p2pfl.cli.dashboard.questions import ProposedHere
    from p2pfl.cli.dashboard.view import HomeView

    with reading(home, unlock, peers_file) as opened, _listening(port) as listening:
        address = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        with _telling(address, token_file) as tell:
            output.progress(f"{opened.name}: a page at {address}, for browsers on this machine; Ctrl-C ends it")
            view = HomeView(opened, ProposedHere(questions, peers_file))
            serve(Dashboard(view.look, Doorkeeper(os.urandom, tell)), listening)


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """A socket that listens on loopback. Raises DashboardPortBusy."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        try:
            listening.bind((LOOPBACK, port))
            listening.listen()
        except OSError as error:
            evidence = error.strerror or type(error).__name__
            raise DashboardPortBusy(evidence=evidence, place=f"{LOOPBACK}:{port}", port=port) from None
        yield listening


@contextlib.contextmanager
def _telling(address: str, file: Path | None) -> Iterator[Callable[[str], None]]:
    """How a person learns of a link: by a file of their own, else at the terminal, and never by a log.

    Raises NowhereToShowTheLink, WontOverwrite, NotWritten.
    """
    if file is None:
        if not sys.stderr.isatty():
            raise NowhereToShowTheLink(evidence="stderr is not a terminal: what is shown there may be kept")
        yield lambda token: output.progress(f"  open once: {address}/#{token}")
        return
    if file.exists() or file.is_symlink():
        raise WontOverwrite(evidence=f"{file.lstat().st_size} bytes lie there", path=file)
    output.progress(f"the link lies in {file}")
    gone = INTERRUPTS.before_leaving = partial(file.unlink, missing_ok=True)  # a signal may come while a module loads
    try:
        yield lambda token: _write_private(file, f"{address}/#{token}\n")
    finally:
        gone()
        INTERRUPTS.before_leaving = None


def _write_private(file: Path, text: str) -> None:
    """`file` holds `text`, whole, for this user alone; never through a link. Raises NotWritten."""
    new = file.with_name(f".p2pfl-{os.urandom(8).hex()}")  # nobody's file
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as held:
            held.write(text)
        os.replace(new, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise NotWritten(evidence=error.strerror or type(error).__name__, path=file) from None
