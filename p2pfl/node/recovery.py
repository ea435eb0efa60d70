"""What a home knows of how much privacy another site has spent, for the statement by which that site goes on.

A site whose home was rolled back has forgotten it. The others have it from the ledger, from the heads of its log that
they cosigned, and from its proposals; all are under its own signature or that of a quorum (docs/adr/0040).
"""

from __future__ import annotations

from p2pfl import codec
from p2pfl.federation.membership import Change
from p2pfl.home import Home
from p2pfl.ledger import note
from p2pfl.ledger.log import Log
from p2pfl.messages import Propose, read_letter
from p2pfl.node.hello import PEERS_ITEM
from p2pfl.node.logs import epochs_of
from p2pfl.node.witness import held_notes


def spent_by(home: Home, name: str) -> str:
    """The largest ε of the site `name` that this home knows of, as decimal text; "0" for none."""
    log = Log.open(home, "federation")
    records = [codec.read_facts(one.record) for one in log.records()]
    found = [facts.get(field, {}).get(name, "") for facts in records for field in ("epsilon", "recovered")]
    found += [_proposed(wire, name) for wire in _statements(home)]
    data, added = held_notes(home).cosigned.get(name), epochs_of(home, log).added.get(name, -1)
    if data is not None:
        head = note.parse_note(data.decode())[0]
        stated = note.federation_of(head)
        if stated is not None and stated[0] > added:  # else it is of a site that left, and joined anew
            found.append(f"{note.epsilon_of(head):f}")
    return max(filter(None, found), key=float, default="0")


def understated(home: Home, change: Change) -> tuple[str, str, str] | None:
    """A site of which this home knows more than the change says: its name, what the change says, what is known."""
    for name, said in change.facts.get("recovered", {}).items():
        known = spent_by(home, name)
        if float(known) > float(said):
            return name, said, known
    return None


def _statements(home: Home) -> tuple[bytes, ...]:
    data = home.read(PEERS_ITEM)
    return codec.unpack(data, most=len(data), items=1 << 20) if data else ()


def _proposed(wire: bytes, name: str) -> str:
    letter = read_letter(wire)
    return letter.message.epsilon if letter.sender == name and isinstance(letter.message, Propose) else ""
