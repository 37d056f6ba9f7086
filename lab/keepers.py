# SPDX-License-Identifier: Apache-2.0
"""Keepers of ownership records other than files: etcd, and a lock LUN of tgt, both in the namespace `san`."""

import os

from lablib import wait_for

ETCD_PORT, ISCSI_PORT = 2379, 3260
TARGET = "iqn.2026-01.org.example:locks"


def start_etcd(lab):
    """Also again, with what it had written."""
    url = f"http://{lab.address('san')}:{ETCD_PORT}"
    lab.start("san", "etcd", "etcd", "--data-dir", lab.dir / "etcd", "--listen-client-urls", url, "--advertise-client-urls", url,
              "--listen-peer-urls", "http://127.0.0.1:2380")
    wait_for(lambda: "true" in lab.run("san", "curl", "-s", f"{url}/health", check=False).stdout, 20, "etcd answers")


def start_tgtd(lab):
    """Also again, with what it had written."""
    environment = {**os.environ, "TGT_IPC_SOCKET": str(lab.dir / "tgt")}
    image = lab.dir / "locks.img"
    if not image.exists():
        image.write_bytes(bytes(1 << 20))

    def tgtadm(*words):
        return lab.run("san", "tgtadm", "-C", "1", "--lld", "iscsi", "--op", *words, check=False, env=environment).returncode == 0
    lab.start("san", "tgtd", "tgtd", "-f", "-C", "1", env=environment)
    wait_for(lambda: tgtadm("new", "--mode", "target", "--tid", "1", "-T", TARGET), 20, "tgtd answers")
    assert tgtadm("new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", str(image))
    assert tgtadm("bind", "--mode", "target", "--tid", "1", "-I", "ALL")


def groups(lab, place):
    """Of lpm-host's configuration on that system."""
    return {
        "arbiter:etcd": {"endpoints": f"http://{lab.address('san')}:{ETCD_PORT}"},
        "arbiter:scsi": {"portal": f"{lab.address('san')}:{ISCSI_PORT}", "target": TARGET, "lun": "1",
                         "initiator": f"iqn.2026-01.org.example:{place}"},
    }


# arbiter -> (name of its process in the lab, what starts it)
SERVERS = {"etcd": ("etcd", start_etcd), "scsi": ("tgtd", start_tgtd)}
