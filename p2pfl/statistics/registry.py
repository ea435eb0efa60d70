"""Every statistic, by the word that names it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from p2pfl.statistics.describe import Describe, Histogram
from p2pfl.statistics.question import Statistic

ALL: Final[tuple[type[Statistic], ...]] = (Describe, Histogram)
STATISTICS: Final = MappingProxyType({statistic.kind: statistic for statistic in ALL})
