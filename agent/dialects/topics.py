"""Topics of gateways, and of the collector's messages to them."""

from __future__ import annotations

from typing import Final

ROOT: Final = "fieldwatch/v1"
CENTRAL: Final = "_central"  # in place of a gateway's name, which never begins like this


def gateway_topic(site: str, gateway: str, kind: str, stream: str | None = None) -> str:
    """Return where a gateway publishes messages of a kind."""
    return "/".join(filter(None, [ROOT, site, gateway, kind, stream]))


def central_status_topic(site: str) -> str:
    """Return the topic where the collector of a site says, retained, whether it is online."""
    return f"{ROOT}/{site}/{CENTRAL}/status"


def command_topic(site: str, gateway: str) -> str:
    """Return the topic where central ops sends commands to a gateway."""
    return f"{ROOT}/{site}/{gateway}/command"


def answer_topic(site: str, gateway: str) -> str:
    """Return the topic where a gateway answers commands."""
    return f"{command_topic(site, gateway)}/answer"


def acknowledged_topic(site: str, gateway: str) -> str:
    """Return the topic where the collector says, retained, what it has of a gateway."""
    return f"{ROOT}/{site}/{gateway}/acknowledged"
