"""How far two rankings of the same queries agree, where there are no judgements.

Rankings come as one row a (query, document), with the document's rank in either list, from 1; a
rank of 0 says that the list does not hold it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CUTOFFS = (1, 5, 10)
# The least of each band.
FREQUENCIES = {"once": 1, "2-9": 2, "10-99": 10, "100+": 100}
WORDS = {"1": 1, "2-3": 2, "4-6": 4, "7+": 7}
# What is worked on at once: queries times the length of the longest list among them.
_CELLS = 1 << 20
_ABSENT = np.iinfo(np.int64).max
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Agreement:
    """What two lists share, query by query; arrays are (queries,).

    Attributes:
        queries: their numbers, ascending.
        overlap: by k, the share of the first k documents that the lists have in common; of as many
            as the longer list holds, where these are fewer.
        rbo: rank-biased overlap, extrapolated: from 0, nothing in common, to 1, the same lists.
        tau: Kendall's tau-b over the documents of both lists, from -1, reversed, to 1; NaN without
            two documents that either list tells apart.
    """

    queries: Ints
    overlap: dict[int, Floats]
    rbo: Floats
    tau: Floats

    @property
    def first_changed(self) -> npt.NDArray[np.bool_]:
        """Whether another document stands first."""
        return self.overlap[1] < 1

    @property
    def change(self) -> Floats:
        """1 - RBO: 0 where nothing changed, also where rounding says otherwise."""
        change = 1 - self.rbo
        return np.where(change > _ROUNDING, change, 0.0)

    def by_name(self) -> dict[str, Floats]:
        """The measures as a summary names them."""
        overlaps = {f"overlap@{cutoff}": values for cutoff, values in self.overlap.items()}
        changed = self.first_changed.astype(np.float64)
        return overlaps | {"RBO": self.rbo, "tau": self.tau, "first_changed": changed}


@dataclass(frozen=True)
class Band:
    """The queries of a kind: how many, and their mean of each measure, None where none has it."""

    name: str
    queries: int
    means: dict[str, float | None]


def agree(queries: Ints, first_ranks: Ints, new_ranks: Ints, persistence: float = 0.9) -> Agreement:
    """Compare two rankings of each query, given as rows in any order.

    `persistence` is the p of rank-biased overlap: how likely a reader goes on to the next rank.
    Documents of equal rank stand in the order of the rows, but for tau, where they are ties.
    """
    numbers, owners, counts = np.unique(queries, return_inverse=True, return_counts=True)
    rows, starts = np.argsort(owners, kind="stable"), np.cumsum(counts) - counts
    found = Agreement(
        numbers,
        {cutoff: np.zeros(len(numbers)) for cutoff in CUTOFFS},
        np.zeros(len(numbers)),
        np.zeros(len(numbers)),
    )
    for chosen in _blocks(counts):
        columns = np.arange(counts[chosen].max())
        filled = columns < counts[chosen, None]
        cells = rows[np.where(filled, starts[chosen, None] + columns, 0)]
        first = np.where(filled, first_ranks[cells], 0).astype(np.int64)
        new = np.where(filled, new_ranks[cells], 0).astype(np.int64)
        places = _places(first), _places(new)
        for cutoff, overlap in found.overlap.items():
            overlap[chosen] = _overlap(*places, cutoff)
        found.rbo[chosen] = _rank_biased_overlap(*places, persistence)
        found.tau[chosen] = _tau(first, new)
    return found


def by_change(change: Floats, count: int) -> Ints:
    """Where the largest changes stand, largest first, equal ones in order; never a change of 0.

    A change is the `change` of an agreement, or the absolute difference of a measure.
    """
    order = np.argsort(-change, kind="stable")[:count]
    return order[change[order] > 0]


def overall(agreement: Agreement) -> Band:
    """All queries as one band."""
    return _band("all", agreement, np.ones(len(agreement.queries), bool))


def by_band(agreement: Agreement, sizes: Ints, bands: Mapping[str, int]) -> list[Band]:
    """The queries by band: FREQUENCIES with the times asked, WORDS with the length in words.

    `sizes` are those of the agreement's queries, at least 1.
    """
    within = np.searchsorted(list(bands.values()), sizes, side="right") - 1
    return [_band(name, agreement, within == number) for number, name in enumerate(bands)]


def _band(name: str, agreement: Agreement, members: npt.NDArray[np.bool_]) -> Band:
    known = {
        measure: values[members & ~np.isnan(values)]
        for measure, values in agreement.by_name().items()
    }
    means = {
        measure: float(values.mean()) if len(values) else None for measure, values in known.items()
    }
    return Band(name, int(members.sum()), means)


def _blocks(counts: Ints) -> Iterator[Ints]:
    """Queries in blocks of lists of similar length, such that a padded block is small."""
    by_length = np.argsort(counts, kind="stable")
    begin = 0
    while begin < len(by_length):
        # Lists grow along the block: its end is where the last one makes it too large.
        cells = np.arange(1, len(by_length) - begin + 1) * counts[by_length[begin:]]
        end = begin + max(int(np.searchsorted(cells, _CELLS, side="right")), 1)
        yield by_length[begin:end]
        begin = end


def _places(ranks: Ints) -> Ints:
    """Places from 1 without gaps, by rank and column; 0 where there is none. Of (queries, d)."""
    listed = ranks > 0
    order = np.argsort(np.where(listed, ranks, _ABSENT), axis=1, kind="stable")
    places = np.empty_like(ranks)
    np.put_along_axis(places, order, np.arange(1, ranks.shape[1] + 1)[None], axis=1)
    return np.where(listed, places, 0)


def _overlap(first: Ints, new: Ints, cutoff: int) -> Floats:
    """The share of the first `cutoff` documents that both lists hold, from (queries, d) places."""
    shared = (first > 0) & (first <= cutoff) & (new > 0) & (new <= cutoff)
    longer = np.maximum((first > 0).sum(axis=1), (new > 0).sum(axis=1))
    overlap: Floats = shared.sum(axis=1) / np.clip(longer, 1, cutoff)
    return overlap


def _rank_biased_overlap(first: Ints, new: Ints, persistence: float) -> Floats:
    """RBO_ext of (queries, d) places (Webber, Moffat and Zobel, 2010, equation 32).

    A document counts from the depth on at which both lists have shown it, so that its part of the
    sum over depths is a difference of two cumulative sums.
    """
    depths = np.arange(1, first.shape[1] + 1)
    weights = persistence**depths
    # Sums of p^d and of p^d / d over the depths up to and including each, 0 at depth 0.
    plain = np.concatenate([[0.0], np.cumsum(weights)])
    by_depth = np.concatenate([[0.0], np.cumsum(weights / depths)])

    common = (first > 0) & (new > 0)
    met = np.maximum(first, new)
    lengths = (first > 0).sum(axis=1), (new > 0).sum(axis=1)
    short, long = np.minimum(*lengths), np.maximum(*lengths)
    met_in_short = (common & (met <= short[:, None])).sum(axis=1)
    share_in_short = met_in_short / np.maximum(short, 1)
    share_later = (common.sum(axis=1) - met_in_short) / np.maximum(long, 1)

    seen = np.where(common, by_depth[long][:, None] - by_depth[met - common], 0.0).sum(axis=1)
    # Beyond its end the shorter list is taken to go on agreeing as it did.
    assumed = plain[long] - plain[short] - short * (by_depth[long] - by_depth[short])
    odds = (1 - persistence) / persistence
    beyond = (share_later + share_in_short) * persistence**long
    overlap: Floats = odds * (seen + share_in_short * assumed) + beyond
    return overlap


def _tau(first: Ints, new: Ints) -> Floats:
    """Kendall's tau-b of (queries, d) ranks, with ties counted as Knight (1966) does.

    Concordant less discordant pairs are all pairs, less those tied in either list, plus those tied
    in both, less twice the discordant ones.
    """
    common = (first > 0) & (new > 0)
    documents = common.sum(axis=1)
    pairs = documents * (documents - 1) // 2
    last = int(new.max(initial=0)) + 1
    both = np.where(common, first * (last + 1) + new, _ABSENT)
    tied = [_tied(np.where(common, ranks, _ABSENT)) for ranks in (first, new)]
    untied = [pairs - ties for ties in tied]

    order = np.argsort(both, axis=1)
    sequence = np.take_along_axis(np.where(common, new, last), order, axis=1)
    surplus = pairs - tied[0] - tied[1] + _tied(both) - 2 * _inversions(sequence)
    scale = np.sqrt(untied[0].astype(np.float64) * untied[1])
    tau: Floats = np.divide(surplus, scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return tau


def _tied(values: Ints) -> Ints:
    """How many pairs of a row are equal; _ABSENT is no value."""
    ordered = np.sort(values, axis=1)
    columns = np.arange(values.shape[1])
    starts = np.concatenate(
        [np.ones((len(values), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1
    )
    start_of_run = np.maximum.accumulate(np.where(starts, columns, 0), axis=1)
    equal_before: Ints = np.where(ordered < _ABSENT, columns - start_of_run, 0).sum(axis=1)
    return equal_before


def _inversions(sequences: Ints) -> Ints:
    """How many pairs of a row fall.

    Every pair is compared: at the lengths of candidate lists a whole block of small integers is
    compared faster than it is merged.
    """
    small = np.min_scalar_type(int(sequences.max(initial=0)))
    columns = np.ascontiguousarray(sequences.T.astype(small))
    falling = np.zeros(len(sequences), np.int64)
    for place in range(len(columns) - 1):
        falling += (columns[place + 1 :] < columns[place]).sum(axis=0)
    return falling
