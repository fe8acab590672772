"""Print what it takes to score so many requests per second and so many rows a night.

    python benchmarks/scale/capacity.py [--requests-per-second 100000] [--rows-per-night 1e9] [--zones 3]
        [--headroom 0.3] [--decision-log log] [--vcpu-hour-price 0.05] [--json] ...

Every field of `Demand` in scale_plan.py is an option. The constants and their sources are in constants.toml;
docs/scale.md says what follows from them, and what is not measured.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

from pydantic import ValidationError  # noqa: E402
from scale_constants import read_constants  # noqa: E402
from scale_plan import Demand, Plan, When, plan  # noqa: E402


def demand_of(arguments: Sequence[str] | None) -> tuple[Demand, bool]:
    """Return the demand that the command line describes, and whether JSON is asked for.

    Raises:
        SystemExit: An option is unknown or out of range; the message names it and what is allowed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, field in Demand.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, default=field.default, help=f"default: {field.default}")
    parser.add_argument("--json", action="store_true", help="print the plan for a program")
    given = vars(parser.parse_args(arguments))
    as_json = given.pop("json")
    try:
        return Demand.model_validate(given), as_json
    except ValidationError as error:
        wrong = "; ".join(f"--{str(one['loc'][0]).replace('_', '-')}: {one['msg']}" for one in error.errors())
        parser.error(wrong)


def bridged(found: Plan) -> list[str]:
    """Return for how long decisions may wait, if any are kept."""
    if math.isinf(found.bridged_seconds):
        return []
    return [f"- A pod's disk takes decisions without Postgres for {found.bridged_seconds / 60:.0f} minutes."]


def table(found: Plan) -> str:
    """Return the plan as Markdown."""
    asked, nodes = found.demand, found.nodes
    by_when = ", ".join(f"{nodes[when]:,} {when}" for when in When)
    hours, cost = found.vcpu_hours_per_million_scores, found.cost_per_million_scores
    lines = ["| part | when | pods | cores | GiB |", "|---|---|---|---|---|"]
    lines += [f"| {one.name} | {one.when} | {one.count:,} | {one.cores:,.0f} | {one.gib:,.0f} |" for one in found.parts]
    lines += [
        "",
        f"- Nodes of {asked.cores_per_node} cores: {by_when}.",
        f"- A million scores: {hours:.3f} vCPU hours, {cost:.4f} at {asked.vcpu_hour_price:g} an hour.",
        f"- A million rows at night: {found.cost_per_million_rows:.5f}.",
        f"- Stacks, each with its own Postgres and decision log: {found.stacks:,}.",
        *bridged(found),
        "",
        "| what saturates in one stack | from requests/s at the peak | what moves it |",
        "|---|---|---|",
    ]
    lines += [f"| {one.part} | {one.requests_per_second:,.0f} | {one.remedy} |" for one in found.ceilings]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the plan."""
    demand, as_json = demand_of(arguments)
    try:
        found = plan(demand, read_constants())
    except ValueError as error:
        raise SystemExit(f"capacity.py: {error}") from None
    print(found.model_dump_json(indent=2) if as_json else table(found))


if __name__ == "__main__":
    main()
