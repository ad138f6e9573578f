"""What a person types, and sees."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from tests.bundle_rig import noisy
from tests.conftest import ROOT, hold_port, wait_until
from tests.registry_rig import SEEN_S, good_bundle, write_flow
from tests.trainer.test_cli import run
from trainer.registry import upkeep
from trainer.registry.registry import Registry

Open = Callable[..., Registry]


@pytest.fixture
def said(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    """Runs a command beside the registry; returns its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> tuple[int, str]:
        code = run(monkeypatch, *words)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return command


def test_from_a_bundle_to_a_champion_and_out_again(
    said: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    for number, deviations in ((1, 6.0), (2, 60.0)):
        good_bundle(tmp_path / str(number) / "flow.fieldwatch", number, deviations)
    assert said("register", "1/flow.fieldwatch", "--tag", "site=plant")[0] == 0
    assert "flow version 2: bundle" in said("register", "2/flow.fieldwatch")[1]
    assert said("registry", "promote", "flow", "--version", 1, "--force")[0] == 2
    forced = ("--version", 1, "--force", "--reason", "the first")
    assert said("registry", "promote", "flow", *forced)[0] == 0
    write_flow(tmp_path / "new.csv", SEEN_S + 1, noisy(2 * 3600))
    code, told = said("registry", "promote", "flow", "new.csv")
    assert code == 1
    assert told.splitlines()[-1].endswith("so version 1 stays")
    code, told = said("registry", "list")
    assert told.splitlines()[1].split()[:3] == ["flow", "2", "1"]
    assert said("registry", "alias", "flow", "shadow", 2)[0] == 0
    assert "shadow" in said("registry", "list", "flow")[1].splitlines()[1]
    code, told = said("registry", "show", "flow", "champion", "--json")
    assert json.loads(told)["tags"] == {"site": "plant"}
    assert "test/normal.events_per_day" in said("registry", "show", "flow", "shadow")[1]
    assert said("registry", "fetch", "flow", "--output", "out")[0] == 0
    assert (tmp_path / "out" / "flow.fieldwatch").read_bytes() == (
        tmp_path / "1" / "flow.fieldwatch"
    ).read_bytes()
    assert said("registry", "verify") == (0, "all is whole\n")
    assert said("registry", "delete", "flow", 1)[0] == 65
    assert said("registry", "delete", "flow", 2)[0] == 0
    assert said("registry", "show", "flow", 2)[0] == 65


def test_search_by_tag_metric_and_digest(
    said: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    good_bundle(tmp_path / "1" / "flow.fieldwatch", 1)
    good_bundle(tmp_path / "2" / "flow.fieldwatch", 2, data="b")
    said("register", "1/flow.fieldwatch", "--tag", "site=plant")
    said("register", "2/flow.fieldwatch", "--stream", "pump")

    def found(*words: str) -> list[str]:
        code, told = said("registry", "search", *words, "--json")
        streams = [each["stream"] for each in json.loads(told)]
        assert code == (0 if streams else 1)
        return streams

    assert found() == ["flow", "pump"]
    assert found("--tag", "site=plant") == ["flow"]
    assert found("--data", "bbb") == ["pump"]
    assert found("--metric", "test/normal.events_per_day <= 0.5") == ["flow", "pump"]
    assert found("--metric", "test/normal.events_per_day<0.5") == []
    assert found("--stream", "flow", "--data", "b") == []
    assert said("registry", "search", "--metric", "x")[0] == 2
    assert said("registry", "search", "--tag", "a=it's")[0] == 78


def test_a_wrong_setting_and_a_registry_that_is_not_there(
    said: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "fleet.toml").write_text('streams = 3\n[registry]\nurl = "ftp://x"\n')
    code, told = said("registry", "list", "--config", "fleet.toml")
    assert code == 78
    assert "fleet.toml: registry: url must begin with sqlite:///" in told
    (tmp_path / "fleet.toml").write_text('[registry]\nurl = "postgresql://a:geheim@b/c"\n')
    code, told = said("registry", "list", "--config", "fleet.toml")
    assert code == 78
    assert "url has a password" in told
    assert "geheim" not in told
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"postgresql+psycopg://a@127.0.0.1:{port}/b"
    code, told = said("registry", "list", "--url", address, "--artifacts", "files")
    assert code == 74
    assert "refused" in told


WITHOUT = """
import sys
sys.modules["mlflow"] = None
from trainer import cli
sys.argv[0] = "fieldwatch-trainer"
cli.main()
"""


def test_without_mlflow_these_commands_say_so_and_the_others_do_without(tmp_path: Path) -> None:
    def ended(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT, *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    refused = ended("registry", "list")
    assert refused.returncode == 69
    assert "pip install 'fieldwatch[registry]'" in refused.stderr
    assert ended("schema").returncode == 0
    assert ended("registry", "--help").returncode == 0


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server of S3 with the bucket ``models``; its URL is in the environment."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    for name, value in (
        ("MLFLOW_S3_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    made = urllib.request.Request(f"{url}/models", method="PUT")
    urllib.request.urlopen(made).close()
    yield
    server.stop()


@pytest.mark.usefixtures("s3")
def test_files_on_s3(open_registry: Open, tmp_path: Path) -> None:
    good_bundle(tmp_path / "flow.fieldwatch")
    registry = open_registry(artifacts="s3://models/fieldwatch")
    version = registry.register(tmp_path / "flow.fieldwatch")
    assert version.uri.startswith("s3://models/fieldwatch/")
    assert registry.bundle(version).digest == version.digest
    assert list(upkeep.verify(registry)) == []
    registry.store.remove(version.uri, "flow.report.html")
    assert [one.what for one in upkeep.verify(registry)] == ["flow version 1: flow.report.html"]
    upkeep.delete(registry, version)
    assert registry.store.listed(version.uri) == []


def test_ui_serves_the_pages_of_the_right_store(registry: Registry, tmp_path: Path) -> None:
    with registry.run("flow") as made:
        made.numbers({"test/x": 1.5})
    port = hold_port(registry)
    words = ("ui", "--url", registry.store.uri, "--port", str(port))
    pages = subprocess.Popen(
        [sys.executable, "-m", "trainer", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )

    def asked(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                return answer.read()
        except OSError:
            return None

    try:
        wait_until(lambda: asked("/health") is not None, "the pages", 300)
        run_ = json.loads(asked(f"/api/2.0/mlflow/runs/get?run_id={made.id}"))["run"]
        assert run_["data"]["metrics"][0]["value"] == 1.5
        assert b"<title>MLflow</title>" in asked("/")
    finally:
        os.killpg(pages.pid, signal.SIGTERM)
        pages.wait(60)


def test_the_entry_points_of_the_project_are_commands(registry: Registry, tmp_path: Path) -> None:
    good_bundle(tmp_path / "flow.fieldwatch")
    words = [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", "register"]
    words += ["--env-manager", "local", "-P", f"bundle={tmp_path / 'flow.fieldwatch'}"]
    words += ["-P", f"url={registry.store.uri}"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {"MLFLOW_TRACKING_URI": registry.store.uri, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | variables, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert [one.number for one in registry.versions("flow")] == [1]
