"""The next peers.yaml from the current one: other sites, another hub, the next epoch, every other byte as it was.

The file is edited as text, line by line, at the places that the reader found, so comments and layout stay and a line
diff shows the change alone. The result is read again and compared with what was meant; where they differ (sites
written on one line) the file is refused, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from p2pfl.errors.membership import CannotAmend, HubLeaves, NoHubHere, NoSuchSite, NotAHub, SiteThereAlready
from p2pfl.federation import strict_yaml
from p2pfl.federation.draft import commented, peer_lines
from p2pfl.federation.federation import Federation
from p2pfl.federation.readers import List, Word, YamlNode, items, table
from p2pfl.roster import Member, Roster

EPOCH: Final = re.compile(r"epoch:[ ]*[0-9]+")
HUB: Final = re.compile(r"hub:[ ]*[^ #]+")


def changed(
    roster: Roster, add: Sequence[Member] = (), remove: Sequence[str] = (), rotate: Mapping[str, Member] | None = None
) -> tuple[Member, ...]:
    """The members of the next epoch: in the order of the file, new ones at the end.

    rotate   by name, the site's member of the next epoch: another key, or the same one at other addresses
    Raises NoSuchSite, SiteThereAlready.
    """
    cards = dict(rotate or {})
    for name in (*remove, *cards):
        if name not in roster:
            raise NoSuchSite(name=name, evidence=f"sites: {', '.join(roster.names)}")
    for one in add:
        if one.name in roster or roster.name_of(one.key) is not None:
            raise SiteThereAlready(name=one.name, evidence=f"sites: {', '.join(roster.names)}")
    for name, one in cards.items():
        if one.name != name:
            raise NoSuchSite(name=one.name, evidence=f"the card is of {one.name}, and {name} is to be rotated")
    kept = [cards.get(one.name, one) for one in roster.members if one.name not in remove]
    return (*kept, *add)


def next_hub(federation: Federation, members: Sequence[Member], named: str | None, steps: str) -> str | None:
    """The hub of the next epoch, with these members: `named`, or the current one; None where there is none.

    steps   the steps of the change, for the command in an error
    Raises NoHubHere, NotAHub; HubLeaves when the hub leaves, or lists no address any more, and no successor is named.
    """
    able = [one.name for one in members if one.addresses]
    evidence = f"sites that list an address: {', '.join(able) or 'none'}"
    if federation.hub is None:
        if named is not None:
            raise NoHubHere(name=named, evidence=f"{federation.source} says topology: {federation.topology}")
        return None
    if named is not None and named not in able:
        raise NotAHub(name=named, evidence=evidence)
    if named is None and federation.hub not in able:
        leaves = federation.hub not in [one.name for one in members]
        raise HubLeaves(
            hub=federation.hub,
            how="leaves" if leaves else "lists no address any more",
            steps=steps,
            successor=able[0] if able else "NAME",
            evidence=evidence,
        )
    return named or federation.hub


def amend(federation: Federation, members: Sequence[Member], genesis: bytes, hub: str | None = None) -> bytes:
    """The peers.yaml of the next epoch, with these members, and `hub` where that changes.

    genesis   SHA-256 of the federation log's first entry
    Raises CannotAmend, and a leaf of errors.federation when the members do not fit.
    """
    hub = hub or federation.hub
    top = strict_yaml.read_yaml(federation.raw, federation.source)
    rows = top.value("peers", items(table, 1 << 16))
    lines = federation.raw.decode().split("\n")
    if hub != federation.hub:
        at = top.node("hub").place.line - 1
        lines[at] = HUB.sub(f"hub: {hub}", lines[at], count=1)
    starts = [row.place.line - 1 for row in rows]
    ends = [*starts[1:], _last_line(rows[-1])]
    if len(set(starts)) != len(starts):
        _refuse(federation, "several sites stand on one line")
    indent = " " * max(rows[0].place.column - 3, 0)
    held = {one.name: one for one in federation.roster.members}
    blocks = {
        one.name: lines[start:end] for one, start, end in zip(federation.roster.members, starts, ends, strict=True)
    }
    body = [
        line for one in members for line in (blocks[one.name] if held.get(one.name) == one else _block(one, indent))
    ]
    text = "\n".join(
        [*_next_epoch(lines[: starts[0]], federation, genesis), *body, *_without_lineage(lines[ends[-1] :])]
    )
    found = Federation.parse(text.encode(), "the next peers.yaml")
    wanted = replace(
        federation,
        roster=Roster(federation.roster.epoch + 1, tuple(members)),
        raw=found.raw,
        source=found.source,
        origin=federation.first,
        genesis=genesis,
        hub=hub,
    )
    if found != wanted:
        _refuse(federation, "what comes out is not what was meant")
    return found.raw


def _block(one: Member, indent: str) -> list[str]:
    return [indent + line.removeprefix("  ") for line in peer_lines(one)]


def _last_line(node: YamlNode) -> int:
    """The number of the last line of a value."""
    if isinstance(node, Word):
        return node.place.line
    inner = node.values if isinstance(node, List) else [value for _, value in node.rows.values()]
    return max([node.place.line, *map(_last_line, inner)])


def _next_epoch(head: Sequence[str], federation: Federation, genesis: bytes) -> list[str]:
    """The lines above the sites, with the next epoch and its lineage."""
    found: list[str] = []
    epoch = federation.roster.epoch + 1
    done = 0
    for line in _without_lineage(head):
        if EPOCH.match(line):
            found += [EPOCH.sub(f"epoch: {epoch}", line, count=1), *_lineage(federation, genesis)]
            done += 1
        else:
            found.append(line)
    if done != 1:
        _refuse(federation, "its epoch does not stand on a line of its own above the sites")
    return found


def _lineage(federation: Federation, genesis: bytes) -> list[str]:
    return [
        "lineage:",
        commented(f'  first: "{federation.first.hex()}"', "SHA-256 of the peers.yaml of epoch 1"),
        commented(f'  genesis: "{genesis.hex()}"', "SHA-256 of the ledger's first entry"),
    ]


def _without_lineage(lines: Sequence[str]) -> list[str]:
    """The lines without the lineage of an earlier change, and the lines indented under it."""
    found, inside = [], False
    for line in lines:
        inside = line.startswith("lineage:") or (inside and line.startswith(" "))
        if not inside:
            found.append(line)
    return found


def _refuse(federation: Federation, why: str) -> None:
    raise CannotAmend(source=federation.source, evidence=why)


def settings_of(federation: Federation) -> tuple[object, ...]:
    """Every setting that a change of membership leaves as it is.

    Which site is the hub may change with the members; whether there is one may not.
    """
    one = federation
    what = one.name, one.task, one.rounds, one.stop, one.model, one.agreement
    how = one.privacy, one.local, one.server, one.average, one.measures, one.sharing, one.compression, one.minimum
    return (*what, *how, one.statistics, one.weights, one.topology)
