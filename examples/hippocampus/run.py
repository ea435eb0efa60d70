"""Five hospitals segment the hippocampus on MRI, at ε = 3 and without privacy: Dice of both.

    python examples/hippocampus/run.py --data hippocampus_mri.npz    real MRI; without --data generated volumes
    python examples/hippocampus/run.py --write sites                 the same volumes as NIfTI, for five real processes

The training is that of `p2pfl join`, five sites in one process (`simulate_training`), at reduced resolution.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from p2pfl import simulate_training
from p2pfl.errors import P2PFLError
from p2pfl.federation.description import parse_description
from p2pfl.federation.scan_schema import VolumeSchema
from p2pfl.simulate.training import SimulatedTraining, summary
from p2pfl.training.records.records import Arrays
from p2pfl.training.tasks.volumes import Volumes

HERE = Path(__file__).parent
SITES = ("charite", "mayo", "radboud", "st-olav", "uppsala")
SETTINGS = (  # few patients: every one of them in each step, and noise of which each site adds a part
    "rounds=80",
    "privacy.noise=distributed",
    "privacy.colluders=1",
    "privacy.steps_per_round=1",
    "privacy.sample_rate=1.0",
    "privacy.max_grad_norm=0.1",
    "local.optimiser=sgd",
    "local.learning_rate=1.5",
    "average.decay=0.9",
    "sharing.field=61",
)
PLAIN = ("rounds=10", "privacy=none")
PLAIN_RATE = 0.3  # without clipping and noise
Scans = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # images and masks (N, X, Y, Z)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="hippocampus_mri.npz  [default: volumes are generated]")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[3.0], help="budgets to train at")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of p2pfl peers create")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the sites' volumes, and train nothing")
    given = parser.parse_args()
    scans = read(given.data) if given.data else generated()
    if given.write:
        return write(scans, given.write)
    task, begun = described(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write(scans, Path(folder))
        sites = {name: kept(task, Path(folder) / name) for name in SITES}
    rows = []
    for epsilon in [None, *given.epsilon]:
        found = trained(sites, epsilon, given)
        told, last = summary(found), found[0].figures[-1]
        by_class = ", ".join(
            f"{name} {last[f'dice_{place}'].value:.3f}" for place, name in enumerate(task.classes) if place
        )
        kind = "without privacy" if epsilon is None else f"ε {told['epsilon']:.2f}, noise {told['noise_multiplier']:g}"
        rows.append(f"  {kind}: Dice {told['mean']:.3f} ± {told['sd']:.3f} (first seed: {by_class})")
    size = "×".join(map(str, task.size))
    print(
        f"\nUNet at {size}: {len(found[0].model)} weights; {len(sites)} sites, {len(scans[0])} "
        f"{'real' if given.data else 'generated'} volumes; {given.seeds} seeds, held-out volumes"
    )
    print("\n".join(rows))
    print(f"  {time.perf_counter() - begun:.0f} s")


def trained(sites: Mapping[str, Arrays], epsilon: float | None, given: argparse.Namespace) -> list[SimulatedTraining]:
    """Once for each seed; without `epsilon` as `privacy: none` trains: batches of some .4 records, 80 a round."""
    task = described()
    if epsilon is None:
        task.learning_rate, task.expected_batch = PLAIN_RATE, 1.0
    return simulate_training(
        task,
        sites,
        settings=(*(SETTINGS if epsilon is not None else PLAIN), *given.set),
        epsilon=epsilon,
        seeds=range(given.first_seed, given.first_seed + given.seeds),
        device=given.device,
        progress=lambda seed, number, figures: print(
            f"ε {epsilon or 'none'}, seed {seed}, round {number}: Dice {figures['dice'].value:.3f}"
        ),
    )


def described() -> Volumes:
    """The task of hippocampus.yaml."""
    file = HERE / "hippocampus.yaml"
    schema = parse_description(file.read_bytes(), str(file))
    if not isinstance(schema, VolumeSchema):
        raise SystemExit(f"{file} describes no volumes")
    return Volumes.of(schema)


def read(path: Path) -> Scans:
    """Hippocampi of the Medical Segmentation Decathlon, 40×56×40 voxels of 1 mm."""
    with np.load(path) as held:
        return held["image"], held["label"]


def generated(count: int = 120) -> Scans:
    """A bright curved body of two parts in noise."""
    draws, shape = np.random.default_rng(0), (40, 56, 40)
    x, y, z = np.indices(shape).astype(np.float32)
    images, masks = np.zeros((count, *shape), np.uint8), np.zeros((count, *shape), np.uint8)
    for place in range(count):
        middle = np.array(shape) / 2 + draws.normal(0, 1.5, 3)
        long, thick, bend = draws.uniform(15, 19), draws.uniform(4.5, 6), draws.uniform(-0.012, 0.012)
        along = (y - middle[1]) / long
        across = ((x - middle[0] - bend * (y - middle[1]) ** 2) / thick) ** 2 + ((z - middle[2]) / thick) ** 2
        body = along**2 + across < 1
        masks[place] = np.where(body, np.where(along > 0.1, 1, 2), 0)
        images[place] = np.clip(90 + 60 * body + 15 * body * (along > 0.1) + draws.normal(0, 18, shape), 0, 255)
    return images, masks


def write(scans: Scans, folder: Path) -> None:
    """FOLDER/SITE/images/NUMBER.nii.gz and labels/ beside it, as `p2pfl join --data FOLDER/SITE` reads them."""
    for number, pair in enumerate(zip(*scans, strict=True)):
        for kind, values in zip(("images", "labels"), pair, strict=True):
            file = folder / SITES[number % len(SITES)] / kind / f"{number:03}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), file)


def kept(task: Volumes, folder: Path) -> Arrays:
    """A site's volumes as the task reads them, in memory: read once, and not in each step."""
    found = task.dataset(str(folder))
    pairs = [found[row] for row in range(len(found))]
    x, y = (np.stack([pair[part] for pair in pairs]) for part in (0, 1))
    return Arrays(x, y, [found.identity(row) for row in range(len(found))])


if __name__ == "__main__":
    try:
        main()
    except P2PFLError as error:
        raise SystemExit(error.render()) from None
