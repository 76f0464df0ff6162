"""The weights of a network, read from a model's files by their usual names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open

_WORDS = "embeddings.word_embeddings.weight"


class Weights(Mapping[str, torch.Tensor]):
    """The tensors of a folder's safetensors files, read when they are asked for.

    Names are those within the network: what a model's head puts before them is left out, and the
    head's own names are as they are in the files.

    Raises:
        KeyError: no file has a table of word embeddings.
    """

    def __init__(self, folder: Path) -> None:
        """Look into the files of one folder."""
        self._file = {
            name: path for path in sorted(folder.glob("*.safetensors")) for name in _names(path)
        }
        ending = [name for name in self._file if name == _WORDS or name.endswith(f".{_WORDS}")]
        if len(ending) != 1:
            raise KeyError(_WORDS)
        self._prefix = ending[0].removesuffix(_WORDS)

    def __getitem__(self, name: str) -> torch.Tensor:
        """A tensor as it is in its file."""
        known = self._prefix + name if self._prefix + name in self._file else name
        with safe_open(self._file[known], "pt") as file:
            found: torch.Tensor = file.get_tensor(known)
        return found

    def __iter__(self) -> Iterator[str]:
        """The names as they are in the files."""
        return iter(self._file)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._file)


def _names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())
