"""Names that nobody answers for keep neither the process's own steps waiting nor, for long, other names."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from p2pfl.errors.mesh import NameUnresolved
from p2pfl.mesh import Limits
from p2pfl.mesh.connect import Connector
from p2pfl.mesh.names import MOST_THREADS, NameService
from p2pfl.roster import Address
from tests.mesh.sites import OVERALL_S

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 7))]


class Service:
    """A name service: of `dead` names it says nothing until `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked: Counter[str] = Counter()
        self.fails: set[str] = set()
        self._lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    def look_up(self, host: str, port: int, **of: int) -> list[tuple[object, ...]]:
        with self._lock:
            self.asked[host] += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        if host.startswith("dead"):
            self.open.wait(OVERALL_S)
        with self._lock:
            self.at_once -= 1
        if host.startswith("no") or host in self.fails:
            raise socket.gaierror(-2, "Name or service not known")
        return list(FOUND)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service()
    monkeypatch.setattr("p2pfl.mesh.names.socket.getaddrinfo", made.look_up)
    yield made
    made.open.set()
    for thread in threading.enumerate():
        if thread.name == "names":
            thread.join(OVERALL_S)  # it ends when nothing is left to look up


def test_names_that_nobody_answers_for_take_no_thread_of_the_processs_own_steps(service: Service) -> None:
    async def scene() -> None:
        connector = Connector(Limits(resolve_s=0.01))
        for _ in range(3):  # a dialer tries again and again
            for k in range(MOST_THREADS + 4):
                with pytest.raises(NameUnresolved):
                    await connector.connect("bob", Address(f"dead{k}.example", 7443))
        async with asyncio.timeout(OVERALL_S):
            await asyncio.gather(*(asyncio.to_thread(lambda: None) for _ in range(64)))
        assert service.most_at_once <= MOST_THREADS
        assert max(service.asked.values()) == 1, "a lookup that is under way is not begun again"

    asyncio.run(scene())


def test_who_asks_later_joins_the_lookup_and_gets_its_answer(service: Service) -> None:
    async def scene() -> None:
        names = NameService()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await names.resolve("dead.example", 7)
        later = asyncio.ensure_future(names.resolve("dead.example", 7))
        await asyncio.sleep(0)
        service.open.set()
        assert await later == FOUND
        assert service.asked == {"dead.example": 1}
        assert await names.resolve("dead.example", 7) == FOUND
        assert service.asked == {"dead.example": 2}, "an answer is not kept: names move"

    asyncio.run(scene())


def test_a_refusal_of_the_name_service_reaches_all_who_asked(service: Service) -> None:
    async def scene() -> None:
        names = NameService()
        both = await asyncio.gather(*(names.resolve("no.example", 7) for _ in range(2)), return_exceptions=True)
        assert [type(one) for one in both] == [socket.gaierror] * 2

    asyncio.run(scene())


def test_an_address_waits_for_no_name() -> None:
    async def scene() -> None:
        names = NameService()
        names._threads = MOST_THREADS  # all of them hang
        for host in ("127.0.0.1", "::1"):
            found = await names.resolve(host, 7)
            assert {one[4][:2] for one in found} == {(host, 7)}

    asyncio.run(scene())


def test_a_lookup_that_fails_when_nobody_waits_any_more_is_told_to_nobody(service: Service) -> None:
    """Each retry of each dialer printed a traceback of it, where the name service was out of reach."""
    told: list[object] = []

    async def scene() -> None:
        loop, names = asyncio.get_running_loop(), NameService()
        loop.set_exception_handler(lambda _, context: told.append(context))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await names.resolve("dead-no.example", 7)
        (under_way,) = names._under_way.values()
        service.fails.add("dead-no.example")
        service.open.set()
        with pytest.raises(socket.gaierror):
            await asyncio.wrap_future(under_way)
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(scene())
    assert told == []


def test_a_thread_that_the_system_does_not_have_is_missed_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(of: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scene() -> None:
        names = NameService()
        with monkeypatch.context() as patched:
            patched.setattr("p2pfl.mesh.names.threading.Thread.start", no_thread)
            for _ in range(MOST_THREADS + 1):
                with pytest.raises(OSError, match=os.strerror(errno.EAGAIN)):
                    await names.resolve("good.example", 7)
        assert await names.resolve("good.example", 7) == FOUND

    asyncio.run(scene())
