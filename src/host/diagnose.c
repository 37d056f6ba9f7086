/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why the software in a partition cannot be reached, or what it cannot do: one question after the
 * other, each with a deadline.
 */
#include "qga/diagnose.h"

#include "host/partition.h"
#include "host/server.h"
#include "qga/text.h"

#include <string.h>

#define DRMGR         "/usr/sbin/lpm-drmgr"
#define EXEC_MS       4000
#define COMMANDS_MAX  512
#define SAID_MAX      80
#define AGENT_CHARDEV "agent"

typedef struct {
    LpmRpcRequest *request;
    LpmPartition *partition; /* owned reference */
    LpmRmcSeen seen;
    json_t *commands;
    char *name; /* the profile may be replaced while questions are under way */
    char *agent_error, *agent_version, *os_name, *drmgr_error, *drmgr_said;
} Diagnose;

static const char *rmc_of(const LpmRmcSeen *seen)
{
    return !seen->has_channel ? "absent" : seen->asked && !seen->agent_error ? "active" : "silent";
}

static void end(Diagnose *job)
{
    LpmRmcSeen *seen = &job->seen;
    json_t *answer;

    seen->agent_error = job->agent_error;
    seen->agent_version = job->agent_version;
    seen->commands = job->commands;
    seen->os_name = job->os_name;
    seen->drmgr_error = job->drmgr_error;
    seen->drmgr_said = job->drmgr_said;
    answer = lpm_rmc_diagnose(seen);
    json_object_set_new(answer, "partition", json_string(seen->partition));
    json_object_set_new(answer, "rmc", json_string(rmc_of(seen)));
    lpm_rpc_request_return(job->request, answer);
    json_decref(job->commands);
    g_free(job->name);
    g_free(job->agent_error);
    g_free(job->agent_version);
    g_free(job->os_name);
    g_free(job->drmgr_error);
    g_free(job->drmgr_said);
    lpm_partition_unref(job->partition);
    g_free(job);
}

static unsigned agent_ms(const Diagnose *job)
{
    return job->partition->host->config->agent_timeout_ms;
}

/* The partition may stop, or move away, between two questions. */
static bool is_gone(const Diagnose *job)
{
    return !job->partition->agent || !job->partition->pid;
}

/* A guest wrote it: one line of printable characters. */
static char *clean(const char *text, gsize size)
{
    g_autofree char *line = g_strndup(text ? text : "", size);

    line[strcspn(line, "\r\n")] = '\0';
    return lpm_qga_clean_text(line, SAID_MAX, false);
}

/* --- lpm-drmgr --- */

static void on_drmgr(const LpmQgaExec *ran, const GError *error, void *data)
{
    Diagnose *job = data;
    gsize size = 0;

    job->seen.drmgr_asked = true;
    if (error) {
        job->drmgr_error = g_strdup(error->message);
    } else {
        const char *out = g_bytes_get_data(ran->out, &size);

        job->seen.drmgr_status = ran->status;
        job->drmgr_said = clean(out, size);
    }
    end(job);
}

static void ask_drmgr(Diagnose *job)
{
    static const char *const words[] = {DRMGR, "--version", NULL};

    if (is_gone(job)) {
        end(job);
        return;
    }
    lpm_qga_exec(job->partition->agent, words, NULL, NULL, EXEC_MS, on_drmgr, job);
}

/* --- what the agent allows, and what it runs in --- */

static void on_os(const LpmQgaOs *os, const GError *error, void *data)
{
    Diagnose *job = data;

    if (!error) {
        job->os_name = g_strdup(os->name);
    }
    ask_drmgr(job);
}

static json_t *read_commands(const json_t *info)
{
    const json_t *rows = lpm_json_at(info, "supported_commands");
    json_t *commands = json_is_array(rows) ? json_object() : NULL;
    json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        const char *name = lpm_json_str(row, "name", NULL);

        if (i < COMMANDS_MAX && name) {
            json_object_set_new(commands, name, json_boolean(lpm_json_bool(row, "enabled", false)));
        }
    }
    return commands;
}

static void on_info(json_t *info, const GError *error, void *data)
{
    Diagnose *job = data;

    if (!error) {
        const char *version = lpm_json_str(info, "version", "");

        job->agent_version = clean(version, strlen(version));
        job->commands = read_commands(info);
    }
    if (is_gone(job)) {
        end(job);
    } else {
        lpm_qga_osinfo(job->partition->agent, agent_ms(job), on_os, job);
    }
}

static void on_ping(const GError *error, void *data)
{
    Diagnose *job = data;

    job->seen.asked = true;
    if (error) {
        job->agent_error = g_strdup(error->message);
        end(job);
    } else if (is_gone(job)) {
        end(job);
    } else {
        lpm_qga_call(job->partition->agent, "guest-info", NULL, agent_ms(job), on_info, job);
    }
}

/* --- the channel, as QEMU sees it --- */

static void on_chardevs(json_t *result, const GError *error, void *data)
{
    Diagnose *job = data;
    json_t *row;
    size_t i;

    (void)error; /* then it is not known */
    json_array_foreach (result, i, row) {
        if (strcmp(lpm_json_str(row, "label", ""), AGENT_CHARDEV) == 0) {
            job->seen.port_open = lpm_json_bool(row, "frontend-open", false);
        }
    }
    if (is_gone(job)) {
        end(job);
    } else {
        lpm_qga_ping(job->partition->agent, agent_ms(job), on_ping, job);
    }
}

void lpm_verb_diagnose(LpmRpcRequest *request, json_t *arguments, void *data)
{
    LpmPartition *partition = lpm_verb_partition(request, arguments, data);
    Diagnose *job;

    if (!partition) {
        return;
    }
    job = g_new0(Diagnose, 1);
    job->request = request;
    job->partition = lpm_partition_ref(partition);
    job->name = g_strdup(partition->profile->name);
    job->seen.partition = job->name;
    job->seen.own_version = LPM_VERSION;
    job->seen.running = partition->state == LPM_PARTITION_RUNNING;
    job->seen.profile_has = partition->profile->guest_agent;
    job->seen.has_channel = partition->runtime
                                ? lpm_json_bool(partition->runtime, "profile.guest_agent",
                                                partition->profile->guest_agent)
                                : partition->profile->guest_agent;
    job->seen.port_open = -1;
    if (!job->seen.has_channel || !job->seen.running || is_gone(job) || !partition->qmp) {
        end(job);
    } else {
        lpm_qmp_call(partition->qmp, "query-chardev", NULL, on_chardevs, job);
    }
}
