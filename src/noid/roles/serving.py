# SPDX-License-Identifier: MIT
"""Metrics for those who want them, from a host or a border."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from noid.errors import PlatformError

logger = logging.getLogger("noid")


async def serve_metrics(
    listen: str,
    status: Callable[[], dict[str, Any]],
    paths: Callable[[], dict[str, Any]] | None,
    stack: contextlib.AsyncExitStack,
) -> None:
    """Serves metrics until the stack unwinds; noid runs without them where that fails.

    Args:
        listen: address and port.
        status: what the daemon says of itself.
        paths: what a host says of its uplinks; None: this is a border.
        stack: closes the port.
    """
    try:
        from noid.roles.metrics import BorderFacts, Facts, MetricsServer
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "prometheus_client":
            raise
        logger.warning("metrics: prometheus-client is missing: pip install 'noid-m6[metrics]'")
        return
    facts = BorderFacts(status) if paths is None else Facts(status, paths)
    server = MetricsServer(listen, facts)
    try:
        await server.start()
    except PlatformError as error:
        logger.warning("metrics: %s", error)
        return
    stack.push_async_callback(server.stop)
