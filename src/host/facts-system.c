/* SPDX-License-Identifier: Apache-2.0 */
#include "host/emulator.h"
#include "host/facts.h"
#include "host/release.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PROCESSORS_EACH                                                                            \
    8 /* virtual processors for each of the machine's, when nothing is configured */

/* --- power --- */

static char *read_word(const char *directory, const char *supply, const char *name)
{
    g_autofree char *path = g_build_filename(directory, supply, name, NULL);
    char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return g_strdup("");
    }
    return g_strstrip(text);
}

json_t *lpm_facts_power(const char *directory)
{
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    g_autoptr(GString) reason = g_string_new(NULL);
    bool discharging = false, battery = false;
    int mains = 0, online = 0;
    const char *supply;

    while (dir && (supply = g_dir_read_name(dir))) {
        g_autofree char *type = read_word(directory, supply, "type");
        g_autofree char *status = read_word(directory, supply, "status");
        g_autofree char *scope = read_word(directory, supply, "scope");
        g_autofree char *left = read_word(directory, supply, "capacity");
        g_autofree char *is_online = read_word(directory, supply, "online");

        if (strcmp(type, "Mains") == 0) {
            mains++;
            online += strcmp(is_online, "0") != 0;
        }
        /* A mouse's battery says nothing about the server. */
        if ((strcmp(type, "Battery") != 0 && strcmp(type, "UPS") != 0) ||
            strcmp(scope, "Device") == 0) {
            continue;
        }
        battery = true;
        if (strcmp(status, "Discharging") == 0) {
            discharging = true;
            g_string_append_printf(reason, "%s%s is discharging", reason->len ? ", " : "", supply);
            if (*left) {
                g_string_append_printf(reason, " with %s %% left", left);
            }
        }
    }
    /* A full battery may call itself full for a while after the mains have gone. */
    if (!discharging && battery && mains > 0 && online == 0) {
        discharging = true;
        g_string_append(reason, "no mains supply is online");
    }
    return lpm_json_pack("{s:s, s:s}", "state", discharging ? "battery" : "mains", "reason",
                         reason->str);
}

/* --- memory, processors --- */

static int64_t meminfo_kib(const char *text, const char *key)
{
    const char *line = text ? strstr(text, key) : NULL;

    return line ? g_ascii_strtoll(line + strlen(key), NULL, 10) : 0;
}

static int total_processors(const LpmHost *host)
{
    return host->config->processors ? host->config->processors
                                    : (int)g_get_num_processors() * PROCESSORS_EACH;
}

void lpm_host_free(const LpmHost *host, int64_t *ret_memory_mib, int *ret_processors)
{
    const LpmHostConfig *config = host->config;
    g_autofree char *text = NULL;
    int64_t total, available, promised, allowed;
    int processors;

    (void)g_file_get_contents("/proc/meminfo", &text, NULL, NULL);
    total = meminfo_kib(text, "MemTotal:") / 1024;
    available = meminfo_kib(text, "MemAvailable:") / 1024 - config->reserve_mib;
    lpm_host_promised(host, &promised, &processors);
    /* What running partitions have not touched yet is still promised to them: the limit counts it.
     */
    allowed = (config->memory_mib ? config->memory_mib : total - config->reserve_mib) - promised;
    *ret_memory_mib = MAX(0, MIN(available, allowed));
    *ret_processors = MAX(0, total_processors(host) - processors);
}

static json_t *memory_facts(const LpmHost *host)
{
    g_autofree char *text = NULL;
    int64_t total, free_mib;
    int processors;

    (void)g_file_get_contents("/proc/meminfo", &text, NULL, NULL);
    total = meminfo_kib(text, "MemTotal:") / 1024;
    lpm_host_free(host, &free_mib, &processors);
    return lpm_json_pack("{s:I, s:I, s:o}", "total_mib", (json_int_t)total, "free_mib",
                         (json_int_t)free_mib, "huge_pages", lpm_facts_huge_pages(host));
}

static json_t *room_facts(const LpmHost *host)
{
    struct statvfs room;
    json_t *facts =
        lpm_json_pack("{s:s, s:i, s:i, s:i}", "path", host->config->state_dir, "needed_mib",
                      LPM_HOST_ROOM_MIB, "partitions_limit", host->config->partitions,
                      "partitions_used", (int)g_hash_table_size(host->partitions));

    if (statvfs(host->config->state_dir, &room) == 0) {
        json_object_set_new(facts, "free_mib",
                            json_integer((json_int_t)(room.f_bavail * room.f_frsize >> 20)));
    }
    return facts;
}

static json_t *processor_facts(const LpmHost *host)
{
    int64_t memory_mib;
    int processors;

    lpm_host_free(host, &memory_mib, &processors);
    return lpm_json_pack("{s:i, s:i}", "total", total_processors(host), "free", processors);
}

/* --- emulators --- */

static json_t *list_of(char *const *names)
{
    json_t *list = json_array();

    for (; names && *names; names++) {
        json_array_append_new(list, json_string(*names));
    }
    return list;
}

static json_t *processor_name(void)
{
    g_autofree char *text = NULL;
    const char *line;

    (void)g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL);
    line = text ? strstr(text, "model name") : NULL;
    line = line ? strchr(line, ':') : NULL;
    if (!line) {
        return json_string("");
    }
    line += strspn(line, ": \t");
    return json_stringn(line, strcspn(line, "\n"));
}

static json_t *emulator_facts(const LpmHost *host)
{
    json_t *all = json_object();

    for (int family = 0; family < LPM_FAMILY_N; family++) {
        const LpmEmulator *emulator = lpm_emulator_get(host, (LpmFamily)family, NULL);
        bool power = family == LPM_FAMILY_POWER;

        if (emulator) {
            json_object_set_new(
                all, lpm_family_name((LpmFamily)family),
                lpm_json_pack("{s:s, s:s, s:o, s:s, s:o, s:o, s:s}", "version", emulator->version,
                              "accel", emulator->accel, "processor",
                              power ? json_string(host->config->power_processor) : processor_name(),
                              "firmware", "", "modes", list_of(emulator->modes), "features",
                              list_of(emulator->features), "machine",
                              emulator->machine ? emulator->machine : ""));
        }
    }
    return all;
}

/* --- mover --- */

static void set_mover(const LpmHost *host, json_t *facts)
{
    g_autofree char *path = g_find_program_in_path(host->config->mover_program);
    g_autofree char *reason =
        path ? g_strdup("")
             : g_strdup_printf("%s is not there or not executable", host->config->mover_program);
    int pair[2];
    bool possible = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0;

    if (possible) {
        close(pair[0]);
        close(pair[1]);
    }
    json_object_set_new(facts, "mover",
                        lpm_json_pack("{s:b, s:s, s:i, s:i}", "present", path != NULL, "reason",
                                      reason, "limit", host->config->active_moves, "used", 0));
    json_object_set_new(facts, "vasi",
                        lpm_json_pack("{s:b, s:s}", "possible", possible, "reason",
                                      possible ? "" : "a socket pair cannot be made"));
}

static void set_slots(const LpmHost *host, json_t *facts)
{
    GHashTableIter iter;
    gpointer value;
    int active = 0, inactive = 0;

    g_hash_table_iter_init(&iter, host->partitions);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const LpmMigrationLink *link = ((LpmPartition *)value)->link;

        active += link && link->active;
        inactive += link && !link->active;
    }
    json_object_set_new(facts, "slots",
                        lpm_json_pack("{s:i, s:i, s:i, s:i}", "active_limit",
                                      host->config->active_moves, "active_used", active,
                                      "inactive_limit", host->config->inactive_moves,
                                      "inactive_used", inactive));
    json_object_set_new(json_object_get(facts, "mover"), "used", json_integer(active));
}

/* 0: it is not there. */
static json_int_t size_of(const char *path)
{
    GStatBuf status;

    return g_stat(path, &status) == 0 && S_ISREG(status.st_mode) ? status.st_size : 0;
}

static void set_certificate(const LpmHost *host, json_t *facts)
{
    if (host->credentials) {
        json_object_set_new(facts, "certificate_ends_us",
                            json_integer(lpm_tls_credentials_ends(host->credentials)));
    }
}

json_t *lpm_facts_system(LpmHost *host)
{
    json_t *switches = json_array(), *pools = json_array();
    json_t *facts;

    for (size_t i = 0; i < host->config->n_switches; i++) {
        json_array_append_new(switches, json_string(host->config->switches[i].name));
    }
    for (size_t i = 0; i < host->config->n_pools; i++) {
        json_array_append_new(pools, json_string(host->config->pools[i].name));
    }
    facts = lpm_json_pack("{s:s, s:s, s:o, s:o, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                          "name", lpm_host_name(host), "version", lpm_release_version(),
                          "rpc_versions", lpm_release_rpc_versions(), "stream_versions",
                          lpm_release_stream_versions(), "profiles_max", lpm_release_profiles_max(),
                          "state", host->maintenance ? "maintenance" : "operating", "power",
                          lpm_facts_power(host->config->power_supply), "memory", memory_facts(host),
                          "numa", lpm_facts_numa(host), "room", room_facts(host), "processors",
                          processor_facts(host), "emulators", emulator_facts(host), "switches",
                          switches, "pools", pools);
    set_mover(host, facts);
    set_slots(host, facts);
    json_object_set_new(facts, "uefi_code_bytes", json_integer(size_of(host->config->uefi_code)));
    json_object_set_new(facts, "postcopy", lpm_facts_postcopy(host));
    set_certificate(host, facts);
    if (host->hooks && host->hooks->system_facts) {
        host->hooks->system_facts(host, facts);
    }
    /* Last, so that it is as young as can be. */
    json_object_set_new(facts, "clock_us", json_integer(lpm_clock_realtime_us(host->clock)));
    return facts;
}
