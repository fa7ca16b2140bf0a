"""How limits stand, as headers of answers, under the names and in the forms that OpenAI has given them."""

from __future__ import annotations

from hodios.accounts.limits import RateState, Window

_MS = 10**6
_S = 10**9


def rate_headers(state: RateState) -> list[tuple[str, str]]:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}` of those limits that there are."""
    return [*_headers("requests", state.requests), *_headers("tokens", state.tokens)]


def retry_headers(retry_ns: int) -> list[tuple[str, str]]:
    """`retry-after` in whole seconds and `retry-after-ms`, neither of them too early."""
    return [
        ("retry-after", str(max(1, -(-retry_ns // _S)))),
        ("retry-after-ms", str(max(1, -(-retry_ns // _MS)))),
    ]


def go_duration(ns: int) -> str:
    """As Go writes durations, in whole milliseconds rounded up, from a second on in whole seconds: `0s`, `12ms`, `1s`,
    `6m0s`, `1h0m0s`."""
    if ns < _S:
        ms = -(-ns // _MS)
        if ms < 1000:
            return f"{ms}ms" if ms else "0s"
    minutes, seconds = divmod(-(-ns // _S), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _headers(name: str, window: Window | None) -> list[tuple[str, str]]:
    if window is None:
        return []
    return [
        (f"x-ratelimit-limit-{name}", str(window.limit)),
        (f"x-ratelimit-remaining-{name}", str(window.remaining)),
        (f"x-ratelimit-reset-{name}", go_duration(window.reset_ns)),
    ]
