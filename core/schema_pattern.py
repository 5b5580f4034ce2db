"""Patterns: the regular expressions that JSON Schema's dialect (ECMA 262) and Python's read in the same way.

Literal characters, classes, groups, alternatives, quantifiers, ^ and $. The one difference inside this part is `$`,
which Python also finds before a final newline; `published` is the text in which it does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

Ranges: TypeAlias = "tuple[tuple[int, int], ...]"
TOP = 0x10FFFF
MAX_REPEAT = 1000
_SYNTAX = frozenset("^$\\.*+?()[]{}|/")
_CONTROL = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_QUANTIFIER = re.compile(r"([*+?])|\{([0-9]{1,4})(,([0-9]{1,4})?)?\}", re.ASCII)
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})", re.ASCII)


class PatternError(ValueError):
    """A pattern outside the supported part; the message says what and where."""


@dataclass(frozen=True)
class Chars:
    """One character out of some ranges of code points, sorted and apart."""

    ranges: Ranges


@dataclass(frozen=True)
class Seq:
    """One thing after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Alt:
    """One of several things."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """A thing `least` to `most` times; most None: without limit."""

    item: Node
    least: int
    most: int | None


@dataclass(frozen=True)
class Anchor:
    """The beginning (`^`) or the end (`$`) of the text."""

    at: str


Node: TypeAlias = "Chars | Seq | Alt | Repeat | Anchor"


@dataclass(frozen=True)
class Pattern:
    """A parsed pattern. published: its text with the same meaning in both dialects."""

    tree: Node
    published: str


def parse_pattern(text: str) -> Pattern:
    """The pattern in some text; PatternError names what is not supported, and its place."""
    parser = _Parser(text)
    tree = parser.alternatives()
    if parser.at < len(text):
        raise PatternError(f"unmatched ) at character {parser.at + 1}")
    return Pattern(tree, "".join(parser.published))


def sample(node: Node, rng: Random) -> str:
    """Some text that the tree describes, short more often than long; anchors are not looked at."""
    match node:
        case Chars(ranges):
            low, high = rng.choice(ranges)
            readable = [at for at in (rng.randint(low, high), rng.randint(low, min(high, low + 93))) if _valid(at)]
            return chr(rng.choice([at for at in (low, high) if _valid(at)] + readable * 2 or [0x61]))
        case Seq(items):
            return "".join(sample(item, rng) for item in items)
        case Alt(items):
            return sample(rng.choice(items), rng)
        case Repeat(item, least, most):
            top = least + 4 if most is None else most
            count = rng.choice((least, min(top, least + 1), rng.randint(least, min(top, least + 4)), min(top, 64)))
            return "".join(sample(item, rng) for _ in range(max(count, least)))
        case Anchor():
            return ""


class _Parser:
    """Recursive descent; `published` grows with what was read."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.published: list[str] = []

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, count: int = 1) -> str:
        taken = self.text[self.at : self.at + count]
        self.at += count
        self.published.append(taken)
        return taken

    def refuse(self, what: str) -> PatternError:
        return PatternError(f"{what} at character {self.at + 1} is not supported")

    def alternatives(self) -> Node:
        items = [self.sequence()]
        while self.peek() == "|":
            self.take()
            items.append(self.sequence())
        return items[0] if len(items) == 1 else Alt(tuple(items))

    def sequence(self) -> Node:
        items: list[Node] = []
        while self.peek() not in ("", "|", ")"):
            items.append(self.item())
        return items[0] if len(items) == 1 else Seq(tuple(items))

    def item(self) -> Node:
        char = self.peek()
        if char == "^":
            self.take()
            return Anchor("^")
        if char == "$":
            self.at += 1
            self.published.append(r"(?!\n)$")
            return Anchor("$")
        return self.quantified(self.atom(char))

    def atom(self, char: str) -> Node:
        if char == "(":
            return self.group()
        if char == "[":
            return self.char_class()
        if char == ".":
            raise self.refuse(". (write the characters that you mean, like [^\\n])")
        if char in "*+?{":
            raise self.refuse(f"{char} with nothing before it to repeat")
        if char in "]}":
            raise self.refuse(f"a bare {char} (write \\{char})")
        code = self.escape(in_class=False) if char == "\\" else self.literal()
        return Chars(((code, code),))

    def group(self) -> Node:
        self.take()
        if self.peek() == "?":
            if self.text[self.at : self.at + 2] != "?:":
                raise self.refuse(f"({self.text[self.at : self.at + 3]} (only plain groups and (?: are)")
            self.take(2)
        inner = self.alternatives()
        if self.peek() != ")":
            raise PatternError("a ( is never closed")
        self.take()
        return inner

    def quantified(self, item: Node) -> Node:
        found = _QUANTIFIER.match(self.text, self.at)
        if not found:
            return item
        self.take(len(found[0]))
        if found[1]:
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[found[1]]
        else:
            least = int(found[2])
            most = least if found[3] is None else int(found[4]) if found[4] else None
        if (most is not None and most < least) or max(least, most or 0) > MAX_REPEAT:
            raise PatternError(f"{found[0]} is no count from low to high of at most {MAX_REPEAT}")
        if self.peek() == "?":
            self.take()
        if _QUANTIFIER.match(self.text, self.at):
            raise self.refuse("a second quantifier")
        return Repeat(item, least, most)

    def literal(self) -> int:
        code = ord(self.peek())
        if not _valid(code):
            raise self.refuse("half a surrogate pair")
        self.take()
        return code

    def escape(self, in_class: bool) -> int:
        after = self.text[self.at + 1 : self.at + 2]
        if after in _CONTROL:
            return ord(_CONTROL[self.take(2)[1]])
        if after and (after in _SYNTAX or (in_class and after == "-")):
            return ord(self.take(2)[1])
        found = _HEX.match(self.text, self.at + 1)
        if found and _valid(int(found[1] or found[2], 16)):
            self.take(1 + len(found[0]))
            return int(found[1] or found[2], 16)
        raise self.refuse(f"\\{after} (write the characters that you mean, like [0-9])")

    def char_class(self) -> Node:
        self.take()
        negated = self.peek() == "^"
        if negated:
            self.take()
        ranges: list[tuple[int, int]] = []
        while self.peek() != "]":
            low = self.class_member(bool(ranges))
            high = low
            if self.peek() == "-" and self.text[self.at + 1 : self.at + 2] != "]":
                self.take()
                high = self.class_member(True)
                if high < low:
                    raise self.refuse("a range from high to low before here")
            ranges.append((low, high))
        if not ranges:
            raise self.refuse("an empty class")
        found = _complement(_merged(ranges)) if negated else _merged(ranges)
        if not found:
            raise self.refuse("a class of no character")
        self.take()
        return Chars(found)

    def class_member(self, inside: bool) -> int:
        char = self.peek()
        if not char:
            raise PatternError("a [ is never closed")
        if char == "\\":
            return self.escape(in_class=True)
        doubled = char in "&|~-" and self.text[self.at + 1 : self.at + 2] == char
        middle = char == "-" and inside and self.text[self.at + 1 : self.at + 2] != "]"
        if char == "[" or doubled or middle:
            raise self.refuse(
                f"a bare {char} in a class (write \\{char})" if char in "[-" else f"{char}{char} in a class"
            )
        return self.literal()


def _valid(code: int) -> bool:
    return not 0xD800 <= code <= 0xDFFF


def _merged(ranges: list[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _complement(ranges: Ranges) -> Ranges:
    edges = [-1, *(edge for low, high in ranges for edge in (low, high)), TOP + 1]
    gaps = [(low + 1, high - 1) for low, high in zip(edges[::2], edges[1::2], strict=True) if low + 1 < high]
    return tuple((low, high) for low, high in gaps if not 0xD800 <= low <= high <= 0xDFFF)
