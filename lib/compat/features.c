/* SPDX-License-Identifier: Apache-2.0 */
/* x86-64: modes are sets of processor features, and inclusion decides. */
#include "compat/internal.h"

#include <string.h>

/* Properties of QEMU's processor model that are true or false but no feature of a processor, or
 * second names. */
static const char *const not_features[] = {
    "check",
    "cpuid-0xb",
    "enforce",
    "ffxsr",
    "fill-mtrr-mask",
    "full-cpuid-auto-level",
    "hotpluggable",
    "hotplugged",
    "hypervisor",
    "i64",
    "kvm",
    "kvm-no-smi-migration",
    "kvm-pv-enforce-cpuid",
    "l3-cache",
    "legacy-cache",
    "migratable",
    "pclmuldq",
    "pmu",
    "realized",
    "sse3",
    "sse4-1",
    "sse4-2",
    "start-powered-off",
    "tcg-cpuid",
    "vmware-cpuid-freq",
    "xd",
    "xen-vapic",
    NULL,
};

static bool is_feature(const char *name)
{
    return !g_strv_contains(not_features, name) && !g_str_has_prefix(name, "x-") &&
           !g_str_has_prefix(name, "hv-") && !g_str_has_prefix(name, "host-");
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **lpm_compat_features_from_expansion(const json_t *answer)
{
    json_t *props = lpm_json_at(answer, "model.props");
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *key;
    json_t *value;

    json_object_foreach (props, key, value) {
        g_autofree char *name = g_strdelimit(g_strdup(key), "_", '-');

        if (json_is_true(value) && is_feature(name) && !g_hash_table_contains(seen, name)) {
            g_hash_table_add(seen, name);
            g_ptr_array_add(names, g_steal_pointer(&name));
        }
    }
    if (names->len > 0) {
        qsort(names->pdata, names->len, sizeof(names->pdata[0]), compare_names);
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_steal(names, NULL);
}

char **lpm_compat_missing_features(const char *const *wanted, const char *const *available)
{
    GStrvBuilder *builder = g_strv_builder_new();
    char **missing;

    for (size_t i = 0; wanted && wanted[i]; i++) {
        if (!available || !g_strv_contains(available, wanted[i])) {
            g_strv_builder_add(builder, wanted[i]);
        }
    }
    missing = g_strv_builder_end(builder);
    g_strv_builder_unref(builder);
    return missing;
}

static bool includes(const char *const *available, const char *const *wanted)
{
    g_auto(GStrv) missing = lpm_compat_missing_features(wanted, available);

    return missing[0] == NULL;
}

char **lpm_compat_system_modes_x86(const LpmCompat *compat, const char *const *features)
{
    GStrvBuilder *builder = g_strv_builder_new();
    char **names;

    for (guint i = 0; i < compat->modes->len; i++) {
        const LpmMode *mode = compat->modes->pdata[i];

        if (mode->family == LPM_FAMILY_X86_64 &&
            includes(features, (const char *const *)mode->features)) {
            g_strv_builder_add(builder, mode->name);
        }
    }
    names = g_strv_builder_end(builder);
    g_strv_builder_unref(builder);
    return names;
}

const char *lpm_compat_x86_cpu(const LpmCompat *compat, const char *mode)
{
    const LpmMode *found = lpm_compat_find(compat, mode);

    return found && found->family == LPM_FAMILY_X86_64 ? found->cpu : NULL;
}
