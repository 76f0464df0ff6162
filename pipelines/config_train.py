"""The section `train` of the configuration: what is learnt from, how, and where it goes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.config_types import (
    AboveZero,
    Auto,
    Count,
    Fraction,
    Names,
    Positive,
    Section,
    Weight,
)

Style = Literal["title", "sentence", "keywords"]


class Sources(Section):
    """The share of what is learnt that comes from each source, as weights.

    `null` stands for 1 where the configuration names such data and for 0 elsewhere; but `passages`,
    which every table has, then counts only where nothing else does, and `teacher` never. A teacher
    trains a reranker, beside another source: its queries have no right passage to judge by.

    Attributes:
        judgements: the queries that `queries.qrels` judges.
        clicks: what lines of the log clicked, each click by the rank that it was made at where
            `queries.candidates` has what was shown read: `logged` or `both`.
        triplets: what `tandem rerank` wrote into the folders of `train.runs`.
        teacher: the scores of the reranker of those runs.
        passages: queries made of the table's own documents.
    """

    judgements: Weight | None = None
    clicks: Weight | None = None
    triplets: Weight | None = None
    teacher: Weight | None = None
    passages: Weight | None = None


class MadeQueries(Section):
    """How queries are made of documents.

    Attributes:
        styles: the title asks for the text; the first sentence for the rest; or some words of the
            first sentence for the whole.
        openings: what may precede such words, as "How do I"; one of them before every other query.
        least_characters: what is left of a document must be so long.
    """

    styles: Annotated[tuple[Style, ...], Field(min_length=1, strict=False)] = (
        "title",
        "sentence",
        "keywords",
    )
    openings: Names = ()
    least_characters: Positive = 100


class Card(Section):
    """What the model card says beyond what the run knows."""

    licence: str | None = None
    language: str | None = None
    data: str | None = None
    intended_use: str | None = None


class Train(Section):
    """How a model is trained; the defaults fine-tune a reranker.

    Attributes:
        kind: a cross-encoder, or the bi-encoder.
        start: the model that training starts from, by default the one that the configuration uses;
            `encoder` stands for the bi-encoder's weights with a new head.
        output: the folder of the trained model.
        sources: what is learnt from, and how much of each.
        runs: output folders of `tandem rerank`.
        made: how queries are made of documents.
        queries: how many are learnt from in an epoch, at most; of each source three times as many
            are looked at.
        depth: candidates of a query: those that hard negatives come from, and that are reranked
            where the model is judged.
        negatives: beside each right passage.
        margin: a candidate whose cosine to the query is higher than the right passage's by more
            than so much may be right, too, and is left out.
        first_stage: share of the loss that holds a reranker to the bi-encoder's ranking.
        temperature: of that ranking's cosines; where the index has another metric, a deviation of
            its scores within the candidates counts as a tenth, here and for `margin`.
        max_length: tokens of a pair, or of a bi-encoder's text, that training reads.
        epochs: how often all queries are gone through.
        batch: groups of one step, over all workers.
        learning_rate: the highest, after the warm-up; it falls to zero from there.
        warmup: share of the steps in which it rises.
        fusion_weight: what a logit counts beside a cosine in the fused order; `auto` fits it to
            held out queries. Where a model is for other text than it learnt from, less is safer.
        weights: the number format that the trained model is saved in.
        frozen_layers: the lowest layers that stay as they are, with the embeddings; none with 0.
        dtype: what the processor computes in; `auto` is bfloat16 where it has that.
        held_out: share of the queries that nothing is learnt from.
        held_out_queries: of these at most so many; one half chooses the model (a reranker's best
            step by 200 of them at most), the other judges it.
        evaluate_every: steps; `auto` is ten times in all, or a little less often.
        patience: so many judgements without a better one end the training.
        seed: another one splits, mixes and trains otherwise.
        card: what the model card is to say.
    """

    kind: Literal["reranker", "encoder"] = "reranker"
    start: str | None = None
    output: str = "models/trained"
    sources: Sources = Sources()
    runs: Names = ()
    made: MadeQueries = MadeQueries()
    queries: Positive = 20_000
    depth: Annotated[int, Field(ge=2)] = 50
    negatives: Positive = 7
    margin: Annotated[float, Field(allow_inf_nan=False)] = 0.1
    first_stage: Fraction = 0.3
    temperature: AboveZero = 0.05
    fusion_weight: Auto | AboveZero = "auto"
    max_length: Annotated[int, Field(ge=16)] = 256
    epochs: AboveZero = 1
    batch: Annotated[int, Field(ge=2)] = 16
    learning_rate: AboveZero = 5e-5
    warmup: Fraction = 0.1
    weights: Literal["float32", "float16", "bfloat16"] = "float32"
    frozen_layers: Count = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    held_out_queries: Annotated[int, Field(ge=4)] = 400
    evaluate_every: Auto | Positive = "auto"
    patience: Positive = 4
    seed: Count = 0
    card: Card = Card()
