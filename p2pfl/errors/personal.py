"""Layers that stay at home: what peers.yaml and a task, or a trainer, cannot agree on."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError


class PersonalFitsNothing(ConfigurationError):
    """local.personal names {prefix}, and no parameter of the task {task} has such a name."""

    code = "P2P-TRAIN-152"
    likely = (
        "attributes' names are meant: `head` for self.head = nn.Linear(…), `2` for the third layer of a Sequential",
        "the task's model was changed after peers.yaml was agreed",
    )
    command = "p2pfl peers show"


class NothingIsShared(ConfigurationError):
    """local.personal names every parameter of the task {task} that trains: the sites would train nothing together."""

    code = "P2P-TRAIN-153"
    likely = (
        "only the head is meant to stay at each site",
        "`trainable: head` trains the head alone, and the head is personal",
    )
    command = "p2pfl peers show"


class PersonalIsFrozen(ConfigurationError):
    """local.personal names {prefix}, and nothing of it trains in the task {task}."""

    code = "P2P-TRAIN-154"
    likely = (
        "what does not train does not travel: leave it out of local.personal",
        "the task's `trainable` leaves out the layers that were to be a site's own",
    )
    command = "p2pfl peers show"


class PersonalNotKept(ConfigurationError):
    """The sites agreed on layers that stay at home ({prefixes}), and what trains here cannot keep any."""

    code = "P2P-TRAIN-155"
    likely = (
        "a client of a site's own gives all of its arrays away: a Task in a file of Python keeps layers at home",
        "a trainer handed to `train_with` needs `personal` and `first_personal`, as p2pfl.training.local.Trainer has",
    )
    command = "p2pfl peers show"


class NoOwnLayers(ConfigurationError):
    """The home {path} has the model that all sites share, and no layers of its own yet ({prefixes})."""

    code = "P2P-TRAIN-164"
    likely = (
        "this site has not finished a pass of the training: a site that joins late has its own layers after its first",
        "the home was restored from a copy that lacks them",
    )
    command = "p2pfl status --home {path}"
