"""The cross-encoder as a worker runs it: pairs of token ids in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from pipelines.errors import ModelError
from pipelines.models.batching import pack
from pipelines.models.forward import (
    Indices,
    OnBatch,
    choose_batch_tokens,
    choose_device,
    features,
    run,
    to_device,
)
from pipelines.models.load import ScorerSpec
from pipelines.models.opening import DType, open_scorer, resolve_dtype
from pipelines.models.pairs import Pairs, PairTemplate, assemble, pair_lengths
from pipelines.models.tokens import Ids, Tokens

Logits = npt.NDArray[np.float32]


class Scorer:
    """A loaded cross-encoder.

    Logits are those of `CrossEncoder.predict` without its activation, whatever the order of the
    pairs and the size of the micro-batches. Where both texts of a pair are too long, only the
    passage is cut, while `predict` may cut the query as well.

    Attributes:
        dtype: name of the torch dtype that the model computes in.
        device: name of the torch device.
        batch_tokens: tokens of a micro-batch, padding included.

    Raises:
        ModelError: the model cannot be loaded.
    """

    def __init__(
        self,
        spec: ScorerSpec,
        *,
        dtype: DType = "auto",
        batch_tokens: int | Literal["auto"] = "auto",
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load the model; `device` None is CUDA if there is one, `threads` None leaves torch's."""
        self.device = choose_device(device, threads)
        self.dtype = resolve_dtype(dtype, self.device)
        self.batch_tokens = choose_batch_tokens(batch_tokens, self.device)
        self._spec = spec
        self._model = open_scorer(
            spec.name,
            spec.folder,
            self.dtype,
            self.device,
            spec.trust_remote_code,
            spec.max_length,
        )
        if spec.template is not None:
            tokenizer = self._model.tokenizer
            self._pad_id = tokenizer.pad_token_id or 0
            self._has_types = "token_type_ids" in tokenizer.model_input_names

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

        def forward(part: Indices) -> torch.Tensor:
            return self._forward(template, queries, passages, pairs[part])

        run(pack(lengths, self.batch_tokens), forward, logits, lengths, on_batch)
        return logits, cut, lengths.astype(np.int32)

    def score_texts(self, pairs: Sequence[tuple[str, str]]) -> Logits:
        """Logits of (query, passage) texts, (len(pairs),), by the model's own way to read them."""
        if not pairs:
            return np.empty(0, np.float32)
        scores = self._model.predict(
            list(pairs),
            batch_size=max(self.batch_tokens // min(self._spec.max_length, 512), 1),
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )
        logits = np.asarray(scores, np.float32).reshape(len(pairs), self._spec.labels)
        return np.ascontiguousarray(logits[:, self._spec.label])

    def _forward(
        self, template: PairTemplate, queries: Tokens, passages: Tokens, pairs: Pairs
    ) -> torch.Tensor:
        max_length = self._spec.max_length
        tokens, first_type, _ = assemble(template, queries, passages, pairs, max_length)
        batch = features(tokens, self._pad_id, self.device)
        if self._has_types:
            places = np.arange(batch["input_ids"].shape[1])
            second = (places >= first_type[:, None]) & (places < tokens.lengths[:, None])
            batch["token_type_ids"] = to_device(second.astype(np.int64), self.device)
        logits: torch.Tensor = self._model[0](batch)["scores"]
        return logits[:, self._spec.label]
