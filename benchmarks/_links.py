"""Slow, cut or missing links between processes of one machine: a network namespace for each, and a bridge.

Every place is a namespace of its own, with a veth pair into a bridge in one more namespace. Where a speed is declared,
both ends of each pair send through `tc … tbf`, which limits both directions alike. Needs the right to make namespaces
(root, in general), `ip` and `tc`. All places share unix sockets with a path, and the disk.

Everything made here is removed when its block ends. Names carry the maker's process: the next process removes what a
killed one left behind, programs that run in it included.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "p2pfl-net"
NETWORK: Final = "10.213.7"
BURST_S: Final = 0.001  # seconds at the declared speed: the least that a kernel of 1000 Hz can serve
LEAST_BURST_BYTES: Final = 128 << 10  # holds a segment as TCP hands it to a network card, uncut
QUEUE_MS: Final = 50  # longest wait of a packet in front of a link, before it is dropped
BITS: Final = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
NOBODY: Final = "02:00:00:00:00:99"  # no interface here has this address
DOOR: Final = "inet door"
CLOSED_DOOR: Final = (
    f"add table {DOOR}; add chain {DOOR} callers {{ type filter hook input priority 0; policy drop; }}; "
    f"add rule {DOOR} callers ct state established,related accept; add rule {DOOR} callers iif lo accept"
)
# The same by routing alone: no answer leaves a port on which a program may listen, so no connection comes about. A
# place's packets to itself use the table of local addresses, which comes first; its own connections use higher ports.
NO_ANSWERS: Final = ("ipproto", "tcp", "sport", "1-32767", "blackhole", "pref", "100")

_serial = itertools.count()


class LinksUnavailable(RuntimeError):
    """This process may not, or cannot, make namespaces and limited links; the text says why."""


@dataclass(frozen=True)
class Place:
    """Where one peer's process runs: the prefix of its command, its address, the interface whose bytes count."""

    prefix: tuple[str, ...]
    address: str
    interface: str


def bits_per_s(speed: str) -> int:
    """`200mbit` ► 200 000 000. Raises ValueError."""
    for unit, worth in BITS.items():
        if speed.endswith(unit) and speed.removesuffix(unit).isdecimal():
            return int(speed.removesuffix(unit)) * worth
    raise ValueError(f"{speed!r} is not a speed as tc writes it, such as 200mbit")


def loopback(count: int) -> list[Place]:
    """`count` places on this machine as it is."""
    return [Place((), "127.0.0.1", "lo")] * count


class Network:
    """Places on one bridge, by number, and what goes wrong between them. Made by `network`."""

    def __init__(self, tag: str, count: int) -> None:
        self.hub = f"{tag}-hub"
        self._names = [f"{tag}-{number}" for number in range(count)]

    @property
    def places(self) -> list[Place]:
        return [
            Place(("ip", "netns", "exec", name), address_of(number), "site") for number, name in enumerate(self._names)
        ]

    def make(self) -> None:
        """Make namespaces, bridge and pairs. Raises LinksUnavailable; `remove` then removes what was made."""
        for name in (self.hub, *self._names):
            _ip("netns", "add", name)
        _ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.hub, "link", "set", "bridge", "up")
        for number, name in enumerate(self._names):
            port = f"port{number}"
            _ip("link", "add", "site", "netns", name, "type", "veth", "peer", "name", port, "netns", self.hub)
            _ip("-n", self.hub, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "address", "add", f"{address_of(number)}/24", "dev", "site")
            _ip("-n", name, "link", "set", "site", "up")

    def remove(self) -> None:
        """Remove everything, whether or not it was made; never raises."""
        for name in (*self._names, self.hub):
            _delete(name)

    def limit(self, number: int, speed: str) -> None:
        """Limit the link of this place to `speed` in each direction."""
        burst = max(int(bits_per_s(speed) / 8 * BURST_S), LEAST_BURST_BYTES)
        shape = ("root", "tbf", "rate", speed, "burst", str(burst), "latency", f"{QUEUE_MS}ms")
        _run("tc", "-n", self._names[number], "qdisc", "replace", "dev", "site", *shape)
        _run("tc", "-n", self.hub, "qdisc", "replace", "dev", f"port{number}", *shape)

    def cut(self, number: int) -> None:
        """Drop every packet from and to this place; neither end is told."""
        _ip("-n", self.hub, "link", "set", f"port{number}", "nomaster")

    def mend(self, number: int) -> None:
        """Undo `cut`."""
        _ip("-n", self.hub, "link", "set", f"port{number}", "master", "bridge")

    def deafen(self, number: int, to: int) -> None:
        """Misdirect the packets of `to` to this place; those of this place to `to` still arrive."""
        _ip(
            "-n",
            self._names[to],
            "neighbour",
            "replace",
            address_of(number),
            "lladdr",
            NOBODY,
            "dev",
            "site",
            "nud",
            "permanent",
        )

    def hear(self, number: int, to: int) -> None:
        """Undo `deafen`."""
        _ip("-n", self._names[to], "neighbour", "delete", address_of(number), "dev", "site")

    def keep_apart(self, *numbers: int, apart: bool = True) -> None:
        """These places reach all others, and not one another; `apart` False: they do again."""
        for number in numbers:
            _ip(
                "-n",
                self.hub,
                "link",
                "set",
                f"port{number}",
                "type",
                "bridge_slave",
                "isolated",
                "on" if apart else "off",
            )

    def refuse_callers(self, number: int) -> None:
        """The firewall of this place lets no connection in, only answers to its own. Raises LinksUnavailable.

        Where there are no nftables, its routes do, as far as TCP can tell.
        """
        try:
            self.close_door(number)
        except LinksUnavailable:
            self.answer_nobody(number)

    def close_door(self, number: int) -> None:
        """What belongs to no connection of this place's own is dropped, by nftables. Raises LinksUnavailable."""
        _run(*self.places[number].prefix, "nft", CLOSED_DOOR)

    def answer_nobody(self, number: int) -> None:
        """No TCP answer leaves this place, by a rule of its routing. Raises LinksUnavailable."""
        _ip("-n", self._names[number], "rule", "add", *NO_ANSWERS)

    def swallow_large(self, number: int, most: int) -> None:
        """IP packets of more than `most` bytes are lost on the way to and from this place, and nobody is told."""
        for name in self._names:  # each packet leaves as it is sent, not many as one
            _ip("-n", name, "link", "set", "dev", "site", "gso_max_segs", "1")
        _ip("-n", self.hub, "link", "set", f"port{number}", "mtu", str(most))

    def move(self, number: int, address: str) -> None:
        """This place has another address from now on, and its old one no longer."""
        name = self._names[number]
        _ip("-n", name, "address", "flush", "dev", "site")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "site")


def address_of(number: int) -> str:
    """The address with which a place begins."""
    return f"{NETWORK}.{number + 1}"


@contextlib.contextmanager
def network(count: int) -> Iterator[Network]:
    """`count` places on one bridge, until the block is left. Raises LinksUnavailable.

    End the processes in them first: a namespace outlives its name while somebody is in it.
    """
    _sweep()
    made = Network(f"{PREFIX}-{os.getpid()}-{next(_serial)}", count)
    try:
        made.make()
        yield made
    finally:
        made.remove()


@contextlib.contextmanager
def limited(count: int, speed: str) -> Iterator[list[Place]]:
    """`count` places whose links carry `speed` each way, until the block is left. Raises LinksUnavailable."""
    with network(count) as made:
        for number in range(count):
            made.limit(number, speed)
        yield made.places


def _sweep() -> None:
    """Remove what a process that was killed left behind."""
    try:
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return
    for line in listed.splitlines():
        name = line.split(maxsplit=1)[0]
        owner = name.removeprefix(f"{PREFIX}-").partition("-")[0]
        if name.startswith(f"{PREFIX}-") and owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            for pid in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
                with contextlib.suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
            _delete(name)


def _delete(name: str) -> None:
    with contextlib.suppress(OSError):
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise LinksUnavailable(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise LinksUnavailable(f"`{' '.join(command)}` says: {said[-1]}")
