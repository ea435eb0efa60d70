"""System calls that the process of a task may not make: a filter of the kernel's (seccomp, Linux, x86-64 and arm64).

Refused with EPERM are: new sockets of any kind, and the ways to aim an old one elsewhere; new processes and programs;
looking into other processes, and signals to them. io_uring, which would do the same past any filter, is not there
(ENOSYS); nor is clone3, whose flags no filter sees: the C library then takes clone, which is let through for threads.
A process that asks in another of the kernel's dialects (32 bits, x32) is ended. `man 2 seccomp`, linux/filter.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

PR_SET_NO_NEW_PRIVS: Final = 38
PR_SET_SECCOMP: Final = 22
MODE_FILTER: Final = 2
CLONE_THREAD: Final = 0x10000
SOCK_STREAM: Final = 1
AF_UNIX: Final = 1

# Numbers of the calls on (x86-64, arm64); None where there is none.
_ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
X32: Final = 0x40000000
DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "tkill": (200, 130),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
MISSING: Final[dict[str, tuple[int, int]]] = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
CLONE: Final = (56, 220)
KILL: Final = (62, 129)
TGKILL: Final = (234, 131)
SOCKETPAIR: Final = (53, 199)

# Instructions of the classic filter machine: load a word of what the call is, compare, answer.
LOAD: Final = 0x20
EQUAL: Final = 0x15
AT_LEAST: Final = 0x35
ANY_BIT: Final = 0x45
AND: Final = 0x54
ANSWER: Final = 0x06
ALLOW: Final = 0x7FFF0000
ERRNO: Final = 0x00050000
KILL_PROCESS: Final = 0x80000000
NUMBER, ARCHITECTURE = 0, 4  # places in struct seccomp_data
Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def _argument(place: int) -> int:
    """Place of the low half of an argument; both kernels here are little-endian."""
    return 16 + 8 * place


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def is_known() -> bool:
    """The kernel's numbers on this machine are known here."""
    return platform.system() == "Linux" and platform.machine() in _ARCHITECTURES


def instructions(machine: str, pid: int) -> list[Instruction]:
    """The filter for a process of that number, on that machine."""
    place, architecture = _ARCHITECTURES[machine]
    refuse, absent = (ANSWER, 0, 0, ERRNO | errno.EPERM), (ANSWER, 0, 0, ERRNO | errno.ENOSYS)
    allow, end = (ANSWER, 0, 0, ALLOW), (ANSWER, 0, 0, KILL_PROCESS)
    found: list[Instruction] = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), end, (LOAD, 0, 0, NUMBER)]
    if machine == "x86_64":
        found += [(AT_LEAST, 0, 1, X32), end]
    for numbers in DENIED.values():
        if (number := numbers[place]) is not None:
            found += [(EQUAL, 0, 1, number), refuse]
    for given in MISSING.values():
        found += [(EQUAL, 0, 1, given[place]), absent]
    # A thread, and no process.
    found += [(EQUAL, 0, 4, CLONE[place]), (LOAD, 0, 0, _argument(0)), (ANY_BIT, 0, 1, CLONE_THREAD), allow, refuse]
    for numbers in (KILL, TGKILL):  # to itself, as when it aborts
        found += [(EQUAL, 0, 4, numbers[place]), (LOAD, 0, 0, _argument(0)), (EQUAL, 0, 1, pid), allow, refuse]
    # A pair that is connected and stays so: not of datagrams, which can be sent elsewhere.
    found += [(EQUAL, 0, 7, SOCKETPAIR[place]), (LOAD, 0, 0, _argument(0)), (EQUAL, 0, 4, AF_UNIX)]
    found += [(LOAD, 0, 0, _argument(1)), (AND, 0, 0, 0xF), (EQUAL, 0, 1, SOCK_STREAM), allow, refuse]
    return [*found, allow]


def forbid() -> bool:
    """Put the filter on this process, for good, and all its threads to come; False where the kernel has none.

    Called before there is a second thread.
    """
    if not is_known():
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    packed = b"".join(struct.pack("<HBBI", *one) for one in instructions(platform.machine(), os.getpid()))
    held = ctypes.create_string_buffer(packed, len(packed))
    program = _Program(len(packed) // 8, ctypes.addressof(held))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return int(libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0)) == 0
