"""Who may import whom, what no file may do, and that asking for help loads no torch: one table against the source."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import NEEDS, need
from tests.examples import scaled, seeds

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "p2pfl"
FILES = sorted(PACKAGE.rglob("*.py"))
WRITTEN = [ROOT / "Makefile", *ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md")] + [
    file
    for folder in ("p2pfl", "tests", "benchmarks", "docs", "tools", "deploy")
    for file in sorted((ROOT / folder).rglob("*"))
    if file.suffix in (".py", ".md", ".sh", ".svg", ".toml", ".yaml", ".yml")
]

# The architecture, place by place. A place is a package or a loose file of p2pfl/; it imports from the floors below.
# Each row holds what the code does, no more and no less: a new arrow is a new word here, and is seen in review.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "roster", "keys", "codec", "merkle", "clocks", "files", "_version"),
    ("messages", "home", "federation"),
    ("sharing", "mesh", "training", "ledger", "statistics"),
    ("adapters", "dashboard", "node", "report", "simulate"),
    ("peer",),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
INNER: dict[str, str] = {
    "errors": "",
    "roster": "",
    "keys": "",
    "codec": "",
    "merkle": "",
    "clocks": "",
    "files": "",
    "_version": "",
    "messages": "codec keys roster",
    "home": "codec errors files keys",
    "federation": "codec errors files keys roster",
    "sharing": "codec errors federation keys merkle messages roster",
    "mesh": "clocks errors files keys roster",
    "training": "codec errors federation files keys",
    "ledger": "codec errors federation home keys merkle roster",
    "statistics": "errors",
    "adapters": "codec errors federation files keys training",
    "node": "_version clocks codec errors federation home keys ledger mesh messages roster sharing statistics training",
    "dashboard": "",
    "report": "codec home keys ledger",
    "simulate": "codec errors federation keys messages roster sharing training",
    "peer": "clocks errors federation home ledger mesh node roster statistics training",
    "__init__": "_version federation peer simulate training",
    "cli": "_version adapters clocks codec dashboard errors federation files home keys ledger mesh messages node peer "
    "report roster sharing simulate statistics training",
    "__main__": "cli",
}
# Of a place on the floor below, these see one file alone: who takes part, and how that changes.
ONLY_THIS: dict[tuple[str, str], set[str]] = {
    ("sharing", "federation"): {"federation.membership"},
    ("ledger", "federation"): {"federation.membership"},
}
THIRD_PARTY: dict[str, str] = {
    "keys": "cryptography mnemonic",
    "codec": "msgpack",
    "home": "cryptography mnemonic",
    "federation": "yaml",
    "sharing": "blake3 cryptography numpy",
    "mesh": "cryptography zmq",
    "training": "PIL cryptography monai nibabel numpy onnxruntime opacus pydicom safetensors torch",
    "ledger": "cryptography",
    "statistics": "numpy scipy",
    "report": "jinja2 markupsafe matplotlib",
    "dashboard": "jinja2 markupsafe starlette uvicorn",
    "simulate": "matplotlib numpy",
    "adapters": "flwr monai numpy sklearn",
    "node": "numpy",
    "peer": "numpy pandas torch",
    "cli": "click numpy prometheus_client rich",
}
# Within a place, one file alone may touch these.
ONE_FILE = {"yaml": "federation/strict_yaml.py", "blake3": "sharing/digests.py", "prometheus_client": "cli/metrics.py"}
# Standard modules that only some places may touch.
ONLY = {
    "ssl": "mesh",
    "socket": "mesh training cli dashboard",  # of one pair to the task's process; the demo looks for free ports
    "asyncio": "mesh node peer cli simulate dashboard",
    "time": "clocks mesh training adapters node peer cli simulate dashboard",
    "datetime": "mesh training ledger node cli",  # the ledger prints times that it is given
    "subprocess": "home training cli",  # a key command; the task's process; the demo's peers
    "threading": "mesh training node peer cli home",  # a pass is stopped from another thread; several write to a home
    "random": "simulate training",  # its state is set and put back where an augmentation is tried
    "secrets": "",
    "fcntl": "home training",  # its lock; that of the folder of a task's process
    "os": "clocks files home federation mesh training adapters node peer cli",
}
# An auditor is handed one file that holds the whole of the check; it is still one that can be read in an hour.
LONGER = {"ledger/auditor.py": 520}
NOWHERE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def place(file: Path) -> str:
    """The package or loose file that `file` belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def imports(file: Path) -> set[str]:
    """Dotted names that `file` imports anywhere, also inside functions; `if TYPE_CHECKING` counts too."""
    found: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides where it points"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def file_of(dotted: str) -> str:
    """The file of this package that a dotted name without its `p2pfl.` points into, dotted; "" for a package itself."""
    parts = dotted.split(".")
    candidates = (parts[:end] for end in range(len(parts), 0, -1))
    return next((".".join(one) for one in candidates if PACKAGE.joinpath(*one).with_suffix(".py").is_file()), "")


def inner(where: str) -> dict[str, set[str]]:
    """By place that `where` imports, the files of it that are named."""
    found: dict[str, set[str]] = {}
    for file in FILES:
        for name in imports(file) if place(file) == where else ():
            other = name.removeprefix("p2pfl.").split(".")[0]
            if name.startswith("p2pfl.") and other in INNER and other != where:
                found.setdefault(other, set()).add(file_of(name.removeprefix("p2pfl.")))
    return found


def third_party(file: Path) -> set[str]:
    top = {name.split(".")[0] for name in imports(file)}
    return {name for name in top if name not in sys.stdlib_module_names and name not in ("p2pfl", "__future__")}


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(PACKAGE)) for file in files]


@pytest.mark.parametrize("where", INNER)
def test_each_place_imports_the_places_of_its_row_and_no_other(where: str) -> None:
    found = inner(where)
    assert set(found) == set(INNER[where].split())
    for other, files in found.items():
        assert files - {""} <= ONLY_THIS.get((where, other), files)


def test_arrows_point_down_and_places_of_one_floor_never_import_one_another() -> None:
    floor = {where: level for level, places in enumerate(FLOORS) for where in places}
    upward = [(where, other) for where, row in INNER.items() for other in row.split() if floor[other] >= floor[where]]
    assert upward == []
    assert floor.keys() == INNER.keys() == {place(file) for file in FILES}


@pytest.mark.parametrize("where", INNER)
def test_packages_within_a_place_import_one_another_in_no_circle(where: str) -> None:
    """What lies loose in a place is apart: it joins its packages, and they stand on it."""
    packages: dict[str, set[str]] = {}
    for file in FILES:
        parts = file.relative_to(PACKAGE).parts
        if parts[0] == where and len(parts) > 2:
            others = (name.split(".") for name in imports(file) if name.startswith(f"p2pfl.{where}."))
            known = {name[2] for name in others if PACKAGE.joinpath(where, name[2]).is_dir()}
            packages.setdefault(parts[1], set()).update(known - {parts[1]})
    graphlib.TopologicalSorter(packages).prepare()  # raises CycleError, with the circle


def test_the_drawing_in_the_architecture_is_this_table() -> None:
    rows = [f"| {level} | `{where}` | {INNER[where] or '–'} |" for level, row in enumerate(FLOORS) for where in row]
    drawn = [line for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines() if re.match(r"\| \d \| ", line)]
    assert sorted(drawn) == sorted(rows)
    assert drawn == sorted(drawn, reverse=True, key=lambda line: line[2])


def test_no_class_name_stands_for_two_things() -> None:
    """The auditor's file is apart: it shares nothing, names neither."""
    defined: dict[str, list[str]] = {}
    for file in FILES:
        for node in tree(file).body if file.name != "auditor.py" else ():
            if isinstance(node, ast.ClassDef):
                defined.setdefault(node.name, []).append(str(file.relative_to(PACKAGE)))
    assert {name: files for name, files in defined.items() if len(files) > 1} == {}


def test_the_house_is_small_enough_to_be_drawn() -> None:
    assert len(INNER) <= 25
    assert len(FLOORS) <= 9
    assert sum(len(row.split()) for row in INNER.values()) <= 110


@pytest.mark.parametrize("where", INNER)
def test_each_place_imports_the_third_party_packages_of_its_row_and_no_other(where: str) -> None:
    by_file = {str(file.relative_to(PACKAGE)): third_party(file) for file in FILES if place(file) == where}
    assert set().union(*by_file.values()) == set(THIRD_PARTY.get(where, "").split())
    for package, only in ONE_FILE.items():
        assert {name for name, found in by_file.items() if package in found} <= {only}


@pytest.mark.claim("CODEC-1")
@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_clocks_sockets_and_the_system_are_touched_only_where_they_may_be(file: Path) -> None:
    top = {name.split(".")[0] for name in imports(file)}
    assert not top & NOWHERE, "nothing here unpickles"
    assert not {name for name in top & ONLY.keys() if place(file) not in ONLY[name].split()}


def attributes(file: Path) -> set[str]:
    """`a.b` for every attribute of a plain name, and every called plain name as `b()`."""
    found: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(f"{node.func.id}()")
    return found


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_one_file_syncs_one_file_prints_and_none_draws_from_a_global_generator(file: Path) -> None:
    used = attributes(file)
    name = str(file.relative_to(PACKAGE))
    if name != "home/disk.py":
        assert "os.fsync" not in used
    if name != "cli/output.py":
        assert "print()" not in used
    # What a model draws of torch (dropout) follows from its pass's seed, so that the pass can be repeated. Noise and
    # samples come from a keystream: tests/training/test_local.py seeds torch and finds them different.
    seeded = {"torch.manual_seed"} if name == "training/repeatable.py" else set()
    # A task's own augmentation may draw from anywhere: two of its outcomes are compared from one seed.
    if name == "training/augment_check.py":
        seeded |= {"np.random"}
    elif place(file) == "training":
        assert "random" not in imports(file)
    # Pretrained weights may be a torch file: one file reads it, by the reader that runs nothing.
    loaded = {"torch.load"} if name == "training/tasks/pretrained.py" else set()
    assert file.read_text().count("torch.load(") == file.read_text().count("weights_only=True")
    drawn = {"np.random", "numpy.random", "torch.manual_seed", "torch.randn", "torch.load"}
    assert not used & drawn - seeded - loaded
    if name != "training/registry.py":  # runs the task file that peers.yaml pins by its digest
        assert not used & {"eval()", "exec()"}
    if place(file) in ("sharing", "ledger"):
        assert not used & {"os.urandom", "os.getpid"}


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_no_check_is_an_assert_since_those_are_gone_under_optimisation(file: Path) -> None:
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree(file)))


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_a_file_is_one_idea_long(file: Path) -> None:
    most = LONGER.get(str(file.relative_to(PACKAGE)), 400)
    assert len(file.read_text().splitlines()) <= most


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["peers", "--help"],
        ["join", "--help"],
        ["demo", "--help"],
        ["doctor", "--help"],
        ["nonsense"],
    ],
)
def test_asking_for_help_loads_neither_torch_nor_a_socket_library(arguments: list[str]) -> None:
    script = (
        "import sys; from p2pfl.cli.main import run; run(sys.argv[1:]); "
        "loaded = {'torch', 'opacus', 'zmq', 'scipy', 'pandas'} & set(sys.modules); "
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_loads_none_of_its_four_names_before_they_are_used() -> None:
    script = "import sys, p2pfl; sys.exit(any(name in sys.modules for name in ('torch', 'zmq', 'yaml', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    import p2pfl

    assert {"Federation", "Peer", "Task", "simulate"} <= set(dir(p2pfl))


def test_a_sum_and_a_training_start_without_torch_scipy_and_every_statistic() -> None:
    """In the process with the keys and links. Each start would else take a tenth longer, or seconds."""
    script = (
        "import sys, p2pfl.peer; loaded = {'torch', 'scipy', 'pandas', 'p2pfl.statistics.cox'} & set(sys.modules); "
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.claim("LEDGER-6")
def test_the_auditors_program_shares_no_code_with_this_one() -> None:
    """Nothing here leans on it."""
    top = {name.split(".")[0] for name in imports(PACKAGE / "ledger/auditor.py")}
    assert top - set(sys.stdlib_module_names) == {"cryptography"}
    assert not [file for file in FILES if any("auditor" in name for name in imports(file))]


def strangers(text: str) -> set[str]:
    """What `text` refers to and the repository does not hold: documents, by the end of a path, and decision records."""
    held = [f"/{file.relative_to(ROOT)}" for file in WRITTEN if file.suffix == ".md"]
    named = set(re.findall(r"[A-Za-z0-9_/.-]+\.md\b", text))
    missing = {name for name in named if not any(path.endswith("/" + name.lstrip("./")) for path in held)}
    records = set(re.findall(r"\badr/\d{4}", text))
    return missing | {record for record in records if not any(f"/docs/{record}-" in path for path in held)}


def test_every_file_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    held = [f"/{file.relative_to(ROOT)}" for file in [*FILES, *ROOT.glob("tests/*.py")]]
    named = set(re.findall(r"[\w/]+\.py\b", text))
    assert len(named) > 40
    assert [name for name in named if not any(path.endswith("/" + name) for path in held)] == []


def test_the_index_of_decisions_has_each_record_once_by_its_title() -> None:
    listed = re.findall(r"^- \[(\d+ · .+)\]\((.+)\)$", (ROOT / "docs/adr/README.md").read_text(), re.MULTILINE)
    records = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    assert len({record.name[:4] for record in records}) == len(records), "two records of one number"
    titles = [record.read_text().splitlines()[0].removeprefix("# ").replace(". ", " · ", 1) for record in records]
    assert sorted(listed, key=lambda row: row[1]) == [
        (title, record.name) for title, record in zip(titles, records, strict=True)
    ]


def test_what_is_written_here_refers_to_no_document_that_is_not_here() -> None:
    elsewhere = {"docs/user-guide/deployment/mutual-tls.md"}  # Fed-BioMed's, beside which we count steps
    texts = {str(file.relative_to(ROOT)): file.read_text() for file in WRITTEN}
    found = {name: strangers(text) - elsewhere for name, text in texts.items()}
    assert {name: missing for name, missing in found.items() if missing} == {}
    assert [name for name, text in texts.items() if "DES" + "IGN §" in text] == []


def test_a_document_that_is_not_here_is_found() -> None:
    made_up, record = "NOTES" + ".md", "adr/" + "9999"  # in parts, so that the test above does not find them here
    assert strangers("docs/spec/wire.md, wire.md §5, `../SECURITY.md`, docs/adr/0006") == set()
    assert strangers(f"{made_up} §1, `docs/{made_up}`, docs/{record}") == {made_up, f"docs/{made_up}", record}


def test_what_tests_need_is_said_in_one_table_of_paths_that_are_there() -> None:
    tests, everything = ROOT / "tests", tomllib.loads((ROOT / "pyproject.toml").read_text())
    markers = {re.split("[:(]", line)[0] for line in everything["tool"]["pytest"]["ini_options"]["markers"]}
    assert set(NEEDS.values()) - {""} == markers - {"claim"}
    assert [row for row in NEEDS if not (tests / row).exists()] == []
    assert need(tests / "network/test_cuts.py") == "network"
    assert need(tests / "mesh/test_cuts.py") == "sockets"
    assert need(tests / "mesh/test_framing.py") == ""
    assert need(tests / "sharing/test_table.py") == ""
    starts = re.compile(r"^def test_\w+\([^)]*\b(start: Start|make: MakeSites)\b", re.M)
    starting = [file for file in sorted(tests.rglob("test_*.py")) if starts.search(file.read_text())]
    assert len(starting) > 10
    assert [file.name for file in starting if need(file) != "processes"] == []
    mark = re.compile(rf"pytest\.mark\.({'|'.join(set(NEEDS.values()) - {''})})\b")
    marked = [file.name for file in sorted(tests.rglob("*.py")) if mark.search(file.read_text())]
    assert marked == []


def test_quick_tries_ten_examples_make_test_two_fifths_and_thorough_all_stated() -> None:
    assert [scaled(count, 0) for count in (1, 10, 25, 500)] == [1, 10, 10, 10]
    assert [scaled(count, 1) for count in (1, 10, 25, 500)] == [1, 10, 25, 500]
    assert [scaled(count, 0.4) for count in (1, 10, 25, 500)] == [1, 10, 20, 200]
    assert [scaled(count, 20) for count in (1, 500)] == [20, 10_000]
    assert [len(seeds(50, thorough)) for thorough in (0, 0.4, 1, 3)] == [1, 20, 50, 150]
    assert [len(seeds(count, 0.4)) for count in (1, 4, 6, 12)] == [1, 4, 4, 5]
    stated = re.compile(r"\bmax_examples\s*=")
    files = [file for file in (ROOT / "tests").rglob("*.py") if stated.search(file.read_text())]
    assert [file.name for file in files] == ["examples.py"]


def test_the_name_of_a_test_is_a_promise_that_fits_in_80_characters() -> None:
    parsed = (ast.walk(tree(file)) for file in sorted((ROOT / "tests").rglob("test_*.py")))
    functions = (node for nodes in parsed for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    names_of_tests = [node.name for node in functions if node.name.startswith("test_")]
    assert len(names_of_tests) > 1000
    assert [name for name in names_of_tests if len(name) > 80] == []
