/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this library only. */
#pragma once

#include "qemuargs/qemuargs.h"

/* Name of the RAM block: the stream names it, so it must not differ between two systems. */
#define LPM_QEMU_MEMORY_ID "mem"

#define LPM_QEMU_FLASH_CODE      "uefi-code"
#define LPM_QEMU_FLASH_VARIABLES "uefi-variables"
#define LPM_QEMU_NVRAM           "nvram"

/*
 * PCI slots on the root bus. Fixed by kind and index, never by order of arguments: a device keeps
 * its address when another one is added, and source and target agree without talking about it.
 */
#define LPM_QEMU_SLOT_RNG     0x01u
#define LPM_QEMU_SLOT_SERIAL  0x02u
#define LPM_QEMU_SLOT_NETWORK 0x03u
#define LPM_QEMU_SLOT_DISK    (LPM_QEMU_SLOT_NETWORK + LPM_NETWORKS_MAX)
#define LPM_QEMU_SLOT_SCSI    (LPM_QEMU_SLOT_DISK + LPM_DISKS_MAX)
G_STATIC_ASSERT(LPM_QEMU_SLOT_SCSI < 0x1f); /* 0x1f is the chip set's on x86 */

/* Unit addresses on POWER's virtual I/O bus, above those that the machine gives its own devices.
 * The low bits choose the interrupt: no two devices may share them. */
#define LPM_QEMU_REG_NETWORK 0x71000010u /* of the first spapr-vlan; one for each network */
#define LPM_QEMU_REG_VSCSI   0x71000018u
G_STATIC_ASSERT(LPM_QEMU_REG_NETWORK + LPM_NETWORKS_MAX <= LPM_QEMU_REG_VSCSI);

/* A command line in the making. */
typedef struct {
    GPtrArray *argv; /* owned strings */
    const LpmQemuSpec *spec;
    const char *bus; /* root PCI bus: "pcie.0", "pci.0" */
} LpmQemuArgs;

/* Appends one argument, as it is. */
void lpm_qemu_add(LpmQemuArgs *args, const char *argument);
/* Appends @option and its formatted value. */
void lpm_qemu_addf(LpmQemuArgs *args, const char *option, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
/* @value with commas doubled, as QEMU's key=value syntax wants it. To be g_free()d. */
char *lpm_qemu_quote(const char *value);

/* Whether @machine asks for the small firmware. */
bool lpm_qemu_machine_has_vof(const char *machine);

/* The node of the protocol that reaches @disk, for a disk called @name. New reference. */
json_t *lpm_qemu_protocol_node(const LpmQemuDisk *disk, const char *name);
/* Appends the objects with credentials that this node refers to. */
void lpm_qemu_add_objects(LpmQemuArgs *args, const LpmQemuDisk *disk, const char *name);

/*
 * How many queues a multi-queue device @property must be told to have, ",num-queues=2", or "". QEMU
 * by itself counts the processors of its start, and those are more where a partition comes in that
 * was given some since its own. To be g_free()d.
 */
char *lpm_qemu_queues(const LpmProfile *profile, const char *property);

void lpm_qemu_add_machine(LpmQemuArgs *args);
void lpm_qemu_add_memory(LpmQemuArgs *args);
void lpm_qemu_add_boot(LpmQemuArgs *args);
void lpm_qemu_add_monitors(LpmQemuArgs *args);
void lpm_qemu_add_console(LpmQemuArgs *args);
void lpm_qemu_add_agent(LpmQemuArgs *args);
void lpm_qemu_add_random(LpmQemuArgs *args);
void lpm_qemu_add_networks(LpmQemuArgs *args);
void lpm_qemu_add_disks(LpmQemuArgs *args);
