"""A site that is left out too often stops until its operator looks: counted from its own two logs (docs/adr/0014)."""

from __future__ import annotations

from p2pfl.ledger.site_kinds import OperatorEntry
from p2pfl.node.logs import Logs
from p2pfl.node.site_index import GO_ON
from p2pfl.sharing import fairness


def taken_part(logs: Logs, run: bytes, name: str) -> list[tuple[int, str]]:
    """The final rounds of `run` that this site was there for since its operator last looked, in order.

    With each, who named a set without this site; empty when the round is summed with it.
    """
    missed, looked = logs.unsummed(run)
    return fairness.taken_part((facts for facts in logs.rounds(run) if facts["round"] > looked), missed, name)


def check(logs: Logs, run: bytes, name: str) -> None:
    """Raises LeftOutTooOften when more than one in ten of the last rounds went without this site."""
    fairness.check(taken_part(logs, run, name))


def looked(logs: Logs, run: bytes) -> None:
    """The operator has looked: the count begins anew behind the last final round. Durable."""
    options: dict[str, str | int | bool] = {"run": run.hex(), GO_ON: logs.final_round(run)}
    logs.note(OperatorEntry(time=logs.time, command="join", options=options))
