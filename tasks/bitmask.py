"""Masks with 64 pixels in a word: morphology, and the way to runs, at the speed of a few bit operations.

Pixel x of a row is bit `x % 64` of word `x // 64`; the bits beyond the width are 0. Outside the image is background,
for erosion as well as for dilation.
"""

from typing import Any, NamedTuple, Self

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from tasks.kernel import kernel
from tasks.runs import Indices, Runs
from tasks.scratch import scratch

Words = NDArray[np.uint64]
"""(H, ceil(W / 64)) uint64."""

MOST_RADIUS = 64
"""Largest radius of erosion and dilation: neighbouring words are all that is looked at."""

_ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


class Bitmask(NamedTuple):
    """A mask of an image (H, W)."""

    words: Words
    width: int

    @classmethod
    def at_least(cls, values: NDArray[Any], bound: float) -> Self:
        """Mark the values (H, W) that reach a bound."""
        return cls(_pack(values, bound), values.shape[1])

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Self:
        """Pack a mask (H, W) that has a byte for each pixel."""
        return cls.at_least(np.ascontiguousarray(mask).view(np.uint8), 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return len(self.words), self.width

    def to_array(self) -> NDArray[np.bool_]:
        """Mask (H, W) with a byte for each pixel."""
        octets = self.words.astype("<u8").view(np.uint8)
        return np.unpackbits(octets, axis=1, count=self.width, bitorder="little").view(np.bool_)

    def eroded(self, radius: int) -> "Bitmask":
        """Keep the pixels around which a square of `2 radius + 1` pixels is set."""
        return self._spread(radius, erode=True)

    def dilated(self, radius: int) -> "Bitmask":
        """Set the pixels around which a square of `2 radius + 1` pixels has one that is set."""
        return self._spread(radius, erode=False)

    def _spread(self, radius: int, *, erode: bool) -> "Bitmask":
        if not 0 <= radius <= MOST_RADIUS:
            raise ValueError(f"radius {radius} is outside 0 to {MOST_RADIUS}")
        gathered = scratch("gathered", self.words.shape, np.uint64)
        return Bitmask(_spread(self.words, self.width, radius, erode, gathered), self.width)

    def runs(self) -> tuple[Runs, Indices]:
        """Runs of pixels that are set, and (H + 1) where those of each row begin among them."""
        return _find_runs(self.words, self.width, False)

    def gaps(self) -> tuple[Runs, Indices]:
        """Runs of pixels that are not set, and (H + 1) where those of each row begin among them."""
        return _find_runs(self.words, self.width, True)

    def with_runs(self, runs: Runs) -> "Bitmask":
        """Mask in which the pixels of some runs are set as well."""
        words = self.words.copy()
        _set_runs(words, runs)
        return Bitmask(words, self.width)


@intrinsic
def _lowest_bit(_context: Any, _word: Any) -> Any:  # noqa: ANN401 - numba's own types
    """Position of the lowest bit of a word that is set."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def _count_bits(_context: Any, _word: Any) -> Any:  # noqa: ANN401
    """Number of bits of a word that are set."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@kernel
def _pack(values: NDArray[Any], bound: float) -> Words:
    height, width = values.shape
    words = np.empty((height, (width + 63) // 64), np.uint64)
    for y in range(height):
        row = values[y]
        for i in range(words.shape[1]):
            word = np.uint64(0)
            for x in range(64 * i, min(64 * i + 64, width)):
                word |= np.uint64(row[x] >= bound) << np.uint64(x & 63)
            words[y, i] = word
    return words


@kernel
def _spread(words: Words, width: int, radius: int, erode: bool, gathered: Words) -> Words:
    """Combine each pixel with its neighbours up to a radius, by AND to erode and by OR to dilate.

    The neighbours to one side are gathered by doubling: those within 1, then within 2, 4, .... `gathered` is memory
    for that, of the same shape.
    """
    height, n = words.shape
    spread = np.empty_like(words)
    right, left = np.empty(n + 1, np.uint64), np.empty(n + 1, np.uint64)
    right[n] = left[0] = 0
    for y in range(height):
        for i in range(n):
            right[i] = left[i + 1] = words[y, i]
        reach = 0
        while reach < radius:
            step = np.uint64(min(reach + 1, radius - reach))
            rest = np.uint64(64) - step
            for i in range(n):
                neighbours = right[i] >> step | right[i + 1] << rest
                right[i] = right[i] & neighbours if erode else right[i] | neighbours
            for i in range(n, 0, -1):
                neighbours = left[i] << step | left[i - 1] >> rest
                left[i] = left[i] & neighbours if erode else left[i] | neighbours
            reach += int(step)
        for i in range(n):
            spread[y, i] = right[i] & left[i + 1] if erode else right[i] | left[i + 1]
    _spread_rows(spread, radius, erode, gathered)
    for y in range(height):
        spread[y, n - 1] &= _ONES >> np.uint64(-width & 63)
    return spread


@kernel
def _spread_rows(words: Words, radius: int, erode: bool, above: Words) -> None:
    height = len(words)
    below = words
    for y in range(height):
        for i in range(words.shape[1]):
            above[y, i] = words[y, i]
    outside = np.zeros(words.shape[1], np.uint64)
    reach = 0
    while reach < radius:
        step = min(reach + 1, radius - reach)
        for y in range(height):
            _combine(below[y], below[y + step] if y + step < height else outside, erode)
        for y in range(height - 1, -1, -1):
            _combine(above[y], above[y - step] if y >= step else outside, erode)
        reach += step
    for y in range(height):
        _combine(below[y], above[y], erode)


@kernel
def _combine(row: NDArray[np.uint64], other: NDArray[np.uint64], erode: bool) -> None:
    for i in range(row.size):
        row[i] = row[i] & other[i] if erode else row[i] | other[i]


@kernel
def _changes(word: np.uint64, before: np.uint64) -> np.uint64:
    """Bits that differ from the one before them; `before` is the last bit of the word before."""
    return word ^ (word << np.uint64(1) | before)


@kernel
def _find_runs(words: Words, width: int, inverted: bool) -> tuple[Runs, Indices]:
    """Runs of ones, or of zeros, from the places where neighbouring bits differ."""
    height, n = words.shape
    flip = _ONES if inverted else np.uint64(0)
    last = _ONES >> np.uint64(-width & 63)
    first_of_row = np.empty(height + 1, np.int32)
    first_of_row[0] = 0
    for y in range(height):
        n_edges = 0
        before = np.uint64(0)
        for i in range(n):
            word = (words[y, i] ^ flip) & (last if i == n - 1 else _ONES)
            n_edges += _count_bits(_changes(word, before))  # type: ignore[call-arg]
            before = word >> np.uint64(63)
        # A run that reaches the edge of the image has no change at its end.
        first_of_row[y + 1] = first_of_row[y] + (n_edges + 1) // 2
    n_runs = first_of_row[height]
    row, start, stop = np.empty(n_runs, np.int32), np.empty(n_runs, np.int32), np.empty(n_runs, np.int32)
    for y in range(height):
        run = first_of_row[y]
        inside = False
        before = np.uint64(0)
        for i in range(n):
            word = (words[y, i] ^ flip) & (last if i == n - 1 else _ONES)
            changes = _changes(word, before)
            before = word >> np.uint64(63)
            while changes:
                x = 64 * i + _lowest_bit(changes)  # type: ignore[call-arg]
                if inside:
                    stop[run] = x
                    run += 1
                else:
                    row[run], start[run] = y, x
                inside = not inside
                changes &= changes - np.uint64(1)
        if inside:
            stop[run] = width
    return Runs(row, start, stop), first_of_row


@kernel
def _set_runs(words: Words, runs: Runs) -> None:
    for run in range(runs.row.size):
        row, first, last = words[runs.row[run]], runs.start[run], runs.stop[run] - 1
        head = _ONES << np.uint64(first & 63)
        tail = _ONES >> np.uint64(63 - (last & 63))
        if first >> 6 == last >> 6:
            row[first >> 6] |= head & tail
        else:
            row[first >> 6] |= head
            for i in range((first >> 6) + 1, last >> 6):
                row[i] = _ONES
            row[last >> 6] |= tail
