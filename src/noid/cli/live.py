# SPDX-License-Identifier: MIT
"""The screen of ``noid top``: a table of uplinks and recent events, updated twice a second."""

import asyncio
from pathlib import Path
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Static

from noid.cli.history import history_cells
from noid.cli.paths import COLUMNS, cells
from noid.control.client import ask
from noid.errors import ShimError
from noid.text import printable

REFRESH_S: Final = 0.5
EVENTS_SHOWN: Final = 12
STYLES: Final = {"up": "green", "degraded": "yellow", "down": "bold red"}


class Top(App[None]):
    """The application.

    Args:
        socket: of the daemon.
    """

    TITLE = "noid top"
    CSS = "DataTable { height: auto; } #events { height: 1fr; padding: 1 0; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(self, socket: Path) -> None:
        super().__init__()
        self.socket = socket

    def compose(self) -> ComposeResult:
        """What is on the screen."""
        yield DataTable(id="uplinks", cursor_type="none")
        yield Static(id="events", markup=False)
        yield Static(id="trouble", markup=False)
        yield Footer()

    async def on_mount(self) -> None:
        """Queries the daemon now, and then at intervals."""
        self.query_one(DataTable).add_columns(*COLUMNS)
        await self.refresh_now()
        self.set_interval(REFRESH_S, self.refresh_now)

    async def refresh_now(self) -> None:
        """Queries the daemon; shows the error if it does not answer."""
        trouble = ""
        try:
            paths = await asyncio.to_thread(ask, self.socket, "paths")
            count = {"count": EVENTS_SHOWN}
            history = await asyncio.to_thread(ask, self.socket, "history", count)
        except (ShimError, OSError) as error:
            trouble = str(error)
        else:
            self._show(paths, history)
        self.query_one("#trouble", Static).update(printable(trouble))

    def _show(self, paths: dict[str, Any], history: dict[str, Any]) -> None:
        table: DataTable[Any] = self.query_one(DataTable)
        table.clear()
        for uplink in paths["uplinks"]:
            style = STYLES.get(uplink["state"], "")
            table.add_row(*(Text(one, style=style) for one in cells(uplink, paths["now"])))
        lines = ["  ".join(history_cells(one, history["now"])) for one in history["events"]]
        self.query_one("#events", Static).update("\n".join(lines) or "nothing has happened yet")
