# SPDX-License-Identifier: Apache-2.0
"""A Pacemaker cluster in the lab: real Corosync and Pacemaker. A member is a partition that OpenLPM moves (add_partition), or
namespaces of its own; all are on the partitions' network."""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess

from lablib import MANAGEMENT, PARTITIONS, LabError, command, image, wait_for

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
AGENTS = ROOT / "src" / "guest" / "pacemaker"
FLOATING = f"{PARTITIONS}.90"   # the service's address
FIRST = 100                     # member N has address .100+N
PROCESSOR_SHARE = 60            # s: everything here takes longer when the machine is busy
PARTITION_SHARE = 600           # s: and much longer in an emulated partition
MEMBER_MIB = 512
ROOT_MIB = 420                  # CLUSTER_ROOT of lab/guest/build
NGINX_CONF = HERE.parent / "guest" / "cluster" / "files" / "etc" / "lab" / "nginx.conf"

COROSYNC = """totem {{
    version: 2
    cluster_name: lab
    transport: knet
    crypto_cipher: none
    crypto_hash: none
}}
quorum {{
    provider: corosync_votequorum
    {two}
}}
logging {{
    to_logfile: yes
    logfile: /var/log/cluster/corosync.log
    to_syslog: no
    timestamp: hires
}}
nodelist {{
{nodes}
}}
"""
NODE = """    node {{
        name: {name}
        nodeid: {number}
        ring0_addr: {address}
    }}"""

# An empty cluster that decides quickly; what a case wants is added to it.
CIB = """<cib crm_feature_set="3.15.0" validate-with="pacemaker-3.7" epoch="1" num_updates="0" admin_epoch="0">
  <configuration>
    <crm_config>
      <cluster_property_set id="cib-bootstrap-options">
        <nvpair id="opt-stonith" name="stonith-enabled" value="{stonith}"/>
        <nvpair id="opt-dcdead" name="dc-deadtime" value="3s"/>
        <nvpair id="opt-quorum" name="no-quorum-policy" value="stop"/>
      </cluster_property_set>
    </crm_config>
    <nodes/>
    <resources>{resources}</resources>
    <constraints>{constraints}</constraints>
    <op_defaults><meta_attributes id="op-defaults"><nvpair id="op-timeout" name="timeout" value="60s"/></meta_attributes></op_defaults>
    <rsc_defaults><meta_attributes id="rsc-defaults"><nvpair id="stick" name="resource-stickiness" value="100"/></meta_attributes></rsc_defaults>
  </configuration>
  <status/>
</cib>
"""


class Cluster:
    """Members node1 ... nodeN; `namespaces` says which of them are namespaces here (the others are partitions)."""

    def __init__(self, lab, count=3, namespaces=None, resources="", constraints="", stonith=False):
        self.lab, self.count = lab, count
        self.here = sorted(namespaces or range(1, count + 1))
        self.resources, self.constraints, self.stonith = resources, constraints, stonith
        self.processes, self.partitions = {}, {}

    @staticmethod
    def address(number):
        return f"{PARTITIONS}.{FIRST + number}"

    def space(self, number):
        return self.lab.namespace(f"member-{number}")

    def directory(self, number):
        return self.lab.dir / f"member-{number}"

    # Files

    def corosync_conf(self):
        nodes = "\n".join(NODE.format(name=f"node{n}", number=n, address=self.address(n)) for n in range(1, self.count + 1))
        # Of two, the first must not fence the other because it has not booted yet.
        two = f"two_node: 1\n    wait_for_all: {int(self.stonith)}" if self.count == 2 else ""
        return COROSYNC.format(nodes=nodes, two=two)

    def cib(self):
        return CIB.format(resources=self.resources, constraints=self.constraints, stonith=str(self.stonith).lower())

    def hosts(self):
        return "127.0.0.1 localhost\n" + "".join(f"{self.address(n)} node{n}\n" for n in range(1, self.count + 1))

    def _write_files(self, number):
        base = self.directory(number)
        (base / "corosync" / "uidgid.d").mkdir(parents=True)
        (base / "corosync" / "corosync.conf").write_text(self.corosync_conf())
        (base / "cib.xml").write_text(self.cib())
        (base / "hosts").write_text(self.hosts())
        (base / "nginx.conf").write_text(NGINX_CONF.read_text())
        shutil.copytree(AGENTS / "ocf", base / "agents" / "openlpm")
        (base / "sbin").mkdir()
        for name in ("lpm-pacemaker", "fence_openlpm"):
            shutil.copy(AGENTS / name, base / "sbin")

    def add_partition(self, number, place):
        """Member N is a partition: made on this system, with a root file system of its own, not started yet."""
        name = f"node{number}"
        partition = self.lab.create(
            place, name, "x86-64", FIRST + number, start=False, variant="-cluster", memory_mib=MEMBER_MIB, processors=1,
            kernel_options="lpm.journal=0 lpm.mem=1 lpm.rate=0 lpm.verify=0 lpm.tick=0",
            disks=[{"name": "disk0", "pool": "san", "file": f"{name}.raw", "format": "raw", "size_mib": 16},
                   {"name": "root", "pool": "san", "file": f"{name}-root.raw", "format": "raw", "size_mib": ROOT_MIB}])
        root = partition.disk(self.lab, 1)
        owner = root.stat()
        command("cp", "--sparse=always", image("x86-64", "-cluster") / "root.ext4", root)
        os.chown(root, owner.st_uid, owner.st_gid)
        self._put_into(root, number)
        self.partitions[number] = partition
        return partition

    def _put_into(self, root, number):
        """What makes a root file system this member's, and this source tree's programs."""
        base = self.directory(number)
        base.mkdir()
        files = {"/etc/corosync/corosync.conf": self.corosync_conf(), "/etc/hosts": self.hosts(), "/etc/lab/cib.xml": self.cib()}
        programs = {"/usr/sbin/lpm-pacemaker": AGENTS / "lpm-pacemaker",
                    **{f"/usr/lib/ocf/resource.d/openlpm/{path.name}": path for path in (AGENTS / "ocf").iterdir()}}
        for place, text in files.items():
            programs[place] = base / pathlib.Path(place).name
            programs[place].write_text(text)
        requests = base / "requests"
        requests.write_text("".join(f"write {source} {place}\n" for place, source in programs.items()))
        said = command("debugfs", "-w", "-f", requests, root)
        if len(re.findall("Allocated inode", said.stdout)) != len(programs):
            raise LabError(f"root of member {number}: {said.stdout}{said.stderr}")

    # Up and down

    def up(self, timeout=PROCESSOR_SHARE):
        """Starts all members, and waits until all are online."""
        for number in self.here:
            self._write_files(number)
            self._plug(number)
            self.power_on(number)
        for partition in self.partitions.values():
            self.lab.boot(partition, patience=PARTITION_SHARE)
        if len(self.here) + len(self.partitions) == self.count:
            self.wait_online(PARTITION_SHARE if self.partitions else timeout)

    def _plug(self, number):
        space, switch = self.space(number), self.lab.namespace("switch")
        command("ip", "netns", "add", space)
        command("ip", "-n", space, "link", "set", "lo", "up")
        port = f"l-member-{number}"
        command("ip", "-n", switch, "link", "add", "name", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        command("ip", "-n", switch, "link", "set", port, "master", "lan", "up")
        command("ip", "-n", space, "link", "set", "eth0", "up")
        command("ip", "-n", space, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        # A second cable, to the console: who fences asks it.
        port = f"m-member-{number}"
        command("ip", "-n", switch, "link", "add", "name", port, "type", "veth", "peer", "name", "eth1", "netns", space)
        command("ip", "-n", switch, "link", "set", port, "master", "mgmt", "up")
        command("ip", "-n", space, "link", "set", "eth1", "up")
        command("ip", "-n", space, "addr", "add", f"{MANAGEMENT}.{FIRST + number}/24", "dev", "eth1")

    def power_on(self, number):
        argv = ["ip", "netns", "exec", self.space(number), "unshare", "-m", "-u", "-i", "-p", "--fork", "--kill-child", "--mount-proc",
                HERE / "member-init", f"node{number}", self.directory(number)]
        with open(self.lab.dir / "log" / f"member-{number}.log", "ab") as log:
            self.processes[number] = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                      start_new_session=True)
        self.lab.children.append(self.processes[number])
        self.lab.record_process(f"member-{number}", self.processes[number].pid)

    def power_off(self, number):
        """As if its plug were pulled."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._first_process(number), signal.SIGKILL)
        self.processes[number].wait(30)

    def down(self):
        for number in self.here:
            if number in self.processes and self.processes[number].poll() is None:
                self.thaw(number)
                self.power_off(number)
            command("ip", "netns", "del", self.space(number), check=False)
            shutil.rmtree(self.directory(number), ignore_errors=True)

    # What a member does

    def _first_process(self, number):
        """Process 1 of the member's process namespace."""
        parent = self.processes[number].pid
        found = wait_for(lambda: self._children(parent), 10, f"first process of member {number}")
        return found[0]

    @staticmethod
    def _children(pid):
        return [int(p) for p in command("ps", "-o", "pid=", "--ppid", pid, check=False).stdout.split()]

    def run(self, number, *argv, **options):
        """Runs a command on a member to its end."""
        if number in self.partitions:
            return self._run_in_partition(number, *argv, **options)
        if self.processes[number].poll() is not None:
            raise LabError(f"member {number} has no power")
        options.setdefault("timeout", 120)
        return command("nsenter", "-t", self._first_process(number), "-m", "-u", "-i", "-n", "-p", "--wd=/", "--", *argv, **options)

    def _run_in_partition(self, number, *argv, check=True, timeout=120):
        """The same; what it writes on standard error is among its output."""
        line = shlex.join(str(word) for word in argv)
        text = self.lab.partition_shell(self.address(number), f"export PATH=/usr/sbin:/usr/bin:/bin\n{line} </dev/null\necho \"\n<$?>\"", timeout)
        out, _, status = text.rpartition("\n<")
        result = subprocess.CompletedProcess(argv, int(status.strip().rstrip(">")), out, "")
        if check and result.returncode != 0:
            raise LabError(f"node{number}: {line}: exit {result.returncode}: {out.strip()}")
        return result

    def _signal(self, number, which):
        for pid in command("ip", "netns", "pids", self.space(number), check=False).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), which)

    def freeze(self, number):
        """All processes of the member stand still; its clock goes on."""
        self._signal(number, signal.SIGSTOP)

    def thaw(self, number):
        self._signal(number, signal.SIGCONT)

    # What the cluster says

    def online(self, seen_by):
        """Names of the members that this one sees online, Pacemaker and all."""
        result = self.run(seen_by, "crm_mon", "-1", "--output-as=xml", "--include=none,nodes", check=False)
        return sorted(re.findall(r'<node name="([^"]+)" id="\d+" online="true"[^>]*pending="false"', result.stdout))

    def wait_online(self, timeout=PROCESSOR_SHARE, seen_by=None):
        everybody = sorted(f"node{n}" for n in range(1, self.count + 1))
        wait_for(lambda: self.online(seen_by or self.here[0]) == everybody, timeout, f"members {', '.join(everybody)} online", 0.3)

    def active_on(self, resource, seen_by=None):
        """Where a resource is active: names of members."""
        result = self.run(seen_by or self.here[0], "crm_resource", "--locate", "-r", resource, "--quiet", check=False)
        return sorted(result.stdout.split())

    def configuration(self, seen_by=None):
        """The CIB's configuration, as text."""
        return self.run(seen_by or self.here[0], "cibadmin", "-Q", "-o", "configuration").stdout

    def token_ms(self, number):
        text = self.run(number, "corosync-cmapctl", "-g", "runtime.config.totem.token").stdout
        return int(text.split("=")[1])

    def corosync_log(self, number):
        if number in self.partitions:
            return self.run(number, "cat", "/var/log/cluster/corosync.log").stdout
        path = self.directory(number) / "log" / "cluster" / "corosync.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def lost(self, seen_by):
        """How often this member has seen others leave."""
        return len(re.findall(r"Members(?:\[\d+\])?.*left:|\bleft: \d", self.corosync_log(seen_by)))

    def serving(self, number):
        """Whether the service's processes run on this member."""
        return self.run(number, "pidof", "nginx", check=False).returncode == 0
