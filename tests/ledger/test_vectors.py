"""The committed ledger vectors are what a stranger's program writes, and what the library does, refusals included."""

from __future__ import annotations

import json
from typing import Any

import pytest

from p2pfl.keys import Identity, Secret
from p2pfl.ledger import entry, note
from p2pfl.ledger.federation_kinds import GenesisEntry
from p2pfl.ledger.note import Head
from p2pfl.ledger.read_log import HashChain
from p2pfl.ledger.segment import Sealer, SegmentReader, header
from p2pfl.ledger.verify import check_federation
from p2pfl.sharing.digests import base_digest
from p2pfl.sharing.history import NO_BASE
from tests.vectors import generate_ledger as generate
from tests.vectors.files import FOLDER, is_current

Case = dict[str, Any]
CASES = [(file, case) for file in generate.FILES for case in json.loads((FOLDER / file).read_bytes())]


def replay_chain(case: Case) -> object:
    chain, hashes = HashChain(), []
    for record in case["records"]:
        chain.add(record.encode(), {})
        hashes.append(chain.head.hex())
    return {"hashes": hashes, "root": chain.tree.root().hex()}


def replay_record(case: Case) -> object:
    with pytest.raises(ValueError):
        entry.read_record(bytes.fromhex(case["record"]))
    return "refused"


def replay_rests(case: Case) -> object:
    records = [record.encode() for record in case["records"]]
    keys = [["charite", "44" * 32], ["st-olav", "11" * 32], ["ucl", "22" * 32], ["uppsala", "33" * 32]]
    genesis = GenesisEntry(
        federation="x",
        epoch=1,
        federation_digest=bytes(32),
        settings={},
        peers=[(name, bytes.fromhex(key)) for name, key in keys],
    ).record
    chain = HashChain()
    for record in (genesis, *records):
        chain.add(record, {})
    # Nobody signed them here; that they follow from one another is judged all the same.
    assert not [one for one in check_federation(chain.entries) if "signed" not in one.what and "valid" not in one.what]
    return [NO_BASE[1].hex(), *(base_digest(record).hex() for record in records[:-1])]


def replay_kind(case: Case) -> object:
    return entry.read_record(case["record"].encode())


def replay_head(case: Case) -> object:
    if "seed" in case:
        head = Head(case["origin"], case["size"], bytes.fromhex(case["root"]), tuple(case["extensions"]))
        assert note.sign(head, case["signer"], Identity(bytes.fromhex(case["seed"]))) == case["note"]
        assert note.parse_note(case["note"])[0] == head
    try:
        return "signed" if note.signed_by(case["note"], case["signer"], bytes.fromhex(case["key"])) else "unsigned"
    except ValueError:
        return "malformed"


def replay_segment(case: Case) -> object:
    key, data = Secret(bytes.fromhex(case["key"])), bytes.fromhex(case["segment"])
    reader = SegmentReader(data, lambda salt: key)
    frames = list(reader)
    damage = None if reader.damage is None else ("torn" if reader.damage.torn else "tampered")
    if "salt" in case:
        salt = bytes.fromhex(case["salt"])
        sealer = Sealer(key, salt)
        assert header(salt) + b"".join(sealer.seal(frame) for frame in frames) == data
    return {"frames": len(frames), "damage": damage}


REPLAY = {
    "chain": replay_chain,
    "rests": replay_rests,
    "kind": replay_kind,
    "record": replay_record,
    "head": replay_head,
    "segment": replay_segment,
}


@pytest.mark.parametrize(("file", "case"), CASES, ids=[f"{file}: {case['name']}" for file, case in CASES])
def test_the_library_answers_as_the_vector_says(file: str, case: Case) -> None:
    assert REPLAY[case["operation"]](case) == case["expect"]


@pytest.mark.parametrize("file", generate.FILES)
def test_the_generator_writes_the_committed_file(file: str) -> None:
    assert is_current(file, generate.FILES[file]())
