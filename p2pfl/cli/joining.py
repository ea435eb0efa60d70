"""How a verb that talks to the other sites opens its own: home, keys, port, proxy, patience."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from p2pfl.cli import output
from p2pfl.cli.monitor import Monitor
from p2pfl.cli.options import Between
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation
from p2pfl.home.keyslots import KeySource
from p2pfl.node.progress import EpochBegan, Observer

if TYPE_CHECKING:
    from p2pfl.mesh.proxy import Proxy
    from p2pfl.peer import Peer

Callback = Callable[..., Any]
NO_MONITOR: Final = Monitor(None, "info", 0, 1, None)

listen_option = click.option(
    "--listen", metavar="HOST:PORT", help="Where to listen.  [default: this site's first address in peers.yaml]"
)


def seconds(text: str) -> float:
    """A number above 0, for click. "nan" is refused: no wait is longer than it."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise click.BadParameter(f"{text!r} is no number of seconds above 0")
    return value


patience_option = click.option(
    "--patience",
    "patience_s",
    type=Between(1, 3600),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds to wait for absent sites, once a quorum is there.",
)

wait_option = click.option(
    "--wait",
    "wait_s",
    type=seconds,
    metavar="SECONDS",
    help="Give up after this many seconds without progress.  [default: never]",
)


@dataclass(frozen=True, slots=True)
class ProxyChoice:
    """The proxy that the person named, and where its password lies."""

    url: str | None = None
    password: Path | None = None

    def proxy(self) -> Proxy | None:
        """What was named; else what P2PFL_PROXY says, the file's password and NO_PROXY with it. Raises WrongProxy."""
        from p2pfl.mesh.proxy import Proxy, password_from

        secret = password_from(self.password) if self.password else None
        if self.url:
            return Proxy.parse(self.url, secret, argument=True).with_no_proxy(os.environ)
        return Proxy.from_environment(os.environ, secret)


def proxy_options(command: Callback) -> Callback:
    """--proxy and --proxy-password; the command gets `proxy`, a ProxyChoice."""

    @click.option(
        "--proxy",
        "proxy_url",
        metavar="http://HOST:PORT",
        help="The HTTP proxy that this site's connections must pass.  [default: $P2PFL_PROXY, where "
        "http://NAME:PASSWORD@HOST:PORT may stand too]",
    )
    @click.option(
        "--proxy-password",
        "proxy_password",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="A 0600 file with NAME:PASSWORD for the proxy.",
    )
    @functools.wraps(command)
    def chosen(*, proxy_url: str | None, proxy_password: Path | None, **rest: Any) -> Any:
        if proxy_password and not (proxy_url or os.environ.get("P2PFL_PROXY")):
            verb = click.get_current_context().command_path.removeprefix("p2pfl")
            raise WrongUse(evidence="--proxy-password, and neither --proxy nor P2PFL_PROXY names a proxy", verb=verb)
        return command(proxy=ProxyChoice(proxy_url, proxy_password), **rest)

    return chosen


@dataclass(frozen=True, slots=True)
class Access:
    """This site's own settings, which stand in no peers.yaml."""

    home: Path
    keys: Sequence[KeySource]
    listen: str | None
    wait_s: float | None
    proxy: ProxyChoice = ProxyChoice()
    document: Path | None = None  # the business associate agreement that peers.yaml names

    @asynccontextmanager
    async def join(
        self,
        federation: Federation,
        observer: Observer,
        command: str,
        monitor: Monitor = NO_MONITOR,
        **options: str | int | bool,
    ) -> AsyncIterator[Peer]:
        """Join, and note `command` in the site log. Signals end the block as `stopping` says."""
        from p2pfl.cli.options import listening
        from p2pfl.cli.stopping import stoppable
        from p2pfl.ledger.site_kinds import OperatorEntry
        from p2pfl.peer import Peer

        listen = listening(self.listen) if self.listen else None
        joining = Peer.join(
            federation,
            home=self.home,
            listen=listen,
            unlock=self.keys,
            observer=monitor.observing(observer),
            wait_s=self.wait_s,
            proxy=self.proxy.proxy(),
            agreement=self.document,
        )
        async with AsyncExitStack() as around, AsyncExitStack() as within:
            with output.doing("opening the home and its ledger", monitor.tell):
                peer = await within.enter_async_context(joining)
            await around.enter_async_context(monitor.looking(peer))  # until the last round is handed over, too
            if peer.federation.roster.epoch != federation.roster.epoch:  # the file that was named is of an earlier one
                roster = peer.federation.roster
                monitor.observing(observer)(EpochBegan(roster.epoch, roster.names, roster))
            if self.document is not None and federation.agreement is not None:
                options["agreement"] = federation.agreement.hex()
            noted = OperatorEntry(time=peer.logs.time, command=command, options=options)
            await asyncio.to_thread(peer.logs.note, noted)
            async with monitor.serving(peer), stoppable(peer):
                yield peer
            around.enter_context(output.doing("waiting for the others to have the last round", monitor.tell))
