"""A class for each voxel: pairs of files, a UNet that trains privately, Dice; what does not fit is named."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nibabel", reason="the extra [volumes] is not installed")
pytest.importorskip("monai", reason="the extra [volumes] is not installed")

import nibabel
from opacus import GradSampleModule
from safetensors.torch import save_file

from p2pfl.errors import P2PFLError
from p2pfl.errors.scans import LabelUnfit, MaskMissing, SharesUnfit, VolumeUnreadable
from p2pfl.errors.training import DataEmpty, LossNotPerRecord, ModelNotPrivate
from p2pfl.keys import Secret
from p2pfl.training.local import Trainer
from p2pfl.training.models import build, device_of, predict
from p2pfl.training.privacy.account import Account
from p2pfl.training.private_check import check_private
from p2pfl.training.records.records import Records, SiteRecords, hold_out
from p2pfl.training.tasks.volumes import Volumes, middle
from p2pfl.training.update import write_vector
from tests.training.settings import privacy
from tests.training.volumes import Balls, ball, folder, write

KEY = Secret(bytes(range(32)))


@contextmanager
def refused(leaf: type[P2PFLError], evidence: str) -> Iterator[pytest.ExceptionInfo[P2PFLError]]:
    """What is raised, whose evidence matches."""
    with pytest.raises(leaf) as caught:
        yield caught
    assert re.search(evidence, str(caught.value.evidence)), caught.value.evidence


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_images_and_labels_of_the_same_name_are_a_record(tmp_path: Path) -> None:
    records = Records(Balls().dataset(str(folder(tmp_path, 3))), "data")
    x, y = records.batch(np.arange(3))
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((3, 1, 16, 16, 16), np.float32, (3, 16, 16, 16), np.int64)
    assert (x.min(), x.max()) == (-1.0, 1.0)
    assert np.array_equal(y[1], ball(1)[1])
    assert x[1, 0][y[1] == 1].mean() > x[1, 0][y[1] == 0].mean() + 0.5
    assert records.identity(2) == hashlib.sha256((tmp_path / "images/002.nii.gz").read_bytes()).digest()


def test_a_csv_names_volumes_masks_and_patients(tmp_path: Path) -> None:
    folder(tmp_path, 24)
    rows = [f"images/{n:03}.nii.gz,labels/{n:03}.nii.gz,p{n // 2}" for n in range(24)]
    (tmp_path / "scans.csv").write_text("\n".join(["path,label,patient", *rows]) + "\n")
    split = hold_out(Records(Balls().dataset(str(tmp_path / "scans.csv"))), KEY)
    whose = [{part.patient(row) for row in range(len(part))} for part in (split.train, split.held_out)]
    assert len(whose[0]) + len(whose[1]) == 12
    new = Balls().dataset(str(tmp_path / "scans.csv"), labelled=False)
    assert not new[0][1].any(), "no mask is read"


def test_new_volumes_need_no_labels(tmp_path: Path) -> None:
    folder(tmp_path, 2)
    assert len(Balls().dataset(str(tmp_path), labelled=False)) == 2
    assert len(Balls().dataset(str(tmp_path / "images"), labelled=False)) == 2


def test_volumes_are_resampled_to_the_agreed_spacing_and_cut_to_the_middle(tmp_path: Path) -> None:
    image, mask = ball(1)
    for kind, values in (("images", image), ("labels", mask)):
        write(tmp_path / kind / "a.nii", values)
        twice = values.repeat(2, 0).repeat(2, 1).repeat(2, 2)
        write(tmp_path / kind / "b.nii", twice, np.diag([0.5, 0.5, 0.5, 1.0]))
        write(tmp_path / kind / "c.nii", np.pad(values, 7))
        write(tmp_path / kind / "d.nii", values[2:-2, 2:-2, 2:-2])
    task = Balls()
    task.spacing = (1.0, 1.0, 1.0)
    task.window = (0.0, 300.0)
    found = task.dataset(str(tmp_path))
    (x, y), (_, finer), (wide, cut), (narrow, _) = (found[row] for row in range(4))
    assert np.array_equal(y, mask) and np.array_equal(finer, mask) and np.array_equal(cut, mask)
    assert np.array_equal(x, wide)
    assert np.allclose(x[0], np.clip(image, 0, 300) / 150 - 1, atol=1e-5), "the window is the agreed one"
    assert (narrow[0, :2] == -1.0).all() and np.array_equal(narrow[0, 2:-2, 2:-2, 2:-2], x[0, 2:-2, 2:-2, 2:-2])


def test_the_middle_of_a_side_is_taken_and_put_back() -> None:
    for have in range(1, 9):
        for want in range(1, 9):
            of, into = middle(have, want)
            assert of.stop - of.start == into.stop - into.start == min(have, want)
            assert (
                abs((of.start + of.stop) / 2 - have / 2) <= 0.5 and abs((into.start + into.stop) / 2 - want / 2) <= 0.5
            )


def test_what_cannot_be_read_is_named_by_its_place_and_not_by_its_name(tmp_path: Path) -> None:
    folder(tmp_path, 3)
    (tmp_path / "images/001.nii.gz").rename(tmp_path / "images/anna-example.nii.gz")
    (tmp_path / "labels/001.nii.gz").rename(tmp_path / "labels/anna-example.nii.gz")
    (tmp_path / "images/anna-example.nii.gz").write_bytes(b"\x1f\x8bno")
    with refused(VolumeUnreadable, "file 3 by name of .*images: its compression is damaged") as caught:
        _ = Balls().dataset(str(tmp_path))[2]
    assert "anna" not in caught.value.render()
    (tmp_path / "scans.csv").write_text("path,label\nanna.nii,anna-mask.nii\n")
    with refused(VolumeUnreadable, "line 2: No such file") as caught:
        _ = Balls().dataset(str(tmp_path / "scans.csv"))[0]
    assert "anna" not in caught.value.render()
    (tmp_path / "labels/002.nii.gz").unlink()
    with refused(MaskMissing, "file 2 by name"):
        Balls().dataset(str(tmp_path))
    with pytest.raises(DataEmpty):
        Balls().dataset(str(tmp_path / "labels"))


@pytest.mark.parametrize("odd", [2, -1, 255])
def test_a_class_outside_of_the_schema_is_refused_without_its_value(tmp_path: Path, odd: int) -> None:
    image, mask = ball(0)
    spoilt = mask.astype(np.int16)
    spoilt[3, 3, 3] = odd
    write(tmp_path / "images/a.nii", image)
    write(tmp_path / "labels/a.nii", spoilt)
    with refused(LabelUnfit, "whole numbers 0 to 1"):
        _ = Balls().dataset(str(tmp_path))[0]


def test_a_mask_of_another_grid_and_a_volume_of_other_contrasts_are_refused(tmp_path: Path) -> None:
    image, mask = ball(0)
    write(tmp_path / "images/a.nii", image)
    write(tmp_path / "labels/a.nii", mask[:-1])
    write(tmp_path / "images/b.nii", image)
    write(tmp_path / "labels/b.nii", mask, np.diag([2.0, 1, 1, 1]))
    write(tmp_path / "images/c.nii", np.stack([image, image], 3))
    write(tmp_path / "labels/c.nii", mask)
    found = Balls().dataset(str(tmp_path))
    for row in (0, 1):
        with refused(LabelUnfit, "grid"):
            _ = found[row]
    with refused(VolumeUnreadable, "2 contrasts, and 1"):
        _ = found[2]


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0)])
def test_a_mask_is_written_in_the_grid_of_its_volume(tmp_path: Path, spacing: tuple[float, ...] | None) -> None:
    """Whatever its axes and its spacing; what the model did not see is background."""
    image, mask = ball(1, 20)
    affine = np.array([[0, -0.5, 0, 3], [0.5, 0, 0, 1], [0, 0, 2.0, 0], [0, 0, 0, 1]])
    for kind, values in (("images", image), ("labels", mask)):
        write(tmp_path / kind / "a.nii", values.repeat(2, 0).repeat(2, 1)[:, :, ::2] if spacing else values, affine)
    task = Balls()
    task.spacing = spacing  # type: ignore[assignment]
    found = task.dataset(str(tmp_path))
    raw = found.mask_file(0, found[0][1])
    written = nibabel.Nifti1Image.from_bytes(gzip.decompress(raw))
    own = nibabel.load(tmp_path / "labels/a.nii")
    assert np.allclose(written.affine, own.affine) and written.shape == own.shape
    same = written.get_fdata() == own.get_fdata()
    assert same.mean() > 0.97
    assert task.table(found[0][1][None]).tolist() == [[(found[0][1] == k).sum() for k in (0, 1)]]


# ── training ──────────────────────────────────────────────────────────────────────────────────────────────────


PRIVACY = privacy(sample_rate=0.5, steps_per_round=1, max_epsilon=99)


def trainer(task: Balls, place: Path, count: int = 8) -> Trainer:
    some = Records(task.dataset(str(folder(place, count))), "data")
    return Trainer(task=task, site=SiteRecords(some, some), privacy=PRIVACY)


@pytest.mark.parametrize("units", [0, 1, 2])
def test_monais_unet_trains_privately_as_it_is(tmp_path: Path, units: int) -> None:
    task = Balls()
    task.units = units
    made = trainer(task, tmp_path)
    assert made.notices == (), "nothing had to be replaced"
    update = made.train(made.initial(bytes(32)), Account().charge(PRIVACY), Secret(bytes([1]) * 32))
    assert np.isfinite(update).all() and update.any()
    figures = made.figures(made.evaluate(made.initial(bytes(32))))
    assert list(figures) == ["dice", "dice_1", "iou_1"]


def test_hooks_give_each_records_own_gradient() -> None:
    """In float64: where a norm divides by next to nothing, float32 may be a hundredth off, whichever way it goes."""
    task = Balls()
    torch.manual_seed(1)
    model = build(task).model.double()
    x, y = torch.randn(3, 1, 16, 16, 16).double(), torch.randint(0, 2, (3, 16, 16, 16))
    hooked = GradSampleModule(model, loss_reduction="sum")
    torch.autograd.backward(task.loss(hooked(x), y).sum())
    found = {name: p.grad_sample.clone() for name, p in hooked.named_parameters()}  # type: ignore[attr-defined]
    for row in range(3):
        hooked.zero_grad()
        hooked.disable_hooks()
        torch.autograd.backward(task.loss(hooked(x[row : row + 1]), y[row : row + 1]).sum())
        for name, parameter in hooked.named_parameters():
            assert parameter.grad is not None
            assert torch.allclose(found[name][row], parameter.grad, atol=1e-9), name
        hooked.enable_hooks()


def test_the_loss_is_monais_of_one_record_and_monais_own_of_a_batch_is_refused(tmp_path: Path) -> None:
    from monai.losses.dice import DiceCELoss

    task = Balls()
    torch.manual_seed(1)
    outputs, targets = torch.randn(4, 2, 16, 16, 16), torch.randint(0, 2, (4, 16, 16, 16))
    monais = DiceCELoss(softmax=True, to_onehot_y=True)
    found = task.loss(outputs, targets)
    alone = [monais(outputs[row : row + 1], targets[row : row + 1, None]) for row in range(4)]
    assert found.shape == (4,)
    assert torch.allclose(found, torch.stack(alone), atol=1e-6)

    class Mixing(Balls):
        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return monais(outputs, targets[:, None])

    class OfTheBatch(Balls):
        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            whole = DiceCELoss(softmax=True, to_onehot_y=True, batch=True)(outputs, targets[:, None])
            return whole.expand(len(outputs))

    some = Records(task.dataset(str(folder(tmp_path, 3))), "data")
    with pytest.raises(LossNotPerRecord):
        check_private(Mixing(), build(Mixing()).model, some, device_of("cpu"))
    with refused(ModelNotPrivate, "changes with the other records"):
        check_private(OfTheBatch(), build(OfTheBatch()).model, some, device_of("cpu"))


@pytest.mark.parametrize("units", [0, 1])
def test_the_head_alone_trains_on_pretrained_weights(tmp_path: Path, units: int) -> None:
    task = Balls()
    task.units, task.train = units, "head"
    held = {name: torch.full_like(p, 0.25) for name, p in task.model().named_parameters()}
    save_file(held, tmp_path / "w.safetensors")
    task.weights = (
        str(tmp_path / "w.safetensors"),
        hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest(),
    )
    built = build(task)
    last = [name for name, _ in task.model().named_parameters()][-2:]
    if not units:
        last = ["model.2.conv.weight", "model.2.conv.bias"]
    assert [name for name, _ in built.layout.tensors] == last
    frozen = dict(built.model.named_parameters())["model.0.conv.unit0.conv.weight" if units else "model.0.conv.weight"]
    assert (frozen == 0.25).all()


def test_a_mask_moves_with_its_volume() -> None:
    task = Balls()
    task.augmentation = ("shift", "flip", "intensity")
    torch.manual_seed(1)
    mask = torch.from_numpy(np.stack([ball(n)[1] for n in range(8)]).astype(np.int64))
    x, y = task.augment_pair(mask[:, None].float(), mask)
    assert not torch.equal(y, mask)
    assert torch.equal((x[:, 0] > 0.5).long(), y)
    assert torch.equal(mask.sum((1, 2, 3)), y.sum((1, 2, 3)))


def test_a_unet_learns_where_the_ball_is(tmp_path: Path) -> None:
    task = Balls()
    some = Records(task.dataset(str(folder(tmp_path, 16))), "data")
    private = privacy(sample_rate=0.5, steps_per_round=12, noise_multiplier=0.05, max_epsilon=1e9)
    made = Trainer(task=task, site=SiteRecords(some, some), privacy=private)
    first = made.initial(bytes(32))
    update = made.train(first, Account().charge(private), Secret(bytes(32)))
    before, after = (made.figures(made.evaluate(model))["dice"].value for model in (first, first + update))
    assert after > 0.5 > before
    found = predict(task, first + update, some)
    assert found.shape == (16, 16, 16, 16) and set(np.unique(found)) <= {0, 1}


@pytest.mark.parametrize(("units", "train"), [(0, "all"), (1, "head"), (0, "lora")])
def test_the_first_model_says_of_each_voxel_what_shares_say(units: int, train: str) -> None:
    """But for what its first random weights say beside that; without shares each class is as likely as another."""
    said = []
    for shares in ((0.96, 0.03, 0.01), ()):
        task = Volumes()
        task.classes, task.size, task.levels = ("background", "one", "two"), (8, 8, 8), (2, 4)
        task.units, task.train, task.shares = units, train, shares
        built = build(task)
        write_vector(built.model, built.first(task, bytes(32)), built.layout)
        with torch.no_grad():
            said.append(built.model.eval()(torch.zeros(1, 1, 8, 8, 8)).softmax(1).mean(dim=(0, 2, 3, 4)).numpy())
    assert np.abs(said[0] - [0.96, 0.03, 0.01]).max() < 0.1 < np.abs(said[1] - [0.96, 0.03, 0.01]).max()


@pytest.mark.parametrize(
    "shares", [(0.97, 0.03), (0.9, 0.05, 0.01), (1.0, 0.0, 0.0), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5), "abc"]
)
def test_shares_of_a_class_in_python_are_held_to_what_peers_yaml_is_held_to(shares: Any) -> None:
    task = Volumes()
    task.classes, task.size, task.levels, task.shares = ("background", "one", "two"), (8, 8, 8), (2, 4), shares
    built = build(task)
    with pytest.raises(SharesUnfit) as caught:
        built.first(task, bytes(32))
    assert "of 3 classes" in caught.value.happened
