/* SPDX-License-Identifier: Apache-2.0 */
#include "host/rtc.h"

#include "base/log.h"

/* A guest that follows a time service sets its clock every few minutes, to the second: no change.
 */
#define SAME_S 2

static void keep(LpmPartition *partition, int64_t offset_s)
{
    LpmProfile *profile = partition->profile;
    int64_t before = profile->rtc_offset_s;
    g_autoptr(GError) error = NULL;

    if (ABS(offset_s) < SAME_S) {
        offset_s = 0;
    }
    if (!partition->stored || ABS(offset_s) > LPM_RTC_OFFSET_MAX ||
        (ABS(offset_s - before) < SAME_S && offset_s != 0) || offset_s == before) {
        return;
    }
    profile->rtc_offset_s = offset_s;
    if (lpm_partition_keep(partition, &error)) {
        lpm_log_info(&(LpmLogFields){.partition = profile->name},
                     "its operating system set its clock: %" G_GINT64_FORMAT " s from UTC",
                     offset_s);
    } else {
        profile->rtc_offset_s = before;
        lpm_log_warning(&(LpmLogFields){.partition = profile->name},
                        "its operating system set its clock, which will be lost at its next "
                        "start: %s",
                        error->message);
    }
}

void lpm_rtc_changed(LpmPartition *partition, const json_t *data)
{
    /* QEMU counts from what it was started with. */
    int64_t base = lpm_json_int(partition->runtime, "profile.rtc_offset_s", 0);
    int64_t change = lpm_json_int(data, "offset", 0);

    /* Whatever QEMU says: these two bounds keep the sum in range. */
    if (ABS(change / 2) < LPM_RTC_OFFSET_MAX) {
        keep(partition, base + change);
    }
}

static void on_time(json_t *result, const GError *error, void *data)
{
    g_autoptr(LpmPartition) partition = data;
    g_autoptr(GDateTime) time = NULL;

    if (error || !partition->pid) {
        return;
    }
    time = g_date_time_new_utc((int)CLAMP(lpm_json_int(result, "tm_year", 0), 0, 8000) + 1900,
                               (int)CLAMP(lpm_json_int(result, "tm_mon", 0), 0, 11) + 1,
                               (int)CLAMP(lpm_json_int(result, "tm_mday", 0), 1, 31),
                               (int)CLAMP(lpm_json_int(result, "tm_hour", 0), 0, 23),
                               (int)CLAMP(lpm_json_int(result, "tm_min", 0), 0, 59),
                               (int)CLAMP(lpm_json_int(result, "tm_sec", 0), 0, 59));
    if (time) {
        keep(partition, g_date_time_to_unix(time) -
                            lpm_clock_realtime_us(partition->host->clock) / G_USEC_PER_SEC);
    }
}

void lpm_rtc_look(LpmPartition *partition)
{
    lpm_qmp_call(partition->qmp, "qom-get",
                 lpm_json_pack("{s:s, s:s}", "path", "/machine", "property", "rtc-time"), on_time,
                 lpm_partition_ref(partition));
}
