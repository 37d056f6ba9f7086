/* SPDX-License-Identifier: Apache-2.0 */
/* Scripts that are registered: -i, -u, -l, -b, -D, and the file that remembers them. */
#include "drmgr.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REGISTRY "/var/lib/lpm-drmgr/scripts"
#define RESOURCE "pmig"
enum { SCRIPT_SIZE_MAX = 16 << 20, LINE = 2048, FIELDS = 9 };

static const char *base_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

int64_t dr_script_limit(const DrScript *script)
{
    return script->own_ms ? script->own_ms : script->limit_ms ? script->limit_ms : DR_LIMIT_MS;
}

/* --- the file: a line a script, fields between tabs --- */

static bool read_row(char *line, DrScript *script)
{
    char *fields[FIELDS];
    size_t n = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *next = line; next && n < FIELDS; n++) {
        fields[n] = strsep(&next, "\t");
    }
    if (n != FIELDS) {
        return false;
    }
    memset(script, 0, sizeof *script);
    dr_copy(script->name, sizeof script->name, fields[0]);
    script->own_ms = atoll(fields[1]);
    script->limit_ms = atoll(fields[2]);
    script->mobile = fields[3][0] == '1';
    dr_copy(script->version, sizeof script->version, fields[4]);
    dr_copy(script->date, sizeof script->date, fields[5]);
    dr_copy(script->vendor, sizeof script->vendor, fields[6]);
    dr_copy(script->resources, sizeof script->resources, fields[7]);
    dr_copy(script->info, sizeof script->info, fields[8]);
    return true;
}

static bool read_all(DrRegistry *registry)
{
    char path[PATH_MAX], line[LINE];
    FILE *file = fopen(dr_path(path, REGISTRY), "re");
    registry->n = 0;
    if (!file) {
        if (errno != ENOENT) {
            dr_complain("cannot read %s: %s", path, strerror(errno));
        }
        return errno == ENOENT;
    }
    while (registry->n < DR_SCRIPTS && fgets(line, sizeof line, file)) {
        registry->n += read_row(line, &registry->scripts[registry->n]);
    }
    fclose(file);
    return true;
}

static int by_name(const void *a, const void *b)
{
    const DrScript *one = a, *other = b;
    int order = strcmp(base_of(one->name), base_of(other->name));
    return order ? order : strcmp(one->name, other->name);
}

static bool write_all(DrRegistry *registry)
{
    static char text[DR_SCRIPTS * LINE];
    char path[PATH_MAX];
    size_t length = 0;
    qsort(registry->scripts, registry->n, sizeof registry->scripts[0], by_name);
    for (size_t i = 0; i < registry->n; i++) {
        const DrScript *script = &registry->scripts[i];
        length += (size_t)snprintf(
            text + length, sizeof text - length, "%s\t%lld\t%lld\t%d\t%s\t%s\t%s\t%s\t%s\n",
            script->name, (long long)script->own_ms, (long long)script->limit_ms, script->mobile,
            script->version, script->date, script->vendor, script->resources, script->info);
    }
    return dr_replace(dr_path(path, REGISTRY), text, length);
}

static DrScript *find(DrRegistry *registry, const char *name)
{
    for (size_t i = 0; i < registry->n; i++) {
        if (strcmp(registry->scripts[i].name, name) == 0) {
            return &registry->scripts[i];
        }
    }
    return NULL;
}

/* Of this host, or of all, and not overridden by one of this host. */
static bool is_ours(DrRegistry *registry, const DrScript *script)
{
    char own[DR_STEP_SIZE];
    snprintf(own, sizeof own, "%.63s/%s", dr_hostname(), base_of(script->name));
    if (strncmp(script->name, "all/", 4) == 0) {
        return !find(registry, own);
    }
    return strcmp(script->name, own) == 0;
}

bool dr_registry_read(DrRegistry *registry)
{
    static DrRegistry all;
    registry->n = 0;
    if (!read_all(&all)) {
        return false;
    }
    for (size_t i = 0; i < all.n; i++) {
        if (is_ours(&all, &all.scripts[i])) {
            registry->scripts[registry->n++] = all.scripts[i];
        }
    }
    return true;
}

/* --- asking a script about itself --- */

static bool ask(const char *path, const char *name, const char *what, DrResult *result)
{
    char argument[32], base[DR_NAME_SIZE];
    char *argv[] = {base, argument, NULL};
    char *envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                    "LANG=C",
                    "HOME=/",
                    "DR_FORCE=FALSE",
                    "DR_DETAIL_LEVEL=0",
                    NULL};
    snprintf(argument, sizeof argument, "%s", what);
    snprintf(base, sizeof base, "%s", base_of(name));
    dr_run(path, argv, envp, DR_INFO_LIMIT_MS, result);
    if (result->end == DR_END_EXITED && result->status == 0) {
        return true;
    }
    dr_complain("script %s does not answer to \"%s\": %s %d%s%s", name, what,
                dr_end_name(result->end), result->status, result->error[0] ? ": " : "",
                result->error);
    return false;
}

static bool describe(const char *path, DrScript *script)
{
    static DrResult result;
    int64_t limit = 0;
    if (!ask(path, script->name, "scriptinfo", &result)) {
        return false;
    }
    const char *timeout = dr_pair(&result, "DR_TIMEOUT");
    if (timeout && !dr_read_limit(timeout, &limit)) {
        dr_complain("script %s: its DR_TIMEOUT \"%s\" is neither minutes nor seconds (\"90s\")",
                    script->name, timeout);
        return false;
    }
    script->limit_ms = limit;
    dr_copy(script->version, sizeof script->version, dr_pair(&result, "DR_VERSION"));
    dr_copy(script->date, sizeof script->date, dr_pair(&result, "DR_DATE"));
    dr_copy(script->vendor, sizeof script->vendor, dr_pair(&result, "DR_VENDOR"));
    dr_copy(script->info, sizeof script->info, dr_pair(&result, "DR_SCRIPTINFO"));
    if (!ask(path, script->name, "register", &result)) {
        return false;
    }
    script->mobile = false;
    script->resources[0] = '\0';
    for (size_t i = 0, n = 0; i < result.n_pairs; i++) {
        if (strcmp(result.pairs[i].name, "DR_RESOURCE") == 0) {
            const char *value = result.pairs[i].value;
            script->mobile |= strcmp(value, RESOURCE) == 0;
            n += (size_t)snprintf(script->resources + n, sizeof script->resources - n, "%s%s",
                                  n > 0 ? " " : "", value);
            n = n < sizeof script->resources ? n : sizeof script->resources - 1;
        }
    }
    return true;
}

/* --- verbs --- */

static char *text_of(const char *file, size_t *ret_length)
{
    struct stat at;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    char *text = NULL;
    if (fd < 0 || fstat(fd, &at) != 0 || !S_ISREG(at.st_mode) || at.st_size > SCRIPT_SIZE_MAX) {
        dr_complain("cannot read script %s: %s", file,
                    fd < 0 ? strerror(errno) : "not a file of at most 16 MiB");
    } else {
        text = malloc((size_t)at.st_size + 1);
        ssize_t n = text ? read(fd, text, (size_t)at.st_size) : -1;
        *ret_length = n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    return text;
}

/* Beside its place, where nobody takes it for installed yet. */
static bool put_fresh(const char *file, const char *fresh)
{
    size_t length = 0;
    char *text = text_of(file, &length);
    bool good = text && dr_replace(fresh, text, length) && chmod(fresh, 0755) == 0;
    free(text);
    return good;
}

DrExit dr_install(const char *file, const char *host, int64_t limit_ms, bool force)
{
    static DrRegistry registry;
    DrScript script = {.own_ms = limit_ms};
    char path[PATH_MAX], fresh[PATH_MAX + 8];
    const char *place = host ? host : "all", *base = base_of(file);
    if (!dr_name_is_good(base) || !dr_name_is_good(place)) {
        dr_complain("%s/%s: names are letters, digits and \"._-\", at most 63", place, base);
        return DR_EXIT_USAGE;
    }
    DrExit locked = dr_lock(DR_LOCK_WAIT, "a script is being installed");
    if (locked != DR_EXIT_OK || !read_all(&registry)) {
        return locked != DR_EXIT_OK ? locked : DR_EXIT_FAILED;
    }
    snprintf(script.name, sizeof script.name, "%s/%s", place, base);
    DrScript *row = find(&registry, script.name);
    if (row && !force) {
        dr_complain("script %s is installed already: -f replaces it", script.name);
        return DR_EXIT_FAILED;
    }
    if (!row && registry.n == DR_SCRIPTS) {
        dr_complain("no more than %d scripts can be installed", DR_SCRIPTS);
        return DR_EXIT_FAILED;
    }
    dr_path(path, "%s/%s", dr_script_root(), script.name);
    snprintf(fresh, sizeof fresh, "%s.fresh", path);
    if (!put_fresh(file, fresh) || !describe(fresh, &script) || rename(fresh, path) != 0) {
        unlink(fresh);
        return DR_EXIT_FAILED;
    }
    if (!script.mobile) {
        dr_complain("script %s is installed, but does not register for %s: no move asks it",
                    script.name, RESOURCE);
    }
    row = row ? row : &registry.scripts[registry.n++];
    *row = script;
    return write_all(&registry) ? DR_EXIT_OK : DR_EXIT_FAILED;
}

DrExit dr_remove(const char *name, const char *host)
{
    static DrRegistry registry;
    char full[DR_STEP_SIZE], path[PATH_MAX];
    DrExit locked = dr_lock(DR_LOCK_WAIT, "a script is being removed");
    if (locked != DR_EXIT_OK || !read_all(&registry)) {
        return locked != DR_EXIT_OK ? locked : DR_EXIT_FAILED;
    }
    snprintf(full, sizeof full, "%.63s/%.63s", host ? host : "all", base_of(name));
    DrScript *row = find(&registry, full);
    if (!row) {
        dr_complain("script %s is not installed: -l lists those that are", full);
        return DR_EXIT_FAILED;
    }
    *row = registry.scripts[--registry.n];
    if (!write_all(&registry)) {
        return DR_EXIT_FAILED;
    }
    return unlink(dr_path(path, "%s/%s", dr_script_root(), full)) == 0 || errno == ENOENT
               ? DR_EXIT_OK
               : DR_EXIT_FAILED;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

size_t dr_programs(const char *path, char names[][DR_NAME_SIZE], size_t max)
{
    size_t n = 0;
    DIR *all = opendir(path);
    for (struct dirent *entry; all && n < max && (entry = readdir(all));) {
        if (dr_name_is_good(entry->d_name)) {
            snprintf(names[n++], DR_NAME_SIZE, "%.63s", entry->d_name);
        }
    }
    if (all) {
        closedir(all);
    }
    qsort(names, n, DR_NAME_SIZE, by_text);
    return n;
}

static void rebuild_place(DrRegistry *old, DrRegistry *registry, const char *place, bool *good)
{
    static char names[DR_SCRIPTS][DR_NAME_SIZE];
    char path[PATH_MAX];
    size_t n = dr_programs(dr_path(path, "%s/%s", dr_script_root(), place), names, DR_SCRIPTS);
    for (size_t i = 0; i < n && registry->n < DR_SCRIPTS; i++) {
        DrScript script = {0};
        size_t length = strlen(names[i]);
        if (length > 6 && strcmp(names[i] + length - 6, ".fresh") == 0) {
            continue; /* an installation that was cut */
        }
        snprintf(script.name, sizeof script.name, "%.63s/%s", place, names[i]);
        const DrScript *before = find(old, script.name);
        script.own_ms = before ? before->own_ms : 0;
        dr_path(path, "%s/%s", dr_script_root(), script.name);
        if (dr_is_trusted(path) && describe(path, &script)) {
            registry->scripts[registry->n++] = script;
        } else {
            dr_complain("script %s is left out", script.name);
            *good = false;
        }
    }
}

DrExit dr_rebuild(void)
{
    static DrRegistry old, registry;
    static char places[DR_SCRIPTS][DR_NAME_SIZE];
    char path[PATH_MAX];
    bool good = true;
    DrExit locked = dr_lock(DR_LOCK_WAIT, "the table of scripts is being made anew");
    if (locked != DR_EXIT_OK) {
        return locked;
    }
    (void)read_all(&old); /* one that cannot be read is what this mends */
    size_t n = dr_programs(dr_path(path, "%s", dr_script_root()), places, DR_SCRIPTS);
    for (size_t i = 0; i < n; i++) {
        rebuild_place(&old, &registry, places[i], &good);
    }
    return write_all(&registry) && good ? DR_EXIT_OK : DR_EXIT_FAILED;
}

static void list_row(const DrScript *script, bool json)
{
    long long seconds = dr_script_limit(script) / 1000;
    if (!json) {
        printf("%-24s version %s, %s, %s, time limit %lld s, resources: %s%s%s\n", script->name,
               script->version, script->vendor, script->date, seconds, script->resources,
               script->info[0] ? "; " : "", script->info);
        return;
    }
    dr_json_begin();
    dr_json_str("script", script->name);
    dr_json_str("version", script->version);
    dr_json_str("vendor", script->vendor);
    dr_json_str("date", script->date);
    dr_json_int("limit_s", seconds);
    dr_json_str("resources", script->resources);
    dr_json_bool("mobility", script->mobile);
    dr_json_str("info", script->info);
    dr_json_end();
}

DrExit dr_list(bool json)
{
    static DrRegistry registry;
    if (!read_all(&registry)) {
        return DR_EXIT_FAILED;
    }
    if (!json) {
        printf("DR Install Root Directory: %s\nSyslog ID: %s\n", dr_script_root(), dr_syslog_id());
    }
    for (size_t i = 0; i < registry.n; i++) {
        list_row(&registry.scripts[i], json);
    }
    return DR_EXIT_OK;
}
