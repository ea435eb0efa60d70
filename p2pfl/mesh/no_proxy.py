"""NO_PROXY: the addresses that are reached directly despite a proxy. Pure; names are compared, never resolved.

A list, separated by commas or blanks, of
    *                     everything
    10.1.2.3  fd00::7     an IP address; an IPv6 one may stand in brackets
    10.0.0.0/8  fd00::/8  the addresses of a network
    mayo.example          that name, and every name below it
    .mayo.example         every name below it, and not itself; *.mayo.example is the same
Every entry but a network may end in :PORT, which restricts it to that port. Case and a dot at a name's end do not
count. There is no standard. These are the rules of Go's programs (golang.org/x/net/http/httpproxy), which a hospital's
machines mostly follow already; unlike there, loopback goes through the proxy unless it is listed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from p2pfl.roster import Address

VARIABLES: Final = ("NO_PROXY", "no_proxy")  # the first that is not empty counts
_NAME: Final = re.compile(r"(\*?\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class NoProxyEntry:
    """One entry as it was written, and its meaning: a network, or a name ("*": any), and one port or all of them."""

    text: str
    network: Network | None
    name: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> NoProxyEntry:
        """Raises ValueError for an entry that means nothing."""
        host, port = _split_port(text)
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        network = _network(bare)
        if network is not None and "/" in bare and port is not None:
            raise ValueError(f"{text!r} is a network with a port")
        if network is not None:
            return cls(text, network, "", port)
        name = host.lower().removesuffix(".")
        if name != "*" and not _is_name(name):
            raise ValueError(f"{text!r} is no name, no address and no network")
        return cls(text, None, name.removeprefix("*") if name.startswith("*.") else name, port)

    def matches(self, host: str, ips: Collection[IP], port: int) -> bool:
        """host: in lower case, without a dot at its end; ips: the addresses that it is, none where it is a name."""
        if self.port not in (None, port):
            return False
        if self.network is not None:
            return any(ip in self.network for ip in ips)
        if self.name == "*":
            return True
        if ips:
            return False
        if self.name.startswith("."):
            return host.endswith(self.name) and host != self.name
        return host == self.name or host.endswith(f".{self.name}")


@dataclass(frozen=True, slots=True)
class NoProxy:
    """The entries in their order; `ignored`: those that mean nothing here; `variable`: where they were found."""

    entries: tuple[NoProxyEntry, ...] = ()
    ignored: tuple[str, ...] = ()
    variable: str = VARIABLES[0]

    @classmethod
    def parse(cls, text: str, variable: str = VARIABLES[0]) -> NoProxy:
        """Never raises: programs share the variable, and an entry meant for one must not stop another."""
        entries, ignored = [], []
        for one in re.split(r"[\s,]+", text.strip(" \t\r\n,")):
            try:
                entries.append(NoProxyEntry.parse(one))
            except ValueError:
                if one:
                    ignored.append(one)
        return cls(tuple(entries), tuple(ignored), variable)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> NoProxy:
        """The list in NO_PROXY, or else in no_proxy."""
        for variable in VARIABLES:
            if environment.get(variable, "").strip():
                return cls.parse(environment[variable], variable)
        return cls()

    def entry_for(self, address: Address) -> str | None:
        """The first entry that matches `address`, as it was written; None: go through the proxy."""
        host = address.host.lower().removesuffix(".")
        ips = _ips(host)
        return next((one.text for one in self.entries if one.matches(host, ips, address.port)), None)


def _split_port(text: str) -> tuple[str, int | None]:
    """(host, port). An IPv6 address has a port only where it stands in brackets."""
    host, colon, port = text.rpartition(":")
    bare = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not colon or bare or text.endswith("]"):
        return text, None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} has no port behind its colon")
    return host, int(port)


def _is_name(text: str) -> bool:
    """A last label of digits alone belongs to a malformed address, not to a name (RFC 3696 §2)."""
    return len(text) < 256 and bool(_NAME.fullmatch(text)) and not text.rpartition(".")[2].isdigit()


def _network(text: str) -> Network | None:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)
    return network


def _ips(host: str) -> list[IP]:
    """The address that `host` is, and the IPv4 address that it maps; none where it is a name."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return []
    mapped = getattr(ip, "ipv4_mapped", None)
    return [ip] if mapped is None else [ip, mapped]


EMPTY: Final = NoProxy()
