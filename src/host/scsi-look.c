/* SPDX-License-Identifier: Apache-2.0 */
#include "host/scsi-look.h"

#include "host/sample.h"

#include <string.h>

enum {
    PAGE_SIZE_MAX = 1024,
    STATUS_SIZE_MAX = 8192,
    KEYS_MAX = 16,
    SAMPLE_PAUSE_MS = 150,
    DESIGNATOR_HEAD = 4,
    FULL_STATUS_HEAD = 24,
    GROUP_HEAD = 8,
};

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

/* --- VPD page 83 --- */

typedef struct {
    unsigned association; /* 0: the logical unit, 1: the port */
    unsigned type;
    const uint8_t *bytes;
    size_t size;
} Designator;

/* The designator at *@at, which is moved on; false at the end. */
static bool next_designator(const uint8_t *page, size_t size, size_t *at, Designator *ret)
{
    size_t end = size < 4 ? 0 : MIN(size, 4 + (size_t)get(page + 2, 2));
    if (*at + DESIGNATOR_HEAD > end || *at + DESIGNATOR_HEAD + page[*at + 3] > end) {
        return false;
    }
    *ret = (Designator){(page[*at + 1] >> 4) & 3, page[*at + 1] & 0x0f,
                        page + *at + DESIGNATOR_HEAD, page[*at + 3]};
    *at += DESIGNATOR_HEAD + ret->size;
    return true;
}

/* Those that the standard makes unique in the world come first, and one of them is enough. */
static const struct {
    unsigned type;
    const char *prefix;
    bool text;
    bool unique;
} kinds[] = {
    {3, "naa.", false, true},  {2, "eui.", false, true}, {8, "name.", true, true},
    {1, "t10.", true, false},  /* the vendor's word, often a number in one target */
    {3, "naa.", false, false}, /* assigned locally */
};

/* Of type 3, or of the company 0, which is none: tgt numbers its units so. */
static bool is_local_naa(const Designator *designator)
{
    const uint8_t *bytes = designator->bytes;
    return designator->type == 3 && designator->size >= 8 &&
           (bytes[0] >> 4 == 3 || (get(bytes, 4) & 0x0ffffff0) == 0);
}

static bool is_of_kind(const Designator *designator, size_t kind)
{
    bool local = kind == G_N_ELEMENTS(kinds) - 1;
    return designator->association == 0 && designator->size > 0 &&
           designator->type == kinds[kind].type && is_local_naa(designator) == local;
}

static char *designator_text(const Designator *designator, const char *prefix, bool text)
{
    g_autoptr(GString) result = g_string_new(prefix);
    for (size_t i = 0; i < designator->size; i++) {
        uint8_t byte = designator->bytes[i];
        if (!text) {
            g_string_append_printf(result, "%02x", byte);
        } else if (byte > ' ' && byte < 0x7f) {
            g_string_append_c(result, (char)byte);
        } else if (byte == ' ' && result->len > strlen(prefix) &&
                   result->str[result->len - 1] != '_') {
            g_string_append_c(result, '_');
        }
    }
    return g_string_free(g_steal_pointer(&result), FALSE);
}

char *lpm_scsi_designator(const uint8_t *page, size_t size, bool *ret_unique)
{
    g_autoptr(GString) all = g_string_new(NULL);
    *ret_unique = false;
    for (size_t kind = 0; kind < G_N_ELEMENTS(kinds); kind++) {
        Designator designator;
        size_t at = 4;
        while (next_designator(page, size, &at, &designator)) {
            if (is_of_kind(&designator, kind)) {
                g_autofree char *text =
                    designator_text(&designator, kinds[kind].prefix, kinds[kind].text);
                if (kinds[kind].unique) {
                    *ret_unique = true;
                    return g_steal_pointer(&text);
                }
                g_string_append_printf(all, "%s%s", all->len ? " " : "", text);
            }
        }
    }
    return g_string_free(g_steal_pointer(&all), FALSE);
}

int lpm_scsi_port_group(const uint8_t *page, size_t size)
{
    Designator designator;
    size_t at = 4;
    while (next_designator(page, size, &at, &designator)) {
        if (designator.association == 1 && designator.type == 5 && designator.size >= 4) {
            return (int)get(designator.bytes + 2, 2);
        }
    }
    return -1;
}

/* --- asymmetric access --- */

const char *lpm_scsi_group_state(const uint8_t *answer, size_t size, int group)
{
    static const char *const states[16] = {
        [2] = "its port group is on standby",         [3] = "its port group is unavailable",
        [4] = "its port group depends on the blocks", [14] = "its port group is offline",
        [15] = "its port group is changing state",
    };
    size_t end = size < 4 ? 0 : MIN(size, 4 + (size_t)get(answer, 4));
    size_t at = 4;
    while (at + GROUP_HEAD <= end) {
        if ((int)get(answer + at + 2, 2) == group) {
            const char *state = states[answer[at] & 0x0f];
            return state ? state : "";
        }
        at += GROUP_HEAD + 4 * (size_t)answer[at + 7];
    }
    return "";
}

/* --- reservations --- */

const char *lpm_scsi_reservation_name(unsigned type)
{
    static const char *const names[16] = {
        [1] = "write exclusive",
        [3] = "exclusive access",
        [5] = "write exclusive, registrants only",
        [6] = "exclusive access, registrants only",
        [7] = "write exclusive, all registrants",
        [8] = "exclusive access, all registrants",
    };
    return type < G_N_ELEMENTS(names) && names[type] ? names[type] : "of unknown type";
}

/* An iSCSI TransportID is a name of bytes up to a zero, others are of fixed size. */
static char *transport_name(const uint8_t *id, size_t size)
{
    g_autoptr(GString) hex = g_string_new("port ");
    if (size > 4 && (id[0] & 0x0f) == 5) {
        size_t length = MIN(size - 4, (size_t)get(id + 2, 2));
        char *name = g_strndup((const char *)id + 4, length);
        for (char *c = name; *c; c++) {
            *c = g_ascii_isgraph(*c) ? *c : '?';
        }
        return name;
    }
    for (size_t i = 0; i < MIN(size, 24); i++) {
        g_string_append_printf(hex, "%02x", id[i]);
    }
    return g_string_free(g_steal_pointer(&hex), FALSE);
}

char *lpm_scsi_holder(const uint8_t *answer, size_t size)
{
    size_t end = size < 8 ? 0 : MIN(size, 8 + (size_t)get(answer + 4, 4));
    size_t at = 8;
    while (at + FULL_STATUS_HEAD <= end) {
        size_t length = (size_t)get(answer + at + 20, 4);
        if (length > end - at - FULL_STATUS_HEAD) {
            break;
        }
        if (answer[at + 12] & 1) {
            return transport_name(answer + at + FULL_STATUS_HEAD, length);
        }
        at += FULL_STATUS_HEAD + length;
    }
    return g_strdup("");
}

/* Not every target can; then nobody is named. */
static char *ask_holder(LpmScsi *scsi)
{
    g_autofree uint8_t *bytes = g_malloc0(STATUS_SIZE_MAX);
    /* PERSISTENT RESERVE IN, READ FULL STATUS */
    const uint8_t cdb[10] = {0x5e, 3, [7] = STATUS_SIZE_MAX >> 8, [8] = STATUS_SIZE_MAX & 0xff};
    return lpm_scsi_ask(scsi, cdb, sizeof cdb, bytes, STATUS_SIZE_MAX, "name its registrants",
                        NULL) == LPM_SCSI_GOOD
               ? lpm_scsi_holder(bytes, STATUS_SIZE_MAX)
               : g_strdup("");
}

static json_t *reservation_json(const char *type, const char *key, const char *holder)
{
    return lpm_json_pack("{s:s, s:s, s:s}", "type", type, "key", key, "holder", holder);
}

/*
 * The older RESERVE says nothing about who: it shows itself by what it refuses. A target that knows
 * no persistent reservations has none.
 */
static bool ask_reservation(LpmScsi *scsi, json_t *facts, bool *ret_reserved, GError **error)
{
    static const uint8_t test_unit_ready[6];
    LpmScsiReservation reservation = {0};
    g_autoptr(GError) cause = NULL;
    LpmScsiStatus status = lpm_scsi_reservation(scsi, &reservation, &cause);
    if (status == LPM_SCSI_LOST) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    *ret_reserved = true;
    if (status == LPM_SCSI_GOOD && reservation.held) {
        g_autofree char *key =
            g_strdup_printf("0x%" G_GINT64_MODIFIER "x", (guint64)reservation.key);
        g_autofree char *holder = ask_holder(scsi);
        json_object_set_new(
            facts, "reservation",
            reservation_json(lpm_scsi_reservation_name(reservation.type), key, holder));
    } else if (status == LPM_SCSI_CONFLICT ||
               lpm_scsi_ask(scsi, test_unit_ready, 6, NULL, 0, "say that it is ready", NULL) ==
                   LPM_SCSI_CONFLICT) {
        json_object_set_new(facts, "reservation",
                            reservation_json("SCSI-2 RESERVE (AIX: single_path)", "", ""));
    } else {
        *ret_reserved = false;
        json_object_set_new(facts, "reservation", reservation_json("", "", ""));
    }
    return true;
}

static void ask_registered(LpmScsi *scsi, json_t *facts)
{
    uint64_t keys[KEYS_MAX];
    unsigned n = 0;
    json_t *list = json_array();
    LpmScsiStatus status = lpm_scsi_keys(scsi, keys, KEYS_MAX, &n, NULL);
    for (unsigned i = 0; status == LPM_SCSI_GOOD && i < MIN(n, KEYS_MAX); i++) {
        g_autofree char *key = g_strdup_printf("0x%" G_GINT64_MODIFIER "x", (guint64)keys[i]);
        json_array_append_new(list, json_string(key));
    }
    json_object_set_new(facts, "registered", list);
}

/* --- what it is --- */

typedef struct {
    bool asymmetric; /* has port groups of different states */
    uint8_t page[PAGE_SIZE_MAX];
} Known;

static bool ask_inquiry(LpmScsi *scsi, Known *known, GError **error)
{
    uint8_t bytes[96];
    const uint8_t inquiry[6] = {0x12, [4] = sizeof bytes};
    const uint8_t page_83[6] = {0x12, 1, 0x83, PAGE_SIZE_MAX >> 8, PAGE_SIZE_MAX & 0xff};
    LpmScsiStatus status =
        lpm_scsi_ask(scsi, inquiry, 6, bytes, sizeof bytes, "say what it is", error);
    if (status == LPM_SCSI_CONFLICT) { /* no target should: reservations do not concern INQUIRY */
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "the LUN does not say what it is: it is reserved");
    }
    if (status != LPM_SCSI_GOOD) {
        return false;
    }
    if (bytes[0] >> 5 != 0) {
        return lpm_error_set(error, LPM_ERROR_NOT_FOUND, "there is no such LUN");
    }
    if ((bytes[0] & 0x1f) != 0 && (bytes[0] & 0x1f) != 5) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "the LUN is no disk (device type %u)",
                             bytes[0] & 0x1fu);
    }
    known->asymmetric = (bytes[5] & 0x30) != 0;
    memset(known->page, 0, sizeof known->page);
    g_autoptr(GError) cause = NULL;
    status =
        lpm_scsi_ask(scsi, page_83, 6, known->page, sizeof known->page, "identify itself", &cause);
    if (status == LPM_SCSI_LOST) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    return true;
}

/* Whether this path's port group takes commands. */
static bool ask_access(LpmScsi *scsi, const Known *known, GError **error)
{
    uint8_t bytes[PAGE_SIZE_MAX] = {0};
    /* MAINTENANCE IN, REPORT TARGET PORT GROUPS */
    const uint8_t cdb[12] = {0xa3, 0x0a, [8] = sizeof bytes >> 8, [9] = sizeof bytes & 0xff};
    int group = lpm_scsi_port_group(known->page, sizeof known->page);
    if (!known->asymmetric || group < 0 ||
        lpm_scsi_ask(scsi, cdb, sizeof cdb, bytes, sizeof bytes, "tell its port groups", NULL) !=
            LPM_SCSI_GOOD) {
        return true;
    }
    const char *state = lpm_scsi_group_state(bytes, sizeof bytes, group);
    return !*state || lpm_error_set(error, LPM_ERROR_STORAGE, "%s", state);
}

typedef struct {
    LpmScsi *scsi;
    uint32_t block_size;
} Reader;

static bool read_block(void *data, uint64_t offset, uint8_t bytes[LPM_SAMPLE_BLOCK])
{
    const Reader *reader = data;
    return lpm_scsi_read(reader->scsi, offset / reader->block_size, reader->block_size, bytes,
                         LPM_SAMPLE_BLOCK, NULL) == LPM_SCSI_GOOD;
}

static bool ask_size(LpmScsi *scsi, json_t *facts, bool reserved, GError **error)
{
    Reader reader = {scsi, 0};
    uint64_t blocks = 0;
    LpmScsiStatus status = lpm_scsi_capacity(scsi, &reader.block_size, &blocks, error);
    if (status != LPM_SCSI_GOOD) {
        return status == LPM_SCSI_CONFLICT;
    }
    uint64_t size = blocks * reader.block_size;
    json_object_set_new(facts, "size_bytes", json_integer((json_int_t)size));
    if (reserved) {
        json_object_set_new(facts, "sample", json_array());
    }
    return true;
}

void lpm_scsi_look_sample(LpmScsi *scsi, json_t *facts)
{
    Reader reader = {scsi, 0};
    uint64_t blocks = 0;
    if (json_object_get(facts, "sample") || !json_object_get(facts, "size_bytes")) {
        return;
    }
    bool good = lpm_scsi_capacity(scsi, &reader.block_size, &blocks, NULL) == LPM_SCSI_GOOD;
    good = good && reader.block_size && LPM_SAMPLE_BLOCK % reader.block_size == 0;
    json_object_set_new(
        facts, "sample",
        good ? lpm_sample_take(blocks * reader.block_size, 2, SAMPLE_PAUSE_MS, read_block, &reader)
             : json_array());
}

static bool ask_protection(LpmScsi *scsi, json_t *facts, GError **error)
{
    uint8_t bytes[192] = {0};
    /* MODE SENSE (6), all pages, without block descriptors */
    const uint8_t cdb[6] = {0x1a, 0x08, 0x3f, 0, sizeof bytes};
    LpmScsiStatus status = lpm_scsi_ask(scsi, cdb, sizeof cdb, bytes, sizeof bytes,
                                        "say whether it may be written to", error);
    if (status == LPM_SCSI_GOOD) {
        json_object_set_new(facts, "write_protected", json_boolean((bytes[2] & 0x80) != 0));
    }
    return status == LPM_SCSI_GOOD || status == LPM_SCSI_CONFLICT;
}

/* Where the page's word is good within the target only, the serial number goes with it. */
static char *identity_of(LpmScsi *scsi, const Known *known)
{
    uint8_t page[PAGE_SIZE_MAX] = {0};
    const uint8_t page_80[6] = {0x12, 1, 0x80, PAGE_SIZE_MAX >> 8, PAGE_SIZE_MAX & 0xff};
    bool unique;
    char *identity = lpm_scsi_designator(known->page, sizeof known->page, &unique);
    if (unique || !*identity ||
        lpm_scsi_ask(scsi, page_80, 6, page, sizeof page, "tell its serial number", NULL) !=
            LPM_SCSI_GOOD) {
        return identity;
    }
    Designator serial = {.bytes = page + 4, .size = MIN((size_t)get(page + 2, 2), 252)};
    g_autofree char *local = identity;
    g_autofree char *number = designator_text(&serial, "serial ", true);
    return g_strdup_printf("%s %s", local, number);
}

json_t *lpm_scsi_look(LpmScsi *scsi, GError **error)
{
    g_autoptr(json_t) facts = json_object();
    Known known;
    bool reserved = false;
    if (!ask_inquiry(scsi, &known, error) || !ask_access(scsi, &known, error)) {
        return NULL;
    }
    g_autofree char *identity = identity_of(scsi, &known);
    json_object_set_new(facts, "identity", json_string(identity));
    if (!ask_reservation(scsi, facts, &reserved, error)) {
        return NULL;
    }
    ask_registered(scsi, facts);
    if (!ask_protection(scsi, facts, error) || !ask_size(scsi, facts, reserved, error)) {
        return NULL;
    }
    return json_incref(facts);
}

char *lpm_scsi_look_path(LpmScsi *scsi, GError **error)
{
    Known known;
    return ask_inquiry(scsi, &known, error) && ask_access(scsi, &known, error)
               ? identity_of(scsi, &known)
               : NULL;
}
