"""A Ceph object gateway (RGW) with S3 on loopback: one monitor, one OSD that keeps its data in memory, one gateway."""

import contextlib
import json
import secrets
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from botocore.credentials import Credentials

from support.servers import HANG, eventually, free_port, program, running_program

# An OSD that is full answers no write, for ever and without an error: what is deleted must be freed soon.
OSD_BYTES = 2**30
CONFIGURATION = """\
[global]
fsid = {fsid}
mon initial members = a
mon host = v2:127.0.0.1:{mon_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
# No keys inside this cluster; and without keys there is nothing to encrypt with, on which radosgw would insist.
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms client mode = crc
admin socket =
log to stderr = false
err to stderr = true
log file = {folder}/$type.log
mon cluster log file = {folder}/cluster.log
crash dir = {folder}
client mount timeout = 120
# One of everything.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 1
[mon]
mon data = {folder}/mon
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {osd_bytes}
osd class load list = *
osd class default list = *
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw data = {folder}/rgw
rgw enable usage log = false
rgw gc obj min wait = 1
rgw gc processor period = 5
rgw gc processor max time = 5
"""


@dataclass(frozen=True)
class CephGateway:
    """A gateway that answers, and the static key of its one user."""

    port: int
    key: Credentials

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class _Cluster:
    folder: Path
    port: int

    def command(self, name: str, *arguments: str) -> list[str]:
        return [program(name, PACKAGES[name]), "-c", f"{self.folder}/ceph.conf", *arguments]

    def run(self, name: str, *arguments: str) -> str:
        done = subprocess.run(self.command(name, *arguments), capture_output=True, text=True, timeout=HANG, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def daemon(self, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        with (
            (self.folder / f"{name}.out").open("wb") as log,
            running_program(
                self.command(name, "-f", *arguments), stop=signal.SIGKILL, stdout=log, stderr=log
            ) as process,
        ):
            yield process


PACKAGES = {
    "ceph": "ceph-common",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "monmaptool": "ceph-common",
    "radosgw": "radosgw",
    "radosgw-admin": "ceph-common radosgw",
}


@contextlib.contextmanager
def ceph_gateway(folder: Path) -> Iterator[CephGateway]:
    """Run a gateway in an empty folder; nothing of it is left afterwards but its logs. It starts in ten seconds."""
    cluster = _Cluster(folder, free_port())
    _configure(cluster)
    with contextlib.ExitStack() as stack:
        stack.enter_context(cluster.daemon("ceph-mon", "-i", "a"))
        cluster.run("ceph", "osd", "create")
        cluster.run("ceph-osd", "-i", "0", "--mkfs")
        stack.enter_context(cluster.daemon("ceph-osd", "-i", "0"))
        eventually(lambda: json.loads(cluster.run("ceph", "osd", "stat", "--format", "json"))["num_up_osds"] == 1)
        gateway = stack.enter_context(cluster.daemon("radosgw", "-n", "client.rgw.a"))
        eventually(lambda: _listens(gateway, cluster))
        yield CephGateway(cluster.port, _user(cluster))


def _configure(cluster: _Cluster) -> None:
    mon_port, fsid = free_port(), str(uuid.uuid4())
    for name in ("mon", "osd", "rgw"):
        (cluster.folder / name).mkdir(mode=0o700)
    settings = {"fsid": fsid, "mon_port": mon_port, "port": cluster.port, "osd_bytes": OSD_BYTES}
    (cluster.folder / "ceph.conf").write_text(CONFIGURATION.format(folder=cluster.folder, **settings))
    monitors = f"{cluster.folder}/monmap"
    cluster.run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", "--fsid", fsid, monitors)
    cluster.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monitors)


def _listens(gateway: subprocess.Popen[bytes], cluster: _Cluster) -> bool:
    assert gateway.poll() is None, (cluster.folder / "radosgw.out").read_text()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", cluster.port), HANG):
        return True
    return False


def _user(cluster: _Cluster) -> Credentials:
    key = Credentials("RGW" + secrets.token_hex(8).upper(), secrets.token_hex(20))
    named = ["--uid", "backend", "--display-name", "backend"]
    keyed = ["--access-key", key.access_key, "--secret-key", key.secret_key]
    cluster.run("radosgw-admin", "-n", "client.rgw.a", "user", "create", *named, *keyed)
    return key
