/* SPDX-License-Identifier: Apache-2.0 */
/* Where everything is, small files, and the lock. */
#include "drmgr.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { LOCK_WAIT_MS = 2000, LOCK_STOP_MS = 15000, LOCK_AGAIN_US = 20000 };
#define SETTINGS    "/etc/lpm/drmgr.conf"
#define SCRIPT_ROOT "/usr/lib/dr/scripts"
#define LOCK        "/var/lib/lpm-drmgr/lock"

static char root[256];
static bool locked;

void dr_set_root(const char *path)
{
    snprintf(root, sizeof root, "%s", path);
}

char *dr_path(char *out, const char *format, ...)
{
    int length = snprintf(out, PATH_MAX, "%s", root);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(out + length, PATH_MAX - (size_t)length, format, arguments);
    va_end(arguments);
    return out;
}

void dr_read_small(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);
    if (fd >= 0) {
        close(fd);
    }
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

bool dr_make_directory(const char *path)
{
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1;; p++) {
        char c = *p;
        if (c == '/' || c == '\0') {
            *p = '\0';
            if (mkdir(part, 0755) != 0 && errno != EEXIST) {
                dr_complain("cannot make directory %s: %s", part, strerror(errno));
                return false;
            }
            *p = c;
        }
        if (c == '\0') {
            return true;
        }
    }
}

static bool sync_directory_of(const char *path)
{
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    *strrchr(parent, '/') = '\0';
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return good;
}

bool dr_replace(const char *path, const char *text, size_t length)
{
    char parent[PATH_MAX], fresh[PATH_MAX + 8];
    snprintf(parent, sizeof parent, "%s", path);
    *strrchr(parent, '/') = '\0';
    snprintf(fresh, sizeof fresh, "%s.new", path);
    if (!dr_make_directory(parent)) {
        return false;
    }
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    bool good = fd >= 0 && write(fd, text, length) == (ssize_t)length && fsync(fd) == 0;
    int why = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (!good || rename(fresh, path) != 0) {
        dr_complain("cannot write %s: %s", path, strerror(good ? errno : why));
        unlink(fresh);
        return false;
    }
    return sync_directory_of(path);
}

/* --- settings: lines of "key = value" --- */

static void setting(const char *key, char *out, size_t size, const char *fallback)
{
    char path[PATH_MAX], line[512], name[32], value[DR_VALUE_SIZE];
    FILE *file = fopen(dr_path(path, SETTINGS), "re");
    snprintf(out, size, "%s", fallback);
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, " %31[a-z_] = %255[^\n]", name, value) == 2 && strcmp(name, key) == 0) {
            snprintf(out, size, "%s", value);
        }
    }
    if (file) {
        fclose(file);
    }
}

const char *dr_script_root(void)
{
    static char text[DR_VALUE_SIZE];
    setting("root", text, sizeof text, SCRIPT_ROOT);
    return text;
}

const char *dr_syslog_id(void)
{
    static char text[DR_VALUE_SIZE];
    setting("syslog", text, sizeof text, "lpm-drmgr");
    return text;
}

bool dr_set(const char *key, const char *value)
{
    char path[PATH_MAX], text[1024], base[DR_VALUE_SIZE], id[DR_VALUE_SIZE];
    snprintf(base, sizeof base, "%s", strcmp(key, "root") == 0 ? value : dr_script_root());
    snprintf(id, sizeof id, "%s", strcmp(key, "syslog") == 0 ? value : dr_syslog_id());
    int length = snprintf(text, sizeof text, "root = %s\nsyslog = %s\n", base, id);
    return dr_replace(dr_path(path, SETTINGS), text, (size_t)length);
}

const char *dr_hostname(void)
{
    static struct utsname names;
    uname(&names);
    return names.nodename;
}

/* --- lock --- */

/* Tells the holder to stop. By a descriptor of the process, as its number may be another's by now.
 */
static void stop_holder(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) {
        return;
    }
    pid_t holder = lock.l_pid;
    int process = (int)syscall(SYS_pidfd_open, holder, 0);
    lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (process >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK &&
        lock.l_pid == holder) {
        syscall(SYS_pidfd_send_signal, process, SIGTERM, NULL, 0);
    } else if (process < 0 && errno == ENOSYS) {
        kill(holder, SIGTERM);
    }
    if (process >= 0) {
        close(process);
    }
}

DrExit dr_lock(DrLockWay way, const char *what)
{
    char path[PATH_MAX], other[DR_VALUE_SIZE];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int64_t until = dr_now_ms() + (way == DR_LOCK_STOP ? LOCK_STOP_MS : LOCK_WAIT_MS);
    dr_path(path, "/var/lib/lpm-drmgr");
    if (!dr_make_directory(path)) {
        return DR_EXIT_FAILED;
    }
    int fd = open(dr_path(path, LOCK), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        dr_complain("cannot open %s: %s", path, strerror(errno));
        return DR_EXIT_FAILED;
    }
    while (fcntl(fd, F_SETLK, &lock) != 0) {
        if (errno != EAGAIN && errno != EACCES) {
            dr_complain("cannot lock %s: %s", path, strerror(errno));
            return DR_EXIT_FAILED;
        }
        if (dr_now_ms() > until || dr_is_stopped()) {
            dr_read_small(path, other, sizeof other);
            dr_complain("another lpm-drmgr is at work: %s", other);
            return DR_EXIT_BUSY;
        }
        if (way == DR_LOCK_STOP) {
            stop_holder(fd);
        }
        usleep(LOCK_AGAIN_US);
    }
    bool written = ftruncate(fd, 0) == 0 && dprintf(fd, "%s\n", what) > 0;
    (void)written; /* only for people; closed by the process's end, which gives it back */
    locked = true;
    return DR_EXIT_OK;
}

bool dr_is_locked(void)
{
    return locked;
}
