"""Five hospitals learn to see pneumonia on chest X-rays, at ε = 3: a table of what they reach.

    python examples/xrays/run.py --data pneumonia_xray28.npz      real X-rays; without --data generated ones
    python examples/xrays/run.py --write sites                    the same images as folders, for five real processes

The training is that of `p2pfl join`, five sites in one process (`simulate_training`). --model resnet18 or resnet50 take
other descriptions of this folder; ResNet50 takes a few steps, at 64×64 pixels or at --full-size.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p2pfl import simulate_training
from p2pfl.errors import P2PFLError
from p2pfl.federation.description import parse_description
from p2pfl.federation.scan_schema import ImageSchema
from p2pfl.simulate.training import summary
from p2pfl.training.records.records import Arrays
from p2pfl.training.tasks.images import Images

HERE = Path(__file__).parent
SITES = ("charite", "mayo", "radboud", "st-olav", "uppsala")
CLASSES = ("normal", "pneumonia")
SETTINGS = {
    "cnn": ("rounds=30", "privacy.steps_per_round=5", "privacy.sample_rate=0.1"),
    "resnet18": ("rounds=10", "privacy.steps_per_round=4", "privacy.sample_rate=0.05"),
    "resnet50": ("rounds=1", "privacy.steps_per_round=2", "privacy.sample_rate=0.1"),
}
REDUCED = 64  # pixels of a side of ResNet50's images, where nobody asks for its own 224
Pictures = tuple[NDArray[np.uint8], NDArray[np.int64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="pneumonia_xray28.npz  [default: images are generated]")
    parser.add_argument("--model", choices=list(SETTINGS), default="cnn")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--records", type=int, help="images of each site, fewer than there are")
    parser.add_argument("--full-size", action="store_true", help="ResNet50 at 224×224")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--copies", type=int, default=1, help="of each image in a step, each shifted anew")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of p2pfl peers create")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the sites' images, and train nothing")
    given = parser.parse_args()
    sites = dealt(read(given.data) if given.data else generated(), given.records)
    if given.write:
        return write(sites, given.write)
    task = described(given.model, full_size=given.full_size)
    task.copies = given.copies
    begun = time.perf_counter()
    found = simulate_training(
        task,
        {name: inputs(*held, task) for name, held in sites.items()},
        settings=(*SETTINGS[given.model], *given.set),
        epsilon=given.epsilon,
        seeds=range(given.first_seed, given.first_seed + given.seeds),
        device=given.device,
        progress=lambda seed, number, figures: print(f"seed {seed}, round {number}: AUC {figures['auc'].value:.3f}"),
    )
    told, federation = summary(found), found[0].federation
    print(
        f"\n{given.model} at {task.size}×{task.size}: {len(found[0].model)} weights; {len(sites)} sites, "
        f"{sum(len(y) for _, y in sites.values())} {'real' if given.data else 'generated'} images\n"
        f"AUC {told['mean']:.3f} ± {told['sd']:.3f} on held-out images, {given.seeds} seeds\n"
        f"ε {told['epsilon']:.2f} at δ {federation.privacy.delta:g}, noise {told['noise_multiplier']:g}, "
        f"{federation.rounds} rounds of {federation.privacy.steps_per_round} steps; "
        f"{time.perf_counter() - begun:.0f} s"
    )


def described(model: str, *, full_size: bool) -> Images:
    """The task of MODEL.yaml; ResNet50's images are reduced unless `full_size`."""
    file = HERE / f"{model}.yaml"
    schema = parse_description(file.read_bytes(), str(file))
    if not isinstance(schema, ImageSchema):
        raise SystemExit(f"{file} describes no images")
    return Images.of(schema if model != "resnet50" or full_size else replace(schema, size=REDUCED))


def read(path: Path) -> Pictures:
    """PneumoniaMNIST's images of 28×28 and their classes."""
    with np.load(path) as held:
        return held["train_images"], held["train_labels"].astype(np.int64)


def generated(count: int = 4700, side: int = 28) -> Pictures:
    """Two grey lungs in noise; with pneumonia a pale patch lies in one of them."""
    draws = np.random.default_rng(0)
    down, right = np.indices((side, side)) / (side - 1.0)
    images, labels = np.zeros((count, side, side), np.uint8), (draws.random(count) < 0.74).astype(np.int64)
    for place, ill in enumerate(labels):
        middle = 0.5 + 0.04 * draws.normal(size=2)
        lungs = sum(
            np.exp(-(((right - middle[1] - way * 0.22) / 0.13) ** 2) - ((down - middle[0]) / 0.3) ** 2)
            for way in (-1, 1)
        )
        grey = 0.75 - 0.5 * lungs + 0.08 * draws.normal(size=(side, side))
        if ill:
            centre = middle + np.array([0.15 * draws.normal(), draws.choice([-0.22, 0.22])])
            far = ((down - centre[0]) / 0.14) ** 2 + ((right - centre[1]) / 0.12) ** 2
            grey = grey + 0.35 * np.exp(-far) * draws.uniform(0.5, 1.2)
        images[place] = np.clip(255 * grey, 0, 255)
    return images, labels


def dealt(pictures: Pictures, records: int | None) -> dict[str, Pictures]:
    """The images in turn to the sites."""
    x, y = pictures
    count = len(SITES)
    return {name: (x[place::count][:records], y[place::count][:records]) for place, name in enumerate(SITES)}


def inputs(x: NDArray[np.uint8], y: NDArray[np.int64], task: Images) -> Arrays:
    """The images as the task's own reader gives them, in memory."""
    size = (task.size, task.size)
    resized = np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR)) for one in x])
    scaled = (resized[:, None].astype(np.float32) / 255 - task.centre[0]) / task.scale[0]
    return Arrays(scaled.astype(np.float32), y, [one.tobytes() for one in x])


def write(sites: Mapping[str, Pictures], folder: Path) -> None:
    """FOLDER/SITE/CLASS/NUMBER.png, as `p2pfl join --data FOLDER/SITE` reads them."""
    for name, (x, y) in sites.items():
        for number, (image, label) in enumerate(zip(x, y, strict=True)):
            file = folder / name / CLASSES[label] / f"{number:05}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
        print(f"{folder / name}: {len(y)} images")


if __name__ == "__main__":
    try:
        main()
    except P2PFLError as error:
        raise SystemExit(error.render()) from None
