"""The errors of the product, classified by how the caller handles them.

    FieldwatchError
    ├── ConfigError            stop: states file, key, value and what is allowed    exit 78
    ├── BundleError            refuse this bundle, keep the running one             exit 65
    │   ├── BundleMissing      no such file
    │   ├── BundleCorrupt      truncated, altered, or not a bundle
    │   ├── BundleTooNew       format_version newer than this software reads
    │   ├── FamilyUnknown      no installed package provides the bundle's family
    │   ├── FamilyUnfit        the bundle's family does not support the operation
    │   ├── SignatureInvalid   signature missing, by an unknown key, or wrong
    │   ├── BundleRevoked      it, or the key that signed it, is revoked
    │   ├── BundleOutdated     a newer version of it has run on this gateway
    │   ├── TrialFailed        its network crashed the trial process, or used too much
    │   ├── NoStreamRuns       no stream has a detector that it can run
    │   └── KnownAnswerMismatch  this gateway does not compute what the trainer computed
    ├── InterpreterMissing     no TFLite interpreter that can run here              exit 69
    ├── StoreError             the database cannot be opened or written             exit 74
    ├── NotAuthentic           ignore this message, count it by its cause           exit 65
    ├── Defect                 a bug in this software; start it again               exit 70
    └── DataError              recordings unusable for training or scoring          exit 65
        ├── InsufficientDataError  a part of them is too short
        ├── DataQualityError   a channel or a file is there, but its values are unusable
        ├── LeakageError       data to learn from and data to test on share rows
        └── ParityError        no form of a network computes what was trained

A bad reading does not raise an exception: it is one item among good ones, and is counted by cause.
"""

from __future__ import annotations

from typing import Literal

Unproven = Literal["unreadable", "unknown_key", "wrong_role", "revoked_key", "bad_signature"]


class FieldwatchError(Exception):
    """Any error that the product raises on purpose. Its text states what, where and what to do."""

    exit_code = 1


class ConfigError(FieldwatchError):
    """A setting is wrong; nothing starts until it is corrected."""

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
    """No installed package provides the bundle's family of models."""


class FamilyUnfit(BundleError):
    """The operation needs a bundle of another family."""


class SignatureInvalid(BundleError):
    """The signature is missing, made by a key that is not trusted, or does not match."""


class BundleRevoked(BundleError):
    """The bundle, or the key that signed it, was revoked."""


class BundleOutdated(BundleError):
    """A newer version of the bundle has run on this gateway."""


class TrialFailed(BundleError):
    """The bundle's network crashed the trial process, or used too much memory or time."""


class NoStreamRuns(BundleError):
    """Every stream's bundle is refused, and no substitute can run."""


class KnownAnswerMismatch(BundleError):
    """The interpreter here does not reproduce the scores that the trainer recorded."""


class InterpreterMissing(FieldwatchError):
    """No usable TFLite interpreter is installed."""

    exit_code = 69


class StoreError(FieldwatchError):
    """The local database cannot be opened, read or written."""

    exit_code = 74


class NotAuthentic(FieldwatchError):
    """A message is not signed by a key that may sign it; ``cause`` names the counter."""

    exit_code = 65

    def __init__(self, cause: Unproven, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class Defect(FieldwatchError):
    """A bug in this software ended it; the log has the traceback."""

    exit_code = 70


class DataError(FieldwatchError):
    """A recording cannot be used for training, calibration or scoring."""

    exit_code = 65


class InsufficientDataError(DataError):
    """There are too few samples; the text has the needed and the actual number."""


class DataQualityError(DataError):
    """Values cannot be used: a channel without any, or times of different zones in one column."""


class LeakageError(DataError):
    """Data to test on repeats data to learn from; the text names the rows of both."""


class ParityError(DataError):
    """No form of a network has the scores of the trained one on every interpreter."""
