/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message codes of PowerVM's management console, for those who have lists of them: one table. A row
 * of the checks names a code only where the meaning is the same. Those that could not be read in a
 * document of the vendor's are marked.
 */
#include "checks/internal.h"

static const LpmHmcCode codes[] = {
    {"HSCL05DF", true, "the partition is not in a state in which this can be done"},
    {"HSCLA246", true, "the management console cannot communicate with the partition"},
    {"HSCLA24E", false, "a virtual SCSI adapter cannot be hosted on the target"},
    {"HSCLA27C", false, "no pair of movers that can reach each other"},
    {"HSCLA319", true, "a virtual fibre channel adapter cannot be hosted on the target"},
    {"HSCLA340", true, "the paths to a disk may not be the same on the target"},
};

const LpmHmcCode *lpm_hmc_code(const char *code)
{
    for (size_t i = 0; code && i < G_N_ELEMENTS(codes); i++) {
        if (g_str_equal(codes[i].code, code)) {
            return &codes[i];
        }
    }
    return NULL;
}

const LpmHmcCode *lpm_hmc_codes(size_t *ret_n)
{
    *ret_n = G_N_ELEMENTS(codes);
    return codes;
}
