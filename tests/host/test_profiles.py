# SPDX-License-Identifier: Apache-2.0
"""Several profiles of a partition, and which one was activated last; real QEMUs without an operating system."""

import os
import signal

import pytest
from test_host import PROGRAM, Refused, host, is_alive, wait_for  # noqa: F401 (host is a fixture)


def profiles(host):
    return {row["name"]: row for row in host.call("profile-list", partition="p1")["profiles"]}


def last(host):
    return [name for name, row in profiles(host).items() if row["last_activated"]]


def built(host):
    """MiB and processors that its QEMU was started with."""
    runtime = host.call("partition-show", partition="p1")["runtime"]["profile"]
    return runtime["memory_mib"], runtime["processors"]


def add_big(host):
    host.call("profile-create", partition="p1", profile="big", changes={"memory_mib": 128, "processors": 2})


def test_a_partition_with_one_profile_is_what_it_was(host):  # noqa: F811
    """Its definition has no new members: a system of an earlier release would refuse them."""
    profile = host.create()
    assert not {"profile", "default_profile", "profiles"} & set(profile)
    only, = profiles(host).values()
    assert (only["name"], only["default"], only["last_activated"], only["memory_mib"]) == ("normal", True, False, 64)
    host.call("partition-start", partition="p1")
    assert last(host) == ["normal"]
    add_big(host)
    assert host.call("partition-show", partition="p1")["profile"]["profile"] == "normal"
    host.call("profile-delete", partition="p1", profile="big")
    assert not {"profile", "default_profile", "profiles"} & set(host.call("partition-show", partition="p1")["profile"])


def test_it_is_activated_with_the_one_that_is_named(host):  # noqa: F811
    host.create()
    add_big(host)
    host.call("partition-start", partition="p1")
    assert built(host) == (64, 1) and last(host) == ["normal"]
    host.call("partition-restart", partition="p1", how="hard", profile="big")
    assert built(host) == (128, 2) and last(host) == ["big"]
    assert host.call("partition-list")["partitions"][0]["profile"] == "big"
    # Again: with the one that it runs with, not with the default one.
    host.call("partition-restart", partition="p1", how="hard")
    assert built(host) == (128, 2)
    host.call("partition-stop", partition="p1", how="hard")
    host.call("partition-change", partition="p1", changes={"memory_mib": 192})
    assert [profiles(host)[name]["memory_mib"] for name in ("normal", "big")] == [64, 192], "the last activated one is changed"
    host.call("partition-start", partition="p1")
    assert built(host) == (64, 1), "a start without a name takes the default one"
    assert last(host) == ["normal"]
    host.call("profile-change", partition="p1", profile="big", default=True, changes={"processors": 1})
    assert last(host) == ["normal"], "only a start makes it the last one"
    host.end(signal.SIGKILL)
    host.start()
    assert profiles(host)["big"]["default"] and last(host) == ["normal"]
    host.call("partition-stop", partition="p1", how="hard")
    host.call("partition-start", partition="p1")
    assert built(host) == (192, 1) and last(host) == ["big"]


def test_what_is_refused(host):  # noqa: F811
    host.create()
    add_big(host)
    for verb, words, arguments in (
            ("partition-start", 'no profile "none"; it has normal, big', {"profile": "none"}),
            ("partition-restart", 'no profile "none"', {"profile": "none", "how": "hard"}),
            ("profile-create", "has a profile big already", {"profile": "big"}),
            ("profile-create", "is no name of a profile", {"profile": "x" * 32}),
            ("profile-create", 'no profile "none"', {"profile": "new", "from": "none"}),
            ("profile-create", "not one of a single profile", {"profile": "new", "changes": {"disks": []}}),
            ("profile-create", "allowed is a whole number", {"profile": "new", "changes": {"memory_mib": 1}}),
            ("profile-create", "not a mode of family", {"profile": "new", "changes": {"preferred_mode": "POWER9"}}),
            ("profile-change", "has a profile normal already", {"profile": "big", "rename": "normal"}),
            ("profile-delete", "is its default profile", {"profile": "normal"}),
            ("partition-change", '"lpm profile"', {"changes": {"default_profile": "big"}})):
        before = profiles(host)
        with pytest.raises(Refused, match=words):
            host.call(verb, partition="p1", **arguments)
        assert profiles(host) == before and host.state() == "not-activated"
    host.call("partition-start", partition="p1", profile="big")
    with pytest.raises(Refused, match="activated with profile big last"):
        host.call("profile-delete", partition="p1", profile="big")
    for i in range(14):
        host.call("profile-create", partition="p1", profile=f"p{i}")
    with pytest.raises(Refused, match="16 profiles, as many as it may"):
        host.call("profile-create", partition="p1", profile="p15")


def test_default_of_one_that_was_never_activated(host):  # noqa: F811
    """Its definition is the default profile's: an inactive move would take that, did it not need an activation."""
    host.create()
    add_big(host)
    host.call("profile-change", partition="p1", profile="big", default=True, rename="large")
    shown = host.call("partition-show", partition="p1")["profile"]
    assert (shown["profile"], shown["memory_mib"]) == ("large", 128)
    host.call("partition-start", partition="p1")
    assert built(host) == (128, 2) and last(host) == ["large"]


def test_a_start_that_fails_was_none(host):  # noqa: F811
    host.create()
    host.call("partition-start", partition="p1")
    host.call("partition-stop", partition="p1", how="hard")
    host.call("profile-create", partition="p1", profile="huge", changes={"memory_mib": 1 << 24})
    with pytest.raises(Refused, match="needs 16777216 MiB of memory"):
        host.call("partition-start", partition="p1", profile="huge")
    assert last(host) == ["normal"]
    host.call("partition-restart", partition="p1", how="hard") if host.state() == "running" else \
        host.call("partition-start", partition="p1")
    assert built(host) == (64, 1)


@pytest.mark.parametrize("point, ran", [("activate-release-after", False), ("activate-cont-before", False),
                                        ("activate-cont-after", True)])
def test_lpm_host_dies_while_it_starts_another_profile(host, point, ran):  # noqa: F811
    """The profile of one that ran is the last activated one, of one that did not it is not."""
    if b"LPM_CRASH" not in PROGRAM.read_bytes():
        pytest.skip("lpm-host was built without crash points")
    host.create()
    add_big(host)
    host.call("partition-start", partition="p1")
    host.call("partition-stop", partition="p1", how="hard")
    host.end()
    host.start(LPM_CRASH=point)
    with pytest.raises(OSError):
        host.call("partition-start", partition="p1", profile="big")
    assert host.process.wait(20) == -signal.SIGKILL
    host.start()
    wait_for(lambda: host.state() in (("running",) if ran else ("not-activated", "error")), "it is known again")
    assert last(host) == (["big"] if ran else ["normal"])
    shown = host.call("partition-show", partition="p1")["profile"]
    assert shown["memory_mib"] == (128 if ran else 64) and shown["default_profile"] == "normal"
    if ran:
        assert built(host) == (128, 2)
        host.end(signal.SIGKILL)
        host.start()
        assert last(host) == ["big"]
