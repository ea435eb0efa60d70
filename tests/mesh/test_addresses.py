"""A site with several addresses, or with a changed one, or behind a connection that died unseen: the link heals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from p2pfl.errors.mesh import AddressUnusable, HandshakeCut
from p2pfl.mesh import LinkClosed
from p2pfl.mesh.admission import Route
from p2pfl.mesh.certificates import Contexts
from p2pfl.mesh.connect import FirstAnswer
from p2pfl.mesh.listener import bind
from p2pfl.mesh.relay_client import RelayTicket, redeem
from p2pfl.roster import Address, Roster
from tests.mesh.sites import QUICK, Sites, free_address, running
from tests.mesh.tcp_proxy import Proxy
from tests.mesh.test_relay import path_of


def listed_at(sites: Sites, name: str, *addresses: Address) -> Roster:
    """The roster in which `name` lists these addresses, and nobody else any."""
    return Roster(
        1, tuple(replace(member, addresses=addresses if member.name == name else ()) for member in sites.roster.members)
    )


@contextlib.contextmanager
def deaf() -> Iterator[Address]:
    """An address that answers nothing, as behind a firewall that drops: its queue of callers is full."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            caller = held.enter_context(socket.socket())
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(listener.getsockname())
        yield Address(*listener.getsockname())


def test_a_dead_address_in_front_is_passed_over_while_it_is_still_being_tried() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        with deaf() as dead:
            patient = replace(QUICK, connect_s=1000.0)
            roster = listed_at(sites, "bob", dead, free_address(), sites.addresses["bob"])
            ada = sites.mesh("ada", roster=roster, limits=patient, listens=False)
            async with running(ada, sites.mesh("bob", roster=roster)) as (one, _):
                await one.up("bob")
                assert path_of(ada, "bob") == f"direct {sites.addresses['bob']}"

    asyncio.run(scene())


def test_an_address_at_which_another_site_answers_is_told_and_the_next_one_is_taken() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        roster = listed_at(sites, "bob", sites.addresses["cyd"], sites.addresses["bob"])
        meshes = [sites.mesh(name, roster=roster, listens=name != "ada") for name in ("ada", "bob", "cyd")]
        async with running(*meshes) as (one, _, _):
            await one.refusal("P2P-MESH-005")
            await one.up("bob")

    asyncio.run(scene())


def test_after_a_cut_the_addresses_are_tried_from_the_first_again() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        best, other = Proxy(sites.addresses["bob"]), Proxy(sites.addresses["bob"])
        roster = listed_at(sites, "bob", best.address, other.address)
        ada = sites.mesh("ada", roster=roster, listens=False)
        async with other.running(), running(ada, sites.mesh("bob", roster=roster)) as (one, two):
            await one.up("bob")
            assert path_of(ada, "bob") == f"direct {other.address}"
            async with best.running():
                other.cut()
                await one.linked("bob", 2)
                assert path_of(ada, "bob") == f"direct {best.address}"
                await ada.send("bob", b"on")
                assert await two.payloads("ada", 1) == [b"on"]
            await one.linked("bob", 3)
            assert path_of(ada, "bob") == f"direct {other.address}"

    asyncio.run(scene())


def test_a_site_whose_address_has_changed_heals_its_links_by_dialling_out() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        outdated = sites.reached_at("bob", free_address())  # in every site's file, its own too
        async with running(sites.mesh("ada", roster=outdated), sites.mesh("bob", roster=outdated)) as (one, two):
            await one.mesh.send("bob", b"hello at your new address")
            assert await two.payloads("ada", 1) == [b"hello at your new address"]

    asyncio.run(scene())


def test_a_silent_connection_is_replaced_without_loss_or_doubling() -> None:
    """Nothing passes on it any more, and that is noticed."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        proxy = Proxy(sites.addresses["bob"])
        hasty = replace(QUICK, silence_s=3.0, heartbeat_s=0.2)  # once: this process may stand still for a second
        ada = sites.mesh("ada", roster=sites.reached_at("bob", proxy.address), limits=hasty)
        bob = sites.mesh("bob", roster=sites.reached_at("ada", None), limits=hasty)
        async with proxy.running(), running(ada, bob) as (one, two):
            await one.up("bob")
            await two.up("ada")
            proxy.freeze()
            await asyncio.gather(ada.send("bob", b"into the void"), bob.send("ada", b"and back"))
            assert await two.payloads("ada", 1) == [b"into the void"]
            assert await one.payloads("bob", 1) == [b"and back"]
            for watch in (one, two):
                (down,) = [event for event in watch.seen if isinstance(event, LinkClosed)]
                assert "nothing arrived" in down.reason or "newer" in down.reason or "cut" in down.reason

    asyncio.run(scene())


def test_a_connection_that_died_at_one_end_alone_is_probed_when_that_end_dials_anew() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        proxy = Proxy(sites.addresses["ada"])
        probing = replace(QUICK, probe_s=0.2)
        ada = sites.mesh("ada", roster=sites.reached_at("bob", None), limits=probing)
        bob = sites.mesh("bob", roster=sites.reached_at("ada", proxy.address), listens=False, limits=probing)
        async with proxy.running(), running(ada, bob) as (one, two):
            await one.up("bob")
            await two.up("ada")
            proxy.forget_callers()
            await two.linked("ada", 2)
            await bob.send("ada", b"here again")
            assert await one.payloads("bob", 1) == [b"here again"]
            assert any(isinstance(event, LinkClosed) and "dialled anew" in event.reason for event in one.seen)

    asyncio.run(scene())


def without(family: int, error: int) -> Callable[..., socket.socket]:
    """Makes sockets, but none of that family."""
    made = socket.socket

    def make(of: int = socket.AF_INET, *rest: int, **more: int) -> socket.socket:
        if of == family:
            raise OSError(error, "no such socket")
        return made(of, *rest, **more)

    return make


@pytest.mark.parametrize("error", [errno.EAFNOSUPPORT, errno.EMFILE])
def test_an_address_for_which_this_system_has_no_socket_is_one_that_does_not_answer(
    error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system without IPv6, or without a descriptor left: the next address is taken, and the process goes on."""

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        roster = listed_at(sites, "bob", Address("::1", 9), sites.addresses["bob"])
        ada = sites.mesh("ada", roster=roster, listens=False)
        bob = sites.mesh("bob", roster=roster)
        monkeypatch.setattr("p2pfl.mesh.connect.socket.socket", without(socket.AF_INET6, error))
        async with running(ada, bob) as (one, _):
            await one.up("bob")

    asyncio.run(scene())


def test_to_listen_where_this_system_has_no_socket_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.mesh.listener.socket.socket", without(socket.AF_INET6, errno.EAFNOSUPPORT))
    with pytest.raises(AddressUnusable):
        bind(Address("::1", 9))


def test_a_site_whose_new_certificate_finds_no_descriptor_dials_again() -> None:
    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        roster = listed_at(sites, "bob", sites.addresses["bob"])
        ada, bob = sites.mesh("ada", roster=roster, listens=False), sites.mesh("bob", roster=roster)
        async with running(ada, bob) as (one, _):
            await one.up("bob")
            credentials, failures = ada._site.credentials, [OSError(errno.EMFILE, "too many open files")] * 2
            current = credentials.current

            def fails() -> Contexts:
                if failures:
                    raise failures.pop()
                return current()

            credentials.current = fails  # type: ignore[method-assign]
            ada._links["bob"].cut("the path changed")
            await one.linked("bob", 2)
            assert not failures

    asyncio.run(scene())


class GoneAlready(socket.socket):
    """Its far end is gone: some systems refuse every setting of such a socket."""

    def setsockopt(self, *arguments: object) -> None:  # type: ignore[override]
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def no_descriptor() -> Contexts:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("lacks", ["certificate", "socket"])
def test_a_call_for_which_this_system_has_no_room_is_one_that_does_not_come_about(lacks: str) -> None:
    """A member's frame asks for it, so what it raises would end this process."""
    gone = GoneAlready()

    async def scene() -> None:
        sites = Sites("ada", "bob", "cyd")
        site = sites.mesh("ada")._site

        async def connect_first(peer: str, addresses: object, report: object) -> FirstAnswer:
            return FirstAnswer(gone, sites.addresses[peer], ())

        if lacks == "certificate":
            site.credentials.current = no_descriptor  # type: ignore[method-assign]
        connector: Any = SimpleNamespace(connect_first=connect_first, limits=QUICK)
        with pytest.raises(HandshakeCut, match="bob"):
            await redeem(replace(site, connector=connector), RelayTicket("cyd", "bob", bytes(16)), set())
        assert lacks == "certificate" or gone.fileno() == -1

    asyncio.run(scene())
    gone.close()


def test_a_caller_that_is_gone_before_its_socket_is_set_up_ends_nothing() -> None:
    async def scene() -> None:
        sites, gone = Sites("ada", "bob"), GoneAlready()
        ada = sites.mesh("ada", listens=False)
        async with running(ada) as (one,):
            ada._spawn(ada._bring_up(gone, Route(sites.addresses["bob"], "bob", accepting=True)))
            assert (await one.refusal(HandshakeCut.code)).peer == "bob"
            assert gone.fileno() == -1

    asyncio.run(scene())
