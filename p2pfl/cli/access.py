"""How a verb that talks to the other sites opens this one: home, keys, where to listen, how long to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfl.federation import Federation
from p2pfl.keyslots import Key
from p2pfl.progress import Observer

if TYPE_CHECKING:
    from p2pfl.peer import Peer

listen_option = click.option("--listen", metavar="HOST:PORT", help="Where to listen.  [default: this site's first "
                             "address in peers.yaml]")  # fmt: skip

def seconds(text: str) -> float:
    """A number above 0, for click; "nan", which nothing is longer than, is none."""
    value = float(text)
    if not value > 0:
        raise ValueError(text)
    return value


wait_option = click.option("--wait", "wait_s", type=seconds, metavar="SECONDS",
                           help="Give up after so long without any progress.  [default: never]")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Access:
    """What is this site's own business, and in no agreement."""

    home: Path
    keys: Sequence[Key]
    listen: str | None
    wait_s: float | None

    @asynccontextmanager
    async def join(
        self, federation: Federation, observer: Observer, command: str, **options: str | int | bool
    ) -> AsyncIterator[Peer]:
        """The peer, joined; that `command` was run is noted in the site log."""
        from p2pfl.cli.options import listening
        from p2pfl.ledger import entry as entries
        from p2pfl.peer import Peer

        listen = listening(self.listen) if self.listen else None
        async with Peer.join(federation, home=self.home, listen=listen, unlock=self.keys, observer=observer,
                             wait_s=self.wait_s) as peer:  # fmt: skip
            noted = entries.operator(time=peer.books.time, command=command, options=options)
            await asyncio.to_thread(peer.books.note, noted)
            yield peer
