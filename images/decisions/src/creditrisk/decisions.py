"""`creditrisk decisions`: read and replay decisions, forget an applicant, verify and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

import typer

from creditrisk.client import Client
from creditrisk.errors import DIFFERENT, NOT_FOUND, REFUSED, USAGE, CommandError
from creditrisk.installed import DECISIONS, PASSED_ON, run_where_installed
from creditrisk.options import Json, Since, Until, client_of
from creditrisk.output import local_time, write, write_fields, write_json, write_table
from creditrisk.proof import ProofError, check_proof

app = typer.Typer(no_args_is_help=True, help="Read and replay decisions, forget applicants, verify and export the log.")
_PAGE = 1000


@app.command()
def get(context: typer.Context, decision_id: UUID, as_json: Json = False) -> None:
    """Show one decision: the model, the inputs, the reasons, the outcome, and the hashes that prove it."""
    found = client_of(context).request("GET", f"/v1/decisions/{decision_id}")
    if as_json:
        write_json(found)
        return
    write_fields(_fields(found))


@app.command(name="list")
def list_(
    context: typer.Context,
    applicant_id: Annotated[str | None, typer.Option(help="Only this applicant's.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Only those of this request.")] = None,
    since: Since = None,
    until: Until = None,
    version: Annotated[str | None, typer.Option(help="Only those of this version of the model.")] = None,
    role: Annotated[str | None, typer.Option(help="champion, canary, fall-back or shadow.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of an earlier list.")] = None,
    as_json: Json = False,
) -> None:
    """List decisions, newest first."""
    query = {"applicant_id": applicant_id, "request_id": request_id, "from": since, "to": until, "version": version,
             "role": role}  # fmt: skip
    found, following = _pages(client_of(context), query, limit, cursor)
    if as_json:
        write_json({"decisions": found, "next_cursor": following})
        return
    columns = ("DECISION", "TIME", "APPLICANT", "DECIDED", "PD", "POINTS", "VERSION", "ROLE", "OUTCOME")
    write_table(columns, map(_row, found), "no decisions")
    if following:
        write(f"there are more: --cursor {following}")


@app.command()
def replay(context: typer.Context, decision_id: UUID, as_json: Json = False) -> None:
    """Score a decision again with the version that made it; exit code 3 if the result is another."""
    try:
        found = client_of(context).request("POST", f"/v1/decisions/{decision_id}/replay")
    except CommandError as error:
        if error.exit_code == NOT_FOUND:
            # 3 means a difference here.
            raise CommandError(str(error), REFUSED) from error
        raise
    if as_json:
        write_json(found)
    else:
        write_table(("", "RECORDED", "RECOMPUTED", ""), _compared(found), "")
        write_fields(_basis(found))
    if not found["same"]:
        raise typer.Exit(DIFFERENT)


@app.command()
def forget(
    context: typer.Context,
    applicant_id: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete an applicant's inputs for good; decisions and their proof stay."""
    client = client_of(context)
    if not yes:
        typer.confirm(
            f"Delete the inputs of all decisions about {applicant_id}? This cannot be undone.", abort=True, err=True
        )
    found = client.request("DELETE", f"/v1/applicants/{quote(applicant_id, safe='')}/inputs")
    write_json(found) if as_json else write(f"the inputs of {found['decisions']} decisions were deleted")


@app.command()
def proof(context: typer.Context, decision_id: UUID) -> None:
    """Write what proves that a decision is in a seal, as JSON for `verify --proof`."""
    write_json(client_of(context).request("GET", f"/v1/decisions/{decision_id}/proof"))


@app.command(context_settings=PASSED_ON)
def verify(
    context: typer.Context,
    decision_id: Annotated[UUID | None, typer.Option("--id", help="Only this decision, by its proof.")] = None,
    proof_file: Annotated[Path | None, typer.Option("--proof", help="Only this proof; asks nobody.")] = None,
    seal: Annotated[Path | None, typer.Option(help="Of one decision: the seal's file from S3.")] = None,
    seal_sha256: Annotated[str | None, typer.Option(help="Of one decision: the seal's digest, from a log.")] = None,
    as_json: Json = False,
) -> None:
    """Verify hashes and seals of the log, or one decision's proof; exit code 3 if there is a difference.

    The log needs access to the database and S3, and takes --from and --to as dates.
    """
    if decision_id is None and proof_file is None:
        if seal or seal_sha256:
            raise CommandError("--seal and --seal-sha256 are of one decision: name it by --id or --proof", USAGE)
        raise typer.Exit(run_where_installed(DECISIONS, "verify", [*context.args, *(["--json"] if as_json else [])]))
    if context.args or (decision_id and proof_file):
        raise CommandError("--id or --proof names one decision, and takes no other arguments of the log's", USAGE)
    url = f"/v1/decisions/{decision_id}/proof"
    found = client_of(context).request("GET", url) if proof_file is None else _proof_in(proof_file)
    try:
        shown = check_proof(found, None if seal is None else _content(seal), seal_sha256 and seal_sha256.lower())
    except ProofError as error:
        raise CommandError(str(error), NOT_FOUND) from error
    write_json(shown) if as_json else write_fields(list(shown.items()))


@app.command(context_settings=PASSED_ON)
def export(context: typer.Context) -> None:
    """Export a range to a Parquet file on disk or in S3. Needs access to the database and S3."""
    raise typer.Exit(run_where_installed(DECISIONS, "export", context.args))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}", USAGE) from error


def _proof_in(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_content(file))
    except ValueError as error:
        raise CommandError(f"{file} is no JSON: {error}", USAGE) from error
    return found


def _pages(
    client: Client, query: dict[str, str | None], limit: int, cursor: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    found: list[dict[str, Any]] = []
    while len(found) < limit:
        size = min(limit - len(found), _PAGE)
        page = client.request("GET", "/v1/decisions", query={**query, "limit": size, "cursor": cursor})
        found += page["decisions"]
        if (cursor := page["next_cursor"]) is None:
            break
    return found, cursor


def _row(decision: dict[str, Any]) -> tuple[object, ...]:
    outcome = decision["outcome"]
    return (
        decision["decision_id"],
        local_time(decision["decided_at"]),
        "(forgotten)" if decision["forgotten"] else decision["applicant_id"],
        decision["decision"],
        f"{decision['probability_of_default']:.4f}",
        decision["score_points"],
        decision["model"]["version"],
        decision["role"],
        outcome and outcome["outcome"],
    )


def _fields(decision: dict[str, Any]) -> list[tuple[str, object]]:
    model, outcome, log = decision["model"], decision["outcome"], decision["log"]
    sealed = decision["sealed"]
    reasons = decision["reasons"]
    known = f"{outcome['outcome']}, observed {local_time(outcome['observed_at'])}" if outcome else None
    fields: list[tuple[str, object]] = [
        ("decision", f"{decision['decision']} {decision['decision_id']}"),
        ("time", local_time(decision["decided_at"])),
        ("probability of default", decision["probability_of_default"]),
        ("points, grade", f"{decision['score_points']}, {decision['grade'] or '-'}"),
        ("reasons", "not asked for" if reasons is None else ", ".join(reasons)),
        ("model", f"{model['name']} {model['version']} ({decision['role']})"),
        *((f"  {name}", digest) for name, digest in model["digests"].items()),
        ("request", f"{decision['request_id']}, row {decision['row']}, by {decision['client'] or '-'}"),
        ("applicant", "(forgotten)" if decision["forgotten"] else decision["applicant_id"]),
        *((f"  {name}", _value(value)) for name, value in (decision["inputs"] or {}).items()),
        ("outcome", known),
        ("record", f"{log['id']} {log['sequence']}"),
        ("hash", log["hash"]),
        ("sealed", f"{sealed['day']} {sealed['sha256']}" if sealed else "not yet"),
    ]
    return fields


def _compared(replay: dict[str, Any]) -> list[tuple[object, ...]]:
    recorded, recomputed, differences = replay["recorded"], replay["recomputed"], set(replay["differences"])
    rows = [
        ("probability of default", "probability_of_default", "probability_of_default"),
        ("  its bits", "probability_bits", "probability_of_default"),
        ("points", "score_points", "score_points"),
        ("decision", "decision", "decision"),
        ("grade", "grade", "grade"),
        ("reasons", "reasons", "reasons"),
    ]
    return [
        (words, _listed(recorded[name]), _listed(recomputed[name]), "different" if part in differences else "same")
        for words, name, part in rows
    ]


def _basis(replay: dict[str, Any]) -> list[tuple[str, object]]:
    model, runtime = replay["model"], replay["runtime"]
    hashed = "not those that were hashed" if "inputs" in replay["differences"] else "as they were hashed"
    return [
        ("result", "same" if replay["same"] else f"different: {', '.join(replay['differences'])}"),
        ("inputs", hashed),
        ("model", f"{model['name']} {model['version']}"),
        *((f"  {name}", f"{model['digests'][name]} from the {place}") for name, place in replay["artifacts"].items()),
        ("rows at once", replay["rows"]),
        ("scorer", runtime["scorer_sha256"]),
        ("onnxruntime", f"{runtime['onnxruntime']} on {runtime['cpu'] or runtime['machine']}"),
        ("cpu features", " ".join(runtime["cpu_features"])),
    ]


def _listed(value: object) -> object:
    return ", ".join(value) or "none" if isinstance(value, list) else value


def _value(value: object) -> object:
    return "missing" if value is None else "(other)" if isinstance(value, dict) else value
