"""A measured column by the levels of a code: how many have it, and their moments. What tests and table one stand on."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from p2pfl.statistics.describe import Moments
from p2pfl.statistics.plan import SumPlan, Totals, present, scaled, tally
from p2pfl.statistics.question import Ask, Factor, Floats, OpenedSum, Quantity, SiteTable

GroupSteps = Generator[Ask, OpenedSum, dict[str, tuple[Moments, ...]]]


def add_quantity(plan: SumPlan, quantity: Quantity, group: Factor) -> None:
    """How many of each group have a value: blocks `known:NAME` and `missing:NAME`, parts of the block `groups`."""
    plan.counts(f"known:{quantity.name}", group.levels, moves=1)
    plan.counts(f"missing:{quantity.name}", group.levels, moves=1)
    for place in range(len(group.levels)):
        plan.total(("groups", place), [(f"known:{quantity.name}", place), (f"missing:{quantity.name}", place)])


def add_groups(plan: SumPlan, group: Factor) -> None:
    """`records`, and of those `groups`: a number for each level and for those without."""
    plan.counts("records", ("",), moves=1).counts("groups", (*group.levels, "missing"), moves=1)
    plan.total(("records", 0), [("groups", place) for place in range(len(group.levels) + 1)])


def grouped(codes: Floats, group: Factor) -> dict[str, Any]:
    """This site's numbers for `add_groups`."""
    counts = tally(codes[present(codes)], len(group.levels))
    return {"records": codes.size, "groups": [*counts, codes.size - counts.sum()]}


def quantity_counts(values: Floats, codes: Floats, quantity: Quantity, group: Factor) -> dict[str, Any]:
    """This site's numbers for `add_quantity`."""
    levels, of_group = len(group.levels), present(codes)
    known = present(values, codes)
    return {
        f"known:{quantity.name}": tally(codes[known], levels),
        f"missing:{quantity.name}": tally(codes[of_group & ~known], levels),
    }


def moments_by_group(
    columns: Mapping[str, Floats],
    quantities: tuple[Quantity, ...],
    codes: Floats,
    group: Factor,
    who: Totals,
    table: SiteTable,
) -> GroupSteps:
    """The moments of each quantity in each group, in one sum, after the counts that `add_quantity` opened."""
    plan, mine = SumPlan("moments"), dict[str, Any]()
    counts = {one.name: who.counts(f"known:{one.name}") for one in quantities}
    of_counts = {one.name: who.noise(f"known:{one.name}") for one in quantities}
    for one in quantities:
        for power in ("Σz", "Σz²"):
            plan.reals(f"{power}:{one.name}", group.levels, table.most(max(counts[one.name])), moves=1)
        known = present(columns[one.name], codes)
        z, at = scaled(columns[one.name][known], one.centre, one.half), codes[known].astype(np.int64)
        mine[f"Σz:{one.name}"] = np.bincount(at, z, len(group.levels))
        mine[f"Σz²:{one.name}"] = np.bincount(at, z * z, len(group.levels))
    total = plan.read((yield plan.ask(mine)))
    return {
        one.name: tuple(
            Moments.of(one, count, first, second, noise)
            for count, first, second, noise in zip(
                counts[one.name],
                total.exact(f"Σz:{one.name}"),
                total.exact(f"Σz²:{one.name}"),
                zip(total.noise(f"Σz:{one.name}"), of_counts[one.name], strict=True),
                strict=True,
            )
        )
        for one in quantities
    }
