/* SPDX-License-Identifier: Apache-2.0 */
/* What this system says about itself, a partition, and a partition that is to come:
 * docs/spec/facts.md. */
#pragma once

#include "host/host.h"

/* System facts; the emulators have been looked at. New reference. */
json_t *lpm_facts_system(LpmHost *host);
/* "mains" or "battery", from the power-supply class at @directory. Static. */
const char *lpm_facts_power_state(const char *directory);
/* Partition facts of one that is or is not active. The result is borrowed. */
void lpm_facts_partition(LpmPartition *partition, LpmHostReply done, void *data);
/* What stands in the way of a partition that is to come. All borrowed; copied where they must last.
 */
void lpm_facts_target(LpmHost *host, const LpmProfile *profile, const json_t *runtime,
                      const json_t *nonces, LpmHostReply done, void *data);

/* --- nonces --- */

/* Writes one beside each disk; {"nonces": [{"disk","pool","file","nonce"}]}. NULL with STORAGE. New
 * reference. */
json_t *lpm_nonce_put(LpmPartition *partition, GError **error);
void lpm_nonce_drop(LpmPartition *partition);
/* Content of the nonce file of @disk among @nonces as seen from here; "" when it is not there.
 * g_free(). */
char *lpm_nonce_read(const LpmHost *host, const json_t *nonces, const char *disk);
/* SHA-256 of a file, hexadecimal; NULL when it cannot be read. g_free(). */
char *lpm_facts_digest(const char *path);
