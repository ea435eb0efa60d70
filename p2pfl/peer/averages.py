"""The mean of every site's arrays, for whoever brings a trainer of their own: `Peer.average`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from p2pfl.federation.federation import Privacy
from p2pfl.node.runs.averages import Averaging, Flat, encode_average, flatten
from p2pfl.node.runs.passes import charge_release
from p2pfl.node.runs.sums import Asked, Encoded
from p2pfl.node.runs.turns import Feedback, Turn, step_of
from p2pfl.peer.epoch import training_run
from p2pfl.peer.sums import Sums


class Averages(Sums):
    """A peer that averages arrays with the others."""

    async def average(
        self,
        arrays: Any,
        *,
        clip: float,
        noise: float | None = None,
        weights: Mapping[str, float] | None = None,
        name: str = "average",
        step: int | None = None,
    ) -> Any:
        """The mean of every site's arrays, in the structure of `arrays`, the same bits at every site.

        arrays    one numpy array or torch tensor, or a list or dict of them: weights, or an update; the same structure
                  and shapes at all sites
        clip      L2 norm of all of a site's arrays together; longer ones are shrunk to it. Equal at all sites
        noise     each site adds Gaussian noise of standard deviation noise·clip to every number of its own, before it
                  leaves; equal at all sites
        weights   public, by site's name, equal at all sites; by default all count the same
        step      the number of this call in the caller's loop, from 0 on, equal at all sites: then the arrays are
                  changes that add up from call to call, and `compression` in peers.yaml holds. With method `none` that
                  changes nothing. With any other a call sends `density` of the numbers, in an order that a public seed
                  shuffles: each has one turn in 1/density calls. (A sum has no nominations, and no model in common
                  whose subspace it could move in.) Until its turn a number is held back in the home, under `name`,
                  and the mean is 0 there. So few numbers say less in a call than those that `train` chooses
        With noise a call is charged to this home's account when its round begins, before anything leaves: as one full
        release of a site's arrays with noise multiplier noise/2. That protects whatever differs in the records behind
        them, and for a good mean it takes many sites; `train` protects each record at far less noise. Without noise
        nothing bounds what the mean tells of a site: it needs `privacy: none` in peers.yaml, and is charged as
        infinite.
        Numbers are rounded to the grid that the field in peers.yaml allows. A call whose mean was final when its
        process died is answered to the same call of the next one, at no charge. A call with a `step` that is made once
        more starts from what was held back before it, less all that it may have sent; a smaller step than the last one
        begins anew.
        Raises ArraysUnfit, PrivacyAgreed, PassWouldOverspend, ConfigurationDiffers, GaveUpWaiting, SumLeftBehind,
        SumMissed, SumBeyondLimit.
        """
        step = None if step is None else step_of(step)
        how, flat = Averaging(float(clip), noise, weights), await asyncio.to_thread(flatten, arrays)
        how.check()
        weight = how.weight_of(self.name)
        turn = await asyncio.to_thread(self._turn, name, flat, step)
        charged = how.charged_as(self.federation.privacy)
        await self.forget_answer(self._given)
        terms = ("average", name, clip, noise, weights, *(() if turn is None else (step,)))
        called = await self._call(terms, [flat.vector])
        draw, home, number = self.node.clocks.draw, self.node.home, step or 0
        noised = await asyncio.to_thread(how.noised, flat.vector, draw)
        feedback = None
        if turn is not None:
            feedback = await asyncio.to_thread(Feedback.of, home, name, flat.layout, number, turn, noised)

        def parts() -> list[Encoded]:
            peers, bits = len(self.federation.roster.members), self.federation.sharing.field
            values = (noised if feedback is None else feedback.values) * weight
            grid: dict[str, Any] = {"peers": peers, "bits": bits, "draw": draw, "turn": turn, "step": number}
            part = encode_average(values, flat.layout, how, **grid)
            if feedback is not None:
                feedback.settle(np.asarray(part.reading.read(part.words())) / weight)
            return [part]

        asked = Asked(name, (), 0, called=called, charge=cache(partial(self._charge, charged, feedback)))
        found = await self._sum(asked, parts, [])
        mean = np.asarray(found.totals[0], np.float64) / how.divisor(found.survivors)
        return flat.restore(mean if turn is None else turn.spread(mean, flat.vector.size))

    def _turn(self, name: str, flat: Flat, step: int | None) -> Turn | None:
        """What a call of that step sends; None: everything."""
        if step is None or self.federation.compression.method == "none":
            return None
        return Turn.of(self.federation.first, name, flat.layout, self.federation.compression.density, step)

    def _charge(self, charged: Privacy, feedback: Feedback | None) -> str:
        """ε of this home's records behind the call; and what the call holds back: both are durable."""
        node, run = self.node, training_run(self.federation)
        said = charge_release(replace(self.federation, privacy=charged), node.home, node.logs, run, node.observer)
        if feedback is not None:
            feedback.keep()
        return said
