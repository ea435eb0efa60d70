"""What a site hands out of a log: it agrees with itself, and shows what it is asked to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfl.codec import facts
from p2pfl.errors.ledger import ExportMalformed, ExportTooLarge
from p2pfl.keys import digest
from p2pfl.ledger import auditor, export
from p2pfl.ledger.log import Log
from tests.ledger.sample import federation_records, filled, home, site_records, write


def both(at: object, *, rounds: bool = True) -> bytes:
    """The export of a site log, the federation log beside it."""
    return export.export(Log.open(at, "site"), "charite", Log.open(at, "federation"), rounds=rounds)  # type: ignore[arg-type]


def test_an_export_is_the_log_as_it_was_signed(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        log, site = Log.open(at, "federation"), Log.open(at, "site")
        read = export.read_export(export.export(log, at.name), "x")
        assert read.entries == tuple(log.records())
        assert (read.root, read.head, read.leaves) == (log.root(), log.head(), tuple(log.leaves()))
        beside = export.read_export(both(at), "x")
        assert beside.entries == tuple(site.records())
        assert beside.federation == read


@pytest.mark.claim("LEDGER-8")
def test_an_export_without_rounds_shows_who_the_sites_are_and_no_round(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        log = Log.open(at, "federation")
        raw = export.export(log, at.name, rounds=False)
        read = export.read_export(raw, "x")
        assert read.entries == (log[0], None, None, None)
        assert (read.root, read.leaves) == (log.root(), tuple(log.leaves()))
        assert b"survivors" not in raw


@pytest.mark.claim("LEDGER-8")
def test_a_site_logs_export_without_rounds_holds_no_record_of_it(tmp_path: Path) -> None:
    with home(tmp_path) as at:
        write(at, "federation", federation_records())
        write(at, "site", site_records(6))
        raw = both(at, rounds=False)
        assert b"operator" not in raw
        assert b"0.1.0" not in raw


def altered(raw: bytes, **fields: object) -> bytes:
    return facts({**json.loads(raw), **fields}) + b"\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: raw.replace(b'"size":4', b'"size":3'),
        lambda raw: raw.replace(b"p2pfl-ledger-export/1", b"p2pfl-ledger-export/9"),
        lambda raw: raw.replace(b'"entries":[', b'"entries":["00",'),
        lambda raw: raw.replace(b'"root":"', b'"root":"00'),
        lambda raw: b"[" + raw + b"]",
        lambda raw: altered(raw, site="No Name"),
        lambda raw: altered(raw, log="site"),
        lambda raw: altered(raw, head="00" * 32),
        lambda raw: altered(raw, signed_head=4),
        lambda raw: altered(raw, more=1),
        lambda raw: altered(raw, federation=None),
        lambda raw: altered(raw, entries=json.loads(raw)["entries"][::-1]),
    ],
)
def test_an_export_that_does_not_agree_with_itself_is_refused(tmp_path: Path, change: object) -> None:
    with filled(tmp_path) as at:
        raw = change(export.export(Log.open(at, "federation"), at.name))  # type: ignore[operator]
    with pytest.raises(ExportMalformed) as caught:
        export.read_export(raw, "theirs.json")
    assert "theirs.json" in caught.value.happened


def test_an_export_that_is_too_large_is_not_called_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and how a shorter one is made; the auditor's program does too, whose bound is the same."""
    assert export.MOST_BYTES == auditor.MOST_BYTES
    with filled(tmp_path) as at:
        raw = export.export(Log.open(at, "federation"), at.name)
    for module in (export, auditor):
        monkeypatch.setattr(module, "MOST_BYTES", len(raw) - 1)
    with pytest.raises(ExportTooLarge) as caught:
        export.read_export(raw, "theirs.json")
    assert caught.value.command.endswith("--without-rounds -o short.json")
    with pytest.raises(ValueError, match="the most it reads"):
        auditor.checked(raw, None)


def test_an_entry_swapped_for_another_is_refused(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        log = Log.open(at, "federation")
        raw = export.export(log, at.name, rounds=False)
        leaf = log.leaves()[1].hex().encode()
    with pytest.raises(ExportMalformed):
        export.read_export(raw.replace(leaf, digest("x").hex().encode()), "x")
