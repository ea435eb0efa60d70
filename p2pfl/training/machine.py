"""What of a machine decides the last bits of a float: versions, threads, the processor's instructions.

A sum of floats follows from the order of its terms, and that from how many threads share it and which kernels run. Two
processes in which all of this is equal compute the same bits. docs/adr/0034.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import torch

from p2pfl.training.gradients import opacus_parts


def threads_and_versions() -> tuple[str, ...]:
    """Facts of this process to compare with those of another."""
    return (
        platform.machine(),
        _processor(),
        torch.backends.cpu.get_cpu_capability(),
        torch.__config__.show(),
        f"threads {torch.get_num_threads()} {torch.get_num_interop_threads()}",
        f"torch {torch.__version__} opacus {opacus_parts.__version__} numpy {np.__version__}",
        f"python {platform.python_version()}",
    )


def _processor() -> str:
    """The processor's model, by which its libraries choose their kernels; empty where the system does not say it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
