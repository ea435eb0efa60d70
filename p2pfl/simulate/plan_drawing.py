"""The plot of a plan: ε round by round below the budget's line, and noise by batch. SVG, the same bytes each time."""

from __future__ import annotations

from typing import Final

from p2pfl.simulate.planning import Plan
from p2pfl.simulate.svg import svg
from p2pfl.training.privacy.account import Account

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#65656a"  # Okabe and Ito 2008
MOST_POINTS: Final = 40  # rounds whose ε is composed


def curve(found: Plan) -> tuple[list[int], list[float]]:
    """Rounds, and ε that the account says after each: of the chosen batch and noise, beyond the plan by a quarter."""
    last = found.rounds + max(1, found.rounds // 4)
    step = max(1, last // MOST_POINTS)
    rounds = sorted({*range(step, last + 1, step), 1, found.rounds, last})
    batch = found.batch

    def spent(count: int) -> float:
        return Account([batch.mechanism(count * found.steps)]).epsilon(found.delta)

    return rounds, [spent(count) for count in rounds]


def caption(found: Plan) -> str:
    """What each site gives and sees, in two lines."""
    one = found.each_site
    if one.look_epsilon is None:
        looks = f"{one.looks} looks by exact counts"
    else:
        looks = f"{one.looks} looks with noise, ε {one.look_epsilon:.2f} of a held-out record"
    sent, drawn = f"{one.round_bytes / 1e3:.1f} kB of words", f"{one.drawn:g} records, each {one.uses:.3g} times"
    against = "outsiders" if found.batch.parts == 1 else "outsiders and colluders"
    return (
        f"Each of {one.sites} sites sends {sent} a round, trains {one.steps} steps and draws {drawn} on average.\n"
        f"ε {one.epsilon:.2f} against {against}, {one.alone:.2f} against all other sites together; {looks}; "
        f"it sees sums over {one.quorum} sites or more."
    )


def drawing(found: Plan) -> bytes:
    """The plot as SVG. Raises PlotLibraryMissing."""
    with svg(8.4, 3.5) as (canvas, out):
        from matplotlib.ticker import MaxNLocator, NullLocator

        batch, (rounds, spent) = found.batch, curve(found)
        left, right = canvas.subplots(1, 2)
        left.plot(rounds, spent, color=BLUE, marker="." if len(rounds) < 20 else "")
        left.axhline(found.epsilon, color=ORANGE, linestyle="--", linewidth=1.2)
        left.annotate(f"budget ε {found.epsilon:g}", (rounds[0], found.epsilon), (0, 3), textcoords="offset points")
        left.axvline(found.rounds, color=GREY, linestyle=":", linewidth=1.0)
        left.set(
            xlabel=f"rounds of {found.steps} steps",
            ylabel=f"ε at δ = {found.delta:g}",
            ylim=(0, 1.1 * max(*spent, found.epsilon)),
        )
        left.set_title(f"batch {batch.batch}, noise multiplier {batch.noise_multiplier:g}", fontsize=9.0)
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        batches = [one.batch for one in found.budget.batches]
        right.plot(batches, [one.relative_noise for one in found.budget.batches], color=BLUE, marker="o")
        right.plot([batch.batch], [batch.relative_noise], color=ORANGE, marker="s", markersize=8, linestyle="")
        right.annotate("chosen", (batch.batch, batch.relative_noise), (6, 6), textcoords="offset points")
        right.set_xscale("log", base=2)
        right.set_xticks(batches, [str(one) for one in batches])
        right.xaxis.set_minor_locator(NullLocator())
        highest = max(one.relative_noise for one in found.budget.batches)
        for one in found.budget.batches:
            told, below = f"{one.noise_multiplier:.3g}", (0, -13)
            right.annotate(told, (one.batch, one.relative_noise), below, textcoords="offset points", ha="center")
        right.set(xlabel="records of a step at a site", ylabel="noise / longest signal", ylim=(0, 1.15 * highest))
        right.set_title(f"the least noise multiplier within ε {found.epsilon:g}", fontsize=9.0)
        canvas.supxlabel(caption(found), fontsize=8.0, color=GREY)
    return out.getvalue()
