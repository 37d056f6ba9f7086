/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One NBD export. NBD has no identity of a disk: what is known is which server was asked for which
 * name, what that says about it, and what is in it.
 */
#include "host/background.h"
#include "host/identity.h"
#include "host/sample.h"

#include <libnbd.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MARGIN_MS       100 /* the thread gives up before the main loop does */
#define SAMPLE_PAUSE_MS 150
#define QEMU_PSK_USER   "qemu" /* whom QEMU says that it is when it is not told */

typedef struct {
    char *server, *socket, *export_name, *tls, *tls_dir, *tls_hostname, *user, *group;
    int64_t deadline_us;
    struct nbd_handle *nbd;
    GPtrArray *readings; /* owned, until @nbd is closed */
    json_t *facts;       /* NULL: */
    char *reason;
} Job;

/* Lets the library work until @is() holds; false at the deadline and when it has failed. */
static bool wait_until(Job *job, bool (*is)(struct nbd_handle *nbd, void *data), void *data)
{
    while (!is(job->nbd, data)) {
        int64_t left_ms = (job->deadline_us - g_get_monotonic_time()) / 1000;

        if (left_ms <= 0) {
            job->reason = g_strdup("no answer in time (a server that limits its connections lets "
                                   "the next one wait: qemu-nbd --shared=0 does not)");
            return false;
        }
        if (nbd_aio_is_dead(job->nbd) || nbd_aio_is_closed(job->nbd) ||
            nbd_poll(job->nbd, (int)left_ms) < 0) {
            const char *why = nbd_get_error();

            job->reason =
                g_utf8_make_valid(why && *why ? why : "the server ended the connection", -1);
            return false;
        }
    }
    return true;
}

/* --- connecting --- */

static bool set_tls(Job *job)
{
    struct nbd_handle *nbd = job->nbd;
    g_autofree char *keys = NULL;

    if (!job->tls) {
        return nbd_set_tls(nbd, LIBNBD_TLS_DISABLE) == 0;
    }
    if (nbd_set_tls(nbd, LIBNBD_TLS_REQUIRE) != 0) {
        return false;
    }
    if (strcmp(job->tls, "x509") == 0) {
        return nbd_set_tls_certificates(nbd, job->tls_dir) == 0;
    }
    keys = g_build_filename(job->tls_dir, "keys.psk", NULL);
    return nbd_set_tls_psk_file(nbd, keys) == 0 &&
           nbd_set_tls_username(nbd, job->user ? job->user : QEMU_PSK_USER) == 0;
}

/* The library checks the certificate against the name that it resolves, so it must not resolve. */
static bool connect_socket(Job *job, const char *address, const char *port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int fd = -1;
    bool good;

    if (getaddrinfo(address, port, &hints, &found) == 0) {
        fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO,
                         &(struct timeval){.tv_usec = (LPM_IDENTITY_MS - MARGIN_MS) % 1000 * 1000,
                                           .tv_sec = (LPM_IDENTITY_MS - MARGIN_MS) / 1000},
                         sizeof(struct timeval));
    }
    good = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
           nbd_aio_connect_socket(job->nbd, fd) == 0;
    if (!good && fd >= 0) {
        close(fd);
    }
    freeaddrinfo(found);
    return good;
}

static bool begin_connect(Job *job)
{
    const char *colon = job->server ? strrchr(job->server, ':') : NULL;
    g_autofree char *address = colon ? g_strndup(job->server, (gsize)(colon - job->server)) : NULL;

    if (!colon) {
        return nbd_aio_connect_unix(job->nbd, job->socket) == 0;
    }
    if (address[0] == '[') { /* [2001:db8::1]:10809 */
        memmove(address, address + 1, strlen(address));
        address[strcspn(address, "]")] = '\0';
    }
    if (job->tls_hostname) {
        return connect_socket(job, address, colon + 1);
    }
    return nbd_aio_connect_tcp(job->nbd, address, colon + 1) == 0;
}

static bool is_ready(struct nbd_handle *nbd, void *data G_GNUC_UNUSED)
{
    return nbd_aio_is_ready(nbd) > 0;
}

static bool connect_to(Job *job)
{
    job->nbd = nbd_create();
    if (!job->nbd || nbd_set_export_name(job->nbd, job->export_name) != 0 ||
        nbd_set_full_info(job->nbd, true) != 0 || !set_tls(job) || !begin_connect(job)) {
        const char *why = nbd_get_error();

        job->reason = g_utf8_make_valid(why && *why ? why : "it cannot be connected to", -1);
        return false;
    }
    return wait_until(job, is_ready, NULL);
}

/* --- looking --- */

/* Outlives its call when the server does not answer: the library writes to it until it is closed.
 */
typedef struct {
    uint8_t bytes[LPM_SAMPLE_BLOCK];
    int64_t cookie;
    int error;
    bool over;
} Reading;

static int on_read(void *data, int *error)
{
    Reading *reading = data;

    reading->error = *error;
    reading->over = true;
    return 1; /* the library forgets the command */
}

static bool is_over(struct nbd_handle *nbd G_GNUC_UNUSED, void *data)
{
    return ((Reading *)data)->over;
}

static bool read_block(void *data, uint64_t offset, uint8_t bytes[LPM_SAMPLE_BLOCK])
{
    Job *job = data;
    Reading *reading;
    bool good;

    if (job->reason) { /* nothing answers any more */
        return false;
    }
    reading = g_new0(Reading, 1);
    g_ptr_array_add(job->readings, reading);
    reading->cookie = nbd_aio_pread(job->nbd, reading->bytes, LPM_SAMPLE_BLOCK, offset,
                                    (nbd_completion_callback){on_read, reading, NULL}, 0);
    good = reading->cookie >= 0 && wait_until(job, is_over, reading) && reading->error == 0;
    memcpy(bytes, reading->bytes, LPM_SAMPLE_BLOCK);
    return good;
}

/* Text of the server's, who may send any bytes; facts are UTF-8. Takes over @text, NULL is "". */
static char *plain(char *text)
{
    char *valid = g_utf8_make_valid(text ? text : "", -1);

    free(text);
    return valid;
}

/* A name says where a disk is only when the same name leads to the same server on every system. */
static bool is_local(const Job *job)
{
    return !job->server || g_str_has_prefix(job->server, "127.") ||
           g_str_has_prefix(job->server, "[::1]") || g_str_has_prefix(job->server, "localhost");
}

static char *identity_of(const Job *job, const char *name, const char *description)
{
    if (is_local(job)) {
        return *description ? g_strdup_printf("nbd:%s (%s)", name, description) : g_strdup("");
    }
    return *description ? g_strdup_printf("nbd://%s/%s (%s)", job->server, name, description)
                        : g_strdup_printf("nbd://%s/%s", job->server, name);
}

static void take_facts(Job *job)
{
    g_autofree char *description = plain(nbd_get_export_description(job->nbd));
    g_autofree char *canonical = plain(nbd_get_canonical_export_name(job->nbd));
    int64_t size = nbd_get_size(job->nbd);
    g_autofree char *identity =
        identity_of(job, *canonical ? canonical : job->export_name, description);

    job->facts = lpm_json_pack(
        "{s:s, s:s, s:I, s:b, s:b, s:b, s:b}", "proof", "export", "identity", identity,
        "size_bytes", (json_int_t)size, "write_protected", nbd_is_read_only(job->nbd) > 0,
        "can_flush", nbd_can_flush(job->nbd) > 0, "multi_conn", nbd_can_multi_conn(job->nbd) > 0,
        "tls", nbd_get_tls_negotiated(job->nbd) > 0);
    json_object_set_new(
        job->facts, "sample",
        lpm_sample_take((uint64_t)MAX(size, 0), 2, SAMPLE_PAUSE_MS, read_block, job));
}

static void work(void *data)
{
    Job *job = data;

    job->readings = g_ptr_array_new_with_free_func(g_free);
    if (connect_to(job)) {
        take_facts(job);
    }
    nbd_close(job->nbd);
    g_ptr_array_unref(job->readings);
}

static void done(void *data, bool late, void *owner_data)
{
    const Job *job = data;
    LpmIdentityOwner *owner = owner_data;
    g_autofree char *reason = NULL;

    if (!late && !job->facts) {
        reason = g_strdup_printf("%s: %s; see that the server runs, and that [%s] of this "
                                 "system's configuration is right",
                                 owner->path, job->reason, job->group);
    }
    lpm_identity_answer(owner, late ? NULL : job->facts, reason);
}

static void job_free(void *data)
{
    Job *job = data;

    json_decref(job->facts);
    g_free(job->server);
    g_free(job->socket);
    g_free(job->export_name);
    g_free(job->tls);
    g_free(job->tls_dir);
    g_free(job->tls_hostname);
    g_free(job->user);
    g_free(job->group);
    g_free(job->reason);
    g_free(job);
}

void lpm_identity_look_nbd(const LpmNbdTarget *target, const char *format, LpmStorageLooked looked,
                           void *data)
{
    static const LpmBackgroundOps ops = {work, done, job_free};
    Job *job = g_new0(Job, 1);

    job->server = g_strdup(target->server);
    job->socket = g_strdup(target->socket);
    job->export_name = g_strdup(target->export_name);
    job->tls = g_strdup(target->tls);
    job->tls_dir = g_strdup(target->tls_dir);
    job->tls_hostname = g_strdup(target->tls_hostname);
    job->user = g_strdup(target->user);
    job->group = g_strdup(target->group);
    job->deadline_us = g_get_monotonic_time() + (LPM_IDENTITY_MS - MARGIN_MS) * 1000;
    char *path = g_strdup_printf("export %s of %s", target->export_name,
                                 target->server ? target->server : target->socket);
    lpm_background_run(&ops, LPM_IDENTITY_MS, job,
                       lpm_identity_owner_new(path, format, looked, data));
}
