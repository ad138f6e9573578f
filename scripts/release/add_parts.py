"""Adds what a wheel contains of others to the list of parts of a package that it is in.

Called by build-deb: add_parts.py LIST WHEELS-LIST, both CycloneDX documents. LIST is written again.
Needs only Python.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(file: Path, of_wheel: Path) -> None:
    """Write the components of both; as for the others, who depends on them is not said."""
    document, wheel = (json.loads(path.read_text()) for path in (file, of_wheel))
    document["components"] += wheel["components"]
    document["dependencies"] += [{"ref": one["bom-ref"]} for one in wheel["components"]]
    file.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
