"""`python -m p2pfl` and the script `p2pfl`: signals have their handler before anything slow is loaded."""

from __future__ import annotations

from typing import NoReturn

from p2pfl.cli.interrupts import INTERRUPTS


def main() -> NoReturn:
    """The command, from the arguments of this process to its exit status."""
    INTERRUPTS.take()
    from p2pfl.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
