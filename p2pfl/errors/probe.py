"""What `p2pfl doctor` finds between two sites that could still link, or nearly: clocks, packets, one way only."""

from __future__ import annotations

from p2pfl.errors import LocalFault


class ClocksDiffer(LocalFault):
    """The clock of {peer} is {seconds} s {way} this site's."""

    code = "P2P-MESH-040"
    likely = ("one of the two machines follows no time server", "a virtual machine was paused and resumed")
    command = "timedatectl timesync-status"


class OwnClockOff(LocalFault):
    """This site's clock is {seconds} s {way} those of {peers}."""

    code = "P2P-MESH-041"
    likely = ("this machine follows no time server", "a firewall drops NTP (UDP port 123)", "it was paused and resumed")
    command = "timedatectl timesync-status"


class LargePacketsLost(LocalFault):
    """Packets of {size} bytes {way} {peer} are lost; small ones pass."""

    code = "P2P-MESH-042"
    likely = (
        "a tunnel on the way has a smaller MTU, and a firewall drops the ICMP messages that would say so",
        "an interface here has a larger MTU than its network",
    )
    command = "ping -M do -s {payload} {host}"


class NobodyListens(LocalFault):
    """The machine at {address} answers, and nothing of {peer} listens there."""

    code = "P2P-MESH-043"
    likely = (
        "neither p2pfl join nor p2pfl doctor runs there now",
        "it listens on another port",
        "a firewall rejects the connection",
    )
    command = "nc -vz {host} {port}"


class PathStalls(LocalFault):
    """The connection with {peer} stands still after {count} bytes, whatever the size of its packets."""

    code = "P2P-MESH-044"
    likely = ("a firewall or proxy on the way inspects the stream and gives up", "the line is lossy or saturated")
    command = "ss -tino dst {host}"


class NotReachedBy(LocalFault):
    """{peer} cannot reach this site at {address}: {happened}"""

    code = "P2P-MESH-045"
    likely = (
        "the firewall of this site lets nothing in on that port",
        "the address in peers.yaml is not the one that is forwarded to this machine",
        "the firewall of that site lets nothing out to it",
    )
    command = "ss -ltn 'sport = :{port}'"


class ProbesTooOften(LocalFault):
    """{peer} was asked for more probes than it answers in so short a time."""

    code = "P2P-MESH-046"
    likely = ("doctor ran many times in a row: the allowance grows again by itself",)
    command = "p2pfl doctor --wait 60"


class ProbeUnanswered(LocalFault):
    """{peer} let this site in, and then did not answer: {what}."""

    code = "P2P-MESH-047"
    likely = ("its p2pfl was stopped in the middle", "a firewall or proxy cut the connection", "the line is very slow")
    command = "p2pfl doctor --wait 60"
