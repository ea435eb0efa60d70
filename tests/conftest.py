"""What holds for all tests: what each needs, how many examples are tried, and which run side by side.

`make test` runs four workers (pytest-xdist), which take whole files, whose fixtures are made once. Three begin with
what starts processes and often waits for them: no more such files at a time, since each has up to twenty processes. One
begins at the other end, with what only computes, the longest first: it has what the waits leave of the cores. They meet
among short files, and so end together. Tests in network namespaces stay on one worker, since they play their scenes
together.
"""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.examples import load_profile

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

load_profile()

# A run that nohup or a script's `&` started ignores these, and so would all processes that its tests interrupt.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

TESTS = Path(__file__).parent

# What the tests of a folder or file need, by the markers of pyproject.toml. The longest path that fits holds, and ""
# needs nothing: `make quick` runs what has no marker.
NEEDS: dict[str, str] = {
    "adapters/test_example.py": "processes",
    "adapters/test_processes.py": "processes",
    "cli/test_dashboard.py": "processes",
    "cli/test_demo_ports.py": "processes",
    "cli/test_doctor_processes.py": "processes",
    "cli/test_faults.py": "processes",
    "cli/test_interrupts.py": "processes",
    "cli/test_killed_init.py": "processes",
    "cli/test_live_processes.py": "processes",
    "cli/test_mistakes.py": "processes",
    "cli/test_no_privacy.py": "processes",
    "cli/test_own_task.py": "processes",
    "cli/test_processes.py": "processes",
    "cli/test_scans.py": "processes",
    "cli/test_scarce.py": "processes",
    "cli/test_start.py": "processes",
    "cli/test_streams.py": "processes",
    "cli/test_tables.py": "processes",
    "cli/test_withdraw.py": "processes",
    "dashboard": "sockets",
    "dashboard/test_browser.py": "processes",
    "deploy": "slow",
    "end_to_end": "processes",
    "fuzz": "slow",
    "mesh": "sockets",
    "mesh/test_certificates.py": "",
    "mesh/test_framing.py": "",
    "mesh/test_no_proxy.py": "",
    "mesh/test_token_bucket.py": "",
    "mesh/test_zmtp.py": "",
    "network": "network",
    "peer": "sockets",
    "readme": "readme",
    "readme/test_pages.py": "",
    "report/test_browser.py": "processes",
    "sharing/test_typed_rows.py": "slow",
    "simulate/test_dropout.py": "storms",
    "simulate/test_record_gradients_benchmark.py": "processes",
    "simulate/test_search.py": "storms",
    "simulate/test_storms.py": "storms",
    "simulate/test_training.py": "slow",
    "training/test_distributed.py": "processes",
    "test_bench.py": "processes",
    "test_examples.py": "processes",
    "test_growth_benchmark.py": "processes",
    "test_scan_examples.py": "slow",
    "training/test_images.py": "slow",
    "training/test_large.py": "slow",
    "node/runs/test_task_process.py": "processes",
    "node/runs/test_pinned_weights.py": "processes",
    "training/test_onnx.py": "slow",
    "training/test_repeat_processes.py": "processes",
    "training/test_volumes.py": "slow",
}
BEGINS = ("network", "readme", "processes", "sockets", "", "slow", "storms")  # long waits first, long work last
UNMARKED = BEGINS.index("")
COMPUTES = "gw0"  # the worker that begins with the last


@functools.cache
def need(file: Path) -> str:
    """The marker of the tests in `file`, "" if they need nothing."""
    inside = file.relative_to(TESTS)
    rows = (str(path) for path in (inside, *inside.parents))
    return next((NEEDS[row] for row in rows if row in NEEDS), "")


def pytest_configure(config: pytest.Config) -> None:
    if seed := os.environ.get("P2PFL_SHAKEN"):
        from tests.shaken.plugin import Plugin

        config.pluginmanager.register(Plugin(seed), "shaken")


def pytest_itemcollected(item: pytest.Item) -> None:
    if marker := need(item.path):
        item.add_marker(marker)


def group(nodeid: str) -> str:
    """Which tests that of `nodeid` runs with, on one worker: those of its file, or of all network namespaces."""
    file = nodeid.partition("::")[0]
    return "network" if need(TESTS.parent / file) == "network" else file


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if shaken := config.pluginmanager.get_plugin("shaken"):
        items[:] = shaken.shuffled(items)
    if not config.pluginmanager.hasplugin("xdist"):
        return
    begins: dict[str, int] = {}  # by group: the first of BEGINS that one of its tests has
    for item in items:
        kind = next((at for at, marker in enumerate(BEGINS) if marker and item.get_closest_marker(marker)), UNMARKED)
        of = group(item.nodeid)
        begins[of] = min(kind, begins.get(of, kind))
    items.sort(key=lambda item: begins[group(item.nodeid)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Hands whole groups to workers. pytest-xdist's own groups went by a name that pytest 9.2 no longer reads."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

        def _assign_work_unit(self, node: WorkerController) -> None:
            if node.gateway.id == COMPUTES:
                self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
            super()._assign_work_unit(node)

    return Groups(config, log)
