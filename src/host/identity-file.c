/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of a disk in a file beside its size: its file system, its locks, what it is backed
 * by. */
#include "host/background.h"
#include "host/holders.h"
#include "host/identity.h"
#include "host/sample.h"
#include "host/subprocess.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CHAIN_MAX 32 /* files below a qcow2 that are looked at */

/* Those on which the page cache of one system does not see at once what another one writes, and
 * some more by name. */
static const struct {
    unsigned long type;
    const char *name;
    bool coherent;
} file_systems[] = {
    {0x6969, "NFS", false},       {0x517B, "SMB", false},        {0xFE534D42, "SMB 2", false},
    {0xFF534D42, "CIFS", false},  {0x01021997, "9P", false},     {0x65735546, "FUSE", false},
    {0xEF53, "ext4", true},       {0x58465342, "XFS", true},     {0x9123683E, "Btrfs", true},
    {0x01021994, "tmpfs", true},  {0x794C7630, "overlay", true}, {0x01161970, "GFS2", true},
    {0x7461636F, "OCFS2", true},  {0x00C36400, "CephFS", true},  {0x47504653, "GPFS", true},
    {0x0BD00BD0, "Lustre", true},
};

const char *lpm_identity_file_system(const char *path, bool *ret_coherent)
{
    struct statfs fs;

    *ret_coherent = false;
    if (statfs(path, &fs) != 0) {
        return "unknown";
    }
    for (size_t i = 0; i < G_N_ELEMENTS(file_systems); i++) {
        if (((unsigned long)fs.f_type & 0xFFFFFFFF) == file_systems[i].type) {
            *ret_coherent = file_systems[i].coherent;
            return file_systems[i].name;
        }
    }
    *ret_coherent = true;
    return "other";
}

/* --- the chain --- */

typedef struct {
    json_t *files; /* rows of the facts' "backing" */
} Samples;

typedef struct {
    LpmIdentityFile done;
    void *data;
    json_t *facts;
} Chain;

static void chain_end(Chain *chain, json_t *files, const char *reason)
{
    json_object_set(chain->facts, "backing", files);
    json_object_set_new(chain->facts, "backing_reason", json_string(reason));
    chain->done(chain->facts, chain->data);
    json_decref(chain->facts);
    g_free(chain);
}

static bool read_block(void *data, uint64_t offset, uint8_t bytes[LPM_SAMPLE_BLOCK])
{
    return pread(*(int *)data, bytes, LPM_SAMPLE_BLOCK, (off_t)offset) == LPM_SAMPLE_BLOCK;
}

static void sample_file(json_t *row)
{
    int fd = open(lpm_json_str(row, "file", ""), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    bool good =
        fd >= 0 && fstat(fd, &info) == 0 && (S_ISREG(info.st_mode) || S_ISBLK(info.st_mode));
    off_t end = good ? lseek(fd, 0, SEEK_END) : 0;

    /* An image below that is no file is compared by size and format. */
    json_object_set_new(row, "sample",
                        end > 0 ? lpm_sample_take((uint64_t)end, 1, 0, read_block, &fd)
                                : json_array());
    if (fd >= 0) {
        close(fd);
    }
}

static void sample_work(void *data)
{
    Samples *samples = data;
    json_t *row;
    size_t i;

    json_array_foreach (samples->files, i, row) {
        sample_file(row);
    }
}

static void sample_done(void *data, bool late, void *owner)
{
    g_autoptr(json_t) none = json_array();
    const Samples *samples = data;

    chain_end(owner, late ? none : samples->files,
              late ? "its backing files cannot be read in time" : "");
}

static void sample_free(void *data)
{
    Samples *samples = data;

    json_decref(samples->files);
    g_free(samples);
}

static void on_chain(const char *output, const GError *error, void *data)
{
    static const LpmBackgroundOps ops = {sample_work, sample_done, sample_free};
    Chain *chain = data;
    g_autoptr(json_t) list = output ? lpm_json_parse(output, strlen(output), NULL) : NULL;
    g_autoptr(json_t) none = json_array();
    Samples *samples;

    if (!json_is_array(list) || json_array_size(list) > CHAIN_MAX) {
        chain_end(chain, none,
                  error  ? error->message
                  : list ? "it is backed by more than 32 files"
                         : "qemu-img's answer is not JSON");
        return;
    }
    samples = g_new0(Samples, 1);
    samples->files = json_array();
    for (size_t i = 1; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);

        json_array_append_new(samples->files,
                              lpm_json_pack("{s:s, s:s, s:I}", "file",
                                            lpm_json_str(item, "filename", "?"), "format",
                                            lpm_json_str(item, "format", "?"), "size_bytes",
                                            (json_int_t)lpm_json_int(item, "virtual-size", -1)));
    }
    lpm_background_run(&ops, LPM_IDENTITY_MS, samples, chain);
}

json_t *lpm_identity_file_facts(const char *path)
{
    bool coherent;
    const char *lock = lpm_image_lock(path, NULL);

    return lpm_json_pack("{s:s, s:s*}", "filesystem", lpm_identity_file_system(path, &coherent),
                         "lock", lock);
}

void lpm_identity_file(LpmHost *host, const char *path, const json_t *info, LpmDiskFormat format,
                       json_t *facts, LpmIdentityFile done, void *data)
{
    Chain *chain;

    /* A raw disk's content is the guest's, who must not have files opened by what he writes there.
     */
    if (format != LPM_FORMAT_QCOW2 || g_strcmp0(lpm_json_str(info, "format", ""), "qcow2") != 0 ||
        !lpm_json_str(info, "backing-filename", NULL)) {
        done(facts, data);
        return;
    }
    chain = g_new0(Chain, 1);
    chain->done = done;
    chain->data = data;
    chain->facts = json_incref(facts);
    lpm_subprocess_run((const char *[]){host->config->qemu_img, "info", "-U", "--backing-chain",
                                        "-f", "qcow2", "--output=json", path, NULL},
                       0, LPM_IDENTITY_MS, on_chain, chain);
}
