"""The tenant tree against a model that knows nothing of counters: it adds everything up anew at each question."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ffd.core.admit.quota import allowed_models, check_gang, check_quota, hopeless
from ffd.core.admit.share import dominant_resource, share_billionths
from ffd.core.amounts import amounts, amounts_on
from ffd.core.model import Node, Quota, TenantRow
from ffd.core.past import TICKS
from ffd.core.spec import Resources
from ffd.core.tenancy import Tenancy

PATHS = ("a", "a/x", "a/x/deep", "a/y", "b", "b/z")
KINDS = ("gpus", "cpus")
LEVELS = ("", *PATHS)


class Model:
    """Charges as a list; everything else by walking it."""

    def __init__(self) -> None:
        self.parents = {path: path.rpartition("/")[0] for path in PATHS}
        self.quotas: dict[tuple[str, str], Quota] = {}
        self.charges: list[tuple[str, dict[str, int]]] = []

    def chain(self, path: str) -> list[str]:
        found = [path]
        while found[-1]:
            found.append(self.parents[found[-1]])
        return found

    def used(self, path: str, kind: str) -> int:
        return sum(held.get(kind, 0) for who, held in self.charges if path in self.chain(who))

    def held(self, path: str, kind: str) -> int:
        """What is not there for others: used in it, or kept by it or by one below."""
        below = sum(self.held(child, kind) for child, parent in self.parents.items() if parent == path)
        direct = sum(held.get(kind, 0) for who, held in self.charges if who == path)
        quota = self.quotas.get((path, kind))
        return max(below + direct, quota.unlent if quota else 0)

    def allows(self, path: str, asked: dict[str, int]) -> bool:
        """Charge it and look: each level within its bound; who is above its nominal leaves others what they keep."""
        self.charges.append((path, asked))
        try:
            return all(self._holds(path, kind) for kind in asked)
        finally:
            self.charges.pop()

    def _holds(self, path: str, kind: str) -> bool:
        borrows = True
        for level in self.chain(path):
            quota, used = self.quotas.get((level, kind)), self.used(level, kind)
            if quota is not None and quota.bound is not None:
                pool = max(self._sum(level, kind), used) if borrows else used
                if pool > quota.bound:
                    return False
            borrows = quota is None or used > quota.nominal
        return True

    def _sum(self, path: str, kind: str) -> int:
        direct = sum(held.get(kind, 0) for who, held in self.charges if who == path)
        return direct + sum(self.held(child, kind) for child, parent in self.parents.items() if parent == path)


amount = st.integers(0, 12)
asks = st.dictionaries(st.sampled_from(KINDS), st.integers(1, 6), min_size=1)
quotas = st.builds(Quota, amount, st.none() | amount, st.none() | amount)


class TenancyMachine(RuleBasedStateMachine):
    @initialize(pool=st.integers(6, 20), nominal=st.integers(1, 8), lend_max=st.none() | st.integers(0, 3))
    def start(self, pool: int, nominal: int, lend_max: int | None) -> None:
        """A cohort to begin with: a pool, and a member that keeps something back."""
        self.tenancy, self.model = Tenancy(), Model()
        for path in PATHS:
            self.tenancy.tenant(path)
        self.set_quota("a", "gpus", Quota(pool, 0))
        self.set_quota("a/x", "gpus", Quota(nominal, None, lend_max))

    def row(self, path: str, **fields: Any) -> TenantRow:
        kinds = {kind: quota for (where, kind), quota in self.model.quotas.items() if where == path}
        return TenantRow(self.model.parents.get(path), quotas=kinds, **fields)

    @rule(path=st.sampled_from(LEVELS), kind=st.sampled_from(KINDS), quota=st.none() | quotas)
    def quota_changes(self, path: str, kind: str, quota: Quota | None) -> None:
        self.set_quota(path, kind, quota)

    def set_quota(self, path: str, kind: str, quota: Quota | None) -> None:
        self.model.quotas.pop((path, kind), None)
        if quota is not None:
            self.model.quotas[path, kind] = quota
        self.tenancy.declare({path: self.row(path)})

    @rule(path=st.sampled_from(PATHS), parent=st.sampled_from(LEVELS))
    def move(self, path: str, parent: str) -> None:
        is_loop = path in self.model.chain(parent)
        assert self.tenancy.is_below(parent, path) == is_loop
        if not is_loop:
            self.model.parents[path] = parent
            self.tenancy.declare({path: self.row(path)})

    @rule(path=st.sampled_from(LEVELS), asked=asks)
    def ask(self, path: str, asked: dict[str, int]) -> None:
        tenant = self.tenancy.tenant(path)
        block = check_quota(tenant, asked)
        assert (block is None) == self.model.allows(path, asked), block
        if block is None:
            self.tenancy.charge(tenant, asked)
            self.model.charges.append((path, asked))

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.model.charges:
            path, held = self.model.charges.pop(data.draw(st.integers(0, len(self.model.charges) - 1)))
            self.tenancy.discharge(self.tenancy.tenant(path), held)

    @rule(path=st.sampled_from(PATHS), asked=asks)
    def try_out(self, path: str, asked: dict[str, int]) -> None:
        """A trial may do anything: the end is as the beginning."""
        with self.tenancy.trial():
            for who, held in self.model.charges:
                self.tenancy.discharge(self.tenancy.tenant(who), held)
            with self.tenancy.trial():
                self.tenancy.charge(self.tenancy.tenant(path), asked)
            assert all(not node.usage for node in self.tenancy.nodes.values())

    @invariant()
    def counters_are_sums(self) -> None:
        """S7, and S6: what is above a bound was there when the bound was set, and only falls."""
        for path, node in self.tenancy.nodes.items():
            for kind in KINDS:
                used = self.model.used(path, kind)
                assert node.usage.get(kind, 0) == used, f"S7 {path}"
                assert node.kept_back(kind) == self.model.held(path, kind) - used, f"S7 {path}"
                quota = self.model.quotas.get((path, kind))
                if quota is not None and quota.bound is not None:
                    assert used <= max(quota.bound, node.excused.get(kind, 0)), f"S6 {path}"


TestTenancy = TenancyMachine.TestCase
TestTenancy.settings = settings(max_examples=150, stateful_step_count=30, deadline=None, derandomize=True)


# ------------------------------------------------------------------------------------------------------- in words


def tree(**rows: TenantRow) -> Tenancy:
    """`a__x` is a/x, `root` is the root."""
    tenancy = Tenancy()
    tenancy.declare({"" if name == "root" else name.replace("__", "/"): row for name, row in rows.items()})
    return tenancy


def has(**quotas: Quota) -> TenantRow:
    return TenantRow(quotas=quotas)


def test_a_cohort_lends_what_lies_idle_and_keeps_what_is_not_lent() -> None:
    """Kueue's cohort: an inner node whose quota is the pool; its members may borrow up to 100 above their 20."""
    tenancy = tree(
        cohort=has(gpus=Quota(40, 0)), cohort__a=has(gpus=Quota(20, 100)), cohort__b=has(gpus=Quota(20, 100, 5))
    )
    a, b = tenancy.tenant("cohort/a"), tenancy.tenant("cohort/b")
    assert check_quota(a, {"gpus": 25}) is None
    tenancy.charge(a, {"gpus": 25})
    assert a.borrowed("gpus") == 5
    block = check_quota(a, {"gpus": 1})
    assert block is not None and block.is_pool and block.kept == 15
    assert block.text() == "quota of cohort: 0.025 of 0.04 gpus used, 0.015 kept for its members, 0.001 asked"
    assert check_quota(b, {"gpus": 15}) is None
    assert check_quota(b, {"gpus": 16}) is not None, (
        "what was lent is in use: it comes back when somebody gives it back"
    )


def test_a_level_without_a_quota_bounds_nothing() -> None:
    tenancy = tree(a__x=has(gpus=Quota(2)))
    assert check_quota(tenancy.tenant("a/x"), {"gpus": 1_000}) is None
    assert not tenancy.tenant("a").has_quota


def test_what_is_above_a_lowered_bound_stays_and_nothing_comes_in_until_it_fell_below() -> None:
    tenancy = tree(a=has(pods=Quota(5, 0)))
    a = tenancy.tenant("a")
    tenancy.charge(a, {"pods": 5})
    tenancy.declare({"a": has(pods=Quota(2, 0))})
    assert a.excused == {"pods": 5}
    tenancy.discharge(a, {"pods": 3})
    assert a.excused == {"pods": 2}
    assert check_quota(a, {"pods": 1}) is not None
    tenancy.discharge(a, {"pods": 1})
    assert check_quota(a, {"pods": 1}) is None


def test_models_are_allowed_one_by_one() -> None:
    tenancy = tree(a=TenantRow(quotas={"gpus/H100": Quota(4_000, 0)}))
    tenancy.set_nodes((Node("n1", gpu_type="H100", gpu_count=8), Node("n2", gpu_type="A100", gpu_count=8)))
    a, eight, four = tenancy.tenant("a"), Resources(gpu_count=8), Resources(gpu_count=4)
    assert allowed_models(tenancy, a, four, 1) is None
    assert allowed_models(tenancy, a, eight, 1) == ("A100",)
    only = Resources(gpu_count=8, gpu_types=("H100",))
    assert allowed_models(tenancy, a, only, 1) == ()
    block = check_gang(tenancy, a, only, 1)
    assert block is not None and block.is_hopeless and block.text() == "quota of a: 0 of 4 gpus/H100 used, 8 asked"
    assert hopeless(tenancy, a, only, 1) == block and hopeless(tenancy, a, eight, 1) is None
    assert allowed_models(tenancy, tenancy.tenant("b"), only, 1) is None


def test_amounts_name_the_models_they_are_placed_on() -> None:
    ask = Resources(gpu_count=2, cpu_millis=500, memory_bytes=3, disk_bytes=4)
    assert amounts(ask, 2) == {"pods": 2, "gpus": 4_000, "cpus": 1_000, "memory": 6, "storage": 8}
    assert amounts_on(ask, 2, ("H100",)) == amounts(ask, 2) | {"gpus/H100": 4_000}
    assert amounts_on(ask, 2, ("H100", "A100")) == amounts(ask, 2) | {"gpus/H100": 2_000, "gpus/A100": 2_000}
    assert amounts_on(Resources(), 3, ()) == {"pods": 3}


def test_the_dominant_share_is_that_of_the_scarcest_resource_for_the_weight() -> None:
    tenancy = tree(a=TenantRow(weight_millis=2_000))
    tenancy.set_nodes((Node("n1", gpu_type="H100", gpu_count=4, cpu_millis=10_000, slot_count=100),))
    a = tenancy.tenant("a")
    assert (share_billionths(tenancy, a), dominant_resource(tenancy, a)) == (0, "")
    tenancy.charge(a, {"gpus": 1_000, "cpus": 1_000, "pods": 1, "workflows": 50})
    assert (share_billionths(tenancy, a), dominant_resource(tenancy, a)) == (125_000_000, "gpus")
    tenancy.set_nodes(())
    assert share_billionths(tenancy, a) == 500_000_000


def test_changes_are_told_once() -> None:
    tenancy = Tenancy()
    a = tenancy.tenant("a")
    tenancy.charge(a, {"pods": 1})
    tenancy.charge(a, {"pods": 1})
    assert [node.path for node in tenancy.take_changed()] == ["a", ""]
    assert tenancy.take_changed() == []
    tenancy.discharge(a, {"pods": 1})
    assert [node.path for node in tenancy.take_changed()] == ["a", ""]


def test_idle_nodes_are_forgotten_and_others_are_not() -> None:
    tenancy = tree(a__x=TenantRow(), c=TenantRow(parent="b"))
    tenancy.tenant("p/q")
    tenancy.charge(tenancy.tenant("r/s"), {"pods": 1})
    assert tenancy.new_count("p/q", "p/new", "n/m/o", "n/m") == 4
    tenancy.drop_idle()
    assert sorted(tenancy.nodes) == ["", "a", "a/x", "b", "c", "r", "r/s"]


# --------------------------------------------------------------------------------------------------- decayed usage

HALF_LIFE_MS = 64_000


def past_after(*spans: tuple[int, int], half_life_ms: int = HALF_LIFE_MS) -> int:
    """Decayed GPUs (thousandths) of a tenant that held so many, for so many ms, one after the other."""
    tenancy = Tenancy(half_life_ms)
    a, now_ms = tenancy.tenant("a"), 0
    for held, ms in spans:
        if held:
            tenancy.charge(a, {"gpus": held})
        now_ms += ms
        tenancy.advance(now_ms)
        if held:
            tenancy.discharge(a, {"gpus": held})
    return tenancy.past_of(a).get("gpus", 0)


def test_what_was_held_is_forgotten_by_half_in_each_half_life() -> None:
    assert past_after((8_000, HALF_LIFE_MS)) == 4_000
    assert past_after((8_000, 3 * HALF_LIFE_MS)) == 7_000
    assert past_after((8_000, HALF_LIFE_MS), (0, HALF_LIFE_MS)) == 2_000
    assert past_after((8_000, 100 * HALF_LIFE_MS)) == 8_000
    assert past_after((8_000, HALF_LIFE_MS), (0, 100 * HALF_LIFE_MS)) == 0


@given(st.lists(st.tuples(st.integers(0, 8_000), st.integers(0, 2_000)), max_size=6))
def test_decayed_usage_is_near_the_integral(spans: list[tuple[int, int]]) -> None:
    """Held over whole ticks, against the formula in floating point."""
    exact = 0.0
    for held, ticks in spans:
        exact = held + (exact - held) * 2 ** (-ticks / TICKS)
    found = past_after(*((held, ticks * HALF_LIFE_MS // TICKS) for held, ticks in spans))
    assert abs(found - exact) <= len(spans) + 1


def test_a_share_counts_what_is_held_or_what_was() -> None:
    tenancy = Tenancy(HALF_LIFE_MS)
    tenancy.set_nodes((Node("n1", gpu_count=8),))
    a = tenancy.tenant("a")
    tenancy.charge(a, {"gpus": 8_000})
    assert share_billionths(tenancy, a) == 10**9, "at once"
    tenancy.advance(HALF_LIFE_MS)
    tenancy.discharge(a, {"gpus": 8_000})
    assert share_billionths(tenancy, a) == 10**9 // 2
    tenancy.take_changed()
    tenancy.advance(2 * HALF_LIFE_MS)
    assert a in tenancy.take_changed(), "time alone changes it"
    assert share_billionths(tenancy, a) == 10**9 // 4
    tenancy.advance(0)
    assert share_billionths(tenancy, a) == 10**9 // 4, "a clock that is set back changes nothing"


def test_without_a_half_life_time_plays_no_part() -> None:
    assert past_after((8_000, HALF_LIFE_MS), half_life_ms=0) == 0
