"""How requests are routed, as the settings say: the section `[router]`. Refuses what it does not know."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from hodios.sections import parse_section

PolicyName = Literal["balanced", "price", "latency", "throughput", "perf", "perf_avg"]


class RouterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the operator chose."""

    policy: PolicyName = "balanced"
    """For requests that choose nothing themselves."""
    price_exponent: Annotated[float, Meta(ge=0, le=20)] = 2.0
    """α of the policy `balanced`: a provider gets requests in proportion to price^-α."""
    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 5
    """Providers that one request asks at most."""
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 240.0
    """Until an answer has to begin, where several could give it. Each may take half of what is left."""
    saturation_tokens: Annotated[int, Meta(ge=0)] = 8192
    """With more prompt tokens than these on their way to a replica, others are asked though their caches are cold."""
    hedge_share: Annotated[float, Meta(ge=0, le=0.1)] = 0.0
    """So many of all requests may be sent twice when their first token is late; 0: none."""
    probe_interval_s: Annotated[float, Meta(ge=0, le=86400)] = 60.0
    """Between free probes of providers that nobody asks anything; 0: nobody is probed."""
    kept_generations: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000
    """The newest so many requests can be looked up; 0: none."""


def parse(value: object) -> RouterSettings:
    """The table below `[router]`, or that table as JSON text. Raises ConfigError."""
    return parse_section(value, RouterSettings, "router")


def write(settings: RouterSettings) -> str:
    """As JSON that `parse` reads."""
    return msgspec.json.encode(settings).decode()
