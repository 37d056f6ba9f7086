/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#define AMOUNT_MAX (16 * 1024 * 1024)

static char *file_option;
static char *system_option;
static gboolean hard;
static int timeout_s = 60;
static gboolean disks;
static gboolean eject, force;
static char *profile_option;
static char *insert, *pool_option;

static bool partition_list(Cli *cli, G_GNUC_UNUSED char **words, GError **error)
{
    static const CliColumn columns[] = {
        {"PARTITION", "name", false},
        {"SYSTEM", "system", false},
        {"STATE", "state", false},
        {"FAMILY", "family", false},
        {"CPUS", "processors", true},
        {"MIB", "memory_mib", true},
        {"PREFERRED", "preferred_mode", false},
        {"CURRENT", "current_mode", false},
        {"MIGRATION", "migration", false},
        {NULL, NULL, false},
    };
    g_autofree char *path = system_option == NULL
                                ? g_strdup("/v1/partitions")
                                : cli_path("/v1/partitions?system=%s", system_option);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "GET", path, NULL, error);
    if (answer == NULL)
        return false;
    const json_t *list = lpm_json_at(answer, "partitions");
    if (!json_is_array(list))
        return lpm_error_set(error, LPM_ERROR_PROTOCOL,
                             "the console answers without the list 'partitions'");
    if (cli->json) {
        cli_print_json(list);
        return true;
    }
    cli_print_table(list, columns, "no partition yet: lpm partition create SYSTEM --file FILE");
    size_t i;
    json_t *name;
    json_array_foreach (lpm_json_at(answer, "unreachable"), i, name)
        fprintf(stderr, "system %s does not answer: what is shown of it is old\n",
                json_string_value(name));
    return true;
}

static bool partition_show(Cli *cli, char **words, GError **error)
{
    static const CliColumn fields[] = {
        {"partition", "profile.name", false},
        {"system", "system", false},
        {"state", "state", false},
        {"family", "profile.family", false},
        {"profile", "profile_name", false},
        {"processors", "profile.processors", false},
        {"memory MiB", "profile.memory_mib", false},
        {"preferred mode", "profile.preferred_mode", false},
        {"current mode", "current_mode", false},
        {"mode after restart", "pending_mode", false},
        {"RMC", "rmc", false},
        {"console", "console_socket", false},
        {"migration", "migration", false},
        {"note", "note", false},
        {NULL, NULL, false},
    };
    g_autofree char *path = cli_path("/v1/partitions/%s", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "GET", path, NULL, error);
    if (answer == NULL)
        return false;
    if (cli->json)
        cli_print_json(answer);
    else
        cli_print_fields(answer, fields);
    if (!cli->json && strcmp(lpm_json_str(answer, "state", ""), "running") == 0 &&
        strcmp(lpm_json_str(answer, "rmc", "active"), "active") != 0)
        printf("RMC is %s: lpm partition diagnose %s says why\n", lpm_json_str(answer, "rmc", "?"),
               words[0]);
    return true;
}

static bool partition_diagnose(Cli *cli, char **words, GError **error)
{
    static const CliColumn columns[] = {
        {"STEP", "step", false},
        {"RESULT", "result", false},
        {"WHAT", "what", false},
        {NULL, NULL, false},
    };
    g_autofree char *path = cli_path("/v1/partitions/%s/diagnose", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "GET", path, NULL, error);
    if (answer == NULL)
        return false;
    const json_t *steps = lpm_json_at(answer, "steps");
    unsigned missing = 0;
    if (cli->json)
        cli_print_json(answer);
    else
        cli_print_table(steps, columns, "nothing was looked at");
    size_t i;
    json_t *step;
    json_array_foreach (steps, i, step) {
        const char *remedy = lpm_json_str(step, "remedy", NULL);
        missing += strcmp(lpm_json_str(step, "result", ""), "missing") == 0;
        if (!cli->json && remedy != NULL)
            printf("\n%s: %s\n", lpm_json_str(step, "step", "?"), remedy);
    }
    if (missing > 0)
        return lpm_error_set(error, LPM_ERROR_REFUSED,
                             "partition %s: the software in it cannot be reached as it should be",
                             words[0]);
    return true;
}

static json_t *read_profile(GError **error)
{
    if (file_option == NULL) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "no profile: name a JSON file with --file (- for standard input); "
                      "docs/guide/profiles.md shows one");
        return NULL;
    }
    json_error_t where;
    g_autoptr(json_t) profile = strcmp(file_option, "-") == 0
                                    ? json_loadf(stdin, JSON_REJECT_DUPLICATES, &where)
                                    : json_load_file(file_option, JSON_REJECT_DUPLICATES, &where);
    if (profile == NULL) {
        lpm_error_set(error, LPM_ERROR_USAGE, "profile %s: %s in line %d: mend the file",
                      file_option, where.text, where.line);
        return NULL;
    }
    return g_steal_pointer(&profile);
}

static bool partition_create(Cli *cli, char **words, GError **error)
{
    json_t *profile = read_profile(error);
    if (profile == NULL)
        return false;
    g_autoptr(json_t) answer =
        cli_client_call(cli->client, "POST", "/v1/partitions",
                        lpm_json_pack("{s:s, s:o}", "system", words[0], "profile", profile), error);
    if (answer != NULL && cli->json)
        cli_print_json(answer);
    else if (answer != NULL)
        printf("partition %s is created on %s; lpm partition start %s activates it\n",
               lpm_json_str(answer, "profile.name", "?"), words[0],
               lpm_json_str(answer, "profile.name", "?"));
    return answer != NULL;
}

/* MEMBER=VALUE: VALUE is JSON where it reads as JSON, else a string. */
bool cli_add_change(json_t *changes, const char *word, GError **error)
{
    const char *equals = strchr(word, '=');
    if (equals == NULL || equals == word)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "change '%s' is not MEMBER=VALUE, as in preferred_mode=POWER8", word);
    g_autofree char *member = g_strndup(word, (gsize)(equals - word));
    json_t *value = json_loads(equals + 1, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (value == NULL)
        value = json_string(equals + 1);
    if (value == NULL || json_object_set_new(changes, member, value) != 0)
        return lpm_error_set(error, LPM_ERROR_USAGE, "change '%s' is not valid UTF-8", word);
    return true;
}

static bool partition_change(Cli *cli, char **words, GError **error)
{
    g_autoptr(json_t) changes = json_object();
    for (char **word = words + 1; *word != NULL; word++)
        if (!cli_add_change(changes, *word, error))
            return false;
    g_autofree char *path = cli_path("/v1/partitions/%s", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "PATCH", path,
                                               lpm_json_pack("{s:O}", "changes", changes), error);
    if (answer != NULL && cli->json)
        cli_print_json(answer);
    else if (answer != NULL)
        printf("partition %s is changed\n", words[0]);
    return answer != NULL;
}

static bool act(Cli *cli, const char *path_format, const char *name, json_t *body, GError **error)
{
    g_autofree char *path = cli_path(path_format, name);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "POST", path, body, error);
    if (answer != NULL && cli->json)
        cli_print_json(answer);
    else if (answer != NULL)
        printf("partition %s: %s\n", name, lpm_json_str(answer, "state", "done"));
    return answer != NULL;
}

static bool partition_start(Cli *cli, char **words, GError **error)
{
    json_t *body = profile_option ? lpm_json_pack("{s:s}", "profile", profile_option) : NULL;
    return act(cli, "/v1/partitions/%s/start", words[0], body, error);
}

static bool partition_stop(Cli *cli, char **words, GError **error)
{
    if (timeout_s < 1 || timeout_s > 3600)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "--timeout %d is not between 1 and 3600 seconds", timeout_s);
    json_t *body =
        hard ? lpm_json_pack("{s:s}", "how", "hard")
             : lpm_json_pack("{s:s, s:i}", "how", "orderly", "timeout_ms", timeout_s * 1000);
    cli_client_expect(cli->client, timeout_s);
    return act(cli, "/v1/partitions/%s/stop", words[0], body, error);
}

static bool partition_restart(Cli *cli, char **words, GError **error)
{
    json_t *body = lpm_json_pack("{s:s}", "how", hard ? "hard" : "orderly");
    if (profile_option != NULL)
        json_object_set_new(body, "profile", json_string(profile_option));
    return act(cli, "/v1/partitions/%s/restart", words[0], body, error);
}

static bool partition_power(Cli *cli, char **words, GError **error)
{
    bool off = words[1] != NULL && strcmp(words[1], "off") == 0;
    if (words[1] != NULL && !off)
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "'%s': only \"off\" can be said here; \"lpm partition start\" "
                             "switches it on",
                             words[1]);
    g_autofree char *path =
        cli_path(off ? "/v1/partitions/%s/power-off" : "/v1/partitions/%s/power", words[0]);
    /* What is too long for the console is refused by it at once. */
    cli_client_expect(cli->client, off ? CLAMP(timeout_s, 0, 3600) : 0);
    g_autoptr(json_t) answer =
        cli_client_call(cli->client, off ? "POST" : "GET", path,
                        off ? lpm_json_pack("{s:i}", "wait_s", timeout_s) : NULL, error);
    if (answer == NULL)
        return false;
    if (cli->json) {
        cli_print_json(answer);
        return true;
    }
    const char *why = lpm_json_str(answer, "why", NULL);
    printf("partition %s is %s%s%s\n", words[0], lpm_json_str(answer, "power", "?"),
           why ? ": " : ": no copy of it runs", why ? why : "");
    return true;
}

static bool give(Cli *cli, char **words, const char *path_format, const char *member,
                 GError **error)
{
    char *end = NULL;
    long long amount = strtoll(words[1], &end, 10);
    if (*words[1] == '\0' || *end != '\0' || amount < 1 || amount > AMOUNT_MAX)
        return lpm_error_set(error, LPM_ERROR_USAGE, "'%s' is not a number from 1 to %d", words[1],
                             AMOUNT_MAX);
    g_autofree char *path = cli_path(path_format, words[0]);
    g_autoptr(json_t) answer = cli_client_call(
        cli->client, "POST", path, lpm_json_pack("{s:I}", member, (json_int_t)amount), error);
    if (answer != NULL && cli->json)
        cli_print_json(answer);
    else if (answer != NULL)
        printf("partition %s has %lld MiB of memory and %lld processors\n", words[0],
               (long long)lpm_json_int(answer, "memory_mib", 0),
               (long long)lpm_json_int(answer, "processors", 0));
    return answer != NULL;
}

static bool partition_add_memory(Cli *cli, char **words, GError **error)
{
    return give(cli, words, "/v1/partitions/%s/memory", "add_mib", error);
}

static bool partition_add_processors(Cli *cli, char **words, GError **error)
{
    return give(cli, words, "/v1/partitions/%s/processors", "add", error);
}

static bool partition_delete(Cli *cli, char **words, GError **error)
{
    g_autofree char *path =
        cli_path(disks ? "/v1/partitions/%s?disks=true" : "/v1/partitions/%s", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "DELETE", path, NULL, error);
    if (answer != NULL && cli->json)
        cli_print_json(answer);
    else if (answer != NULL)
        printf("partition %s is deleted%s\n", words[0],
               disks ? " with its disks" : "; its disks are kept");
    return answer != NULL;
}

static bool partition_media(Cli *cli, char **words, GError **error)
{
    if (eject == (insert != NULL))
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "say what to do: --eject, or --insert FILE of the drive's pool");
    json_t *body = lpm_json_pack("{s:s, s:b}", "disk", words[1], "force", force);
    if (insert != NULL)
        json_object_set_new(body, "file", json_string(insert));
    if (pool_option != NULL)
        json_object_set_new(body, "pool", json_string(pool_option));
    g_autofree char *path = cli_path("/v1/partitions/%s/media", words[0]);
    g_autoptr(json_t) answer = cli_client_call(cli->client, "POST", path, body, error);
    if (answer != NULL && cli->json)
        cli_print_json(answer);
    else if (answer != NULL)
        printf("partition %s, drive %s: %s\n", words[0], words[1],
               lpm_json_str(answer, "file", "empty"));
    return answer != NULL;
}

static const GOptionEntry list_options[] = {
    {"system", 0, 0, G_OPTION_ARG_STRING, &system_option, "only those on this system", "NAME"},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry create_options[] = {
    {"file", 'f', 0, G_OPTION_ARG_FILENAME, &file_option,
     "the profile, JSON; - reads standard input", "FILE"},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry start_options[] = {
    {"profile", 0, 0, G_OPTION_ARG_STRING, &profile_option,
     "which of its profiles (default: its default one)", "NAME"},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry stop_options[] = {
    {"hard", 0, 0, G_OPTION_ARG_NONE, &hard, "as if its power were cut", NULL},
    {"timeout", 0, 0, G_OPTION_ARG_INT, &timeout_s,
     "how long an orderly stop may take (default 60)", "SECONDS"},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry restart_options[] = {
    {"hard", 0, 0, G_OPTION_ARG_NONE, &hard, "as if its power were cut", NULL},
    {"profile", 0, 0, G_OPTION_ARG_STRING, &profile_option,
     "which of its profiles (default: the one that it was activated with)", "NAME"},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry media_options[] = {
    {"eject", 0, 0, G_OPTION_ARG_NONE, &eject, "take the medium out", NULL},
    {"insert", 0, 0, G_OPTION_ARG_STRING, &insert, "put this one in", "FILE"},
    {"pool", 0, 0, G_OPTION_ARG_STRING, &pool_option, "where it is (default: the drive's pool)",
     "NAME"},
    {"force", 0, 0, G_OPTION_ARG_NONE, &force,
     "also while the partition's operating system has it locked", NULL},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry power_options[] = {
    {"timeout", 0, 0, G_OPTION_ARG_INT, &timeout_s,
     "how long a move may take to end, and a system to answer (default 60)", "SECONDS"},
    G_OPTION_ENTRY_NULL,
};
static const GOptionEntry delete_options[] = {
    {"disks", 0, 0, G_OPTION_ARG_NONE, &disks, "delete its disks too", NULL},
    G_OPTION_ENTRY_NULL,
};

const CliVerb cli_verbs_partition[] = {
    {"partition", "list", "", 0, 0, list_options, false, partition_list,
     "list the partitions of all systems"},
    {"partition", "show", "PARTITION", 1, 1, NULL, false, partition_show, "show one partition"},
    {"partition", "diagnose", "PARTITION", 1, 1, NULL, false, partition_diagnose,
     "say what is missing between it and the software in it"},
    {"partition", "create", "SYSTEM", 1, 1, create_options, false, partition_create,
     "make a partition from a profile"},
    {"partition", "change", "PARTITION MEMBER=VALUE...", 2, -1, NULL, false, partition_change,
     "change its profile"},
    {"partition", "start", "PARTITION", 1, 1, start_options, false, partition_start, "activate it"},
    {"partition", "stop", "PARTITION", 1, 1, stop_options, false, partition_stop,
     "stop it, in order or hard"},
    {"partition", "restart", "PARTITION", 1, 1, restart_options, false, partition_restart,
     "stop it and activate it anew; its mode is evaluated anew"},
    {"partition", "power", "PARTITION [off]", 1, 2, power_options, false, partition_power,
     "whether any copy of it runs; off: end its move and switch it off for certain"},
    {"partition", "add-memory", "PARTITION MIB", 2, 2, NULL, false, partition_add_memory,
     "give it more memory while it runs, until its next start"},
    {"partition", "add-processors", "PARTITION NUMBER", 2, 2, NULL, false, partition_add_processors,
     "give it more processors while it runs, until its next start"},
    {"partition", "media", "PARTITION DRIVE", 2, 2, media_options, false, partition_media,
     "change the medium of an optical drive"},
    {"partition", "delete", "PARTITION", 1, 1, delete_options, false, partition_delete,
     "delete a partition that is not activated"},
    {NULL},
};
