/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has begun for a move, in a file of its own: lines that are only added, each on the disk
 * before what it announces is done. A last line without its end was cut by a crash: what it
 * announces has not been done.
 */
#include "drmgr.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOVES "/var/lib/lpm-drmgr/moves"
enum { FINISHED_KEPT = 16, MOVES_MAX = 256, LINE = 512 };

static const char *const ways[DR_WAYS] = {"pre", "post", "undo"};

static bool read_way(const char *text, DrWay *ret)
{
    for (unsigned i = 0; i < DR_WAYS; i++) {
        if (strcmp(text, ways[i]) == 0) {
            *ret = (DrWay)i;
            return true;
        }
    }
    return false;
}

DrStep *dr_move_step(DrMove *move, const char *name)
{
    for (size_t i = 0; i < move->n; i++) {
        if (strcmp(move->steps[i].name, name) == 0) {
            return &move->steps[i];
        }
    }
    return NULL;
}

static DrStep *need_step(DrMove *move, const char *name)
{
    DrStep *step = dr_move_step(move, name);
    if (!step && move->n < DR_STEPS) {
        step = &move->steps[move->n++];
        dr_copy(step->name, sizeof step->name, name);
    }
    return step;
}

/* --- reading --- */

static void take_line(DrMove *move, char *line)
{
    char verb[16] = "", way_text[16] = "", name[DR_STEP_SIZE] = "";
    DrWay way = DR_PRE;
    if (strncmp(line, "boot ", 5) == 0) {
        dr_copy(move->boot, sizeof move->boot, line + 5);
    } else if (strncmp(line, "var ", 4) == 0 && move->n_vars < DR_VARS) {
        dr_copy(move->vars[move->n_vars++], DR_VALUE_SIZE, line + 4);
    } else if (strcmp(line, "pre-over") == 0) {
        move->pre_over = true;
    } else if (sscanf(line, "%15s %15s %135s", verb, way_text, name) >= 2 &&
               read_way(way_text, &way)) {
        DrStep *step = name[0] ? need_step(move, name) : NULL;
        if (strcmp(verb, "finished") == 0) {
            move->finished = true;
            move->finished_as = way;
        } else if (step) {
            step->begun[way] = true;
            step->tries[way] += strcmp(verb, "begin") == 0;
            step->ended[way] |= strcmp(verb, "end") == 0;
        }
    }
}

/* Position after the last whole line. */
static long take_lines(DrMove *move, FILE *file)
{
    char line[LINE];
    long whole = 0;
    while (fgets(line, sizeof line, file)) {
        size_t length = strcspn(line, "\n");
        if (line[length] != '\n') {
            break;
        }
        line[length] = '\0';
        take_line(move, line);
        whole = ftell(file);
    }
    return whole;
}

bool dr_move_read(DrMove *move, const char *id)
{
    char path[PATH_MAX];
    memset(move, 0, sizeof *move);
    move->fd = -1;
    dr_copy(move->id, sizeof move->id, id);
    int fd = open(dr_path(path, MOVES "/%s", id), O_RDWR | O_APPEND | O_CLOEXEC);
    if (fd < 0) {
        if (errno != ENOENT) {
            dr_complain("cannot open %s: %s", path, strerror(errno));
        }
        return errno == ENOENT;
    }
    FILE *file = fopen(path, "re");
    long whole = file ? take_lines(move, file) : -1;
    if (file) {
        fclose(file);
    }
    /* Without the lock somebody may be adding lines: what looks cut need not be. */
    if (whole < 0 || (dr_is_locked() && ftruncate(fd, whole) != 0)) {
        dr_complain("cannot read %s: %s", path, strerror(errno));
        close(fd);
        return false;
    }
    move->fd = fd;
    move->on_disk = true;
    return true;
}

/* --- writing --- */

static bool add(DrMove *move, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool add(DrMove *move, const char *format, ...)
{
    char line[LINE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof line || move->fd < 0 ||
        write(move->fd, line, (size_t)length) != length || fdatasync(move->fd) != 0) {
        dr_complain("cannot write down what has begun for migration %s: %s", move->id,
                    strerror(errno));
        return false;
    }
    return true;
}

bool dr_move_begin(DrMove *move)
{
    static char text[(DR_VARS + 1) * (DR_VALUE_SIZE + 8)];
    char path[PATH_MAX], boot[PATH_MAX];
    if (move->on_disk) {
        return true;
    }
    dr_read_small(dr_path(boot, "/proc/sys/kernel/random/boot_id"), move->boot, sizeof move->boot);
    size_t length = (size_t)snprintf(text, sizeof text, "boot %s\n", move->boot);
    for (size_t i = 0; i < move->n_vars; i++) {
        length += (size_t)snprintf(text + length, sizeof text - length, "var %s\n", move->vars[i]);
    }
    if (!dr_replace(dr_path(path, MOVES "/%s", move->id), text, length)) {
        return false;
    }
    move->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    move->on_disk = move->fd >= 0;
    return move->on_disk;
}

bool dr_move_note_begin(DrMove *move, DrWay way, const char *name)
{
    DrStep *step = need_step(move, name);
    if (!step) {
        dr_complain("migration %s: more than %d scripts and hooks", move->id, DR_STEPS);
        return false;
    }
    step->begun[way] = true;
    step->tries[way]++;
    return add(move, "begin %s %s\n", ways[way], name);
}

bool dr_move_note_end(DrMove *move, DrWay way, const char *name, const DrResult *result)
{
    DrStep *step = dr_move_step(move, name);
    if (step) {
        step->ended[way] = true;
    }
    return add(move, "end %s %s %s %d\n", ways[way], name, result ? dr_end_name(result->end) : "-",
               result ? result->status : 0);
}

bool dr_move_note_pre_over(DrMove *move)
{
    move->pre_over = true;
    return add(move, "pre-over\n");
}

bool dr_move_finish(DrMove *move, DrWay way)
{
    move->finished = true;
    move->finished_as = way;
    return add(move, "finished %s\n", ways[way]);
}

void dr_move_close(DrMove *move)
{
    if (move->fd >= 0) {
        close(move->fd);
    }
    move->fd = -1;
}

/* --- all of them --- */

typedef struct {
    char id[DR_NAME_SIZE];
    struct timespec changed;
} Finished;

static int oldest_first(const void *a, const void *b)
{
    const Finished *one = a, *other = b;
    if (one->changed.tv_sec != other->changed.tv_sec) {
        return one->changed.tv_sec < other->changed.tv_sec ? -1 : 1;
    }
    return (one->changed.tv_nsec > other->changed.tv_nsec) -
           (one->changed.tv_nsec < other->changed.tv_nsec);
}

size_t dr_moves_open(char ids[][DR_NAME_SIZE], size_t max)
{
    static char names[MOVES_MAX][DR_NAME_SIZE];
    static Finished finished[MOVES_MAX];
    static DrMove move;
    char path[PATH_MAX];
    size_t n = 0, n_finished = 0;
    size_t n_names = dr_programs(dr_path(path, MOVES), names, MOVES_MAX);
    for (size_t i = 0; i < n_names; i++) {
        struct stat at;
        size_t length = strlen(names[i]);
        if (length > 4 && strcmp(names[i] + length - 4, ".new") == 0) {
            continue;
        }
        if (!dr_move_read(&move, names[i])) {
            continue;
        }
        if (!move.finished && n < max) {
            memcpy(ids[n++], names[i], DR_NAME_SIZE);
        } else if (move.finished && fstat(move.fd, &at) == 0) {
            memcpy(finished[n_finished].id, names[i], DR_NAME_SIZE);
            finished[n_finished++].changed = at.st_mtim;
        }
        dr_move_close(&move);
    }
    qsort(finished, n_finished, sizeof finished[0], oldest_first);
    for (size_t i = 0; i + FINISHED_KEPT < n_finished; i++) {
        unlink(dr_path(path, MOVES "/%s", finished[i].id));
    }
    return n;
}
