"""What one process has spent and held: processor seconds, memory at its highest, bytes that left an interface."""

from __future__ import annotations

import ctypes
import gc
import resource
import subprocess
import sys
from pathlib import Path


def cpu_s() -> float:
    """Processor seconds of all threads of this process, the kernel's work for them included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def switches() -> int:
    """How often a thread of this process has waited for something so far; gloo's threads, where it runs, apart.

    They wake up for the barrier before each sum, some hundred times. They count where threads are not told apart.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - sum(
        map(_waits_of_gloo, Path("/proc/self/task").glob("*"))
    )


def _waits_of_gloo(thread: Path) -> int:
    try:
        lines = (thread / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0  # it has ended
    said = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(said.get("voluntary_ctxt_switches", 0)) if "gloo" in said.get("Name", "") else 0


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where the system does not say."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most that it held since `forget_peak`; since its start where the system cannot forget."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def forget_peak() -> None:
    """Begin anew with `peak_bytes` (Linux; elsewhere nothing happens)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def give_back() -> None:
    """Collect, and let the C library return what is free to the system, where it can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def end(child: subprocess.Popen[str]) -> None:
    """Kill `child` if it still runs, and wait until it is gone."""
    if child.poll() is None:
        child.kill()
    child.wait()


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def interface_bytes(interface: str) -> int:
    """Bytes that left `interface` of this process's network namespace, headers included; 0 where nobody counts."""
    try:
        return int(Path(f"/sys/class/net/{interface}/statistics/tx_bytes").read_text(encoding="ascii"))
    except OSError:
        return 0
