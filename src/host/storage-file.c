/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that are regular files in a directory, local or shared by a file system. */
#include "base/directory.h"
#include "host/background.h"
#include "host/holders.h"
#include "host/identity.h"
#include "host/subprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QEMU_IMG_TIMEOUT_MS 20000
#define LOOK_TIMEOUT_MS     3000 /* with LPM_IDENTITY_MS; the console waits for 5 s */

static bool file_serves(const LpmHost *host G_GNUC_UNUSED, const LpmPoolConfig *pool)
{
    return pool->kind == LPM_POOL_FILE;
}

/* Whether the pool itself is there: without it a file that is missing says nothing, and none is
 * made. Waits as long as its file system does. */
static bool check_directory(const char *pool, const char *path, const char *system, GError **error)
{
    return g_file_test(path, G_FILE_TEST_IS_DIR) ||
           lpm_error_set(error, LPM_ERROR_STORAGE,
                         "storage pool %s: %s is not a directory on %s; mount it or correct its "
                         "path",
                         pool, path, system);
}

/* Path of the file, as lpm_host_file_path(), in a pool that is there. */
static char *path_in_pool(LpmHost *host, const LpmFileRef *at, GError **error)
{
    g_autofree char *path = lpm_host_file_path(host, at, error);

    if (!path || !check_directory(at->pool, lpm_host_pool_path(host, at->pool, NULL),
                                  lpm_host_name(host), error)) {
        return NULL;
    }
    return g_steal_pointer(&path);
}

/* --- create --- */

typedef struct {
    LpmHostDone done;
    void *data;
    char *path;
    char *disk;
} Create;

static void create_end(Create *create, const GError *error)
{
    create->done(error, create->data);
    g_free(create->path);
    g_free(create->disk);
    g_free(create);
}

static void on_created(const char *output G_GNUC_UNUSED, const GError *error, void *data)
{
    Create *create = data;
    g_autoptr(GError) failure = NULL;

    if (error) {
        lpm_error_set(&failure, LPM_ERROR_STORAGE, "disk %s (%s) cannot be made: %s", create->disk,
                      create->path, error->message);
    }
    create_end(create, failure);
}

/* What on_nothing_to_create() will say. Takes @why. */
static void create_refuse(Create *create, char *why)
{
    g_free(create->disk);
    create->disk = why;
    g_clear_pointer(&create->path, g_free);
}

/* What the errno @number means here. */
static const char *storage_why(int number)
{
    return number == EROFS ? "the file system is read-only, or the unit of lpm-host does not open "
                             "this directory to it: see pools.conf.example"
                           : g_strerror(number);
}

/* The directory that a new disk will be in, for QEMU's user to pass through. */
static bool make_place(Create *create, LpmHost *host)
{
    g_autofree char *directory = g_path_get_dirname(create->path);

    if (lpm_directory_make(directory, 0755) == 0 && access(directory, W_OK | X_OK) == 0) {
        return true;
    }
    create_refuse(create, g_strdup_printf("disk %s: %s cannot be made in %s on %s: %s",
                                          create->disk, create->path, directory,
                                          lpm_host_name(host), storage_why(errno)));
    return false;
}

static gboolean on_nothing_to_create(gpointer data)
{
    Create *create = data;
    g_autoptr(GError) failure = NULL;

    if (!create->path) {
        lpm_error_set(&failure, LPM_ERROR_STORAGE, "%s", create->disk);
    }
    create_end(create, failure);
    return G_SOURCE_REMOVE;
}

static void file_create(LpmHost *host, const LpmDisk *disk, LpmHostDone done, void *data)
{
    Create *create = g_new0(Create, 1);
    g_autofree char *size = g_strdup_printf("%" G_GINT64_FORMAT "M", disk->size_mib);
    g_autoptr(GError) error = NULL;

    create->done = done;
    create->data = data;
    create->disk = g_strdup(disk->name);
    create->path = path_in_pool(host, &disk->at, &error);
    if (!create->path) {
        create_refuse(create, g_strdup_printf("disk %s: %s", disk->name, error->message));
    }
    if (create->path && disk->purpose == LPM_PURPOSE_FIRMWARE && disk->size_mib == 0 &&
        !g_file_test(create->path, G_FILE_TEST_EXISTS)) {
        const char *argv[] = {
            host->config->qemu_img,       "convert",    "-q", "-f", "raw", "-O", "raw",
            host->config->uefi_variables, create->path, NULL};

        lpm_subprocess_run(argv, 0, QEMU_IMG_TIMEOUT_MS, on_created, create);
        return;
    }
    if (create->path && !g_file_test(create->path, G_FILE_TEST_EXISTS) && disk->size_mib > 0 &&
        make_place(create, host)) {
        const char *argv[] = {
            host->config->qemu_img, "create", "-q", "-f", lpm_disk_format_name(disk->format),
            create->path,           size,     NULL};

        lpm_subprocess_run(argv, 0, QEMU_IMG_TIMEOUT_MS, on_created, create);
        return;
    }
    if (create->path && !g_file_test(create->path, G_FILE_TEST_EXISTS)) {
        create_refuse(create, g_strdup_printf("disk %s: %s does not exist on %s; give size_mib to "
                                              "have it made, or put it there",
                                              disk->name, create->path, lpm_host_name(host)));
    }
    g_idle_add(on_nothing_to_create, create);
}

/* --- activate, remove --- */

/* Opened without following a last symbolic link: the owner is changed of nothing but a regular file
 * of the pool. */
static int open_regular(const char *path, bool read_only, struct stat *info, GError **error)
{
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0) {
        lpm_error_set(error, LPM_ERROR_STORAGE,
                      "%s cannot be opened: %s; check that it exists, that it "
                      "is no link, and its permissions",
                      path, storage_why(errno));
        return -1;
    }
    if (fstat(fd, info) != 0 || !S_ISREG(info->st_mode)) {
        lpm_error_set(error, LPM_ERROR_STORAGE,
                      "%s is not a regular file; only such can be disks of this "
                      "pool",
                      path);
        close(fd);
        return -1;
    }
    return fd;
}

static bool file_activate(LpmHost *host, const LpmFileRef *at, bool read_only, uid_t uid, gid_t gid,
                          LpmQemuDisk *ret, GError **error)
{
    g_autofree char *path = path_in_pool(host, at, error);
    struct stat info;
    bool good = true;
    int fd;

    if (!path) {
        return false;
    }
    fd = open_regular(path, read_only, &info, error);
    if (fd < 0) {
        return false;
    }
    /* What is only read (a kernel, say) may be shared by many and keeps its owner, unless QEMU
     * could not read it. */
    if (uid != (uid_t)-1 && info.st_uid != uid && (!read_only || !(info.st_mode & S_IROTH))) {
        good = fchown(fd, uid, gid) == 0;
    }
    if (good && !read_only && (info.st_mode & (S_IRUSR | S_IWUSR)) != (S_IRUSR | S_IWUSR)) {
        good = fchmod(fd, (info.st_mode & 07777) | S_IRUSR | S_IWUSR) == 0;
    }
    if (!good) {
        lpm_error_set(error, LPM_ERROR_STORAGE, "%s cannot be given to the user of QEMU: %s", path,
                      g_strerror(errno));
    }
    close(fd);
    if (good) {
        ret->kind = LPM_QEMU_DISK_FILE;
        ret->path = g_steal_pointer(&path);
    }
    return good;
}

static bool file_remove(LpmHost *host, const LpmDisk *disk, GError **error)
{
    g_autofree char *path = path_in_pool(host, &disk->at, error);

    if (!path) {
        return false;
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "disk %s: %s cannot be deleted: %s",
                             disk->name, path, g_strerror(errno));
    }
    return true;
}

/* --- look --- */

typedef struct {
    LpmHost *host;
    LpmDiskFormat format; /* in the profile */
    LpmStorageLook look;
    json_t *identity; /* lpm_identity_file_facts() */
    LpmStorageLooked done;
    void *data;
} Look;

static void look_end(Look *job)
{
    job->done(&job->look, job->data);
    lpm_storage_look_clear(&job->look);
    json_decref(job->identity);
    g_free(job);
}

static gboolean on_look_refused(gpointer data)
{
    look_end(data);
    return G_SOURCE_REMOVE;
}

static void on_identity(json_t *facts, void *data)
{
    Look *job = data;

    job->look.facts = json_incref(facts);
    look_end(job);
}

static void on_looked(const char *output, const GError *error, void *data)
{
    Look *job = data;
    g_autoptr(json_t) info = output ? lpm_json_parse(output, strlen(output), NULL) : NULL;

    if (info) {
        job->look.format = g_strdup(lpm_json_str(info, "format", NULL));
        job->look.size_bytes = lpm_json_int(info, "virtual-size", 0);
        lpm_identity_file(job->host, job->look.path, info, job->format, job->identity, on_identity,
                          job);
        return;
    }
    job->look.reason = g_strdup_printf("%s: %s", job->look.path,
                                       error ? error->message : "qemu-img's answer is not JSON");
    look_end(job);
}

/* What only the file system can tell, which may be slow, or hang. */
typedef struct {
    char *path, *uuid;
    char *pool, *directory, *system; /* where it is */
    bool read_only, coherent;
    char *reason; /* NULL: the rest is known */
    char *locked_by;
    json_t *facts;
} Sight;

static void see(void *data)
{
    Sight *sight = data;
    g_autoptr(GError) error = NULL;
    struct stat info;
    int fd = check_directory(sight->pool, sight->directory, sight->system, &error)
                 ? open_regular(sight->path, sight->read_only, &info, &error)
                 : -1;

    if (fd < 0) {
        sight->reason = g_strdup(error->message);
        return;
    }
    close(fd);
    (void)lpm_identity_file_system(sight->path, &sight->coherent);
    sight->locked_by = lpm_holders(sight->path, sight->uuid, NULL);
    sight->facts = lpm_identity_file_facts(sight->path);
}

static void seen(void *data, bool late, void *owner)
{
    Look *job = owner;
    Sight *sight = data;

    if (late) {
        job->look.reason = lpm_background_late(job->look.path, LPM_IDENTITY_MS);
    } else {
        job->look.reason = g_steal_pointer(&sight->reason);
    }
    if (job->look.reason) {
        look_end(job);
        return;
    }
    job->look.coherent = sight->coherent;
    job->look.locked_by = g_steal_pointer(&sight->locked_by);
    job->identity = g_steal_pointer(&sight->facts);
    /* -U: a running QEMU holds the image's locks; nothing is written here. */
    lpm_subprocess_run((const char *[]){job->host->config->qemu_img, "info", "-U", "--output=json",
                                        job->look.path, NULL},
                       0, LOOK_TIMEOUT_MS, on_looked, job);
}

static void sight_free(void *data)
{
    Sight *sight = data;

    json_decref(sight->facts);
    g_free(sight->locked_by);
    g_free(sight->reason);
    g_free(sight->uuid);
    g_free(sight->pool);
    g_free(sight->directory);
    g_free(sight->system);
    g_free(sight->path);
    g_free(sight);
}

static void file_look(LpmHost *host, const LpmDisk *disk, const char *uuid, LpmStorageLooked done,
                      void *data)
{
    static const LpmBackgroundOps ops = {see, seen, sight_free};
    Look *job = g_new0(Look, 1);
    g_autoptr(GError) error = NULL;
    Sight *sight;

    job->host = host;
    job->format = disk->format;
    job->done = done;
    job->data = data;
    job->look.path = lpm_host_file_path(host, &disk->at, &error);
    if (!job->look.path) {
        job->look.reason = g_strdup(error->message);
        g_idle_add(on_look_refused, job);
        return;
    }
    sight = g_new0(Sight, 1);
    sight->path = g_strdup(job->look.path);
    sight->uuid = g_strdup(uuid);
    sight->pool = g_strdup(disk->at.pool);
    sight->directory = g_strdup(lpm_host_pool_path(host, disk->at.pool, NULL));
    sight->system = g_strdup(lpm_host_name(host));
    sight->read_only = disk->read_only;
    lpm_background_run(&ops, LPM_IDENTITY_MS, sight, job);
}

const LpmStorageOps lpm_storage_file = {
    .kind = "file",
    .serves = file_serves,
    .create = file_create,
    .activate = file_activate,
    .remove = file_remove,
    .look = file_look,
};
