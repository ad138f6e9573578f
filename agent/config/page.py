"""Table of the configuration for the local web page: where it listens, and who may see it."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Annotated, Final, NamedTuple

from agent.config.kinds import FilePath
from models.manifest import Positive
from models.settings import Table
from models.validation import AfterValidator, Field, model_validator

_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_HOST_NAME_CHARS_MAX: Final = 253


class Address(NamedTuple):
    """Where the page listens."""

    host: str  # an address, without brackets
    port: int

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def is_every(self) -> bool:
        """Whether it stands for all addresses of this machine."""
        return ipaddress.ip_address(self.host).is_unspecified


def address(text: str) -> Address:
    """Return the address in a text such as ``127.0.0.1:8377`` or ``[::1]:8377``.

    Raises:
        ValueError: it is none.

    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(bare)
        brackets = bare != host
        if colon and brackets == (found.version == 6) and re.fullmatch("[0-9]{1,5}", port):
            if 0 < int(port) < 65_536:
                return Address(str(found), int(port))
    raise ValueError('must be an IP address with a port, such as "127.0.0.1:8377" or "[::1]:8377"')


def _listen(value: str) -> str:
    address(value)
    return value


def _host_name(value: str) -> str:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(value))
    if len(value) > _HOST_NAME_CHARS_MAX or not _HOST_NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not the name or address of a machine; give it without scheme and port,"
            ' such as "gateway-1.plant.example"'
        )
    return value.lower()


HostName = Annotated[str, AfterValidator(_host_name)]


class PageTable(Table):
    """The local web page; it reads this table when it starts."""

    listen: Annotated[str, AfterValidator(_listen)] = Field(
        "127.0.0.1:8377",
        description="Address and port of the page, if systemd does not pass a socket to it; one"
        " that other machines can reach needs users_file",
    )
    users_file: FilePath | None = Field(
        None,
        description="File of the users who may log in (fieldwatch-agent page user add); absent:"
        " every user of this machine may read the page, and nobody can handle alarms on it",
    )
    certificate_file: FilePath | None = Field(
        None, description="Certificate of the page (PEM); turns TLS on"
    )
    key_file: FilePath | None = Field(
        None, description="Its key (PEM), if it is not in the same file"
    )
    host_names: list[HostName] = Field(
        default_factory=list,
        max_length=32,
        description="Names and addresses of this gateway in browsers, besides localhost and the"
        " address of listen; a request to any other name is refused",
    )
    session_idle_minutes: Positive = Field(
        30.0, le=44_640, description="A log-in ends after this time without a request, minutes"
    )
    session_hours: Positive = Field(
        12.0, le=8784, description="A log-in ends after this time in any case, hours"
    )
    idle_exit_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="A page that systemd started with a socket ends after this long without"
        " connections and log-ins, and starts with the next request; 0: never",
    )

    @property
    def address(self) -> Address:
        """Where the page listens."""
        return address(self.listen)

    @model_validator(mode="after")
    def _protected(self) -> PageTable:
        at = self.address
        if not at.is_local and self.users_file is None:
            raise ValueError(
                f"listen = {self.listen!r}: other machines can reach this address, so the page"
                ' needs users who log in; set users_file = "page-users", and create the first user:'
                " fieldwatch-agent page user add NAME --role operator"
            )
        if at.is_every and not self.host_names:
            raise ValueError(
                f"listen = {self.listen!r}: set host_names to the names and addresses of this"
                " gateway that browsers use; the page refuses all others"
            )
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file needs certificate_file")
        return self
