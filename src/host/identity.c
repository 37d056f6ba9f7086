/* SPDX-License-Identifier: Apache-2.0 */
/* What all kinds of disks share: drivers, refusals, names. */
#include "host/identity.h"

#include "host/background.h"

#include "host/emulator.h"
#include "host/subprocess.h"

#include <string.h>

/* --- refusals --- */

typedef struct {
    char *reason;
    LpmStorageLooked done;
    void *data;
} Refusal;

static void on_refused(gpointer data)
{
    Refusal *refusal = data;

    refusal->done(&(LpmStorageLook){.reason = refusal->reason, .size_bytes = -1}, refusal->data);
    g_free(refusal->reason);
    g_free(refusal);
}

void lpm_identity_refuse(const GError *error, LpmStorageLooked done, void *data)
{
    Refusal *refusal = g_new0(Refusal, 1);

    refusal->reason = g_strdup(error->message);
    refusal->done = done;
    refusal->data = data;
    g_idle_add_once(on_refused, refusal);
}

/* --- answers --- */

LpmIdentityOwner *lpm_identity_owner_new(char *path, const char *format, LpmStorageLooked done,
                                         void *data)
{
    LpmIdentityOwner *owner = g_new0(LpmIdentityOwner, 1);

    owner->path = path;
    owner->format = g_strdup(format);
    owner->done = done;
    owner->data = data;
    return owner;
}

void lpm_identity_answer(LpmIdentityOwner *owner, json_t *facts, const char *reason)
{
    LpmStorageLook look = {.path = owner->path, .coherent = true};
    g_autofree char *text = NULL;

    if (facts) {
        look.facts = facts;
        look.format = owner->format;
        look.size_bytes = lpm_json_int(facts, "size_bytes", -1);
    } else {
        text = reason ? g_strdup(reason) : lpm_background_late(owner->path, LPM_IDENTITY_MS);
        look.reason = text;
    }
    owner->done(&look, owner->data);
    g_free(owner->path);
    g_free(owner->format);
    g_free(owner);
}

/* --- RBD --- */

/* The cluster's own identification, where Ceph's configuration has it; "" else. */
static char *cluster_of(const LpmPoolConfig *pool)
{
    const char *path = pool->conf ? pool->conf : "/etc/ceph/ceph.conf";
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return g_strdup("");
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        char *value = strchr(g_strstrip(*line), '=');

        if (g_str_has_prefix(*line, "fsid") && value) {
            return g_strdup(g_strstrip(value + 1));
        }
    }
    return g_strdup("");
}

json_t *lpm_identity_rbd(const LpmPoolConfig *pool, const char *image)
{
    g_autofree char *cluster = cluster_of(pool);
    g_autofree char *text = g_strdup_printf("rbd:%s/%s/%s/%s", cluster, pool->rbd_pool,
                                            pool->rbd_namespace ? pool->rbd_namespace : "", image);
    g_autofree char *identity = g_utf8_make_valid(text, -1);

    return lpm_json_pack("{s:s, s:s}", "proof", "image", "identity", identity);
}

/* --- drivers --- */

#define DRIVER_TIMEOUT_MS 1900

/*
 * QEMU is started without a machine and with a disk that cannot be there: what it complains about
 * says whether it knows the driver. Nothing leaves this system.
 */
static const struct {
    const char *kind;
    const char *disk;
} drivers[] = {
    {"iscsi", "driver=iscsi,node-name=x,transport=tcp,portal=127.0.0.1:1,"
              "target=iqn.2026-01.org.example:none,lun=0"},
    {"rbd", "driver=rbd,node-name=x,pool=none,image=none,conf=/nonexistent/ceph.conf"},
};

typedef struct {
    LpmIdentityDriver done;
    void *data;
    char *reason; /* NULL: QEMU is asked */
} Driver;

static void driver_end(gpointer data)
{
    Driver *driver = data;

    driver->done(driver->reason, driver->data);
    g_free(driver->reason);
    g_free(driver);
}

static void on_asked(const char *output G_GNUC_UNUSED, const GError *error, void *data)
{
    Driver *driver = data;

    driver->reason =
        error && strstr(error->message, "Unknown driver") ? g_strdup(error->message) : g_strdup("");
    driver_end(driver);
}

void lpm_identity_driver(LpmHost *host, LpmFamily family, const char *kind, LpmIdentityDriver done,
                         void *data)
{
    const LpmEmulator *emulator = lpm_emulator_get(host, family, NULL);
    Driver *driver = g_new0(Driver, 1);

    driver->done = done;
    driver->data = data;
    for (size_t i = 0; emulator && i < G_N_ELEMENTS(drivers); i++) {
        if (strcmp(drivers[i].kind, kind) == 0) {
            lpm_subprocess_run((const char *[]){emulator->path, "-M", "none", "-nodefaults",
                                                "-display", "none", "-S", "-blockdev",
                                                drivers[i].disk, NULL},
                               0, DRIVER_TIMEOUT_MS, on_asked, driver);
            return;
        }
    }
    driver->reason = g_strdup(""); /* built in; that there is no emulator is another check's word */
    g_idle_add_once(driver_end, driver);
}
