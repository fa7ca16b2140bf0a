from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hodios.engine.kv_cache import BlockPool, block_key, root_key


def chain(*blocks: list[int], salt: str = "") -> list[bytes]:
    """The keys of these blocks of tokens."""
    keys = [root_key(salt)]
    for tokens in blocks:
        keys.append(block_key(keys[-1], tokens))
    return keys[1:]


A, B, C = chain([1, 2], [3, 4], [5, 6])


def filled(pool: BlockPool, keys: list[bytes], *, exact: bool = True) -> list[int]:
    blocks = pool.allocate(len(keys))
    for block, key in zip(blocks, keys, strict=True):
        pool.register(block, key, exact=exact)
    return blocks


def test_reserved_blocks_are_never_handed_out() -> None:
    pool = BlockPool(6, num_reserved=2)
    assert pool.num_usable == pool.num_free == 4
    assert sorted(pool.allocate(4)) == [2, 3, 4, 5]
    with pytest.raises(AssertionError, match="1 blocks asked for, 0 are free"):
        pool.allocate(1)


def test_a_freed_prefix_is_found_again() -> None:
    pool = BlockPool(6)
    blocks = filled(pool, [A, B])
    pool.free(blocks)
    assert (pool.num_free, pool.num_cached) == (5, 2)
    assert pool.match([A, B, C], exact_only=False) == blocks
    assert (pool.num_free, pool.num_cached) == (3, 0)


def test_a_prefix_in_use_is_shared() -> None:
    pool = BlockPool(6)
    blocks = filled(pool, [A, B])
    assert pool.match([A], exact_only=True) == blocks[:1]
    assert pool.is_shared(blocks[0])
    assert not pool.is_shared(blocks[1])
    pool.free(blocks)
    assert pool.num_free == 4, "one reference is left"
    pool.check()


def test_a_prefix_ends_at_the_first_block_that_is_not_known() -> None:
    pool = BlockPool(6)
    blocks = pool.allocate(2)
    pool.register(blocks[1], B, exact=True)
    assert pool.match([A, B], exact_only=False) == []


def test_salts_do_not_see_each_other() -> None:
    pool = BlockPool(6)
    filled(pool, chain([1, 2], salt="mine"))
    assert pool.match(chain([1, 2], salt="yours"), exact_only=False) == []
    assert pool.match(chain([1, 2]), exact_only=False) == []
    assert len(pool.match(chain([1, 2], salt="mine"), exact_only=False)) == 1


def test_keys_tell_where_a_block_stands() -> None:
    assert chain([1, 2], [1, 2])[0] != chain([1, 2], [1, 2])[1]
    assert chain([1], [2, 3])[-1] != chain([1, 2], [3])[-1]


@given(st.lists(st.lists(st.integers(0, 2**31), min_size=2, max_size=2), min_size=1, max_size=4), st.text())
def test_keys_depend_on_every_token(blocks: list[list[int]], salt: str) -> None:
    changed = [list(tokens) for tokens in blocks]
    changed[0][1] += 1
    assert not set(chain(*blocks, salt=salt)) & set(chain(*changed, salt=salt))


def test_blank_blocks_go_first_then_the_least_recently_freed_and_children_before_parents() -> None:
    pool = BlockPool(6)
    first, second = filled(pool, [A, B]), filled(pool, [C])
    pool.free(first)
    pool.free(second)
    blank = pool.allocate(2)
    assert not set(blank) & {*first, *second}
    assert pool.allocate(1) == [first[1]], "the tail of what was freed first"
    assert pool.match([A, B], exact_only=False) == [first[0]]


def test_of_two_blocks_with_one_key_the_first_is_kept() -> None:
    pool = BlockPool(6)
    [first], _ = filled(pool, [A]), filled(pool, [A])
    assert pool.match([A], exact_only=False) == [first]
    pool.check()


@pytest.mark.parametrize("is_freed", [False, True])
def test_an_exact_block_takes_the_place_of_another(is_freed: bool) -> None:
    pool = BlockPool(6)
    [rough] = filled(pool, [A], exact=False)
    assert pool.match([A], exact_only=True) == []
    if is_freed:
        pool.free([rough])
    [exact] = filled(pool, [A], exact=True)
    assert pool.match([A], exact_only=True) == [exact]
    assert pool.num_cached == 0, "the other block's content is not findable any more"
    pool.check()


def test_misuse_is_told() -> None:
    pool = BlockPool(4)
    [block] = pool.allocate(1)
    pool.register(block, A, exact=True)
    with pytest.raises(AssertionError, match="has a key already"):
        pool.register(block, B, exact=True)
    pool.free([block])
    with pytest.raises(AssertionError, match="freed twice"):
        pool.free([block])
    with pytest.raises(AssertionError, match="cannot be shared"):
        pool.incref([block])
    with pytest.raises(AssertionError, match="cannot be trusted"):
        pool.register(block, B, exact=True)
    with pytest.raises(AssertionError, match="is reserved"):
        pool.free([0])
    with pytest.raises(AssertionError, match="none to hand out"):
        BlockPool(1)


class PoolMachine(RuleBasedStateMachine):
    """Holders take, share, match and return blocks at will; a block is free exactly when nobody holds it."""

    KEYS = (*chain([1], [2], [3], [4]), *chain([1], [5], [6])[1:])

    @initialize(num_blocks=st.integers(2, 9))
    def start(self, num_blocks: int) -> None:
        self.pool = BlockPool(num_blocks)
        self.held: list[list[int]] = []
        self.content: dict[int, tuple[bytes, bool]] = {}

    @rule(count=st.integers(1, 4))
    def allocate(self, count: int) -> None:
        assume(count <= self.pool.num_free)
        blocks = self.pool.allocate(count)
        assert len(set(blocks)) == count
        assert not set(blocks) & self.in_use()
        for block in blocks:
            self.content.pop(block, None)
        self.held.append(blocks)

    @rule(keys=st.sampled_from([KEYS[:4], KEYS[:2], (KEYS[0], *KEYS[4:])]), exact_only=st.booleans())
    def match(self, keys: tuple[bytes, ...], exact_only: bool) -> None:
        found = self.pool.match(keys, exact_only=exact_only)
        assert [self.content[block][0] for block in found] == list(keys[: len(found)])
        assert not exact_only or all(self.content[block][1] for block in found)
        if found:
            self.held.append(found)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), key=st.sampled_from(KEYS), exact=st.booleans())
    def register(self, data: st.DataObject, key: bytes, exact: bool) -> None:
        fresh = sorted(self.in_use() - self.content.keys())
        assume(fresh)
        block = data.draw(st.sampled_from(fresh))
        self.pool.register(block, key, exact=exact)
        known = next((other for other, content in self.content.items() if content[0] == key), None)
        if known is None or (exact and not self.content[known][1]):
            self.content.pop(known, None)
            self.content[block] = key, exact
            assert self.pool.is_exact(block) == exact

    @precondition(lambda self: self.held)
    @rule(data=st.data(), shares=st.booleans())
    def share_or_free(self, data: st.DataObject, shares: bool) -> None:
        position = data.draw(st.integers(0, len(self.held) - 1))
        if shares:
            self.pool.incref(self.held[position])
            self.held.append(list(self.held[position]))
        else:
            self.pool.free(self.held.pop(position))

    def in_use(self) -> set[int]:
        return {block for blocks in self.held for block in blocks}

    @invariant()
    def adds_up(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.pool.check()
        counts = Counter(block for blocks in self.held for block in blocks)
        assert all(self.pool.num_references(block) == counts[block] for block in range(self.pool.num_blocks))
        assert self.pool.num_free == self.pool.num_usable - len(counts)
        assert self.pool.num_cached == len(self.content.keys() - counts.keys())


TestPoolMachine = PoolMachine.TestCase
