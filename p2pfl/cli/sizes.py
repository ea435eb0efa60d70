"""`p2pfl simulate --sites …`: what federations of these sizes would cost and promise, before there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from p2pfl.cli import output
from p2pfl.cli.options import NamedFile, write_over
from p2pfl.errors.counts import counted
from p2pfl.errors.people import WrongUse

if TYPE_CHECKING:
    from p2pfl.simulate.counted import MeasuredRound
    from p2pfl.simulate.forecast import Forecast, Size

OWN_OPTIONS: Final = ("parameters", "density", "noise", "away", "bandwidth", "latency", "real", "plot")


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number of hundreds of digits
        return False


class Listed(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them: `5,20,200`."""

    def __init__(self, one: type[int] | type[float]) -> None:
        self.one, self.name = one, "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(self.one(text) for text in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 5,20,200", param, ctx)
        if not all(_is_finite(one) for one in found):
            self.fail("it holds what is no number that one can count to", param, ctx)
        return found


def sizes_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that forecast; `--sites` asks for it."""
    options = (
        click.option("--sites", type=Listed(int), metavar="N,N,…", help="Forecast so many sites each, up to 1000."),
        click.option("--parameters", type=int, default=1_000_000, show_default=True, help="Numbers of the model."),
        click.option(
            "--density", type=Listed(float), default=(1.0,), metavar="D,D,…", help="Part of them a round sums."
        ),
        click.option("--noise", type=Listed(float), default=(), metavar="S,S,…", help="Noise multipliers."),
        click.option("--away", type=float, default=0.05, show_default=True, help="Chance that a site is away."),
        click.option("--bandwidth", type=float, default=100.0, show_default=True, help="Mbit/s of a site's uplink."),
        click.option("--latency", type=float, default=20.0, show_default=True, help="Milliseconds of a letter."),
        click.option("--real", type=int, default=24, show_default=True, help="Run real rounds of up to so many sites."),
        click.option("--plot", type=NamedFile(), metavar="FILE.svg", help="Draw the forecast."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def tell_sizes(
    sites: Sequence[int],
    rounds: Sequence[int],
    settings: Sequence[str],
    asked: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Forecast, draw if asked to, and print."""
    from p2pfl.simulate.forecast import forecast

    output.loading_torch()  # the account's ε
    found = forecast(
        sites,
        parameters=asked["parameters"],
        density=asked["density"],
        rounds=rounds,
        noise=asked["noise"],
        away=asked["away"],
        bandwidth=asked["bandwidth"] * 1e6,
        latency_s=asked["latency"] / 1e3,
        settings=settings,
        real=asked["real"],
        progress=_told,
    )
    if asked["plot"] is not None:
        from p2pfl.simulate.forecast_drawing import drawing

        write_over(asked["plot"], drawing(found))
    facts = _facts(found)
    output.result(_text(found), facts, as_json)


def refuse_mixed(context: click.Context, *, records: bool) -> None:
    """A forecast reads no records, and a training is of the sites that its records name. Raises WrongUse."""
    given = [
        name for name in OWN_OPTIONS if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if records and context.params["sites"]:
        raise WrongUse(
            evidence="--data trains on records, --sites forecasts without any: one of them", verb=" simulate"
        )
    if not records and not context.params["sites"]:
        raise WrongUse(evidence="either --data, to train, or --sites, to forecast", verb=" simulate")
    if records and given:
        raise WrongUse(evidence=f"--{given[0]} is of a forecast: --sites", verb=" simulate")


def _told(one: MeasuredRound) -> None:
    output.progress(f"real rounds of {one.sites} sites, {one.words} words: {one.cpu_s:.2f} s each")


def _facts(found: Forecast) -> dict[str, Any]:
    return {
        "parameters": found.parameters,
        "field": found.bits,
        "away": found.away,
        "bandwidth": found.bandwidth,
        "latency_s": found.latency_s,
        "steps": found.steps,
        "delta": found.delta,
        "sample_rate": found.sample_rate,
        "steps_per_round": found.steps_per_round,
        "sizes": [_size(one) for one in found.sizes],
        "spent": [
            {"rounds": one.rounds, "noise_multiplier": one.noise_multiplier, "epsilon": _finite(one.epsilon)}
            for one in found.spent
        ],
        "off": {
            "sites": found.off.sites,
            "letters": found.off.letters,
            "bytes": found.off.bytes,
            "beyond_words": found.off.beyond,
            "cpu": found.off.cpu,
        },
    }


def _size(one: Size) -> dict[str, Any]:
    return {
        "sites": one.sites,
        "density": one.density,
        "words": one.words,
        "quorum": one.quorum,
        "liars": one.liars,
        "colluders": one.colluders,
        "stands": one.stands,
        "rounds_for_one": _finite(one.rounds_for_one),
        "letters": one.letters,
        "sent_bytes": one.bytes,
        "beyond_words": one.beyond,
        "dense_bytes": one.dense_bytes,
        "round_s": one.seconds,
        "cpu_s": one.cpu_s,
        "memory": one.memory,
        "how": one.how,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(found: Forecast) -> str:
    rows = [["sites", "density", "sent", "/ plaintext", "letters", "a round", "memory", "quorum", "stands", "how"]]
    for one in found.sizes:
        rows.append(
            [
                str(one.sites),
                f"{one.density:g}",
                output.amount(one.bytes),
                f"{one.bytes / one.dense_bytes:.3g}",
                f"{one.letters:.0f}",
                f"{one.seconds:.2f} s",
                output.amount(one.memory),
                f"{one.quorum} of {one.sites}",
                _chance(one.stands),
                one.how,
            ]
        )
    spent = [["rounds", "noise", f"ε at δ = {found.delta:g}"]]
    for each in found.spent:
        epsilon = f"{each.epsilon:.2f}" if math.isfinite(each.epsilon) else "unbounded"
        spent.append([str(each.rounds), f"{each.noise_multiplier:g}", epsilon])
    off = found.off
    told = [
        f"Each number is a site's, of one round of {counted(found.parameters, 'number')}: "
        f"{found.bandwidth / 1e6:g} Mbit/s, "
        f"{1e3 * found.latency_s:g} ms a letter,",
        f"{counted(found.steps, 'letter')} that wait for one another. A site is away with chance {found.away:g}.",
        "Not in it: TLS, disks, the pass over the records, counts for the metric, positions that sites name.",
        f"The fit is off in a real round of {off.sites} sites that it has not seen: letters "
        f"{100 * off.letters:+.2f} %, bytes beside words {100 * off.beyond:+.2f} %, processor {100 * off.cpu:+.0f} %.",
    ]
    learn = [_learn(one) for one in {one.sites: one for one in found.sizes}.values()]
    parts = [output.aligned(rows, right=(0, 1, 2, 3, 4, 5, 6)), "\n".join(told), output.aligned(spent, right=(0, 1, 2))]
    return "\n\n".join([*parts, "\n".join(learn)])


def _chance(value: float) -> str:
    """As a part of a hundred, with as many nines as it has, up to five."""
    return f"{100 * value:.3f} %" if value < 0.99999 else "> 99.999 %"


def _learn(one: Size) -> str:
    return (
        f"{one.sites} sites: up to {one.colluders} that collude learn the sum over the others that are in the round, "
        f"{one.sites - one.colluders} of them, or 2 at least; up to {one.liars} may lie"
    )
