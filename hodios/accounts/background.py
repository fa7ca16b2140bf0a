"""Work that goes on in the background, whatever goes wrong with it once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

RETRY_S = 5.0
_log = logging.getLogger(__name__)


async def repeat(step: Callable[[], Awaitable[float]]) -> None:
    """Until it is cancelled. `step` returns for how many seconds to pause before the next one."""
    while True:
        try:
            pause_s = await step()
        except Exception:  # noqa: BLE001 - what goes wrong once must not be the end of it
            _log.exception("work in the background went wrong; the next try is in %g s", RETRY_S)
            pause_s = RETRY_S
        await asyncio.sleep(pause_s)
