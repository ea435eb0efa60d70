"""Privacy units: what hinders that a patient's records are protected as one, and that a look at them is private."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError


class PatientsUnknown(ConfigurationError):
    """The sites protect patients, `privacy.unit: patient`, and {source} does not say whose each record is."""

    code = "P2P-TRAIN-140"
    likely = (
        "the task names no patient: `patient: COLUMN` in a table's description, `patient: folder` in one of scans",
        "the CSV of the scans has no column `patient`",
        "a task of your own: give its dataset a method `patient(row)`",
    )
    command = "p2pfl peers show"


class PatientMissing(ConfigurationError):
    """{source} holds records that name no patient, so nothing says which of them are of one."""

    code = "P2P-TRAIN-141"
    likely = ("a blank cell in the column of patients", "a file that lies above the patients' folders")
    command = "p2pfl join --peers peers.yaml --data DATA --check"


class UnitsMixed(ConfigurationError):
    """These records were spent with the unit {before}; this study protects the unit {unit}."""

    code = "P2P-TRAIN-142"
    likely = (
        "another study of this home trained on them: what it spent of a record says nothing of a patient with several",
        "other records: a data set that no study of another unit has used",
    )
    command = "p2pfl status"


class MeasureNotPrivate(ConfigurationError):
    """The sites agreed to measure with noise, and a measure of {task} has no bound that noise could hide."""

    code = "P2P-TRAIN-143"
    likely = (
        "a measure of numbers, of voxels or of times to an event: there are private ones of classes alone",
        "a measure of your own without a method `private`",
    )
    command = "p2pfl peers show"


class LooksOverspend(ConfigurationError):
    """The looks that the sites agreed on would spend ε = {spent} of each held-out record; the limit is {limit}."""

    code = "P2P-TRAIN-144"
    likely = ("fewer looks, `measures.looks`", "more noise, `measures.noise_multiplier`")
    command = "p2pfl peers show"
