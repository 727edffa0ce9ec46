"""The bill of materials beside the artifact: valid, complete, exact, and the same each time."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from app import VERSION
from scripts.sbom import bill
from tests.artifacts import ROOT, Build
from tests.test_locks import LAMBDA, locked, versions


@pytest.fixture
def document(arm: Build) -> dict[str, Any]:
    """The bill that `make package` wrote."""
    read: dict[str, Any] = json.loads(arm.zip.with_suffix(".cdx.json").read_text("utf-8"))
    return read


def packages(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in document["components"] if each["purl"].startswith("pkg:pypi/")]


def test_it_is_of_its_schema(arm: Build) -> None:
    """CycloneDX's own schema has no complaint, in its strict form."""
    text = arm.zip.with_suffix(".cdx.json").read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"SHA-256"', '"SHA-0"')) is not None


def test_it_names_the_artifact(arm: Build, document: dict[str, Any]) -> None:
    """Its subject is this version of the service, and this very archive."""
    subject = document["metadata"]["component"]
    assert (subject["type"], subject["name"], subject["version"]) == ("application", "klamala", VERSION)
    assert subject["hashes"] == [{"alg": "SHA-256", "content": sha256(arm.zip.read_bytes()).hexdigest()}]


def test_it_lists_what_the_archive_holds(arm: Build, document: dict[str, Any]) -> None:
    """Each package of the archive, in its version, and no other: the packages of the lock."""
    listed = {each["name"]: each["version"] for each in packages(document)}
    folders = [name.removesuffix(".dist-info/METADATA") for name in arm.names() if name.endswith(".dist-info/METADATA")]
    assert listed == {
        canonicalize_name(name): version for name, _, version in (each.rpartition("-") for each in folders)
    }
    assert listed == versions(ROOT / "locks" / "requirements.txt", LAMBDA)
    assert {each["purl"] for each in packages(document)} == {f"pkg:pypi/{n}@{v}" for n, v in listed.items()}


def test_each_package_is_a_file_of_the_lock(document: dict[str, Any]) -> None:
    """Its hash is that of a file which the lock lets in, and it says its licence."""
    allowed = {package.name: hashes for package, hashes in locked(ROOT / "locks" / "requirements.txt")}
    for each in packages(document):
        (digest,) = each["hashes"]
        assert f"sha256:{digest['content']}" in allowed[each["name"]]
        assert each["licenses"], each["name"]


def test_the_scripts_of_the_documentation_are_listed(arm: Build, document: dict[str, Any]) -> None:
    """Swagger UI comes inside a Python package, and is named by itself with the hashes of its files."""
    (swagger,) = [each for each in document["components"] if each["name"] == "swagger-ui-dist"]
    assert swagger["purl"] == f"pkg:npm/swagger-ui-dist@{swagger['version']}"
    with ZipFile(arm.zip) as archive:
        held = {each["name"]: sha256(archive.read(each["name"])).hexdigest() for each in swagger["components"]}
        scripts = {name for name in arm.names() if name.startswith("flask_swagger_ui/") and name.endswith(".js")}
    assert {each["name"]: each["hashes"][0]["content"] for each in swagger["components"]} == held
    assert scripts <= held.keys()


def test_what_is_bundled_into_the_console_is_listed(arm: Build, document: dict[str, Any]) -> None:
    """Each package of npm's, in the version of the console's lock; its licence goes along in the archive."""
    bundled = [each for each in document["components"] if each["purl"].startswith("pkg:npm/")]
    listed = {each["name"]: each["version"] for each in bundled if each["name"] != "swagger-ui-dist"}
    lock = json.loads((ROOT / "console" / "package-lock.json").read_text("utf-8"))["packages"]
    assert listed == {"diff": lock["node_modules/diff"]["version"]}
    with ZipFile(arm.zip) as archive:
        (said,) = json.loads(archive.read("console/dist/packages.json"))
    assert said["license"] == "BSD-3-Clause"
    assert "Redistributions in binary form must reproduce the above copyright" in said["text"]


def test_everything_is_reached_from_the_service(document: dict[str, Any]) -> None:
    """The graph of who needs whom has every component, and names none that is not there."""
    needs = {each["ref"]: each.get("dependsOn", []) for each in document["dependencies"]}
    refs = {each["bom-ref"] for each in document["components"]}
    reached: set[str] = set()
    waiting = ["klamala"]
    while waiting:
        found = set(needs[waiting.pop()]) - reached
        reached |= found
        waiting += found
    assert reached == refs
    flask = next(ref for ref in refs if ref.startswith("pkg:pypi/flask@"))
    assert any(ref.startswith("pkg:pypi/werkzeug@") for ref in needs[flask])


def test_one_archive_has_one_bill(arm: Build) -> None:
    """Written again it is equal, byte by byte; it has a date when SOURCE_DATE_EPOCH says which."""
    report = arm.checkout / ".serverless" / "installed.json"
    written = arm.zip.with_suffix(".cdx.json").read_text("utf-8")
    assert bill(arm.zip, report, {}) + "\n" == written
    assert "timestamp" not in json.loads(written)["metadata"]
    dated = json.loads(bill(arm.zip, report, {"SOURCE_DATE_EPOCH": "1764280000"}))
    assert dated["metadata"].pop("timestamp") == "2025-11-27T21:46:40+00:00"
    assert dated == json.loads(written)


def test_a_package_that_pip_did_not_install_stops_the_build(tmp_path: Path) -> None:
    """What nobody knows the origin of is not delivered."""
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("evil-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (tmp_path / "report.json").write_text('{"install": []}', "utf-8")
    with pytest.raises(SystemExit, match=r"evil 1\.0 is in the artifact, but pip did not install it"):
        bill(tmp_path / "a.zip", tmp_path / "report.json", {})


@pytest.mark.parametrize(
    ("lines", "licences"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: x", [{"expression": "MIT OR Apache-2.0"}]),
        ("License: BSD-3-Clause", [{"license": {"id": "BSD-3-Clause"}}]),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License", [{"license": {"id": "MIT"}}]),
        ("Classifier: License :: OSI Approved :: BSD License", [{"license": {"name": "BSD License"}}]),
    ],
)
def test_a_licence_is_what_the_package_says(lines: str, licences: list[Any], tmp_path: Path) -> None:
    """Its SPDX expression, else its own words, else its classifiers."""
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        head = "Metadata-Version: 2.4\nName: Some.Package\nVersion: 1.0\n"
        archive.writestr("some_package-1.0.dist-info/METADATA", head + lines + "\n")
    source = {"archive_info": {"hashes": {"sha256": "0" * 64}}}
    entry = {"metadata": {"name": "Some.Package", "version": "1.0"}, "download_info": source}
    (tmp_path / "report.json").write_text(json.dumps({"install": [entry]}), "utf-8")
    (component,) = json.loads(bill(tmp_path / "a.zip", tmp_path / "report.json", {}))["components"]
    assert component["name"] == "some-package"
    assert component["licenses"] == licences
