"""What Home Assistant is told of a gateway: one device, with some entities for each stream.

The form is Home Assistant's device discovery (https://www.home-assistant.io/integrations/mqtt/,
"Device discovery payload"): one retained message describes the device and all its components. A
component that is no longer there is removed by a message in which it has only its platform.

The description is retained, and so is the availability, which the broker's last will sets to
offline. States are not retained: after a restart of Home Assistant or of the broker, an entity is
unknown until the agent has sent its present state, and never shows an old one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from agent.onsite.view import LEVELS
from models import __version__

_STREAM_ENTITIES: Final[tuple[tuple[str, str, str, dict[str, Any]], ...]] = (
    ("problem", "binary_sensor", "problem", {"device_class": "problem"}),
    ("score", "sensor", "score", {"state_class": "measurement"}),
    (
        "time_to_limit",
        "sensor",
        "time to limit",
        {"device_class": "duration", "unit_of_measurement": "s"},
    ),
    ("priority", "sensor", "priority", {"device_class": "enum", "options": list(LEVELS)}),
)
_KEYS: Final = {"time_to_limit": "time_to_limit_s"}  # of the state, if it differs
_COUNT: Final = {"state_class": "measurement"}
_GATEWAY_ENTITIES: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("worst", "alarms", {"device_class": "enum", "options": list(LEVELS)}),
    ("active", "active alarms", _COUNT),
    ("unacknowledged", "unacknowledged alarms", _COUNT),
)
_PLATFORMS: Final = frozenset({"binary_sensor", "sensor"})


class Topics(NamedTuple):
    """The topics of one gateway."""

    base: str
    config: str  # of the discovery
    birth: str  # of Home Assistant

    @property
    def status(self) -> str:
        """Availability: online or offline."""
        return f"{self.base}/status"

    @property
    def state(self) -> str:
        """The whole gateway, as JSON."""
        return f"{self.base}/state"

    @property
    def worst(self) -> str:
        """The most urgent active alarm, as one word for a stack light."""
        return f"{self.base}/worst"

    def stream(self, name: str) -> str:
        """Return the topic of a stream."""
        return f"{self.base}/stream/{name}"


def topics_of(prefix: str, site: str, gateway: str) -> Topics:
    """Return the topics of a gateway."""
    device = identifier(site, gateway)
    return Topics(
        f"fieldwatch/panel/{site}/{gateway}",
        f"{prefix}/device/fieldwatch/{device}/config",
        f"{prefix}/status",
    )


def identifier(*names: str) -> str:
    """Return an identifier of letters, digits, ``_`` and ``-``; different names never share one.

    >>> identifier("plant", "gw-1"), identifier("a_b.c")
    ('plant_-gw-1', 'a__b_dc')
    """
    return "_-".join(name.replace("_", "__").replace(".", "_d") for name in names)


def description(
    topics: Topics, site: str, gateway: str, streams: Iterable[str], expire_after_s: int
) -> dict[str, Any]:
    """Return the discovery message of a gateway with these streams."""
    device = f"fieldwatch_-{identifier(site, gateway)}"
    common = {"expire_after": expire_after_s}
    components = {
        f"gateway_-{key}": {
            "platform": "sensor",
            "unique_id": f"{device}_-{key}",
            "name": name,
            "state_topic": topics.state,
            "value_template": f"{{{{ value_json.{key} }}}}",
            **common,
            **more,
        }
        for key, name, more in _GATEWAY_ENTITIES
    }
    for stream in streams:
        for key, platform, name, more in _STREAM_ENTITIES:
            component = f"stream_-{identifier(stream)}_-{key}"
            components[component] = {
                "platform": platform,
                "unique_id": f"{device}_-{component}",
                "name": f"{stream} {name}",
                "state_topic": topics.stream(stream),
                "value_template": f"{{{{ value_json.{_KEYS.get(key, key)} }}}}",
                **common,
                **more,
            }
    return {
        "device": {
            "identifiers": [device],
            "name": f"Fieldwatch {site} {gateway}",
            "manufacturer": "Fieldwatch",
            "model": "gateway",
            "sw_version": __version__,
        },
        "origin": {"name": "fieldwatch-agent", "sw_version": __version__},
        "availability_topic": topics.status,
        "components": components,
        "qos": 1,
    }


def removed(before: bytes, now: dict[str, Any]) -> dict[str, Any]:
    """Return the components to remove: of the last message, as the broker keeps it, but not of now.

    What is not such a message, from whomever, removes nothing.
    """
    try:
        found = json.loads(before)
        components = found["components"].items()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return {
        key: {"platform": one["platform"]}
        for key, one in components
        if key not in now["components"]
        and isinstance(one, dict)
        and isinstance(one.get("platform"), str)
        and one["platform"] in _PLATFORMS
    }
