"""What conftest.py registers where P2PFL_SHAKEN is set: shakes each test, and the processes that it starts."""

from __future__ import annotations

import os
import random
import subprocess
from typing import Any

import pytest

from tests.shaken.shaken import HERE, Shaker


class Plugin:
    """Of pytest. `seed`: the value of P2PFL_SHAKEN."""

    def __init__(self, seed: str) -> None:
        self._seed, self._shaker, self._began = seed, Shaker(seed, ""), False

    def _shake_children(self) -> None:
        """All processes that are started from here on get what shakes them in their environment."""
        plain = subprocess.Popen.__init__

        def started(self: Any, args: Any, *more: Any, env: Any = None, **options: Any) -> None:
            if not (isinstance(args, (list, tuple)) and "-I" in args):  # it takes nothing from its environment
                env = dict(os.environ if env is None else env)
                env.setdefault("P2PFL_SHAKEN", os.environ["P2PFL_SHAKEN"])
                before = [place for place in env.get("PYTHONPATH", "").split(os.pathsep) if place]
                env["PYTHONPATH"] = os.pathsep.join([*before, str(HERE.parent)])
            plain(self, args, *more, env=env, **options)

        subprocess.Popen.__init__ = started  # type: ignore[method-assign]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if not self._began:  # not before: workers of pytest-xdist are started, and load all tests, as fast as ever
            self._began = True
            self._shake_children()
        self._shaker.begin(item.nodeid)
        self._shaker.start()

    def shuffled(self, items: list[Any]) -> list[Any]:
        """The files in another order, and the tests of each; pages of the README go on from one another."""
        files: dict[str, list[Any]] = {}
        for item in items:
            files.setdefault(item.location[0], []).append(item)
        drawn = random.Random(self._seed)
        for held in files.values():
            if not held[0].get_closest_marker("readme"):
                drawn.shuffle(held)
        order = list(files)
        drawn.shuffle(order)
        return [item for file in order for item in files[file]]
