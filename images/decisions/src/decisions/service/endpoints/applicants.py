"""DELETE /v1/applicants/{applicant_id}/inputs: the right to be forgotten."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field
from starlette.convertors import Convertor, register_url_convertor

from decisions.reading.forgetting import forget_inputs
from decisions.service.access import Forgetter
from decisions.service.endpoints.common import Text, problems, service_of

router = APIRouter(tags=["applicants"])


class _AnyText(Convertor[str]):
    """A part of a path with slashes and line ends, as applicants' ids may have; Starlette's `path` has no line ends."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("text", _AnyText())


class Forgotten(BaseModel):
    """What was deleted."""

    decisions: int = Field(description="How many decisions lost their inputs; 0 if the applicant has none")


@router.delete("/v1/applicants/{applicant_id:text}/inputs", responses=problems(), operation_id="forgetApplicant")
async def delete_inputs(
    request: Request, client: Forgetter, applicant_id: Annotated[Text, Path(description="As the applications had it")]
) -> Forgotten:
    """Delete an applicant's inputs; the decisions and the proof of them stay.

    Who asked and when is kept, without the applicant's id. The archive's next run deletes them there.
    """
    async with service_of(request).database.connection() as connection:
        return Forgotten(decisions=await forget_inputs(connection, applicant_id, client))
