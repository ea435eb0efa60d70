"""Adapters: what a client that a site brings of its own got wrong, and averages of arrays."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalFault


class ClientUnusable(ConfigurationError):
    """{reference} is no {kind} client that can be run here."""

    code = "P2P-TRAIN-100"
    likely = (
        "it is mistyped: MODULE:NAME names an object of a module in this folder, as in client:app",
        "the module imports a package that is not installed in this Python",
    )
    command = "p2pfl run --help"


class ClientFailed(LocalFault):
    """The {kind} client {reference} failed when it was asked to {what}."""

    code = "P2P-TRAIN-101"
    likely = (
        "a fault in the client's own code, at the place that the evidence names",
        "it needs settings that it was not given: --node-config, --run-config",
    )
    command = "p2pfl run --help"


class ClientArraysUnfit(ConfigurationError):
    """The arrays of the {kind} client {reference} are not those that the sites train."""

    code = "P2P-TRAIN-102"
    likely = (
        "another version of the client's model than the one of the first model's file",
        "it returns what is not numbers, or numbers that are not finite",
    )
    command = "p2pfl peers show"


class FirstModelUnfit(ConfigurationError):
    """{path} is not the first model that the sites agreed on."""

    code = "P2P-TRAIN-103"
    likely = ("it was made anew, by another run: copy the file of the site that made peers.yaml", "it was cut")
    command = "sha256sum {path}"


class TaskIsAClient(ConfigurationError):
    """The sites agreed that each trains a {kind} client of its own: run it with p2pfl run --{kind}."""

    code = "P2P-TRAIN-104"
    likely = ("another command was meant", "peers.yaml is that of another study")
    command = "p2pfl run --help"


class NoClientAgreed(ConfigurationError):
    """The sites did not agree to train {kind} clients."""

    code = "P2P-TRAIN-105"
    likely = ("another command was meant: p2pfl join", "peers.yaml was made without --client")
    command = "p2pfl peers show"


class AdapterMissing(LocalFault):
    """Running a {kind} client needs the package {package}."""

    code = "P2P-TRAIN-106"
    exit_status = 2
    likely = ("p2pfl was installed without the extra for it", "it is installed in another Python")
    command = "pip install {package}"


class ArraysUnfit(ConfigurationError):
    """These arrays cannot be averaged."""

    code = "P2P-TRAIN-107"
    likely = (
        "there are none, or they hold what is no number or not finite",
        "a clip, a noise or a weight is not above 0, or a step no whole number from 0 on",
    )
    command = "p2pfl help"


class PrivacyAgreed(ConfigurationError):
    """Arrays without noise were to be averaged, and peers.yaml does not say `privacy: none`."""

    code = "P2P-TRAIN-108"
    likely = (
        "noise=… was forgotten",
        "sums over changing sites tell what a site put in: all must agree to that, by --set privacy=none",
    )
    command = "p2pfl peers show"
