"""`p2pfl peers revoke`: at this site, at once, accept nothing of another site's key any more."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import Unlock, home_option, json_option, peers_option, reading, unlock_options
from p2pfl.errors.membership import NoSuchSite, NotRevoked, RevokedTooMany
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.ledger.log import Log
from p2pfl.node.epochs import standing
from p2pfl.node.revocations import Decisions, decide, decisions_of, revoked_keys
from p2pfl.node.site_index import SiteIndex


@click.command()
@click.argument("name")
@peers_option
@click.option("--undo", is_flag=True, help="Accept NAME's key again: it was revoked by mistake.")
@home_option
@unlock_options
@json_option
def revoke(*, name: str, peers_file: Path, undo: bool, home: Path, unlock: Unlock, as_json: bool) -> None:
    """At this site, at once: close the link to NAME's key and accept nothing of it any more.

    No sum holds this site and that one together from then on. For all sites the removal decides: peers propose remove.
    """
    with reading(home, unlock, peers_file) as opened:
        federation, _ = standing(opened, Federation.load(peers_file))
        roster = federation.roster
        if name not in roster or name == opened.name:
            others = ", ".join(one for one in roster.names if one != opened.name)
            raise NoSuchSite(name=name, evidence=f"others: {others}")
        noted, key = SiteIndex(Log.open(opened, "site")).revocations(), roster[name].key
        if undo:
            return _accepted_again(opened, name, noted, key, as_json)
        with opened.beside():
            left = [one.name for one in roster.members if one.key not in {*revoked_keys(opened), key}]
            if len(left) < roster.quorums.q:
                raise RevokedTooMany(name=name, quorum=roster.quorums.q, evidence=f"left: {', '.join(left)}")
            decide(opened, noted, key, revoked=True)
    lines = [
        f"{name} is revoked at this site; a join that runs closes its link within a second",
        "the others go on with it until they revoke it too, or until this is approved; meanwhile a sum holds this "
        "site or that one, about as often the one as the other:",
        f"  p2pfl peers propose remove {name} -o change.yaml",
    ]
    output.result("\n".join(lines), {"revoked": name, "key": key.hex(), "left": left}, as_json)


def _accepted_again(home: Home, name: str, noted: Decisions, key: bytes, as_json: bool) -> None:
    """Raises NotRevoked."""
    with home.beside():
        before = decisions_of(home)
        if not decide(home, noted, key, revoked=False) and decisions_of(home) == before:
            raise NotRevoked(name=name, evidence=f"keys that are revoked here: {len(revoked_keys(home))}")
    text = f"{name} is accepted again at this site; a join that runs has its link back within seconds"
    output.result(text, {"revoked": None, "key": key.hex()}, as_json)
