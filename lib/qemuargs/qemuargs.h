/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's command line: a pure function of the partition's profile and of what this system resolved
 * for it. Whatever the guest can see (machine, addresses, ids, sizes) comes from the profile alone,
 * so that source and target agree.
 */
#pragma once

#include "base/error.h"
#include "model/model.h"

typedef enum {
    LPM_QEMU_START,    /* activation: stopped until lpm-host sends cont */
    LPM_QEMU_INCOMING, /* waits for migrate-incoming, then stays stopped */
} LpmQemuRole;

typedef enum {
    LPM_QEMU_DISK_FILE,
    LPM_QEMU_DISK_ISCSI, /* QEMU is the initiator */
    LPM_QEMU_DISK_NBD,
    LPM_QEMU_DISK_RBD,
} LpmQemuDiskKind;

/*
 * Where a disk is, as this system reaches it. The texts are owned by who filled it in; what a kind
 * does not have is NULL. Secrets are never here: QEMU reads them from the inherited descriptor.
 */
typedef struct {
    LpmQemuDiskKind kind;
    char *path;                 /* FILE; NBD by a Unix socket */
    char *portal, *target;      /* ISCSI: "ADDRESS:PORT", IQN */
    char *initiator;            /* ISCSI: IQN of this system */
    int lun;                    /* ISCSI */
    char *host, *port;          /* NBD by TCP */
    char *export_name;          /* NBD */
    char *tls, *tls_dir;        /* NBD: "x509" or "psk", directory with the credentials */
    char *tls_hostname;         /* NBD: in the server's certificate; NULL: host */
    char *pool, *space, *image; /* RBD; space: namespace, NULL: none */
    char *conf;                 /* RBD: Ceph's configuration; NULL: its usual place */
    char *user;                 /* ISCSI: for CHAP; NBD: for PSK; RBD: Ceph's id */
    int secret_fd;              /* ISCSI, RBD: a file with the secret and nothing else; -1: none */
} LpmQemuDisk;

/* Frees the texts; the descriptor is left alone. */
void lpm_qemu_disk_clear(LpmQemuDisk *disk);

/*
 * QEMU's description of @disk, which is to be opened for a short look: a name for qemu-img
 * ("json:{...}"), to be g_free()d, and the objects that it refers to in @ret_objects, each to be
 * given with --object (NULL-terminated, to be g_strfreev()d). @secret_file is read for the secret.
 */
char *lpm_qemuargs_look_name(const LpmQemuDisk *disk, const char *format, const char *secret_file,
                             char ***ret_objects);

/* Ids of memory that is added to a running partition, by its index; and of what backs it. */
#define LPM_QEMU_MODULE        "dimm%zu"
#define LPM_QEMU_MODULE_MEMORY "dimm%zu-mem"

/*
 * One of the two block nodes of the profile's disk of number @index, as on the command line: the
 * protocol's, "diskN-file", or the format's @on_top of it, "diskN". For kinds without a secret and
 * TLS. New reference.
 */
json_t *lpm_qemuargs_disk_node(const LpmDisk *profile, size_t index, const LpmQemuDisk *disk,
                               bool on_top);

/* Everything is borrowed. Descriptors are inherited by QEMU under the same numbers. */
typedef struct {
    const char *program; /* argv[0] */
    /* With machine set, and interrupt_mode on POWER: pinned at the first start. */
    const LpmProfile *profile;
    LpmQemuRole role;
    const char *accel;          /* "tcg" or "kvm" */
    const char *cpu;            /* -cpu: lpm_compat_power_cpu() or lpm_compat_x86_cpu() */
    const char *max_cpu_compat; /* POWER: lpm_compat_power_max(); NULL: not given */
    const char *qmp_socket;     /* QEMU listens there for commands */
    const char *oob_socket;     /* and there for out-of-band ones; NULL: none */
    const char *console_socket; /* needed when the profile has a console */
    const char *console_log;    /* NULL: no log */
    const char *agent_socket;   /* needed when the profile has a guest agent */
    const LpmQemuDisk *disks;   /* one for each disk of the profile; of an empty drive not used */
    const char *kernel;         /* path; NULL when the profile boots from a disk */
    const char *initrd;         /* path or NULL */
    const int *network_fds;     /* a tap descriptor for each network of the profile */
    /* memfd when the backing is shared, else -1: as large as the memory, and as what was added to
     * it when lpm_profile_adds_to_file() */
    int memory_fd;
    const char *pid_file;  /* NULL: none */
    const char *uefi_code; /* path of the firmware; needed when the profile has UEFI */
    int64_t now_s;         /* UTC, since 1970; for a clock that is ahead or behind */
} LpmQemuSpec;

/*
 * argv, NULL-terminated, to be g_strfreev()d. USAGE error naming what is missing: nothing is
 * guessed. The memory's RAM block is always called "mem". QEMU ends up stopped in both roles.
 */
char **lpm_qemuargs_build(const LpmQemuSpec *spec, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Machine type to pin in the profile at the first start: @newest ("pseries-10.0"), and on POWER
 * with @vof ("firmware = vof" of the system's configuration) and a profile that boots a kernel
 * "+vof": QEMU's small firmware, which starts in half the time but cannot boot from a disk. As part
 * of the machine string it travels with the profile, since both sides of a move must have the same
 * firmware. To be g_free()d.
 */
char *lpm_qemuargs_pin_machine(const LpmProfile *profile, const char *newest, bool vof);
/* QEMU's type in @machine, without "+vof": "pseries-10.0". To be g_free()d. */
char *lpm_qemuargs_machine_type(const char *machine);
