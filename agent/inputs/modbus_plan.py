"""Plans the requests that read the registers of a device, and learns which ones it refuses.

A plan begins with requests as long as the protocol and the settings allow. If the device refuses
one, the plan requests its parts, down to single values, so that a missing register affects no
other. It remembers blocks that are refused on their own, and retries them periodically. This module
is pure: the caller sends the requests and provides the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from agent.backoff import Backoff
from agent.inputs.modbus_terms import Block, Refusal, Words

_RETRY_S: Final = 10.0  # the first wait; doubles up to refused_retry_max_s
_WRONG_FUNCTION: Final = 1  # exception codes caused by the request itself, not by a temporary state
_WRONG_ADDRESS: Final = 2
_WRONG_LENGTH: Final = 3
_LASTING: Final = (_WRONG_FUNCTION, _WRONG_ADDRESS, _WRONG_LENGTH)

Ask = Callable[[Block], Words | Refusal]
Found = list[Words | Refusal]  # of each wanted block


class _Part(NamedTuple):
    """The position of a wanted block in a request."""

    at: int  # index of the wanted block
    begin: int
    end: int


class Request(NamedTuple):
    """A block to request, and the wanted blocks in it."""

    block: Block
    parts: tuple[_Part, ...]


class _Refused(NamedTuple):
    """Why a wanted block is not requested, and until when (monotonic)."""

    refusal: Refusal
    due_s: float


class Plan:
    """The requests for one device.

    Args:
        wanted: The block of each value; a block is read as a whole or not at all.
        longest: Maximum words per request, by function.
        retry_max_s: Longest wait before a refused block is requested again.

    """

    def __init__(
        self, wanted: Sequence[Block], longest: Mapping[str, int], retry_max_s: float
    ) -> None:
        self._wanted = wanted
        self._retry_max_s = retry_max_s
        self.longest = dict(longest)
        self.changes = 0  # of ``refused`` and ``longest``
        self._refused: dict[int, _Refused] = {}  # by the index of the wanted block
        self._waits: dict[int, Backoff] = {}  # by index, for all that were ever refused
        self.requests = list(self._requests(range(len(wanted))))

    @property
    def refused(self) -> dict[Block, Refusal]:
        """The blocks that the device refuses, in the order of their addresses."""
        found = {self._wanted[at]: refused.refusal for at, refused in self._refused.items()}
        return dict(sorted(found.items()))

    def read(self, ask: Ask, now_s: float) -> Found:
        """Read everything; return the result for each wanted block, in their order.

        ``now_s`` is monotonic. If ``ask`` raises, the requests stay as they were.
        """
        found = self._pass(ask, now_s)
        if self._is_back(ask, now_s):
            self._refused.clear()
            self.changes += 1
            self.requests = list(self._requests(range(len(self._wanted))))
            found = self._pass(ask, now_s)
        return found

    def _pass(self, ask: Ask, now_s: float) -> Found:
        """Read everything that is not refused."""
        found: Found = [[]] * len(self._wanted)
        kept: list[Request] = []
        for request in self.requests:
            for piece in self._short(request):
                kept += self._settled(piece, ask, now_s, found)
        self.requests = kept
        for at, refused in self._refused.items():
            found[at] = refused.refusal
        return found

    def _settled(self, request: Request, ask: Ask, now_s: float, found: Found) -> list[Request]:
        """Send a request; return the requests that replace it, or itself if it is answered."""
        answer = ask(request.block)
        if not isinstance(answer, Refusal):
            for at, begin, end in request.parts:
                found[at] = answer[begin:end]
            return [request]
        for at, _, _ in request.parts:
            found[at] = answer
        if answer.code not in _LASTING:
            return [request]
        if len(request.parts) == 1 or answer.code == _WRONG_FUNCTION:
            for at, _, _ in request.parts:
                self._refuse(at, answer, now_s)
            return []
        halves = self._halves(request)
        settled = [one for half in halves for one in self._settled(half, ask, now_s, found)]
        if answer.code == _WRONG_LENGTH and settled == halves:  # only the length was wrong
            self.longest[request.block.function] = max(half.block.words for half in halves)
            self.changes += 1
        return settled

    def _refuse(self, at: int, refusal: Refusal, now_s: float) -> None:
        wait = self._waits.setdefault(at, Backoff(_RETRY_S, self._retry_max_s))
        wait.failed()
        self.changes += at not in self._refused
        self._refused[at] = _Refused(refusal, now_s + wait.bound_s)

    def _is_back(self, ask: Ask, now_s: float) -> bool:
        """Retry one block that is due; return whether it is answered, as others may be then."""
        if not self._refused:
            return False
        at, refused = min(self._refused.items(), key=lambda item: item[1].due_s)
        if now_s < refused.due_s and self.requests:
            return False
        answer = ask(self._wanted[at])
        if isinstance(answer, Refusal):
            self._refuse(at, answer, now_s)
            return False
        self._waits[at].succeeded()
        return True

    def _short(self, request: Request) -> Sequence[Request]:
        """Return the request, split if it is longer than the device accepts."""
        if request.block.words <= self.longest[request.block.function] or len(request.parts) == 1:
            return (request,)
        return list(self._requests([part.at for part in request.parts]))

    def _halves(self, request: Request) -> list[Request]:
        indexes = [part.at for part in request.parts]
        middle = len(indexes) // 2
        return [*self._requests(indexes[:middle]), *self._requests(indexes[middle:])]

    def _requests(self, indexes: Sequence[int]) -> Iterator[Request]:
        """Yield requests for wanted blocks; adjacent blocks of a function share one."""
        group: list[int] = []
        begin, end, function = 0, 0, ""
        for at in sorted(indexes, key=lambda at: self._wanted[at]):
            block = self._wanted[at]
            last = block.address + block.words
            beside = block.function == function and block.address <= end
            if beside and max(end, last) - begin <= self.longest[function]:
                end = max(end, last)
                group.append(at)
                continue
            if group:
                yield self._request(group, Block(function, begin, end - begin))
            begin, end, function, group = block.address, last, block.function, [at]
        if group:
            yield self._request(group, Block(function, begin, end - begin))

    def _request(self, group: Sequence[int], block: Block) -> Request:
        parts = []
        for at in group:
            begin = self._wanted[at].address - block.address
            parts.append(_Part(at, begin, begin + self._wanted[at].words))
        return Request(block, tuple(parts))
