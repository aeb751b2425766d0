# SPDX-License-Identifier: MIT
"""A machine that systemd has booted, as process 1 of its own namespaces.

It has a control group of its own, and /sys read-only, so that udev is not started.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from noid.lab.inventory import GROUPS
from noid.lab.lab import Lab
from noid.lab.waiting import wait_for
from tests.packaging.machine import LIMIT_S, SEARCHED, Machine

ENTER: Final = """
echo $$ >{group}/cgroup.procs
exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup sh -ec '{boot}'
"""
BOOT: Final = """
mount --make-rprivate / && mount -t tmpfs -o mode=0755 none {place}
mkdir {place}/upper {place}/work {place}/root
mount -t overlay -o lowerdir={below},upperdir={place}/upper,workdir={place}/work none {place}/root
cat /etc/resolv.conf >{place}/root/etc/resolv.conf
cat /etc/nsswitch.conf >{place}/root/etc/nsswitch.conf
cd {place}/root
mount -t proc none proc && mount -t sysfs -o ro none sys
mount -t cgroup2 none sys/fs/cgroup && mount -t bpf none sys/fs/bpf
mount -t tmpfs -o mode=0755 none run && mount -t tmpfs -o mode=0755 none dev
mount -t tmpfs -o mode=1777 none tmp
for name in null zero full random urandom; do : >dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/net dev/shm && mknod -m 0666 dev/net/tun c 10 200
: >{place}/ready
exec env -i container=other PATH={path} chroot . /lib/systemd/systemd --unit=basic.target
"""
BOOTED: Final = ("running", "degraded")
"""A unit of the system that fails here is no fault of noid."""
POLICY: Final = "usr/sbin/policy-rc.d"
"""Images of containers have it: packages do not start services."""


class Booted(Machine[Lab]):
    """The machine."""

    def script(self) -> str:
        """Enters the control group, and boots."""
        boot = BOOT.format(place=self.place, below=self.below, path=SEARCHED)
        return ENTER.format(group=group_of(self.lab), boot=boot)

    def command(self, *words: str, online: bool = False) -> list[str]:
        """The command line that runs a command on the machine; it is never online."""
        assert not online
        pid = self.holder.pid
        inner = f"--pid=/proc/{pid}/ns/pid_for_children"
        spaces = ("--mount", "--net", "--uts", "--ipc", "--cgroup", inner)
        root = f"{self.place}/root"
        return ["nsenter", f"--target={pid}", *spaces, "chroot", root, "env", "PWD=/", *words]

    def wait_for_boot(self) -> None:
        """Returns when systemd has started what it starts."""
        self.until(lambda: self.says("systemctl", "is-system-running") in BOOTED)

    def says(self, *words: str) -> str:
        """What a command prints in its first line, with any exit status."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=LIMIT_S)
        return done.stdout.partition("\n")[0]

    def value(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.says("systemctl", "show", "--value", f"--property={name}", unit)


@contextlib.contextmanager
def booted(lab: Lab, node: str, place: Path, below: Path) -> Iterator[Booted]:
    """Boots, and removes everything."""
    group = group_of(lab)
    for directory in (group, place):
        directory.mkdir()
    try:
        machine = Booted(lab, node, place, below)
        try:
            machine.wait_for_boot()
            machine.path(POLICY).unlink(missing_ok=True)
            yield machine
        finally:
            machine.close()
    finally:
        wait_for("the control group is empty", lambda: is_removed(group), LIMIT_S)


def group_of(lab: Lab) -> Path:
    """The control group of the machine; every lab sees all groups."""
    return lab.directory / GROUPS / f"{lab.name}-booted"


def is_removed(group: Path) -> bool:
    """Removes a control group and those in it, once no process is left in them."""
    inner = sorted((one for one in group.rglob("*") if one.is_dir()), reverse=True)
    with contextlib.suppress(OSError):
        for one in (*inner, group):
            one.rmdir()
    return not group.exists()
