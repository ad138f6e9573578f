"""Mutated networks, sealed as the reference bundle, and what their trials come to."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator

from agent.bundles.trial import SECONDS_MAX, try_out
from agent.config.checker import Checker
from models import bundle as bundles
from models.bundle import Bundle
from models.errors import BundleError, TrialFailed
from models.manifest import NETWORK

TRIALS_A_PROCESS = 50  # an interpreter does not give its memory back


def sealed(bundle: Bundle, network: bytes) -> Bundle:
    """Return ``bundle`` with another network, and digests that fit it."""
    parts = dict(bundle.parts) | {NETWORK: network}
    files = {name: bundles.file_part(data) for name, data in parts.items()}
    manifest = bundle.manifest.model_copy(update={"files": files, "metrics": {}})
    return Bundle(manifest, manifest.to_bytes(), parts, None, "mutated")


def mutated(network: bytes, seed: int) -> bytes:
    """Return a network of which a few bytes, or the end, are not as they were."""
    random_ = random.Random(seed)
    data = bytearray(network)
    # half of them where the structure is: the weights are most of the file
    reach = len(data) if random_.random() < 0.5 else len(data) // 8
    for _ in range(random_.choice((1, 1, 2, 4, 16))):
        at = random_.randrange(reach)
        at = at if random_.random() < 0.5 else len(data) - 1 - at
        data[at] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)))
    if random_.random() < 0.05:
        del data[random_.randrange(len(data)) :]
    return bytes(data)


class Trials:
    """Tries one network after the other; a process that ends is started again."""

    def __init__(self) -> None:
        self._child: Checker | None = None
        self._left = 0

    def outcome(self, bundle: Bundle) -> str:
        """Return how a trial ended: "good", the error's name, or how the process died."""
        if self._left == 0:
            self.close()
            self._child, self._left = Checker(SECONDS_MAX), TRIALS_A_PROCESS
            self._child.start()
        self._left -= 1
        try:
            try_out(bundle, "auto", self._child)
        except TrialFailed as error:
            self._left = 0
            return how(str(error))
        except BundleError as error:
            return type(error).__name__
        return "good"

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def how(text: str) -> str:
    """Return in a word how a trial died."""
    for number in signal.Signals:
        if number.name in text:
            return number.name
    return "memory" if "MB of memory" in text else "TrialFailed"


def outcomes(bundle: Bundle, seeds: range) -> Iterator[tuple[int, str]]:
    """Yield for each seed how the trial of its network ended."""
    with Trials() as trials:
        for seed in seeds:
            yield seed, trials.outcome(sealed(bundle, mutated(bundle.parts[NETWORK], seed)))


def counted(bundle: Bundle, seeds: range) -> Counter[str]:
    return Counter(outcome for _, outcome in outcomes(bundle, seeds))
