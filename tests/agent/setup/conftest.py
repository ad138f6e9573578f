"""A broker that is secured as shipped, for the tests of ``setup``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.secured_broker import SecuredBroker


@pytest.fixture(scope="package")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    broker = SecuredBroker(tmp_path_factory.mktemp("broker"), "plant/gw-1")
    broker.start()
    yield broker
    broker.kill()
