/* SPDX-License-Identifier: Apache-2.0 */
/* All disks of a partition are looked at side by side: one that hangs costs its own deadline only.
 */
#include "host/facts.h"
#include "host/identity.h"

#include <string.h>

typedef struct {
    LpmHost *host;
    LpmProfile *profile;
    json_t *rows; /* what is known so far of each disk */
    size_t pending;
    LpmDiskRow row;
    bool drivers; /* are asked for too */
    LpmDisksLooked done;
    void *data;
} Round;

typedef struct {
    Round *round;
    size_t number;
} One;

static void end_one(Round *round)
{
    if (--round->pending > 0) {
        return;
    }
    round->done(round->rows, round->data);
    json_decref(round->rows);
    lpm_profile_free(round->profile);
    g_free(round);
}

static void set_text(json_t *row, const char *name, const char *text)
{
    if (text) {
        json_object_set_new(row, name, json_string(text));
    }
}

static void on_look(const LpmStorageLook *look, void *data)
{
    One *one = data;
    Round *round = one->round;
    const LpmFileRef *at = &round->profile->disks[one->number].at;
    json_t *row = json_array_get(round->rows, one->number);
    g_autoptr(json_t) begun = round->row(&round->profile->disks[one->number], look, round->data);

    json_object_update(row, begun);
    set_text(row, "kind", lpm_storage_kind(round->host, at));
    set_text(row, "path", look->path);
    set_text(row, "format", look->format);
    set_text(row, "locked_by", look->locked_by);
    if (!look->reason && look->size_bytes >= 0) {
        json_object_set_new(row, "size_bytes", json_integer(look->size_bytes));
    }
    if (look->facts) {
        json_object_update_missing(row, look->facts);
    }
    g_free(one);
    end_one(round);
}

static void on_driver(const char *reason, void *data)
{
    One *one = data;
    Round *round = one->round;

    set_text(json_array_get(round->rows, one->number), "driver_reason", reason);
    g_free(one);
    end_one(round);
}

static One *one_of(Round *round, size_t number)
{
    One *one = g_new0(One, 1);

    one->round = round;
    one->number = number;
    round->pending++;
    return one;
}

/* At the same time as the disk is looked at: it takes a start of QEMU. */
static void ask_driver(Round *round, size_t number)
{
    const char *kind = lpm_storage_kind(round->host, &round->profile->disks[number].at);

    if (round->drivers && *kind && strcmp(kind, "file") != 0) {
        lpm_identity_driver(round->host, round->profile->family, kind, on_driver,
                            one_of(round, number));
    }
}

static void look_at(Round *round, size_t number, const char *uuid)
{
    const LpmDisk *disk = &round->profile->disks[number];
    g_autoptr(GError) error = NULL;
    const LpmStorageOps *ops;
    One *one = one_of(round, number);

    ops = lpm_storage_for(round->host, &disk->at, &error);
    if (ops && !disk->at.file) {
        on_look(&(LpmStorageLook){.size_bytes = -1}, one); /* an optical drive without a medium */
    } else if (ops) {
        ops->look(round->host, disk, uuid, on_look, one);
    } else {
        on_look(&(LpmStorageLook){.reason = error->message, .size_bytes = -1}, one);
    }
}

void lpm_facts_disks(LpmHost *host, const LpmProfile *profile, const char *uuid, bool drivers,
                     LpmDiskRow row, LpmDisksLooked done, void *data)
{
    g_autoptr(json_t) json = lpm_profile_to_json(profile);
    Round *round = g_new0(Round, 1);
    size_t n_disks;

    round->host = host;
    round->profile = lpm_profile_from_json(json, NULL);
    n_disks = round->profile ? round->profile->n_disks : 0;
    round->rows = json_array();
    round->drivers = drivers;
    round->row = row;
    round->done = done;
    round->data = data;
    round->pending = 1; /* until all have been asked */
    for (size_t i = 0; i < n_disks; i++) {
        json_array_append_new(round->rows, json_object());
    }
    for (size_t i = 0; i < n_disks; i++) {
        ask_driver(round, i);
        look_at(round, i, uuid);
    }
    end_one(round);
}
