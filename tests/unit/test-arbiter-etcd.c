/* SPDX-License-Identifier: Apache-2.0 */
/* What only the arbiter `etcd` has: endpoints, TLS, values that others wrote. */
#include "arbiter-servers.h"
#include "host/arbiter.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>

static const uint8_t uuid[16] = {1, 2, 3, 4};
static const uint8_t other_uuid[16] = {9};

/* base64 of "/lpm-test/" and the UUID */
static char *key_of(void)
{
    const char *key = "/lpm-test/01020304000000000000000000000000";
    return g_base64_encode((const guchar *)key, strlen(key));
}

enum { PATIENT_MS = 4000 };

static LpmArbiterResult ask(LpmArbiter *arbiter, LpmArbiterVerb verb, const LpmRecord *next,
                            unsigned deadline_ms, LpmRecord *ret_now, GError **error)
{
    LpmArbiterAsk one = {verb, 0, {.revision = 0}, 0};
    if (next) {
        one.next = *next;
    }
    one.deadline_us = g_get_monotonic_time() + (int64_t)deadline_ms * 1000;
    return arbiter->ops->work(arbiter, &one, ret_now, error);
}

static LpmRecord first_of(const uint8_t partition[16])
{
    LpmRecord first;
    lpm_record_first(partition, "alpha", 1, &first);
    return first;
}

static LpmEtcd *client(const char *a, const char *b, const char *ca, const char *cert,
                       const char *key)
{
    char *endpoints[] = {(char *)a, (char *)b, NULL};
    LpmEtcdConfig config = {endpoints, ca, cert, key, "/lpm-test/"};
    GError *error = NULL;
    LpmEtcd *etcd = lpm_etcd_new(&config, &error);
    g_assert_no_error(error);
    return etcd;
}

/* One that is stopped, one that is not there: the other one answers, and is asked first next time.
 */
static void endpoints(void)
{
    Server stopped, good;
    server_init(&stopped);
    server_init(&good);
    etcd_start(&stopped);
    etcd_start(&good);
    kill(stopped.pid, SIGSTOP);
    g_autofree char *a = etcd_url(&stopped), *b = etcd_url(&good);
    g_autoptr(LpmEtcd) etcd = client(a, b, "", "", "");
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_etcd_new(etcd, uuid);
    LpmRecord first = first_of(uuid), now;
    GError *error = NULL;
    int64_t begin = g_get_monotonic_time();
    g_assert_cmpint(ask(arbiter, LPM_ARBITER_SWAP, &first, PATIENT_MS, &now, &error), ==,
                    LPM_ARBITER_DONE);
    g_assert_no_error(error);
    int64_t middle = g_get_monotonic_time();
    g_assert_cmpint(ask(arbiter, LPM_ARBITER_READ, NULL, PATIENT_MS, &now, &error), ==,
                    LPM_ARBITER_DONE);
    g_test_message("past a stopped endpoint: %d ms, then %d ms", (int)((middle - begin) / 1000),
                   (int)((g_get_monotonic_time() - middle) / 1000));
    /* The stopped one is not waited for again: it was, for half of the time that there is. */
    g_assert_cmpint(middle - begin, >=, PATIENT_MS * 500);
    g_assert_cmpint(g_get_monotonic_time() - middle, <, PATIENT_MS * 500);
    server_clear(&stopped); /* nobody listens there any more */
    g_autoptr(LpmEtcd) again = client(a, b, "", "", "");
    g_autoptr(LpmArbiter) later = lpm_arbiter_etcd_new(again, uuid);
    g_assert_cmpint(ask(later, LPM_ARBITER_READ, NULL, PATIENT_MS, &now, &error), ==,
                    LPM_ARBITER_DONE);
    g_assert_no_error(error);
    g_assert_cmpuint(now.revision, ==, 1);
    server_clear(&good);
}

static void expect_unknown(LpmEtcd *etcd, const char *what)
{
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_etcd_new(etcd, uuid);
    g_autoptr(GError) error = NULL;
    LpmRecord now;
    g_assert_cmpint(ask(arbiter, LPM_ARBITER_READ, NULL, 2000, &now, &error), ==,
                    LPM_ARBITER_UNKNOWN);
    g_test_message("%s: %s", what, error->message);
    g_assert_nonnull(strstr(error->message, "127.0.0.1"));
}

/* With a client certificate it works; without, or with a stranger's, or a server that the
 * authority does not vouch for, it does not. */
static void certificates(void)
{
    Server server;
    server_init(&server);
    server.tls = true;
    etcd_start(&server);
    g_autoptr(LpmEtcd) good = etcd_client(&server);
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_etcd_new(good, uuid);
    LpmRecord first = first_of(uuid), now;
    GError *error = NULL;
    g_assert_cmpint(ask(arbiter, LPM_ARBITER_SWAP, &first, 5000, &now, &error), ==,
                    LPM_ARBITER_DONE);
    g_assert_no_error(error);
    g_autofree char *url = etcd_url(&server), *ca = server_file(&server, "ca.pem");
    g_autofree char *cert = server_file(&server, "own.pem");
    g_autofree char *key = server_file(&server, "own-key.pem");
    g_autofree char *strange_ca = server_file(&server, "stranger-ca.pem");
    g_autofree char *strange_cert = server_file(&server, "stranger.pem");
    g_autofree char *strange_key = server_file(&server, "stranger-key.pem");
    g_autoptr(LpmEtcd) nobody = client(url, NULL, ca, "", "");
    expect_unknown(nobody, "no certificate");
    g_autoptr(LpmEtcd) stranger = client(url, NULL, ca, strange_cert, strange_key);
    expect_unknown(stranger, "a stranger's certificate");
    g_autoptr(LpmEtcd) misled = client(url, NULL, strange_ca, cert, key);
    expect_unknown(misled, "another authority");
    server_clear(&server);
}

static void put(LpmEtcd *etcd, const void *bytes, size_t size)
{
    g_autofree char *key = key_of(), *value = g_base64_encode(bytes, size);
    g_autoptr(json_t) request = lpm_json_pack("{s:s, s:s}", "key", key, "value", value);
    GError *error = NULL;
    g_autoptr(json_t) answer =
        lpm_etcd_post(etcd, "/v3/kv/put", request, false, g_get_monotonic_time() + 5000000, &error);
    g_assert_no_error(error);
}

/* A value that is no record is never "no record", and not written over. */
static void damaged(void)
{
    Server server;
    server_init(&server);
    etcd_start(&server);
    g_autoptr(LpmEtcd) etcd = etcd_client(&server);
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_etcd_new(etcd, uuid);
    uint8_t bytes[LPM_RECORD_SIZE];
    LpmRecord first = first_of(uuid), strange = first_of(other_uuid), now;
    lpm_record_encode(&first, bytes);
    bytes[100] ^= 1;
    put(etcd, bytes, sizeof bytes);
    expect_unknown(etcd, "a wrong checksum");
    put(etcd, bytes, 100);
    expect_unknown(etcd, "too short");
    lpm_record_encode(&strange, bytes);
    put(etcd, bytes, sizeof bytes);
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(ask(arbiter, LPM_ARBITER_SWAP, &first, 2000, &now, &error), ==,
                    LPM_ARBITER_UNKNOWN);
    g_assert_error(error, LPM_ERROR, LPM_ERROR_STORAGE);
    g_assert_nonnull(strstr(error->message, "another partition"));
    server_clear(&server);
}

/* --- three members --- */

enum { MEMBERS = 3 };

static bool is_leader(const Server *server)
{
    g_autoptr(LpmEtcd) etcd = etcd_client(server);
    g_autoptr(json_t) request = json_object();
    g_autoptr(json_t) answer = lpm_etcd_post(etcd, "/v3/maintenance/status", request, true,
                                             g_get_monotonic_time() + 5000000, NULL);
    const char *leader = lpm_json_str(answer, "leader", "");
    return *leader && g_str_equal(leader, lpm_json_str(answer, "header.member_id", "?"));
}

/* Reads until it is answered; milliseconds. */
static int until_answered(LpmArbiter *arbiter, LpmRecord *ret_now)
{
    int64_t begin = g_get_monotonic_time();
    while (ask(arbiter, LPM_ARBITER_READ, NULL, 1000, ret_now, NULL) != LPM_ARBITER_DONE) {
        g_assert_cmpint(g_get_monotonic_time() - begin, <, 20000000);
    }
    return (int)((g_get_monotonic_time() - begin) / 1000);
}

/* The leader dies: the others go on with what was written. Two are dead: nobody is told what may be
 * out of date. */
static void cluster(void)
{
    static const char *const names[MEMBERS] = {"a", "b", "c"};
    Server servers[MEMBERS];
    g_autoptr(GPtrArray) members = g_ptr_array_new_with_free_func(g_free);
    char *urls[MEMBERS + 1] = {NULL};
    for (unsigned i = 0; i < MEMBERS; i++) {
        server_init(&servers[i]);
        servers[i].name = names[i];
        urls[i] = etcd_url(&servers[i]);
        g_ptr_array_add(members,
                        g_strdup_printf("%s=http://127.0.0.1:%d", names[i], servers[i].peer_port));
    }
    g_ptr_array_add(members, NULL);
    g_autofree char *all = g_strjoinv(",", (char **)members->pdata);
    for (unsigned i = 0; i < MEMBERS; i++) {
        servers[i].cluster = all;
        etcd_launch(&servers[i]);
    }
    LpmEtcdConfig config = {urls, "", "", "", "/lpm-test/"};
    g_autoptr(LpmEtcd) etcd = lpm_etcd_new(&config, NULL);
    g_autoptr(LpmArbiter) arbiter = lpm_arbiter_etcd_new(etcd, uuid);
    LpmRecord first = first_of(uuid), now;
    GError *error = NULL;
    etcd_wait(&servers[0]);
    g_assert_cmpint(ask(arbiter, LPM_ARBITER_SWAP, &first, 5000, &now, &error), ==,
                    LPM_ARBITER_DONE);
    g_assert_no_error(error);
    unsigned leader = is_leader(&servers[0]) ? 0 : is_leader(&servers[1]) ? 1 : 2;
    server_kill(&servers[leader]);
    int took = until_answered(arbiter, &now);
    g_test_message("the leader was killed: an answer after %d ms", took);
    g_assert_cmpuint(now.revision, ==, 1);
    server_kill(&servers[(leader + 1) % MEMBERS]);
    g_assert_cmpint(ask(arbiter, LPM_ARBITER_READ, NULL, 1500, &now, &error), ==,
                    LPM_ARBITER_UNKNOWN);
    g_test_message("two are dead: %s", error->message);
    g_clear_error(&error);
    etcd_launch(&servers[leader]);
    until_answered(arbiter, &now);
    g_assert_cmpuint(now.revision, ==, 1);
    for (unsigned i = 0; i < MEMBERS; i++) {
        server_clear(&servers[i]);
        g_free(urls[i]);
    }
}

static void refused(void)
{
    static const struct {
        char *endpoints[2];
        const char *cert, *key, *says;
    } rows[] = {
        {{NULL}, "", "", "no endpoint"},
        {{"127.0.0.1:2379", NULL}, "", "", "https://"},
        {{"https://127.0.0.1:2379", NULL}, "cert.pem", "", "belong together"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        LpmEtcdConfig config = {(char **)rows[i].endpoints, "", rows[i].cert, rows[i].key, "/"};
        g_autoptr(GError) error = NULL;
        g_assert_null(lpm_etcd_new(&config, &error));
        g_assert_error(error, LPM_ERROR, LPM_ERROR_USAGE);
        g_assert_nonnull(strstr(error->message, rows[i].says));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/arbiter-etcd/refused", refused);
    g_test_add_func("/arbiter-etcd/endpoints", endpoints);
    g_test_add_func("/arbiter-etcd/cluster", cluster);
    g_test_add_func("/arbiter-etcd/certificates", certificates);
    g_test_add_func("/arbiter-etcd/damaged", damaged);
    return g_test_run();
}
