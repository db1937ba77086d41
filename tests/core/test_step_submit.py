"""What a submit is told about a cluster that cannot take it."""

from __future__ import annotations

from ffd.core.commands import Accepted
from ffd.core.reports import InventoryReported
from ffd.core.spec import Gang, Resources
from ffd.core.state import State
from ffd.core.step import step
from ffd.testing.builders import nodes, spec, submit, task


def warnings_of(*tasks: object) -> tuple[str, ...]:
    state = State()
    given = [InventoryReported(nodes(2, gpu_count=8, gpu_type="H100")), submit(spec(*tasks))]  # type: ignore[arg-type]
    answer = step(state, given, 1_000).answers[0][1]
    assert isinstance(answer, Accepted)
    return answer.warnings


def test_a_gang_larger_than_the_cluster_is_told() -> None:
    big = task("big", resources=Resources(gpu_count=8), gang=Gang(replicas=3))
    assert warnings_of(task("small"), big) == (
        "task big will never run here: 3 replicas are asked, all nodes together hold 2",
    )


def test_a_model_that_is_not_there_is_told_once() -> None:
    wrong = Resources(gpu_count=1, gpu_types=("A100",))
    (warning,) = warnings_of(task("a", resources=wrong), task("b", resources=wrong))
    assert warning.startswith("task a will never run here: 2 of 2 nodes")


def test_what_fits_an_empty_cluster_is_not_warned_of() -> None:
    assert warnings_of(task("fits", resources=Resources(gpu_count=8), gang=Gang(replicas=2))) == ()
