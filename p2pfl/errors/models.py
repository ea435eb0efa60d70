"""Model files: what a file that somebody hands on can get wrong, and what cannot be made of one."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, IntegrityError, LocalFault


class ModelFileBroken(ConfigurationError):
    """{source} is no safetensors file of a model that can be used."""

    code = "P2P-TRAIN-120"
    likely = ("the file was cut or altered on the way", "another program wrote it", "it was made to do harm")
    command = "sha256sum {source}"


class CardUnfit(ConfigurationError):
    """What {source} says of its model does not fit."""

    code = "P2P-TRAIN-121"
    likely = ("the file was altered", "a later version of p2pfl wrote it", "its tensors are those of another model")
    command = "p2pfl model show {source}"


class NoCard(ConfigurationError):
    """{source} does not say what its model is of."""

    code = "P2P-TRAIN-122"
    likely = ("another program wrote it", "its metadata was lost in a conversion")
    command = "p2pfl predict --model {source} --peers peers.yaml --data new.csv"


class NotTheLedgersModel(IntegrityError):
    """The model in {path} is not the one that its ledger names."""

    code = "P2P-TRAIN-123"
    likely = (
        "a training is under way: try again after its round",
        "the newest model is still to be fetched: join again",
    )
    command = "p2pfl status --home {path}"


class OtherTraining(ConfigurationError):
    """The ledger in {path} is not of the training that {peers_file} describes."""

    code = "P2P-TRAIN-124"
    likely = ("a peers.yaml of another federation is named", "the home is that of another study")
    command = "p2pfl peers show {peers_file}"


class NotLinear(ConfigurationError):
    """The model in {source} has no weight for each input of its own."""

    code = "P2P-TRAIN-125"
    likely = ("it is a neural network: its hidden units have weights, and its columns none", "it is not of a table")
    command = "p2pfl model show {source}"


class NotExportable(ConfigurationError):
    """This model cannot be written as ONNX; nothing was written."""

    code = "P2P-TRAIN-126"
    likely = (
        "an operation that ONNX does not have",
        "its task is in Python: call p2pfl.training.model.onnx_export.as_onnx",
    )
    command = "p2pfl model export -o model.safetensors"


class OnnxExtraMissing(LocalFault):
    """Writing ONNX needs the package {package}."""

    code = "P2P-TRAIN-127"
    exit_status = 2
    likely = ("p2pfl was installed without the extra [onnx]",)
    command = "pip install {package}"


class PredictionsAreNoMasks(ConfigurationError):
    """What this model says of a record is no mask, so --masks has nothing to write."""

    code = "P2P-TRAIN-150"
    likely = ("it was trained on a table or on images, not on volumes", "the task's dataset has no mask_file and name")
    command = "p2pfl predict --data NEW"


class TaskNotDescribed(ConfigurationError):
    """{source} is a model of the task {task}, which its card names and does not describe."""

    code = "P2P-TRAIN-172"
    likely = (
        "it reads images or volumes: peers.yaml describes how",
        "it is of a task in Python, or of a client: the program that trained it also predicts",
    )
    command = "p2pfl predict --model {source} --peers peers.yaml --data NEW"


class TaskNotNamed(ConfigurationError):
    """The model in {source} needs code, the class {cls} of {file}, which is never run unless you name your own copy."""

    code = "P2P-TRAIN-128"
    likely = ("the study's task is a file in Python: get it from a site that you trust, and read it",)
    command = "p2pfl predict --model {source} --task {file} --data new"


class PredictionsNotFinite(LocalFault):
    """What the model says of a record of {path} is no finite number, so nothing is said of any."""

    code = "P2P-TRAIN-176"
    likely = (
        "a value in the records is far beyond those that the columns are scaled by",
        "the model is one that training gave up on: its numbers grew without bound",
    )
    command = "p2pfl task check --help"
