/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record as the value of a key in etcd. A swap reads (linearizable) the value and the key's
 * mod_revision, compares as every arbiter does, and writes in a transaction that does nothing
 * unless mod_revision is still the same.
 */
#include "host/arbiter.h"

#include "host/etcd.h"

#include <inttypes.h>
#include <string.h>

typedef struct {
    LpmArbiter base;
    LpmEtcd *etcd; /* a reference */
    char *key;     /* base64 */
} EtcdArbiter;

typedef struct {
    LpmRecord record; /* revision 0: none */
    uint8_t bytes[LPM_RECORD_SIZE];
    int64_t mod; /* mod_revision; 0: no such key */
} Value;

static bool bad_value(const EtcdArbiter *arbiter, const char *why, GError **error)
{
    return lpm_error_set(error, LPM_ERROR_STORAGE,
                         "%s holds no valid ownership record (%s); restore it from the other "
                         "system's view before the partition is started anywhere",
                         arbiter->base.where, why);
}

/* What a range's answer has; etcd writes 64-bit numbers as strings. */
static bool value_of(const EtcdArbiter *arbiter, const json_t *range, Value *ret, GError **error)
{
    const json_t *kv = lpm_json_at(range, "kvs.0");
    Value value = {.mod = 0};
    if (!kv) {
        *ret = value;
        return true;
    }
    gint64 mod = 0;
    gsize size = 0;
    g_autofree guchar *bytes = g_base64_decode(lpm_json_str(kv, "value", ""), &size);
    if (!g_ascii_string_to_signed(lpm_json_str(kv, "mod_revision", ""), 10, 1, INT64_MAX, &mod,
                                  NULL)) {
        return lpm_error_set(error, LPM_ERROR_PROTOCOL, "%s: etcd's answer has no mod_revision",
                             arbiter->base.where);
    }
    if (size != LPM_RECORD_SIZE) {
        return bad_value(arbiter, "its size is wrong", error);
    }
    LpmRecordStatus status = lpm_record_decode(bytes, &value.record);
    if (status != LPM_RECORD_OK) {
        return bad_value(arbiter, lpm_record_status_text(status), error);
    }
    if (memcmp(value.record.partition, arbiter->base.partition, LPM_RECORD_ID_SIZE) != 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "%s is the ownership record of another partition",
                             arbiter->base.where);
    }
    memcpy(value.bytes, bytes, sizeof value.bytes);
    value.mod = mod;
    *ret = value;
    return true;
}

static bool read_value(const EtcdArbiter *arbiter, int64_t deadline_us, Value *ret, GError **error)
{
    g_autoptr(json_t) request = lpm_json_pack("{s:s}", "key", arbiter->key);
    g_autoptr(json_t) answer =
        lpm_etcd_post(arbiter->etcd, "/v3/kv/range", request, true, deadline_us, error);
    return answer && value_of(arbiter, answer, ret, error);
}

/* The key's mod_revision is compared; @put (NULL: the key is deleted) happens only when it fits. */
static json_t *transaction(const EtcdArbiter *arbiter, int64_t mod, const char *put)
{
    g_autofree char *number = g_strdup_printf("%" PRId64, mod);
    json_t *write =
        put ? lpm_json_pack("{s:{s:s, s:s}}", "request_put", "key", arbiter->key, "value", put)
            : lpm_json_pack("{s:{s:s}}", "request_delete_range", "key", arbiter->key);
    return lpm_json_pack("{s:[{s:s, s:s, s:s, s:s}], s:[o], s:[{s:{s:s}}]}", "compare", "target",
                         "MOD", "result", "EQUAL", "key", arbiter->key, "mod_revision", number,
                         "success", write, "failure", "request_range", "key", arbiter->key);
}

/*
 * @bytes is the new value, NULL for a removal. A transaction whose answer got lost on a kept
 * connection is sent once more by the HTTP library; the second one then finds the value of the
 * first. A record is written once only, so the same bytes mean that it was ours.
 */
static LpmArbiterResult commit(const EtcdArbiter *arbiter, int64_t mod, const uint8_t *bytes,
                               const LpmArbiterAsk *ask, LpmRecord *ret_now, GError **error)
{
    g_autofree char *put = bytes ? g_base64_encode(bytes, LPM_RECORD_SIZE) : NULL;
    g_autoptr(json_t) request = transaction(arbiter, mod, put);
    g_autoptr(json_t) answer =
        lpm_etcd_post(arbiter->etcd, "/v3/kv/txn", request, false, ask->deadline_us, error);
    if (!answer) {
        return LPM_ARBITER_UNKNOWN;
    }
    if (lpm_json_bool(answer, "succeeded", false)) {
        *ret_now = bytes ? ask->next : (LpmRecord){.revision = 0};
        return LPM_ARBITER_DONE;
    }
    Value value;
    json_t *range = lpm_json_at(answer, "responses.0.response_range");
    if (!range) {
        lpm_error_set(error, LPM_ERROR_PROTOCOL,
                      "%s: etcd does not say what is there instead of what was expected",
                      arbiter->base.where);
        return LPM_ARBITER_UNKNOWN;
    }
    if (!value_of(arbiter, range, &value, error)) {
        return LPM_ARBITER_UNKNOWN;
    }
    *ret_now = value.record;
    bool ours =
        bytes ? value.mod != 0 && memcmp(value.bytes, bytes, LPM_RECORD_SIZE) == 0 : value.mod == 0;
    return ours ? LPM_ARBITER_DONE : LPM_ARBITER_LOST;
}

static LpmArbiterResult etcd_work(LpmArbiter *base, const LpmArbiterAsk *ask, LpmRecord *ret_now,
                                  GError **error)
{
    EtcdArbiter *arbiter = (EtcdArbiter *)base;
    bool swap = ask->verb == LPM_ARBITER_SWAP;
    Value value;
    if (!read_value(arbiter, ask->deadline_us, &value, error)) {
        return LPM_ARBITER_UNKNOWN;
    }
    *ret_now = value.record;
    if (ask->verb == LPM_ARBITER_READ) {
        return LPM_ARBITER_DONE;
    }
    bool follows = !swap || ask->expected == 0 || lpm_record_follows(&value.record, &ask->next);
    if (value.record.revision != ask->expected || !follows) {
        return LPM_ARBITER_LOST;
    }
    if (!swap && ask->expected == 0) {
        return LPM_ARBITER_DONE; /* there is nothing to remove */
    }
    uint8_t bytes[LPM_RECORD_SIZE];
    lpm_record_encode(&ask->next, bytes);
    return commit(arbiter, value.mod, swap ? bytes : NULL, ask, ret_now, error);
}

static void etcd_free(LpmArbiter *base)
{
    EtcdArbiter *arbiter = (EtcdArbiter *)base;
    lpm_etcd_unref(arbiter->etcd);
    g_free(arbiter->key);
}

static const LpmArbiterOps etcd_ops = {
    .name = "etcd",
    .free = etcd_free,
    .work = etcd_work,
    .worker = "etcd, which keeps the ownership record in",
};

LpmArbiter *lpm_arbiter_etcd_new(LpmEtcd *etcd, const uint8_t partition[LPM_RECORD_ID_SIZE])
{
    EtcdArbiter *arbiter = g_new0(EtcdArbiter, 1);
    char id[2 * LPM_RECORD_ID_SIZE + 1];
    lpm_record_id_to_text(partition, id);
    g_autofree char *key = g_strconcat(lpm_etcd_prefix(etcd), id, NULL);
    arbiter->base.ops = &etcd_ops;
    arbiter->base.refs = 1;
    memcpy(arbiter->base.partition, partition, LPM_RECORD_ID_SIZE);
    arbiter->base.where = g_strdup_printf("key %s of etcd %s", key, lpm_etcd_endpoints(etcd));
    arbiter->etcd = lpm_etcd_ref(etcd);
    arbiter->key = g_base64_encode((const guchar *)key, strlen(key));
    return &arbiter->base;
}
