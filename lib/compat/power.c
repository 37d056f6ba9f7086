/* SPDX-License-Identifier: Apache-2.0 */
/* POWER servers and partitions as QEMU runs them. */
#include "compat/internal.h"

#include <string.h>

/* Bits of the PCR that hold a processor at an older level: 0x02 (POWER6) to 0x20 (POWER10). */
#define PCR_LEVELS 0x3eu

/* Number in "FW940" or "FW1010.20"; 0 when there is none. */
static unsigned firmware_level(const char *firmware)
{
    LpmVersion version;

    if (firmware && g_ascii_strncasecmp(firmware, "FW", 2) == 0) {
        firmware += 2;
    }
    return lpm_version_parse(firmware, &version) ? version.part[0] : 0;
}

/* @entry is "POWER9" or "POWER9/FW940": the generation, and the lowest firmware level. */
static bool entry_covers(const char *entry, const char *generation, const char *firmware)
{
    size_t length = strcspn(entry, "/");

    if (!generation || strlen(generation) != length ||
        g_ascii_strncasecmp(entry, generation, length) != 0) {
        return false;
    }
    return entry[length] == '\0' || !firmware || !*firmware ||
           firmware_level(firmware) >= firmware_level(entry + length + 1);
}

static bool runs_on(const LpmMode *mode, const char *generation, const char *firmware)
{
    for (size_t i = 0; mode->runs_on && mode->runs_on[i]; i++) {
        if (entry_covers(mode->runs_on[i], generation, firmware)) {
            return true;
        }
    }
    return false;
}

char **lpm_compat_system_modes_power(const LpmCompat *compat, const char *generation,
                                     const char *firmware)
{
    GStrvBuilder *builder = g_strv_builder_new();
    char **names;

    for (guint i = 0; i < compat->modes->len; i++) {
        const LpmMode *mode = compat->modes->pdata[i];

        if (runs_on(mode, generation, firmware)) {
            g_strv_builder_add(builder, mode->name);
        }
    }
    names = g_strv_builder_end(builder);
    g_strv_builder_unref(builder);
    return names;
}

/* Level in the PCR: in its low byte, or in its top byte where QEMU printed it for a little-endian
 * guest. */
static unsigned pcr_level_bits(uint64_t pcr)
{
    unsigned low = (unsigned)(pcr & PCR_LEVELS);

    return low ? low : (unsigned)(pcr >> 56) & PCR_LEVELS;
}

const LpmMode *lpm_compat_mode_from_pcr(const LpmCompat *compat, uint64_t pcr,
                                        const char *generation, const char *activated_with)
{
    const LpmMode *native = lpm_compat_find(compat, generation);
    const LpmMode *preferred = lpm_compat_find(compat, activated_with);
    unsigned bits = pcr_level_bits(pcr);
    unsigned level = bits & (~bits + 1u); /* the lowest bit that is set */

    if (!native || native->family != LPM_FAMILY_POWER) {
        return NULL;
    }
    if (!level) {
        level = native->pcr_bit;
    }
    if (preferred && preferred->pcr_bit && preferred->pcr_bit == level) {
        return preferred;
    }
    for (guint i = 0; i < compat->modes->len; i++) {
        const LpmMode *mode = compat->modes->pdata[i];

        /* A mode above the server's own is never what a PCR of 0 means. */
        if (mode->family == LPM_FAMILY_POWER && level && mode->pcr_bit == level &&
            runs_on(mode, generation, NULL)) {
            return mode;
        }
    }
    return NULL;
}

const LpmMode *lpm_compat_mode_from_pvr(const LpmCompat *compat, uint32_t pvr)
{
    for (guint i = 0; i < compat->modes->len; i++) {
        const LpmMode *mode = compat->modes->pdata[i];

        if (pvr && mode->pvr == pvr) {
            return mode;
        }
    }
    return NULL;
}

const char *lpm_compat_power_cpu(const LpmCompat *compat, const char *generation)
{
    const LpmMode *server = lpm_compat_find(compat, generation);

    return server && server->family == LPM_FAMILY_POWER ? server->server_cpu : NULL;
}

const char *lpm_compat_power_max(const LpmCompat *compat, const char *generation,
                                 const char *preferred)
{
    const LpmMode *server = lpm_compat_find(compat, generation);
    const LpmMode *wanted = lpm_compat_find(compat, preferred);

    if (wanted && wanted->max_compat && (!server || wanted->rank <= server->rank)) {
        return wanted->max_compat;
    }
    return server ? server->server_max : NULL;
}

/* From POWER9 on there is XIVE; where it came in is where its processor level did. */
static bool has_xive(const LpmCompat *compat, const char *name)
{
    const LpmMode *mode = lpm_compat_find(compat, name);
    const LpmMode *power8 = lpm_compat_find(compat, "POWER8");

    return mode && power8 && mode->family == LPM_FAMILY_POWER && mode->rank > power8->rank;
}

const char *lpm_compat_interrupt_mode(const LpmCompat *compat, const char *preferred)
{
    return has_xive(compat, preferred) ? "dual" : "xics";
}

const char *lpm_compat_interrupts_in_use(const LpmCompat *compat, const char *interrupt_mode,
                                         const char *current)
{
    return g_strcmp0(interrupt_mode, "dual") == 0 && has_xive(compat, current) ? "xive" : "xics";
}
