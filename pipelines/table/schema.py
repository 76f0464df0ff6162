"""The table's columns and the fingerprints that stand with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from pipelines.errors import UsageError

HASH_BYTES = 16
_FINGERPRINTS = b"tandem.fingerprints"

# Every column but stored token ids, the vector and the metadata; the order is that of the table.
PLAIN_FIELDS = (
    pa.field("chunk_id", pa.string()),
    pa.field("doc_id", pa.string()),
    pa.field("ordinal", pa.int32()),
    pa.field("text", pa.string()),
    pa.field("title", pa.string()),
    pa.field("start", pa.int32()),
    pa.field("end", pa.int32()),
    pa.field("text_hash", pa.binary(HASH_BYTES)),
    pa.field("doc_hash", pa.binary(HASH_BYTES)),
    pa.field("tokens", pa.int32()),
    pa.field("cut_tokens", pa.int32()),
)
# The ids of the whole passage, without special tokens and prompt, where the chunker stores them.
TOKEN_IDS = pa.field("token_ids", pa.list_(pa.int32()))
# In the chunker's fingerprint, where it does: the digest of what decides these ids.
STORE_TOKENS = "store_tokens"
# What stages add on the way to the table.
_ON_THE_WAY = {"chunks_of_document", "input_ids", "origin"}
RESERVED = {field.name for field in (*PLAIN_FIELDS, TOKEN_IDS)} | {"vector"} | _ON_THE_WAY


@dataclass(frozen=True)
class Fingerprints:
    """What made the rows of a table: equal fingerprints, comparable rows.

    Attributes:
        encoder: fingerprint of the bi-encoder, hex.
        encoder_parts: digest by part of the bi-encoder, to say which part changed.
        encoder_name: the model as it was named; recorded only.
        encoder_revision: commit of its repository, None for a folder; recorded only.
        chunker: the chunker's settings and its tokeniser's digest.
    """

    encoder: str
    encoder_parts: Mapping[str, str]
    encoder_name: str
    encoder_revision: str | None
    chunker: Mapping[str, str]

    def differences(self, other: Fingerprints) -> list[str]:
        """Which parts differ from another's, as `encoder.pooling`, `chunker.max_tokens`."""
        found = []
        for kind, mine, theirs in (
            ("encoder", self.encoder_parts, other.encoder_parts),
            ("chunker", self.chunker, other.chunker),
        ):
            names = sorted({*mine, *theirs})
            found += [f"{kind}.{name}" for name in names if mine.get(name) != theirs.get(name)]
        return found


def table_schema(
    dimension: int, metadata: Mapping[str, pa.DataType], fingerprints: Fingerprints
) -> pa.Schema:
    """The schema of a table, fingerprints in its metadata.

    Raises:
        UsageError: a metadata column has a name that the table itself uses.
    """
    for name in metadata:
        if name in RESERVED or name.startswith(("_row", "_distance")) or set(name) & set(".`"):
            raise UsageError(
                f"corpus.metadata names {name!r}, a name that the table cannot give to it; "
                "rename the column in the corpus."
            )
    stored = [TOKEN_IDS] if STORE_TOKENS in fingerprints.chunker else []
    vector = pa.field("vector", pa.list_(pa.float32(), dimension))
    extra = [pa.field(name, kind) for name, kind in metadata.items()]
    marks = {_FINGERPRINTS: json.dumps(vars(fingerprints), sort_keys=True)}
    return pa.schema([*PLAIN_FIELDS, *stored, vector, *extra], metadata=marks)


def fingerprints_of(schema: pa.Schema) -> Fingerprints | None:
    """The fingerprints that stand in a table's schema, None if it has none."""
    raw = (schema.metadata or {}).get(_FINGERPRINTS)
    return Fingerprints(**json.loads(raw)) if raw else None


def stored_ids(schema: pa.Schema) -> str | None:
    """The digest of the tokeniser whose ids a table holds, None if it holds none."""
    fingerprints = fingerprints_of(schema)
    return fingerprints.chunker.get(STORE_TOKENS) if fingerprints else None


def metadata_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    """The metadata columns of a table and their types."""
    return {field.name: field.type for field in schema if field.name not in RESERVED}
