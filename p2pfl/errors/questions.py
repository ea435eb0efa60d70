"""Statistics over the sites' tables: what may not be asked, what was not agreed, what is not opened. 001–049."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, IntegrityError, RoundLeftBehind


class NoTableDescribed(ConfigurationError):
    """Statistics are asked of the table that {source} describes under `task:`, and it describes none."""

    code = "P2P-STATS-001"
    likely = ("the federation trains on images, or on a task of its own",)
    command = "p2pfl peers create A.card B.card C.card -o peers.yaml --task task.yaml"


class ColumnNotAsked(ConfigurationError):
    """{what}: the rules in {source} do not allow it."""

    code = "P2P-STATS-002"
    likely = (
        "`statistics.never` or `statistics.only` leaves the column out, by everybody's word",
        "the name is mistyped",
    )
    command = "p2pfl peers show"


class QuestionTooLarge(ConfigurationError):
    """{query} may open {numbers} numbers; the rules in {source} allow {most} for one question."""

    code = "P2P-STATS-003"
    likely = ("it asks for many columns at once, or in fine steps: ask for fewer, or coarser",)
    command = "p2pfl peers show"


class QuestionNotApproved(ConfigurationError):
    """Nobody at this site has approved this question: {query}. Nothing was asked."""

    code = "P2P-STATS-004"
    likely = (
        "it is new here: read it, then approve it",
        "a column or a number in it differs from what was approved",
        "this site's own word goes before peers.yaml: `p2pfl stats approve --standing agreed`",
    )
    command = "p2pfl stats approve QUESTION.yaml --peers {source} --home {home}"


class QuestionsSpent(ConfigurationError):
    """These records were asked about {times}, which is all that the rules in {source} allow."""

    code = "P2P-STATS-005"
    likely = (
        "many questions about one data set, together, tell of single patients: ask one of those again, which is free",
    )
    command = "p2pfl stats show"


class QuestionRefused(RoundLeftBehind):
    """{query} was refused by the rules of at least one site; no site is told which, or why. Nothing was opened."""

    code = "P2P-STATS-006"
    likely = (
        "as many questions as are allowed were asked about the records of one of them",
        "the records of one of them were summed before, over other sites",
        "the privacy account of one of them does not allow it, or may not be charged yet",
    )
    command = "p2pfl stats show"


class GroupTooSmall(RoundLeftBehind):
    """{query} was not opened: it would count a group of fewer than {least} people."""

    code = "P2P-STATS-007"
    likely = (
        "a level or an interval is rare: merge it with its neighbour, or ask in coarser steps",
        "beside a number, regressions by steps take twice as many of each level: merge levels, ask linear or table-one",
        "few have the value, or few lack it: leave the column out",
        "of times, an interval in which few had the event or left: fewer and wider ones, the last to the longest time; "
        "or cox --by-site",
    )
    command = "p2pfl stats --help"


class SitesChanged(RoundLeftBehind):
    """The sites were other ones before {query} was through: its sums are over one set of sites, or it ends."""

    code = "P2P-STATS-008"
    likely = (
        "a site stopped, or lost its links, in the middle: ask again when it is back",
        "this site came too late for the first sum, and the others went on without it",
    )
    command = "p2pfl doctor --peers peers.yaml"


class QuestionUnfit(ConfigurationError):
    """{source} holds no question that can be asked here: {what}."""

    code = "P2P-STATS-009"
    likely = (
        "a column is not described in peers.yaml: one that is to be asked and not learned stands there under `asked:`",
        "it was written for another peers.yaml, or by another version, or changed by hand",
    )
    command = "p2pfl stats propose --help"


class WithdrawnUnknown(ConfigurationError):
    """{source} lacks {columns}, by which it is known whose records were withdrawn."""

    code = "P2P-STATS-011"
    likely = (
        "it was exported with fewer columns: add them, so that nobody who withdrew is in the answer",
        "the columns are there under other names: a column map names them",
    )
    command = "p2pfl peers show"


class PatientsUntold(ConfigurationError):
    """Groups are counted by patients, which the table names in `{patient}`, and {source} has no such column."""

    code = "P2P-STATS-012"
    likely = (
        "it was exported without that column: add it, with the same name for all records of a patient",
        "the column is there under another name: a column map names it",
    )
    command = "p2pfl peers show"


class QuestionsLost(IntegrityError):
    """The home {home} no longer knows what was asked about which of its records: no question is asked of them."""

    code = "P2P-STATS-013"
    likely = (
        "accounts/questions was changed or removed, or an older copy of it was put back: put back the newest one",
        "the disk is failing: with no copy move accounts/questions out of the home, and questions go on that count for "
        "every record, but not over a file with records of somebody who withdrew before",
    )
    command = "p2pfl ledger show --home {home}"


class FewWithdrew(ConfigurationError):
    """Fewer than {least} people of those who were asked about have withdrawn: what changed since would be theirs."""

    code = "P2P-STATS-010"
    likely = (
        "somebody withdrew after a question about the same records was answered: it stays refused until more have",
        "ask of records that no question was asked of",
    )
    command = "p2pfl stats show"
