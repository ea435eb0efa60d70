"""Three sites in this one process, each with a home, a port and a loop of its own thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from p2pfl.federation import draft
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.peer import Peer
from p2pfl.peer.blocking import BlockingPeer
from p2pfl.roster import Address
from tests.ports import free_ports

NAMES = ("ada", "ben", "cyd")
DEADLINE_S = 600  # a hang, not a speed
T = TypeVar("T")


class Sites:
    """Homes and peers.yaml in `folder`."""

    def __init__(self, folder: Path, task: draft.TaskLines, *settings: str) -> None:
        self.folder, members = folder, []
        for name, port in zip(NAMES, free_ports(3), strict=True):
            with Home.create(folder / name, name, [KeyFile(folder / f"{name}.key")]) as home:
                members.append(Card.sign(home.identity(), name, [Address("127.0.0.1", port)]).member)
        (folder / "peers.yaml").write_bytes(draft.peers_file("trial", members, task, settings))

    def options(self, name: str) -> dict[str, Any]:
        return {"home": self.folder / name, "unlock": [KeyFile(self.folder / f"{name}.key")], "linger_s": 10.0}

    @contextmanager
    def joined(self, name: str) -> Iterator[BlockingPeer]:
        with Peer.join_blocking(self.folder / "peers.yaml", **self.options(name)) as peer:
            yield peer

    def all(self, do: Mapping[str, Callable[[BlockingPeer], T]]) -> dict[str, T | BaseException]:
        """What each site's call gave or raised, all at the same time."""

        def one(name: str) -> T | BaseException:
            try:
                with self.joined(name) as peer:
                    return do[name](peer)
            except Exception as error:
                return error

        with ThreadPoolExecutor(len(NAMES)) as threads:
            begun = {name: threads.submit(one, name) for name in do}
            return {name: future.result(DEADLINE_S) for name, future in begun.items()}
