/* SPDX-License-Identifier: Apache-2.0 */
/* An ownership record from a damaged or hostile file: whatever decodes encodes to the same bytes.
 */
#include "mobility/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[LPM_RECORD_SIZE] = {0};
    uint8_t again[LPM_RECORD_SIZE];
    LpmRecord record;

    memcpy(bytes, data, size < sizeof bytes ? size : sizeof bytes);
    if (lpm_record_decode(bytes, &record) == LPM_RECORD_OK) {
        lpm_record_encode(&record, again);
        if (memcmp(bytes, again, sizeof bytes) != 0) {
            abort();
        }
    }
    return 0;
}
