"""Options for machines that watch a running site: lines of JSON, and metrics on loopback."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pfl._version import __version__
from p2pfl.cli import output
from p2pfl.errors import P2PFLError
from p2pfl.federation import Federation
from p2pfl.node.progress import Observer, Progress

if TYPE_CHECKING:
    from p2pfl.cli.json_log import JsonLog
    from p2pfl.cli.metrics import Metrics
    from p2pfl.peer import Peer

F = TypeVar("F", bound=Callable[..., Any])


class Monitor:
    """What the command line asked for; `running` opens it, `serving` ties it to the peer."""

    def __init__(self, log: str | None, level: str, size: int, keep: int, metrics: str | None) -> None:
        self._log, self._level, self._size, self._keep, self._place = log, level, size, keep, metrics
        self._json_log: JsonLog | None = None
        self._metrics: Metrics | None = None

    @contextmanager
    def running(self, federation: Federation, command: str) -> Iterator[None]:
        """Keep the log open for the block, whose begin and end it says. Raises LogNotWritable, MetricsNotLocal."""
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
            json_log.note("info", "ended", status=0, code="done")
        finally:
            json_log.close()

    @property
    def tell(self) -> Callable[[str], None]:
        """Prints lines for people; drops them where lines of JSON have stderr."""
        return (lambda line: None) if self._log == "-" else output.progress

    def observing(self, watch: Observer) -> Observer:
        """`watch`, the log and the metrics as one observer."""
        observers = [one for one in (watch, self._json_log, self._metrics) if one is not None]

        def observe(event: Progress) -> None:
            for one in observers:
                one(event)

        return observe

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


def monitor_options(command: F) -> F:
    """--log and what belongs to it, and --metrics; the command gets `monitor`."""

    @click.option("--log", metavar="FILE|-", help="Write what happens to FILE as lines of JSON; - puts them on stderr.")
    @click.option(
        "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
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
        *, log: str | None, log_level: str, log_size: int, log_keep: int, metrics: str | None, **rest: Any
    ) -> Any:
        return command(monitor=Monitor(log, log_level, log_size, log_keep, metrics), **rest)

    return watched  # type: ignore[return-value]
