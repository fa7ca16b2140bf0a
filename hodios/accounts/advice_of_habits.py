"""What the newest requests suggest to whoever writes them: prompts that always begin the same, and answers that are
allowed to be far longer than they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hodios.accounts.recommendation import Prices, Recommendation
from hodios.money import charge_of, dollars
from hodios.store.habits import Allowance, Beginning
from hodios.types import Price

PREFIX_CHARACTERS = 4096
"""Of a prompt, by which it is known again."""
PREFIX_TOKENS = 1024
"""That a text of so many characters has at about."""
LEAST_BEGUN = 20
"""Requests, before a beginning counts as one that is repeated."""
CACHED_SHARE = 0.2
"""Of a prompt's tokens: where more came from a cache, it does its work."""
LEAST_ALLOWED = 50
"""Requests, before their longest answer says something of the next one."""
FAR_ABOVE = 4
"""Times the longest answer that was given."""
_ROOM = 2
"""Times the longest answer are enough."""
_LEAST_ADVISED = 64
"""Tokens: fewer would save nothing worth the while."""


def of_beginnings(found: Iterable[Beginning], prices: Prices, names: Mapping[str, str]) -> Iterator[Recommendation]:
    """`names`: of keys, by their ids."""
    for each in found:
        cached_share = each.cached_tokens / each.prompt_tokens if each.prompt_tokens else 1.0
        if cached_share >= CACHED_SHARE:
            continue
        instead, saving = _cheapest_cache(each, prices.get(each.model, {}))
        told = ""
        if instead is not None:
            where = "there" if instead == each.provider else f"at {instead}"
            told = f" Read from a cache {where}, that beginning would have cost about ${dollars(saving)} less."
        yield Recommendation(
            kind="repeated_prefix",
            message=f"{each.num_requests} prompts of the key {names.get(each.key_id) or each.key_id} for {each.model} "
            f"at {each.provider} begin with the same {PREFIX_CHARACTERS} characters or more, and {cached_share:.0%} of "
            f"their tokens came from a cache: ask somebody who has one, and send a prompt_cache_key.{told}",
            model=each.model,
            provider=each.provider,
            instead=instead,
            saving=saving if instead is not None else None,
            owner_kind="key",
            owner_id=each.key_id,
            num_requests=each.num_requests,
        )


def of_allowances(found: Iterable[Allowance], names: Mapping[str, str]) -> Iterator[Recommendation]:
    """As `of_beginnings`."""
    for each in found:
        longest = each.most_completion_tokens
        enough = max(_LEAST_ADVISED, _ROOM * longest)
        if each.least_max_tokens < max(FAR_ABOVE * longest, 2 * enough):
            continue
        yield Recommendation(
            kind="max_tokens_too_high",
            message=f"{each.num_requests} requests of the key {names.get(each.key_id) or each.key_id} for {each.model} "
            f"allowed {each.least_max_tokens} tokens or more, and no answer had more than {longest}: with max_tokens "
            f"{enough} less of budgets and limits is held back for each.",
            model=each.model,
            owner_kind="key",
            owner_id=each.key_id,
            num_requests=each.num_requests,
            max_tokens=each.least_max_tokens,
            max_tokens_instead=enough,
        )


def _cheapest_cache(each: Beginning, prices: Mapping[str, Price]) -> tuple[str | None, int]:
    """Who would charge the least for what all but the first prompt repeat, and what that saves; None where nobody
    charges less for it than it did cost."""
    now = prices.get(each.provider)
    if now is None or not now.is_known:
        return None, 0
    num_tokens = PREFIX_TOKENS * (each.num_requests - 1)
    cost = charge_of(Price(prompt=now.prompt), num_tokens, 0, 0)
    caches = {
        provider: charge_of(Price(prompt=price.cached), num_tokens, 0, 0)
        for provider, price in prices.items()
        if price.is_known and price.cached is not None and (provider == each.provider or price.prompt <= now.prompt)
    }
    instead = min(caches, key=lambda provider: (caches[provider], provider != each.provider, provider), default=None)
    if instead is None or caches[instead] >= cost:
        return None, 0
    return instead, cost - caches[instead]
