/* SPDX-License-Identifier: Apache-2.0 */
/* The power button of an x86 partition: ACPI reports it as a key. (A POWER partition's kernel
 * starts /sbin/poweroff itself on the firmware's request.) */
#include "workloads.h"

#include <fcntl.h>
#include <glob.h>
#include <linux/input.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST_KEYBOARDS = 8 };

void *lab_power_run(void *unused)
{
    struct pollfd keyboards[MOST_KEYBOARDS];
    nfds_t count = 0;
    glob_t found;

    (void)unused;
    if (glob("/dev/input/event*", 0, NULL, &found) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < found.gl_pathc && count < MOST_KEYBOARDS; i++) {
        int fd = open(found.gl_pathv[i], O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            keyboards[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
    }
    globfree(&found);
    while (count && poll(keyboards, count, -1) > 0) {
        for (nfds_t i = 0; i < count; i++) {
            struct input_event event;
            if ((keyboards[i].revents & POLLIN) &&
                read(keyboards[i].fd, &event, sizeof event) == sizeof event &&
                event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) {
                if (system("/sbin/poweroff") != 0) {
                    sync();
                }
            }
        }
    }
    return NULL;
}
