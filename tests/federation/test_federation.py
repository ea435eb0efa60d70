"""peers.yaml: what is accepted means one thing; what is refused names line and column."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import P2PFLError
from p2pfl.errors import federation as leaves
from p2pfl.federation import Federation, draft, strict_yaml
from p2pfl.federation.difference import difference, first_difference
from p2pfl.federation.federation import NO_PRIVACY
from p2pfl.federation.settings import SETTINGS
from p2pfl.federation.table_schema import TableSchema
from p2pfl.training.tasks import heart
from tests.examples import examples
from tests.federation.sample import CARDS, NAMES, TABLE, TASK, peers_yaml, replaced


def line_of(text: str, raw: bytes | None = None) -> int:
    lines = (raw or peers_yaml()).decode().split("\n")
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_a_drafted_file_reads_back_with_every_member_in_order() -> None:
    federation = Federation.parse(peers_yaml())
    assert federation.roster.names == NAMES
    assert federation.roster.members == tuple(card.member for card in CARDS)
    assert (federation.name, federation.rounds, federation.weights) == ("trial", 8, "equal")
    assert federation.task.table == TableSchema.parse(TABLE, "task.yaml")


def test_every_default_stands_in_the_file_with_a_comment() -> None:
    text = peers_yaml().decode()
    for setting in SETTINGS:
        assert any(
            line.strip().startswith(f"{setting.name}: {setting.default}") and setting.comment in line
            for line in text.splitlines()
        ), setting.key


def test_the_digest_is_over_the_raw_bytes() -> None:
    raw = peers_yaml()
    assert Federation.parse(raw).digest == hashlib.sha256(raw).digest()
    commented = raw + b"# a word\n"
    assert Federation.parse(commented).digest != Federation.parse(raw).digest


def test_a_file_is_read_once_and_an_error_still_names_the_file_that_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = peers_yaml("rounds=77") + b"# as nobody has read it yet\n"
    read: list[str] = []
    through = strict_yaml.read_yaml

    def told(raw: bytes, source: str) -> strict_yaml.Table:
        read.append(source)
        return through(raw, source)

    monkeypatch.setattr(strict_yaml, "read_yaml", told)
    given, held = Federation.parse(raw, "given.yaml"), Federation.parse(bytes(bytearray(raw)), "held.yaml")
    assert read == ["given.yaml"]
    assert (given.source, held.source) == ("given.yaml", "held.yaml")
    assert dataclasses.replace(held, source="given.yaml") == given
    for source in ("one.yaml", "two.yaml"):
        with pytest.raises(P2PFLError, match=source):
            Federation.parse(raw.replace(b"rounds: 77", b"rounds: no"), source)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("privacy.delta=1e-4", ("privacy", "delta"), 1e-4),
        ("sharing.field=16", ("sharing", "field"), 16),
        ("compression.method=nominate", ("compression", "method"), "nominate"),
        ("agreement.sha256=" + "ab" * 32, ("agreement",), bytes.fromhex("ab" * 32)),
    ],
)
def test_a_setting_given_by_set_is_in_the_file(override: str, path: tuple[str, ...], value: object) -> None:
    found: object = Federation.parse(peers_yaml(override))
    for name in path:
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("argument", "leaf"),
    [
        ("privacy.delta", leaves.SettingWithoutValue),
        ("rounds", leaves.SettingWithoutValue),
        ("nonsense", leaves.SettingWithoutValue),
        ("task.file=brain.py", leaves.UnknownSetting),
        ("privacy.colour=red", leaves.UnknownSetting),
        ("privacy.delta=2", leaves.WrongValue),
        ("privacy=record", leaves.WrongValue),
        ("privacy.delta=1e-5 # ok\nrounds: 7", leaves.WrongValue),
        ("rounds=1.5", leaves.WrongValue),
    ],
)
def test_a_set_that_does_not_fit_is_refused(argument: str, leaf: type[P2PFLError]) -> None:
    with pytest.raises(leaf):
        draft.override(argument)


@pytest.mark.claim("PLAIN-1")
def test_privacy_none_takes_the_place_of_the_whole_table_and_is_in_the_digest() -> None:
    raw = peers_yaml("privacy=none")
    found, private = Federation.parse(raw), Federation.parse(peers_yaml())
    assert b"\nprivacy: none" in raw and b"NO DIFFERENTIAL PRIVACY" in raw and b"max_epsilon" not in raw
    assert found.privacy is NO_PRIVACY and found.privacy.is_none and not private.privacy.is_none
    assert found.digest != private.digest
    same = ("sample_rate", "steps_per_round", "delta")
    assert [getattr(NO_PRIVACY, name) for name in same] == [getattr(private.privacy, name) for name in same]
    with pytest.raises(leaves.WrongValue):
        Federation.parse(raw.replace(b"privacy: none", b"privacy: some"))
    with pytest.raises(leaves.UnknownSetting):
        peers_yaml("privacy=none", "privacy.delta=1e-4")


KEY = CARDS[0].member.key.hex()
OTHER = CARDS[1].member.key.hex()

MALFORMED = [  # (what stands there once, what instead, leaf, text on the line of the finding, column)
    ("rounds: 8", "rounds: ten", leaves.WrongValue, "rounds: ten", 9),
    ("rounds: 8", "rounds: '8'", leaves.WrongValue, "rounds:", 9),
    ("rounds: 8", "rounds: 010", leaves.WrongValue, "rounds:", 9),
    ("rounds: 8", "rounds: 0", leaves.WrongValue, "rounds:", 9),
    ("rounds: 8", "rounds: [10]", leaves.WrongValue, "rounds:", 9),
    ("rounds: 8", "runden: 10", leaves.UnknownKey, "runden", 1),
    ("rounds: 8", "rounds: 8\nrounds: 11", leaves.DuplicateKey, "rounds: 11", 1),
    ("rounds: 8", "rounds: &a 10", leaves.ForbiddenYaml, "rounds:", 9),
    ("rounds: 8", "rounds: !!int 10", leaves.ForbiddenYaml, "rounds:", 9),
    ("rounds: 8", "rounds: |\n  10", leaves.ForbiddenYaml, "rounds:", 9),
    ("rounds: 8", "rounds: 8\r", leaves.ForbiddenCharacter, "rounds:", 10),
    ("rounds: 8", "rounds: 10 # \u2028", leaves.ForbiddenCharacter, "rounds:", 14),
    ("rounds: 8", "rounds: 10 # \x07", leaves.ForbiddenCharacter, "rounds:", 14),
    ("rounds: 8", 'rounds: "\\ud800"', leaves.ForbiddenCharacter, "rounds:", 9),
    ("rounds: 8", '"rounds\\udfff": 8', leaves.ForbiddenCharacter, "rounds", 1),
    ("rounds: 8", "? [a, b]\n: 10", leaves.ForbiddenYaml, "? [a", 3),
    ("weights: equal", "weights: [[[[[[[1]]]]]]]", leaves.DocumentTooLarge, "weights:", 15),
    ("version: 1", "version: 2", leaves.WrongValue, "version: 2", 10),
    ("version: 1", "%YAML 1.1\n---\nversion: 1", leaves.ForbiddenYaml, "%YAML", 1),
    ("topology: mesh", "topology: star", leaves.WrongValue, "topology", 11),
    ("topology: mesh", "topology: hub", leaves.HubNotNamed, "hub: null", 6),
    ("hub: null", "hub: charite", leaves.HubNotNamed, "hub: charite", 6),
    ("hub: null", "hub: Charite", leaves.WrongValue, "hub: Charite", 6),
    ("weights: equal", "weights: equal\n---\na: 1", leaves.ForbiddenYaml, "---", 1),
    ("delta: 1e-5", "delta: 1.5", leaves.WrongValue, "delta:", 10),
    ("delta: 1e-5", "delta: nan", leaves.WrongValue, "delta:", 10),
    ("delta: 1e-5", "delta: 1e999", leaves.WrongValue, "delta:", 10),
    ("delta: 1e-5", "delta: -0.1", leaves.WrongValue, "delta:", 10),
    ("delta: 1e-5", "detla: 1e-3", leaves.UnknownKey, "detla", 3),
    ("noise_multiplier: 1.1", "noise_multiplier: 0", leaves.WrongValue, "noise_multiplier: 0", 21),
    ("verify: true", "verify: no", leaves.WrongValue, "verify: no", 11),
    ("scale: 1.0", "scale: 11", leaves.SettingsDoNotFit, "scale: 11", 10),
    ("centre: 50", "centre: x", leaves.TableUnfit, "centre: x", 55),
    ("      sex:", "      age:", leaves.DuplicateKey, "age: {code", 7),
    ("  table:", "  name: heart", leaves.ForbiddenYaml, "name: heart", 9),  # what follows would go on the same value
    ("  table:", "  name: heart\n  table:", leaves.UnknownKey, "name: heart", 3),
    ("  table:", "  file: ../a.py\n  table:", leaves.UnknownKey, "table:", 3),
    ("- name: charite", "- name: Charité", leaves.WrongValue, "Charit", 11),
    ("- name: charite", "- name: st-olav", leaves.DuplicateMember, 'key: "' + OTHER, None),
    (KEY, KEY.upper(), leaves.WrongValue, KEY.upper(), 10),
    (KEY, OTHER, leaves.DuplicateMember, "name: st-olav", None),
    (KEY, KEY[:-2], leaves.WrongValue, KEY[:-2], 10),
    ("10.0.0.1:7000", "0.0.0.0:7000", leaves.WrongAddress, "0.0.0.0", 17),
    ("10.0.0.1:7000", "[::]:7000", leaves.WrongAddress, "[::]", 17),
    ("10.0.0.1:7000", "10.0.0.1", leaves.WrongAddress, '"10.0.0.1"', 17),
    ("10.0.0.1:7000", "10.0.0.1:70000", leaves.WrongAddress, "70000", 17),
    ("10.0.0.1:7000", "::1:7000", leaves.WrongAddress, "::1", 17),
    ("10.0.0.1:7000", "10.0.0.1:7001", leaves.DuplicateMember, "name: st-olav", None),
    ("sharing:\n", "sharing: none\n", leaves.ForbiddenYaml, "sharing:", 10),
    ("privacy:\n", "privacy:\n\t", leaves.NotYaml, "\t", None),
    ("rounds: 8", 'rounds: "\\U00110000"', leaves.NotYaml, "rounds:", None),  # an escape of what is no character
]


@pytest.mark.claim("FED-1")
@pytest.mark.parametrize(("old", "new", "leaf", "where", "column"), MALFORMED, ids=[row[1][:30] for row in MALFORMED])
def test_malformed_text_is_refused_with_line_and_column(
    old: str, new: str, leaf: type[P2PFLError], where: str, column: int | None
) -> None:
    raw = replaced(old, new)
    with pytest.raises(leaf) as caught:
        Federation.parse(raw, "peers.yaml")
    error = caught.value
    assert type(error) is leaf
    assert error.exit_status == 2
    if column is not None:
        assert error.fields["place"] == f"peers.yaml:{line_of(where, raw)}:{column}"
    assert "peers.yaml:" in error.fields["place"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"# nothing\n",
        b"a word\n",
        b"- a\n- b\n",
        b"\xef\xbb\xbfversion: 1\n",
        b"\xff\xfev\0",
        b"version: \xff\n",
        b"{" * 5000,
        b"[" * 5000,
        b"a: " * 5000,
        b"x" * (1 << 19),
        b"*a",
        b"? ",
        b"version: 1\n...\n%TAG ! a:\n---\n",
    ],
    ids=range(15),
)
def test_bytes_that_are_no_peers_file_are_refused_by_a_leaf(raw: bytes) -> None:
    with pytest.raises(P2PFLError) as caught:
        Federation.parse(raw)
    assert caught.value.exit_status == 2


def test_a_directive_of_more_digits_than_a_number_may_have_is_not_yaml() -> None:
    with pytest.raises(leaves.NotYaml):
        Federation.parse(b"%YAML 1." + b"9" * 5000 + b"\n---\n" + peers_yaml())


@pytest.mark.claim("SUM-5")
@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_sites_are_refused_and_the_reason_said(count: int) -> None:
    with pytest.raises(leaves.TooFewPeers) as caught:
        draft.peers_file("trial", [card.member for card in CARDS[:count]], TASK)
    assert "subtracts" in caught.value.render()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(leaves.FileUnreadable) as caught:
        Federation.load(tmp_path / "peers.yaml")
    assert "peers.yaml" in str(caught.value)


def test_each_missing_key_is_named() -> None:
    lines = peers_yaml().decode().splitlines(keepends=True)
    for setting in SETTINGS:
        without = "".join(line for line in lines if not line.strip().startswith(f"{setting.name}:"))
        with pytest.raises(P2PFLError) as caught:
            Federation.parse(without.encode())
        assert isinstance(caught.value, leaves.MissingKey | leaves.WrongValue), setting.key


def test_a_pinned_file_takes_the_place_of_a_name() -> None:
    lines = draft.pinned_lines("brain.py", "Brain", "0f" * 32)
    raw = draft.peers_file("trial", [card.member for card in CARDS], lines)
    task = Federation.parse(raw).task
    assert (task.table, task.file, task.cls, task.sha256) == (None, "brain.py", "Brain", bytes.fromhex("0f" * 32))
    for old, new in (("brain.py", "../a.py"), ("Brain", "not a class"), ("0f0f", "0F0F")):
        with pytest.raises(leaves.WrongValue):
            Federation.parse(raw.replace(old.encode(), new.encode(), 1))


def test_a_tables_text_stands_in_the_file_with_its_comments_and_means_the_same() -> None:
    lines = draft.description_lines(heart.TEXT, heart.FILE)
    raw = draft.peers_file("trial", [card.member for card in CARDS], lines)
    assert Federation.parse(raw).task.table == heart.heart()
    for line in heart.TEXT.decode().splitlines():
        assert f"    {line}\n" in raw.decode()


@pytest.mark.parametrize("mark", ["---\n", "...\n"])
def test_a_tables_text_cannot_end_the_file_that_it_is_put_into(mark: str) -> None:
    text = mark + TABLE.decode() if mark == "---\n" else TABLE.decode() + mark
    with pytest.raises(leaves.ForbiddenYaml) as caught:
        draft.description_lines(text.encode(), "task.yaml")
    assert caught.value.fields["place"].startswith("task.yaml:")


def test_sums_are_verified_unless_the_sites_agree_that_they_are_not() -> None:
    assert Federation.parse(peers_yaml()).sharing.verify
    assert not Federation.parse(peers_yaml("sharing.verify=false")).sharing.verify


def test_two_files_differ_by_line() -> None:
    mine, theirs = peers_yaml(), peers_yaml("rounds=11")
    assert first_difference(mine, theirs) == line_of("rounds:")
    assert first_difference(mine, mine) is None
    assert first_difference(mine, mine + b"x\n") == mine.count(b"\n") + 1
    told = difference(mine, theirs)
    assert "-rounds: 8" in told
    assert "+rounds: 11" in told
    assert difference(mine, mine) == ""


@given(st.binary(max_size=400))
@examples(150)
def test_any_bytes_are_a_peers_file_or_a_leaf(raw: bytes) -> None:
    with pytest.raises(P2PFLError):
        Federation.parse(raw)


PIECES = st.sampled_from(
    [
        "a",
        ": ",
        "\n",
        "  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        '"',
        "#",
        "&x",
        "*x",
        "!t",
        "|",
        ">",
        "%",
        "@",
        "`",
        "?",
        "\t",
        "---",
        "...",
        "\x00",
        "\u2028",
        "é",
        "<<",
        "1e9",
        "null",
        "\ud800",
    ]
)


@pytest.mark.claim("FED-1")
@given(st.integers(0, 2000), st.integers(0, 40), st.lists(PIECES, max_size=6).map("".join))
@examples(300)
def test_a_damaged_file_is_read_or_refused_by_a_leaf_and_never_by_anything_else(
    start: int, length: int, instead: str
) -> None:
    text = peers_yaml().decode()
    raw = (text[:start] + instead + text[start + length :]).encode("utf-8", "surrogatepass")
    with contextlib.suppress(P2PFLError):
        assert Federation.parse(raw).digest == hashlib.sha256(raw).digest()
