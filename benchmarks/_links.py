"""Links of a declared speed between processes of one machine: a network namespace each, a bridge, token buckets.

Every peer has a namespace of its own, with a veth pair into a bridge that lies in one more; both ends of each pair send
through `tc … tbf`, so that what a peer says and what it hears are limited alike. Needs the right to make namespaces
(root, in general), `ip` and `tc`. Unix sockets with a path, and the disk, are common to all namespaces.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "p2pfl-bench"
NETWORK: Final = "10.213.7"
BURST_S: Final = 0.001  # of the declared speed; the least that a kernel of 1000 Hz can serve
LEAST_BURST_BYTES: Final = 128 << 10  # a segment as TCP hands it to a network card fits, and is not cut up here
QUEUE_MS: Final = 50  # what waits longer in front of a link is dropped
BITS: Final = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}


class LinksUnavailable(RuntimeError):
    """This process may not, or cannot, make namespaces and limited links; the text says why."""


@dataclass(frozen=True)
class Place:
    """Where one peer's process runs: what to put before its command, its address, the interface that counts."""

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


@contextlib.contextmanager
def limited(count: int, speed: str) -> Iterator[list[Place]]:
    """`count` places whose links carry `speed` up and `speed` down, until the block is left. Raises LinksUnavailable.

    End the processes in them first: a namespace outlives its name while somebody is in it.
    """
    _sweep()
    tag = f"{PREFIX}-{os.getpid()}"
    hub = f"{tag}-hub"
    names = [f"{tag}-{number}" for number in range(count)]
    shape = _shape(speed)
    try:
        for name in (hub, *names):
            _ip("netns", "add", name)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for number, name in enumerate(names):
            port = f"port{number}"
            _ip("link", "add", "site", "netns", name, "type", "veth", "peer", "name", port, "netns", hub)
            _ip("-n", hub, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "address", "add", f"{NETWORK}.{number + 1}/24", "dev", "site")
            _ip("-n", name, "link", "set", "site", "up")
            _run("tc", "-n", name, "qdisc", "add", "dev", "site", "root", *shape)
            _run("tc", "-n", hub, "qdisc", "add", "dev", port, "root", *shape)
        yield [
            Place(("ip", "netns", "exec", name), f"{NETWORK}.{number + 1}", "site") for number, name in enumerate(names)
        ]
    finally:
        for name in (*names, hub):
            _delete(name)


def _shape(speed: str) -> tuple[str, ...]:
    burst = max(int(bits_per_s(speed) / 8 * BURST_S), LEAST_BURST_BYTES)
    return "tbf", "rate", speed, "burst", str(burst), "latency", f"{QUEUE_MS}ms"


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
