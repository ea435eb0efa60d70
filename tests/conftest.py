"""What holds for all tests: a slow machine fails none of them, and two of them may run side by side.

`make test` runs two workers (pytest-xdist, `--dist loadgroup`). Tests that start real processes stay on one worker, in
their order, so that never more than one mesh shares the machine's cores with the others; so do the tests in network
namespaces, which play their scenes together. All else goes by whole files, whose fixtures are made once.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")

TOGETHER = ("processes", "network")


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
