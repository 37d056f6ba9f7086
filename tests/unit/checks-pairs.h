/* SPDX-License-Identifier: Apache-2.0 */
/* Part of test-checks.c. */
#pragma once

/* Conditions that take two changes; otherwise as above. */
static const struct {
    Case last;
    const char *path, *value;
} pairs[] = {
    {{"prediction.converges", X86, P "dirty", LOOKS("50000000", "200000000"), "partition web1",
      NULL, true},
     "options.max_rate",
     "1000000"},
    {{"guest.cluster-limit", X86, "guest",
      "{\"result\": \"ok\", \"scripts\": [{\"answer\": \"yes\", \"facts\": {\"cluster_members\": "
      "\"3\", \"cluster_token_ms\": \"9000\"}}]}",
      "partition web1", NULL, true},
     "options.asked_blackout_ms",
     "5000"},
    {{"server.emulator-safe", X86, "options.verify", "false",
      "QEMU 10.0.2 (tcg) on system system-a", NULL, true},
     P "runtime",
     "{\"profile\":{\"added_memory\":[{\"mib\":128}]},\"shared_modules\":1}"},
    {{"partition.memory-backing", X86, P "runtime",
      "{\"profile\":{\"added_memory\":[{\"mib\":128}]}}", "partition web1", "server.emulator-safe",
      true},
     "options.verify",
     "true"},
    {{"storage.cache", X86, P "disks.0.cache", "\"writeback\"", "disk disk0"},
     TC "disks.0.coherent",
     "false"},
    {{"storage.cache", X86, TC "disks.0.coherent", "false", "disk disk0"},
     P "disks.0.cache",
     "\"writeback\""},
    {{"server.huge-pages", X86, "target.memory.huge_pages",
      "[{\"kib\":2048,\"total_mib\":1024,\"free_mib\":254},{\"kib\":1048576,\"free_mib\":9999}]",
      "system system-b"},
     P "huge_page_kib",
     "2048"},
    {{"server.huge-pages", INACTIVE, "target.memory.huge_pages", "[]", "system system-b"},
     PP "huge_pages_kib",
     "2048"},
    {{"server.affinity", X86, "target.numa",
      "[{\"free_mib\":200,\"processors\":4,\"distances\":[10,20]},"
      "{\"free_mib\":200,\"processors\":4,\"distances\":[20,10]}]",
      "system system-b", "server.affinity-score"},
     "options.affinity",
     "true"},
    {{"mover.postcopy-pages", X86, "options.postcopy", "true", "partition web1",
      "mover.postcopy-risk", true},
     P "huge_page_kib",
     "2048"},
    {{"processor.interrupts", POWER, P "interrupt_mode", "\"dual\"", "partition web1"},
     "target.emulators.power.processor",
     "\"POWER8\""},
};
