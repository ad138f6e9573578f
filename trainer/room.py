"""Checks that this process may use enough address space for TensorFlow.

If a limit (``ulimit -v``, ``LimitAS=`` of a unit) is too small, TensorFlow ends the process with
SIGABRT and without a helpful message.
"""

from __future__ import annotations

import resource
from typing import Final

from models.errors import FieldwatchError

# measured on one thread, without a forecaster: a tiny training takes 2.95 GiB, and with 2 GiB
# TensorFlow aborts; more threads take more
ADDRESS_SPACE_MIN: Final = 4 * 2**30  # bytes


class NoRoom(FieldwatchError):
    """The system does not allow this process the resources that the training needs."""

    exit_code = 71


def check_address_space() -> None:
    """Check the limit of the address space (RLIMIT_AS); call this before importing TensorFlow.

    Raises:
        NoRoom: the limit is too small.

    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < ADDRESS_SPACE_MIN:
        raise NoRoom(
            f"the address space of this process is limited to {limit / 2**30:.3g} GiB, and"
            f" TensorFlow needs {ADDRESS_SPACE_MIN / 2**30:.3g} GiB: lift the limit with ulimit -v"
            " unlimited, or LimitAS=infinity in a unit of systemd; it limits no memory (MemoryMax="
            " does)"
        )
