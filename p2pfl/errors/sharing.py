"""What can go wrong between a value and its words: leaves of the error tree that the sharing kernel raises."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalProtocolError, RemoteProtocolError


class WordOutOfRange(RemoteProtocolError):
    """{peer} sent a word that is not in the field modulo {p}."""

    code = "P2P-SHARE-002"
    likely = ("the two sides run different versions", "that site's program was altered", "memory there is failing")
    command = "p2pfl status"


class WordsMissized(RemoteProtocolError):
    """{peer} sent words of the wrong total length."""

    code = "P2P-SHARE-003"
    likely = ("the two sides run different versions", "that site's program was altered")
    command = "p2pfl status"


class NotInField(LocalProtocolError):
    """This node handed over values that do not fit the field modulo {p}."""

    code = "P2P-SHARE-004"
    likely = ("a defect in this program", "memory on this machine is failing")
    command = "p2pfl status --json"


class SumCouldWrap(ConfigurationError):
    """With these sharing settings a sum over {n} peers could wrap around the field modulo {p}."""

    code = "P2P-SHARE-005"
    likely = ("the field is too small for so many peers", "the limit times 10^decimals is too large for the field")
    command = "p2pfl peers show"


class LimitInvalid(ConfigurationError):
    """The setting {setting} of the quantiser is not a number that it can work with."""

    code = "P2P-SHARE-006"
    likely = ("a clip or scale in peers.yaml is zero, negative or not finite",)
    command = "p2pfl peers show"


class ValueOverLimit(ConfigurationError):
    """A value to be summed is larger than the limit that all peers agreed on."""

    code = "P2P-SHARE-007"
    likely = ("the limit was chosen too small", "the value is in another unit than the others use")
    command = "p2pfl sum --help"


class ValueNotFinite(ConfigurationError):
    """A value to be summed is not a finite number."""

    code = "P2P-SHARE-008"
    likely = ("a blank or a division by zero in the data", "training diverged")
    command = "p2pfl status"


class ShareCountWrong(LocalProtocolError):
    """This node asked for a split or a sum with the wrong number or length of parts."""

    code = "P2P-SHARE-009"
    likely = ("a defect in this program",)
    command = "p2pfl status --json"


class NothingToAverage(ConfigurationError):
    """The sites together hold too few values for this statistic."""

    code = "P2P-SHARE-010"
    likely = ("the column is blank everywhere", "the filter leaves no row")
    command = "p2pfl sum --help"
