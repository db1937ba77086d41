"""How the results of simulations look on stdout: tables side by side, or JSON. Called by `simulate`.

Never here: figures (`ffd.simulate.result`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ffd.cli import output, terminal
from ffd.cli.output import Column

if TYPE_CHECKING:
    from ffd.simulate.result import Result, Share, SizeWaits

STARTS_SHOWN_COUNT = 20
ALL = ""  # the name of the total


def show(results: list[Result], form: str, *, with_starts: bool) -> None:
    """Several results of the same stand below each other, a line for each policy. `with_starts`: also when that starts
    which was there at the begin."""
    if form == "json":
        output.write(output.encode(results[0] if len(results) == 1 else results, indent=2) + "\n")
        return
    first, many = results[0], len(results) > 1
    there = dict.fromkeys(f"{result.capacity:g} {result.unit}s" for result in results)
    rooms = [f"{result.label}: {result.capacity:g} {result.unit}s" for result in results]
    length = terminal.duration(max(result.end_ms - result.begin_ms for result in results))
    output.write(f"simulated {length} on {', '.join(rooms if len(there) > 1 else there)}\n\n")
    names = [*sorted({share.tenant for result in results for share in result.tenants}), ALL]
    shares = [(result.label, share) for name in names for result in results for share in _shares(result, name)]
    output.write(output.table(shares, _columns(first.unit, many)))
    least = sorted({size.least for result in results for size in result.sizes})
    sizes = [(result.label, size) for low in least for result in results for size in _sizes(result, low)]
    if sizes:
        output.write("\n" + output.table(sizes, _size_columns(first.unit, many)))
    if with_starts:
        for result in results:
            _show_starts(result, many)
    for result in results:
        for note in result.notes:
            terminal.say(f"note: {result.label + ': ' if many else ''}{note}")


def _shares(result: Result, tenant: str) -> list[Share]:
    return [share for share in (*result.tenants, result.total) if share.tenant == tenant]


def _sizes(result: Result, least: int) -> list[SizeWaits]:
    return [size for size in result.sizes if size.least == least]


def _show_starts(result: Result, many: bool) -> None:
    if not result.starts:
        return
    title = f"STARTS, {result.label}" if many else "STARTS"
    columns = [
        Column(title, lambda start: start.name),
        Column("PROJECT", lambda start: start.tenant),
        Column("IN", lambda start: "not by then" if start.in_s < 0 else _seconds(start.in_s), right=True),
        Column("WAITED IN ALL", lambda start: _seconds(start.waited_s), right=True),
        Column("NODES", lambda start: start.nodes),
    ]
    output.write("\n" + output.table(result.starts[:STARTS_SHOWN_COUNT], columns))
    more = len(result.starts) - STARTS_SHOWN_COUNT
    if more > 0:
        terminal.say(f"note: {more} more starts with -o json")


def _seconds(value: float) -> str:
    return terminal.duration(round(value * 1_000))


def _columns(unit: str, many: bool) -> list[Column]:
    policy = [Column("POLICY", lambda row: row[0])] if many else []
    return [
        Column("PROJECT", lambda row: row[1].tenant or "(all)"),
        *policy,
        Column("GANGS", lambda row: str(row[1].gangs), right=True),
        Column("STARTED", lambda row: str(row[1].started), right=True),
        Column("FAILED", lambda row: str(row[1].failed), right=True),
        Column("WAITING", lambda row: str(row[1].waiting), right=True),
        Column("MEAN WAIT", lambda row: _seconds(row[1].wait.mean_s), right=True),
        Column("P50", lambda row: _seconds(row[1].wait.p50_s), right=True),
        Column("P99", lambda row: _seconds(row[1].wait.p99_s), right=True),
        Column("MAX", lambda row: _seconds(row[1].wait.max_s), right=True),
        Column(f"{unit.upper()}-HOURS", lambda row: f"{row[1].used_hours:,.1f}", right=True),
        Column("USED", lambda row: f"{100 * row[1].utilisation:.1f}%", right=True),
        Column("PREEMPTED", lambda row: str(row[1].preemptions), right=True),
        Column("LOST HOURS", lambda row: f"{row[1].lost_hours:,.1f}", right=True),
    ]


def _size_columns(unit: str, many: bool) -> list[Column]:
    def span(row: Any) -> str:
        least, most = row[1].least, row[1].most
        return f"{least}" if least == most else f"{least}-{most}" if most else f"{least}+"

    policy = [Column("POLICY", lambda row: row[0])] if many else []
    return [
        Column(f"GANG {unit.upper()}S", span),
        *policy,
        Column("SETTLED", lambda row: str(row[1].wait.count), right=True),
        Column("MEAN WAIT", lambda row: _seconds(row[1].wait.mean_s), right=True),
        Column("P50", lambda row: _seconds(row[1].wait.p50_s), right=True),
        Column("P90", lambda row: _seconds(row[1].wait.p90_s), right=True),
        Column("P99", lambda row: _seconds(row[1].wait.p99_s), right=True),
        Column("MAX", lambda row: _seconds(row[1].wait.max_s), right=True),
    ]
