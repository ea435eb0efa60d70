"""What the tests of all trails share."""

from __future__ import annotations

import pytest

from tests.ports import free_ports
from tests.readme.pages import GOES_ON, PORT, Reader, blocks


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    found = sorted({port for page in GOES_ON for block in blocks(page) for port in PORT.findall(block.text)})
    return Reader(tmp_path_factory.mktemp("pages"), dict(zip(found, map(str, free_ports(len(found))), strict=True)))
