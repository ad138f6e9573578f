"""Keeps TensorFlow's native messages off the terminal, so that people can read the progress."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # 0 shows all; 1 warnings and errors
_shown = False


def begin(show: bool = False) -> None:
    """Suppress the messages of TensorFlow and XLA; call this before their first import.

    Args:
        show: do not suppress them, nor the output inside ``quiet``.

    """
    global _shown
    _shown = show
    if show:
        os.environ[_LEVEL] = "0"
    else:
        os.environ.setdefault(_LEVEL, "1")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress output inside the block; show it only if the block raises an exception."""
    if _shown:
        yield
        return
    spoken = io.StringIO()
    with tempfile.TemporaryFile() as chatter:
        stderr = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            with contextlib.redirect_stdout(spoken):
                yield
        except BaseException:
            chatter.seek(0)
            os.write(stderr, spoken.getvalue().encode(errors="backslashreplace") + chatter.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
