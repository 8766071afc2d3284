"""Reads the parts of a package and their licences from its SBOM, and refuses other licences.

The SBOM is CycloneDX JSON as `cyclonedx-py environment` writes it
(https://cyclonedx.org/docs/1.6/json/). A component names its licences as SPDX expressions, SPDX
identifiers, or trove classifiers of PyPI:

    {"name": "click", "version": "8.5.1", "licenses": [{"license": {"id": "BSD-3-Clause"}}]}

The project takes only parts under MIT, BSD, Apache, LGPL or MPL and licences that ask for no more
than these.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "ISC",
        "LGPL-2.1",
        "LGPL-2.1-or-later",
        "LGPL-3.0-only",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",
        "PSF-2.0",
        "Python-2.0",
        "Zlib",
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
    """A Python distribution in the package; `licence` is an SPDX expression, "" if unknown."""

    name: str
    version: str
    licence: str


def parts(sbom: Mapping[str, Any]) -> list[Part]:
    """Return the components of a CycloneDX document, by name."""
    found = [
        Part(component["name"], component["version"], _licence(component))
        for component in sbom["components"]
    ]
    return sorted(found, key=lambda part: part.name.lower())


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
        names = {name for name in re.split(r"\s+(?:AND|OR)\s+|[()]", part.licence) if name.strip()}
        if not names:
            lines.append(f"{part.name} {part.version}: names no licence: read it in its files")
        elif others := sorted(names - _ALLOWED):
            lines.append(f"{part.name} {part.version}: licence {', '.join(others)} is not allowed")
    return lines


def copyright_file(found: Iterable[Part], own_licence: str) -> str:
    """Return Debian's copyright file: our licence, and where the licence of each part is."""
    listed = "".join(f"    {part.name} {part.version}: {part.licence}\n" for part in found)
    return (
        f"SSPS is under the MIT licence:\n\n{own_licence}\n"
        "/opt/ssps has copies of these Python packages. The text of each licence is in\n"
        "/opt/ssps/lib/python3*/site-packages/NAME-VERSION.dist-info/:\n\n"
        f"{listed}"
    )
