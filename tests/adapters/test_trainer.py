"""A client as a trainer: arrays and vectors, the first model's file, metrics as sums, and all that does not fit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from p2pfl.adapters import load
from p2pfl.adapters.algorithm import Arrays, Fitted, Judged
from p2pfl.adapters.first import begun, read_arrays, write_first, written
from p2pfl.errors.adapters import ClientArraysUnfit, ClientFailed, ClientUnusable, FirstModelUnfit, TaskIsAClient
from p2pfl.errors.federation import SettingsDoNotFit, WrongValue
from p2pfl.errors.training import PassNotCharged
from p2pfl.federation import Federation, draft
from p2pfl.federation.federation import NO_PRIVACY
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.privacy.account import Account
from p2pfl.training.registry import load_task
from tests.adapters.sites import SEED, federation_of, judged, trained, trainer_of
from tests.federation.sample import CARDS


@dataclass
class Told:
    """A client whose answers a test sets."""

    kind: str = "flower"
    reference: str = "client:app"
    arrays: Arrays = field(default_factory=lambda: {"w": np.ones((2, 3)), "n": np.array(7), "on": np.array([True])})
    moved: Any = None
    judged: Judged = field(default_factory=lambda: Judged(10, {"accuracy": 0.5}))
    numbers: list[int] = field(default_factory=list)
    fails: Exception | None = None
    ended: bool = False

    def first(self) -> Arrays:
        return self.arrays

    def fit(self, arrays: Arrays, number: int) -> Fitted:
        self.numbers.append(number)
        if self.fails is not None:
            raise self.fails
        if self.moved is not None:
            return Fitted(self.moved)
        return Fitted({"on": arrays["on"], "n": arrays["n"] + 2, "w": arrays["w"] + 1}, {"loss": 0.25, "who": "me"})

    def evaluate(self, arrays: Arrays, number: int) -> Judged:
        return self.judged

    def finish(self) -> None:
        self.ended = True


FEDERATION = federation_of("flower", "accuracy", settings=["sharing.scale=5"])


def test_arrays_go_to_the_client_in_its_own_types_and_come_back_in_any_order() -> None:
    told, said = Told(), []
    trainer = trainer_of(told, FEDERATION, tell=said.append)
    assert trainer.layout.tensors == (("w", (2, 3)), ("n", ()), ("on", (1,)))
    given = trainer.arrays(np.arange(8, dtype=np.float32))
    assert [str(one.dtype) for one in given.values()] == ["float64", "int64", "bool"]
    assert given["n"] == 6 and given["on"].tolist() == [True]
    model = trained([trainer], 2)
    assert model.tolist() == [2.0] * 6 + [4.0, 0.0], "from zeros, twice"
    assert told.numbers == [1, 2]
    assert said[0] == "round 1  the client says loss 0.25; that stays here"


def test_a_pass_needs_its_charge_and_is_never_repeated() -> None:
    trainer = trainer_of(Told(), FEDERATION)
    charge = Account().charge(NO_PRIVACY)
    model = trainer.initial(bytes(32))
    trainer.train(model, charge, SEED, 0)
    with pytest.raises(PassNotCharged):
        trainer.train(model, charge, SEED, 0)
    assert trainer.inputs(model, 0) == b""


def test_in_a_subspace_what_lies_in_it_is_sent_of_what_the_client_trained() -> None:
    moved = {"w": np.outer(np.arange(1, 61), np.ones(40)) / 100}
    trainer = trainer_of(Told(arrays={"w": np.zeros((60, 40))}, moved=moved), FEDERATION)
    first = trainer.initial(bytes(32))
    model = (first.reshape(60, 40) + moved["w"] / 2).astype(np.float32).ravel()
    subspace = Subspace.of(trainer.layout, 0.05, first, model)
    theta = trainer.train(model, Account().charge(NO_PRIVACY), SEED, 1, subspace)
    assert theta.shape == (subspace.length,) and subspace.length < first.size / 10
    assert np.allclose(subspace.expand(theta.astype(np.float64)), moved["w"].ravel() / 2, atol=1e-5)


def test_an_update_beyond_what_peers_yaml_allows_is_said_to_be_cut() -> None:
    said: list[str] = []
    told = Told(arrays={"w": np.zeros(4)}, moved={"w": np.full(4, 20.0)})
    trained([trainer_of(told, FEDERATION, tell=said.append)], 1)
    assert [line.split(":")[0] for line in said] == [
        "its update has the norm 40, more than sharing.clip 10",
        "a number moved by 20, more than sharing.scale 5",
    ]


@pytest.mark.parametrize(
    "moved",
    [
        {"w": np.zeros((2, 3)), "n": np.array(1)},
        {"w": np.zeros((3, 2)), "n": np.array(1), "on": np.array([True])},
        {"w": np.full((2, 3), np.nan), "n": np.array(1), "on": np.array([True])},
        {"w": np.full((2, 3), "a"), "n": np.array(1), "on": np.array([True])},
        {"w": np.zeros((2, 3)), "n": np.array(1), "on": np.array([True]), "more": np.zeros(1)},
    ],
    ids=["too few", "another shape", "not finite", "no numbers", "too many"],
)
def test_arrays_that_are_not_the_agreed_ones_are_refused(moved: Arrays) -> None:
    with pytest.raises(ClientArraysUnfit):
        trained([trainer_of(Told(moved=moved), FEDERATION)], 1)
    with pytest.raises(ClientArraysUnfit):
        begun(Told(arrays={}))
    with pytest.raises(ClientArraysUnfit):
        begun(Told(arrays={"w": np.array(["a"])}))


@pytest.mark.claim("CLI-2")
def test_what_a_client_raises_is_told_by_its_place_and_repeats_nothing_of_a_record() -> None:
    told = Told(fails=ValueError("patient 4711 has 210 mg/dl"))
    with pytest.raises(ClientFailed) as caught:
        trained([trainer_of(told, FEDERATION)], 1)
    assert "ValueError at" in caught.value.evidence and "test_trainer.py" in caught.value.evidence
    assert "4711" not in caught.value.render()


# ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_metrics_are_means_over_all_sites_records_and_no_count_leaves_by_itself() -> None:
    federation = federation_of("flower", "accuracy", "Val-Loss")
    sites = [
        trainer_of(Told(judged=Judged(n, {"accuracy": a, "Val-Loss": loss, "private": 4.0})), federation)
        for n, a, loss in ((10, 0.5, 2.0), (30, 0.9, 4.0))
    ]
    assert judged(sites, sites[0].initial(bytes(32))) == pytest.approx({"accuracy": 0.8, "val_loss": 3.5}, abs=1e-5)
    nothing = trainer_of(Told(), federation_of("flower"))
    assert (nothing.counts, dict(nothing.figures(np.zeros(0, np.int64)))) == (0, {})


@pytest.mark.parametrize(
    "odd",
    [Judged(10, {}), Judged(0, {"accuracy": 1.0}), Judged(10, {"accuracy": np.inf}), Judged(10, {"accuracy": 1e30})],
)
def test_a_number_that_cannot_be_averaged_is_not_counted_and_the_site_is_told(odd: Judged) -> None:
    said: list[str] = []
    sites = [trainer_of(Told(judged=one), FEDERATION, tell=said.append) for one in (odd, Judged(10, {"accuracy": 0.7}))]
    assert judged(sites, sites[0].initial(bytes(32))) == pytest.approx({"accuracy": 0.7}, abs=1e-5)
    assert len(said) == 1 and "gives no accuracy" in said[0]


# ── the first model, and what the sites agree on ──────────────────────────────────────────────────────────────


def test_the_first_model_is_the_agreed_file_in_the_clients_order_and_types(tmp_path: Path) -> None:
    told = Told(arrays={"z": np.full(2, 0.5), "a": np.array([3], np.int32)})
    (path := tmp_path / "first.safetensors").write_bytes(data := written(begun(told)))
    federation = federation_of("flower", first=hashlib.sha256(data).digest())
    trainer = trainer_of(told, federation, first=path)
    assert trainer.layout.tensors == (("z", (2,)), ("a", (1,)))
    assert trainer.initial(bytes(32)).tolist() == [0.5, 0.5, 3.0]
    assert [str(one.dtype) for one in trainer.arrays(trainer.initial(b"")).values()] == ["float64", "int32"]
    path.write_bytes(data[:-1] + b"x")
    for given in (path, tmp_path / "none", None):
        with pytest.raises(FirstModelUnfit):
            trainer_of(told, federation, first=given)


def test_a_first_model_of_another_program_or_of_torch_is_taken_as_it_is(tmp_path: Path) -> None:
    save_file({str(place): np.full(1, place, np.float32) for place in range(12)}, tmp_path / "list")
    assert list(read_arrays((tmp_path / "list").read_bytes(), tmp_path)) == [str(place) for place in range(12)]
    write_first(tmp_path / "torch", torch.nn.Linear(3, 2).state_dict())
    write_first(tmp_path / "numpy", [np.ones((2, 2)), np.zeros(3)])
    found = [read_arrays((tmp_path / name).read_bytes(), tmp_path) for name in ("torch", "numpy")]
    assert [{name: one.shape for name, one in arrays.items()} for arrays in found] == [
        {"weight": (2, 3), "bias": (2,)},
        {"0": (2, 2), "1": (3,)},
    ]
    with pytest.raises(FirstModelUnfit):
        read_arrays(b"no safetensors", tmp_path)


def test_what_sites_share_of_clients_differs_with_settings_metrics_and_types() -> None:
    frozen = {
        trainer_of(Told(), FEDERATION).frozen,
        trainer_of(Told(), FEDERATION, settings={"lr": 0.1}).frozen,
        trainer_of(Told(), federation_of("flower", "loss")).frozen,
        trainer_of(Told(arrays={"w": np.ones((2, 3), np.float32)}), FEDERATION).frozen,
    }
    assert len(frozen) == 4


@pytest.mark.claim("PLAIN-1")
def test_a_client_is_agreed_on_only_together_with_privacy_none() -> None:
    lines, members = draft.client_lines("flower", None, ["loss"]), [card.member for card in CARDS]
    with pytest.raises(SettingsDoNotFit) as caught:
        draft.peers_file("trial", members, lines)
    assert "--set privacy=none" in caught.value.render()
    found = federation_of("monai", "dice", first=bytes(32)).task.client
    assert found is not None and (found.kind, found.first, found.metrics) == ("monai", bytes(32), ("dice",))
    raw = FEDERATION.raw
    for bad in (raw.replace(b"client: flower", b"client: other"), raw.replace(b"first: zeros", b"first: ones")):
        with pytest.raises(WrongValue):
            Federation.parse(bad)
    with pytest.raises(TaskIsAClient):
        load_task(FEDERATION.task)


@pytest.mark.parametrize("reference", ["client", "no.such.module:app", "os:nothing", ":", "p2pfl.adapters.broken:x"])
def test_a_client_that_is_not_there_is_told_without_a_traceback(reference: str) -> None:
    with pytest.raises(ClientUnusable):
        load.named("flower", reference)
