"""Tests in network namespaces mostly wait for time to pass, so those of one session are played side by side.

A test of this kind has a parameter `scene` and plays it by `played(scene)`: the first call has the scenes of all tests
that were collected begin, each in a thread, and each call waits for its own. A scene is given a folder of its own. Not
all play at once: a hundred processes that start together have each wait longer than p2pfl has patience for a handshake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

Scene = Callable[[Path], None]
AT_ONCE = 8  # of three to five processes each


@pytest.fixture(scope="session")
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    callspecs = (getattr(item, "callspec", None) for item in request.session.items)
    scenes = list(dict.fromkeys(spec.params["scene"] for spec in callspecs if spec and "scene" in spec.params))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        playing: dict[Scene, Future[None]] = {}

        def play(scene: Scene) -> None:
            for one in (
                [] if playing else reversed(scenes)
            ):  # the trainings and the slow links come last, and last longest
                playing[one] = pool.submit(one, tmp_path_factory.mktemp("scene"))
            playing[scene].result()

        yield play
