/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the whole of OpenLPM talks about: partitions, their profiles, and the states of both. Plain
 * structs and their JSON, used in RPC, REST, the databases and the command line alike.
 */
#pragma once

#include "base/json.h"

#define LPM_NAME_MAX         63 /* partition, system, switch and pool names: [A-Za-z0-9][A-Za-z0-9._-]* */
#define LPM_DISKS_MAX        16
#define LPM_NETWORKS_MAX     8
#define LPM_PROFILES_MAX     16
#define LPM_PROFILE_FIRST    "normal" /* the profile of a partition that says no name */
#define LPM_VLAN_MAX         4094
#define LPM_PROCESSORS_MAX   64
#define LPM_MEMORY_MIB_MAX   (16 * 1024 * 1024)
#define LPM_ADDED_MEMORY_MAX 16 /* times that memory can be added to a running partition */
#define LPM_RTC_OFFSET_MAX   ((int64_t)100 * 366 * 24 * 3600)

typedef enum { LPM_FAMILY_X86_64, LPM_FAMILY_POWER, LPM_FAMILY_N } LpmFamily;
typedef enum { LPM_FORMAT_RAW, LPM_FORMAT_QCOW2, LPM_FORMAT_N } LpmDiskFormat;
typedef enum {
    LPM_ARBITER_AUTO,
    LPM_ARBITER_FILE,
    LPM_ARBITER_CONSOLE,
    LPM_ARBITER_ETCD,
    LPM_ARBITER_SCSI,
    LPM_ARBITER_N
} LpmArbiterKind;
typedef enum {
    LPM_ADAPTER_VIRTIO, /* virtio-blk, a device of its own */
    LPM_ADAPTER_SCSI,   /* on the partition's virtio-scsi adapter */
    LPM_ADAPTER_VSCSI,  /* on the partition's virtual SCSI adapter (POWER) */
    LPM_ADAPTER_N
} LpmDiskAdapter;
typedef enum { LPM_MEDIA_DISK, LPM_MEDIA_OPTICAL, LPM_MEDIA_N } LpmDiskMedia;
typedef enum { LPM_FIRMWARE_DEFAULT, LPM_FIRMWARE_UEFI, LPM_FIRMWARE_N } LpmFirmware;
typedef enum {
    LPM_PURPOSE_DATA,
    LPM_PURPOSE_FIRMWARE, /* UEFI's variables, or a POWER partition's NVRAM; no disk to the guest */
    LPM_PURPOSE_N
} LpmDiskPurpose;
/* Whether somebody may keep a disk to himself by a reservation; only a disk without can move. */
typedef enum { LPM_RESERVE_NONE, LPM_RESERVE_SINGLE_PATH, LPM_RESERVE_N } LpmReservePolicy;
typedef enum { LPM_NET_VIRTIO, LPM_NET_SPAPR_VLAN, LPM_NET_N } LpmNetworkAdapter;
typedef enum { LPM_BACKING_PRIVATE, LPM_BACKING_SHARED, LPM_BACKING_N } LpmMemoryBacking;

/*
 * State of a partition as its system sees it. "migrating" is not a state: a partition runs (or is
 * paused in the blackout) and has a migration.
 */
typedef enum {
    LPM_PARTITION_NOT_ACTIVATED,
    LPM_PARTITION_STARTING,
    LPM_PARTITION_RUNNING,
    LPM_PARTITION_PAUSED,
    LPM_PARTITION_STOPPING,
    LPM_PARTITION_INCOMING, /* QEMU waits for, or receives, a migration; it never ran here */
    LPM_PARTITION_ERROR,    /* QEMU died unasked, or its state cannot be read */
    LPM_PARTITION_N,
} LpmPartitionState;

/* A file in a storage pool; pools are resolved to paths by each system on its own. */
typedef struct {
    char *pool;
    /* Relative, no "..", no leading "/"; in a pool of kind iscsi the LUN's number, of nbd the
     * export's name, of rbd the image's name. NULL: an optical drive without a medium. */
    char *file;
} LpmFileRef;

typedef struct {
    char *name; /* unique in the partition, e.g. "disk0" */
    LpmFileRef at;
    LpmDiskFormat format;
    int64_t size_mib; /* wanted size when lpm-host creates it; 0: it exists */
    char *cache;      /* "none" (default), "directsync", "writeback": QEMU's terms */
    bool read_only;
    LpmDiskAdapter adapter;
    LpmDiskMedia media; /* optical: read-only, may be empty, its medium can be changed */
    LpmDiskPurpose purpose;
    LpmReservePolicy reserve_policy;
} LpmDisk;

/* Memory that a running partition was given since its start: one module each, in order. */
typedef struct {
    int64_t mib;
} LpmAddedMemory;

typedef struct {
    char *name;        /* unique in the partition, e.g. "net0" */
    char *switch_name; /* virtual network; JSON member "switch" */
    char *mac;         /* "52:54:00:xx:xx:xx" */
    int vlan;          /* of the switch: 1 to LPM_VLAN_MAX; 0: what is not tagged */
    LpmNetworkAdapter adapter;
} LpmNetwork;

typedef struct {
    LpmFileRef kernel; /* pool NULL: boot from the first disk */
    LpmFileRef initrd; /* pool NULL: none */
    char *cmdline;     /* NULL: none */
} LpmBoot;

/* A partition's stored definition. Owned strings; lpm_profile_free() takes NULL and half-built
 * ones. */
typedef struct {
    char *name;
    char *uuid; /* 36 characters, lower case */
    LpmFamily family;
    int processors;
    int64_t memory_mib;
    char *preferred_mode; /* "default" or a mode's name in data/compat */
    char *machine;        /* versioned QEMU machine type; NULL until the first start pins it */
    char *interrupt_mode; /* POWER: "xics" or "dual"; NULL: chosen at start */
    LpmBoot boot;
    LpmDisk *disks;
    size_t n_disks;
    LpmNetwork *networks;
    size_t n_networks;
    bool console;            /* a serial console on a socket in the partition's run directory */
    bool guest_agent;        /* a channel for the guest agent (RMC) */
    bool migration_disabled; /* mobility is not allowed */
    LpmMemoryBacking memory_backing; /* shared is needed for verified moves */
    int64_t huge_pages_kib;          /* size of the pages of its memory; 0: ordinary ones */
    LpmArbiterKind arbiter;
    int max_blackout_ms; /* 0: the system's default */
    LpmFirmware firmware;
    bool tpm;
    int64_t rtc_offset_s;   /* its clock is ahead of UTC by this at the next start */
    char *boot_order;       /* names of disks, with commas; NULL: the first disk */
    int processors_max;     /* up to which it can be given more while it runs; 0: processors */
    int64_t memory_max_mib; /* likewise; 0: memory_mib */
    /* What it was given since its start: only in a running partition's runtime, never stored with
     * its definition. */
    LpmAddedMemory *added_memory;
    size_t n_added_memory;
    int added_processors;
    /* Several profiles: the members above are those of @profile_name, which was activated last, or
     * never: the default one. All NULL while there is one, called LPM_PROFILE_FIRST. */
    char *profile_name, *default_profile;
    json_t *profiles; /* the others: [{"name", what a profile says}] */
} LpmProfile;

/* All that a running partition has: at its start, and given since. */
int64_t lpm_profile_total_memory_mib(const LpmProfile *profile);
int lpm_profile_total_processors(const LpmProfile *profile);
/*
 * Whether memory that is added lies in the partition's memory file, behind what it was started with
 * and in the order in which it came: shared memory of ordinary pages.
 */
bool lpm_profile_adds_to_file(const LpmProfile *profile);
/* The step in which memory can be added, MiB: what a guest can put into use. */
int64_t lpm_family_memory_step_mib(LpmFamily family);

LpmProfile *lpm_profile_new(
    void); /* with defaults: processors 1, cache none, mode default, console and agent on */
void lpm_profile_free(LpmProfile *profile);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LpmProfile, lpm_profile_free)

/*
 * Reads and checks a profile. Missing optional members get defaults; unknown members, wrong types,
 * bad names, duplicate disks/networks/MACs are USAGE errors that name the member. A missing uuid or
 * mac is filled in at random.
 */
LpmProfile *lpm_profile_from_json(const json_t *json, GError **error) G_GNUC_WARN_UNUSED_RESULT;
json_t *lpm_profile_to_json(const LpmProfile *profile);

/*
 * Several profiles of one partition. A definition is never changed: those below give a changed copy
 * of all of it, or an error: NOT_FOUND, EXISTS, STATE, USAGE.
 */
typedef struct {
    const json_t *changes; /* members of a profile with their new values; NULL: none */
    const char *rename;    /* NULL: it keeps its name */
    bool make_default;
} LpmProfileEdit;

/* The one whose members the definition has; the one that a start without a name takes. Borrowed. */
const char *lpm_profile_current(const LpmProfile *profile);
const char *lpm_profile_default(const LpmProfile *profile);
/* With the members of profile @name in the definition; NULL: as it is. */
LpmProfile *lpm_profile_select(const LpmProfile *profile, const char *name,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* With a new one, a copy of @from (NULL: the current one) with @changes (NULL: none). */
LpmProfile *lpm_profile_add(const LpmProfile *profile, const char *name, const char *from,
                            const json_t *changes, GError **error) G_GNUC_WARN_UNUSED_RESULT;
LpmProfile *lpm_profile_edit(const LpmProfile *profile, const char *name,
                             const LpmProfileEdit *edit, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Not the default one, nor the one that was activated last. */
LpmProfile *lpm_profile_remove(const LpmProfile *profile, const char *name,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * Definition @definition (borrowed) with a profile @name that has what the partition has now, and
 * that counts as activated last; the one before stays as it is. @built: runtime.profile of one that
 * runs, NULL: not activated. A new reference; EXISTS when another one is called so.
 */
json_t *lpm_profile_save_as(const json_t *definition, const json_t *built, const char *name,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* [{"name","default","last_activated", what a profile says}], in order of names. New reference. */
json_t *lpm_profile_list(const LpmProfile *profile);
/* What was built of it has one profile only. */
void lpm_profile_drop_others(LpmProfile *profile);

const char *lpm_family_name(LpmFamily family); /* "x86-64", "power" */
const char *lpm_disk_format_name(LpmDiskFormat format);
const char *lpm_disk_adapter_name(LpmDiskAdapter adapter); /* "virtio", "scsi", "vscsi" */
const char *lpm_disk_media_name(LpmDiskMedia media);       /* "disk", "optical" */
const char *lpm_arbiter_kind_name(LpmArbiterKind kind);
const char *lpm_memory_backing_name(LpmMemoryBacking backing);
const char *lpm_network_adapter_name(LpmNetworkAdapter adapter); /* "virtio", "spapr-vlan" */
const char *lpm_partition_state_name(LpmPartitionState state); /* "not-activated", "running", ... */
bool lpm_family_from_name(const char *name, LpmFamily *ret_family);
bool lpm_partition_state_from_name(const char *name, LpmPartitionState *ret_state);

/* Whether @name is a legal name of a partition, system, switch or pool. */
bool lpm_name_is_valid(const char *name);

/* 32 hexadecimal digits of 16 random bytes: migration ids. To be g_free()d. */
char *lpm_new_migration_id(void);
/* Text form of a random UUID, to be g_free()d. */
char *lpm_new_uuid(void);
