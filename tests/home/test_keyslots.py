"""Each kind of key opens its home; a wrong, missing, open or malformed one is told from the others, by name."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from p2pfl.errors.home import (
    CredentialMissing,
    KeyCommandFailed,
    KeyDoesNotOpen,
    KeyFileExists,
    KeyFileMissing,
    KeyFileOpenToOthers,
    KeyMalformed,
    KeyslotsDamaged,
    NoFittingKeyslot,
    PassPhraseTooShort,
)
from p2pfl.home import Home, keyring, keyslots
from p2pfl.home.keyslots import Command, Credential, KeyFile, KeySource, PassPhrase, RecoveryKey, default_key_path
from p2pfl.keys import Secret
from tests.examples import examples
from tests.home.home_fixtures import make

PHRASE = Secret(b"correct horse battery staple")


@pytest.fixture(autouse=True)
def cheap_stretching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyslots, "ARGON2", {"iterations": 1, "memory_kib": 64, "lanes": 1})


def opens(path: Path, *keys: KeySource) -> bool:
    with Home.open(path, unlock=keys or (KeyFile(),)) as home:
        return home.identity() is not None


def phrase(text: bytes) -> PassPhrase:
    return PassPhrase(lambda: Secret(text))


def test_any_one_of_several_keys_opens_the_home(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "p2pfl").write_text("ab" * 32 + "\n")
    command = Command((sys.executable, "-c", "print('cd' * 32)"))
    recovery = RecoveryKey.fresh(os.urandom)
    keys = [KeyFile(tmp_path / "k" / "a.key"), PassPhrase(lambda: PHRASE), Credential(credentials), command, recovery]
    Home.create(tmp_path / "a", "a", keys).close()
    for key in keys:
        assert opens(tmp_path / "a", key)
    assert opens(tmp_path / "a")  # the key file's place is remembered
    assert opens(tmp_path / "a", Credential.from_environment({"CREDENTIALS_DIRECTORY": str(credentials)}))
    written_down = RecoveryKey(Secret(b"  " + recovery.words.reveal().upper().replace(b" ", b"\n")))
    assert opens(tmp_path / "a", written_down)


def test_the_cost_of_a_pass_phrase_is_that_of_rfc_9106() -> None:
    from p2pfl.home.keyslots import ARGON2_MOST

    assert keyslots.ARGON2 != ARGON2_MOST
    source = Path(keyslots.__file__).read_text()
    assert '{"iterations": 3, "memory_kib": 65536, "lanes": 4}' in source


def test_a_key_added_later_opens_beside_the_first(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        keyring.add(home, phrase(b"a phrase of some length"), 0)
        with pytest.raises(KeyFileExists):
            keyring.add(home, KeyFile(tmp_path / "keys" / "charite.key"), 0)
    assert opens(tmp_path / "charite", phrase(b"a phrase of some length"))
    assert opens(tmp_path / "charite")


@pytest.mark.parametrize("name", ["st-olav", "charite"])
def test_another_homes_key_file_is_named_with_exit_5(tmp_path: Path, name: str) -> None:
    make(tmp_path).close()
    make(tmp_path / "elsewhere", name).close()
    other = tmp_path / "elsewhere" / "keys" / f"{name}.key"
    with pytest.raises(KeyDoesNotOpen) as caught:
        opens(tmp_path / "charite", KeyFile(other))
    assert caught.value.exit_status == 5
    assert str(other) in caught.value.render()
    assert other.read_text().split()[2] not in caught.value.render()


def test_a_replaced_default_key_file_is_named_by_its_path(tmp_path: Path) -> None:
    make(tmp_path).close()
    key = tmp_path / "keys" / "charite.key"
    key.write_text("00" * 32)
    with pytest.raises(KeyDoesNotOpen) as caught:
        Home.open(tmp_path / "charite")
    assert str(key) in caught.value.render()


@pytest.mark.claim("CLI-1")
def test_a_wrong_pass_phrase_or_recovery_key_is_refused_and_not_repeated(tmp_path: Path) -> None:
    recovery = RecoveryKey.fresh(os.urandom)
    Home.create(tmp_path / "a", "a", [PassPhrase(lambda: PHRASE), recovery]).close()
    for wrong in (phrase(b"incorrect horse battery"), RecoveryKey.fresh(os.urandom)):
        with pytest.raises(KeyDoesNotOpen) as caught:
            opens(tmp_path / "a", wrong)
        assert "horse" not in caught.value.render()
    with pytest.raises(PassPhraseTooShort):
        opens(tmp_path / "a", phrase(b"short"))
    words = recovery.words.reveal().decode().split()
    words[0], words[1] = words[1], words[0] + "x"
    with pytest.raises(KeyMalformed):
        opens(tmp_path / "a", RecoveryKey(Secret(" ".join(words).encode())))


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    make(tmp_path).close()
    (tmp_path / "keys" / "charite.key").unlink()
    with pytest.raises(KeyFileMissing) as caught:
        Home.open(tmp_path / "charite")
    assert str(tmp_path / "keys" / "charite.key") in caught.value.render()


@pytest.mark.claim("HOME-2")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    make(tmp_path).close()
    key = tmp_path / "keys" / "charite.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(mode)
    with pytest.raises(KeyFileOpenToOthers) as caught:
        Home.open(tmp_path / "charite")
    assert f"{mode:04o}" in caught.value.evidence
    assert caught.value.suggestion == f"chmod 600 {key}"


def test_no_key_or_the_wrong_kind_of_key_says_which_keyslots_there_are(tmp_path: Path) -> None:
    make(tmp_path).close()
    for keys in ([], [PassPhrase(lambda: PHRASE)]):
        with pytest.raises(NoFittingKeyslot) as caught:
            Home.open(tmp_path / "charite", unlock=keys)
        assert "keyslots: key file" in caught.value.evidence


def test_a_missing_credential_and_a_failing_command_say_so(tmp_path: Path) -> None:
    with pytest.raises(CredentialMissing):
        Credential.from_environment({}).obtain("a", {})
    with pytest.raises(CredentialMissing):
        Credential(tmp_path).obtain("a", {})
    for arguments in ((), ("/no/such/program",), (sys.executable, "-c", "raise SystemExit(3)")):
        with pytest.raises(KeyCommandFailed) as caught:
            Command(arguments).obtain("a", {})
    assert "status 3" in caught.value.evidence
    with pytest.raises(KeyMalformed):
        Command((sys.executable, "-c", "print('hello')")).obtain("a", {})


def test_the_default_place_honours_xdg_config_home_when_it_is_absolute() -> None:
    assert default_key_path("a", {"HOME": "/home/u"}) == Path("/home/u/.config/p2pfl/a.key")
    assert default_key_path("a", {"HOME": "/home/u", "XDG_CONFIG_HOME": "/etc/u"}) == Path("/etc/u/p2pfl/a.key")
    assert default_key_path("a", {"HOME": "/home/u", "XDG_CONFIG_HOME": "cfg"}) == Path("/home/u/.config/p2pfl/a.key")


def test_no_key_shows_in_a_repr() -> None:
    for key in (PassPhrase(lambda: PHRASE), RecoveryKey(Secret(b"abandon abandon art"))):
        assert "abandon" not in repr(key)
        assert "horse" not in repr(key)


def edited(path: Path, change: dict[str, object]) -> None:
    held = json.loads((path / "keyslots").read_text())
    held["slots"][0].update(change)
    (path / "keyslots").write_text(json.dumps(held))


def test_an_edited_slot_does_not_open(tmp_path: Path) -> None:
    Home.create(tmp_path / "a", "a", [PassPhrase(lambda: PHRASE)]).close()
    # The last asks for 1 TiB of memory: it is refused before any is taken.
    cheap = {"iterations": 1, "memory_kib": 64, "lanes": 1}
    for facts in ({**cheap, "iterations": 2}, {}, {**cheap, "memory_kib": 1 << 30}):
        edited(tmp_path / "a", {"facts": facts})
        with pytest.raises(KeyDoesNotOpen):
            opens(tmp_path / "a", PassPhrase(lambda: PHRASE))


ALMOST = st.from_regex(rb'\{"version": ?[0-9]+, "slots": (\[.{0,20}\]|null)\}', fullmatch=True)


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=80) | ALMOST)
@example(raw=b"[" * 100_000)
def test_a_keyslots_file_that_is_anything_else_is_refused_with_exit_5(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(KeyslotsDamaged) as caught:
        keyslots.from_bytes(raw, tmp_path)
    assert caught.value.exit_status == 5


def test_a_pass_phrase_is_stretched_once_for_all_openings_of_a_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for another salt, as after its slot was written anew, once more."""
    made: list[bytes] = []
    argon2 = keyslots.Argon2id

    def counted(**options: Any) -> Any:
        made.append(options["salt"])
        return argon2(**options)

    monkeypatch.setattr(keyslots, "Argon2id", counted)
    key = phrase(PHRASE.reveal())
    for name in ("a", "b"):
        Home.create(tmp_path / name, name, [key]).close()
        for write in (False, True, False):
            Home.open(tmp_path / name, unlock=[key], write=write).close()
    assert len(made) == len(set(made)) == 2
    assert PHRASE.reveal().decode() not in repr(key)
