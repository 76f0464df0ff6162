"""The scorer against sentence-transformers, and against the device's own peak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from pipelines.bench.comparing import (
    Work,
    measured,
    others,
    plain_tokenizer,
    rate_beside,
    tokens_of,
)
from pipelines.bench.nearness import spearman
from pipelines.bench.settings import DEFAULTS, Settings, best_settings
from pipelines.bench.sizes import Tries
from pipelines.bench.turns import Shape, Turns
from pipelines.models.load import ScorerSpec
from pipelines.models.opening import one_sentence
from pipelines.models.pairs import Pairs, pair_lengths
from pipelines.models.scorer import Scorer
from pipelines.models.tokens import bare_tokenizer


def compare_scorers(
    spec: ScorerSpec,
    queries: Sequence[str],
    passages: Sequence[str],
    pairs: Pairs,
    turns: Turns,
    tries: Tries,
) -> dict[str, Any]:
    """`Scorer` on token ids against `CrossEncoder.predict` on the same pairs, (n, 2) numbers.

    The dtype of `predict` is always named: the bundled weights are float16, which a CPU emulates.
    Beside what `compared` says: how far the logits are from those in float32, and how near their
    order, of all pairs and of that question which is worst.
    """
    scorer = Scorer(spec)
    tokenize = bare_tokenizer(plain_tokenizer(spec))
    (query_tokens, _), (passage_tokens, _) = tokenize(queries), tokenize(passages)
    texts = [(queries[query], passages[passage]) for query, passage in pairs.tolist()]
    models = {
        dtype: _open_scorer(spec, dtype, scorer.device)
        for dtype in dict.fromkeys((DEFAULTS.dtype, scorer.dtype))
    }

    def other(settings: Settings, rows: int | None) -> Any:  # noqa: ANN401 - the library's own
        return models[settings.dtype].predict(
            texts[:rows],
            batch_size=settings.batch_size,
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )

    best = best_settings(scorer.dtype, tries, other)
    runs: dict[str, Callable[[], Any]] = {
        "tandem": partial(scorer.score, query_tokens, passage_tokens, pairs),
        "tokenize": lambda: (tokenize(queries), tokenize(passages)),
    }
    besides: dict[str, Callable[[], Any]] = {}
    if scorer.backend == "openvino":
        torch_scorer = Scorer(spec, backend="torch")
        score = partial(torch_scorer.score, query_tokens, passage_tokens, pairs)
        besides[f"torch, {scorer.dtype}"] = score
    taken = turns.take(runs | others(other, best) | besides)
    assert spec.template is not None  # noqa: S101 - the scorer has scored by it
    lengths, _ = pair_lengths(spec.template, query_tokens, passage_tokens, pairs, spec.max_length)
    flops = Shape.of(spec.folder).flops(lengths, first_only=True)
    work = Work(len(pairs), flops, scorer.dtype, best)
    logits = taken.results["tandem"][0]
    reference = np.asarray(taken.results["default"], np.float32)
    rows_of = [np.flatnonzero(pairs[:, 0] == query) for query in np.unique(pairs[:, 0])]
    return {
        **measured(work, taken, turns),
        **tokens_of(lengths, scorer),
        "backend": scorer.backend,
        "backends": {
            name: rate_beside(work, taken.seconds, name)
            | {"spearman": spearman(taken.results[name][0], reference)}
            for name in besides
        },
        "greatest_logit_difference": float(np.abs(logits - reference).max()),
        "spearman": spearman(logits, reference),
        "least_spearman_of_a_question": min(
            spearman(logits[rows], reference[rows]) for rows in rows_of
        ),
    }


def _open_scorer(spec: ScorerSpec, dtype: str, device: str) -> CrossEncoder:
    with one_sentence(spec.name):
        model: CrossEncoder = CrossEncoder(
            spec.folder,
            device=device,
            max_length=spec.max_length,
            model_kwargs={"dtype": getattr(torch, dtype)},
            local_files_only=True,
        )
    return model
