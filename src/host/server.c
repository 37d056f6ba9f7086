/* SPDX-License-Identifier: Apache-2.0 */
#include "host/server.h"

#include "base/directory.h"
#include "base/log.h"
#include "base/service.h"
#include "host/emulator.h"
#include "host/etcd.h"
#include "host/lock-lun.h"
#include "host/logs.h"
#include "host/pagestore.h"
#include "host/partition.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

char *lpm_server_socket_path(const LpmHostConfig *config)
{
    return g_build_filename(config->run_dir, "host.sock", NULL);
}

char *lpm_server_tls_dir(const LpmHostConfig *config)
{
    return g_build_filename(config->state_dir, "tls", NULL);
}

/* --- directories and lock --- */

static bool make_dir(const char *path, mode_t mode, GError **error)
{
    if (lpm_directory_make(path, mode) != 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "directory %s cannot be made: %s", path,
                             g_strerror(errno));
    }
    return true;
}

/* QEMU's user must get through to the directory of its own partition, and see nothing else. */
static bool make_dirs(const LpmHostConfig *config, GError **error)
{
    g_autofree char *partitions = g_build_filename(config->run_dir, "partitions", NULL);
    g_autofree char *tls = lpm_server_tls_dir(config);

    /* Who made a directory before us, systemd say, chose its mode; the database has its own. But
     * "partitions" is nobody else's, and earlier releases made it too narrow under systemd. */
    if (!make_dir(config->state_dir, 0700, error) || !make_dir(tls, 0700, error) ||
        !make_dir(config->run_dir, 0711, error) || !make_dir(partitions, 0711, error)) {
        return false;
    }
    if (chmod(partitions, 0711) != 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "directory %s cannot be opened to QEMU: %s",
                             partitions, g_strerror(errno));
    }
    return true;
}

enum { LOCK_TRIES = 20 };

static bool take_lock(LpmHost *host, GError **error)
{
    g_autofree char *path = g_build_filename(host->config->state_dir, "lock", NULL);

    host->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (host->lock_fd < 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "lock %s cannot be opened: %s", path,
                             g_strerror(errno));
    }
    /* One that was just killed holds it until the last of its threads has ended. */
    for (int tries = 0; flock(host->lock_fd, LOCK_EX | LOCK_NB) != 0; tries++) {
        if (tries < LOCK_TRIES) {
            g_usleep(G_USEC_PER_SEC / 10);
            continue;
        }
        return lpm_error_set(error, LPM_ERROR_BUSY,
                             "another lpm-host works in %s; stop it first, or "
                             "give this one a state_dir of its own",
                             host->config->state_dir);
    }
    return true;
}

/* --- listening --- */

static bool listen_tls(LpmHost *host, GError **error)
{
    const LpmHostConfig *config = host->config;

    return lpm_rpc_server_listen_tls(host->server, config->rpc_address, config->rpc_port,
                                     host->credentials, false, &host->rpc_port, error);
}

bool lpm_server_reload(LpmHost *host, GError **error)
{
    g_autofree char *tls = lpm_server_tls_dir(host->config);
    g_autofree char *before = g_strdup(lpm_host_name(host));

    if (host->credentials) {
        if (!lpm_tls_credentials_reload(host->credentials, error)) {
            return false;
        }
    } else {
        host->credentials = lpm_tls_credentials_load(tls, error);
        if (!host->credentials) {
            return false;
        }
    }
    if (!host->rpc_port && !listen_tls(host, error)) {
        return false;
    }
    lpm_log_info(NULL, "joined as %s (was %s), the console reaches it at %s port %u",
                 lpm_host_name(host), before, host->config->rpc_address, host->rpc_port);
    return true;
}

static void try_credentials(LpmHost *host)
{
    g_autofree char *tls = lpm_server_tls_dir(host->config);
    g_autoptr(GError) error = NULL;

    host->credentials = lpm_tls_credentials_load(tls, &error);
    if (!host->credentials && !g_error_matches(error, LPM_ERROR, LPM_ERROR_STATE)) {
        lpm_log_error(NULL, "%s", error->message);
    }
}

static bool listen_all(LpmHost *host, GError **error)
{
    g_autofree char *path = lpm_server_socket_path(host->config);

    host->verbs = lpm_verbs_all(host->hooks);
    host->server = lpm_rpc_server_new(host->verbs, host);
    if (!lpm_rpc_server_listen_unix(host->server, path, error)) {
        return false;
    }
    if (!host->credentials) {
        lpm_log_info(NULL,
                     "not joined: listens on %s only; lpm-host join --console ADDRESS:PORT --token "
                     "TOKEN makes it a managed system",
                     path);
        return true;
    }
    return listen_tls(host, error);
}

/* --- open --- */

static void say_ready(LpmHost *host)
{
    lpm_service_ready();
    if (host->rpc_port) {
        lpm_log_info(NULL, "%s is ready at %s port %u", lpm_host_name(host),
                     host->config->rpc_address, host->rpc_port);
    } else {
        lpm_log_info(NULL, "%s is ready", lpm_host_name(host));
    }
}

static void on_emulators_known(const GError *error G_GNUC_UNUSED, void *data)
{
    LpmHost *host = data;
    GHashTableIter iter;
    gpointer value;

    /* Which mode is pending could not be told before. */
    g_hash_table_iter_init(&iter, host->partitions);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        lpm_qemu_set_reset(value);
    }
}

static void on_adopted(const GError *adoption_error, void *data)
{
    LpmHost *host = data;
    g_autoptr(GError) error = adoption_error ? g_error_copy(adoption_error) : NULL;

    if (error || (host->hooks && host->hooks->open && !host->hooks->open(host, &error)) ||
        !listen_all(host, &error)) {
        lpm_log_error(NULL, "%s", error->message);
        host->failed = true;
        g_main_loop_quit(host->loop);
        return;
    }
    lpm_emulators_when_ready(host, on_emulators_known, host);
    say_ready(host);
}

static void read_system(LpmHost *host)
{
    g_autoptr(json_t) kept = lpm_store_get(host->store, LPM_KIND_SYSTEM, "maintenance", NULL, NULL);

    host->maintenance = lpm_json_bool(kept, "maintenance", false);
}

LpmHost *lpm_server_open(LpmHostConfig *config, const char *data_dir, const LpmMobilityHooks *hooks,
                         GError **error)
{
    LpmHost *host = g_new0(LpmHost, 1);
    g_autofree char *database = g_build_filename(config->state_dir, "host.db", NULL);

    host->config = config;
    host->clock = lpm_clock_system();
    host->hooks = hooks;
    host->lock_fd = -1;
    host->loop = g_main_loop_new(NULL, FALSE);
    host->partitions =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)lpm_partition_unref);
    host->digests = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (!make_dirs(config, error) || !take_lock(host, error)) {
        lpm_server_close(host);
        return NULL;
    }
    host->store = lpm_store_open(database, error);
    host->emulators = host->store ? lpm_emulators_new(host, data_dir, error) : NULL;
    if (!host->emulators) {
        lpm_server_close(host);
        return NULL;
    }
    read_system(host);
    lpm_images_open(host);
    lpm_logs_watch(host);
    try_credentials(host);
    lpm_adopt_all(host, on_adopted, host);
    return host;
}

void lpm_server_close(LpmHost *host)
{
    if (host->server && host->hooks && host->hooks->close) {
        host->hooks->close(host);
    }
    lpm_service_stopping();
    g_clear_handle_id(&host->logs_timer, g_source_remove);
    lpm_rpc_server_free(host->server);
    host->server = NULL;
    g_hash_table_unref(host->partitions);
    lpm_images_close(host);
    lpm_emulators_free(host->emulators);
    lpm_tls_credentials_free(host->credentials);
    lpm_store_close(host->store);
    g_free(host->verbs);
    g_hash_table_unref(host->digests);
    if (host->lock_fd >= 0) {
        close(host->lock_fd);
    }
    g_main_loop_unref(host->loop);
    lpm_etcd_unref(host->etcd);
    lpm_lock_lun_unref(host->lock_lun);
    lpm_host_config_free(host->config);
    g_free(host);
}
