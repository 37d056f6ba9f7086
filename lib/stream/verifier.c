/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/records.h"

#include <string.h>

LpmStreamVerifier lpm_stream_verifier(LpmStreamSender sender,
                                      const uint8_t migration[LPM_STREAM_ID_SIZE])
{
    LpmStreamVerifier verifier = {.sender = sender};
    if (migration) {
        memcpy(verifier.migration, migration, LPM_STREAM_ID_SIZE);
        verifier.bound = true;
    }
    return verifier;
}

LpmStreamStatus lpm_stream_verify_place(LpmStreamVerifier *verifier, const LpmStreamHeader *header,
                                        LpmStreamPlace *ret_place)
{
    const Record *record = lpm_stream_record(header->type);
    if (!record && !(header->type & LPM_STREAM_OPTIONAL))
        return LPM_STREAM_UNKNOWN_TYPE;
    if (record && !(record->senders & verifier->sender))
        return LPM_STREAM_BAD_SENDER;
    if (verifier->bound && memcmp(header->migration, verifier->migration, LPM_STREAM_ID_SIZE) != 0)
        return LPM_STREAM_BAD_MIGRATION;
    bool wire = verifier->sender == LPM_STREAM_FROM_SRC || verifier->sender == LPM_STREAM_FROM_DST;
    /* Whether an unknown record is an ordered one, its sequence number tells. */
    bool ordered = wire && (record ? record->ordered : header->sequence != 0);
    if ((header->sequence != 0) != ordered)
        return LPM_STREAM_BAD_SEQUENCE;
    if (!ordered)
        *ret_place = LPM_STREAM_PLACE_NONE;
    else if (header->sequence <= verifier->last)
        *ret_place = LPM_STREAM_PLACE_SEEN;
    else
        *ret_place =
            header->sequence == verifier->last + 1 ? LPM_STREAM_PLACE_NEXT : LPM_STREAM_PLACE_AHEAD;
    if (*ret_place == LPM_STREAM_PLACE_NEXT)
        verifier->last++;
    if (!verifier->bound)
        memcpy(verifier->migration, header->migration, LPM_STREAM_ID_SIZE);
    verifier->bound = true;
    return record ? LPM_STREAM_OK : LPM_STREAM_SKIP;
}

LpmStreamStatus lpm_stream_verify(LpmStreamVerifier *verifier, const LpmStreamHeader *header)
{
    LpmStreamPlace place;
    LpmStreamVerifier after = *verifier;
    LpmStreamStatus status = lpm_stream_verify_place(&after, header, &place);
    if (status != LPM_STREAM_OK && status != LPM_STREAM_SKIP)
        return status;
    if (place != LPM_STREAM_PLACE_NONE && place != LPM_STREAM_PLACE_NEXT)
        return LPM_STREAM_BAD_SEQUENCE;
    *verifier = after;
    return status;
}
