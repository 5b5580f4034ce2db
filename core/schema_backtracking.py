"""How long a backtracking matcher may take on a pattern: told before a request can find out.

The pattern becomes its position automaton (Glushkov), in which edges are counted: two ways to go from one place to
another and back are exponential time (`(a+)+$`), chains of loops that can read the same text are polynomial (`a*a*$`).
Repetitions are taken as endless, so that what is allowed here is fast whatever its counts are.
Source: Weideman et al., Analyzing Matching Time Behavior of Backtracking Regular Expression Matchers (CIAA 2016).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rdv.schema_pattern import Alt, Anchor, Chars, Node, Pattern, PatternError, Ranges, Repeat, Seq

MAX_POSITIONS = 400
MAX_STEPS = 2_000_000
"""What matching one field may cost, in steps of the matcher: some 30 ms."""

Edges = Mapping[int, Iterable[int]]


@dataclass
class _Part:
    """A piece of the automaton: positions it can begin and end with, and in how many ways it can be empty."""

    first: Counter[int] = field(default_factory=Counter)
    last: Counter[int] = field(default_factory=Counter)
    empty: int = 1


class _Automaton:
    def __init__(self, tree: Node) -> None:
        self.chars: list[Ranges] = []
        self.edges: Counter[tuple[int, int]] = Counter()
        self.part = self.build(tree)

    def build(self, node: Node) -> _Part:
        match node:
            case Chars(ranges):
                return self.position(ranges)
            case Anchor():
                return _Part()
            case Seq(items):
                return self.sequence(self.build(item) for item in items)
            case Alt(items):
                parts = [self.build(item) for item in items]
                firsts, lasts = [part.first for part in parts], [part.last for part in parts]
                return _Part(_sum(firsts), _sum(lasts), min(sum(part.empty for part in parts), 2))
            case Repeat(Chars(ranges), least, most) if least == most:
                return self.sequence(self.position(ranges) for _ in range(least))
            case Repeat(item, least, most):
                part = self.build(item)
                if part.empty and most is not None and most > 1:
                    raise PatternError("a counted repetition of something that may be empty can take for ever")
                if most is None or most > 1:
                    self.join(part.last, part.first)
                return _Part(part.first, part.last, part.empty + (least == 0))

    def position(self, ranges: Ranges) -> _Part:
        if len(self.chars) >= MAX_POSITIONS:
            raise PatternError(f"more than {MAX_POSITIONS} characters with their counts are too many")
        self.chars.append(ranges)
        at = len(self.chars) - 1
        return _Part(Counter([at]), Counter([at]), 0)

    def sequence(self, parts: Iterable[_Part]) -> _Part:
        whole = _Part()
        for part in parts:
            self.join(whole.last, part.first)
            whole = _Part(
                whole.first + _times(part.first, whole.empty),
                part.last + _times(whole.last, part.empty),
                min(whole.empty * part.empty, 2),
            )
        return whole

    def join(self, ends: Counter[int], starts: Counter[int]) -> None:
        for end, ways in ends.items():
            for start, more in starts.items():
                self.edges[end, start] += min(ways * more, 2)


def longest_text(pattern: Pattern) -> int | None:
    """The longest text, in characters, on which the pattern is surely fast; None when its length does not matter.

    Raises PatternError for a pattern whose time can double with every character.
    """
    automaton = _Automaton(pattern.tree)
    follow: dict[int, set[int]] = {at: set() for at in range(len(automaton.chars))}
    for one, other in automaton.edges:
        follow[one].add(other)
    loops = _loops(follow)
    for loop in loops:
        if _is_ambiguous(loop, automaton, follow):
            raise PatternError("one text fits a repetition in several ways, which takes for ever on some texts")
    degree = _degree(loops, automaton.chars, follow) + (not _anchored(pattern.tree))
    if not loops or degree <= 1:
        return None
    return int(MAX_STEPS ** (1 / degree))


def _sum(counts: Iterable[Counter[int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for one in counts:
        total += one
    return total


def _times(counts: Counter[int], ways: int) -> Counter[int]:
    return Counter({at: min(count * ways, 2) for at, count in counts.items()}) if ways else Counter()


def _overlap(one: Ranges, other: Ranges) -> bool:
    return any(low <= top and bottom <= high for low, high in one for bottom, top in other)


def _reach(starts: Iterable[int], follow: Edges, within: set[int]) -> set[int]:
    found: set[int] = set()
    todo = [at for start in starts for at in follow[start] if at in within]
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            todo += [other for other in follow[at] if other in within]
    return found


def _loops(follow: Edges) -> list[set[int]]:
    """The strongly connected parts that have an edge, in an order in which later ones are reached from earlier."""
    everything = set(follow)
    reach = {at: _reach([at], follow, everything) for at in follow}
    loops: list[set[int]] = []
    for at in follow:
        if at in reach[at] and not any(at in loop for loop in loops):
            loops.append({other for other in reach[at] if at in reach[other]})
    return sorted(loops, key=lambda loop: -len(reach[next(iter(loop))]))


def _is_ambiguous(loop: set[int], automaton: _Automaton, follow: Edges) -> bool:
    """Whether some text leads from a place of the loop back to it in two ways."""
    if any(automaton.edges[one, other] > 1 for one in loop for other in follow[one] if other in loop):
        return True
    chars = automaton.chars
    after: dict[tuple[int, int], list[tuple[int, int]]] = {}
    todo = [(at, at) for at in loop]
    while todo:
        pair = todo.pop()
        if pair in after:
            continue
        after[pair] = [
            (one, other)
            for one in follow[pair[0]]
            for other in follow[pair[1]]
            if one in loop and other in loop and _overlap(chars[one], chars[other])
        ]
        todo += after[pair]
    before: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for pair, nexts in after.items():
        for other in nexts:
            before.setdefault(other, []).append(pair)
    back, todo = set(), [(at, at) for at in loop]
    while todo:
        for pair in before.get(todo.pop(), []):
            if pair not in back:
                back.add(pair)
                todo.append(pair)
    return any(one != other for one, other in back)


def _degree(loops: list[set[int]], chars: list[Ranges], follow: Edges) -> int:
    """The most loops in a row that can read the same text, each on its way to the next one."""
    chain = [1] * len(loops)
    for at, loop in enumerate(loops):
        for earlier in range(at):
            shared = {
                position
                for position in follow
                if any(_overlap(chars[position], chars[one]) for one in loops[earlier])
                and any(_overlap(chars[position], chars[one]) for one in loop)
            }
            if _reach(loops[earlier], follow, shared) & loop:
                chain[at] = max(chain[at], chain[earlier] + 1)
    return max(chain, default=0)


def _anchored(tree: Node) -> bool:
    """Whether a match can only begin where the text begins, so that the matcher tries it once."""
    match tree:
        case Anchor("^"):
            return True
        case Seq(items):
            return bool(items) and _anchored(items[0])
        case Alt(items):
            return all(map(_anchored, items))
        case Repeat(item, least, _):
            return least > 0 and _anchored(item)
        case _:
            return False
