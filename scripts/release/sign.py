"""Signs a release: lists the sums of its files, and signs the list, in minisign's format.

    python scripts/release/sign.py dist --key release.key        writes SHA256SUMS and its signature
    python scripts/release/sign.py dist --verify release.pub     fails if anything differs

Without this software: ``minisign -Vm SHA256SUMS -p release.pub``, and
``sha256sum --check --strict --ignore-missing SHA256SUMS``.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from models import __version__, signing
from models.errors import FieldwatchError, SignatureInvalid
from models.keys import read_keys

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.minisig"


class Listed(NamedTuple):
    """The list of a release as what is signed."""

    manifest_bytes: bytes
    signature: bytes | None
    source: str


def sums(directory: Path) -> Iterator[str]:
    """Yield a line for each file of a release, as ``sha256sum`` writes it."""
    for file in sorted(directory.iterdir()):
        if file.is_file() and file.name not in (SUMS, SIGNATURE):
            with file.open("rb") as opened:
                yield f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {file.name}\n"


def sign(directory: Path, key: Path) -> None:
    """Write the list of a directory's files and its signature.

    Raises:
        ConfigError: the key cannot be read, or its role is not release.

    """
    listed = "".join(sums(directory)).encode()
    signature = signing.sign(listed, key, f"fieldwatch {__version__}", "release")
    (directory / SUMS).write_bytes(listed)
    (directory / SIGNATURE).write_bytes(signature)


def verify(directory: Path, public: Path) -> None:
    """Check that the list is signed, and that each file is as the list says.

    Raises:
        ConfigError: the key cannot be read.
        SignatureInvalid: not signed by that key, or a file differs, is missing or is not listed.

    """
    keys = [key for key in read_keys(public.parent) if Path(key.source) == public]
    listed = (directory / SUMS).read_bytes()
    signature = (directory / SIGNATURE).read_bytes()
    signing.check(Listed(listed, signature, str(directory / SUMS)), keys, "release")
    if differing := set(listed.decode().splitlines()) ^ {line.strip() for line in sums(directory)}:
        names = sorted({line.split("  ", 1)[1] for line in differing})
        raise SignatureInvalid(f"{directory}: not as {SUMS} says: {', '.join(names)}")


def main(arguments: list[str]) -> int:
    """Sign or verify, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--key", type=Path, help="the secret key, of the role release")
    what.add_argument("--verify", type=Path, metavar="PUBLIC", help="the public key")
    options = parser.parse_args(arguments)
    try:
        if options.key is not None:
            sign(options.directory, options.key)
        else:
            verify(options.directory, options.verify)
    except (FieldwatchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  for the person who releases
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
