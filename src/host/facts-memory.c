/* SPDX-License-Identifier: Apache-2.0 */
/* Huge pages and NUMA nodes, from sysfs: docs/spec/facts.md. */
#include "host/facts.h"

#include <stdio.h>
#include <string.h>

static char *sysfs_text(const LpmHost *host, const char *path)
{
    g_autofree char *file = g_build_filename(host->config->sysfs, path, NULL);
    char *text = NULL;

    return g_file_get_contents(file, &text, NULL, NULL) ? text : NULL;
}

static int64_t sysfs_number(const LpmHost *host, const char *path)
{
    g_autofree char *text = sysfs_text(host, path);

    return text ? g_ascii_strtoll(text, NULL, 10) : 0;
}

/* --- huge pages --- */

#define HUGE_PAGES "kernel/mm/hugepages"

static int64_t huge_number(const LpmHost *host, int64_t kib, const char *name)
{
    g_autofree char *path =
        g_strdup_printf(HUGE_PAGES "/hugepages-%" G_GINT64_FORMAT "kB/%s", kib, name);

    return sysfs_number(host, path);
}

int64_t lpm_facts_huge_free_mib(const LpmHost *host, int64_t kib)
{
    /* Reserved ones are promised to a mapping that has not touched them yet. */
    int64_t pages =
        huge_number(host, kib, "free_hugepages") - huge_number(host, kib, "resv_hugepages");

    return MAX(0, pages) * kib / 1024;
}

/* Sizes of which the system has any. */
json_t *lpm_facts_huge_pages(const LpmHost *host)
{
    g_autofree char *path = g_build_filename(host->config->sysfs, HUGE_PAGES, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    json_t *list = json_array();
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        long long kib = 0;
        int64_t total;

        if (sscanf(name, "hugepages-%lldkB", &kib) != 1 || kib <= 0) {
            continue;
        }
        total = huge_number(host, kib, "nr_hugepages");
        if (total > 0) {
            json_array_append_new(
                list, lpm_json_pack("{s:I, s:I, s:I}", "kib", (json_int_t)kib, "total_mib",
                                    (json_int_t)(total * kib / 1024), "free_mib",
                                    (json_int_t)lpm_facts_huge_free_mib(host, kib)));
        }
    }
    return list;
}

/* --- NUMA nodes --- */

#define NODES "devices/system/node"

/* How many numbers a list such as "0-3,8" has. */
static int count_of(const char *list)
{
    int count = 0;

    while (list && g_ascii_isdigit(*list)) {
        char *end;
        gint64 first = g_ascii_strtoll(list, &end, 10), last = first;

        if (*end == '-') {
            last = g_ascii_strtoll(end + 1, &end, 10);
        }
        count += (int)CLAMP(last - first + 1, 0, G_MAXINT16);
        list = *end == ',' ? end + 1 : NULL;
    }
    return count;
}

static int64_t node_kib(const char *meminfo, const char *key)
{
    const char *at = meminfo ? strstr(meminfo, key) : NULL;

    return at ? g_ascii_strtoll(at + strlen(key), NULL, 10) : 0;
}

static json_t *distances(const char *text)
{
    g_auto(GStrv) words = g_strsplit_set(text ? g_strstrip((char *)text) : "", " \t", -1);
    json_t *list = json_array();

    for (char **word = words; *word; word++) {
        if (**word) {
            json_array_append_new(list, json_integer(g_ascii_strtoll(*word, NULL, 10)));
        }
    }
    return list;
}

static json_t *node_facts(const LpmHost *host, int node)
{
    g_autofree char *info_path = g_strdup_printf(NODES "/node%d/meminfo", node);
    g_autofree char *cpu_path = g_strdup_printf(NODES "/node%d/cpulist", node);
    g_autofree char *distance_path = g_strdup_printf(NODES "/node%d/distance", node);
    g_autofree char *info = sysfs_text(host, info_path);
    g_autofree char *cpus = sysfs_text(host, cpu_path);
    g_autofree char *distance = sysfs_text(host, distance_path);
    /* What the page cache holds can be had. */
    int64_t kib =
        node_kib(info, "MemFree:") + node_kib(info, "FilePages:") - node_kib(info, "Shmem:");

    return lpm_json_pack("{s:i, s:I, s:i, s:o}", "node", node, "free_mib",
                         (json_int_t)(MAX(kib, 0) / 1024), "processors", count_of(cpus),
                         "distances", distances(distance));
}

json_t *lpm_facts_numa(const LpmHost *host)
{
    g_autofree char *text = sysfs_text(host, NODES "/online");
    const char *list = text;
    json_t *nodes = json_array();

    while (list && g_ascii_isdigit(*list)) {
        char *end;
        gint64 first = g_ascii_strtoll(list, &end, 10), last = first;

        if (*end == '-') {
            last = g_ascii_strtoll(end + 1, &end, 10);
        }
        for (gint64 node = first; node <= last && node < LPM_NODES_MAX; node++) {
            json_array_append_new(nodes, node_facts(host, (int)node));
        }
        list = *end == ',' ? end + 1 : NULL;
    }
    return nodes;
}

/* "... N0=512 N1=3 kernelpagesize_kB=4": pages of one mapping by node. */
static void add_mapping(char *line, int64_t *mib)
{
    const char *size = strstr(line, "kernelpagesize_kB=");
    int64_t kib = size ? g_ascii_strtoll(size + strlen("kernelpagesize_kB="), NULL, 10) : 4;
    g_auto(GStrv) words = g_strsplit(line, " ", -1);

    for (char **word = words; *word; word++) {
        int node;
        long long pages;

        if (sscanf(*word, "N%d=%lld", &node, &pages) == 2 && node >= 0 && node < LPM_NODES_MAX) {
            mib[node] += pages * kib; /* KiB until the end */
        }
    }
}

json_t *lpm_facts_numa_of(pid_t pid, size_t n_nodes)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/numa_maps", (int)pid);
    g_autofree int64_t *mib = g_new0(int64_t, LPM_NODES_MAX);
    g_autofree char *text = NULL;
    json_t *list = json_array();

    if (n_nodes > 1 && pid && g_file_get_contents(path, &text, NULL, NULL)) {
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

        for (char **line = lines; *line; line++) {
            add_mapping(*line, mib);
        }
    }
    for (size_t node = 0; node < n_nodes && node < LPM_NODES_MAX; node++) {
        json_array_append_new(list, json_integer((json_int_t)(mib[node] / 1024)));
    }
    return list;
}
