"""Texts one after another in one row of tokens: nothing is padded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pipelines.models.devices import Device
from pipelines.models.tokens import Offsets, Tokens

Types = npt.NDArray[np.int32]
Positions = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Packed:
    """A micro-batch on its device.

    Attributes:
        ids, positions: of every token, (tokens,) int32.
        types: token types, (tokens,) int32; None where all are 0.
        offsets: where each text begins, and the last one ends, (texts + 1,) int32.
        runs: how many texts of equal length stand together, and that length.
        longest: tokens of the longest text.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor | None
    offsets: torch.Tensor
    runs: tuple[tuple[int, int], ...]
    longest: int

    @property
    def firsts(self) -> torch.Tensor:
        """Where each text begins among the first tokens alone: 0, 1, 2, ..., (texts + 1,) int32."""
        return torch.arange(len(self.offsets), dtype=torch.int32, device=self.offsets.device)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that was placed on the device."""
        placed = (self.ids, self.positions, self.offsets)
        return placed if self.types is None else (*placed, self.types)

    @classmethod
    def of(
        cls, tokens: Tokens, types: Types | None, padding_position: int | None, device: Device
    ) -> Packed:
        """The texts in the order of `tokens`, each with one token at least."""
        lengths = tokens.lengths
        positions = positions_of(tokens, padding_position)
        arrays = [tokens.ids, positions, tokens.offsets.astype(np.int32)]
        ids, places, offsets = (device.place(np.ascontiguousarray(array)) for array in arrays)
        kinds = None if types is None else device.place(types)
        return cls(ids, places, kinds, offsets, _runs(lengths), int(lengths.max(initial=0)))


def positions_of(tokens: Tokens, padding: int | None) -> Positions:
    """The position of each token in its text, (tokens,); `Architecture` says what `padding` is."""
    lengths = tokens.lengths
    starts = np.repeat(tokens.offsets[:-1], lengths)
    if padding is None:
        return (np.arange(len(tokens.ids)) - starts).astype(np.int32)
    # A padding token that a text spells out does not count, and stands before the first.
    counted = tokens.ids != padding
    before = np.concatenate([[0], np.cumsum(counted)])
    places: npt.NDArray[np.int64] = (before[1:] - before[starts]) * counted + padding
    return places.astype(np.int32)


def _runs(lengths: Offsets) -> tuple[tuple[int, int], ...]:
    starts = np.flatnonzero(np.diff(lengths, prepend=-1))
    counts = np.diff(np.append(starts, len(lengths)))
    return tuple(zip(counts.tolist(), lengths[starts].tolist(), strict=True))
