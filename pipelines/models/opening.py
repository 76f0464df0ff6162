"""Opens a model from its folder, with sentence-transformers, always in a dtype that is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import ModelError
from pipelines.models.locate import module_entries, require_no_code

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer


def open_encoder(
    name: str, folder: str, dtype: str, device: str, trust_remote_code: bool
) -> SentenceTransformer:
    """The bi-encoder in a folder, its weights in `dtype` and on `device`, ready to compute.

    In half precision the dense layers after the pooling are in float32 all the same.

    Raises:
        ModelError: the model cannot be loaded, or runs code of its own and is not trusted.
    """
    if not trust_remote_code:
        require_no_code(name, Path(folder))
    from sentence_transformers import SentenceTransformer

    with one_sentence(name):
        model = SentenceTransformer(folder, device=device, **_options(dtype, trust_remote_code))
        if dtype != "float32":
            _widen_dense(model, Path(folder), device, trust_remote_code)
        return model.eval()


def open_scorer(
    name: str,
    folder: str,
    dtype: str,
    device: str,
    trust_remote_code: bool,
    max_length: int | None,
) -> CrossEncoder:
    """The cross-encoder in a folder, its weights in `dtype` and on `device`, ready to compute.

    Raises:
        ModelError: the model cannot be loaded, or runs code of its own and is not trusted.
    """
    if not trust_remote_code:
        require_no_code(name, Path(folder))
    from sentence_transformers import CrossEncoder

    with one_sentence(name):
        model: CrossEncoder = CrossEncoder(
            folder, device=device, max_length=max_length, **_options(dtype, trust_remote_code)
        ).eval()
    return model


@contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Turn whatever a model fails with into one sentence, and show no bars of loading weights."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    except Exception as error:  # a model may run any code, and fail with anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "trust_remote_code" in str(error):
            reason = "it runs code of its own; if you trust it, add its name to trust.remote_code."
        raise ModelError(f"Model {name} cannot be loaded: {reason}") from error
    finally:
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _options(dtype: str, trust_remote_code: bool) -> dict[str, Any]:
    import torch

    return {
        "local_files_only": True,
        "trust_remote_code": trust_remote_code,
        "model_kwargs": {"dtype": getattr(torch, dtype), "use_safetensors": True},
    }


def _widen_dense(
    model: SentenceTransformer, folder: Path, device: str, trust_remote_code: bool
) -> None:
    """Load dense layers again: sentence-transformers gives them the first module's dtype."""
    from sentence_transformers.base.modules import Dense

    for place, entry in enumerate(module_entries(folder)):
        if type(model[place]) is Dense:
            model[place] = Dense.load(
                str(folder),
                subfolder=entry["path"],
                local_files_only=True,
                trust_remote_code=trust_remote_code,
            ).to(device)
