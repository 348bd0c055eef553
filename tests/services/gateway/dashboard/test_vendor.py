"""Third parties' files are what their makers published."""

import hashlib
import json

import pytest

from services.gateway.dashboard.assets import STATIC

VENDOR = STATIC / "vendor"
PACKAGES = json.loads((VENDOR / "manifest.json").read_text())["packages"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package["name"])
def test_files_are_as_the_manifest_says(package: dict[str, object]) -> None:
    """Each file has its hash, and each package its version, licence and source."""
    assert package["version"]
    assert package["licence"]
    assert package["source"] == f"npm:{package['name']}@{package['version']}"
    files = package["files"]
    assert isinstance(files, list)
    for one in files:
        assert hashlib.sha256((VENDOR / one["file"]).read_bytes()).hexdigest() == one["sha256"], one["file"]
    assert any("LICENSE" in one["file"] for one in files)


def test_nothing_else_lies_there() -> None:
    """A file that the manifest does not name has no known origin."""
    named = {one["file"] for package in PACKAGES for one in package["files"]}
    assert {path.name for path in VENDOR.iterdir()} == named | {"manifest.json"}
