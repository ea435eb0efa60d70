"""`task: images:` and `task: volumes:`: what is read, and what does not fit is told at once, with its place."""

from __future__ import annotations

import pytest

from p2pfl.errors.federation import TableUnfit, UnknownKey
from p2pfl.federation import Federation, draft
from p2pfl.federation.description import parse_description
from p2pfl.federation.scan_schema import HowTrained, ImageSchema, PinnedWeights, ScanModel, VolumeSchema
from tests.federation.sample import CARDS

IMAGES = f"""\
# Is there pneumonia?
images:
  classes: [normal, pneumonia]
  model: resnet50
  size: 224
  channels: 3
  centre: [0.485, 0.456, 0.406]
  scale: [0.229, 0.224, 0.225]
  weights: {{file: resnet50.safetensors, sha256: "{"ab" * 32}"}}
  trainable: {{lora: 4}}
  augmentation: [shift, intensity]
  learning_rate: 0.01
  expected_batch: 16
"""
VOLUMES = """\
volumes:
  classes: [background, anterior, posterior]
  model: {unet: [8, 16, 32], units: 1}
  size: [40, 56, 40]
  channels: 1
  spacing: [1.0, 1.0, 1.0]
  window: each
  trainable: all
  augmentation: []
  learning_rate: 0.05
  expected_batch: 4
"""


def parsed(text: str) -> object:
    return parse_description(text.encode(), "task.yaml")


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def test_images_are_read_whole() -> None:
    weights = PinnedWeights("resnet50.safetensors", "ab" * 32)
    how = HowTrained(weights, "lora", 4, ("shift", "intensity"), 0.01, 16.0)
    centre, scale = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert parsed(IMAGES) == ImageSchema(("normal", "pneumonia"), ScanModel("resnet50"), 224, 3, centre, scale, how)
    text = changed(IMAGES, "resnet50\n", "{cnn: [32, 64, 128]}\n")
    found = parsed(text)
    assert isinstance(found, ImageSchema) and found.model == ScanModel("cnn", (32, 64, 128))


def test_volumes_are_read_whole() -> None:
    how = HowTrained(None, "all", 0, (), 0.05, 4.0)
    classes, model = ("background", "anterior", "posterior"), ScanModel("unet", (8, 16, 32), 1)
    assert parsed(VOLUMES) == VolumeSchema(classes, model, (40, 56, 40), 1, (1.0, 1.0, 1.0), None, how)
    found = parsed(changed(changed(VOLUMES, "each", "[-1000, 400]"), "[1.0, 1.0, 1.0]", "null"))
    assert isinstance(found, VolumeSchema) and (found.window, found.spacing) == ((-1000.0, 400.0), None)


def test_shares_of_the_classes_are_read_one_for_each_and_add_up_to_one() -> None:
    found = parsed(f"{VOLUMES}  shares: [0.96, 0.03, 0.01]\n")
    assert isinstance(found, VolumeSchema) and found.shares == (0.96, 0.03, 0.01)
    for odd in ("[0.96, 0.04]", "[0.9, 0.03, 0.01]", "[1, 0, 0]"):
        with pytest.raises(TableUnfit) as caught:
            parsed(f"{VOLUMES}  shares: {odd}\n")
        assert "volumes.shares" in caught.value.render()
    with pytest.raises(TableUnfit):
        parsed(f"{IMAGES}  shares: [0.5, 0.5]\n")


@pytest.mark.parametrize("text", [IMAGES, VOLUMES], ids=["images", "volumes"])
def test_a_peers_file_holds_the_description_with_its_comments(text: str) -> None:
    raw = draft.peers_file("trial", [card.member for card in CARDS], draft.description_lines(text.encode(), "t"))
    task = Federation.parse(raw).task
    assert task.scans == parsed(text) and task.table is None
    assert task.label == ("images" if text is IMAGES else "volumes")
    assert all(f"  {line}" in raw.decode().splitlines() for line in text.splitlines())


def test_resnet50s_defaults_are_those_of_the_mission() -> None:
    """SGD with a learning rate of 0.01, noise 1.1, clip 1.0."""
    raw = draft.peers_file("trial", [card.member for card in CARDS], draft.description_lines(IMAGES.encode(), "t"))
    federation = Federation.parse(raw)
    assert (federation.privacy.noise_multiplier, federation.privacy.max_grad_norm) == (1.1, 1.0)
    assert federation.task.scans is not None and federation.task.scans.how.learning_rate == 0.01


ODD_IMAGES = {  # (what stands there, what it becomes): what is told
    ("[normal, pneumonia]", "[normal]"): "images.classes must be a list of 2 to 64 different names",
    ("[normal, pneumonia]", "[normal, normal]"): "images.classes must be a list of 2 to 64 different names",
    ("[normal, pneumonia]", "[normal, ../secret]"): "images.classes[1] must be a name that can be a folder's",
    ("resnet50\n", "resnet51\n"): "images.model must be resnet18, resnet50, or {cnn: [CHANNELS, …]}",
    ("resnet50\n", "{cnn: []}\n"): "images.model.cnn must be a list of 1 to 6 numbers of channels",
    ("resnet50\n", "{cnn: [1025]}\n"): "images.model.cnn[0] must be a whole number from 1 to 1024",
    ("resnet50\n", "{cnn: [1,1,1,1,1,1,1]}\n"): "images.model.cnn must be a list of at most 6",
    ("resnet50\n", "{unet: [8, 16], units: 1}\n"): "images.model must be",
    ("size: 224", "size: 31"): "images.size must be 32 or more for a resnet50",
    ("size: 224", "size: 1000000"): "images.size must be a whole number from 8 to 1024",
    ("channels: 3", "channels: 2"): "images.channels must be one of 1, 3",
    ("[0.485, 0.456, 0.406]", "[0.485]"): "images.centre must be a list of 3, one for each channel",
    ("[0.485, 0.456, 0.406]", "[0.485, 0.456, 123.7]"): "images.centre[2] must be a number from 0 (black) to 1 (white)",
    ("0.229", "0"): "images.scale[0] must be a number above 0",
    (".safetensors", ".pkl"): "images.weights.file must be a file's name ending in .safetensors, .pt or .pth",
    ("file: resnet50", "file: ../resnet50"): "images.weights.file must be",
    ("ab" * 32, "ab"): "images.weights.sha256 must be 64 hexadecimal digits",
    ("{lora: 4}", "{lora: 65}"): "images.trainable.lora must be a whole number from 1 to 64",
    ("{lora: 4}", "norm"): "images.trainable must be all, head, norm+head, or {lora: RANK}",
    ("[shift, intensity]", "[rotate]"): "images.augmentation[0] must be one of shift, flip, intensity",
    ("[shift, intensity]", "[shift, shift]"): "images.augmentation names one twice",
    ("learning_rate: 0.01", "learning_rate: 0"): "images.learning_rate must be a number above 0",
    ("rate: 0.01\n", "rate: 0.01\n  mean: 0.1\n"): "images.'mean' is not known",
    ("  learning_rate: 0.01\n", ""): "images.learning_rate is missing",
}
ODD_VOLUMES = {
    ("{unet: [8, 16, 32], units: 1}", "{unet: [8], units: 1}"): "volumes.model.unet must be a list of 2 to 6",
    ("{unet: [8, 16, 32], units: 1}", "{unet: [8, 16, 32], units: 9}"): "volumes.model.units must be a whole number",
    (
        "{unet: [8, 16, 32], units: 1}",
        "{unet: [8, 16, 32]}",
    ): "volumes.model must be {unet: [CHANNELS, …], units",
    ("{unet: [8, 16, 32], units: 1}", "resnet18"): "volumes.model must be {unet",
    ("[40, 56, 40]", "[40, 56]"): "volumes.size must be a list of three",
    ("[40, 56, 40]", "[40, 56, 42]"): "volumes.size must be multiples of 4, and 8 or more",
    ("[40, 56, 40]", "[1024, 1024, 1024]"): "volumes.size must be of at most 16777216 voxels",
    ("[1.0, 1.0, 1.0]", "[1.0, 1.0, 0]"): "volumes.spacing[2] must be a number above 0",
    ("each", "[5, 5]"): "volumes.window must be each, or [low, high]",
    ("each", "mean"): "volumes.window must be each, or [low, high]",
    ("channels: 1", "channels: 17"): "volumes.channels must be a whole number from 1 to 16",
}


@pytest.mark.parametrize(
    ("text", "change", "told"),
    [(IMAGES, *row) for row in ODD_IMAGES.items()] + [(VOLUMES, *row) for row in ODD_VOLUMES.items()],
)
def test_what_does_not_fit_is_told_with_its_line(text: str, change: tuple[str, str], told: str) -> None:
    spoilt = changed(text, *change)
    with pytest.raises(TableUnfit) as caught:
        parsed(spoilt)
    assert told in caught.value.render()
    lines = zip(spoilt.splitlines(), text.splitlines(), strict=False)
    line = next(number for number, (new, old) in enumerate(lines, start=1) if new != old)
    if change[1]:
        assert f"task.yaml:{line}:" in caught.value.render()


def test_all_that_does_not_fit_is_told_at_once() -> None:
    odd = changed(changed(IMAGES, "size: 224", "size: x"), "channels: 3", "channels: many")
    with pytest.raises(TableUnfit) as caught:
        parsed(changed(odd, "expected_batch: 16", "a: 1"))
    told = caught.value.render()
    wanted = ("images.size", "images.channels", "images.'a'", "images.expected_batch is missing")
    assert [one for one in wanted if one not in told] == []


def test_a_description_is_of_one_kind() -> None:
    with pytest.raises(UnknownKey):
        parsed(IMAGES + VOLUMES)
    with pytest.raises(UnknownKey):
        parsed(IMAGES + "learning_rate: 0.1\n")
