"""What can go wrong on the way to a site: the proxy that a hospital's traffic must pass, and relays between sites."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalFault, RemoteProtocolError


class ProxyUnreachable(LocalFault):
    """The proxy {proxy} does not answer, and connections of this site go through it."""

    code = "P2P-MESH-030"
    likely = ("its name or port is wrong", "this machine may not talk to it")
    command = "getent hosts {host}"


class ProxyWantsPassword(ConfigurationError):
    """The proxy {proxy} wants a name and a password, or does not take those that it was given."""

    code = "P2P-MESH-031"
    likely = ("none was given", "the password has changed", "the proxy takes another scheme than Basic")
    command = "p2pfl join --help"


class ProxyForbids(ConfigurationError):
    """The proxy {proxy} does not let this site through to {address} of {peer}."""

    code = "P2P-MESH-032"
    likely = (
        "it lets CONNECT through to some ports only, often 443",
        "the proxy's list of allowed addresses lacks that one",
        "the address is inside this network, and belongs in NO_PROXY",
    )
    command = "p2pfl peers show"


class ProxyFails(LocalFault):
    """The proxy {proxy} does not reach {address} of {peer}."""

    code = "P2P-MESH-033"
    likely = (
        "that site has not been started yet",
        "a firewall there drops the connection",
        "the proxy does not know the address's name",
    )
    command = "p2pfl doctor"


class NotAProxy(ConfigurationError):
    """What answers at {proxy} is no HTTP proxy that carries CONNECT."""

    code = "P2P-MESH-034"
    likely = ("the port belongs to another service", "the proxy wants TLS itself, which is not spoken here")
    command = "p2pfl join --help"


class WrongProxy(ConfigurationError):
    """{text} names no proxy."""

    code = "P2P-MESH-035"
    likely = (
        "it is written http://HOST:PORT",
        "a name and a password belong in P2PFL_PROXY or a file, never on the command line",
    )
    command = "p2pfl join --help"


class RelayRefuses(LocalFault):
    """{relay} does not carry a call to {peer}: {text}."""

    code = "P2P-MESH-036"
    likely = ("the site that is called has not been started yet", "it has no link with that relay either")
    command = "p2pfl doctor"


class RelayUnfaithful(RemoteProtocolError):
    """What {relay} carried for a call with {peer} was not {peer}'s."""

    code = "P2P-MESH-037"
    likely = ("the relay is faulty", "the relay lies", "the site that is called has another key than the listed one")
    command = "p2pfl peers show"


class RelayTriedInVain(LocalFault):
    """{relay} was to relay a call to {peer}, and the call did not come about."""

    code = "P2P-MESH-064"
    likely = (
        "the doctor at the other end was stopped in the middle",
        "one of the two no longer reaches the third",
        "a certificate or clock is wrong at one of the two",
    )
    command = "p2pfl doctor --wait 60"


class UnknownTicket(RemoteProtocolError):
    """{peer} asked to be relayed with a ticket that this site never gave it, or no longer knows."""

    code = "P2P-MESH-038"
    likely = ("the line is very slow", "a fault in its software", "that site tries to listen in")
    command = "p2pfl status"


class NoWay(LocalFault):
    """There is no way to {peer}: {why}."""

    code = "P2P-MESH-039"
    likely = ("neither of the two has a port that the other reaches", "the sites that could relay are not started")
    command = "p2pfl peers show"
