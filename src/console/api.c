/* SPDX-License-Identifier: Apache-2.0 */
#include "api.h"

static const char introduction[] =
    "# REST interface of lpm-console\n"
    "\n"
    "This page is printed by `lpm-console --print-routes`; a test compares the two.\n"
    "\n"
    "HTTPS with the console's own certificate (clients trust the authority in `ca.pem`), JSON "
    "bodies of at most 1 MiB,\n"
    "`Authorization: Bearer TOKEN`. `lpm-console init` writes a client file `admin.conf` of this "
    "form:\n"
    "\n"
    "```ini\n"
    "[console]\n"
    "url=https://192.0.2.1:7443\n"
    "ca=/var/lib/openlpm/console/ca.pem\n"
    "token=LPMT-…\n"
    "```\n"
    "\n"
    "A failure of any route answers with the HTTP status of its class "
    "([errors](../guide/errors.md)) and\n"
    "\n"
    "```json\n"
    "{\"error\": {\"class\": \"not-found\", \"message\": \"what failed, on which object, and "
    "why\", \"remedy\": \"what to do\"}}\n"
    "```\n"
    "\n"
    "and, where the class is `refused`, `\"findings\"` inside `error`. Units are in the names: "
    "`_mib`, `_bytes`, `_ms`, `_us`\n"
    "(`_us` of a moment: since 1970 UTC). Arguments that a route does not list are refused by "
    "name. A member that has no value\n"
    "yet is null.\n"
    "\n"
    "A *finding* is `{\"check\", \"severity\": \"error|warning|info\", \"object\", \"expected\", "
    "\"found\", \"remedy\", \"hmc_code\",\n"
    "\"overridable\", \"overridden\", \"not_checked\"}`.\n"
    "\n"
    "A *migration* goes through the states `accepted`, `validating`, `preparing`, `starting`, "
    "`moving`, `stopping` and ends in\n"
    "`completed` (the partition is at the target), `refused` (validation found errors, nothing was "
    "changed), `failed` or `stopped`\n"
    "(the partition is at the source, unless the error says otherwise).\n";

#define SYSTEM_ARG                                                                                 \
    {                                                                                              \
        "system", LPM_HTTP_PATH, 's', true, "name of the system"                                   \
    }
#define PARTITION_ARG                                                                              \
    {                                                                                              \
        "partition", LPM_HTTP_PATH, 's', true, "name of the partition"                             \
    }
#define PROFILE_ARG                                                                                \
    {                                                                                              \
        "profile", LPM_HTTP_PATH, 's', true, "name of the profile"                                 \
    }
#define MIGRATION_ARG                                                                              \
    {                                                                                              \
        "migration", LPM_HTTP_PATH, 's', true, "id of the migration"                               \
    }
#define OPTIONS_ARG                                                                                \
    {                                                                                              \
        "options", LPM_HTTP_BODY, 'o', false,                                                      \
            "`verify` (boolean), `max_blackout_ms`, `max_rate` (bytes/s, 0: unlimited), "          \
            "`auto_converge`, `postcopy` (boolean), `postcopy_after_s` (0: never), "               \
            "`give_up_after_s` (900; 0: never), "                                                  \
            "`offer_timeout_ms`, `connect_timeout_ms`, `connections` (1 to 16), "                  \
            "`channels` (of QEMU, 0 or 1), `raw` (boolean: nothing is coded), "                    \
            "`skip_scripts` (boolean: those in the partition are neither asked nor told), "        \
            "`force_scripts` (boolean: their no is not heard), `link_retry_ms` "                   \
            "(how long a lost link is waited for), `measure` (boolean, true: QEMU looks at what "  \
            "the partition writes), "                                                              \
            "`affinity` (boolean: not a lower score), `min_affinity` (0 to 100), "                 \
            "`profile` (a new profile's name: what the partition has now is kept there), "         \
            "`overrides` (array of check ids whose errors are overridden)"                         \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, LPM_HTTP_BODY, 0, false, NULL                                                        \
    }

static const LpmHttpArg system_args[] = {SYSTEM_ARG, END};
static const LpmHttpArg system_add_args[] = {
    {"name", LPM_HTTP_BODY, 's', true, "name that the system gets"}, END};
static const LpmHttpArg system_delete_args[] = {
    SYSTEM_ARG,
    {"force", LPM_HTTP_QUERY, 'b', false, "also when it does not answer or still has partitions"},
    END};
static const LpmHttpArg maintenance_args[] = {
    SYSTEM_ARG,
    {"maintenance", LPM_HTTP_BODY, 'b', true, "true: it takes no partitions any more"},
    END};

static const LpmHttpArg partition_args[] = {PARTITION_ARG, END};
static const LpmHttpArg partition_list_args[] = {
    {"system", LPM_HTTP_QUERY, 's', false, "only those on this system"}, END};
static const LpmHttpArg partition_create_args[] = {
    {"system", LPM_HTTP_BODY, 's', true, "where it is made"},
    {"profile", LPM_HTTP_BODY, 'o', true, "the partition's profile"},
    END};
static const LpmHttpArg partition_change_args[] = {
    PARTITION_ARG,
    {"changes", LPM_HTTP_BODY, 'o', true, "members of the profile with their new values"},
    END};
static const LpmHttpArg partition_start_args[] = {
    PARTITION_ARG,
    {"profile", LPM_HTTP_BODY, 's', false, "which of its profiles (default: its default one)"},
    END};
static const LpmHttpArg profile_create_args[] = {
    PARTITION_ARG,
    {"profile", LPM_HTTP_BODY, 's', true, "its name, at most 31 letters, digits, `.`, `_`, `-`"},
    {"from", LPM_HTTP_BODY, 's', false,
     "the profile that it is a copy of (default: the one that was activated last)"},
    {"changes", LPM_HTTP_BODY, 'o', false, "members that differ, with their values"},
    END};
static const LpmHttpArg profile_change_args[] = {
    PARTITION_ARG,
    PROFILE_ARG,
    {"changes", LPM_HTTP_BODY, 'o', false, "members with their new values"},
    {"rename", LPM_HTTP_BODY, 's', false, "its new name"},
    {"default", LPM_HTTP_BODY, 'b', false, "true: a start without a name takes this one"},
    END};
static const LpmHttpArg profile_delete_args[] = {PARTITION_ARG, PROFILE_ARG, END};
static const LpmHttpArg partition_stop_args[] = {
    PARTITION_ARG,
    {"how", LPM_HTTP_BODY, 's', false, "`orderly` (default) or `hard`"},
    {"timeout_ms", LPM_HTTP_BODY, 'i', false,
     "how long an orderly one may take (default 60000); then it is a timeout error"},
    END};
static const LpmHttpArg partition_restart_args[] = {
    PARTITION_ARG,
    {"how", LPM_HTTP_BODY, 's', false, "`orderly` (default) or `hard`"},
    {"profile", LPM_HTTP_BODY, 's', false,
     "which of its profiles (default: the one that it was activated with)"},
    END};
static const LpmHttpArg partition_off_args[] = {
    PARTITION_ARG,
    {"wait_s", LPM_HTTP_BODY, 'i', false,
     "1 to 600, default 60: how long a move may take to end, and a system to answer"},
    END};
static const LpmHttpArg partition_takeover_args[] = {
    PARTITION_ARG,
    {"standbys", LPM_HTTP_BODY, 'a', false,
     "partitions that are the cluster's other members (default: what its script told)"},
    {"member", LPM_HTTP_BODY, 's', false,
     "its name in the cluster (default: what its script told)"},
    {"migration", LPM_HTTP_BODY, 's', false,
     "one in which it was a member (default: the last one)"},
    {"force", LPM_HTTP_BODY, 'b', false, "also if it runs: it is switched off first"},
    {"wait_s", LPM_HTTP_BODY, 'i', false,
     "1 to 120, default 60: until it is certain that it is off"},
    END};
static const LpmHttpArg partition_memory_args[] = {
    PARTITION_ARG, {"add_mib", LPM_HTTP_BODY, 'i', true, "how much more, MiB"}, END};
static const LpmHttpArg partition_processors_args[] = {
    PARTITION_ARG, {"add", LPM_HTTP_BODY, 'i', true, "how many more"}, END};
static const LpmHttpArg partition_media_args[] = {
    PARTITION_ARG,
    {"disk", LPM_HTTP_BODY, 's', true, "name of the optical drive"},
    {"file", LPM_HTTP_BODY, 's', false, "the new medium; without it the drive is emptied"},
    {"pool", LPM_HTTP_BODY, 's', false, "where it is, of kind file (default: the drive's pool)"},
    {"force", LPM_HTTP_BODY, 'b', false,
     "also while the partition's operating system has it locked"},
    END};
static const LpmHttpArg partition_delete_args[] = {
    PARTITION_ARG, {"disks", LPM_HTTP_QUERY, 'b', false, "its disks too"}, END};

static const LpmHttpArg validate_args[] = {
    {"partition", LPM_HTTP_BODY, 's', true, "name of the partition"},
    {"target", LPM_HTTP_BODY, 's', false, "name of the target system"},
    {"all_targets", LPM_HTTP_BODY, 'b', false, "every other system, instead of `target`"},
    {"active", LPM_HTTP_BODY, 'b', false, "default: whether the partition is activated"},
    OPTIONS_ARG,
    END};
static const LpmHttpArg migration_args[] = {MIGRATION_ARG, END};
static const LpmHttpArg migration_list_args[] = {
    {"partition", LPM_HTTP_QUERY, 's', false, "only those of this partition"},
    {"active", LPM_HTTP_QUERY, 'b', false, "true: only those that have not ended"},
    {"limit", LPM_HTTP_QUERY, 'i', false, "at most so many, the newest (default 100)"},
    END};
static const LpmHttpArg migration_create_args[] = {
    {"partition", LPM_HTTP_BODY, 's', true, "name of the partition"},
    {"target", LPM_HTTP_BODY, 's', true, "name of the target system"},
    OPTIONS_ARG,
    END};
static const LpmHttpArg migration_show_args[] = {
    MIGRATION_ARG,
    {"since", LPM_HTTP_QUERY, 'i', false,
     "answer only when `revision` is above this one, at the latest after `wait_ms`"},
    {"wait_ms", LPM_HTTP_QUERY, 'i', false, "0 to 30000, default 10000 when `since` is given"},
    END};
static const LpmHttpArg migration_change_args[] = {
    MIGRATION_ARG,
    {"max_rate", LPM_HTTP_BODY, 'i', false, "bytes a second on the wire; 0: unlimited"},
    {"max_blackout_ms", LPM_HTTP_BODY, 'i', false, "longest blackout to accept"},
    {"give_up_after_s", LPM_HTTP_BODY, 'i', false, "of failing to converge; 0: never"},
    END};
static const LpmHttpArg migration_recover_args[] = {
    MIGRATION_ARG,
    {"word", LPM_HTTP_BODY, 's', false,
     "what you vouch for: `target-off` or `source-off`, refused as long as that system answers, or "
     "`discard`"},
    {"say", LPM_HTTP_BODY, 's', false,
     "with `word`: that in words, to the letter, as `situation.may` has it"},
    END};

static const LpmHttpArg store_list_args[] = {
    {"system", LPM_HTTP_QUERY, 's', false, "only those that this system keeps"},
    {"partition", LPM_HTTP_QUERY, 's', false, "only those of this partition, by name or UUID"},
    END};
static const LpmHttpArg store_drop_args[] = {
    {"system", LPM_HTTP_QUERY, 's', false, "only at this system"},
    {"partition", LPM_HTTP_QUERY, 's', false, "those of this partition, by name or UUID"},
    {"all", LPM_HTTP_QUERY, 'b', false, "instead: those of all partitions that are not in use"},
    END};

static const LpmHttpArg modes_args[] = {
    {"system", LPM_HTTP_QUERY, 's', false, "only this system"},
    {"common", LPM_HTTP_QUERY, 's', false,
     "names of systems, separated by commas: the highest mode that all of them have, by family"},
    END};
static const LpmHttpArg events_args[] = {
    {"since", LPM_HTTP_QUERY, 'i', false, "only those with a higher number"},
    {"limit", LPM_HTTP_QUERY, 'i', false, "at most so many, the newest (default 100)"},
    END};

static const LpmHttpArg events_stream_args[] = {
    {"Last-Event-ID", LPM_HTTP_HEADER, 'i', false, "the number of the last one that is known"},
    {"since", LPM_HTTP_QUERY, 'i', false, "the same, for the first time"},
    {"kinds", LPM_HTTP_QUERY, 's', false,
     "only of these, with commas between; one that cannot be is an error"},
    {"object", LPM_HTTP_QUERY, 's', false,
     "only of this system, partition (its migrations, too) or migration"},
    END};

static const LpmHttpArg webhook_args[] = {
    {"webhook", LPM_HTTP_PATH, 's', true, "name of the webhook"}, END};

#define SYSTEM_JSON                                                                                \
    "\"name\": \"s1\", \"state\": \"connected\", \"address\": \"192.0.2.11\", \"port\": 7610, "    \
    "\"maintenance\": false,\n"                                                                    \
    " \"version\": \"0.1.0\", \"clock_offset_us\": 120, \"round_trip_us\": 310, \"error\": null"

#define PARTITION_JSON                                                                               \
    "\"name\": \"web1\", \"system\": \"s1\", \"uuid\": \"…\", \"family\": \"x86-64\", \"state\": " \
    "\"running\", \"processors\": 2,\n"                                                              \
    "  \"memory_mib\": 1024, \"preferred_mode\": \"default\", \"current_mode\": \"x86-64-v3\", "     \
    "\"migration\": null, \"macs\": []"

#define PROFILES_JSON                                                                              \
    "{\"profiles\": [{\"name\": \"normal\", \"default\": true, \"last_activated\": true, "         \
    "\"processors\": 1, \"memory_mib\": 512,\n"                                                    \
    "  \"preferred_mode\": \"default\", \"memory_backing\": \"private\", "                         \
    "\"max_blackout_ms\": 0}]}"

#define PREDICTION_JSON                                                                            \
    "{\"converges\": \"yes\", \"duration_ms\": {\"value\": 4900, \"low\": 4200, "                  \
    "\"high\": 5800},\n"                                                                           \
    "     \"wire_bytes\": {\"…\": \"as duration_ms\"}, \"blackout_ms\": {\"…\": \"as "         \
    "duration_ms\"},\n"                                                                            \
    "     \"passes\": 3, \"kind\": \"first|return\", \"raw\": false, \"verify\": false, "          \
    "\"limited_by\": \"link|processor\",\n"                                                        \
    "     \"dirty_rate_bytes\": 20000000, \"send_rate_bytes\": 200000000, "                        \
    "\"needed_blackout_ms\": 90, \"advice\": [],\n"                                                \
    "     \"learned_from\": \"partition|systems|nothing\", \"moves\": 3,\n"                        \
    "     \"factors\": {\"…\": 1.2}, \"model\": {\"…\": 4083.3}}"

#define MIGRATION_JSON                                                                              \
    "{\"migration\": \"32 hex digits\", \"revision\": 12, \"partition\": \"web1\", \"source\": "    \
    "\"s1\", \"target\": \"s2\", "                                                                  \
    "\"active\": true,\n"                                                                           \
    " \"state\": \"moving\", \"finished\": false, \"stop_requested\": false, \"user\": "            \
    "\"admin\", \"options\": {},\n"                                                                 \
    " \"created_us\": 0, \"ended_us\": null, \"phase\": \"copy\", \"progress\": 0.42, "             \
    "\"eta_ms\": 1200,\n"                                                                           \
    " \"stream_bytes\": 0, \"wire_bytes\": 0, \"total_bytes\": 0, \"remaining_bytes\": 0, "         \
    "\"rate_bytes\": 0, "                                                                           \
    "\"dirty_rate_bytes\": 0,\n"                                                                    \
    " \"passes\": 1, \"predicted_blackout_ms\": 35, \"blackout_ms\": null, \"total_ms\": 830.5, "   \
    "\"round_trip_us\": 300,\n"                                                                     \
    " \"saved_percent\": 94.4, \"postcopy\": null, \"coding\": {\"…\": \"of host-rpc.md\"},\n"    \
    " \"convergence\": {\"…\": \"of host-rpc.md, or null\"},\n"                                   \
    " \"links\": {\"up\": 1, \"of\": 1, \"lost_ms\": null, \"reason\": null, \"reconnects\": 0, "   \
    "\"resent_bytes\": 0},\n"                                                                       \
    " \"phases\": [{\"name\": \"prepare\", \"start\": 0.0, \"start_us\": 0, \"ms\": 210.0}],\n"     \
    " \"verify\": {\"pages\": 0, \"differing\": 0, \"repaired\": 0}, \"findings\": [],\n"           \
    " \"prediction\": {\"…\": \"of POST /v1/validate, or null\"},\n"                              \
    " \"score\": {\"duration_ms\": {\"predicted\": 4900, \"actual\": 5100, "                        \
    "\"error_percent\": -3.9},\n"                                                                   \
    "  \"converges\": {\"predicted\": \"yes\", \"actual\": true}},\n"                               \
    " \"error\": null, \"note\": null, \"waiting_for\": [],\n"                                      \
    " \"situation\": {\"known\": [\"…\"], \"unknown\": [\"…\"], \"may\": [{\"text\": \"…\", " \
    "\"command\": \"lpm …\", \"say\": null}]},\n"                                                 \
    " \"words\": [{\"word\": \"target-off\", \"say\": \"target s2 is off\", \"who\": \"admin\", "   \
    "\"from\": \"192.0.2.7\", \"time_us\": 0, \"system\": \"s1\"}],\n"                              \
    " \"source_half\": {\"…\": \"status of host-rpc.md, or null\"}, \"target_half\": null}"

const LpmHttpRoute lpm_api_routes[] = {
    {"GET", "/v1/systems", 200, false, lpm_api_system_list, NULL,
     "All systems. `state` is `invited` (has not joined yet), `connecting`, `connected` or "
     "`unreachable`; `error` says why.",
     "{\"systems\": [{" SYSTEM_JSON "}]}"},
    {"POST", "/v1/systems", 201, false, lpm_api_system_add, system_add_args,
     "Makes a token that lets a system of this name join, once and within 24 hours. A new token "
     "for a name that was invited "
     "before replaces\nthe old one; one for a system that has joined lets it join again (new "
     "certificate).",
     "{\"name\": \"s1\", \"token\": \"LPM1-…\", \"expires_us\": 0,\n"
     " \"command\": \"lpm-host join --console 192.0.2.1:7600 --name s1 --token LPM1-…\"}"},
    {"GET", "/v1/systems/{system}", 200, false, lpm_api_system_show, system_args,
     "One system with its facts (system-info of [facts](facts.md); null when it does not answer).",
     "{" SYSTEM_JSON ",\n \"facts\": {}}"},
    {"DELETE", "/v1/systems/{system}", 200, false, lpm_api_system_delete, system_delete_args,
     "Forgets a system: its certificate is refused from now on. Its partitions are not touched.",
     "{}"},
    {"POST", "/v1/systems/{system}/maintenance", 200, false, lpm_api_system_maintenance,
     maintenance_args, "Puts a system into maintenance, or ends it.",
     "{\"name\": \"s1\", \"maintenance\": true}"},

    {"GET", "/v1/partitions", 200, false, lpm_api_partition_list, partition_list_args,
     "Partitions of all systems. `unreachable` names the systems that did not answer; what is "
     "known of their partitions from "
     "before is\nshown with state `unknown`. `duplicate` is true when two systems have a profile "
     "of that name.",
     "{\"partitions\": [\n {" PARTITION_JSON ", \"duplicate\": false}],\n \"unreachable\": []}"},
    {"POST", "/v1/partitions", 201, false, lpm_api_partition_create, partition_create_args,
     "Makes a partition on a system. Its name must be free on all systems.",
     "{\"system\": \"s1\", \"profile\": {}}"},
    {"GET", "/v1/partitions/{partition}", 200, false, lpm_api_partition_show, partition_args,
     "One partition: what its system's `partition-show` says, and where it is. `note` tells of a "
     "leftover profile on another "
     "system.",
     "{\"system\": \"s1\", \"note\": null, \"profile\": {}, \"profile_name\": \"normal\", "
     "\"state\": \"running\", "
     "\"current_mode\": \"x86-64-v3\",\n"
     " \"pending_mode\": null, \"runtime\": {}, \"record\": {}, \"rmc\": {}, \"disks\": [], "
     "\"console_socket\": \"…\", "
     "\"migration\": null}"},
    {"GET", "/v1/partitions/{partition}/diagnose", 200, false, lpm_api_partition_diagnose,
     partition_args,
     "What is in the way between its system and the software in it (RMC), step by step: `channel`, "
     "`running`, `agent`, `commands`, `lpm-drmgr`.\n`result` of a step is `ok`, `warning` (it "
     "works "
     "without), `missing` or `unknown` (cannot be looked at before the one above is mended); "
     "`verdict`\nis `ok`, `limited` or `broken`; `rmc` is `active`, `silent` or `absent`. `os`, "
     "`agent_version` and `drmgr_version` are null where they are not known.",
     "{\"partition\": \"web1\", \"system\": \"s1\", \"note\": null, \"rmc\": \"silent\", "
     "\"verdict\": "
     "\"broken\",\n"
     " \"steps\": [{\"step\": \"agent\", \"result\": \"missing\", \"what\": \"…\", \"remedy\": "
     "\"…\"}],\n"
     " \"agent_version\": null, \"os\": null, \"drmgr_version\": null}"},
    {"PATCH", "/v1/partitions/{partition}", 200, false, lpm_api_partition_change,
     partition_change_args, "Changes its profile.", "{\"profile\": {}}"},
    {"DELETE", "/v1/partitions/{partition}", 200, false, lpm_api_partition_delete,
     partition_delete_args, "Deletes a partition that is not activated.", "{}"},
    {"POST", "/v1/partitions/{partition}/start", 200, false, lpm_api_partition_start,
     partition_start_args, "Activates it; answers once it runs.", "{\"state\": \"running\"}"},
    {"GET", "/v1/partitions/{partition}/profiles", 200, false, lpm_api_profile_list, partition_args,
     "Its profiles ([guide](../guide/profiles.md)): what each has, which one a start without a "
     "name takes, and which one was\nactivated last; none while it never was.",
     PROFILES_JSON},
    {"POST", "/v1/partitions/{partition}/profiles", 201, false, lpm_api_profile_create,
     profile_create_args, "Gives it one more; the answer is all of them.", PROFILES_JSON},
    {"PATCH", "/v1/partitions/{partition}/profiles/{profile}", 200, false, lpm_api_profile_change,
     profile_change_args, "Changes one, renames it, or makes it the default one.", PROFILES_JSON},
    {"DELETE", "/v1/partitions/{partition}/profiles/{profile}", 200, false, lpm_api_profile_delete,
     profile_delete_args, "Deletes one; not the default one, nor the one that was activated last.",
     PROFILES_JSON},
    {"POST", "/v1/partitions/{partition}/stop", 200, false, lpm_api_partition_stop,
     partition_stop_args,
     "Stops it; answers once it is not activated. Nothing is killed unless `how` is `hard`.",
     "{\"state\": \"not-activated\"}"},
    {"POST", "/v1/partitions/{partition}/media", 200, false, lpm_api_partition_media,
     partition_media_args,
     "Puts another medium into an optical drive, or takes it out; of a partition that runs or not.",
     "{\"disk\": \"cd0\", \"pool\": \"san\", \"file\": \"media.iso\"}"},
    {"POST", "/v1/partitions/{partition}/restart", 200, false, lpm_api_partition_restart,
     partition_restart_args,
     "Stops it and activates it anew; the processor compatibility mode is evaluated anew.",
     "{\"state\": \"running\"}"},
    {"GET", "/v1/partitions/{partition}/power", 200, false, lpm_api_partition_power, partition_args,
     "Whether it runs, as fence agents ask. `off` only when no copy of it runs and no move of it "
     "is "
     "undecided; `on` while one is. An\nerror (`unreachable`) when that is not known. `why` says "
     "what makes it `on`.",
     "{\"partition\": \"web1\", \"power\": \"on\", \"system\": \"s1\", \"why\": \"it is "
     "running on system s1\"}"},
    {"POST", "/v1/partitions/{partition}/power-off", 200, false, lpm_api_partition_power_off,
     partition_off_args,
     "Switches it off at once, wherever it runs: a move of it is stopped, or ends, first. Answers "
     "`off` when it is certain that no\ncopy of it runs; else a `timeout` error says what is in "
     "the "
     "way, and it may be asked again.",
     "{\"partition\": \"web1\", \"power\": \"off\", \"system\": \"s1\", \"why\": null}"},
    {"POST", "/v1/partitions/{partition}/takeover", 200, false, lpm_api_partition_takeover,
     partition_takeover_args,
     "The work of a cluster member that was lost while it was moved is taken over by the others. "
     "First it is made certain that no copy\nof it runs (one that does is refused, without "
     "`force`); then each of `standbys` is told, through its guest agent, to let go\nof what was "
     "in force for the move. `finished` is false when that is not done 170 s after the request: "
     "events tell of\nthe end. It is refused when no move is known in which its script spoke for a "
     "cluster, whatever is given here.",
     "{\"partition\": \"web1\", \"migration\": \"…\", \"member\": \"node1\", \"finished\": "
     "true,\n \"standbys\": [{\"partition\": \"web2\", \"result\": \"ok\", \"words\": \"…\"}]}"},
    {"POST", "/v1/partitions/{partition}/memory", 200, false, lpm_api_partition_memory,
     partition_memory_args,
     "Gives a running partition more memory, up to its profile's `memory_max_mib`, in multiples of "
     "128 MiB (POWER: 256). It moves\nwith the partition and lasts until its next start. The "
     "answer "
     "is what it has now.",
     "{\"memory_mib\": 1280, \"processors\": 2}"},
    {"POST", "/v1/partitions/{partition}/processors", 200, false, lpm_api_partition_processors,
     partition_processors_args,
     "Gives a running partition more processors, up to its profile's `processors_max`, likewise.",
     "{\"memory_mib\": 1024, \"processors\": 3}"},

    {"POST", "/v1/validate", 200, false, lpm_api_validate, validate_args,
     "Finds every reason why a move would fail, without changing anything. One result for each "
     "target, in order of name; "
     "`verdict` is\n`ok`, `warning` or `error`. `prediction` is what the move would cost "
     "([how](../guide/prediction.md)): `value` null where it has no end, `high` null where it may "
     "have "
     "none;\n`converges` is `yes`, `no` or `unsure`; null when nothing can be said. "
     "`after_restart`: the mode that the partition would get if it were restarted where it is, and "
     "whether the processors would let it move then.",
     "{\"partition\": \"web1\", \"source\": \"s1\", \"active\": true,\n"
     " \"results\": [{\"target\": \"s2\", \"verdict\": \"ok\", \"findings\": [], "
     "\"ms\": 420.0,\n"
     "   \"summary\": {\"current_mode\": \"x86-64-v3\", \"preferred_mode\": \"default\", "
     "\"memory_mib\": 1024, "
     "\"round_trip_us\": 200,\n"
     "     \"bytes_per_second\": 900000000, \"clock_difference_us\": 50, \"clock_error_us\": "
     "300},\n"
     "   \"prediction\": " PREDICTION_JSON ",\n"
     "   \"after_restart\": {\"mode\": \"x86-64-v4\", \"changes\": true, \"processor_allows\": "
     "false, \"processor_allows_now\": true}}]}"},
    {"POST", "/v1/migrations", 202, false, lpm_api_migration_create, migration_create_args,
     "Begins a move: validation, then the move itself. Unknown names, target = source, a system "
     "that does not answer and a "
     "move of the\nsame partition under way are errors here; findings of the validation are seen "
     "in the migration.",
     "{\"migration\": \"32 hex digits\", \"partition\": \"web1\", \"source\": \"s1\", \"target\": "
     "\"s2\", \"state\": \"new\"}"},
    {"GET", "/v1/migrations", 200, false, lpm_api_migration_list, migration_list_args,
     "Migrations, the newest first, without `findings`, `source_half` and `target_half`.",
     "{\"migrations\": []}"},
    {"GET", "/v1/migrations/{migration}", 200, false, lpm_api_migration_show, migration_show_args,
     "One migration, both halves merged. `start` of a phase counts milliseconds from the start of "
     "the first. `phase` is null "
     "before the move\nitself begins. `waiting_for` names systems that do not answer and without "
     "which it cannot go on or be "
     "judged. `situation` is null unless the move waits for something: what is `known`, what is "
     "`unknown`, and what one `may` do, with the command and, where somebody's word is needed, "
     "what "
     "to `say`.\n`words` are those that were given: by whom, from where, when. `prediction` was "
     "made by the validation, `score` is what "
     "came of it once\nthe move has ended (errors above 0: too much was predicted). This is also "
     "the "
     "final result: once `finished` is true it changes no more, except "
     "by `recover`.",
     MIGRATION_JSON},
    {"PATCH", "/v1/migrations/{migration}", 200, false, lpm_api_migration_change,
     migration_change_args,
     "Changes the limits of a move that copies. A state error before and after that. `options` are "
     "then the new ones.",
     "{\"migration\": \"…\", \"options\": {}}"},
    {"POST", "/v1/migrations/{migration}/stop", 200, false, lpm_api_migration_stop, migration_args,
     "Stops a move; the partition goes on at the source. A state error once the partition is being "
     "handed over.",
     "{\"migration\": \"…\", \"state\": \"moving\", \"stop_requested\": true}"},
    {"POST", "/v1/migrations/{migration}/recover", 200, false, lpm_api_migration_recover,
     migration_recover_args,
     "Asks both systems to take the one step that their journals and the ownership record allow "
     "now. With `word`, one of them is told\nwhat no system can know ([the word](handover.md)); "
     "who said it, from where and when is kept. Answers like GET.",
     "{\"…\": \"a migration\"}"},

    {"GET", "/v1/store", 200, false, lpm_api_store_list, store_list_args,
     "The images that systems keep of partitions' memory ([page store](page-store.md)), and how "
     "much room each system gives them.\n`state` is `sealed`, `unsealed` (of no use) or `in-use`; "
     "`on` false has its `reason`.",
     "{\"systems\": [{\"system\": \"s1\", \"on\": true, \"reason\": null, \"directory\": \"…\", "
     "\"budget_bytes\": 0, \"used_bytes\": 0,\n"
     "   \"disk_bytes\": 0, \"free_bytes\": 0}],\n"
     " \"images\": [{\"system\": \"s1\", \"partition\": \"web1\", \"uuid\": \"…\", \"state\": "
     "\"sealed\", \"bytes\": 0, \"used_us\": 0,\n"
     "   \"image\": \"32 hex digits\", \"generation\": 3, \"pages\": 262144, \"zero_pages\": "
     "90000}],\n"
     " \"unreachable\": [{\"system\": \"s2\", \"error\": \"…\"}]}"},
    {"DELETE", "/v1/store", 200, false, lpm_api_store_drop, store_drop_args,
     "Drops images of one partition or of all. Nothing but time is lost: the next move of such a "
     "partition sends everything.",
     "{\"dropped\": 2, \"unreachable\": []}"},

    {"GET", "/v1/modes", 200, false, lpm_api_modes, modes_args,
     "Processor compatibility modes by system; with `common` also the highest mode by family that "
     "all of these systems have "
     "(null: none).",
     "{\"systems\": [{\"system\": \"s1\", \"modes\": {\"x86-64\": [\"x86-64-v2\"], \"power\": "
     "[\"POWER8\", \"POWER9_base\"]}}],\n"
     " \"common\": {\"x86-64\": \"x86-64-v2\", \"power\": \"POWER9_base\"}}"},
    {"GET", "/v1/checks", 200, false, lpm_api_checks, NULL, "The table of validation checks.",
     "{\"checks\": [{\"check\": \"storage.same-disk\", \"group\": \"storage\", \"active\": true, "
     "\"inactive\": true,\n"
     "   \"severity\": \"error\", \"overridable\": false, \"hmc_code\": null, \"title\": \"…\", "
     "\"help\": \"…\"}]}"},
    {"GET", "/v1/events", 200, false, lpm_api_events, events_args,
     "What happened, the oldest first: systems that came and went, migrations, changes by users. "
     "`move` is null but of a migration.",
     "{\"events\": [{\"number\": 7, \"time_us\": 0, \"kind\": \"migration\", \"object\": \"…\", "
     "\"user\": \"admin\", \"message\": \"…\",\n"
     "  \"move\": {\"partition\": \"web1\", \"source\": \"s1\", \"target\": \"s2\", \"state\": "
     "\"completed\"}}]}"},
    {"GET", "/v1/events/stream", 200, false, lpm_api_events_stream, events_stream_args,
     "The same as they come: server-sent events, an answer without an end. Each has its number as "
     "`id`, its kind as `event` and one\nobject of the list above as `data`. With `Last-Event-ID`, "
     "or `since`, it begins after that number; without, with what is new. An event\n`lost` tells "
     "of "
     "numbers that were thrown away before (`history` of the configuration). Every 15 s something "
     "is sent. Who does not read\nwhat is there within 30 s is cut off, and may come again; at "
     "most "
     "64 can listen, 32 from one address: a busy error.",
     "retry: 2000\nid: 6\n\nid: 7\nevent: migration\ndata: {\"number\": 7, \"time_us\": 0, "
     "\"kind\": "
     "\"migration\", \"…\": \"…\"}\n\nevent: lost\ndata: {\"first\": 8, \"last\": 12}"},
    {"GET", "/v1/webhooks", 200, false, lpm_api_webhooks, NULL,
     "Where events are sent ([webhooks](../guide/events.md)), by the console's configuration. "
     "`state` is `ok`, or `failing`: the last try was not taken, `error` says why,\n`attempts` how "
     "often this event was tried, `next_us` when it is tried again. `waiting` events are still to "
     "be sent (100: or more), `given_up` were tried for too long or\nrefused, `lost` were thrown "
     "away by the history before. `events` is null: all kinds but `webhook`.",
     "{\"webhooks\": [{\"name\": \"chat\", \"url\": \"https://chat.example/lpm\", \"events\": "
     "[\"migration\"], \"state\": \"ok\", \"waiting\": 0,\n   \"delivered\": 12, \"given_up\": 0, "
     "\"lost\": 0, \"attempts\": 0, \"error\": null, \"last_ok_us\": 0, \"next_us\": null}]}"},
    {"POST", "/v1/webhooks/{webhook}/retry", 200, false, lpm_api_webhook_retry, webhook_args,
     "Tries now what waits to be tried again. The answer is the webhook as in the list.",
     "{\"name\": \"chat\", \"…\": \"…\"}"},
    {"GET", "/v1/version", 200, false, lpm_api_version, NULL, "The console's version.",
     "{\"version\": \"0.1.0\", \"api\": 1, \"name\": \"console\"}"},
    {"GET", "/v1/health", 200, true, lpm_api_health, NULL, "Whether the console works.",
     "{\"status\": \"ok\"}"},
    {NULL, NULL, 0, false, NULL, NULL, NULL, NULL},
};

void lpm_api_print(FILE *out)
{
    fputs(introduction, out);
    lpm_http_print_routes(lpm_api_routes, out);
}
