"""Keys and passwords in a text, by how they look. Pure.

Few patterns that are nearly always right: what cries wolf is turned off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_BY_FORM = {
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of Vault": r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}",
    "a token of GitLab": r"\bgl(?:pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_.-]{20,}",
    "a token of GitHub": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
    "a token of PyPI": r"\bpypi-[A-Za-z0-9_-]{50,}",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s:/@$<{'\"]+:[^\s:/@$<{'\"]{3,}@",
}
_FORMS = [(what, re.compile(form)) for what, form in _BY_FORM.items()]
# a value of some length given to a name that says what it is; a place, a variable or a word in capitals is none
_NAMED = re.compile(
    r"""(?ix) \b [\w.-]* (?: passw(?:or)?d | secret(?:_?key)? | api_?key | access_?key | private_?key | token )
    ["']? \s* [:=] \s* ["'] (?P<value> [^"'\s]{8,}) ["']"""
)
_NO_VALUE = re.compile(r"^(?:[$@<{%].*|.*[/:].*|[A-Z_]+|[a-z]+(?:[._-][a-z0-9]+)*|x+|\*+|\.+)$")


def secrets_in(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers of a text with what is there: at most one finding a line."""
    for number, line in enumerate(text.splitlines(), start=1):
        what = next((what for what, form in _FORMS if form.search(line)), "")
        named = _NAMED.search(line)
        if not what and named and not _NO_VALUE.match(named["value"]):
            what = "a password or key"
        if what:
            yield number, what
