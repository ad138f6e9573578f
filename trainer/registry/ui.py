"""Starts MLflow's own pages on the store of a registry."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from models.errors import ConfigError
from trainer import extras
from trainer.registry.store import Store

NEEDED = ("mlflow", "flask")  # mlflow-skinny alone has no pages


def check() -> None:
    """Refuse to start what is not installed.

    Raises:
        ExtraMissing: MLflow has no pages here.

    """
    extras.require("ui", NEEDED, "registry-ui")


def serve(store: Store, host: str, port: int) -> NoReturn:
    """Become MLflow's server on this store; never return.

    Its URI goes into the environment, as it may have a password, and others see command lines.

    Raises:
        ConfigError: the store is on a server already, which has the pages.

    """
    if store.uri.startswith("http"):
        raise ConfigError(f"{store.uri} is a server of MLflow: open it in a browser")
    words = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    words += ["--workers", "1"]
    variables = {"MLFLOW_BACKEND_STORE_URI": store.uri}
    variables["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # workers for language models
    if store.artifacts is not None:
        variables["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = store.artifacts
    os.execve(words[0], words, os.environ | variables)  # noqa: S606  the words are those above
