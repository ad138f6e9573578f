"""The errors of the product, classed by what the caller does about them.

    FieldwatchError
    ├── ConfigError            stop: says file, key, value and what is allowed      exit 78
    ├── BundleError            refuse this bundle, keep the one that runs           exit 65
    │   ├── BundleMissing      no such file
    │   ├── BundleCorrupt      truncated, altered, or not a bundle
    │   ├── BundleTooNew       format_version newer than this software reads
    │   ├── FamilyUnknown      no installed package knows the bundle's family
    │   ├── FamilyUnfit        the bundle is of a family that cannot do what is asked
    │   ├── SignatureInvalid   signature missing, by an unknown key, or wrong
    │   ├── BundleRevoked      it, or the key that signed it, is trusted no more
    │   ├── BundleOutdated     a newer version of it has run on this gateway
    │   ├── TrialFailed        its network ended the process it was tried in, or took too much
    │   ├── NoStreamRuns       no stream has anything that it could run with
    │   └── KnownAnswerMismatch  this gateway does not compute what the trainer computed
    ├── InterpreterMissing     no TFLite interpreter that can run here              exit 69
    ├── StoreError             the database cannot be opened or written             exit 74
    ├── NotAuthentic           ignore this message, count it by its cause           exit 65
    ├── Defect                 a mistake of this software; start it again           exit 70
    └── DataError              recordings that cannot be trained or scored on       exit 65

A bad reading is no exception. It is one item among good ones, and is counted by its cause.
"""

from __future__ import annotations

from typing import Literal

Unproven = Literal["unreadable", "unknown_key", "wrong_role", "revoked_key", "bad_signature"]


class FieldwatchError(Exception):
    """Any error that the product raises on purpose. Its text says what, where and what to do."""

    exit_code = 1


class ConfigError(FieldwatchError):
    """A setting is wrong; nothing starts until it is mended."""

    exit_code = 78


class BundleError(FieldwatchError):
    """A bundle cannot be used."""

    exit_code = 65


class BundleMissing(BundleError):
    """There is no file at the bundle's path."""


class BundleCorrupt(BundleError):
    """The file is not a whole, unaltered bundle."""


class BundleTooNew(BundleError):
    """The bundle's format is newer than this software."""


class FamilyUnknown(BundleError):
    """The bundle is of a family of models that no installed package knows."""


class FamilyUnfit(BundleError):
    """What is asked takes a bundle of another family."""


class SignatureInvalid(BundleError):
    """The signature is missing, made by a key that is not trusted, or does not match."""


class BundleRevoked(BundleError):
    """The bundle, or the key that signed it, was revoked."""


class BundleOutdated(BundleError):
    """A newer version of the bundle has run on this gateway."""


class TrialFailed(BundleError):
    """The bundle's network ended the process that it was tried in, or took too much there."""


class NoStreamRuns(BundleError):
    """Every stream's bundle is refused, and there is nothing to run instead."""


class KnownAnswerMismatch(BundleError):
    """The interpreter here does not reproduce the scores that the trainer sealed."""


class InterpreterMissing(FieldwatchError):
    """No usable TFLite interpreter is installed."""

    exit_code = 69


class StoreError(FieldwatchError):
    """The local database cannot be opened, read or written."""

    exit_code = 74


class NotAuthentic(FieldwatchError):
    """A message is not signed by a key that may sign it; its cause is for a counter."""

    exit_code = 65

    def __init__(self, cause: Unproven, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class Defect(FieldwatchError):
    """A mistake of this software ended it; the log has the traceback."""

    exit_code = 70


class DataError(FieldwatchError):
    """A recording cannot be trained, calibrated or scored on."""

    exit_code = 65
