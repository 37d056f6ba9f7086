/* SPDX-License-Identifier: Apache-2.0 */
#include "arbiter-servers.h"

#include <arpa/inet.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_US = 20000000, LOOK_US = 20000 };

#define TARGET "iqn.2026-01.org.example:locks"

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&at, size), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&at, &size), ==, 0);
    close(fd);
    return ntohs(at.sin_port);
}

void server_init(Server *server)
{
    *server = (Server){.directory = g_dir_make_tmp("lpm-arbiters-XXXXXX", NULL)};
    server->port = free_port();
    server->peer_port = free_port();
}

void server_kill(Server *server)
{
    if (server->pid) {
        kill(server->pid, SIGKILL);
        waitpid(server->pid, NULL, 0);
        server->pid = 0;
    }
}

/* Runs to its end. */
static void run(const char *const *argv)
{
    int status = -1;
    g_autofree char *out = NULL, *err = NULL;
    GError *error = NULL;
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status,
                 &error);
    g_assert_no_error(error);
    if (status != 0) {
        g_error("%s %s: %s%s", argv[0], argv[1], out, err);
    }
}

void server_clear(Server *server)
{
    server_kill(server);
    run((const char *const[]){"rm", "-rf", server->directory, NULL});
    g_free(server->directory);
}

char *server_file(const Server *server, const char *name)
{
    return g_build_filename(server->directory, name, NULL);
}

/* In the background; ends with this process. */
static void start(Server *server, const char *const *argv)
{
    g_autofree char *log = server_file(server, "log");
    server->pid = fork();
    if (server->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!freopen(log, "a", stdout) || dup2(STDOUT_FILENO, STDERR_FILENO) < 0) {
            _exit(126);
        }
        execvp(argv[0], (char **)argv);
        _exit(127);
    }
}

static void not_there(const Server *server, const char *what)
{
    g_autofree char *path = server_file(server, "log");
    g_autofree char *log = NULL;
    g_file_get_contents(path, &log, NULL, NULL);
    g_error("%s does not answer; its log: %s", what, log ? log : "(none)");
}

/* --- etcd --- */

/* An authority, one certificate for server and client, and a stranger's client certificate. */
static void make_certificates(const Server *server)
{
    g_autofree char *script = g_strdup_printf(
        "cd '%s' && exec >/dev/null 2>&1 && new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 "
        "-nodes' "
        "&& for ca in ca stranger-ca; do openssl req -x509 $new -subj /CN=$ca -days 2 "
        "-keyout $ca-key.pem -out $ca.pem || exit 1; done "
        "&& echo subjectAltName=IP:127.0.0.1 >san "
        "&& for one in ca:own stranger-ca:stranger; do "
        "openssl req $new -subj /CN=x -keyout ${one#*:}-key.pem -out ${one#*:}.csr "
        "&& openssl x509 -req -in ${one#*:}.csr -CA ${one%%:*}.pem -CAkey ${one%%:*}-key.pem "
        "-CAcreateserial -days 2 -extfile san -out ${one#*:}.pem || exit 1; done",
        server->directory);
    run((const char *const[]){"sh", "-c", script, NULL});
}

char *etcd_url(const Server *server)
{
    return g_strdup_printf("%s://127.0.0.1:%d", server->tls ? "https" : "http", server->port);
}

LpmEtcd *etcd_client(const Server *server)
{
    g_autofree char *url = etcd_url(server), *ca = server_file(server, "ca.pem");
    g_autofree char *cert = server_file(server, "own.pem"),
                    *key = server_file(server, "own-key.pem");
    char *endpoints[] = {url, NULL};
    LpmEtcdConfig config = {endpoints, server->tls ? ca : "", server->tls ? cert : "",
                            server->tls ? key : "", "/lpm-test/"};
    GError *error = NULL;
    LpmEtcd *etcd = lpm_etcd_new(&config, &error);
    g_assert_no_error(error);
    return etcd;
}

static bool etcd_answers(LpmEtcd *etcd)
{
    g_autoptr(json_t) request = lpm_json_pack("{s:s}", "key", "eA==");
    int64_t deadline = g_get_monotonic_time() + 500000;
    g_autoptr(json_t) answer = lpm_etcd_post(etcd, "/v3/kv/range", request, true, deadline, NULL);
    return answer != NULL;
}

void etcd_launch(Server *server)
{
    g_autofree char *data = server_file(server, "etcd"), *ca = server_file(server, "ca.pem");
    if (server->tls && !g_file_test(ca, G_FILE_TEST_EXISTS)) {
        make_certificates(server);
    }
    g_autofree char *url = etcd_url(server);
    g_autofree char *cert = server_file(server, "own.pem"),
                    *key = server_file(server, "own-key.pem");
    g_autofree char *peer = g_strdup_printf("http://127.0.0.1:%d", server->peer_port);
    const char *name = server->name ? server->name : "default";
    g_autofree char *alone = g_strdup_printf("%s=%s", name, peer);
    const char *argv[32] = {"etcd",
                            "--data-dir",
                            data,
                            "--listen-client-urls",
                            url,
                            "--advertise-client-urls",
                            url,
                            "--listen-peer-urls",
                            peer,
                            "--initial-advertise-peer-urls",
                            peer,
                            "--initial-cluster",
                            server->cluster ? server->cluster : alone,
                            "--name",
                            name,
                            "--log-level",
                            "error",
                            NULL};
    static const char *const tls[] = {"--client-cert-auth",
                                      "--trusted-ca-file",
                                      "CA",
                                      "--cert-file",
                                      "CERT",
                                      "--key-file",
                                      "KEY"};
    for (size_t i = 0, n = g_strv_length((char **)argv); server->tls && i < G_N_ELEMENTS(tls);
         i++) {
        argv[n + i] = g_str_equal(tls[i], "CA")     ? ca
                      : g_str_equal(tls[i], "CERT") ? cert
                      : g_str_equal(tls[i], "KEY")  ? key
                                                    : tls[i];
    }
    start(server, argv);
}

void etcd_wait(Server *server)
{
    g_autoptr(LpmEtcd) etcd = etcd_client(server);
    for (int64_t end = g_get_monotonic_time() + PATIENCE_US; !etcd_answers(etcd);) {
        if (g_get_monotonic_time() > end) {
            not_there(server, "etcd");
        }
        g_usleep(LOOK_US);
    }
}

void etcd_start(Server *server)
{
    etcd_launch(server);
    etcd_wait(server);
}

/* --- tgt --- */

char *tgt_image(const Server *server, off_t size)
{
    char *path = server_file(server, "lun.img");
    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    g_assert_cmpint(truncate(path, size), ==, 0);
    return path;
}

/* tgtd's own socket for commands lies in our directory; "-C 1" is part of its name. */
static bool tgtadm(const char *arguments)
{
    g_autofree char *line =
        g_strdup_printf("tgtadm -C 1 --lld iscsi %s >/dev/null 2>&1", arguments);
    return system(line) == 0;
}

void tgt_start(Server *server, const char *image)
{
    g_autofree char *portal = g_strdup_printf("portal=127.0.0.1:%d", server->port);
    g_autofree char *ipc = server_file(server, "ipc");
    g_setenv("TGT_IPC_SOCKET", ipc, TRUE);
    start(server, (const char *const[]){"tgtd", "-f", "-C", "1", "--iscsi", portal, NULL});
    int64_t end = g_get_monotonic_time() + PATIENCE_US;
    while (!tgtadm("--op new --mode target --tid 1 -T " TARGET)) {
        if (g_get_monotonic_time() > end) {
            not_there(server, "tgtd");
        }
        g_usleep(LOOK_US);
    }
    g_autofree char *lun =
        g_strdup_printf("--op new --mode logicalunit --tid 1 --lun 1 -b '%s'", image);
    g_assert_true(tgtadm(lun));
    g_assert_true(tgtadm("--op bind --mode target --tid 1 -I ALL"));
    if (server->chap) {
        g_autofree char *secret = server_file(server, "secret");
        g_assert_true(g_file_set_contents(secret, "twelve-letters-or-more\n", -1, NULL));
        g_assert_cmpint(g_chmod(secret, 0600), ==, 0);
        g_assert_true(
            tgtadm("--op new --mode account --user lpm --password twelve-letters-or-more"));
        g_assert_true(tgtadm("--op bind --mode account --tid 1 --user lpm"));
    }
}

LpmLockLun *tgt_client(const Server *server, const char *name)
{
    g_autofree char *portal = g_strdup_printf("127.0.0.1:%d", server->port);
    g_autofree char *initiator = g_strdup_printf("iqn.2026-01.org.example:%s", name);
    g_autofree char *secret = server_file(server, "secret");
    LpmLockLunConfig config = {
        portal, TARGET, 1, initiator, server->chap ? "lpm" : "", server->chap ? secret : ""};
    GError *error = NULL;
    LpmLockLun *lun = lpm_lock_lun_new(&config, &error);
    g_assert_no_error(error);
    return lun;
}
