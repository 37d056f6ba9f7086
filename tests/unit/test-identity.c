/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at disks: the decoders, and the looks themselves at a real target, NBD server and images.
 */
#include "arbiter-servers.h"
#include "host/holders.h"
#include "host/identity.h"
#include "host/sample.h"
#include "host/scsi-look.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define TARGET "iqn.2026-01.org.example:locks"

enum { SIZE = 4 << 20, PATIENCE_US = 20000000, LATE_US = 2300000 };

/* --- decoders --- */

static const uint8_t page_83[] = {
    0,    0x83, 0, 44,                                              /* */
    0x02, 0x01, 0, 8,  'I',  'E',  'T',  ' ',  ' ',  ' ', '0', '1', /* T10 */
    0x01, 0x15, 0, 4,  0,    0,    0,    7,                         /* the port's group 7 */
    0x01, 0x13, 0, 8,  9,    9,    9,    9,    9,    9,   9,   9,   /* NAA of the port */
    0x01, 0x03, 0, 8,  0x60, 0x01, 0x40, 0x5a, 0xa0, 0,   0,   1,   /* NAA of the unit */
};

static void test_designators(void)
{
    bool unique;
    g_autofree char *naa = lpm_scsi_designator(page_83, sizeof page_83, &unique);
    g_assert_true(unique);
    g_assert_cmpstr(naa, ==, "naa.6001405aa0000001");
    g_assert_cmpint(lpm_scsi_port_group(page_83, sizeof page_83), ==, 7);
    /* Whatever is cut off, nothing behind it is read. */
    for (size_t size = 0; size < sizeof page_83; size++) {
        g_autofree uint8_t *cut = g_memdup2(page_83, size);
        g_autofree char *text = lpm_scsi_designator(cut, size, &unique);
        g_assert_cmpstr(text, ==, size < 16 ? "" : "t10.IET_01");
        (void)lpm_scsi_port_group(cut, size);
    }
}

static void test_port_groups(void)
{
    const uint8_t answer[] = {0,    0, 0, 24,                          /* */
                              0,    0, 0, 3,  0, 0, 0, 1, 0, 0, 0, 1,  /* 3: active, one port */
                              0x82, 0, 0, 7,  0, 0, 0, 1, 0, 0, 0, 2}; /* 7: standby, preferred */
    g_assert_cmpstr(lpm_scsi_group_state(answer, sizeof answer, 3), ==, "");
    g_assert_cmpstr(lpm_scsi_group_state(answer, sizeof answer, 7), ==,
                    "its port group is on standby");
    g_assert_cmpstr(lpm_scsi_group_state(answer, 10, 7), ==, "");
}

static void test_full_status(void)
{
    uint8_t answer[8 + 2 * 24 + 8 + 20] = {[7] = 2 * 24 + 8 + 20};
    uint8_t *second = answer + 8 + 24 + 8;
    answer[8 + 23] = 8; /* the first is only registered */
    second[12] = 1;
    second[23] = 20;
    second[24] = 0x05;
    second[27] = 16;
    memcpy(second + 28, "iqn.2026:holder", 15);
    g_autofree char *holder = lpm_scsi_holder(answer, sizeof answer);
    g_assert_cmpstr(holder, ==, "iqn.2026:holder");
    for (size_t size = 0; size < sizeof answer; size++) {
        g_autofree uint8_t *cut = g_memdup2(answer, size);
        g_autofree char *text = lpm_scsi_holder(cut, size);
        g_assert_cmpstr(text, ==, "");
    }
}

static void test_places(void)
{
    uint64_t at[LPM_SAMPLE_MAX];
    g_assert_cmpuint(lpm_sample_places(0, at), ==, 0);
    g_assert_cmpuint(lpm_sample_places(4095, at), ==, 0);
    g_assert_cmpuint(lpm_sample_places(4096, at), ==, 1);
    for (uint64_t size = 4096; size < (UINT64_C(1) << 60); size = size * 3 + 512) {
        unsigned n = lpm_sample_places(size, at);
        for (unsigned i = 0; i < n; i++) {
            g_assert_cmpuint(at[i] + LPM_SAMPLE_BLOCK, <=, size);
            g_assert_true(i == 0 || at[i] > at[i - 1]);
        }
        g_assert_cmpuint(n, <, LPM_SAMPLE_MAX);
    }
}

/* --- looking --- */

typedef struct {
    bool done;
    char *reason;
    char *path;
    json_t *facts;
    int64_t size;
    int64_t took_us, longest_us; /* the main loop did not stand still for longer */
} Seen;

static void on_look(const LpmStorageLook *look, void *data)
{
    Seen *seen = data;
    g_assert_false(seen->done);
    seen->done = true;
    seen->reason = g_strdup(look->reason);
    seen->path = g_strdup(look->path);
    seen->facts = json_incref(look->facts);
    seen->size = look->size_bytes;
}

static void wait_for(Seen *seen)
{
    int64_t begin = g_get_monotonic_time(), last = begin;
    while (!seen->done && g_get_monotonic_time() < begin + PATIENCE_US) {
        (void)g_main_context_iteration(NULL, FALSE);
        seen->longest_us = MAX(seen->longest_us, g_get_monotonic_time() - last);
        last = g_get_monotonic_time();
        g_usleep(1000);
    }
    g_assert_true(seen->done);
    seen->took_us = g_get_monotonic_time() - begin;
}

static void seen_clear(Seen *seen)
{
    g_free(seen->reason);
    g_free(seen->path);
    json_decref(seen->facts);
    *seen = (Seen){.done = false};
}

static LpmScsiTarget scsi_target(const char *portal)
{
    return (LpmScsiTarget){.portal = portal,
                           .target = TARGET,
                           .lun = 1,
                           .initiator = "iqn.2026-01.org.example:looker",
                           .group = "storage:array"};
}

typedef struct {
    Server server;
    char *image, *portal;
    int lun;
    Seen seen;
} Array;

static void tgtadm(const char *arguments)
{
    g_autofree char *line = g_strdup_printf("tgtadm -C 1 --lld iscsi %s", arguments);
    g_assert_cmpint(system(line), ==, 0);
}

static void array_up(Array *a, gconstpointer data G_GNUC_UNUSED)
{
    server_init(&a->server);
    a->lun = 1;
    a->image = tgt_image(&a->server, SIZE);
    tgt_start(&a->server, a->image);
    a->portal = g_strdup_printf("127.0.0.1:%d", a->server.port);
}

static void array_down(Array *a, gconstpointer data G_GNUC_UNUSED)
{
    seen_clear(&a->seen);
    server_clear(&a->server);
    g_free(a->image);
    g_free(a->portal);
}

/* On a machine with much to do two seconds may be too short even for a target that is well. */
static void look_at(Array *a)
{
    LpmScsiTarget target = scsi_target(a->portal);
    target.lun = a->lun;
    for (int i = 0; i == 0 || (i < 10 && a->seen.reason && strstr(a->seen.reason, "not answer"));
         i++) {
        seen_clear(&a->seen);
        lpm_identity_look_iscsi(&target, NULL, "raw", on_look, &a->seen);
        wait_for(&a->seen);
    }
}

static LpmScsi *initiator(const Array *a)
{
    LpmScsiTarget target = scsi_target(a->portal);
    GError *error = NULL;
    LpmScsi *scsi = lpm_scsi_connect(&target, g_get_monotonic_time() + PATIENCE_US, &error);
    g_assert_no_error(error);
    return scsi;
}

#define TEXT_OF(a, path) lpm_json_str((a)->seen.facts, path, "(missing)")

static void test_lun(Array *a, gconstpointer data G_GNUC_UNUSED)
{
    look_at(a);
    g_assert_cmpstr(a->seen.reason, ==, NULL);
    g_assert_cmpint(a->seen.size, ==, SIZE);
    g_test_message("identity %s", TEXT_OF(a, "identity"));
    g_assert_cmpuint(strlen(TEXT_OF(a, "identity")), >, 8);
    g_assert_cmpstr(TEXT_OF(a, "proof"), ==, "vpd");
    g_assert_cmpstr(TEXT_OF(a, "reservation.type"), ==, "");
    g_assert_cmpuint(json_array_size(lpm_json_at(a->seen.facts, "registered")), ==, 0);
    g_assert_false(lpm_json_bool(a->seen.facts, "write_protected", true));
    g_assert_cmpuint(json_array_size(lpm_json_at(a->seen.facts, "paths")), ==, 1);
    g_assert_cmpstr(TEXT_OF(a, "sample.0"), ==, "");
    g_assert_cmpint(a->seen.took_us, <, LATE_US);
}

static void test_lun_missing(Array *a, gconstpointer data G_GNUC_UNUSED)
{
    a->lun = 7;
    look_at(a);
    g_test_message("%s", a->seen.reason);
    g_assert_nonnull(strstr(a->seen.reason, "no such LUN"));
}

static void test_lun_reserved(Array *a, gconstpointer data G_GNUC_UNUSED)
{
    LpmScsi *holder = initiator(a);
    GError *error = NULL;
    g_assert_cmpint(lpm_scsi_reserve(holder, LPM_SCSI_REGISTER_ANYHOW, 0, 0xbeef, &error), ==,
                    LPM_SCSI_GOOD);
    look_at(a);
    g_assert_cmpstr(TEXT_OF(a, "reservation.type"), ==, "");
    g_assert_cmpstr(TEXT_OF(a, "registered.0"), ==, "0xbeef");
    g_assert_cmpint(lpm_scsi_reserve(holder, LPM_SCSI_RESERVE, 0xbeef, 0, &error), ==,
                    LPM_SCSI_GOOD);
    look_at(a);
    g_assert_cmpstr(a->seen.reason, ==, NULL);
    g_assert_cmpstr(TEXT_OF(a, "reservation.type"), ==, "write exclusive");
    g_assert_cmpstr(TEXT_OF(a, "reservation.key"), ==, "0xbeef");
    lpm_scsi_close(holder);
}

/* RESERVE (6), as AIX does with reserve_policy=single_path. */
static void test_lun_reserved_old(Array *a, gconstpointer data G_GNUC_UNUSED)
{
    LpmScsi *holder = initiator(a);
    const uint8_t reserve[6] = {0x16};
    GError *error = NULL;
    g_assert_cmpint(lpm_scsi_ask(holder, reserve, 6, NULL, 0, "be reserved", &error), ==,
                    LPM_SCSI_GOOD);
    look_at(a);
    g_assert_cmpstr(a->seen.reason, ==, NULL);
    g_assert_cmpstr(TEXT_OF(a, "reservation.type"), ==, "SCSI-2 RESERVE (AIX: single_path)");
    lpm_scsi_close(holder);
}

static void test_lun_protected(Array *a, gconstpointer data G_GNUC_UNUSED)
{
    tgtadm("--op update --mode logicalunit --tid 1 --lun 1 --params readonly=1");
    look_at(a);
    g_assert_cmpstr(a->seen.reason, ==, NULL);
    g_assert_true(lpm_json_bool(a->seen.facts, "write_protected", false));
}

/* Another disk under the same number, with the same identification and with another one. */
static void test_lun_exchanged(Array *a, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *other = server_file(&a->server, "other.img");
    g_autofree char *bytes = g_malloc(SIZE);
    g_autofree char *add =
        g_strdup_printf("--op new --mode logicalunit --tid 1 --lun 1 -b '%s'", other);
    g_autofree char *identity = NULL;
    memset(bytes, 0x5a, SIZE);
    g_assert_true(g_file_set_contents(other, bytes, SIZE, NULL));
    look_at(a);
    identity = g_strdup(TEXT_OF(a, "identity"));
    tgtadm("--op delete --mode logicalunit --tid 1 --lun 1");
    tgtadm(add);
    look_at(a);
    g_assert_cmpstr(TEXT_OF(a, "identity"), ==, identity);
    g_assert_cmpuint(strlen(TEXT_OF(a, "sample.0")), ==, 16);
    tgtadm("--op update --mode logicalunit --tid 1 --lun 1 --params scsi_id=other-disk");
    look_at(a);
    g_test_message("%s, then %s", identity, TEXT_OF(a, "identity"));
    g_assert_cmpstr(TEXT_OF(a, "identity"), !=, identity);
}

/* --- what does not answer --- */

/* Takes connections into its queue and says nothing. */
static int deaf_server(int *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&at, size), ==, 0);
    g_assert_cmpint(listen(fd, 8), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&at, &size), ==, 0);
    *ret_port = ntohs(at.sin_port);
    return fd;
}

/* The answer comes in time, and the main loop does not stand still: but for the whole machine. */
static bool is_in_time(const Seen *seen)
{
    g_test_message("%s after %d ms, longest pause %d ms", seen->reason, (int)(seen->took_us / 1000),
                   (int)(seen->longest_us / 1000));
    g_assert_nonnull(seen->reason);
    return seen->took_us < LATE_US && seen->longest_us < 500000;
}

static void test_deaf(void)
{
    int port;
    bool good = false;
    int fd = deaf_server(&port);
    g_autofree char *address = g_strdup_printf("127.0.0.1:%d", port);
    LpmScsiTarget target = scsi_target(address);
    LpmNbdTarget nbd = {.server = address, .export_name = "disk", .group = "storage:nbd"};
    for (int i = 0; i < 20 && !good; i++) {
        Seen seen[2] = {{.done = false}, {.done = false}};
        good = true;
        lpm_identity_look_iscsi(&target, NULL, "raw", on_look, &seen[0]);
        lpm_identity_look_nbd(&nbd, "raw", on_look, &seen[1]);
        for (size_t k = 0; k < G_N_ELEMENTS(seen); k++) {
            wait_for(&seen[k]);
            good = is_in_time(&seen[k]) && good;
            g_assert_nonnull(strstr(seen[k].reason, address));
            seen_clear(&seen[k]);
        }
    }
    g_assert_true(good);
    close(fd);
}

/* --- NBD --- */

static pid_t start(const char *const *argv)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(argv[0], (char **)argv);
        _exit(127);
    }
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_nbd(void)
{
    Server server;
    Seen seen = {.done = false};
    server_init(&server);
    g_autofree char *image = tgt_image(&server, SIZE);
    g_autofree char *port = g_strdup_printf("%d", server.port);
    g_autofree char *address = g_strdup_printf("localhost:%d", server.port);
    pid_t pid = start((const char *const[]){"qemu-nbd", "-f", "raw", "-r", "-x", "disk", "-D",
                                            "web's disk", "--shared=0", "-t", "-b", "127.0.0.1",
                                            "-p", port, image, NULL});
    LpmNbdTarget target = {.server = address, .export_name = "disk", .group = "storage:nbd"};
    for (int i = 0; i < 200; i++) { /* until it listens */
        seen_clear(&seen);
        lpm_identity_look_nbd(&target, "raw", on_look, &seen);
        wait_for(&seen);
        if (!seen.reason) {
            break;
        }
        g_usleep(50000);
    }
    g_assert_cmpstr(seen.reason, ==, NULL);
    g_assert_cmpint(seen.size, ==, SIZE);
    g_assert_cmpstr(lpm_json_str(seen.facts, "proof", ""), ==, "export");
    g_assert_cmpstr(lpm_json_str(seen.facts, "identity", ""), ==, "nbd:disk (web's disk)");
    g_assert_true(lpm_json_bool(seen.facts, "write_protected", false));
    g_assert_cmpstr(lpm_json_str(seen.facts, "sample.0", "?"), ==, "");
    seen_clear(&seen);
    target.export_name = "other";
    lpm_identity_look_nbd(&target, "raw", on_look, &seen);
    wait_for(&seen);
    g_test_message("%s", seen.reason);
    g_assert_nonnull(strstr(seen.reason, "export other of localhost"));
    seen_clear(&seen);
    end(pid);
    server_clear(&server);
}

/* As a user whose key the server has, and as another one. */
static void test_nbd_tls(void)
{
    static const char key[] =
        "lpm:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    Server server;
    Seen seen = {.done = false};
    server_init(&server);
    g_autofree char *image = tgt_image(&server, SIZE), *keys = server_file(&server, "keys.psk");
    g_autofree char *port = g_strdup_printf("%d", server.port);
    g_autofree char *address = g_strdup_printf("127.0.0.1:%d", server.port);
    g_autofree char *creds =
        g_strdup_printf("tls-creds-psk,id=tls,endpoint=server,dir=%s", server.directory);
    g_assert_true(g_file_set_contents(keys, key, -1, NULL));
    pid_t pid = start((const char *const[]){"qemu-nbd", "--object", creds, "--tls-creds", "tls",
                                            "-f", "raw", "-x", "disk", "--shared=0", "-t", "-b",
                                            "127.0.0.1", "-p", port, image, NULL});
    LpmNbdTarget target = {.server = address,
                           .export_name = "disk",
                           .tls = "psk",
                           .tls_dir = server.directory,
                           .user = "lpm",
                           .group = "storage:nbd"};
    for (int i = 0; i < 200 && (i == 0 || seen.reason); i++) {
        seen_clear(&seen);
        g_usleep(50000);
        lpm_identity_look_nbd(&target, "raw", on_look, &seen);
        wait_for(&seen);
    }
    g_assert_cmpstr(seen.reason, ==, NULL);
    g_assert_true(lpm_json_bool(seen.facts, "tls", false));
    g_assert_false(lpm_json_bool(seen.facts, "write_protected", true));
    seen_clear(&seen);
    target.user = "stranger";
    lpm_identity_look_nbd(&target, "raw", on_look, &seen);
    wait_for(&seen);
    g_test_message("%s", seen.reason);
    g_assert_nonnull(seen.reason);
    seen_clear(&seen);
    end(pid);
    server_clear(&server);
}

/* --- files --- */

static void test_locks(void)
{
    Server server;
    server_init(&server);
    g_autofree char *image = tgt_image(&server, SIZE);
    g_autofree char *here = NULL, *mine = NULL;
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1};
    int fd = open(image, O_RDWR | O_CLOEXEC);
    g_assert_cmpstr(lpm_image_lock(image, NULL), ==, "none");
    g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
    g_assert_cmpstr(lpm_image_lock(image, NULL), ==, "here");
    /* No process is to be seen there, as none of another host's is. */
    g_assert_cmpstr(lpm_image_lock(image, server.directory), ==, "elsewhere");
    g_assert_null(lpm_image_lock("/nonexistent/image", NULL));
    here = lpm_holders(image, NULL, NULL);
    g_test_message("%s", here);
    g_assert_nonnull(strstr(here, "with the image's lock"));
    mine = lpm_holders(image, "test-identity", NULL); /* which is in our own command line */
    g_assert_cmpstr(mine, ==, "");
    close(fd);
    server_clear(&server);
}

static void on_file(json_t *facts, void *data)
{
    Seen *seen = data;
    seen->facts = facts; /* the reference that was made for the call */
    seen->done = true;
}

static void test_backing(void)
{
    Server server;
    Seen seen = {.done = false};
    LpmHostConfig config = {.qemu_img = (char *)"qemu-img"};
    LpmHost host = {.config = &config};
    g_autoptr(json_t) info =
        lpm_json_pack("{s:s, s:s}", "format", "qcow2", "backing-filename", "base.raw");
    server_init(&server);
    g_autofree char *base = server_file(&server, "base.raw"), *top = server_file(&server, "top");
    g_autofree char *make = g_strdup_printf("qemu-img create -q -f raw '%s' 1M && "
                                            "qemu-img create -q -f qcow2 -F raw -b '%s' '%s'",
                                            base, base, top);
    g_assert_cmpint(system(make), ==, 0);
    lpm_identity_file(&host, top, info, LPM_FORMAT_QCOW2, json_object(), on_file, &seen);
    wait_for(&seen);
    g_assert_cmpuint(json_array_size(lpm_json_at(seen.facts, "backing")), ==, 1);
    g_assert_cmpstr(lpm_json_str(seen.facts, "backing.0.file", ""), ==, base);
    g_assert_cmpstr(lpm_json_str(seen.facts, "backing.0.sample.0", "?"), ==, "");
    g_assert_cmpstr(lpm_json_str(seen.facts, "backing_reason", "?"), ==, "");
    seen_clear(&seen);
    g_assert_cmpint(g_unlink(base), ==, 0);
    lpm_identity_file(&host, top, info, LPM_FORMAT_QCOW2, json_object(), on_file, &seen);
    wait_for(&seen);
    g_test_message("%s", lpm_json_str(seen.facts, "backing_reason", "?"));
    g_assert_nonnull(strstr(lpm_json_str(seen.facts, "backing_reason", ""), base));
    seen_clear(&seen);
    /* What a guest writes into a raw disk does not have files opened. */
    lpm_identity_file(&host, top, info, LPM_FORMAT_RAW, json_object(), on_file, &seen);
    wait_for(&seen);
    g_assert_null(lpm_json_at(seen.facts, "backing"));
    seen_clear(&seen);
    server_clear(&server);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/identity/designators", test_designators);
    g_test_add_func("/identity/port-groups", test_port_groups);
    g_test_add_func("/identity/full-status", test_full_status);
    g_test_add_func("/identity/places", test_places);
    g_test_add("/identity/lun", Array, NULL, array_up, test_lun, array_down);
    g_test_add("/identity/lun-missing", Array, NULL, array_up, test_lun_missing, array_down);
    g_test_add("/identity/lun-reserved", Array, NULL, array_up, test_lun_reserved, array_down);
    g_test_add("/identity/lun-reserved-old", Array, NULL, array_up, test_lun_reserved_old,
               array_down);
    g_test_add("/identity/lun-protected", Array, NULL, array_up, test_lun_protected, array_down);
    g_test_add("/identity/lun-exchanged", Array, NULL, array_up, test_lun_exchanged, array_down);
    g_test_add_func("/identity/deaf", test_deaf);
    g_test_add_func("/identity/nbd", test_nbd);
    g_test_add_func("/identity/nbd-tls", test_nbd_tls);
    g_test_add_func("/identity/locks", test_locks);
    g_test_add_func("/identity/backing", test_backing);
    return g_test_run();
}
