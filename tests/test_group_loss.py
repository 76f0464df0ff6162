"""The loss over groups: against ListNet, which takes logits of the target."""

import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.losses import ListNetLoss

from pipelines.train.fitting_reranker import GroupLoss
from pipelines.train.frozen import freeze

QUERIES = ["how do I sort a list?", "what releases a lock"]
DOCS = [
    ["sorted returns a new list", "a lock is released", "short"],
    ["The thread that holds it releases a lock, " * 9, "a path"],
]


@pytest.fixture
def model(small_scorer):
    return CrossEncoder(str(small_scorer), device="cpu").eval()


def test_it_is_that_of_listnet(model):
    targets = [torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.5])]
    ours = GroupLoss(model)([QUERIES, DOCS, [1.0, 1.0]], targets)
    theirs = ListNetLoss(model)([QUERIES, DOCS], [target.log() for target in targets])
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    ours.backward()
    own = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    theirs.backward()
    for one, other in zip(
        own, (p.grad for p in model.parameters() if p.grad is not None), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_group_weighs_as_much_as_it_says(model):
    targets = [torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 0.0])]
    loss = GroupLoss(model)
    with torch.no_grad():
        first, second = (loss([[QUERIES[n]], [DOCS[n]], [1.0]], [targets[n]]) for n in (0, 1))
        both = loss([QUERIES, DOCS, [1.5, 0.5]], targets)
    assert both.item() == pytest.approx((1.5 * first.item() + 0.5 * second.item()) / 2, rel=1e-5)


def test_the_lowest_layers_are_frozen_with_the_embeddings(model):
    freeze(model, 1)
    still = {name for name, one in model.named_parameters() if not one.requires_grad}
    assert any("embeddings" in name for name in still)
    assert any("layer.0." in name for name in still)
    assert not any("layer.1." in name or "classifier" in name for name in still)
