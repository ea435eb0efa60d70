"""peers.yaml and cards: what the file says wrong, where, and what to write instead.

Every leaf about a file carries `{place}`, `source:line:column` (both counted from 1), which editors open directly.
"""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, IntegrityError, LocalFault


class FileUnreadable(LocalFault):
    """The file {path} cannot be read."""

    code = "P2P-FED-001"
    exit_status = 2
    likely = (
        "the path is mistyped, or the file has another name: --peers FILE names a peers.yaml",
        "nobody has made it yet (`p2pfl init` makes a card, `peers create` a peers.yaml, `stats propose` a question)",
        "the command runs in another folder",
        "the file belongs to another user",
    )
    command = "ls -l {folder}"


class NotYaml(ConfigurationError):
    """{place}: this is not YAML that can be read."""

    code = "P2P-FED-002"
    likely = ("the indentation changed", "a colon, quote or bracket is missing", "the file was cut while it was copied")
    command = "p2pfl peers show {source}"


class UnknownKey(ConfigurationError):
    """{place}: the key {key} is not known here."""

    code = "P2P-FED-004"
    likely = ("it is mistyped", "it is indented under the wrong heading", "the file was made by a later version")
    command = "p2pfl peers show {source}"


class DuplicateKey(ConfigurationError):
    """{place}: the key {key} stands here a second time."""

    code = "P2P-FED-005"
    likely = ("a block was pasted twice", "two edits were merged")
    command = "p2pfl peers show {source}"


class MissingKey(ConfigurationError):
    """{place}: the key {key} is missing."""

    code = "P2P-FED-006"
    likely = ("a line was deleted", "the file was written by hand: `p2pfl peers create` writes every key")
    command = "p2pfl peers create --help"


class WrongValue(ConfigurationError):
    """{place}: {key} must be {wanted}."""

    code = "P2P-FED-007"
    likely = ("a typing error", "a number is written in quotes, or with a comma", "a line lost its indentation")
    command = "p2pfl peers show {source}"


class ForbiddenYaml(ConfigurationError):
    """{place}: {feature} is not allowed in this file."""

    code = "P2P-FED-008"
    likely = ("a tool that writes YAML made the file", "somebody tries to make two readers see two different things")
    command = "p2pfl peers create --help"


class ForbiddenCharacter(ConfigurationError):
    """{place}: {character} is not allowed in this file: its digest is over the raw bytes."""

    code = "P2P-FED-009"
    likely = ("an editor on Windows saved the file", "the file went through a mail program or a chat")
    command = "tr -d '\\r' < {source} > peers.clean.yaml"


class DocumentTooLarge(ConfigurationError):
    """{place}: the file is larger or nested deeper than any peers.yaml or card can be."""

    code = "P2P-FED-010"
    likely = ("this is another file", "the file was made to exhaust the reader")
    command = "ls -l {source}"


class TooFewPeers(ConfigurationError):
    """A secure sum of {count} sites would show each site's value to another: three is the least."""

    code = "P2P-FED-011"
    likely = ("with two sites each subtracts its own value and holds the other's", "a card was left out")
    command = "p2pfl peers create --help"


class TooManyPeers(ConfigurationError):
    """{count} sites are more than this version connects: {most} is the most."""

    code = "P2P-FED-012"
    likely = ("every pair of sites has a link of its own",)
    command = "p2pfl peers create --help"


class DuplicateMember(ConfigurationError):
    """{place}: {what} belongs to two sites, {first} and {second}."""

    code = "P2P-FED-013"
    likely = ("one card was given twice", "a home was copied to a second machine", "a block was pasted and half edited")
    command = "p2pfl peers show {source}"


class KeyOfEverybody(IntegrityError):
    """{place}: this is no site's key: anybody can write a signature that holds under it."""

    code = "P2P-FED-025"
    likely = (
        "somebody made the card by hand, to speak as a site without a key",
        "the file was damaged on its way: `p2pfl init` never makes such a key",
    )
    command = "sha256sum {source}"


class CardForged(IntegrityError):
    """The card {source} does not carry the signature of its own key."""

    code = "P2P-FED-016"
    likely = (
        "it was changed on its way to you: the one in that site's home is right, and has another SHA-256 then",
        "it was edited after `p2pfl init` wrote it",
    )
    command = "sha256sum {source}"


class UnknownSetting(ConfigurationError):
    """There is no setting {key} in peers.yaml."""

    code = "P2P-FED-017"
    likely = ("it is mistyped", "it wants its heading in front, as in privacy.delta")
    command = "p2pfl peers create --help"


class SettingWithoutValue(ConfigurationError):
    """--set {text} gives no value: an = is missing, as in --set rounds=20."""

    code = "P2P-FED-026"
    likely = ("a blank stands in place of the =", "the value was forgotten")
    command = "p2pfl peers create --help"


class WontOverwrite(ConfigurationError):
    """{path} exists already, and it is not overwritten."""

    code = "P2P-FED-018"
    likely = (
        "the command has run here before: name another file, or move this one away",
        "the sites may have agreed on that file: another one is another federation",
    )
    command = "ls -l {path}"


class SettingsDoNotFit(ConfigurationError):
    """{place}: {what}."""

    code = "P2P-FED-020"
    likely = ("two settings were changed, each right by itself",)
    command = "p2pfl peers show {source}"


class TableUnfit(ConfigurationError):
    """{place}: {what}, in the description of a task."""

    code = "P2P-FED-027"
    likely = (
        "a draft is not filled in yet: its numbers and levels come from clinical practice and the study's code book",
        "a name is mistyped",
        "a number is written in quotes, or with a comma",
    )
    command = "p2pfl task draft --help"


class WrongAddress(ConfigurationError):
    """{place}: {text} is not an address that another site can dial."""

    code = "P2P-FED-021"
    likely = (
        "host or port is missing: both are wanted, as in 10.0.0.5:7443",
        "0.0.0.0 and :: say where to listen: they name no machine",
    )
    command = "p2pfl init --help"


class HubNotNamed(ConfigurationError):
    """{place}: topology: hub and a hub go together, and one is there without the other."""

    code = "P2P-FED-022"
    likely = ("only one of --set topology=hub and --set hub=NAME was given",)
    command = "p2pfl peers show {source}"


class HubNotAMember(ConfigurationError):
    """{place}: the hub {hub} is not one of the sites."""

    code = "P2P-FED-023"
    likely = ("its name is misspelt", "its card is missing")
    command = "p2pfl peers show {source}"


class HubWithoutAddress(ConfigurationError):
    """{place}: the hub {hub} lists no address, so no other site could reach it."""

    code = "P2P-FED-024"
    likely = ("its card was made without --listen", "another site was meant")
    command = "p2pfl init --help"


class CardNotPeersFile(ConfigurationError):
    """{source} is the card of one site; the peers file of all sites was meant."""

    code = "P2P-USE-021"
    likely = ("the file that one site makes from all cards, peers.yaml, has not been made or handed out yet",)
    command = "p2pfl peers create A.card B.card C.card -o peers.yaml"


class PeersFileNotCard(ConfigurationError):
    """{source} is the peers file of all sites; the card of one site was meant."""

    code = "P2P-USE-022"
    likely = ("the two files were mixed up: each site's card lies in its home, as NAME.card",)
    command = "p2pfl peers show {source}"
