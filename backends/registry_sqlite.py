"""A registry in one SQLite file, shared by the processes of one host."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rdv.backends.keys import check_key, check_prefix
from rdv.backends.ports import Entry
from rdv.clock import Clock, SystemClock
from rdv.errors import CorruptState, LostRace, NotAuthorised, RdvError, TimedOut, Unreachable, UsageError
from rdv.files import make_folders

MAX_VALUE_BYTES = 512 * 1024
BUSY_S = 10.0
# SQLite tells no other process of a commit, so `watch` has to look. A look is one PRAGMA that reads shared memory, some
# 4 microseconds: 30 ms keeps a hundred watchers below 2 % of a core, far below what a person or a swap notices.
POLL_S = 0.03
_APPLICATION = 0x72647652
_LAYOUT = 1
_SETUP = (
    f"PRAGMA application_id={_APPLICATION}",
    f"PRAGMA user_version={_LAYOUT}",
    "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB, last INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS counter (last INTEGER)",
    "INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter)",
)
_READ = "SELECT value, last FROM entries WHERE key = ?"
_registries: weakref.WeakSet[SqliteRegistry] = weakref.WeakSet()
# connections of the parent process: SQLite supports neither using nor closing one after a fork
_parents: list[sqlite3.Connection] = []


class SqliteRegistry:
    """Keys and values with check-and-set; safe over threads, processes and forks, not over network file systems.

    Copy or replace the file only while nothing uses it: SQLite's log beside it (`-wal`) belongs to it.
    The file is made when there is none. Once this object has used it, a file that vanished is Unreachable, as long as
    it is away. Indexes grow over the whole file and never return, not even when it is made anew or restored: each is
    at least the microseconds since the epoch.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path, self._clock = Path(path), clock or SystemClock()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        _registries.add(self)

    def get(self, key: str) -> Entry | None:
        """The newest entry of a key; None when absent."""
        check_key(key)
        with self._connected() as connection:
            return _read(connection, key)

    def put(self, key: str, value: bytes, expect: int | None = None) -> Entry:
        """Write a value durably, if the key's index is `expect` (0: absent, None: whatever it is); else LostRace."""
        check_key(key)
        if len(value) > MAX_VALUE_BYTES:
            raise UsageError(f"the value of {key} has {len(value)} bytes", f"at most {MAX_VALUE_BYTES} are taken")
        with self._connected() as connection, _transaction(connection):
            _expect(connection, key, expect)
            entry = Entry(bytes(value), self._next(connection))
            connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (key, entry.value, entry.index))
        return entry

    def delete(self, key: str, expect: int | None = None) -> None:
        """Remove a key durably, if its index is `expect`; absent is fine when expect is None or 0."""
        check_key(key)
        with self._connected() as connection, _transaction(connection):
            _expect(connection, key, expect)
            if connection.execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount:
                self._next(connection)

    def list(self, prefix: str) -> dict[str, Entry]:
        """All entries whose key begins with a prefix, sorted by key, as they were at one moment."""
        # keys are ASCII and DEL is none of their characters
        between = (check_prefix(prefix), prefix + "\x7f")
        with self._connected() as connection:
            rows = connection.execute("SELECT * FROM entries WHERE key >= ? AND key < ? ORDER BY key", between)
            return {key: Entry(value, last) for key, value, last in rows}

    def watch(self, key: str, index: int, wait_s: float) -> Entry | None:
        """The key's entry as soon as its index differs from `index` (0 = absent), at the latest after wait_s."""
        check_key(key)
        until = self._clock.monotonic() + wait_s
        with self._connected():
            opened = self._inode
        with _translated(self._path), closing(_open(self._path)) as connection:
            seen, entry = None, None
            while True:
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    seen, entry = version, _read(connection, key)
                left = until - self._clock.monotonic()
                if (entry.index if entry else 0) != index or left <= 0:
                    return entry
                time.sleep(min(POLL_S, left))
                self._check_there()
                if _inode(self._path) != opened:
                    raise Unreachable(f"the registry {self._path} was replaced by another file", "ask again")

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._lock:
            self._drop()

    def _next(self, connection: sqlite3.Connection) -> int:
        last = int(connection.execute("SELECT last FROM counter").fetchone()[0])
        index = max(last + 1, int(self._clock.now() * 1e6))
        connection.execute("UPDATE counter SET last = ?", (index,))
        return index

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _translated(self._path):
            if self._inode is not None:
                self._check_there()
            if self._connection is None or _inode(self._path) != self._inode:
                self._drop()
                self._connection = _open(self._path)
                self._inode = _inode(self._path)
            yield self._connection

    def _check_there(self) -> None:
        if _inode(self._path) is None:
            raise Unreachable(f"the registry {self._path} is gone", "put the file back, or deploy again to a new one")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _forget(self) -> None:
        if self._connection is not None:
            _parents.append(self._connection)
        self._lock, self._connection = threading.Lock(), None


def _forget_parents() -> None:
    for registry in list(_registries):
        registry._forget()


os.register_at_fork(after_in_child=_forget_parents)


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        make_folders(path.parent)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        layout = _prepare(connection)
    except BaseException:
        connection.close()
        raise
    if layout != (_APPLICATION, _LAYOUT):
        connection.close()
        raise CorruptState(f"{path} is an SQLite file, but no registry of this version", "move it away")
    return connection


def _prepare(connection: sqlite3.Connection) -> tuple[int, int]:
    def layout() -> tuple[int, int]:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        return int(application), int(connection.execute("PRAGMA user_version").fetchone()[0])

    connection.execute("PRAGMA synchronous=FULL")
    if layout() == (0, 0) and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        _become_wal(connection)
        with _transaction(connection):
            for statement in _SETUP:
                connection.execute(statement)
    return layout()


def _become_wal(connection: sqlite3.Connection) -> None:
    # this one change does not wait for other processes, whatever the busy timeout says
    until = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(POLL_S)


def _read(connection: sqlite3.Connection, key: str) -> Entry | None:
    row = connection.execute(_READ, (key,)).fetchone()
    return Entry(*row) if row else None


def _expect(connection: sqlite3.Connection, key: str, expect: int | None) -> None:
    entry = _read(connection, key)
    there = entry.index if entry else 0
    if expect is not None and there != expect:
        raise LostRace(f"{key} was changed by somebody else", "look at what is there now, then try again")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE takes the write lock before the first read, so what is checked is still so when it is written
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself when, for one, the disk is full
            connection.execute("ROLLBACK")
        raise


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _in_our_words(path, error) from error
    except PermissionError as error:
        raise NotAuthorised(f"the registry {path} may not be used", "check its permissions") from error
    except OSError as error:
        raise Unreachable(f"the registry {path} failed: {error.strerror}", "check the disk") from error


def _in_our_words(path: Path, error: sqlite3.Error) -> RdvError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return TimedOut(f"the registry {path} was locked for {BUSY_S:.0f} s", "find who holds it with `fuser`")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        hint = "restore it, or move it away and deploy again"
        return CorruptState(f"the registry {path} cannot be read: {error}", hint)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return NotAuthorised(f"the registry {path} may not be written", "check the permissions of file and folder")
    if code == sqlite3.SQLITE_FULL:
        return RdvError(f"no space left for the registry {path}", "free some space")
    return Unreachable(f"the registry {path} failed: {error}", "check that the path can be read and written")
