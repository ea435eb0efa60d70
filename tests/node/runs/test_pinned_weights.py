"""Pretrained weights that peers.yaml pins, in the process that runs the task: read there, behind its walls."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from p2pfl.cli.joining import Access
from p2pfl.cli.local_task import LocalInputs, reach_of
from p2pfl.errors.scans import WeightsUnusable
from p2pfl.errors.training import ModelMisfit
from p2pfl.federation import Federation, draft
from p2pfl.keys import Secret
from p2pfl.training.models import build
from p2pfl.training.privacy.account import Account
from p2pfl.training.process.facts import TaskSource
from p2pfl.training.process.remote import RemoteTrainer
from p2pfl.training.registry import code_of, described_task
from tests.federation.sample import CARDS
from tests.training.test_images import folder

KEY = Secret(bytes(32), "who is held out in tests")
TASK = """\
images:
  classes: [normal, ill]
  model: {{cnn: [4, 8]}}
  size: 16
  channels: 1
  centre: [0.5]
  scale: [0.5]
  weights: {{file: {file}, sha256: "{digest}"}}
  trainable: head
  augmentation: []
  learning_rate: 0.5
  expected_batch: 10
"""
SETTINGS = ("privacy.steps_per_round=2", "privacy.sample_rate=0.3", "privacy.max_epsilon=90")


def federation(file: str, digest: str) -> Federation:
    lines = draft.description_lines(TASK.format(file=file, digest=digest).encode(), "task.yaml")
    return Federation.parse(draft.peers_file("trial", [card.member for card in CARDS], lines, SETTINGS))


def site_of(agreed: Federation, data: Path, weights: Path, *reads: Path) -> LocalInputs:
    """What a site that joins brings; its home and key lie beside the data."""
    return LocalInputs(agreed, Access(data.parent / "home", (), None, None), data, None, weights, reads=reads)


def source_of(agreed: Federation, data: Path, weights: Path) -> TaskSource:
    return TaskSource(agreed, data, None, *code_of(agreed.task, weights))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("pinned") / "data", 40)


@pytest.fixture(scope="module")
def weights(data: Path) -> Path:
    """A checkpoint of the same network, in a folder that the process may not read but for this file."""
    path = data.parent / "elsewhere" / "cnn.safetensors"
    path.parent.mkdir()
    model = described_task(federation("cnn.pt", "0" * 64).task.scans).model()
    torch.manual_seed(7)
    save_file({name: torch.rand_like(values) for name, values in model.state_dict().items()}, path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pinned_weights_are_those_of_the_model_that_the_process_trains(data: Path, weights: Path) -> None:
    """Frozen and named alike as where the task is built in the open, and the head alone moves."""
    agreed = federation("cnn.safetensors", sha256(weights))
    built = build(described_task(agreed.task.scans, weights))
    assert built.pretrained and len(built.layout.tensors) == 2
    with RemoteTrainer(reach_of(site_of(agreed, data, weights))) as trainer:
        facts = trainer.prepare(source_of(agreed, data, weights), KEY)
        assert (facts.frozen, facts.layout) == (built.frozen, built.layout)
        model = trainer.initial(bytes(32))
        update = trainer.train(model, Account().charge(agreed.privacy), Secret(bytes(32), "seed"))
        assert np.isfinite(update).all() and update.any()


def test_weights_that_do_not_fit_are_told_by_name_from_the_process_too(data: Path, weights: Path) -> None:
    """Of another digest, not there, of another model, and with code in them; each is tried in the same process."""
    other, code = weights.with_name("other.pt"), weights.with_name("code.pt")
    torch.save({"conv1.weight": torch.zeros(2, 2)}, other)
    torch.save(torch.nn.Linear(2, 2), code)
    gone, none = weights.with_name("gone.safetensors"), "0" * 64
    tried = [(weights, none), (gone, none), (code, sha256(code)), (other, sha256(other))]
    site = site_of(federation(weights.name, none), data, weights, weights.parent)
    with RemoteTrainer(reach_of(site)) as trainer:
        for path, digest in tried:
            with pytest.raises(ModelMisfit if path == other else WeightsUnusable) as told:
                trainer.prepare(source_of(federation(path.name, digest), data, path), KEY)
            assert path == other or path.name in str(told.value)
