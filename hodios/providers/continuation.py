"""One continuation of a prompt: the engine's tokens become text, log-probabilities, and a reason to stop.

Sans-IO. Never splits a character, and never shows what a stop string cuts off.
"""

from __future__ import annotations

from collections import deque

from msgspec.structs import replace

from hodios.dialog.stop import StopMatcher, StopStrings
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.messages import Output, TokenAlternatives
from hodios.events import Stopped, Text, TokenLogprob
from hodios.providers.healing import Begun
from hodios.providers.resuming import ResumedMatcher
from hodios.types import FinishReason, Request


class TokenTexts:
    """Each token of one vocabulary alone, as text and bytes; remembers what it has looked up."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, tuple[str, bytes]] = {}

    def of(self, token_id: int) -> tuple[str, bytes]:
        """(text with U+FFFD where the token is part of a character, exact bytes)."""
        known = self._known.get(token_id)
        if known is None:
            raw = self._tokenizer.token_bytes(token_id)
            known = self._known[token_id] = (raw.decode("utf-8", "replace"), raw)
        return known

    def describe(self, alternatives: TokenAlternatives) -> TokenLogprob:
        text, raw = self.of(alternatives.token_id)
        top = tuple(
            (token_id, *self.of(token_id), logprob)
            for token_id, logprob in zip(alternatives.top_ids, alternatives.top_logprobs, strict=True)
        )
        return TokenLogprob(alternatives.token_id, text, raw, alternatives.logprob, top)


class Continuation:
    """Reads the outputs of one continuation in order; `index` is the choice it becomes.

    Counts characters of the detokenized text: a token covers those that appeared with it, and one that only begins a
    character covers that character. With log-probabilities, text is shown in whole tokens, each together with its
    log-probability; a token whose text begins where a stop string cuts the answer, or after, is not shown.
    """

    __slots__ = (
        "_detokenizer",
        "_matcher",
        "_num_again",
        "_num_decoded",
        "_num_passed",
        "_num_to_come",
        "_passed",
        "_request",
        "_texts",
        "_tokenizer",
        "_unshown",
        "index",
        "is_over",
        "num_tokens",
        "sum_logprob",
    )

    def __init__(
        self,
        index: int,
        request: Request,
        tokenizer: Tokenizer,
        texts: TokenTexts,
        stop_strings: StopStrings | None,
        shown_ids: frozenset[int] = frozenset(),
        begun: Begun | None = None,
    ) -> None:
        """`begun`: what somebody else has said of it. The text that comes again is not shown, nor its tokens counted;
        no log-probabilities can be had."""
        self.index = index
        self.is_over = False
        self.num_tokens = 0
        """Generated so far, with the token that ended the answer."""
        self.sum_logprob = 0.0
        self._request = request
        self._tokenizer = tokenizer
        self._texts = texts
        self._detokenizer = tokenizer.detokenizer(skip_special=True, shown=shown_ids)
        self._matcher = _matcher(stop_strings, request, begun)
        self._num_again = begun.num_characters if begun else 0
        """Characters that come again."""
        self._num_to_come = request.max_tokens if begun else None
        """Tokens after them; None where the engine knows."""
        self._passed = ""
        """Text that the stop strings have let through and that was not shown yet."""
        self._num_decoded = 0
        self._num_passed = 0
        self._unshown: deque[tuple[int, int, TokenLogprob]] | None = (
            None if request.sampling.logprobs is None else deque()
        )
        """(first character, end, log-probability) of tokens whose text is not all shown."""

    @property
    def mean_logprob(self) -> float:
        return self.sum_logprob / self.num_tokens if self.num_tokens else 0.0

    def push(self, output: Output) -> list[Text | Stopped]:
        """What one output adds; nothing once the answer `is_over`."""
        if self.is_over:
            return []
        if self._num_again:
            output = self._skip(output)
        if self._num_to_come is not None:
            output = self._shortened(output, self._num_to_come - self.num_tokens)
        tokens, logprobs = output.tokens, output.logprobs
        if logprobs is None and self._matcher is None and output.finish_reason is None and not self._passed:
            self.num_tokens += len(tokens)
            text = self._detokenizer.push(tokens)
            return [Text(self.index, text, (), self.num_tokens)] if text else []
        num_plain = len(tokens) - (output.stop_token is not None)
        for position in range(num_plain):
            self._read(tokens[position], None if logprobs is None else logprobs[position])
            if self._matched is not None:
                return self._end("stop", self._matched)
        if output.finish_reason is None:
            return self._show()
        return self._finish(output, output.finish_reason)

    def _skip(self, output: Output) -> Output:
        """Without the tokens that bring nothing but what comes again."""
        for num_read, token in enumerate(output.tokens, start=1):
            piece = self._detokenizer.push((token,))
            new = piece[self._num_again :]
            self._num_again = max(0, self._num_again - len(piece))
            if new:
                self._count(None)
                self._pass(new)
            if not self._num_again:
                return replace(output, tokens=output.tokens[num_read:])
        return replace(output, tokens=[])

    @staticmethod
    def _shortened(output: Output, num_to_come: int) -> Output:
        """The engine was granted more tokens than are wanted: nobody knows how many the text that comes again takes."""
        if len(output.tokens) < num_to_come or (len(output.tokens) == num_to_come and output.finish_reason):
            return output
        return replace(output, tokens=output.tokens[:num_to_come], finish_reason="length", stop_token=None)

    @property
    def _matched(self) -> str | None:
        return None if self._matcher is None else self._matcher.matched

    def _finish(self, output: Output, finish_reason: FinishReason) -> list[Text | Stopped]:
        """The engine has ended the answer: with a stop token, at its length, or at the end of its grammar."""
        reason: int | None = None
        if output.stop_token is not None:
            is_listed = output.stop_token in self._request.sampling.stop_token_ids
            reason = output.stop_token if is_listed else None
            last = None if output.logprobs is None else output.logprobs[-1]
            if is_listed and self._request.include_stop:
                self._read(output.stop_token, last, is_shown_as_is=self._tokenizer.is_special(output.stop_token))
            else:
                self._count(last)
        if self._matched is None:
            self._pass(self._detokenizer.flush())
        if self._matched is not None:
            return self._end("stop", self._matched)
        if self._matcher is not None:
            self._passed += self._matcher.flush()
        return self._end(finish_reason, reason)

    def _read(self, token: int, alternatives: TokenAlternatives | None, *, is_shown_as_is: bool = False) -> None:
        self._count(alternatives)
        if is_shown_as_is:
            self._pass(self._detokenizer.flush())
            piece = self._texts.of(token)[0]
        else:
            piece = self._detokenizer.push((token,))
        if self._unshown is not None and alternatives is not None:
            start = self._num_decoded
            self._unshown.append((start, start + (len(piece) or 1), self._texts.describe(alternatives)))
        self._pass(piece)

    def _count(self, alternatives: TokenAlternatives | None) -> None:
        self.num_tokens += 1
        if alternatives is not None and alternatives.logprob is not None:
            self.sum_logprob += alternatives.logprob

    def _pass(self, piece: str) -> None:
        """Through the stop strings. Before `min_tokens` tokens they are not looked for."""
        self._num_decoded += len(piece)
        if self._matcher is not None and self.num_tokens >= self._request.sampling.min_tokens:
            piece = self._matcher.push(piece)
        self._num_passed += len(piece)
        self._passed += piece

    def _show(self) -> list[Text | Stopped]:
        """What is whole: all that was let through or, with log-probabilities, the tokens of which all was."""
        text, logprobs = self._passed, []
        if self._unshown is not None:
            while self._unshown and self._unshown[0][1] <= self._num_passed:
                logprobs.append(self._unshown.popleft()[2])
            if self._unshown:
                text = text[: len(text) - (self._num_passed - self._unshown[0][0])]
        self._passed = self._passed[len(text) :]
        return [Text(self.index, text, tuple(logprobs), self.num_tokens)] if text or logprobs else []

    def _end(self, finish_reason: FinishReason, stop_reason: str | int | None) -> list[Text | Stopped]:
        self.is_over = True
        logprobs: tuple[TokenLogprob, ...] = ()
        if self._unshown is not None:
            is_cut = isinstance(stop_reason, str)
            logprobs = tuple(entry for start, _, entry in self._unshown if not is_cut or start < self._num_passed)
        events: list[Text | Stopped] = [Stopped(self.index, finish_reason, stop_reason)]
        if self._passed or logprobs:
            events.insert(0, Text(self.index, self._passed, logprobs, self.num_tokens))
        return events


def _matcher(strings: StopStrings | None, request: Request, begun: Begun | None) -> StopMatcher | None:
    if strings is None:
        return None
    if begun is not None:
        return ResumedMatcher(strings, begun.text, include_stop=request.include_stop)
    return StopMatcher(strings, include_stop=request.include_stop)
