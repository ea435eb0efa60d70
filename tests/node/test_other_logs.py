"""A log that another process writes is read again when it has changed, and its journal when that has."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.home import Home
from p2pfl.ledger.log import Log
from p2pfl.node.other_logs import OtherLogs
from tests.home.home_fixtures import looks_into_the_journal, make
from tests.ledger.sample import site_records


def test_a_log_that_stands_as_it_was_is_not_decrypted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, read = site_records(3), OtherLogs()
    with make(tmp_path) as writer, Home.open(writer.path, write=False) as reader:
        log = Log.open(writer, "site")
        log.append(*records[0])
        log.sign_head(writer.identity())
        looks = looks_into_the_journal(monkeypatch)
        first = read.log(reader, "site")
        looks.clear()
        assert read.log(reader, "site") is first
        assert looks == []
        writer.replace("state/heads", b"another item changes with a step")
        assert read.log(reader, "site") is first
        log.append(*records[1])
        assert len(read.log(reader, "site")) == 2
        with writer.one_step():
            log.append(*records[2])
            log.sign_head(writer.identity())
        again = read.log(reader, "site")
        assert (len(again), again.latest_head()) == (3, log.latest_head())
