/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <string.h>

/* docs/guide/errors.md shows this table to people; test-base compares the two. Exit codes are
 * unique. */
static const LpmErrorInfo infos[LPM_ERROR_N] = {
    [LPM_ERROR_INTERNAL] = {LPM_ERROR_INTERNAL, "internal", 500, 70, "internal",
                            "read the log of the program that failed and report the defect"},
    [LPM_ERROR_USAGE] = {LPM_ERROR_USAGE, "usage", 400, 2, "usage",
                         "correct the argument named in the message"},
    [LPM_ERROR_NOT_FOUND] = {LPM_ERROR_NOT_FOUND, "not-found", 404, 3, "not-found",
                             "list what exists and use one of those names"},
    [LPM_ERROR_EXISTS] = {LPM_ERROR_EXISTS, "exists", 409, 4, "exists",
                          "choose another name, or remove the existing object first"},
    [LPM_ERROR_STATE] = {LPM_ERROR_STATE, "state", 409, 5, "state",
                         "bring the object into a state that allows this, then try again"},
    [LPM_ERROR_BUSY] = {LPM_ERROR_BUSY, "busy", 409, 6, "busy",
                        "wait until the operation in the way has ended, then try again"},
    [LPM_ERROR_REFUSED] = {LPM_ERROR_REFUSED, "refused", 422, 7, "refused",
                           "remove the causes that the findings name, then validate again"},
    [LPM_ERROR_DENIED] = {LPM_ERROR_DENIED, "denied", 403, 8, "denied",
                          "use an account or a certificate that may do this"},
    [LPM_ERROR_UNREACHABLE] = {LPM_ERROR_UNREACHABLE, "unreachable", 502, 9, "unreachable",
                               "check that the other side runs and that the network reaches it"},
    [LPM_ERROR_TIMEOUT] = {LPM_ERROR_TIMEOUT, "timeout", 504, 10, "timeout",
                           "look at the object's state before trying again: it may still happen"},
    [LPM_ERROR_PROTOCOL] = {LPM_ERROR_PROTOCOL, "protocol", 502, 11, "protocol",
                            "run the same version of OpenLPM on both sides"},
    [LPM_ERROR_QEMU] = {LPM_ERROR_QEMU, "qemu", 500, 12, "qemu",
                        "read the log of the partition's QEMU on its system"},
    [LPM_ERROR_STORAGE] = {LPM_ERROR_STORAGE, "storage", 500, 13, "storage",
                           "check the pool, the file's permissions and the free space"},
    [LPM_ERROR_NETWORK] = {LPM_ERROR_NETWORK, "network", 500, 14, "network",
                           "check the bridge and the address on the system that is named"},
    [LPM_ERROR_MOVER] = {LPM_ERROR_MOVER, "mover", 500, 15, "mover",
                         "read the mover's log on both systems, then start the move again"},
    [LPM_ERROR_CONFLICT] = {LPM_ERROR_CONFLICT, "conflict", 409, 16, "conflict",
                            "read the object again and repeat the change on its new state"},
    [LPM_ERROR_ABORTED] = {LPM_ERROR_ABORTED, "aborted", 409, 17, "aborted",
                           "the partition is where it was; start the operation again if wanted"},
    [LPM_ERROR_UNSUPPORTED] = {LPM_ERROR_UNSUPPORTED, "unsupported", 501, 18, "unsupported",
                               "use a version, machine type or emulator that can do it"},
};

/* The name is two words to the formatter, one to the macro. */
/* clang-format off */
G_DEFINE_QUARK(lpm-error, lpm_error)
/* clang-format on */

const LpmErrorInfo *lpm_error_info(int code)
{
    if (code < 0 || code >= LPM_ERROR_N) {
        code = LPM_ERROR_INTERNAL;
    }
    return &infos[code];
}

LpmErrorCode lpm_error_from_name(const char *name)
{
    for (size_t i = 0; name && i < G_N_ELEMENTS(infos); i++) {
        if (strcmp(infos[i].name, name) == 0) {
            return infos[i].code;
        }
    }
    return LPM_ERROR_INTERNAL;
}

bool lpm_error_set(GError **error, LpmErrorCode code, const char *format, ...)
{
    va_list args;

    if (error) {
        g_autofree char *raw = NULL;
        g_autofree char *message = NULL;

        va_start(args, format);
        raw = g_strdup_vprintf(format, args);
        va_end(args);
        /* Messages travel in JSON, and file names or another program's words need not be UTF-8. */
        message = g_utf8_make_valid(raw, -1);
        g_set_error_literal(error, LPM_ERROR, (int)code, message);
    }
    return false;
}

int lpm_error_exit_code(const GError *error)
{
    if (!error) {
        return 0;
    }
    return lpm_error_info(error->domain == LPM_ERROR ? error->code : LPM_ERROR_INTERNAL)->exit;
}
