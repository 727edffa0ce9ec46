"""Write the software bill of materials of the artifact beside it, in CycloneDX 1.6.

`python -m scripts.sbom .serverless/klamala.zip .serverless/installed.json` reads what the finished archive holds, and
from pip's report of the installation which file each package came from; serverless-plugin.js calls it. Equal archives
have equal bills: it has no date but SOURCE_DATE_EPOCH, if that is set.

https://cyclonedx.org/docs/1.6/json/, https://pip.pypa.io/en/stable/reference/installation-report/
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageMetadata, PathDistribution
from pathlib import Path
from uuid import UUID
from zipfile import Path as ZipPath
from zipfile import ZipFile

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
SWAGGER_UI = "flask_swagger_ui/dist/"
# What console/build.mjs says of the packages in its bundles.
CONSOLE = "console/dist/packages.json"
# Classifiers of licences that are one SPDX licence; the others keep their words.
SPDX = {
    "MIT License": "MIT",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
}


def bill(artifact: Path, report: Path, environ: Mapping[str, str]) -> str:
    """The bill as JSON: the service, each package with its dependencies, the scripts that a package brought along, and
    what the console's own have in them.

    Raises: `SystemExit` when the archive holds a package that the report does not know in that version.
    """
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    digest = sha256(artifact.read_bytes())
    service = Component(
        type=ComponentType.APPLICATION,
        name=project["name"],
        version=project["version"],
        description=project["description"],
        bom_ref=project["name"],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.hexdigest())],
    )
    # As random as an archive's hash, and the same for the same archive.
    bom = Bom(serial_number=UUID(bytes=digest.digest()[:16], version=4))
    bom.metadata.component = service
    epoch = environ.get("SOURCE_DATE_EPOCH")
    bom.metadata.timestamp = datetime.fromtimestamp(int(epoch), UTC) if epoch else None  # type: ignore[assignment]
    with ZipFile(artifact) as archive:
        packages = {_name(data["Name"]): data for data in _metadata(archive)}
        components = {name: _package(data, installed(report)) for name, data in packages.items()}
        scripts, bundled = [*_swagger_ui(archive)], [*_console(archive)]
    bom.components.update([*components.values(), *scripts, *bundled])
    bom.register_dependency(service, [*components.values(), *bundled])
    for name, component in components.items():
        bom.register_dependency(component, [components[each] for each in _needed(packages[name], components)])
    if scripts:
        bom.register_dependency(components["flask-swagger-ui"], scripts)
    return JsonV1Dot6(bom).output_as_string(indent=2)


def installed(report: Path) -> dict[tuple[str, str], str]:
    """SHA-256 of the file that each package, by name and version, was installed from, by pip's report."""
    entries = json.loads(report.read_text("utf-8"))["install"]
    return {
        (_name(each["metadata"]["name"]), each["metadata"]["version"]): each["download_info"]["archive_info"]["hashes"][
            "sha256"
        ]
        for each in entries
    }


def _name(name: str) -> str:
    # https://packaging.python.org/en/latest/specifications/name-normalization/
    return re.sub(r"[-_.]+", "-", name).lower()


def _metadata(archive: ZipFile) -> Iterator[PackageMetadata]:
    for entry in sorted(archive.namelist()):
        folder, _, name = entry.partition("/")
        if folder.endswith(".dist-info") and name == "METADATA":
            yield PathDistribution(ZipPath(archive, f"{folder}/")).metadata


def _package(metadata: PackageMetadata, files: Mapping[tuple[str, str], str]) -> Component:
    name, version = _name(metadata["Name"]), metadata["Version"]
    if (name, version) not in files:
        raise SystemExit(f"{name} {version} is in the artifact, but pip did not install it")
    purl = PackageURL("pypi", name=name, version=version)
    return Component(
        name=name,
        version=version,
        purl=purl,
        bom_ref=str(purl),
        licenses=_licences(metadata),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=files[name, version])],
    )


def _licences(metadata: PackageMetadata) -> list[License]:
    """The SPDX expression where the package has one, else its words, else its classifiers."""
    words = [metadata[field] for field in ("License-Expression", "License") if field in metadata]
    named = [each for each in words if each != "UNKNOWN" and "\n" not in each][:1]
    classifiers = [each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier", []) if "License ::" in each]
    return [LicenseFactory().make_from_string(SPDX.get(each, each)) for each in named or classifiers]


def _needed(metadata: PackageMetadata, present: Mapping[str, Component]) -> list[str]:
    """Which of the present packages this one asks for; what only an extra asks for is somebody else's."""
    lines = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = [_name(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in lines]
    return sorted({name for name in names if name in present})


def _swagger_ui(archive: ZipFile) -> Iterator[Component]:
    """The scripts that /docs serves: one component with its files."""
    names = [each for each in archive.namelist() if each.startswith(SWAGGER_UI) and each.endswith((".js", ".css"))]
    if not names:
        return
    bundle = archive.read(f"{SWAGGER_UI}swagger-ui-bundle.js").decode()
    found = re.search(r'PACKAGE_VERSION:"([^"]+)"', bundle)
    if not found:
        raise SystemExit("swagger-ui-bundle.js does not say its version")
    purl = PackageURL("npm", name="swagger-ui-dist", version=found[1])
    yield Component(
        name="swagger-ui-dist",
        version=found[1],
        purl=purl,
        bom_ref=str(purl),
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
        components=[_file(name, archive.read(name)) for name in names],
    )


def _console(archive: ZipFile) -> Iterator[Component]:
    """The packages that are bundled into the console's scripts. They are no files of their own any more."""
    for each in json.loads(archive.read(CONSOLE)) if CONSOLE in archive.namelist() else []:
        purl = PackageURL("npm", name=each["name"], version=each["version"])
        yield Component(
            name=each["name"],
            version=each["version"],
            purl=purl,
            bom_ref=str(purl),
            licenses=[LicenseFactory().make_from_string(each["license"])],
        )


def _file(name: str, content: bytes) -> Component:
    digest = HashType(alg=HashAlgorithm.SHA_256, content=sha256(content).hexdigest())
    return Component(type=ComponentType.FILE, name=name, bom_ref=name, hashes=[digest])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.sbom")
    parser.add_argument("artifact", type=Path)
    parser.add_argument("report", type=Path, help="what pip --report has written")
    arguments = parser.parse_args()
    path = arguments.artifact.with_suffix(".cdx.json")
    path.write_text(bill(arguments.artifact, arguments.report, os.environ) + "\n", "utf-8")
    print(f"{path.name}: {len(installed(arguments.report))} packages")


if __name__ == "__main__":
    main()
