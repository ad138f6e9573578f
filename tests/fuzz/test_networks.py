"""Mutated networks in trials: each is good or refused, and whoever has them tried stays alive.

``make soak`` sets ``FIELDWATCH_TEST_FUZZ``: 10,000 of them; the test prints how they ended.
"""

from __future__ import annotations

import os
import signal

from models.bundle import Bundle
from tests.networks import counted, outcomes

NETWORKS = 10_000 if "FIELDWATCH_TEST_FUZZ" in os.environ else 300
DEADLY = range(2614, 2615)  # on ai-edge-litert 2.3.0 it ends the process by SIGSEGV
REFUSED = {"BundleCorrupt", "KnownAnswerMismatch", "TrialFailed", "memory"}
DIED = {number.name for number in signal.Signals}


def test_a_mutated_network_is_good_or_refused(zoo_bundle: Bundle) -> None:
    found = counted(zoo_bundle, range(NETWORKS))
    print(f"{NETWORKS} networks: {dict(found.most_common())}")
    assert found.keys() <= {"good"} | REFUSED | DIED
    assert found.total() == NETWORKS
    assert found["BundleCorrupt"] > NETWORKS / 10


def test_one_that_ended_the_process_is_refused(zoo_bundle: Bundle) -> None:
    [(_, outcome)] = outcomes(zoo_bundle, DEADLY)
    assert outcome in REFUSED | DIED
