"""Which block of the KV cache belongs to whom, and which prefix can be found in it. Holds no tensors."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

KEY_BYTES = 16
"""128 bits: an accidental or sought collision would show one caller's prompt to another's model run."""


def root_key(salt: str) -> bytes:
    """What the key chain of every sequence with this salt starts from."""
    return blake2b(salt.encode(), digest_size=KEY_BYTES, person=b"hodios salt").digest()


def block_key(parent: bytes, tokens: list[int]) -> bytes:
    """The key of a full block: of its tokens and, through the block before it, of the whole prefix."""
    return blake2b(parent + array("q", tokens).tobytes(), digest_size=KEY_BYTES).digest()


class BlockPool:
    """Reference-counted blocks of `block_size` tokens. A freed block stays findable until it is handed out again.

    The first `num_reserved` blocks are scratch space for padding rows and never handed out.
    Blocks with findable content are handed out last, the least recently freed of them first.
    """

    def __init__(self, num_blocks: int, block_size: int = 32, *, num_reserved: int = 1) -> None:
        assert num_blocks > num_reserved >= 0, f"{num_blocks} blocks, {num_reserved} of them reserved: none to hand out"
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.num_reserved = num_reserved
        self._num_references = [0] * num_blocks
        self._keys: list[bytes | None] = [None] * num_blocks
        self._is_exact = [False] * num_blocks
        self._holders: dict[bytes, int] = {}
        self._blank = list(range(num_blocks - 1, num_reserved - 1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def num_usable(self) -> int:
        return self.num_blocks - self.num_reserved

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds, whether or not a prefix may still be found in them."""
        return len(self._blank) + len(self._cached)

    @property
    def num_cached(self) -> int:
        """Blocks that nobody holds but in which a prefix may still be found."""
        return len(self._cached)

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def is_shared(self, block: int) -> bool:
        return self._num_references[block] > 1

    def is_exact(self, block: int) -> bool:
        return self._is_exact[block]

    def num_references(self, block: int) -> int:
        return self._num_references[block]

    def allocate(self, num_blocks: int) -> list[int]:
        """Blocks with one reference each and no known content."""
        assert num_blocks <= self.num_free, f"{num_blocks} blocks asked for, {self.num_free} are free"
        return [self._allocate_one() for _ in range(num_blocks)]

    def _allocate_one(self) -> int:
        if self._blank:
            block = self._blank.pop()
        else:
            block, _ = self._cached.popitem(last=False)
            self._forget(block)
        self._num_references[block] = 1
        return block

    def incref(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            assert self._num_references[block] > 0, f"block {block} is free: it cannot be shared"
            self._num_references[block] += 1

    def free(self, blocks: list[int]) -> None:
        """Take one reference from each. `blocks` are in the order of their tokens; the tail will be reused first."""
        for block in reversed(blocks):
            assert block >= self.num_reserved, f"block {block} is reserved: it cannot be freed"
            assert self._num_references[block] > 0, f"block {block} is freed twice"
            self._num_references[block] -= 1
            if self._num_references[block] == 0:
                if self._keys[block] is None:
                    self._blank.append(block)
                else:
                    self._cached[block] = None

    def match(self, keys: Iterable[bytes], *, exact_only: bool) -> list[int]:
        """The blocks that hold the longest known prefix of this key chain, with a reference more each."""
        found: list[int] = []
        for key in keys:
            block = self._holders.get(key)
            if block is None or (exact_only and not self._is_exact[block]):
                break
            if self._num_references[block] == 0:
                del self._cached[block]
            self._num_references[block] += 1
            found.append(block)
        return found

    def register(self, block: int, key: bytes, *, exact: bool) -> None:
        """Make a full block findable. Of two blocks with one key the first is kept, unless only the second is exact."""
        assert self._num_references[block] > 0, f"block {block} is free: its content cannot be trusted"
        assert self._keys[block] is None, f"block {block} has a key already"
        holder = self._holders.get(key)
        if holder is not None:
            if self._is_exact[holder] or not exact:
                return
            self._forget(holder)
            if holder in self._cached:
                del self._cached[holder]
                self._blank.append(holder)
        self._holders[key] = block
        self._keys[block] = key
        self._is_exact[block] = exact

    def _forget(self, block: int) -> None:
        key = self._keys[block]
        assert key is not None, f"block {block} has no key to forget"
        del self._holders[key]
        self._keys[block] = None
        self._is_exact[block] = False

    def check(self) -> None:
        """Assert every invariant, in time proportional to the number of blocks."""
        free = [*self._blank, *self._cached]
        assert len(free) == len(set(free)), "a block is in the free list twice"
        assert min(free, default=self.num_reserved) >= self.num_reserved, "a reserved block is in the free list"
        unreferenced = {block for block in range(self.num_reserved, self.num_blocks) if not self._num_references[block]}
        assert set(free) == unreferenced, "free blocks and unreferenced blocks differ"
        assert not any(self._num_references[: self.num_reserved]), "a reserved block is referenced"
        assert min(self._num_references) >= 0, "a block has fewer than no references"
        keyed = {key: block for block, key in enumerate(self._keys) if key is not None}
        assert keyed == self._holders, "keys and their holders differ"
        assert all(self._keys[block] is None for block in self._blank), "a blank block has a key"
        assert all(self._keys[block] is not None for block in self._cached), "a cached block has no key"
        assert all(self._keys[block] is not None for block, exact in enumerate(self._is_exact) if exact), (
            "a block without a key is exact"
        )
