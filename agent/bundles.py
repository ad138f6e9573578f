"""From a bundle's path to a pipeline that may be trusted: nothing goes live on hope.

read (digests) ─> signature, where keys are configured ─> load ─> known answers ─> pipeline
"""

from __future__ import annotations

from pathlib import Path

from models import bundle as bundles
from models import known_answers, signing
from models.bundle import Bundle
from models.errors import SignatureInvalid
from models.interpreter import Runtime
from models.pipeline import Pipeline


def load(
    path: Path,
    runtime: Runtime = "auto",
    trusted_keys_dir: Path | None = None,
    require_signature: bool = False,
) -> tuple[Bundle, Pipeline]:
    """Return the bundle at ``path`` and its pipeline, or refuse it.

    Where ``trusted_keys_dir`` is given, a signature that is there must be by one of its keys;
    ``require_signature`` refuses an unsigned bundle too.

    Raises:
        BundleError: missing, altered, too new, wrongly signed, or its known answers differ.
        InterpreterMissing: there is nothing to run it with.
        ConfigError: the trusted keys cannot be read.

    """
    bundle = bundles.read(path)
    if require_signature or (trusted_keys_dir is not None and bundle.signature is not None):
        if trusted_keys_dir is None:
            raise SignatureInvalid(
                f"{path}: a signature is required, but bundles.trusted_keys_dir is not set"
            )
        signing.check(bundle, signing.read_public_keys(trusted_keys_dir))
    pipeline = Pipeline(bundle, runtime)
    known_answers.check(pipeline, bundle)
    return bundle, pipeline
