"""Which functions of the package turn bytes into values: by the calls that their source makes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parents[2] / "p2pfl"
# Where bytes first become something else. All that is built on top of these is reached through them.
PRIMITIVES: Final = {
    "json.loads",
    "json.load",
    "msgpack.unpackb",
    "msgpack.Unpacker",
    "yaml.parse",
    "yaml.safe_load",
    "struct.unpack",
    "x509.load_der_x509_certificate",
    "x509.load_pem_x509_certificate",
    "np.frombuffer",
    "numpy.frombuffer",
    "base64.b64decode",
    "csv.reader",
    "int.from_bytes",
    "load",
    "safe_open",
    "ast.literal_eval",
    "bytes.fromhex",
    "plistlib.loads",
    "tomllib.loads",
    "ElementTree.fromstring",
    "zlib.decompress",
    "gzip.decompress",
}
STRUCTS: Final = ("unpack", "unpack_from", "iter_unpack")


def _is_primitive(call: ast.Call) -> bool:
    called = ast.unparse(call.func)
    receiver, _, method = called.rpartition(".")
    return called in PRIMITIVES or (method in STRUCTS and receiver.rpartition(".")[2].strip("_").isupper())


def _functions(tree: ast.AST, name: str) -> Iterator[str]:
    """The innermost named function around every such call, below `name`."""
    for node in ast.iter_child_nodes(tree):
        inner = name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{name}.{node.name}" if name else node.name
        elif isinstance(node, ast.Call) and _is_primitive(node):
            yield name
        yield from _functions(node, inner)


def decoding(package: Path = PACKAGE) -> set[str]:
    """ "module:function" for each of them."""
    found = set()
    for file in sorted(package.rglob("*.py")):
        module = ".".join(file.relative_to(package).with_suffix("").parts)
        found |= {f"{module}:{name}" for name in _functions(ast.parse(file.read_text(encoding="utf-8")), "")}
    return found
