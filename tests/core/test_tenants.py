"""Tenants through the front door: commands, what they hold and refuse, live changes, restarts (S6, S7, S17, S22)."""

from __future__ import annotations

from typing import Any

import pytest

from ffd.core import cluster_views
from ffd.core.commands import Retry, SetQuota, SetTenant, TenantSet
from ffd.core.limits import Limits
from ffd.core.model import Quota
from ffd.core.policy import Policy
from ffd.core.state import State
from ffd.core.story import event_text
from ffd.core.why import explain
from ffd.errors import Refusal
from ffd.testing.builders import gpus, nodes, spec, submit, task
from ffd.testing.cluster import Behaviour, Cluster

LONG = {"a": Behaviour(run_ms=10_000)}


def work(count: int = 1, **fields: Any) -> Any:
    """`count` one-GPU items."""
    fields.setdefault("resources", gpus(1))
    return spec(task("a", foreach=tuple(range(count)), **fields))


def cluster(**limits: int) -> Cluster:
    return Cluster(nodes(2, gpu_count=8, gpu_type="H100"), LONG, limits=Limits(**limits))


def quota(tenant: str, **changes: Any) -> SetQuota:
    """`gpus=4`: a plain bound of 4 whole GPUs; `pods=dict(nominal=..)`: fields; `gpus=None`: removed."""
    plain = {
        resource: {"nominal": value * (1_000 if resource == "gpus" else 1), "borrow_max": 0}
        if isinstance(value, int)
        else value
        for resource, value in changes.items()
    }
    return SetQuota(tenant=tenant, changes=plain, by="root")


def running(one: Cluster) -> int:
    return one.state.reserved_count


def refused(answers: list[Any]) -> Refusal:
    (answer,) = answers
    assert isinstance(answer, Refusal), answer
    return answer


def test_a_quota_is_held_at_each_level_and_freed_by_the_end_of_work() -> None:
    one = cluster()
    one.send(quota("team", gpus=6), quota("team/x", gpus=4))
    one.send(submit(work(20), project="team/x"), submit(work(20), project="team/y"))
    usage = {path: node.usage["gpus"] for path, node in one.state.tenancy.nodes.items()}
    assert usage == {"": 6_000, "team": 6_000, "team/x": 4_000, "team/y": 2_000}
    one.run()
    assert not one.state.workflows and not one.state.tenancy.root.usage


def test_raising_and_removing_a_quota_starts_what_waited() -> None:
    one = cluster()
    one.send(quota("p", gpus=1), submit(work(20), project="p"))
    assert running(one) == 1
    one.send(quota("p", gpus=3))
    assert running(one) == 3
    one.send(quota("p", gpus=None))
    assert running(one) == 16


def test_lowering_stops_nothing_and_admits_nothing_until_usage_fell_below() -> None:
    one = cluster()
    one.send(submit(work(8), project="p"))
    one.run(5_000)
    one.send(quota("p", gpus=2), submit(work(8), project="p"))
    assert running(one) == 8
    one.run(6_000)
    assert running(one) == 2


def test_a_disabled_tenant_admits_and_submits_nothing_and_what_runs_goes_on() -> None:
    one = cluster()
    one.send(submit(work(20), project="team/x"))
    one.send(SetTenant(tenant="team", enabled=False))
    assert running(one) == 16
    one.run(12_000)
    assert running(one) == 0 and len(one.state.workflows) == 1
    refusal = refused(one.send(submit(work(), project="team/x")))
    assert (refusal.code, refusal.message) == ("conflict", "tenant team is disabled")
    assert isinstance(refused(one.send(submit(work(), project="team/never-seen"))), Refusal)
    assert explain(one.state, 1, "a", 19, one.now_ms).headline.startswith("tenant team is disabled: ")
    one.send(SetTenant(tenant="team", enabled=True))
    assert running(one) == 4


def test_a_moved_tenant_takes_what_it_holds_along_and_keeps_its_name() -> None:
    one = cluster()
    one.send(quota("big", gpus=3), submit(work(4), project="small/x"))
    one.send(SetTenant(tenant="small", parent="big"))
    tenancy = one.state.tenancy
    assert tenancy.nodes["big"].usage["gpus"] == 4_000, "nothing is stopped by a move"
    assert [node.path for node in tenancy.nodes["small/x"].chain()] == ["small/x", "small", "big", ""]
    one.send(submit(work(4), project="small/y"))
    assert running(one) == 4, "the new parent's quota holds"
    one.send(SetTenant(tenant="small", parent=""))
    assert running(one) == 8 and not tenancy.nodes["big"].usage


@pytest.mark.parametrize(
    ("tenant", "parent", "words"),
    [
        ("", "a", "the root / has no parent"),
        ("a", "a", "a tenant cannot be below itself"),
        ("a", "a/b/new", "a tenant cannot be below itself"),
        ("a", "c", "a tenant cannot be below itself"),
        ("a", "no such path!", "not a tenant's path"),
    ],
)
def test_a_move_that_cannot_be_is_refused(tenant: str, parent: str, words: str) -> None:
    one = cluster()
    one.send(SetTenant(tenant="c", parent="a/b"))
    before = one.state.tenancy.books()
    assert words in refused(one.send(SetTenant(tenant=tenant, parent=parent))).message
    assert one.state.tenancy.books() == before


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"gpu": {"nominal": 1}}, "quotas.gpu"),
        ({"gpus/": {"nominal": 1}}, "quotas.gpus/"),
        ({"gpus": {"limit": 1}}, "quotas.gpus"),
        ({"gpus": {"nominal": -1}}, "quotas.gpus.nominal"),
        ({"gpus": {"nominal": 1 << 63}}, "quotas.gpus.nominal"),
        ({"gpus": {"borrow_max": 1}}, "quotas.gpus.nominal"),
        ({"gpus": {"nominal": 1, "lend_max": 2}}, "quotas.gpus.lend_max"),
        ({f"gpus/m{number}": {"nominal": 1} for number in range(65)}, "quotas"),
    ],
)
def test_a_quota_that_means_nothing_is_refused(changes: Any, field: str) -> None:
    one = cluster()
    assert refused(one.send(SetQuota(tenant="a", changes=changes))).field == field
    assert not one.state.tenancy.nodes.keys() - {""}


def test_fields_of_a_quota_change_one_by_one_and_replace_takes_the_others_away() -> None:
    one = cluster()
    one.send(SetQuota(tenant="a", changes={"pods": {"nominal": 5, "lend_max": 1}, "gpus": {"nominal": 7}}))
    one.send(SetQuota(tenant="a", changes={"pods": {"borrow_max": 2, "lend_max": None}}))
    quotas = one.state.tenancy.nodes["a"].row.quotas
    assert quotas == {"gpus": Quota(7), "pods": Quota(5, 2)}
    one.send(SetQuota(tenant="a", changes={"cpus": {"nominal": 1}}, replace=True))
    assert one.state.tenancy.nodes["a"].row.quotas == {"cpus": Quota(1)}


def test_live_workflows_are_counted_from_submit_to_end() -> None:
    one = cluster()
    one.send(quota("p", workflows=2))
    one.send(submit(work(), project="p/x"), submit(work(), project="p/y"))
    refusal = refused(one.send(submit(work(), project="p/z")))
    assert (refusal.code, refusal.field) == ("limit", "quota.workflows")
    assert refusal.message == "tenant p has 2 of at most 2 live workflows"
    assert "ffd quota set p workflows=3" in refusal.hint
    one.run()
    assert not isinstance(one.send(submit(work(), project="p/z"))[0], Refusal)


def test_a_retry_is_a_live_workflow_again() -> None:
    one = Cluster(nodes(), {"a": Behaviour(exit_code=1)})
    one.send(submit(spec(task("a")), project="p"))
    one.run()
    one.send(quota("p", workflows=0))
    assert refused(one.send(Retry(workflow=1))).field == "quota.workflows"
    one.send(quota("p", workflows=1), Retry(workflow=1))
    assert one.state.tenancy.nodes["p"].usage["workflows"] == 1
    one.run()
    assert not one.state.tenancy.root.usage


def test_what_quota_will_never_allow_is_said_at_submit_and_by_why() -> None:
    one = cluster()
    one.send(quota("p", gpus=2))
    (answer,) = one.send(submit(spec(task("a", replicas=3, resources=gpus(1))), project="p"))
    words = "will never run here: quota of p: 0 of 2 gpus used, 3 asked"
    assert answer.warnings == (f"task a {words}",)
    assert explain(one.state, 1, "a", 0, 1).headline == words
    assert cluster_views.queue_pages(one.state)[0].reason == words


def test_a_model_that_quota_forbids_is_gone_round() -> None:
    one = Cluster(
        (*nodes(1, gpu_count=8, gpu_type="A100"), *(node for node in nodes(2, gpu_count=8, gpu_type="H100")[1:])), LONG
    )
    one.send(SetQuota(tenant="p", changes={"gpus/H100": {"nominal": 3_000, "borrow_max": 0}}))
    one.send(submit(work(16, resources=gpus(1, "H100", "A100")), project="p"))
    usage = one.state.tenancy.nodes["p"].usage
    assert (usage["gpus/H100"], usage["gpus/A100"], usage["gpus"]) == (3_000, 8_000, 11_000)


def test_new_projects_are_bounded_by_name() -> None:
    one = cluster(tenants_count=4)
    one.send(SetTenant(tenant="a"), submit(work(), project="b/c"))
    assert refused(one.send(submit(work(), project="d"))).field == "limits.tenants_count"
    assert refused(one.send(SetTenant(tenant="d"))).field == "limits.tenants_count"
    one.run()
    assert not isinstance(one.send(submit(work(), project="d/e"))[0], Refusal), "idle projects make room"
    assert sorted(one.state.tenancy.nodes) == ["", "a", "d", "d/e"]


def test_one_key_has_one_effect() -> None:
    one = cluster()
    first = SetTenant(tenant="a", weight_millis=2_000, key="k", payload_digest="x", project="a")
    assert one.send(first, first) == [TenantSet("a"), TenantSet("a", duplicate=True)]
    other = SetTenant(tenant="a", weight_millis=3_000, key="k", payload_digest="y", project="a")
    assert refused(one.send(other)).code == "conflict"


def test_a_restart_keeps_rules_and_counts() -> None:
    one = cluster()
    one.send(quota("p", gpus=5), SetTenant(tenant="p/x", weight_millis=3_000, parent="q"), quota("q", gpus=3))
    one.send(submit(work(9), project="p/x"), submit(work(9), project="p/y"))
    one.send(quota("p", gpus=1))
    assert not one.ledger.compare(one.state)
    loaded = State.load(one.ledger.loadable())
    assert loaded.tenancy.books() == one.state.tenancy.books()
    assert loaded.tenancy.nodes["p"].excused == {"gpus": 5_000}
    assert loaded.tenancy.nodes["p/x"].row.weight_millis == 3_000


def test_the_story_says_who_changed_what() -> None:
    one = cluster()
    told = len(one.story)
    one.send(quota("p", gpus=5, memory={"nominal": 1 << 30, "borrow_max": 0, "lend_max": 0}))
    one.send(SetTenant(tenant="p", weight_millis=500, enabled=False, parent="q", by="ann"), quota("p", gpus=None))
    assert [event_text(event) for _, event in one.story[told:]] == [
        "tenant p gpus 5, borrows at most 0 by root",
        "tenant p memory 1.0 GiB, borrows at most 0.0 GiB, lends at most 0.0 GiB by root",
        "tenant p disabled, weight 0.5 by ann",
        "tenant p moved under q by ann",
        "tenant p has no quota of gpus by root",
    ]


def test_the_past_is_noted_for_a_restart() -> None:
    policy = Policy(usage_half_life_ms=4_000)
    one = Cluster(nodes(2, gpu_count=8), LONG, policy=policy)
    one.send(submit(work(8), project="p"))
    one.run(12_000)
    past = one.state.tenancy.past_of(one.state.tenancy.nodes["p"])
    assert past["gpus"] > 4_000
    loaded = State.load(one.ledger.loadable(), policy=policy)
    noted = loaded.tenancy.past_of(loaded.tenancy.nodes["p"])
    assert noted["gpus"] >= past["gpus"] > 0.7 * noted["gpus"]
    assert not State.load(one.ledger.loadable()).tenancy.root.past, "the setting is off now"


def test_what_moves_out_of_a_disabled_tenant_goes_on() -> None:
    one = cluster()
    one.send(SetTenant(tenant="team", enabled=False))
    one.send(SetTenant(tenant="team", enabled=True), submit(work(20), project="team/x"))
    one.send(SetTenant(tenant="team", enabled=False))
    one.run(12_000)
    assert running(one) == 0
    one.send(SetTenant(tenant="team/x", parent=""))
    assert running(one) == 4


def test_what_is_enabled_again_is_in_the_queue_once_whatever_was_learnt_meanwhile() -> None:
    """How long the tasks take is learnt while they are disabled: they are in the lane of another class from then on."""
    one = Cluster(nodes(1, slot_count=1), {"a": Behaviour(run_ms=100_000)})
    one.send(submit(spec(task("a", foreach=(1, 2, 3))), project="p"))
    one.send(SetTenant(tenant="p", enabled=False))
    one.run(150_000)
    one.send(SetTenant(tenant="p", enabled=True))
    one.run()
    assert not one.state.workflows


def test_a_tenant_may_be_moved_below_what_was_below_it_and_a_restart_finds_it_there() -> None:
    one = cluster()
    one.send(submit(work(2), project="t/a"), submit(work(1), project="t"))
    one.send(SetTenant(tenant="t/a", parent=""), SetTenant(tenant="t", parent="t/a"))
    assert [node.path for node in one.state.tenancy.nodes["t"].chain()] == ["t", "t/a", ""]
    assert not one.ledger.compare(one.state)
    assert State.load(one.ledger.loadable()).tenancy.books() == one.state.tenancy.books()
