"""What a trained model says of itself: `tandem.json` beside its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import Reranker
from pipelines.errors import ModelError
from pipelines.train.calibration import Calibration, Floats

RECORD = "tandem.json"


@dataclass(frozen=True)
class Record:
    """How a model did on queries that it never saw.

    Attributes:
        kind: `reranker` or `encoder`.
        helps: whether it did better than the first stage, or than the encoder that it came from.
        verdict: that as a sentence.
        recommended: the arm to take: `retrieved`, `reranked` or `fused`; None for an encoder.
        calibration: what makes probabilities of its logits; None where there is none.
        threshold: the probability from which on a passage is best taken for right.
        calibration_error: the expected one, on queries that the calibration did not see.
        read_as: `aggregate`, `max_chunks` and `max_length` of the scores that were calibrated; None
            where nobody wrote them down.
        fusion: `weight` of a logit beside a cosine of the bi-encoder, and `encoder`, which one that
            is; None where none was found.
    """

    kind: str
    helps: bool
    verdict: str
    recommended: str | None = None
    calibration: Calibration | None = None
    threshold: float | None = None
    calibration_error: float | None = None
    read_as: dict[str, Any] | None = None
    fusion: dict[str, Any] | None = None

    def weight_beside(self, encoder: str) -> float | None:
        """The weight of a logit beside a cosine of a bi-encoder, by its fingerprint."""
        if self.fusion is None or self.fusion["encoder"] != encoder:
            return None
        return float(self.fusion["weight"])

    def sentence(self, read_as: dict[str, Any]) -> str | None:
        """What the probabilities of a run are worth, None where they are uncalibrated."""
        if self.calibration is None or self.threshold is None or self.calibration_error is None:
            return None
        if self.read_as is not None and self.read_as != read_as:
            known = ", ".join(f"{name} {value}" for name, value in self.read_as.items())
            return (
                f"Probabilities were calibrated with {known}, and this run scores otherwise: they "
                "are a scale."
            )
        return (
            "Probabilities are calibrated: on held out queries of the training they were off by "
            f"{self.calibration_error:.1%} on average, and a passage was best taken for right from "
            f"{self.threshold:.0%} on."
        )

    def probabilities(self, logits: Floats) -> Floats:
        """Those of logits, by the calibration if there is one, else by the sigmoid alone."""
        return (self.calibration or Calibration()).probabilities(logits)


def read_as(reranker: Reranker, reads: int) -> dict[str, Any]:
    """How a run scores documents with a model that reads so many tokens."""
    asked = reranker.max_length
    return {
        "aggregate": reranker.aggregate,
        "max_chunks": reranker.max_chunks,
        "max_length": reads if asked is None else min(reads, asked),
    }


def read_record(folder: str | Path) -> Record | None:
    """What stands beside a model, None where it says nothing.

    Raises:
        ModelError: the file is damaged.
    """
    path = Path(folder) / RECORD
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        calibration = values["calibration"]
        made = None if calibration is None else Calibration.of(calibration)
        return Record(**{**values, "calibration": made})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged; train or fetch the model again.") from error
