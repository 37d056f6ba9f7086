/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of etcd's JSON interface (version 3), as far as the arbiter `etcd` needs it: one
 * request, one answer, several endpoints, a deadline. Blocking, for threads; several threads may
 * share one client, and connections are kept between calls.
 */
#pragma once

#include "base/error.h"
#include "base/json.h"

/* What [arbiter:etcd] of the configuration says; texts are borrowed. "" is as good as NULL. */
typedef struct {
    char **endpoints; /* "https://HOST:PORT" or "http://HOST:PORT"; at least one */
    const char *ca, *cert, *key;
    const char *prefix; /* of the keys */
} LpmEtcdConfig;

typedef struct LpmEtcd LpmEtcd;

/* Connects to nobody yet. USAGE error for what cannot be right. */
LpmEtcd *lpm_etcd_new(const LpmEtcdConfig *config, GError **error) G_GNUC_WARN_UNUSED_RESULT;
LpmEtcd *lpm_etcd_ref(LpmEtcd *etcd); /* from any thread, as is unref */
void lpm_etcd_unref(LpmEtcd *etcd);   /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmEtcd, lpm_etcd_unref)

const char *lpm_etcd_prefix(const LpmEtcd *etcd);
const char *lpm_etcd_endpoints(const LpmEtcd *etcd); /* all of them, for people */

/*
 * Posts @request to @path ("/v3/kv/range"). The endpoint that answered last is asked first. With
 * @repeatable the next one is asked whenever one fails; else only when nothing was sent to the one
 * before, so that an error means: it may have happened, or still happen. The answer is a new
 * reference; NULL with an error (UNREACHABLE, TIMEOUT, PROTOCOL) that names the endpoint asked
 * last. @deadline_us is monotonic.
 */
json_t *lpm_etcd_post(LpmEtcd *etcd, const char *path, const json_t *request, bool repeatable,
                      int64_t deadline_us, GError **error) G_GNUC_WARN_UNUSED_RESULT;
