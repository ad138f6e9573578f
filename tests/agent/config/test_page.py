"""The table of the page: what is refused before anything listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.config.page import Address, PageTable, address
from models.validation import ValidationError


def table(**settings: Any) -> PageTable:
    return PageTable.model_validate(settings)


def refusal(**settings: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        table(**settings)
    return str(refused.value)


def test_by_default_only_this_machine_reaches_it() -> None:
    assert table().address == Address("127.0.0.1", 8377)
    assert table().address.is_local
    assert table(listen="[::1]:80").address == Address("::1", 80)


@pytest.mark.parametrize(
    "text",
    [
        *("", "8377", ":8377", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536"),
        *("127.0.0.1:-1", "127.0.0.1:8 377", "localhost:8377", "::1:8377", "[127.0.0.1]:8377"),
        *("127.0.0.1:٨٣٧٧", "127.1:80", "[::1", "[::1]:x", "http://127.0.0.1:80"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an IP address with a port"):
        address(text)


@pytest.mark.parametrize("listen", ["192.0.2.7:8377", "0.0.0.0:8377", "[::]:8377", "[fe80::1]:1"])
def test_other_machines_see_nothing_without_users(listen: str) -> None:
    assert "other machines can reach this address" in refusal(listen=listen)
    assert "page user add NAME --role operator" in refusal(listen=listen, host_names=["gw"])
    assert table(listen=listen, users_file="u", host_names=["gw"]).users_file == Path("u")


@pytest.mark.parametrize("listen", ["0.0.0.0:8377", "[::]:8377"])
def test_a_page_at_every_address_needs_its_names(listen: str) -> None:
    assert "set host_names" in refusal(listen=listen, users_file="u")


def test_names_are_those_that_a_browser_sends() -> None:
    names = table(host_names=["GW-1.Plant.example", "192.0.2.7", "2001:DB8::1"]).host_names
    assert names == ["gw-1.plant.example", "192.0.2.7", "2001:db8::1"]


@pytest.mark.parametrize(
    "name", ["", "*", "*.example", "a b", "http://gw", "gw:80", "-gw", "gw-", "a..b", "gw\n", "ä"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    assert "is not the name or address of a machine" in refusal(host_names=[name])


def test_a_key_needs_its_certificate() -> None:
    assert "key_file needs certificate_file" in refusal(key_file="k")
