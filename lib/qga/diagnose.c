/* SPDX-License-Identifier: Apache-2.0 */
#include "qga/diagnose.h"

#include <string.h>

typedef enum { RESULT_OK, RESULT_WARNING, RESULT_MISSING, RESULT_UNKNOWN } Result;

static const char *const result_names[] = {
    [RESULT_OK] = "ok",
    [RESULT_WARNING] = "warning",
    [RESULT_MISSING] = "missing",
    [RESULT_UNKNOWN] = "unknown",
};

typedef struct {
    const LpmRmcSeen *seen;
    json_t *steps;
    Result worst; /* of those that are not unknown */
    bool stuck;   /* what follows cannot be looked at */
} Diagnosis;

/* @remedy: NULL where nothing is to be done. */
static void add(Diagnosis *d, const char *step, Result result, const char *what, const char *remedy)
{
    json_array_append_new(d->steps,
                          lpm_json_pack("{s:s, s:s, s:s, s:s?}", "step", step, "result",
                                        result_names[result], "what", what, "remedy", remedy));
    if (result != RESULT_UNKNOWN) {
        d->worst = MAX(d->worst, result);
    }
    d->stuck |= result == RESULT_MISSING || result == RESULT_UNKNOWN;
}

static bool is_stuck(Diagnosis *d, const char *step)
{
    if (d->stuck) {
        add(d, step, RESULT_UNKNOWN, "cannot be looked at before that", NULL);
    }
    return d->stuck;
}

/* --- channel --- */

static void see_channel(Diagnosis *d)
{
    const LpmRmcSeen *seen = d->seen;
    g_autofree char *remedy = NULL;

    if (seen->has_channel) {
        add(d, "channel", RESULT_OK, "the partition has a channel for the guest agent", NULL);
    } else if (seen->profile_has) {
        remedy = g_strdup_printf("lpm partition restart %s", seen->partition);
        add(d, "channel", RESULT_MISSING,
            "its profile has a channel for the guest agent, which it gets at its next start",
            remedy);
    } else {
        remedy = g_strdup_printf("lpm partition change %s guest_agent=true, then lpm partition "
                                 "restart %s",
                                 seen->partition, seen->partition);
        add(d, "channel", RESULT_MISSING,
            "its profile has no channel for the guest agent (guest_agent is false)", remedy);
    }
}

static void see_running(Diagnosis *d)
{
    g_autofree char *remedy = g_strdup_printf("lpm partition start %s", d->seen->partition);

    if (is_stuck(d, "running")) {
        return;
    }
    if (d->seen->running) {
        add(d, "running", RESULT_OK, "the partition runs", NULL);
    } else {
        add(d, "running", RESULT_MISSING, "the partition does not run", remedy);
    }
}

/* --- agent --- */

#define INSTALL                                                                                    \
    "in the partition: apt-get install qemu-guest-agent (Debian, Ubuntu), dnf install "            \
    "qemu-guest-agent (Fedora, RHEL) or zypper install qemu-guest-agent (SUSE), then systemctl "   \
    "enable --now qemu-guest-agent"

static void see_agent(Diagnosis *d)
{
    const LpmRmcSeen *seen = d->seen;
    g_autofree char *what = NULL;

    if (is_stuck(d, "agent")) {
        return;
    }
    if (!seen->asked) {
        add(d, "agent", RESULT_UNKNOWN, "the agent could not be asked just now: ask again", NULL);
    } else if (!seen->agent_error) {
        what = g_strdup_printf("the guest agent answers%s%s",
                               seen->agent_version && *seen->agent_version ? ", version " : "",
                               seen->agent_version ? seen->agent_version : "");
        add(d, "agent", RESULT_OK, what, NULL);
    } else if (seen->port_open == 0) {
        add(d, "agent", RESULT_MISSING,
            "nothing in the partition has the channel org.qemu.guest_agent.0 open: the guest agent "
            "is not installed, not started (yet), or the system in it has no driver virtio_console",
            INSTALL "; where that is done: systemctl status qemu-guest-agent, and modprobe "
                    "virtio_console when /dev/virtio-ports is empty");
    } else {
        what = g_strdup_printf("%s: %s",
                               seen->port_open == 1
                                   ? "something in the partition has the channel open and does not "
                                     "answer as a guest agent does"
                                   : "no guest agent answers",
                               seen->agent_error);
        add(d, "agent", RESULT_MISSING, what,
            seen->port_open == 1 ? "in the partition: systemctl restart qemu-guest-agent; if it is "
                                   "overloaded or stopped, ask again later"
                                 : INSTALL);
    }
}

/* What each command is needed for; without the needed ones no script is asked. */
static const struct {
    const char *command, *purpose;
    bool needed;
} commands[] = {
    {"guest-exec", "scripts are asked and told", true},
    {"guest-exec-status", "scripts are asked and told", true},
    {"guest-shutdown", "it is stopped in an orderly way", false},
    {"guest-get-time", "its clock is looked at after a move", false},
    {"guest-set-time", "its clock is set after a move", false},
    {"guest-get-osinfo", "its operating system is known", false},
};

static void append(GString *text, const char *command, const char *purpose)
{
    g_string_append_printf(text, "%s%s (%s)", text->len ? ", " : "", command, purpose);
}

static void see_commands(Diagnosis *d)
{
    const LpmRmcSeen *seen = d->seen;
    g_autoptr(GString) disabled = g_string_new(NULL);
    g_autoptr(GString) unknown = g_string_new(NULL);
    bool needed = false;

    if (is_stuck(d, "commands")) {
        return;
    }
    if (!seen->commands) {
        add(d, "commands", RESULT_WARNING, "the agent does not say which commands it allows",
            "ask again; install a current qemu-guest-agent");
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        const json_t *enabled = json_object_get(seen->commands, commands[i].command);

        if (!json_is_true(enabled)) {
            needed |= commands[i].needed;
            append(enabled ? disabled : unknown, commands[i].command, commands[i].purpose);
        }
    }
    if (disabled->len + unknown->len == 0) {
        add(d, "commands", RESULT_OK, "the agent allows all that is needed", NULL);
        return;
    }
    g_autofree char *what =
        g_strdup_printf("%s%s%s%s%s", disabled->len ? "the agent does not allow: " : "",
                        disabled->str, disabled->len && unknown->len ? "; " : "",
                        unknown->len ? "the agent is too old for: " : "", unknown->str);
    Result result = needed ? RESULT_MISSING : RESULT_WARNING;

    add(d, "commands", result, what,
        disabled->len
            ? "in the partition: take them out of --block-rpcs (--blacklist), or add them to "
              "--allow-rpcs, in /etc/sysconfig/qemu-ga, /etc/default/qemu-guest-agent or "
              "qemu-ga.conf, then systemctl restart qemu-guest-agent"
            : "in the partition: install a current qemu-guest-agent");
}

/* --- lpm-drmgr --- */

#define DRMGR_INSTALL                                                                              \
    "in the partition: install the package lpm-drmgr that packaging/guest-package makes "          \
    "(docs/guide/scripts.md); a partition without it moves all the same, and its scripts are not " \
    "asked"

/* "lpm-drmgr 0.1.0" -> "0.1.0"; NULL: that was not lpm-drmgr. */
static const char *drmgr_version(const LpmRmcSeen *seen)
{
    const char *said = seen->drmgr_said;

    return !seen->drmgr_error && seen->drmgr_status == 0 && said &&
                   g_str_has_prefix(said, "lpm-drmgr ")
               ? said + strlen("lpm-drmgr ")
               : NULL;
}

/* Below 0, 0, above 0 as strcmp() of numbers with dots between. */
static int compare_versions(const char *a, const char *b)
{
    while (*a || *b) {
        char *end_a, *end_b;
        guint64 one = g_ascii_strtoull(a, &end_a, 10), other = g_ascii_strtoull(b, &end_b, 10);

        if (one != other) {
            return one < other ? -1 : 1;
        }
        if (*end_a != '.' || *end_b != '.') {
            return (*end_a == '.') - (*end_b == '.');
        }
        a = end_a + 1;
        b = end_b + 1;
    }
    return (*a != '\0') - (*b != '\0');
}

static void see_drmgr(Diagnosis *d)
{
    const LpmRmcSeen *seen = d->seen;
    const char *version = drmgr_version(seen);
    g_autofree char *what = NULL;

    if (is_stuck(d, "lpm-drmgr")) {
        return;
    }
    if (!seen->drmgr_asked) {
        add(d, "lpm-drmgr", RESULT_UNKNOWN, "it could not be asked just now: ask again", NULL);
    } else if (seen->drmgr_error) {
        what = g_strdup_printf("/usr/sbin/lpm-drmgr cannot be run: %s", seen->drmgr_error);
        add(d, "lpm-drmgr", RESULT_WARNING, what, DRMGR_INSTALL);
    } else if (!version) {
        what = g_strdup_printf("/usr/sbin/lpm-drmgr --version ends with exit status %d and does "
                               "not say what it is",
                               seen->drmgr_status);
        add(d, "lpm-drmgr", RESULT_WARNING, what, DRMGR_INSTALL);
    } else if (g_ascii_isdigit(*version) && compare_versions(version, seen->own_version) < 0) {
        what = g_strdup_printf("lpm-drmgr %s is older than this system's OpenLPM (%s)", version,
                               seen->own_version);
        add(d, "lpm-drmgr", RESULT_WARNING, what,
            "in the partition: install the package lpm-drmgr of this release; until then what it "
            "does not know is left out");
    } else {
        what = g_strdup_printf("lpm-drmgr %s asks and tells the partition's scripts", version);
        add(d, "lpm-drmgr", RESULT_OK, what, NULL);
    }
}

json_t *lpm_rmc_diagnose(const LpmRmcSeen *seen)
{
    static const char *const verdicts[] = {
        [RESULT_OK] = "ok", [RESULT_WARNING] = "limited", [RESULT_MISSING] = "broken"};
    Diagnosis d = {.seen = seen, .steps = json_array()};

    see_channel(&d);
    see_running(&d);
    see_agent(&d);
    see_commands(&d);
    see_drmgr(&d);
    /* Nothing is in order that could not be looked at. */
    if (d.stuck && d.worst == RESULT_OK) {
        d.worst = RESULT_WARNING;
    }
    return lpm_json_pack("{s:s, s:o, s:s?, s:s?, s:s?}", "verdict", verdicts[d.worst], "steps",
                         d.steps, "agent_version", seen->agent_error ? NULL : seen->agent_version,
                         "os", seen->os_name && *seen->os_name ? seen->os_name : NULL,
                         "drmgr_version", drmgr_version(seen));
}
