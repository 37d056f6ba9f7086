/* SPDX-License-Identifier: Apache-2.0 */
/* lpm-host's configuration file (docs/spec/config.md). Unknown groups and keys are errors. */
#pragma once

#include "base/error.h"
#include "model/model.h"

typedef enum { LPM_POOL_FILE, LPM_POOL_ISCSI, LPM_POOL_NBD, LPM_POOL_RBD, LPM_POOL_N } LpmPoolKind;

/* [storage:NAME]. Texts that the kind does not have, or that were not given, are NULL. */
typedef struct {
    char *name;
    LpmPoolKind kind;
    /* The administrator says that other systems see the same; always so of all kinds but file. */
    bool shared;
    char *path;                     /* file: directory */
    char *portal, *target;          /* iscsi: "ADDRESS:PORT", IQN; a disk's file is the LUN */
    char *initiator;                /* iscsi: this system's IQN */
    char *portals;                  /* iscsi: more portals, with commas, to count paths */
    char *server, *socket;          /* nbd: "ADDRESS:PORT", or path; a disk's file is the export */
    char *tls, *tls_dir;            /* nbd: "x509" or "psk", and the directory QEMU finds them in */
    char *tls_hostname;             /* nbd: name in the server's certificate */
    char *rbd_pool, *rbd_namespace; /* rbd: a disk's file is the image */
    char *conf;                     /* rbd: Ceph's configuration; NULL: its usual place */
    char *user;                     /* iscsi: for CHAP; nbd: for PSK; rbd: key "id" */
    char *password_file;            /* iscsi, rbd: see lpm_pool_password() */
} LpmPoolConfig;

typedef struct {
    int vlan; /* 0: untagged */
    char *bridge;
} LpmVlanConfig;

typedef struct {
    char *name;           /* of the virtual network (switch) */
    LpmVlanConfig *vlans; /* at least one; one bridge for each VLAN */
    size_t n_vlans;
} LpmSwitchConfig;

typedef struct {
    char *file; /* where it was read from; NULL: defaults only */
    /* [system] */
    char *name;      /* default: the machine's host name, made legal */
    char *state_dir; /* database, keys */
    char *run_dir;   /* sockets, pid files, logs of QEMU */
    char *sysfs;     /* where huge pages and NUMA nodes are looked up */
    /* [rpc] */
    char *rpc_address;
    uint16_t rpc_port; /* 0: any free one */
    /* [mover] */
    char *mover_program;
    char **mover_addresses; /* where movers listen and are reached; see lpm_mobility_addresses() */
    uint16_t mover_port_first, mover_port_last; /* 0 and 0: any free one */
    /* [qemu] */
    char *qemu_user; /* used when running as root and it exists */
    char *
        emulators[LPM_FAMILY_N]; /* path, or name to be found in PATH; "" switches the family off */
    char *accelerator;           /* "auto": KVM where it runs a partition; "tcg": never */
    char *qemu_img;
    char *uefi_code, *uefi_variables; /* firmware, and what a new partition's variables begin as */
    /* [store] */
    char *store_use;          /* "on" or "off" */
    char *store_directory;    /* "": "store" in state_dir */
    int64_t store_budget_mib; /* for images of partitions; 0: a tenth of the disk */
    /* [power] */
    char *power_processor; /* "POWER8", "POWER9", "POWER10": what this server is under emulation */
    char *power_firmware;  /* "slof" or "vof" */
    char *power_supply;    /* directory of the power-supply class */
    /* [arbiter:etcd] */
    char **etcd_endpoints; /* none: this system has no such arbiter */
    char *etcd_ca, *etcd_cert, *etcd_key;
    char *etcd_prefix;
    /* [arbiter:scsi] */
    char *scsi_portal; /* "": this system has no such arbiter */
    char *scsi_target, *scsi_initiator;
    int scsi_lun;
    char *scsi_chap_user, *scsi_chap_secret; /* "": none; the secret is a file */
    /* [limits] */
    int partitions;                   /* that it may have, active or not */
    int active_moves, inactive_moves; /* at one time, in and out together */
    int64_t memory_mib;               /* for partitions; 0: the machine's, less reserve_mib */
    int64_t reserve_mib;
    int processors; /* virtual ones that may be given out; 0: eight for each of the machine's */
    unsigned start_timeout_ms, agent_timeout_ms;
    unsigned script_check_s, script_s; /* of all scripts of a phase together */
    unsigned clock_step_ms; /* a partition's clock that is so much behind after a move is set; 0:
                               never */
    /* [storage:NAME], [network:NAME] */
    LpmPoolConfig *pools;
    size_t n_pools;
    LpmSwitchConfig *switches;
    size_t n_switches;
} LpmHostConfig;

/* Reads @file (NULL: defaults). USAGE error naming file, group and key, or STORAGE when it cannot
 * be read. */
LpmHostConfig *lpm_host_config_load(const char *file, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void lpm_host_config_free(LpmHostConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmHostConfig, lpm_host_config_free)

const char *lpm_pool_kind_name(LpmPoolKind kind); /* "file", "iscsi", "nbd", "rbd" */
/* The secret in the pool's password_file, its first line, to be g_free()d. NULL with a STORAGE
 * error. The pool has a password_file. */
char *lpm_pool_password(const LpmPoolConfig *pool, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* NULL when there is none of that name. Borrowed. */
const LpmPoolConfig *lpm_host_config_pool(const LpmHostConfig *config, const char *name);
const LpmSwitchConfig *lpm_host_config_switch(const LpmHostConfig *config, const char *name);
/* Name of the bridge that is this VLAN (0: untagged) of a switch; NULL when it has none. Borrowed.
 */
const char *lpm_switch_config_bridge(const LpmSwitchConfig *config, int vlan);
