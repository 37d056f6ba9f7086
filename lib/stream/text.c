/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/stream.h"

typedef struct {
    const char *name;
    const char *remedy;
} ErrorText;

/* By code; docs/spec/mover.md has the same table. */
static const ErrorText errors[] = {
    [LPM_STREAM_ERR_NONE] = {"ok", "nothing to do"},
    [LPM_STREAM_ERR_USAGE] = {"usage", "start the mover through lpm-host"},
    [LPM_STREAM_ERR_CONFIG] = {"config", "use an lpm-host and an lpm-mover of the same release"},
    [LPM_STREAM_ERR_SANDBOX] = {"sandbox",
                                "allow seccomp filters and no_new_privs to the lpm-host service"},
    [LPM_STREAM_ERR_CREDENTIALS] = {"credentials",
                                    "let the system join its console again for a new certificate"},
    [LPM_STREAM_ERR_CONNECT] =
        {"connect", "check the network and firewalls between the two systems, then move again"},
    [LPM_STREAM_ERR_TLS] =
        {"tls", "check that both systems joined the same console and that their clocks agree"},
    [LPM_STREAM_ERR_IDENTITY] =
        {"identity", "check the address of the other system; let it join again if it was renamed"},
    [LPM_STREAM_ERR_KEY] =
        {"key",
         "start the move again; if it comes back, find out who else answers at this address"},
    [LPM_STREAM_ERR_VERSION] = {"version",
                                "bring both systems to releases that share a version of the wire"},
    [LPM_STREAM_ERR_LINK] = {"link-lost",
                             "check the network between the two systems, then move again"},
    [LPM_STREAM_ERR_CHECKSUM] = {"checksum",
                                 "check network cards and memory of both systems, then move again"},
    [LPM_STREAM_ERR_PROTOCOL] = {"protocol", "report it with both systems' logs; move again"},
    [LPM_STREAM_ERR_UNKNOWN] = {"unknown-record", "bring both systems to the same release"},
    [LPM_STREAM_ERR_DIGEST] = {"digest",
                               "move again; if it comes back, check the memory of both systems"},
    [LPM_STREAM_ERR_VASI] = {"vasi", "see QEMU's own error on that system, then move again"},
    [LPM_STREAM_ERR_VERIFY] =
        {"verify", "check that both sides have the same memory size and a shared memory file"},
    [LPM_STREAM_ERR_COMMAND] = {"command", "report it with lpm-host's log"},
    [LPM_STREAM_ERR_HOST_GONE] = {"host-gone", "lpm-host recovers the migration when it is back"},
    [LPM_STREAM_ERR_ABORTED] = {"aborted", "nothing to do: this was asked for"},
    [LPM_STREAM_ERR_PEER] = {"peer-aborted", "see the reason given by the other system"},
    [LPM_STREAM_ERR_INTERNAL] = {"internal", "check free memory; report it with lpm-host's log"},
};

static const ErrorText *error_text(uint32_t code)
{
    if (code >= sizeof(errors) / sizeof(errors[0]) || !errors[code].name)
        code = LPM_STREAM_ERR_INTERNAL;
    return &errors[code];
}

const char *lpm_stream_error_name(uint32_t code)
{
    return error_text(code)->name;
}

const char *lpm_stream_error_remedy(uint32_t code)
{
    return error_text(code)->remedy;
}

const char *lpm_stream_status_text(LpmStreamStatus status)
{
    static const char *const texts[] = {
        [LPM_STREAM_OK] = "good",
        [LPM_STREAM_SKIP] = "optional record of an unknown type",
        [LPM_STREAM_SHORT] = "ends too early",
        [LPM_STREAM_BAD_MAGIC] = "not a frame",
        [LPM_STREAM_BAD_VERSION] = "frame of another version",
        [LPM_STREAM_BAD_FLAGS] = "unknown flags",
        [LPM_STREAM_BAD_LENGTH] = "length out of range",
        [LPM_STREAM_BAD_CHECKSUM] = "checksum differs",
        [LPM_STREAM_BAD_BODY] = "field out of range",
        [LPM_STREAM_BAD_MIGRATION] = "frame of another migration",
        [LPM_STREAM_BAD_SEQUENCE] = "sequence number out of order",
        [LPM_STREAM_BAD_SENDER] = "record not allowed from this side",
        [LPM_STREAM_UNKNOWN_TYPE] = "mandatory record of an unknown type",
        [LPM_STREAM_TOO_SMALL] = "does not fit",
    };
    return (size_t)status < sizeof(texts) / sizeof(texts[0]) ? texts[status] : "unknown status";
}
