"""A home keeps what it is given, shows it to nobody without the key, and changes wholly or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from p2pfl.errors.home import (
    DiskFull,
    DiskRefused,
    HomeBusy,
    HomeElsewhere,
    HomeExists,
    HomeIsReadOnly,
    HomeMissing,
    HomeOfAnotherUser,
    HomeOpenToOthers,
    ItemDamaged,
    KeyFileExists,
    KeyFileInsideHome,
    NotInLayout,
    SyncFailed,
)
from p2pfl.home import Home, keyring
from p2pfl.home.keyslots import KeyFile
from p2pfl.home.sealing import LAYOUT, OVERHEAD_BYTES, SALT_BYTES, seal, unseal
from p2pfl.home.segments import SegmentFiles
from p2pfl.keys import Secret
from p2pfl.ledger.log import Log
from tests.examples import examples
from tests.home.home_fixtures import BY_NUMBER, Crash, Strike, failing, full, make

MARKER = b"a marker that must never be seen"


def test_what_is_replaced_is_read_after_a_restart(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.replace("state/residual", b"one")
        home.replace("state/residual", b"two")
        home.replace("checkpoints/model", b"")
        identity = home.identity()
    with Home.open(tmp_path / "charite") as home:
        assert (home.name, home.read("state/residual"), home.read("checkpoints/model")) == ("charite", b"two", b"")
        assert home.read("state/pass") is None
        assert home.identity() == identity


def test_a_model_larger_than_one_piece_comes_back_whole(tmp_path: Path) -> None:
    model = os.urandom((1 << 21) + 12345)
    with make(tmp_path) as home:
        home.replace("checkpoints/model", model)
        assert home.read("checkpoints/model") == model


def test_every_directory_is_0700_and_every_file_0600_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with make(tmp_path) as home:
            for item in BY_NUMBER:
                home.replace(item, b"words")
            home.publish_card(b"version: 1\n")
    finally:
        os.umask(before)
    for path in [tmp_path / "charite", *(tmp_path / "charite").rglob("*"), tmp_path / "keys" / "charite.key"]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.claim("HOME-3")
def test_a_folder_that_init_makes_is_writable_by_nobody_else_whatever_the_umask(tmp_path: Path) -> None:
    """Whoever may write to a folder above a home or a key can put another one in its place."""
    before = os.umask(0)
    try:
        with Home.create(tmp_path / "a" / "b" / "home", "mayo", [KeyFile(tmp_path / "c" / "d" / "mayo.key")]):
            pass
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) > 5
    assert not [path for path in made if path.stat().st_mode & 0o022]


@pytest.mark.claim("HOME-3")
def test_what_lies_under_the_name_of_a_file_to_be_is_not_written_through(tmp_path: Path) -> None:
    theirs, folder = tmp_path / "theirs", tmp_path / "keys"
    folder.mkdir()
    theirs.write_bytes(b"")
    (folder / "mayo.key.new").symlink_to(theirs)
    with Home.create(tmp_path / "mayo", "mayo", [KeyFile(folder / "mayo.key")]) as home:
        for item in ("state/pass", "membership/change"):
            (home.path / f"{item}.new").hardlink_to(theirs)
            home.replace(item, b"a sum")
            assert home.read(item) == b"a sum"
        (home.path / "mayo.card.new").symlink_to(theirs)
        home.publish_card(b"a card")
    assert theirs.read_bytes() == b""
    assert not (folder / "mayo.key").is_symlink()


def test_only_names_of_the_table_lie_in_a_home(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.publish_card(b"version: 1\n")
        plain = {"charite.card", "lock", "keyslots"}
        found = {str(file.relative_to(home.path)) for file in home.path.rglob("*") if file.is_file()}
        assert found == {*plain, "identity"}
        for stranger in ("state/other", "../escape", "state/left/x", "checkpoints/../identity", "identity/", ""):
            with pytest.raises(NotInLayout):
                home.replace(stranger, b"")


@pytest.mark.claim("HOME-1")
def test_nothing_that_is_sealed_shows_on_the_disk(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        for item in ("state/residual", *BY_NUMBER, "checkpoints/best"):
            home.replace(item, MARKER)
        secrets = [MARKER, home.master.reveal(), home.identity().reveal()]
        for file in home.path.rglob("*"):
            if file.is_file():
                assert not any(secret in file.read_bytes() for secret in secrets), file


@pytest.mark.claim("CLI-1")
def test_no_secret_shows_in_a_repr(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        shown = f"{home!r} {home.master!r} {home.identity()!r} {home.holdout_key()!r} {vars(home)}"
        for secret in (home.master, home.identity(), home.holdout_key()):
            assert secret.reveal().hex() not in shown
            assert repr(secret.reveal())[2:-1] not in shown


def test_removing_is_durable_and_twice_is_no_error(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.replace("state/left/1", b"a")
        home.replace("state/left/2", b"b")
        assert home.items("state/left") == ["state/left/1", "state/left/2"]
        home.remove("state/left/1")
        home.remove("state/left/1")
        assert (home.items("state/left"), home.read("state/left/1")) == (["state/left/2"], None)


def test_the_same_data_twice_is_sealed_differently(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.replace("state/pass", b"same")
        first = (home.path / "state/pass").read_bytes()
        home.replace("state/pass", b"same")
        assert first != (home.path / "state/pass").read_bytes()


@pytest.mark.claim("HOME-1")
def test_an_item_does_not_open_under_another_name_or_in_another_home(tmp_path: Path) -> None:
    with make(tmp_path) as home, make(tmp_path, "st-olav") as other:
        for owner in (home, other):
            owner.replace("state/residual", b"mine")
            owner.replace("state/pass", b"other")
        shutil.copy(home.path / "state/residual", home.path / "state/pass")
        shutil.copy(other.path / "state/residual", home.path / "state/residual")
        for item in ("state/pass", "state/residual"):
            with pytest.raises(ItemDamaged) as caught:
                home.read(item)
            assert item in caught.value.happened
            assert caught.value.exit_status == 5


MASTER = Secret(bytes(range(32)), "test")
SEALED = b"".join(seal(MASTER, "charite", "identity", b"sixteen and more", bytes(SALT_BYTES)))


@pytest.mark.claim("HOME-1")
@given(place=st.integers(0, len(SEALED) - 1), flip=st.integers(1, 255))
def test_a_sealed_item_with_any_byte_changed_does_not_open(place: int, flip: int) -> None:
    spoilt = bytearray(SEALED)
    spoilt[place] ^= flip
    with pytest.raises(ValueError):
        unseal(MASTER, "charite", "identity", bytes(spoilt))


@given(length=st.integers(0, len(SEALED) - 1))
def test_a_sealed_item_cut_anywhere_does_not_open(length: int) -> None:
    with pytest.raises(ValueError):
        unseal(MASTER, "charite", "identity", SEALED[:length])


@given(data=st.binary(max_size=200), item=st.sampled_from(["identity", "state/residual", "checkpoints/m"]))
def test_what_is_sealed_opens_to_itself(data: bytes, item: str) -> None:
    sealed = b"".join(seal(MASTER, "a", item, data, b"s" * SALT_BYTES))
    assert len(sealed) == len(data) + OVERHEAD_BYTES
    assert unseal(MASTER, "a", item, sealed) == data


def test_every_row_of_the_layout_has_a_purpose_and_a_label() -> None:
    from p2pfl.keys import LABELS

    assert all(row.holds and row.label in LABELS for row in LAYOUT)


# ── init never overwrites ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("CLI-5")
def test_init_refuses_a_place_that_holds_anything(tmp_path: Path) -> None:
    make(tmp_path).close()
    before = (tmp_path / "charite" / "keyslots").read_bytes()
    with pytest.raises(HomeExists) as caught:
        Home.create(tmp_path / "charite", "other", [KeyFile(tmp_path / "keys" / "other.key")])
    assert "the home of charite" in caught.value.evidence
    assert (tmp_path / "charite" / "keyslots").read_bytes() == before
    assert not (tmp_path / "keys" / "other.key").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    for place in (tmp_path / "full", tmp_path / "full" / "thesis.tex"):
        with pytest.raises(HomeExists):
            Home.create(place, "other", [KeyFile(tmp_path / "keys" / "other.key")])


def test_init_never_overwrites_a_key_file(tmp_path: Path) -> None:
    key = tmp_path / "charite.key"
    key.write_bytes(b"somebody's")
    with pytest.raises(KeyFileExists):
        Home.create(tmp_path / "home", "charite", [KeyFile(key)])
    assert key.read_bytes() == b"somebody's"
    assert not (tmp_path / "home").exists()


@pytest.mark.claim("HOME-2")
def test_a_key_file_inside_the_home_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileInsideHome):
        Home.create(tmp_path / "home", "charite", [KeyFile(tmp_path / "home" / "charite.key")])
    assert list(tmp_path.iterdir()) == []


def test_an_init_that_fails_at_any_step_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    counting = Strike(full)
    Home.create(tmp_path / "probe", "probe", [KeyFile(tmp_path / "keys" / "probe.key")], fault=counting).close()
    (tmp_path / "keys" / "probe.key").unlink()
    shutil.rmtree(tmp_path / "probe")
    writes = counting.kinds["open"] + counting.kinds["write"] + counting.kinds["rename"]
    assert writes > 10
    for at in range(writes):
        fault = Strike(full, at, ("open", "write", "rename"))
        with pytest.raises(DiskFull):
            Home.create(tmp_path / "probe", "probe", [KeyFile(tmp_path / "keys" / "probe.key")], fault=fault)
        assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["keys"]


def test_an_empty_directory_such_as_a_mounted_volume_becomes_a_home_or_stays_empty(tmp_path: Path) -> None:
    place, keys = tmp_path / "volume", [KeyFile(tmp_path / "charite.key")]
    place.mkdir(mode=0o755)
    inode = place.stat().st_ino
    for at in (0, 7, 12):
        with pytest.raises(DiskFull):
            Home.create(place, "charite", keys, fault=Strike(full, at, ("open", "write", "rename")))
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["volume"]
    Home.create(place, "charite", keys).close()
    assert (place.stat().st_ino, stat.S_IMODE(place.stat().st_mode)) == (inode, 0o700)
    Home.open(place).close()


# ── opening ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_place_without_a_home_is_named(tmp_path: Path) -> None:
    with pytest.raises(HomeMissing) as caught:
        Home.open(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in caught.value.render()


@pytest.mark.parametrize("wrong", ["", "charit"])
def test_a_path_cut_short_or_mistyped_names_the_home_that_was_meant(tmp_path: Path, wrong: str) -> None:
    make(tmp_path).close()
    with pytest.raises(HomeElsewhere) as caught:
        Home.open(tmp_path / wrong)
    assert caught.value.suggestion == f"p2pfl status --home {tmp_path / 'charite'}"


def test_two_writers_are_refused_and_the_first_is_named(tmp_path: Path) -> None:
    with make(tmp_path), pytest.raises(HomeBusy) as caught:
        Home.open(tmp_path / "charite")
    assert str(os.getpid()) in caught.value.evidence
    Home.open(tmp_path / "charite").close()


def test_a_writer_in_another_process_is_refused_too(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from p2pfl.home import Home; from p2pfl.errors import P2PFLError\n"
        "try: Home.open(Path(sys.argv[1]))\n"
        "except P2PFLError as error: print(error.code, error.evidence)"
    )
    with make(tmp_path) as home:
        done = subprocess.run(
            [sys.executable, "-c", script, str(home.path)], capture_output=True, text=True, check=True
        )
    assert done.stdout.split()[0] == "P2P-HOME-003"
    assert str(os.getpid()) in done.stdout


def test_a_reader_works_beside_a_writer_and_cannot_write(tmp_path: Path) -> None:
    with make(tmp_path) as writer, Home.open(tmp_path / "charite", write=False) as reader:
        writer.replace("state/residual", b"now")
        assert reader.read("state/residual") == b"now"
        for write in (
            lambda: reader.replace("state/residual", b""),
            lambda: reader.remove("state/residual"),
            lambda: reader.publish_card(b""),
            lambda: SegmentFiles(reader, "site").begin_segment(),
        ):
            with pytest.raises(HomeIsReadOnly):
                write()


@pytest.mark.claim("HOME-2")
def test_the_folder_of_a_study_leads_to_the_home_that_it_is_in(tmp_path: Path) -> None:
    """It was suggested to make a home there."""
    make(tmp_path).close()
    with pytest.raises(HomeElsewhere) as caught:
        Home.open(tmp_path / "charite" / "studies" / "second")
    assert caught.value.suggestion == f"p2pfl status --home {tmp_path / 'charite'}"


def test_a_full_disk_at_init_names_a_folder_that_is_there(tmp_path: Path) -> None:
    """It named a file of the half-made home, which is gone by then."""
    strike = Strike(full, 3, ("write",))
    with pytest.raises(DiskFull) as caught:
        Home.create(tmp_path / "home", "ada", [KeyFile(tmp_path / "key")], fault=strike)
    assert caught.value.suggestion == f"df -h {tmp_path}"
    assert not list(tmp_path.iterdir())


def test_of_two_that_make_one_home_the_later_one_is_told_that_it_is_there(tmp_path: Path) -> None:
    def first_is_faster(step: str, path: Path) -> None:
        if path.name.startswith("keyslots") and step == "open" and not (tmp_path / "ben.key").exists():
            Home.create(tmp_path / "home", "ben", [KeyFile(tmp_path / "ben.key")]).close()

    with pytest.raises(HomeExists) as caught:
        Home.create(tmp_path / "home", "ada", [KeyFile(tmp_path / "ada.key")], fault=first_is_faster)
    assert "the home of ben" in caught.value.evidence
    assert not (tmp_path / "ada.key").exists()


def test_a_home_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    make(tmp_path).close()
    (tmp_path / "charite").chmod(0o750)
    with pytest.raises(HomeOpenToOthers) as caught:
        Home.open(tmp_path / "charite")
    assert "0750" in caught.value.evidence


@pytest.mark.claim("HOME-2")
@pytest.mark.parametrize("change", ["join", "keys add", "withdraw", "init"])
def test_another_user_writes_nothing_into_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """As root may by sudo: the site could not open what root had written. It may read the home."""
    make(tmp_path).close()
    home, empty = tmp_path / "charite", tmp_path / "mounted"
    empty.mkdir()
    held = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(os, "geteuid", lambda: empty.stat().st_uid + 1)
    with Home.open(home, write=False) as opened:
        with pytest.raises(HomeOfAnotherUser) as caught:
            if change == "join":
                Home.open(home)
            elif change == "keys add":
                keyring.add(opened, KeyFile(tmp_path / "keys" / "second.key"), 1_700_000_000)
            elif change == "withdraw":
                with opened.charging():
                    pass
            else:
                Home.create(empty, "ulm", [KeyFile(tmp_path / "keys" / "ulm.key")])
        assert opened.identity()
    assert caught.value.suggestion.startswith("sudo -u ")
    assert f"user {home.stat().st_uid} owns it" in caught.value.evidence
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == held


def test_a_closed_home_names_no_process_that_works_in_it(tmp_path: Path) -> None:
    home = make(tmp_path)
    assert (home.path / "lock").read_text() == f"{os.getpid()}\n"
    home.close()
    assert (home.path / "lock").read_text() == ""


def test_a_lock_or_leftover_that_is_no_file_is_a_disk_error(tmp_path: Path) -> None:
    """It frees the lock."""
    with make(tmp_path) as home:
        path = home.path
    (path / "state" / "odd.new").mkdir()
    for _ in range(2):  # the first leaves no lock behind for the second to meet
        with pytest.raises(DiskRefused, match=r"odd\.new"):
            Home.open(path)
    (path / "lock").unlink()
    (path / "lock").mkdir()
    with pytest.raises(DiskRefused, match="lock"):
        Home.open(path)


def test_a_ledger_whose_directory_is_gone_is_damaged_and_not_empty(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        shutil.rmtree(home.path / "ledger" / "federation")
        with pytest.raises(ItemDamaged, match="ledger/federation"):
            Log.open(home, "federation")


def test_no_two_keys_of_a_home_are_the_same(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        keys = [
            home.master,
            home.holdout_key(),
            home.query_key(),
            SegmentFiles(home, "site").key_of(1, bytes(32)),
            SegmentFiles(home, "federation").key_of(1, bytes(32)),
            SegmentFiles(home, "site").key_of(2, bytes(32)),
        ]
        assert len({key.reveal() for key in keys}) == len(keys)


def test_the_lock_is_free_again_when_opening_fails(tmp_path: Path) -> None:
    make(tmp_path).close()
    key = tmp_path / "keys" / "charite.key"
    key.rename(tmp_path / "away")
    with pytest.raises(Exception, match="key file"):
        Home.open(tmp_path / "charite")
    (tmp_path / "away").rename(key)
    Home.open(tmp_path / "charite").close()


# ── disks that fill, fail, or lose power ──────────────────────────────────────────────────────────────────────


@pytest.mark.claim("HOME-4")
def test_a_disk_that_fills_at_any_step_keeps_the_old_and_says_so(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        counting = Strike(full, None, ("open", "write", "rename"))
        home.disk.fault = counting
        home.replace("state/residual", b"old")
        assert counting.seen > 3
        for at in range(counting.seen):
            home.disk.fault = Strike(full, at, ("open", "write", "rename"))
            with pytest.raises(DiskFull) as caught:
                home.replace("state/residual", b"new")
            assert "state/residual" in caught.value.happened
            assert home.read("state/residual") == b"old"
            assert home.items("state") == ["state/residual"]
            assert not (home.path / "state/residual.new").exists()
        home.replace("state/residual", b"new")
        assert home.read("state/residual") == b"new"


def test_a_disk_that_refuses_is_not_called_full(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.disk.fault = Strike(failing, 0, ("write",))
        with pytest.raises(DiskRefused):
            home.replace("state/residual", b"new")


@pytest.mark.claim("HOME-4")
def test_after_a_failed_fsync_nothing_is_written_any_more(tmp_path: Path) -> None:
    with make(tmp_path) as home:
        home.replace("state/residual", b"old")
        home.disk.fault = Strike(failing, 0, ("fsync",))
        with pytest.raises(SyncFailed):
            home.replace("state/residual", b"new")
        for item in ("state/residual", "state/pass"):
            with pytest.raises(SyncFailed):
                home.replace(item, b"later")
        assert home.read("state/residual") == b"old"
    with Home.open(tmp_path / "charite") as home:
        assert home.read("state/residual") == b"old"
        home.replace("state/residual", b"new")


@pytest.mark.claim("HOME-4")
@pytest.mark.parametrize("item", ["state/residual", "checkpoints/model"])
def test_a_crash_at_any_step_of_a_replace_leaves_the_old_or_the_new(tmp_path: Path, item: str) -> None:
    with make(tmp_path) as home:
        home.replace(item, b"old")
    at, died = 0, True
    while died:
        with Home.open(tmp_path / "charite") as home:
            home.replace(item, b"old")
            home.disk.fault = Strike(Crash, at)
            try:
                home.replace(item, b"new")
                died = False
            except Crash:
                at += 1
        with Home.open(tmp_path / "charite") as home:
            assert home.read(item) in ((b"old", b"new") if died else (b"new",))
            assert not list(home.path.rglob("*.new"))
    assert at > 5


ROWS = st.lists(st.tuples(st.sampled_from(["state/residual", "state/pass", "checkpoints/m"]), st.binary(max_size=64)))


@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_any_sequence_of_replaces_reads_back_as_a_dict_would(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, bytes]]
) -> None:
    held: dict[str, bytes] = {}
    folder = tmp_path_factory.mktemp("home")
    with make(folder) as home:
        for item, data in rows:
            home.replace(item, data)
            held[item] = data
    with Home.open(folder / "charite") as home:
        assert {item: home.read(item) for item in held} == held
