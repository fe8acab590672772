"""`creditrisk timeline` and `creditrisk training-data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import msgspec
import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from creditrisk.errors import FAILED, USAGE, CommandError
from creditrisk.options import Json, Since, Until, client_of
from creditrisk.output import local_time, write, write_json, write_table

_FORMATS = {".parquet": "parquet", ".csv": "csv"}
_EVENT_COLUMNS = ("TIME", "EVENT", "VERSION", "STABLE", "CANARY", "WEIGHT", "BY", "MESSAGE")
_PERIOD_COLUMNS = ("FROM", "TO", "STABLE", "CANARY", "WEIGHT")
_COUNTS = ("rows", "repaid", "defaulted", "rejected", "undecided", "too_young", "forgotten")


def timeline(
    context: typer.Context,
    model: str,
    since: Since = None,
    until: Until = None,
    events: Annotated[bool, typer.Option("--events", help="Show the events instead of the periods.")] = False,
    as_json: Json = False,
) -> None:
    """Show which version of a model was stable and which canary had what weight, from when to when."""
    query = {"from": since, "to": until}
    found = client_of(context).request("GET", f"/v1/models/{quote(model, safe='')}/timeline", query=query)
    if as_json:
        write_json(found)
    elif events:
        write_table(_EVENT_COLUMNS, map(_event, found["events"]), "no events")
    else:
        write_table(_PERIOD_COLUMNS, map(_period, found["periods"]), "no events")
    if not as_json and not found["complete"]:
        write("there is more: ask for a part with --from and --to")


def training_data(
    context: typer.Context,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file that ends in .parquet or .csv; without "
                                                "one, only count.")] = None,
    since: Since = None,
    until: Until = None,
    matured: Annotated[str, typer.Option(help="How old a decision must be.")] = "12m",
    target: Annotated[str | None, typer.Option(help="The name of the column with the outcome.")] = None,
    repaid: Annotated[str | None, typer.Option(help="Its label of a loan that was repaid.")] = None,
    defaulted: Annotated[str | None, typer.Option(help="Its label of a loan that defaulted.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Build the training table from decisions and matured outcomes, and say what is not in it."""
    client = client_of(context)
    query: dict[str, str | int | None] = {
        "from": since, "to": until, "matured": matured, "target": target, "repaid": repaid, "defaulted": defaulted,
    }  # fmt: skip
    if output is None:
        summary = client.request("GET", "/v1/training-data", query={**query, "format": "summary"})
    else:
        form = _FORMATS.get(output.suffix.lower())
        if form is None:
            raise CommandError(f"{output}: the name must end in {' or '.join(_FORMATS)}", USAGE)
        with client.download("/v1/training-data", {**query, "format": form}) as answer:
            _save(answer, output)
            summary = msgspec.json.decode(answer.headers["training-data"])
    if as_json:
        write_json(summary)
        return
    write_table(("COUNT", "DECISIONS"), [(name.replace("_", " "), summary[name]) for name in _COUNTS], "")
    write(f"sha256 of the rows: {summary['digest']}")
    if summary["rejected"]:
        write(f"{summary['rejected']} rejected applicants have no outcome: a model that learns from this table knows "
              "nothing of them")  # fmt: skip


def _save(answer: httpx.Response, output: Path) -> None:
    """Write an answer's body to a file, which is there only when it is complete."""
    partial = output.with_name(f".{output.name}.partial")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TimeElapsedColumn())
    try:
        with partial.open("wb") as file, Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(output.name, total=None)
            for piece in answer.iter_bytes():
                file.write(piece)
                progress.advance(task, len(piece))
        partial.replace(output)
    except OSError as error:
        raise CommandError(f"cannot write {output}: {error}", FAILED) from error
    finally:
        partial.unlink(missing_ok=True)


def _period(period: dict[str, Any]) -> tuple[object, ...]:
    return (local_time(period["since"]), "now" if period["until"] is None else local_time(period["until"]),
            period["stable_version"], period["canary_version"], _weight(period))  # fmt: skip


def _event(event: dict[str, Any]) -> tuple[object, ...]:
    judgment = event["judgment"]
    message = event["message"] or (judgment and judgment["verdict"])
    return (local_time(event["happened_at"]), event["kind"], event["version"], event["stable_version"],
            event["canary_version"], _weight(event), event["moved_by"], message)  # fmt: skip


def _weight(entry: dict[str, Any]) -> str | None:
    if entry["canary_version"] is None:
        return None
    return "shadow" if entry["mode"] == "shadow" else f"{entry['weight']} %"
