"""A round's record: canonical facts that go into every federation log, the same bytes at every site.

It is a function of what its certificate binds (the Members letter and V) and of three values that follow from the sum.
So a confirmation states those three, and every holder of the certificate writes the record itself.
docs/spec/sharing.md §9, docs/adr/0022.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from p2pfl import codec
from p2pfl.messages import Letter, Members, Propose
from p2pfl.roster import Roster
from p2pfl.sharing.certificate import proposals
from p2pfl.sharing.digests import attempt_digest, record_salt


@functools.lru_cache(maxsize=4)  # nearly every confirmation of a round says the same
def make(members: Letter[Members], view: bytes, roster: Roster, total: bytes, model: bytes, outcome: bytes) -> bytes:
    """The record of the attempt of `members` under V = `view`. Raises Malformed.

    total, model   digests (32 bytes) of the sum, and of the model that came of it
    outcome        canonical facts of what else followed from the sum
    """
    message, place, attempt = members.message, members.envelope, attempt_digest(members)
    proposed = proposals(members, roster)
    any_of = next(iter(proposed.values()))
    clocks = sorted(proposal.clock_ms for proposal in proposed.values())
    change = announced(proposed.values(), roster)
    return codec.facts(
        {
            **({"announced": change.hex()} if change else {}),
            "kind": "round",
            "run": place.run.hex(),
            "epoch": place.epoch,
            "round": place.round,
            "attempt": place.attempt,
            "rests_on": any_of.rests_on,
            "base": any_of.base.hex(),
            "survivors": list(message.survivors),
            "left_out": [name for name in roster.names if name not in message.survivors],
            "attempt_digest": attempt.hex(),
            "view": view.hex(),
            "total": total.hex(),
            "model_before": any_of.model.hex(),
            "model_after": model.hex(),
            "configuration": codec.read_facts(any_of.configuration),
            "outcome": codec.read_facts(outcome),
            "epsilon": {name: proposal.epsilon for name, proposal in proposed.items()},
            "site_heads": {name: proposal.site_head.hex() for name, proposal in proposed.items()},
            # The lower median: no minority of clocks can move the agreed time out of the honest range.
            "time_ms": clocks[(len(clocks) - 1) // 2],
            # V binds the nonces' bundles, and every nonce is checked before READY: all who confirm know one salt.
            "salt": record_salt(attempt, view).hex(),
        }
    )


def said(record: bytes) -> tuple[bytes, bytes, bytes]:
    """(total, model, outcome): what a record holds beyond its certificate, and `make` needs to write it again."""
    facts = codec.read_facts(record)
    return bytes.fromhex(facts["total"]), bytes.fromhex(facts["model_after"]), codec.facts(facts["outcome"])


def announced(proposed: Iterable[Propose], roster: Roster) -> bytes:
    """Digest of the change of membership that follows this round; empty: none. More than c of its members hold it.

    So an honest site holds it, with its q signatures. There are no two for one epoch, since an honest site signs one.
    """
    held = [proposal.change for proposal in proposed if proposal.change]
    return next((change for change in held if held.count(change) > roster.quorums.c), b"")
