"""An exception that no verb expected: whose fault it is, as an error of the catalogue.

Type and place only: the text of a foreign exception may hold a patient's value.
"""

from __future__ import annotations

import os
import traceback

from p2pfl.cli import output
from p2pfl.errors import P2PFLError
from p2pfl.errors.people import NoHomeFolder, OurMistake, SystemRefused
from p2pfl.training.process.faults import scarce, task_failed


def told_of(error: Exception) -> P2PFLError:
    """The error that a person is told."""
    if os.environ.get("P2PFL_TRACEBACK"):
        output.progress("".join(traceback.format_exception(error)))
    if (nothing_left := scarce(error)) is not None:
        return nothing_left
    if (failed := task_failed(error)) is not None:
        return failed
    if isinstance(error, OSError) and error.filename is not None:  # whoever asked expected no such answer
        named = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename)
        return SystemRefused(path=named, evidence=error.strerror or type(error).__name__)
    if isinstance(error, FileNotFoundError) and _is_gone():
        return SystemRefused(path=".", evidence="the folder in which this was called is gone")
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # pathlib's, of a user without an entry
        return NoHomeFolder(evidence=f"user {os.getuid()}; HOME is {os.environ.get('HOME') or 'not set'}")
    return mistake(error)


def _is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def mistake(error: Exception) -> OurMistake:
    """A bug of p2pfl, by its type and place."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}p2pfl{os.sep}" in frame.filename] or list(frames)
    where = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else "an unknown place"
    chain = " in ".join(frame.name for frame in reversed(ours[-3:]))
    return OurMistake(
        evidence=f"{chain}; P2PFL_TRACEBACK=1 shows the whole way there", kind=type(error).__name__, where=where
    )
