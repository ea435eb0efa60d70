"""Changes of membership: what a proposal, an approval or a revocation says to the people who make them."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, IntegrityError, RemoteProtocolError


class CannotAmend(ConfigurationError):
    """{source} is not laid out so that sites can be added or taken out line by line."""

    code = "P2P-FED-030"
    likely = ("the file was written by hand: `p2pfl peers create` writes each site on lines of its own",)
    command = "p2pfl peers show {source}"


class NoSuchSite(ConfigurationError):
    """{name} is not a site of the epoch that is to be changed."""

    code = "P2P-FED-031"
    likely = ("the name is mistyped", "that site has left already")
    command = "p2pfl peers show"


class SiteThereAlready(ConfigurationError):
    """{name}, or its key, is a site of this federation already."""

    code = "P2P-FED-032"
    likely = ("that site wants another key or address: then it is rotated, not added",)
    command = "p2pfl peers propose --help"


class SecondProposal(ConfigurationError):
    """This site has signed another change to epoch {epoch}; it signs one for each epoch, ever."""

    code = "P2P-FED-033"
    likely = (
        "two people proposed at the same time",
        "the proposal was made again with another round or card",
        "the file of the one that it signed was lost",
    )
    command = "p2pfl peers propose --again -o change.yaml"


class ChangeUnfit(ConfigurationError):
    """The change {source} does not lead from epoch {epoch} of this federation to the next."""

    code = "P2P-FED-034"
    likely = ("it is in force already", "it was made from another peers.yaml", "the file was edited by hand")
    command = "p2pfl peers show"


class ChangeIncomplete(ConfigurationError):
    """The change {source} is not approved yet: {lacking}."""

    code = "P2P-FED-035"
    likely = ("more sites have to run p2pfl peers approve on it, or on a copy of it",)
    command = "p2pfl peers approve {source}"


class ChangeOfSettings(ConfigurationError):
    """The change {source} alters more than who takes part."""

    code = "P2P-FED-036"
    likely = ("the file in it was edited by hand", "somebody tries to change the privacy budget on the way")
    command = "p2pfl peers propose --help"


class NotAMember(ConfigurationError):
    """{name} is not a site of epoch {epoch}: q sites approved that it leaves."""

    code = "P2P-FED-037"
    likely = ("the sites agreed on it; its ledger stays whole and can be verified and exported",)
    command = "p2pfl ledger show"


class NoLongerListed(ConfigurationError):
    """{count} sites no longer list this site's key, more than may lie."""

    code = "P2P-FED-038"
    likely = ("the sites approved a change of membership while this one was away", "this site was removed or revoked")
    command = "p2pfl peers adopt --help"


class NothingToChange(ConfigurationError):
    """The federation has not begun at this home: until then another peers.yaml is made, instead of changing one."""

    code = "P2P-FED-039"
    likely = (
        "this site is the one that joins: a site of the federation runs `p2pfl peers adopt`, and hands it the file",
        "the federation has not begun",
        "another home was meant",
    )
    command = "p2pfl peers create --help"


class NewKeyMissing(IntegrityError):
    """Epoch {epoch} lists another key for {name} than this home holds."""

    code = "P2P-FED-040"
    likely = ("the new key was made in another home", "the card was swapped on its way to the site that proposed it")
    command = "p2pfl peers new-key --help"


class HubLeaves(ConfigurationError):
    """{hub} is the hub, and {how}: the change must name the hub of the next epoch."""

    code = "P2P-FED-043"
    likely = ("the site that others reach is to be another one from then on",)
    command = "p2pfl peers propose {steps} hub {successor} -o change.yaml"


class NoHubHere(ConfigurationError):
    """{name} cannot be made the hub: this federation has none."""

    code = "P2P-FED-044"
    likely = ("its sites agreed on topology: mesh, which no change of membership alters",)
    command = "p2pfl peers show"


class NotAHub(ConfigurationError):
    """{name} cannot be the hub of the next epoch: the others have to be able to dial it."""

    code = "P2P-FED-045"
    likely = ("it lists no address: rotate it to a card that does, in the same change", "it is not one of the sites")
    command = "p2pfl peers propose --help"


class NotAdded(ConfigurationError):
    """The change {source} does not add {name} with the key of this home."""

    code = "P2P-FED-047"
    likely = ("the card that was handed over is of another home", "this site is a member already: it approves instead")
    command = "p2pfl peers fingerprint --home {home}"


class AnotherAgreement(ConfigurationError):
    """{path} is not the business associate agreement that {source} names."""

    code = "P2P-FED-048"
    likely = ("the others signed another version of it", "the file was saved again, which changes its bytes")
    command = "sha256sum {path}"


class AgreementUnseen(ConfigurationError):
    """{source} names a business associate agreement, and this site was not shown it: nobody signs what is unseen."""

    code = "P2P-FED-053"
    likely = ("this is the first start of the site, or the change by which it joins; both sign that agreement",)
    command = "p2pfl join --data their.csv --agreement agreement.pdf"


class AgreementUnseenInChange(ConfigurationError):
    """The change {path} names a business associate agreement, and this site was not shown it."""

    code = "P2P-FED-057"
    likely = ("who joins by the change signs that agreement with it, and nobody signs what is unseen",)
    command = "p2pfl peers accept {path} --agreement agreement.pdf"


class Revoked(RemoteProtocolError):
    """The key of {peer} was revoked at this site: nothing of it is accepted here."""

    code = "P2P-FED-041"
    likely = ("that machine was stolen or broken into", "an operator revoked it with p2pfl peers revoke")
    command = "p2pfl peers propose remove {peer} -o change.yaml"


class RevokedTooMany(ConfigurationError):
    """With {name} revoked too, fewer sites than the quorum of {quorum} are left at this one."""

    code = "P2P-FED-042"
    likely = ("more sites were lost than the federation can stand",)
    command = "p2pfl peers propose --help"


class NothingSigned(ConfigurationError):
    """This site has signed no change to epoch {epoch} that could be written once more."""

    code = "P2P-FED-050"
    likely = ("another site proposed it, and has its file", "that epoch has begun already")
    command = "p2pfl peers propose --help"


class ChangeNeverDue(ConfigurationError):
    """The change {source} begins after the end of the training, which has {rounds} rounds: it would never begin."""

    code = "P2P-FED-051"
    likely = ("the round is mistyped", "somebody wants each site's one signature for the next epoch to be spent on it")
    command = "p2pfl peers propose --help"


class RevocationsLost(IntegrityError):
    """This home holds fewer decisions on the key of {peer} than its site log tells of."""

    code = "P2P-FED-056"
    likely = ("membership/revoked was removed, or an older copy of it was put back", "the disk is failing")
    command = "p2pfl peers revoke {peer} --peers {source} --home {home}"


class NotRevoked(ConfigurationError):
    """The key of {name} is not revoked at this site."""

    code = "P2P-FED-052"
    likely = ("another site has revoked it, and there it has to be accepted again", "another name was meant")
    command = "p2pfl peers show"


class CannotRecover(ConfigurationError):
    """{name} cannot go on from an older home here: the others are too few to sign it."""

    code = "P2P-FED-054"
    likely = ("among three sites every signature is needed, and the one of a home that was rolled back does not count",)
    command = "p2pfl peers create A.card B.card C.card -o peers.yaml"


class RecoveryUnderstated(ConfigurationError):
    """This home knows that {name} has spent an epsilon of {known}, more than {source} says."""

    code = "P2P-FED-055"
    likely = (
        "the site that proposed it was away when that was spent",
        "one that has not signed a change to this epoch proposes it anew, with --epsilon",
    )
    command = "p2pfl peers propose recover {name} --epsilon {known} -o change.yaml"


class NameOfAnother(ConfigurationError):
    """{name} was the name of another site of this federation, which left: it is given to no other key."""

    code = "P2P-FED-058"
    likely = (
        "another hospital chose the same name: it makes its home under a name of its own",
        "it is the same hospital with a new home: the new one needs a new name, too",
    )
    command = "p2pfl init --help"
