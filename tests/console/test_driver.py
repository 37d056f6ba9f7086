# SPDX-License-Identifier: Apache-2.0
"""Validation and moves, with systems that answer late, wrongly or never, and a console that is killed."""

import time

import pytest

from fakehost import Drop, FakeHost, Failure, Hang

FINAL = ("completed", "refused", "failed", "stopped")


def validate(console, **arguments):
    return console.rest("POST", "/v1/validate", {"partition": "web1", **arguments})


def slow_down(pair):
    """Moves that do not end by themselves while a test looks."""
    for host in pair:
        host.pace = 30


def test_a_healthy_pair_is_valid_within_two_seconds(shared_console, shared_pair):
    start = time.monotonic()
    answer = validate(shared_console, target="system-b")
    assert time.monotonic() - start < 2
    result = answer["results"][0]
    assert result["verdict"] == "ok", result["findings"]
    assert answer["source"] == "system-a" and answer["active"] is True
    assert result["summary"]["bytes_per_second"] == 900000000
    assert "migration-prepare" not in shared_pair[1].calls
    shared_console.wait(lambda: "nonce-drop" in shared_pair[0].calls, "the nonces to be dropped")


def looks(bytes_a_second):
    return lambda a: {"unit_bytes": 65536, "looks": [{"ms": ms, "bytes": bytes_a_second * ms // 1000} for ms in (a["ms"] // 4, a["ms"])]}


def test_a_move_is_predicted_and_the_prediction_judged(console, pair):
    prediction = validate(console, target="system-b")["results"][0]["prediction"]
    assert prediction["converges"] == "yes" and prediction["kind"] == "first", prediction
    before = prediction["moves"]
    move = console.wait_state(console.migrate(), *FINAL)
    assert move["state"] == "completed" and move["prediction"]["converges"] == "yes", move
    took = move["score"]["duration_ms"]
    assert took["predicted"] == move["prediction"]["duration_ms"]["value"] and abs(took["actual"] - move["total_ms"]) <= 1, took
    assert took["error_percent"] == pytest.approx(100 * (took["predicted"] / move["total_ms"] - 1), abs=2)
    assert move["score"]["converges"] == {"predicted": "yes", "actual": True}
    again = validate(console, target="system-a")["results"][0]["prediction"]
    assert again["learned_from"] == "partition" and again["moves"] == before + 1
    assert again["duration_ms"]["value"] < prediction["duration_ms"]["value"]  # this pair is a quick one


def test_a_busy_writer_is_warned_of(shared_console, shared_pair):
    shared_pair[0].verbs["partition-measure"] = looks(5_000_000_000)
    options = {"raw": True, "max_rate": 1000000}
    result = validate(shared_console, target="system-b", options=options)["results"][0]
    assert result["verdict"] == "warning" and result["prediction"]["converges"] == "no", result["prediction"]
    finding = next(f for f in result["findings"] if f["check"] == "prediction.converges")
    assert "5000 MB/s" in finding["found"] and "--postcopy" in finding["remedy"]
    assert result["prediction"]["duration_ms"] == {"value": None, "low": None, "high": None}
    asked = shared_pair[0].calls.count("partition-measure")
    unmeasured = validate(shared_console, target="system-b", options={**options, "measure": False})["results"][0]
    assert unmeasured["prediction"]["converges"] == "unsure" and unmeasured["verdict"] == "ok"
    assert shared_pair[0].calls.count("partition-measure") == asked


def test_a_system_that_cannot_measure_is_no_obstacle(shared_console, shared_pair):
    def fails(_):
        raise Failure("unsupported", "unknown verb")
    shared_pair[0].verbs["partition-measure"] = fails
    result = validate(shared_console, target="system-b")["results"][0]
    assert result["verdict"] == "ok" and result["prediction"]["converges"] == "unsure", result


def test_all_reasons_are_said_at_once(shared_console, shared_pair):
    source, target = shared_pair
    facts, check = source.do_partition_facts, target.do_target_check
    source.verbs["partition-facts"] = lambda a: {**facts(a), "agent": "silent", "local_devices": ["vfio-pci"]}
    target.verbs["target-check"] = lambda a: {**check(a), "switches": [], "unknown_devices": ["virtio-net-pci"]}
    source.verbs["probe-run"] = lambda a: {"connected": False, "round_trip_us": 0, "bytes_per_second": 0,
                                           "error": "no route"}
    result = validate(shared_console, target="system-b")["results"][0]
    errors = {f["check"] for f in result["findings"] if f["severity"] == "error"}
    assert result["verdict"] == "error" and len(errors) >= 4
    assert all(f["remedy"] and f["object"] for f in result["findings"])
    move = shared_console.wait_state(shared_console.migrate(), "refused")
    assert {f["check"] for f in move["findings"] if f["severity"] == "error"} == errors
    assert move["error"]["class"] == "refused" and "migration-prepare" not in target.calls


def test_what_could_not_be_asked_is_a_reason(shared_console, shared_pair):
    def fails(_):
        raise Failure("storage", "pool san is gone")
    shared_pair[1].verbs["target-check"] = fails
    result = validate(shared_console, target="system-b")["results"][0]
    assert result["verdict"] == "error"
    assert any("pool san is gone" in f["found"] for f in result["findings"])


def test_all_targets(console, pair):
    answer = validate(console, all_targets=True)
    assert [(r["target"], r["verdict"]) for r in answer["results"]] == [("system-b", "ok")]
    pair[1].vanish()
    answer = validate(console, all_targets=True)
    assert answer["results"][0]["verdict"] == "error"


@pytest.mark.parametrize("body, expected", [
    ({"partition": "web9", "target": "system-b"}, "not-found"), ({"partition": "web1", "target": "system-z"}, "not-found"),
    ({"partition": "web1", "target": "system-a"}, "usage"), ({"partition": "web1"}, "usage"),
    ({"partition": "web1", "target": "system-b", "options": {"speed": 1}}, "usage"),
    ({"partition": "web1", "target": "system-b", "options": {"max_rate": -1}}, "usage"),
    ({"partition": "web1", "target": "system-b", "options": {"verify": 1}}, "usage"),
    ({"partition": "web1", "target": "system-b", "options": {"verify": True, "postcopy_after_s": 5}}, "usage"),
    ({"partition": "web1", "target": "system-b", "options": {"overrides": ["no.such"]}}, "usage"),
    ({"partition": "web1", "target": "system-b", "options": {"overrides": ["general.target-answers"]}}, "usage")],
    ids=range(10))
def test_wrong_requests_change_nothing(shared_console, shared_pair, body, expected):
    for path in ("/v1/migrations", "/v1/validate"):
        assert shared_console.refused("POST", path, body).error_class == expected
    assert "migration-prepare" not in shared_pair[1].calls


def test_a_target_that_is_down_is_said_at_once(console, pair):
    pair[1].vanish()
    console.wait(lambda: console.rest("GET", "/v1/systems/system-b")["state"] == "unreachable", "loss")
    refused = console.refused("POST", "/v1/migrations", {"partition": "web1", "target": "system-b"})
    assert refused.error_class == "unreachable" and "system-b" in refused.error["message"]


def test_a_move(console, pair):
    move = console.migrate(verify=False)
    seen, revision = set(), -1
    while True:
        shown = console.rest("GET", f"/v1/migrations/{move}?since={revision}&wait_ms=2000")
        assert shown["revision"] > revision
        revision = shown["revision"]
        seen.add((shown["state"], shown["phase"]))
        if shown["finished"]:
            break
    assert shown["state"] == "completed" and shown["error"] is None and shown["progress"] == 1
    assert ("moving", "copy") in seen
    assert (shown["stream_bytes"], shown["wire_bytes"], shown["blackout_ms"]) == (1000, 1100, 25.5)
    assert shown["total_ms"] == 100.0
    assert shown["phases"][1] == {"name": "copy", "start": 20.0, "start_us": 1020000, "ms": 80.0}
    assert shown["source_half"]["outcome"] == shown["target_half"]["outcome"] == "completed"
    assert "system-b" in shown["note"]
    assert console.rest("GET", "/v1/partitions/web1")["system"] == "system-b"
    console.kill()
    console.start()
    again = console.migration(move)
    assert {**again, "revision": 0} == {**shown, "revision": 0} and again["revision"] > shown["revision"]


def test_one_move_at_a_time(console, pair):
    slow_down(pair)
    first = console.migrate()
    console.wait_state(first, "moving")
    refused = console.refused("POST", "/v1/migrations", {"partition": "web1", "target": "system-b"})
    assert refused.error_class == "busy" and first in refused.error["message"]


def test_without_events_the_console_asks(console, pair):
    for host in pair:
        host.emit = lambda event, data: None
    assert console.wait_state(console.migrate(), *FINAL)["state"] == "completed"


def test_a_lost_link_is_shown_and_told(console, pair):
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, "moving")
    links = {"up": 0, "of": 1, "lost_ms": 1500, "reason": "the cable was cut", "reconnects": 0, "resent_bytes": 0}
    for now in (links, {**links, "up": 1, "lost_ms": None, "reconnects": 1}):
        pair[0].moves[move]["links"] = now
        pair[0].emit("migration", pair[0].status(pair[0].moves[move]))
        end = time.monotonic() + 5
        while console.migration(move)["links"] != now:
            assert time.monotonic() < end, "the links are not shown"
            time.sleep(0.05)
    told = [e["message"] for e in console.rest("GET", "/v1/events")["events"] if e["object"] == move]
    lost = [number for number, message in enumerate(told) if "lost: the cable was cut" in message and "runs on at system-a" in message]
    back = [number for number, message in enumerate(told) if "from system-a to system-b is back" in message]
    assert len(lost) == len(back) == 1 and lost < back, told


def test_news_end_a_wait(console, pair):
    slow_down(pair)
    move = console.migrate()
    shown = console.wait_state(move, "moving")
    start = time.monotonic()
    console.rest("GET", f"/v1/migrations/{move}?since={shown['revision'] + 1000}&wait_ms=300")
    assert 0.25 < time.monotonic() - start < 3


def test_stop(console, pair):
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, "moving")
    assert console.rest("POST", f"/v1/migrations/{move}/stop")["stop_requested"] is True
    shown = console.wait_state(move, *FINAL)
    assert shown["state"] == "stopped" and "system-a" in shown["note"]
    assert console.refused("POST", f"/v1/migrations/{move}/stop").error_class == "state"


def test_limits_change_while_it_copies(console, pair):
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, "moving")
    path = f"/v1/migrations/{move}"
    answer = console.rest("PATCH", path, {"max_rate": 5000000, "max_blackout_ms": 1400})
    assert answer["options"]["max_rate"] == 5000000 and answer["options"]["give_up_after_s"] == 900
    assert pair[0].moves[move]["set"] == {"migration": move, "max_rate": 5000000, "max_blackout_ms": 1400}
    assert console.migration(move)["options"]["max_blackout_ms"] == 1400
    for bad in ({}, {"max_rate": -1}, {"max_blackout_ms": 0}, {"give_up_after_s": 10**9}, {"verify": True}):
        assert console.refused("PATCH", path, bad).error_class == "usage", bad

    def refuses(_):
        raise Failure("state", "it does not copy now")
    pair[0].verbs["migration-set"] = refuses
    assert console.refused("PATCH", path, {"max_rate": 1}).error_class == "state"
    assert console.migration(move)["options"]["max_rate"] == 5000000
    console.rest("POST", f"/v1/migrations/{move}/stop")
    console.wait_state(move, *FINAL)
    assert console.refused("PATCH", path, {"max_rate": 1}).error_class == "state"


def test_a_copy_that_does_not_converge_is_an_event(console, pair):
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, "moving")
    half = pair[0].moves[move]
    half["phase"] = "copy"
    for state in ("converging", "does-not-converge", "does-not-converge", "converging"):
        half["convergence"] = {"state": state, "advice": ["more bandwidth", "--max-blackout 1400"] if state[0] == "d" else []}
        pair[0].emit("migration", pair[0].status(half))

    def messages():
        told = [event["message"] for event in console.rest("GET", "/v1/events")["events"] if event["object"] == move]
        return [text for text in told if "converge" in text]
    console.wait(lambda: len(messages()) > 1, "both to be told")  # the first status looks like the last one
    assert messages() == ["the copy does not converge; what would help: more bandwidth; --max-blackout 1400", "the copy converges again"]


def test_what_post_copy_has_lost_is_said_of_a_move_that_arrived(console, pair):
    slow_down(pair)
    move = console.migrate(postcopy=True)
    console.wait_state(move, "moving")
    for host in pair:
        lost = {"class": "aborted", "desc": "memory is lost"} if host is pair[1] else None
        host.enter(host.moves[move], "cleaned", outcome="completed", error=lost)
    shown = console.wait_state(move, *FINAL)
    assert shown["state"] == "completed" and shown["error"] is None and "memory is lost" in shown["note"]


def test_a_paused_post_copy_is_connected_again(console, pair):
    source, target = pair
    slow_down(pair)
    move = console.migrate(postcopy=True)
    console.wait_state(move, "moving")
    keys = {}

    def prepare(arguments):
        keys["target"] = arguments["key"]
        return {"addresses": ["192.0.2.9"], "port": 4711}

    def relink(arguments):
        assert arguments["key"] == keys["target"] and len(arguments["key"]) == 64
        assert (arguments["addresses"], arguments["port"]) == (["192.0.2.9"], 4711)
        for host in pair:
            host.moves[move]["postcopy"] = "active"
            host.emit("migration", host.status(host.moves[move]))
        keys["source"] = arguments["key"]
        return {}
    target.verbs["migration-relink-prepare"], source.verbs["migration-relink"] = prepare, relink
    target.moves[move].update(journal="running", postcopy="paused")
    target.emit("migration", target.status(target.moves[move]))
    console.wait(lambda: "source" in keys, "the source to be told")
    told = [event["message"] for event in console.rest("GET", "/v1/events")["events"] if event["object"] == move]
    assert any("connected again" in text for text in told), told


def test_too_late_to_stop(console, pair):
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, "moving")
    pair[0].moves[move]["journal"] = "post"
    assert console.refused("POST", f"/v1/migrations/{move}/stop").error_class == "state"
    assert console.migration(move)["state"] == "moving"


@pytest.mark.parametrize("state, host, verb", [("validating", 0, "partition-facts"), ("preparing", 1, "migration-prepare"),
                                               ("starting", 0, "migration-start")])
def test_stop_in_the_steps_before(console, pair, state, host, verb):
    original = pair[host].verbs[verb]

    def late(arguments):
        time.sleep(1)
        return original(arguments)
    pair[host].verbs[verb] = late
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, state)
    console.rest("POST", f"/v1/migrations/{move}/stop")
    assert console.wait_state(move, *FINAL)["state"] == "stopped"
    for system in pair:
        if move in system.moves:
            assert system.moves[move]["journal"] == "cleaned"


def test_the_target_refuses_to_prepare(console, pair):
    def refuses(_):
        raise Failure("qemu", "no such machine type")
    pair[1].verbs["migration-prepare"] = refuses
    shown = console.wait_state(console.migrate(), *FINAL)
    assert shown["state"] == "failed" and shown["error"]["class"] == "qemu"
    assert "no such machine type" in shown["error"]["message"] and "migration-start" not in pair[0].calls


def test_the_source_refuses_to_start(console, pair):
    def refuses(_):
        raise Failure("busy", "another one is under way")
    pair[0].verbs["migration-start"] = refuses
    move = console.migrate()
    shown = console.wait_state(move, *FINAL)
    assert shown["state"] == "failed" and shown["error"]["class"] == "busy"
    assert pair[1].moves[move]["journal"] == "cleaned"


@pytest.mark.parametrize("prepared", [True, False])
def test_the_target_vanishes_between_prepare_and_start(console, pair, prepared):
    """It is told to discard what it had prepared as soon as it is back."""
    source, target = pair
    prepare = target.do_migration_prepare

    def prepare_and_die(arguments):
        if prepared:
            prepare(arguments)
        target.vanish()
        raise Hang()
    target.verbs["migration-prepare"] = prepare_and_die
    move = console.migrate()
    shown = console.wait_state(move, *FINAL, timeout=30)
    assert shown["state"] == "failed" and "told to discard" in shown["note"]
    assert move not in source.moves
    target.come_back()
    console.wait(lambda: "migration-recover" in target.calls, "the target to be told")
    if prepared:
        console.wait(lambda: target.moves[move]["journal"] == "cleaned", "the target to discard")


def test_the_answer_to_start_is_lost_but_it_has_begun(console, pair):
    start = pair[0].do_migration_start

    def begins_and_drops(arguments):
        start(arguments)
        raise Drop()
    pair[0].verbs["migration-start"] = begins_and_drops
    assert console.wait_state(console.migrate(), *FINAL)["state"] == "completed"


def test_the_word_to_start_is_lost(console, pair):
    def drops(_):
        raise Drop()
    pair[0].verbs["migration-start"] = drops
    move = console.migrate()
    shown = console.wait_state(move, *FINAL)
    assert shown["state"] == "failed" and shown["error"]["class"] == "unreachable"
    assert pair[1].moves[move]["journal"] == "cleaned"


def test_the_word_to_start_is_lost_and_the_target_is_away(console, pair):
    """The word to discard waits for the target; the move does not wait for ever."""
    source, target = pair

    def drops(_):
        target.vanish()
        raise Drop()
    source.verbs["migration-start"] = drops
    move = console.migrate()
    shown = console.wait_state(move, *FINAL, timeout=30)
    assert shown["state"] == "failed" and "told to discard" in shown["note"]
    target.come_back()
    console.wait(lambda: target.moves[move]["journal"] == "cleaned", "the target to discard")


def test_reasons_of_both_halves_are_told(console, pair):
    source, target = pair
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, "moving")
    source.enter(source.moves[move], "cleaned", outcome="aborted", error={"class": "mover", "desc": "the mover is gone"})
    target.enter(target.moves[move], "cleaned", outcome="aborted", error={"class": "qemu", "desc": "no stream"})
    shown = console.wait_state(move, *FINAL)
    assert shown["error"]["class"] == "mover"
    assert "the mover is gone" in shown["error"]["message"] and "no stream" in shown["error"]["message"]


def test_the_source_dies_after_the_target_has_it(console, pair):
    source, target = pair
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, "moving")
    source.vanish()
    target.add("web1")
    target.enter(target.moves[move], "cleaned", "finish", "completed")
    shown = console.wait_state(move, *FINAL, timeout=20)
    assert shown["state"] == "completed" and "system-a has not ended its half" in shown["note"]


def test_systems_that_are_waited_for_are_named(console, pair):
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, "moving")
    pair[0].vanish()
    console.wait(lambda: console.migration(move)["waiting_for"] == ["system-a"], "the source to be missed")


def test_recover_needs_a_system_that_answers(console, pair):
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, "moving")
    for host in pair:
        host.vanish()
    console.wait(lambda: len(console.migration(move)["waiting_for"]) == 2, "both to be missed")
    refused = console.refused("POST", f"/v1/migrations/{move}/recover", {})
    assert refused.error_class == "unreachable" and "system-a" in refused.error["message"]


def test_odd_status_does_not_hurt(console, pair):
    source, _ = pair
    slow_down(pair)
    move = console.migrate()
    console.wait_state(move, "moving")
    for odd in ({}, {"migration": 7}, {"migration": move}, {"migration": move, "side": "source", "phases": 7, "verify": []},
                {"migration": move, "side": "source", "phases": [7], "total_bytes": "x", "error": "y"},
                {"migration": "x" * 100, "side": "source"}):
        source.emit("migration", odd)
    source.emit("nonsense", {})
    source.emit("partition", {"partition": "web1", "state": "running"})
    time.sleep(0.2)
    assert console.migration(move)["state"] == "moving"
    source.enter(source.moves[move], "precopy", "copy")
    console.wait(lambda: console.migration(move)["phase"] == "copy", "good news")


# The console is killed in each state

def kill_in(console, move, state):
    console.wait_state(move, state)
    console.kill()


def test_killed_while_validating(console, pair):
    def hangs(_):
        raise Hang()
    pair[0].verbs["partition-facts"] = hangs
    move = console.migrate()
    kill_in(console, move, "validating")
    console.start()
    shown = console.wait_state(move, *FINAL)
    assert shown["state"] == "failed" and "nothing was changed" in shown["error"]["message"]
    assert "migration-prepare" not in pair[1].calls


def test_killed_while_preparing(console, pair):
    prepare = pair[1].do_migration_prepare

    def prepares_and_hangs(arguments):
        prepare(arguments)
        raise Hang()
    pair[1].verbs["migration-prepare"] = prepares_and_hangs
    move = console.migrate()
    kill_in(console, move, "preparing")
    console.start()
    shown = console.wait_state(move, *FINAL)
    assert shown["state"] == "failed" and "restarted" in shown["error"]["message"]
    assert pair[1].moves[move]["journal"] == "cleaned" and move not in pair[0].moves


@pytest.mark.parametrize("began", [True, False])
def test_killed_while_starting(console, pair, began):
    start = pair[0].do_migration_start

    def hangs(arguments):
        if began:
            start(arguments)
        raise Hang()
    pair[0].verbs["migration-start"] = hangs
    pair[0].pace = 0.3
    move = console.migrate()
    kill_in(console, move, "starting")
    console.start()
    shown = console.wait_state(move, *FINAL)
    assert shown["state"] == ("completed" if began else "failed")
    assert pair[1].moves[move]["journal"] == "cleaned"


def test_killed_while_moving(console, pair):
    pair[0].pace = 0.3
    move = console.migrate()
    kill_in(console, move, "moving")
    console.wait(lambda: pair[0].moves[move]["journal"] == "cleaned", "the move to end without the console")
    console.start()
    assert console.wait_state(move, *FINAL)["state"] == "completed"


def test_killed_while_stopping(console, pair):
    slow_down(pair)
    pair[0].verbs["migration-stop"] = lambda _: {}
    move = console.migrate()
    console.wait_state(move, "moving")
    console.rest("POST", f"/v1/migrations/{move}/stop")
    kill_in(console, move, "stopping")
    for host in pair:
        host.enter(host.moves[move], "cleaned", outcome="aborted", error={"class": "aborted", "desc": "stopped"})
    console.start()
    assert console.wait_state(move, *FINAL)["state"] == "stopped"


def test_killed_and_both_systems_are_away(console, pair):
    """The console waits for them, and says so."""
    pair[0].pace = 0.3
    move = console.migrate()
    kill_in(console, move, "moving")
    for host in pair:
        host.vanish()
    console.start()
    console.wait(lambda: sorted(console.migration(move)["waiting_for"]) == ["system-a", "system-b"], "both to be missed")
    for host in pair:
        host.come_back()
    assert console.wait_state(move, *FINAL)["state"] == "completed"


def test_a_lost_database_is_made_up_for_by_asking(console, pair):
    """A move that the console does not know is taken up from what the systems say."""
    slow_down(pair)
    source, target = pair
    begun = {"migration": "ab" * 16, "profile": {"name": "web1"}, "partition": "web1"}
    source.new_move(begun, "source", "system-b", "web1", "precopy")
    target.new_move(begun, "target", "system-a", "web1", "prepared")
    source.vanish()
    source.come_back()
    shown = console.wait(lambda: console.rest("GET", "/v1/migrations")["migrations"], "the move to be found")[0]
    assert (shown["migration"], shown["source"], shown["target"]) == ("ab" * 16, "system-a", "system-b")
    console.wait_state("ab" * 16, "moving")
    for host in pair:
        host.enter(host.moves["ab" * 16], "cleaned", outcome="aborted", error={"class": "mover", "desc": "lost"})
    assert console.wait_state("ab" * 16, *FINAL)["state"] == "failed"


def test_back_and_forth(console, pair):
    for target in ("system-b", "system-a") * 3:
        shown = console.wait_state(console.migrate(target=target), *FINAL)
        assert shown["state"] == "completed" and shown["target"] == target
    assert len(console.rest("GET", "/v1/migrations")["migrations"]) == 6


def test_a_mac_address_of_a_partition_on_a_third_system(console, pair, tmp_path):
    third = FakeHost(tmp_path, "system-c")
    third.join(console)
    third.add("twin", state="not-activated")
    rows = third.do_partition_list({})["partitions"]
    third.verbs["partition-list"] = lambda _: {"partitions": [{**row, "macs": ["52:54:00:00:00:01"]} for row in rows]}
    result = validate(console, target="system-b")["results"][0]
    finding = next(f for f in result["findings"] if f["check"] == "network.mac-unique")
    assert result["verdict"] == "error" and "partition twin on system-c" in finding["found"], finding
    overridden = validate(console, target="system-b", options={"overrides": ["network.mac-unique"]})["results"][0]
    assert overridden["verdict"] == "warning", overridden
    # The target speaks for itself.
    assert "network.mac-unique" not in {f["check"] for f in validate(console, target="system-c")["results"][0]["findings"]}
