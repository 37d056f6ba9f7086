/* SPDX-License-Identifier: Apache-2.0 */
/* The images of partitions that systems keep, so that a partition that comes back is sent as what
 * has changed. */
#include "cli.h"

#include <string.h>
#include <time.h>

static char *system_option;
static gboolean all_option;

/* "/v1/store?system=S&partition=P", with what is given; g_free(). */
static char *store_path(const char *partition)
{
    g_autofree char *system =
        system_option != NULL ? cli_path("system=%s&", system_option) : g_strdup("");
    g_autofree char *of = partition != NULL ? cli_path("partition=%s&", partition) : g_strdup("");
    char *path = g_strdup_printf("/v1/store?%s%s", system, of);
    path[strlen(path) - 1] = '\0'; /* the last & or ? */
    return path;
}

static json_t *text_of_bytes(const json_t *row, const char *member)
{
    g_autofree char *text = cli_bytes((double)lpm_json_int(row, member, 0));
    return json_string(text);
}

static json_t *text_of_time(const json_t *row, const char *member)
{
    time_t when = (time_t)(lpm_json_int(row, member, 0) / 1000000);
    struct tm parts;
    char text[32] = "";
    if (gmtime_r(&when, &parts) != NULL)
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &parts);
    return json_string(text);
}

/* For people: bytes and moments as they say them. */
static void add_texts(json_t *row)
{
    json_object_set_new(row, "size", text_of_bytes(row, "bytes"));
    json_object_set_new(row, "used", text_of_time(row, "used_us"));
}

static void warn_unreachable(const json_t *answer)
{
    size_t i;
    json_t *row;
    json_array_foreach (lpm_json_at(answer, "unreachable"), i, row)
        fprintf(stderr, "lpm: system %s is not among these: %s\n", lpm_json_str(row, "system", "?"),
                lpm_json_str(row, "error", "it did not answer"));
}

static void print_rooms(const json_t *answer)
{
    size_t i;
    json_t *row;
    json_array_foreach (lpm_json_at(answer, "systems"), i, row) {
        g_autofree char *used = cli_bytes((double)lpm_json_int(row, "used_bytes", 0));
        g_autofree char *budget = cli_bytes((double)lpm_json_int(row, "budget_bytes", 0));
        if (lpm_json_bool(row, "on", false))
            printf("%s: %s of %s used, in %s\n", lpm_json_str(row, "system", "?"), used, budget,
                   lpm_json_str(row, "directory", "?"));
        else
            printf("%s: keeps no images: %s\n", lpm_json_str(row, "system", "?"),
                   lpm_json_str(row, "reason", "?"));
    }
}

static bool store_list(Cli *cli, G_GNUC_UNUSED char **words, GError **error)
{
    static const CliColumn columns[] = {
        {"PARTITION", "partition", false}, {"SYSTEM", "system", false},
        {"STATE", "state", false},         {"SIZE", "size", true},
        {"USED", "used", false},           {NULL, NULL, false},
    };
    g_autofree char *path = store_path(NULL);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "GET", path, NULL, error);
    if (answer == NULL)
        return false;
    if (cli->json) {
        cli_print_json(answer);
        return true;
    }
    size_t i;
    json_t *row;
    json_array_foreach (lpm_json_at(answer, "images"), i, row)
        add_texts(row);
    cli_print_table(lpm_json_at(answer, "images"), columns,
                    "no image is kept: the first move of a partition makes one");
    print_rooms(answer);
    warn_unreachable(answer);
    return true;
}

static void print_image(json_t *row)
{
    static const CliColumn columns[] = {
        {"partition", "partition", false},
        {"system", "system", false},
        {"state", "state", false},
        {"size on disk", "size", false},
        {"last used", "used", false},
        {"sealed as", "image", false},
        {"times sealed", "generation", false},
        {"pages", "pages", false},
        {"pages of zeros", "zero_pages", false},
        {NULL, NULL, false},
    };
    add_texts(row);
    cli_print_fields(row, columns);
}

static bool store_show(Cli *cli, char **words, GError **error)
{
    g_autofree char *path = store_path(words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "GET", path, NULL, error);
    if (answer == NULL)
        return false;
    const json_t *images = lpm_json_at(answer, "images");
    if (cli->json) {
        cli_print_json(answer);
        return true;
    }
    warn_unreachable(answer);
    if (json_array_size(images) == 0)
        return lpm_error_set(error, LPM_ERROR_NOT_FOUND,
                             "no system that answers keeps an image of partition %s" CLI_REMEDY
                             "lpm store list shows those that are kept",
                             words[0]);
    size_t i;
    json_t *row;
    json_array_foreach (images, i, row) {
        if (i > 0)
            putchar('\n');
        print_image(row);
    }
    return true;
}

static bool store_drop(Cli *cli, char **words, GError **error)
{
    if ((words[0] != NULL) == (bool)all_option)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "which images shall be dropped: name a partition, or give --all");
    g_autofree char *path = store_path(words[0]);
    if (all_option) {
        char *whole = g_strconcat(path, system_option != NULL ? "&all=true" : "?all=true", NULL);
        g_free(path);
        path = whole;
    }
    g_autoptr(json_t) answer = cli_client_call(cli->client, "DELETE", path, NULL, error);
    if (answer == NULL)
        return false;
    if (cli->json) {
        cli_print_json(answer);
        return true;
    }
    printf("%" PRId64 " images dropped; the next moves send everything\n",
           lpm_json_int(answer, "dropped", 0));
    warn_unreachable(answer);
    return true;
}

static const GOptionEntry system_options[] = {
    {"system", 0, 0, G_OPTION_ARG_STRING, &system_option, "only this system", "NAME"},
    G_OPTION_ENTRY_NULL,
};

static const GOptionEntry drop_options[] = {
    {"system", 0, 0, G_OPTION_ARG_STRING, &system_option, "only at this system", "NAME"},
    {"all", 0, 0, G_OPTION_ARG_NONE, &all_option, "of all partitions", NULL},
    G_OPTION_ENTRY_NULL,
};

const CliVerb cli_verbs_store[] = {
    {"store", "list", "", 0, 0, system_options, false, store_list,
     "list the images that systems keep of partitions"},
    {"store", "show", "PARTITION", 1, 1, system_options, false, store_show,
     "show the images of one partition"},
    {"store", "drop", "PARTITION|--all", 0, 1, drop_options, false, store_drop,
     "drop images; the next move sends everything"},
    {NULL},
};
