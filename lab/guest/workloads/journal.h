/* SPDX-License-Identifier: Apache-2.0 */
/* The journal on the partition's first disk: record N lies in slot N modulo the number of slots,
 * and is written once, past the page cache, before the next is begun. lab/check-journal reads the
 * same layout from outside.
 *
 *   bytes 0..7    "LPMJRNL1"
 *   bytes 8..15   number of the record, little-endian, from 1
 *   bytes 16..23  number of slots on the disk, little-endian
 *   bytes 24..31  CRC-32 (zlib) of the other 504 bytes in order, little-endian
 *   bytes 32..71  boot identity of the partition that wrote it, zero-filled text
 *   bytes 72..511 words derived from the number */
#pragma once

enum { LAB_RECORD_BYTES = 512 };
#define LAB_RECORD_MAGIC "LPMJRNL1"
