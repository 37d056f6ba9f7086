/* SPDX-License-Identifier: Apache-2.0 */
/* What the kinds share that reach their disks over a network. */
#include "host/identity.h"
#include "host/subprocess.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOOK_TIMEOUT_MS 4000 /* the console waits for 5 s */

/* --- create, remove --- */

typedef struct {
    LpmHostDone done;
    void *data;
    GError *error; /* NULL: good */
} Answer;

static void on_answer(gpointer data)
{
    Answer *answer = data;

    answer->done(answer->error, answer->data);
    g_clear_error(&answer->error);
    g_free(answer);
}

void lpm_storage_block_create(LpmHost *host, const LpmDisk *disk, LpmHostDone done, void *data)
{
    const LpmPoolConfig *pool = lpm_host_config_pool(host->config, disk->at.pool);
    Answer *answer = g_new0(Answer, 1);

    answer->done = done;
    answer->data = data;
    if (disk->size_mib > 0) {
        lpm_error_set(&answer->error, LPM_ERROR_UNSUPPORTED,
                      "disk %s: pool %s is of kind %s, where disks are made at the storage, not "
                      "from here; make it there and leave size_mib out",
                      disk->name, pool->name, lpm_pool_kind_name(pool->kind));
    }
    g_idle_add_once(on_answer, answer);
}

bool lpm_storage_block_remove(LpmHost *host G_GNUC_UNUSED, const LpmDisk *disk G_GNUC_UNUSED,
                              GError **error G_GNUC_UNUSED)
{
    return true;
}

/* --- secrets --- */

bool lpm_storage_secret(const LpmPoolConfig *pool, int *ret_fd, GError **error)
{
    g_autofree char *secret = pool->password_file ? lpm_pool_password(pool, error) : NULL;
    size_t length = secret ? strlen(secret) : 0;
    int fd;

    *ret_fd = -1;
    if (!pool->password_file) {
        return true;
    }
    if (!secret) {
        return false;
    }
    /* QEMU's user need not be able to read the file itself, and no command line shows it. */
    fd = memfd_create("lpm-secret", MFD_CLOEXEC);
    if (fd < 0 || write(fd, secret, length) != (ssize_t)length) {
        if (fd >= 0) {
            close(fd);
        }
        return lpm_error_set(error, LPM_ERROR_INTERNAL,
                             "storage pool %s: its secret cannot be handed to QEMU", pool->name);
    }
    *ret_fd = fd;
    return true;
}

/* --- look --- */

typedef struct {
    LpmStorageLook look;
    LpmQemuDisk place;
    LpmStorageLooked done;
    void *data;
    GError *error; /* NULL: qemu-img was asked */
    const LpmPoolConfig *pool;
    char *image;
} Look;

static void look_end(gpointer data)
{
    Look *job = data;

    if (job->error) {
        job->look.reason = g_strdup(job->error->message);
    }
    job->done(&job->look, job->data);
    lpm_storage_look_clear(&job->look);
    lpm_storage_place_clear(&job->place);
    g_free(job->image);
    g_clear_error(&job->error);
    g_free(job);
}

static void on_looked(const char *output, const GError *error, void *data)
{
    Look *job = data;
    g_autoptr(json_t) info = output ? lpm_json_parse(output, strlen(output), NULL) : NULL;

    if (info) {
        job->look.size_bytes = lpm_json_int(info, "virtual-size", 0);
        job->look.facts = lpm_identity_rbd(job->pool, job->image);
    } else {
        job->look.reason = g_strdup_printf(
            "%s: %s", job->look.path, error ? error->message : "qemu-img's answer is not JSON");
    }
    look_end(job);
}

/* Runs qemu-img on the place; the objects with credentials stand before the name. */
static void ask(LpmHost *host, const LpmDisk *disk, Look *job)
{
    /* Of this process, not of qemu-img: the descriptor is not inherited. */
    g_autofree char *secret =
        job->place.secret_fd >= 0
            ? g_strdup_printf("/proc/%d/fd/%d", (int)getpid(), job->place.secret_fd)
            : NULL;
    g_auto(GStrv) objects = NULL;
    g_autofree char *name =
        lpm_qemuargs_look_name(&job->place, lpm_disk_format_name(disk->format), secret, &objects);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    g_ptr_array_add(argv, host->config->qemu_img);
    g_ptr_array_add(argv, (gpointer) "info");
    g_ptr_array_add(argv, (gpointer) "-U");
    g_ptr_array_add(argv, (gpointer) "--output=json");
    for (char **object = objects; *object; object++) {
        g_ptr_array_add(argv, (gpointer) "--object");
        g_ptr_array_add(argv, *object);
    }
    g_ptr_array_add(argv, name);
    g_ptr_array_add(argv, NULL);
    lpm_subprocess_run((const char *const *)argv->pdata, 0, LOOK_TIMEOUT_MS, on_looked, job);
}

void lpm_storage_block_look(LpmHost *host, const LpmDisk *disk, const char *uuid G_GNUC_UNUSED,
                            LpmStorageLooked done, void *data)
{
    Look *job = g_new0(Look, 1);
    const LpmStorageOps *ops = lpm_storage_for(host, &disk->at, &job->error);

    job->done = done;
    job->data = data;
    job->pool = lpm_host_config_pool(host->config, disk->at.pool);
    job->image = g_strdup(disk->at.file);
    job->look.path = g_strdup_printf("%s of pool %s", disk->at.file, disk->at.pool);
    /* Every system asks the same server; none keeps a cache of its own below QEMU. */
    job->look.coherent = true;
    /* The server does not say what the bytes mean; QEMU is told so by the profile. */
    /* There are no locks that a client could see. */
    job->look.locked_by = g_strdup("");
    job->look.format = g_strdup(lpm_disk_format_name(disk->format));
    job->place.secret_fd = -1;
    if (ops &&
        ops->activate(host, &disk->at, true, (uid_t)-1, (gid_t)-1, &job->place, &job->error)) {
        ask(host, disk, job);
    } else {
        g_idle_add_once(look_end, job);
    }
}
