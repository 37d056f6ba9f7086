/* SPDX-License-Identifier: Apache-2.0 */
#include "base/service.h"

#include <glib.h>
#include <stdint.h>
#include <systemd/sd-daemon.h>

static guint watchdog;

static gboolean on_watchdog(gpointer data)
{
    (void)data;
    sd_notify(0, "WATCHDOG=1");
    return G_SOURCE_CONTINUE;
}

void lpm_service_ready(void)
{
    uint64_t interval_us;

    sd_notify(0, "READY=1");
    if (watchdog == 0 && sd_watchdog_enabled(0, &interval_us) > 0) {
        watchdog = g_timeout_add((guint)(interval_us / 2000), on_watchdog, NULL);
    }
}

void lpm_service_status(const char *text)
{
    sd_notifyf(0, "STATUS=%s", text);
}

void lpm_service_stopping(void)
{
    sd_notify(0, "STOPPING=1");
    if (watchdog != 0) {
        g_source_remove(watchdog);
        watchdog = 0;
    }
}
