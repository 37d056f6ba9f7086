/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files of both daemons: what is taken is within its ranges, what is not is named. */
#include "console/config.h"
#include "host/config.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *file_with(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];

    if (fd < 0) {
        fd = memfd_create("config", MFD_CLOEXEC);
        g_assert(fd >= 0);
        g_snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    g_assert(ftruncate(fd, 0) == 0);
    g_assert(pwrite(fd, data, size, 0) == (ssize_t)size);
    return path;
}

static void of_host(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(LpmHostConfig) config = lpm_host_config_load(path, &error);

    g_assert(!config == !!error);
    if (config) {
        g_assert(lpm_name_is_valid(config->name));
        g_assert(config->state_dir[0] == '/' && config->run_dir[0] == '/');
        g_assert(config->active_moves >= 0 && config->inactive_moves >= 0);
        g_assert(config->mover_port_first <= config->mover_port_last);
        for (size_t i = 0; i < config->n_pools; i++) {
            const LpmPoolConfig *pool = &config->pools[i];

            g_assert(lpm_name_is_valid(pool->name));
            g_assert(pool->kind != LPM_POOL_FILE || pool->path[0] == '/');
        }
    }
}

static void of_console(const char *path)
{
    g_autoptr(GError) error = NULL;
    LpmConsoleConfig *config = lpm_console_config_load(path, &error);

    g_assert(!config == !!error);
    if (config) {
        g_autofree char *text = lpm_console_config_text(config);

        g_assert(lpm_name_is_valid(config->name) && text);
        g_assert(config->max_moves >= 1 && config->max_moves <= 1000);
    }
    lpm_console_config_free(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        const char *path = file_with(data + 1, size - 1);

        if (data[0] % 2 == 0) {
            of_host(path);
        } else {
            of_console(path);
        }
    }
    return 0;
}
