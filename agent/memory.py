"""Keeps small what an agent takes that runs for years: ``begin``, before anything else is loaded.

Without it an agent of ten streams takes 16 to 20 MB more, for nothing: pydantic
(``models.unchecked``) 11, OpenSSL where there is no TLS 5, parts of numpy 1 that are not used 4,
and what the C library keeps of memory that was given back 2.
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

# numpy 1 loads them with itself, numpy 2 when they are used; paho asks urllib for proxies of kinds
# that another package would have to bring
_LATER: Final = ("numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.random", "urllib.request")
# what hashlib has without OpenSSL, by the version of Python; some distributions leave them out
_HASHES: Final = ("_md5", "_sha1", "_sha3", "_blake2")
_SHA2: Final = ("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")

# of mallopt(3)
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_MMAP_THRESHOLD_BYTES = 128 * 1024  # where it begins; set, it does not grow


def begin() -> None:
    """Leave out, or load when it is needed, what an agent need not have."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    unchecked.choose()
    sys.meta_path.insert(0, _Later())
    if "ssl" not in sys.modules:
        sys.modules["ssl"] = _LateSsl("ssl")
    if all(importlib.util.find_spec(name) for name in (*_HASHES, *_SHA2)):
        sys.modules["_hashlib"] = None  # type: ignore[assignment]  # "there is none", to import
    _keep_little()


def _keep_little() -> None:
    """Let glibc have one heap for all threads, and give back what is large at once."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # others have none
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)


class _Later:
    """Finds the modules of ``_LATER``, and has them loaded when something in them is used."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's place; None for all others, which others find."""
        spec = PathFinder.find_spec(name, path) if name in _LATER else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


class _NotRaised(OSError):
    """Stands for errors of TLS as long as there is no TLS, which alone raises them."""


class _LateSsl(ModuleType):
    """The module ``ssl``, loaded when something of it is used.

    paho asks for these errors whenever it has read all there is, with TLS or without.
    """

    SSLWantReadError: type[OSError] = _NotRaised
    SSLWantWriteError: type[OSError] = _NotRaised

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # the import system looks for some
        if sys.modules.get("ssl") is self:
            del sys.modules["ssl"]
        loaded = importlib.import_module("ssl")
        self.SSLWantReadError = loaded.SSLWantReadError
        self.SSLWantWriteError = loaded.SSLWantWriteError
        return getattr(loaded, name)
