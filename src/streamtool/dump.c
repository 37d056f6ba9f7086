/* SPDX-License-Identifier: Apache-2.0 */
/* dump: what a captured channel is made of, as one JSON value, printed as such or for people. */
#include "streamtool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    WINDOW = 256 * 1024,
    MAX_UNITS = 1024,
    SECTIONS_MAX = 16,
    COMMANDS_MAX = 1000,            /* listed; a stream has a handful */
    DESCRIPTION_MAX = 16 * 1000000, /* bytes of QEMU's description of the device state */
    TYPE_DESCRIPTION = 6,
};
#define BITMAP_BLOCK_MAX                                                                           \
    (UINT64_C(1) << 42) /* longer blocks are not looked through for repeats                        \
                         */

typedef struct {
    uint64_t pages, zeros, again; /* @again: sent before, too */
    uint8_t *sent;                /* a bit a page; NULL: no page yet, or too long */
} BlockUse;

/* A channel while it is read. */
typedef struct {
    LpmQstreamBlocks *blocks;
    BlockUse use[LPM_QSTREAM_BLOCKS_MAX];
    json_t *value, *sections, *commands;
    uint64_t flushes;
} Dump;

static void set(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static uint64_t get(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "?";
}

/* A name of the stream, which need not be UTF-8. */
static void set_text(json_t *object, const char *key, const char *value)
{
    g_autofree char *valid = g_utf8_make_valid(value, -1);
    json_object_set_new(object, key, json_string(valid));
}

static void count(json_t *object, const char *key)
{
    set(object, key, get(object, key) + 1);
}

/* --- sections and commands --- */

static json_t *section_of(const Dump *dump, uint32_t id)
{
    size_t i;
    json_t *section;
    json_array_foreach (dump->sections, i, section) {
        if (get(section, "id") == id)
            return section;
    }
    return NULL;
}

static void see_start(Dump *dump, const LpmQstreamSeen *seen)
{
    if (json_array_size(dump->sections) == SECTIONS_MAX)
        return;
    json_t *section = json_object();
    set(section, "id", seen->id);
    set_text(section, "name", seen->name);
    set(section, "instance", seen->value);
    set(section, "start", seen->at);
    set(section, "parts", 0);
    json_array_append_new(dump->sections, section);
}

static void see_part(Dump *dump, const LpmQstreamSeen *seen)
{
    json_t *section = section_of(dump, seen->id);
    if (section && seen->kind == LPM_QSTREAM_SEEN_PART)
        count(section, "parts");
    else if (section)
        set(section, "end", seen->at);
}

static void see_command(Dump *dump, const LpmQstreamSeen *seen)
{
    if (json_array_size(dump->commands) == COMMANDS_MAX)
        return;
    json_t *command = json_object();
    set(command, "at", seen->at);
    set(command, "number", seen->value);
    set_text(command, "name", seen->name ? seen->name : "unknown");
    json_array_append_new(dump->commands, command);
}

static void see(void *context, const LpmQstreamSeen *seen)
{
    Dump *dump = context;
    switch (seen->kind) {
    case LPM_QSTREAM_SEEN_MAIN:
        set_text(dump->value, "channel", "main");
        set(dump->value, "version", seen->value);
        break;
    case LPM_QSTREAM_SEEN_MULTIFD:
        set_text(dump->value, "channel", "multifd");
        set(dump->value, "number", seen->value);
        break;
    case LPM_QSTREAM_SEEN_CONFIGURATION:
        set_text(dump->value, "machine", seen->name);
        break;
    case LPM_QSTREAM_SEEN_START:
        see_start(dump, seen);
        break;
    case LPM_QSTREAM_SEEN_PART:
    case LPM_QSTREAM_SEEN_END:
        see_part(dump, seen);
        break;
    case LPM_QSTREAM_SEEN_COMMAND:
        see_command(dump, seen);
        break;
    case LPM_QSTREAM_SEEN_FLUSH:
        dump->flushes++;
        break;
    case LPM_QSTREAM_SEEN_OPAQUE:
        set(dump->value, "opaque-from", seen->at);
        set_text(dump->value, "opaque-reason", seen->name);
        break;
    case LPM_QSTREAM_SEEN_SUBSECTION:
    case LPM_QSTREAM_SEEN_BLOCK: /* told by the reader's list */
        break;
    }
}

/* --- pages --- */

static void use_page(Dump *dump, const LpmQstreamUnit *unit)
{
    BlockUse *use = &dump->use[unit->block];
    uint64_t length = dump->blocks->block[unit->block].length;
    uint64_t page = unit->offset / LPM_QSTREAM_PAGE_SIZE;
    if (unit->kind == LPM_QSTREAM_ZERO)
        use->zeros++;
    else
        use->pages++;
    if (!use->sent && length <= BITMAP_BLOCK_MAX)
        use->sent = g_try_malloc0(length / LPM_QSTREAM_PAGE_SIZE / 8 + 1);
    if (!use->sent)
        return;
    uint8_t bit = (uint8_t)(1 << page % 8);
    use->again += (use->sent[page / 8] & bit) != 0;
    use->sent[page / 8] |= bit;
}

static void read_all(Dump *dump, LpmQstream *reader, const uint8_t *data, size_t size)
{
    LpmQstreamUnit units[MAX_UNITS];
    for (size_t at = 0, n; at < size;) {
        size_t window = MIN(size - at, WINDOW);
        at +=
            lpm_qstream_read(reader, data + at, window, at + window == size, units, MAX_UNITS, &n);
        for (size_t i = 0; i < n; i++) {
            if (units[i].kind != LPM_QSTREAM_OPAQUE)
                use_page(dump, &units[i]);
        }
    }
}

/* --- what QEMU says of the device state, at the very end --- */

static json_t *find_description(const uint8_t *data, size_t size)
{
    size_t most = MIN(size, DESCRIPTION_MAX);
    for (size_t length = 2; length + 5 <= most; length++) {
        const uint8_t *at = data + size - length - 5;
        if (at[0] == TYPE_DESCRIPTION && at[5] == '{' &&
            ((uint32_t)at[1] << 24 | at[2] << 16 | at[3] << 8 | at[4]) == length)
            return json_loadb((const char *)at + 5, length, 0, NULL);
    }
    return NULL;
}

static void put_devices(json_t *value, const uint8_t *data, size_t size)
{
    size_t i;
    json_t *device, *description = find_description(data, size), *list = json_array();
    json_array_foreach (json_object_get(description, "devices"), i, device) {
        json_t *entry = json_object();
        json_object_set(entry, "name", json_object_get(device, "name"));
        json_object_set(entry, "instance", json_object_get(device, "instance_id"));
        json_array_append_new(list, entry);
    }
    json_object_set_new(value, "devices", list);
    json_decref(description);
}

/* --- the value --- */

static void put_blocks(Dump *dump)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < dump->blocks->n; i++) {
        json_t *block = json_object();
        set_text(block, "name", dump->blocks->block[i].name);
        set(block, "length", dump->blocks->block[i].length);
        set(block, "pages", dump->use[i].pages);
        set(block, "zeros", dump->use[i].zeros);
        set(block, "again", dump->use[i].again);
        json_array_append_new(list, block);
        g_free(dump->use[i].sent);
    }
    json_object_set_new(dump->value, "blocks", list);
}

static void put_counts(Dump *dump, const LpmQstreamCounts *counts)
{
    json_t *odd = json_object();
    set(dump->value, "bytes", counts->bytes);
    set(dump->value, "pages", counts->pages);
    set(dump->value, "zeros", counts->zeros);
    set(odd, "zeros-in-other-words", counts->odd_zeros);
    set(odd, "pages-without-place", counts->lost_pages);
    set(odd, "pages-as-differences", counts->xbzrle);
    set(odd, "pages-compressed", counts->compressed);
    set(odd, "multifd-packets", counts->packets);
    set(odd, "multifd-zeros", counts->quiet_zeros);
    set(odd, "multifd-flushes", dump->flushes);
    json_object_set_new(dump->value, "oddities", odd);
}

static json_t *dump_channel(const char *path, LpmQstreamBlocks *blocks, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GMappedFile) file = g_mapped_file_new(path, FALSE, &why);
    LpmQstream *reader = file ? lpm_qstream_new(blocks) : NULL;
    if (!reader) {
        lpm_error_set(error, LPM_ERROR_STORAGE, "cannot read capture '%s': %s", path,
                      why ? why->message : "out of memory");
        return NULL;
    }
    const uint8_t *data = (const uint8_t *)g_mapped_file_get_contents(file);
    size_t size = g_mapped_file_get_length(file);
    Dump dump = {.blocks = blocks,
                 .value = json_object(),
                 .sections = json_array(),
                 .commands = json_array()};
    set_text(dump.value, "file", path);
    lpm_qstream_watch(reader, see, &dump);
    read_all(&dump, reader, data, size);
    put_counts(&dump, lpm_qstream_counts(reader));
    put_blocks(&dump);
    json_object_set_new(dump.value, "sections", dump.sections);
    json_object_set_new(dump.value, "commands", dump.commands);
    put_devices(dump.value, data, size);
    lpm_qstream_free(reader);
    return dump.value;
}

/* --- for people --- */

static void print_lists(const json_t *value)
{
    size_t i;
    json_t *row;
    printf("%-32s %15s %10s %10s %10s\n", "block", "length", "pages", "zeros", "again");
    json_array_foreach (json_object_get(value, "blocks"), i, row) {
        printf("%-32s %15" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 "\n", text(row, "name"),
               get(row, "length"), get(row, "pages"), get(row, "zeros"), get(row, "again"));
    }
    json_array_foreach (json_object_get(value, "sections"), i, row) {
        printf("section %" PRIu64 " %s: starts at %" PRIu64 ", %" PRIu64 " parts", get(row, "id"),
               text(row, "name"), get(row, "start"), get(row, "parts"));
        if (json_object_get(row, "end"))
            printf(", end at %" PRIu64, get(row, "end"));
        putchar('\n');
    }
    json_array_foreach (json_object_get(value, "commands"), i, row) {
        printf("command %s at %" PRIu64 "\n", text(row, "name"), get(row, "at"));
    }
    const char *name;
    json_object_foreach (json_object_get(value, "oddities"), name, row) {
        if (json_integer_value(row) > 0)
            printf("%s: %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(row));
    }
}

static void print_devices(const json_t *value)
{
    size_t i;
    json_t *row;
    printf("described device state:");
    json_array_foreach (json_object_get(value, "devices"), i, row) {
        printf(" %s", text(row, "name"));
    }
    putchar('\n');
}

static void print_channel(const json_t *value)
{
    printf("%s: %s channel", text(value, "file"),
           json_object_get(value, "channel") ? text(value, "channel") : "no QEMU");
    if (json_object_get(value, "machine"))
        printf(" of machine type %s", text(value, "machine"));
    printf(": %" PRIu64 " bytes, %" PRIu64 " pages, %" PRIu64 " zero pages\n", get(value, "bytes"),
           get(value, "pages"), get(value, "zeros"));
    print_lists(value);
    if (json_object_get(value, "opaque-from"))
        printf("opaque from %" PRIu64 " on (%" PRIu64 " bytes): %s\n", get(value, "opaque-from"),
               get(value, "bytes") - get(value, "opaque-from"), text(value, "opaque-reason"));
    if (json_array_size(json_object_get(value, "devices")) > 0)
        print_devices(value);
}

/* Channels of one migration, the main one first: it names the blocks of the others. */
bool tool_dump(const ToolOptions *options, GError **error)
{
    g_autofree LpmQstreamBlocks *blocks = g_new0(LpmQstreamBlocks, 1);
    json_t *list = json_array();
    for (size_t i = 0; options->words[i]; i++) {
        json_t *value = dump_channel(options->words[i], blocks, error);
        if (!value) {
            json_decref(list);
            return false;
        }
        json_array_append_new(list, value);
    }
    if (options->json) {
        print_json(list);
        return true;
    }
    size_t i;
    json_t *value;
    json_array_foreach (list, i, value) {
        print_channel(value);
    }
    json_decref(list);
    return true;
}
