"""peers-yaml.md: the keys of peers.yaml, tables, cards and column maps, with limits and defaults from their readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from p2pfl.errors.federation import WrongValue
from p2pfl.federation import draft
from p2pfl.federation.cards import Card
from p2pfl.federation.clients import MOST_METRICS, read_kind
from p2pfl.federation.federation import VERSION
from p2pfl.federation.members import MOST_ADDRESSES, read_name
from p2pfl.federation.misfits import TODO
from p2pfl.federation.readers import List, Position, Table, Word, YamlNode
from p2pfl.federation.settings import HEX32, SETTINGS
from p2pfl.federation.table_columns import MISSING, MOST_COLUMNS, MOST_LEVELS, MOST_NAME
from p2pfl.federation.table_labels import MOST_CLASSES, MOST_TIMES
from p2pfl.federation.table_schema import MOST_HIDDEN
from p2pfl.keys import Identity
from p2pfl.roster import LEAST_PEERS, MOST_PEERS, Address
from tools.reference.markdown import GENERATED, cell, table
from tools.reference.scans import IMAGES_EXAMPLE, SCANS, VOLUMES, VOLUMES_EXAMPLE, image_rows, volume_rows

HERE: Final = Position("a reference", 0, 0)
HEAD: Final = f"""\
# peers.yaml, tables, cards and column maps

{GENERATED}
All four are strict YAML: UTF-8, no tabs, no anchors, aliases, tags or merge keys, no key twice, no key that is not
listed here. `null`, `true`, `false` and numbers are unquoted words; a quoted word is text. An error names file, line
and column.

## peers.yaml

What the sites agree on. Every site holds the same bytes: each hello compares their SHA-256, so a changed comment is a
changed file. `p2pfl peers create` writes the file with every key in full; none may be missing. Nothing that may
differ between sites stands in it (ports to listen on, paths, keys of homes).
"""


def _wanted(read: Callable[[YamlNode, str], Any]) -> str:
    """What `read` takes, in the words with which it refuses."""
    wanted = ""
    for no_value in (List((), HERE), Table({}, HERE)):  # a list may be empty
        try:
            read(no_value, "")
        except WrongValue as error:
            wanted = wanted or error.fields["wanted"]
    try:
        return f"{wanted}, or null" if read(Word("null", False, HERE), "") is None else wanted
    except WrongValue:
        return wanted


def _peers_rows() -> list[tuple[str, str, str, str]]:
    """Keys that federation.py reads itself: who takes part, and what is trained."""
    name, digest = _wanted(read_name), _wanted(HEX32)
    return [
        ("version", f"{VERSION}", f"{VERSION}", "of this format"),
        ("federation", name, "`--name`", "the name of this federation"),
        ("epoch", "a whole number from 1", "1", "counts changes of membership"),
        ("peers", f"a list of {LEAST_PEERS} to {MOST_PEERS} tables", "the cards", "no name, key or address twice"),
        ("peers[].name", name, "", "the site"),
        ("peers[].key", digest, "", "its Ed25519 public key"),
        (
            "peers[].addresses",
            f"a list of at most {MOST_ADDRESSES} `host:port`",
            "",
            "where others reach it, tried in order; empty: it only dials out",
        ),
        (
            "task.table",
            "the description of a [table](#a-table)",
            "heart disease",
            "a task without code; or one of the next two; or the next three; or the last",
        ),
        ("task.images", "the description of [images](#images-and-volumes)", "", ""),
        ("task.volumes", "the description of [volumes](#images-and-volumes)", "", ""),
        ("task.file", "a file's name ending in .py", "", "a task of your own: `--task FILE:CLASS`"),
        ("task.class", "a class in that file", "", ""),
        ("task.sha256", digest, "", "of that file; another one is not run"),
        ("task.client", _wanted(read_kind), "", "or the next three: a client of each site's own: `p2pfl run`"),
        ("task.first", "zeros, or 64 hexadecimal digits, lower case", "zeros", "SHA-256 of its first model's file"),
        ("task.metrics", f"a list of at most {MOST_METRICS} names", "[]", "of its evaluation's numbers, averaged"),
        ("task.python", "a name", "", "or alone: a Task that each site makes in Python: `--task python:NAME`"),
    ]


def _settings_rows() -> list[tuple[str, str, str, str]]:
    rows = [(one.key, _wanted(one.read), one.default, one.comment) for one in SETTINGS]
    plain = ("privacy", "none, in the place of the whole table", "", draft.NO_PRIVACY_COMMENT)
    at = next(index for index, row in enumerate(rows) if row[0].startswith("privacy."))
    return [*rows[:at], plain, *rows[at:]]


def _lineage_rows() -> list[tuple[str, str, str, str]]:
    digest = _wanted(HEX32)
    return [
        ("lineage.first", digest, "", "SHA-256 of the peers.yaml of epoch 1, by which runs are named"),
        ("lineage.genesis", digest, "", "SHA-256 of the federation log's first entry"),
    ]


def _card_rows() -> list[tuple[str, str, str, str]]:
    return [
        ("version", f"{VERSION}", "", "of this format"),
        ("name", _wanted(read_name), "", "the site"),
        ("key", _wanted(HEX32), "", "its Ed25519 public key"),
        ("addresses", f"a list of at most {MOST_ADDRESSES} `host:port`", "", "as in peers.yaml"),
        ("signature", "128 hexadecimal digits, lower case", "", "by that key, over the other facts as canonical JSON"),
    ]


def _table_rows() -> list[tuple[str, str, str, str]]:
    name, level = f"a name of at most {MOST_NAME} printable characters", f"2 to {MOST_LEVELS} words or numbers"
    flag = ("true or false", "false")
    return [
        ("columns", f"1 to {MOST_COLUMNS} rows: {name} ► a number or a code", "", "the columns that every site has"),
        ("….number", "a unit", "", "a measured number"),
        ("….low, ….high", "a number", "", "what is plausible; outside of it a record is refused"),
        ("….centre, ….scale", "a number", "", "the model sees (number − centre) / scale, cut to −2 … 2"),
        ("….zero_is_missing", *flag, "0 means *not measured*"),
        ("….code", level, "", "the levels, by text or as an equal number"),
        ("….ordered", *flag, "the levels go from least to most: one input from −1 to 1 in place of one for each"),
        ("….indicator", *flag, "an input that says whether it was measured"),
        ("label", f"one row: {name} ► what is to be learned; of a time two", "", "no column"),
        ("….binary", level, "", "yes or no"),
        ("….positive", "some of the levels", "", "which of them count as yes"),
        ("….class", f"2 to {MOST_CLASSES} words or numbers", "", "one of several classes"),
        (
            "….number",
            "a unit; low, high, centre and scale as of a column",
            "",
            "a number, by its squared error in scales",
        ),
        ("….time", "a unit", "", "the time to an event, or to the end of what is known"),
        ("….high", "a number above 0", "", "the longest time that is plausible"),
        (
            "….grid",
            f"1 to {MOST_TIMES} rising times",
            "",
            "ends of the intervals that the model tells apart; later is cut off",
        ),
        ("….event", level, "", "in the second row: what happened then; `positive` says which levels are the event"),
        (
            "model",
            f"linear, or {{mlp: 1 to {MOST_HIDDEN}}}",
            "",
            "a linear model, or one hidden layer of so many tanh units",
        ),
        ("learning_rate", "a number above 0", "", "of each private step"),
        (
            "expected_batch",
            "a number above 0",
            "",
            "public divisor of a step's sum: sample_rate × records of a typical site",
        ),
        ("patient", "the name of a column", "none", "whose a record is, for `privacy.unit: patient`; no model sees it"),
        (
            "asked",
            f"1 to {MOST_COLUMNS} rows: {name} ► a number or a code",
            "none",
            "columns that statistics may ask of and no model sees",
        ),
        ("….number", "a unit", "", "with low, high and zero_is_missing as of a column, and no centre or scale"),
        ("….code", level, "", "the levels"),
    ]


def _columns_rows() -> list[tuple[str, str, str, str]]:
    marks = ", ".join(f"`{mark}`" if mark else "the empty cell" for mark in MISSING)
    return [
        ("columns", "a table: theirs ► ours", "{}", "columns with our names need no line"),
        ("codes", "a table: ours ► a table: theirs ► level or number", "{}", "what a code of theirs means"),
        ("missing", "a list of at most 100 words", marks, "marks of *not measured*; the empty cell always is one"),
        ("absent", f"a list of at most {MOST_COLUMNS} of our columns", "[]", "what this site does not have"),
    ]


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    cells = [(f"`{key}`", cell(takes), cell(default), cell(comment)) for key, takes, default, comment in rows]
    return table(("key", "what it may be", "default", "why"), cells)


def example() -> tuple[str, str]:
    """A card, and the peers.yaml of three such cards."""
    names = ("charite", "mayo", "st-olav")
    identities = [Identity(bytes([number]) * 32) for number in range(1, len(names) + 1)]
    cards = [
        Card.sign(identity, name, [Address.parse(f"{name}.example:7443")])
        for name, identity in zip(names, identities, strict=True)
    ]
    lines = draft.description_lines(TABLE_EXAMPLE.encode(), "task.yaml")
    return cards[0].to_bytes().decode(), draft.peers_file("relapses", [card.member for card in cards], lines).decode()


AFTER_PEERS: Final = """\
`scale` is at most `clip`. `topology: hub` and a `hub` go together. `a.b` is the key `b` under the heading `a`.

From the second epoch on the file also says where it comes from; in the first these keys are refused:
"""
TABLE_EXAMPLE: Final = """\
columns:
  age: {number: years, low: 0, high: 120, centre: 55, scale: 10}
  sex: {code: [female, male]}
  CRP: {number: mg/l, low: 0, high: 500, centre: 5, scale: 10, indicator: true}   # not always measured
  stage: {code: [I, II, III, IV], ordered: true}
label:
  relapse: {binary: ["no", "yes"], positive: ["yes"]}
model: linear
learning_rate: 0.01
expected_batch: 2.0
asked:                                                # of these statistics may ask; no model sees them
  months: {number: months, low: 0, high: 240}
  died: {code: [alive, dead]}
"""
TABLE: Final = f"""\
## A table

What a model is trained on, and what it learns, with no line of Python: `task.table` in peers.yaml, where each site can
read what it agrees to, and the same text at the top of a file of its own for `peers create --task FILE.yaml`.
`p2pfl task draft` writes a file's columns and kinds, and `{TODO}` where people fill in. From file to model:
[own-table.md](../guide/own-table.md).

**All of it is public and agreed.** Ranges, centres and scales come from clinical practice, levels from the study's code
book, and the times of a grid are round ones; a mean or a level that was read off somebody's records would be a release
without noise. The first key of a row is its kind. A name begins with no digit, sign or dot. All that does not fit is
told at once, with line and column.
"""
CARD: Final = """\
## A card

`p2pfl init` writes it, as NAME.card; the site hands it to the others. Its signature shows that its author holds the
key, and not whose key that is: for that, read the eight words of its fingerprint aloud over a line that you both trust.
"""
COLUMNS: Final = """\
## A column map

Local to one site, and no part of peers.yaml: `DATA.columns.yaml` beside `DATA.csv`, or `--columns FILE`. Every key
may be absent. An example: [own-records.md](../guide/own-records.md).
"""


def page() -> str:
    card, peers = example()
    written = f"As `peers create` writes it, here with a small table:\n\n```yaml\n{peers}```\n"
    return "\n".join(
        [
            *(HEAD, _table([*_peers_rows(), *_settings_rows()])),
            *(AFTER_PEERS, _table(_lineage_rows()), written),
            *(TABLE, _table(_table_rows()), f"```yaml\n{TABLE_EXAMPLE}```\n"),
            *(SCANS, _table(image_rows()), f"```yaml\n{IMAGES_EXAMPLE}```\n"),
            *(VOLUMES, _table(volume_rows()), f"```yaml\n{VOLUMES_EXAMPLE}```\n"),
            *(CARD, _table(_card_rows()), f"```yaml\n{card}```\n"),
            *(COLUMNS, _table(_columns_rows())),
        ]
    )
