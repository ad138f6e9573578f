"""What an agent leaves out, and that it is there when it is needed; in processes of their own."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from tests.conftest import ROOT

BEGIN = "import sys; from agent import memory; memory.begin()\n"


def printed(code: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256"])
def test_digests_are_the_same_without_openssl(name: str) -> None:
    code = f"""
import hashlib
print(hashlib.{name}(b"fieldwatch").hexdigest(), "libcrypto" in open("/proc/self/maps").read())
"""
    assert printed(code) == f"{hashlib.new(name, b'fieldwatch').hexdigest()} False"


def test_tls_is_loaded_when_it_is_used_and_its_errors_are_then_the_real_ones() -> None:
    code = """
import ssl
import paho.mqtt.client as paho
try:
    raise BlockingIOError
except ssl.SSLWantReadError:
    assert False
except BlockingIOError:
    assert "_ssl" not in sys.modules
context = paho.ssl.create_default_context()
import _ssl
assert paho.ssl.SSLWantReadError is ssl.SSLWantReadError is _ssl.SSLWantReadError
assert paho.ssl.SSLWantWriteError is _ssl.SSLWantWriteError
import ssl
assert isinstance(context, ssl.SSLContext) and ssl is not paho.ssl
print("good")
"""
    assert printed(code) == "good"


def test_parts_of_numpy_are_there_when_they_are_used() -> None:
    code = "import numpy as np; print(np.fft.fft([1.0, 1.0])[0].real, np.ma.masked_array([2])[0])"
    assert printed(code) == "2.0 2"


def test_numpy_computes_in_one_thread() -> None:
    code = """
import os
import numpy as np
np.ones((300, 300)) @ np.ones((300, 300))
print(len(os.listdir("/proc/self/task")))
"""
    assert printed(code) == "1"
