"""Who watches a running site: a person at a terminal, lines of JSON, metrics on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from p2pfl._version import __version__
from p2pfl.cli import output
from p2pfl.errors import EXIT_DONE, P2PFLError
from p2pfl.federation import Federation
from p2pfl.node.progress import Observer, PassCharged, PassRepeated, PassStepped, Progress

if TYPE_CHECKING:
    from p2pfl.cli.json_log import JsonLog
    from p2pfl.cli.live.site import SiteView
    from p2pfl.cli.metrics import Metrics
    from p2pfl.peer import Peer

Callback = Callable[..., Any]
LOOK_S: Final = 0.25  # seconds between looks at links and round, and between two steps that are told

plain_option = click.option("--plain", is_flag=True, help="Lines as they come, also where stderr is a terminal.")


class Monitor:
    """What the command line asked for; `running` opens it, `serving` ties it to the peer."""

    def __init__(
        self, log: str | None, level: str, size: int, keep: int, metrics: str | None, plain: bool = True
    ) -> None:
        self._log, self._level, self._size, self._keep, self._place = log, level, size, keep, metrics
        self._plain = plain or log == "-"
        self._json_log: JsonLog | None = None
        self._metrics: Metrics | None = None
        self._view: SiteView | None = None
        self._status = EXIT_DONE
        self._round, self._stepped = 0, 0.0  # of the pass under way; when a step of it was told

    @contextmanager
    def running(self, federation: Federation, command: str) -> Iterator[None]:
        """Keep log and live view open for the block; the log says its begin and end.

        Raises LogNotWritable, MetricsNotLocal.
        """
        with self._shown(federation, command), self._logged(federation, command):
            yield

    @contextmanager
    def _shown(self, federation: Federation, command: str) -> Iterator[None]:
        """The live view stands at the foot of the terminal, if stderr is one that can have it."""
        if self._plain or not sys.stderr.isatty():
            yield
            return
        from p2pfl.cli.live.screen import shown
        from p2pfl.cli.live.site import SiteView

        self._view = SiteView(federation, command)
        with shown(self._view, plain=False):
            yield

    @contextmanager
    def _logged(self, federation: Federation, command: str) -> Iterator[None]:
        from p2pfl.cli.json_log import JsonLog
        from p2pfl.cli.stopping import hanging_up

        if self._place is not None:
            from p2pfl.cli.metrics import Metrics, place_of

            place_of(self._place)
            self._metrics = Metrics(federation)
        if self._log is None:
            yield
            return
        self._json_log = json_log = JsonLog(self._log, self._level, self._size, self._keep)
        facts = {"version": __version__, "federation": federation.name, "epoch": federation.roster.epoch}
        json_log.note("info", "started", command=command, federation_digest=federation.digest.hex(), **facts)
        try:
            with hanging_up(self.hang_up):
                yield
        except P2PFLError as error:
            json_log.note("error", "ended", status=error.exit_status, code=error.code)  # its text may name a file
            raise
        except (KeyboardInterrupt, click.Abort):
            json_log.note("info", "ended", status=130, code="interrupted")
            raise
        except Exception as error:
            json_log.note("error", "ended", status=1, code=type(error).__name__)
            raise
        else:
            code = "done" if self._status == EXIT_DONE else "not ready"
            json_log.note("info", "ended", status=self._status, code=code)
        finally:
            json_log.close()

    def ends_with(self, status: int) -> None:
        """The exit status of a command that says how it went by that, and raises no error."""
        self._status = status

    @property
    def tell(self) -> Callable[[str], None]:
        """Prints lines for people; drops them where lines of JSON have stderr."""
        return (lambda line: None) if self._log == "-" else output.progress

    def observing(self, watch: Observer) -> Observer:
        """`watch`, the live view, the log and the metrics as one observer."""
        observers = [one for one in (watch, self._view, self._json_log, self._metrics) if one is not None]

        def observe(event: Progress) -> None:
            if isinstance(event, PassCharged | PassRepeated):
                self._round = event.round
            for one in observers:
                one(event)

        return observe

    def step(self, step: int, steps: int) -> None:
        """A step of the pass is done: told where somebody looks, some of them and the last."""
        now = time.monotonic()
        if step < steps and now - self._stepped < LOOK_S:
            return
        self._stepped = now
        for one in (self._view, self._json_log):
            if one is not None:
                one(PassStepped(self._round, step, steps))

    @asynccontextmanager
    async def looking(self, peer: Peer) -> AsyncIterator[None]:
        """The live view is told what the links and the round are while the block runs."""
        if (view := self._view) is None:
            yield
            return
        view.name = peer.name
        task = asyncio.create_task(_look(view, peer))
        try:
            yield
        finally:
            task.cancel()

    @property
    def hang_up(self) -> Callable[[], None] | None:
        """What SIGHUP does: the log is opened anew, where there is a file of it."""
        return self._json_log.reopen if self._json_log is not None and self._log != "-" else None

    @asynccontextmanager
    async def serving(self, peer: Peer) -> AsyncIterator[None]:
        """Serve the metrics while the block runs. Raises MetricsPortBusy, MetricsLibraryMissing."""
        if self._json_log is not None:
            self._json_log.site = peer.name
        async with contextlib.AsyncExitStack() as held:
            if self._metrics is not None and self._place is not None:
                from p2pfl.cli.metrics import place_of

                place = place_of(self._place)
                await held.enter_async_context(self._metrics.serving(place, peer))
                self.tell(f"metrics at http://{place}/metrics")
            yield


async def _look(view: SiteView, peer: Peer) -> None:
    while True:
        with contextlib.suppress(RuntimeError):  # a worker thread was changing what is looked at
            view.look(peer.links(), peer.moment())
        await asyncio.sleep(LOOK_S)


def monitor_options(command: Callback) -> Callback:
    """--plain, --log and what belongs to it, and --metrics; the command gets `monitor`."""

    @plain_option
    @click.option("--log", metavar="FILE|-", help="Write what happens to FILE as lines of JSON; - puts them on stderr.")
    @click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="The least that --log writes.",
    )
    @click.option(
        "--log-size",
        type=click.IntRange(0),
        default=10_000_000,
        show_default=True,
        metavar="BYTES",
        help="Begin a new file above it; 0 leaves that to logrotate.",
    )
    @click.option(
        "--log-keep",
        type=click.IntRange(1, 1000),
        default=5,
        show_default=True,
        metavar="FILES",
        help="How many older files are kept.",
    )
    @click.option("--metrics", metavar="[HOST:]PORT", help="Show metrics for Prometheus there, on loopback alone.")
    @functools.wraps(command)
    def watched(
        *, log: str | None, log_level: str, log_size: int, log_keep: int, metrics: str | None, plain: bool, **rest: Any
    ) -> Any:
        return command(monitor=Monitor(log, log_level, log_size, log_keep, metrics, plain), **rest)

    return watched
