"""`/api/lab/boards`: the demo's boards over HTTP, for administrators. Only a demo has these routes."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from gateway.api.callers import Admin, device_id
from gateway.api.pages import Page
from gateway.lab.boards import Boards, SeatedBoard
from meshwire.errors import MeshwireError

__all__ = ["router"]


class BoardRecord(BaseModel):
    """The board of a NIC."""

    mac: str
    port: str
    profile: str
    simulated: bool
    state: str


class BoardRecords(BaseModel):
    """All boards."""

    boards: list[BoardRecord]


class NewBoard(BaseModel):
    """What takes the place of a NIC's board."""

    port: str = Field(min_length=1, max_length=1024)
    """Any PORT, or `sim`."""
    profile: str | None = None


def router(boards: Boards) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["lab"])

    @routes.get("/api/lab/boards")
    async def list_boards(admin: Admin, page: Page) -> BoardRecords:
        """The board of each NIC of the demo."""
        seated = page.of(boards.seated(), lambda board: str(board.mac))
        return BoardRecords(boards=[_record(board) for board in seated])

    @routes.get("/api/lab/boards/{mac}")
    async def show_board(mac: str, admin: Admin) -> BoardRecord:
        """The board of one NIC."""
        for board in boards.seated():
            if board.record()["mac"] == device_id(mac).value:
                return _record(board)
        raise HTTPException(404, "no such NIC")

    @routes.put("/api/lab/boards/{mac}")
    async def replace_board(mac: str, body: NewBoard, admin: Admin) -> BoardRecord:
        """Give a NIC another board while it runs; subscribers notice only fresher data."""
        try:
            return _record(await boards.replace(device_id(mac), body.port, body.profile))
        except LookupError as error:
            raise HTTPException(404, str(error)) from None
        except (ValueError, MeshwireError) as error:
            raise HTTPException(422, str(error)) from None

    return routes


def _record(board: SeatedBoard) -> BoardRecord:
    return BoardRecord.model_validate(board.record())
