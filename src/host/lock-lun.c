/* SPDX-License-Identifier: Apache-2.0 */
#include "host/lock-lun.h"

#include "bytes/bytes.h"

#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

enum {
    HEADER_SIZE = 512,
    HEADER_VERSION = 1,
    HEADER_BODY = HEADER_SIZE - 8, /* before the checksum */
    FIRST_BLOCK = 8,               /* of the first entry */
    BLANK_BYTES = 1 << 20,         /* that must be zero before a header is written */
    BLOCK_MAX = 4096,
    ENTRIES_MAX = 1 << 20,
    SECRET_MAX = 255,
    IDLE_US = 5000000, /* a session that was not used for longer is made anew */
    LOOK_US = 1000,    /* between two looks at who holds the lock */
    KEYS_MANY = 32,    /* registrations, before left-over ones are cleared */
};

static const char magic[8] = {'L', 'P', 'M', 'L', 'O', 'C', 'K', 'S'};

/* A key: 16 bits that say whose it is, 47 random ones, and whether its owner is at work. */
#define KEY_OURS (UINT64_C(0x4c50) << 48)
#define KEY_MASK (UINT64_C(0xffff) << 48)
#define KEY_BUSY UINT64_C(1)

struct LpmLockLun {
    gatomicrefcount refs;
    LpmScsiTarget target; /* its texts are ours; chap_secret is read anew */
    char *secret_file, *name;
    GMutex mutex; /* for @taken; who set it owns what is below */
    GCond cond;
    bool taken;
    LpmScsi *session; /* NULL: none */
    LpmLockTable table;
    int64_t used_us, deadline_us;
    uint64_t key; /* as last registered by this session; 0: not registered */
};

/* --- life --- */

LpmLockLun *lpm_lock_lun_new(const LpmLockLunConfig *config, GError **error)
{
    if (!config->portal || !*config->portal) {
        lpm_error_set(error, LPM_ERROR_USAGE,
                      "the arbiter scsi has no lock LUN; name it in [arbiter:scsi] of lpm-host's "
                      "configuration");
        return NULL;
    }
    LpmLockLun *lun = g_new0(LpmLockLun, 1);
    g_atomic_ref_count_init(&lun->refs);
    lun->target =
        (LpmScsiTarget){g_strdup(config->portal),    g_strdup(config->target), config->lun,
                        g_strdup(config->initiator), g_strdup(config->user),   NULL};
    lun->secret_file = g_strdup(config->secret_file);
    lun->name =
        g_strdup_printf("lock LUN %d of %s at %s", config->lun, config->target, config->portal);
    g_mutex_init(&lun->mutex);
    g_cond_init(&lun->cond);
    return lun;
}

LpmLockLun *lpm_lock_lun_ref(LpmLockLun *lun)
{
    g_atomic_ref_count_inc(&lun->refs);
    return lun;
}

void lpm_lock_lun_unref(LpmLockLun *lun)
{
    if (!lun || !g_atomic_ref_count_dec(&lun->refs)) {
        return;
    }
    lpm_scsi_close(lun->session);
    g_free((char *)lun->target.portal);
    g_free((char *)lun->target.target);
    g_free((char *)lun->target.initiator);
    g_free((char *)lun->target.user);
    g_free(lun->secret_file);
    g_free(lun->name);
    g_mutex_clear(&lun->mutex);
    g_cond_clear(&lun->cond);
    g_free(lun);
}

const char *lpm_lock_lun_name(const LpmLockLun *lun)
{
    return lun->name;
}

static void drop_session(LpmLockLun *lun)
{
    lpm_scsi_close(lun->session);
    lun->session = NULL;
    lun->key = 0;
}

/* A secret that others can read is none. */
static bool read_secret(const LpmLockLun *lun, char **ret_secret, GError **error)
{
    g_autofree char *text = NULL;
    struct stat info;
    gsize size = 0;
    if (!lun->secret_file || !*lun->secret_file) {
        return true;
    }
    if (stat(lun->secret_file, &info) != 0 ||
        !g_file_get_contents(lun->secret_file, &text, &size, NULL)) {
        return lpm_error_set(error, LPM_ERROR_STORAGE,
                             "%s: the CHAP secret cannot be read from %s; see [arbiter:scsi] "
                             "chap_secret",
                             lun->name, lun->secret_file);
    }
    g_strchomp(text);
    if ((info.st_mode & 077) != 0 || size > SECRET_MAX || !*text) {
        return lpm_error_set(error, LPM_ERROR_USAGE,
                             "%s: %s must hold one secret of at most %d characters and be readable "
                             "by its owner only (mode 0600)",
                             lun->name, lun->secret_file, SECRET_MAX);
    }
    *ret_secret = g_steal_pointer(&text);
    return true;
}

/* --- the lock --- */

static bool is_ours(uint64_t key)
{
    return (key & KEY_MASK) == KEY_OURS;
}

static uint64_t new_key(void)
{
    uint64_t random = (uint64_t)g_random_int() << 32 | g_random_int();
    return KEY_OURS | (random & ~KEY_MASK) | KEY_BUSY;
}

/*
 * The reservation passes from a holder that is at work and late: his registration goes, so that the
 * target refuses what comes from him later; the reset ends what had come before; and what was
 * written by then is made durable before anybody reads it.
 */
static LpmScsiStatus take_over(LpmLockLun *lun, uint64_t holder, GError **error)
{
    LpmScsi *scsi = lun->session;
    LpmScsiStatus status = lpm_scsi_reserve(scsi, LPM_SCSI_PREEMPT, lun->key, holder, error);
    if (status == LPM_SCSI_GOOD) {
        status = lpm_scsi_reset(scsi, error);
        if (status == LPM_SCSI_GOOD) {
            status = lpm_scsi_sync(scsi, error);
        }
        /* Taken away again already, or not to be trusted: the next one does all this anew. */
        if (status != LPM_SCSI_GOOD && status != LPM_SCSI_CONFLICT) {
            status = LPM_SCSI_LOST;
        }
    }
    return status;
}

typedef struct {
    uint64_t key; /* of the holder that is waited for */
    int64_t since_us;
} Patience;

/* One look at the holder, and what follows from it. GOOD with *ret_held false: look again. */
static LpmScsiStatus try_take(LpmLockLun *lun, Patience *patience, bool *ret_held, GError **error)
{
    LpmScsi *scsi = lun->session;
    LpmScsiReservation now;
    LpmScsiStatus status = lpm_scsi_reservation(scsi, &now, error);
    if (status != LPM_SCSI_GOOD) {
        return status;
    }
    *ret_held = true;
    if (now.held && now.key == lun->key) {
        return LPM_SCSI_GOOD;
    }
    if (!now.held) {
        return lpm_scsi_reserve(scsi, LPM_SCSI_RESERVE, lun->key, 0, error);
    }
    if (!is_ours(now.key) || now.type != LPM_SCSI_WRITE_EXCLUSIVE) {
        lpm_error_set(error, LPM_ERROR_BUSY,
                      "%s is reserved by something else (key %016" G_GINT64_MODIFIER
                      "x, type %u); it must serve OpenLPM only",
                      lun->name, now.key, now.type);
        return LPM_SCSI_FAILED;
    }
    if ((now.key & KEY_BUSY) == 0) {
        return lpm_scsi_reserve(scsi, LPM_SCSI_PREEMPT, lun->key, now.key, error);
    }
    int64_t at = g_get_monotonic_time();
    if (patience->key != now.key) {
        *patience = (Patience){now.key, at};
    }
    if (at - patience->since_us >= LPM_LOCK_LAPSE_MS * 1000) {
        return take_over(lun, now.key, error);
    }
    *ret_held = false;
    g_usleep(LOOK_US);
    return LPM_SCSI_GOOD;
}

static LpmScsiStatus too_late(const LpmLockLun *lun, GError **error)
{
    lpm_error_set(error, LPM_ERROR_TIMEOUT,
                  "%s is locked by another system; it will be asked again", lun->name);
    return LPM_SCSI_FAILED;
}

/* What this session registered and will not use: nobody else would clear it. */
static void unregister(LpmLockLun *lun)
{
    if (lun->key != 0 &&
        lpm_scsi_reserve(lun->session, LPM_SCSI_REGISTER, lun->key, 0, NULL) == LPM_SCSI_GOOD) {
        lun->key = 0;
    }
}

LpmScsiStatus lpm_lock_lun_take(LpmLockLun *lun, GError **error)
{
    Patience patience = {0};
    bool held = false;
    uint64_t key = new_key();
    for (;;) {
        LpmScsiStatus status = LPM_SCSI_GOOD;
        if (lun->key != key) {
            status = lpm_scsi_reserve(lun->session, LPM_SCSI_REGISTER_ANYHOW, 0, key, error);
            lun->key = key;
        }
        if (status == LPM_SCSI_GOOD) {
            status = try_take(lun, &patience, &held, error);
        }
        if (status == LPM_SCSI_GOOD && held) {
            return status;
        }
        if (status == LPM_SCSI_CONFLICT) {
            lun->key = 0; /* somebody was quicker, and may have cleared our registration */
        } else if (status != LPM_SCSI_GOOD) {
            return status;
        }
        if (g_get_monotonic_time() + LOOK_US >= lun->deadline_us) {
            unregister(lun);
            return too_late(lun, error);
        }
    }
}

bool lpm_lock_lun_give(LpmLockLun *lun)
{
    uint64_t idle = lun->key & ~KEY_BUSY;
    LpmScsiStatus status = lpm_scsi_reserve(lun->session, LPM_SCSI_REGISTER, lun->key, idle, NULL);
    lun->key = status == LPM_SCSI_GOOD ? idle : 0;
    return status == LPM_SCSI_GOOD || status == LPM_SCSI_CONFLICT;
}

LpmScsiStatus lpm_lock_lun_stamp(LpmLockLun *lun, uint64_t *ret_stamp, GError **error)
{
    LpmScsiReservation now;
    LpmScsiStatus status = lpm_scsi_reservation(lun->session, &now, error);
    bool idle = status == LPM_SCSI_GOOD && now.held && now.type == LPM_SCSI_WRITE_EXCLUSIVE &&
                is_ours(now.key) && (now.key & KEY_BUSY) == 0;
    *ret_stamp = idle ? now.key : 0;
    return status;
}

/* --- the header --- */

typedef enum { HEADER_GOOD, HEADER_BLANK, HEADER_FOREIGN } Header;

static Header decode_header(const uint8_t bytes[HEADER_SIZE], uint32_t block_size,
                            LpmLockTable *ret_table)
{
    static const uint8_t zeros[HEADER_SIZE];
    if (memcmp(bytes, zeros, HEADER_SIZE) == 0) {
        return HEADER_BLANK;
    }
    LpmByteReader reader = lpm_bytes_reader(bytes, HEADER_SIZE);
    LpmByteReader sum = lpm_bytes_reader(bytes + HEADER_BODY, HEADER_SIZE - HEADER_BODY);
    uint8_t name[sizeof magic];
    lpm_bytes_get(&reader, name, sizeof name);
    uint32_t version = lpm_bytes_get_u32(&reader), size = lpm_bytes_get_u32(&reader);
    uint32_t entries = lpm_bytes_get_u32(&reader);
    if (memcmp(name, magic, sizeof magic) != 0 || version != HEADER_VERSION || size != block_size ||
        entries == 0 || entries > ENTRIES_MAX ||
        lpm_bytes_get_u64(&sum) != XXH3_64bits(bytes, HEADER_BODY)) {
        return HEADER_FOREIGN;
    }
    *ret_table = (LpmLockTable){block_size, entries, FIRST_BLOCK};
    return HEADER_GOOD;
}

static void encode_header(uint8_t bytes[HEADER_SIZE], const LpmLockTable *table)
{
    memset(bytes, 0, HEADER_SIZE);
    LpmByteWriter writer = lpm_bytes_writer(bytes, HEADER_SIZE);
    lpm_bytes_put(&writer, magic, sizeof magic);
    lpm_bytes_put_u32(&writer, HEADER_VERSION);
    lpm_bytes_put_u32(&writer, table->block_size);
    lpm_bytes_put_u32(&writer, table->entries);
    LpmByteWriter sum = lpm_bytes_writer(bytes + HEADER_BODY, HEADER_SIZE - HEADER_BODY);
    lpm_bytes_put_u64(&sum, XXH3_64bits(bytes, HEADER_BODY));
}

static LpmScsiStatus foreign(const LpmLockLun *lun, GError **error)
{
    lpm_error_set(error, LPM_ERROR_STORAGE,
                  "%s holds something else than OpenLPM's records; give it a LUN of its own whose "
                  "first MiB is all zeros",
                  lun->name);
    return LPM_SCSI_FAILED;
}

static LpmScsiStatus read_header(LpmLockLun *lun, uint32_t block_size, Header *ret,
                                 LpmLockTable *ret_table, GError **error)
{
    uint8_t bytes[BLOCK_MAX];
    LpmScsiStatus status = lpm_scsi_read(lun->session, 0, block_size, bytes, block_size, error);
    if (status == LPM_SCSI_GOOD) {
        *ret = decode_header(bytes, block_size, ret_table);
    }
    return status;
}

/* Whether the beginning, where others keep their headers and labels, is all zeros. */
static LpmScsiStatus check_blank(LpmLockLun *lun, uint32_t block_size, uint64_t blocks,
                                 GError **error)
{
    enum { STEP = 1 << 16 };
    static const uint8_t zeros[STEP];
    g_autofree uint8_t *bytes = g_malloc(STEP);
    uint64_t size = MIN(blocks * block_size, BLANK_BYTES);
    for (uint64_t at = 0; at < size; at += STEP) {
        uint32_t step = (uint32_t)MIN(size - at, STEP);
        LpmScsiStatus status =
            lpm_scsi_read(lun->session, at / block_size, block_size, bytes, step, error);
        if (status != LPM_SCSI_GOOD) {
            return status;
        }
        if (memcmp(bytes, zeros, step) != 0) {
            return foreign(lun, error);
        }
    }
    return LPM_SCSI_GOOD;
}

/* With the lock: a header, unless another system was quicker. */
static LpmScsiStatus write_header(LpmLockLun *lun, uint32_t block_size, uint64_t blocks,
                                  LpmLockTable *ret_table, GError **error)
{
    Header header;
    LpmLockTable table = {
        block_size, (uint32_t)MIN((blocks - FIRST_BLOCK) / LPM_LOCK_ENTRY_BLOCKS, ENTRIES_MAX),
        FIRST_BLOCK};
    LpmScsiStatus status = read_header(lun, block_size, &header, ret_table, error);
    if (status != LPM_SCSI_GOOD || header == HEADER_GOOD) {
        return status;
    }
    status = check_blank(lun, block_size, blocks, error);
    if (status != LPM_SCSI_GOOD) {
        return status;
    }
    uint8_t bytes[BLOCK_MAX] = {0};
    encode_header(bytes, &table);
    status = lpm_scsi_write(lun->session, 0, block_size, bytes, block_size, error);
    if (status == LPM_SCSI_GOOD) {
        status = lpm_scsi_sync(lun->session, error);
    }
    *ret_table = table;
    return status;
}

/* Nothing is reserved on a unit that is not blank: it may be somebody's disk. */
static LpmScsiStatus format(LpmLockLun *lun, uint32_t block_size, uint64_t blocks, GError **error)
{
    LpmScsiStatus status = check_blank(lun, block_size, blocks, error);
    if (status == LPM_SCSI_GOOD) {
        status = lpm_lock_lun_take(lun, error);
    }
    if (status == LPM_SCSI_GOOD) {
        status = write_header(lun, block_size, blocks, &lun->table, error);
        if (!lpm_lock_lun_give(lun) && status == LPM_SCSI_GOOD) {
            status = LPM_SCSI_LOST;
        }
    }
    return status;
}

static LpmScsiStatus find_table(LpmLockLun *lun, GError **error)
{
    uint32_t block_size = 0;
    uint64_t blocks = 0;
    Header header;
    LpmScsiStatus status = lpm_scsi_capacity(lun->session, &block_size, &blocks, error);
    if (status != LPM_SCSI_GOOD) {
        return status;
    }
    if (block_size < HEADER_SIZE || block_size > BLOCK_MAX ||
        blocks < FIRST_BLOCK + LPM_LOCK_ENTRY_BLOCKS) {
        lpm_error_set(error, LPM_ERROR_UNSUPPORTED,
                      "%s has %" G_GUINT64_FORMAT " blocks of %u bytes; give it one of 1 MiB or "
                      "more, with blocks of 512 to 4096 bytes",
                      lun->name, blocks, block_size);
        return LPM_SCSI_FAILED;
    }
    status = read_header(lun, block_size, &header, &lun->table, error);
    if (status != LPM_SCSI_GOOD || header == HEADER_GOOD) {
        return status;
    }
    return header == HEADER_BLANK ? format(lun, block_size, blocks, error) : foreign(lun, error);
}

/* --- the session --- */

/* Registrations of sessions that ended while they waited for the lock. Who waits now registers
 * anew. */
static LpmScsiStatus clear_left_over(LpmLockLun *lun, GError **error)
{
    uint64_t keys[KEYS_MANY + 1];
    unsigned n = 0;
    LpmScsiStatus status = lpm_scsi_keys(lun->session, keys, G_N_ELEMENTS(keys), &n, error);
    if (status != LPM_SCSI_GOOD || n < G_N_ELEMENTS(keys)) {
        return status;
    }
    status = lpm_lock_lun_take(lun, error);
    if (status != LPM_SCSI_GOOD) {
        return status;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(keys) && status == LPM_SCSI_GOOD; i++) {
        if (is_ours(keys[i]) && keys[i] != lun->key) {
            status = lpm_scsi_reserve(lun->session, LPM_SCSI_PREEMPT, lun->key, keys[i], error);
            status = status == LPM_SCSI_CONFLICT ? LPM_SCSI_GOOD : status; /* gone by itself */
        }
    }
    return lpm_lock_lun_give(lun) || status != LPM_SCSI_GOOD ? status : LPM_SCSI_LOST;
}

static bool connect_session(LpmLockLun *lun, GError **error)
{
    g_autofree char *secret = NULL;
    if (!read_secret(lun, &secret, error)) {
        return false;
    }
    LpmScsiTarget target = lun->target;
    target.chap_secret = secret;
    lun->session = lpm_scsi_connect(&target, lun->deadline_us, error);
    if (!lun->session) {
        return false;
    }
    g_autoptr(GError) cause = NULL;
    LpmScsiStatus status = find_table(lun, &cause);
    if (status == LPM_SCSI_GOOD) {
        status = clear_left_over(lun, &cause);
    }
    if (status == LPM_SCSI_GOOD) {
        return true;
    }
    if (cause) {
        g_propagate_error(error, g_steal_pointer(&cause));
    } else {
        lpm_error_set(error, LPM_ERROR_BUSY, "%s: another system was quicker, again and again",
                      lun->name);
    }
    drop_session(lun);
    return false;
}

/* Whether it is this thread's turn; other partitions' calls come first. */
static bool wait_for_turn(LpmLockLun *lun, int64_t deadline_us)
{
    g_mutex_lock(&lun->mutex);
    bool ours = true;
    while (lun->taken && ours) {
        ours = g_cond_wait_until(&lun->cond, &lun->mutex, deadline_us);
    }
    ours = !lun->taken && g_get_monotonic_time() < deadline_us;
    lun->taken = lun->taken || ours;
    g_mutex_unlock(&lun->mutex);
    return ours;
}

bool lpm_lock_lun_enter(LpmLockLun *lun, int64_t deadline_us, LpmScsi **ret_session,
                        LpmLockTable *ret_table, GError **error)
{
    if (!wait_for_turn(lun, deadline_us)) {
        return lpm_error_set(error, LPM_ERROR_TIMEOUT,
                             "%s: other calls of this system took all the time", lun->name);
    }
    lun->deadline_us = deadline_us;
    if (lun->session && g_get_monotonic_time() - lun->used_us > IDLE_US) {
        drop_session(lun);
    }
    if (lun->session) {
        lpm_scsi_set_deadline(lun->session, deadline_us);
    } else if (!connect_session(lun, error)) {
        lpm_lock_lun_leave(lun, false);
        return false;
    }
    *ret_session = lun->session;
    *ret_table = lun->table;
    return true;
}

void lpm_lock_lun_leave(LpmLockLun *lun, bool keep)
{
    if (!keep) {
        drop_session(lun);
    }
    lun->used_us = g_get_monotonic_time();
    g_mutex_lock(&lun->mutex);
    lun->taken = false;
    g_cond_broadcast(&lun->cond); /* the one that is woken may be out of time */
    g_mutex_unlock(&lun->mutex);
}
