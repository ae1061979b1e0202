"""Reads an LMDB file with plain reads, page by page, as far as its pages are whole.

LMDB itself maps the file: a page that is not there ends the process, one that was overwritten may.
Here such a page is left out and counted. The format is that of LMDB 0.9 on a 64-bit machine:
pages of a B-tree per table, large values on runs of pages of their own.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from protocol.errors import StoreError

_PAGE = struct.Struct("=QHHHH")
"""Page number, padding, flags, end of the node pointers, begin of the nodes."""
_META = struct.Struct("=II8x8xI44x48sQQ")
"""Magic, version, page size (of the first table), main table, last page, transaction."""
_TABLE = struct.Struct("=IHHQQQQQ")
"""Padding, flags, depth, branch, leaf and overflow pages, entries, root page."""
_NODE = struct.Struct("=HHHH")
"""Low and high half of a size or page number, flags, size of the key."""
_RUN = struct.Struct("=Q")
_RUN_PAGE = struct.Struct("=QHHI")
"""Page number, padding, flags, pages of the run."""

_MAGIC = 0xBEEFC0DE
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_LARGE, _SUBTABLE = 1, 2
_NO_PAGE = 2**64 - 1
_JOINED = 2
"""Branches of a level whose children may be joined when rows go that stand below the first."""
_BESIDE = 2
"""Pages on either side of one that loses rows that may be joined with it."""
_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)
_MOST_VALUE_BYTES = 64 * 2**20
_WINDOW_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Where a table begins."""

    root: int
    entries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One entry of a table."""

    key: bytes
    value: bytes
    is_table: bool = False
    offset: int = 0
    """Of the value in the file, where it has pages of its own; else 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Meta:
    page_bytes: int
    transaction: int
    last_page: int
    main: Table


class PageFile:
    """An LMDB file under suspicion. A context manager."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            StoreError: it cannot be read at all.
        """
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
        self.damaged_pages: set[int] = set()
        """Pages that should be readable and are not; by their numbers."""
        self._faults = 0
        self._metas = self._read_metas()
        # Asked last: a learner that writes meanwhile makes the file as long as they say before.
        self.size_bytes = os.fstat(self._descriptor).st_size
        self._page_bytes = self._metas[0].page_bytes if self._metas else _PAGE_SIZES[0]
        self._covered = bytearray(self.size_bytes // self._page_bytes + 1)
        if len(self._metas) < 2:
            self._note_damage(0)
        self._states = [self._tables_of(meta) for meta in self._metas]
        """Tables by name, as the last commit left them, and as the one before it did."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    @property
    def is_complete(self) -> bool:
        """True when LMDB can open the file, and nothing is cut off at its end."""
        if len(self._metas) < 2:
            return False
        return self.size_bytes >= self.needed_bytes

    @property
    def needed_bytes(self) -> int:
        """How long the file must be by its own account; 0 when that cannot be read."""
        return (self._metas[0].last_page + 1) * self._page_bytes if self._metas else 0

    def entries(self, table: str) -> int | None:
        """Return how many entries a table has by its own account; None if that cannot be read."""
        return next((state[table].entries for state in self._states if table in state), None)

    def rows(self, table: str) -> Iterator[Row]:
        """Yield what can be read of a table, in the order of its keys.

        Where that is not all, what the state before the last commit had follows: LMDB never
        writes over it. Then keys may come twice, the newer one first.
        """
        for state in self._states:
            if table in state:
                faults = self._faults
                yield from self._walk(state[table])
                if faults == self._faults:
                    return

    def look_up(self, table: str, key: bytes) -> bytes | None:
        """Return the value of a key that stands beside it; None if there is none.

        Of the last commit only; a damaged page on the way is noted.
        """
        row = self.find(table, key)
        return row.value if row is not None and not row.offset else None

    def find(self, table: str, key: bytes) -> Row | None:
        """Return the entry of a key; None if there is none. Otherwise as ``look_up``."""
        number = self._root(table)
        while number != _NO_PAGE:
            page = self._tree_page(number)
            nodes = list(self._nodes(number, page)) if page is not None else []
            at = bisect_right(nodes, key, key=lambda node: node[2]) - 1
            if page is None or at < 0:
                if page is None:
                    self._note_damage(number)
                return None
            size, flags, found, _ = nodes[at]
            if _PAGE.unpack_from(page)[2] & _LEAF:
                return self._row(number, page, nodes[at]) if found == key else None
            number = size | flags << 32
        return None

    def inspect_begin(self, table: str) -> None:
        """Look at the first pages of every level of a table, and at those beside them.

        Whoever deletes a table's first rows joins such pages; damaged ones are noted.
        """
        root = self._root(table)
        level = [root] if root != _NO_PAGE else []
        while level:
            below: list[int] = []
            for place, number in enumerate(level):
                page = self._tree_page(number)
                if page is None:
                    self._note_damage(number)
                elif place < _JOINED and _PAGE.unpack_from(page)[2] & _BRANCH:
                    below += self._children(number, page)
            level = below

    def inspect_around(self, table: str, keys: Iterable[bytes]) -> None:
        """Look at the pages that lead to some keys, on every level, and at those beside them.

        Whoever deletes these keys joins such pages; damaged ones are noted.
        """
        root = self._root(table)
        level = [(root, sorted(keys))] if root != _NO_PAGE else []
        while level:
            below = [one for number, wanted in level for one in self._led_to(number, wanted)]
            near = {
                place + step
                for place, (_, wanted) in enumerate(below)
                for step in range(-_BESIDE, _BESIDE + 1)
                if wanted
            }
            level = [one for place, one in enumerate(below) if place in near]

    def _led_to(self, number: int, keys: Sequence[bytes]) -> list[tuple[int, list[bytes]]]:
        """Return the children of a page, each with those of the keys that are below it."""
        page = self._tree_page(number)
        if page is None:
            self._note_damage(number)
            return []
        nodes = list(self._nodes(number, page))
        if not nodes or _PAGE.unpack_from(page)[2] & _LEAF:
            return []
        children: list[tuple[int, list[bytes]]] = [
            (size | flags << 32, []) for size, flags, _, _ in nodes
        ]
        for key in keys:
            at = bisect_right(nodes, key, key=lambda node: node[2]) - 1
            children[max(0, at)][1].append(key)
        return children

    def has_own_pages(self, row: Row) -> bool:
        """Return whether the pages of a value say that they are its pages; LMDB frees by that."""
        if not row.offset:
            return True
        begin = row.offset - _PAGE.size
        head = self.read(begin, _RUN_PAGE.size)
        if len(head) < _RUN_PAGE.size:
            return False
        number, _, flags, pages = _RUN_PAGE.unpack(head)
        needed = -(-(_PAGE.size + len(row.value)) // self._page_bytes)
        return (number, flags, pages) == (begin // self._page_bytes, _OVERFLOW, needed)

    def _root(self, table: str) -> int:
        found = self._states[0].get(table) if self._states else None
        return found.root if found is not None else _NO_PAGE

    def _walk(self, table: Table) -> Iterator[Row]:
        waiting = [table.root] if table.root != _NO_PAGE else []
        seen: set[int] = set()
        while waiting:
            number = waiting.pop()
            page = self._tree_page(number) if number not in seen else None
            seen.add(number)
            if page is None:
                self._note_damage(number)
            elif _PAGE.unpack_from(page)[2] & _BRANCH:
                waiting.extend(reversed(list(self._children(number, page))))
            else:
                yield from self._leaf_rows(number, page)

    def _tables_of(self, meta: _Meta) -> dict[str, Table]:
        return {
            row.key.decode(errors="replace"): _table(row.value)
            for row in self._walk(meta.main)
            if row.is_table and len(row.value) == _TABLE.size
        }

    def cover(self, row: Row) -> None:
        """Take the pages of a sound value out of what ``matches`` looks through."""
        if row.offset:
            first = row.offset // self._page_bytes
            end = (row.offset + len(row.value) - 1) // self._page_bytes + 1
            self._covered[first:end] = b"\1" * (end - first)

    def matches(self, pattern: re.Pattern[bytes]) -> Iterator[int]:
        """Yield every offset at which ``pattern`` begins, but for covered pages.

        The pattern's matches must be shorter than a page. What a learner adds to the file
        meanwhile is not looked at.
        """
        for begin in range(0, self.size_bytes, _WINDOW_BYTES):
            end = min(self.size_bytes, begin + _WINDOW_BYTES + self._page_bytes)
            window = self.read(begin, end - begin)
            for match in pattern.finditer(window):
                at = begin + match.start()
                # Asked only now: what was found a moment ago may have covered this.
                if match.start() < _WINDOW_BYTES and not self._covered[at // self._page_bytes]:
                    yield at

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return bytes of the file; fewer where it ends or the disk cannot read them."""
        try:
            return os.pread(self._descriptor, size_bytes, offset)
        except OSError:
            return b""

    def _note_damage(self, number: int) -> None:
        self.damaged_pages.add(number)
        self._faults += 1

    def _read_metas(self) -> list[_Meta]:
        """Return the readable ones of the two, the newest first."""
        found = []
        for offset in (0, *_PAGE_SIZES):
            content = self.read(offset + _PAGE.size, _META.size)
            if len(content) < _META.size:
                continue
            magic, version, page_bytes, main, last_page, transaction = _META.unpack(content)
            is_here = page_bytes in _PAGE_SIZES and offset in (0, page_bytes)
            if magic == _MAGIC and version == 1 and is_here:
                found.append(
                    _Meta(
                        page_bytes=page_bytes,
                        transaction=transaction,
                        last_page=last_page,
                        main=_table(main),
                    )
                )
        return sorted(found, key=lambda meta: meta.transaction, reverse=True)

    def _tree_page(self, number: int) -> bytes | None:
        if not 2 <= number < len(self._covered):
            return None
        page = self.read(number * self._page_bytes, self._page_bytes)
        if len(page) < self._page_bytes:
            return None
        found, _, flags, lower, upper = _PAGE.unpack_from(page)
        is_sane = _PAGE.size <= lower <= upper <= self._page_bytes and lower % 2 == 0
        return page if found == number and is_sane and flags in (_BRANCH, _LEAF) else None

    def _nodes(self, number: int, page: bytes) -> Iterator[tuple[int, int, bytes, int]]:
        """Yield low and high half, flags and key, and where the data begins, of whole nodes."""
        pointers = (_PAGE.unpack_from(page)[3] - _PAGE.size) // 2
        before = b""
        for at in struct.unpack_from(f"={pointers}H", page, _PAGE.size):
            if at < _PAGE.size + 2 * pointers or at + _NODE.size > len(page):
                self._note_damage(number)
                continue
            low, high, flags, key_bytes = _NODE.unpack_from(page, at)
            data_at = at + _NODE.size + key_bytes
            key = page[at + _NODE.size : data_at]
            is_branch = bool(_PAGE.unpack_from(page)[2] & _BRANCH)
            # The first key of a branch is left empty; all others ascend.
            if data_at > len(page) or (before and key <= before) or not (key or is_branch):
                self._note_damage(number)
                continue
            before = key
            yield (low | high << 16), flags, key, data_at

    def _children(self, number: int, page: bytes) -> Iterator[int]:
        for size, flags, _, _ in self._nodes(number, page):
            yield size | flags << 32

    def _leaf_rows(self, number: int, page: bytes) -> Iterator[Row]:
        for node in self._nodes(number, page):
            yield self._row(number, page, node)

    def _row(self, number: int, page: bytes, node: tuple[int, int, bytes, int]) -> Row:
        size, flags, key, data_at = node
        offset = 0
        if not flags & _LARGE:
            value = page[data_at : data_at + size]
        elif size <= _MOST_VALUE_BYTES and data_at + _RUN.size <= len(page):
            offset = _RUN.unpack_from(page, data_at)[0] * self._page_bytes + _PAGE.size
            value = self.read(offset, size) if offset < self.size_bytes else b""
        else:
            value = b""
        if len(value) < size:
            self._note_damage(offset // self._page_bytes or number)
        return Row(key=key, value=value, is_table=bool(flags & _SUBTABLE), offset=offset)


def _table(packed: bytes) -> Table:
    *_, entries, root = _TABLE.unpack(packed)
    return Table(root=root, entries=entries)
