"""Which transitions a hook gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from agent.handling.priority import PRIORITIES
from agent.handling.transition import Transition, What

if TYPE_CHECKING:
    from agent.config.onsite import HookTable

_ENDS: Final[frozenset[What]] = frozenset({"cleared", "unwatched", "superseded"})


def returns(transition: Transition) -> bool:
    """Return whether the condition of an alarm is over, also while the alarm is suppressed."""
    return transition.what in _ENDS


_GROUPS: Final[Mapping[str, Callable[[Transition], bool]]] = {
    "announcing": lambda transition: transition.announces,
    "returning": returns,
    "all": lambda _: True,
}


def wants(hook: HookTable, transition: Transition) -> bool:
    """Return whether a hook gets a transition."""
    if transition.advisory and not hook.advisories:
        return False
    if hook.streams and transition.stream not in hook.streams:
        return False
    if hook.kinds and transition.point.partition(" ")[0] not in hook.kinds:
        return False
    if PRIORITIES.index(transition.priority) > PRIORITIES.index(hook.priority_min):
        return False
    return any(_named(name, transition) for name in hook.transitions)


def _named(name: str, transition: Transition) -> bool:
    group = _GROUPS.get(name)
    return transition.what == name if group is None else group(transition)
