"""Tries a network in a separate process before the agent loads it.

The interpreters are native code: a damaged or malicious network can end the process that loads it,
or use up all memory. The agent loads only a network that passed this trial.

    bundle ─> process with limits: load, known answers, step of several streams ─> good, or refused
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Mapping
from typing import Final

import numpy as np

from agent.config.checker import Checker, NotChecked
from models import known_answers
from models.bundle import Bundle
from models.errors import TrialFailed
from models.families import builder_of, detector_of
from models.interpreter import Runtime, runtime_version
from models.manifest import TelemanomManifest, manifest_of
from models.messages import ALL

SECONDS_MAX: Final = 60  # of wall time; the machine may be busy, so more than the CPU time
CPU_SECONDS_MAX: Final = 20
# in addition to Python, numpy and the interpreter, which take 60 MB. Agent, trial and checker
# process then fit into the 384 MB of the systemd unit
BYTES_MAX: Final = 128 * 2**20

_STREAMS = 3  # more than one, so that the network's batch is resized
_TIME: Final = (signal.SIGALRM, signal.SIGXCPU)


def try_out(bundle: Bundle, runtime: Runtime, trials: Checker | None = None) -> None:
    """Load and run the network of a bundle in another process.

    ``trials``: the process to use; None: a new one, which ends afterwards.

    Raises:
        TrialFailed: the process ended, or was killed.
        BundleError: that process refuses the bundle, as this one would.
        InterpreterMissing: no interpreter is installed.

    """
    if trials is None:
        with Checker(SECONDS_MAX) as started:
            try_out(bundle, runtime, started)
        return
    try:
        trials.call(attempt, bundle.source, bundle.manifest_bytes, dict(bundle.parts), runtime)
    except NotChecked as error:
        raise TrialFailed(
            f"{bundle.source}: {_how(error)}. The bundle was tested in a separate process, and the"
            " agent does not load it. Train it again, or use another one"
        ) from None


def _how(error: NotChecked) -> str:
    """Describe how the process ended."""
    if error.code is None:
        return f"the trial is not possible: {error}"
    if error.code >= 0:
        return f"the trial ended with exit code {error.code}; the log may have its message"
    number = -error.code
    if number in _TIME:
        return (
            f"its network did not finish within {CPU_SECONDS_MAX} s of CPU time or {SECONDS_MAX} s"
            f" ({_name(number)})"
        )
    greedy = f"; perhaps it needs more than {BYTES_MAX // 2**20} MB"
    more = greedy if number == signal.SIGABRT else ""
    return f"its network crashed the interpreter with {_name(number)}{more}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def attempt(
    source: str, manifest_bytes: bytes, parts: Mapping[str, bytes], runtime: Runtime
) -> None:
    """Run, in the other process, the same steps that the agent will run with a checked bundle.

    Raises:
        BundleError: the bundle is refused, or needs too much memory.
        InterpreterMissing: no interpreter is installed.

    """
    manifest = manifest_of(source, manifest_bytes)
    bundle = Bundle(manifest, manifest_bytes, parts, None, source)
    # import first: the memory of the package and the interpreter does not count
    builder_of(manifest.detector)
    if isinstance(manifest, TelemanomManifest):
        runtime_version(runtime)
    _limit()
    try:
        detector = detector_of(bundle, runtime)
        known_answers.check(detector, bundle)
        values = np.zeros((1, _STREAMS, len(manifest.channels)), np.float32)
        detector.step_together(detector.start(_STREAMS), ALL, np.zeros((1, _STREAMS)), values)
    except MemoryError:
        raise TrialFailed(
            f"{source}: its network needs more than {BYTES_MAX // 2**20} MB of memory; train a"
            " smaller one"
        ) from None
    except (RuntimeError, TypeError, ValueError) as error:  # raised by the interpreters
        raise TrialFailed(f"{source}: its network cannot be run: {error}") from None


def _limit() -> None:
    """Limit memory and CPU time from here on, and allow no core dump.

    It sets only the soft limits, so that a process with several trials can reset them for each.
    """
    with open("/proc/self/statm") as file:  # noqa: PTH123 - no file
        taken = int(file.read().split()[0]) * resource.getpagesize()
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = int(used.ru_utime + used.ru_stime) + CPU_SECONDS_MAX
    for what, most in (
        (resource.RLIMIT_AS, taken + BYTES_MAX),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (soft, hard))
