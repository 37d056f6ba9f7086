/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory compared in the blackout. The target sends digests of all its pages, the source compares
 * with its own and sends the pages that differ, the target writes them and reads them back. Memory
 * is read with pread(): a page never touched stays untouched, and a file cut short is an error, not
 * a signal.
 */
#pragma once

#include "mover.h"

bool verify_init(Mover *mover);
/* Target, main thread: begin. False (and failed) when it is not possible. */
bool verify_start(Mover *mover);

/* Target, coder. */
bool verify_wants_to_send(Mover *mover);
bool verify_send_hashes(Mover *mover);

/* Writer; false when the mover failed. */
bool verify_compare(Mover *mover, const LpmStreamMessage *message); /* source: VERIFY_HASHES */
bool verify_repair(Mover *mover, const LpmStreamMessage *message);  /* target: VERIFY_PAGES */
bool verify_end(Mover *mover, const LpmStreamMessage *message);     /* both: VERIFY_END */
bool verify_report(Mover *mover, const LpmStreamMessage *message);  /* source: VERIFY_REPORT */
