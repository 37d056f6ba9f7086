/* SPDX-License-Identifier: Apache-2.0 */
/* Private to lib/model: names of enum values, and the rules that texts obey. */
#pragma once

#include "model/model.h"

extern const char *const lpm_family_names[LPM_FAMILY_N];
extern const char *const lpm_disk_format_names[LPM_FORMAT_N];
extern const char *const lpm_disk_adapter_names[LPM_ADAPTER_N];
extern const char *const lpm_disk_media_names[LPM_MEDIA_N];
extern const char *const lpm_arbiter_kind_names[LPM_ARBITER_N];
extern const char *const lpm_memory_backing_names[LPM_BACKING_N];
extern const char *const lpm_reserve_policy_names[LPM_RESERVE_N];
extern const char *const lpm_network_adapter_names[LPM_NET_N];

extern const char *const lpm_firmware_names[LPM_FIRMWARE_N];
extern const char *const lpm_disk_purpose_names[LPM_PURPOSE_N];

bool text_is_uuid(const char *text); /* 36 characters, lower case */
bool text_is_mode(
    const char *text); /* name of a mode or a machine type: a name that may hold "+" */
bool text_is_interrupt_mode(const char *text); /* "xics" or "dual" */
bool text_is_cache(const char *text);          /* "none", "directsync" or "writeback" */
bool text_is_mac(const char *text);            /* unicast, lower case, with colons */
bool text_is_names(const char *text);          /* legal names with commas between */
bool text_is_profile(const char *text);        /* a legal name of at most 31 bytes */
bool text_is_file(const char *text);           /* a path that stays inside its pool */
bool text_is_printable(const char *text);      /* no control characters */

/* Fills @bytes from the kernel's generator. */
void random_bytes(void *bytes, size_t length);
