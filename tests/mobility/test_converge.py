# SPDX-License-Identifier: Apache-2.0
"""Copies that do not come to their end: a partition that writes without a break, and a blackout limit that it never fits."""
import pytest

from hosts import NOISE, RpcError, wait_for

NEVER = {"max_blackout_ms": 1, "max_rate": 400_000}  # 128 pages are written again and again


def converges_not(pair):
    return wait_for(lambda: (now := pair.status(pair.a)["convergence"]) and now["state"] == "does-not-converge" and now, "the verdict")


def test_verdict_and_its_advice_helps(pair):
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, **NEVER)
    verdict = converges_not(pair)
    assert verdict["limit_ms"] == 1 and verdict["needed_blackout_ms"] > 1
    assert any(f"--max-blackout {verdict['needed_blackout_ms']}" in text for text in verdict["advice"]), verdict
    status = pair.status(pair.a)
    assert status["predicted_blackout_ms"] > 1 and status["eta_ms"] is None and status["journal"] == "precopy"
    with pytest.raises(RpcError) as refused:
        pair.a.call("migration-set", migration=pair.migration, max_blackout_ms=0)
    assert refused.value.error_class == "usage"
    with pytest.raises(RpcError) as refused:
        pair.b.call("migration-set", migration=pair.migration, max_blackout_ms=10)
    assert refused.value.error_class == "state"
    pair.a.call("migration-set", migration=pair.migration, max_blackout_ms=20000)
    pair.ends(pair.a, "completed")
    pair.ends(pair.b, "completed")
    assert pair.states() == [None, "running"]


def test_it_is_given_up_cleanly(pair):
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, give_up_after_s=1, **NEVER)
    error = pair.ends(pair.a, "aborted")["error"]
    assert error["class"] == "aborted" and "has not converged for 1 s" in error["desc"], error
    assert "--max-blackout" in error["desc"] and "runs on sys-a" in error["desc"], error
    pair.ends(pair.b, "aborted")
    assert pair.states() == ["running", None]


def test_rate_changes_while_it_copies(pair):
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, max_rate=50_000)
    wait_for(lambda: pair.status(pair.a)["phase"] == "copy", "copying")
    pair.a.call("migration-set", migration=pair.migration, max_rate=0)
    status = pair.ends(pair.a, "completed", 10)
    assert status["convergence"]["max_rate"] == 0
    with pytest.raises(RpcError) as refused:
        pair.a.call("migration-set", migration=pair.migration, max_rate=1)
    assert refused.value.error_class == "state"


def test_auto_converge_slows_it_down_and_not_the_next_time(pair):
    pair.create(program=NOISE)
    pair.begin(pair.a, pair.b, auto_converge=True, **NEVER)
    wait_for(lambda: (now := pair.status(pair.a)["convergence"]) and now["throttle_percent"] >= 20, "the partition is slowed down")
    pair.a.call("migration-stop", migration=pair.migration)
    pair.ends(pair.a, "aborted")
    pair.ends(pair.b, "aborted")
    pair.begin(pair.a, pair.b, **NEVER)
    converges_not(pair)
    assert pair.status(pair.a)["convergence"]["throttle_percent"] == 0
    pair.a.call("migration-stop", migration=pair.migration)
    pair.ends(pair.a, "aborted")
