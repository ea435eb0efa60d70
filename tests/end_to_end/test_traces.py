"""A real training, traced: no record, label, identifier or file's name is in what a site sends, prints or leaves on a
disk, and the process that sees the records opens no network.

Three processes train on records of values that nothing else holds. Of each the plaintext of its links is kept
before TLS takes it; whatever lies outside of the folder of records is read afterwards. One site leaks in each of these
ways, so each check is seen to find what it looks for. `strace` shows the rest, where the machine has it.
"""

from __future__ import annotations

import base64
import json
import struct
import sys
from pathlib import Path

import pytest

from tests.cli.sites import Sites
from tests.end_to_end.processes import Ended, Process
from tests.end_to_end.traces import (
    TRACED,
    Traced,
    can_trace,
    files_below,
    forms_of_bytes,
    forms_of_numbers,
    forms_of_text,
    found_in,
)

NAMES = ("ada", "ben", "cyd")
LEAKS = "cyd"  # the site that does what none may
TASK = b"""\
columns:
  age: {number: years, low: 0, high: 200, centre: 50, scale: 30}
  dose: {number: mg, low: 0, high: 900, centre: 400, scale: 250}
label:
  HbA1c: {number: mmol/mol, low: 10, high: 200, centre: 40, scale: 10}
model: linear
learning_rate: 0.01
expected_batch: 2.0
patient: who
"""
SETTINGS = ("rounds=1", "privacy.steps_per_round=3", "privacy.sample_rate=0.5", "privacy.max_epsilon=90.0")
FILE = "KANARIENBEFUND.csv"  # of the records, in every site's own folder
SEARCHED = 12  # records of each site


def row(site: int, number: int) -> tuple[float, float, float]:
    """Age, dose and label of a record: seven digits behind the point that are no other record's."""
    step = 0.0137191 * number + 0.0013739 * site
    return round(31.7372817 + 7 * step, 7), round(173.9182731 + 11 * step, 7), round(41.2937173 + 3 * step, 7)


def patient(site: int, number: int) -> str:
    return f"KANARIE-{NAMES[site]}-{number:04d}"


def csv(site: int) -> bytes:
    rows = (",".join([*(f"{one:.7f}" for one in row(site, at)), patient(site, at)]) for at in range(40))
    return "\n".join(["age,dose,HbA1c,who", *rows, ""]).encode()


def canaries(site: int) -> dict[str, list[bytes]]:
    """Every form of what no other process may see."""
    found = {"the file": list(forms_of_text(FILE))}
    for at in range(SEARCHED):
        age, dose, label = row(site, at)
        inputs, target = ((age - 50) / 30, (dose - 400) / 250), (label - 40) / 10
        _, _, next_label = row(site, at + 1)
        numbers = [*forms_of_numbers(age, dose), *forms_of_numbers(label), *forms_of_numbers(age, dose, label)]
        found[f"record {at}"] = [*numbers, *forms_of_numbers(*inputs)]
        targets = (target, (next_label - 40) / 10)
        found[f"label {at}"] = [*forms_of_numbers(*targets), *forms_of_numbers(label, next_label)]
        found[f"patient {at}"] = list(forms_of_text(patient(site, at)))
    return found


class Training:
    """A training that is over: what each site said, and what it left."""

    def __init__(self, folder: Path) -> None:
        (folder / "task.yaml").write_bytes(TASK)
        files = {name: csv(at) for at, name in enumerate(NAMES)}
        self.sites = Sites(folder, *SETTINGS, files=files, task=str(folder / "task.yaml"))
        self.folder, self.why_untraced = folder, can_trace()
        started = [self._started(name) for name in NAMES]
        try:
            self.ended: dict[str, Ended] = {one.name: one.end() for one in started}
        finally:
            for one in started:
                one.kill()

    def _started(self, name: str) -> Process:
        own = self.folder / name
        for inner in ("data", "run", "tmp"):
            (own / inner).mkdir(mode=0o700)
        (own / "records.csv").rename(own / "data" / FILE)
        joins = ["join", *self.sites.common(name), "--data", str(own / "data" / FILE), "--log", str(own / "log.jsonl")]
        leak = json.dumps(self.leak()) if name == LEAKS else ""
        command = [sys.executable, "-m", "tests.end_to_end.tapped", str(self.folder / f"{name}.tap"), leak, *joins]
        command += ["--log-level", "debug"]
        if name == NAMES[0] and not self.why_untraced:
            trace = ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "4", "-e", f"trace={TRACED}"]
            command = [*trace, "-o", str(self.folder / "ada.trace"), *command]
        places = {"TMPDIR": own / "tmp", "XDG_RUNTIME_DIR": own / "run", "HOME": own}
        environment = {key: str(place) for key, place in places.items()} | {"PYTHONDONTWRITEBYTECODE": "1"}
        return Process(name, command, environment, lambda process: None)

    @staticmethod
    def leak() -> dict[str, object]:
        """Of its records: what tapped.py plants."""
        age, _, label = row(2, 3)
        return {
            "numbers": [age, label],
            "text": f"{patient(2, 5)} was read",
            "file": struct.pack(">d", row(2, 7)[1]).hex(),
        }

    def sent(self, name: str) -> dict[str, bytes]:
        return {"what was sent": (self.folder / f"{name}.tap").read_bytes()}

    def said(self, name: str) -> dict[str, bytes]:
        ended = self.ended[name]
        return {"stdout": "\n".join(ended.out).encode(), "stderr": "\n".join(ended.said).encode()}

    def left(self, name: str) -> dict[str, bytes]:
        return files_below(self.folder / name, self.folder / name / "data")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    made = Training(tmp_path_factory.mktemp("traces"))
    assert [one.status for one in made.ended.values()] == [0, 0, 0], [one.text for one in made.ended.values()]
    return made


@pytest.mark.claim("TASK-10")
@pytest.mark.parametrize("where", ["sent", "said", "left"])
def test_nothing_of_a_record_or_its_file_leaves_the_folder_of_the_records(training: Training, where: str) -> None:
    for at, name in enumerate(NAMES):
        if name != LEAKS:
            assert found_in(getattr(training, where)(name), canaries(at)) == []
    assert len(training.sent("ada")["what was sent"]) > 5000, "there was something to look at"
    assert any(place.endswith("log.jsonl") for place in training.left("ada"))


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("sent", {"record 3 in what was sent", "label 3 in what was sent"}),
        ("said", {"patient 5 in stderr"}),
        ("left", {"record 7 in "}),
    ],
)
def test_what_a_site_does_leak_is_found(training: Training, where: str, what: set[str]) -> None:
    """In the name of its process, on its screen, in its temporary folder."""
    found = found_in(getattr(training, where)(LEAKS), canaries(NAMES.index(LEAKS)))
    assert all(any(one.startswith(each) for one in found) for each in what), found
    named = {each.partition(" in ")[0] for each in what}
    assert {one.partition(" in ")[0] for one in found} <= named | {"label 2", "label 3"}, "and nothing else of it"


@pytest.mark.claim("TASK-10")
def test_the_process_that_sees_the_records_opens_no_network_and_writes_little(
    training: Training,
) -> None:
    if training.why_untraced:
        pytest.skip(training.why_untraced)
    traced = Traced.of((training.folder / "ada.trace").read_text(errors="replace").splitlines())
    assert traced.tasks and traced.calls[True] > 10, "it was traced, and all its threads"
    assert traced.sockets[True] == []
    assert any("AF_INET" in one for one in traced.sockets[False]), "those of the site beside it are seen"
    own, device = str(training.folder / "ada"), ("/dev/", "/proc/self/")
    for is_task, within in ((True, f"{own}/tmp/p2pfl-task-"), (False, f"{own}/")):
        outside = {path for path in traced.written[is_task] if not path.startswith((within, *device))}
        assert outside - {str(training.folder / "ada.tap")} == set()
    assert any(path.startswith(f"{own}/home/") for path in traced.written[False]), "what it does write is seen"


def test_a_canary_is_found_in_every_form_and_at_every_place() -> None:
    forms = {"it": list(forms_of_bytes(b"\x01canary\xff"))}
    assert found_in({"raw": b"..\x01canary\xff.."}, forms) == ["it in raw"]
    for shift in range(6):
        for coded in (base64.b64encode, base64.urlsafe_b64encode):
            text = coded(bytes(range(shift)) + b"\x01canary\xff" + b"behind it")
            assert found_in({"base64": text}, forms) == ["it in base64"], shift
    numbers = {"it": list(forms_of_numbers(61.7372817, 2.5))}
    for text in (b"a 61.7372817 b", struct.pack(">d", 61.7372817), struct.pack("<2f", 61.7372817, 2.5)):
        assert found_in({"there": text}, numbers) == ["it in there"]
    assert found_in({"there": struct.pack("<f", 61.7372817)}, numbers) == [], "four bytes may be anything"
