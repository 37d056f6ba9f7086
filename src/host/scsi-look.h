/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a logical unit says about itself, without changing anything on it. Blocking, for threads;
 * the decoders are pure and bounded by @size.
 */
#pragma once

#include "base/json.h"
#include "host/scsi.h"

/*
 * What VPD page 83 says that the unit is: its designator that is unique in the world ("naa.HEX",
 * "eui.HEX", "name.TEXT"), else all others, which may be unique in their target only ("t10.TEXT
 * naa.3HEX"); "" when it has none. g_free().
 */
char *lpm_scsi_designator(const uint8_t *page, size_t size, bool *ret_unique);
/* Number of the target port group that page 83 was read through; -1: it does not say. */
int lpm_scsi_port_group(const uint8_t *page, size_t size);
/* State of @group in what REPORT TARGET PORT GROUPS answered, "" when it can be used, else a phrase
 * ("its port group is on standby"). Static. */
const char *lpm_scsi_group_state(const uint8_t *answer, size_t size, int group);
/* Who holds the reservation, by what READ FULL STATUS answered: an iSCSI name, or the port's
 * identification in hexadecimal; "" when nobody does, or it is not said. g_free(). */
char *lpm_scsi_holder(const uint8_t *answer, size_t size);
const char *lpm_scsi_reservation_name(unsigned type); /* "write exclusive"; static */

/*
 * Members for a disk's facts (docs/spec/facts.md): identity, size_bytes, write_protected,
 * reservation, registered; what a reservation keeps from being read is left out. NULL with
 * an error when there is no such disk. New reference.
 */
json_t *lpm_scsi_look(LpmScsi *scsi, GError **error);
/* Adds the member "sample" to what lpm_scsi_look() has told. On slow storage this takes what is
 * left of the time, so that it comes last. */
void lpm_scsi_look_sample(LpmScsi *scsi, json_t *facts);
/* Identity of the unit behind this session, and whether it can be used over this path: NULL with
 * @error where not. g_free(). */
char *lpm_scsi_look_path(LpmScsi *scsi, GError **error);
