"""Adds to an SBOM the libraries that Python packages bring along in compiled form.

    python -m scripts.packaging.bundled SBOM SITE-PACKAGES

`cyclonedx-py` lists Python packages only. A wheel may also have libraries such as OpenSSL: as files
beside its modules (`pillow.libs/libtiff-20b7e810.so.6.3.0`) or linked into them. They are added as
`components` of the component of their package, from three sources:

1. the SBOMs in the wheel itself (PEP 770, `NAME.dist-info/sboms/`), such as the crates of Rust
2. its files in `NAME.libs/`, each with its digest
3. `_LINKED` below, for what neither of them names

A package with compiled modules and none of the three is a fault, since what is in it is unknown.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

_LIBRARY = re.compile(r"(lib.+?)(?:-[0-9a-f]{8})+\.so(?:\.|$)")
_COMPILED = re.compile(r"\.so(?:\.|$)")
_BUILD_ONLY = {"optional", "excluded"}  # of Pillow: also what its wheels do not have
# By their files or packages. Their texts are in the sources of each.
_LICENCES = {
    "cyrus-sasl-lib": "BSD-Attribution-HPND-disclaimer",
    "keyutils-libs": "LGPL-2.1-or-later",
    "libavif": "BSD-2-Clause",
    "libbrotlicommon": "MIT",
    "libbrotlidec": "MIT",
    "libcom_err": "MIT",
    "libcrypt": "LGPL-2.1-or-later",
    "libcrypto": "Apache-2.0",
    "libfreetype": "FTL",
    "libgfortran": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libgssapi_krb5": "MIT",
    "libharfbuzz": "MIT-Modern-Variant",
    "libjpeg": "IJG AND BSD-3-Clause AND Zlib",
    "libjpeg-turbo": "IJG AND BSD-3-Clause AND Zlib",
    "libk5crypto": "MIT",
    "libkeyutils": "LGPL-2.1-or-later",
    "libkrb5": "MIT",
    "libkrb5support": "MIT",
    "liblber": "OLDAP-2.8",
    "liblcms2": "MIT",
    "libldap": "OLDAP-2.8",
    "liblzma": "0BSD",
    "libopenjp2": "BSD-2-Clause",
    "libpng16": "libpng-2.0",
    "libpq": "PostgreSQL",
    "libqpdf": "Apache-2.0",
    "libquadmath": "LGPL-2.1-or-later",
    "libsasl2": "BSD-Attribution-HPND-disclaimer",
    "libscipy_openblas64_": "BSD-3-Clause",
    "libsharpyuv": "BSD-3-Clause",
    "libssl": "Apache-2.0",
    "libtiff": "libtiff",
    "libwebp": "BSD-3-Clause",
    "libwebpdemux": "BSD-3-Clause",
    "libwebpmux": "BSD-3-Clause",
    "libxau": "MIT-open-group",
    "libxcb": "X11",
    "libzstd": "BSD-3-Clause",
    "openssl": "Apache-2.0",
}
# What is linked into the modules of a package, besides its own code.
_LINKED: Mapping[str, Mapping[str, str]] = {
    "argon2-cffi-bindings": {"argon2": "CC0-1.0 OR Apache-2.0"},
    "bcrypt": {"crates of Rust": "MIT OR Apache-2.0"},
    "cffi": {"libffi": "MIT"},
    "duckdb": {
        "brotli": "MIT",
        "concurrentqueue": "BSD-2-Clause",
        "fast_float": "Apache-2.0 OR MIT OR BSL-1.0",
        "FastPFor": "Apache-2.0",
        "fmt": "MIT",
        "fsst": "MIT",
        "hyperloglog": "BSD-3-Clause",
        "icu": "Unicode-3.0",
        "jemalloc": "BSD-2-Clause",
        "libpg_query": "BSD-3-Clause AND PostgreSQL",
        "lz4": "BSD-2-Clause",
        "mbedtls": "Apache-2.0",
        "miniz": "MIT",
        "pcg": "Apache-2.0 OR MIT",
        "pdqsort": "Zlib",
        "re2": "BSD-3-Clause",
        "ska_sort": "BSL-1.0",
        "snappy": "BSD-3-Clause",
        "tdigest": "Apache-2.0",
        "thrift": "Apache-2.0",
        "utf8proc": "MIT",
        "yyjson": "MIT",
        "zstd": "BSD-3-Clause",
    },
    "fonttools": {},
    "greenlet": {},
    "httptools": {"llhttp": "MIT"},
    "lxml": {
        "libexslt": "MIT",
        "libiconv": "LGPL-2.1-or-later",
        "libxml2": "MIT",
        "libxslt": "MIT",
        "zlib": "Zlib",
    },
    "markupsafe": {},
    "pynacl": {"libsodium": "ISC"},
    "pypdfium2": {
        "abseil": "Apache-2.0",
        "agg23": "LicenseRef-AGG-2.3",
        "brotli": "MIT",
        "fast_float": "Apache-2.0 OR MIT OR BSL-1.0",
        "freetype": "FTL",
        "harfbuzz": "MIT-Modern-Variant",
        "highway": "Apache-2.0 OR BSD-3-Clause",
        "icu": "Unicode-3.0",
        "lcms": "MIT",
        "libjpeg-turbo": "IJG AND BSD-3-Clause AND Zlib",
        "libopenjpeg": "BSD-2-Clause",
        "libpng": "libpng-2.0",
        "libtiff": "libtiff",
        "llvm-libc": "Apache-2.0 WITH LLVM-exception",
        "pdfium": "BSD-3-Clause AND Apache-2.0",
        "simdutf": "Apache-2.0 OR MIT",
        "zlib": "Zlib",
    },
    "sqlalchemy": {},
    "uvloop": {"libuv": "MIT"},
    "zstandard": {"zstd": "BSD-3-Clause"},
    "zxing-cpp": {"zint": "BSD-3-Clause"},
}


def add_bundled(sbom: dict[str, Any], site_packages: Path) -> list[str]:
    """Add the libraries to a CycloneDX document; return a line for each package that hides them."""
    installed = {_normal(each.name): each for each in distributions(path=[str(site_packages)])}
    unknown = []
    for component in sbom["components"]:
        name = _normal(component["name"])
        if name not in installed:
            continue
        found = list(_bundled(name, installed[name]))
        if found:
            component["components"] = _referenced(component["bom-ref"], found)
        elif name not in _LINKED and any(_compiled(installed[name])):
            listed = f"{component['name']} {component['version']}"
            unknown.append(f"{listed}: what is linked into it? Name it in {Path(__file__).name}")
    return unknown


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _compiled(package: Distribution) -> Iterator[Path]:
    for file in package.files or ():
        if _COMPILED.search(file.name):
            yield Path(str(file.locate()))


def _bundled(name: str, package: Distribution) -> Iterator[dict[str, Any]]:
    for file in package.files or ():
        if file.parent.name == "sboms" and file.suffix == ".json":
            yield from _stated(name, json.loads(file.read_text(encoding="utf-8")))
    for path in _compiled(package):
        if path.parent.name.endswith(".libs") and (stem := _LIBRARY.match(path.name)):
            digest = {"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}
            licence = _LICENCES.get(stem[1].lower(), "")
            yield _component(stem[1], licence) | {"hashes": [digest]}
    for library, licence in _LINKED.get(name, {}).items():
        yield _component(library, licence)


def _stated(name: str, sbom: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what an SBOM in a wheel lists, without the wheel itself and what it may lack."""
    for each in sbom.get("components", ()):
        own = _normal(each.get("purl", "")).startswith(f"pkg:pypi/{name}@")
        if own or each.get("scope") in _BUILD_ONLY:
            continue
        found = _component(
            each["name"], _expression(each) or _LICENCES.get(each["name"].lower(), "")
        )
        yield found | {key: each[key] for key in ("version", "purl") if each.get(key)}


def _expression(component: Mapping[str, Any]) -> str:
    """Return the licences of a component as one SPDX expression, "" if it states none."""
    stated = []
    for entry in component.get("licenses") or ():
        licence = entry.get("license", {})
        text = entry.get("expression") or licence.get("id") or licence.get("name", "")
        stated.append(" ".join(text.split()))
    if len(stated) == 1:
        return stated[0]
    return " AND ".join(f"({each})" if " OR " in each else each for each in stated)


def _component(name: str, licence: str) -> dict[str, Any]:
    licences = {"licenses": [{"expression": licence}]} if licence else {}
    return {"type": "library", "name": name, **licences}


def _referenced(package: str, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each component a reference of its own in the whole document, and leave out doubles."""
    by_reference = {}
    for each in found:
        what = each.get("purl") or each.get("hashes", [{"content": each["name"]}])[0]["content"]
        by_reference[f"{package}/{what}"] = each
    return [{"bom-ref": reference, **each} for reference, each in sorted(by_reference.items())]


def main(arguments: Sequence[str]) -> None:
    """Add the libraries to one SBOM; exit with the packages whose libraries are unknown."""
    file, site_packages = map(Path, arguments)
    sbom = json.loads(file.read_text(encoding="utf-8"))
    unknown = add_bundled(sbom, site_packages)
    file.write_text(json.dumps(sbom, indent=2) + "\n", encoding="utf-8")
    if unknown:
        sys.exit("\n".join(unknown))


if __name__ == "__main__":
    main(sys.argv[1:])
