"""The quorums (docs/spec/sharing.md §1) for every size of federation; addresses as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.roster import LEAST_PEERS, MOST_PEERS, Address, Member, Quorums, Roster

SIZES = range(LEAST_PEERS, MOST_PEERS + 1)
TABLE = {3: 3, 4: 3, 5: 4, 6: 5, 7: 5, 10: 7, 20: 14}  # n: q = ⌊2n/3⌋+1


def keyed(*names: str) -> tuple[Member, ...]:
    return tuple(Member(name, bytes([place]) * 32) for place, name in enumerate(names))


@pytest.mark.parametrize(("n", "q"), TABLE.items())
def test_the_quorum_is_that_of_the_designs_table(n: int, q: int) -> None:
    assert Quorums(n).q == q


@pytest.mark.parametrize("n", SIZES)
def test_every_size_of_federation_fits(n: int) -> None:
    quorums = Quorums(n)
    q, c, a = quorums.q, quorums.c, quorums.a
    assert (q, c, a) == ((2 * n) // 3 + 1, max(1, (n - 1) // 3), n - q + c + 1)
    assert 2 * q - n > c, "two certificates of one kind share an honest peer"
    assert q + a - n > c, "SURVIVORS and ABANDON never both exist"
    assert q - c >= 2, "a sum covers two honest peers"
    assert a <= n - c, "an attempt can be abandoned without the liars"
    assert q <= n


@pytest.mark.parametrize("n", [-1, 0, 1, 2, MOST_PEERS + 1])
def test_fewer_than_three_or_too_many_peers_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"n = {n}"):
        Quorums(n)


def test_a_quorum_that_breaks_an_inequality_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quorums, "q", property(lambda quorums: 2))
    with pytest.raises(ValueError, match="do not fit"):
        Quorums(4)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mayo.example.org:7443", "mayo.example.org", 7443),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("localhost:65535", "localhost", 65535),
        ("a_b.x-1.:7", "a_b.x-1.", 7),
        ("[fe80::1%eth0]:7", "fe80::1%eth0", 7),
        ("[2001:db8::1]:7443", "2001:db8::1", 7443),
        ("[::1]:80", "::1", 80),
    ],
)
def test_an_address_reads_and_prints_as_written(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.claim("CLI-4")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not host:port"),
        ("mayo", "not host:port"),
        (":7443", "not host:port"),
        ("mayo:", "not a port"),
        ("mayo:0", "not a port"),
        ("mayo:65536", "not a port"),
        ("mayo:-1", "not a port"),
        ("mayo:٣", "not a port"),
        ("mayo:7443x", "not a port"),
        ("mayo: 7443", "not a port"),
        ("mayo:²", "not a port"),
        ("2001:db8::1:7443", "brackets"),
        ("::1", "brackets"),
        # What would be run, believed or shown where an address is copied, written into a file, or printed.
        ("$(reboot):22", "not a host"),
        ("-e:22", "not a host"),
        ("a;b:22", "not a host"),
        ("a b:22", "not a host"),
        ('a","b:22', "not a host"),
        ("a\x1b[2J:22", "not a host"),
        ("a\u202eb:22", "not a host"),
        ("a\r\nX-Y:22", "not a host"),
        ("user@a:22", "not a host"),
        ("a..b:22", "not a host"),
        (f"{'a' * 64}:22", "not a host"),
        (".".join(["a" * 63] * 5) + ":22", "not a host"),
        ("0:22", "four numbers"),
        ("127.1:22", "four numbers"),
        ("0x7f000001:22", "four numbers"),
        ("1.2.3.4.5:22", "four numbers"),
        ("10.0.0.256:22", "four numbers"),
        ("[1.2.3.4]:22", "not an IPv6"),
        ("[::1%a;b]:22", "not an interface"),
        ("[$(reboot)]:22", "not an IPv6"),
    ],
)
def test_an_address_that_is_none_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Address.parse(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mayo.example:7", "mayo.EXAMPLE.:7"),
        ("[2001:db8::0:1]:7", "[2001:DB8::1]:7"),
    ],
)
def test_two_ways_to_write_one_address_are_one_place(one: str, other: str) -> None:
    assert Address.parse(one).place == Address.parse(other).place
    assert Address.parse(one).place != Address.parse(one.replace(":7", ":8")).place


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert 1 <= address.port <= 65535
    assert address.host


def test_a_roster_keeps_the_order_of_its_file_and_finds_by_name_and_key() -> None:
    roster = Roster(1, keyed("st-olav", "charite", "mayo"))
    assert roster.names == ("st-olav", "charite", "mayo")
    assert roster.index("mayo") == 2
    assert roster["charite"].key == bytes([1]) * 32
    assert "charite" in roster
    assert "nobody" not in roster
    assert roster.name_of(bytes([2]) * 32) == "mayo"
    assert roster.name_of(bytes(31)) is None
    assert roster.quorums == Quorums(3)
    with pytest.raises(KeyError):
        roster["nobody"]


def test_two_members_with_one_name_or_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        Roster(1, keyed("mayo", "charite", "mayo"))
    with pytest.raises(ValueError, match="share"):
        Roster(1, (Member("mayo", bytes(32)), Member("charite", bytes(32))))


WRONG_NAMES = ["", "Mayo", "1mayo", "-mayo", "mayo clinic", "mayo\n", "charité", "a" * 32, "a/b", "a.b"]


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_name_that_is_not_of_the_agreed_form_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Roster(1, keyed("mayo", name))
