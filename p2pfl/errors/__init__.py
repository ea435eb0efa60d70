"""Every error a person can meet: what happened, evidence, likely causes, the command to try, a stable code.

The docstring of a leaf *is* the text that the person reads, with `{field}` places that the raiser fills. The
branches answer "whose fault, and what now"; the modules beside this file hold one room's leaves each. Codes are
unique, stable and never reused; `tests/test_errors.py` walks the tree and holds every leaf to that.
"""

from __future__ import annotations

import shlex
import string
from pathlib import PurePath
from typing import Any, ClassVar, Final, TypeVar

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_PEER: Final = 3
EXIT_BUDGET: Final = 4
EXIT_INTEGRITY: Final = 5
EXIT_INTERRUPTED: Final = 130


MOST_EVIDENCE: Final = 8192  # characters of it that a person is shown
MOST_FIELD: Final = 1024  # characters of a name, a path, a place
# Fields of a command that are several words of it, or quoted already.
WORDS: Final = ("verb", "group", "steps", "package")


def clipped(text: str, most: int) -> str:
    """`text`, or its two ends and how much was left out: a file or a peer may hold a line of any length."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} … ({len(text)} characters) … {text[-most // 4 :]}"


def _argument(name: str, value: str) -> str:
    """The field as one word of a shell's command, whatever blanks a path has in it."""
    return value if name in WORDS else shlex.quote(value)


class P2PFLError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = ""
    exit_status: ClassVar[int] = EXIT_FAILED
    likely: ClassVar[tuple[str, ...]] = ()
    command: ClassVar[str] = ""

    def __init__(self, *, evidence: str, **fields: object) -> None:
        """Fill the leaf's text; `{folder}` is that of `path`.

        evidence   a measured fact, or one a line; never a secret, never a patient's value
        """
        self.evidence = clipped(evidence, MOST_EVIDENCE)
        if "path" in fields:  # that of a file which is not there, where a command has to look
            fields.setdefault("folder", PurePath(str(fields["path"])).parent)
        self.fields: dict[str, str] = {name: clipped(str(value), MOST_FIELD) for name, value in fields.items()}
        super().__init__(self.happened)

    @classmethod
    def places(cls) -> frozenset[str]:
        """The `{field}` names that this leaf's text and command need."""
        text = (cls.__doc__ or "") + cls.command
        return frozenset(name for _, name, _, _ in string.Formatter().parse(text) if name)

    @property
    def happened(self) -> str:
        """The first line: what happened, in one sentence."""
        return " ".join((type(self).__doc__ or "").split()).format_map(self.fields)

    @property
    def suggestion(self) -> str:
        """The exact command to try."""
        return self.command.format_map({name: _argument(name, value) for name, value in self.fields.items()})

    def render(self) -> str:
        """The whole error as the terminal shows it."""
        evidence = self.evidence.replace("\n", "\n" + " " * 12)  # several facts, a line each
        lines = [f"error {self.code}: {self.happened}", f"  evidence  {evidence}"]
        if self.likely:
            lines.append(f"  likely    {', or '.join(self.likely)}")
        if self.command:
            lines.append(f"  try       {self.suggestion}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """The same content for `--json`."""
        return {
            "code": self.code,
            "happened": self.happened,
            "evidence": self.evidence,
            "likely": list(self.likely),
            "try": self.suggestion,
            "exit_status": self.exit_status,
        }


E = TypeVar("E", bound=BaseException)


def bare(error: E) -> E:
    """The error alone, to be kept: without the frames that it passed and the error that it arose from.

    Frames hold what was being worked on, which a peer may have made as large as it likes.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


class ConfigurationError(P2PFLError):
    """The configuration, or the way a command was called, is wrong: the reader can mend it here."""

    exit_status = EXIT_USAGE


class LocalFault(P2PFLError):
    """This machine could not do its part: a disk, a port, a missing file."""

    exit_status = EXIT_FAILED


class LocalProtocolError(P2PFLError):
    """This node's own code broke the protocol: a bug of ours."""

    exit_status = EXIT_FAILED


class RemoteProtocolError(P2PFLError):
    """A named peer broke the protocol."""

    exit_status = EXIT_PEER

    def __init__(self, *, evidence: str, proof: tuple[Any, ...] = (), **fields: object) -> None:
        """`proof`: letters that show the breach to anyone, where there are such letters."""
        super().__init__(evidence=evidence, **fields)
        self.proof = proof


class RoundLeftBehind(P2PFLError):
    """A round ended without a sum that this peer can use."""

    exit_status = EXIT_FAILED


class BudgetSpent(P2PFLError):
    """The privacy budget does not allow the next pass."""

    exit_status = EXIT_BUDGET


class IntegrityError(P2PFLError):
    """A ledger, a key or a home is not what was signed."""

    exit_status = EXIT_INTEGRITY


def all_leaves() -> list[type[P2PFLError]]:
    """Every error class of every module here, in code order; those that were not loaded are loaded for it."""
    import importlib
    import pkgutil  # which no command but `help` needs

    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return [leaf for leaf in leaves() if leaf.__module__.startswith(f"{__name__}.")]


def leaves(root: type[P2PFLError] = P2PFLError) -> list[type[P2PFLError]]:
    """Every error class that was loaded so far and that a person can meet, in code order."""
    found = [sub for sub in root.__subclasses__() for sub in (leaves(sub) if sub.__subclasses__() else [sub])]
    return sorted(found, key=lambda leaf: leaf.code)
