"""Reduces the memory of a long-running agent; call ``begin`` before other imports.

Without it an agent with ten streams wastes 16 to 20 MB: 11 for pydantic (``models.unchecked``), 5
for OpenSSL without TLS, 4 for unused parts of numpy 1, and 2 for freed memory that the C library
keeps.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final

from models import unchecked

# numpy 1 loads these immediately, numpy 2 when they are used; paho asks urllib for proxies of kinds
# that need another package
_LATER: Final = ("numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.random", "urllib.request")
# used by hashlib without OpenSSL, depending on Python's version; some distributions omit them
_HASHES: Final = ("_md5", "_sha1", "_sha3", "_blake2")
_SHA2: Final = ("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")

# parameters of mallopt(3)
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_MMAP_THRESHOLD_BYTES = 128 * 1024  # the default initial value; if set explicitly, it does not grow


def begin() -> None:
    """Omit modules that an agent does not need, or load them only when they are used."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    unchecked.choose()
    sys.meta_path.insert(0, _Later())
    if "ssl" not in sys.modules:
        sys.modules["ssl"] = _LateSsl("ssl")
    if all(importlib.util.find_spec(name) for name in (*_HASHES, *_SHA2)):
        sys.modules["_hashlib"] = None  # type: ignore[assignment]  # "there is none", to import
    _keep_little()


def _keep_little() -> None:
    """Make glibc use one heap for all threads, and return large blocks immediately."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)


class _Later:
    """Finds the modules of ``_LATER``, and loads them on first use."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's spec; None for all other modules."""
        spec = PathFinder.find_spec(name, path) if name in _LATER else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


class _NotRaised(OSError):
    """Replaces the errors of TLS while TLS is not used: only TLS raises them."""


class _LateSsl(ModuleType):
    """The module ``ssl``, loaded on first use.

    paho refers to these errors after each complete read, with TLS or without.
    """

    SSLWantReadError: type[OSError] = _NotRaised
    SSLWantWriteError: type[OSError] = _NotRaised

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # the import system queries some of these
        if sys.modules.get("ssl") is self:
            del sys.modules["ssl"]
        loaded = importlib.import_module("ssl")
        self.SSLWantReadError = loaded.SSLWantReadError
        self.SSLWantWriteError = loaded.SSLWantWriteError
        return getattr(loaded, name)
