/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook.h"

#include "base/log.h"
#include "listen.h"
#include "post.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#define BATCH        50  /* events that are looked at at a time */
#define SAVE_EVERY   500 /* unwanted events that are passed without writing it down */
#define WAITING_MAX  100 /* more are not counted: each is read for it */
#define BACK_OFF_S   1   /* doubled by each failure */
#define BACK_OFF_MAX 300
#define REFUSALS_MAX 3 /* of one event by an answer that is about this event */

typedef struct {
    LpmConsole *console;
    const LpmWebhookConfig *config;
    const char *name;
    /* written down */
    int64_t settled; /* number of the last event that is delivered, given up, lost or not wanted */
    int64_t delivered, given_up, lost; /* how many */
    int64_t last_ok_us;                /* since 1970 UTC; 0: never */
    int64_t first_try_us;              /* of the event that is tried now */
    int64_t attempts;                  /* of it that have failed */
    char *last_error;                  /* NULL: the last one was taken */
    /* in memory only */
    int64_t saved;  /* value of settled that is written down */
    json_t *event;  /* what is sent now, or again; NULL: nothing */
    LpmPost *post;  /* under way */
    guint timer;    /* until it is sent again */
    int64_t due_us; /* since 1970 UTC: when that is */
} Webhook;

static void pump(Webhook *hook);

/* --- the database --- */

static json_t *to_json(const Webhook *hook)
{
    return lpm_json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s?}", "settled",
                         (json_int_t)hook->settled, "delivered", (json_int_t)hook->delivered,
                         "given_up", (json_int_t)hook->given_up, "lost", (json_int_t)hook->lost,
                         "last_ok_us", (json_int_t)hook->last_ok_us, "first_try_us",
                         (json_int_t)hook->first_try_us, "attempts", (json_int_t)hook->attempts,
                         "last_error", hook->last_error);
}

/* What is not written down is sent again after a crash. */
static void save(Webhook *hook)
{
    g_autoptr(json_t) value = to_json(hook);
    g_autoptr(GError) error = NULL;

    if (lpm_store_put(hook->console->store, LPM_KIND_WEBHOOK, hook->name, value, NULL, &error)) {
        hook->saved = hook->settled;
    } else {
        lpm_log_error(NULL, "webhook %s: %s", hook->name, error->message);
    }
}

static bool load(Webhook *hook, GError **error)
{
    GError *cause = NULL;
    g_autoptr(json_t) value =
        lpm_store_get(hook->console->store, LPM_KIND_WEBHOOK, hook->name, NULL, &cause);

    if (cause) {
        g_propagate_error(error, cause);
        return false;
    }
    hook->settled = lpm_json_int(value, "settled", hook->console->last_event);
    hook->settled = MIN(hook->settled, hook->console->last_event);
    hook->delivered = lpm_json_int(value, "delivered", 0);
    hook->given_up = lpm_json_int(value, "given_up", 0);
    hook->lost = lpm_json_int(value, "lost", 0);
    hook->last_ok_us = lpm_json_int(value, "last_ok_us", 0);
    hook->first_try_us = lpm_json_int(value, "first_try_us", 0);
    hook->attempts = lpm_json_int(value, "attempts", 0);
    hook->last_error = g_strdup(lpm_json_str(value, "last_error", NULL));
    save(hook);
    return true;
}

/* --- one event --- */

static bool is_wanted(const Webhook *hook, const json_t *event)
{
    g_autofree char *kinds = hook->config->events ? g_strjoinv(",", hook->config->events) : NULL;

    /* It is not told about itself, and of others only where that is asked for: two receivers that
     * fail would keep each other busy for ever. */
    if (strcmp(lpm_json_str(event, "kind", ""), LPM_KIND_WEBHOOK) == 0 &&
        (!kinds || !*kinds || strcmp(lpm_json_str(event, "object", ""), hook->name) == 0)) {
        return false;
    }
    return lpm_event_is_of(event, kinds);
}

/* The event that was tried is over: delivered, or given up. */
static void settle(Webhook *hook)
{
    hook->settled = lpm_json_int(hook->event, "number", hook->settled);
    hook->attempts = 0;
    hook->first_try_us = 0;
    g_clear_pointer(&hook->event, json_decref);
    save(hook);
}

static void on_taken(Webhook *hook)
{
    bool again = hook->last_error != NULL;

    g_clear_pointer(&hook->last_error, g_free);
    hook->delivered++;
    hook->last_ok_us = lpm_clock_realtime_us(hook->console->clock);
    settle(hook);
    if (again) {
        lpm_event_add(hook->console, LPM_KIND_WEBHOOK, hook->name, NULL, "takes events again");
    }
}

/* Whether no later try would help: it is too old, or the receiver refuses this very event. */
static bool is_hopeless(const Webhook *hook, long status)
{
    bool refused = status == 400 || status == 413 || status == 422;
    int64_t age_us = lpm_clock_realtime_us(hook->console->clock) - hook->first_try_us;

    return (refused && hook->attempts >= REFUSALS_MAX) ||
           age_us / G_USEC_PER_SEC >= hook->config->give_up_s;
}

static gboolean on_timer(gpointer data)
{
    Webhook *hook = data;

    hook->timer = 0;
    pump(hook);
    return G_SOURCE_REMOVE;
}

static void try_later(Webhook *hook)
{
    int64_t doubled = hook->attempts > 9 ? BACK_OFF_MAX : BACK_OFF_S << (hook->attempts - 1);
    guint seconds = (guint)MIN(doubled, BACK_OFF_MAX);

    hook->due_us = lpm_clock_realtime_us(hook->console->clock) + seconds * G_USEC_PER_SEC;
    hook->timer = g_timeout_add_seconds(seconds, on_timer, hook);
}

static void on_failed(Webhook *hook, long status, const char *reason)
{
    int64_t number = lpm_json_int(hook->event, "number", 0);
    bool first = hook->last_error == NULL;

    g_free(hook->last_error);
    hook->last_error = g_utf8_make_valid(reason, -1);
    hook->attempts++;
    if (is_hopeless(hook, status)) {
        hook->given_up++;
        lpm_event_add(hook->console, LPM_KIND_WEBHOOK, hook->name, NULL,
                      "event %" G_GINT64_FORMAT " is given up after %" G_GINT64_FORMAT
                      " attempts: %s",
                      number, hook->attempts, reason);
        settle(hook);
        return;
    }
    if (first) {
        lpm_event_add(hook->console, LPM_KIND_WEBHOOK, hook->name, NULL,
                      "event %" G_GINT64_FORMAT " was not taken: %s; it is sent again", number,
                      reason);
    } else {
        lpm_log_warning(NULL,
                        "webhook %s: event %" G_GINT64_FORMAT " was not taken %" G_GINT64_FORMAT
                        " times: %s",
                        hook->name, number, hook->attempts, reason);
    }
    save(hook);
    try_later(hook);
}

static void on_answer(long status, const char *reason, void *data)
{
    Webhook *hook = data;
    g_autofree char *words =
        status ? g_strdup_printf("the receiver answers HTTP status %ld", status) : g_strdup(reason);

    hook->post = NULL;
    if (status >= 200 && status < 300) {
        on_taken(hook);
    } else {
        on_failed(hook, status, words);
    }
    pump(hook);
}

/* "sha256=" and the HMAC of "TIMESTAMP.BODY", hexadecimal. g_free(). */
static char *signature_of(const char *secret, int64_t timestamp, const char *body)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT ".%s", timestamp, body);
    GString *hex = g_string_new("sha256=");
    unsigned char digest[32];

    gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, strlen(secret), text, strlen(text), digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        g_string_append_printf(hex, "%02x", digest[i]);
    }
    return g_string_free(hex, FALSE);
}

/* What it says besides the event; the strings are owned by the array, which ends with NULL. */
static GPtrArray *headers_of(const Webhook *hook, int64_t now, const char *signature)
{
    GPtrArray *headers = g_ptr_array_new_with_free_func(g_free);
    const json_t *event = hook->event;

    g_ptr_array_add(headers, g_strdup("Content-Type: application/json"));
    g_ptr_array_add(headers, g_strdup_printf("LPM-Console: %s", hook->console->config->name));
    g_ptr_array_add(headers, g_strdup_printf("LPM-Event: %s", lpm_json_str(event, "kind", "")));
    g_ptr_array_add(headers, g_strdup_printf("LPM-Number: %" G_GINT64_FORMAT,
                                             lpm_json_int(event, "number", 0)));
    g_ptr_array_add(headers, g_strdup_printf("LPM-Timestamp: %" G_GINT64_FORMAT, now));
    g_ptr_array_add(headers, g_strdup_printf("LPM-Signature: %s", signature));
    g_ptr_array_add(headers, NULL);
    return headers;
}

static void send_event(Webhook *hook)
{
    const LpmWebhookConfig *config = hook->config;
    g_autoptr(GError) error = NULL;
    g_autofree char *body = lpm_json_text(hook->event);
    char *secret = lpm_secret_read(config->secret, &error);
    int64_t now_us = lpm_clock_realtime_us(hook->console->clock);
    int64_t now = now_us / G_USEC_PER_SEC;
    g_autofree char *signature = secret && *secret ? signature_of(secret, now, body) : NULL;
    g_autoptr(GPtrArray) headers = signature ? headers_of(hook, now, signature) : NULL;

    lpm_secret_free(secret);
    if (hook->first_try_us == 0) {
        hook->first_try_us = now_us;
    }
    if (!signature) {
        g_autofree char *reason = error ? g_strdup(error->message)
                                        : g_strdup_printf("secret %s is empty", config->secret);

        on_failed(hook, 0, reason);
        return;
    }
    hook->post = lpm_post_start(hook->console->poster,
                                &(LpmPostRequest){config->url, config->ca,
                                                  (const char *const *)headers->pdata, body,
                                                  (unsigned)config->timeout_s},
                                on_answer, hook);
}

/* --- what is next --- */

/* The next event that is wanted, into hook->event; false: there may be more to look at. */
static bool look(Webhook *hook)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) batch = lpm_events_after(hook->console, hook->settled, BATCH, &error);
    json_t *event;
    size_t i;

    if (!batch) {
        lpm_log_error(NULL, "webhook %s: %s", hook->name, error->message);
        return true;
    }
    json_array_foreach (batch, i, event) {
        int64_t number = lpm_json_int(event, "number", 0);

        if (number > hook->settled + 1) {
            hook->lost += number - hook->settled - 1;
            lpm_log_warning(NULL,
                            "webhook %s: events %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT
                            " were thrown away before they could be sent",
                            hook->name, hook->settled + 1, number - 1);
            hook->settled = number - 1;
            hook->first_try_us = 0; /* of one that was thrown away */
            hook->attempts = 0;
        }
        if (is_wanted(hook, event)) {
            hook->event = json_incref(event);
            return true;
        }
        hook->settled = number;
    }
    if (hook->settled - hook->saved >= SAVE_EVERY) {
        save(hook);
    }
    return json_array_size(batch) < BATCH;
}

static void pump(Webhook *hook)
{
    if (hook->post || hook->timer) {
        return;
    }
    if (!hook->event && !look(hook)) {
        lpm_webhooks_wake(hook->console); /* others have their turn in between */
    } else if (hook->event) {
        send_event(hook);
    }
}

static gboolean pump_all(gpointer data)
{
    LpmConsole *console = data;
    GHashTableIter iter;
    gpointer hook;

    console->webhooks_idle = 0;
    g_hash_table_iter_init(&iter, console->webhooks);
    while (g_hash_table_iter_next(&iter, NULL, &hook)) {
        pump(hook);
    }
    return G_SOURCE_REMOVE;
}

void lpm_webhooks_wake(LpmConsole *console)
{
    if (console->webhooks && !console->webhooks_idle) {
        console->webhooks_idle = g_idle_add(pump_all, console);
    }
}

/* --- all of them --- */

static void webhook_free(gpointer data)
{
    Webhook *hook = data;

    g_clear_handle_id(&hook->timer, g_source_remove);
    lpm_post_cancel(hook->post);
    g_clear_pointer(&hook->event, json_decref);
    g_free(hook->last_error);
    g_free(hook);
}

/* One that comes back to the configuration some day begins anew. */
static bool forget_others(LpmConsole *console, GError **error)
{
    g_autoptr(json_t) all = lpm_store_list(console->store, LPM_KIND_WEBHOOK, error);
    const char *name;
    json_t *value;

    json_object_foreach (all, name, value) {
        if (!g_hash_table_contains(console->config->webhooks, name) &&
            !lpm_store_delete(console->store, LPM_KIND_WEBHOOK, name, error)) {
            return false;
        }
    }
    return all != NULL;
}

bool lpm_webhooks_open(LpmConsole *console, GError **error)
{
    GHashTableIter iter;
    gpointer name, config;

    if (!forget_others(console, error)) {
        return false;
    }
    console->poster = lpm_poster_new();
    console->webhooks = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, webhook_free);
    g_hash_table_iter_init(&iter, console->config->webhooks);
    while (g_hash_table_iter_next(&iter, &name, &config)) {
        Webhook *hook = g_new0(Webhook, 1);

        hook->console = console;
        hook->name = name;
        hook->config = config;
        g_hash_table_insert(console->webhooks, name, hook);
        if (!load(hook, error)) {
            return false;
        }
    }
    lpm_webhooks_wake(console);
    return true;
}

void lpm_webhooks_close(LpmConsole *console)
{
    g_clear_handle_id(&console->webhooks_idle, g_source_remove);
    g_clear_pointer(&console->webhooks, g_hash_table_unref);
    g_clear_pointer(&console->poster, lpm_poster_free);
}

/* --- for people --- */

/* How many events are still to be sent, up to WAITING_MAX. */
static int64_t count_waiting(const Webhook *hook)
{
    g_autoptr(json_t) batch = lpm_events_after(hook->console, hook->settled, WAITING_MAX, NULL);
    int64_t count = 0;
    json_t *event;
    size_t i;

    json_array_foreach (batch, i, event) {
        count += is_wanted(hook, event);
    }
    return count;
}

static json_t *view(const Webhook *hook)
{
    json_t *kinds = hook->config->events ? json_array() : NULL;

    for (char **kind = hook->config->events; kind && *kind; kind++) {
        json_array_append_new(kinds, json_string(*kind));
    }
    return lpm_json_pack("{s:s, s:s, s:o?, s:s, s:I, s:I, s:I, s:I, s:I, s:s?, s:o?, s:o?}", "name",
                         hook->name, "url", hook->config->url, "events", kinds, "state",
                         hook->last_error ? "failing" : "ok", "waiting",
                         (json_int_t)count_waiting(hook), "delivered", (json_int_t)hook->delivered,
                         "given_up", (json_int_t)hook->given_up, "lost", (json_int_t)hook->lost,
                         "attempts", (json_int_t)hook->attempts, "error", hook->last_error,
                         "last_ok_us", hook->last_ok_us ? json_integer(hook->last_ok_us) : NULL,
                         "next_us", hook->timer ? json_integer(hook->due_us) : NULL);
}

json_t *lpm_webhooks_list(LpmConsole *console)
{
    GList *names = g_list_sort(g_hash_table_get_keys(console->webhooks), (GCompareFunc)strcmp);
    json_t *list = json_array();

    for (GList *name = names; name; name = name->next) {
        json_array_append_new(list, view(g_hash_table_lookup(console->webhooks, name->data)));
    }
    g_list_free(names);
    return list;
}

json_t *lpm_webhook_retry(LpmConsole *console, const char *name, GError **error)
{
    Webhook *hook = g_hash_table_lookup(console->webhooks, name);

    if (!hook) {
        lpm_error_set(
            error, LPM_ERROR_NOT_FOUND,
            "there is no webhook \"%s\": the console's configuration has those that there "
            "are, \"lpm webhook list\" shows them",
            name);
        return NULL;
    }
    g_clear_handle_id(&hook->timer, g_source_remove);
    pump(hook);
    return view(hook);
}
