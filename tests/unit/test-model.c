/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "model/model.h"

#include <string.h>

#define FULL_UUID "7f8d1a52-9c0e-4a51-9d3e-0123456789ab"

/* Every member of a profile, as to_json() writes it. */
static const char full[] =
    "{\"name\":\"p1\",\"uuid\":\"" FULL_UUID "\",\"family\":\"power\",\"processors\":2,"
    "\"memory_mib\":512,\"preferred_mode\":\"POWER9_base\",\"machine\":\"pseries-10.0\","
    "\"interrupt_mode\":\"dual\",\"boot\":{\"kernel\":{\"pool\":\"images\",\"file\":\"k/vmlinuz\"},"
    "\"initrd\":{\"pool\":\"images\",\"file\":\"k/initrd\"},\"cmdline\":\"console=hvc0\"},"
    "\"disks\":[{\"name\":\"disk0\",\"pool\":\"san\",\"file\":\"p1.raw\",\"format\":\"raw\","
    "\"size_mib\":64,\"cache\":\"none\",\"read_only\":false,\"adapter\":\"vscsi\"},{\"name\":"
    "\"disk1\",\"pool\":\"san\","
    "\"file\":\"p1.qcow2\",\"format\":\"qcow2\",\"size_mib\":0,\"cache\":\"writeback\","
    "\"read_only\":true,\"adapter\":\"scsi\",\"media\":\"optical\","
    "\"reserve_policy\":\"single_path\"}],\"networks\":[{\"name\":"
    "\"net0\",\"switch\":\"vlan1\","
    "\"mac\":\"52:54:00:00:00:01\",\"vlan\":100,\"adapter\":\"spapr-vlan\"}],\"console\":false,"
    "\"guest_agent\":false,"
    "\"migration_disabled\":true,\"memory_backing\":\"shared\",\"arbiter\":\"console\","
    "\"max_blackout_ms\":300}";

static json_t *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    json_t *json = lpm_json_parse(text, strlen(text), &error);

    g_assert_no_error(error);
    return json;
}

static LpmProfile *read_profile(const char *text)
{
    g_autoptr(json_t) json = parse(text);
    g_autoptr(GError) error = NULL;
    LpmProfile *profile = lpm_profile_from_json(json, &error);

    g_assert_no_error(error);
    return profile;
}

static void test_round_trip(void)
{
    g_autoptr(LpmProfile) profile = read_profile(full);
    g_autoptr(json_t) json = lpm_profile_to_json(profile);
    g_autofree char *text = lpm_json_text(json);

    g_assert_cmpstr(text, ==, full);
    g_assert_cmpint(profile->family, ==, LPM_FAMILY_POWER);
    g_assert_cmpint(profile->processors, ==, 2);
    g_assert_cmpint(profile->memory_mib, ==, 512);
    g_assert_cmpuint(profile->n_disks, ==, 2);
    g_assert_cmpint(profile->disks[1].format, ==, LPM_FORMAT_QCOW2);
    g_assert_true(profile->disks[1].read_only);
    g_assert_cmpstr(profile->boot.initrd.file, ==, "k/initrd");
    g_assert_cmpint(profile->arbiter, ==, LPM_ARBITER_CONSOLE);
    g_assert_cmpint(profile->memory_backing, ==, LPM_BACKING_SHARED);
}

static void test_defaults(void)
{
    g_autoptr(LpmProfile) profile =
        read_profile("{\"name\":\"p1\",\"family\":\"x86-64\",\"memory_mib\":100,\"machine\":null,"
                     "\"disks\":[{\"name\":\"d\",\"pool\":\"p\",\"file\":\"f\"}],"
                     "\"networks\":[{\"name\":\"a\",\"switch\":\"s\"},"
                     "{\"name\":\"b\",\"switch\":\"s\"}]}");

    g_assert_true(g_uuid_string_is_valid(profile->uuid));
    g_assert_cmpint(profile->processors, ==, 1);
    g_assert_cmpstr(profile->preferred_mode, ==, "default");
    g_assert_null(profile->machine);
    g_assert_null(profile->boot.kernel.pool);
    g_assert_cmpstr(profile->disks[0].cache, ==, "none");
    g_assert_cmpint(profile->disks[0].format, ==, LPM_FORMAT_RAW);
    g_assert_true(profile->console);
    g_assert_true(profile->guest_agent);
    g_assert_false(profile->migration_disabled);
    g_assert_cmpint(profile->memory_backing, ==, LPM_BACKING_PRIVATE);
    g_assert_cmpint(profile->arbiter, ==, LPM_ARBITER_AUTO);
    g_assert_true(g_str_has_prefix(profile->networks[0].mac, "52:54:00:"));
    g_assert_cmpuint(strlen(profile->networks[1].mac), ==, 17);
    g_assert_cmpstr(profile->networks[0].mac, !=, profile->networks[1].mac);
}

/* Sets the member at @path (a dotted path into the full profile) to @value; NULL deletes it. */
static void change(json_t *root, const char *path, json_t *value)
{
    const char *dot = strrchr(path, '.');
    g_autofree char *parent_path = dot ? g_strndup(path, (gsize)(dot - path)) : g_strdup("");
    json_t *parent = lpm_json_at(root, parent_path);

    g_assert_true(json_is_object(parent));
    if (value) {
        json_object_set_new(parent, dot ? dot + 1 : path, value);
    } else {
        g_assert_cmpint(json_object_del(parent, dot ? dot + 1 : path), ==, 0);
    }
}

typedef struct {
    const char *path;  /* member of the full profile that is changed */
    const char *value; /* JSON; NULL: the member is removed */
    const char *message;
} Refusal;

#define NAME_RULE "1 to 63 letters, digits, \".\", \"_\" and \"-\", with a letter or digit first"
#define FILE_RULE                                                                                  \
    "a path inside the pool: relative, without \".\", \"..\" and empty parts, at most 1024 bytes"
#define IS(member, found, allowed)                                                                 \
    "profile: member \"" member "\" is " found ": allowed is " allowed

static const Refusal refusals[] = {
    {"name", NULL, "profile: member \"name\" is missing: give " NAME_RULE},
    {"name", "\"\"", IS("name", "\"\"", NAME_RULE)},
    {"name", "\"-p\"", IS("name", "\"-p\"", NAME_RULE)},
    {"name", "\"a/b\"", IS("name", "\"a/b\"", NAME_RULE)},
    {"name", "7", IS("name", "7", NAME_RULE)},
    {"family", NULL, "profile: member \"family\" is missing: give \"x86-64\", \"power\""},
    {"family", "\"arm\"", IS("family", "\"arm\"", "\"x86-64\", \"power\"")},
    {"family", "\"x86-64\"",
     "profile: member \"interrupt_mode\" is \"dual\": allowed only for family \"power\"; leave it "
     "out"},
    {"uuid", "\"7F8D1A52-9C0E-4A51-9D3E-0123456789AB\"",
     IS("uuid", "\"7F8D1A52-9C0E-4A51-9D3E-0123456789AB\"", "a UUID in lower case")},
    {"uuid", "\"x\"", IS("uuid", "\"x\"", "a UUID in lower case")},
    {"processors", "0", IS("processors", "0", "a whole number from 1 to 64")},
    {"processors", "65", IS("processors", "65", "a whole number from 1 to 64")},
    {"processors", "1.0", IS("processors", "1.0", "a whole number from 1 to 64")},
    {"memory_mib", NULL, "profile: member \"memory_mib\" is missing: give a whole number"},
    {"memory_mib", "600", IS("memory_mib", "600", "a multiple of 256 for family \"power\"")},
    {"memory_mib", "9223372036854775807",
     IS("memory_mib", "9223372036854775807", "a whole number from 16 to 16777216")},
    {"preferred_mode", "\"a,b=c\"",
     IS("preferred_mode", "\"a,b=c\"", "\"default\" or the name of a compatibility mode")},
    {"machine", "\"pc,x=on\"",
     IS("machine", "\"pc,x=on\"", "a versioned machine type of QEMU, such as \"pc-q35-10.0\"")},
    {"interrupt_mode", "\"xive\"", IS("interrupt_mode", "\"xive\"", "\"xics\" or \"dual\"")},
    {"boot", "[]", "profile: member \"boot\" is []: allowed is an object"},
    {"boot.kernel", NULL,
     "profile: member \"boot.initrd\" is given without \"boot.kernel\": give a kernel, or leave it "
     "out to boot from the first disk"},
    {"boot.kernel.file", "\"../x\"", IS("boot.kernel.file", "\"../x\"", FILE_RULE)},
    {"boot.kernel.file", NULL, "profile: member \"boot.kernel.file\" is missing: give " FILE_RULE},
    {"boot.cmdline", "\"a\\nb\"",
     IS("boot.cmdline", "\"a\\nb\"", "at most 2048 bytes without control characters")},
    {"disks", "{}", IS("disks", "{}", "a list of at most 16 objects")},
    {"disks", "[1]", "profile: member \"disks[0]\" is 1: allowed is an object"},
    {"disks.0.file", "\"/etc/passwd\"", IS("disks[0].file", "\"/etc/passwd\"", FILE_RULE)},
    {"disks.0.file", "\"a/../b\"", IS("disks[0].file", "\"a/../b\"", FILE_RULE)},
    {"disks.0.file", "\"a//b\"", IS("disks[0].file", "\"a//b\"", FILE_RULE)},
    {"disks.0.file", "\"a/\"", IS("disks[0].file", "\"a/\"", FILE_RULE)},
    {"disks.0.pool", "\"..\"", IS("disks[0].pool", "\"..\"", NAME_RULE)},
    {"disks.0.format", "\"vmdk\"", IS("disks[0].format", "\"vmdk\"", "\"raw\", \"qcow2\"")},
    {"disks.0.cache", "\"unsafe\"",
     IS("disks[0].cache", "\"unsafe\"", "\"none\", \"directsync\" or \"writeback\"")},
    {"disks.0.size_mib", "-1", IS("disks[0].size_mib", "-1", "a whole number from 0 to 67108864")},
    {"disks.0.read_only", "0", IS("disks[0].read_only", "0", "true or false")},
    {"disks.0.file", NULL,
     "profile: member \"disks[0].file\" is missing: give " FILE_RULE
     "; only a drive of media \"optical\" may be without"},
    {"disks.0.adapter", "\"ide\"",
     IS("disks[0].adapter", "\"ide\"", "\"virtio\", \"scsi\", \"vscsi\"")},
    {"disks.1.adapter", "\"virtio\"",
     "profile: member \"disks[1].adapter\" is \"virtio\": a drive of media \"optical\" needs "
     "\"scsi\", or \"vscsi\" on POWER"},
    {"disks.1.size_mib", "1",
     "profile: member \"disks[1].size_mib\" is given: a medium of a drive of media \"optical\" is "
     "never made; leave it out"},
    {"disks.1.speed", "1",
     "profile: member \"disks[1].speed\" is unknown: allowed are name, pool, file, format, "
     "size_mib, "
     "cache, read_only, "
     "adapter, media, purpose, reserve_policy"},
    {"disks.1.name", "\"disk0\"",
     "profile: member \"disks[1].name\" is \"disk0\", as in disks[0]: allowed once"},
    {"disks.1.file", "\"p1.raw\"",
     "profile: member \"disks[1].file\" is \"p1.raw\", as in disks[0]: allowed once"},
    {"networks", "[{\"name\":\"a\",\"switch\":\"s\"},{\"name\":\"a\",\"switch\":\"s\"}]",
     "profile: member \"networks[1].name\" is \"a\", as in networks[0]: allowed once"},
    {"networks",
     "[{\"name\":\"a\",\"switch\":\"s\",\"mac\":\"52:54:00:00:00:01\"},"
     "{\"name\":\"b\",\"switch\":\"s\",\"mac\":\"52:54:00:00:00:01\"}]",
     "profile: member \"networks[1].mac\" is \"52:54:00:00:00:01\", as in networks[0]: allowed "
     "once"},
    {"networks.0.mac", "\"53:54:00:00:00:01\"",
     IS("networks[0].mac", "\"53:54:00:00:00:01\"",
        "a unicast address in lower case, such as \"52:54:00:12:34:56\"")},
    {"networks.0.mac", "\"52:54:00:00:00:0A\"",
     IS("networks[0].mac", "\"52:54:00:00:00:0A\"",
        "a unicast address in lower case, such as \"52:54:00:12:34:56\"")},
    {"networks.0.vlan", "4095", IS("networks[0].vlan", "4095", "a whole number from 0 to 4094")},
    {"networks.0.vlan", "-1", IS("networks[0].vlan", "-1", "a whole number from 0 to 4094")},
    {"networks.0.adapter", "\"e1000\"",
     IS("networks[0].adapter", "\"e1000\"", "\"virtio\", \"spapr-vlan\"")},
    {"console", "\"yes\"", IS("console", "\"yes\"", "true or false")},
    {"memory_backing", "\"huge\"", IS("memory_backing", "\"huge\"", "\"private\", \"shared\"")},
    {"arbiter", "\"paper\"",
     IS("arbiter", "\"paper\"", "\"auto\", \"file\", \"console\", \"etcd\", \"scsi\"")},
    {"processors_max", "1",
     "profile: member \"processors_max\" is 1: allowed is \"processors\", 2, or more; leave it out "
     "for no more than that"},
    {"memory_max_mib", "600",
     "profile: member \"memory_max_mib\" is 600: allowed is \"memory_mib\", 512, and a multiple of "
     "256 more"},
    {"memory_max_mib", "256",
     "profile: member \"memory_max_mib\" is 256: allowed is \"memory_mib\", 512, and a multiple of "
     "256 more"},
    {"added_memory", "[{\"mib\":128}]",
     "profile: member \"added_memory[0].mib\" is 128: allowed is a multiple of 256"},
    {"added_memory", "[{\"mib\":256}]",
     "profile: member \"added_memory\" makes 768 MiB of memory: allowed is \"memory_max_mib\", 0"},
    {"added_processors", "1",
     "profile: member \"added_processors\" makes 3 processors: allowed is \"processors_max\", 0"},
    {"firmware", "\"uefi\"",
     "profile: member \"firmware\" is \"uefi\": allowed only for family \"x86-64\"; leave it out"},
    {"disks.0.purpose", "\"firmware\"",
     "profile: member \"disks[0].size_mib\" is 64: an NVRAM has 1 MiB at most"},
    {"boot_order", "\"disk1,disk7\"",
     "profile: member \"boot_order\" has \"disk7\": allowed are names of its disks, each once, "
     "with "
     "commas between them"},
    {"boot_order", "\"disk1,disk1\"",
     "profile: member \"boot_order\" has \"disk1\": allowed are names of its disks, each once, "
     "with "
     "commas between them"},
    {"boot_order", "\"disk0,\"",
     IS("boot_order", "\"disk0,\"", "names of its disks with commas between them")},
    {"rtc_offset_s", "99999999999",
     IS("rtc_offset_s", "99999999999", "a whole number from -3162240000 to 3162240000")},
    {"tpm", "true",
     "profile: member \"tpm\" is true: a TPM's state cannot move with its partition yet, so none "
     "can "
     "be had; leave it out"},
    {"max_blackout_ms", "-5", IS("max_blackout_ms", "-5", "a whole number from 0 to 600000")},
};

static void test_refusals(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
        const Refusal *row = &refusals[i];
        g_autoptr(json_t) root = parse(full);
        g_autoptr(GError) error = NULL;

        change(root, row->path, row->value ? parse(row->value) : NULL);
        g_assert_null(lpm_profile_from_json(root, &error));
        g_assert_error(error, LPM_ERROR, (int)LPM_ERROR_USAGE);
        g_assert_cmpstr(error->message, ==, row->message);
    }
}

/* Room to grow, what was given since, and firmware: there and back; a release that does not know
 * them finds none of them in a profile that does not use them. */
static void test_details(void)
{
    static const char text[] =
        "{\"name\":\"p\",\"family\":\"x86-64\",\"processors\":2,\"memory_mib\":256,"
        "\"processors_max\":4,\"memory_max_mib\":512,\"firmware\":\"uefi\",\"rtc_offset_s\":-3600,"
        "\"boot_order\":\"b,a\",\"added_memory\":[{\"mib\":128}],\"added_processors\":1,"
        "\"disks\":[{\"name\":\"a\",\"pool\":\"san\",\"file\":\"a\"},"
        "{\"name\":\"b\",\"pool\":\"other\",\"file\":\"b\"}]}";
    static const char plain[] = "{\"name\":\"p\",\"family\":\"x86-64\",\"memory_mib\":256}";
    static const char *const newer[] = {"purpose",      "firmware",       "tpm",
                                        "rtc_offset_s", "processors_max", "memory_max_mib",
                                        "boot_order",   "added_memory",   "added_processors"};
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) json = parse(text);
    g_autoptr(LpmProfile) first = lpm_profile_from_json(json, &error);
    g_autoptr(LpmProfile) again = NULL;
    g_autoptr(LpmProfile) simple = NULL;
    g_autoptr(json_t) written = NULL;
    g_autoptr(json_t) short_one = parse(plain);

    g_assert_no_error(error);
    written = lpm_profile_to_json(first);
    again = lpm_profile_from_json(written, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(again->n_disks, ==, 3);
    g_assert_cmpint((int)again->disks[2].purpose, ==, LPM_PURPOSE_FIRMWARE);
    g_assert_cmpstr(again->disks[2].at.pool, ==, "san");
    g_assert_true(g_str_has_prefix(again->disks[2].at.file, again->uuid));
    g_assert_cmpint(lpm_profile_total_memory_mib(again), ==, 384);
    g_assert_cmpint(lpm_profile_total_processors(again), ==, 3);
    g_assert_cmpint(again->rtc_offset_s, ==, -3600);
    g_assert_cmpstr(again->boot_order, ==, "b,a");

    simple = lpm_profile_from_json(short_one, &error);
    g_assert_no_error(error);
    json_decref(written);
    written = lpm_profile_to_json(simple);
    for (size_t i = 0; i < G_N_ELEMENTS(newer); i++) {
        g_assert_null(json_object_get(written, newer[i]));
    }
}

static void test_adapters(void)
{
    g_autoptr(json_t) power = parse(full);
    g_autoptr(json_t) x86 = parse(full);
    g_autoptr(LpmProfile) profile = lpm_profile_from_json(power, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(profile->networks[0].adapter, ==, LPM_NET_SPAPR_VLAN);
    g_assert_cmpint(profile->networks[0].vlan, ==, 100);
    json_object_set_new(x86, "family", json_string("x86-64"));
    json_object_del(x86, "interrupt_mode");
    json_object_del(x86, "disks");
    g_assert_null(lpm_profile_from_json(x86, &error));
    g_assert_cmpstr(error->message, ==,
                    "profile: member \"networks[0].adapter\" is \"spapr-vlan\": allowed only for "
                    "family \"power\"; leave it out");
}

static void test_refuses_non_objects(void)
{
    g_autoptr(json_t) list = json_array();
    g_autoptr(GError) error = NULL;

    g_assert_null(lpm_profile_from_json(list, &error));
    g_assert_cmpstr(error->message, ==, "profile: the whole is []: allowed is an object");
}

static void test_bounds(void)
{
    g_autofree char *name63 = g_strnfill(63, 'a');
    g_autofree char *name64 = g_strnfill(64, 'a');
    g_autofree char *line = g_strnfill(2049, 'x');
    g_autoptr(json_t) root = parse(full);
    json_t *disks = json_array();

    g_assert_true(lpm_name_is_valid(name63));
    g_assert_false(lpm_name_is_valid(name64));
    g_assert_false(lpm_name_is_valid(NULL));
    g_assert_true(lpm_name_is_valid("a.b_c-1"));
    change(root, "boot.cmdline", json_string(line));
    g_assert_null(lpm_profile_from_json(root, NULL));
    line[2048] = '\0';
    change(root, "boot.cmdline", json_string(line));
    for (int i = 0; i < LPM_DISKS_MAX; i++) {
        g_autofree char *name = g_strdup_printf("d%d", i);

        json_array_append_new(
            disks, lpm_json_pack("{s:s,s:s,s:s}", "name", name, "pool", "p", "file", name));
    }
    change(root, "disks", disks);
    {
        g_autoptr(LpmProfile) profile = lpm_profile_from_json(root, NULL);

        g_assert_nonnull(profile);
        g_assert_cmpuint(profile->n_disks, ==, LPM_DISKS_MAX);
    }
    json_array_append_new(disks,
                          lpm_json_pack("{s:s,s:s,s:s}", "name", "z", "pool", "p", "file", "z"));
    g_assert_null(lpm_profile_from_json(root, NULL));
}

static void test_names(void)
{
    LpmPartitionState state = LPM_PARTITION_ERROR;
    LpmFamily family = LPM_FAMILY_X86_64;

    for (int i = 0; i < LPM_PARTITION_N; i++) {
        g_assert_true(
            lpm_partition_state_from_name(lpm_partition_state_name((LpmPartitionState)i), &state));
        g_assert_cmpint(state, ==, i);
    }
    g_assert_cmpstr(lpm_partition_state_name(LPM_PARTITION_NOT_ACTIVATED), ==, "not-activated");
    g_assert_false(lpm_partition_state_from_name("migrating", &state));
    g_assert_cmpint(state, ==, LPM_PARTITION_ERROR);
    g_assert_true(lpm_family_from_name("power", &family));
    g_assert_cmpint(family, ==, LPM_FAMILY_POWER);
    g_assert_false(lpm_family_from_name(NULL, &family));
    g_assert_cmpstr(lpm_disk_format_name(LPM_FORMAT_QCOW2), ==, "qcow2");
    g_assert_cmpstr(lpm_arbiter_kind_name(LPM_ARBITER_FILE), ==, "file");
    g_assert_cmpstr(lpm_memory_backing_name(LPM_BACKING_SHARED), ==, "shared");
    g_assert_cmpstr(lpm_family_name(LPM_FAMILY_N), ==, "?");
}

static void test_random_ids(void)
{
    g_autofree char *id = lpm_new_migration_id();
    g_autofree char *other = lpm_new_migration_id();
    g_autofree char *uuid = lpm_new_uuid();

    g_assert_cmpuint(strlen(id), ==, 32);
    g_assert_cmpuint(strspn(id, "0123456789abcdef"), ==, 32);
    g_assert_cmpstr(id, !=, other);
    g_assert_true(g_uuid_string_is_valid(uuid));
    g_assert_cmpint(uuid[14], ==, '4');
}

static void test_free(void)
{
    lpm_profile_free(NULL);
    lpm_profile_free(lpm_profile_new());
}

/* --- several profiles --- */

static json_t *names_of(const LpmProfile *profile)
{
    g_autoptr(json_t) list = lpm_profile_list(profile);
    json_t *names = json_array();
    json_t *row;
    size_t i;

    json_array_foreach (list, i, row) {
        json_array_append(names, json_object_get(row, "name"));
    }
    return names;
}

static void assert_names(const LpmProfile *profile, const char *expected)
{
    g_autoptr(json_t) names = names_of(profile);
    g_autofree char *text = lpm_json_text(names);

    g_assert_cmpstr(text, ==, expected);
}

static void test_profiles(void)
{
    g_autoptr(LpmProfile) one = read_profile(full);
    g_autoptr(json_t) changes = parse("{\"memory_mib\":1024,\"preferred_mode\":\"POWER8\"}");
    g_autoptr(GError) error = NULL;
    g_autoptr(LpmProfile) two = lpm_profile_add(one, "big", NULL, changes, &error);
    g_autoptr(LpmProfile) chosen = two ? lpm_profile_select(two, "big", &error) : NULL;
    g_autoptr(LpmProfile) back = chosen ? lpm_profile_select(chosen, "normal", &error) : NULL;
    g_autoptr(LpmProfile) less = back ? lpm_profile_remove(back, "big", &error) : NULL;
    g_autoptr(json_t) written = less ? lpm_profile_to_json(less) : NULL;
    g_autofree char *text = written ? lpm_json_text(written) : NULL;

    g_assert_no_error(error);
    assert_names(one, "[\"normal\"]");
    assert_names(two, "[\"big\",\"normal\"]");
    g_assert_cmpint(two->memory_mib, ==, 512);
    g_assert_cmpint(chosen->memory_mib, ==, 1024);
    g_assert_cmpstr(chosen->preferred_mode, ==, "POWER8");
    g_assert_cmpstr(chosen->boot.cmdline, ==, "console=hvc0");
    g_assert_cmpstr(lpm_profile_current(chosen), ==, "big");
    g_assert_cmpstr(lpm_profile_default(chosen), ==, "normal");
    g_assert_cmpint(back->memory_mib, ==, 512);
    g_assert_cmpstr(text, ==, full); /* nothing is left of them */
}

static void test_save_as(void)
{
    g_autoptr(json_t) definition =
        parse("{\"name\":\"p\",\"family\":\"x86-64\",\"memory_mib\":256,\"machine\":\"q35\"}");
    g_autoptr(json_t) built =
        parse("{\"name\":\"p\",\"family\":\"x86-64\",\"memory_mib\":128,\"memory_max_mib\":384,"
              "\"processors_max\":2,\"added_memory\":[{\"mib\":128}],\"added_processors\":1}");
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) saved = lpm_profile_save_as(definition, built, "kept", &error);
    g_autoptr(LpmProfile) profile = saved ? lpm_profile_from_json(saved, &error) : NULL;
    g_autoptr(json_t) twice = NULL;

    g_assert_no_error(error);
    assert_names(profile, "[\"kept\",\"normal\"]");
    g_assert_cmpstr(lpm_profile_current(profile), ==, "kept");
    g_assert_cmpstr(lpm_profile_default(profile), ==, "normal");
    g_assert_cmpint(profile->memory_mib, ==, 256);
    g_assert_cmpint(profile->memory_max_mib, ==, 384);
    g_assert_cmpint(profile->processors, ==, 2);
    g_assert_cmpuint(profile->n_added_memory, ==, 0);
    g_assert_cmpint(lpm_json_int(json_array_get(profile->profiles, 0), "processors", 0), ==, 1);
    twice = lpm_profile_save_as(saved, built, "normal", &error);
    g_assert_error(error, LPM_ERROR, LPM_ERROR_EXISTS);
}

static void test_bad_profiles(void)
{
    static const char *const bad[] = {
        "[5]",
        "[{}]",
        "[{\"name\":\"normal\",\"memory_mib\":64}]",
        "[{\"name\":\"b\"}]",
        "[{\"name\":\"b\",\"memory_mib\":64,\"uuid\":\"x\"}]",
        "[{\"name\":\"b\",\"memory_mib\":64},{\"name\":\"b\",\"memory_mib\":64}]",
        "[{\"name\":\"b\",\"memory_mib\":64,\"profiles\":[]}]",
        "[{\"name\":\"../b\",\"memory_mib\":64}]",
        "{}",
        "[{\"name\":\"b\",\"memory_mib\":-1}]"};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(json_t) json = parse("{\"name\":\"p\",\"family\":\"x86-64\",\"memory_mib\":256}");
        g_autoptr(LpmProfile) profile = NULL;
        g_autoptr(GError) error = NULL;

        json_object_set_new(json, "profiles", parse(bad[i]));
        profile = lpm_profile_from_json(json, &error);
        g_assert_error(error, LPM_ERROR, LPM_ERROR_USAGE);
        g_assert_null(profile);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/model/profile/round-trip", test_round_trip);
    g_test_add_func("/model/profile/defaults", test_defaults);
    g_test_add_func("/model/profile/details", test_details);
    g_test_add_func("/model/refusals", test_refusals);
    g_test_add_func("/model/profile/adapters", test_adapters);
    g_test_add_func("/model/profile/non-objects", test_refuses_non_objects);
    g_test_add_func("/model/profile/bounds", test_bounds);
    g_test_add_func("/model/profile/free", test_free);
    g_test_add_func("/model/profiles", test_profiles);
    g_test_add_func("/model/profiles/save-as", test_save_as);
    g_test_add_func("/model/profiles/bad", test_bad_profiles);
    g_test_add_func("/model/names", test_names);
    g_test_add_func("/model/random-ids", test_random_ids);
    return g_test_run();
}
