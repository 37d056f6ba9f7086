/* SPDX-License-Identifier: Apache-2.0 */
#include "host/scsi.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <string.h>

enum {
    AGAIN_US = 5000, /* before a command is sent again to a busy target */
    SETTLE_MS = 10,  /* before the library is asked again what it waits for */
    KEYS_MAX = 128,
    LIST_HEAD = 8, /* of what PERSISTENT RESERVE IN answers: generation, length */
    CAPACITY_SIZE = 32,
};

struct LpmScsi {
    struct iscsi_context *iscsi;
    int lun;
    char *name;    /* for people */
    char *purpose; /* in the middle of a sentence: ", which keeps the ownership record," */
    char *group;   /* of the configuration */
    int64_t deadline_us;
    bool waiting;
    int status;             /* of the command that was waited for */
    struct scsi_task *lost; /* the library's until the connection ends; NULL: all is well */
};

/* --- waiting --- */

static void answered(struct iscsi_context *iscsi, int status, void *data, void *private)
{
    (void)iscsi;
    (void)data;
    LpmScsi *scsi = private;
    scsi->status = status;
    scsi->waiting = false;
}

/* The end of a reset: the library gives the target's answer, 0 when it is done, as the data. */
static void reset_answered(struct iscsi_context *iscsi, int status, void *data, void *private)
{
    uint32_t answer = data ? *(uint32_t *)data : 0;
    answered(iscsi, status == SCSI_STATUS_GOOD && answer != 0 ? (int)answer : status, NULL,
             private);
}

/* False at the deadline, and when the connection has broken. */
static bool wait_for(LpmScsi *scsi)
{
    while (scsi->waiting) {
        int64_t left = scsi->deadline_us - g_get_monotonic_time();
        struct pollfd fd = {.fd = iscsi_get_fd(scsi->iscsi),
                            .events = (short)iscsi_which_events(scsi->iscsi)};
        if (left <= 0) {
            return false;
        }
        int left_ms = (int)(left / 1000) + 1;
        int n = poll(&fd, 1, fd.events ? left_ms : MIN(left_ms, SETTLE_MS));
        if (n < 0 && errno != EINTR) {
            return false;
        }
        if (n > 0 && iscsi_service(scsi->iscsi, fd.revents) < 0) {
            return false;
        }
    }
    return true;
}

static LpmScsiStatus lost(LpmScsi *scsi, const char *doing, GError **error)
{
    const char *said = iscsi_get_error(scsi->iscsi);
    g_autofree char *why = g_strchomp(g_strdup(said ? said : ""));
    bool late = g_get_monotonic_time() >= scsi->deadline_us;
    lpm_error_set(error, late ? LPM_ERROR_TIMEOUT : LPM_ERROR_UNREACHABLE,
                  "%s%s does not answer (%s): %s; see that the target runs, and that [%s] of this "
                  "system's configuration is right",
                  scsi->name, scsi->purpose, doing, late || !*why ? "no answer in time" : why,
                  scsi->group);
    return LPM_SCSI_LOST;
}

/* --- session --- */

static struct iscsi_context *context_for(const LpmScsiTarget *target, enum iscsi_session_type type)
{
    struct iscsi_context *iscsi = iscsi_create_context(target->initiator);
    if (!iscsi) {
        return NULL;
    }
    /* A name of its own for each session: a registration must never be another one's. */
    iscsi_set_isid_random(iscsi, g_random_int() & 0xffffff, g_random_int() & 0xffff);
    iscsi_set_noautoreconnect(iscsi, 1);
    iscsi_set_session_type(iscsi, type);
    iscsi_set_header_digest(iscsi, ISCSI_HEADER_DIGEST_NONE_CRC32C);
    if ((type == ISCSI_SESSION_NORMAL && iscsi_set_targetname(iscsi, target->target) != 0) ||
        (target->user && *target->user &&
         iscsi_set_initiator_username_pwd(iscsi, target->user, target->chap_secret) != 0)) {
        iscsi_destroy_context(iscsi);
        return NULL;
    }
    return iscsi;
}

static LpmScsi *connect_for(const LpmScsiTarget *target, enum iscsi_session_type type,
                            int64_t deadline_us, GError **error)
{
    struct iscsi_context *iscsi = context_for(target, type);
    if (!iscsi) {
        lpm_error_set(error, LPM_ERROR_USAGE, "iSCSI: initiator %s, target %s: not legal names",
                      target->initiator, target->target);
        return NULL;
    }
    LpmScsi *scsi = g_new0(LpmScsi, 1);
    scsi->iscsi = iscsi;
    scsi->lun = target->lun;
    scsi->name = g_strdup_printf("LUN %d of %s at %s", target->lun, target->target, target->portal);
    scsi->purpose = g_strdup(target->group ? "" : ", which keeps the ownership record,");
    scsi->group = g_strdup(target->group ? target->group : "arbiter:scsi");
    scsi->deadline_us = deadline_us;
    /* One after the other: the library's own function for both leaks when it is given up. */
    scsi->waiting = true;
    bool good = iscsi_connect_async(iscsi, target->portal, answered, scsi) == 0 && wait_for(scsi) &&
                scsi->status == SCSI_STATUS_GOOD;
    scsi->waiting = true;
    good = good && iscsi_login_async(iscsi, answered, scsi) == 0 && wait_for(scsi) &&
           scsi->status == SCSI_STATUS_GOOD;
    if (!good) {
        lost(scsi, "login", error);
        lpm_scsi_close(scsi);
        return NULL;
    }
    return scsi;
}

LpmScsi *lpm_scsi_connect(const LpmScsiTarget *target, int64_t deadline_us, GError **error)
{
    return connect_for(target, ISCSI_SESSION_NORMAL, deadline_us, error);
}

void lpm_scsi_close(LpmScsi *scsi)
{
    if (!scsi) {
        return;
    }
    iscsi_destroy_context(scsi->iscsi);
    scsi_free_scsi_task(scsi->lost);
    g_free(scsi->name);
    g_free(scsi->purpose);
    g_free(scsi->group);
    g_free(scsi);
}

/* --- discovery --- */

enum { PORTALS_MAX = 32 };

typedef struct {
    LpmScsi *scsi;
    const char *target;
    GPtrArray *portals;
} Discovery;

/* The library's list lasts as long as this call. A portal is "ADDRESS:PORT,GROUP". */
static void discovered(struct iscsi_context *iscsi, int status, void *data, void *private)
{
    Discovery *discovery = private;
    const struct iscsi_discovery_address *one = status == SCSI_STATUS_GOOD ? data : NULL;
    for (; one; one = one->next) {
        const struct iscsi_target_portal *portal =
            g_strcmp0(one->target_name, discovery->target) == 0 ? one->portals : NULL;
        for (; portal && discovery->portals->len < PORTALS_MAX; portal = portal->next) {
            g_ptr_array_add(discovery->portals,
                            g_strndup(portal->portal, strcspn(portal->portal, ",")));
        }
    }
    answered(iscsi, status, NULL, discovery->scsi);
}

GPtrArray *lpm_scsi_portals(const LpmScsiTarget *target, int64_t deadline_us, GError **error)
{
    LpmScsi *scsi = connect_for(target, ISCSI_SESSION_DISCOVERY, deadline_us, error);
    if (!scsi) {
        return NULL;
    }
    g_autoptr(GPtrArray) portals = g_ptr_array_new_with_free_func(g_free);
    Discovery discovery = {scsi, target->target, portals};
    scsi->waiting = true;
    bool good = iscsi_discovery_async(scsi->iscsi, discovered, &discovery) == 0 && wait_for(scsi) &&
                scsi->status == SCSI_STATUS_GOOD;
    if (!good) {
        lost(scsi, "discovery", error);
    }
    lpm_scsi_close(scsi);
    return good ? g_steal_pointer(&portals) : NULL;
}

void lpm_scsi_set_deadline(LpmScsi *scsi, int64_t deadline_us)
{
    scsi->deadline_us = deadline_us;
}

/* --- commands --- */

typedef struct {
    uint8_t cdb[16];
    int cdb_size;
    int direction;    /* enum scsi_xfer_dir */
    uint8_t *bytes;   /* to write, or where to read to */
    uint32_t size;    /* of @bytes */
    bool may_be_less; /* a read that the target may cut short */
    const char *doing;
} Command;

static LpmScsiStatus status_of(LpmScsi *scsi, const Command *command, const struct scsi_task *task,
                               bool *ret_again, GError **error)
{
    switch (scsi->status) {
    case SCSI_STATUS_GOOD:
        return LPM_SCSI_GOOD;
    case SCSI_STATUS_RESERVATION_CONFLICT:
        return LPM_SCSI_CONFLICT;
    case SCSI_STATUS_BUSY:
    case SCSI_STATUS_TASK_SET_FULL:
        *ret_again = true;
        return LPM_SCSI_FAILED;
    case SCSI_STATUS_CHECK_CONDITION:
        *ret_again = task->sense.key == SCSI_SENSE_UNIT_ATTENTION;
        lpm_error_set(error, LPM_ERROR_STORAGE, "%s%s cannot %s: sense key %x, code %04x",
                      scsi->name, scsi->purpose, command->doing, (unsigned)task->sense.key,
                      (unsigned)task->sense.ascq);
        return LPM_SCSI_FAILED;
    default:
        return lost(scsi, command->doing, error);
    }
}

static LpmScsiStatus take_data(const LpmScsi *scsi, const Command *command,
                               const struct scsi_task *task, GError **error)
{
    size_t size = (size_t)task->datain.size;
    if (size > command->size || (size < command->size && !command->may_be_less)) {
        lpm_error_set(error, LPM_ERROR_PROTOCOL, "%s: to %s gave %zu bytes instead of %u",
                      scsi->name, command->doing, size, command->size);
        return LPM_SCSI_FAILED;
    }
    memset(command->bytes, 0, command->size);
    memcpy(command->bytes, task->datain.data, size);
    return LPM_SCSI_GOOD;
}

static LpmScsiStatus run_once(LpmScsi *scsi, const Command *command, bool *ret_again,
                              GError **error)
{
    uint8_t cdb[16];
    memcpy(cdb, command->cdb, sizeof cdb);
    struct scsi_task *task =
        scsi_create_task(command->cdb_size, cdb, command->direction, (int)command->size);
    struct iscsi_data out = {.size = command->size, .data = command->bytes};
    bool write = command->direction == SCSI_XFER_WRITE;
    *ret_again = false;
    scsi->waiting = true;
    if (!task || scsi->lost ||
        iscsi_scsi_command_async(scsi->iscsi, scsi->lun, task, answered, write ? &out : NULL,
                                 scsi) != 0) {
        scsi_free_scsi_task(task);
        return lost(scsi, command->doing, error);
    }
    if (!wait_for(scsi)) {
        scsi->lost = task;
        return lost(scsi, command->doing, error);
    }
    LpmScsiStatus status = status_of(scsi, command, task, ret_again, error);
    if (status == LPM_SCSI_GOOD && command->direction == SCSI_XFER_READ) {
        status = take_data(scsi, command, task, error);
    }
    scsi_free_scsi_task(task);
    return status;
}

static LpmScsiStatus run(LpmScsi *scsi, const Command *command, GError **error)
{
    for (;;) {
        bool again = false;
        g_autoptr(GError) cause = NULL;
        LpmScsiStatus status = run_once(scsi, command, &again, &cause);
        bool time = g_get_monotonic_time() + AGAIN_US < scsi->deadline_us;
        if (again && time) {
            if (!cause) { /* busy; after a unit attention nobody needs to wait */
                g_usleep(AGAIN_US);
            }
            continue;
        }
        if (again && !cause) {
            lpm_error_set(&cause, LPM_ERROR_TIMEOUT, "%s is busy: cannot %s", scsi->name,
                          command->doing);
        }
        if (cause) {
            g_propagate_error(error, g_steal_pointer(&cause));
        }
        return status;
    }
}

/* --- what is sent: big-endian fields, as the standards number them --- */

static void put(uint8_t *at, unsigned bytes, uint64_t value)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    }
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

LpmScsiStatus lpm_scsi_ask(LpmScsi *scsi, const uint8_t *cdb, unsigned cdb_size, void *ret_bytes,
                           uint32_t size, const char *doing, GError **error)
{
    Command command = {.cdb_size = (int)cdb_size,
                       .direction = size ? SCSI_XFER_READ : SCSI_XFER_NONE,
                       .bytes = ret_bytes,
                       .size = size,
                       .may_be_less = true,
                       .doing = doing};
    memcpy(command.cdb, cdb, MIN(cdb_size, sizeof command.cdb));
    return run(scsi, &command, error);
}

LpmScsiStatus lpm_scsi_capacity(LpmScsi *scsi, uint32_t *ret_block_size, uint64_t *ret_blocks,
                                GError **error)
{
    uint8_t bytes[CAPACITY_SIZE];
    /* SERVICE ACTION IN, READ CAPACITY (16) */
    Command command = {.cdb = {0x9e, 0x10},
                       .cdb_size = 16,
                       .direction = SCSI_XFER_READ,
                       .bytes = bytes,
                       .size = sizeof bytes,
                       .may_be_less = true,
                       .doing = "say its size"};
    put(command.cdb + 10, 4, sizeof bytes);
    LpmScsiStatus status = run(scsi, &command, error);
    if (status == LPM_SCSI_GOOD) {
        *ret_blocks = get(bytes, 8) + 1;
        *ret_block_size = (uint32_t)get(bytes + 8, 4);
    }
    return status;
}

LpmScsiStatus lpm_scsi_read(LpmScsi *scsi, uint64_t block, uint32_t block_size, void *ret_bytes,
                            uint32_t size, GError **error)
{
    /* READ (16) */
    Command command = {.cdb = {0x88},
                       .cdb_size = 16,
                       .direction = SCSI_XFER_READ,
                       .bytes = ret_bytes,
                       .size = size,
                       .doing = "be read"};
    put(command.cdb + 2, 8, block);
    put(command.cdb + 10, 4, size / block_size);
    return run(scsi, &command, error);
}

LpmScsiStatus lpm_scsi_write(LpmScsi *scsi, uint64_t block, uint32_t block_size, const void *bytes,
                             uint32_t size, GError **error)
{
    g_autofree uint8_t *copy = g_memdup2(bytes, size);
    /* WRITE (16) */
    Command command = {.cdb = {0x8a},
                       .cdb_size = 16,
                       .direction = SCSI_XFER_WRITE,
                       .bytes = copy,
                       .size = size,
                       .doing = "be written"};
    put(command.cdb + 2, 8, block);
    put(command.cdb + 10, 4, size / block_size);
    return run(scsi, &command, error);
}

LpmScsiStatus lpm_scsi_sync(LpmScsi *scsi, GError **error)
{
    /* SYNCHRONIZE CACHE (10), the whole unit */
    Command command = {
        .cdb = {0x35}, .cdb_size = 10, .direction = SCSI_XFER_NONE, .doing = "write its cache"};
    return run(scsi, &command, error);
}

LpmScsiStatus lpm_scsi_reset(LpmScsi *scsi, GError **error)
{
    scsi->waiting = true;
    if (scsi->lost ||
        iscsi_task_mgmt_lun_reset_async(scsi->iscsi, (uint32_t)scsi->lun, reset_answered, scsi) !=
            0 ||
        !wait_for(scsi)) {
        return lost(scsi, "reset", error);
    }
    if (scsi->status != SCSI_STATUS_GOOD) {
        lpm_error_set(error, LPM_ERROR_STORAGE, "%s%s cannot be reset (answer %d)", scsi->name,
                      scsi->purpose, scsi->status);
        return LPM_SCSI_FAILED;
    }
    return LPM_SCSI_GOOD;
}

/* --- persistent reservations --- */

LpmScsiStatus lpm_scsi_reserve(LpmScsi *scsi, LpmScsiReserve what, uint64_t key, uint64_t other,
                               GError **error)
{
    uint8_t bytes[24] = {0};
    put(bytes, 8, key);
    put(bytes + 8, 8, other);
    /* PERSISTENT RESERVE OUT */
    Command command = {.cdb = {0x5f, (uint8_t)what, LPM_SCSI_WRITE_EXCLUSIVE},
                       .cdb_size = 10,
                       .direction = SCSI_XFER_WRITE,
                       .bytes = bytes,
                       .size = sizeof bytes,
                       .doing = "be reserved"};
    put(command.cdb + 5, 4, sizeof bytes);
    return run(scsi, &command, error);
}

/* PERSISTENT RESERVE IN: a head with the length of what follows. */
static LpmScsiStatus reserve_in(LpmScsi *scsi, uint8_t what, uint8_t *bytes, uint16_t size,
                                GError **error)
{
    Command command = {.cdb = {0x5e, what},
                       .cdb_size = 10,
                       .direction = SCSI_XFER_READ,
                       .bytes = bytes,
                       .size = size,
                       .may_be_less = true,
                       .doing = "tell its reservation"};
    put(command.cdb + 7, 2, size);
    return run(scsi, &command, error);
}

LpmScsiStatus lpm_scsi_reservation(LpmScsi *scsi, LpmScsiReservation *ret, GError **error)
{
    uint8_t bytes[LIST_HEAD + 16];
    LpmScsiStatus status = reserve_in(scsi, 1, bytes, sizeof bytes, error);
    if (status == LPM_SCSI_GOOD) {
        ret->held = get(bytes + 4, 4) >= 16;
        ret->key = ret->held ? get(bytes + LIST_HEAD, 8) : 0;
        ret->type = ret->held ? bytes[LIST_HEAD + 13] & 0x0f : 0;
    }
    return status;
}

LpmScsiStatus lpm_scsi_keys(LpmScsi *scsi, uint64_t *ret, unsigned max, unsigned *ret_n,
                            GError **error)
{
    uint8_t bytes[LIST_HEAD + 8 * KEYS_MAX];
    LpmScsiStatus status = reserve_in(scsi, 0, bytes, sizeof bytes, error);
    if (status == LPM_SCSI_GOOD) {
        unsigned n = (unsigned)get(bytes + 4, 4) / 8;
        for (unsigned i = 0; i < n && i < max && i < KEYS_MAX; i++) {
            ret[i] = get(bytes + LIST_HEAD + 8 * i, 8);
        }
        *ret_n = MIN(n, KEYS_MAX);
    }
    return status;
}
