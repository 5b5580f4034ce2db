"""Whether a text can be HCL: brackets, strings and heredocs end, and there is a job. Pure.

Nomad says what a job means; this finds, without a server, what was broken by editing.
"""

from __future__ import annotations

import re

_OPENING = {"{": "}", "[": "]", "(": ")"}
_HEREDOC = re.compile(r"<<-?([A-Za-z_]\w*)[ \t]*\n")
_JOB = re.compile(r'^\s*job\s+"[^"]+"\s*\{', re.MULTILINE)


def hcl_problem(text: str) -> str:
    """What is wrong with a job file, with the line; empty when nothing is."""
    waiting: list[tuple[str, int]] = []
    at = 0
    while at < len(text):
        end = _skip(text, at)
        if end < 0:
            return f"line {_line(text, at)}: what begins here does not end"
        if end > at:
            at = end
            continue
        char = text[at]
        if char in _OPENING:
            waiting.append((_OPENING[char], at))
        elif char in _OPENING.values() and (not waiting or waiting.pop()[0] != char):
            return f"line {_line(text, at)}: {char} closes nothing"
        at += 1
    if waiting:
        closing, begun = waiting[-1]
        return f"line {_line(text, begun)}: {closing} is missing for what is opened here"
    return "" if _JOB.search(text) else 'there is no job "NAME" { } in it'


def _skip(text: str, at: int) -> int:
    """Where a comment, string or heredoc that begins here ends; `at` when none begins, -1 when it never ends."""
    if text.startswith(("#", "//"), at):
        end = text.find("\n", at)
        return len(text) if end < 0 else end
    if text.startswith("/*", at):
        end = text.find("*/", at + 2)
        return end + 2 if end >= 0 else -1
    if text[at] == '"':
        return _string_end(text, at)
    if found := _HEREDOC.match(text, at):
        last = re.compile(rf"^[ \t]*{found[1]}[ \t]*$", re.MULTILINE).search(text, found.end())
        return last.end() if last else -1
    return at


def _string_end(text: str, at: int) -> int:
    """Where a string ends, `${...}` with strings of its own within it; -1 when the line does before."""
    place, depth = at + 1, 0
    while place < len(text) and text[place] != "\n":
        if text[place] == "\\":
            place += 2
            continue
        if text.startswith(("${", "%{"), place):
            depth, place = depth + 1, place + 2
            continue
        if depth and text[place] == '"':
            place = _string_end(text, place)
            if place < 0:
                return -1
            continue
        if depth and text[place] == "}":
            depth -= 1
        elif text[place] == '"':
            return place + 1
        place += 1
    return -1


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
