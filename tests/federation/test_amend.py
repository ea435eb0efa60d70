"""The next peers.yaml is the one that stands, but for its sites and its epoch; as a change it is a file of its own."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.cli.peers.changes import change_lines
from p2pfl.errors import P2PFLError
from p2pfl.errors.distributed_noise import NoiseNotShared
from p2pfl.errors.federation import DocumentTooLarge, DuplicateMember, SettingsDoNotFit, TooFewPeers, WrongValue
from p2pfl.errors.membership import CannotAmend, HubLeaves, NoHubHere, NoSuchSite, NotAHub, SiteThereAlready
from p2pfl.federation import Federation, changefile, draft
from p2pfl.federation.amend import amend, changed, next_hub, settings_of
from p2pfl.federation.distributed_noise import parts_of
from p2pfl.federation.membership import Change
from tests.examples import examples
from tests.federation.changes import all_three, change, federation, lineage, member, next_file
from tests.federation.sample import TABLE

OLD = federation()
HERE = lineage(OLD)


def differing(old: bytes, new: bytes) -> list[str]:
    lines = difflib.ndiff(old.decode().splitlines(), new.decode().splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_only_the_lines_of_the_epoch_and_of_that_site_differ() -> None:
    told = differing(OLD.raw, next_file(OLD, HERE, remove=["cyd"]))
    assert [line[0] for line in told] == ["-", "+", "+", "+", "+", "-", "-", "-"]
    assert told[0].startswith("- epoch: 1 ")
    assert told[1].startswith("+ epoch: 2 ")
    assert told[1].endswith("# counts changes of membership")
    assert told[2] == "+ lineage:"
    assert "name: cyd" in told[5]


def test_whoever_is_added_stands_at_the_end_and_another_key_where_the_old_one_stood() -> None:
    new = Federation.parse(next_file(OLD, HERE, add=[member("fay")], rotate={"ben": member("ben", "ben again")}))
    assert new.roster.names == (*OLD.roster.names, "fay")
    assert new.roster["ben"] == member("ben", "ben again")
    assert settings_of(new) == settings_of(OLD)
    assert (new.first, new.genesis) == (OLD.digest, HERE.genesis)


def test_comments_and_layout_stay() -> None:
    text = OLD.raw.decode().replace("peers:\n", "# the sites, by their own wish in the order of the alphabet\npeers:\n")
    text = text.replace("    addresses:", "    # the main building\n    addresses:", 1)
    old = Federation.parse(text.encode())
    told = differing(old.raw, next_file(old, lineage(old), remove=["eve"]))
    assert len(told) == 8
    assert not any("#" in line for line in told[5:] if "key" not in line)


def test_a_third_epoch_has_one_lineage_and_the_same_beginning() -> None:
    second = all_three().federation()
    third = Federation.parse(next_file(second, HERE.after(all_three()), remove=["dot"]))
    assert third.raw.decode().count("lineage:") == 1
    assert (third.first, third.genesis) == (OLD.digest, HERE.genesis)


@pytest.mark.parametrize(
    "steps", [{"remove": ["fay"]}, {"rotate": {"fay": member("fay")}}, {"rotate": {"eve": member("fay")}}]
)
def test_a_site_that_is_not_there_is_named(steps: dict[str, object]) -> None:
    with pytest.raises(NoSuchSite, match="fay"):
        changed(OLD.roster, **steps)  # type: ignore[arg-type]


def test_a_site_that_is_there_is_not_added_again_under_whatever_name() -> None:
    with pytest.raises(SiteThereAlready, match="eve"):
        changed(OLD.roster, add=[member("eve")])
    with pytest.raises(SiteThereAlready, match="fay"):
        changed(OLD.roster, add=[member("fay", "eve")])


def test_what_no_peers_yaml_may_hold_is_refused_as_there() -> None:
    with pytest.raises(TooFewPeers):
        next_file(OLD, HERE, remove=["ada", "ben", "cyd"])
    with pytest.raises(DuplicateMember):
        amend(OLD, [*OLD.roster.members, OLD.roster.members[0]], HERE.genesis)


def test_a_file_whose_sites_stand_on_one_line_is_refused_and_not_guessed_at() -> None:
    head, _, tail = OLD.raw.decode().partition("peers:\n")
    rows = ", ".join(f'{{name: {one.name}, key: "{one.key.hex()}", addresses: []}}' for one in OLD.roster.members)
    flat = Federation.parse(f"{head}peers: [{rows}]\n{tail[tail.index('task:') :]}".encode())
    with pytest.raises(CannotAmend):
        next_file(flat, lineage(flat), remove=["eve"])


LOOKS = ("measures.noise_multiplier=9",)
SHARED = ("privacy.noise=distributed", "privacy.steps_per_round=1", "local.learning_rate=0.1", "local.optimiser=sgd")


@pytest.mark.claim("DP-11")
@pytest.mark.parametrize("settings", [LOOKS, SHARED], ids=["looks", "updates"])
@pytest.mark.parametrize(("colluders", "before", "after"), [(2, 2, 2), (1, 3, 2)])
def test_a_removal_comes_into_force_however_many_colluders_were_agreed_on(
    settings: tuple[str, ...], colluders: int, before: int, after: int
) -> None:
    """Of five sites a quorum of four holds out two, of four one of three holds out one: noise is for no more then."""
    old = federation(*settings, f"privacy.colluders={colluders}")
    made = change(old, lineage(old), remove=["eve"])
    new = made.federation()
    assert new.roster.names == ("ada", "ben", "cyd", "dot")
    assert settings_of(new) == settings_of(old), "or no site would take the change up"
    told = [parts_of(one.roster.quorums.q, one.privacy.colluders) for one in (old, new)]
    assert told == [before, after]
    assert [one.privacy.parts for one in (old, new)] == (told if settings == SHARED else [1, 1])
    lines = [line for line in change_lines(old, made, 0) if "colluding sites, as many as a sum holds out" in line]
    assert len(lines) == (colluders == 2)
    with pytest.raises((SettingsDoNotFit, NoiseNotShared)):  # in the first epoch nobody is shut out by it
        federation(*settings, "privacy.colluders=3")


HUB = federation("topology=hub", "hub=ada")


@pytest.mark.parametrize("written", ["hub: ada", "hub:  ada", 'hub: "ada"'])
def test_a_hub_that_leaves_has_a_successor_in_the_same_change(written: str) -> None:
    """No other line differs."""
    old = Federation.parse(HUB.raw.replace(b"hub: ada", written.encode()))
    members = changed(old.roster, remove=["ada"])
    raw = amend(old, members, lineage(old).genesis, next_hub(old, members, "ben", ""))
    new = Federation.parse(raw)
    assert (new.hub, new.topology, new.roster.names) == ("ben", "hub", ("ben", "cyd", "dot", "eve"))
    told = [line for line in differing(old.raw, raw) if "hub" in line]
    assert [line.split("#")[0].strip() for line in told] == [f"- {written}", "+ hub: ben"]
    assert told[0].split("#")[1] == told[1].split("#")[1]
    assert settings_of(new) == settings_of(old)


def test_a_hub_that_only_gets_another_key_stays_the_hub() -> None:
    members = changed(HUB.roster, rotate={"ada": member("ada", "ben again")})
    assert next_hub(HUB, members, None, "") == "ada"
    assert next_hub(HUB, members, "cyd", "") == "cyd"


@pytest.mark.parametrize(
    ("steps", "how"),
    [
        ({"remove": ["ada"]}, "leaves"),
        ({"rotate": {"ada": replace(member("ada"), addresses=())}}, "lists no address"),
    ],
)
def test_a_hub_without_a_successor_is_refused_with_the_command(steps: dict[str, object], how: str) -> None:
    """The command names a successor."""
    members = changed(HUB.roster, **steps)  # type: ignore[arg-type]
    with pytest.raises(HubLeaves, match=how) as refused:
        next_hub(HUB, members, None, "remove ada")
    assert refused.value.suggestion == "p2pfl peers propose remove ada hub ben -o change.yaml"


def test_who_cannot_be_dialled_or_is_no_site_is_no_hub_and_a_mesh_gets_none() -> None:
    silent = changed(HUB.roster, rotate={"ben": replace(member("ben"), addresses=())})
    for name in ("ben", "fay"):
        with pytest.raises(NotAHub, match=name):
            next_hub(HUB, silent, name, "")
    assert next_hub(HUB, changed(HUB.roster, add=[member("fay")]), "fay", "") == "fay"
    assert next_hub(OLD, OLD.roster.members, None, "") is None
    with pytest.raises(NoHubHere):
        next_hub(OLD, OLD.roster.members, "ben", "")


# ── the change as a file ──────────────────────────────────────────────────────────────────────────────────────


def test_a_change_comes_back_from_its_file_byte_for_byte() -> None:
    for made in (all_three(), all_three(()), change(OLD, HERE, add=[member("fay")], what="sums")):
        back = changefile.parse(changefile.to_bytes(made), "change.yaml")
        assert (back.record, dict(back.signatures)) == (made.record, dict(made.signatures))


WRITTEN = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\x85\u2028\u2029\ufeff")


@examples(30)
@given(st.text(WRITTEN, max_size=40))
def test_whatever_a_comment_says_comes_back_byte_for_byte(comment: str) -> None:
    old = Federation.parse(OLD.raw + f"# {comment}\n# and no line's end".encode())
    here = lineage(old)
    made = change(old, here, remove=["eve"])
    assert changefile.parse(changefile.to_bytes(made), "change.yaml").record == made.record


def test_a_change_of_a_federation_with_the_widest_table_is_written_and_read_back(tmp_path: Path) -> None:
    """Its file quotes every line of peers.yaml, so it is larger than any peers.yaml."""
    rows = [f'  "column, {place}": {{code: ["level: no", "level: yes"]}}\n' for place in range(2000)]
    wide = TABLE.replace(b"columns:\n", b"columns:\n" + "".join(rows).encode())
    wide += b"# " + b'"' * (draft.MOST_TASK_BYTES - len(wide) - 3) + b"\n"
    old = Federation.parse(draft.peers_file("trial", OLD.roster.members, draft.description_lines(wide, "task.yaml")))
    made = change(old, lineage(old), add=[member("fay")])
    (tmp_path / "change.yaml").write_bytes(changefile.to_bytes(made))
    assert changefile.load(tmp_path / "change.yaml").record == made.record
    with pytest.raises(DocumentTooLarge):
        draft.description_lines(wide + b"#\n", "task.yaml")


def test_layout_does_not_count_and_a_field_that_is_no_such_thing_is_named(tmp_path: Path) -> None:
    raw = changefile.to_bytes(all_three()).decode()
    (tmp_path / "change.yaml").write_text("# passed on by mail\n" + raw)
    assert changefile.load(tmp_path / "change.yaml").record == all_three().record
    with pytest.raises(WrongValue, match="from_round"):
        changefile.parse(raw.replace("from_round: 4", "from_round: soon").encode(), "change.yaml")


@examples(50)
@given(st.data())
def test_a_damaged_file_is_another_change_or_refused_by_a_leaf(data: st.DataObject) -> None:
    """Never anything else."""
    raw = bytearray(changefile.to_bytes(all_three(())))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    with suppress(P2PFLError):
        assert isinstance(changefile.parse(bytes(raw), "change.yaml"), Change)
