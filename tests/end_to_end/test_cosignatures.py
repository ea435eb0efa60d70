"""What the others cosigned of a site's log goes from a real run into its export, and the auditor's program reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.ledger import note
from p2pfl.ledger.read_log import HashChain
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Sites


def exported(sites: Sites, name: str) -> Path:
    """What `ledger export` writes of its log, beside the auditor's program."""
    file = sites.place / f"{name}.json"
    words = ["ledger", "export", "--log", "site", "-o", file, "--with-verifier", "--home", sites[name].home]
    assert sites.run(name, ["-m", "p2pfl", *words]).end().status == 0
    return file


def audited(sites: Sites, file: Path, held: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What that program says of the file, or of these facts in its place."""
    if held is not None:
        file = file.with_suffix(".other")
        file.write_bytes(codec.facts(held) + b"\n")
    ended = sites.run(sites.names[0], ["-I", sites.place / "verify_ledger.py", file, "--json"]).end()
    assert ended.status == (0 if ended.facts["verified"] else 1), ended.text
    return ended.facts


def rewritten(sites: Sites, name: str, held: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Its log without its entries from number `size` on, under a head that its own key has signed."""
    chain, head = HashChain(), note.parse_note(held["signed_head"])[0]
    kept = held["entries"][:size]
    for row in kept:
        chain.add(row["record"].encode(), {one: bytes.fromhex(by) for one, by in row["signatures"].items()})
    with sites[name].opened() as home:
        signed = note.sign(replace(head, size=size, root=chain.tree.root()), name, home.identity())
    whole = {"size": size, "entries": kept, "root": chain.tree.root().hex(), "head": chain.head.hex()}
    return {**held, **whole, "signed_head": signed}


@pytest.mark.claim("LEDGER-11")
def test_an_export_of_a_run_carries_cosignatures_by_which_an_auditor_finds_a_cut_log(make: MakeSites) -> None:
    sites = make(3)
    for process in sites.linked(lambda name: [{"sum": [1, 2, 3], "name": "count"}]).values():
        assert process.end().status == 0, process.tail
    for name in sites.names:
        file = exported(sites, name)
        held = json.loads(file.read_bytes())
        seen = {note.parse_note(text)[0].size for text in held["cosigned"]}
        told = audited(sites, file)
        assert told["verified"], told["findings"]
        assert {*told["witnesses"]} == {*sites.names} - {name}
        assert {*told["witnesses"].values()} == seen and max(seen) <= held["size"]

        cut = rewritten(sites, name, held, max(seen) - 1)
        found = {one["what"] for one in audited(sites, file, cut)["findings"]}
        assert "a cosigned head is over other entries" in found
        dropped = audited(sites, file, {**cut, "cosigned": []})
        assert not dropped["witnesses"], "nobody is named where nobody's cosignature is shown"
        assert not any("cosigned" in one["what"] for one in dropped["findings"])

        first, *others = held["cosigned"]
        text, _, lines = first.partition("\n\n")
        with sites[name].opened() as home:
            own = note.sign(note.parse_note(first)[0], name, home.identity()).splitlines()[-1]
        (whose,) = {line.split()[1] for line in lines.splitlines()} - {name}
        forged = f"{text}\n\n{own}\n{own.replace(name, whose)}\n"
        assert not audited(sites, file, {**held, "cosigned": [forged, *others]})["verified"]
