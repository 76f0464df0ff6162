"""The cross-encoder as a worker runs it: pairs of token ids in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from pipelines.errors import ModelError
from pipelines.models.budget import Budget
from pipelines.models.computing import Backend, Computing, choose, means_of
from pipelines.models.devices import Device, open_device
from pipelines.models.forward import (
    Indices,
    Inputs,
    OnBatch,
    choose_device,
    run,
    told,
)
from pipelines.models.network_models import Head, NetworkScorer, open_network
from pipelines.models.pairs import Pairs, assemble, pair_lengths, token_types
from pipelines.models.specs import DType, ScorerSpec
from pipelines.models.tokens import Ids, Tokens, bare_tokenizer
from pipelines.models.weights import Weights

if TYPE_CHECKING:
    from pipelines.models.padded_models import PaddedScorer

Logits = npt.NDArray[np.float32]


class Scorer:
    """A loaded cross-encoder.

    Logits are those of `CrossEncoder.predict` without its activation, whatever the order of the
    pairs and the size of the micro-batches. Where both texts of a pair are too long, only the
    passage is cut, while `predict` may cut the query as well. A model that the packed network
    computes is never padded, and sentence-transformers is not even loaded; for any other its own
    modules do the work.

    Attributes:
        dtype: name of the torch dtype that the model computes in.
        backend: `torch` or `openvino`.
        packed: whether micro-batches are free of padding.
        device: name of the torch device.

    Raises:
        ModelError: the model cannot be loaded, or not be computed so.
    """

    def __init__(
        self,
        spec: ScorerSpec,
        *,
        dtype: DType = "auto",
        backend: Backend = "auto",
        batch_tokens: int | Literal["auto"] = "auto",
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load the model; `device` None is CUDA if there is one, `threads` None leaves torch's."""
        self.device = choose_device(device, threads)
        chosen = choose(backend, dtype, means_of(self.device), spec)
        self.dtype, self.backend = chosen.dtype, chosen.backend
        self._budget = Budget(batch_tokens, self.device)
        self._spec = spec
        self.packed = spec.packed is not None and self.backend == "torch"
        self._on = open_device(self.device)
        self._model: Any = _open(spec, chosen, self._on)

    @property
    def batch_tokens(self) -> int:
        """Tokens of a micro-batch, padding included, as far as that is known by now."""
        return self._budget.tokens

    def score(
        self, queries: Tokens, passages: Tokens, pairs: Pairs, on_batch: OnBatch | None = None
    ) -> tuple[Logits, Ids, Ids]:
        """Logits of pairs of texts given as bare token ids, each distinct text once.

        Args:
            queries: ids as `Tokenize(spec.tokenizer, ..., special=False)` makes them.
            passages: the same of passages.
            pairs: (n, 2) int32, of each pair the index of its query and that of its passage.
            on_batch: told the rows and the tokens of each micro-batch.

        Returns:
            The logits, (n,); how many tokens were cut from each passage, (n,) int32; and how many
            each pair has, (n,) int32; all in the order of `pairs`.

        Raises:
            ModelError: the model takes texts only (`spec.template` is None).
            ValueError: a query leaves no room for a passage (see `pairs.fits`).
            torch.OutOfMemoryError: a single pair does not fit into memory.
        """
        template = self._spec.template
        if template is None:
            raise ModelError(f"Model {self._spec.name} takes texts only, not token ids.")
        lengths, cut = pair_lengths(template, queries, passages, pairs, self._spec.max_length)
        logits = np.empty(len(pairs), np.float32)

        def prepare(part: Indices) -> Inputs:
            own = assemble(template, queries, passages, pairs[part], self._spec.max_length)
            types = token_types(template, own[0], own[1])
            inputs: Inputs = self._model.prepare(own[0], types)
            return inputs

        def forward(inputs: Inputs) -> torch.Tensor:
            found: torch.Tensor = self._model.forward(inputs)
            return found[:, self._spec.label]

        tell = told(on_batch, lengths, self.packed)
        for batches in self._budget.shares(lengths):
            run(batches, prepare, forward, logits, self._on, tell)
        return logits, cut, lengths.astype(np.int32)

    def score_texts(self, pairs: Sequence[tuple[str, str]]) -> Logits:
        """Logits of (query, passage) texts, (len(pairs),)."""
        if not pairs:
            return np.empty(0, np.float32)
        if self._spec.tokenizer is not None:
            tokenize = bare_tokenizer(self._spec.tokenizer)
            queries, passages = (tokenize(texts)[0] for texts in zip(*pairs, strict=True))
            numbers = np.repeat(np.arange(len(pairs), dtype=np.int32)[:, None], 2, axis=1)
            return self.score(queries, passages, numbers)[0]
        logits: Logits = self._model.score_texts(pairs, self.batch_tokens)
        return np.ascontiguousarray(logits[:, self._spec.label])


def _open(spec: ScorerSpec, chosen: Computing, device: Device) -> NetworkScorer | PaddedScorer:
    if spec.packed is None:
        from pipelines.models.padded_models import open_padded_scorer

        return open_padded_scorer(spec, chosen.dtype, device)
    weights = Weights(Path(spec.folder))
    network = open_network(
        spec.packed, weights, chosen.backend, chosen.dtype, device, first_only=True
    )
    return NetworkScorer(network, Head(spec.packed, weights, device.name))
