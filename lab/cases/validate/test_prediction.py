# SPDX-License-Identifier: Apache-2.0
"""What is said of a move before it begins, against what comes: a quiet partition and one that writes faster than the link."""

import contextlib

import pytest

from tidy import nothing_left

FIGURES = ("duration_ms", "wire_bytes", "blackout_ms")
WRITES = 40  # MB/s, over 32 MiB; plain, the shaped link carries 6
PLAIN = {"raw": True}


@pytest.fixture(scope="module")
def lab(lab_of_three):
    return lab_of_three


@pytest.fixture(scope="module")
def partition(lab):
    return lab.create("system-a", "roamer", "x86-64", 120, kernel_options="lpm.rate=0 lpm.verify=0")


@contextlib.contextmanager
def narrow(lab, place, rate="50mbit"):
    """A link that carries less than the partition writes, for a while."""
    lab.link(place, "rate", rate)
    try:
        yield
    finally:
        lab.link(place, "rate", "none")


@contextlib.contextmanager
def writing(lab, partition):
    lab.set_workload(partition.address, rate=WRITES)
    try:
        yield
    finally:
        lab.set_workload(partition.address, rate=0)


def ends(lab, partition):
    source = lab.where(partition.name)
    return source, "system-a" if source != "system-a" else "system-b"


def validate(lab, partition, target, **options):
    body = {"partition": partition.name, "target": target, "options": options}
    return lab.rest("POST", "/v1/validate", body)["results"][0]


def checks_of(result):
    return {finding["check"]: finding for finding in result["findings"]}


def test_a_quiet_partition_is_predicted_to_converge_and_does(lab, partition):
    source, target = ends(lab, partition)
    result = validate(lab, partition, target)
    assert result["ms"] < 10000 and result["prediction"]["converges"] == "yes", result["prediction"]
    assert not any(check.startswith("prediction.") for check in checks_of(result))
    for before in range(2):
        source, target = ends(lab, partition)
        moved = lab.lpm("migrate", partition.name, target)
        assert "the copy will come to its end" in moved.stderr and "against the prediction:" in moved.stdout, moved
        status = lab.lpm_json("migration", "list", "--partition", partition.name)[0]
        assert status["state"] == "completed" and status["prediction"]["moves"] <= before, status["prediction"]
        assert status["score"]["converges"] == {"predicted": "yes", "actual": True}
        for name in FIGURES:
            score = status["score"][name]
            assert score["predicted"] > 0 and score["actual"] > 0
            least, most = ((score["predicted"] + half) / (score["actual"] - half) for half in (-0.5, 0.5))  # both are shown rounded
            assert least - 0.001 <= 1 + score["error_percent"] / 100 <= most + 0.001, score
        assert status["prediction"]["kind"] == ("return" if before else "first")
    shown = lab.lpm("migration", "show", status["migration"]).stdout
    assert "prediction: time" in shown and "against the prediction:" in shown
    nothing_left(lab, partition, target)


def test_a_busy_one_is_predicted_not_to_converge(lab, partition):
    _, target = ends(lab, partition)
    with writing(lab, partition), narrow(lab, target):
        result = validate(lab, partition, target, **PLAIN)
        assert result["prediction"]["converges"] == "no", result["prediction"]
        assert WRITES * 0.4e6 < result["prediction"]["dirty_rate_bytes"] < WRITES * 4e6  # it makes up for time it did not get
        warning = checks_of(result)["prediction.converges"]
        assert warning["severity"] == "warning" and "--postcopy" in warning["remedy"], warning
        unmeasured = lab.lpm_json("validate", partition.name, target, "--codec", "raw", "--no-measure")["results"][0]
        assert unmeasured["prediction"]["converges"] == "unsure" and "prediction.converges" not in checks_of(unmeasured)


def test_all_targets_side_by_side(lab, partition):
    source, target = ends(lab, partition)
    lab.lpm("system", "maintenance", "system-c", "on")
    try:
        answer = lab.lpm_json("validate", partition.name, "--all-targets")
        results = {result["target"]: result for result in answer["results"]}
        assert set(results) == set(lab.systems) - {source}
        assert results["system-c"]["verdict"] == "error" and results[target]["verdict"] != "error"
        for result in results.values():
            assert result["prediction"]["converges"] == "yes" and result["ms"] < 10000, result
            assert result["after_restart"]["processor_allows"], result["after_restart"]
        lines = lab.lpm("validate", partition.name, "--all-targets", "--no-measure").stdout.splitlines()
        table = {line.split()[0]: line for line in lines}
        assert "error" in table["system-c"] and checks_of(results["system-c"]).keys() & set(table["system-c"].split())
        assert "FIRST REASON" in table["TARGET"] and "error" not in table[target]
    finally:
        lab.lpm("system", "maintenance", "system-c", "off")
    common = lab.lpm("modes", "--common", source, target, "system-c").stdout
    assert "highest mode common to all, power: POWER8" in common, common


@pytest.mark.long
def test_a_busy_one_does_not_converge_and_then_learns(lab, partition):
    source, target = ends(lab, partition)
    with writing(lab, partition):
        with narrow(lab, target):
            status = lab.migrate(partition.name, target, timeout=200, verify=False, give_up_after_s=2, **PLAIN)
            assert status["state"] == "failed" and "has not converged" in status["error"]["message"], status
            assert status["score"]["converges"] == {"predicted": "no", "actual": False}, status["score"]
        assert lab.where(partition.name) == source
        nothing_left(lab, partition, source)
        # With room enough it ends, and what it wrote meanwhile has shown how small that becomes.
        moved = lab.migrate(partition.name, target, verify=False)
        assert moved["state"] == "completed" and moved["prediction"]["converges"] != "no", moved["prediction"]
        assert moved["source_half"]["first_pass"]["stream_bytes"] < moved["stream_bytes"]


@pytest.mark.long
def test_a_restart_that_closes_a_way(lab):
    """On a POWER9 server, in POWER8 mode: it may go to a POWER8 server today, and not any more after a restart that raises its mode."""
    power = lab.create("system-b", "riser", "power", 121, kernel_options="lpm.rate=0", preferred_mode="POWER8")
    try:
        lab.rest("PATCH", f"/v1/partitions/{power.name}", {"changes": {"preferred_mode": "default"}})
        results = {result["target"]: result for result in lab.lpm_json("validate", power.name, "--all-targets", check=False)["results"]}
        assert results["system-a"]["after_restart"] == {"mode": "POWER9", "changes": True, "processor_allows": False,
                                                        "processor_allows_now": True}, results["system-a"]["after_restart"]
        assert results["system-c"]["after_restart"]["processor_allows"]
        text = lab.lpm("validate", power.name, "--all-targets", check=False).stdout
        assert "POWER9: not any more" in text, text
    finally:
        lab.delete(power)


@pytest.mark.long
def test_predictions_get_better(lab, partition):
    """After a few moves to and fro each figure is within half of what comes."""
    for _ in range(5):
        _, target = ends(lab, partition)
        status = lab.migrate(partition.name, target, verify=False)
        assert status["state"] == "completed", status
    for name in ("duration_ms", "blackout_ms"):
        assert abs(status["score"][name]["error_percent"]) < 100, status["score"]
    assert status["prediction"]["learned_from"] == "partition" and status["prediction"]["moves"] >= 2, status["prediction"]
