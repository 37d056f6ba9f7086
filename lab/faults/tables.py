# SPDX-License-Identifier: Apache-2.0
"""The fault matrix as data: what is harmed, when, how; and what cannot be, with the reason."""

import collections

from keepers import SERVERS

Component = collections.namedtuple("Component", "name kind side text")
Phase = collections.namedtuple("Phase", "name side point text")
Fault = collections.namedtuple("Fault", "name text")
Cell = collections.namedtuple("Cell", "component phase fault")

COMPONENTS = [
    Component("console", "daemon", "console", "lpm-console"),
    Component("host-src", "daemon", "source", "lpm-host of the source"),
    Component("host-dst", "daemon", "target", "lpm-host of the target"),
    Component("mover-src", "mover", "source", "lpm-mover of the source"),
    Component("mover-dst", "mover", "target", "lpm-mover of the target"),
    Component("qemu-src", "qemu", "source", "QEMU of the source"),
    Component("qemu-dst", "qemu", "target", "QEMU of the target"),
    Component("link-src", "link", "source", "the source's cable"),
    Component("link-dst", "link", "target", "the target's cable"),
    Component("link-console", "link", "console", "the console's cable"),
    Component("storage", "storage", None, "the network storage that holds disks and records, for both systems"),
    Component("keeper", "keeper", None, "the etcd or the iSCSI target that keeps the ownership records (KEEPER=etcd, scsi)"),
    Component("disk-console", "disk", "console", "the console's own disk"),
    Component("disk-src", "disk", "source", "the source's own disk"),
    Component("disk-dst", "disk", "target", "the target's own disk"),
    Component("db-console", "database", "console", "the console's database, when it is opened again"),
    Component("db-src", "database", "source", "the source's database, when it is opened again"),
    Component("db-dst", "database", "target", "the target's database, when it is opened again"),
]

# side and point: where a daemon stands still while harm is done; copy needs none, its rate is limited instead.
PHASES = [
    Phase("validate", "console", "console-validating-after", "the console validates"),
    Phase("prepare", "target", "dst-answer-before", "the target is ready, and has not said so"),
    Phase("copy", None, None, "memory is being copied"),
    Phase("switchover", "source", "src-switch-after", "QEMU of the source stands, the rest is sent"),
    Phase("LOADED", "target", "dst-loaded-after", "the target has written `loaded`, and has not said so"),
    Phase("OFFER", "source", "src-offer-after", "the record says OFFER, the target was not told"),
    Phase("TAKEN", "target", "dst-take-after", "the record says TAKEN"),
    Phase("INTENT", "target", "dst-intent-after", "the target has written `intent`"),
    Phase("RUN", "target", "dst-run-after", "the record says RUN, the source was not told"),
    Phase("finish", "source", "src-end-qemu-before", "the source is about to end its QEMU"),
]

FAULTS = [
    Fault("kill", "kill -9; a daemon is started again at once"),
    Fault("machine", "the system dies: lpm-host, movers, QEMUs, nothing flushed; then it is started again"),
    Fault("stop", "SIGSTOP for STOP seconds; a database is held by somebody else as long"),
    Fault("down", "gone for 5 seconds"),
    Fault("gone", "gone until the move has ended, or for GONE seconds"),
    Fault("corrupt", "one bit of what it sends next is changed"),
    Fault("full", "not a byte is left, for 5 seconds"),
    Fault("clock+", "its wall clock jumps ahead by one hour"),
    Fault("clock-", "its wall clock jumps back by one hour"),
]

# kind of component -> faults that it can have
POSSIBLE = {
    "daemon": ("kill", "machine", "stop", "clock+", "clock-"),
    "mover": ("kill", "stop", "corrupt"),
    "qemu": ("kill", "stop"),
    "link": ("down", "gone"),
    "storage": ("down", "gone", "full"),
    "keeper": ("kill", "stop", "gone"),
    "disk": ("full",),
    "database": ("down", "stop"),
}

# (kind, fault) -> why not; "": any kind that has no row of its own
WHY_NOT = {
    ("mover", "machine"): "the system dies as a whole: host",
    ("qemu", "machine"): "the system dies as a whole: host",
    ("link", "machine"): "no process", ("storage", "machine"): "the data would be lost, not the move: a matter of the storage",
    ("disk", "machine"): "no process", ("database", "machine"): "the system dies as a whole: host",
    ("mover", "down"): "stop and kill are this for a process", ("daemon", "down"): "stop and kill are this for a process",
    ("qemu", "down"): "stop and kill are this for a process",
    ("mover", "gone"): "its lpm-host does not start it again: kill is this", ("qemu", "gone"): "nobody starts it again: kill is this",
    ("daemon", "gone"): "the other side waits for the operator then: test_target_lost_for_good and docs/spec/handover.md",
    ("link", "corrupt"): "below TLS this is a lost link (tests/mover/test_resume.py); above it: mover",
    ("daemon", "corrupt"): "its calls go over TLS: a changed byte is a lost link", ("qemu", "corrupt"): "its stream is the mover's",
    ("storage", "corrupt"): "a record has a checksum (test_damaged_record); what disks hold is the storage's own matter",
    ("disk", "corrupt"): "SQLite's pages: quick_check at every start (tests/unit/test-store.c)",
    ("database", "corrupt"): "quick_check at every start (tests/unit/test-store.c)",
    ("disk", "down"): "a system without its disk is dead: machine", ("disk", "gone"): "a system without its disk is dead: machine",
    ("database", "gone"): "a daemon without its database does not start: kill until then",
    ("database", "kill"): "the lock is noticed when it is opened: each cell kills its daemon",
    ("mover", "full"): "writes only to memory and to an image: disk", ("qemu", "full"): "disk and storage are this",
    ("daemon", "full"): "disk is this", ("link", "full"): "holds nothing", ("database", "full"): "disk is this",
    ("mover", "clock+"): "uses the monotonic clock only", ("mover", "clock-"): "uses the monotonic clock only",
    ("qemu", "clock+"): "its clock is the partition's: guest clock checks", ("qemu", "clock-"): "its clock is the partition's",
    ("", "clock+"): "has no clock", ("", "clock-"): "has no clock",
    ("link", "kill"): "no process", ("link", "stop"): "no process: down", ("disk", "kill"): "no process",
    ("keeper", "machine"): "a keeper that forgets what it has confirmed is no keeper", ("keeper", "down"): "stop is this",
    ("keeper", "corrupt"): "a record has a checksum (test_damaged_record)", ("keeper", "full"): "answers as one that cannot write: gone",
    ("disk", "stop"): "storage is this", ("storage", "kill"): "down is this", ("storage", "stop"): "gone is this",
}

# (component, phase) -> why not, whatever the fault
NOT_THERE = {
    ("mover-src", "validate"): "there is none yet", ("mover-src", "prepare"): "there is none yet",
    ("mover-dst", "validate"): "there is none yet", ("qemu-dst", "validate"): "there is none yet",
}


# The arbiter of this run: file, console, or one that has a server in the lab
keeper = "file"


def why_not(cell):
    """None when a cell can be; else the reason that it cannot."""
    component, fault = cell.component, cell.fault
    if component.kind == "keeper" and keeper not in SERVERS:
        return f"the record is kept by the arbiter {keeper}: {'storage' if keeper == 'file' else 'console'} is this"
    if (component.name, cell.phase.name) in NOT_THERE:
        return NOT_THERE[component.name, cell.phase.name]
    if fault.name in POSSIBLE[component.kind]:
        return None
    return WHY_NOT.get((component.kind, fault.name)) or WHY_NOT["", fault.name]


def cells():
    return [Cell(component, phase, fault) for component in COMPONENTS for fault in FAULTS for phase in PHASES]


def name_of(cell):
    return f"{cell.component.name}/{cell.phase.name}/{cell.fault.name}"
