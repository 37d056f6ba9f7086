/* SPDX-License-Identifier: Apache-2.0 */
/* A profile from a user's file: whatever is accepted can be written and read again. */
#include "model/model.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(json_t) json = lpm_json_parse((const char *)data, size, NULL);
    g_autoptr(LpmProfile) profile = json != NULL ? lpm_profile_from_json(json, NULL) : NULL;

    if (profile != NULL) {
        g_autoptr(json_t) written = lpm_profile_to_json(profile);
        g_autoptr(LpmProfile) again = lpm_profile_from_json(written, NULL);
        if (again == NULL) {
            abort();
        }
    }
    return 0;
}
