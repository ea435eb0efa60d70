"""Task code, and torch with it, in a process of its own: without the site's keys, home or sockets.

`remote.py` is the node's side: a trainer whose passes run there. `worker.py` is the program. Between them lies one
socket, on which `wire.py` allows few kinds of small letters; vectors lie in shared memory. docs/adr/0041.
"""
