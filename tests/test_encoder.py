"""Vectors are those of SentenceTransformer.encode, in any order and any micro-batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tiny_models import TEXTS

from pipelines.errors import ModelError
from pipelines.models.encoder import Encoder
from pipelines.models.load import EncoderSpec, describe_encoder, locate
from pipelines.models.tokens import Tokenize

PROMPTS = {"query": "query: ", "document": "find the document: "}
KINDS: dict[str, dict[str, Any]] = {
    "dense": {"dense": True, "normalise": False},
    "prompts": {"prompts": PROMPTS},
    "prompt_not_pooled": {"prompts": PROMPTS, "include_prompt": False},
    "byte_level": {"family": "roberta", "pooling": "cls"},
    "first_after_prompt": {"prompts": PROMPTS, "include_prompt": False, "pooling": "cls"},
    "last_token": {"family": "roberta", "pooling": "lasttoken"},
    "greatest": {"family": "electra", "pooling": "max"},
    "two_poolings": {"pooling": ("mean", "cls"), "normalise": False},
}
PADDED = {"dense", "two_poolings"}


@pytest.fixture(scope="module", params=["bundled", *KINDS])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "bundled":
        return tiny_models.bundled_encoder()
    path = tmp_path_factory.mktemp("encoders") / request.param
    return str(tiny_models.encoder(path, **KINDS[request.param]))


def described(folder: str | Path) -> EncoderSpec:
    return describe_encoder(locate(str(folder), None, "encoder"))


def reference(spec: EncoderSpec) -> SentenceTransformer:
    model = SentenceTransformer(
        spec.folder, device="cpu", model_kwargs={"dtype": torch.float32}, local_files_only=True
    )
    model.max_seq_length = spec.max_tokens
    return model


def test_vectors_are_those_of_sentence_transformers(folder: str) -> None:
    spec = described(folder)
    model = reference(spec)
    documents = model.encode_document(TEXTS, batch_size=3)
    assert spec.tokenizer is not None
    assert (spec.packed is None) == (Path(folder).name in PADDED)
    tokenize = Tokenize(spec.tokenizer, spec.max_tokens)
    tokens, _ = tokenize([spec.prompt + text for text in TEXTS])
    heard: list[tuple[int, int]] = []
    for batch_tokens in (40, 4_096):
        encoder = Encoder(spec, dtype="float32", device="cpu", batch_tokens=batch_tokens)
        vectors = encoder.encode(tokens, lambda rows, count, padded: heard.append((rows, count)))
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(TEXTS), spec.dimension)
        np.testing.assert_allclose(vectors, documents, atol=1e-5)
        assert sum(rows for rows, _ in heard) == len(TEXTS)
        assert sum(count for _, count in heard) == len(tokens.ids)
        heard.clear()
    shuffled = np.random.default_rng(1).permutation(len(TEXTS))
    np.testing.assert_allclose(
        encoder.encode(tokens.take(shuffled)), documents[shuffled], atol=1e-5
    )
    np.testing.assert_allclose(encoder.encode_texts(TEXTS, "document"), documents, atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode_texts(TEXTS, "query"), model.encode_query(TEXTS), atol=1e-5
    )


def test_a_prompt_that_is_configured_replaces_the_models(tmp_path: Path) -> None:
    model = tiny_models.encoder(tmp_path / "model", prompts=PROMPTS, include_prompt=False)
    spec = describe_encoder(locate(str(model), None, "encoder"), prompt="short ")
    expected = reference(spec).encode(TEXTS, prompt="short ")
    encoder = Encoder(spec, dtype="float32", device="cpu")
    np.testing.assert_allclose(encoder.encode_texts(TEXTS, "document"), expected, atol=1e-5)


def test_vectors_that_are_truncated(tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_models.encoder(tmp_path / "model")), device="cpu")
    model.truncate_dim = 8
    model.save_pretrained(str(tmp_path / "short"), create_model_card=False)
    spec = described(tmp_path / "short")
    assert spec.dimension == 8
    assert spec.fingerprint != described(tmp_path / "model").fingerprint
    vectors = Encoder(spec, dtype="float32", device="cpu").encode_texts(TEXTS, "document")
    np.testing.assert_allclose(vectors, reference(spec).encode(TEXTS), atol=1e-5)


def test_a_model_that_takes_texts_only(tmp_path: Path) -> None:
    tiny = SentenceTransformer(str(tiny_models.encoder(tmp_path / "tiny")), device="cpu")
    static = StaticEmbedding(tiny.tokenizer.backend_tokenizer, embedding_dim=16)
    model = SentenceTransformer(modules=[static], device="cpu", prompts={"document": "short "})
    model.save_pretrained(str(tmp_path / "static"), create_model_card=False)
    spec = described(tmp_path / "static")
    assert (spec.tokenizer, spec.dimension) == (None, 16)
    encoder = Encoder(spec, dtype="float32", device="cpu")
    for kind, own in (("document", model.encode_document), ("query", model.encode_query)):
        vectors = encoder.encode_texts(TEXTS, kind)  # type: ignore[arg-type]
        np.testing.assert_allclose(vectors, own(TEXTS), atol=1e-5)
    assert encoder.encode_texts([], "document").shape == (0, 16)
    with pytest.raises(ModelError, match="takes texts only"):
        encoder.encode(Tokenize(tiny.tokenizer.backend_tokenizer.to_str(), 8)(["a"])[0])


def test_half_precision_is_for_the_transformer_alone(tmp_path: Path) -> None:
    spec = described(tiny_models.encoder(tmp_path / "model", dense=True))
    encoder = Encoder(spec, dtype="bfloat16", device="cpu")
    full = Encoder(spec, dtype="float32", device="cpu")
    assert (encoder.dtype, full.dtype) == ("bfloat16", "float32")
    transformer, _, dense, _ = encoder._model._model
    assert {p.dtype for p in transformer.parameters()} == {torch.bfloat16}
    assert torch.equal(dense.linear.weight, full._model._model[2].linear.weight)
    vectors = encoder.encode_texts(TEXTS, "document")
    cosines = (vectors * full.encode_texts(TEXTS, "document")).sum(axis=1)
    assert cosines.min() > 0.99


def test_no_texts_and_texts_without_tokens(tmp_path: Path) -> None:
    spec = described(tiny_models.encoder(tmp_path / "model"))
    encoder = Encoder(spec, dtype="float32", device="cpu")
    assert spec.tokenizer is not None
    tokens, _ = Tokenize(spec.tokenizer, 64, special=False)(["", "short"])
    assert encoder.encode(tokens.take(np.zeros(0, np.int64))).shape == (0, spec.dimension)
    assert np.isnan(encoder.encode(tokens)).all(axis=1).tolist() == [True, False]


def test_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        Encoder(described(tiny_models.encoder(tmp_path / "model")), device="cpu", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_defaults() -> None:
    spec = described(tiny_models.bundled_encoder())
    encoder = Encoder(spec, device="cpu")
    assert (encoder.device, encoder.batch_tokens) == ("cpu", 2_048)
    assert encoder.dtype in {"float32", "bfloat16"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(folder: str) -> None:
    spec = described(folder)
    expected = Encoder(spec, dtype="float32", device="cpu").encode_texts(TEXTS, "document")
    found = Encoder(spec, dtype="float32").encode_texts(TEXTS, "document")
    np.testing.assert_allclose(found, expected, atol=1e-4)
