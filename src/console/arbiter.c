/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arbiter "console": ownership records in the database, changed by compare-and-swap: the
 * revision is the expected one, and the new record was made from the one that is there by a swap of
 * the table. Who asks is judged only as far as it has any business with the record.
 */
#include "console.h"
#include "mobility/record.h"
#include "systems.h"

#include <string.h>

/* Systems that were forgotten keep a valid certificate for a while; they are refused by name. */
static bool is_ours(LpmConsole *console, LpmRpcRequest *request, GError **error)
{
    const char *peer = lpm_rpc_request_peer_name(request);

    if (!g_hash_table_contains(console->systems, peer)) {
        return lpm_error_set(error, LPM_ERROR_DENIED, "\"%s\" is not a system of this console",
                             peer);
    }
    return true;
}

static bool decode(const char *text, LpmRecord *ret_record, GError **error)
{
    gsize length = 0;
    g_autofree guchar *bytes = g_base64_decode(text, &length);
    LpmRecordStatus status;

    if (length != LPM_RECORD_SIZE) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "record of %zu bytes; it must have %d", length,
                             LPM_RECORD_SIZE);
    }
    status = lpm_record_decode(bytes, ret_record);
    if (status != LPM_RECORD_OK) {
        return lpm_error_set(error, LPM_ERROR_USAGE, "record: %s", lpm_record_status_text(status));
    }
    return true;
}

/* The present record of @partition; *ret_text is NULL when there is none. False with @error. */
static bool read_record(LpmConsole *console, const char *partition, char **ret_text,
                        LpmRecord *ret_record, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(json_t) value =
        lpm_store_get(console->store, LPM_KIND_RECORD, partition, NULL, &cause);

    *ret_text = NULL;
    if (cause) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    if (!value) {
        return true;
    }
    if (!decode(lpm_json_str(value, "record", ""), ret_record, error)) {
        g_prefix_error(error, "stored record of partition %s: ", partition);
        return false;
    }
    *ret_text = g_strdup(lpm_json_str(value, "record", ""));
    return true;
}

static bool may_write(const char *peer, const LpmRecord *now, const LpmRecord *next, GError **error)
{
    bool allowed = now ? strcmp(peer, now->owner) == 0 || strcmp(peer, now->peer) == 0
                       : strcmp(peer, next->owner) == 0;

    return allowed ||
           lpm_error_set(error, LPM_ERROR_DENIED,
                         "\"%s\" is neither owner nor peer in the ownership record", peer);
}

static json_t *cas(LpmConsole *console, const char *peer, const json_t *arguments, GError **error)
{
    const char *partition = lpm_json_str(arguments, "partition", "");
    const char *text = lpm_json_str(arguments, "record", "");
    int64_t expected = lpm_json_int(arguments, "expected", -1);
    uint8_t uuid[LPM_RECORD_ID_SIZE];
    g_autofree char *present = NULL;
    g_autoptr(json_t) value = NULL;
    LpmRecord now = {0}, next = {0};

    if (!decode(text, &next, error) || !read_record(console, partition, &present, &now, error)) {
        return NULL;
    }
    if (!lpm_record_id_from_text(partition, uuid) ||
        memcmp(uuid, next.partition, sizeof(uuid)) != 0 || (int64_t)next.revision != expected + 1) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "record-cas: the record is not one of partition \"%s\" that follows revision "
                      "%" G_GINT64_FORMAT,
                      partition, expected);
        return NULL;
    }
    if ((int64_t)now.revision != expected || (present && !lpm_record_follows(&now, &next))) {
        return lpm_json_pack("{s:b, s:s?}", "done", 0, "record", present);
    }
    if (!may_write(peer, present ? &now : NULL, &next, error)) {
        return NULL;
    }
    value = lpm_json_pack("{s:s}", "record", text);
    if (!lpm_store_put(console->store, LPM_KIND_RECORD, partition, value, NULL, error)) {
        return NULL;
    }
    return lpm_json_pack("{s:b}", "done", 1);
}

static json_t *delete (LpmConsole *console, const char *peer, const json_t *arguments,
                       GError **error)
{
    const char *partition = lpm_json_str(arguments, "partition", "");
    g_autofree char *present = NULL;
    LpmRecord now = {0};

    if (!read_record(console, partition, &present, &now, error)) {
        return NULL;
    }
    if (!present) {
        return lpm_json_pack("{s:b}", "done", 1);
    }
    if ((int64_t)now.revision != lpm_json_int(arguments, "expected", -1)) {
        return lpm_json_pack("{s:b, s:s}", "done", 0, "record", present);
    }
    if (!may_write(peer, &now, NULL, error) ||
        !lpm_store_delete(console->store, LPM_KIND_RECORD, partition, error)) {
        return NULL;
    }
    return lpm_json_pack("{s:b}", "done", 1);
}

static json_t *read_verb(LpmConsole *console, const char *peer, const json_t *arguments,
                         GError **error)
{
    g_autofree char *present = NULL;
    LpmRecord now;

    (void)peer;
    if (!read_record(console, lpm_json_str(arguments, "partition", ""), &present, &now, error)) {
        return NULL;
    }
    return lpm_json_pack("{s:s?}", "record", present);
}

typedef json_t *(*ArbiterVerb)(LpmConsole *console, const char *peer, const json_t *arguments,
                               GError **error);

static void run(ArbiterVerb verb, LpmRpcRequest *request, json_t *arguments, void *console)
{
    g_autoptr(GError) error = NULL;
    json_t *result = is_ours(console, request, &error)
                         ? verb(console, lpm_rpc_request_peer_name(request), arguments, &error)
                         : NULL;

    if (result) {
        lpm_rpc_request_return(request, result);
    } else {
        lpm_rpc_request_fail(request, error);
    }
}

static void run_read(LpmRpcRequest *request, json_t *arguments, void *console)
{
    run(read_verb, request, arguments, console);
}

static void run_cas(LpmRpcRequest *request, json_t *arguments, void *console)
{
    run(cas, request, arguments, console);
}

static void run_delete(LpmRpcRequest *request, json_t *arguments, void *console)
{
    run(delete, request, arguments, console);
}

static const LpmRpcArg read_args[] = {
    {"partition", 's', true, "UUID"},
    {NULL, 0, false, NULL},
};
static const LpmRpcArg cas_args[] = {
    {"partition", 's', true, "UUID"},
    {"expected", 'i', true, "revision that the present record must have; 0: there is none"},
    {"record", 's', true, "new record, base64 of 512 bytes"},
    {NULL, 0, false, NULL},
};
static const LpmRpcArg delete_args[] = {
    {"partition", 's', true, "UUID"},
    {"expected", 'i', true, "revision that the present record must have"},
    {NULL, 0, false, NULL},
};

const LpmRpcVerb lpm_arbiter_verbs[] = {
    {"record-read", 1u << LPM_RPC_SYSTEM, run_read, read_args,
     "ownership record of a partition, or null"},
    {"record-cas", 1u << LPM_RPC_SYSTEM, run_cas, cas_args,
     "writes a record if the present one has the expected revision and may be followed by it; else "
     "gives the present one"},
    {"record-delete", 1u << LPM_RPC_SYSTEM, run_delete, delete_args,
     "removes a record if it has the expected revision"},
    {NULL, 0, NULL, NULL, NULL},
};
