/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/records.h"

#define U8(Struct, member, low, high)                                                              \
    {                                                                                              \
        FIELD_U8, offsetof(Struct, member), 0, (low), (high), 0                                    \
    }
#define U16(Struct, member)                                                                        \
    {                                                                                              \
        FIELD_U16, offsetof(Struct, member), 0, 0, UINT16_MAX, 0                                   \
    }
#define U32(Struct, member, high)                                                                  \
    {                                                                                              \
        FIELD_U32, offsetof(Struct, member), 0, 0, (high), 0                                       \
    }
#define U64(Struct, member)                                                                        \
    {                                                                                              \
        FIELD_U64, offsetof(Struct, member), 0, 0, UINT64_MAX, 0                                   \
    }
#define BYTES(Struct, member, size)                                                                \
    {                                                                                              \
        FIELD_BYTES, offsetof(Struct, member), 0, 0, (size), 0                                     \
    }
#define TEXT(Struct, member)                                                                       \
    {                                                                                              \
        FIELD_TEXT, offsetof(Struct, member), 0, 0, LPM_STREAM_NAME_MAX, 0                         \
    }
#define LIST(Struct, count, array, most)                                                           \
    {                                                                                              \
        FIELD_LIST, offsetof(Struct, count), offsetof(Struct, array), 0, (most), 0                 \
    }
#define TAIL(Struct, pointer, low, high, step)                                                     \
    {                                                                                              \
        FIELD_TAIL, offsetof(Struct, pointer), offsetof(Struct, size), (low), (high), (step)       \
    }

enum {
    WINDOW_MAX = 64 * 1024 * 1024,
    PAGE_ENTRY = 8 + LPM_STREAM_PAGE_SIZE,
};

static const Field hello_fields[] = {
    U16(LpmStreamHello, version_min),
    U16(LpmStreamHello, version_max),
    U64(LpmStreamHello, features),
    U8(LpmStreamHello, side, LPM_STREAM_SIDE_SRC, LPM_STREAM_SIDE_DST),
    U8(LpmStreamHello, mode, LPM_STREAM_MODE_MOVE, LPM_STREAM_MODE_PROBE),
    U8(LpmStreamHello, codec, LPM_STREAM_CODEC_RAW, UINT8_MAX),
    U8(LpmStreamHello, connection, 0, LPM_STREAM_CONNECTIONS_MAX - 1),
    U8(LpmStreamHello, connections, 1, LPM_STREAM_CONNECTIONS_MAX),
    U32(LpmStreamHello, window, WINDOW_MAX),
    U64(LpmStreamHello, received),
    BYTES(LpmStreamHello, proof, LPM_STREAM_KEY_SIZE),
    TEXT(LpmStreamHello, system),
};
static const Field hello_ack_fields[] = {
    U16(LpmStreamHelloAck, version),
    U64(LpmStreamHelloAck, features),
    U32(LpmStreamHelloAck, window, WINDOW_MAX),
    U64(LpmStreamHelloAck, received),
    BYTES(LpmStreamHelloAck, proof, LPM_STREAM_KEY_SIZE),
};
static const Field data_fields[] = {
    U64(LpmStreamData, offset),
    TAIL(LpmStreamData, data, 1, LPM_STREAM_DATA_MAX, 1),
};
static const Field ack_fields[] = {U64(LpmStreamAck, sequence), U64(LpmStreamAck, offset)};
static const Field coded_fields[] = {
    U8(LpmStreamChannelData, channel, 0, LPM_STREAM_CHANNELS_MAX),
    U64(LpmStreamChannelData, offset),
    TAIL(LpmStreamChannelData, data, 1, LPM_STREAM_CODED_MAX, 1),
};
static const Field channel_data_fields[] = {
    U8(LpmStreamChannelData, channel, 1, LPM_STREAM_CHANNELS_MAX),
    U64(LpmStreamChannelData, offset),
    TAIL(LpmStreamChannelData, data, 1, LPM_STREAM_DATA_MAX, 1),
};
static const Field channel_fin_fields[] = {
    U8(LpmStreamChannelTotal, channel, 1, LPM_STREAM_CHANNELS_MAX),
    U64(LpmStreamChannelTotal, total),
};
static const Field miss_fields[] = {U64(LpmStreamMiss, sequence)};
static const Field replace_fields[] = {
    U64(LpmStreamReplace, sequence),
    TAIL(LpmStreamReplace, data, 1, LPM_STREAM_DATA_MAX, 1),
};
static const Field base_fields[] = {
    BYTES(LpmStreamBase, image, LPM_STREAM_ID_SIZE),
    BYTES(LpmStreamBase, root, LPM_STREAM_DIGEST_SIZE),
};
static const Field base_ack_fields[] = {U8(LpmStreamBaseAck, usable, 0, 1)};
static const Field seal_fields[] = {BYTES(LpmStreamSeal, image, LPM_STREAM_ID_SIZE)};
static const Field end_fields[] = {
    U64(LpmStreamEnd, total),
    BYTES(LpmStreamEnd, digest, LPM_STREAM_DIGEST_SIZE),
};
static const Field total_fields[] = {U64(LpmStreamTotal, total)};
static const Field hint_fields[] = {
    U64(LpmStreamHint, epoch),
    U32(LpmStreamHint, what, UINT32_MAX),
};
static const Field peer_fields[] = {TAIL(LpmStreamPeer, data, 0, LPM_STREAM_PEER_MAX, 1)};
static const Field reason_fields[] = {
    U32(LpmStreamReason, code, UINT32_MAX),
    TEXT(LpmStreamReason, reason),
};
static const Field stamp_fields[] = {U64(LpmStreamStamp, stamp)};
static const Field probe_done_fields[] = {
    U64(LpmStreamProbeDone, bytes),
    U64(LpmStreamProbeDone, time_us),
};
static const Field hashes_fields[] = {
    U64(LpmStreamVerifyHashes, first),
    U32(LpmStreamVerifyHashes, count, LPM_STREAM_VERIFY_BATCH),
    TAIL(LpmStreamVerifyHashes, digests, 0, LPM_STREAM_VERIFY_BATCH *LPM_STREAM_PAGE_DIGEST_SIZE,
         LPM_STREAM_PAGE_DIGEST_SIZE),
};
static const Field pages_fields[] = {
    TAIL(LpmStreamVerifyPages, data, PAGE_ENTRY, LPM_STREAM_VERIFY_PAGES *PAGE_ENTRY, PAGE_ENTRY),
};
static const Field verified_fields[] = {
    U64(LpmStreamVerified, compared),
    U64(LpmStreamVerified, differing),
    U64(LpmStreamVerified, repaired),
    LIST(LpmStreamVerified, listed, pages, LPM_STREAM_DIFFERING_MAX),
};
static const Field config_fields[] = {
    U8(LpmStreamConfig, side, LPM_STREAM_SIDE_SRC, LPM_STREAM_SIDE_DST),
    U8(LpmStreamConfig, mode, LPM_STREAM_MODE_MOVE, LPM_STREAM_MODE_PROBE),
    U8(LpmStreamConfig, transport, LPM_STREAM_TRANSPORT_TLS, LPM_STREAM_TRANSPORT_PLAIN),
    U8(LpmStreamConfig, codec, LPM_STREAM_CODEC_RAW, LPM_STREAM_CODEC_AUTO),
    BYTES(LpmStreamConfig, migration, LPM_STREAM_ID_SIZE),
    BYTES(LpmStreamConfig, key, LPM_STREAM_KEY_SIZE),
    TEXT(LpmStreamConfig, system),
    TEXT(LpmStreamConfig, peer),
    U64(LpmStreamConfig, features),
    U32(LpmStreamConfig, window, WINDOW_MAX),
    U64(LpmStreamConfig, max_rate),
    U32(LpmStreamConfig, connect_ms, UINT32_MAX),
    U32(LpmStreamConfig, silence_ms, UINT32_MAX),
    U32(LpmStreamConfig, stats_ms, UINT32_MAX),
    U64(LpmStreamConfig, probe_bytes),
    U64(LpmStreamConfig, memory_size),
    U8(LpmStreamConfig, connections, 0, LPM_STREAM_CONNECTIONS_MAX),
    U32(LpmStreamConfig, retry_ms, UINT32_MAX),
    U8(LpmStreamConfig, image, 0, 1),
    BYTES(LpmStreamConfig, image_key, LPM_STREAM_KEY_SIZE),
    U8(LpmStreamConfig, channels, 0, LPM_STREAM_CHANNELS_MAX),
};
static const Field rate_fields[] = {U64(LpmStreamRate, max_rate)};
static const Field link_fields[] = {
    U8(LpmStreamLink, connection, 0, LPM_STREAM_CONNECTIONS_MAX - 1),
};
static const Field channel_fields[] = {
    U8(LpmStreamChannel, channel, 0, LPM_STREAM_CHANNELS_MAX),
};
static const Field need_link_fields[] = {
    U8(LpmStreamNeedLink, connection, 0, LPM_STREAM_CONNECTIONS_MAX - 1),
    TEXT(LpmStreamNeedLink, reason),
};
static const Field link_state_fields[] = {
    U8(LpmStreamLinkState, connection, 0, LPM_STREAM_CONNECTIONS_MAX - 1),
    U8(LpmStreamLinkState, up, 0, 1),
    U32(LpmStreamLinkState, ms_down, UINT32_MAX),
    TEXT(LpmStreamLinkState, reason),
};
static const Field connected_fields[] = {
    U16(LpmStreamConnected, version),
    U64(LpmStreamConnected, features),
    U32(LpmStreamConnected, rtt_us, UINT32_MAX),
    TEXT(LpmStreamConnected, system),
    TEXT(LpmStreamConnected, cipher),
};
static const Field stats_fields[] = {
    U8(LpmStreamStats, state, LPM_STREAM_STATE_CONNECTING, LPM_STREAM_STATE_CLOSING),
    U64(LpmStreamStats, stream_out),
    U64(LpmStreamStats, stream_in),
    U64(LpmStreamStats, wire_out),
    U64(LpmStreamStats, wire_in),
    U64(LpmStreamStats, acked),
    U64(LpmStreamStats, rate_out),
    U64(LpmStreamStats, rate_in),
    U64(LpmStreamStats, stalls),
    U64(LpmStreamStats, stall_us),
    U32(LpmStreamStats, rtt_us, UINT32_MAX),
    U64(LpmStreamStats, verified_pages),
    U64(LpmStreamStats, coded.pages_zero),
    U64(LpmStreamStats, coded.pages_same),
    U64(LpmStreamStats, coded.pages_reference),
    U64(LpmStreamStats, coded.pages_delta),
    U64(LpmStreamStats, coded.pages_literal),
    U64(LpmStreamStats, coded.raw_bytes),
    U64(LpmStreamStats, coded.coded_bytes),
    U32(LpmStreamStats, reconnects, UINT32_MAX),
    U64(LpmStreamStats, resent_bytes),
    U8(LpmStreamStats, links_up, 0, LPM_STREAM_CONNECTIONS_MAX),
};
static const Field probed_fields[] = {
    U32(LpmStreamProbed, rtt_us, UINT32_MAX),
    U64(LpmStreamProbed, bytes),
    U64(LpmStreamProbed, time_us),
    U64(LpmStreamProbed, rate),
};

/* The bits of version, window and the like that one field alone cannot tell. */
static bool check_hello(const LpmStreamMessage *m)
{
    return m->hello.version_min <= m->hello.version_max &&
           m->hello.connection < m->hello.connections;
}

static bool check_hashes(const LpmStreamMessage *m)
{
    const LpmStreamVerifyHashes *h = &m->hashes;
    return h->count > 0 && h->first <= UINT64_MAX / LPM_STREAM_PAGE_SIZE - h->count &&
           (h->size == 0 || h->size == h->count * LPM_STREAM_PAGE_DIGEST_SIZE);
}

enum {
    WIRE = LPM_STREAM_FROM_SRC | LPM_STREAM_FROM_DST,
    SRC = LPM_STREAM_FROM_SRC,
    DST = LPM_STREAM_FROM_DST,
    HOST = LPM_STREAM_FROM_HOST,
    MOVER = LPM_STREAM_FROM_MOVER,
    EVERYBODY = WIRE | HOST | MOVER,
};

#define FIELDS(list) (list), sizeof(list) / sizeof((list)[0])

static const Record records[] = {
    {LPM_STREAM_HELLO, "hello", SRC, false, FIELDS(hello_fields), check_hello},
    {LPM_STREAM_HELLO_ACK, "hello-ack", DST, false, FIELDS(hello_ack_fields), NULL},
    {LPM_STREAM_DATA, "data", WIRE, true, FIELDS(data_fields), NULL},
    {LPM_STREAM_ACK, "ack", WIRE, false, FIELDS(ack_fields), NULL},
    {LPM_STREAM_END, "end", SRC, true, FIELDS(end_fields), NULL},
    {LPM_STREAM_CHECK, "check", DST | HOST, true, FIELDS(total_fields), NULL},
    {LPM_STREAM_FIN, "fin", WIRE, true, FIELDS(total_fields), NULL},
    {LPM_STREAM_LOADED, "loaded", DST | HOST | MOVER, true, FIELDS(end_fields), NULL},
    {LPM_STREAM_PEER, "peer", EVERYBODY, true, FIELDS(peer_fields), NULL},
    {LPM_STREAM_ABORT, "abort", WIRE | HOST, false, FIELDS(reason_fields), NULL},
    {LPM_STREAM_PING, "ping", WIRE, false, FIELDS(stamp_fields), NULL},
    {LPM_STREAM_PONG, "pong", WIRE, false, FIELDS(stamp_fields), NULL},
    {LPM_STREAM_CLOSE, "close", WIRE, true, NULL, 0, NULL},
    {LPM_STREAM_PROBE_DATA, "probe-data", SRC, true, FIELDS(data_fields), NULL},
    {LPM_STREAM_PROBE_DONE, "probe-done", DST, true, FIELDS(probe_done_fields), NULL},
    {LPM_STREAM_VERIFY_HASHES, "verify-hashes", DST, true, FIELDS(hashes_fields), check_hashes},
    {LPM_STREAM_VERIFY_PAGES_DATA, "verify-pages", SRC, true, FIELDS(pages_fields), NULL},
    {LPM_STREAM_VERIFY_END, "verify-end", WIRE, true, FIELDS(verified_fields), NULL},
    {LPM_STREAM_VERIFY_REPORT, "verify-report", DST, true, FIELDS(verified_fields), NULL},
    {LPM_STREAM_CODED, "coded", SRC, true, FIELDS(coded_fields), NULL},
    {LPM_STREAM_CHANNEL_DATA, "channel-data", SRC, true, FIELDS(channel_data_fields), NULL},
    {LPM_STREAM_CHANNEL_FIN, "channel-fin", SRC, true, FIELDS(channel_fin_fields), NULL},
    {LPM_STREAM_MISS, "miss", DST, true, FIELDS(miss_fields), NULL},
    {LPM_STREAM_REPLACE, "replace", SRC, false, FIELDS(replace_fields), NULL},
    {LPM_STREAM_BASE, "base", SRC, true, FIELDS(base_fields), NULL},
    {LPM_STREAM_BASE_ACK, "base-ack", DST, true, FIELDS(base_ack_fields), NULL},
    {LPM_STREAM_SEAL, "seal", SRC, true, FIELDS(seal_fields), NULL},
    {LPM_STREAM_HINT, "hint", EVERYBODY, true, FIELDS(hint_fields), NULL},
    {LPM_STREAM_CONFIG, "config", HOST, false, FIELDS(config_fields), NULL},
    {LPM_STREAM_SWITCHOVER, "switchover", HOST, false, NULL, 0, NULL},
    {LPM_STREAM_VERIFY, "verify", HOST, false, NULL, 0, NULL},
    {LPM_STREAM_RATE, "rate", HOST, false, FIELDS(rate_fields), NULL},
    {LPM_STREAM_GET_STATS, "get-stats", HOST, false, NULL, 0, NULL},
    {LPM_STREAM_FINISH, "finish", HOST, false, NULL, 0, NULL},
    {LPM_STREAM_LINK, "link", HOST, false, FIELDS(link_fields), NULL},
    {LPM_STREAM_CHANNEL, "channel", HOST, false, FIELDS(channel_fields), NULL},
    {LPM_STREAM_READY, "ready", MOVER, false, NULL, 0, NULL},
    {LPM_STREAM_CONNECTED, "connected", MOVER, false, FIELDS(connected_fields), NULL},
    {LPM_STREAM_STATS, "stats", MOVER, false, FIELDS(stats_fields), NULL},
    {LPM_STREAM_DIGEST_OK, "digest-ok", MOVER, false, FIELDS(end_fields), NULL},
    {LPM_STREAM_VERIFIED, "verified", MOVER, false, FIELDS(verified_fields), NULL},
    {LPM_STREAM_PROBED, "probed", MOVER, false, FIELDS(probed_fields), NULL},
    {LPM_STREAM_VASI_EOF, "vasi-eof", MOVER, false, FIELDS(total_fields), NULL},
    {LPM_STREAM_PEER_CLOSED, "peer-closed", MOVER, false, NULL, 0, NULL},
    {LPM_STREAM_REFUSED, "refused", MOVER, false, FIELDS(reason_fields), NULL},
    {LPM_STREAM_ERROR, "error", MOVER, false, FIELDS(reason_fields), NULL},
    {LPM_STREAM_FINISHED, "finished", MOVER, false, NULL, 0, NULL},
    {LPM_STREAM_NEED_CHANNEL, "need-channel", MOVER, false, FIELDS(channel_fields), NULL},
    {LPM_STREAM_NEED_LINK, "need-link", MOVER, false, FIELDS(need_link_fields), NULL},
    {LPM_STREAM_LINK_STATE, "link-state", MOVER, false, FIELDS(link_state_fields), NULL},
};

const Record *lpm_stream_record(uint32_t type)
{
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
        if (records[i].type == type)
            return &records[i];
    return NULL;
}

const char *lpm_stream_type_name(uint32_t type)
{
    const Record *record = lpm_stream_record(type);
    return record ? record->name : "unknown";
}

bool lpm_stream_type_ordered(uint32_t type)
{
    const Record *record = lpm_stream_record(type);
    return record && record->ordered;
}

void lpm_stream_record_limits(const Record *record, uint64_t *ret_min, uint64_t *ret_max)
{
    uint64_t min = 0, max = 0;
    for (uint32_t i = 0; i < record->n_fields; i++) {
        const Field *f = &record->fields[i];
        switch (f->kind) {
        case FIELD_U8:
        case FIELD_U16:
        case FIELD_U32:
        case FIELD_U64:
            min += (uint64_t)1 << f->kind; /* the kinds are in the order of their sizes */
            max += (uint64_t)1 << f->kind;
            break;
        case FIELD_BYTES:
            min += f->max;
            max += f->max;
            break;
        case FIELD_TEXT:
            min += 2;
            max += 2 + f->max;
            break;
        case FIELD_LIST:
            min += 4;
            max += 4 + 8 * f->max;
            break;
        case FIELD_TAIL:
            min += f->min;
            max += f->max;
            break;
        }
    }
    *ret_min = min;
    *ret_max = max;
}
