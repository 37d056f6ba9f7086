/* SPDX-License-Identifier: Apache-2.0 */
#include "host/holders.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes of an image on which QEMU has its locks: 100 and up for what it may do, 200 and up for what
 * it does not let others do. */
enum { LOCK_FIRST = 100, LOCK_LENGTH = 164 };

typedef struct {
    bool open;
    bool locked; /* through one of its descriptors */
} Use;

static bool holds_lock(const char *proc, const char *pid, const char *fd)
{
    g_autofree char *path = g_build_filename(proc, pid, "fdinfo", fd, NULL);
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) && strstr(text, "\nlock:");
}

static Use use_of(const char *proc, const char *pid, const struct stat *file)
{
    g_autofree char *path = g_build_filename(proc, pid, "fd", NULL);
    g_autoptr(GDir) fds = g_dir_open(path, 0, NULL);
    const char *name;
    Use use = {false, false};

    while (fds && !use.locked && (name = g_dir_read_name(fds))) {
        g_autofree char *link = g_build_filename(path, name, NULL);
        struct stat other;

        if (stat(link, &other) == 0 && other.st_dev == file->st_dev &&
            other.st_ino == file->st_ino) {
            use.open = true;
            use.locked = holds_lock(proc, pid, name);
        }
    }
    return use;
}

/* A QEMU of a partition has its UUID and name on the command line, whoever started it. */
static char *command_line(const char *proc, const char *pid, size_t *ret_length)
{
    g_autofree char *path = g_build_filename(proc, pid, "cmdline", NULL);
    char *text = NULL;

    *ret_length = 0;
    return g_file_get_contents(path, &text, ret_length, NULL) ? text : NULL;
}

/* What follows "-name", without "guest=" and options; NULL: nothing. */
static char *partition_name(const char *line, size_t length)
{
    const char *option = memmem(line, length, "\0-name\0", 7);
    const char *name = option ? option + 7 : NULL;

    if (!name) {
        return NULL;
    }
    name += g_str_has_prefix(name, "guest=") ? strlen("guest=") : 0;
    return g_strndup(name, strcspn(name, ","));
}

static void describe(GString *text, const char *proc, const char *pid, const char *line,
                     size_t length, bool locked)
{
    g_autofree char *path = g_build_filename(proc, pid, "comm", NULL);
    g_autofree char *program = NULL;
    g_autofree char *name = line ? partition_name(line, length) : NULL;

    (void)g_file_get_contents(path, &program, NULL, NULL);
    g_string_append_printf(text, "%sprocess %s (%s%s%s)%s", text->len ? ", " : "", pid,
                           program ? g_strstrip(program) : "unknown", name ? " of partition " : "",
                           name ? name : "", locked ? " with the image's lock" : "");
}

char *lpm_holders(const char *path, const char *uuid, const char *proc)
{
    const char *root = proc ? proc : "/proc";
    g_autoptr(GDir) processes = g_dir_open(root, 0, NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    struct stat file;
    const char *pid;

    if (stat(path, &file) != 0) {
        return g_string_free(g_steal_pointer(&text), FALSE);
    }
    while (processes && (pid = g_dir_read_name(processes))) {
        Use use = g_ascii_isdigit(pid[0]) ? use_of(root, pid, &file) : (Use){false, false};
        size_t length = 0;
        g_autofree char *line = use.open ? command_line(root, pid, &length) : NULL;

        if (use.open && !(uuid && line && memmem(line, length, uuid, strlen(uuid)))) {
            describe(text, root, pid, line, length, use.locked);
        }
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static bool is_locked_here(const char *proc, const struct stat *file)
{
    g_autoptr(GDir) processes = g_dir_open(proc, 0, NULL);
    const char *pid;

    while (processes && (pid = g_dir_read_name(processes))) {
        if (g_ascii_isdigit(pid[0]) && use_of(proc, pid, file).locked) {
            return true;
        }
    }
    return false;
}

const char *lpm_image_lock(const char *path, const char *proc)
{
    /* A write lock is in the way of every other one, so all are seen; nothing is locked here. */
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_FIRST, .l_len = LOCK_LENGTH};
    struct stat file;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool good = fd >= 0 && fstat(fd, &file) == 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0;

    if (fd >= 0) {
        close(fd);
    }
    if (!good) {
        return NULL;
    }
    return lock.l_type == F_UNLCK ? "none"
           : is_locked_here(proc ? proc : "/proc", &file) ? "here"
                                                          : "elsewhere";
}
