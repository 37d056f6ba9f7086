/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire between two movers, and the frames on the mover's control descriptor: encoding,
 * decoding, and the rules of who may send what. Specified in docs/spec/stream-format.md and
 * docs/spec/mover.md; this header mirrors them. Pure: no I/O, no clock, no allocation. Everything
 * is little-endian and decoded field by field.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LPM_STREAM_VERSION = 1,
    LPM_STREAM_HEADER_SIZE = 56,
    LPM_STREAM_ID_SIZE = 16,
    LPM_STREAM_DIGEST_SIZE = 32, /* of a stream, made of SHA-256 */
    LPM_STREAM_KEY_SIZE = 32,    /* one-time move key, and proofs made with it */
    LPM_STREAM_NAME_MAX = 255, /* bytes of a system's name or of a reason, without the final zero */
    LPM_STREAM_PEER_MAX = 64 * 1024,   /* bytes of one PEER message */
    LPM_STREAM_DATA_MAX = 256 * 1024,  /* bytes of stream in one DATA frame */
    LPM_STREAM_CODED_MAX = 300 * 1024, /* bytes of one coded batch */
    LPM_STREAM_BODY_MAX = 320 * 1024,  /* no frame of this version has a longer body */
    LPM_STREAM_PAGE_SIZE = 4096,       /* of --verify */
    LPM_STREAM_PAGE_DIGEST_SIZE = 16,  /* XXH3-128 of one page, keyed */
    LPM_STREAM_VERIFY_BATCH = 4096,    /* pages in one VERIFY_HASHES */
    LPM_STREAM_VERIFY_PAGES = 32,      /* pages in one VERIFY_PAGES */
    LPM_STREAM_DIFFERING_MAX = 16,     /* page numbers listed in a report */
    LPM_STREAM_CONNECTIONS_MAX = 16,   /* of one migration */
    LPM_STREAM_CHANNELS_MAX = 16,      /* of QEMU's multifd, besides the main stream */
};
#define LPM_STREAM_MAGIC 0x314D504Cu /* "LPM1" */
#define LPM_STREAM_OPTIONAL                                                                        \
    0x80000000u /* bit of the type: who does not know the record skips it                          \
                 */

/* Record types; bodies are the structs below. */
typedef enum {
    /* the wire */
    LPM_STREAM_HELLO = 1,
    LPM_STREAM_HELLO_ACK = 2,
    LPM_STREAM_DATA = 3,
    LPM_STREAM_ACK = 4,
    LPM_STREAM_END = 5,
    LPM_STREAM_CHECK = 6,
    LPM_STREAM_FIN = 7,
    LPM_STREAM_LOADED = 8,
    LPM_STREAM_PEER = 9,
    LPM_STREAM_ABORT = 10,
    LPM_STREAM_PING = 11,
    LPM_STREAM_PONG = 12,
    LPM_STREAM_CLOSE = 13,
    LPM_STREAM_PROBE_DATA = 14,
    LPM_STREAM_PROBE_DONE = 15,
    LPM_STREAM_VERIFY_HASHES = 16,
    LPM_STREAM_VERIFY_PAGES_DATA = 17,
    LPM_STREAM_VERIFY_END = 18,
    LPM_STREAM_VERIFY_REPORT = 19,
    LPM_STREAM_CODED = 21,
    LPM_STREAM_CHANNEL_DATA = 22,
    LPM_STREAM_CHANNEL_FIN = 23,
    LPM_STREAM_MISS = 24,
    LPM_STREAM_REPLACE = 25,
    LPM_STREAM_BASE = 26,
    LPM_STREAM_BASE_ACK = 27,
    LPM_STREAM_SEAL = 28,
    /* control descriptor, lpm-host to lpm-mover; CHECK, LOADED, PEER, HINT and ABORT are used
       there, too */
    LPM_STREAM_CONFIG = 0x101,
    LPM_STREAM_SWITCHOVER = 0x102,
    LPM_STREAM_VERIFY = 0x103,
    LPM_STREAM_RATE = 0x104,
    LPM_STREAM_GET_STATS = 0x105,
    LPM_STREAM_FINISH = 0x106,
    LPM_STREAM_LINK = 0x107,
    LPM_STREAM_CHANNEL = 0x108,
    /* control descriptor, lpm-mover to lpm-host; LOADED, PEER and HINT of the other side are handed
       on as they are */
    LPM_STREAM_READY = 0x181,
    LPM_STREAM_CONNECTED = 0x182,
    LPM_STREAM_STATS = 0x183,
    LPM_STREAM_DIGEST_OK = 0x184,
    LPM_STREAM_VERIFIED = 0x185,
    LPM_STREAM_PROBED = 0x186,
    LPM_STREAM_VASI_EOF = 0x187,
    LPM_STREAM_PEER_CLOSED = 0x188,
    LPM_STREAM_REFUSED = 0x189,
    LPM_STREAM_ERROR = 0x18a,
    LPM_STREAM_FINISHED = 0x18b,
    LPM_STREAM_NEED_LINK = 0x18c,
    LPM_STREAM_LINK_STATE = 0x18d,
    LPM_STREAM_NEED_CHANNEL = 0x18e,
} LpmStreamType;
#define LPM_STREAM_HINT (20u | LPM_STREAM_OPTIONAL) /* not in the enum: it does not fit an int */

typedef enum { LPM_STREAM_SIDE_SRC = 1, LPM_STREAM_SIDE_DST = 2 } LpmStreamSide;
typedef enum { LPM_STREAM_MODE_MOVE = 1, LPM_STREAM_MODE_PROBE = 2 } LpmStreamMode;
typedef enum { LPM_STREAM_TRANSPORT_TLS = 1, LPM_STREAM_TRANSPORT_PLAIN = 2 } LpmStreamTransport;
typedef enum {
    LPM_STREAM_CODEC_RAW = 1,  /* DATA only */
    LPM_STREAM_CODEC_AUTO = 2, /* CODED, with as much work as pays on this link */
} LpmStreamCodec;

/* Features; both sides speak what both offer. */
#define LPM_STREAM_FEATURE_VERIFY   0x01u /* memory compared in the blackout */
#define LPM_STREAM_FEATURE_CODED    0x02u /* CODED, MISS, REPLACE */
#define LPM_STREAM_FEATURE_IMAGES   0x04u /* BASE, BASE_ACK, SEAL; needs CODED */
#define LPM_STREAM_FEATURE_CHANNELS 0x08u /* CHANNEL_DATA, CHANNEL_FIN */
#define LPM_STREAM_FEATURE_RESUME   0x10u /* lost connections are replaced; several at once */
/* What the mover of this release speaks. */
#define LPM_STREAM_FEATURES_ALL                                                                    \
    (LPM_STREAM_FEATURE_VERIFY | LPM_STREAM_FEATURE_CODED | LPM_STREAM_FEATURE_IMAGES |            \
     LPM_STREAM_FEATURE_CHANNELS | LPM_STREAM_FEATURE_RESUME)

/* What a mover is doing, in STATS. */
typedef enum {
    LPM_STREAM_STATE_CONNECTING = 1,
    LPM_STREAM_STATE_COPYING = 2,
    LPM_STREAM_STATE_LOADED = 3,
    LPM_STREAM_STATE_CLOSING = 4,
} LpmStreamState;

/*
 * Why a mover ended: code in ABORT and ERROR, and its exit status. One table
 * (lpm_stream_error_text) has the name and what to do.
 */
typedef enum {
    LPM_STREAM_ERR_NONE = 0,
    LPM_STREAM_ERR_USAGE = 2,       /* bad option or descriptor */
    LPM_STREAM_ERR_CONFIG = 3,      /* first control frame missing or wrong */
    LPM_STREAM_ERR_SANDBOX = 4,     /* could not be locked in */
    LPM_STREAM_ERR_CREDENTIALS = 5, /* own certificate, key or authority unusable */
    LPM_STREAM_ERR_CONNECT = 6,     /* no peer came, or the handshake took too long */
    LPM_STREAM_ERR_TLS = 7,         /* TLS failed: protocol, chain */
    LPM_STREAM_ERR_IDENTITY = 8,    /* the peer is another system than the one named */
    LPM_STREAM_ERR_KEY = 9,         /* the peer does not hold this migration's key */
    LPM_STREAM_ERR_VERSION = 10,    /* no common version */
    LPM_STREAM_ERR_LINK = 11,       /* connection lost or silent */
    LPM_STREAM_ERR_CHECKSUM = 12,   /* a frame was damaged */
    LPM_STREAM_ERR_PROTOCOL = 13,   /* a frame that breaks the rules */
    LPM_STREAM_ERR_UNKNOWN = 14,    /* mandatory record of an unknown type */
    LPM_STREAM_ERR_DIGEST = 15,     /* totals or digests differ */
    LPM_STREAM_ERR_VASI = 16,       /* QEMU's socket failed */
    LPM_STREAM_ERR_VERIFY = 17,     /* memory could not be read, written or repaired */
    LPM_STREAM_ERR_COMMAND = 18,    /* lpm-host asked for what is not allowed now */
    LPM_STREAM_ERR_HOST_GONE = 19,  /* control descriptor closed */
    LPM_STREAM_ERR_ABORTED = 20,    /* lpm-host said ABORT */
    LPM_STREAM_ERR_PEER = 21,       /* the peer said ABORT; the reason has its words */
    LPM_STREAM_ERR_INTERNAL = 22,   /* out of memory, or a system call that cannot fail did */
} LpmStreamError;

/* Name ("link-lost") and remedy of a code; the entry of INTERNAL for codes not in the table.
 * Static. */
const char *lpm_stream_error_name(uint32_t code);
const char *lpm_stream_error_remedy(uint32_t code);

/* --- bodies: one plain struct a record --- */

typedef struct {
    uint16_t version_min, version_max;
    uint64_t features;               /* offered */
    uint8_t side;                    /* LpmStreamSide of the sender */
    uint8_t mode;                    /* LpmStreamMode */
    uint8_t codec;                   /* LpmStreamCodec */
    uint8_t connection, connections; /* this one's number, from 0, and how many there are */
    uint32_t window;                 /* bytes that the sender of this accepts unacknowledged */
    uint64_t received;               /* last sequence of the other direction that came in order */
    uint8_t proof[LPM_STREAM_KEY_SIZE];   /* of the move key, bound to this TLS session */
    char system[LPM_STREAM_NAME_MAX + 1]; /* own name */
} LpmStreamHello;

typedef struct {
    uint16_t version;
    uint64_t features; /* spoken */
    uint32_t window;
    uint64_t received;
    uint8_t proof[LPM_STREAM_KEY_SIZE];
} LpmStreamHelloAck;

/* DATA and PROBE_DATA: @data borrows from the frame. */
typedef struct {
    uint64_t offset; /* of the first byte in its direction's stream */
    const uint8_t *data;
    uint32_t size;
} LpmStreamData;

typedef struct {
    uint64_t sequence; /* everything up to it was handed on */
    uint64_t offset;   /* bytes of stream handed on */
} LpmStreamAck;

/*
 * CODED: a coded batch of the stream of one channel (0: QEMU's main stream). CHANNEL_DATA: bytes of
 * a channel's stream (1 and up; the main stream's are DATA). @data borrows from the frame.
 */
typedef struct {
    uint8_t channel;
    uint64_t offset; /* bytes of this channel's stream before these, as QEMU wrote it */
    const uint8_t *data;
    uint32_t size;
} LpmStreamChannelData;

/* CHANNEL_FIN: QEMU closed this channel after so many bytes. */
typedef struct {
    uint8_t channel;
    uint64_t total;
} LpmStreamChannelTotal;

/* MISS: sequence of a CODED frame that the target cannot decode. */
typedef struct {
    uint64_t sequence;
} LpmStreamMiss;

/* REPLACE: the bytes of stream of that frame; @data borrows from the frame. */
typedef struct {
    uint64_t sequence;
    const uint8_t *data;
    uint32_t size;
} LpmStreamReplace;

typedef struct {
    uint8_t image[LPM_STREAM_ID_SIZE];    /* under which the source's image was sealed */
    uint8_t root[LPM_STREAM_DIGEST_SIZE]; /* digest of the image's digests; all zero: no image */
} LpmStreamBase;

typedef struct {
    uint8_t usable; /* 1: the target holds the very same; 0: both start with an empty image */
} LpmStreamBaseAck;

typedef struct {
    uint8_t image[LPM_STREAM_ID_SIZE]; /* both sides seal under this id when the move is good */
} LpmStreamSeal;

/* END, LOADED, DIGEST_OK: totals and digest of the original stream, source to target. */
typedef struct {
    uint64_t total;
    uint8_t digest[LPM_STREAM_DIGEST_SIZE];
} LpmStreamEnd;

/* CHECK on the wire: bytes handed on; on control: ignored. FIN, VASI_EOF: total bytes of that
 * direction. */
typedef struct {
    uint64_t total;
} LpmStreamTotal;

typedef struct {
    uint64_t epoch; /* of the ownership record, or of the mark */
    uint32_t what;  /* the hosts' business: they agree on what the record has become */
} LpmStreamHint;

typedef struct {
    const uint8_t *data; /* opaque message host to host; borrows from the frame */
    uint32_t size;
} LpmStreamPeer;

/* ABORT, ERROR, REFUSED */
typedef struct {
    uint32_t code; /* LpmStreamError */
    char reason[LPM_STREAM_NAME_MAX + 1];
} LpmStreamReason;

/* PING, PONG: the answer repeats the question. */
typedef struct {
    uint64_t stamp; /* the asker's monotonic nanoseconds */
} LpmStreamStamp;

typedef struct {
    uint64_t bytes;   /* received in the probe */
    uint64_t time_us; /* from its first to its last byte, at the target */
} LpmStreamProbeDone;

/*
 * Digests of @count pages from page @first on, 16 bytes each; a page of zeros has 16 zero bytes,
 * and no digests at all mean that all these pages are zero. @digests borrows from the frame.
 */
typedef struct {
    uint64_t first;
    uint32_t count;
    const uint8_t *digests;
    uint32_t size;
} LpmStreamVerifyHashes;

/* Page numbers and contents: @size is a multiple of 8 + 4096; borrows from the frame. */
typedef struct {
    const uint8_t *data;
    uint32_t size;
} LpmStreamVerifyPages;

/* VERIFY_END (repaired is 0), VERIFY_REPORT, VERIFIED */
typedef struct {
    uint64_t compared, differing, repaired;
    uint32_t listed; /* entries of pages[] */
    uint64_t pages[LPM_STREAM_DIFFERING_MAX];
} LpmStreamVerified;

typedef struct {
    uint8_t side;      /* LpmStreamSide */
    uint8_t mode;      /* LpmStreamMode */
    uint8_t transport; /* LpmStreamTransport */
    uint8_t codec;     /* LpmStreamCodec */
    uint8_t migration[LPM_STREAM_ID_SIZE];
    uint8_t key[LPM_STREAM_KEY_SIZE];
    char system[LPM_STREAM_NAME_MAX + 1]; /* own name */
    char peer[LPM_STREAM_NAME_MAX + 1];   /* name that the peer's certificate must carry */
    uint64_t features;                    /* offered; 0: all */
    uint32_t window;                      /* bytes unacknowledged, 1 to 64 MiB; 0: 4 MiB */
    uint64_t max_rate;                    /* wire bytes/s to the peer; 0: unlimited */
    uint32_t connect_ms;                  /* until HELLO is answered; 0: 10,000 */
    uint32_t silence_ms;                  /* nothing heard from the peer; 0: 5,000 */
    uint32_t stats_ms;                    /* between STATS; 0: 100 */
    uint64_t probe_bytes; /* mode probe, source: how much to send; 0: round trip only */
    uint64_t memory_size; /* of the memory descriptor; 0: none */
    uint8_t connections;  /* TCP connections to use, 1 to 16; 0: 1. The source's counts */
    uint32_t retry_ms;    /* a lost link is waited for so long; 0: not at all */
    uint8_t image;        /* 1: keep and use an image of the partition's memory */
    uint8_t image_key[LPM_STREAM_KEY_SIZE]; /* the partition's secret, for the image */
    uint8_t channels;                       /* multifd channels of QEMU, 0 to 16 */
} LpmStreamConfig;

typedef struct {
    uint64_t max_rate; /* bytes/s; 0: unlimited */
} LpmStreamRate;

/* LINK: the descriptor that came with the frame's first byte is this connection. */
typedef struct {
    uint8_t connection;
} LpmStreamLink;

/*
 * CHANNEL: the descriptor that came with the frame's first byte is QEMU's socket of this channel
 * (0: the main stream). NEED_CHANNEL: the target's mover has bytes for it.
 */
typedef struct {
    uint8_t channel;
} LpmStreamChannel;

typedef struct {
    uint8_t connection; /* that lpm-host is to make */
    char reason[LPM_STREAM_NAME_MAX + 1];
} LpmStreamNeedLink;

typedef struct {
    uint8_t connection;
    uint8_t up;                           /* 0 or 1 */
    uint32_t ms_down;                     /* up: how long it was down; down: 0 */
    char reason[LPM_STREAM_NAME_MAX + 1]; /* down: why */
} LpmStreamLinkState;

typedef struct {
    uint16_t version;
    uint64_t features;
    uint32_t rtt_us;
    char system[LPM_STREAM_NAME_MAX + 1]; /* the peer's */
    char cipher[LPM_STREAM_NAME_MAX + 1]; /* e.g. "TLS1.3 AES-128-GCM" or "plain" */
} LpmStreamConnected;

/* What became of the stream's pages and bytes in coding, in STATS; since the start. */
typedef struct {
    uint64_t pages_zero, pages_same, pages_reference, pages_delta, pages_literal;
    uint64_t raw_bytes;   /* of stream */
    uint64_t coded_bytes; /* what they became */
} LpmStreamCodedCounts;

typedef struct {
    uint8_t state; /* LpmStreamState */
    uint64_t stream_out,
        stream_in;              /* bytes of QEMU's streams: to the peer; handed on from the peer */
    uint64_t wire_out, wire_in; /* bytes on the link, with frames and TLS */
    uint64_t acked;             /* bytes of stream_out that the peer handed on */
    uint64_t rate_out, rate_in; /* bytes/s of stream in the last second */
    uint64_t stalls,
        stall_us;            /* how often, and how long in all, QEMU's data waited for the window */
    uint32_t rtt_us;         /* last round trip between the movers */
    uint64_t verified_pages; /* progress of VERIFY */
    LpmStreamCodedCounts coded;
    uint32_t reconnects;   /* connections that were lost and replaced */
    uint64_t resent_bytes; /* of frames sent again for it */
    uint8_t links_up;      /* connections that work now */
} LpmStreamStats;

typedef struct {
    uint32_t rtt_us;  /* best of several */
    uint64_t bytes;   /* sent */
    uint64_t time_us; /* at the target, first to last byte */
    uint64_t rate;    /* bytes/s; 0 when probe_bytes was 0 */
} LpmStreamProbed;

typedef union {
    LpmStreamHello hello;
    LpmStreamHelloAck hello_ack;
    LpmStreamData data; /* DATA, PROBE_DATA */
    LpmStreamAck ack;
    LpmStreamChannelData channel_data; /* CODED, CHANNEL_DATA */
    LpmStreamChannelTotal channel_fin;
    LpmStreamMiss miss;
    LpmStreamReplace replace;
    LpmStreamBase base;
    LpmStreamBaseAck base_ack;
    LpmStreamSeal seal;
    LpmStreamEnd end;     /* END, LOADED, DIGEST_OK */
    LpmStreamTotal total; /* CHECK, FIN, VASI_EOF */
    LpmStreamHint hint;
    LpmStreamPeer peer;
    LpmStreamReason reason; /* ABORT, ERROR, REFUSED */
    LpmStreamStamp stamp;   /* PING, PONG */
    LpmStreamProbeDone probe_done;
    LpmStreamVerifyHashes hashes;
    LpmStreamVerifyPages pages;
    LpmStreamVerified verified; /* VERIFY_END, VERIFY_REPORT, VERIFIED */
    LpmStreamConfig config;
    LpmStreamRate rate;
    LpmStreamLink link;
    LpmStreamNeedLink need_link;
    LpmStreamChannel channel, need_channel;
    LpmStreamLinkState link_state;
    LpmStreamConnected connected;
    LpmStreamStats stats;
    LpmStreamProbed probed;
} LpmStreamMessage;

/* --- frames --- */

typedef struct {
    uint32_t version;
    uint32_t type; /* LpmStreamType, or one that this version does not know */
    uint32_t flags;
    uint8_t migration[LPM_STREAM_ID_SIZE];
    uint64_t sequence; /* 1, 2, 3 ... for ordered records of one direction; 0 for the others */
    uint32_t length;   /* of the body */
    uint64_t checksum;
} LpmStreamHeader;

typedef enum {
    LPM_STREAM_OK = 0,
    LPM_STREAM_SKIP,          /* optional record of an unknown type: valid, to be ignored */
    LPM_STREAM_SHORT,         /* more bytes are needed */
    LPM_STREAM_BAD_MAGIC,     /* not a frame */
    LPM_STREAM_BAD_VERSION,   /* frame of another version */
    LPM_STREAM_BAD_FLAGS,     /* flags or reserved bytes that version 1 does not have */
    LPM_STREAM_BAD_LENGTH,    /* longer or shorter than this record may be */
    LPM_STREAM_BAD_CHECKSUM,  /* damaged */
    LPM_STREAM_BAD_BODY,      /* a field out of its range, or bytes left over */
    LPM_STREAM_BAD_MIGRATION, /* of another migration */
    LPM_STREAM_BAD_SEQUENCE,  /* not the next one */
    LPM_STREAM_BAD_SENDER,    /* this record may not come from there, or not on this descriptor */
    LPM_STREAM_UNKNOWN_TYPE,  /* mandatory, unknown */
    LPM_STREAM_TOO_SMALL,     /* encoding: the buffer is too small or the message breaks a limit */
} LpmStreamStatus;

const char *lpm_stream_status_text(LpmStreamStatus status);

/* Name of a record ("data"), or "unknown". Static. */
const char *lpm_stream_type_name(uint32_t type);
/* True when the record is part of the ordered stream (has a sequence number and is acknowledged).
 */
bool lpm_stream_type_ordered(uint32_t type);

/*
 * Writes the header of a frame whose body is (header->length bytes at) @body, computing its
 * checksum. magic is implied.
 */
void lpm_stream_encode_header(const LpmStreamHeader *header, const uint8_t *body,
                              uint8_t out[LPM_STREAM_HEADER_SIZE]);
/* Checks magic, version, flags and length limits, not the checksum. */
LpmStreamStatus lpm_stream_decode_header(const uint8_t in[LPM_STREAM_HEADER_SIZE],
                                         LpmStreamHeader *ret_header);
/* Checks the checksum of a decoded header (@in: its raw bytes) and its body. */
LpmStreamStatus lpm_stream_check_body(const uint8_t in[LPM_STREAM_HEADER_SIZE], const uint8_t *body,
                                      size_t size);

/* Body of a record of a known type. @ret_size is set on OK. */
LpmStreamStatus lpm_stream_encode_body(uint32_t type, const LpmStreamMessage *message,
                                       uint8_t *body, size_t capacity, size_t *ret_size);
/* @ret_message may borrow from @body. */
LpmStreamStatus lpm_stream_decode_body(uint32_t type, const uint8_t *body, size_t size,
                                       LpmStreamMessage *ret_message);

/* A whole frame into @out; @message may be NULL for records without fields. */
LpmStreamStatus lpm_stream_pack(uint32_t type, const LpmStreamMessage *message,
                                const uint8_t migration[LPM_STREAM_ID_SIZE], uint64_t sequence,
                                uint8_t *out, size_t capacity, size_t *ret_size);
/*
 * One whole frame from the start of @in. SHORT: wait for more. OK and SKIP: @ret_used bytes are
 * done with, @ret_header is filled, on OK @ret_message, too (may borrow from @in). Anything else:
 * the connection is of no more use.
 */
LpmStreamStatus lpm_stream_unpack(const uint8_t *in, size_t size, LpmStreamHeader *ret_header,
                                  LpmStreamMessage *ret_message, size_t *ret_used);

/* --- the verifier: who may send what, in which order --- */

typedef enum {
    LPM_STREAM_FROM_SRC = 1,   /* wire, source mover */
    LPM_STREAM_FROM_DST = 2,   /* wire, target mover */
    LPM_STREAM_FROM_HOST = 4,  /* control, lpm-host */
    LPM_STREAM_FROM_MOVER = 8, /* control, lpm-mover */
} LpmStreamSender;

typedef struct {
    LpmStreamSender sender;
    uint8_t migration[LPM_STREAM_ID_SIZE];
    uint64_t last; /* sequence of the last ordered record */
    bool bound;    /* migration is known */
} LpmStreamVerifier;

/* @migration may be NULL before it is known (a mover waiting for CONFIG): the first frame's is then
 * taken. */
LpmStreamVerifier lpm_stream_verifier(LpmStreamSender sender,
                                      const uint8_t migration[LPM_STREAM_ID_SIZE]);
/* Checks one decoded header and steps on. OK, SKIP, or why the connection must end. */
LpmStreamStatus lpm_stream_verify(LpmStreamVerifier *verifier, const LpmStreamHeader *header);

/* Where a frame stands in the order of its direction. */
typedef enum {
    LPM_STREAM_PLACE_NONE,  /* not an ordered record */
    LPM_STREAM_PLACE_NEXT,  /* the one that is wanted */
    LPM_STREAM_PLACE_SEEN,  /* was there before: to be dropped */
    LPM_STREAM_PLACE_AHEAD, /* others come before it: to be put aside, and verified again then */
} LpmStreamPlace;

/*
 * As lpm_stream_verify(), for frames that come over several connections or once more after one was
 * lost: any place in the order is fine and told in @ret_place; steps on with NEXT only.
 */
LpmStreamStatus lpm_stream_verify_place(LpmStreamVerifier *verifier, const LpmStreamHeader *header,
                                        LpmStreamPlace *ret_place);
