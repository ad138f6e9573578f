"""A registry in a directory of its own; the tables of its database are made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.registry_rig import opened
from trainer.registry.registry import Registry
from trainer.registry.settings import RegistryTable

Open = Callable[..., Registry]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take seconds to make, and another experiment."""
    directory = tmp_path_factory.mktemp("tables")
    Registry(RegistryTable(experiment="others"), directory)
    return directory / "registry" / "mlflow.db"


@pytest.fixture
def open_registry(tmp_path: Path, template: Path) -> Open:
    """Opens the registry of this test, with some settings."""

    def registry(**settings: Any) -> Registry:
        return opened(tmp_path, template, **settings)

    return registry


@pytest.fixture
def registry(open_registry: Open) -> Registry:
    return open_registry()
