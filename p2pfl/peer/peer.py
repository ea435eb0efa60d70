"""Peer: one site of a federation, from Python. `sum` and `mean` need nothing else of the library; `train` brings torch.

    async with Peer.join("peers.yaml", home="…") as peer:
        result = await peer.sum(vector, limit=8.0)
        result.total, result.survivors, result.round

Every site calls the same methods in the same order. The blocking twin is `Peer.join_blocking`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from p2pfl.clocks import SYSTEM
from p2pfl.errors import IntegrityError, LocalFault, LocalProtocolError, P2PFLError, RemoteProtocolError
from p2pfl.errors.membership import NoLongerListed
from p2pfl.errors.round import GaveUpWaiting, PeersFileDiffers, RolledBack
from p2pfl.federation import Federation
from p2pfl.federation.agreement import assent
from p2pfl.home.keyslots import KeyFile, KeySource
from p2pfl.mesh.events import LinkStatus, TlsFacts
from p2pfl.mesh.proxy import Proxy
from p2pfl.mesh.relay import Carried
from p2pfl.node.epochs import enter
from p2pfl.node.link_status import shown
from p2pfl.node.live import LiveView
from p2pfl.node.node import Node
from p2pfl.node.options import NodeOptions
from p2pfl.node.progress import Moment, Observer, Progress, unseen
from p2pfl.node.studies import open_study
from p2pfl.peer.blocking import BlockingPeer, wait_in
from p2pfl.peer.set_back import hear_out
from p2pfl.peer.statistics import Statistics
from p2pfl.peer.training import Trainings
from p2pfl.roster import Address

# Errors after which this site has nothing more to say to the others, or must not. After any other (a question that the
# last round refuses, a budget that is spent) a peer may still lack the last round, and nobody else may be there.
LEFT_AT_ONCE: Final = (
    IntegrityError,
    LocalFault,
    LocalProtocolError,
    RemoteProtocolError,
    GaveUpWaiting,
    NoLongerListed,
    PeersFileDiffers,
)


class Peer(Statistics, Trainings):
    """A site that has joined: its links are up or being dialled. Made by `join`."""

    @classmethod
    @contextlib.asynccontextmanager
    async def join(
        cls,
        peers: str | Path | Federation,
        *,
        home: str | Path | None = None,
        listen: str | Address | None = None,
        unlock: Sequence[KeySource] = (KeyFile(),),
        observer: Observer = unseen,
        wait_s: float | None = None,
        linger_s: float = 60.0,
        proxy: Proxy | None = None,
        agreement: str | Path | None = None,
    ) -> AsyncIterator[Peer]:
        """Open the home, its port and its links; leave cleanly at the end of the block.

        home      default: $P2PFL_HOME, else ~/.p2pfl
        listen    where to bind; default: the first address of this site in peers.yaml, or nowhere without one
        wait_s    seconds without progress after which to give up (GaveUpWaiting); None waits for ever
        linger_s  most seconds to serve sites that lack the last round, at the end of the block; also where it ends with
                  an error that the last round gave, or for want of budget
        proxy     the HTTP proxy that outgoing connections pass; default: $P2PFL_PROXY with $NO_PROXY, else none
        agreement  the business associate agreement as this site holds it; needed at the first start, where peers.yaml
                  names one, since that start signs it
        Raises what opening a home or a port raises: HomeMissing, HomeBusy, KeyDoesNotOpen, PortBusy, OtherFederation, …
        """
        federation = peers if isinstance(peers, Federation) else Federation.load(peers)
        place = Path(home or os.environ.get("P2PFL_HOME") or "~/.p2pfl").expanduser()
        with open_study(place, federation, unlock=list(unlock)) as (opened, begun_with):
            out = proxy or Proxy.from_environment(os.environ)

            live = LiveView(opened, SYSTEM.wall)
            watchers: list[Observer] = [observer, live]

            def seen(event: Progress) -> None:
                for watcher in tuple(watchers):
                    watcher(event)

            def node_of(agreed: Federation) -> Node:
                options = NodeOptions(_listen(agreed, opened.name, listen), wait_s, out)
                return Node(opened, agreed, options, seen, SYSTEM)

            peer = cls(node_of(begun_with), lambda given: node_of(enter(opened, given)), watchers)
            try:
                begun = len(peer.node.logs.federation) > 0  # who joins later has signed the change
                assent(
                    peer.federation.agreement,
                    Path(agreement) if agreement else None,
                    source=peer.federation.source,
                    signed=begun or bool(peer.federation.genesis),
                )
                await peer.node.start()
                async with shown(opened, peer.links, SYSTEM, live):
                    try:
                        yield peer
                    except P2PFLError as error:
                        if not (peer.between or isinstance(error, LEFT_AT_ONCE)):
                            await _serve_before_it_is_told(peer.node, linger_s)
                        raise
                    await peer.forget_answer(peer._given)
                    await peer.node.close(linger_s)
            except RolledBack:
                await hear_out(peer.node, linger_s)
                raise
            finally:
                await asyncio.shield(peer.node.abort())

    @classmethod
    @contextlib.contextmanager
    def join_blocking(cls, peers: str | Path | Federation, **options: Any) -> Iterator[BlockingPeer]:
        """`join` for code that is not async: the same methods, each returning its result. Options as for `join`."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="p2pfl", daemon=True)
        thread.start()
        try:
            joined = cls.join(peers, **options)
            peer = wait_in(loop, joined.__aenter__())
            try:
                yield BlockingPeer(peer, loop)
            except BaseException as error:
                if not wait_in(loop, joined.__aexit__(type(error), error, error.__traceback__)):
                    raise
            else:
                wait_in(loop, joined.__aexit__(None, None, None))
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    @property
    def tls(self) -> TlsFacts | None:
        """What the latest link's TLS session runs on; None before the first link."""
        return self.node.tls

    def links(self) -> dict[str, LinkStatus]:
        """Every link, by peer."""
        return self.node.mesh.links()

    def moment(self) -> Moment:
        """Where this site's latest run stands: phase, round, who is waited for."""
        return self.node.moment()

    def carried(self) -> Carried:
        """What this site has relayed for others."""
        return self.node.mesh.relay_server.carried


async def _serve_before_it_is_told(node: Node, linger_s: float) -> None:
    """Hand the last round over behind an error: whatever ends that, also a signal, this error is what ended the run.

    Raises IntegrityError alone: that this home was set back says more than any other error.
    """
    try:
        await node.close(linger_s)
    except IntegrityError:
        raise
    except (P2PFLError, asyncio.CancelledError):
        pass  # the caller ends the node at once


def _listen(federation: Federation, name: str, listen: str | Address | None) -> Address | None:
    """Where to bind: as asked, else on this site's first own address."""
    if isinstance(listen, Address):
        return listen
    if listen is not None:
        return Address.parse(listen)
    addresses = federation.roster[name].addresses if name in federation.roster else ()
    return addresses[0] if addresses else None
