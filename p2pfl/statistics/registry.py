"""Every statistic, by the word that names it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from p2pfl.statistics.correlation import Correlation
from p2pfl.statistics.cox import Cox
from p2pfl.statistics.crosstab import Crosstab
from p2pfl.statistics.describe import Describe, Histogram
from p2pfl.statistics.glm import Logistic, Poisson
from p2pfl.statistics.linear import Linear
from p2pfl.statistics.means import Anova, TTest
from p2pfl.statistics.meta import Meta
from p2pfl.statistics.quantiles import Quantiles
from p2pfl.statistics.question import Statistic
from p2pfl.statistics.scores import Calibration, Roc
from p2pfl.statistics.survival import KaplanMeier
from p2pfl.statistics.table_one import TableOne

ALL: Final[tuple[type[Statistic], ...]] = (
    Describe,
    TableOne,
    Histogram,
    Quantiles,
    Crosstab,
    Correlation,
    TTest,
    Anova,
    KaplanMeier,
    Linear,
    Logistic,
    Poisson,
    Cox,
    Roc,
    Calibration,
    Meta,
)
STATISTICS: Final = MappingProxyType({statistic.kind: statistic for statistic in ALL})
