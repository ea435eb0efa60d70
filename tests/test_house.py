"""Who may import whom, what no file may do, and that asking for help loads no torch: one table against the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "p2pfl"
FILES = sorted(PACKAGE.rglob("*.py"))
WRITTEN = [ROOT / "Makefile", *ROOT.glob("*.md")] + [
    file
    for folder in ("p2pfl", "tests", "benchmarks", "docs", "tools", "deploy")
    for file in sorted((ROOT / folder).rglob("*"))
    if file.suffix in (".py", ".md", ".sh", ".svg", ".toml", ".yaml", ".yml")
]

ROOMS = ("sharing", "mesh", "training", "ledger")
SHELF = (
    "errors", "messages", "codec", "federation", "roster", "keys", "keyslots", "home",
    "documents", "strict_yaml", "settings", "draft", "cards",   # what federation is made of
    "disk", "sealing", "merkle",                                # what home and the ledger are made of
    "hello", "progress",                                        # what nodes and watchers are told
    "membership", "assent", "amend", "changefile", "rekey",     # from one epoch to the next
)  # fmt: skip
HALL = ("peer", "node", "carry", "catchup", "intake", "source", "books", "succession", "changes", "shown", "runs",
        "simulate")  # fmt: skip

# place: third-party packages that it may import. A new dependency is a new row here, so it is seen in review.
THIRD_PARTY = {
    "sharing": {"numpy", "cryptography"},
    "mesh": {"zmq", "cryptography", "msgpack"},
    "training": {"numpy", "torch", "opacus", "safetensors", "cryptography"},
    "ledger": {"cryptography"},
    "cli": {"click", "numpy", "prometheus_client"},     # the last by `cli/metrics.py`, when it is asked for
    "peer": {"numpy"},
    "node": {"numpy"},
    "runs": {"numpy", "torch"},         # torch for a type only
    "simulate": {"numpy"},
    "codec": {"msgpack"},
    "messages": set(),
    "keys": {"cryptography", "mnemonic"},
    "keyslots": {"cryptography", "mnemonic"},
    "sealing": {"cryptography"},
    "strict_yaml": {"yaml"},
}
# Standard modules that only some places may touch.
ONLY = {
    "ssl": {"mesh"},
    "socket": {"mesh", "cli"},          # the demo looks for free ports
    "asyncio": {"mesh", "cli", *HALL},
    "time": {"mesh", "training", "cli", *HALL},
    "datetime": {"mesh", "training", "ledger", "cli", *HALL},   # the ledger prints times that it is given
    "subprocess": {"cli", "keyslots"},  # the demo's peers; a key command
    "threading": {"mesh", "training", "cli", *HALL},    # a pass is stopped from another thread
    "random": {"simulate"},
    "secrets": set(),
    "os": {"mesh", "training", "cli", "home", "keyslots", "disk", "sealing", "draft", *HALL},
}
# An auditor is handed one file that holds the whole of the check; it is still one that can be read in an hour.
LONGER = {"ledger/auditor.py": 520}
NOWHERE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def place(file: Path) -> str:
    """The room or module of the shelf that `file` belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Dotted names that `file` imports anywhere, also inside functions; `if TYPE_CHECKING` counts too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides where it points"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def inner(file: Path) -> set[str]:
    """The places of this package that `file` imports, its own left out."""
    parts = [name.split(".") for name in imports(file) if name.startswith("p2pfl.")]
    return {part[1] for part in parts if part[1] != place(file) and not part[1].startswith("_")}


def allowed(where: str) -> set[str]:
    if where in ROOMS or where in SHELF:
        return set(SHELF)
    if where in HALL:
        return {*SHELF, *ROOMS, *HALL}
    return {*SHELF, *ROOMS, *HALL, "cli", "report"}  # cli, __init__, __main__


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(PACKAGE)) for file in files]


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_arrows_point_down_and_rooms_never_import_one_another(file: Path) -> None:
    strangers = inner(file) - allowed(place(file)) - {"__version__"}
    assert not strangers, f"{place(file)} may not import {sorted(strangers)}"


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_each_place_imports_only_the_packages_of_its_row(file: Path) -> None:
    top = {name.split(".")[0] for name in imports(file)}
    foreign = {name for name in top if name not in sys.stdlib_module_names and name not in ("p2pfl", "__future__")}
    assert foreign <= THIRD_PARTY.get(place(file), set())


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_clocks_sockets_and_the_system_are_touched_only_where_they_may_be(file: Path) -> None:
    top = {name.split(".")[0] for name in imports(file)}
    assert not top & NOWHERE, "nothing here unpickles"
    misplaced = {name for name in top & ONLY.keys() if place(file) not in ONLY[name] and place(file) != "__main__"}
    assert not misplaced


def attributes(file: Path) -> set[str]:
    """`a.b` for every attribute of a plain name, and every called plain name as `b()`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(f"{node.func.id}()")
    return found


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_one_file_syncs_one_file_prints_and_none_draws_from_a_global_generator(file: Path) -> None:
    used = attributes(file)
    name = str(file.relative_to(PACKAGE))
    if name != "disk.py":
        assert "os.fsync" not in used
    if name != "cli/output.py":
        assert "print()" not in used
    assert not used & {"np.random", "numpy.random", "torch.manual_seed", "torch.randn", "torch.load"}
    if name != "training/task.py":      # runs the task file that peers.yaml pins by its digest
        assert not used & {"eval()", "exec()"}
    if place(file) in ("sharing", "ledger"):
        assert not used & {"os.urandom", "os.getpid"}


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_no_check_is_an_assert_since_those_are_gone_under_optimisation(file: Path) -> None:
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(file.read_text())))


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_a_file_is_one_idea_long(file: Path) -> None:
    most = LONGER.get(str(file.relative_to(PACKAGE)), 400)
    assert len(file.read_text().splitlines()) <= most


def test_everything_in_the_package_has_a_place_in_the_table() -> None:
    places = {place(file) for file in FILES} - {"__init__", "__main__", "cli"}
    assert places <= {*ROOMS, *SHELF, *HALL}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["peers", "--help"], ["join", "--help"],
                                       ["demo", "--help"], ["doctor", "--help"], ["nonsense"]])  # fmt: skip
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


def test_the_auditors_program_shares_no_code_with_this_one_and_nothing_here_leans_on_it() -> None:
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


def test_what_is_written_here_refers_to_no_document_that_is_not_here() -> None:
    elsewhere = {"docs/user-guide/deployment/mutual-tls.md"}  # Fed-BioMed's, beside which the README counts steps
    texts = {str(file.relative_to(ROOT)): file.read_text() for file in WRITTEN}
    found = {name: strangers(text) - elsewhere for name, text in texts.items()}
    assert {name: missing for name, missing in found.items() if missing} == {}
    assert [name for name, text in texts.items() if "DES" + "IGN §" in text] == []


def test_a_document_that_is_not_here_is_found() -> None:
    made_up, record = "NOTES" + ".md", "adr/" + "9999"  # in parts, so that the test above does not find them here
    assert strangers("docs/spec/wire.md, wire.md §5, `../SECURITY.md`, docs/adr/0006") == set()
    assert strangers(f"{made_up} §1, `docs/{made_up}`, docs/{record}") == {made_up, f"docs/{made_up}", record}
