"""`peer.train`: three sites in one process, over real links, that bring a path, a DataFrame and a dataset."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from p2pfl import Peer, Trained, TrainingRound, TrainingStep
from p2pfl.codec import read_facts
from p2pfl.errors.from_python import TaskNotGiven
from p2pfl.errors.round import ConfigurationDiffers
from p2pfl.errors.training import CellsUnfit, DeviceMissing, TaskNotApproved
from p2pfl.federation import draft
from p2pfl.node.progress import PassCharged, Progress
from p2pfl.peer.blocking import BlockingPeer
from p2pfl.peer.progress import OnTraining
from p2pfl.training.tasks.table import TableTask
from p2pfl.training.update import read_vector
from tests.federation.sample import TASK
from tests.peer.sites import NAMES, Sites
from tests.training.settings import Small, arrays

pandas = pytest.importorskip("pandas", reason="records as a DataFrame")

FEW = ("rounds=2", "privacy.noise_multiplier=4.0", "privacy.steps_per_round=3", "privacy.sample_rate=0.1")
SMALL = draft.python_lines("small")


def csv_of(site: int, header: str = "age,sex,ill") -> str:
    draw = np.random.default_rng(site)
    rows = [
        f"{draw.integers(20, 90)},{draw.choice(['female', 'male'])},{draw.choice(['no', 'yes'])}" for _ in range(60)
    ]
    return "\n".join([header, *rows]) + "\n"


def test_a_path_a_frame_and_a_dataset_train_one_model_that_everybody_gets(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASK, *FEW)
    (tmp_path / "ada.csv").write_text(csv_of(0, "Alter,sex,ill"))
    (tmp_path / "map.yaml").write_text("columns: {Alter: age}\n")
    (tmp_path / "ben.csv").write_text(csv_of(1))
    frame = pandas.read_csv(tmp_path / "ben.csv")
    seen: list[TrainingStep | TrainingRound] = []

    def dataset(peer: BlockingPeer) -> Trained:
        schema = peer.peer.federation.task.table
        assert schema is not None
        task = TableTask(schema)
        return peer.train(task, data=task.read(csv_of(2).encode(), "cyd.csv"))

    found = sites.all(
        {
            "ada": lambda peer: peer.train(data=tmp_path / "ada.csv", columns=tmp_path / "map.yaml"),
            "ben": lambda peer: peer.train(data=frame, progress=seen.append),
            "cyd": dataset,
        }
    )
    ada, ben, cyd = (found[name] for name in NAMES)
    assert isinstance(ada, Trained) and isinstance(ben, Trained) and isinstance(cyd, Trained), found
    assert ada.vector.any()
    assert np.array_equal(ada.vector, ben.vector) and np.array_equal(ada.vector, cyd.vector)
    assert np.array_equal(read_vector(ben.model), ben.vector) and not ben.model.training
    assert ada.final is not None and ben.final is not None and ada.final.figure == ben.final.figure
    assert 0.0 < ben.epsilon <= 3.0
    steps, rounds = ([one for one in seen if isinstance(one, kind)] for kind in (TrainingStep, TrainingRound))
    assert {(one.round, one.steps) for one in steps} == {(1, 3), (2, 3)} and steps[-1].step == 3
    assert [(one.round, one.rounds) for one in rounds] == [(1, 3), (2, 3), (3, 3)]
    assert rounds[-1].metric is not None and rounds[-1].metric.figure == ben.final.figure
    assert rounds[-1].survivors == list(NAMES)


def test_every_column_and_cell_that_does_not_fit_is_told_before_anything_is_charged(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASK, *FEW)
    odd = pandas.DataFrame({"age": [30.0, 300.0], "sex": ["male", "none"], "ill": ["yes", None]})
    with sites.joined("ada") as peer:
        with pytest.raises(CellsUnfit) as caught:
            peer.train(data=odd)
        kinds = {read_facts(one.record)["kind"] for one in peer.peer.logs.site.records()}
    assert "the DataFrame" in caught.value.happened
    assert [line.split(":")[0] for line in caught.value.evidence.splitlines()] == [
        "column age, line 3",
        "column sex, line 3",
        "column ill, line 3",
    ]
    assert kinds and "charge" not in kinds


def wider(peer: BlockingPeer) -> Trained:
    class Small_(Small):
        learning_rate = 0.5

    return peer.train(Small_(), data=arrays(64, (4,)))


def test_sites_whose_classes_differ_in_python_do_not_add_up(tmp_path: Path) -> None:
    sites = Sites(tmp_path, SMALL, *FEW)
    own: dict[str, Callable[[BlockingPeer], Trained]] = {
        name: lambda peer: peer.train(Small(), data=arrays(64, (4,))) for name in NAMES
    }
    found = sites.all(own | {"cyd": wider})
    assert any(isinstance(one, ConfigurationDiffers) and "task" in one.happened for one in found.values()), found


def test_a_task_of_python_has_to_be_given_and_a_device_to_be_there(tmp_path: Path) -> None:
    sites = Sites(tmp_path, SMALL, *FEW)
    with sites.joined("ada") as peer:
        with pytest.raises(TaskNotGiven):
            peer.train(data="records.csv")
        with pytest.raises(DeviceMissing) as caught:
            peer.train(Small(), data=arrays(64, (4,)), device="cuda:77")
    assert "cpu" in caught.value.evidence


def test_a_pinned_task_that_nobody_approved_does_not_train_from_python_either(tmp_path: Path) -> None:
    sites = Sites(tmp_path, draft.pinned_lines("task.py", "Small", bytes(32).hex()), *FEW)
    with sites.joined("ada") as peer, pytest.raises(TaskNotApproved):
        peer.train(Small(), data=arrays(64, (4,)))


class Slow(Small):
    """Its private steps wait for a turn of the event loop of its site, which could not come if torch held it up."""

    def __init__(self, charged: threading.Event, turned: threading.Event) -> None:
        self.charged, self.turned = charged, turned

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.charged.is_set() or self.turned.wait(60)  # before the charge it is only tried
        return x


async def slow(sites: Sites, name: str, progress: OnTraining | None = None) -> Trained:
    loop, charged, turned = asyncio.get_running_loop(), threading.Event(), threading.Event()

    def observer(event: Progress) -> None:
        if isinstance(event, PassCharged):  # told in the pass's thread, before its first step
            charged.set()
            loop.call_soon_threadsafe(turned.set)

    async with Peer.join(sites.folder / "peers.yaml", observer=observer, **sites.options(name)) as peer:
        return await peer.train(Slow(charged, turned), data=arrays(64, (4,)), progress=progress)


def stop(event: TrainingStep | TrainingRound) -> None:
    if isinstance(event, TrainingRound):
        raise KeyError("enough")


def test_the_loop_turns_while_torch_trains_and_progress_can_end_the_training(tmp_path: Path) -> None:
    """The training goes on at the next join, and costs no pass more."""
    sites = Sites(tmp_path, SMALL, *FEW)

    async def twice() -> Trained:
        with pytest.raises(KeyError):
            await slow(sites, "cyd", stop)
        return await slow(sites, "cyd")

    async def scene() -> list[Trained]:
        return await asyncio.gather(slow(sites, "ada"), slow(sites, "ben"), twice())

    ada, ben, cyd = asyncio.run(scene())
    assert np.array_equal(ada.vector, cyd.vector)
    assert ada.epsilon == ben.epsilon == cyd.epsilon
