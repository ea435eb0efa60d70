"""Keys of a home come and go, beside a running site: one always opens it; what went opens old backups alone."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfl.errors.home import (
    KeyDoesNotOpen,
    KeyFileExists,
    KeyFileInsideHome,
    KeyFileUnfinished,
    LastKeyslot,
    NoFittingKeyslot,
    NoOtherKeyShown,
    NoSuchKeyslot,
    TooManyKeyslots,
)
from p2pfl.home import Home, keyring, keyslots, notes
from p2pfl.home.keyslots import MOST_SLOTS, KeyFile, KeySource, PassPhrase, RecoveryKey
from p2pfl.keys import Secret
from tests.home.home_fixtures import Crash, Strike, make

AT = 1_700_000_000


@pytest.fixture(autouse=True)
def cheap_stretching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyslots, "ARGON2", {"iterations": 1, "memory_kib": 64, "lanes": 1})


def phrase(text: bytes) -> PassPhrase:
    return PassPhrase(lambda: Secret(text))


def opens(path: Path, *keys: KeySource) -> bool:
    try:
        with Home.open(path, unlock=keys or (KeyFile(),), write=False) as home:
            return home.identity() is not None
    except (KeyDoesNotOpen, NoFittingKeyslot):
        return False


def only_slot(home: Home) -> str:
    (slot,) = keyring.slots_of(home)
    return keyring.id_of(slot)


def test_keys_come_and_go_while_another_process_works_in_the_home(tmp_path: Path) -> None:
    old, new = phrase(b"a phrase of some length"), phrase(b"a phrase of other length")
    with make(tmp_path) as running, Home.open(running.path, write=False) as beside:
        first = only_slot(beside)
        added = keyring.id_of(keyring.add(beside, old, AT))
        gone, made = keyring.rotate(beside, added, new, AT + 1)
        assert keyring.id_of(gone) == added != keyring.id_of(made)
        assert not opens(running.path, old)
        assert opens(running.path, new)
        assert keyring.remove(beside, first, AT + 2, [new]).kind == "key file"
        assert not opens(running.path)
        running.replace("state/residual", b"it goes on")
    assert opens(tmp_path / "charite", new)


@pytest.mark.claim("HOME-11")
def test_a_backup_opens_with_the_old_key_alone_and_the_home_with_the_new_one_alone(tmp_path: Path) -> None:
    make(tmp_path).close()
    home, key, kept = tmp_path / "charite", tmp_path / "keys" / "charite.key", tmp_path / "safe" / "old.key"
    shutil.copytree(home, tmp_path / "backup")
    before = key.read_bytes()
    with Home.open(home, write=False) as opened:
        keyring.rotate_file(opened, only_slot(opened), AT, kept)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 == stat.S_IMODE(kept.stat().st_mode)
    assert kept.read_bytes() == before != key.read_bytes()
    assert not list(key.parent.glob("*.next"))
    assert opens(home, KeyFile(key))
    assert opens(home)  # at the path that the slot names
    assert not opens(home, KeyFile(kept))
    assert opens(tmp_path / "backup", KeyFile(kept))
    assert not opens(tmp_path / "backup", KeyFile(key))


def test_a_copy_leaves_the_key_file_of_the_home_alone_once_that_has_another_key(tmp_path: Path) -> None:
    """The slots of a copy name the home's own file, by its whole path."""
    make(tmp_path).close()
    home, copy, key, own = (tmp_path / one for one in ("charite", "copy", "keys/charite.key", "copy.key"))
    shutil.copytree(home, copy)
    shutil.copy2(key, own)
    with Home.open(home, write=False) as opened:
        keyring.rotate_file(opened, only_slot(opened), AT)
    before = key.read_bytes()
    with Home.open(copy, unlock=[KeyFile(own)], write=False) as opened:
        with pytest.raises(KeyDoesNotOpen):
            keyring.rotate_file(opened, only_slot(opened), AT)
        keyring.rotate_file(opened, only_slot(opened), AT, named=own)
        assert [keyring.where_of(slot) for slot in keyring.slots_of(opened)] == [str(own)]
    assert key.read_bytes() == before
    assert opens(home)
    assert opens(copy)  # at the path that its slot names now


def test_a_key_file_that_opens_another_slot_is_not_the_one_that_is_rotated(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        first, second = only_slot(home), tmp_path / "second.key"
        keyring.add(home, KeyFile(second), AT)
        before = second.read_bytes()
        keyring.rotate_file(home, first, AT, named=second)
        assert second.read_bytes() == before
    assert opens(tmp_path / "charite", KeyFile(second))
    assert opens(tmp_path / "charite", KeyFile(tmp_path / "keys" / "charite.key"))


def test_what_a_rotation_left_beside_a_file_takes_its_place_in_the_next_one(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        path = tmp_path / "keys" / "charite.key"
        left = path.rename(f"{path}{keyslots.NEXT}")
        keyring.rotate_file(home, only_slot(home), AT, named=left)
        assert keyring.where_of(*keyring.slots_of(home)) == str(path)
        assert not left.exists()
    assert opens(tmp_path / "charite", KeyFile(path))


def test_no_rotation_writes_over_a_file_that_a_slot_names(tmp_path: Path) -> None:
    """A second slot whose file has the first one's name but for its ending would have ended that one's only key."""
    with make(tmp_path) as home:
        path, beside = tmp_path / "n.key", tmp_path / f"n.key{keyslots.NEXT}"
        for one in (beside, path):
            keyring.add(home, KeyFile(one), AT)
        with pytest.raises(KeyFileUnfinished):
            keyring.rotate_file(home, keyring.id_of(keyring.slots_of(home)[-1]), AT)
    for one in (beside, path):
        assert opens(tmp_path / "charite", KeyFile(one))


def test_a_rotation_that_is_cut_short_at_any_step_leaves_a_key_that_opens(tmp_path: Path) -> None:
    steps = 0
    for at in range(100):
        folder = tmp_path / str(at)
        make(folder).close()
        strike = Strike(Crash, at)
        with Home.open(folder / "charite", write=False) as opened:
            opened.disk.fault = strike
            try:
                keyring.rotate_file(opened, only_slot(opened), AT)
            except Crash:
                steps += 1
            else:
                break
        assert opens(folder / "charite"), at
        with Home.open(folder / "charite", write=False) as opened:  # once more, to its end
            keyring.rotate_file(opened, keyring.id_of(keyring.slots_of(opened)[0]), AT)
            assert len(keyring.slots_of(opened)) == 1
        assert opens(folder / "charite"), at
    assert steps > 10


@pytest.mark.claim("HOME-11")
def test_the_last_key_stays(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        only = only_slot(home)
        with pytest.raises(LastKeyslot):
            keyring.remove(home, only, AT, [KeyFile()])
        with pytest.raises(NoSuchKeyslot) as refused:
            keyring.remove(home, "00000000", AT, [KeyFile()])
        assert only in refused.value.evidence
        assert notes.pending(home) == []
    assert opens(tmp_path / "charite")


@pytest.mark.claim("HOME-11")
def test_no_key_is_taken_away_before_another_one_is_shown_to_open(tmp_path: Path) -> None:
    """A slot says nothing of whether anybody has its key: after a rotation that was cut short one of two has none."""
    make(tmp_path).close()
    path, key = tmp_path / "charite", tmp_path / "keys" / "charite.key"
    beside = key.with_name(key.name + keyslots.NEXT)
    with Home.open(path, write=False) as home:
        home.disk.fault = _dies_before(key)
        old = only_slot(home)
        with pytest.raises(Crash):
            keyring.rotate_file(home, old, AT)
    with Home.open(path, write=False) as home:
        told = len(notes.pending(home))
        with pytest.raises(NoOtherKeyShown) as refused:
            keyring.remove(home, old, AT, [KeyFile()])
        assert str(beside) in refused.value.evidence
        assert len(notes.pending(home)) == told
    assert opens(path)
    with Home.open(path, unlock=[KeyFile(beside)], write=False) as home:
        keyring.remove(home, old, AT, [KeyFile(beside)])
    with pytest.raises(KeyDoesNotOpen) as closed:
        Home.open(path, write=False)
    assert str(beside) in closed.value.evidence
    assert opens(path, KeyFile(beside))


def _dies_before(place: Path) -> Callable[[str, Path], None]:
    """A fault hook: the process dies before a file takes that place."""

    def fault(step: str, path: Path) -> None:
        if (step, path) == ("rename", place):
            raise Crash

    return fault


def test_the_one_key_that_opens_is_not_written_over_before_another_one_has_a_slot(tmp_path: Path) -> None:
    """The key file holds none any more, and the one that opens lies beside it, where a rotation would write."""
    steps = 0
    for at in range(100):
        folder = tmp_path / str(at)
        make(folder).close()
        path, key = folder / "charite", folder / "keys" / "charite.key"
        beside = key.with_name(key.name + keyslots.NEXT)
        shutil.copy2(key, beside)
        key.write_bytes(keyslots.key_text("charite", Secret(bytes(32))))
        with Home.open(path, unlock=[KeyFile(beside)], write=False) as opened:
            opened.disk.fault = Strike(Crash, at)
            try:
                keyring.rotate_file(opened, only_slot(opened), AT, named=beside)
            except Crash:
                steps += 1
            else:
                break
        assert opens(path) or opens(path, KeyFile(beside)), at
    assert opens(path)
    assert steps > 10


def test_a_home_takes_no_more_keys_than_it_reads(tmp_path: Path) -> None:
    """One more, and the keyslots file would have been refused as damaged: by every key."""
    with make(tmp_path) as home:
        for number in range(MOST_SLOTS - 1):
            keyring.add(home, phrase(b"a phrase of length %d" % number), AT)
        with pytest.raises(TooManyKeyslots):
            keyring.add(home, phrase(b"one phrase too many"), AT)
        first = next(slot for slot in keyring.slots_of(home) if slot.kind == KeyFile.kind)
        with pytest.raises(TooManyKeyslots):  # it needs one more for a moment
            keyring.rotate_file(home, keyring.id_of(first), AT)
    assert opens(tmp_path / "charite")


def test_a_key_file_is_never_written_over_or_into_the_home(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        taken = tmp_path / "taken"
        taken.write_text("mine")
        with pytest.raises(KeyFileExists):
            keyring.add(home, KeyFile(taken), AT)
        with pytest.raises(KeyFileExists):
            keyring.rotate_file(home, only_slot(home), AT, taken)
        with pytest.raises(KeyFileInsideHome):
            keyring.add(home, KeyFile(home.path / "in.key"), AT)
        assert taken.read_text() == "mine"
        assert notes.pending(home) == []
    assert opens(tmp_path / "charite")


@pytest.mark.claim("HOME-12")
def test_every_change_of_keys_is_noted_before_it_happens_and_without_a_secret(tmp_path: Path) -> None:
    recovery = RecoveryKey.fresh(os.urandom)
    with make(tmp_path) as home:
        first = only_slot(home)
        added = keyring.id_of(keyring.add(home, recovery, AT))
        _, made = keyring.rotate(home, added, phrase(b"a phrase of some length"), AT + 1)
        keyring.remove(home, keyring.id_of(made), AT + 2, [KeyFile()])
        _, file = keyring.rotate_file(home, first, AT + 3)
        told = [(one.command, one.at, one.options["slot"]) for one in notes.pending(home)]
        assert told == [
            ("keys add", AT, added),
            ("keys rotate", AT + 1, added),
            ("keys remove", AT + 2, keyring.id_of(made)),
            ("keys rotate", AT + 3, first),
        ]
        assert all(set(one.options) <= {"slot", "kind", "now", "times"} for one in notes.pending(home))
        assert notes.pending(home)[-1].options["now"] == keyring.id_of(file)
        home.disk.fault = Strike(lambda: Crash(), 0)
        with pytest.raises(Crash):
            keyring.rotate(home, keyring.id_of(file), phrase(b"never came to be"), AT)
    assert opens(tmp_path / "charite")


def test_notes_are_handed_over_once_and_equal_ones_count(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        for at in range(3):
            notes.put(home, "predict", AT + at, {"model": "ab", "records": 10})
        notes.put(home, "predict", AT, {"model": "cd", "records": 1})
        found: list[notes.Note] = []
        notes.hand_over(home, lambda: 0, found.extend, lambda _: False)
        notes.hand_over(home, lambda: 0, found.extend, lambda _: False)
        assert found == [
            notes.Note("predict", AT + 2, {"model": "ab", "records": 30, "times": 3}),
            notes.Note("predict", AT, {"model": "cd", "records": 1, "times": 1}),
        ]


def test_notes_are_bounded_and_the_oldest_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "MOST_NOTES", 4)
    with make(tmp_path) as home:
        for number in range(7):
            notes.put(home, "predict", AT + number, {"model": str(number)})
        held = notes.pending(home)
        assert len(held) == 4
        assert sum(int(one.options["times"]) for one in held) == 7
        assert [one.options.get("model") for one in held] == [None, "4", "5", "6"]
