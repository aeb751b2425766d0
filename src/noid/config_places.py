# SPDX-License-Identifier: MIT
"""Default paths of the configuration and the control socket, for commands and programs.

NOID_CONFIG and NOID_SOCKET in the environment override them; ``noid lab exec`` sets both.
"""

import os
from pathlib import Path
from typing import Final

from noid.config import DEFAULT_SOCKET, Config, load_config
from noid.errors import ConfigError

USUAL_CONFIG: Final = Path("/etc/noid.toml")


def named_config() -> Path | None:
    """The configuration that the environment names, which must exist; None if it names none."""
    name = os.environ.get("NOID_CONFIG")
    return None if name is None else Path(name)


def config_file(named: Path | None) -> Path | None:
    """The named file, else the default file if it exists, else None."""
    if named is not None:
        return named
    return USUAL_CONFIG if USUAL_CONFIG.exists() else None


def configuration_in(named: Path | None) -> Config:
    """The configuration from the named file or the default file; defaults if there is no file.

    Raises:
        ConfigError: the file is rejected.
    """
    path = config_file(named)
    return Config() if path is None else load_config(path)


class ConfigReader:
    """Reads the configuration of a daemon, again for each reload.

    Args:
        named: the named file; None for the default file, or defaults if there is no file.
    """

    def __init__(self, named: Path | None) -> None:
        self.path = named

    def __call__(self) -> Config:
        """The configuration.

        Raises:
            ConfigError: the file is rejected, or one that was read before is missing.
        """
        path = config_file(self.path)
        if path is None:
            return Config()
        config = load_config(path)
        self.path = path
        return config


def control_socket(text: str = "") -> Path:
    """The path of the daemon's socket; the default path for an empty text."""
    text = text or os.environ.get("NOID_SOCKET", "")
    if text:
        return Path(text)
    try:
        return Path(configuration_in(named_config()).control.socket)
    except ConfigError:  # a daemon may run nevertheless; noid check prints the reason
        return DEFAULT_SOCKET
