"""Server-sent events: an open answer through which a browser learns of changes (WHATWG HTML)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import StreamingResponse

from agent.page.watch import Watch

RETRY_MS: Final = 2000  # until a browser that lost the connection tries again


def response(request: Request, watch: Watch, viewers_max: int) -> StreamingResponse | None:
    """Return the stream of events for a viewer; None if there are too many viewers."""
    if watch.viewers >= viewers_max:
        return None
    return StreamingResponse(
        _events(request, watch),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def _events(request: Request, watch: Watch) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MS}\n\n"
    async for kind, document in watch.changes():
        if await request.is_disconnected():
            return
        yield f"event: {kind}\ndata: {json.dumps(document)}\n\n"
