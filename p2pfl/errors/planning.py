"""Plans of a budget: what keeps one from being made, or drawn."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalFault


class PlotLibraryMissing(LocalFault):
    """A plan's plot needs a package that is not installed here."""

    code = "P2P-TRAIN-145"
    exit_status = 2
    likely = ("the extra [plots] was left out when p2pfl was installed from its checkout: install it there",)
    command = "pip install '.[plots]'"


class NothingToMakeUp(ConfigurationError):
    """Records are made up from the description of a table, and {task} has none."""

    code = "P2P-TRAIN-146"
    likely = ("a task on scans, or in Python: give public records of it, --simulate FILE",)
    command = "p2pfl help"


class WrongForecast(ConfigurationError):
    """A federation of this kind cannot be forecast."""

    code = "P2P-TRAIN-163"
    likely = (
        "two sites learn each other's value, and more than a thousand are beyond what was checked",
        "a share, a chance or a speed is outside of its range",
    )
    command = "p2pfl simulate --help"


class NoiseNotPlanned(ConfigurationError):
    """A budget of noise of which each site adds a part is not planned with these numbers."""

    code = "P2P-TRAIN-160"
    likely = (
        "noise in parts holds for one step a round: --steps 1, and more --rounds",
        "--colluders goes from 1 to two below the quorum, and belongs to --noise distributed",
    )
    command = "p2pfl privacy plan --help"
