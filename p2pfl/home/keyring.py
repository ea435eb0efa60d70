"""The keys that open a home: which there are, one more, one less, one in place of another. Also while the site runs.

A keyslot is named by the first 8 hex digits of its salt, which is drawn anew whenever a slot is written. The master key
stays the same: a key that was taken away opens the home no more, and opens a copy of the keyslots file of before as it
did. So does a backup: with the keys that it had. Each change is noted for the site log first, with its time `at` in
Unix seconds. docs/spec/home.md.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.errors.home import (
    KeyDoesNotOpen,
    KeyFileMissing,
    KeyFileUnfinished,
    LastKeyslot,
    NoOtherKeyShown,
    NoSuchKeyslot,
    TooManyKeyslots,
)
from p2pfl.files import KEY_BYTES, read_file
from p2pfl.home import keyslots, notes
from p2pfl.home.creation import write_key_file
from p2pfl.home.home import MOST_KEYSLOTS, Home
from p2pfl.home.keyslots import MOST_SLOTS, NEXT, KeyFile, KeySource, Slot
from p2pfl.home.sealing import SALT_BYTES
from p2pfl.keys import Secret

ID_DIGITS: Final = 8


def id_of(slot: Slot) -> str:
    """How people name it."""
    return slot.salt.hex()[:ID_DIGITS]


def where_of(slot: Slot) -> str:
    """Where its key comes from, as far as the slot says."""
    return str(slot.facts.get("path", ""))


def facts_of(slot: Slot) -> dict[str, object]:
    """What `keys --json` says of a slot."""
    return {"slot": id_of(slot), "kind": slot.kind, "path": where_of(slot) or None}


def checked(home: Home, which: str) -> Slot:
    """The slot of that name. Raises NoSuchKeyslot."""
    return _named(home, slots_of(home), which)


def slots_of(home: Home) -> tuple[Slot, ...]:
    """What the keyslots file holds now. Raises KeyslotsDamaged."""
    path = home.path / "keyslots"
    try:
        raw = read_file(path, MOST_KEYSLOTS)
    except OSError as error:
        home.disk.refuse("read", path, error)
    return keyslots.from_bytes(raw, path)[1]


def add(home: Home, key: KeySource, at: int, first: Callable[[Slot], None] | None = None) -> Slot:
    """`key` opens the home from now on, as the others do. A KeyFile is written and must be new.

    first    shows the key to a person, before it counts: where that cannot be done, it raises, and nothing has changed
    Raises TooManyKeyslots, KeyFileExists, KeyFileInsideHome, and what the key raises.
    """
    # A key command may take a minute, and a node may wait for the lock.
    made = None if isinstance(key, KeyFile) else keyslots.wrap(home.master, home.name, key, home.draw(SALT_BYTES))
    with home.beside():
        held = slots_of(home)
        _check_room(home, held)
        if isinstance(key, KeyFile) and key.path is not None:
            fresh = Secret(home.draw(keyslots.KEY_BYTES), "new key of a file")
            write_key_file(home.disk, key.path.absolute(), home.name, fresh)
        made = made or keyslots.wrap(home.master, home.name, key, home.draw(SALT_BYTES))
        if first is not None:
            first(made)
        _note(home, "keys add", at, made)
        _write(home, (*held, made))
        return made


def remove(home: Home, which: str, at: int, keys: Sequence[KeySource]) -> Slot:
    """The key of that slot opens the home no more. Raises NoSuchKeyslot; LastKeyslot, NoOtherKeyShown: nothing is gone.

    keys    those with which the home was opened. One of them opens a slot that stays: a slot says nothing of whether
            anybody still has its key, and of two with one path at most one has (`rotate_file`, cut short).
    """
    # Before the lock, which a node may wait for: a key command may take a minute.
    stays = keyslots.one_that_opens([slot for slot in slots_of(home) if id_of(slot) != which], home.name, keys)
    with home.beside():
        held = slots_of(home)
        gone = _named(home, held, which)
        if len(held) == 1:
            raise LastKeyslot(name=home.name, evidence=f"{id_of(gone)}, {gone.kind}")
        if stays not in held:
            files = {Path(path) for slot in held if (path := where_of(slot))}
            raise NoOtherKeyShown(name=home.name, slot=which, evidence=f"{_told(held)}{keyslots.told_of_next(*files)}")
        _note(home, "keys remove", at, gone)
        _write(home, [slot for slot in held if slot is not gone])
        return gone


def rotate(
    home: Home, which: str, key: KeySource, at: int, first: Callable[[Slot, Slot], None] | None = None
) -> tuple[Slot, Slot]:
    """`key` opens the home in place of that slot's; the slot that is gone, and the new one.

    key     of the slot's kind; of a key file `rotate_file` says how
    first   as of `add`, with the slot that goes and the new one
    Raises NoSuchKeyslot, and what the key raises.
    """
    made = keyslots.wrap(home.master, home.name, key, home.draw(SALT_BYTES))  # before the lock, as in `add`
    with home.beside():
        held = slots_of(home)
        gone = _named(home, held, which)
        if first is not None:
            first(gone, made)
        _note(home, "keys rotate", at, gone, made)
        _write(home, [made if slot is gone else slot for slot in held])
        return gone, made


def rotate_file(
    home: Home, which: str, at: int, keep: Path | None = None, named: Path | None = None
) -> tuple[Slot, Slot]:
    """As `rotate`, of a key file: its path holds another key. At each step one of the two opens the home.

    A slot names its file by the path that it had when it was written. In a copy of a home, or one that was restored
    elsewhere, another home's key may lie there by now: a file whose key opens no slot of that path is not touched.
    named   the file that the home was opened with: where its key is that of the slot, it is the one that is written,
            and the new slot names it
    keep    a new file for the key that is replaced: older backups of the home open with it alone
    The new key has a slot, then lies beside the old one, then takes its place; then the old one's slot is gone. In this
    order: beside it may lie the one key that opens, of a rotation that was cut short.
    Raises NoSuchKeyslot, TooManyKeyslots, KeyFileMissing, KeyDoesNotOpen, KeyFileExists, KeyFileInsideHome, DiskFull,
    DiskRefused.
    """
    with home.beside():
        held = slots_of(home)
        gone = _named(home, held, which)
        _check_room(home, held)
        path, old = _file_of(home, held, gone, named)
        beside, fresh = path.with_name(path.name + NEXT), Secret(home.draw(keyslots.KEY_BYTES), "new key of a file")
        _check_place(held, path, beside)
        if keep is not None:
            write_key_file(home.disk, keep.absolute(), home.name, old)
        made = keyslots.wrap(home.master, home.name, _FreshFile(path, fresh), home.draw(SALT_BYTES))
        _note(home, "keys rotate", at, gone, made)
        _write(home, (*held, made))
        home.disk.replace(beside, (keyslots.key_text(home.name, fresh),))
        home.disk.fault("rename", path)
        try:
            os.replace(beside, path)
        except OSError as error:
            home.disk.refuse("replace", path, error)
        home.disk.sync_directory(path.parent)
        # One that a rotation before this left, when it was cut short, has no key any more.
        keyless = [slot for slot in held if slot.kind == gone.kind and where_of(slot) == str(path)]
        _write(home, [*(slot for slot in held if slot is not gone and slot not in keyless), made])
        return gone, made


def _check_place(held: Sequence[Slot], path: Path, beside: Path) -> None:
    """Raise KeyFileUnfinished where the new key would be written over one that a slot names."""
    if any(where_of(slot) == str(beside) for slot in held):
        raise KeyFileUnfinished(path=path, evidence=f"a slot names {beside}")


def _file_of(home: Home, held: Sequence[Slot], gone: Slot, named: Path | None) -> tuple[Path, Secret]:
    """Where the key of that slot lies, and the key. Raises KeyFileMissing, KeyDoesNotOpen."""
    if named is not None:
        path = named.absolute()
        key = _key_in(path, home.name)
        with contextlib.suppress(KeyDoesNotOpen):
            keyslots.unwrap((gone,), home.name, (_FreshFile(path, key),))
            whole = path.with_name(path.name.removesuffix(NEXT))  # what a rotation left takes the place it was made for
            return (whole if where_of(gone) == str(whole) else path), key
    path = Path(where_of(gone))
    key = _key_in(path, home.name)
    # A rotation that was cut short leaves two slots of one file: its key opens the other one.
    fitting = [slot for slot in held if slot.kind == gone.kind and where_of(slot) == where_of(gone)]
    keyslots.unwrap(fitting, home.name, (_FreshFile(path, key),))
    return path, key


@dataclass(frozen=True)
class _FreshFile(KeySource):
    """A key file whose key is here: before it lies at its path, or read from there."""

    path: Path
    key: Secret
    kind = KeyFile.kind

    @property
    def where(self) -> str:
        return str(self.path)

    def facts(self) -> dict[str, int | str]:
        return {"path": str(self.path)}

    def obtain(self, name: str, facts: Mapping[str, int | str]) -> Secret:
        return self.key


def _key_in(path: Path, name: str) -> Secret:
    try:
        content = read_file(path, KEY_BYTES)
    except OSError as error:
        raise KeyFileMissing(evidence=f"{error.strerror}", path=path) from None
    return keyslots.parse_key(content, name, KeyFile.kind, str(path))


def _named(home: Home, held: Sequence[Slot], which: str) -> Slot:
    found = [slot for slot in held if id_of(slot) == which]
    if len(found) != 1:
        raise NoSuchKeyslot(which=which, name=home.name, home=home.path, evidence=_told(held))
    return found[0]


def _check_room(home: Home, held: Sequence[Slot]) -> None:
    if len(held) >= MOST_SLOTS:
        raise TooManyKeyslots(name=home.name, most=MOST_SLOTS, evidence=_told(held))


def _note(home: Home, command: str, at: int, slot: Slot, now: Slot | None = None) -> None:
    """The site log will say so: durable before the keyslots change."""
    options = {"slot": id_of(slot), "kind": slot.kind}
    notes.put_beside(home, command, at, options | ({"now": id_of(now)} if now is not None else {}))


def _told(held: Sequence[Slot]) -> str:
    return ", ".join(f"{id_of(slot)} ({slot.kind})" for slot in held)


def _write(home: Home, slots: Sequence[Slot]) -> None:
    home.disk.replace(home.path / "keyslots", (keyslots.to_bytes(home.name, slots),))
