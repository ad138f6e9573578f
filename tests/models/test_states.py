"""State that the version of the first rooms saved is restored, and scoring goes on as it did.

``make_states.py`` made the files, with that version.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.messages import Samples
from models.state import StateMismatch
from tests.conftest import ROOT
from tests.models.make_states import SAVED_AT, detector_and_samples, scored

FAMILIES = ["telemanom", "hampel"]


def saved(family: str) -> tuple[dict[str, bytes], Any]:
    """Return the parts, and the score of every sample."""
    file = ROOT / "tests" / "models" / "data" / f"state-{family}-1.npz"
    with np.load(file, allow_pickle=False) as arrays:
        parts = {name: arrays[name].tobytes() for name in arrays if name != "score"}
        return parts, arrays["score"]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_goes_on_where_it_was_saved(family: str) -> None:
    parts, score = saved(family)
    detector, samples = detector_and_samples(family)
    state = detector.restore(parts)
    rest = scored(detector, state, samples, SAVED_AT, len(samples.times))
    # another build of the interpreter may round otherwise
    np.testing.assert_allclose(rest, score[SAVED_AT:], rtol=1e-4, atol=1e-4, equal_nan=True)
    assert not np.isnan(rest).all()
    fresh = scored(detector, detector.start(), samples, SAVED_AT, len(samples.times))
    assert not np.allclose(fresh, rest, equal_nan=True), "the state makes no difference"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_now_has_the_same_names_and_form(family: str) -> None:
    parts, _ = saved(family)
    detector, samples = detector_and_samples(family)
    state = detector.start()
    detector.step(state, Samples(samples.times[:SAVED_AT], samples.values[:SAVED_AT]))
    now = detector.changed_parts(state, 0)
    assert now.keys() == parts.keys()
    assert {name: len(part) for name, part in now.items() if name != "head"} == {
        name: len(part) for name, part in parts.items() if name != "head"
    }


def test_the_state_of_one_family_is_nothing_to_another() -> None:
    detector, _ = detector_and_samples("hampel")
    with pytest.raises(StateMismatch, match="or of other settings"):
        detector.restore(saved("telemanom")[0])
