"""Splits: which rows train, which choose and which judge; the same rows whenever the same data is split.

No row's part depends on its place in the file, and rows that are added move none of the earlier ones in a split at
random or by group. Rows of one group and rows of one moment always share a part; equal rows of a split at random are
told apart by counting them, so that it is as good as drawing lots.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from rdv.config import Split
from rdv.errors import ConfigError, InputError
from rdv.pipelines.tables import Column, Table

TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = ("train", "validation", "test")

Parts = NDArray[np.uint8]


def split_rows(split: Split, table: Table) -> Parts:
    """The part of each row (n,), 0 train, 1 validation, 2 test; ConfigError when a part stays empty."""
    if not (split.validation > 0 and split.test > 0 and split.validation + split.test < 1):
        raise ConfigError(
            f"split keeps {split.validation} and {split.test} of the rows", "both must be above 0, together below 1"
        )
    if split.by == "time":
        parts = _by_time(split, table.column(split.field, "split's time field"))
    else:
        shares = _group_shares(split, table) if split.by == "group" else _row_shares(split.seed, table)
        parts = np.full(len(table), TRAIN, dtype=np.uint8)
        parts[shares < split.validation + split.test] = VALIDATION
        parts[shares < split.test] = TEST
    counts = np.bincount(parts, minlength=3)
    if not counts.all():
        told = ", ".join(f"{name} {count}" for name, count in zip(PARTS, counts, strict=True))
        raise ConfigError(f"the split by {split.by} leaves a part empty ({told})", "use more data or another split")
    return parts


def share_of(seed: int, data: bytes) -> float:
    """A number in [0, 1) that depends on the seed and the bytes only, evenly spread over different bytes."""
    digest = hashlib.blake2b(data, digest_size=8, salt=seed.to_bytes(16, "little", signed=True)).digest()
    return int.from_bytes(digest, "little") / 2.0**64


def _row_shares(seed: int, table: Table) -> NDArray[np.float64]:
    """One share a row, from the values of all its columns, taken in the order of their names."""
    words = np.stack([_words(table.columns[name]) for name in sorted(table.columns)], axis=1)
    data, width = np.ascontiguousarray(words).tobytes(), words.shape[1] * 8
    seen: Counter[bytes] = Counter()
    shares = []
    for at in range(0, len(data), width):
        row = data[at : at + width]
        seen[row] += 1
        shares.append(share_of(seed, row if seen[row] == 1 else row + b"%d" % seen[row]))
    return np.array(shares)


def _words(column: Column) -> NDArray[np.uint64]:
    """A column as 64-bit words, equal exactly for equal values and independent of the column's other values."""
    if column.type == "string":
        made = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in column.values]
        codes = np.frombuffer(b"".join([*made, bytes(8)]), dtype=np.uint64)
        return np.asarray(codes[column.data], dtype=np.uint64)
    data = column.data + 0.0
    data[np.isnan(data)] = np.nan
    return data.view(np.uint64)


def _group_shares(split: Split, table: Table) -> NDArray[np.float64]:
    column = table.column(split.field, "split's group field")
    _refuse_missing(split.field, column)
    texts = column.texts()
    shares = {text: share_of(split.seed, str(text).encode()) for text in set(texts)}
    return np.array([shares[text] for text in texts])


def _by_time(split: Split, column: Column) -> Parts:
    """The oldest rows train, the newest judge; cuts lie between two moments."""
    _refuse_missing(split.field, column)
    moments, places, counts = np.unique(_moments(split.field, column), return_inverse=True, return_counts=True)
    if len(moments) < 3:
        raise ConfigError(f"{split.field!r} has {len(moments)} different times, a split by time needs three")
    until = np.cumsum(counts) / counts.sum()
    first = int(np.argmin(np.abs(until[:-2] - (1 - split.validation - split.test))))
    second = first + 1 + int(np.argmin(np.abs(until[first + 1 : -1] - (1 - split.test))))
    part = np.full(len(moments), TEST, dtype=np.uint8)
    part[: second + 1] = VALIDATION
    part[: first + 1] = TRAIN
    return part[places]


def _moments(field: str, column: Column) -> NDArray[np.float64]:
    if column.type != "string":
        return column.data
    moments = []
    for text in column.values:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise InputError(f"{text[:40]!r} in {field!r} is not a time", "use ISO 8601 or numbers") from None
        moments.append((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return np.asarray(np.array(moments, dtype=np.float64)[column.data], dtype=np.float64)


def _refuse_missing(field: str, column: Column) -> None:
    missing = column.missing()
    if missing.any():
        raise InputError(f"row {int(missing.argmax()) + 1} has no {field!r}, which the split needs", "fill or drop it")
