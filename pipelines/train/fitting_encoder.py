"""What is particular to fitting a bi-encoder: pairs with negatives, and search to judge it by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)

from pipelines.models.specs import EncoderSpec
from pipelines.train.aside import judged_aside
from pipelines.train.asked import Fit
from pipelines.train.frozen import freeze
from pipelines.train.searching import search_held_out
from pipelines.train.shares import Shares
from pipelines.train.work import GROUPS_FILE, POOL_FILE, TUNING_FILE, Work

# Larger batches than this are computed in parts, whose gradients are cached (Gao et al., 2021).
_BATCH_AT_ONCE = 64
_PART = 16


class EncoderFit:
    """A bi-encoder that is fitted to queries, right passages and hard negatives."""

    def __init__(self, work: Fit, start: EncoderSpec, place: Work) -> None:
        """Open the model that training starts from."""
        settings = work.settings
        self._work, self._start, self._place = work, start, place
        # How many stand beside each right passage.
        self._negatives = pc.max(pc.list_value_length(place.read(GROUPS_FILE)["docs"])).as_py() - 1
        self._model = SentenceTransformer(
            start.folder,
            model_kwargs={"dtype": torch.float32},
            device=work.device,
            trust_remote_code=start.trust_remote_code,
        )
        self._model.model_card_data.local_files_only = True
        self._reads = self._model.max_seq_length
        self._model.max_seq_length = min(settings.max_length, self._reads or settings.max_length)
        freeze(self._model, settings.frozen_layers)

    def arguments(self, **values: Any) -> SentenceTransformerTrainingArguments:  # noqa: ANN401
        """The trainer's: no passage twice in a batch, where each is the others' negative."""
        workers = self._work.workers
        passages = ["positive", *(f"negative_{n}" for n in range(1, self._negatives + 1))]
        prompts = dict.fromkeys(passages, self._start.prompt) | {"anchor": self._start.query_prompt}
        return SentenceTransformerTrainingArguments(
            batch_sampler=partial(Shares, workers=workers) if workers > 1 else "no_duplicates",
            prompts={column: prompt for column, prompt in prompts.items() if prompt} or None,
            **values,
        )

    def data(self, groups: pa.Table) -> Dataset:
        """Columns of texts: the query, the right passage, and the same number of negatives.

        Where a group has fewer, its own stand there again.
        """
        docs = groups["docs"].to_pylist()
        columns = {"anchor": groups["query"].to_pylist(), "positive": [own[0] for own in docs]}
        for number in range(self._negatives):
            name = f"negative_{number + 1}"
            columns[name] = [own[1 + number % (len(own) - 1)] for own in docs]
        return Dataset.from_dict(columns)

    def trainer(
        self, args: SentenceTransformerTrainingArguments, data: Dataset, callbacks: Sequence[Any]
    ) -> SentenceTransformerTrainer:
        """sentence-transformers' trainer; a batch is compared over all workers."""
        several = self._work.workers > 1
        loss: Any = MultipleNegativesRankingLoss(self._model, gather_across_devices=several)
        if args.per_device_train_batch_size > _BATCH_AT_ONCE:
            loss = CachedMultipleNegativesRankingLoss(
                self._model, mini_batch_size=_PART, gather_across_devices=several
            )
        return SentenceTransformerTrainer(
            model=self._model,
            args=args,
            train_dataset=data,
            loss=loss,
            evaluator=HeldOutSearch(self._place, self._work, self._reads),
            callbacks=list(callbacks),
        )

    def save(self, folder: Path) -> None:
        """Save the best model, which reads as much as the one that it came from."""
        self._model.max_seq_length = self._reads
        self._model.to(getattr(torch, self._work.settings.weights))
        self._model.save_pretrained(str(folder))


class HeldOutSearch(BaseEvaluator):
    """Judges the model by what it finds for held out queries among the passages of a pool."""

    def __init__(self, place: Work, work: Fit, reads: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.primary_metric = "held_out"
        self._lists, self._pool = place.read(TUNING_FILE), place.read(POOL_FILE)
        self._work, self._reads = work, reads

    def __call__(
        self,
        model: BaseModel,
        output_path: str | None = None,
        epoch: float = -1,
        steps: int = -1,
    ) -> dict[str, float]:
        """R@100 and nDCG@10; of models with equal recall the one with more nDCG is better."""
        found = judged_aside(
            search_held_out,
            model,
            self._work,
            self._reads,
            self._lists,
            self._pool,
            prompt=self._work.prompt,
            metric=self._work.metric,
        )
        means = {name: found.means[name] for name in ("R@100", "nDCG@10")}
        return {"held_out": means["R@100"] + 0.01 * means["nDCG@10"], **means}
