"""What an item will hold, sealed and written while the rest of it is still coming, so that little is left to be done.

It lies beside the item as NAME.new, which is no item: whoever reads sees what the item held before. A process that dies
leaves it, and the next one removes it. Nothing of it is durable before the item takes its place.
"""

from __future__ import annotations

import threading
from pathlib import Path

from p2pfl.codec import Pieces
from p2pfl.home.disk import Disk, NewFile
from p2pfl.home.sealing import Sealing


class BegunItem:
    """One item's next content, as far as it was written. `name` says of what: the same name, the same bytes."""

    def __init__(self, name: bytes, file: NewFile, sealing: Sealing) -> None:
        self.name, self._file, self._sealing = name, file, sealing
        self.size = 0  # bytes of the content
        file.write(sealing.begin)

    def add(self, data: Pieces) -> None:
        """What of `data`, the content from its first byte on, was not written yet."""
        at = 0
        for piece in data:
            view = memoryview(piece).cast("B")
            for sealed in self._sealing.update(view[max(0, self.size - at) :]):
                self._file.write(sealed)
            at += len(view)
        self.size = max(self.size, at)

    def send_ahead(self) -> None:
        """What was written is on its way to the medium."""
        self._file.send_ahead()

    def finish(self, data: Pieces) -> None:
        """The item holds `data`, durably; or it holds what it held and the error says why."""
        self.add(data)
        self._file.write(self._sealing.end())
        self._file.take_place()

    def drop(self) -> None:
        """Nothing comes of it."""
        self._file.drop()


class BegunItems:
    """Those of one home. Every method may be called from any thread."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._items: dict[Path, BegunItem] = {}
        self._ended = False

    def add(self, place: Path, name: bytes, sealing: Sealing, data: Pieces) -> None:
        """`data` is what the item at `place` will hold first; what was begun there under another name is dropped.

        sealing   for one that begins now
        """
        with self._lock:
            if self._ended:
                return
            begun = self._items.get(place)
            if begun is None or begun.name != name:
                self._drop(place)
                begun = self._items[place] = BegunItem(name, NewFile(self._disk, place), sealing)
            try:
                begun.add(data)
                begun.send_ahead()
            except Exception:  # without memory, too: part of it is sealed, and nobody knows how much
                self._drop(place)
                raise

    def finish(self, place: Path, name: bytes, data: Pieces) -> bool:
        """The item holds `data`, durably, if that was begun under this name. What was begun is gone in any case."""
        with self._lock:
            begun = self._items.pop(place, None)
            if begun is None:
                return False
            if not name or begun.name != name or begun.size > data.size:
                begun.drop()
                return False
            try:
                begun.finish(data)
            except Exception:
                begun.drop()
                raise
            return True

    def drop(self, place: Path) -> None:
        """Nothing comes of what was begun there."""
        with self._lock:
            self._drop(place)

    def end(self) -> None:
        """Nothing is written any more, by whichever thread is late."""
        with self._lock:
            self._ended = True
            for place in tuple(self._items):
                self._drop(place)

    def _drop(self, place: Path) -> None:
        begun = self._items.pop(place, None)
        if begun is not None:
            begun.drop()
