"""NO_PROXY: which of a list's entries fits an address, that none fits by chance, and that no list is an error."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2pfl.mesh.connect import Connector
from p2pfl.mesh.no_proxy import NoProxy
from p2pfl.mesh.proxy import VARIABLE, Proxy
from p2pfl.roster import Address
from tests.mesh.connect_proxy import ConnectProxy
from tests.mesh.doctors import PEERS_FILE, doctor_ports, examined
from tests.mesh.sites import QUICK, Sites, running

LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PORT = st.integers(1, 65535)
V4, V6 = st.ip_addresses(v=4), st.ip_addresses(v=6)


def fits(listed: str, host: str, port: int = 7443) -> bool:
    return NoProxy.parse(listed).entry_for(Address(host, port)) is not None


def as_entry(ip: object) -> str:
    return f"[{ip}]" if ":" in str(ip) else str(ip)


@given(NAME, NAME, PORT)
def test_a_name_covers_itself_and_names_below_it(below: str, name: str, port: int) -> None:
    """With a leading dot it covers the latter alone."""
    assert fits(name, name, port)
    assert fits(name, f"{below}.{name}", port)
    for dotted in (f".{name}", f"*.{name}"):
        assert not fits(dotted, name, port)
        assert fits(dotted, f"{below}.{name}", port)


@given(NAME, LABEL)
def test_a_name_that_only_ends_in_the_same_letters_is_another(name: str, more: str) -> None:
    assert not fits(name, f"{more}{name}")
    assert not fits(f".{name}", f"{more}{name}")
    assert not fits(f"{more}.{name}", name)


@given(NAME)
def test_capitals_and_a_last_dot_do_not_count(name: str) -> None:
    assert fits(name.upper(), name)
    assert fits(name, f"{name.upper()}.")
    assert fits(f"{name}.", name)


@given(st.one_of(NAME, V4, V6), PORT, PORT)
def test_a_port_stands_for_itself_and_without_one_every_port_is_meant(host: object, port: int, other: int) -> None:
    assert fits(f"{as_entry(host)}:{port}", str(host), port)
    assert fits(f"{as_entry(host)}:{port}", str(host), other) == (port == other)
    assert fits(as_entry(host), str(host), other)
    assert fits(f"*:{port}", str(host), other) == (port == other)


@given(st.one_of(V4, V6), st.data())
def test_a_network_holds_what_the_standard_library_says_that_it_holds(ip: object, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, 128 if ":" in str(ip) else 32))
    network = ipaddress.ip_network(f"{ip}/{length}", strict=False)
    other = data.draw(st.one_of(V4, V6))
    assert fits(str(network), str(ip))
    assert fits(f"{ip}/{length}", str(ip)), "bits behind the mask do not count"
    assume(not any(getattr(one, "ipv4_mapped", None) for one in (other, network.network_address)))
    assert fits(str(network), str(other)) == (other in network)


@given(V4)
def test_an_ipv4_address_within_ipv6_is_the_same_machine(ip: ipaddress.IPv4Address) -> None:
    assert fits(str(ip), f"::ffff:{ip}")
    assert fits(f"[::ffff:{ip}]", str(ip))


@given(st.one_of(V4, V6), NAME)
def test_a_name_never_fits_an_address_nor_an_address_a_name(ip: object, name: str) -> None:
    assert not fits(name, str(ip))
    assert not fits(as_entry(ip), name)
    assert not fits("0.0.0.0/0 ::/0", name), "a name is not looked up"


@given(st.lists(st.one_of(NAME, V4.map(str), st.just("*")), min_size=1), st.one_of(NAME, V4.map(str)))
def test_a_list_fits_what_one_entry_fits_and_names_the_first(entries: list[str], host: str) -> None:
    """The first entry that fits is the reason."""
    alone = [entry for entry in entries if fits(entry, host)]
    for between in (",", " ", " , ", ",,", "\t"):
        found = NoProxy.parse(between.join(entries)).entry_for(Address(host, 1))
        assert found == (alone[0] if alone else None)


@given(st.text(max_size=60), st.one_of(NAME, V4.map(str), V6.map(str)))
def test_whatever_stands_in_the_list_is_no_error_and_is_used_or_named(text: str, host: str) -> None:
    no_proxy = NoProxy.parse(text)
    no_proxy.entry_for(Address(host, 7443))
    assert len(no_proxy.entries) + len(no_proxy.ignored) <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "10.*",
        "10.0.0.0/33",
        "10.0.0.0/8:443",
        "mayo.example:port",
        "<local>",
        "a..b",
        "http://mayo.example",
        "10.0.0",
        "mayo.example:70000",
        "-",
    ],
)
def test_what_means_nothing_is_kept_to_be_told_and_the_rest_counts(text: str) -> None:
    no_proxy = NoProxy.parse(f"{text},ben.example")
    assert no_proxy.ignored == (text,)
    assert [entry.text for entry in no_proxy.entries] == ["ben.example"]


def test_the_capital_variable_counts_first_and_none_of_them_without_a_proxy() -> None:
    ben, cyd = Address("ben.example", 1), Address("cyd.example", 1)
    both = {VARIABLE: "http://proxy.example:3128", "NO_PROXY": "ben.example", "no_proxy": "cyd.example"}
    for environment, direct in ((both, ben), ({**both, "NO_PROXY": " "}, cyd)):
        proxy = Proxy.from_environment(environment)
        assert proxy is not None
        assert [Connector(QUICK, proxy).uses_proxy(each) for each in (ben, cyd)] == [
            direct is not ben,
            direct is not cyd,
        ]
    assert Proxy.from_environment({"NO_PROXY": "*"}) is None
    assert Proxy.parse("http://proxy.example:3128").no_proxy.entry_for(ben) is None


OUTSIDE = Address("bob.hospital.example", 7443)  # a name that only the proxy knows


def within() -> tuple[Sites, ConnectProxy, Proxy]:
    """ada reaches bob through a proxy, and cyd, whose address is in the same network, past it."""
    sites = Sites("ada", "bob", "cyd")
    http = ConnectProxy({str(OUTSIDE): sites.addresses["bob"]})
    return sites, http, http.proxy().with_no_proxy({"NO_PROXY": ".intern, 127.0.0.0/8"})


def test_one_peer_is_reached_through_the_proxy_and_another_past_it() -> None:
    async def scene() -> None:
        sites, http, proxy = within()
        ada = sites.mesh("ada", roster=sites.reached_at("bob", OUTSIDE), listens=False, proxy=proxy)
        others = [sites.mesh(name, roster=sites.reached_at("ada", None)) for name in ("bob", "cyd")]
        async with http.running(), running(ada, *others) as (one, *_):
            await one.up("bob")
            await one.up("cyd")
            ways = {peer: link.path.kind for peer, link in ada.links().items() if link.path}
            assert ways == {"bob": "proxy", "cyd": "direct"}
            assert set(http.asked) == {str(OUTSIDE)}

    asyncio.run(scene())


def test_doctor_says_of_each_address_how_it_is_reached_and_why() -> None:
    async def scene() -> None:
        sites, http, proxy = within()
        roster = sites.reached_at("bob", OUTSIDE)
        async with http.running(), doctor_ports(sites, "bob", "cyd"):
            bob, cyd = await examined(
                sites, "ada", "bob", "cyd", roster=roster, reachable=False, peers_file=PEERS_FILE, proxy=proxy
            )
        assert (bob.ways[0].proxied, cyd.ways[0].proxied) == (True, False)
        assert f"{OUTSIDE} is reached through the proxy {http.address}: no entry of NO_PROXY fits" in bob.notes
        assert f"{sites.addresses['cyd']} is reached directly: NO_PROXY has 127.0.0.0/8" in cyd.notes
        assert (bob.errors, cyd.errors) == ([], [])

    asyncio.run(scene())
