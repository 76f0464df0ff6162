"""What decides how documents are cut, and the fingerprint that stands with the rows."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from pipelines.config import Chunking
from pipelines.corpus.identity import digest
from pipelines.errors import UsageError
from pipelines.models.fingerprint import ids_digest
from pipelines.models.tokens import Tokenize
from pipelines.table.schema import STORE_TOKENS

# To be raised with every change of the code that cuts elsewhere: `chunk.py`, `parts.py`, `cut.py`.
CODE_VERSION = 1


@dataclass(frozen=True)
class ChunkerSettings:
    """What decides how documents are cut.

    Attributes:
        tokenizer: the encoder's tokeniser as JSON.
        prompt: what precedes each passage when it is encoded.
        max_tokens: of a passage, special tokens and prompt counted.
        overlap_tokens: what a chunk repeats of the one before, at most.
        boundaries: `sentence`, or `token` to fill every chunk.
        whole_document: one chunk a document, its input ids cut at `max_tokens`.
        store_tokens: chunks bear the bare ids of their passage, too, which are never cut.
    """

    tokenizer: str
    prompt: str
    max_tokens: int
    overlap_tokens: int
    boundaries: str
    whole_document: bool
    store_tokens: bool

    def fingerprint(self) -> dict[str, str]:
        """Each setting by name, the tokeniser and the prompt as digests, and the code's version."""
        values = {name: str(value) for name, value in asdict(self).items()}
        values["code"] = str(CODE_VERSION)
        hidden = ("tokenizer", "prompt")
        values |= {name: digest(values[name]).hex() for name in hidden}
        # Absent where nothing is stored: tables that were made before it was a setting stay.
        del values[STORE_TOKENS]
        return values | ({STORE_TOKENS: ids_digest(self.tokenizer)} if self.store_tokens else {})


def chunker_settings(
    chunking: Chunking, tokenizer: str | None, prompt: str, model_tokens: int
) -> ChunkerSettings:
    """The settings for an encoder that reads at most `model_tokens` of a text.

    A model without a tokeniser of its own in Rust is cut by an estimate of its tokens.

    Raises:
        UsageError: the prompt takes more than half of a passage, or ids are to be stored that the
            model does not have.
    """
    if chunking.store_tokens and tokenizer is None:
        raise UsageError(
            "chunking.store_tokens is true, and the encoder has no tokeniser whose ids could be "
            "stored; set it to false, or name another encoder.model."
        )
    tokenizer = tokenizer or _estimating_tokenizer()
    max_tokens = min(chunking.max_tokens, model_tokens)
    taken = int(Tokenize(tokenizer, sys.maxsize)([prompt])[0].lengths[0]) if prompt else 0
    if taken * 2 > max_tokens:
        raise UsageError(
            f"encoder.prompt takes {taken} of the {max_tokens} tokens of a passage; at most half "
            "is allowed."
        )
    return ChunkerSettings(
        tokenizer,
        prompt,
        max_tokens,
        chunking.overlap_tokens,
        chunking.boundaries,
        chunking.whole_document,
        chunking.store_tokens,
    )


def _estimating_tokenizer() -> str:
    """A tokeniser that makes a token of every four letters, and of each other mark."""
    estimate = Tokenizer(models.WordLevel({"?": 0}, "?"))
    estimate.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w{1,4}|[^\w\s]"), "removed", invert=True)
    return estimate.to_str()
