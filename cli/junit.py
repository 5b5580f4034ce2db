"""Verdicts as JUnit XML, which GitLab and others show in a merge request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One thing that was asked. failure: why it is not so; error: why that cannot be told. Both empty: it is so."""

    name: str
    seconds: float = 0.0
    failure: str = ""
    error: str = ""


def document(suite: str, cases: Sequence[Case], facts: Mapping[str, object]) -> bytes:
    """A test suite with a case each. facts: shown as the suite's properties."""
    counts = {
        "tests": len(cases),
        "failures": sum(bool(case.failure) and not case.error for case in cases),
        "errors": sum(bool(case.error) for case in cases),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }
    root = ElementTree.Element("testsuites")
    top = ElementTree.SubElement(root, "testsuite", {"name": _clean(suite), **{k: str(v) for k, v in counts.items()}})
    properties = ElementTree.SubElement(top, "properties")
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(str(value))})
    for case in cases:
        names = {"classname": _clean(suite), "name": _clean(case.name), "time": f"{case.seconds:.3f}"}
        element = ElementTree.SubElement(top, "testcase", names)
        if case.error or case.failure:
            told = _clean(case.error or case.failure)
            ElementTree.SubElement(element, "error" if case.error else "failure", {"message": told}).text = told
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()


def _clean(text: str) -> str:
    """The text without the characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
