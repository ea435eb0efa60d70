"""`p2pfl init`: this site's identity, its encrypted home, and the card for the others. It never overwrites."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.keys.new_key import asked_phrase, show_words, words_of
from p2pfl.cli.options import Unlock, fit_name, home_option, json_option, listening
from p2pfl.cli.options import key_command as command_of
from p2pfl.errors.home import WordsUnseen
from p2pfl.errors.people import WrongName, WrongUse
from p2pfl.federation.cards import Card
from p2pfl.federation.members import read_address
from p2pfl.federation.readers import Position, Word
from p2pfl.home import Home, keyring
from p2pfl.home.keyslots import Credential, KeyFile, KeySource, RecoveryKey, default_key_path
from p2pfl.roster import Address


@click.command()
@click.option("--name", required=True, metavar="NAME", help="This site's name: small letters, digits, hyphens.")
@click.option("--listen", metavar="HOST:PORT", help="Where this site listens; without it the site only dials out.")
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="HOST:PORT",
    help="Where the others reach it.  [default: --listen]",
)
@home_option
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the key here, not to ~/.config/p2pfl/NAME.key; it must lie outside of the home.",
)
@click.option("--pass-phrase", is_flag=True, help="Ask at the terminal for a pass phrase that opens the home.")
@click.option("--credential", is_flag=True, help="The systemd credential p2pfl opens the home.")
@click.option("--key-command", metavar="COMMAND", help="A program that prints the key opens the home.")
@click.option("--recovery-words", is_flag=True, help="Print 24 words, once, that open the home when all else is lost.")
@click.option("--add", is_flag=True, help="Add the named keys to a home that is there already.")
@click.option("--card", is_flag=True, help="Write the card of a home that is there already: it is lost, or never was.")
@click.option(
    "--open-with",
    metavar="WAY",
    help="With --add or --card, what opens the home now: key-file:PATH, pass-phrase, "
    "recovery (the 24 words, asked at the terminal), command:COMMAND.  [default: the systemd credential, "
    "unless that is what is added; then the home's key file]",
)
@json_option
def init(
    *,
    name: str,
    listen: str | None,
    addresses: Sequence[str],
    home: Path,
    key_file: Path | None,
    pass_phrase: bool,
    credential: bool,
    key_command: str | None,
    recovery_words: bool,
    add: bool,
    card: bool,
    open_with: str | None,
    as_json: bool,
) -> None:
    """Make this site's identity, its encrypted home, and the card for the others."""
    if (instead := fit_name(name)) != name:
        raise WrongName(text=repr(name), instead=instead, evidence=f"{len(name)} characters")
    reached = _addresses(listen, addresses)
    unlock = Unlock.by(open_with) if open_with else Unlock()
    if open_with and not (add or card):
        raise WrongUse(evidence="--open-with is for --add and --card, and neither is given", verb=" init")
    if card:
        if add or key_file or pass_phrase or credential or key_command or recovery_words:
            raise WrongUse(evidence="--card makes no key; what opens the home is named by --open-with", verb=" init")
        _write_card(home, name, reached, unlock, as_json)
        return
    keys: list[KeySource] = [KeyFile(key_file)] if key_file else []
    if pass_phrase:
        keys.append(asked_phrase(" init"))
    if credential:
        keys.append(Credential.from_environment(os.environ))
    if key_command:
        keys.append(command_of(key_command))
    if add:
        _add(home, name, keys, recovery_words, unlock, as_json)
        return
    if not keys:
        keys.append(KeyFile(default_key_path(name)))
    recovery = RecoveryKey.fresh(os.urandom) if recovery_words else None
    with Home.create(home, name, [*keys, recovery] if recovery else keys) as made:
        own = Card.sign(made.identity(), name, reached)
        path = made.publish_card(own.to_bytes())
        text, facts = _told(home, own, path, keys, recovery)
        if recovery is not None:
            _show_words(made, text, facts, keys, as_json, home)
            return
    output.result(text, facts, as_json)


def _show_words(
    made: Home, text: str, facts: Mapping[str, object], keys: Sequence[KeySource], as_json: bool, home: Path
) -> None:
    """Print it all; words that nobody saw open nothing. Raises WordsUnseen."""
    try:
        show_words(text, facts, as_json, home)
    except WordsUnseen:
        for slot in keyring.slots_of(made):
            if slot.kind == RecoveryKey.kind:
                keyring.remove(made, keyring.id_of(slot), int(time.time()), keys)
        raise


def _addresses(listen: str | None, addresses: Sequence[str]) -> list[Address]:
    """What the card says: --address, else --listen, else nothing. The wildcard is refused."""
    texts = list(addresses) or ([str(listening(listen))] if listen else [])
    option = "--address" if addresses else "--listen"
    return [read_address(Word(text, True, Position(option, 0, 0)), option) for text in texts]


def _add(home: Path, name: str, keys: Sequence[KeySource], recovery_words: bool, unlock: Unlock, as_json: bool) -> None:
    new = [*keys, *([RecoveryKey.fresh(os.urandom)] if recovery_words else [])]
    if not new:
        raise WrongUse(evidence="--add, and no key to add: --pass-phrase, --recovery-words, …", verb=" init")
    fresh = unlock == Unlock() and any(isinstance(key, Credential) for key in keys)  # it does not open the home yet
    with Home.open(home, unlock=[KeyFile()] if fresh else unlock.keys(), write=False) as opened:
        if opened.name != name:
            raise WrongUse(evidence=f"{home} is the home of {opened.name}", verb=" init")
        kinds = [key.kind for key in new]
        words, secret = words_of(new[-1])
        text, facts = f"{name}: {', '.join(kinds)} added{words}", {"name": name, "home": str(home), "added": kinds}
        for key in new[:-1] if words else new:
            keyring.add(opened, key, int(time.time()))
        if words:
            shown = facts | secret
            keyring.add(opened, new[-1], int(time.time()), lambda _: show_words(text, shown, as_json, home))
            return
    output.result(text, facts, as_json)


def _write_card(home: Path, name: str, reached: Sequence[Address], unlock: Unlock, as_json: bool) -> None:
    """The card of the home's identity, with these addresses; one that lies there is replaced."""
    with Home.open(home, unlock=unlock.keys()) as opened:
        if opened.name != name:
            raise WrongUse(evidence=f"{home} is the home of {opened.name}", verb=" init")
        card = Card.sign(opened.newest_identity(), name, reached)
        path = opened.publish_card(card.to_bytes())
    text = "\n".join([f"{name}: card written", *_card_lines(card, path)])
    facts: dict[str, object] = {"name": name, "home": str(home), "card": str(path), "fingerprint": card.fingerprint}
    output.result(text, facts, as_json)


def _card_lines(card: Card, path: Path) -> list[str]:
    return [
        f"  card         {path}",
        "               hand this file to the other sites",
        f"  fingerprint  {card.fingerprint}",
        "               read these words to them over a line that you both trust",
        f"  reached at   {', '.join(map(str, card.member.addresses)) or 'nowhere: this site dials the others'}",
    ]


def _told(
    home: Path, card: Card, path: Path, keys: Sequence[KeySource], recovery: RecoveryKey | None
) -> tuple[str, dict[str, object]]:
    one = card.member
    lines = [f"{one.name}: identity, home and card made", *_card_lines(card, path)]
    file = next((key for key in keys if isinstance(key, KeyFile)), None)
    if file:
        lines += [
            f"  key file     {file.path}",
            "               a disk that holds it and the home can be read by whoever steals it; to add another key:",
            f"               p2pfl keys add --home {shlex.quote(str(home))} --new-pass-phrase   (or --new-credential)",
        ]
    words, secret = words_of(recovery) if recovery is not None else ("", {})
    lines[-1] += words
    lines += [
        "next, at one site, with the cards of all:",
        f"  p2pfl peers create {shlex.quote(str(path))} … -o peers.yaml",
    ]
    facts: dict[str, object] = {
        "name": one.name,
        "home": str(home),
        "card": str(path),
        "key": one.key.hex(),
        "fingerprint": card.fingerprint,
        "addresses": list(map(str, one.addresses)),
        "key_file": str(file.path) if file else None,
    }
    return "\n".join(lines), facts | secret
