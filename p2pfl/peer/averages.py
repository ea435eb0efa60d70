"""The mean of every site's arrays, for whoever brings a trainer of their own: `Peer.average`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from p2pfl.federation.federation import Privacy
from p2pfl.node.runs.averages import Averaging, encode_average, flatten
from p2pfl.node.runs.passes import charge_release
from p2pfl.node.runs.sums import Asked, Encoded
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
    ) -> Any:
        """The mean of every site's arrays, in the structure of `arrays`, the same bits at every site.

        arrays    one numpy array or torch tensor, or a list or dict of them: weights, or an update; the same structure
                  and shapes at all sites
        clip      L2 norm of all of a site's arrays together; longer ones are shrunk to it. Equal at all sites
        noise     each site adds Gaussian noise of standard deviation noise·clip to every number of its own, before it
                  leaves; equal at all sites
        weights   public, by site's name, equal at all sites; by default all count the same
        With noise a call is charged to this home's account when its round begins, before anything leaves: as one full
        release of a site's arrays with noise multiplier noise/2. That protects whatever differs in the records behind
        them, and for a good mean it takes many sites; `train` protects each record at far less noise. Without noise
        nothing bounds what the mean tells of a site: it needs `privacy: none` in peers.yaml, and is charged as
        infinite.
        Numbers are rounded to the grid that the field in peers.yaml allows. A call whose mean was final when its
        process died is answered to the same call of the next one, at no charge.
        Raises ArraysUnfit, PrivacyAgreed, PassWouldOverspend, ConfigurationDiffers, GaveUpWaiting, SumLeftBehind,
        SumMissed, SumBeyondLimit.
        """
        how, flat = Averaging(float(clip), noise, weights), await asyncio.to_thread(flatten, arrays)
        how.check()
        how.weight_of(self.name)
        charged = how.charged_as(self.federation.privacy)
        await self.forget_answer(self._given)
        called = await self._call(("average", name, clip, noise, weights), [flat.vector])
        draw = self.node.clocks.draw
        values = await asyncio.to_thread(how.prepared, flat.vector, self.name, draw)

        def parts() -> list[Encoded]:
            peers, bits = len(self.federation.roster.members), self.federation.sharing.field
            return [encode_average(values, flat.layout, how, peers=peers, bits=bits, draw=draw)]

        found = await self._sum(
            Asked(name, (), 0, called=called, charge=cache(partial(self._charge, charged))), parts, []
        )
        return flat.restore(np.asarray(found.totals[0], np.float64) / how.divisor(found.survivors))

    def _charge(self, charged: Privacy) -> str:
        """ε of this home's records behind the call, durable."""
        node, run = self.node, training_run(self.federation)
        return charge_release(replace(self.federation, privacy=charged), node.home, node.logs, run, node.observer)
