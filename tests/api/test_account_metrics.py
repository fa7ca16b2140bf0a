"""What accounts hold can be seen while they hold it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis_server import RedisServer

from hodios.accounts.office import opened
from hodios.api.app import create_app
from hodios.config import Config
from hodios.providers.echo import EchoProvider


async def test_health_and_metrics_tell_of_accounts(config: Config, caller_of: Any, tmp_path: Path) -> None:
    async with opened(tmp_path, f"sqlite:///{tmp_path / 'hodios.db'}") as office:
        call = caller_of(create_app(config, [EchoProvider(context_length=4096)], office=office))
        assert (await call.chat()).status == 200
        report = (await call("GET", "/health")).json()["accounts"]
        assert report["store"] == "ready"
        assert report["retention"] == {"state": "ready", "ended_at": None, "deleted_rows": None}
        await office.housekeeper.step()
        retention = (await call("GET", "/health")).json()["accounts"]["retention"]
        assert (retention["state"], retention["deleted_rows"]) == ("ready", 0)
        assert retention["ended_at"]
        assert report["held"] == report["waiting"] == report["leased"] == 0
        lines = (await call("GET", "/metrics")).body.decode().splitlines()
        assert "hodios_accounts_held 0.0" in lines
        assert "hodios_accounts_store_degraded 0.0" in lines
        assert "hodios_retention_failing 0.0" in lines
        assert any(line.startswith("hodios_retention_ended_timestamp_seconds 1.") for line in lines)
        assert "hodios_accounts_failed_commits_total 0.0" in lines
        assert report["limits"] == "local"
        assert "hodios_accounts_limits_degraded 0.0" in lines


async def test_health_and_metrics_tell_whether_limits_are_shared(
    config: Config, caller_of: Any, tmp_path: Path, need: Callable[[str, str], str]
) -> None:
    redis = RedisServer(need("redis-server", "redis-server"), tmp_path)
    url = f"sqlite:///{tmp_path / 'hodios.db'}"
    async with opened(tmp_path, url, limits_url=redis.url, num_processes=2) as office:
        call = caller_of(create_app(config, [EchoProvider(context_length=4096)], office=office))

        async def becomes(standing: str) -> None:
            async with asyncio.timeout(60):
                report = (await call("GET", "/health")).json()["accounts"]
                while report["limits"] != standing:
                    await asyncio.sleep(0.05)
                    report = (await call("GET", "/health")).json()["accounts"]
            assert report["limits_processes"] == 2
            lines = (await call("GET", "/metrics")).body.decode().splitlines()
            assert f"hodios_accounts_limits_degraded {float(standing == 'degraded')}" in lines
            assert "hodios_accounts_limits_processes 2.0" in lines

        await becomes("degraded")
        redis.start()
        await becomes("shared")
        redis.stop()
