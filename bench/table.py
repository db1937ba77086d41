"""How a bench prints what it found."""

from __future__ import annotations


def show(rows: list[tuple[str, str, str]]) -> None:
    """(what, figure, remark) lines, aligned."""
    width = max(len(row[0]) for row in rows)
    figure = max(len(row[1]) for row in rows)
    for what, value, remark in rows:
        print(f"{what:<{width}}  {value:>{figure}}  {remark}".rstrip(), flush=True)


def verdict(value: float, must: float, aim: float, *, less: bool = False) -> str:
    """`meets aim`, `meets must` or `MISSED`, with the bars; `less`: smaller is better."""
    met_aim = value <= aim if less else value >= aim
    met_must = value <= must if less else value >= must
    word = "meets aim" if met_aim else "meets must" if met_must else "MISSED"
    sign = "<=" if less else ">="
    return f"{word} (must {sign} {must:g}, aim {aim:g})"
