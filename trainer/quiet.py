"""Keeps TensorFlow's native chatter off the terminal, where the progress is to be read."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress output inside the block; show it only if the block raises an exception."""
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
