"""The master key of a home, wrapped once per keyslot; any one of the keys opens it.

A slot is JSON that says where its key comes from (never the key), a salt, and the master key under AES-256-GCM. The
wrapping key is HKDF(key, salt); of a pass phrase it is the Argon2id of RFC 9106 first. Everything in the slot and the
home's name are associated data: a slot that is edited, or moved to another home, does not open. A key command is
never read from the home, only from the command line: a home that others wrote to runs nothing.
docs/spec/home.md.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from p2pfl.errors import P2PFLError
from p2pfl.errors.home import (
    CredentialMissing,
    KeyCommandFailed,
    KeyDoesNotOpen,
    KeyFileMissing,
    KeyFileOpenToOthers,
    KeyMalformed,
    KeyslotsDamaged,
    NoFittingKeyslot,
    PassPhraseTooShort,
)
from p2pfl.files import is_file, opened
from p2pfl.keys import Draw, Secret, derive

VERSION: Final = 1
KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
NONCE: Final = bytes(12)  # a slot's salt is drawn anew whenever it is written, so no wrapping key is used twice
LONGEST_KEY_TEXT: Final = 4096  # bytes
MOST_SLOTS: Final = 32
LEAST_PASS_PHRASE: Final = 12  # characters
COMMAND_SECONDS: Final = 60
# RFC 9106 §4, second recommended option: 3 passes over 64 MiB with 4 lanes.
ARGON2: Final[Mapping[str, int]] = {"iterations": 3, "memory_kib": 65536, "lanes": 4}
ARGON2_MOST: Final[Mapping[str, int]] = {"iterations": 16, "memory_kib": 1 << 20, "lanes": 16}
NEXT: Final = ".next"  # behind the name of a key file that is about to be replaced
KEY_LINE: Final = re.compile(r"(?:p2pfl-key/1 (?P<name>[a-z][a-z0-9-]{0,30}) )?(?P<hex>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Slot:
    """One wrapped copy of the master key. `facts` says where the key of the slot comes from, and is authenticated."""

    kind: str
    facts: Mapping[str, int | str]
    salt: bytes
    wrapped: bytes

    def associated(self, name: str) -> bytes:
        """What the wrapping authenticates beside the master key."""
        stated: dict[str, object] = {"kind": self.kind, "facts": dict(self.facts), "salt": self.salt.hex()}
        stated |= {"version": VERSION, "name": name}
        return json.dumps(stated, sort_keys=True, separators=(",", ":")).encode("ascii")


class KeySource(ABC):
    """One source of a slot's key. `where` is printable: a path, a command, never the key."""

    kind: ClassVar[str]
    label: ClassVar[str] = "keyslot/file"

    @property
    @abstractmethod
    def where(self) -> str:
        """Where the key comes from, as errors print it."""

    @abstractmethod
    def obtain(self, name: str, facts: Mapping[str, int | str]) -> Secret:
        """The key for the home `name`, by what the slot states. Raises the error that says why there is none."""

    def facts(self) -> dict[str, int | str]:
        """What a new slot of this key states."""
        return {}


def key_text(name: str, key: Secret) -> bytes:
    """The one line of a key file: format, home, key in hex. It is secret."""
    return f"p2pfl-key/1 {name} {key.reveal().hex()}\n".encode("ascii")


def parse_key(text: bytes, name: str, kind: str, where: str) -> Secret:
    """The key that such a line holds. Raises KeyMalformed; KeyDoesNotOpen where it names another home."""
    found = KEY_LINE.fullmatch(text.decode("ascii", "replace").strip())
    if found is None:
        evidence = f"{len(text)} bytes that are neither 'p2pfl-key/1 NAME HEX' nor 64 hex digits"
        raise KeyMalformed(evidence=evidence, where=where)
    if found["name"] not in (None, name):
        raise KeyDoesNotOpen(
            evidence=f"it says that it is the key of {found['name']}", kind=kind, where=where, name=name
        )
    return Secret(bytes.fromhex(found["hex"]), f"key from {kind}")


def default_key_path(name: str, environment: Mapping[str, str] | None = None) -> Path:
    """~/.config/p2pfl/NAME.key, under XDG_CONFIG_HOME where that is an absolute path (XDG Base Directory 0.8)."""
    environment = os.environ if environment is None else environment
    configured = environment.get("XDG_CONFIG_HOME", "")
    base = Path(configured) if configured.startswith("/") else Path(environment.get("HOME") or Path.home()) / ".config"
    return base / "p2pfl" / f"{name}.key"


@dataclass(frozen=True)
class KeyFile(KeySource):
    """A 0600 file outside of the home. With no path given, the path that the slot states."""

    path: Path | None = None
    kind = "key file"

    @property
    def where(self) -> str:
        return str(self.path) if self.path else "the key file"

    def facts(self) -> dict[str, int | str]:
        if self.path is None:
            raise ValueError("a new slot needs the path of its key file")
        return {"path": str(self.path.absolute())}

    def obtain(self, name: str, facts: Mapping[str, int | str]) -> Secret:
        path = self.path or Path(str(facts.get("path") or default_key_path(name)))
        try:
            with opened(path) as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    raise KeyFileOpenToOthers(evidence=f"its mode is {mode:04o}, 0600 is wanted", path=path)
                text = file.read(LONGEST_KEY_TEXT + 1)
        except OSError as error:
            raise KeyFileMissing(evidence=f"{error.strerror}{told_of_next(path)}", path=path) from None
        return parse_key(text, name, self.kind, str(path))


def told_of_next(*paths: Path) -> str:
    """Where a rotation that was cut short left the new key of any of these files; empty where none did."""
    left = sorted(str(beside) for path in paths if is_file(beside := Path(f"{path}{NEXT}")))
    return f"; a rotation was cut short and left {', '.join(left)}: try --key-file with that" if left else ""


@dataclass(frozen=True)
class Credential(KeySource):
    """A systemd credential called p2pfl (LoadCredential=, LoadCredentialEncrypted=)."""

    directory: Path | None
    kind = "systemd credential"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Credential:
        """Where systemd put it: $CREDENTIALS_DIRECTORY/p2pfl."""
        directory = environment.get("CREDENTIALS_DIRECTORY", "")
        return cls(Path(directory) if directory else None)

    @property
    def where(self) -> str:
        return str(self.directory / "p2pfl") if self.directory else "CREDENTIALS_DIRECTORY"

    def obtain(self, name: str, facts: Mapping[str, int | str]) -> Secret:
        if self.directory is None:
            raise CredentialMissing(evidence="CREDENTIALS_DIRECTORY is not set")
        try:
            with opened(self.directory / "p2pfl") as file:
                text = file.read(LONGEST_KEY_TEXT + 1)
        except OSError as error:
            raise CredentialMissing(evidence=f"{self.where}: {error.strerror}") from None
        return parse_key(text, name, self.kind, self.where)


@dataclass(frozen=True)
class Command(KeySource):
    """A program that prints the key: a hardware module's or a key service's client. No shell is involved."""

    arguments: tuple[str, ...]
    kind = "key command"

    @property
    def where(self) -> str:
        return self.arguments[0] if self.arguments else "nothing"  # arguments may hold what is not for others

    def obtain(self, name: str, facts: Mapping[str, int | str]) -> Secret:
        try:
            done = subprocess.run(
                self.arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=False
            )
        except (OSError, IndexError, ValueError) as error:
            raise KeyCommandFailed(evidence=f"it did not start: {type(error).__name__}", where=self.where) from None
        except subprocess.TimeoutExpired:
            raise KeyCommandFailed(evidence=f"no answer in {COMMAND_SECONDS} s", where=self.where) from None
        if done.returncode:
            raise KeyCommandFailed(evidence=f"it ended with status {done.returncode}", where=self.where)
        return parse_key(done.stdout[: LONGEST_KEY_TEXT + 1], name, self.kind, self.where)


@dataclass(frozen=True)
class PassPhrase(KeySource):
    """What a person types; `ask` is called when it is needed, and not before.

    A verb opens its home two or three times with the same key: what Argon2id made of it once is kept beside it.
    """

    ask: Callable[[], Secret]
    _stretched: dict[tuple[object, ...], Secret] = field(default_factory=dict, repr=False, compare=False)
    kind = "pass phrase"
    label = "keyslot/passphrase"

    @property
    def where(self) -> str:
        return "the prompt"

    def facts(self) -> dict[str, int | str]:
        return dict(ARGON2)

    def stretched(self, typed: Secret, salt: bytes, cost: Mapping[str, int]) -> bytes:
        """Argon2id of what was typed: a fifth of a second and 64 MiB, on purpose."""
        place = (typed.reveal(), salt, *cost.values())
        if place not in self._stretched:
            made = Argon2id(
                salt=salt,
                length=KEY_BYTES,
                iterations=cost["iterations"],
                lanes=cost["lanes"],
                memory_cost=cost["memory_kib"],
            )
            self._stretched[place] = Secret(made.derive(typed.reveal()), "stretched pass phrase")
        return self._stretched[place].reveal()

    def obtain(self, name: str, facts: Mapping[str, int | str]) -> Secret:
        typed = self.ask()
        length = len(typed.reveal().decode("utf-8", "replace"))
        if length < LEAST_PASS_PHRASE:
            raise PassPhraseTooShort(evidence=f"{length} characters", least=LEAST_PASS_PHRASE)
        return typed


@dataclass(frozen=True)
class RecoveryKey(KeySource):
    """24 words (BIP-39, checksum included) on paper, for the day when every other key is lost."""

    words: Secret
    kind = "recovery key"
    label = "keyslot/recovery"

    @classmethod
    def fresh(cls, draw: Draw) -> RecoveryKey:
        """A new one from 32 drawn bytes; show `words` once, then forget them."""
        from mnemonic import Mnemonic  # the word list is read only when words are

        return cls(Secret(Mnemonic("english").to_mnemonic(draw(KEY_BYTES)).encode("ascii"), "recovery words"))

    @property
    def where(self) -> str:
        return "the recovery words"

    def obtain(self, name: str, facts: Mapping[str, int | str]) -> Secret:
        from mnemonic import Mnemonic

        words = " ".join(self.words.reveal().decode("utf-8", "replace").lower().split())
        mnemonic = Mnemonic("english")
        if len(words.split()) != 24 or not mnemonic.check(words):
            evidence = f"{len(words.split())} words; 24 with a right checksum are wanted"
            raise KeyMalformed(evidence=evidence, where=self.where)
        return Secret(bytes(mnemonic.to_entropy(words)), "recovery key")


def _wrapping_key(key: KeySource, name: str, slot: Slot) -> bytes:
    obtained = key.obtain(name, slot.facts)
    secret = obtained.reveal()
    if isinstance(key, PassPhrase):
        cost = {knob: slot.facts.get(knob) for knob in ARGON2}
        # Another program may have written the file: it must not make this process take all memory.
        if not all(isinstance(value, int) and 0 < value <= ARGON2_MOST[knob] for knob, value in cost.items()):
            raise ValueError("the cost of the pass phrase is out of bounds")
        secret = key.stretched(obtained, slot.salt, {knob: int(value or 0) for knob, value in cost.items()})
    return derive(secret, key.label, slot.associated(name), salt=slot.salt)


def wrap(master: Secret, name: str, key: KeySource, salt: bytes) -> Slot:
    """A slot that `key` opens. salt: 32 fresh random bytes. Raises what `key.obtain` raises."""
    slot = Slot(key.kind, key.facts(), salt, b"")
    sealed = AESGCM(_wrapping_key(key, name, slot)).encrypt(NONCE, master.reveal(), slot.associated(name))
    return Slot(slot.kind, slot.facts, salt, sealed)


def _opened(slot: Slot, name: str, key: KeySource) -> Secret | None:
    """The master key, when `key` opens the slot. Raises what `key.obtain` raises."""
    try:
        opened = AESGCM(_wrapping_key(key, name, slot)).decrypt(NONCE, slot.wrapped, slot.associated(name))
    except (InvalidTag, ValueError):
        return None
    return Secret(opened, f"master key of {name}")


def one_that_opens(slots: Sequence[Slot], name: str, keys: Sequence[KeySource]) -> Slot | None:
    """The first of these slots that one of the keys opens; a key that is not to be had opens none."""
    for slot in slots:
        for key in (key for key in keys if key.kind == slot.kind):
            with suppress(P2PFLError):
                if _opened(slot, name, key) is not None:
                    return slot
    return None


def unwrap(slots: Sequence[Slot], name: str, keys: Sequence[KeySource]) -> Secret:
    """The master key, by the first of `keys` that has a slot of its kind.

    Raises KeyDoesNotOpen, NoFittingKeyslot, or what `obtain` raises.
    """
    for key in keys:
        fitting = [slot for slot in slots if slot.kind == key.kind]
        for slot in fitting:
            if (master := _opened(slot, name, key)) is not None:
                return master
        if fitting:
            where = str(fitting[0].facts.get("path") or key.where) if key == KeyFile() else key.where
            evidence = f"AES-256-GCM refuses it for {len(fitting)} of {len(fitting)} keyslots of that kind"
            evidence += told_of_next(Path(where)) if isinstance(key, KeyFile) else ""
            raise KeyDoesNotOpen(evidence=evidence, kind=key.kind, where=where, name=name)
    given, there = ", ".join(key.kind for key in keys) or "nothing", ", ".join(slot.kind for slot in slots)
    raise NoFittingKeyslot(evidence=f"given: {given}; keyslots: {there}", name=name)


def to_bytes(name: str, slots: Sequence[Slot]) -> bytes:
    """The keyslots file."""
    rows = [
        {"kind": slot.kind, "facts": dict(slot.facts), "salt": slot.salt.hex(), "wrapped": slot.wrapped.hex()}
        for slot in slots
    ]
    held = {"version": VERSION, "name": name, "slots": rows}
    return json.dumps(held, indent=1, sort_keys=True).encode("ascii") + b"\n"


def from_bytes(raw: bytes, path: Path) -> tuple[str, tuple[Slot, ...]]:
    """The home's name and its slots. Raises KeyslotsDamaged."""
    try:
        held = json.loads(raw)
        if held["version"] != VERSION:
            raise ValueError(f"version {held['version']!r}, this program reads {VERSION}")
        slots = tuple(
            Slot(str(row["kind"]), dict(row["facts"]), bytes.fromhex(row["salt"]), bytes.fromhex(row["wrapped"]))
            for row in held["slots"]
        )
        if not all(len(slot.salt) == SALT_BYTES for slot in slots):
            raise ValueError("a salt is not 32 bytes")
        if len(slots) > MOST_SLOTS:  # each of a pass phrase costs its Argon2id
            raise ValueError(f"{len(slots)} slots, at most {MOST_SLOTS}")
        return str(held["name"]), slots
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KeyslotsDamaged(evidence=f"{type(error).__name__}: {error}", path=path) from None
