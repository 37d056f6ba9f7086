/* SPDX-License-Identifier: Apache-2.0 */
#include "streamtool.h"

#include <stdio.h>

enum { PAGE = LPM_QSTREAM_PAGE_SIZE };

static const struct {
    const char *name;
    size_t pages;
    const char *what;
} kinds[] = {
    {"zero", offsetof(LpmCodecCounts, pages_zero), "pages of zeros"},
    {"same", offsetof(LpmCodecCounts, pages_same), "as the image holds them there"},
    {"reference", offsetof(LpmCodecCounts, pages_reference), "as the image holds them elsewhere"},
    {"delta", offsetof(LpmCodecCounts, pages_delta), "changed in part"},
    {"literal", offsetof(LpmCodecCounts, pages_literal), "as they are"},
};

static uint64_t pages_of(const LpmCodecCounts *counts, size_t kind)
{
    return *(const uint64_t *)((const char *)counts + kinds[kind].pages);
}

/* Before packing; zero, same and reference are tokens and nothing else. */
static uint64_t content_of(const LpmCodecCounts *counts, size_t kind)
{
    if (kinds[kind].pages == offsetof(LpmCodecCounts, pages_delta))
        return counts->bytes_delta;
    return kinds[kind].pages == offsetof(LpmCodecCounts, pages_literal)
               ? counts->pages_literal * PAGE
               : 0;
}

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)value);
}

json_t *counts_to_json(const LpmCodecCounts *counts)
{
    json_t *pages = json_object(), *content = json_object(), *value = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        json_object_set_new(pages, kinds[i].name, integer(pages_of(counts, i)));
        json_object_set_new(content, kinds[i].name, integer(content_of(counts, i)));
    }
    json_object_set_new(content, "opaque", integer(counts->bytes_opaque));
    json_object_set_new(content, "tokens", integer(counts->bytes_tokens));
    json_object_set_new(value, "pages", pages);
    json_object_set_new(value, "content-bytes", content);
    json_object_set_new(value, "stream-bytes", integer(counts->bytes_raw));
    json_object_set_new(value, "coded-bytes", integer(counts->bytes_coded));
    json_object_set_new(value, "batches-packed", integer(counts->batches_packed));
    json_object_set_new(value, "batches-plain", integer(counts->batches_plain));
    return value;
}

void print_counts(const LpmCodecCounts *counts)
{
    printf("%-9s %12s %15s\n", "kind", "pages", "before packing");
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        printf("%-9s %12" G_GUINT64_FORMAT " %15" G_GUINT64_FORMAT "  %s\n", kinds[i].name,
               pages_of(counts, i), content_of(counts, i), kinds[i].what);
    printf("%-9s %12s %15" G_GUINT64_FORMAT "  no pages\n", "opaque", "", counts->bytes_opaque);
    printf("%-9s %12s %15" G_GUINT64_FORMAT "\n", "tokens", "", counts->bytes_tokens);
    printf("stream   %13" G_GUINT64_FORMAT " bytes\ncoded    %13" G_GUINT64_FORMAT
           " bytes, %.2f %%; %" G_GUINT64_FORMAT " batches packed, %" G_GUINT64_FORMAT " plain\n",
           counts->bytes_raw, counts->bytes_coded,
           counts->bytes_raw ? 100.0 * (double)counts->bytes_coded / (double)counts->bytes_raw
                             : 100.0,
           counts->batches_packed, counts->batches_plain);
}

void print_json(json_t *value)
{
    g_autofree char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
    puts(text);
    json_decref(value);
}
