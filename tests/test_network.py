"""The packed network: what it is relied on for, and what it leaves to sentence-transformers."""

import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from sentence_transformers import SentenceTransformer
from tiny_models import TEXTS

from pipelines.models import attention, describe, trial
from pipelines.models.encoder import Encoder
from pipelines.models.load import describe_encoder, describe_scorer, locate
from pipelines.models.products import Product
from pipelines.models.scorer import Scorer
from pipelines.models.tokens import Tokenize

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return {
        "encoder": str(tiny_models.encoder(folder / "encoder", family="roberta")),
        "scorer": str(tiny_models.scorer(folder / "scorer")),
    }


def test_a_padding_token_that_a_text_spells_out(folders):
    spec = describe_encoder(locate(folders["encoder"], None, "encoder"))
    model = SentenceTransformer(spec.folder, device="cpu", local_files_only=True)
    texts = ["a <pad> in the middle of it", "<pad>", "plain"]
    tokens, _ = Tokenize(spec.tokenizer, 64)(texts)
    assert spec.packed.architecture.padding_position in tokens.ids
    vectors = Encoder(spec, dtype="float32", device="cpu").encode(tokens)
    np.testing.assert_allclose(vectors, model.encode(texts), atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"activation": "relu"}, {"epsilon": 0.5}, {"padding_position": 3}, {"heads": 2}]
)
def test_a_network_that_computes_something_else_is_found_out(folders, monkeypatch, wrong):
    monkeypatch.setenv("TANDEM_CACHE", "")
    read = trial.read_architecture
    assert describe_encoder(locate(folders["encoder"], None, "encoder")).packed is not None
    assert describe_scorer(locate(folders["scorer"], None, "scorer")).packed is not None
    monkeypatch.setattr(trial, "read_architecture", lambda folder: replace(read(folder), **wrong))
    encoder = describe_encoder(locate(folders["encoder"], None, "encoder"))
    scorer = describe_scorer(locate(folders["scorer"], None, "scorer"))
    assert encoder.packed is None
    assert scorer.packed is None
    model = SentenceTransformer(encoder.folder, device="cpu", local_files_only=True)
    model.max_seq_length = encoder.max_tokens
    vectors = Encoder(encoder, dtype="float32", device="cpu").encode_texts(TEXTS, "document")
    np.testing.assert_allclose(vectors, model.encode(TEXTS), atol=1e-5)


LOADED = """
import pickle, sys
from pipelines.models.encoder import Encoder
from pipelines.models.scorer import Scorer
encoder, scorer = pickle.load(open(sys.argv[1], "rb"))
Encoder(encoder, device="cpu").encode_texts(["one"], "document")
Scorer(scorer, device="cpu").score_texts([("one", "two")])
heavy = {"sentence_transformers", "transformers", "sklearn", "scipy", "torch._dynamo"}
print(sorted(heavy & set(sys.modules)))
"""


def test_a_worker_does_not_load_what_it_does_not_need(folders, tmp_path):
    specs = (
        describe_encoder(locate(folders["encoder"], None, "encoder")),
        describe_scorer(locate(folders["scorer"], None, "scorer")),
    )
    (tmp_path / "specs").write_bytes(pickle.dumps(specs))
    command = [sys.executable, "-c", LOADED, str(tmp_path / "specs")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("flow", ["indexing", "reranking", "forecasting"])
def test_what_plans_and_reports_does_not_load_what_computes(flow):
    code = f"import sys, pipelines.{flow}; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", [None, "gelu", "gelu_tanh", "relu"])
def test_products_are_what_torch_makes_of_them(dtype, activation):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 40, generator=generator).to(dtype)
    bias = torch.randn(24, generator=generator).to(dtype)
    rows = torch.randn(7, 40, generator=generator).to(dtype)
    functions = {
        None: lambda values: values,
        "gelu": torch.nn.functional.gelu,
        "gelu_tanh": lambda values: torch.nn.functional.gelu(values, approximate="tanh"),
        "relu": torch.relu,
    }
    exact = functions[activation](rows.double() @ weight.double().T + bias.double())
    found = Product(weight, bias, activation)(rows)
    assert found.dtype == dtype
    spacing = {torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.01}[dtype]
    assert (found.double() - exact).abs().max() < spacing * 5


def test_a_kernel_for_any_lengths_is_given_where_the_texts_stand(folders, monkeypatch):
    spec = describe_encoder(locate(folders["encoder"], None, "encoder"))
    scoring = describe_scorer(locate(folders["scorer"], None, "scorer"))
    tokens, _ = Tokenize(spec.tokenizer, 64)(TEXTS)
    settings = {"dtype": "bfloat16", "backend": "torch", "device": "cpu", "batch_tokens": 200}
    encoder, scorer = Encoder(spec, **settings), Scorer(scoring, **settings)
    texts, _ = Tokenize(scoring.tokenizer, 30, special=False)(TEXTS)
    pairs = np.array([(0, place) for place in range(len(TEXTS))], np.int32)
    expected, logits = encoder.encode(tokens), scorer.score(texts, texts, pairs)[0]
    longest, asking = [], []

    def kernel(query, key, value, of_queries, of_keys, most_queries, most_keys):
        """What flash attention is given: (tokens, heads, width), and where each text begins."""
        assert of_queries.dtype == of_keys.dtype == torch.int32
        assert most_queries == int(of_queries.diff().max())
        assert most_keys == int(of_keys.diff().max())
        assert of_queries[-1] == len(query)
        assert of_keys[-1] == len(key) == len(value)
        longest.append(most_keys)
        asking.append("all" if torch.equal(of_queries, of_keys) else most_queries)
        found = []
        for asked, read in zip(pairwise(of_queries), pairwise(of_keys), strict=True):
            parts = [query[slice(*asked)], key[slice(*read)], value[slice(*read)]]
            own = (part.transpose(0, 1)[None] for part in parts)
            found.append(torch.nn.functional.scaled_dot_product_attention(*own)[0].transpose(0, 1))
        return torch.cat(found)

    monkeypatch.setattr(attention, "_kernel", lambda device, width: kernel)
    np.testing.assert_allclose(encoder.encode(tokens), expected, atol=0.02)
    assert max(longest) == 64
    assert len(set(longest)) > 1
    assert set(asking) == {"all"}
    asking.clear()
    np.testing.assert_allclose(scorer.score(texts, texts, pairs)[0], logits, atol=0.02)
    # The last of two layers asks for the first token of each pair alone.
    assert asking == ["all", 1] * (len(asking) // 2)


def test_layers_that_are_not_as_in_the_files_are_found_out(folders, monkeypatch):
    """As an adapter does it that changes deep layers only."""
    monkeypatch.setenv("TANDEM_CACHE", "")
    monkeypatch.setattr(trial, "_LAYERS", 1)
    opened = describe.open_encoder

    def changed(*given):
        model = opened(*given)
        model[0].model.encoder.layer[-1].output.dense.weight.data[0, 0] += 1.0
        return model

    located = locate(folders["encoder"], None, "encoder")
    assert describe_encoder(located).packed is not None
    monkeypatch.setattr(describe, "open_encoder", changed)
    assert describe_encoder(located).packed is None
