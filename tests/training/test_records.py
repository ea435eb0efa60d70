"""Records are read when they are needed, held to one shape, and split by whose they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from p2pfl.errors.training import RecordMisfit
from p2pfl.keys import Secret
from p2pfl.training.local import Trainer
from p2pfl.training.models import device_of
from p2pfl.training.private_check import check_private
from p2pfl.training.records.records import Arrays, Records, SiteRecords, hold_out
from tests.training.settings import PRIVACY, Small, identities, read, records, site

KEY = Secret(bytes(range(32)))


@dataclass
class Folder:
    """A map-style dataset as a user writes one: each item is read when it is asked for."""

    items: list[tuple[np.ndarray, int]]
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        self.asked.append(row)
        return self.items[row]


class Scans(Folder):
    """The same, with a name for each record and a patient for each two."""

    def identity(self, row: int) -> bytes:
        return f"scan {row}".encode()

    def patient(self, row: int) -> bytes:
        return f"patient {row // 2}".encode()


def scans(count: int) -> list[tuple[np.ndarray, int]]:
    return [(np.full((1, 2, 2), row, np.float32), row % 2) for row in range(count)]


def test_a_batch_reads_its_own_records_and_no_other() -> None:
    folder = Scans(scans(100))
    split = hold_out(Records(folder), KEY)
    assert folder.asked == [], "identities and patients are known without reading a scan"
    x, y = split.train.batch(np.array([2, 0]))
    assert (x.shape, x.dtype, y.dtype) == ((2, 1, 2, 2), np.dtype(np.float32), np.dtype(np.int64))
    assert len(folder.asked) == 2 and x[:, 0, 0, 0].tolist() == folder.asked


def test_a_torch_dataset_is_one_as_it_is() -> None:
    tensors = torch.utils.data.TensorDataset(torch.arange(80.0).reshape(40, 2), torch.arange(40) % 2)
    split = hold_out(Records(tensors), KEY)
    assert len(split.train) + len(split.held_out) == 40
    assert read(split.train)[0].shape == (len(split.train), 2)
    assert len(set(identities(split.train) + identities(split.held_out))) == 40, "named by what they hold"


def test_all_records_of_a_patient_are_on_one_side() -> None:
    split = hold_out(Records(Scans(scans(200))), KEY)
    of = [{name.split()[1] for name in identities(part)} for part in (split.train, split.held_out)]
    halves = [{int(number) // 2 for number in part} for part in of]
    assert halves[0] and halves[1] and not halves[0] & halves[1]


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ((np.zeros((1, 2, 3), np.float32), 1), "record 3: its input is (1, 2, 3) of float32"),
        ((np.zeros((1, 2, 2), np.float64), 1), "record 3: its input is (1, 2, 2) of float64"),
        ((np.zeros((1, 2, 2), np.float32), np.array([1, 0])), "record 3: its label is (2,)"),
        ((np.full((1, 2, 2), np.nan, np.float32), 1), "record 3: its input holds a number that is not finite"),
        ((np.full((1, 2, 2), np.inf, np.float32), 1), "record 3: its input holds a number that is not finite"),
    ],
)
def test_a_record_unlike_the_others_is_named_and_its_values_are_not(odd: tuple[np.ndarray, int], told: str) -> None:
    folder = Folder([*scans(2), odd])
    with pytest.raises(RecordMisfit) as caught:
        Records(folder, "scans").batch(np.arange(3))
    assert told in caught.value.evidence and "scans" in caught.value.happened


def test_a_dataset_that_changes_its_length_is_refused() -> None:
    folder = Folder(scans(3))
    of = Records(folder, "scans")
    folder.items.pop()
    with pytest.raises(RecordMisfit, match="scans") as caught:
        of.batch(np.array([0]))
    assert "had 3 records at start, and has 2" in caught.value.evidence


@pytest.mark.claim("DP-1")
@pytest.mark.parametrize("part", ["input", "label"])
@pytest.mark.parametrize("given", ["two rows each", "a row too few", "no rows at all"])
def test_a_dataset_that_gives_another_number_of_rows_than_records_is_refused(part: str, given: str) -> None:
    """Each row is clipped by itself: of two a record would move the sum by twice the clip, at the charge of one."""

    class Odd(Arrays):
        def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            x, y = super().batch(rows)
            whole = x if part == "input" else y
            given_as = {"two rows each": whole.repeat(2, 0), "a row too few": whole[1:], "no rows at all": whole.sum()}
            odd = np.asarray(given_as[given])
            return (odd, y) if part == "input" else (x, odd)

    x, y = read(records(40, (4,)))
    with pytest.raises(RecordMisfit) as caught:
        Records(Odd(x, y, [b""] * 40)).batch(np.array([3, 5, 7]))
    assert f"`batch` gives {part}s of shape" in caught.value.evidence and "3 records" in caught.value.evidence


@pytest.mark.claim("DP-1")
def test_a_step_is_refused_where_a_record_has_more_than_one_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Trainer(task=Small(), site=site(40, (4,)), privacy=PRIVACY)
    one = Records.batch

    def twice(self: Records, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return one(self, np.repeat(rows, 2))

    made._gradients(np.array([0, 1]))
    monkeypatch.setattr(Records, "batch", twice)
    with pytest.raises(ValueError, match="gradient for each record"):
        made._gradients(np.array([0, 1]))


def test_a_number_that_is_not_finite_ends_the_check_at_start_and_no_pass() -> None:
    x, y = read(records(40, (4,)))
    x[1, 2] = np.nan
    with pytest.raises(RecordMisfit):
        check_private(Small(), Small().model(), Records(Arrays(x, y, [b""] * 40)), device_of("cpu"))


def test_a_trainer_reads_only_what_it_samples() -> None:
    class Counted(Folder):
        pass

    items = [(x, int(label)) for x, label in zip(*read(records(400, (4,))), strict=True)]
    folder = Counted(items)
    made = Trainer(task=Small(), site=SiteRecords(Records(folder), site(8, (4,)).held_out), privacy=PRIVACY)
    assert len(set(folder.asked)) <= 3, "the dummy step takes three"
    folder.asked.clear()
    made._gradients(np.array([7, 300]))
    assert folder.asked == [7, 300]
