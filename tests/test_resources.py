"""Who gets which CPUs and GPUs, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import Pool
from pipelines.errors import UsageError
from pipelines.resources import Cluster, Node, Stages, plan_stages


def planned(nodes: list[tuple[float, float]], **pool: float | str) -> Stages:
    return plan_stages(Cluster([Node(*node) for node in nodes]), Pool(**pool), "resources.encoder")


@pytest.mark.parametrize(
    ("nodes", "actors", "cpus", "threads", "readers"),
    [
        ([(1, 0)], 1, 0.51, 1, 1),  # two of 0.5 would fill it, were one started for a lost node
        ([(2, 0)], 1, 1.5, 2, 2),
        ([(16, 0)], 1, 15.5, 16, 2),
        ([(2, 0), (2, 0), (2, 0)], 3, 1.5, 2, 6),
        ([(4, 0), (1, 0)], 8, 0.51, 1, 2),  # 7 on four: 0.43 is left; 1 on one: 0.49
        ([(0.5, 0)], 1, 0.25, 1, 1),
        ([(0, 0), (2, 0)], 1, 1.5, 2, 2),  # a head node without CPUs
    ],
)
def test_without_gpus(
    nodes: list[tuple[float, float]], actors: int, cpus: float, threads: int, readers: int
) -> None:
    stages = planned(nodes)
    assert stages == Stages(actors, cpus, 0.0, threads, 0.25, readers)
    assert stages.actor == {"num_cpus": cpus, "num_gpus": 0.0}
    assert stages.task == {"num_cpus": 0.25}


@pytest.mark.parametrize(
    ("nodes", "pool", "wanted"),
    [
        ([(16, 1)], {}, Stages(1, 1.0, 1.0, 1, 1.0, 15)),
        ([(16, 4)], {}, Stages(4, 1.0, 1.0, 1, 1.0, 12)),
        ([(2, 1)], {}, Stages(1, 1.0, 1.0, 1, 0.5, 2)),
        ([(1, 1)], {}, Stages(1, 0.5, 1.0, 1, 0.25, 2)),
        ([(4, 8)], {}, Stages(8, 0.4375, 1.0, 1, 0.25, 2)),  # 3.5 / 8; half a CPU is left
        ([(16, 1)], {"gpus": 0.25}, Stages(4, 1.0, 0.25, 1, 1.0, 12)),
        ([(16, 2)], {"gpus": 2}, Stages(1, 1.0, 2.0, 1, 1.0, 15)),
        ([(16, 2)], {"gpus": 0}, Stages(1, 15.5, 0.0, 16, 0.25, 2)),
        ([(16, 1)], {"cpus": 4}, Stages(1, 4.0, 1.0, 4, 1.0, 12)),
        ([(16, 4)], {"actors": 2}, Stages(2, 1.0, 1.0, 1, 1.0, 14)),
        ([(8, 0), (8, 2), (8, 2)], {}, Stages(4, 1.0, 1.0, 1, 1.0, 20)),
    ],
)
def test_with_gpus(
    nodes: list[tuple[float, float]], pool: dict[str, float], wanted: Stages
) -> None:
    assert planned(nodes, **pool) == wanted


BETWEEN = {"min": 0, "max": 16}


@pytest.mark.parametrize(
    ("here", "coming", "pool", "wanted"),
    [
        # A head without a GPU; of the nodes that come each holds four.
        ([(2, 0)], [(16, 4)] * 3, {}, Stages(1, 1.0, 1.0, 1, 1.0, 2, 12, awaited=True)),
        ([(2, 0), (16, 4)], [(16, 4)], {}, Stages(4, 1.0, 1.0, 1, 1.0, 14, 8)),
        ([(2, 0)], [(16, 4)], {"gpus": 0}, Stages(1, 1.5, 0.0, 2, 0.25, 2, 11)),
        ([(2, 0), (16, 4)], [], {"actors": {"max": 3}}, Stages(1, 1.0, 1.0, 1, 1.0, 17, 3)),
        ([(16, 4)], [(16, 4)], {"actors": BETWEEN}, Stages(1, 1.0, 1.0, 1, 1.0, 15, 8)),
        ([(16, 4)], [], {"actors": {"min": 2, "max": 2}}, Stages(2, 1.0, 1.0, 1, 1.0, 14)),
        ([(16, 4)], [(16, 4)], {"actors": 6}, Stages(6, 1.0, 1.0, 1, 1.0, 12)),
        ([], [(2, 0)], {}, Stages(1, 1.5, 0.0, 2, 0.25, 2, awaited=True)),
    ],
)
def test_a_pool_grows_with_the_nodes_that_may_come(here, coming, pool, wanted):
    cluster = Cluster([Node(*node) for node in here], [Node(*node) for node in coming])
    assert plan_stages(cluster, Pool.model_validate(pool), "resources.encoder") == wanted


def test_where_nobody_knows_what_comes_the_pool_is_as_large_as_the_cluster_will_be():
    stages = plan_stages(Cluster([Node(2, 0)], open=True), Pool(), "resources.encoder")
    assert stages.pool == {"min_size": 1, "max_size": 10_000}
    fixed = plan_stages(Cluster([Node(2, 0)], open=True), Pool(actors=1), "resources.encoder")
    assert fixed.pool == {"size": 1}
    between = Pool.model_validate({"actors": {"min": 1, "max": 4}})
    bounded = plan_stages(Cluster([Node(2, 0)], open=True), between, "resources.encoder")
    assert bounded.pool == {"min_size": 1, "max_size": 4}


def test_a_plan_is_told_in_a_sentence():
    cluster = Cluster([Node(2, 0)], [Node(16, 4)] * 3)
    stages = plan_stages(cluster, Pool(), "resources.encoder")
    assert stages.sentence() == (
        "1 actor(s) of 1 GPUs and 1 CPUs, 12 at most; the first waits for a node that is not there "
        "yet. 2 tasks read at a time."
    )
    stages = plan_stages(Cluster([Node(2, 0)], open=True), Pool(), "resources.encoder")
    assert stages.sentence() == (
        "1 actor(s) of 1.5 CPUs, and more on nodes that join. 2 tasks read at a time."
    )


def test_what_can_never_be_is_refused_also_where_nodes_come():
    cluster = Cluster([Node(2, 0)], [Node(8, 1)] * 2)
    with pytest.raises(UsageError, match="actors is 3; the cluster holds 2 at a time"):
        plan_stages(cluster, Pool(actors=3), "resources.encoder")
    with pytest.raises(UsageError, match="asks for 1 CPUs and 2 GPUs an actor; no node has these"):
        plan_stages(cluster, Pool(gpus=2), "resources.encoder")


@pytest.mark.parametrize(
    ("pool", "actors", "threads"),
    [
        ({"cpus": 4}, 3, 4),  # 15.75 / 4
        ({"cpus": 3}, 5, 3),
        ({"cpus": 0.5}, 31, 1),
        ({"cpus": 4, "actors": 2}, 2, 4),
        ({"actors": 1}, 1, 16),
    ],
)
def test_what_is_set_is_taken_as_it_is(pool: dict[str, float], actors: int, threads: int) -> None:
    stages = planned([(16, 0)], **pool)
    assert (stages.actors, stages.threads) == (actors, threads)


@pytest.mark.parametrize(
    ("nodes", "pool", "message"),
    [
        ([(16, 0)], {"gpus": 1}, "resources.encoder.gpus is 1.0, and no node"),
        ([(16, 1)], {"gpus": 2}, "asks for 1 CPUs and 2 GPUs an actor; no node has these"),
        ([(16, 2)], {"gpus": 1.5}, "resources.encoder.gpus is 1.5; a part of one GPU or whole"),
        ([(2, 0)], {"cpus": 2}, "asks for 2 CPUs and 0 GPUs .* the 0.25 CPUs that reading"),
        ([(2, 0), (2, 0)], {"cpus": 3}, "asks for 3 CPUs"),
        ([(2, 0)], {"actors": 2}, r"resources\.encoder\.actors is 2; the cluster holds 1"),
        ([(16, 1)], {"actors": 2}, "actors is 2; the cluster holds 1"),
        ([(0.25, 0)], {}, "no node has these"),
        ([(0, 1)], {}, "No node of the cluster has a CPU"),
        ([], {}, "No node of the cluster has a CPU"),
    ],
)
def test_what_cannot_be(
    nodes: list[tuple[float, float]], pool: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        planned(nodes, **pool)


SIZES = st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 1.25, 2.0, 3.0, 7.0, 16.0, 64.0])


@given(
    st.lists(st.tuples(SIZES, st.sampled_from([0.0, 0.5, 1.0, 4.0, 8.0])), max_size=4),
    st.sampled_from(["auto", 1, 2, 5]),
    st.sampled_from(["auto", 0.0, 0.1, 0.5, 1.0, 2.0]),
    st.sampled_from(["auto", 0.05, 0.15, 0.3, 1.0, 3.0]),
)
def test_a_quarter_of_a_cpu_is_always_left(
    nodes: list[tuple[float, float]], actors: int | str, gpus: float | str, cpus: float | str
) -> None:
    try:
        stages = planned(nodes, actors=actors, gpus=gpus, cpus=cpus)
    except UsageError:
        return
    left = sum(cpus for cpus, _ in nodes) - stages.actors * stages.actor_cpus
    assert left > 0.25 - 1e-6
    assert 0.25 <= stages.task_cpus <= max(left, 0.25)
    assert stages.readers * stages.task_cpus <= left + 1e-6
    assert min(stages.actors, stages.readers, stages.threads) >= 1
    # Each actor finds a node, and a task of a quarter fits on it beside them.
    places = 0
    for node_cpus, node_gpus in nodes:
        on_node = 0
        while (on_node + 1) * stages.actor_cpus <= node_cpus - 0.25 + 1e-6 and (
            not stages.actor_gpus or (on_node + 1) * stages.actor_gpus <= node_gpus + 1e-6
        ):
            on_node += 1
        places += on_node
    assert places >= stages.actors


@pytest.mark.parametrize(
    "nodes", [[Node(1, 1)] * 4, [Node(8, 8)] * 3, [Node(4, 4)] * 3, [Node(4, 0), Node(16, 4)]]
)
def test_some_node_holds_a_task_beside_its_actors(nodes):
    stages = plan_stages(Cluster(nodes), Pool(), "resources.encoder")
    used = [
        min(int(node.gpus), int((node.cpus - 0.25) / stages.actor_cpus)) * stages.actor_cpus
        for node in nodes
    ]
    left = max(node.cpus - busy for node, busy in zip(nodes, used, strict=True))
    assert stages.task_cpus <= left + 1e-9
