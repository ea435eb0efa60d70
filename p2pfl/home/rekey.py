"""A site's change of key, in its home: the next key waits there until its epoch begins.

Former keys stay known, since the ledger holds what they signed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pfl.errors.home import ItemDamaged
from p2pfl.home.home import KEPT, Home
from p2pfl.keys import KEY_BYTES, Identity

NEXT: Final = "membership/identity"
FORMER: Final = "membership/former"


def keys_of(home: Home) -> tuple[bytes, ...]:
    """The public keys that this site signed with: the current one, then those before it."""
    former = home.read(FORMER) or b""
    return (home.identity().key, *(former[at : at + KEY_BYTES] for at in range(0, len(former), KEY_BYTES)))


def next_identity(home: Home) -> Identity | None:
    """The key that this site changes to once that is approved; None if there is none."""
    private = home.read(NEXT)
    return None if private is None else Identity(private)


def new_identity(home: Home) -> Identity:
    """Make the key that this site changes to; the same one until it is taken."""
    with home.beside():
        if home.read(NEXT) is None:
            home.replace(NEXT, home.draw(32))
    made = next_identity(home)
    if made is None:
        raise ItemDamaged(evidence="it was written a moment ago", item=NEXT, name=home.name, path=home.path)
    return made


def take_identity(home: Home, publish: Callable[[], None]) -> None:
    """Make the next key the key. The ledger's heads bear the former one's signature until they are signed anew.

    The other studies of the home list the key that they were begun with: each keeps it, until it changes to another one
    itself. Durable in this order: the current key joins the former ones before it is replaced; the others have theirs
    before the site's is another; the next one is removed when all is done, so that finding it means that a process died
    in here.
    publish   writes the card of the new key
    """
    made = next_identity(home)
    if made is None:
        return
    with home.beside():
        if made.key != home.identity().key:
            if home.identity().key not in keys_of(home)[1:]:
                home.replace(FORMER, (home.read(FORMER) or b"") + home.identity().key)
            _keep_for_others(home)
            home.replace("identity", made.reveal())
            if home.read(KEPT) is not None:
                home.remove(KEPT)
        publish()
        home.remove(NEXT)


def _keep_for_others(home: Home) -> None:
    """Each other study that goes by the site's key has it as its own."""
    private = home.read("identity")
    for other in home.others():
        if private is not None and other.read(KEPT) is None:
            with home.lent(other):
                other.replace(KEPT, private)
