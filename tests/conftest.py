"""What holds for all tests: what each needs, how many examples are tried, and which run side by side.

`make test` runs two workers (pytest-xdist, `--dist loadgroup`). Tests that start real processes stay on one worker, in
their order, so that never more than one mesh shares the machine's cores with the others; so do the tests in network
namespaces, which play their scenes together. All else goes by whole files, whose fixtures are made once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples import load_profile

load_profile()

TESTS = Path(__file__).parent

# What the tests of a folder or file need, by the markers of pyproject.toml. The longest path that fits holds, and ""
# needs nothing: `make quick` runs what has no marker.
NEEDS: dict[str, str] = {
    "cli/test_doctor_processes.py": "processes",
    "cli/test_mistakes.py": "processes",
    "cli/test_processes.py": "processes",
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
    "simulate/test_dropout.py": "storms",
    "simulate/test_storms.py": "storms",
    "training/test_large.py": "slow",
}
TOGETHER = ("processes", "network")


def need(file: Path) -> str:
    """The marker of the tests in `file`, "" if they need nothing."""
    inside = file.relative_to(TESTS)
    rows = (str(path) for path in (inside, *inside.parents))
    return next((NEEDS[row] for row in rows if row in NEEDS), "")


def pytest_itemcollected(item: pytest.Item) -> None:
    if marker := need(item.path):
        item.add_marker(marker)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("xdist"):
        return
    queues: dict[str, list[pytest.Item]] = {group: [] for group in TOGETHER}  # the longest begin first
    for item in items:
        group = next((one for one in TOGETHER if item.get_closest_marker(one)), item.location[0])
        item.add_marker(pytest.mark.xdist_group(group))
        queues.setdefault(group, []).append(item)
    items[:] = [item for queue in queues.values() for item in queue]
