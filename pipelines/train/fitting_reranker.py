"""What is particular to fitting a cross-encoder: its loss, its head, and how it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.base.model import BaseModel
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from torch import nn
from torch.nn import functional

from pipelines.models.specs import EncoderSpec
from pipelines.train.aside import judged_aside
from pipelines.train.asked import Fit
from pipelines.train.frozen import freeze
from pipelines.train.judging import judge_reranker
from pipelines.train.start import StartSpec
from pipelines.train.work import TUNING_FILE, Work

# Pairs in one forward pass: those of like length together, so that little is padding.
_PAIRS_A_PASS = 32
_LISTS_TO_TUNE = 200


class RerankerFit:
    """A cross-encoder that is fitted to groups of passages."""

    def __init__(self, work: Fit, start: EncoderSpec | StartSpec, place: Work) -> None:
        """Open the model that training starts from."""
        settings = work.settings
        self._work, self._place = work, place
        self._model = CrossEncoder(
            start.folder,
            num_labels=1,
            # A head for several labels gives way to one for one.
            model_kwargs={"dtype": torch.float32, "ignore_mismatched_sizes": work.new_head},
            device=work.device,
            trust_remote_code=start.trust_remote_code,
        )
        self._model.model_card_data.local_files_only = True
        self._reads = self._model.max_seq_length
        self._model.max_seq_length = min(settings.max_length, self._reads or settings.max_length)
        freeze(self._model, settings.frozen_layers)

    def arguments(self, **values: Any) -> CrossEncoderTrainingArguments:  # noqa: ANN401
        """The trainer's."""
        return CrossEncoderTrainingArguments(**values)

    def data(self, groups: pa.Table) -> Dataset:
        """The groups as the trainer reads them."""
        return Dataset(groups.select(["query", "docs", "weight", "labels"]))

    def trainer(
        self, args: CrossEncoderTrainingArguments, data: Dataset, callbacks: Sequence[Any]
    ) -> CrossEncoderTrainer:
        """sentence-transformers' trainer."""
        lists = self._place.read(TUNING_FILE).slice(0, _LISTS_TO_TUNE)
        return CrossEncoderTrainer(
            model=self._model,
            args=args,
            train_dataset=data,
            loss=GroupLoss(self._model),
            evaluator=HeldOut(lists, self._work, self._reads),
            callbacks=list(callbacks),
        )

    def save(self, folder: Path) -> None:
        """Save the best model, which reads as much as the one that it came from."""
        self._model.max_seq_length = self._reads
        self._model.to(getattr(torch, self._work.settings.weights))
        self._model.save_pretrained(str(folder))


class GroupLoss(nn.Module):
    """The cross-entropy between the target over a group and the softmax of its logits.

    That is ListNet's (Cao, Qin, Liu, Tsai and Li, 2007) with a given distribution. Pairs of all
    groups go through the model by length.
    """

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        inputs: list[list[Any]],
        labels: list[torch.Tensor],
        prompt: str | None = None,
        task: str | None = None,
    ) -> torch.Tensor:
        """The mean over the groups.

        `inputs` are queries, of each its passages, and what each group weighs.
        """
        queries, docs, weights = inputs
        pairs = [(query, text) for query, own in zip(queries, docs, strict=True) for text in own]
        order = sorted(range(len(pairs)), key=lambda place: len(pairs[place][1]))
        found = []
        for start in range(0, len(order), _PAIRS_A_PASS):
            part = [pairs[place] for place in order[start : start + _PAIRS_A_PASS]]
            tokens = self.model.preprocess(part, prompt=prompt, task=task)
            tokens = {
                key: value.to(self.model.device) if isinstance(value, torch.Tensor) else value
                for key, value in tokens.items()
            }
            found.append(self.model(tokens)["scores"].view(-1).float())
        by_length = torch.cat(found)
        logits = torch.empty_like(by_length)
        logits = logits.index_copy(0, torch.tensor(order, device=logits.device), by_length)
        parts = torch.split(logits, [len(own) for own in docs])
        losses = [
            -(target.to(own) * functional.log_softmax(own, dim=0)).sum() * weight
            for own, target, weight in zip(parts, labels, weights, strict=True)
        ]
        return torch.stack(losses).mean()

    def get_config_dict(self) -> dict[str, Any]:
        """What the trainer's own card tells of the loss."""
        return {}


class HeldOut(BaseEvaluator):
    """Judges the model on held out lists, as a rerank run would score them."""

    def __init__(self, lists: pa.Table, work: Fit, reads: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.primary_metric = "held_out"
        self._lists, self._work, self._reads = lists, work, reads

    def __call__(
        self,
        model: BaseModel,
        output_path: str | None = None,
        epoch: float = -1,
        steps: int = -1,
    ) -> dict[str, float]:
        """nDCG@10 and RR@10 by arm, and what the best model has most of."""
        judged = judged_aside(
            judge_reranker,
            model,
            self._work,
            self._reads,
            self._lists,
            aggregate=self._work.aggregate,
            max_length=self._work.max_length,
            metric=self._work.metric,
            weight=self._work.settings.fusion_weight,
        )
        return {
            "held_out": judged.score,
            **{
                f"{arm}_{name}": value
                for arm, figures in judged.figures.items()
                for name, value in figures.items()
            },
        }
