"""The command: which verbs there are, and how every way to end becomes text and an exit status.

No verb's module is loaded before the verb is called, so `p2pfl --help` needs neither torch nor a socket. Nothing
here decides anything about the protocol.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from p2pfl._version import __version__
from p2pfl.cli import output
from p2pfl.cli.faults import told_of
from p2pfl.cli.first_signals import CLEANLY
from p2pfl.cli.interrupts import INTERRUPTS
from p2pfl.cli.verbs import Verbs
from p2pfl.errors import EXIT_DONE, EXIT_INTERRUPTED, P2PFLError
from p2pfl.errors.people import WrongUse

VERBS: Final = {
    "demo": "Real processes on this machine train one model on real hospitals' data.",
    "init": "Make this site's identity, its encrypted home, and the card for the others.",
    "peers": "Make, show and compare peers.yaml; print fingerprints; change who takes part.",
    "task": "Describe what is learned, or program it; read and approve what others have.",
    "privacy": "What a privacy budget buys: noise, batch and rounds to agree on.",
    "simulate": "Try settings on public records, or forecast a federation, in one process.",
    "join": "Take part: train until the agreed rounds are final.",
    "run": "Take part with a client of your own: Flower, MONAI, scikit-learn.",
    "sum": "One secure mean, sum, count or variance of numbers that each site keeps to itself.",
    "stats": "Statistics over the tables of all sites: describe, crosstab, survival, regression.",
    "doctor": "Each link both ways: what works, what does not, and what to try.",
    "status": "What this home holds: rounds, model, privacy spent, links.",
    "studies": "The studies of this home, and what they spent together.",
    "dashboard": "A page of this machine alone: what this site does at this moment.",
    "ledger": "Verify, show, export and compare the ledger; proofs against liars.",
    "report": "A page to print and sign: who took part, how good, how private, who signed.",
    "model": "Export a model as safetensors or ONNX, and look into a model's file.",
    "predict": "For each new record, what the model says.",
    "keys": "What opens this site's home: list, add, remove, rotate keys.",
    "withdraw": "Leave records out from now on: whoever withdrew consent.",
    "retention": "What this home keeps how long, and what may go.",
    "help": "What p2pfl, or one of its commands, does.",
    "version": "Which version this is.",
    "man": "Write manual pages of all commands.",
    "completion": "Print what a shell needs to complete p2pfl's commands.",
}
CHAPTERS: Final = {
    "Begin": "demo",
    "Take part": "join",
    "See": "status",
    "Use the model": "model",
    "Keep a site": "keys",
    "This program": "help",
}
ATTRIBUTES: Final = {"sum": "sum_", "help": "help_"}  # where the verb's own name would hide a builtin
ELSEWHERE: Final = {
    "accept": "peers accept",
    "adopt": "peers adopt",
    "approve": "peers approve",
    "propose": "peers propose",
    "recover": "peers propose recover",
    "revoke": "peers revoke",
    "rotate": "peers propose rotate",
}

HELP: Final = """Train one model with other hospitals; no record, and no single site's update, leaves anybody's machine.

Exit status: 0 done; 1 failed for a stated reason; 2 wrong use or configuration; 3 a peer broke the protocol;
4 the privacy budget is spent; 5 integrity; 130 interrupted, with nothing lost.
"""
p2pfl = click.version_option(__version__, prog_name="p2pfl", message="p2pfl %(version)s")(
    Verbs("p2pfl", "p2pfl.cli", VERBS, attributes=ATTRIBUTES, elsewhere=ELSEWHERE, chapters=CHAPTERS, text=HELP)
)
p2pfl.context_settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave the process with its exit status."""
    INTERRUPTS.take()
    output.prepare()
    _keep_no_core()
    status = run(sys.argv[1:] if arguments is None else arguments)
    with INTERRUPTS.first_does(lambda: None):  # what it asks for is happening
        output.settle()
        os._exit(status)  # while Python takes itself down, a signal would get its traceback, or the system's default


def run(arguments: Sequence[str]) -> int:
    """Run the command. Every way to end becomes an exit status, none a traceback."""
    as_json = "--json" in arguments
    try:
        status = p2pfl.main(args=list(arguments), prog_name="p2pfl", standalone_mode=False)
    except P2PFLError as error:
        output.failure(error, as_json)
        return error.exit_status
    except click.exceptions.NoArgsIsHelpError as error:
        output.progress(error.format_message())
        return WrongUse.exit_status
    except click.ClickException as error:
        output.failure(_wrong_use(error), as_json)
        return WrongUse.exit_status
    except (KeyboardInterrupt, click.exceptions.Abort):
        output.progress(CLEANLY)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of the help has left
        return EXIT_DONE
    except Exception as error:
        if INTERRUPTS.asked:  # an extension that is being loaded makes another exception of the interrupt
            output.progress(CLEANLY)
            return EXIT_INTERRUPTED
        told = told_of(error)
        output.failure(told, as_json)
        return told.exit_status
    return status if isinstance(status, int) else EXIT_DONE  # an int: a verb left with click's Exit


def _keep_no_core() -> None:
    """Write no core file when the interpreter crashes: it would hold keys and records."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _wrong_use(error: click.ClickException) -> WrongUse:
    context = getattr(error, "ctx", None)
    path = context.command_path.removeprefix("p2pfl") if isinstance(context, click.Context) else ""
    evidence = error.format_message()
    if isinstance(error, click.NoSuchOption) and (verbs := _that_have(error.option_name, context)):
        evidence = f"{error.option_name} stands behind one of its commands: {', '.join(verbs)}"
    extra = re.search(r"extra argument.*\((\S+\.ya?ml)", evidence)
    if extra is not None and context is not None and any("--peers" in one.opts for one in context.command.params):
        evidence += f"; did you mean --peers {extra[1]}?"
    return WrongUse(evidence=evidence, verb=path)


def _that_have(option: str, context: click.Context | None) -> list[str]:
    """The commands of the group where a line went wrong that have this option; none where it is no group."""
    if context is None or not isinstance(group := context.command, click.Group):
        return []
    commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return [name for name, one in commands.items() if one and any(option in held.opts for held in one.params)]
