"""Two sites with one way between them: a TCP proxy that a test cuts, slows down and listens to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from p2pfl.mesh import Mesh
from tests.mesh.sites import Sites, Watch, running
from tests.mesh.tcp_proxy import UNLIMITED, Proxy


@dataclass(frozen=True)
class Pair:
    """ada dials bob through `proxy`, and bob cannot dial ada; `at_ada` and `at_bob` hold what came there."""

    ada: Mesh
    bob: Mesh
    at_ada: Watch
    at_bob: Watch
    proxy: Proxy


@contextlib.asynccontextmanager
async def through_a_proxy(budget: Callable[[], int] = lambda: UNLIMITED) -> AsyncIterator[Pair]:
    """Both run while the block does. `budget`: how many bytes the next connection passes before it is cut."""
    sites = Sites("ada", "bob", "cyd")
    proxy = Proxy(sites.addresses["bob"], budget)
    ada = sites.mesh("ada", roster=sites.reached_at("bob", proxy.address))
    bob = sites.mesh("bob", roster=sites.reached_at("ada", None))
    async with proxy.running(), running(ada, bob) as (at_ada, at_bob):
        yield Pair(ada, bob, at_ada, at_bob, proxy)
