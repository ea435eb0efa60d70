"""What can go wrong between two sites: ports, addresses, keys, certificates, and peers that break the protocol."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalFault, LocalProtocolError, RemoteProtocolError


class PortBusy(LocalFault):
    """Port {port} is in use by {holder}, so no peer could reach this site."""

    code = "P2P-MESH-001"
    likely = ("another p2pfl runs with the same --listen", "another program has the port")
    command = "ss -ltnp 'sport = :{port}'"


class AddressUnusable(ConfigurationError):
    """This machine cannot listen on {address}."""

    code = "P2P-MESH-002"
    likely = (
        "the address is that of a router in front of this machine, so --listen must name one of its own",
        "ports below 1024 need more rights",
    )
    command = "ip -brief address"


class PeerUnreachable(LocalFault):
    """{peer} does not answer at {address}."""

    code = "P2P-MESH-003"
    likely = ("a firewall drops the connection", "its machine or its network is down", "its address has changed")
    command = "nc -vz -w 5 {host} {port}"


class NameUnresolved(LocalFault):
    """The address {address} of {peer} has no entry in the name service."""

    code = "P2P-MESH-004"
    likely = ("the name is misspelt in its card", "this machine's name server does not know it")
    command = "getent hosts {host}"


class WrongKey(RemoteProtocolError):
    """{address} is listed for {peer}, but it presents the key of {other}."""

    code = "P2P-MESH-005"
    likely = ("two addresses are swapped in peers.yaml", "another site took over the address", "someone is in between")
    command = "p2pfl peers show"


class KeyNotListed(RemoteProtocolError):
    """{peer} presents a key that is not in your peers.yaml."""

    code = "P2P-MESH-006"
    likely = ("its home was made anew after the cards were exchanged", "it is no member", "someone is in between")
    command = "p2pfl peers show"


class OurKeyNotListed(ConfigurationError):
    """{peer} refuses this site's key: it is not in the peers.yaml that it holds."""

    code = "P2P-MESH-007"
    likely = ("this home was made anew after the cards were exchanged", "the two peers.yaml differ")
    command = "p2pfl peers show"


class CertificateExpired(RemoteProtocolError):
    """The certificate that {peer} presents has expired."""

    code = "P2P-MESH-008"
    likely = (
        "it has not renewed its 30-day certificate: then nothing else is wrong",
        "its clock is weeks behind: then this site's certificate is not valid yet for it (P2P-MESH-022)",
        "the clock here is weeks ahead: then every peer has this error",
    )
    command = "date -u"


class CertificateNotYetValid(RemoteProtocolError):
    """The certificate that {peer} presents is not valid yet."""

    code = "P2P-MESH-009"
    likely = (
        "its clock is more than a day ahead",
        "the clock here is more than a day behind: then every peer has this error",
    )
    command = "date -u"


class TlsTooOld(RemoteProtocolError):
    """{peer} offers no TLS 1.3, and nothing older is spoken here."""

    code = "P2P-MESH-010"
    likely = ("another program connects to this port", "a middlebox breaks TLS open")
    command = "openssl version"


class NoClientCertificate(RemoteProtocolError):
    """{peer} presents no certificate."""

    code = "P2P-MESH-011"
    likely = ("a browser, a scanner or a health check connects to this port", "a middlebox breaks TLS open")
    command = "p2pfl status"


class WrongProtocol(RemoteProtocolError):
    """{peer} speaks TLS, but not p2pfl/1 inside it."""

    code = "P2P-MESH-012"
    likely = ("it runs another version of p2pfl", "the address belongs to another service")
    command = "p2pfl --version"


class PlainHttp(RemoteProtocolError):
    """{peer} speaks plain HTTP where TLS 1.3 belongs."""

    code = "P2P-MESH-013"
    likely = ("the address belongs to a web server", "a browser or a health check connects to this port")
    command = "p2pfl peers show"


class NotTls(RemoteProtocolError):
    """{peer} speaks something that is not TLS."""

    code = "P2P-MESH-014"
    likely = ("the address belongs to another service", "a scanner connects to this port")
    command = "p2pfl peers show"


class SessionResumed(RemoteProtocolError):
    """{peer} resumed an old TLS session, which could outlive the certificate that opened it."""

    code = "P2P-MESH-015"
    likely = ("it is not this program that runs there",)
    command = "p2pfl status"


class NameNotTheirs(RemoteProtocolError):
    """{peer} signed a certificate that claims to be {claimed}."""

    code = "P2P-MESH-016"
    likely = ("that site was renamed without a new card", "that site pretends to be another one")
    command = "p2pfl peers show"


class HandshakeUnfinished(RemoteProtocolError):
    """{peer} did not finish the handshake within the time and bytes allowed."""

    code = "P2P-MESH-017"
    likely = ("the line is very slow or lossy", "the machine there is overloaded", "a scanner holds the connection")
    command = "p2pfl doctor"


class HandshakeCut(RemoteProtocolError):
    """{peer} closed the connection in the middle of the handshake."""

    code = "P2P-MESH-018"
    likely = ("it is shutting down", "a firewall or proxy cut the connection", "too many connections wait there")
    command = "p2pfl doctor"


class MalformedStream(RemoteProtocolError):
    """{peer} sent bytes that are not p2pfl's; its link was closed."""

    code = "P2P-MESH-019"
    likely = ("it runs another version of p2pfl", "a fault in its software")
    command = "p2pfl --version"


class RefusedThere(RemoteProtocolError):
    """{peer} refuses this site: {text}"""

    code = "P2P-MESH-020"
    likely = (
        "the two sites do not run the same federation",
        "its operator has to look at the code in the evidence; `this site` in what it says is that one",
    )
    command = "p2pfl doctor"


class TlsFailed(RemoteProtocolError):
    """The TLS handshake with {peer} failed."""

    code = "P2P-MESH-021"
    likely = ("a middlebox breaks TLS open", "incompatible versions of OpenSSL")
    command = "openssl version"


class OurCertificateRefused(ConfigurationError):
    """{peer} refuses this site's certificate as {said}."""

    code = "P2P-MESH-022"
    likely = ("one of the two clocks is off by more than a day",)
    command = "date -u"


class OpeningVersion(RemoteProtocolError):
    """{peer} opens links in version {version}, this site in version {ours}: {older} must upgrade p2pfl first."""

    code = "P2P-MESH-023"
    likely = ("the two sites run different releases of p2pfl",)
    command = "p2pfl --version"


class NoSuchPeer(LocalProtocolError):
    """A message was addressed to {peer}, which is not in this epoch."""

    code = "P2P-MESH-024"
    likely = ("a fault in this program",)
    command = "p2pfl peers show"


class PayloadTooLarge(LocalProtocolError):
    """A message of {size} bytes for {peer} is over the limit of {limit} bytes."""

    code = "P2P-MESH-025"
    likely = ("a fault in this program",)
    command = "p2pfl --version"


class OwnKeyThere(ConfigurationError):
    """{peer} presents this site's own key."""

    code = "P2P-MESH-027"
    likely = ("an address in peers.yaml leads back to this machine", "this home, or a copy of it, runs twice")
    command = "p2pfl peers show"


class CertificateUnreadable(RemoteProtocolError):
    """The certificate that {peer} presents is signed by a member, and cannot be read."""

    code = "P2P-MESH-060"
    likely = ("it is not this program that runs there", "a fault in its software")
    command = "p2pfl status"


class LinkFlooded(RemoteProtocolError):
    """{peer} floods its link with frames that carry nothing; it was closed."""

    code = "P2P-MESH-061"
    likely = ("that site was altered", "a fault in its software")
    command = "p2pfl status"


class OpensTooOften(RemoteProtocolError):
    """{peer} opens one connection after another, and has to wait."""

    code = "P2P-MESH-062"
    likely = ("its process is restarted again and again", "two copies of that site run", "a fault in its software")
    command = "p2pfl status"


class TakesNothing(RemoteProtocolError):
    """{peer} keeps its link and takes nothing of what it is sent; what waited for it was dropped."""

    code = "P2P-MESH-063"
    likely = ("its process hangs", "that site was altered")
    command = "p2pfl status"


class TooFewDescriptors(LocalFault):
    """This process may open {limit} files at a time, and its links need {least}."""

    code = "P2P-MESH-065"
    likely = ("the limit of its service or its container is low", "ulimit -n was set in this shell")
    command = "ulimit -Hn"


class OwnerBehind(LocalFault):
    """This site has not dealt with all that {peer} sent before: a link with it comes up once it has."""

    code = "P2P-MESH-066"
    likely = ("this site is in a long step", "the machine here is overloaded", "that site sends too much")
    command = "p2pfl status"


# P2P-MESH-026 was of a folder for local sockets that could not be made; its number stays taken.
