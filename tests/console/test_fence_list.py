# SPDX-License-Identifier: Apache-2.0
"""What fence_openlpm lists as off is off for certain: the same answer as for one partition."""

import subprocess
from pathlib import Path

AGENT = Path(__file__).resolve().parents[2] / "src" / "guest" / "pacemaker" / "fence_openlpm"


def listed(console, action="list-status"):
    done = subprocess.run([AGENT, "-o", action, "-c", Path(console.state) / "admin.conf"], text=True, capture_output=True, check=True, timeout=60)
    return done.stdout.splitlines()


def off(console, *names):
    """Whether the console knows their rows as off, which is what the agent is not to rely on."""
    rows = {row["name"]: row["state"] for row in console.rest("GET", "/v1/partitions")["partitions"]}
    return all(rows[name] == "not-activated" for name in names)


def test_one_whose_move_is_undecided_is_listed_as_on(console, pair):
    source, target = pair
    for name in ("idle", "busy"):
        source.add(name, "not-activated" if name == "idle" else "running")
    source.pace = 60
    migration = console.migrate("web1", "system-b")
    console.wait(lambda: console.migration(migration)["state"] == "moving", "the copy")
    source.partitions["web1"]["state"] = "not-activated"  # its half is over, and the target's is in no list
    console.wait(lambda: off(console, "web1", "idle"), "its row to be off")
    assert sorted(listed(console)) == ["busy,on", "idle,off", "web1,on"]
    assert sorted(listed(console, "list")) == ["busy,", "idle,", "web1,"]
    target.vanish()
    console.wait(lambda: console.rest("GET", "/v1/partitions")["unreachable"] == ["system-b"], "the target to be missed", 30)
    assert sorted(listed(console)) == ["busy,on", "idle,on", "web1,on"], "somebody does not answer"


def test_a_name_is_off_when_all_rows_of_it_are(console, pair):
    source, target = pair
    source.add("twice", "not-activated")
    target.add("twice")
    console.wait(lambda: len([row for row in console.rest("GET", "/v1/partitions")["partitions"] if row["name"] == "twice"]) == 2, "both rows")
    assert sorted(listed(console)) == ["twice,on", "web1,on"]
