"""Statistics over the sites' tables: what cannot be asked, and what the records do not hold.

A code begins with P2P-STATS, 050 to 099. None shows a record's value; counts are those that a sum has opened.
"""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalProtocolError, P2PFLError


class WrongQuestion(ConfigurationError):
    """The question {kind} cannot be asked as it is written."""

    code = "P2P-STATS-050"
    likely = ("a parameter is misspelt or out of range", "a column of codes was named where a number belongs")
    command = "p2pfl stats --help"


class ColumnNotInTable(ConfigurationError):
    """This site's table has no column {column}."""

    code = "P2P-STATS-051"
    likely = ("the name is misspelt", "the schema of the study has no such column")
    command = "p2pfl peers show"


class LevelsDiffer(ConfigurationError):
    """The question about {column} names levels that the schema does not have, or has otherwise."""

    code = "P2P-STATS-052"
    likely = ("a level is misspelt", "the question was written for another version of the schema")
    command = "p2pfl peers show"


class ValueOutsideBounds(ConfigurationError):
    """A value of {column} lies outside of the bounds that the schema gives."""

    code = "P2P-STATS-053"
    likely = ("another unit", "a typing mistake in the record", "the bounds of the schema are too narrow")
    command = "p2pfl peers show"


class NothingMeasured(P2PFLError):
    """No record at any site has a value of {columns}."""

    code = "P2P-STATS-054"
    likely = ("all values are missing", "no record has a value in all of these columns at once")
    command = "p2pfl peers show"


class EmptyGroup(P2PFLError):
    """Nobody with a value is in group {group} of {column}."""

    code = "P2P-STATS-055"
    likely = ("no site has such patients", "their other columns are missing")
    command = "p2pfl peers show"


class TooFewForModel(P2PFLError):
    """The sites have too few records for {what}."""

    code = "P2P-STATS-056"
    likely = ("many records lack one of the columns", "a column of codes with many levels takes a parameter for each")
    command = "p2pfl peers show"


class SingularDesign(P2PFLError):
    """The regression has no single solution: {column} is constant, or follows from the columns before it."""

    code = "P2P-STATS-057"
    likely = (
        "the column is the same in all records",
        "two columns say the same",
        "the schema's bounds are 100 000 times wider than the column's values lie apart",
    )
    command = "p2pfl peers show"


class OutcomeSeparated(P2PFLError):
    """The regression separates the outcomes perfectly: the coefficient of {column} grows without end."""

    code = "P2P-STATS-058"
    likely = (
        "a level in which every outcome is the same: leave it out, or join it with another",
        "few records for many columns: ask with a ridge penalty",
    )
    command = "p2pfl help"


class NotConverged(P2PFLError):
    """The regression did not come to an end in {steps} steps."""

    code = "P2P-STATS-059"
    likely = ("columns that nearly say the same", "too few steps were asked for")
    command = "p2pfl help"


class TimesBeyondGrid(P2PFLError):
    """Times lie beyond the grid that was agreed, which ends at {end}."""

    code = "P2P-STATS-060"
    likely = ("the grid ends before the longest follow-up", "another unit of time")
    command = "p2pfl peers show"


class NoVariation(P2PFLError):
    """{column} does not vary, so there is nothing to compare or explain."""

    code = "P2P-STATS-061"
    likely = ("every record has the same value", "nobody, or everybody, has the outcome")
    command = "p2pfl peers show"


class SumsImpossible(P2PFLError):
    """The sums contradict each other: no table gives them."""

    code = "P2P-STATS-062"
    likely = ("a site put in other numbers than its table has", "a site's table changed while the question ran")
    command = "p2pfl status"


class TableTooLong(ConfigurationError):
    """This site's table has more records than a statistic can count."""

    code = "P2P-STATS-063"
    likely = ("a file that was appended to itself",)
    command = "p2pfl help"


class NobodyShows(P2PFLError):
    """Fewer than two sites showed an estimate of their own, so there is nothing to combine."""

    code = "P2P-STATS-064"
    likely = ("sites did not agree to show theirs", "a site has too few records for an estimate")
    command = "p2pfl status"


class TableUneven(ConfigurationError):
    """The columns of this site's table have different lengths."""

    code = "P2P-STATS-066"
    likely = ("columns were read from different files", "a column was filtered and the others were not")
    command = "p2pfl help"


class SitesApart(LocalProtocolError):
    """Sites that were asked the same question went different ways."""

    code = "P2P-STATS-065"
    likely = ("a bug in this program: please report it, with the code", "the sites run different versions")
    command = "p2pfl status"


class NoiseUnbounded(ConfigurationError):
    """{query} cannot be asked with noise: {why}. Nothing was asked."""

    code = "P2P-STATS-067"
    likely = (
        "the sites agreed on noise (`statistics.noise_multiplier`), which needs a bound on what one record moves",
        "ask a kind whose sums have one: describe, table-one, histogram, quantiles, crosstab, ttest, anova, km, roc",
    )
    command = "p2pfl stats --help"
