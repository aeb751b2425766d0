# SPDX-License-Identifier: MIT
"""A SQLite file of the state directory: what the stored contexts and the history share."""

import sqlite3
from pathlib import Path

from noid.state import files


class DatabaseFile:
    """A SQLite file that is open while it can be used, and its problems.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trouble = files.Trouble(path)
        self._database: sqlite3.Connection | None = None

    def close(self) -> None:
        """Closes the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    @property
    def trouble(self) -> str:
        """Why the file cannot be written, for people; empty if it can."""
        return self._trouble.text

    @property
    def troubles(self) -> list[str]:
        """The problems of the file, for people."""
        return self._trouble.texts
