"""One process of worker.py: started, asked, heard and ended.

It has a socket, an environment of a few names, and an empty folder of its own. The thread that starts it lives
as long as it does: the system ends a child with the thread that made it, so no death of the node's leaves one behind.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final

from p2pfl.codec import Malformed
from p2pfl.errors.people import NothingLeft
from p2pfl.training.passes import PassCut, PassStopped
from p2pfl.training.process import boot
from p2pfl.training.process.facts import Reach, unusable
from p2pfl.training.process.faults import error_of, scarce
from p2pfl.training.process.own_folder import OwnFolder
from p2pfl.training.process.wire import MOST_TOLD, TOLD, Letter, SharedBuffer, Wire, read_fields

OnStep = Callable[[int, int], None]
Echo = Callable[[str], None]

BOOT: Final = (
    "import sys; sys.path += [one for one in sys.argv[2:] if one not in sys.path]; "
    "from p2pfl.training.process.boot import start; start(int(sys.argv[1]))"
)
# What torch and its libraries read of the environment; nothing else of the node's goes there.
HANDED_ON: Final = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "CUDA_", "CUBLAS_", "NVIDIA_", "PYTORCH_", "HIP_", "ROCR_")
HANDED_ON_WHOLE: Final = ("LD_LIBRARY_PATH", "TZ", "P2PFL_TRACEBACK")
ENDING_S: Final = 2.0  # seconds for a process to be gone once its socket is
KEPT_LINES: Final = 5
LINE_BYTES: Final = 1 << 12


class TaskProcess:
    """The process, and who waits for its answers. Any thread may ask."""

    def __init__(self, reach: Reach, echo: Echo | None = None) -> None:
        """Start it; nothing is waited for.

        reach   what it may read
        echo    gets each line that the task prints; without it they go nowhere, since they may hold patients' values
        """
        ours, theirs = socket.socketpair()
        self._wire = Wire(ours, TOLD, MOST_TOLD)
        self._echo = echo if echo is not None or not os.environ.get("P2PFL_TRACEBACK") else sys.stderr.write
        self._tickets = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Letter | None]] = {}
        self._lock = threading.Lock()
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._opened = False  # task code has run: what it prints is not shown
        self._process: subprocess.Popen[bytes] | None = None
        self._gone: PassCut | NothingLeft | None = None
        self._ending = False
        self._kills = _killed_for_memory()
        folder = OwnFolder()
        ours.sendall(boot.setting(folder.path, reach.readable, reach.forbidden, devices=reach.devices))
        self._keeper = threading.Thread(target=self._keep, args=(theirs, folder), daemon=True)
        try:
            self._keeper.start()
        except RuntimeError:  # the system has no thread for it
            self._wire.close()
            theirs.close()
            folder.remove()
            raise

    @property
    def is_gone(self) -> bool:
        """It has ended, and answers no more."""
        return self._gone is not None

    @property
    def number(self) -> int | None:
        """Its number in the system, once it has one."""
        return self._process.pid if self._process is not None else None

    def peak_memory(self) -> int:
        """Bytes that it had at most in memory; 0 where the system does not say."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.number}/status").read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith("VmHWM:"):
                    return 1024 * int(line.split()[1])
        return 0

    def ask(
        self, kind: str, *fields: Any, buffer: SharedBuffer | None = None, on_step: OnStep | None = None
    ) -> tuple[Any, ...]:
        """The fields of its answer.

        Raises PassCut when it has ended; NothingLeft where the system had too little to start it; PassStopped; the
        error of the catalogue that it told; TaskAnswerUnusable.
        """
        self._opened = True
        ticket, heard = next(self._tickets), queue.SimpleQueue[Letter | None]()
        with self._lock:
            if self._gone is not None:
                raise self._gone
            self._waiting[ticket] = heard
        try:
            with contextlib.suppress(OSError):  # it is ending: that is heard too
                self._wire.send(ticket, kind, *fields, descriptor=buffer.descriptor if buffer else None)
            while (letter := heard.get()) is not None:
                if letter[1] != "step":
                    return self._answer(kind, letter)
                if on_step is not None:
                    on_step(*letter[2])
        finally:
            del self._waiting[ticket]
        raise self._gone or PassCut("it is gone")

    def _answer(self, kind: str, letter: Letter) -> tuple[Any, ...]:
        _, told, fields = letter
        if told == "fault":
            if fields[0] == "stopped":
                raise PassStopped
            raise error_of(fields) or unusable(f"an error {fields[0][:20]!r} that it cannot have")
        try:
            return read_fields(fields[0], kind)
        except Malformed as error:
            raise unusable(str(error)) from None

    def stop_pass(self) -> None:
        """Ask it to end the pass under way before its next step."""
        with contextlib.suppress(OSError):
            self._wire.send(0, "stop")

    def end(self) -> None:
        """End it at once, whatever it is doing, and wait until it is gone."""
        self._ending = True
        self._wire.close()
        self._kill()
        if threading.current_thread() is not self._keeper:
            self._keeper.join(ENDING_S)

    # ── the thread that keeps it ──────────────────────────────────────────────────────────────────────────────

    def _keep(self, theirs: socket.socket, folder: OwnFolder) -> None:
        why, lacking = "it is heard no more: the thread that kept it failed", None
        try:
            try:
                process, out = self._start(theirs, folder.path)
            except (OSError, RuntimeError) as error:  # Python's of a thread that the system has not got
                why, lacking = f"it could not be started: {getattr(error, 'strerror', error)}", scarce(error)
            else:
                why = self._hear_to_its_end(process, out)
        finally:
            self._kill()
            if self._process is not None:
                self._process.wait()
            theirs.close()
            folder.remove()
            self._is_gone(why, lacking)

    def _start(self, theirs: socket.socket, folder: Path) -> tuple[subprocess.Popen[bytes], threading.Thread]:
        """The process, and the thread that reads what it prints. Raises OSError, RuntimeError."""
        # -u: what it prints comes at once, since it is killed in the end.
        command = [sys.executable, "-I", "-u", "-c", BOOT, str(theirs.fileno()), *sys.path[1:], str(_root())]
        process = subprocess.Popen(
            [one for one in command if one],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(os.environ, folder),
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C in a terminal is the node's to hear
        )
        self._process = process
        if self._ending:
            self._kill()
        theirs.close()
        out = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        out.start()
        return process, out

    def _hear_to_its_end(self, process: subprocess.Popen[bytes], out: threading.Thread) -> str:
        """Why it was ended here, if it was."""
        why = self._hear()
        try:
            process.wait(0 if why else ENDING_S)
        except subprocess.TimeoutExpired:
            why = why or "it closed its end"
            self._kill()
            process.wait()
        out.join(ENDING_S)
        return why

    def _hear(self) -> str:
        """Hand answers on until there are none; what was wrong with the last one, if something was."""
        try:
            while (came := self._wire.receive()) is not None:
                letter = came[0]
                heard = self._waiting.get(letter[0])
                if heard is not None:
                    heard.put(letter)
        except Malformed as error:
            return f"it sent {error}"
        except OSError:
            pass
        return ""

    def _read(self, stream: IO[bytes] | None) -> None:
        """Take what it prints, so that it never waits for a reader."""
        while stream is not None and (line := stream.readline(LINE_BYTES)):
            if self._echo is not None:
                self._echo(line.decode("utf-8", "replace"))
            if not self._opened or self._process is None:
                self._said.append(line.decode("utf-8", "replace").strip())

    def _is_gone(self, why: str, lacking: NothingLeft | None) -> None:
        code = self._process.returncode if self._process is not None else None
        killed = code == -signal.SIGKILL and not why
        out_of_memory = killed and not self._ending and _killed_for_memory() > self._kills
        how = why or _how(code, out_of_memory, self._said)
        with self._lock:
            self._gone = lacking or PassCut(how, out_of_memory=out_of_memory)
            for heard in self._waiting.values():
                heard.put(None)

    def _kill(self) -> None:
        """It, and whatever it has started, if it has."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _root() -> Path:
    """The folder in which this package lies."""
    return Path(__file__).resolve().parents[3]


def _environment(given: Mapping[str, str], folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in given.items() if name.startswith(HANDED_ON) or name in HANDED_ON_WHOLE}
    return {**kept, "PATH": os.defpath, "USER": "task", "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}


def _killed_for_memory() -> int:
    """Processes that the system has ended for want of memory since it started; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _how(code: int | None, out_of_memory: bool, said: deque[str]) -> str:
    if out_of_memory:
        return "the system ended it for want of memory"
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {-code} ({signal.Signals(-code).name})"
    last = f": {said[-1][:200]}" if code and said else ""
    return f"it left with status {code}{last}"
