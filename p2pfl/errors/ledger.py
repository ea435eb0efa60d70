"""The ledger: what an edited, shortened or foreign log says to a person."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, IntegrityError, LocalProtocolError


class LedgerDamaged(IntegrityError):
    """The {log} log is not what this site wrote: {place} is damaged."""

    code = "P2P-LEDGER-001"
    likely = ("a file of the ledger was changed, cut or removed", "the disk is failing")
    command = "p2pfl ledger verify --home {home}"


class LedgerShortened(IntegrityError):
    """The {log} log ends before entry {entry}, which this site has signed."""

    code = "P2P-LEDGER-002"
    likely = ("an older copy of the home was restored", "files of the ledger were cut or removed")
    command = "p2pfl ledger verify --home {home}"


class LedgerRewritten(IntegrityError):
    """The {log} log holds other entries than those whose head this site has signed."""

    code = "P2P-LEDGER-003"
    likely = ("the ledger was replaced by another one of this site", "the head was replaced by that of another history")
    command = "p2pfl ledger verify --home {home}"


class HeadRefused(IntegrityError):
    """The signed head of the {log} log is not one that this site signed."""

    code = "P2P-LEDGER-004"
    likely = ("the identity was replaced and the ledger was not", "the head was copied from another home")
    command = "p2pfl ledger verify --home {home}"


class OtherFederation(ConfigurationError):
    """The federation log in this home begins with another federation, or another peers.yaml, than this one."""

    code = "P2P-LEDGER-005"
    likely = (
        "peers.yaml was changed after the first round",
        "it is another study of the same name: those of one home have different ones (peers create --name)",
    )
    command = "p2pfl ledger show --home {home}"


class RecordRefused(LocalProtocolError):
    """A record that no reader would understand was to enter the {log} log."""

    code = "P2P-LEDGER-006"
    likely = ("a field is missing or misspelt in this program",)
    command = "p2pfl --version"


class ExportMalformed(ConfigurationError):
    """{path} is not an exported ledger."""

    code = "P2P-LEDGER-007"
    likely = ("it is another file", "it was edited or cut after the export")
    command = "p2pfl ledger export --help"


class ExportTooLarge(ConfigurationError):
    """{path} is larger than an exported ledger that is read here, which has {most} at most."""

    code = "P2P-LEDGER-014"
    likely = ("it is another file", "it holds every round of many years; to compare two logs, hashes of rounds do")
    command = "p2pfl ledger export --without-rounds -o short.json"


class ExportUnsigned(IntegrityError):
    """{path} is not a log that {site} has signed."""

    code = "P2P-LEDGER-012"
    likely = ("the file was edited after the export", "it was written by somebody who does not hold the site's key")
    command = "p2pfl ledger export --help"


class ExportRosterBroken(IntegrityError):
    """{path} does not prove who its sites are."""

    code = "P2P-LEDGER-013"
    likely = ("the file was edited after the export", "it was made up: not every site signed its first entry")
    command = "p2pfl ledger export --help"


class MembershipBroken(IntegrityError):
    """The changes of membership in the federation log do not follow from one another."""

    code = "P2P-LEDGER-010"
    likely = ("the ledger was edited", "the ledger was written by another version of p2pfl")
    command = "p2pfl ledger verify --home {home}"


class PeersFileUnknown(ConfigurationError):
    """This home no longer holds the peers.yaml of epoch {epoch}, and another one was given."""

    code = "P2P-LEDGER-011"
    likely = ("the file of the next epoch was given before that epoch began", "an item of the home was removed")
    command = "p2pfl peers show"
