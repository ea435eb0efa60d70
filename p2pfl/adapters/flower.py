"""Flower's clients, unchanged: a NumPyClient, a client_fn, or a ClientApp of either message API.

This site plays the server's part for its own client alone: it hands over the model, takes what comes back, and what is
averaged with the other sites is the difference. `num_examples` goes nowhere. flwr is loaded late; of its server, its
link and its runtime nothing is used.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from p2pfl.adapters.algorithm import Algorithm, Arrays, Fitted, Judged, Settings
from p2pfl.errors.adapters import AdapterMissing, ClientUnusable

if TYPE_CHECKING:
    from flwr.app import Context, Message, RecordDict

KIND: Final = "flower"
ARRAYS, CONFIG, EXAMPLES = "arrays", "config", "num-examples"  # flwr's keys, as its strategies write them
ROUND: Final = "server-round"
DAY_S: Final = 86_400.0


def algorithm_of(found: Any, reference: str, node: Settings, run: Settings) -> Algorithm:
    """The client that `found` is. Raises AdapterMissing, ClientUnusable.

    node, run   flwr's node_config (partition-id, …) and run_config
    """
    try:
        from flwr.app import Context, RecordDict
        from flwr.client import NumPyClient
        from flwr.clientapp import ClientApp
    except ImportError as error:
        raise AdapterMissing(kind=KIND, package="'p2pfl-mesh[flower]'", evidence=str(error)) from None
    if isinstance(found, type) and issubclass(found, NumPyClient):
        found = found()
    if isinstance(found, NumPyClient):
        return NumPyAlgorithm(found, reference, run)
    context = Context(run_id=1, node_id=1, node_config=dict(node), state=RecordDict(), run_config=dict(run))
    if callable(found) and not isinstance(found, ClientApp | type):
        found = ClientApp(client_fn=found)
    if not isinstance(found, ClientApp):
        evidence = f"it is a {type(found).__name__}; a ClientApp, a NumPyClient or a client_fn is wanted"
        raise ClientUnusable(kind=KIND, reference=reference, evidence=evidence)
    legacy = getattr(found, "_call", None) is not None  # made of a client_fn: other records in its messages
    return (ClientFnAlgorithm if legacy else ClientAppAlgorithm)(found, reference, context, run)


class NumPyAlgorithm:
    """A NumPyClient; its arrays are called by their place."""

    kind = KIND

    def __init__(self, client: Any, reference: str, run: Settings) -> None:
        self.reference, self._client, self._run = reference, client, dict(run)

    def _config(self, number: int) -> dict[str, Any]:
        return {**self._run, ROUND: number}

    def first(self) -> Arrays:
        """What its `get_parameters` gives."""
        return _named(self._client.get_parameters(self._config(0)))

    def fit(self, arrays: Arrays, number: int) -> Fitted:
        """As flwr calls it."""
        found, _, metrics = self._client.fit(list(arrays.values()), self._config(number))
        return Fitted(_named(found), metrics)

    def evaluate(self, arrays: Arrays, number: int) -> Judged:
        """Its metrics, and the loss as `loss`."""
        loss, examples, metrics = self._client.evaluate(list(arrays.values()), self._config(number))
        return Judged(int(examples), {"loss": float(loss), **metrics})

    def finish(self) -> None:
        """A NumPyClient has no end."""


class ClientAppAlgorithm:
    """A ClientApp whose functions are registered by @app.train() and @app.evaluate()."""

    kind = KIND

    def __init__(self, app: Any, reference: str, context: Context, run: Settings) -> None:
        self.reference, self._app, self._context, self._run = reference, app, context, dict(run)

    def _reply(self, what: str, content: RecordDict) -> RecordDict:
        """What the app answers to a message of that type. Raises ClientUnusable when it answers an error."""
        from flwr.app import Message, Metadata

        metadata = Metadata(
            run_id=1,
            message_id="",
            src_node_id=0,
            dst_node_id=self._context.node_id,
            reply_to_message_id="",
            group_id="",
            created_at=time.time(),
            ttl=DAY_S,
            message_type=what,
        )
        reply: Message = self._app(Message(metadata=metadata, content=content), self._context)
        if not reply.has_content():
            self._refuse(f"it answered {what} with the error {reply.error.code}")
        return reply.content

    def _refuse(self, evidence: str) -> None:
        raise ClientUnusable(kind=KIND, reference=self.reference, evidence=evidence)

    def _content(self, arrays: Arrays, number: int) -> RecordDict:
        from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

        held = ArrayRecord(array_dict={name: Array(np.array(one, order="C")) for name, one in arrays.items()})
        return RecordDict({ARRAYS: held, CONFIG: ConfigRecord({**self._run, ROUND: number})})

    def first(self) -> Arrays:
        """A ClientApp has no arrays before it gets some. Raises ClientUnusable."""
        self._refuse("a ClientApp begins with the arrays that it gets: write them to a file, and name it by --first")
        return {}

    def fit(self, arrays: Arrays, number: int) -> Fitted:
        """A message of type train; its answer holds one ArrayRecord."""
        content = self._reply("train", self._content(arrays, number))
        records = list(content.array_records.values())
        if len(records) != 1:
            self._refuse(f"its answer to train holds {len(records)} ArrayRecords, and one is wanted")
        return Fitted({name: array.numpy() for name, array in records[0].items()}, _metrics(content))

    def evaluate(self, arrays: Arrays, number: int) -> Judged:
        """A message of type evaluate."""
        metrics = _metrics(self._reply("evaluate", self._content(arrays, number)))
        return Judged(int(metrics.pop(EXAMPLES, 1)), {name: float(one) for name, one in metrics.items()})

    def finish(self) -> None:
        """A ClientApp has no end."""


class ClientFnAlgorithm(ClientAppAlgorithm):
    """A ClientApp made of a client_fn, which speaks flwr's older records."""

    def first(self) -> Arrays:
        """What its client's `get_parameters` gives."""
        from flwr.compat.common import recorddict_compat as compat
        from flwr.compat.common.typing import GetParametersIns

        content = self._reply("get_parameters", compat.getparametersins_to_recorddict(GetParametersIns({})))
        return _ndarrays(compat.recorddict_to_getparametersres(content, keep_input=False).parameters)

    def fit(self, arrays: Arrays, number: int) -> Fitted:
        """Its client's `fit`."""
        from flwr.compat.common import recorddict_compat as compat
        from flwr.compat.common.typing import FitIns

        asked = FitIns(_parameters(arrays), {**self._run, ROUND: number})
        content = self._reply("train", compat.fitins_to_recorddict(asked, keep_input=False))
        found = compat.recorddict_to_fitres(content, keep_input=False)
        return Fitted(_ndarrays(found.parameters), found.metrics)

    def evaluate(self, arrays: Arrays, number: int) -> Judged:
        """Its client's `evaluate`; the loss is `loss`."""
        from flwr.compat.common import recorddict_compat as compat
        from flwr.compat.common.typing import EvaluateIns

        asked = EvaluateIns(_parameters(arrays), {**self._run, ROUND: number})
        content = self._reply("evaluate", compat.evaluateins_to_recorddict(asked, keep_input=False))
        found = compat.recorddict_to_evaluateres(content)
        return Judged(int(found.num_examples), {"loss": float(found.loss), **found.metrics})


def _metrics(content: RecordDict) -> dict[str, Any]:
    """The numbers of its MetricRecords; lists are left out."""
    return {
        name: value
        for record in content.metric_records.values()
        for name, value in record.items()
        if isinstance(value, int | float)
    }


def _named(found: Any) -> Arrays:
    return {str(place): np.asarray(array) for place, array in enumerate(found)}


def _parameters(arrays: Mapping[str, Any]) -> Any:
    from flwr.common import ndarrays_to_parameters

    return ndarrays_to_parameters(list(arrays.values()))


def _ndarrays(parameters: Any) -> Arrays:
    from flwr.common import parameters_to_ndarrays

    return _named(parameters_to_ndarrays(parameters))
