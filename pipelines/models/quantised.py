"""int8 by OpenVINO: a network calibrated on texts of a corpus, and how near it comes.

Integers need to know the range of what they stand for, so some texts are computed in single
precision first. Others tell what was lost.
"""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipelines.models.encoder import Encoder
from pipelines.models.exported import export, import_openvino
from pipelines.models.network_models import reads_first_only
from pipelines.models.openvino_network import Beside
from pipelines.models.specs import NEIGHBOURS, Calibrated, EncoderSpec, Metric, Quantised
from pipelines.models.tokens import Tokens
from pipelines.models.weights import Weights

Vectors = npt.NDArray[np.float32]


def calibrate(spec: EncoderSpec, tokens: Tokens, metric: Metric, threads: int) -> Calibrated:
    """Calibrate an encoder on one half of some texts and compare the vectors of the other half.

    Args:
        spec: the encoder, one that OpenVINO computes.
        tokens: the texts as the encoder reads them, none twice; at least four.
        metric: by which neighbours are near.
        threads: to compute with.
    """
    torch.set_num_threads(threads)
    halves = np.array_split(np.arange(len(tokens)), 2)
    network = quantise(spec, tokens.take(halves[0]))
    rest = tokens.take(halves[1])
    exact = Encoder(spec, dtype="float32", backend="torch", device="cpu").encode(rest)
    near = Encoder(spec, dtype="int8", device="cpu", quantised=network).encode(rest)
    cosines = (exact * near).sum(1)
    cosines /= np.linalg.norm(exact, axis=1) * np.linalg.norm(near, axis=1)
    least, mean = float(cosines.min()), float(cosines.mean())
    return Calibrated(network, len(rest), neighbours_kept(exact, near, metric), least, mean)


def quantise(spec: EncoderSpec, tokens: Tokens) -> Quantised:
    """An encoder's network in int8, calibrated on some texts."""
    nncf = _import_nncf()
    assert spec.packed is not None  # noqa: S101 - nothing else is computed by OpenVINO
    architecture = spec.packed.architecture
    model = export(architecture, Weights(Path(spec.folder)), reads_first_only(spec.packed))
    ones = (tokens.take(np.array([row])) for row in range(len(tokens)))
    items = [Beside.of(one, None, architecture.padding_position).arrays for one in ones]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # it draws its progress
        model = nncf.quantize(
            model,
            nncf.Dataset(items),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(items),
        )
    with TemporaryDirectory() as folder:
        graph = Path(folder) / "graph.xml"
        import_openvino().serialize(model, str(graph))
        return Quantised(graph.read_bytes(), graph.with_suffix(".bin").read_bytes())


def neighbours_kept(exact: Vectors, near: Vectors, metric: Metric) -> float:
    """Which share of the ten texts nearest to each is the same for both vectors, (texts, n) each.

    The text is a query here, in single precision, and the others, two at least, are searched for.
    """
    count = min(NEIGHBOURS, len(exact) - 1)
    found = [_nearest(exact, vectors, metric, count) for vectors in (exact, near)]
    return float(np.mean([np.isin(*rows).mean() for rows in zip(*found, strict=True)]))


def _nearest(
    queries: Vectors, vectors: Vectors, metric: Metric, count: int
) -> npt.NDArray[np.int64]:
    if metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = queries @ vectors.T
    if metric == "l2":  # of the squared distance, what depends on the text
        scores = scores - (vectors**2).sum(1) / 2
    np.fill_diagonal(scores, -np.inf)
    return np.argpartition(-scores, count - 1, axis=1)[:, :count]


def _import_nncf() -> Any:  # noqa: ANN401 - a module
    """NNCF, which is an extra; it reports to nobody what runs here."""
    import_openvino()
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf
