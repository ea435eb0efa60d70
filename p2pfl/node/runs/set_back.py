"""A home that was set back: its studies wait for each other until the sites of every one of them have been heard.

The accounts are the home's, and a backup takes them back for all of its studies. What one of them charged since is
known to that study's sites alone: another one, trained before it is told, would spend the same budget again. So the
first study that is shown that the home is an older one notes all that may have charged since; each is struck off when
it is about to charge a pass, for then q−1 of its sites have said hello, and what they know is charged; until none is
left, none of them charges anything. docs/adr/0051.

The study that is shown it hears its sites out before it ends, and charges what they know (0090). From then on its
account alone would not show any more that it is an older home, so it notes that it was stopped.
"""

from __future__ import annotations

from typing import Final

from p2pfl import codec
from p2pfl.codec import Malformed
from p2pfl.errors import P2PFLError
from p2pfl.errors.training import AccountUnreadable, StudiesUnheard
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.ledger.log import Log
from p2pfl.node.studies import Study, studies_of
from p2pfl.training import early_stop

SET_BACK: Final = "accounts/set-back"
STOPPED: Final = "state/stopped"  # of a study: the digest of the peers.yaml under which it was found to be set back
MOST_BYTES: Final = 1 << 16
AVERAGE: Final = "average"  # what a round's configuration calls arrays that are averaged


def found(home: Home, shown: Federation | None = None) -> None:
    """The home was set back: every study of it that may have charged since is to be heard. Durable on return.

    shown   of the study whose sites say so: it is one of them also where it had not begun in this home
    """
    studies = studies_of(home)  # one that is alone, too: another may be begun in this home, on the same accounts
    with home.charging():
        held = _unheard(home)
        held |= {one.federation.first.hex(): one.federation.name for one in studies if one.begun and not _over(one)}
        held |= {shown.first.hex(): shown.name} if shown is not None else {}
        _write(home, held)


def learnt(home: Home, shown: Federation) -> None:
    """A study's sites know of more than this home had told them: it was set back, if nobody has found that already."""
    if home.read(SET_BACK) is None:
        found(home, shown)


def heard(home: Home, federation: Federation) -> None:
    """The sites of this study have been heard, and what they know is charged."""
    if home.read(SET_BACK) is None:
        return
    with home.charging():
        held = _unheard(home)
        if held.pop(federation.first.hex(), None) is not None:
            _write(home, held)


def stop(home: Home, federation: Federation) -> None:
    """Under this peers.yaml the study takes no part any more, whatever its account says. Durable on return."""
    home.replace(STOPPED, federation.digest)


def check(home: Home, federation: Federation) -> None:
    """Raises StudiesUnheard while another study of the home is still to be heard."""
    if home.read(SET_BACK) is None:
        return
    over = {one.federation.first.hex() for one in studies_of(home) if _over(one)}  # all that it charged is in its log
    left = [name for first, name in _unheard(home).items() if first not in over and first != federation.first.hex()]
    if left:
        raise StudiesUnheard(studies=", ".join(sorted(left)), evidence=f"{home.path} was restored from a backup")


def _over(study: Study) -> bool:
    """The training is over in its log, by its number of rounds or by its rule, and nothing else of it is charged: no
    charge can be missing there. Questions with noise are asked as long as their sites like, and arrays are averaged as
    long by who has averaged some.
    """
    agreed = study.federation
    if agreed.statistics.noise_multiplier:
        return False
    try:
        log = Log.open(study.home, "federation")
    except P2PFLError:
        return False  # a log that cannot be read tells nothing
    records = (codec.read_facts(one.record) for one in log.records())
    every = [one for one in records if one.get("kind") == "round"]
    if any(_averages(one["configuration"]) for one in every):
        return False
    rounds = [one for one in every if one["configuration"]["purpose"] == "training"]
    return len(rounds) >= agreed.rounds or early_stop.why_over(rounds, agreed.stop) != ""


def _averages(configuration: codec.Facts) -> bool:
    """The round averaged arrays (averages.py), which each site is charged for."""
    return any(vector["as"] == AVERAGE for vector in configuration.get("vectors", ()))


def _unheard(home: Home) -> dict[str, str]:
    """By the digest of its first peers.yaml, what each study is called. Raises AccountUnreadable."""
    data = home.read(SET_BACK)
    try:
        held = codec.read_facts(data, MOST_BYTES)["unheard"] if data is not None else {}
        if not all(isinstance(name, str) for name in held.values()):
            raise ValueError("a study's name")
        return dict(held)
    except (Malformed, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AccountUnreadable(evidence=f"{SET_BACK}: {error}") from None


def _write(home: Home, unheard: dict[str, str]) -> None:
    if unheard:
        home.replace(SET_BACK, codec.facts({"unheard": unheard}))
    elif home.read(SET_BACK) is not None:
        home.remove(SET_BACK)
