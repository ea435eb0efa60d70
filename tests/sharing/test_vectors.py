"""The committed vectors are what the generator writes, and what the library does, refusals included.

Both ways: by the compiled loops, where they are built, and by numpy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from p2pfl import merkle
from p2pfl.errors import P2PFLError
from p2pfl.sharing import kernel, shamir
from p2pfl.sharing.additive import split
from p2pfl.sharing.field import FIELDS, Words
from p2pfl.sharing.fixed_point import FixedPoint
from p2pfl.sharing.forms import Forms, add
from p2pfl.sharing.graph import outgoing
from p2pfl.sharing.masking import combine, mask
from p2pfl.sharing.prg import context, expand, stream_key
from p2pfl.sharing.quantiser import Quantiser
from tests.vectors import generate
from tests.vectors.files import FOLDER, is_current

Case = dict[str, Any]
CASES = [(file, case) for file in generate.FILES for case in json.loads((FOLDER / file).read_bytes())]


def words(case: Case, name: str) -> Words:
    return np.frombuffer(bytes.fromhex(case[name]), FIELDS[case["bits"]].dtype)


def keys(case: Case, name: str) -> list[bytes]:
    return [bytes.fromhex(each) for each in case[name]]


def replay_stream_key(case: Case) -> object:
    run = bytes.fromhex(case["run"])
    at = context(run, case["epoch"], case["round"], case["attempt"], tuple(case["edge"]), case["segment"])
    return {"context": at.hex(), "key": stream_key(bytes.fromhex(case["seed"]), case["label"], at).reveal().hex()}


def replay_expand(case: Case) -> object:
    """Alone, and as a round makes it: the mask of words that are all 0."""
    key, field, start = bytes.fromhex(case["key"]), FIELDS[case["bits"]], case["start"]
    alone = expand(key, field, start, case["count"])
    assert np.array_equal(combine(None, [key], [], field, start, np.empty_like(alone)), alone)
    return alone.tobytes().hex()


def replay_mask(case: Case) -> object:
    own, field = bytes.fromhex(case["own"]), FIELDS[case["bits"]]
    y = mask(words(case, "x"), keys(case, "made"), keys(case, "received"), own, field=field, start=case["start"])
    return y.tobytes().hex()


def replay_split(case: Case) -> object:
    shares = split(words(case, "x"), case["n"], bytes.fromhex(case["rand"]), FIELDS[case["bits"]])
    return [share.tobytes().hex() for share in shares]


def replay_shamir(case: Case) -> object:
    secret, coefficients = bytes.fromhex(case["secret"]), bytes.fromhex(case["coefficients"])
    return [share.hex() for share in shamir.split(secret, case["threshold"], case["count"], coefficients)]


def replay_combine(case: Case) -> object:
    return shamir.combine({int(place): bytes.fromhex(share) for place, share in case["shares"].items()}).hex()


def replay_tag(case: Case) -> object:
    field = FIELDS[case["bits"]]
    chunk = words(case, "x") if "x" in case else expand(bytes.fromhex(case["key"]), field, 0, case["count"])
    return Forms(bytes.fromhex(case["challenge"]), field).tag(chunk).hex()


def replay_add_tags(case: Case) -> object:
    return add(FIELDS[case["bits"]], keys(case, "tags")).hex()


def replay_from_bytes(case: Case) -> object:
    field = FIELDS[case["bits"]]
    return field.centred(field.from_bytes(bytes.fromhex(case["data"]), case["count"])).tolist()


def replay_quantise(case: Case) -> object:
    quantiser = Quantiser(FIELDS[case["bits"]], case["n"], case["clip"], case["limit"], case["rotate"])
    u = np.array([float(value) for value in case["u"]])
    found, _ = quantiser.quantise(u, bytes.fromhex(case["rotation_seed"]), bytes.fromhex(case["rounding"]))
    return {"first_words": found[:64].tobytes().hex(), "sha256": hashlib.sha256(found.tobytes()).hexdigest()}


def replay_fixed_point(case: Case) -> object:
    fixed = FixedPoint(FIELDS[61], case["n"], Decimal(case["limit"]), case["decimals"])
    return fixed.encode(case["values"]).tobytes().hex()


def replay_graph(case: Case) -> object:
    return sorted([i, j] for i in range(case["n"]) for j in outgoing(i, case["n"]))


def replay_merkle(case: Case) -> object:
    leaves = keys(case, "leaves")
    assert merkle.root(leaves).hex() == case["root"]
    return merkle.includes(
        bytes.fromhex(case["root"]), leaves[case["index"]], case["index"], len(leaves), keys(case, "path")
    )


REPLAY: dict[str, Callable[[Case], object]] = {
    "stream_key": replay_stream_key,
    "expand": replay_expand,
    "mask": replay_mask,
    "split": replay_split,
    "shamir": replay_shamir,
    "combine": replay_combine,
    "tag": replay_tag,
    "add_tags": replay_add_tags,
    "from_bytes": replay_from_bytes,
    "quantise": replay_quantise,
    "fixed_point": replay_fixed_point,
    "graph": replay_graph,
    "merkle": replay_merkle,
}


@pytest.fixture(
    params=[
        pytest.param(kernel.COMPILED, marks=pytest.mark.skipif(kernel.COMPILED is None, reason="not built here")),
        None,
    ],
    ids=["compiled", "numpy"],
)
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the inner loops run on."""
    monkeypatch.setattr(kernel, "COMPILED", request.param)


def check(case: Case) -> None:
    if "error" in case:
        with pytest.raises(P2PFLError) as caught:
            REPLAY[case["operation"]](case)
        assert caught.value.code == case["error"]
    else:
        assert REPLAY[case["operation"]](case) == case["expect"]


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(("file", "case"), CASES, ids=[f"{file}: {case['name']}" for file, case in CASES])
def test_the_library_answers_as_the_vector_says(file: str, case: Case) -> None:
    check(case)


class Called:
    """The compiled loops, and which of them were called."""

    def __init__(self, compiled: kernel.Compiled) -> None:
        self.compiled, self.verbs = compiled, set[str]()

    def __getattr__(self, verb: str) -> Any:
        self.verbs.add(verb)
        return getattr(self.compiled, verb)


@pytest.mark.skipif(kernel.COMPILED is None, reason="the compiled loops are not built here, or not for this processor")
def test_the_vectors_hold_the_compiled_loops_and_not_numpy_in_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that make words, and check them. What reads a sum (decode, extent) is held against numpy alone."""
    assert kernel.COMPILED is not None
    called = Called(kernel.COMPILED)
    monkeypatch.setattr(kernel, "COMPILED", called)
    for _, case in CASES:
        check(case)
    assert called.verbs == {"combine", "add_up", "below", "tag", "survey", "round_up"}


@pytest.mark.parametrize("file", generate.FILES)
def test_the_generator_writes_the_committed_file(file: str) -> None:
    assert is_current(file, generate.FILES[file]())
