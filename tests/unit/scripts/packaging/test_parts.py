from typing import Any

import pytest

from scripts.packaging.parts import Part, copyright_file, parts, refused


def component(name: str, *licences: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "licenses": list(licences)}


def test_licences_are_read_from_identifiers_expressions_and_classifiers() -> None:
    classifier = {"license": {"name": "License :: OSI Approved :: BSD License"}}
    sbom = {
        "components": [
            component("orjson", {"expression": "MPL-2.0 AND (Apache-2.0 OR MIT)"}),
            component("Jinja2", classifier),
            component("click", {"license": {"id": "BSD-3-Clause"}}),
        ]
    }

    assert parts(sbom) == [
        Part("click", "1.0", "BSD-3-Clause"),
        Part("Jinja2", "1.0", "BSD-3-Clause"),
        Part("orjson", "1.0", "MPL-2.0 AND (Apache-2.0 OR MIT)"),
    ]


@pytest.mark.parametrize(
    "licence",
    [
        "MIT", "MPL-2.0 AND (Apache-2.0 OR MIT)", "Apache-2.0 OR BSD-2-Clause",
        "Apache-2.0 OR GPL-2.0-only", "(MIT OR Apache-2.0) AND Unicode-3.0",
        "GPL-3.0-or-later WITH GCC-exception-3.1",
    ],
)  # fmt: skip
def test_a_part_under_licences_that_are_allowed_passes(licence: str) -> None:
    assert refused([Part("part", "1.0", licence)]) == []


@pytest.mark.parametrize(
    ("licence", "wrong"),
    [
        ("GPL-3.0-only", "part 1.0: licence GPL-3.0-only is not allowed"),
        ("MIT AND AGPL-3.0-only", "part 1.0: licence AGPL-3.0-only is not allowed"),
        ("MIT AND (X OR Y)", "part 1.0: licence X, Y is not allowed"),
        ("GPL-3.0-or-later", "part 1.0: licence GPL-3.0-or-later is not allowed"),
        ("MIT License", "part 1.0: licence License is not allowed"),
        ("(MIT", "part 1.0: licence ( is not allowed"),
        ("", "part 1.0: names no licence: read it in its files"),
    ],
)
def test_a_part_under_another_licence_is_named(licence: str, wrong: str) -> None:
    assert refused([Part("other", "1.0", "MIT"), Part("part", "1.0", licence)]) == [wrong]


def test_the_licence_of_a_library_inside_a_part_is_checked_too() -> None:
    inside = component("libexample", {"expression": "GPL-2.0-only"})
    sbom = {"components": [component("pillow", {"expression": "MIT"}) | {"components": [inside]}]}

    assert refused(parts(sbom)) == ["libexample in pillow 1.0: licence GPL-2.0-only is not allowed"]


def test_the_copyright_file_has_our_licence_and_names_that_of_each_part() -> None:
    text = copyright_file([Part("click", "8.1", "BSD-3-Clause")], "MIT License\n...")

    assert "MIT License\n...\n" in text
    assert "    click 8.1: BSD-3-Clause\n" in text
