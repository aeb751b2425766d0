# SPDX-License-Identifier: MIT
"""Whether the programs of this host ask noid for names."""

from pathlib import Path
from typing import Final

from noid.config import RESOLV_CONF, Config
from noid.control.asked import ASK_AGAIN, HELD, SEE_UNITS, Answering, answering
from noid.doctor import remedies
from noid.doctor.findings import Finding, Health
from noid.host.resolvconf import asked, is_asked, is_in_force
from noid.host.resolver_managers import RESOLVED, has_failed, in_charge

RESTART_RESOLVED: Final = "systemctl restart systemd-resolved"


def resolver_finding(resolv_conf: Path, config: Config, options: str, *, runs: bool) -> Finding:
    """What a resolv.conf leads to.

    Args:
        resolv_conf: the file.
        config: of the daemon.
        options: those that commands of noid need on this host.
        runs: whether the daemon answers.
    """
    try:
        servers = asked(resolv_conf)
    except OSError as error:
        return Finding("resolver", Health.UNKNOWN, f"{resolv_conf}: {error.strerror}")
    listen = config.dns.listen
    if in_charge(resolv_conf) is RESOLVED and has_failed(RESOLVED):
        found = "programs ask systemd-resolved, which has failed"
        return Finding("resolver", Health.WRONG, found, RESTART_RESOLVED)
    if is_asked(resolv_conf, listen):
        who = Answering.NOID if runs else answering(listen, Path(config.control.socket))
        # Where noid resolver on is in force, the next resolver answers while noid is stopped.
        if who is Answering.ANOTHER or not (runs or is_in_force(resolv_conf)):
            return _of_asked(listen, who)
        return Finding("resolver", Health.OK, "programs ask noid")
    found = f"programs ask {' '.join(servers) or 'no resolver'}"
    if is_in_force(resolv_conf):
        found += ", and systemd-resolved has not read its configuration since noid resolver on"
        return Finding("resolver", Health.WRONG, found, RESTART_RESOLVED)
    other = "" if resolv_conf == RESOLV_CONF else f"--resolv-conf {resolv_conf}"
    fix = remedies.with_words("noid resolver on", options, other)
    return Finding("resolver", Health.WRONG, found, fix)


def _of_asked(listen: str, who: Answering) -> Finding:
    """Of a file that names the address of the stub, while the daemon does not answer."""
    if who is Answering.ANOTHER:
        text = f"programs ask {listen}, where another program answers, not noid"
        return Finding("resolver", Health.WRONG, text, '[dns] listen = "ADDRESS", another one')
    if who is Answering.NOTHING:
        text = f"programs ask {listen}, where noid answers when it runs"
        return Finding("resolver", Health.OK, text)
    if who is Answering.HELD:
        return Finding("resolver", Health.UNKNOWN, f"programs ask {listen}: {HELD}", SEE_UNITS)
    return Finding("resolver", Health.UNKNOWN, f"programs ask {listen}", ASK_AGAIN)
