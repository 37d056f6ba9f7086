# A thin front: everything is meson's, pytest's and the lab's work.
BUILD ?= build
PYTHON ?= /usr/bin/python3

.PHONY: all deps build demo check check-long cases model simulate faults soak bench fuzz sanitize install clean help

all: build

help:
	@echo "make demo         install what is missing, build, and watch two partitions move (KEEP=1 leaves the lab up)"
	@echo "make check        every test but the long ones"
	@echo "make check-long   the long ones"
	@echo "make cases K=EXPR lab cases whose name matches"
	@echo "make simulate     handovers with faults, simulated (N=1000000 SEED=...; ONE=SEED tells one run in words; MUTANTS=1 breaks the rules)"
	@echo "make faults       the fault matrix: each part of a move harmed in each phase (CELLS=N SEED=S STOP=60 ONLY=regex KEEPER=file LABS=2 OUT=file)"
	@echo "make soak         N=1000 moves to and fro with random faults (SEED=S KEEPER=file LABS=2 OUT=file)"
	@echo "make model        the handover's model: exhaustively within bounds, every mutant found (MODEL_MORE='source=3' goes further)"
	@echo "make bench        side by side with QEMU's own migration (ROWS=list shows its rows; PAIRS=5)"
	@echo "make fuzz         every fuzz target for SECONDS=30"
	@echo "make sanitize     the movers' tests under ThreadSanitizer, then AddressSanitizer (also in check-long)"
	@echo "make install      to DESTDIR and PREFIX, by meson; without DESTDIR also makes the users and tells systemd"

deps:
	@scripts/deps $(DEPS)

$(BUILD)/build.ninja:
	meson setup $(BUILD) -Dwerror=true -Dcrash_points=true >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }

build: deps
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

# What a target installs: scripts/deps says.
demo: DEPS = demo
install: DEPS = install
fuzz: DEPS = fuzz

demo: build
	@LPM_BUILD=$(abspath $(BUILD)) $(PYTHON) lab/demo.py $(if $(KEEP),--keep)

check: build
	@scripts/run-checks $(BUILD) unit style programs lab

check-long: build
	@scripts/run-checks $(BUILD) long-programs long-lab

cases: build
	@scripts/run-checks $(BUILD) lab -k "$(K)"

faults: build
	@LPM_BUILD=$(abspath $(BUILD)) $(PYTHON) lab/faults/matrix.py $(if $(CELLS),--cells $(CELLS)) $(if $(SEED),--seed $(SEED)) \
	    $(if $(STOP),--stop $(STOP)) $(if $(KEEPER),--keeper $(KEEPER)) $(if $(ONLY),--only "$(ONLY)") $(if $(LABS),--labs $(LABS)) $(if $(OUT),--out "$(OUT)")

soak: build
	@LPM_BUILD=$(abspath $(BUILD)) $(PYTHON) lab/faults/soak.py --moves $(or $(N),1000) $(if $(SEED),--seed $(SEED)) $(if $(KEEPER),--keeper $(KEEPER)) \
	    $(if $(LABS),--labs $(LABS)) $(if $(OUT),--out "$(OUT)")

simulate: build
	@$(BUILD)/tests/simulate/simulate $(if $(MUTANTS),--mutants,$(if $(ONE),--one $(ONE),--runs $(or $(N),1000000))) \
	    $(if $(SEED),--seed $(SEED)) $(if $(MUTANT),--mutant $(MUTANT))

model: deps
	@scripts/model

bench: build
	@LPM_BUILD=$(abspath $(BUILD)) $(PYTHON) bench/bench.py $(if $(ROWS),--rows "$(ROWS)") $(if $(PAIRS),--pairs $(PAIRS)) \
	    $(if $(WAIT),--wait $(WAIT)) $(if $(FRESH),--fresh)

fuzz: deps
	@scripts/fuzz $(or $(SECONDS),30)

sanitize: deps
	@scripts/sanitize thread
	@scripts/sanitize address,undefined

# A build of its own: optimised, and without the crash points of the tests.
install: deps
	@[ -f $(BUILD)-install/build.ninja ] || meson setup $(BUILD)-install --buildtype=release --prefix=$(or $(PREFIX),/usr/local)
	@ninja -C $(BUILD)-install --quiet
	DESTDIR="$(DESTDIR)" meson install -C $(BUILD)-install --no-rebuild
	@[ -n "$(DESTDIR)" ] || scripts/settle "$(or $(PREFIX),/usr/local)"

clean:
	rm -rf $(BUILD) $(BUILD).log $(BUILD)-install build-fuzz build-fuzz.log build-sanitize-*
