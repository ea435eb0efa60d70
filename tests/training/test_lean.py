"""What a process that makes passes loads and holds: of torch and Opacus what a pass uses, of a model one copy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from p2pfl.keys import Secret
from p2pfl.training.gradients.clipping import KeystreamOptimizer
from p2pfl.training.local import Trainer
from p2pfl.training.noise.bit_stream import BitStream
from p2pfl.training.privacy.account import Account
from tests.training.settings import PRIVACY, Small, site

SEED = Secret(bytes(32), "seed of a test's pass")

PASS = """
import sys, warnings
warnings.simplefilter("ignore")
from p2pfl.training.process import worker
worker.without_compiler()
import torch
from p2pfl.training.repeatable import repeatable
from p2pfl.training.gradients.projection import ProjectingModule
from p2pfl.training.lean import COMPILER
model = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(12, 1))
with repeatable(1):
    wrapped = ProjectingModule(model)
    wrapped(torch.ones(3, 1, 8)).sum().backward()
    assert [len(p.grad_sample) for p in model.parameters()] == [3] * 4
    weights = list(model.parameters())
    adams = [torch.optim.Adam(weights), torch.optim.AdamW(weights)]
    for optimiser in (torch.optim.SGD(weights, lr=0.1, momentum=0.9), *adams):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimiser.step()
heavy = {"scipy", "sympy", "pandas", "opacus.optimizers", "torch.distributed.fsdp", COMPILER + ".eval_frame"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
ASKED = """
import importlib.util
assert importlib.util.find_spec(COMPILER) is not None
from opacus import PrivacyEngine
import opacus
assert PrivacyEngine is opacus.PrivacyEngine and opacus.optimizers.DPOptimizer and "scipy" in sys.modules
with repeatable(1):
    doubled = torch.compile(lambda x: x + x, backend="eager")
    assert doubled(torch.ones(2)).tolist() == [2.0, 2.0]
    import torch._inductor.config
    assert torch._inductor.config.deterministic
import torch.distributed.fsdp
assert torch.distributed.fsdp.FullyShardedDataParallel and not hasattr(opacus, "nothing_of_that_name")
"""


def test_a_pass_loads_no_compiler_and_no_scipy_and_a_task_that_asks_gets_them() -> None:
    done = subprocess.run([sys.executable, "-c", PASS + ASKED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def held(module: torch.nn.Module) -> int:
    """Bytes of what its parameters lie in."""
    return sum(p.untyped_storage().nbytes() for p in module.parameters())


def test_a_model_lies_once_in_memory_and_the_vector_that_was_given_is_as_it_was() -> None:
    """What measures has no copy of its own, and what trains lies in the vector that the pass works on."""
    which = Trainer(task=Small(), site=site(40, (4,)), privacy=PRIVACY)
    model = which.initial(bytes(32))
    before, size = model.copy(), model.nbytes
    assert held(which._measured) < size
    update = which.train(model, Account().charge(PRIVACY), SEED)
    counts = which.evaluate(model)
    assert np.array_equal(model, before)
    assert held(which._measured) < size
    which.release()
    assert held(which._plain) < size
    local = model.copy()
    assert which.train_within(local, Account().charge(PRIVACY), SEED) is None
    assert np.array_equal(local - model, update)
    assert np.array_equal(which.evaluate(model), counts)


def test_a_gradient_that_is_not_each_records_own_ends_the_step() -> None:
    """Clipped by the others' norm alone, what is missing of one record would be no part of its bound."""
    weights = [torch.nn.Parameter(torch.zeros(3)) for _ in range(2)]
    optimizer = KeystreamOptimizer(torch.optim.SGD(weights, lr=0.1), PRIVACY, 1.0, BitStream(SEED, "training/noise"))
    for samples in (None, torch.ones(1, 3), [torch.ones(2, 3)]):
        weights[0].grad_sample, weights[1].grad_sample = torch.ones(2, 3), samples  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="each record"):
            optimizer.clip()
        optimizer.forget()
