/* SPDX-License-Identifier: Apache-2.0 */
#include "host/mover-ctl.h"

#include "bytes/bytes.h"
#include "host/release.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FRAME_MAX = LPM_STREAM_HEADER_SIZE + LPM_STREAM_BODY_MAX,
    READ_SIZE = 64 * 1024,
    OUT_MAX = 4 * 1024 * 1024, /* a mover that reads nothing is no mover any more */
    VASI_BUFFER = 1024 * 1024,
    FINISH_MS = 5000,
    SEAL_MS = 120000, /* the disk takes what is left of an image */
    ABORT_MS = 1000,
    LOOK_MS = 1000,
    LATE_MS = 2 * LOOK_MS,
    SILENCE_MS = 8000,                /* STATS come every 100 ms; movers give each other 5 s */
    FRAMES_A_SECOND = 2000,           /* many times what a move needs: its descriptor is ... */
    BYTES_A_SECOND = 8 * 1024 * 1024, /* ... read before everything else */
};

/* A descriptor on its way: goes with the byte at @at of what is still to be written. */
typedef struct {
    size_t at;
    int fd;
} Passing;

struct LpmMover {
    LpmMoverHandlers handlers;
    GSubprocess *process;
    int control;
    guint in_watch, out_watch, timer, silence_watch;
    gint64 heard_us;  /* when it said something last; monotonic */
    gint64 looked_us; /* when that was looked at last; monotonic */
    gint64 since_us;  /* when @frames was 0; monotonic */
    unsigned frames;
    size_t bytes;
    uint8_t migration[LPM_STREAM_ID_SIZE];
    GByteArray *in, *out;
    GArray *passing; /* Passing: descriptors that go with what is in out */
    LpmStreamVerifier verifier;
    char *reason;  /* of ERROR, for people */
    uint32_t code; /* of ERROR, or LPM_STREAM_ERR_NONE */
    bool exited, released, told;
    bool keeps_image;
    unsigned busy; /* inside a handler: freed afterwards */
};

static void mover_free_if_done(LpmMover *mover)
{
    if (!mover->released || !mover->exited || mover->busy > 0) {
        return;
    }
    g_clear_handle_id(&mover->in_watch, g_source_remove);
    g_clear_handle_id(&mover->out_watch, g_source_remove);
    g_clear_handle_id(&mover->timer, g_source_remove);
    g_clear_handle_id(&mover->silence_watch, g_source_remove);
    lpm_bytes_close(&mover->control);
    g_clear_object(&mover->process);
    g_byte_array_unref(mover->in);
    g_byte_array_unref(mover->out);
    g_array_unref(mover->passing);
    g_free(mover->reason);
    g_free(mover);
}

/* --- its end --- */

/* Which of our errors a mover's code is; the others are MOVER. */
static const struct {
    uint32_t code;
    LpmErrorCode error;
} codes[] = {
    {LPM_STREAM_ERR_CONNECT, LPM_ERROR_UNREACHABLE}, {LPM_STREAM_ERR_TLS, LPM_ERROR_DENIED},
    {LPM_STREAM_ERR_IDENTITY, LPM_ERROR_DENIED},     {LPM_STREAM_ERR_KEY, LPM_ERROR_DENIED},
    {LPM_STREAM_ERR_LINK, LPM_ERROR_NETWORK},        {LPM_STREAM_ERR_CHECKSUM, LPM_ERROR_NETWORK},
    {LPM_STREAM_ERR_VERSION, LPM_ERROR_UNSUPPORTED}, {LPM_STREAM_ERR_VASI, LPM_ERROR_QEMU},
    {LPM_STREAM_ERR_ABORTED, LPM_ERROR_ABORTED},     {LPM_STREAM_ERR_PEER, LPM_ERROR_ABORTED},
};

static GError *end_error(const LpmMover *mover, const char *what)
{
    if (mover->code == LPM_STREAM_ERR_NONE) {
        return g_error_new(LPM_ERROR, LPM_ERROR_MOVER, "the mover ended unasked (%s)", what);
    }
    LpmErrorCode error = LPM_ERROR_MOVER;
    for (size_t i = 0; i < G_N_ELEMENTS(codes); i++) {
        error = codes[i].code == mover->code ? codes[i].error : error;
    }
    return g_error_new(LPM_ERROR, (gint)error, "mover: %s: %s", lpm_stream_error_name(mover->code),
                       mover->reason);
}

/* Tells its owner, once. */
static void tell_gone(LpmMover *mover, const char *what)
{
    if (mover->told || mover->released) {
        return;
    }
    mover->told = true;
    g_autoptr(GError) error = end_error(mover, what);
    mover->busy++;
    mover->handlers.gone(error, mover->handlers.data);
    mover->busy--;
}

/* A mover that hangs does not end by itself, and QEMU would wait for it for ever. */
static gboolean look_for_silence(gpointer data)
{
    LpmMover *mover = data;
    if (mover->exited || mover->released) {
        mover->silence_watch = 0;
        return G_SOURCE_REMOVE;
    }
    gint64 now = g_get_monotonic_time();
    if (now - mover->looked_us > LATE_MS * 1000) {
        mover->heard_us = now; /* who stood still, maybe together with it, heard nothing */
    }
    mover->looked_us = now;
    if (now - mover->heard_us < SILENCE_MS * 1000) {
        return G_SOURCE_CONTINUE;
    }
    mover->silence_watch = 0;
    g_subprocess_force_exit(mover->process);
    tell_gone(mover, "it hung and was killed");
    return G_SOURCE_REMOVE;
}

/* --- reading --- */

static void note_error(LpmMover *mover, const LpmStreamMessage *message)
{
    mover->code = message->reason.code;
    g_free(mover->reason);
    mover->reason = g_strdup(message->reason.reason);
}

/* Whether it says so much that nobody else here would be heard: it may be another's by now. */
static bool floods(LpmMover *mover, size_t size)
{
    mover->heard_us = g_get_monotonic_time();
    if (mover->heard_us - mover->since_us > G_USEC_PER_SEC) {
        mover->since_us = mover->heard_us;
        mover->frames = 0;
        mover->bytes = 0;
    }
    mover->bytes += size;
    return ++mover->frames > FRAMES_A_SECOND || mover->bytes > BYTES_A_SECOND;
}

/* Hands on what is whole in the buffer. False when the descriptor is of no more use. */
static bool handle_frames(LpmMover *mover, const char **ret_why)
{
    size_t done = 0;
    bool good = true;
    mover->busy++;
    while (good && !mover->released) {
        LpmStreamHeader header;
        LpmStreamMessage message;
        size_t used = 0;
        LpmStreamStatus status = lpm_stream_unpack(mover->in->data + done, mover->in->len - done,
                                                   &header, &message, &used);
        if (status == LPM_STREAM_SHORT) {
            break;
        }
        good = (status == LPM_STREAM_OK || status == LPM_STREAM_SKIP);
        good = good && lpm_stream_verify(&mover->verifier, &header) <= LPM_STREAM_SKIP;
        if (good && floods(mover, used)) {
            *ret_why = "it said more than it may in a second, and was killed";
            good = false;
        }
        if (good && status == LPM_STREAM_OK) {
            if (header.type == LPM_STREAM_ERROR) {
                note_error(mover, &message);
            }
            if (header.type == LPM_STREAM_CONNECTED && mover->silence_watch == 0) {
                mover->looked_us = mover->heard_us;
                mover->silence_watch = g_timeout_add(LOOK_MS, look_for_silence, mover);
            }
            mover->handlers.event(header.type, &message, mover->handlers.data);
        }
        done += used;
    }
    mover->busy--;
    if (done > 0) {
        g_byte_array_remove_range(mover->in, 0, (guint)done);
    }
    return good;
}

static gboolean on_readable(int fd, GIOCondition condition, gpointer data)
{
    (void)condition;
    LpmMover *mover = data;
    guint had = mover->in->len;
    g_byte_array_set_size(mover->in, had + READ_SIZE);
    ssize_t got = read(fd, mover->in->data + had, READ_SIZE);
    g_byte_array_set_size(mover->in, had + (got > 0 ? (guint)got : 0));
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return G_SOURCE_CONTINUE;
    }
    if (mover->released) {
        g_byte_array_set_size(mover->in, 0);
    }
    mover->busy++;
    const char *why = "a malformed frame on its control descriptor";
    bool good = got > 0 && (mover->released || handle_frames(mover, &why));
    if (!good) {
        mover->in_watch = 0;
        if (got > 0) {
            g_subprocess_force_exit(mover->process);
            tell_gone(mover, why);
        }
        /* Otherwise its exit status, which follows at once, says more than the closed descriptor.
         */
    }
    mover->busy--;
    if (!good) {
        mover_free_if_done(mover);
        return G_SOURCE_REMOVE;
    }
    if (mover->released && mover->exited) {
        mover->in_watch = 0;
        mover_free_if_done(mover);
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

/* --- its process --- */

/* What it said last is still in the socket: an ERROR explains the exit status. */
static void drain(LpmMover *mover)
{
    const char *why;

    while (mover->in_watch != 0 && !mover->released) {
        guint had = mover->in->len;
        g_byte_array_set_size(mover->in, had + READ_SIZE);
        ssize_t got = read(mover->control, mover->in->data + had, READ_SIZE);
        g_byte_array_set_size(mover->in, had + (got > 0 ? (guint)got : 0));
        if (got <= 0 || !handle_frames(mover, &why)) {
            return;
        }
    }
}

static void process_ended(GObject *source, GAsyncResult *result, gpointer data)
{
    LpmMover *mover = data;
    g_subprocess_wait_finish(G_SUBPROCESS(source), result, NULL);
    g_autofree char *what = NULL;
    if (g_subprocess_get_if_signaled(mover->process)) {
        what = g_strdup_printf("signal %d", g_subprocess_get_term_sig(mover->process));
    } else {
        what = g_strdup_printf("exit status %d", g_subprocess_get_exit_status(mover->process));
    }
    mover->busy++;
    drain(mover);
    mover->busy--;
    mover->exited = true;
    tell_gone(mover, what);
    mover_free_if_done(mover);
}

/* --- writing --- */

static void clear_passing(gpointer data)
{
    lpm_bytes_close(&((Passing *)data)->fd);
}

/* Bytes up to the next descriptor, with the one that belongs to the first of them. */
static ssize_t send_some(const LpmMover *mover)
{
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(int))];
    } rights = {0};
    struct iovec part = {mover->out->data, mover->out->len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    for (guint i = 0; i < mover->passing->len; i++) {
        const Passing *passing = &g_array_index(mover->passing, Passing, i);
        if (passing->at > 0) {
            part.iov_len = MIN(part.iov_len, passing->at);
            break;
        }
        message.msg_control = rights.bytes;
        message.msg_controllen = sizeof rights.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &passing->fd, sizeof(int));
    }
    return sendmsg(mover->control, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void was_sent(LpmMover *mover, size_t sent)
{
    g_byte_array_remove_range(mover->out, 0, (guint)sent);
    if (mover->passing->len > 0 && g_array_index(mover->passing, Passing, 0).at == 0) {
        g_array_remove_index(mover->passing, 0);
    }
    for (guint i = 0; i < mover->passing->len; i++) {
        g_array_index(mover->passing, Passing, i).at -= sent;
    }
}

static bool flush(LpmMover *mover)
{
    while (mover->out->len > 0) {
        ssize_t sent = send_some(mover);
        if (sent < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        was_sent(mover, (size_t)sent);
    }
    return true;
}

static gboolean on_writable(int fd, GIOCondition condition, gpointer data)
{
    (void)fd;
    (void)condition;
    LpmMover *mover = data;
    if (flush(mover) && mover->out->len > 0) {
        return G_SOURCE_CONTINUE;
    }
    mover->out_watch = 0;
    return G_SOURCE_REMOVE;
}

void lpm_mover_send(LpmMover *mover, uint32_t type, const LpmStreamMessage *message)
{
    static const LpmStreamMessage nothing;
    if (mover->exited || mover->out->len > OUT_MAX) {
        return;
    }
    size_t size = 0, capacity = LPM_STREAM_HEADER_SIZE + LPM_STREAM_PEER_MAX + 1024;
    g_autofree uint8_t *frame = g_malloc(capacity);
    LpmStreamStatus status = lpm_stream_pack(type, message ? message : &nothing, mover->migration,
                                             0, frame, capacity, &size);
    if (status != LPM_STREAM_OK) {
        return;
    }
    g_byte_array_append(mover->out, frame, (guint)size);
    flush(mover);
    if (mover->out->len > 0 && mover->out_watch == 0) {
        mover->out_watch = g_unix_fd_add(mover->control, G_IO_OUT, on_writable, mover);
    }
}

static void send_with_fd(LpmMover *mover, uint32_t type, const LpmStreamMessage *message, int fd)
{
    if (mover->exited || mover->out->len > OUT_MAX) {
        lpm_bytes_close(&fd);
        return;
    }
    Passing passing = {mover->out->len, fd};
    g_array_append_val(mover->passing, passing);
    lpm_mover_send(mover, type, message);
}

void lpm_mover_send_link(LpmMover *mover, uint8_t connection, int fd)
{
    LpmStreamMessage message = {.link.connection = connection};
    send_with_fd(mover, LPM_STREAM_LINK, &message, fd);
}

void lpm_mover_send_channel(LpmMover *mover, uint8_t channel, int fd)
{
    LpmStreamMessage message = {.channel.channel = channel};
    send_with_fd(mover, LPM_STREAM_CHANNEL, &message, fd);
}

void lpm_mover_send_peer(LpmMover *mover, const char *text)
{
    LpmStreamMessage message = {.peer = {(const uint8_t *)text, (uint32_t)strlen(text)}};
    lpm_mover_send(mover, LPM_STREAM_PEER, &message);
}

void lpm_mover_send_hint(LpmMover *mover, uint64_t epoch, uint32_t what)
{
    LpmStreamMessage message = {.hint = {.epoch = epoch, .what = what}};
    lpm_mover_send(mover, (uint32_t)LPM_STREAM_HINT, &message);
}

/* --- starting --- */

static void big_buffer(int fd)
{
    int size = VASI_BUFFER;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
}

bool lpm_mover_vasi(int *ret_qemu, int *ret_mover, GError **error)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "cannot make the VASI socket pair: %s",
                             g_strerror(errno));
    }
    big_buffer(ends[0]);
    big_buffer(ends[1]);
    *ret_qemu = ends[0];
    *ret_mover = ends[1];
    return true;
}

/* Numbers that the descriptors have in the mover. */
enum {
    CHILD_CONTROL = 3,
    CHILD_VASI,
    CHILD_MEMORY,
    CHILD_CERT,
    CHILD_KEY,
    CHILD_CA,
    CHILD_IMAGE,
    CHILD_NET, /* the first of them */
};

typedef struct {
    GSubprocessLauncher *launcher;
    GPtrArray *argv;
} Spawn;

static bool pass(Spawn *spawn, const char *option, int fd, int child, GError **error)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, CHILD_NET + LPM_MOVER_NETS_MAX);
    if (copy < 0) {
        return lpm_error_set(error, LPM_ERROR_INTERNAL, "cannot duplicate the mover's %s: %s",
                             option, g_strerror(errno));
    }
    g_subprocess_launcher_take_fd(spawn->launcher, copy, child);
    g_ptr_array_add(spawn->argv, g_strdup_printf("--%s=%d", option, child));
    return true;
}

/* One option with all of them: --net=9,10 */
static bool pass_nets(Spawn *spawn, const LpmMoverSpec *spec, GError **error)
{
    g_autoptr(GString) option = g_string_new("--net=");
    for (unsigned i = 0; i < spec->n_nets; i++) {
        int copy = fcntl(spec->nets[i], F_DUPFD_CLOEXEC, CHILD_NET + LPM_MOVER_NETS_MAX);
        if (copy < 0) {
            return lpm_error_set(error, LPM_ERROR_INTERNAL, "cannot duplicate the mover's net: %s",
                                 g_strerror(errno));
        }
        g_subprocess_launcher_take_fd(spawn->launcher, copy, CHILD_NET + (int)i);
        g_string_append_printf(option, "%s%d", i > 0 ? "," : "", CHILD_NET + (int)i);
    }
    g_ptr_array_add(spawn->argv, g_strdup(option->str));
    return true;
}

static bool pass_file(Spawn *spawn, const char *option, const char *path, int child, GError **error)
{
    LPM_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return lpm_error_set(error, LPM_ERROR_STORAGE, "cannot open %s for the mover: %s", path,
                             g_strerror(errno));
    }
    return pass(spawn, option, fd, child, error);
}

static GSubprocess *spawn_mover(const LpmMoverSpec *spec, int control, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_SILENCE);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    Spawn spawn = {launcher, argv};
    g_ptr_array_add(argv, g_strdup(spec->program));
    bool passed =
        pass(&spawn, "control", control, CHILD_CONTROL, error) && pass_nets(&spawn, spec, error) &&
        (spec->vasi < 0 || pass(&spawn, "vasi", spec->vasi, CHILD_VASI, error)) &&
        (spec->memory < 0 || pass(&spawn, "memory", spec->memory, CHILD_MEMORY, error)) &&
        (spec->image < 0 || pass(&spawn, "image", spec->image, CHILD_IMAGE, error)) &&
        (!spec->cert_path || (pass_file(&spawn, "cert", spec->cert_path, CHILD_CERT, error) &&
                              pass_file(&spawn, "key", spec->key_path, CHILD_KEY, error) &&
                              pass_file(&spawn, "ca", spec->ca_path, CHILD_CA, error)));
    if (!passed) {
        return NULL;
    }
    g_ptr_array_add(argv, NULL);
    GSubprocess *process =
        g_subprocess_launcher_spawnv(launcher, (const char *const *)argv->pdata, error);
    if (!process) {
        g_prefix_error(error, "cannot start the mover %s: ", spec->program);
    }
    return process;
}

LpmMover *lpm_mover_start(const LpmMoverSpec *spec, const LpmMoverHandlers *handlers,
                          GError **error)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        lpm_error_set(error, LPM_ERROR_INTERNAL, "cannot make the mover's control socket: %s",
                      g_strerror(errno));
        return NULL;
    }
    LPM_AUTO_FD int ours = ends[0];
    LPM_AUTO_FD int theirs = ends[1];
    g_autoptr(GError) failure = NULL;
    GSubprocess *process = spawn_mover(spec, theirs, &failure);
    if (!process) {
        lpm_error_set(error, LPM_ERROR_MOVER, "%s", failure->message);
        return NULL;
    }
    LpmMover *mover = g_new0(LpmMover, 1);
    mover->handlers = *handlers;
    mover->process = process;
    mover->keeps_image = spec->image >= 0;
    mover->control = lpm_bytes_steal_fd(&ours);
    g_unix_set_fd_nonblocking(mover->control, TRUE, NULL);
    memcpy(mover->migration, spec->config.migration, sizeof mover->migration);
    mover->verifier = lpm_stream_verifier(LPM_STREAM_FROM_MOVER, mover->migration);
    mover->in = g_byte_array_new();
    mover->out = g_byte_array_new();
    mover->passing = g_array_new(FALSE, FALSE, sizeof(Passing));
    g_array_set_clear_func(mover->passing, clear_passing);
    mover->in_watch = g_unix_fd_add_full(G_PRIORITY_HIGH, mover->control,
                                         G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, mover, NULL);
    g_subprocess_wait_async(process, NULL, process_ended, mover);
    LpmStreamMessage message = {.config = spec->config};
    message.config.features = lpm_release_stream_features();
    lpm_mover_send(mover, LPM_STREAM_CONFIG, &message);
    return mover;
}

bool lpm_mover_is_alive(const LpmMover *mover)
{
    return mover && !mover->exited && !mover->told;
}

/* --- letting go --- */

static gboolean kill_late(gpointer data)
{
    LpmMover *mover = data;
    mover->timer = 0;
    g_subprocess_force_exit(mover->process);
    return G_SOURCE_REMOVE;
}

static void let_go(LpmMover *mover, unsigned patience_ms)
{
    mover->released = true;
    if (!mover->exited) {
        mover->timer = g_timeout_add(patience_ms, kill_late, mover);
    }
    mover_free_if_done(mover);
}

void lpm_mover_finish(LpmMover *mover)
{
    if (mover) {
        lpm_mover_send(mover, LPM_STREAM_FINISH, NULL);
        let_go(mover, mover->keeps_image ? SEAL_MS : FINISH_MS);
    }
}

void lpm_mover_abort(LpmMover *mover, const char *reason)
{
    if (mover) {
        LpmStreamMessage message = {.reason.code = LPM_STREAM_ERR_ABORTED};
        g_strlcpy(message.reason.reason, reason, sizeof message.reason.reason);
        lpm_mover_send(mover, LPM_STREAM_ABORT, &message);
        let_go(mover, ABORT_MS);
    }
}

void lpm_mover_kill(LpmMover *mover)
{
    if (mover) {
        g_subprocess_force_exit(mover->process);
        let_go(mover, ABORT_MS);
    }
}
