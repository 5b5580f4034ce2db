"""Terraform's files as data: blocks, and arguments as text. Understands as much of HCL as terraform/ is written in."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

_SKIPPED = re.compile(r"(?:\s+|#[^\n]*|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][\w-]*")
_LABEL = re.compile(r'[ \t]*(?:"([^"\\]*)"|([A-Za-z_][\w-]*))')
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_WORDS = {"true": True, "false": False, "null": None}
_OPEN, _CLOSE = "([{", ")]}"


def load(file: pathlib.Path) -> dict[str, Any]:
    """A file's arguments by name, and its blocks: for each kind a list of {label: {label: contents}}.

    A text is a template and an expression stands in ${}, as in Terraform's own JSON. ValueError for what is not HCL.
    """
    return _Reader(file.read_text()).body(top=True)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def body(self, top: bool = False) -> dict[str, Any]:
        """Arguments and blocks up to the end of the text, or of the block."""
        found: dict[str, Any] = {}
        while True:
            self._skip()
            if self._at == len(self._text) if top else self._take("}"):
                return found
            name = self._match(_NAME)[0]
            labels = []
            while label := _LABEL.match(self._text, self._at):
                labels.append(label[1] if label[1] is not None else label[2])
                self._at = label.end()
            self._spaces()
            if not labels and self._take("="):
                found[name] = _value(self._expression())
            elif self._take("{"):
                made: Any = self.body()
                for label_text in reversed(labels):
                    made = {label_text: made}
                found.setdefault(name, []).append(made)
            else:
                raise ValueError(f"neither argument nor block: {self._text[self._at :][:40]!r}")

    def _expression(self) -> str:
        """The text up to the end of the line on which all that was opened is closed."""
        self._spaces()
        begun, depth = self._at, 0
        while self._at < len(self._text):
            here = self._text[self._at]
            if here == '"':
                self._string()
                continue
            if self._text.startswith("<<", self._at):
                raise ValueError("a heredoc is not understood")
            if depth and (skipped := _SKIPPED.match(self._text, self._at)):
                self._at = skipped.end()
                continue
            if not depth and (here in "\n#}" or self._text.startswith("//", self._at)):
                break
            depth += (here in _OPEN) - (here in _CLOSE)
            self._at += 1
        return self._text[begun : self._at].rstrip()

    def _string(self) -> None:
        """Go past a text in quotes, and the expressions in it."""
        self._at += 1
        while not self._take('"'):
            if self._text.startswith(("$${", "%%{", "\\"), self._at):
                self._at += 2
            elif self._take("${") or self._take("%{"):
                while not self._take("}"):
                    self._string() if self._text[self._at] == '"' else self._step()
            else:
                self._step()

    def _step(self) -> None:
        if self._text[self._at] == "\n":
            raise ValueError("a text without an end")
        self._at += 1

    def _skip(self) -> None:
        if skipped := _SKIPPED.match(self._text, self._at):
            self._at = skipped.end()

    def _spaces(self) -> None:
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1

    def _take(self, mark: str) -> bool:
        taken = self._text.startswith(mark, self._at)
        self._at += len(mark) * taken
        return taken

    def _match(self, what: re.Pattern[str]) -> re.Match[str]:
        found = what.match(self._text, self._at)
        if found is None:
            raise ValueError(f"no name: {self._text[self._at :][:40]!r}")
        self._at = found.end()
        return found


def _value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return json.loads(text)
    if text.startswith('"') and _ends_as_it_began(text):
        # quotes within ${} are as they are
        return re.sub(r'\\(["\\])', r"\1", text[1:-1].replace(r"\n", "\n"))
    return f"${{{text}}}"


def _ends_as_it_began(text: str) -> bool:
    """Whether a text in quotes is one, and not the first part of an expression."""
    reader = _Reader(text)
    reader._string()
    return reader._at == len(text)
