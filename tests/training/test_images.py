"""Images by class: read when needed, from folders or a CSV; ResNets that train privately; pinned weights."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from p2pfl import simulate_training
from p2pfl.errors.scans import ImageUnreadable, WeightsUnusable
from p2pfl.errors.training import DataEmpty, MissingColumn, ModelMisfit, RaggedRecord, UnknownCode
from p2pfl.keys import Secret
from p2pfl.training.local import Trainer
from p2pfl.training.models import build
from p2pfl.training.privacy.account import Account
from p2pfl.training.records.records import Arrays, Records, SiteRecords, hold_out
from p2pfl.training.resnet import architecture, resnet18
from p2pfl.training.tasks.images import Images, NotAnImage, parse_image
from p2pfl.training.tasks.pretrained import read_weights
from tests.training.settings import identities, privacy, read

KEY = Secret(bytes(range(32)))


class Scans(Images):
    classes = ("normal", "ill")
    architecture, size = "cnn", 16
    learning_rate, expected_batch = 0.5, 10.0


def picture(bright: bool, seed: int) -> Image.Image:
    """Noise, and a bright corner where somebody is ill."""
    pixels = np.random.default_rng(seed).integers(0, 120, (20, 24))
    pixels[:10, :10] += 130 * bright
    return Image.fromarray(pixels.astype(np.uint8))


def folder(place: Path, count: int, first: int = 0) -> Path:
    for name in ("normal", "ill"):
        (place / name).mkdir(parents=True)
    for number in range(first, first + count):
        ill = number % 2 == 1
        picture(ill, number).save(place / ("ill" if ill else "normal") / f"{number}.{'png' if number % 3 else 'jpg'}")
    return place


def loaded(file: Path, size: int, channels: int) -> Any:
    return parse_image(file.read_bytes(), size, channels, dicom=file.suffix == ".dcm")


def a_step(task: Images, size: int, channels: int, classes: int = 2) -> Trainer:
    """A trainer after one private step on made-up images."""
    draws = np.random.default_rng(0)
    x = draws.normal(size=(8, channels, size, size)).astype(np.float32)
    some = Records(Arrays(x, np.arange(8) % classes, [bytes([row]) for row in range(8)]))
    private = privacy(sample_rate=0.5, steps_per_round=1, max_epsilon=1e9)
    made = Trainer(task=task, site=SiteRecords(some, some), privacy=private)
    update = made.train(made.initial(bytes(32)), Account().charge(private), Secret(bytes([1]) * 32))
    assert np.isfinite(update).all() and update.any()
    return made


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_for_each_class_is_a_dataset_that_reads_a_file_when_it_is_asked_for(tmp_path: Path) -> None:
    records = Records(Scans().dataset(str(folder(tmp_path / "data", 30))), "data")
    x, y = read(records)
    assert (x.shape, x.dtype, sorted(y.tolist())) == ((30, 1, 16, 16), np.dtype(np.float32), [0] * 15 + [1] * 15)
    assert -1.0 <= x.min() < x.max() <= 1.0
    assert x[y == 1, 0, :8, :8].mean() > x[y == 0, 0, :8, :8].mean() + 0.5
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in sorted((tmp_path / "data/normal").iterdir())]
    assert identities(records)[:15] == tuple(digests)
    split = hold_out(records, KEY)
    (tmp_path / "data/ill/1.png").unlink()
    assert len(split.train) + len(split.held_out) == 30, "nothing was read yet"


def test_a_renamed_and_moved_image_is_the_same_record(tmp_path: Path) -> None:
    """So it spends the account that it had: docs/adr/0046."""
    place = folder(tmp_path / "data", 4)
    before = set(Records(Scans().dataset(str(place))).names())
    place.rename(tmp_path / "moved")
    for number, file in enumerate(sorted((tmp_path / "moved").rglob("*.*"))):
        file.rename(file.with_name(f"renamed-{number}{file.suffix}"))
    assert set(Records(Scans().dataset(str(tmp_path / "moved"))).names()) == before


def test_a_csv_names_paths_labels_and_patients(tmp_path: Path) -> None:
    folder(tmp_path, 40)
    named = [("ill" if n % 2 else "normal", f"{n}.{'png' if n % 3 else 'jpg'}") for n in range(40)]
    rows = [f"{kind}/{file},{kind},p{n // 4}" for n, (kind, file) in enumerate(named)]
    (tmp_path / "scans.csv").write_text("\n".join(["path,label,patient", *rows]) + "\n")
    split = hold_out(Records(Scans().dataset(str(tmp_path / "scans.csv"))), KEY)
    whose = [{part.patient(row) for row in range(len(part))} for part in (split.train, split.held_out)]
    assert len(whose[0]) + len(whose[1]) == 10 and not whose[0] & whose[1]
    new = Scans().dataset(str(tmp_path / "scans.csv"), labelled=False)
    assert len(new) == 40


def test_colours_have_three_channels(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (255, 0, 0)).save(tmp_path / "red.png")
    found = loaded(tmp_path / "red.png", 4, 3)
    assert found.shape == (3, 4, 4) and found[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_mode_and_size_become_the_same_numbers(tmp_path: Path, mode: str, channels: int) -> None:
    """One that holds 16 bits is scaled by its white, and not cut off at 255."""
    grey = np.linspace(0, 255, 64).astype(np.uint8).reshape(1, 64).repeat(40, 0)
    if mode == "1":
        grey = np.where(grey > 127, 255, 0).astype(np.uint8)
    made = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    file = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    made.save(file)
    found = loaded(file, 16, channels)
    expected = np.asarray(Image.fromarray(grey).resize((16, 16), Image.Resampling.BILINEAR), np.float32) / 255
    assert found.shape == (channels, 16, 16) and found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.03


def test_each_channel_has_the_agreed_centre_and_scale(tmp_path: Path) -> None:
    (tmp_path / "ill").mkdir()
    Image.new("RGB", (9, 9), (255, 0, 51)).save(tmp_path / "ill" / "a.png")
    task = Scans()
    task.channels, task.centre, task.scale = 3, (0.5, 0.25, 0.0), (0.5, 0.5, 0.1)
    x, label = task.dataset(str(tmp_path))[0]
    assert x[:, 5, 5].tolist() == pytest.approx([1.0, -0.5, 2.0]) and label == 1


def test_dicom_is_read_and_inverted_grey_turned_round(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra [images] is not installed")
    pixels = (np.arange(64, dtype=np.uint16) * 50).reshape(8, 8)
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        held: Any = pydicom.Dataset()
        held.file_meta = meta
        held.SOPClassUID, held.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        held.Rows = held.Columns = 8
        held.SamplesPerPixel, held.BitsAllocated, held.BitsStored, held.HighBit = 1, 16, 16, 15
        held.PixelRepresentation, held.PhotometricInterpretation = 0, kind
        held.PixelData = pixels.tobytes()
        held.save_as(tmp_path / f"{kind}.dcm", enforce_file_format=True)
    plain, inverted = (loaded(tmp_path / f"MONOCHROME{n}.dcm", 8, 1) for n in (2, 1))
    assert plain[0, 0, 0] == 0.0 and plain[0, 7, 7] == 1.0
    assert np.allclose(plain, 1.0 - inverted, atol=0.01)


def test_what_cannot_be_read_is_named_by_its_place_and_not_by_its_name(tmp_path: Path) -> None:
    """A file's name may be a patient's."""
    place = folder(tmp_path / "data", 6)
    (place / "ill/1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(10))
    (place / "ill/1.png").rename(place / "ill/anna-example.png")
    with pytest.raises(ImageUnreadable) as caught:
        _ = Scans().dataset(str(place))[5]
    assert str(caught.value.evidence).startswith(f"file 3 by name of {place}/ill: ")
    assert "anna" not in caught.value.render()
    (tmp_path / "a.csv").write_text("path,label\nanna.png,ill\n")
    with pytest.raises(ImageUnreadable, match=r"a\.csv") as caught:
        _ = Scans().dataset(str(tmp_path / "a.csv"))[0]
    assert caught.value.evidence == "line 2: No such file or directory"
    assert "anna" not in caught.value.render()
    with pytest.raises(DataEmpty):
        Scans().dataset(str(tmp_path))
    (tmp_path / "a.csv").write_text("path,label\ncut.png,unheard-of\n")
    with pytest.raises(UnknownCode) as unknown:
        Scans().dataset(str(tmp_path / "a.csv"))
    assert "unheard-of" not in unknown.value.render()
    (tmp_path / "b.csv").write_text("file,label\ncut.png,ill\n")
    with pytest.raises(MissingColumn):
        Scans().dataset(str(tmp_path / "b.csv"))
    (tmp_path / "c.csv").write_text("path,label\n,ill\n")
    with pytest.raises(RaggedRecord):
        Scans().dataset(str(tmp_path / "c.csv"))


def test_bytes_that_are_no_picture_or_one_too_large_are_refused(tmp_path: Path) -> None:
    for dicom in (False, True):
        for raw in (b"", bytes(200), b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50), b"\xff\xd8\xff" + bytes(50)):
            with pytest.raises(NotAnImage):
                parse_image(raw, 8, 1, dicom=dicom)
    wide = io.BytesIO()
    Image.new("1", (1 << 14, 1 << 13)).save(wide, "PNG")  # 134 million pixels in 16 kB
    assert len(wide.getvalue()) < 1 << 16
    with pytest.raises(NotAnImage, match="pixels"):
        parse_image(wide.getvalue(), 8, 1, dicom=False)


# ── models ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("architecture", "parameters"), [("resnet18", 11_171_266), ("resnet50", 23_505_858)])
def test_a_resnet_takes_a_private_step(architecture: str, parameters: int) -> None:
    task = Scans()
    task.architecture = architecture
    made = a_step(task, 32, 1)
    assert made.parameters == parameters
    assert made.notices == (), "nothing had to be replaced"


def test_three_classes_are_judged_by_class() -> None:
    task = Scans()
    task.classes = ("a", "b", "c")
    made = a_step(task, 16, 1, 3)
    assert "auc_2" in made.figures(made.evaluate(made.initial(bytes(32))))


@pytest.mark.parametrize(("train", "names"), [("head", {"fc.weight", "fc.bias"}), ("norm+head", None)])
def test_what_does_not_train_does_not_travel(train: str, names: set[str] | None) -> None:
    task = Scans()
    task.train = train
    made = a_step(task, 16, 1)
    trained = {name for name, _ in made.layout.tensors}
    assert trained == (names or {"fc.weight", "fc.bias", "bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias"})
    assert build(task).frozen == build(task).frozen, "the same bits in every process"


def test_pretrained_weights_are_pinned_and_the_norms_keep_their_affine_part(tmp_path: Path) -> None:
    held = resnet18(3, 10).state_dict()
    held["layer1.0.bn1.weight"] = torch.full_like(held["layer1.0.bn1.weight"], 7.0)
    save_file(held, tmp_path / "w.safetensors")
    torch.save(held | {"bn1.running_mean": torch.zeros(64)}, tmp_path / "w.pt")
    firsts = []
    for name in ("w.safetensors", "w.pt"):
        task = Scans()
        task.architecture, task.channels = "resnet18", 3
        task.weights = (str(tmp_path / name), hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
        built = build(task)
        named = built.layout.split(built.first(task, bytes(32)))
        assert np.array_equal(named["layer1.0.bn1.weight"], np.full(64, 7.0, np.float32))
        assert np.array_equal(named["layer4.1.conv2.weight"], held["layer4.1.conv2.weight"].numpy())
        assert named["fc.weight"].shape == (2, 512), "the head starts anew"
        firsts.append(built.first(task, bytes(32)))
    assert np.array_equal(*firsts)


def torchvisions(name: str) -> dict[str, torch.Tensor]:
    """A checkpoint with the names and shapes of torchvision's: BatchNorm with its statistics, a head of 1000."""
    torch.manual_seed(3)
    held = {}
    for key, tensor in architecture(name, 3, 1000).state_dict().items():
        held[key] = torch.rand_like(tensor)
        layer, _, own = key.rpartition(".")
        if own == "weight" and tensor.ndim == 1:
            held |= {f"{layer}.running_mean": torch.rand_like(tensor), f"{layer}.running_var": torch.rand_like(tensor)}
            held[f"{layer}.num_batches_tracked"] = torch.tensor(7)
    return held


@pytest.mark.parametrize(("name", "tensors"), [("resnet18", 122), ("resnet50", 320)])
def test_a_batch_norm_checkpoint_of_torchvision_keeps_every_affine_weight(
    tmp_path: Path, name: str, tensors: int
) -> None:
    """torchvision's own resnet18 has 122 tensors, resnet50 320."""
    held = torchvisions(name)
    assert len(held) == tensors
    save_file(held, tmp_path / "w.safetensors")
    task = Scans()
    task.architecture, task.channels = name, 3
    task.weights = (
        str(tmp_path / "w.safetensors"),
        hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest(),
    )
    built = build(task)
    found = built.layout.split(built.first(task, bytes(32)))
    norms = [key for key, values in found.items() if ("bn" in key or "downsample.1" in key)]
    assert len(norms) == {"resnet18": 40, "resnet50": 106}[name]
    assert all(np.array_equal(found[key], held[key].numpy()) for key in found if not key.startswith("fc."))


def test_weights_of_another_file_of_another_model_or_with_code_are_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    task = Scans()
    task.weights = (str(tmp_path / "w.safetensors"), digest)
    with pytest.raises(ModelMisfit):
        build(task)
    task.weights = (str(tmp_path / "w.safetensors"), "0" * 64)
    with pytest.raises(WeightsUnusable):
        build(task)
    torch.save(resnet18(1, 2), tmp_path / "model.pt")  # a whole model: a pickle that would run code
    raw = (tmp_path / "model.pt").read_bytes()
    with pytest.raises(WeightsUnusable, match=r"model\.pt"):
        read_weights(tmp_path / "model.pt", hashlib.sha256(raw).hexdigest())
    with pytest.raises(WeightsUnusable):
        read_weights(tmp_path / "none.pt", "0" * 64)


def test_each_record_is_augmented_by_itself() -> None:
    task = Scans()
    task.augmentation = ("shift", "flip")
    x = torch.arange(32 * 256, dtype=torch.float32).reshape(32, 1, 16, 16)
    found = task.augment(x)
    assert found.shape == x.shape and not torch.equal(found, x)
    assert torch.equal(found.reshape(32, -1).sort().values, x.reshape(32, -1)), "each keeps its own pixels"
    task.augmentation = ("intensity",)
    shades = task.augment(x)
    ranks = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(shades, x, strict=True)]
    assert min(ranks) > 0.999 and not torch.equal(shades, x)
    task.augmentation = ()
    assert torch.equal(task.augment(x), x)


def test_images_learn_in_a_federation_of_three(tmp_path: Path) -> None:
    sites: dict[str, Any] = {
        name: str(folder(tmp_path / name, 80, 100 * place)) for place, name in enumerate(("ada", "bob", "cyd"))
    }
    settings = ("rounds=4", "privacy.sample_rate=0.3", "privacy.steps_per_round=10", "privacy.max_epsilon=100")
    (found,) = simulate_training(Scans(), sites, settings=settings)
    assert found.final > 0.9
