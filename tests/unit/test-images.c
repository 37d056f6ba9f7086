/* SPDX-License-Identifier: Apache-2.0 */
/* The images that lpm-host keeps: keys, room, who has to go, what is left behind. */
#include "host/pagestore.h"
#include "host/partition.h"
#include "host/server.h"
#include "pagestore/pagestore.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MIB (INT64_C(1) << 20)

enum { MEMORY_MIB = 16, TAKES_MIB = 85, BUDGET_MIB = 200 };

static int64_t now_us;

static int64_t tick(const LpmClock *clock G_GNUC_UNUSED)
{
    return now_us += 1000;
}

static const LpmClock clock_of_test = {.realtime_us = tick, .monotonic_us = tick};

typedef struct {
    char *base;
    LpmHost host;
} Fixture;

static void fixture_open(Fixture *f)
{
    g_autofree char *database = g_build_filename(f->base, "host.db", NULL);
    g_autoptr(GError) error = NULL;
    f->host.store = lpm_store_open(database, &error);
    g_assert_no_error(error);
    lpm_images_open(&f->host);
}

static void fixture_close(Fixture *f)
{
    lpm_images_close(&f->host);
    g_clear_pointer(&f->host.store, lpm_store_close);
}

static void fixture_init(Fixture *f, const void *data G_GNUC_UNUSED)
{
    f->base = g_dir_make_tmp("lpm-images-XXXXXX", NULL);
    f->host.config = lpm_host_config_load(NULL, NULL);
    g_free(f->host.config->state_dir);
    f->host.config->state_dir = g_strdup(f->base);
    f->host.config->store_budget_mib = BUDGET_MIB;
    f->host.clock = &clock_of_test;
    fixture_open(f);
}

static void fixture_clear(Fixture *f, const void *data G_GNUC_UNUSED)
{
    g_autofree char *remove = g_strdup_printf("rm -rf '%s'", f->base);
    fixture_close(f);
    lpm_host_config_free(f->host.config);
    g_assert_cmpint(system(remove), ==, 0);
    g_free(f->base);
}

/* One that is too full takes no images, and so tells nothing about them. */
static bool has_room(const Fixture *f)
{
    struct statvfs disk;
    g_assert_cmpint(statvfs(f->base, &disk), ==, 0);
    if (disk.f_bavail / 8 > disk.f_blocks / 80 + (1 << 14)) {
        return true;
    }
    g_test_skip("the file system of the test is nearly full");
    return false;
}

static LpmProfile *profile(unsigned number)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("p%u", number);
    g_autofree char *uuid = g_strdup_printf("00000000-0000-4000-8000-%012u", number);
    g_autoptr(json_t) json = lpm_json_pack("{s:s, s:s, s:s, s:i}", "name", name, "uuid", uuid,
                                           "family", "x86-64", "memory_mib", MEMORY_MIB);
    LpmProfile *made = lpm_profile_from_json(json, &error);
    g_assert_no_error(error);
    return made;
}

/* What a mover does with the descriptor. */
static void seal(int fd, const char *hex)
{
    uint8_t key[LPM_PAGESTORE_KEY_SIZE];
    for (size_t i = 0; i < sizeof key; i++) {
        key[i] =
            (uint8_t)(g_ascii_xdigit_value(hex[2 * i]) << 4 | g_ascii_xdigit_value(hex[2 * i + 1]));
    }
    LpmPagestore *store = lpm_pagestore_open(fd, key);
    g_assert_true(lpm_pagestore_begin(store, false));
    g_assert_true(lpm_pagestore_seal(store, (const uint8_t[LPM_PAGESTORE_ID_SIZE]){7}, NULL));
    lpm_pagestore_free(store);
}

/* A move of partition @number that ends as it says; its image takes @mib on disk. */
static bool move(Fixture *f, unsigned number, bool good, unsigned mib)
{
    g_autoptr(LpmProfile) of = profile(number);
    g_autofree char *key = lpm_images_key(&f->host, of);
    int fd = lpm_images_take(&f->host, of, key);
    if (fd < 0) {
        return false;
    }
    g_assert_cmpuint(strlen(key), ==, LPM_IMAGE_KEY_HEX);
    seal(fd, key);
    g_assert_true(mib == 0 || posix_fallocate(fd, 0, mib * MIB) == 0);
    if (!good) {
        g_assert_cmpint(ftruncate(fd, 0), ==, 0); /* begun, not sealed */
    }
    close(fd);
    lpm_images_end(&f->host, of->uuid, good);
    return true;
}

/* Names and states of what is kept: "p1:sealed p2:in-use". */
static char *kept(Fixture *f)
{
    g_autoptr(json_t) store = lpm_images_list(&f->host);
    GString *text = g_string_new(NULL);
    json_t *row;
    size_t i;
    json_array_foreach (json_object_get(store, "images"), i, row) {
        g_string_append_printf(text, "%s%s:%s", text->len ? " " : "",
                               lpm_json_str(row, "partition", "?"),
                               lpm_json_str(row, "state", "?"));
    }
    return g_string_free(text, FALSE);
}

#define assert_kept(f, wanted)                                                                     \
    do {                                                                                           \
        g_autofree char *found = kept(f);                                                          \
        g_assert_cmpstr(found, ==, wanted);                                                        \
    } while (0)

static char *path_of(const Fixture *f, unsigned number)
{
    g_autofree char *name = g_strdup_printf("00000000-0000-4000-8000-%012u.image", number);
    return g_build_filename(f->base, "store", name, NULL);
}

/* --- tests --- */

static void test_life(Fixture *f, const void *data G_GNUC_UNUSED)
{
    g_autoptr(LpmProfile) of = profile(1);
    g_autofree char *path = path_of(f, 1);
    GStatBuf status;
    if (!has_room(f)) {
        return;
    }
    g_assert_true(move(f, 1, true, 0));
    assert_kept(f, "p1:sealed");
    g_assert_cmpint(g_stat(path, &status), ==, 0);
    g_assert_cmpuint(status.st_mode & 0777, ==, 0600);
    g_autofree char *key = lpm_images_key(&f->host, of), *again = lpm_images_key(&f->host, of);
    g_assert_cmpstr(key, ==, again); /* of the image that is kept */
    g_autoptr(json_t) row = lpm_images_show(&f->host, "p1", NULL);
    g_assert_cmpstr(lpm_json_str(row, "image", ""), ==, "07000000000000000000000000000000");
    g_assert_null(json_object_get(row, "key"));
    lpm_images_drop(&f->host, of->uuid);
    assert_kept(f, "");
    g_assert_cmpint(g_stat(path, &status), !=, 0);
    g_autofree char *other = lpm_images_key(&f->host, of);
    g_assert_cmpstr(key, !=, other);
}

static void test_failed_move(Fixture *f, const void *data G_GNUC_UNUSED)
{
    g_autoptr(LpmProfile) of = profile(1);
    if (!has_room(f)) {
        return;
    }
    g_assert_true(move(f, 1, false, 0));
    assert_kept(f, "");
    g_assert_true(move(f, 1, true, 0));
    lpm_images_end(&f->host, of->uuid, false); /* ended before the image was touched */
    assert_kept(f, "p1:sealed");
    lpm_images_end(&f->host, "00000000-0000-4000-8000-000000000099", false);
}

/* Two fit; the third sends away the one that was used longest ago, and no more. */
static void test_eviction(Fixture *f, const void *data G_GNUC_UNUSED)
{
    if (!has_room(f)) {
        return;
    }
    g_assert_true(move(f, 1, true, 50));
    g_assert_true(move(f, 2, true, 50));
    assert_kept(f, "p1:sealed p2:sealed");
    g_assert_true(move(f, 1, true, 50));
    g_assert_true(move(f, 3, true, 50));
    assert_kept(f, "p1:sealed p2:sealed p3:sealed");
    g_assert_true(move(f, 4, true, 0)); /* 150 + 85 > 200 */
    assert_kept(f, "p1:sealed p3:sealed p4:sealed");
}

/* What is in use is not sent away, and nothing is when that would not help. */
static void test_in_use(Fixture *f, const void *data G_GNUC_UNUSED)
{
    g_autoptr(LpmProfile) of = profile(2);
    g_autoptr(GError) error = NULL;
    if (!has_room(f)) {
        return;
    }
    g_autofree char *key = lpm_images_key(&f->host, of);
    int fd = lpm_images_take(&f->host, of, key);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(posix_fallocate(fd, 0, 130 * MIB), ==, 0);
    int movers = dup(fd);
    close(fd);
    assert_kept(f, "p2:in-use");
    g_assert_false(move(f, 3, true, 0));
    assert_kept(f, "p2:in-use");
    g_assert_false(lpm_images_remove(&f->host, "p2", &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_BUSY);
    /* The mover of the move before still writes: the next one gets a file of its own. */
    int next = lpm_images_take(&f->host, of, key);
    g_assert_cmpint(next, >=, 0);
    g_assert_cmpint(lseek(next, 0, SEEK_END), ==, 0);
    close(next);
    close(movers);
    assert_kept(f, "p2:unsealed");
    g_clear_error(&error);
    g_assert_false(lpm_images_remove(&f->host, "p9", &error));
    g_assert_error(error, LPM_ERROR, LPM_ERROR_NOT_FOUND);
    g_assert_true(lpm_images_remove(&f->host, "p2", NULL));
}

static void test_no_room(Fixture *f, const void *data G_GNUC_UNUSED)
{
    g_autoptr(LpmProfile) of = profile(1);
    if (!has_room(f)) {
        return;
    }
    g_assert_true(move(f, 2, true, 10));
    f->host.config->store_budget_mib = TAKES_MIB - 8;
    g_assert_null(lpm_images_key(&f->host, of));
    g_assert_false(move(f, 1, true, 0));
    assert_kept(f, "p2:sealed"); /* for nothing */
    f->host.config->store_budget_mib = TAKES_MIB;
    g_assert_true(move(f, 1, true, 0));
    assert_kept(f, "p1:sealed");
    f->host.config->store_budget_mib = INT64_C(1) << 30; /* but never the disk's last tenth */
    g_autoptr(LpmProfile) huge = profile(5);
    huge->memory_mib = LPM_MEMORY_MIB_MAX;
    g_assert_null(lpm_images_key(&f->host, huge));
}

static void test_leftovers(Fixture *f, const void *data G_GNUC_UNUSED)
{
    g_autoptr(LpmProfile) of = profile(2);
    if (!has_room(f)) {
        return;
    }
    g_assert_true(move(f, 1, true, 0));
    g_autofree char *key = lpm_images_key(&f->host, of);
    int fd = lpm_images_take(&f->host, of, key); /* and lpm-host ends */
    close(fd);
    g_autofree char *orphan = path_of(f, 3);
    g_assert_true(g_file_set_contents(orphan, "x", 1, NULL));
    fixture_close(f);
    fixture_open(f);
    assert_kept(f, "p1:sealed");
    g_assert_false(g_file_test(orphan, G_FILE_TEST_EXISTS));
    g_autofree char *unsealed = path_of(f, 2);
    g_assert_false(g_file_test(unsealed, G_FILE_TEST_EXISTS));
}

static void test_off(Fixture *f, const void *data G_GNUC_UNUSED)
{
    g_autoptr(LpmProfile) of = profile(1);
    lpm_images_close(&f->host);
    g_free(f->host.config->store_use);
    f->host.config->store_use = g_strdup("off");
    lpm_images_open(&f->host);
    g_assert_null(lpm_images_key(&f->host, of));
    g_assert_cmpint(lpm_images_take(&f->host, of, "00"), ==, -1);
    lpm_images_end(&f->host, of->uuid, true);
    g_autoptr(json_t) store = lpm_images_list(&f->host);
    g_assert_false(lpm_json_bool(store, "on", true));
    g_assert_nonnull(strstr(lpm_json_str(store, "reason", ""), "[store]"));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(Fixture *f, const void *data);
    } tests[] = {
        {"/images/life", test_life},         {"/images/failed-move", test_failed_move},
        {"/images/eviction", test_eviction}, {"/images/in-use", test_in_use},
        {"/images/no-room", test_no_room},   {"/images/leftovers", test_leftovers},
        {"/images/off", test_off},
    };
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].name, Fixture, NULL, fixture_init, tests[i].run, fixture_clear);
    }
    return g_test_run();
}
