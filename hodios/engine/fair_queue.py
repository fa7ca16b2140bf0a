"""The order in which waiting sequences get their turn. Knows no slots and no blocks."""

from __future__ import annotations

from collections import OrderedDict, deque

from hodios.engine.sequence import Sequence


class FairQueue:
    """Those who wait. Callers take turns; within one caller, first come first served."""

    def __init__(self) -> None:
        self._by_caller: OrderedDict[str, deque[Sequence]] = OrderedDict()
        self._num_sequences = 0

    def __len__(self) -> int:
        return self._num_sequences

    def _of_caller(self, sequence: Sequence) -> deque[Sequence]:
        return self._by_caller.setdefault(sequence.group.submit.caller, deque())

    def append(self, sequence: Sequence) -> None:
        self._of_caller(sequence).append(sequence)
        self._num_sequences += 1

    def appendleft(self, sequence: Sequence) -> None:
        self._of_caller(sequence).appendleft(sequence)
        self._num_sequences += 1

    def head(self) -> Sequence:
        return next(iter(self._by_caller.values()))[0]

    def popleft(self) -> Sequence:
        """Take the head; its caller's next turn comes after everybody else's."""
        sequence = self.head()
        self.remove(sequence)
        caller = sequence.group.submit.caller
        if caller in self._by_caller:
            self._by_caller.move_to_end(caller)
        return sequence

    def remove(self, sequence: Sequence) -> None:
        queue = self._of_caller(sequence)
        queue.remove(sequence)
        self._num_sequences -= 1
        if not queue:
            del self._by_caller[sequence.group.submit.caller]
