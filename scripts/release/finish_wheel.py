"""Adds the list of parts to a wheel, and makes its bytes depend on nothing but its contents.

Called by build-wheel: finish_wheel.py WHEEL DIRECTORY. ``SOURCE_DATE_EPOCH`` is the time of all
files in it. Needs only Python.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
import zipfile
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path

_VENDOR = "agent/page/assets/vendor/"
_SUM = re.compile(r"(?m)^([0-9a-f]{64})  (\S+)$")
_NAME = re.compile(r"# (\S+) (\S+): (\S+), see")  # uPlot 1.6.32: MIT, see uPlot.LICENSE


def main(wheel: Path, directory: Path) -> Path:
    """Write the finished wheel into ``directory``; return its path."""
    moment = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    (record,) = (name for name in files if name.endswith(".dist-info/RECORD"))
    info = record.removesuffix("RECORD")
    files[f"{info}sboms/fieldwatch.cdx.json"] = _parts(files, info, moment)
    del files[record]
    files[record] = _record(files, record)  # the last, as the format wants it
    finished = directory / wheel.name
    with zipfile.ZipFile(finished, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, moment.timetuple()[:6])
            entry.external_attr = 0o100644 << 16  # whatever the umask of the checkout was
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return finished


def _parts(files: dict[str, bytes], info: str, moment: datetime) -> bytes:
    """Return the CycloneDX document: the wheel, and what of others is in it."""
    said = HeaderParser().parsestr(files[f"{info}METADATA"].decode())
    name, version = said["Name"], said["Version"]
    sums = files[f"{_VENDOR}SHA256SUMS"].decode()
    found = _NAME.search(sums)
    assert found is not None
    theirs, their_version, licence = found.groups()
    of_npm = f"pkg:npm/{theirs.lower()}@{their_version}"
    component = {
        "type": "library",
        "bom-ref": of_npm,
        "name": theirs,
        "version": their_version,
        "purl": of_npm,
        "licenses": [{"license": {"id": licence}}],
        "components": [_file(_VENDOR + path, digest) for digest, path in _SUM.findall(sums)],
    }
    own = f"pkg:pypi/{name}@{version}"
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": moment.isoformat(),
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": name,
                "version": version,
                "purl": own,
                "licenses": [{"expression": said["License-Expression"]}],
            },
        },
        "components": [component],
        "dependencies": [{"ref": own, "dependsOn": [of_npm]}, {"ref": of_npm}],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _file(path: str, digest: str) -> dict[str, object]:
    hashes = [{"alg": "SHA-256", "content": digest}]
    return {"type": "file", "bom-ref": path, "name": path, "hashes": hashes}


def _record(files: dict[str, bytes], record: str) -> bytes:
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join([*lines, f"{record},,\n"]).encode()


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))  # noqa: T201  its output
