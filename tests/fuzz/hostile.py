"""Every verb of the command, given what nobody should: paths, numbers, texts, and homes with wrong permissions.

    python -m tests.fuzz.hostile FOLDER FIRST COUNT     cases FIRST … FIRST+COUNT-1, in this one process
    python -m tests.fuzz.hostile FOLDER CASES           cases by name: JSON of [name, [part, spoilt] or null, words]

Prints one line of JSON for each case: its arguments, exit status, error code, what was said, seconds, and by how many
bytes the process grew. Root's right to read everything is given up first, since a person's program has none: a case
is drawn from its number alone, so a line repeats it.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

CASE_S: Final = 300  # seconds after which a case hangs: one may load PyTorch on a busy machine
HANGS: Final = 99
PR_CAPBSET_DROP: Final = 24
CAPABILITIES: Final = 64
STEPS: Final = ("add", "remove", "rotate", "hub")

NUMBERS: Final = (
    "", "-1", "0", "1", "2", "3", "nan", "inf", "-inf", "1e999999", "-1e999999", "1e-300", "1e300", "0x10", "1_000",
    " 7", "٣", "9007199254740992", "18446744073709551616", "9" * 400, "1" + "0" * 5000, "7.5", "1e5", "--", "None",
)  # fmt: skip
TEXTS: Final = (
    "", "a", "A", "-", "--", "ada", "ben", "x" * 32, "x" * 5000, "x" * 200_000, "\x1b[31m", "a\nb", "\udcff",
    "{0}", "{peer}", "%s", "ａda", "ada\u202e", "../../x", "NULL", "~", "$(id)", "127.0.0.1:0", "[::1]:99999", ":::",
    "host:port", "0.0.0.0:7443", "127.0.0.1:-1", "add", "remove", "key-file:", "command:", "command:'", "mean", "site",
)  # fmt: skip
SETTINGS: Final = (
    "privacy.noise_multiplier", "privacy.max_grad_norm", "privacy.sample_rate", "privacy.steps_per_round",
    "privacy.delta", "privacy.max_epsilon", "rounds", "sharing.field", "sharing.clip", "sharing.scale",
    "compression.density", "minimum.sites", "minimum.records", "topology", "hub", "nothing.such", "", "privacy", "=",
)  # fmt: skip


def give_up_roots_rights() -> None:
    """Begin this process again without a capability: as root that reads a file of mode 000, nothing is refused."""
    if os.geteuid() != 0 or "P2PFL_HOSTILE" in os.environ:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.execve(
        sys.executable, [sys.executable, "-m", "tests.fuzz.hostile", *sys.argv[1:]], {**os.environ, "P2PFL_HOSTILE": ""}
    )


def unprivileged(folder: Path) -> bool:
    """A file of mode 000 cannot be read here."""
    place = folder / "mode-000"
    place.touch(0o000)
    try:
        place.read_bytes()
    except PermissionError:
        return True
    return False


# ── what lies there ───────────────────────────────────────────────────────────────────────────────────────────


class World:
    """A folder with a good home, good files of each kind, and everything that a path should not lead to."""

    def __init__(self, folder: Path) -> None:
        from p2pfl.cli.peers.create import task_lines
        from p2pfl.federation import draft
        from p2pfl.federation.cards import Card
        from p2pfl.home import Home
        from p2pfl.home.keyslots import KeyFile
        from p2pfl.roster import Address

        self.folder = folder
        folder.mkdir(mode=0o700)
        cards = []
        for port, name in enumerate(("ada", "ben", "cyd"), start=20_001):
            with Home.create(folder / name, name, [KeyFile(folder / f"{name}.key")]) as home:
                cards.append(Card.sign(home.identity(), name, [Address("127.0.0.1", port)]))
                home.publish_card(cards[-1].to_bytes())
        (folder / "peers.yaml").write_bytes(
            draft.peers_file("trial", [one.member for one in cards], task_lines(None), [])
        )
        whole = (folder / "peers.yaml").read_text()
        without = re.sub(r"(noise_multiplier:) 1\.1\b", r"\1 1e-300", whole)
        (folder / "no-noise.yaml").write_text(without)
        assert without != whole
        (folder / "data.csv").write_text("age,sex\n" + "\n".join(f"{age},1" for age in range(30, 60)) + "\n")
        self.good = {
            "home": folder / "ada", "key": folder / "ada.key", "peers": folder / "peers.yaml",
            "card": folder / "ben" / "ben.card", "data": folder / "data.csv",
        }  # fmt: skip
        self.odd = list(self._odd_paths())

    def _odd_paths(self) -> Iterator[str]:
        folder = self.folder
        (folder / "a-folder").mkdir()
        os.mkfifo(folder / "a-pipe")
        (folder / "unreadable").write_bytes(b"x")
        (folder / "unreadable").chmod(0)
        (folder / "shut").mkdir()
        (folder / "shut" / "inside").write_bytes(b"x")
        (folder / "with-folder" / "verify_ledger.py").mkdir(parents=True)
        (folder / "shut").chmod(0)
        (folder / "itself").symlink_to("itself")
        (folder / "empty").touch()
        (folder / "garbage").write_bytes(random.Random(1).randbytes(5000))
        (folder / "long-line").write_text("version: " + "x" * 200_000)
        (folder / "deep").write_text("[" * 50_000)
        (folder / "zeros").write_bytes(bytes(1 << 20))
        with (folder / "sparse").open("wb") as file:
            file.truncate(1 << 40)
        with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
            one.bind(os.path.relpath(folder / "a-socket"))
        for name in ("peers.yaml", "ben/ben.card", "data.csv", "ada.key"):
            whole = (folder / name).read_bytes()
            for number in range(4):
                drawn = random.Random(f"{name} {number}")
                spoilt = bytearray(whole)
                for _ in range(drawn.randrange(1, 6)):
                    at = drawn.randrange(len(spoilt))
                    spoilt[at : at + drawn.randrange(3)] = drawn.choice((b"", b"\0", b"\xff", b"'", b"9" * 300, b": {"))
                place = folder / f"spoilt-{number}-{Path(name).name}"
                place.write_bytes(spoilt)
                place.chmod(0o600)
                yield str(place)
        names = (
            "a-folder", "a-pipe", "unreadable", "shut", "shut/inside", "itself", "empty", "garbage", "long-line",
            "deep", "zeros", "sparse", "a-socket", "nowhere", "nowhere/at/all", "data.csv/inside", "n" * 300,
            "n" * 5000, "ada", "ada/lock", "ada/keyslots", "ada/identity", "\udcff", "new\nline",
        )  # fmt: skip
        yield from (str(folder / name) for name in names)
        yield from ("", ".", "/", "/dev/zero", "/dev/null", "/dev/full", "/dev/tty", "/proc/self/mem", "/root/none")

    def home(self, drawn: random.Random) -> str:
        """A home, of which something is not as it was made."""
        return self.spoilt(drawn.choice(PARTS), drawn.choice(list(SPOILED)), f"home-{drawn.getrandbits(40):x}")

    def spoilt(self, part: str, how: str, name: str) -> str:
        """A copy of the good home with one of its parts spoilt."""
        place = self.folder / name
        shutil.copytree(self.good["home"], place)
        SPOILED[how](place / part)
        return str(place)


def _gone(part: Path) -> None:
    if part.is_dir() and part.name != "":
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)


def _shut(part: Path) -> None:
    if part.exists():
        part.chmod(0)


def _read_only(part: Path) -> None:
    if part.exists():
        part.chmod(0o500 if part.is_dir() else 0o400)


def _garbage(part: Path) -> None:
    if not part.is_dir():
        part.write_bytes(b"\xff{]" * 40)


def _a_pipe(part: Path) -> None:
    if not part.is_dir():
        part.unlink(missing_ok=True)
        os.mkfifo(part)


def _a_folder(part: Path) -> None:
    if not part.is_dir():
        part.unlink(missing_ok=True)
        part.mkdir()


def _a_device(part: Path) -> None:
    if not part.is_dir():
        part.unlink(missing_ok=True)
        part.symlink_to("/dev/zero")


def _deep(part: Path) -> None:
    if not part.is_dir():
        part.write_bytes(b"[" * 100_000)


def _vast(part: Path) -> None:
    if not part.is_dir():
        part.touch()
        os.truncate(part, 1 << 40)


PARTS: Final = (
    "lock", "keyslots", "identity", "state", "membership", "checkpoints", "ledger", "ledger/site", ".",
    "state/evidence", "ledger/federation", "membership.lock", "accounts/spent", "state/links", "ada.card",
)  # fmt: skip
SPOILED: Final[dict[str, Callable[[Path], None]]] = {
    "gone": _gone, "shut": _shut, "read-only": _read_only, "garbage": _garbage, "a pipe": _a_pipe,
    "a folder": _a_folder, "a device": _a_device, "deep": _deep, "vast": _vast,
}  # fmt: skip

# ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────

# By verb, what it takes: HOME, PEERS, CARD, DATA, KEY, FILE (any file), NEW (a file to write), NUMBER, TEXT, SET.
OPEN: Final = "--home HOME --key-file KEY"
VERBS: Final = (
    f"status {OPEN}",
    f"status {OPEN} --json",
    "init --name TEXT --home NEW --key-file NEW --listen TEXT --address TEXT",
    "init --name new --home FILE --key-file FILE",
    "init --name ada --home HOME --add --recovery-words --open-with TEXT",
    "init --name ada --home HOME --add --key-file NEW --open-with key-file:KEY",
    "init --name ada --home HOME --card --open-with key-file:KEY --address TEXT",
    "peers create CARD FILE CARD -o NEW --name TEXT --set SET=NUMBER --agreement FILE --task TEXT",
    "peers create CARD CARD CARD -o NEW --set SET=NUMBER --set SET=TEXT",
    "peers show PEERS",
    "peers show FILE --json",
    f"peers diff FILE --peers PEERS {OPEN}",
    "peers diff TEXT --peers PEERS",
    "peers fingerprint FILE --json",
    "peers fingerprint TEXT --peers PEERS",
    f"peers propose add CARD --from-round NUMBER -o NEW --peers PEERS {OPEN}",
    f"peers propose TEXT TEXT FILE -o NEW --peers PEERS {OPEN} --of TEXT",
    f"peers approve FILE --yes --peers PEERS {OPEN}",
    f"peers adopt FILE FILE -o NEW --peers PEERS {OPEN}",
    f"peers accept FILE --agreement FILE --yes {OPEN}",
    f"peers new-key -o NEW {OPEN}",
    f"peers revoke TEXT --peers PEERS {OPEN}",
    f"peers revoke ben --undo --peers FILE {OPEN}",
    f"ledger verify {OPEN} --json",
    f"ledger show --log TEXT --last NUMBER {OPEN}",
    f"ledger show --log site --last NUMBER {OPEN}",
    f"ledger export --log site -o NEW --with-verifier {OPEN}",
    f"ledger export --without-rounds -o NEW {OPEN} --json",
    "ledger compare FILE FILE",
    f"ledger evidence TEXT -o NEW {OPEN}",
    "ledger evidence --check FILE --peers PEERS",
    f"model export -o NEW --peers PEERS {OPEN} --licence TEXT",
    f"model export -o NEW --onnx NEW --peers FILE {OPEN}",
    "model show FILE --json",
    "model weights FILE --csv NEW",
    "predict --model FILE --data DATA --id TEXT --csv NEW",
    "predict --data DATA --model FILE --peers PEERS --columns FILE",
    f"predict --data FILE {OPEN} --peers PEERS",
    f"sum --peers PEERS {OPEN} --value NUMBER --limit NUMBER --decimals NUMBER --wait NUMBER --patience NUMBER",
    f"sum --peers PEERS {OPEN} --csv DATA --column TEXT --stat TEXT --wait 0.1",
    f"sum --peers PEERS {OPEN} --csv FILE --column age --listen TEXT --wait 0.1",
    f"sum --peers PEERS {OPEN} --value 1 --limit NUMBER --wait 0.1 --log FILE --metrics TEXT",
    f"sum --peers PEERS {OPEN} --value 1 --wait 0.1 --log NEW --log-size NUMBER --proxy TEXT --proxy-password FILE",
    f"join --peers PEERS {OPEN} --data FILE --wait 0.1 --columns FILE",
    f"join --peers PEERS {OPEN} --data FILE --task TEXT --check --wait NUMBER",
    f"join --peers PEERS {OPEN} --data FILE --agreement FILE --log-keep NUMBER",
    f"run --flower TEXT --peers PEERS {OPEN} --wait 0.1 --first FILE --node-config TEXT",
    "run --sklearn TEXT --write-first NEW --run-config TEXT --json",
    "peers create CARD CARD CARD -o NEW --client flower --first FILE --metric TEXT --set privacy=none",
    f"doctor --peers PEERS {OPEN} --wait NUMBER --listen TEXT",
    f"doctor --peers FILE {OPEN} --wait 0.1",
    "task draft FILE -o NEW --label TEXT --kind number --columns FILE",
    "task draft DATA -o NEW --label TEXT --event TEXT --kind TEXT --json",
    "task new TEXT",
    "task check FILE --data FILE --peers FILE",
    "task check FILE --json --data DATA --peers PEERS --columns FILE",
    f"task review FILE {OPEN}",
    f"task approve FILE {OPEN} --json",
    "demo --peers TEXT --rounds NUMBER --set SET=NUMBER --home FILE",
    "completion TEXT",
    "help TEXT TEXT",
    "TEXT TEXT",
    "version TEXT",
)
THINGS: Final = ("HOME", "PEERS", "CARD", "DATA", "KEY", "FILE", "NEW", "NUMBER", "TEXT", "SET")
ORDINARY: Final = {"NUMBER": ("1", "2", "3", "0.5"), "TEXT": ("ada", "ben", "age", "mean", "site", "127.0.0.1:0")}
GOOD_SHARES: Final = (0.5, 0.8, 0.95)  # of the things that a case is given: a command that is nearly right goes far


def thing(world: World, what: str, drawn: random.Random, share: float) -> str:
    """One good thing of the kind `what`, with the chance `share`, or an odd one."""
    good = drawn.random() < share
    if what in ORDINARY and good:
        return drawn.choice(ORDINARY[what])
    if what == "HOME" and not good:
        return world.home(drawn) if drawn.random() < 0.7 else drawn.choice(world.odd)
    if what.lower() in world.good and good:
        return str(world.good[what.lower()])
    if what == "NEW" and good:
        return str(world.folder / f"new-{drawn.getrandbits(40):x}")
    if what == "FILE" and good:
        return str(drawn.choice(list(world.good.values())))
    return drawn.choice({"NUMBER": NUMBERS, "TEXT": (*TEXTS, *STEPS), "SET": SETTINGS}.get(what, world.odd))


def _is_long(seconds: str) -> bool:
    try:
        return float(seconds) > 1
    except ValueError:
        return False


def arguments(world: World, number: int) -> list[str]:
    """The arguments of one case."""
    drawn = random.Random(f"hostile {number}")
    share = drawn.choice(GOOD_SHARES)
    template = drawn.choice(VERBS).replace("key-file:KEY", "key-file:=KEY")
    words = ["=".join(thing(world, part, drawn, share) if part in THINGS else part for part in word.split("="))
             for word in template.split()]  # fmt: skip
    words = [word.replace("key-file:=", "key-file:") for word in words]
    for place, word in enumerate(words[:-1]):
        if word == "--wait" and _is_long(words[place + 1]):  # a long wait is what was asked for
            words[place + 1] = "0.1"
    if words[0] == "demo" and words[2] in ("3", "4", "5"):  # real processes: not here
        words[2] = "2"
    return words


def growth() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def played(words: list[str]) -> dict[str, Any]:
    """What the command did."""
    from p2pfl.cli.main import run

    out, err = io.StringIO(), io.StringIO()
    begun, held = time.monotonic(), growth()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status: Any = run(words)
    except BaseException as error:
        status = f"{type(error).__name__}: {error}"[:500]
    said = err.getvalue()
    code = said.partition("error ")[2].partition(":")[0] if "error P2P" in said else ""
    return {
        "status": status,
        "code": code,
        "said": said[:2000] + said[-6000:],
        "characters": len(said) + len(out.getvalue()),
        "seconds": round(time.monotonic() - begun, 2),
        "grown": growth() - held,
    }


def main() -> int:
    give_up_roots_rights()
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    os.environ.update({"HOME": str(folder), "P2PFL_TRACEBACK": "1"})
    sys.stdin.close()
    sys.stdin = open(os.devnull)  # noqa: SIM115
    tell = os.dup(1)
    current: list[str] = []

    def line(facts: dict[str, Any]) -> None:
        os.write(tell, json.dumps(facts).encode() + b"\n")

    def hangs(number: int, frame: FrameType | None) -> None:
        line({"arguments": current, "status": HANGS, "code": "", "said": "it hangs", "seconds": CASE_S, "grown": 0})
        os._exit(1)

    signal.signal(signal.SIGALRM, hangs)
    os.chdir(folder)  # `task new` writes here
    world = World(folder / "world")
    line({"unprivileged": unprivileged(folder)})
    for name, words in asked(world, *sys.argv[2:]):
        current[:] = words
        signal.alarm(CASE_S)
        line({"name": name, "arguments": [word[:200] for word in current], **played(current)})
        signal.alarm(0)
    return 0


def asked(world: World, first: str, count: str = "") -> Iterator[tuple[str, list[str]]]:
    """The cases that this process plays: their names and arguments."""
    if count:
        for number in range(int(first), int(first) + int(count)):
            yield str(number), arguments(world, number)
        return
    for at, (name, spoilt, words) in enumerate(json.loads(first)):
        home = world.spoilt(*spoilt, f"home-{at}") if spoilt else str(world.good["home"])
        places = {"{HOME}": home, "{WORLD}": str(world.folder), "{LONG}": "n" * 5000}
        for place, path in places.items():
            words = [word.replace(place, path) for word in words]
        yield name, words


if __name__ == "__main__":
    sys.exit(main())
