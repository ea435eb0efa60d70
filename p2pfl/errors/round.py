"""What can go wrong in a round: who broke which rule, or which of our own rules this node broke."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, IntegrityError, LocalProtocolError, RemoteProtocolError, RoundLeftBehind

_WATCH = "p2pfl status"


class UnexpectedMessage(RemoteProtocolError):
    """{peer} sent a {message} in phase {phase}, where the protocol has no place for one."""

    code = "P2P-ROUND-001"
    likely = ("that site runs another version of the program", "that site was altered")
    command = _WATCH


class MalformedMessage(RemoteProtocolError):
    """{peer} sent bytes that are not a message of this protocol."""

    code = "P2P-ROUND-002"
    likely = ("that site runs another version of the program", "that site was altered")
    command = _WATCH


class BundleRejected(RemoteProtocolError):
    """{peer} dealt a share that does not fit the bundle that it signed."""

    code = "P2P-ROUND-004"
    likely = ("that site was altered", "that site's memory or disk is failing")
    command = _WATCH


class TwoStatements(RemoteProtocolError):
    """{peer} signed two different {message} statements in one attempt."""

    code = "P2P-ROUND-005"
    likely = ("two copies of that site are running", "that site was restored from a snapshot", "that site was altered")
    command = _WATCH


class MembersRejected(RemoteProtocolError):
    """{peer} coordinated an attempt with a set of members that does not hold together."""

    code = "P2P-ROUND-006"
    likely = ("that site was altered",)
    command = _WATCH


class BulkRejected(RemoteProtocolError):
    """{peer} sent masked words that do not match what it signed."""

    code = "P2P-ROUND-007"
    likely = ("that site was altered", "that site's memory is failing")
    command = _WATCH


class BallotRejected(RemoteProtocolError):
    """{peer} cast a ballot or sent a certificate that does not prove what it claims."""

    code = "P2P-ROUND-008"
    likely = ("that site was altered",)
    command = _WATCH


class SeedRejected(RemoteProtocolError):
    """{peer} revealed a {message} that is not the one that it committed to."""

    code = "P2P-ROUND-009"
    likely = ("that site was altered", "that site's disk is failing")
    command = _WATCH


class RecordDiffers(RemoteProtocolError):
    """{peer} confirmed another result of this round than this site computed."""

    code = "P2P-ROUND-010"
    likely = ("that site's arithmetic differs: compare versions of the program", "that site was altered")
    command = "p2pfl ledger show"


class WrongSender(RemoteProtocolError):
    """{peer} sent a message in the name of another site."""

    code = "P2P-ROUND-011"
    likely = ("that site was altered",)
    command = _WATCH


class SetsDiffer(RemoteProtocolError):
    """{peer} works under another set of members in this attempt than the one that {coordinator} sent to this site."""

    code = "P2P-ROUND-012"
    likely = ("the coordinator sent two sets", "that site was altered")
    command = _WATCH


class FalseTag(RemoteProtocolError):
    """{peer} signed a tag that is not that of its own masked words: it would have let a wrong sum pass."""

    code = "P2P-ROUND-014"
    likely = ("that site was altered", "that site's memory is failing")
    command = _WATCH


class FalseSum(RemoteProtocolError):
    """{peer} signed a sum that is not the sum of what it was given."""

    code = "P2P-ROUND-015"
    likely = ("that site was altered", "that site's memory is failing")
    command = _WATCH


class TagsRejected(RemoteProtocolError):
    """{peer} sent tags that are not of the shape of the sum."""

    code = "P2P-ROUND-016"
    likely = ("that site was altered",)
    command = _WATCH


class BackupRejected(RemoteProtocolError):
    """{peer} sent a backup share that is not the one that its dealer signed."""

    code = "P2P-ROUND-017"
    likely = ("that site was altered", "that site's disk is failing")
    command = _WATCH


class EvidenceRejected(RemoteProtocolError):
    """{peer} accused a site with letters that prove nothing."""

    code = "P2P-ROUND-018"
    likely = ("that site runs another version of the program", "that site was altered")
    command = _WATCH


class ProvenLiar(RemoteProtocolError):
    """{peer} broke the protocol: letters under its own signature prove it, to anyone."""

    code = "P2P-ROUND-019"
    likely = ("that site was altered", "two copies of that site are running")
    command = "p2pfl ledger show --log site"


class EpsilonFell(RemoteProtocolError):
    """{peer} claims to have spent less privacy than the ledger says it had spent before."""

    code = "P2P-ROUND-046"
    likely = ("that site's home was restored from a backup", "that site was altered")
    command = "p2pfl ledger show"


class UnexpectedEvent(LocalProtocolError):
    """This node's own code raised {event} in phase {phase}, where the protocol has no place for it."""

    code = "P2P-ROUND-020"
    likely = ("a bug in p2pfl: please report it with the site log",)
    command = "p2pfl ledger show --log site"


class DisclosureRefused(LocalProtocolError):
    """This node's own code asked to reveal a secret that the protocol keeps."""

    code = "P2P-ROUND-021"
    likely = ("a bug in p2pfl: please report it with the site log; nothing was revealed",)
    command = "p2pfl ledger show --log site"


class ConfigurationDiffers(ConfigurationError):
    """{peer} would sum under another configuration than this site: {field} differs."""

    code = "P2P-ROUND-030"
    likely = (
        "the sites call the sum with different vectors, limits or names",
        "the sites run different versions of the program",
    )
    command = "p2pfl doctor"


class RolledBack(IntegrityError):
    """This site's home is older than what {peer} holds under this site's own signature."""

    code = "P2P-ROUND-032"
    likely = (
        "a second copy of this home is running elsewhere: end that one, and go on with the newer of the two",
        "the home was restored from a snapshot or backup: where no newer one is left, a quorum of the others lets it "
        "go on, by the command below at one of them, not here, and `p2pfl peers approve change.yaml` at the rest",
        "there are three sites, too few for that: once this site has ended so while both others ran, make another "
        "peers.yaml, under another name, for the same homes",
    )
    command = "p2pfl peers propose recover {site} -o change.yaml"


class SiteLogBroken(RemoteProtocolError):
    """{peer} showed a head of its own ledger that does not extend the one which this site cosigned before."""

    code = "P2P-ROUND-051"
    likely = (
        "the home of that site was restored from a backup, and its program did not stop",
        "somebody at that site cut or rewrote its log",
        "two copies of that site are running",
    )
    command = "p2pfl ledger export --log site -o seen.json"


class PeersFileDiffers(ConfigurationError):
    """{peer} runs under another peers.yaml than this site."""

    code = "P2P-ROUND-033"
    likely = ("a site was added at one place only", "the file was edited after it was agreed")
    command = "p2pfl doctor"


class LedgersDiffer(IntegrityError):
    """The federation logs of this site and {peer} are not one log."""

    code = "P2P-ROUND-034"
    likely = ("one of the two homes was edited", "one of the two homes was restored from a backup")
    command = "p2pfl ledger verify"


class SignatureMissing(RemoteProtocolError):
    """{peer} has not signed the {what}."""

    code = "P2P-ROUND-035"
    likely = ("that site runs under another peers.yaml", "that site was altered")
    command = "p2pfl doctor"


class PeersHoldAnotherFile(ConfigurationError):
    """{count} sites run under another peers.yaml than this one; so it is this one that differs."""

    code = "P2P-ROUND-036"
    likely = ("the file here was edited after it was agreed", "this site was given an older file")
    command = "p2pfl peers show"


class GaveUpWaiting(RoundLeftBehind):
    """This site waited {seconds} s for {peers}, as --wait asked, and gave up."""

    code = "P2P-ROUND-037"
    likely = ("that site is not started, or not reachable", "that site is still training")
    command = "p2pfl status"


class AnotherCohort(ConfigurationError):
    """These data were summed before, over other sites than {query} would be now: two answers tell one site's value."""

    code = "P2P-ROUND-038"
    likely = (
        "a site joined, left or was away since they were first summed, under whichever name",
        "they were summed in another study, whose sites are other ones to this one: ask there, or have one study",
        "they are the same numbers by chance, as of two columns with as many yes: nothing tells these apart",
    )
    command = "p2pfl ledger show --log site"


class LimitMissing(ConfigurationError):
    """A vector of floats needs a limit: the largest absolute value that any site's may hold."""

    code = "P2P-ROUND-039"
    likely = ("Peer.sum was called without limit=, and without decimals= for exact decimals",)
    command = "p2pfl sum --help"


class RunUnderWay(ConfigurationError):
    """This home has a {what} under way; another run would overwrite what it still owes the other sites."""

    code = "P2P-ROUND-041"
    likely = (
        "a training was interrupted and is not finished: the command below goes on with it, in Python another train",
        "in one Peer, a training was cancelled behind its proposal, or gave up, and is called again: leave the Peer "
        "and join anew, which takes the round up",
    )
    command = "p2pfl join --peers peers.yaml --data FILE.csv"


class SupportTooLarge(ConfigurationError):
    """The positions that this site nominates for the round do not fit into a proposal among {n} sites."""

    code = "P2P-ROUND-043"
    likely = ("compression.density in peers.yaml is too high for a model of this size",)
    command = "p2pfl peers show"


class SumLeftBehind(RoundLeftBehind):
    """Round {round} was left behind: {sent}."""

    code = "P2P-ROUND-044"
    likely = ("a site stopped, or was cut off, between its vote and its last word", "a site withholds its word")
    command = "p2pfl status"


class TooFewContribute(RoundLeftBehind):
    """{query} was not summed: {what}, and peers.yaml asks for at least {least}."""

    code = "P2P-ROUND-048"
    likely = (
        "the column is blank at most sites, or a filter leaves few records",
        "a statistic of so few would tell each of them the others' numbers",
    )
    command = "p2pfl peers show"


class SitesWentAway(RoundLeftBehind):
    """Since it was counted who has values for {query}, the sites are other ones: it was not summed here."""

    code = "P2P-ROUND-049"
    likely = (
        "this site came too late, or fell silent between the two rounds of the question, and the others go on",
        "so many sites fell silent that too few are left",
    )
    command = "p2pfl doctor --peers peers.yaml"


class SumBeyondLimit(RoundLeftBehind):
    """The sum of round {round} is void: it lies beyond what its sites may put in together."""

    code = "P2P-ROUND-047"
    likely = ("a site was altered: the program refuses a number over the limit where it is put in",)
    command = "p2pfl ledger show"


class SumMissed(RoundLeftBehind):
    """The other sites finished this sum while this one was away, and went on; its value is not known here."""

    code = "P2P-ROUND-045"
    likely = ("this site, or its links, were down for longer than the others waited",)
    command = "p2pfl ledger show"


class LeftOutTooOften(RoundLeftBehind):
    """The others summed {count} of the last {rounds} rounds without this site, though it was there: it has stopped."""

    code = "P2P-ROUND-050"
    likely = (
        "the links between this site and those that named the sets are bad: run p2pfl doctor",
        "a site that named a set was altered",
    )
    command = "p2pfl join --peers peers.yaml --data FILE.csv --go-on"


class NotInRoster(ConfigurationError):
    """{name} is not in {source}, or is there with another key."""

    code = "P2P-ROUND-042"
    likely = ("the file was made without this site's card", "this home was made anew after the card was sent")
    command = "p2pfl peers create A.card B.card C.card -o peers.yaml"
