import hashlib
import json
from pathlib import Path
from typing import Any

from scripts.packaging.bundled import add_bundled

CRATES = {
    "components": [
        {
            "name": "ring", "version": "0.17", "purl": "pkg:cargo/ring@0.17",
            "licenses": [{"expression": "Apache-2.0  AND ISC"}],
        },
        {"name": "Pillow", "version": "1.0", "purl": "pkg:pypi/pillow@1.0#c-ext"},
        {"name": "libimagequant", "scope": "optional", "licenses": []},
    ]
}  # fmt: skip


def install(site_packages: Path, name: str, files: dict[str, str]) -> None:
    folder = site_packages / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    for path, text in files.items():
        (site_packages / path).parent.mkdir(parents=True, exist_ok=True)
        (site_packages / path).write_text(text)
    (folder / "RECORD").write_text("".join(f"{path},,\n" for path in files))


def sbom(*names: str) -> dict[str, Any]:
    return {"components": [{"name": n, "version": "1.0", "bom-ref": f"{n}==1.0"} for n in names]}


def test_the_libraries_beside_and_in_the_modules_of_a_package_are_added(tmp_path: Path) -> None:
    files = {
        "PIL/_imaging.so": "code",
        "pillow.libs/libtiff-20b7e810.so.6.3.0": "tiff",
        "pillow-1.0.dist-info/sboms/crates.json": json.dumps(CRATES),
    }
    install(tmp_path, "pillow", files)
    install(tmp_path, "uvloop", {"uvloop/loop.so": "code"})
    found = sbom("Pillow", "uvloop")

    assert add_bundled(found, tmp_path) == []

    pillow, uvloop = (component["components"] for component in found["components"])
    digest = hashlib.sha256(b"tiff").hexdigest()
    assert pillow == [
        {
            "bom-ref": f"Pillow==1.0/{digest}", "type": "library", "name": "libtiff",
            "licenses": [{"expression": "libtiff"}],
            "hashes": [{"alg": "SHA-256", "content": digest}],
        },
        {
            "bom-ref": "Pillow==1.0/pkg:cargo/ring@0.17", "type": "library", "name": "ring",
            "licenses": [{"expression": "Apache-2.0 AND ISC"}],
            "version": "0.17", "purl": "pkg:cargo/ring@0.17",
        },
    ]  # fmt: skip
    assert [library["name"] for library in uvloop] == ["libuv"]


def test_a_package_with_compiled_modules_whose_libraries_are_unknown_is_named(
    tmp_path: Path,
) -> None:
    install(tmp_path, "fast", {"fast/_fast.so": "code"})
    install(tmp_path, "slow", {"slow.py": "code"})

    assert add_bundled(sbom("fast", "slow"), tmp_path) == [
        "fast 1.0: what is linked into it? Name it in bundled.py"
    ]
