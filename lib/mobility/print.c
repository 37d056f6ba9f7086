/* SPDX-License-Identifier: Apache-2.0 */
#include "mobility/mobility.h"

#include <stdio.h>

enum { LINE = 512 };

typedef const char *(*NameOf)(LpmMobMachine machine, unsigned value);

static const char *view_name(LpmMobMachine machine, unsigned value)
{
    (void)machine;
    return lpm_mob_record_view_name((LpmMobRecordView)value);
}

/* Appends, and stops quietly at the end of the line: all texts are ours and fit (the test looks).
 */
static size_t add(char *line, size_t at, const char *text)
{
    int written = snprintf(line + at, LINE - at, "%s", text);
    return written > 0 && at + (size_t)written < LINE ? at + (size_t)written : at;
}

/* "a, b" for the values in @mask below @n; "any" when it is all of them. */
static size_t add_mask(char *line, size_t at, LpmMobMachine machine, unsigned mask, unsigned n,
                       NameOf name)
{
    unsigned all = (1u << n) - 1;
    if ((mask & all) == all) {
        return add(line, at, "any");
    }
    const char *comma = "";
    for (unsigned i = 0; i < n; i++) {
        if (mask >> i & 1u) {
            at = add(line, add(line, at, comma), name(machine, i));
            comma = ", ";
        }
    }
    return at;
}

void lpm_mob_print_rows(LpmMobMachine machine, LpmMobLine emit, void *data)
{
    bool src = machine == LPM_MOB_SRC;
    size_t n = 0;
    const LpmMobRow *rows = src ? lpm_mob_src_rows(&n) : lpm_mob_dst_rows(&n);
    unsigned journals = src ? (unsigned)LPM_MOB_SRC_N : (unsigned)LPM_MOB_DST_N;
    unsigned qemus = src ? (unsigned)LPM_MOB_SRC_QEMU_N : (unsigned)LPM_MOB_DST_QEMU_N;
    emit("| journal | record | QEMU | does | why |", data);
    emit("| --- | --- | --- | --- | --- |", data);
    for (size_t i = 0; i < n; i++) {
        char line[LINE] = "";
        size_t at = add(line, 0, "| ");
        at = add_mask(line, at, machine, rows[i].journal, journals, lpm_mob_state_name);
        at = add(line, at, " | ");
        at = add_mask(line, at, machine, rows[i].record, LPM_MOB_REC_N, view_name);
        at = add(line, at, " | ");
        at = add_mask(line, at, machine, rows[i].qemu, qemus, lpm_mob_qemu_name);
        at = add(line, at, " | ");
        at = add(line, at, lpm_mob_action_text(machine, rows[i].action));
        at = add(line, at, rows[i].patient ? ", when the offer's time is over | " : " | ");
        at = add(line, at, rows[i].why);
        add(line, at, rows[i].why[0] ? " |" : "|");
        emit(line, data);
    }
}

void lpm_mob_print_dot(LpmMobMachine machine, LpmMobLine emit, void *data)
{
    static const char *const titles[] = {"source", "target", "operation"};
    size_t n = 0;
    const LpmMobEdge *edges = lpm_mob_edges(machine, &n);
    char line[LINE];
    snprintf(line, sizeof line, "digraph %s {", titles[machine]);
    emit(line, data);
    for (size_t i = 0; i < n; i++) {
        snprintf(line, sizeof line, "    \"%s\" -> \"%s\" [label=\"%s\"];",
                 lpm_mob_state_name(machine, edges[i].from),
                 lpm_mob_state_name(machine, edges[i].to),
                 lpm_mob_event_name((LpmMobEvent)edges[i].event));
        emit(line, data);
    }
    emit("}", data);
}
