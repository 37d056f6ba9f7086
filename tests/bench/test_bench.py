# SPDX-License-Identifier: Apache-2.0
"""The benchmark's own arithmetic and grammar; its moves are tested by making them."""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "lab")]

import ears  # noqa: E402
import kinds  # noqa: E402
import native as qemu  # noqa: E402
import plots  # noqa: E402
import results  # noqa: E402
import rows  # noqa: E402

ZSTD = "multifd x2, zstd"


def run(total, wire):
    return {"total_ms": total, "wire_bytes": wire}


def test_standard_rows_are_rows_and_have_code():
    for name in rows.STANDARD:
        assert rows.parse(name).kind.name in kinds.RUN
    assert kinds.RUN.keys() == rows.KINDS.keys()
    assert len(rows.listing().splitlines()) == len(rows.STANDARD)


def test_parts_of_a_row():
    row = rows.parse("100mbit-writer20-return")
    assert (row.rate, row.dirty_mb, row.check_mb, row.kind.name, row.seconds) == ("100mbit", 20, 0, "return", 60)
    assert rows.parse("1gbit-idle-cut30").seconds == 30
    assert rows.parse("unshaped-idle-raw").kind.small
    assert rows.parse("1gbit-reader-first").check_mb == rows.READER_MB


@pytest.mark.parametrize("name", ["1gbit-idle", "2gbit-idle-raw", "1gbit-lazy-raw", "1gbit-idle-fast", "1gbit-idle-first5", "1gbit-idle20-first",
                                  "1gbit-idle-converge", "1gbit-writer-first", "1gbit-writer0-first", "1gbit-idle-return-x", ""])
def test_unknown_rows_are_refused_with_what_exists(name):
    with pytest.raises(rows.RowError) as refused:
        rows.parse(name)
    for word in (name, "1gbit", "writerN", "return", "ROWS=list"):
        assert word in str(refused.value)


def test_ratio_is_the_median_of_the_pairs_ratios():
    series = {"ours": [run(10, 1), run(30, 1), run(50, 1)], results.PLAIN: [run(10, 4), run(10, 4), run(100, 4)]}
    total = next(r for r in results.summarise("x", series) if r["metric"] == "total_ms")
    assert (total["ratio"], total["spread"], total["pairs"], total["ours"], total["native"]) == (1, [0.5, 3], 3, 30, 10)
    assert (total["against"], total["native_config"]) == ("best", results.PLAIN)


def test_each_metric_names_its_own_best_and_plain_is_always_there():
    series = {"ours": [run(10, 50)], ZSTD: [run(40, 100)], results.PLAIN: [run(20, 400)]}
    found = {(r["metric"], r["against"]): (r["native_config"], r["ratio"]) for r in results.summarise("x", series)}
    assert found == {("total_ms", "best"): (results.PLAIN, 0.5), ("wire_bytes", "best"): (ZSTD, 0.5),
                     ("wire_bytes", "plain"): (results.PLAIN, 0.125)}


def test_a_failed_pair_is_counted_and_not_compared():
    series = {"ours": [run(10, 1), None, {}], results.PLAIN: [run(20, 1), None, run(20, 1)]}
    total = next(r for r in results.summarise("x", series, failed=2) if r["metric"] == "total_ms")
    assert (total["pairs"], total["failed"], total["ratio"]) == (1, 2, 0.5)


def test_ours_in_another_way_is_a_reference_and_no_native():
    series = {"ours": [run(12, 1)], "uncut": [run(10, 1)], results.PLAIN: [run(24, 1)]}
    found = {r["against"]: r["ratio"] for r in results.summarise("x", series, reference="uncut") if r["metric"] == "total_ms"}
    assert found == {"reference": 1.2, "best": 0.5}


def test_other_rows_results_stay():
    old = results.summarise("a", {"ours": [run(1, 1)], results.PLAIN: [run(1, 1)]})
    new = results.summarise("b", {"ours": [run(2, 2)], results.PLAIN: [run(1, 1)]})
    again = results.summarise("b", {"ours": [run(3, 3)], results.PLAIN: [run(1, 1)]})
    merged = results.merge(results.merge(old, new), again)
    assert {(r["row"], r["ours"]) for r in merged} == {("a", 1), ("b", 3)}
    assert "| a | total_ms | 1 |" in results.markdown(merged)


def test_predictions_are_judged_over_all_moves_but_cut_ones():
    def move(error, predicted="yes", actual=True, **more):
        figures = {name: {"predicted": 1, "actual": 1, "error_percent": error} for name in ("duration_ms", "wire_bytes", "blackout_ms")}
        return {"score": {**figures, "converges": {"predicted": predicted, "actual": actual}}, "links": {"reconnects": 0}, **more}
    moves = [move(-10), move(20), move(90), move(500, links={"reconnects": 1}), move(400, postcopy="active"),
             {"score": {"converges": {"predicted": "yes", "actual": False}}}, {"score": None}]
    found = {r["metric"]: (r["ours"], r["pairs"]) for r in results.predictions(moves)}
    assert found["duration_ms error percent"] == (20, 3) and found["blackout_ms error percent"] == (20, 3)
    assert found["wrong promises to converge"][0] == 1
    assert results.predictions([]) == []


def test_highest_converging_rate_by_bisection():
    for limit in (0, *kinds.RATES_MB_S):
        asked = []
        assert kinds.highest(lambda rate, l=limit, a=asked: a.append(rate) or rate <= l) == limit
        assert len(asked) <= 5


def test_configurations_to_measure_against():
    measured = {ZSTD: run(5000, 250e6), results.PLAIN: run(9000, 900e6), "multifd x2": run(4000, 900e6), "XBZRLE": None}
    assert kinds.chosen(measured) == ["multifd x2", ZSTD, results.PLAIN]
    measured[results.PLAIN] = run(75000, 900e6)
    assert results.PLAIN not in kinds.chosen(measured)
    assert kinds.chosen({ZSTD: None}) == []


def test_what_does_not_compress_is_left_out_where_plain_is_hopeless():
    zstd, multifd = qemu.BY_NAME[ZSTD], qemu.BY_NAME["multifd x2"]
    assert not kinds.hopeless({ZSTD: run(100, 1)}, multifd, 100)
    assert not kinds.hopeless({ZSTD: run(100, 1), results.PLAIN: run(240, 1)}, multifd, 100)
    assert kinds.hopeless({ZSTD: run(100, 1), results.PLAIN: run(260, 1)}, multifd, 100)
    assert kinds.hopeless({ZSTD: run(100, 1), results.PLAIN: None}, multifd, 100)
    assert not kinds.hopeless({results.PLAIN: None}, zstd, None)


def test_plots_are_svg():
    found = results.summarise("a<b", {"ours": [run(1, 1)], results.PLAIN: [run(2, 1)]})
    picture = ElementTree.fromstring(plots.svg("T & time", plots.bars(found, "total_ms"), 1))
    assert "a<b" in [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]


def test_a_second_partition_from_our_arguments():
    argv = ["x", "lpm.ip=10.77.0.10/24", "mac=52:54:00:77:00:0a", "filename=/pool/bench0.raw"]
    assert qemu.template(argv, "bench0", 10, "native0", 20) == ["x", "lpm.ip=10.77.0.20/24", "mac=52:54:00:77:00:14",
                                                           "filename=/pool/native0.raw"]


def test_a_silence_is_split_at_its_first_announcement():
    replies = [(at / 1000, "reply") for at in (0, 2, 4, 104, 106, 116)]
    announcements = [(at / 1000, "announcement") for at in (3, 64, 70, 110)]
    silence, answer = ears.split(replies + announcements)
    assert (round(silence, 3), round(answer, 3)) == (100, 40)
    assert ears.split(replies)[1] is None and ears.split(replies[:1]) == (None, None)
