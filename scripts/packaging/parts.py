"""Reads the parts of a package and their licences from its SBOM, and refuses other licences.

The SBOM is CycloneDX JSON as `cyclonedx-py environment` writes it
(https://cyclonedx.org/docs/1.6/json/). A component names its licences as SPDX expressions, SPDX
identifiers, or trove classifiers of PyPI:

    {"name": "click", "version": "8.5.1", "licenses": [{"license": {"id": "BSD-3-Clause"}}]}

and may have components of its own, the libraries inside it (scripts/packaging/bundled).

The project takes only parts under MIT, BSD, Apache, LGPL or MPL and licences that ask for no more
than these.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSD-Attribution-HPND-disclaimer",
        "BSL-1.0",
        "CC0-1.0",
        "FTL",
        "GPL-3.0-or-later WITH GCC-exception-3.1",
        "IJG",
        "ISC",
        "LGPL-2.1",
        "LicenseRef-AGG-2.3",
        "LGPL-2.1-or-later",
        "LGPL-3.0-only",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MIT-Modern-Variant",
        "MIT-open-group",
        "MPL-2.0",
        "OLDAP-2.8",
        "PSF-2.0",
        "PostgreSQL",
        "Python-2.0",
        "Unicode-3.0",
        "Unicode-DFS-2016",
        "X11",
        "Zlib",
        "libpng-2.0",
        "libtiff",
    }
)
_CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
# Parts whose metadata says less than the licence in their files does.
_READ_BY_HAND = {
    # It has two classifiers, BSD and "Other": its LICENSE is BSD, and older code in it MIT.
    "qrcode": "BSD-3-Clause AND MIT",
    # PDFium itself is under BSD-3-Clause and Apache-2.0.
    "pypdfium2": "Apache-2.0 AND BSD-3-Clause",
}


@dataclass(frozen=True)
class Part:
    """A Python distribution in the package, or a library `inside` one.

    `licence` is an SPDX expression, "" if unknown; `version` is "" if unknown.
    """

    name: str
    version: str
    licence: str
    inside: str = ""

    def __str__(self) -> str:
        name = f"{self.name} in {self.inside}" if self.inside else self.name
        return f"{name} {self.version}".rstrip()


def parts(sbom: Mapping[str, Any]) -> list[Part]:
    """Return the components of a CycloneDX document by name, each before those inside it."""
    found = list(_parts(sbom["components"], ""))
    return sorted(found, key=lambda part: ((part.inside or part.name).lower(), part.inside != ""))


def _parts(components: Iterable[Mapping[str, Any]], inside: str) -> Iterator[Part]:
    for each in components:
        yield Part(each["name"], each.get("version", ""), _licence(each), inside)
        yield from _parts(each.get("components", ()), each["name"])


def _licence(component: Mapping[str, Any]) -> str:
    if known := _READ_BY_HAND.get(component["name"]):
        return known
    stated = set()
    for entry in component.get("licenses", ()):
        licence = entry.get("license", {})
        text = entry.get("expression") or licence.get("id") or licence.get("name", "")
        stated.add(_CLASSIFIERS.get(text, text))
    return " AND ".join(sorted(stated))


def refused(found: Iterable[Part]) -> list[str]:
    """Return a line for each part whose licence is unknown or not one of those allowed."""
    lines = []
    for part in found:
        if not part.licence.strip():
            lines.append(f"{part}: names no licence: read it in its files")
        elif others := sorted(_not_allowed(part.licence)):
            lines.append(f"{part}: licence {', '.join(others)} is not allowed")
    return lines


def _not_allowed(expression: str) -> set[str]:
    """Return the licences of an SPDX expression that are not allowed; of an OR one is enough."""
    words = re.findall(r"[()]|[^\s()]+", expression)
    wrong = _either(words)
    return wrong | set(words)  # words are left if it is no expression


def _either(words: list[str]) -> set[str]:
    choices = [_all(words)]
    while words and words[0] == "OR":
        del words[0]
        choices.append(_all(words))
    return set() if not all(choices) else set().union(*choices)


def _all(words: list[str]) -> set[str]:
    wrong = _one(words)
    while words and words[0] == "AND":
        del words[0]
        wrong |= _one(words)
    return wrong


def _one(words: list[str]) -> set[str]:
    if not words:
        return {""}
    if (name := words.pop(0)) == "(":
        wrong = _either(words)
        return wrong if words and words.pop(0) == ")" else wrong | {"("}
    if words[:1] == ["WITH"]:
        name = " ".join([name, *words[:2]])
        del words[:2]
    return set() if name in _ALLOWED else {name}


def copyright_file(found: Iterable[Part], own_licence: str) -> str:
    """Return Debian's copyright file: our licence, and where the licence of each part is."""
    listed = "".join(f"    {part}: {part.licence}\n" for part in found)
    return (
        f"SSPS is under the MIT licence:\n\n{own_licence}\n"
        "/opt/ssps has copies of these Python packages and of the libraries inside them. The text\n"
        "of each licence is in /opt/ssps/lib/python3*/site-packages/NAME-VERSION.dist-info/,\n"
        "or, of a library, in its source. Debian has those of the LGPL in\n"
        "/usr/share/common-licenses/LGPL-2.1 and /usr/share/common-licenses/LGPL-3.\n\n"
        f"{listed}"
    )
