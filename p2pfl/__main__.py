"""`python -m p2pfl` and the script `p2pfl`: signals have their handler before anything slow is loaded."""

from __future__ import annotations

import gc
from typing import Final, NoReturn

from p2pfl.cli.interrupts import INTERRUPTS

# New objects before the collector looks for cycles among them. With Python's own 700 it looks through all that is being
# loaded again and again: a tenth of the time until a site listens.
YOUNG: Final = 50_000


def main() -> NoReturn:
    """The command, from the arguments of this process to its exit status."""
    gc.set_threshold(YOUNG)
    INTERRUPTS.take()
    from p2pfl.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
