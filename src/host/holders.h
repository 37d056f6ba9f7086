/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a file open, and whether an image is locked: by what the kernel shows of its processes.
 */
#pragma once

#include "base/error.h"

/*
 * Processes below @proc (NULL: /proc) that have the file at @path open and are not of the partition
 * @uuid (NULL: all), as text for people, with the partition that each is of and whether it holds
 * the image's lock; "" when there is none. g_free().
 */
char *lpm_holders(const char *path, const char *uuid, const char *proc);

/*
 * Whether somebody holds one of the locks that QEMU keeps on an image that it uses: "none", "here"
 * (a process below @proc does), "elsewhere" (none of them: it is another host's); NULL when that
 * cannot be found out. Static.
 */
const char *lpm_image_lock(const char *path, const char *proc);
