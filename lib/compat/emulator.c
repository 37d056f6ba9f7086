/* SPDX-License-Identifier: Apache-2.0 */
/* Which emulators move a running partition without harming it: data, because it is experience and
 * not logic. */
#include "compat/internal.h"

static bool covers(const LpmEmulatorRow *row, const LpmEmulatorUse *use, const LpmVersion *version,
                   const LpmVersion *machine)
{
    return (row->any_family || row->family == use->family) &&
           (!row->accel || g_strcmp0(row->accel, use->accel) == 0) &&
           (!row->interrupts || g_strcmp0(row->interrupts, use->interrupts) == 0) &&
           (!row->modules_uncompared || use->modules_uncompared) &&
           (!row->max_processors || use->processors <= row->max_processors) &&
           lpm_version_in(version, &row->from, &row->before) &&
           lpm_version_in(machine, &row->machine_from, &row->machine_before);
}

LpmEmulatorVerdict lpm_compat_emulator(const LpmCompat *compat, const LpmEmulatorUse *use)
{
    LpmVersion version, machine;
    const LpmVersion *known = lpm_version_parse(use->version, &version) ? &version : NULL;
    const LpmVersion *type = lpm_version_parse_machine(use->machine, &machine) ? &machine : NULL;

    for (guint i = 0; i < compat->emulators->len; i++) {
        const LpmEmulatorRow *row = compat->emulators->pdata[i];

        if (covers(row, use, known, type)) {
            return (LpmEmulatorVerdict){.safe = row->safe, .known = true, .reason = row->reason};
        }
    }
    return (LpmEmulatorVerdict){
        .safe = false,
        .known = false,
        .reason = "nobody has shown that an active move is safe with this emulator",
    };
}
