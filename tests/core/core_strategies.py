"""Random documents and clusters for the property tests of the core. Small on purpose: five tasks meet every rule."""

from __future__ import annotations

from hypothesis import strategies as st

from ffd.core.model import Node
from ffd.core.spec import Checkpoint, Gang, Need, Param, Resources, Retry, Spec, Task, Template, Timeouts

NAMES = ("a", "b", "c", "d", "e")
RACKS = ("red", "blue")

INVENTORY = tuple(
    Node(
        f"n{number}", gpu_type="H100" if number % 2 else "A100", gpu_count=2, cpu_millis=4_000, slot_count=3,
        labels={"rack": RACKS[number // 2 % 2]},
    )
    for number in range(4)
)  # fmt: skip

RESOURCES = (
    Resources(),
    Resources(cpu_millis=2_000),
    Resources(gpu_count=1),
    Resources(gpu_count=2, cpu_millis=1_000),
    Resources(gpu_count=1, gpu_types=("H100", "A100")),
)
GANGS = (
    Gang(),
    Gang(),
    Gang(replicas=2),
    Gang(replicas=3, success="leader"),
    Gang(replicas=2, topology="same-node"),
    Gang(replicas=2, topology="same-rack", topology_required=False),
    Gang(replicas=3, min_replicas=1, wait_ms=500),
)
RETRIES = (
    Retry(),
    Retry(max_count=1),
    Retry(max_count=2, causes=("error", "node-lost")),
    Retry(max_count=1, causes=("3",)),
)
TIMEOUTS = (Timeouts(), Timeouts(), Timeouts(run_ms=2_000, queue_ms=5_000), Timeouts(start_ms=1_000, idle_ms=700))
FANOUTS = (
    {},
    {},
    {"foreach": ()},
    {"foreach": (1, "two", 3)},
    {"matrix": {"x": (1, 2), "y": ("u", "v")}},
    {"foreach": Template(("", "range(2)", ""))},
    {"foreach": Template(("", "range(9)", ""))},  # more than the limit
)
WHENS = ("", "", "", "true", "false", "size(params.words) > 1", "1 / (size(params.words) - 2) > 0")  # the last fails


@st.composite
def tasks(draw: st.DrawFn, name: str, parents: tuple[str, ...]) -> Task:
    """One task that may need any of `parents`, each with outputs {x: int}."""
    needs = [
        Need(parent, draw(st.sampled_from(("success", "success", "failed", "done"))))
        for parent in parents
        if draw(st.booleans())
    ]
    reads = [need.task for need in needs if need.outcome == "success"]
    fanout = draw(st.sampled_from(FANOUTS))
    when = draw(st.sampled_from(WHENS))
    bindings = {}
    if reads and draw(st.booleans()):
        bindings = {"X": f"tasks.{reads[0]}.outputs.x"}
    if reads and draw(st.integers(0, 5)) == 0:
        fanout = {"foreach": Template(("", f"[tasks.{reads[0]}.outputs.x, 1]", ""))}
    resources, gang = draw(st.sampled_from(RESOURCES)), draw(st.sampled_from(GANGS))
    if gang.topology == "same-node" and resources.gpu_count > 1:
        gang = Gang()  # no node is that large
    return Task(
        name, "run", needs=tuple(needs), script="work", when=when, bindings=bindings, outputs={"x": "int"},
        resources=resources, gang=gang, retry=draw(st.sampled_from(RETRIES)),
        timeouts=draw(st.sampled_from(TIMEOUTS)),
        max_parallel=draw(st.sampled_from((0, 0, 1, 2))),
        checkpoint=draw(st.sampled_from((None, Checkpoint(grace_ms=50)))), **fanout,
    )  # fmt: skip


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """A valid document: needs go to earlier tasks only, so there is no cycle."""
    names = NAMES[: draw(st.integers(1, 5))]
    main = tuple(draw(tasks(name, names[:index])) for index, name in enumerate(names))
    last = ("y", "z")[: draw(st.sampled_from((0, 0, 1, 2)))]
    final = tuple(draw(tasks(name, last[:index])) for index, name in enumerate(last))
    return Spec(
        draw(st.sampled_from(("one", "two"))), main, final, priority=draw(st.sampled_from((500, 600))),
        params=(Param("words", "list", default=["a", "b"]),), max_parallel=draw(st.sampled_from((0, 0, 1, 3))),
        fail_fast=draw(st.booleans()), timeout_ms=draw(st.sampled_from((0, 0, 0, 4_000))),
    )  # fmt: skip


@st.composite
def inventories(draw: st.DrawFn) -> tuple[Node, ...]:
    """Some of the nodes, some of them shrunk: machines that went away or were changed."""
    found = []
    for node in INVENTORY:
        kind = draw(st.sampled_from(("same", "same", "gone", "shrunk")))
        if kind == "same":
            found.append(node)
        elif kind == "shrunk":
            found.append(Node(node.name, node.gpu_type, 1, 0, 1_000, slot_count=1, labels=node.labels))
    return tuple(found)
