"""Options that several verbs share: where the home is, how it is opened, what is printed."""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import re
import shlex
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from p2pfl.cli import output
from p2pfl.cli.interrupts import INTERRUPTS
from p2pfl.errors.federation import WontOverwrite, WrongAddress
from p2pfl.errors.home import SyncFailed
from p2pfl.errors.people import NoTerminal, NotReadable, NotWritten, WrongUse
from p2pfl.files import LARGE_BYTES, read_file
from p2pfl.home import Home
from p2pfl.home.disk import AFRESH, Disk
from p2pfl.home.keyslots import Command, Credential, KeyFile, KeySource, PassPhrase, RecoveryKey
from p2pfl.keys import Secret
from p2pfl.roster import NAME, Address

if TYPE_CHECKING:
    from p2pfl.federation import Federation

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_HOME = Path("~/.p2pfl")
PEERS = Path("peers.yaml")
DEFAULT_PORT = 7443
WAY_IN = re.compile(r"key-file:(?P<file>.+)|pass-phrase|recovery|command:(?P<command>.+)")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line of stdout.")
peers_option = click.option(
    "--peers",
    "peers_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=PEERS,
    show_default=True,
    help="The peers file of the sites.",
)

study_option = click.option(
    "--peers",
    "peers_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Which study is meant, where this home takes part in several: its peers file.",
)

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value than the default, as in --set privacy.delta=1e-4.",
)

agreement_option = click.option(
    "--agreement",
    "document",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The business associate agreement as this site holds it, where peers.yaml names one: nothing is signed unless "
    "it is that one.",
)


columns_option = click.option(
    "--columns",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Column map of that CSV.  [default: DATA.columns.yaml beside it, if it is there]",
)


class Between(click.FloatRange):
    """A number in a range. "nan" is in none, whatever it is compared with, and FloatRange lets it pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, for click."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number", param, ctx)
        return found


class NamedFile(click.Path):
    """A path that names a file: "" and "." do not."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, for click."""
        path = super().convert(value, param, ctx)
        if not Path(os.fsdecode(path)).name:
            self.fail("it names no file", param, ctx)
        return path


new_file_option = click.option(
    "-o",
    "--output",
    "target",
    type=NamedFile(),
    required=True,
    help="The file to write; one that exists is never overwritten.",
)


def home_option(command: F) -> F:
    """--home, else P2PFL_HOME, else ~/.p2pfl."""
    return click.option(
        "--home",
        envvar="P2PFL_HOME",
        type=click.Path(path_type=Path, file_okay=False),
        default=lambda: DEFAULT_HOME.expanduser(),
        help="This site's home.  [default: $P2PFL_HOME, else ~/.p2pfl]",
    )(command)


def is_default(home: Path) -> bool:
    """It is the one that is taken where nobody names another; of a user without a home folder none is."""
    with contextlib.suppress(RuntimeError):
        return home == DEFAULT_HOME.expanduser()
    return False


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


@dataclass(frozen=True, slots=True)
class Unlock:
    """How the home is to be opened. It holds no secret: that is asked for when it is needed."""

    key_file: Path | None = None
    pass_phrase: bool = False
    recovery: bool = False
    key_command: str | None = None

    @classmethod
    def by(cls, way: str) -> Unlock:
        """The one way that `init --add --open-with` names. Raises WrongUse."""
        found = WAY_IN.fullmatch(way)
        if found is None:
            ways = "key-file:PATH, pass-phrase, recovery or command:COMMAND"
            raise WrongUse(evidence=f"--open-with wants {ways}, not {way!r}", verb=" init")
        file = Path(found["file"]) if found["file"] else None
        return cls(file, way == "pass-phrase", way == "recovery", found["command"])

    def keys(self) -> list[KeySource]:
        """The keys that were named; else systemd's credential, where there may be one, then the slot's own key file."""
        named: list[KeySource] = []
        if self.key_file:
            named.append(KeyFile(self.key_file))
        if self.pass_phrase:
            named.append(PassPhrase(functools.cache(lambda: typed("pass phrase: "))))  # a verb opens the home twice
        if self.recovery:
            named.append(RecoveryKey(typed("recovery words: ")))
        if self.key_command:
            named.append(key_command(self.key_command))
        if named:
            return named
        # A unit may be handed credentials of other things: the home's keyslots say which of the two opens it.
        credential = [Credential.from_environment(os.environ)] if "CREDENTIALS_DIRECTORY" in os.environ else []
        return [*credential, KeyFile()]


@contextlib.contextmanager
def reading(home: Path, unlock: Unlock, peers_file: Path | None) -> Iterator[Home]:
    """The home, opened for reading, as the study of that file sees it. Raises SeveralStudies, NoSuchStudy."""
    from p2pfl.federation import Federation
    from p2pfl.node.studies import view

    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        yield view(opened, functools.partial(Federation.load, peers_file) if peers_file else None)


@contextlib.contextmanager
def reading_or_new(home: Path, unlock: Unlock, federation: Federation) -> Iterator[Home]:
    """The home, opened for reading, as the study of that peers.yaml sees it, or will once it has begun."""
    from p2pfl.node.studies import view_or_new

    with Home.open(home, unlock=unlock.keys(), write=False) as opened:
        yield view_or_new(opened, federation)


def unlock_options(command: Callable[..., None]) -> Callable[..., None]:
    """--key-file, --pass-phrase, --recovery and --key-command, handed over as one `unlock`."""

    @click.option("--key-file", type=NamedFile(), help="Open with this key file.")
    @click.option("--pass-phrase", is_flag=True, help="Ask for the pass phrase at the terminal.")
    @click.option("--recovery", is_flag=True, help="Ask for the 24 recovery words at the terminal.")
    @click.option("--key-command", metavar="COMMAND", help="A program that prints the key.")
    @functools.wraps(command)
    def unlocked(
        *, key_file: Path | None, pass_phrase: bool, recovery: bool, key_command: str | None, **rest: object
    ) -> None:
        command(unlock=Unlock(key_file, pass_phrase, recovery, key_command), **rest)

    return unlocked


def key_command(text: str) -> Command:
    """The program and its arguments, quoted as in a shell, which is not run. Raises WrongUse."""
    try:
        arguments = tuple(shlex.split(text))
    except ValueError as error:
        raise WrongUse(evidence=f"--key-command: {str(error).lower()}", verb="") from None
    return Command(arguments)


def listening(text: str) -> Address:
    """`host:port`, or a host alone with the default port. Raises WrongAddress."""
    if text.isdecimal():
        raise WrongAddress(evidence="it is a port without a host", place="--listen", text=repr(text))
    try:
        return Address.parse(text if ":" in text else f"{text}:{DEFAULT_PORT}")
    except ValueError as reason:
        raise WrongAddress(evidence=str(reason), place="--listen", text=repr(text)) from None


def fit_name(text: str) -> str:
    """`text`, or the nearest text that can name a site or a federation."""
    if NAME.fullmatch(text):
        return text
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-0123456789")[:31].strip("-") or "st-olav"


def typed(prompt: str) -> Secret:
    """What a person types at the terminal, unseen. Never read from argv or a pipe. Raises NoTerminal."""
    import getpass

    if not sys.stdin.isatty():
        context = click.get_current_context(silent=True)
        verb = context.command_path.removeprefix("p2pfl") if context is not None else ""
        evidence = "stdin is not a terminal; a key file, key command or systemd credential needs none"
        raise NoTerminal(evidence=evidence, verb=verb)
    try:
        with output.lifted():
            return Secret(getpass.getpass(prompt, sys.stderr).encode(), "typed")
    except EOFError:  # Ctrl-D
        raise click.Abort from None
    except UnicodeError:  # neither what was typed nor which byte of it is said
        raise WrongUse(evidence="what was typed is no text in this terminal's encoding", verb="") from None


def read_whole(path: Path) -> bytes:
    """The file's bytes. Raises NotReadable."""
    try:
        return read_file(path, LARGE_BYTES)
    except OSError as error:
        raise NotReadable(evidence=error.strerror or type(error).__name__, path=path) from None


def write_new(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write `data` to `path`, which must not exist; of the mode the umask takes its part.

    Raises WontOverwrite, NotWritten.
    """
    try:
        with open(os.open(path, AFRESH | os.O_WRONLY | os.O_CLOEXEC, mode), "wb") as file:
            _write_whole(path, file, data)
    except FileExistsError:
        raise WontOverwrite(evidence=f"{path.lstat().st_size} bytes lie there", path=path) from None
    except (OSError, ValueError) as error:  # a NUL in the path
        raise NotWritten(evidence=getattr(error, "strerror", None) or type(error).__name__, path=path) from None


@contextlib.contextmanager
def reserved(path: Path, mode: int = 0o666) -> Iterator[Callable[[bytes], None]]:
    """Reserve `path`, which must not exist: empty until it is written, gone if it never is. Raises as write_new."""
    made = False

    def give_back() -> None:
        with contextlib.suppress(OSError):
            if made and not path.stat().st_size:
                path.unlink()

    with INTERRUPTS.leaving_does(give_back):  # a signal may come while a module loads, which no `finally` outlives
        write_new(path, b"", mode)
        made = True
        try:
            yield lambda data: write_over(path, data)
        finally:
            give_back()


def write_over(path: Path, data: bytes) -> None:
    """Replace what `path` holds by `data`, durably, whole or not at all. Its mode stays; a link stays, and leads to it.

    What is no plain file, as a pipe or a device, is not replaced. Raises NotWritten.
    """
    place = Path(os.path.realpath(path))
    beside = place.with_name(f".p2pfl-{os.urandom(8).hex()}")  # nobody's file
    try:
        mode = _mode_of(place)
        with open(os.open(beside, AFRESH | os.O_WRONLY | os.O_CLOEXEC, 0o666 if mode is None else 0o600), "wb") as file:
            file.write(data)
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            Disk(place.parent).sync(file.fileno(), place)
        os.replace(beside, place)
        Disk(place.parent).sync_directory(place.parent)
    except (OSError, ValueError, SyncFailed) as error:
        why = error.evidence if isinstance(error, SyncFailed) else getattr(error, "strerror", None)
        raise NotWritten(evidence=why or type(error).__name__, path=path) from None
    finally:
        with contextlib.suppress(OSError, ValueError):
            beside.unlink()


def _mode_of(place: Path) -> int | None:
    """The mode of the file there; None: there is none. Raises OSError for what is no plain file."""
    try:
        held = place.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(held):
        raise OSError(errno.EINVAL, "what lies there is no plain file")
    return stat.S_IMODE(held)


def _write_whole(path: Path, file: BinaryIO, data: bytes) -> None:
    """Write all of `data`, or leave no file."""
    try:
        file.write(data)
        file.flush()
    except BaseException:
        path.unlink()
        raise
