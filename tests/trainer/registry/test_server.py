"""A server of MLflow behind TLS and a password: what is refused is named, at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tls_front
from tests.certificates import Authority
from tests.conftest import hold_port, wait_until
from tests.registry_rig import good_bundle
from trainer.registry import upkeep
from trainer.registry.errors import RegistryError
from trainer.registry.registry import Registry
from trainer.registry.settings import RegistryTable


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """A private authority that MLflow is told of, as it is of the user."""
    made = Authority(tmp_path / "authority")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(made.file))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", tls_front.USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", tls_front.PASSWORD)
    return made


def opened(url: str, directory: Path) -> Registry:
    return Registry(RegistryTable(url=url), directory)


@pytest.mark.parametrize("known", [None, "other/ca.pem", "missing.pem", "empty.pem"])
def test_an_authority_that_is_not_known_is_named_with_what_to_set(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str | None
) -> None:
    Authority(tmp_path / "other")
    (tmp_path / "empty.pem").touch()
    if known is None:
        monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / known))
    with (
        tls_front.running(authority.issue("mlflow")) as url,
        pytest.raises(RegistryError, match="MLFLOW_TRACKING_SERVER_CERT_PATH names the file") as no,
    ):
        opened(url, tmp_path)
    assert str(no.value).startswith(url)


def test_a_wrong_password_is_named_and_not_shown(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "falsch")
    with (
        tls_front.running(authority.issue("mlflow")) as url,
        pytest.raises(RegistryError, match=r"refuses this user \(401\).*TRACKING_PASSWORD") as no,
    ):
        opened(url, tmp_path)
    assert "falsch" not in str(no.value)


@pytest.fixture
def server(tmp_path: Path, template: Path) -> Iterator[int]:
    """A server of MLflow; its port."""
    database = tmp_path / "mlflow.db"
    database.write_bytes(template.read_bytes())
    port = hold_port(server)
    words = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{database}"]
    words += ["--artifacts-destination", str(tmp_path / "files")]
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        words, cwd=tmp_path, env=os.environ | variables, start_new_session=True
    )

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60):
                return True
        except OSError:
            return False

    try:
        wait_until(answers, "the server of MLflow", 300)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@pytest.mark.proof
def test_a_version_comes_and_goes_through_tls_and_a_password(
    authority: Authority, server: int, tmp_path: Path
) -> None:
    good_bundle(tmp_path / "flow.fieldwatch")
    with tls_front.running(authority.issue("mlflow"), server) as url:
        registry = opened(url, tmp_path)
        version = registry.register(tmp_path / "flow.fieldwatch")
        assert registry.versions("flow") == [version]
        assert registry.bundle(version).digest == version.digest
        registry.keep(version, "decisions/1.json", {"reason": "a test"})
        assert "decisions/1.json" in registry.version("flow", 1).files
        assert list(upkeep.verify(registry)) == []
        upkeep.delete(registry, version)
        assert registry.versions("flow") == []
