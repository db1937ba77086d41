"""Random clusters, requests and reservations for the tests of placement. Small on purpose, so that all can be tried."""

from __future__ import annotations

import os

from hypothesis import Phase
from hypothesis import strategies as st

from ffd.core.model import Node
from ffd.core.spec import Gang, Resources

PHASES = (
    [Phase.explicit, Phase.generate] if os.environ.get("FFD_PLANTED") else list(Phase)
)  # a planted bug is not shrunk
MODELS = ("A100", "H100")
TOPOLOGIES = ("any", "same-node", "compact", "same-rack", "zone")


@st.composite
def clusters(draw: st.DrawFn) -> tuple[Node, ...]:
    """One to six nodes: with and without GPUs, labels, slices, taints."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        gpus = draw(st.sampled_from((0, 2, 4, 4)))
        labels = {"zone": draw(st.sampled_from(("x", "y")))}
        if draw(st.booleans()):
            labels["rack"] = draw(st.sampled_from(("r1", "r2", "r3")))
        found.append(
            Node(
                f"n{number}", gpu_type=draw(st.sampled_from(MODELS)) if gpus else "", gpu_count=gpus,
                cpu_millis=draw(st.sampled_from((4_000, 8_000))), memory_bytes=16, disk_bytes=8,
                slot_count=draw(st.sampled_from((3, 8))), labels=labels, mig=draw(st.sampled_from(({}, {}, {"1g": 3}))),
                numa=(0, 0, 1, 1)[:gpus] if draw(st.booleans()) else (),
                taints=draw(st.sampled_from(((), (), ("spot",)))),
            )
        )  # fmt: skip
    return tuple(found)


@st.composite
def requests(draw: st.DrawFn) -> Resources:
    count, millis, types = draw(
        st.sampled_from(
            (
                (0, 1000, ()), (1, 1000, ()), (1, 500, ()), (1, 300, ()), (2, 1000, ()), (4, 1000, ()),
                (1, 1000, ("H100",)), (2, 1000, ("H100", "A100")), (1, 700, ("A100",)),
            )
        )
    )  # fmt: skip
    slices = 0 if count else draw(st.sampled_from((0, 0, 1, 2)))
    return Resources(
        gpu_count=count, gpu_millis=millis, gpu_types=types, mig_profile="1g" if slices else "", mig_count=slices,
        cpu_millis=draw(st.sampled_from((0, 1_000, 1_500))), memory_bytes=draw(st.sampled_from((0, 3))),
        shm_bytes=draw(st.sampled_from((0, 0, 2))), disk_bytes=draw(st.sampled_from((0, 0, 3))),
        tolerate=draw(st.sampled_from(((), ("spot",)))),
        node_labels=draw(st.sampled_from(((), (), (("zone", "x"),)))),
    )  # fmt: skip


@st.composite
def gangs(draw: st.DrawFn) -> Gang:
    return Gang(
        replicas=draw(st.integers(1, 9)), topology=draw(st.sampled_from(TOPOLOGIES)),
        topology_required=draw(st.booleans()),
    )  # fmt: skip
