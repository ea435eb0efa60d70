"""Exported files made by hand: any entries, any head, any signers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from p2pfl.codec import facts
from p2pfl.keys import Identity
from p2pfl.ledger import note
from p2pfl.ledger.export import FORMAT, WAITING
from p2pfl.ledger.note import Head
from p2pfl.ledger.read_log import HashChain
from p2pfl.ledger.site_kinds import ActsEntry
from tests.ledger.sample import SITES, Signed


def chain_of(records: Sequence[Signed]) -> HashChain:
    chain = HashChain()
    for record, signatures in records:
        chain.add(record, dict(signatures))
    return chain


def log_of(
    records: Sequence[Signed],
    site: str = "charite",
    by: Mapping[str, Identity] | None = None,
    *,
    head: Head | None = None,
    log: str = "federation",
    show: Callable[[int], bool] = lambda index: True,
    beside: Mapping[str, Any] | None = None,
    cosigned: Sequence[str] = (),
    seen: Sequence[str] = (),
    waiting: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The facts of one exported log, its head signed by all of `by`."""
    chain = chain_of(records)
    if head is None:
        origin = note.federation_origin(records[0][0]) if log == "federation" else note.site_origin(site)
        head = Head(origin, len(records), chain.tree.root(), _stated(beside) if beside is not None else ())
    text = None
    for name, identity in (by or {site: SITES[site]}).items():
        text = note.sign(head, name, identity) if text is None else note.cosign(text, name, identity)
    rows = [
        {"record": record.decode(), "signatures": {name: one.hex() for name, one in signed.items()}}
        if show(index)
        else chain.leaves[index].hex()
        for index, (record, signed) in enumerate(records)
    ]
    return {
        "log": log,
        "site": site,
        "size": len(rows),
        "root": chain.tree.root().hex(),
        "head": chain.head.hex(),
        "signed_head": text,
        "entries": rows,
        **(
            {
                "cosigned": list(cosigned),
                "seen": list(seen),
                "waiting": waiting_row(chain.head, site, waiting, by or {}),
            }
            if log == "site"
            else {}
        ),
    }


def waiting_row(
    last: bytes, site: str, acts: Sequence[Mapping[str, Any]] = (), by: Mapping[str, Identity] = SITES
) -> dict[str, Any]:
    """What people did at that site behind the entry of that hash, as it signs it."""
    record = ActsEntry(time=1_700_000_000, acts=acts, salt=bytes(16)).record
    identity = by.get(site) or SITES[site]
    return {"record": record.decode(), "signatures": {site: identity.sign(WAITING, last + record).hex()}}


def _stated(beside: Mapping[str, Any]) -> tuple[str, ...]:
    """What a site log's head says of the federation log."""
    stands = Head("", beside["size"], bytes.fromhex(beside["root"]))
    return (f"{note.FEDERATION} {' '.join(stands.text.split())}",)


def file_of(held: Mapping[str, Any], **more: object) -> bytes:
    return facts({"format": FORMAT, **held, **more}) + b"\n"
