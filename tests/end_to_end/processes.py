"""Real sites of one federation on loopback: homes, keys, ports, peers.yaml, and their processes, watched line by line.

Nothing here sleeps: a test waits for a line, an event or an end, each with an overall time-out, and fails with all that
the process said.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks._links import Place, loopback
from p2pfl.cli.peers.create import task_lines
from p2pfl.federation import draft
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.ledger.verify import verify
from p2pfl.roster import Address, Member
from tests.end_to_end.site import GATE
from tests.ports import free_ports

PATIENCE_S: Final = 300.0  # a hang, not a speed: a machine that ten others share starts five sites in a minute
NAMES: Final = ("ada", "ben", "cyd", "dot", "eve", "fay", "gus")
ROOT: Final = Path(__file__).parents[2]
# site.py as where the compiled loops were not built: their module is not found.
NOT_BUILT: Final = (
    "import sys; sys.modules['p2pfl.sharing._kernel'] = None; from tests.end_to_end.site import main; sys.exit(main())"
)
ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}


@dataclass
class Ended:
    """How a process ended: exit status (negative: the signal), its stdout and stderr, line by line."""

    status: int
    out: list[str]
    said: list[str]

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON object of the last line of stdout."""
        found = json.loads(self.out[-1])
        assert isinstance(found, dict)
        return found

    @property
    def text(self) -> str:
        return "\n".join(self.said)


def _holds(value: object, fact: object) -> bool:
    return bool(fact(value)) if callable(fact) else value == fact


def of(*names: str) -> Callable[[Iterable[str]], bool]:
    """A fact that names all of these: what is said before all are seen to be away is passed over."""
    return lambda found: set(names) <= set(found)


class Process:
    """One process; its stderr is read as it comes. `events` are those of its lines that are JSON (see site.py)."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None,
        ended: Callable[[Process], None],
    ) -> None:
        self.name = name
        self._ended = ended
        self.said: list[str] = []
        self.out: list[str] = []
        self._news = threading.Condition()
        self._read = 0
        self._open = 2
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT, **(environment or {})},
            start_new_session=True,
            cwd=ROOT,
        )
        for stream, into in ((self.process.stdout, self.out), (self.process.stderr, self.said)):
            threading.Thread(target=self._collect, args=(stream, into), daemon=True).start()

    def _collect(self, stream: Any, into: list[str]) -> None:
        for line in stream:
            with self._news:
                into.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._open -= 1
            last = not self._open
            self._news.notify_all()
        if last:
            self._ended(self)

    def line(self, what: str | Callable[[str], bool], seconds: float = PATIENCE_S) -> str:
        """The next line of stderr that contains `what`, or for which it is true; lines before it are passed over."""
        fits = what if callable(what) else (lambda line: what in line)
        until = time.monotonic() + seconds
        with self._news:
            while True:
                while self._read < len(self.said):
                    self._read += 1
                    if fits(self.said[self._read - 1]):
                        return self.said[self._read - 1]
                left = until - time.monotonic()
                if left <= 0 or not self._open:
                    raise AssertionError(f"{self.name} never said {what!r}; status {self.process.poll()}\n{self.tail}")
                self._news.wait(left)

    def result(self, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """The JSON object of the first line of stdout, once it is there; stderr may be read before it."""
        until = time.monotonic() + seconds
        with self._news:
            while not self.out:
                left = until - time.monotonic()
                if left <= 0 or not self._open:
                    raise AssertionError(f"{self.name} told no result; status {self.process.poll()}\n{self.tail}")
                self._news.wait(left)
            found = json.loads(self.out[0])
        assert isinstance(found, dict)
        return found

    def event(self, kind: str, seconds: float = PATIENCE_S, **facts: object) -> dict[str, Any]:
        """The next event of `kind` with these facts, of a process of site.py; a fact may be a predicate."""
        found: dict[str, Any] = {}

        def fits(line: str) -> bool:
            nonlocal found
            found = json.loads(line) if line.startswith('{"event"') else {}
            return found.get("event") == kind and all(_holds(found.get(key), fact) for key, fact in facts.items())

        self.line(fits, seconds)
        return found

    def linked(self, *peers: str) -> None:
        """Wait until it has told of a link to each of these, in whichever order they came up."""
        missing = set(peers)

        def last(peer: str) -> bool:
            missing.discard(peer)
            return not missing

        self.event("link_up", peer=last)

    def pass_over(self) -> None:
        """What it has said until now is passed over."""
        with self._news:
            self._read = len(self.said)

    def end(self, seconds: float = PATIENCE_S) -> Ended:
        """Wait until it has ended by itself."""
        until = time.monotonic() + seconds
        with self._news:
            while self._open:
                left = until - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"{self.name} has not ended\n{self.tail}")
                self._news.wait(left)
        return Ended(self.process.wait(PATIENCE_S), self.out, self.said)

    def given(self) -> Any:
        """What its next order gave. That is final here; others may lack the round until this process is killed."""
        return self.event("given")["given"]

    @property
    def tail(self) -> str:
        """The last lines that it said, for a failure's text."""
        return "\n".join(f"  {self.name}: {line}" for line in [*self.said[-25:], *self.out[-3:]])

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.running:
            self.process.send_signal(number)

    def stopped(self) -> None:
        """Wait until it has stopped itself (SIGSTOP): it may still run when what it told before has been read."""
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert self.running, self.tail

    def wake(self) -> None:
        """Let it go on, once it has stopped itself: a SIGCONT that came before the stop would wake nobody."""
        self.stopped()
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)


@dataclass(frozen=True)
class Site:
    """One site's own files, and where it runs: on loopback, unless `place` is another network namespace."""

    name: str
    folder: Path
    port: int
    place: Place

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def key(self) -> Path:
        return self.folder / "site.key"

    @property
    def records(self) -> Path:
        return self.folder / "records.csv"

    @property
    def card(self) -> Path:
        return self.home / f"{self.name}.card"

    def shut(self, at: int) -> dict[str, int]:
        """For an order to train: it waits before its pass `at` until `open` is called."""
        self._gate()
        return {"train": 1, "gate": at}

    def open(self) -> None:
        """Wait until the site stands at its gate, and let it through."""
        with (self.folder / GATE).open("wb"):
            pass

    def create(self, port: int, hosts: Sequence[str]) -> Member:
        """Its home, with a card that lists it at this port of these hosts."""
        self.folder.mkdir(mode=0o700, parents=True)
        with Home.create(self.home, self.name, [KeyFile(self.key)]) as made:
            card = Card.sign(made.identity(), self.name, [Address(host, port) for host in hosts])
            made.publish_card(card.to_bytes())
        return card.member

    def hold(self) -> dict[str, int]:
        """An order to wait until `open` is called; each call of `open` ends one such wait."""
        self._gate()
        return {"hold": 1}

    def _gate(self) -> None:
        if not (self.folder / GATE).exists():
            os.mkfifo(self.folder / GATE)

    def opened(self) -> Home:
        """Its home, read beside whoever works in it."""
        return Home.open(self.home, unlock=[KeyFile(self.key)], write=False)


@dataclass
class Sites:
    """The sites of one federation and the processes that were started for them."""

    place: Path
    sites: dict[str, Site]
    started: list[Process] = field(default_factory=list)
    ends: queue.SimpleQueue[Process] = field(default_factory=queue.SimpleQueue)  # every process, when it has ended

    @property
    def peers(self) -> Path:
        return self.place / "peers.yaml"

    @property
    def names(self) -> list[str]:
        return list(self.sites)

    def __getitem__(self, name: str) -> Site:
        return self.sites[name]

    def newcomer(self, name: str) -> Site:
        """A site with a home and a card that is in no peers.yaml yet."""
        site = self.sites[name] = Site(name, self.place / name, free_ports(1)[0], loopback(1)[0])
        site.create(site.port, [site.place.address])
        return site

    def run(self, name: str, arguments: Sequence[object], environment: Mapping[str, str] | None = None) -> Process:
        """`python` with arguments, as the process of `name`."""
        command = [*self[name].place.prefix, sys.executable, *(str(one) for one in arguments)]
        process = Process(name, command, environment, self.ends.put)
        self.started.append(process)
        return process

    def p2pfl(self, name: str, verb: str, *arguments: object) -> Process:
        """`p2pfl VERB --peers … --home …` of a site."""
        site = self[name]
        return self.run(name, ["-m", "p2pfl", verb, "--peers", self.peers, "--home", site.home, *arguments])

    def sum(self, name: str, value: object, *arguments: object) -> Process:
        """`p2pfl sum --value …`."""
        return self.p2pfl(name, "sum", "--value", value, "--stat", "sum", "--json", *arguments)

    def join(self, name: str, *arguments: object) -> Process:
        """`p2pfl join --data …`."""
        return self.p2pfl(name, "join", "--data", self[name].records, "--json", *arguments)

    def dying(self, name: str, at: Sequence[object], number: signal.Signals = signal.SIGKILL) -> Process:
        """`join` of a site that gets this signal at a step on its disk (dying.py)."""
        site, plan = self[name], json.dumps({"die": {"at": at}, "signal": number.name})
        words = ["join", "--peers", self.peers, "--home", site.home, "--data", site.records, "--json"]
        return self.run(name, ["-m", "tests.end_to_end.dying", plan, *words])

    def site(self, name: str, do: Sequence[Mapping[str, Any]], **plan: Any) -> Process:
        """A process of site.py: the Python API, with every event told. `numpy`: without the compiled loops."""
        site = self[name]
        facts = {
            "peers": str(self.peers),
            "home": str(site.home),
            "key": str(site.key),
            "name": name,
            "folder": str(site.folder),
            "index": self.names.index(name),
            "do": list(do),
            **plan,
        }
        program = ["-c", NOT_BUILT] if plan.get("numpy") else ["-m", "tests.end_to_end.site"]
        return self.run(name, [*program, json.dumps(facts)])

    def linked(
        self,
        do: Callable[[str], Sequence[Mapping[str, Any]]],
        plans: Mapping[str, Mapping[str, Any]] | None = None,
        **plan: Any,
    ) -> dict[str, Process]:
        """A process of site.py for every site, which begins with its orders once each is linked with all others.

        Four and more wait only some seconds for a site without a link: one that starts late is in no first round.
        plans   what only these sites' plans hold
        """
        running = {
            name: self.site(name, [self[name].hold(), *do(name)], **plan, **(plans or {}).get(name, {}))
            for name in self.names
        }
        for name, process in running.items():
            try:
                process.linked(*(running.keys() - {name}))
            except AssertionError as error:
                tails = "\n".join(one.tail for one in running.values() if one is not process)
                raise AssertionError(f"{error}\nand of the others:\n{tails}") from None
        for name, process in running.items():
            self[name].open()
            process.event("let_through")
        return running

    def next_end(self) -> Process:
        """The next process that has ended, in the order in which they end."""
        try:
            return self.ends.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError("none has ended\n" + "\n".join(one.tail for one in self.started)) from None

    def roots(self) -> set[str]:
        """The federation log's root at every site, each log verified."""
        return {self.verified(name).federation.root.hex() for name in self.names}

    def verified(self, name: str) -> Any:
        """The verifier's report of one home; fails with its findings."""
        with self[name].opened() as home:
            report = verify(home)
        assert report.verified, f"{name}: {report}"
        return report

    def close(self) -> None:
        for process in self.started:
            process.signal(signal.SIGCONT)
            process.kill()


@contextmanager
def federation(
    place: Path,
    count: int = 3,
    overrides: Sequence[str] = (),
    doors: Callable[[str, int], int] = lambda name, port: port,
    outbound: Sequence[str] = (),
    places: Sequence[Place] = (),
    addresses: Callable[[Site], Sequence[str]] = lambda site: [site.place.address],
    task: str | None = None,
) -> Iterator[Sites]:
    """`count` sites with homes, keys and one peers.yaml; at the end every process is gone.

    doors      the port under which a site is listed, from its name and own port: a proxy's, for instance
    outbound   sites that have no port, and only dial out
    places     where each site runs, if not on this machine's loopback
    addresses  the hosts under which a site is listed
    task       as `peers create --task`
    """
    sites, members = {}, []
    where = places or loopback(count)
    for name, port, at in zip(NAMES[:count], free_ports(count), where, strict=True):
        site = sites[name] = Site(name, place / name, port, at)
        members.append(site.create(doors(name, port), [] if name in outbound else addresses(site)))
    (place / "peers.yaml").write_bytes(draft.peers_file("test", members, task_lines(task), list(overrides)))
    found = Sites(place, sites)
    try:
        yield found
    finally:
        found.close()
