"""Which key is new: the options of `keys add` and `keys rotate`, and what `init` asks and prints of one, too.

No secret is an argument.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from p2pfl.cli import output
from p2pfl.cli.options import key_command as command_of
from p2pfl.cli.options import typed
from p2pfl.errors.home import WordsUnseen
from p2pfl.errors.people import ResultUnseen, WrongUse
from p2pfl.home.keyslots import Command, Credential, KeyFile, KeySource, PassPhrase, RecoveryKey, Slot

Callback = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class NewKey:
    """What was named on the command line."""

    key_file: Path | None = None
    pass_phrase: bool = False
    credential: bool = False
    command: str | None = None
    recovery_words: bool = False

    @property
    def count(self) -> int:
        """How many were named."""
        return sum(map(bool, (self.key_file, self.pass_phrase, self.credential, self.command, self.recovery_words)))

    def source(self, verb: str) -> KeySource:
        """The one that was named; a pass phrase is asked for. Raises WrongUse, NoTerminal."""
        if self.count != 1:
            raise WrongUse(evidence=f"{self.count} new keys are named; one is wanted", verb=verb)
        if self.key_file is not None:
            return KeyFile(self.key_file)
        if self.pass_phrase:
            return asked_phrase(verb)
        if self.credential:
            return Credential.from_environment(os.environ)
        if self.command:
            return command_of(self.command)
        return RecoveryKey.fresh(os.urandom)


def asked_phrase(verb: str) -> PassPhrase:
    """A new pass phrase, typed twice. Raises WrongUse, NoTerminal."""
    first, second = typed("new pass phrase: "), typed("once more: ")
    if first != second:
        raise WrongUse(evidence="the two pass phrases differ; nothing was changed", verb=verb)
    return PassPhrase(lambda: first)


def like(slot: Slot, named: NewKey, verb: str) -> KeySource:
    """A fresh key of the slot's kind, but a key file. Raises WrongUse, NoTerminal."""
    if slot.kind == PassPhrase.kind:
        return asked_phrase(verb)
    if slot.kind == RecoveryKey.kind:
        return RecoveryKey.fresh(os.urandom)
    if slot.kind == Credential.kind:
        return Credential.from_environment(os.environ)
    if slot.kind == Command.kind and named.command:
        return command_of(named.command)
    raise WrongUse(evidence=f"a {slot.kind} is rotated with --new-key-command COMMAND", verb=verb)


def words_of(key: KeySource) -> tuple[str, dict[str, object]]:
    """The recovery words, once, since the person asked for them; empty of any other key.

    The one place where a secret reaches stdout.
    """
    if not isinstance(key, RecoveryKey):
        return "", {}
    words = key.words.reveal().decode()
    told = f"\n  recovery     {words}\n               write them down now: they are not kept"
    return told, {"recovery_words": words}


def show_words(text: str, facts: Mapping[str, object], as_json: bool, home: Path) -> None:
    """Print a result with recovery words in it, before they open anything. Raises WordsUnseen where nobody reads it."""
    try:
        output.seen_result(text, facts, as_json)
    except ResultUnseen as error:
        raise WordsUnseen(evidence=error.evidence, home=home) from None


def new_key_options(command: Callback) -> Callback:
    """Which key is new; the command gets `new`."""

    @click.option(
        "--new-key-file", type=click.Path(path_type=Path, dir_okay=False), help="A file to write; outside of the home."
    )
    @click.option("--new-pass-phrase", is_flag=True, help="Ask at the terminal for a pass phrase.")
    @click.option("--new-credential", is_flag=True, help="The systemd credential p2pfl that this unit is handed.")
    @click.option("--new-key-command", metavar="COMMAND", help="A program that prints the key.")
    @click.option("--new-recovery-words", is_flag=True, help="Print 24 words, once.")
    @functools.wraps(command)
    def named(
        *,
        new_key_file: Path | None,
        new_pass_phrase: bool,
        new_credential: bool,
        new_key_command: str | None,
        new_recovery_words: bool,
        **rest: Any,
    ) -> Any:
        new = NewKey(new_key_file, new_pass_phrase, new_credential, new_key_command, new_recovery_words)
        return command(new=new, **rest)

    return named
