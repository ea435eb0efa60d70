"""What a person can ask of the command that it cannot do, and what the command itself can get wrong."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalFault, LocalProtocolError


class WrongUse(ConfigurationError):
    """`p2pfl{verb}` was called in a way that it does not know."""

    code = "P2P-USE-001"
    likely = ("an option is mistyped", "an argument is missing")
    command = "p2pfl{verb} --help"


class UnknownVerb(ConfigurationError):
    """`p2pfl{group}` has no command {verb}."""

    code = "P2P-USE-002"
    likely = ("it is mistyped", "you read the documentation of another version")
    command = "p2pfl{group} --help"


# P2P-USE-003 was of a verb that a later version would have; its number stays taken.


class OurMistake(LocalProtocolError):
    """p2pfl itself failed: {kind} at {where}."""

    code = "P2P-USE-004"
    likely = ("a bug in p2pfl: please report it with these lines, which hold no data of yours",)
    command = "p2pfl --version"


class NoTerminal(ConfigurationError):
    """A pass phrase is to be typed, and there is no terminal to type it at."""

    code = "P2P-USE-005"
    likely = ("the command runs as a service or in a pipe",)
    command = "p2pfl{verb} --help"


class DemoPeers(ConfigurationError):
    """The demo runs {least} to {most} peers, not {count}."""

    code = "P2P-USE-006"
    likely = ("with two sites each learns the other's update by subtraction", "one machine runs all of them")
    command = "p2pfl demo --peers 5"


class DemoHome(ConfigurationError):
    """The demo writes the sites' homes into an empty directory, and {path} is not empty."""

    code = "P2P-USE-007"
    likely = ("an earlier demo left its homes there",)
    command = "p2pfl demo --home {path}-2"


class DemoPeerFailed(LocalFault):
    """The demo's peer {peer} ended with status {status}."""

    code = "P2P-USE-008"
    likely = ("its own error stands above", "the machine has too little memory for so many peers")
    command = "p2pfl demo --peers 3"


class NothingToSum(ConfigurationError):
    """`p2pfl sum` needs this site's number: a value, or a column of a CSV file."""

    code = "P2P-USE-009"
    likely = ("neither --value nor --csv with --column was given", "both were given")
    command = "p2pfl sum --help"


class ValueNotANumber(ConfigurationError):
    """{place}: {column} holds something that is not a number."""

    code = "P2P-USE-010"
    likely = ("the cell is blank or text", "a decimal comma stands where a point is wanted")
    command = "p2pfl sum --help"


class ValueTooFine(ConfigurationError):
    """This site's numbers have up to {digits} after the point (--decimals): a variance of fewer is a wrong one."""

    code = "P2P-USE-037"
    likely = (
        "--decimals is smaller at this site than what its file holds; it has to be the same at all sites",
        "values of more than 9 digits: round them in the file, before it is summed",
    )
    command = "p2pfl sum --help"


class NoRoomForDecimals(ConfigurationError):
    """With --decimals {decimals} a sum has no room for what this site adds to a {statistic}; with {fits} it has."""

    code = "P2P-USE-038"
    likely = (
        "a variance sums squares, which have twice as many digits after the point as the values",
        "the values have more digits than were measured: round them in the file, and so at every site",
        "their unit is small: in a larger one, or less one number that all sites take off, squares are smaller",
    )
    command = "p2pfl sum --stat {statistic} --decimals {fits} --help"


class NoSuchColumn(ConfigurationError):
    """{path} has no column {column}."""

    code = "P2P-USE-011"
    likely = ("it is spelt differently in the first line", "the file uses another separator than the comma")
    command = "head -n 1 {path}"


class NoModel(ConfigurationError):
    """The home {path} holds no model yet."""

    code = "P2P-USE-012"
    likely = ("no round is final yet", "this home has only been used for sums")
    command = "p2pfl status --home {path}"


class NotWritten(LocalFault):
    """{path} cannot be written."""

    code = "P2P-USE-013"
    likely = ("the directory does not exist or belongs to another user", "the disk is full")
    command = "ls -ld {folder}"


class ResultUnseen(LocalFault):
    """What was to be printed could not be written to stdout. What the command did stands."""

    code = "P2P-USE-035"
    likely = ("stdout is closed, or its reader has left", "it is a file on a full disk", "the device behind it fails")
    command = "df -h"


class NoHomeFolder(ConfigurationError):
    """This user has no home folder, and nothing says where else the site's home, or its key file, is."""

    code = "P2P-USE-036"
    likely = (
        "HOME is not set, and the user has no entry in passwd, as in some containers: name --home, and --key-file",
    )
    command = "p2pfl status --home /srv/p2pfl --key-file /srv/site.key"


class NoDifferentFile(ConfigurationError):
    """No other peers.yaml of {peer} is known here."""

    code = "P2P-USE-014"
    likely = ("that site's file is wanted: doctor asks it for it", "a path of a file was meant")
    command = "p2pfl doctor"


class LogNotWritable(LocalFault):
    """The log {path} cannot be opened for writing."""

    code = "P2P-USE-030"
    exit_status = 2
    likely = ("the directory does not exist", "it belongs to another user", "the file system is read-only")
    command = "ls -ld {folder}"


class MetricsNotLocal(ConfigurationError):
    """Metrics are for this machine alone, and {place} is not on it."""

    code = "P2P-USE-031"
    likely = ("an address other than 127.0.0.1 or [::1] was given", "a Prometheus elsewhere is meant to scrape")
    command = "p2pfl join --help"


class MetricsPortBusy(LocalFault):
    """Metrics cannot be shown at {place}."""

    code = "P2P-USE-032"
    likely = ("another site on this machine has the port", "another program has it")
    command = "ss -ltnp 'sport = :{port}'"


class MetricsLibraryMissing(LocalFault):
    """Metrics need the package prometheus-client, which is not installed here."""

    code = "P2P-USE-033"
    likely = ("the extra [metrics] was left out when p2pfl was installed from its checkout: install it there",)
    command = "pip install '.[metrics]'"


class NothingLeft(LocalFault):
    """The system has no more {what} for this process."""

    code = "P2P-USE-024"
    likely = ("a limit of its service or its container is low", "other programs of this user hold them")
    command = "ulimit -a"


class SystemRefused(LocalFault):
    """The system refused what was wanted of {path}."""

    code = "P2P-USE-025"
    likely = ("it belongs to another user", "the path is too long or leads in a circle", "the disk is failing")
    command = "ls -ld {path}"


class NotReadable(LocalFault):
    """{path} cannot be read."""

    code = "P2P-USE-015"
    exit_status = 2
    likely = ("the path is mistyped", "the command runs in another folder", "the file belongs to another user")
    command = "ls -l {folder}"


class WrongName(ConfigurationError):
    """{text} cannot be a site's name: small letters, digits and hyphens, at most 31 of them, a letter first."""

    code = "P2P-USE-020"
    likely = ("it has blanks, capitals or letters outside of a to z", "an option's value is missing")
    command = "p2pfl init --name {instead}"


class CardsCollide(ConfigurationError):
    """The cards {first} and {second} both have {what}."""

    code = "P2P-USE-023"
    likely = (
        "one card was given twice",
        "two sites chose the same name, or wrote down the same address",
        "a home was copied to a second machine",
    )
    command = "p2pfl peers fingerprint {second}"


class UnknownErrorCode(ConfigurationError):
    """No error has the code {code}."""

    code = "P2P-USE-034"
    likely = ("it is mistyped", "it is of another version of p2pfl")
    command = "p2pfl help P2P-MESH-003"
