"""A store of immutable blobs in HDFS, over WebHDFS.

The `hdfs` package does most of it. Its `rename` moves into a folder of the target's name and says the same of every
refusal, so the call is made with `renameoptions`, which refuses what is there and says why.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

import hdfs
import requests
import urllib3
from hdfs.util import HdfsError

from rdv.backends.keys import check_key, check_prefix
from rdv.errors import ConfigError, LostRace, NotAuthorised, NotFound, RdvError, Unreachable, UsageError
from rdv.ids import short_id

# "%" is outside the alphabet of keys
SCRATCH = "%tmp"
_OPTIONS = {"url", "user"}
_TIMEOUT_S = (5.0, 60.0)
_THREADS = 8
_TRIES = 20
_READ_BYTES = 1 << 20
_ABSENT = {"FileNotFoundException"}
_THERE = {"FileAlreadyExistsException"}
_FOLDER_THERE = "must both be directories"
_NESTED = {"ParentNotDirectoryException", "PathIsNotDirectoryException"}
_LATER = {"SafeModeException", "RetriableException", "StandbyException", "ConnectException", "IOException"}


class HdfsBlobs:
    """Blobs as files below one folder of HDFS; safe over threads and forks.

    place: `/folder?url=http://namenode:9870&user=NAME`; several namenodes are joined by `;` in url. A file is written
    aside and then renamed to its key, which HDFS does whole or not at all, and only when nothing has that name.
    """

    def __init__(self, place: str) -> None:
        self._root, self._options = parse_place(place)
        self._where = f"HDFS at {self._options['url']}"
        self._pid, self._made = os.getpid(), _new_client(self._options)

    def put(self, key: str, source: Path) -> None:
        """Store a file's bytes; LostRace when the key is there."""
        at = self._at(key)
        with self._translated(key), source.open("rb") as file:
            self._publish(key, at, file)

    def create(self, key: str, data: bytes) -> None:
        """Store bytes if and only if the key is absent; else LostRace."""
        at = self._at(key)
        with self._translated(key):
            self._publish(key, at, data)

    def read(self, key: str) -> bytes | None:
        """The bytes under a key, None when absent."""
        at = self._at(key)
        with self._translated(key):
            size = self._size(at)
            if size is None:
                return None
            with self._client().read(at) as stream:
                data: bytes = stream.read()
        return self._whole(key, data, len(data), size)

    def fetch(self, key: str, into: Path) -> Path:
        """The key's bytes in `into`, which appears whole or not at all. NotFound when absent."""
        at = self._at(key)
        with self._translated(key):
            size = self._size(at)
            if size is None:
                raise NotFound(f"the store has no {key}", "see `rdv artifacts list`")
            into.parent.mkdir(parents=True, exist_ok=True)
            part = into.with_name(f"{into.name}.{short_id()}")
            try:
                with self._client().read(at) as stream, part.open("wb") as file:
                    shutil.copyfileobj(stream, file, _READ_BYTES)
                self._whole(key, None, part.stat().st_size, size)
                part.replace(into)
            finally:
                part.unlink(missing_ok=True)
        return into

    def keys(self, prefix: str, skip: str = "") -> Iterator[str]:
        """All keys that begin with a prefix, sorted; one listing a folder, several at a time."""
        folder, _, beginning = check_prefix(prefix).rpartition("/")
        with self._translated(prefix):
            return iter(sorted(self._walk(folder and folder + "/", beginning, skip)))

    def delete(self, key: str) -> None:
        """Remove a key and the folders that it leaves empty; absent is fine."""
        at = self._at(key)
        with self._translated(key):
            if self._size(at) is None or not self._client().delete(at):
                return
            folder = at.rpartition("/")[0]
            while len(folder) > len(self._root):
                try:
                    self._client().delete(folder)
                except HdfsError:  # not empty
                    return
                folder = folder.rpartition("/")[0]

    def unfinished(self, older_than_s: float) -> list[str]:
        """Files that were written aside and never renamed; a writer that still writes may own one."""
        before = (time.time() - older_than_s) * 1000.0
        with self._translated(SCRATCH):
            found = self._statuses(SCRATCH)
        return sorted(name for name, status in found if status["modificationTime"] <= before)

    def discard(self, unfinished: str) -> None:
        """Remove a file that was written aside."""
        if not unfinished.isalnum():
            raise UsageError(f"{unfinished!r} was not written aside", "see `rdv artifacts gc`")
        with self._translated(SCRATCH):
            self._client().delete(f"{self._root}/{SCRATCH}/{unfinished}")

    def _at(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _publish(self, key: str, at: str, data: bytes | BinaryIO) -> None:
        scratch = f"{self._root}/{SCRATCH}/{short_id()}{short_id()}"
        try:
            self._client().write(scratch, data, overwrite=False)
            self._move(key, scratch, at)
        except BaseException:
            with suppress(HdfsError, requests.RequestException):
                self._client().delete(scratch)
            raise

    def _move(self, key: str, scratch: str, at: str) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self._client()._rename(scratch, destination=at, renameoptions="NONE")
                return
            except HdfsError as error:
                if error.exception in _THERE or _FOLDER_THERE in str(error):
                    raise self._taken(key, at) from None
                # the key's folder is not there yet, or somebody emptied it and it is gone again
                if error.exception not in _ABSENT or not left:
                    raise
                self._client().makedirs(at.rpartition("/")[0])

    def _taken(self, key: str, at: str) -> RdvError:
        if self._size(at) is not None:
            return LostRace(f"{key} is already in the store", "what is there stays")
        return UsageError(f"{key} lies below another key, or another lies below it", "choose another name")

    def _size(self, at: str) -> int | None:
        """A file's size, None when there is no such file."""
        try:
            status = self._client().status(at, strict=False)
        except HdfsError as error:
            if error.exception in _NESTED | {"AccessControlException"} and "not a directory" in str(error):
                return None  # a file stands where a folder would be
            raise
        return int(status["length"]) if status and status["type"] == "FILE" else None

    def _whole(self, key: str, data: bytes | None, size: int, wanted: int) -> bytes | None:
        # a datanode's answer need not tell its length, so one that broke off looks whole
        if size != wanted:
            raise Unreachable(f"{self._where} broke off {key} after {size} of {wanted} bytes", "try again")
        return data

    def _walk(self, folder: str, beginning: str, skip: str) -> list[str]:
        found: list[str] = []
        with ThreadPoolExecutor(_THREADS, "rdv-hdfs-list") as pool:
            level = [(folder, beginning)]
            while level:
                below: list[tuple[str, str]] = []
                listed = pool.map(self._list, [parent for parent, _ in level])
                for (parent, begin), entries in zip(level, listed, strict=True):
                    for name, is_file in entries:
                        if name.startswith(begin) and not (not parent and name == SCRATCH):
                            if is_file:
                                found.append(parent + name)
                            elif name != skip:
                                below.append((f"{parent}{name}/", ""))
                level = below
        return found

    def _list(self, folder: str) -> list[tuple[str, bool]]:
        """Names in a folder, with whether each is a file; none when the folder is gone or is a file."""
        return [(name, status["type"] == "FILE") for name, status in self._statuses(folder)]

    def _statuses(self, folder: str) -> list[tuple[str, dict[str, Any]]]:
        at = f"{self._root}/{folder}".rstrip("/")
        try:
            entries: list[tuple[str, dict[str, Any]]] = self._client().list(at, status=True)
        except HdfsError as error:
            if error.exception in _ABSENT | _NESTED or "is not a directory" in str(error):
                return []
            raise
        return entries

    def _client(self) -> Any:
        if self._pid != os.getpid():  # connections of the parent process are not ours to use
            self._pid, self._made = os.getpid(), _new_client(self._options)
        return self._made

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except HdfsError as error:
            raise self._in_our_words(key, error) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            kind = type(error).__name__
            raise Unreachable(f"{self._where} does not answer ({kind})", "check the url and the servers") from error
        except RdvError:
            raise
        except OSError as error:
            raise Unreachable(f"{key} could not be copied: {error}", "check the disk and the file") from error

    def _in_our_words(self, key: str, error: HdfsError) -> RdvError:
        said = str(error).partition("\n")[0][:300]
        if error.exception in _NESTED:
            return UsageError(f"{key} lies below another key, or another lies below it", "choose another name")
        if error.exception in ("AccessControlException", "SecurityException", "AuthorizationException"):
            return NotAuthorised(f"{self._where} refused {key}: {said}", "check the user of this place: ?user=NAME")
        if error.exception in _LATER:
            return Unreachable(f"{self._where} cannot serve {key} now: {said}", "try again")
        return RdvError(f"{self._where} failed on {key}: {error.exception or said}", "see the namenode's log")


def parse_place(place: str) -> tuple[str, dict[str, str]]:
    """Folder (without a slash at its end) and options of a place; ConfigError when it is none."""
    folder, _, query = place.partition("?")
    # ";" joins namenodes, so it separates no options
    options = dict(parse_qsl(query, keep_blank_values=True, separator="&"))
    if not folder.startswith("/") or set(options) - _OPTIONS or not options.get("url"):
        raise ConfigError(f"{place!r} is not a place in HDFS", "write hdfs:/folder?url=http://namenode:9870&user=NAME")
    return folder.rstrip("/"), options


def _new_client(options: dict[str, str]) -> Any:
    make: Callable[..., Any] = hdfs.InsecureClient
    return make(options["url"], user=options.get("user"), timeout=_TIMEOUT_S)
