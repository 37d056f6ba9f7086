/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the scripts in the partition are told that it is about to move: right before the copy
 * begins. Later would be better for those that ease a cluster through it, but QEMU cannot be kept
 * from ending a copy: with the shortest blackout limit (1 ms) a partition that writes little is
 * through before a script of a few seconds has ended, and in the blackout nothing can be told.
 */
#include "host/mobility-scripts.h"
#include "host/mobility-src.h"

static bool off_course(const SrcMove *move)
{
    return move->base.rows || move->base.ended;
}

static void told(const GError *error, void *data)
{
    SrcMove *move = data;
    LpmSrcGoOn go_on = move->scripts_go_on;
    move->scripts_go_on = NULL;
    if (error && !off_course(move)) {
        lpm_mig_trouble(&move->base, error);
    } else if (!off_course(move)) {
        go_on(move);
    }
    lpm_mig_unref(&move->base);
}

void lpm_src_scripts_first(SrcMove *move, LpmSrcGoOn go_on)
{
    move->scripts_go_on = go_on;
    lpm_mig_ref(&move->base);
    if (!lpm_mig_scripts_pre(&move->base, told, move)) {
        told(NULL, move);
    }
}
