"""`python -m p2pfl` and the script `p2pfl`: signals have their handler before anything else is loaded."""

from __future__ import annotations

import gc

from p2pfl.cli.first_signals import hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

# New objects before the collector looks for cycles among them. With Python's own 700 it looks through all that is being
# loaded again and again: a tenth of the time until a site listens.
YOUNG: Final = 50_000


def main() -> NoReturn:
    """The command, from the arguments of this process to its exit status."""
    hold()
    gc.set_threshold(YOUNG)
    from p2pfl.cli.interrupts import INTERRUPTS

    INTERRUPTS.take()
    from p2pfl.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
