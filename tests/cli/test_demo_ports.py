"""The demo's ports: nobody else draws one between its choice and the moment at which a peer listens on it."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from p2pfl.cli.ports import free_ports
from p2pfl.mesh.listener import bind
from p2pfl.roster import Address

OTHER = """
import socket, sys
from p2pfl.mesh.listener import bind
from p2pfl.roster import Address
with socket.socket() as other:
    print(other.connect_ex(("127.0.0.1", int(sys.argv[1]))) != 0)
    try:
        other.bind(("127.0.0.1", int(sys.argv[1])))
    except OSError:
        print("taken")
bind(Address("127.0.0.1", int(sys.argv[1]))).close()
print("a site listens")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a bound port may not be listened on")
def test_no_other_process_draws_a_demos_port_and_its_peers_listen_there() -> None:
    (port,) = free_ports(1)
    done = subprocess.run([sys.executable, "-c", OTHER, str(port)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["True", "taken", "a site listens", ""]
    listener = bind(Address("127.0.0.1", port))
    with listener, socket.create_connection(("127.0.0.1", port)):
        pass
