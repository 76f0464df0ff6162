"""What the scorers of a run read, each text once."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.models.load import ScorerSpec
from pipelines.models.tokens import Tokens


@dataclass(frozen=True)
class ScoringInputs:
    """Every text of a rerank run, once: bare token ids, or the texts of models that want these."""

    spec: ScorerSpec
    queries: Tokens | list[str]
    passages: Tokens | list[str]

    def texts(self, query: int, passage: int) -> tuple[str, str]:
        """A pair of texts; only where they are texts."""
        assert isinstance(self.queries, list)  # noqa: S101
        assert isinstance(self.passages, list)  # noqa: S101
        return self.queries[query], self.passages[passage]
