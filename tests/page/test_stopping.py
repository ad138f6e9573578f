"""The page stops while somebody looks at it: streams of events would never end by themselves."""

from __future__ import annotations

import http.client
from pathlib import Path

from tests.conftest import WAIT_S_MAX
from tests.kept_rig import Kept
from tests.page_rig import RealPage


def test_a_page_with_viewers_stops_without_a_trace(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    page = RealPage(kept.config)
    page.start()
    viewer = http.client.HTTPConnection("127.0.0.1", page.port, timeout=WAIT_S_MAX)
    viewer.request("GET", "/events")
    answer = viewer.getresponse()
    while not answer.readline().startswith(b"data:"):
        pass
    page.stop()
    assert answer.read().endswith(b"\n\n")  # to its end, which is no error
    viewer.close()
    kept.store.close()
    assert "ERROR" not in page.log()
