/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database server for the lab: SQLite on the partition's disk, one line a request over TCP. An
 * insert is answered when it is committed, so that what was answered has to be there for ever.
 *
 *   insert CLIENT NUMBER   ok NUMBER
 *   check                  {"integrity": "ok", "clients": {"CLIENT": {"rows", "last", "wrong"}}}
 *   media                  the first 32 bytes of the medium in the optical drive, or "no medium"
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TEXT_BYTES = 300, MEDIA_BYTES = 32, BLOCK = 2048 };

static sqlite3 *database;
static sqlite3_stmt *insert;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what)
{
    fprintf(stderr, "database: %s: %s\n", what, database ? sqlite3_errmsg(database) : "");
    exit(1);
}

/* What a row must hold: made of its key, so that a row with another one's text shows. */
static void compose(char *text, const char *client, uint64_t number)
{
    int n = snprintf(text, TEXT_BYTES + 1, "%s/%" PRIu64 ":", client, number);
    uint64_t x = number * 0x9e3779b97f4a7c15u + 1;

    for (; n < TEXT_BYTES; n++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        text[n] = (char)('a' + x % 26);
    }
    text[TEXT_BYTES] = '\0';
}

static bool add(const char *client, uint64_t number)
{
    char text[TEXT_BYTES + 1];
    bool good;

    compose(text, client, number);
    pthread_mutex_lock(&lock);
    sqlite3_bind_text(insert, 1, client, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(insert, 2, (sqlite3_int64)number);
    sqlite3_bind_text(insert, 3, text, -1, SQLITE_TRANSIENT);
    good = sqlite3_step(insert) == SQLITE_DONE;
    sqlite3_reset(insert);
    pthread_mutex_unlock(&lock);
    return good;
}

/* One client's rows: how many, the last, and how many of them are not what they must be. */
static void check_client(FILE *out, const char *client)
{
    sqlite3_stmt *rows = NULL;
    uint64_t count = 0, last = 0, wrong = 0;
    char text[TEXT_BYTES + 1];

    sqlite3_prepare_v2(database, "SELECT number, text FROM record WHERE client = ? ORDER BY number",
                       -1, &rows, NULL);
    sqlite3_bind_text(rows, 1, client, -1, SQLITE_TRANSIENT);
    while (sqlite3_step(rows) == SQLITE_ROW) {
        last = (uint64_t)sqlite3_column_int64(rows, 0);
        compose(text, client, last);
        wrong += strcmp((const char *)sqlite3_column_text(rows, 1), text) != 0;
        count++;
    }
    sqlite3_finalize(rows);
    fprintf(out, "\"%s\": {\"rows\": %" PRIu64 ", \"last\": %" PRIu64 ", \"wrong\": %" PRIu64 "}",
            client, count, last, wrong);
}

static void check(FILE *out)
{
    sqlite3_stmt *query = NULL;
    const char *separator = "";

    pthread_mutex_lock(&lock);
    sqlite3_prepare_v2(database, "PRAGMA integrity_check(1)", -1, &query, NULL);
    fprintf(out, "{\"integrity\": \"%s\", \"clients\": {",
            sqlite3_step(query) == SQLITE_ROW ? (const char *)sqlite3_column_text(query, 0)
                                              : "cannot be read");
    sqlite3_finalize(query);
    sqlite3_prepare_v2(database, "SELECT DISTINCT client FROM record", -1, &query, NULL);
    while (sqlite3_step(query) == SQLITE_ROW) {
        fputs(separator, out);
        check_client(out, (const char *)sqlite3_column_text(query, 0));
        separator = ", ";
    }
    sqlite3_finalize(query);
    pthread_mutex_unlock(&lock);
    fprintf(out, "}}\n");
}

/* Read past the page cache, which would know an earlier medium. */
static void media(FILE *out)
{
    static char block[BLOCK] __attribute__((aligned(BLOCK)));
    int fd = open("/dev/sr0", O_RDONLY | O_DIRECT | O_CLOEXEC);

    if (fd < 0 || pread(fd, block, BLOCK, 0) != BLOCK) {
        fprintf(out, "no medium\n");
    } else {
        fprintf(out, "%.*s\n", MEDIA_BYTES, block);
    }
    if (fd >= 0) {
        close(fd);
    }
}

static void *serve(void *argument)
{
    int fd = (int)(intptr_t)argument, on = 1;
    FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
    char line[256], client[33];
    uint64_t number;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while (in && out && fgets(line, sizeof line, in)) {
        if (sscanf(line, "insert %32[a-z0-9-] %" SCNu64, client, &number) == 2) {
            fprintf(out, add(client, number) ? "ok %" PRIu64 "\n" : "failed %" PRIu64 "\n", number);
        } else if (strcmp(line, "check\n") == 0) {
            check(out);
        } else if (strcmp(line, "media\n") == 0) {
            media(out);
        } else {
            fprintf(out, "what?\n");
        }
        fflush(out);
    }
    if (in) {
        fclose(in);
    }
    if (out) {
        fclose(out);
    }
    return NULL;
}

static void open_database(const char *path)
{
    static const char *const statements[] = {
        "PRAGMA journal_mode = TRUNCATE",
        "PRAGMA synchronous = FULL",
        "CREATE TABLE IF NOT EXISTS record (client TEXT, number INTEGER, text TEXT,"
        " PRIMARY KEY (client, number))",
        "CREATE INDEX IF NOT EXISTS by_text ON record (text)",
    };

    if (sqlite3_open(path, &database) != SQLITE_OK) {
        fail(path);
    }
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (sqlite3_exec(database, statements[i], NULL, NULL, NULL) != SQLITE_OK) {
            fail(statements[i]);
        }
    }
    if (sqlite3_prepare_v2(database, "INSERT INTO record VALUES (?, ?, ?)", -1, &insert, NULL) !=
        SQLITE_OK) {
        fail("insert");
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    signal(SIGPIPE, SIG_IGN);
    if (argc != 3) {
        fail("usage: database FILE PORT");
    }
    open_database(argv[1]);
    address.sin_port = htons((uint16_t)atoi(argv[2]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 16) < 0) {
        fail("listen");
    }
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;

        if (fd >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0) {
            pthread_detach(thread);
        }
    }
}
