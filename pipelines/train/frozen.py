"""Layers that stay as they are while the others learn."""

from __future__ import annotations

from typing import Any

from torch import nn

from pipelines.errors import ModelError


def freeze(model: Any, layers: int) -> None:  # noqa: ANN401 - any model of sentence-transformers
    """Freeze the embeddings and the lowest layers of a transformer; nothing with 0.

    Raises:
        ModelError: it does not have so many, or none that can be told apart.
    """
    if not layers:
        return
    stacks = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) > 1
    ]
    embeddings = [module for name, module in model.named_modules() if name.endswith(".embeddings")]
    if not stacks or not embeddings or layers > len(stacks[0]):
        has = len(stacks[0]) if stacks and embeddings else 0
        raise ModelError(f"train.frozen_layers is {layers}; the model has {has} that can be.")
    for module in (embeddings[0], *stacks[0][:layers]):
        module.requires_grad_(False)
