"""What accounts hold can be seen while they hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
        assert report["held"] == report["waiting"] == report["leased"] == 0
        lines = (await call("GET", "/metrics")).body.decode().splitlines()
        assert "hodios_accounts_held 0.0" in lines
        assert "hodios_accounts_store_degraded 0.0" in lines
        assert "hodios_accounts_failed_commits_total 0.0" in lines
