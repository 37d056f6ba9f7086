/* SPDX-License-Identifier: Apache-2.0 */
/* Private to lib/model: structs and their JSON, described once by tables of fields. */
#pragma once

#include "base/error.h"
#include "base/json.h"

typedef enum {
    FIELD_TEXT,   /* char *, owned */
    FIELD_INT,    /* int */
    FIELD_INT64,  /* int64_t */
    FIELD_BOOL,   /* bool */
    FIELD_CHOICE, /* an enum that counts from 0 */
    FIELD_OBJECT, /* a struct in place; left out of JSON while all its members are NULL */
    FIELD_LIST,   /* pointer to structs, with a size_t count beside it */
    FIELD_ARRAY,  /* json_t *, owned: an array as it is; NULL: left out */
} FieldKind;

typedef struct FieldTable FieldTable;

typedef struct {
    const char *member; /* its name in JSON */
    FieldKind kind;
    bool required;
    size_t offset;                   /* in the struct */
    int64_t minimum, maximum;        /* of numbers; bytes of a text (0: unbounded by the table) */
    bool (*valid)(const char *text); /* of a text; NULL: whatever @maximum lets through */
    const char *allowed;             /* says in an error what a text may be */
    const char *fallback;            /* of a text that is missing */
    const char *const *names;        /* of a choice */
    size_t n_names;                  /* of a choice */
    const FieldTable *inner;         /* of an object or a list's items */
    size_t count_offset, item_size;  /* of a list; its maximum is the largest count */
    bool quiet; /* left out of JSON while it is 0, false, empty or the first choice: a release that
                   does not know it reads the rest */
} Field;

struct FieldTable {
    const Field *fields;
    size_t n;
};

/*
 * Reads object @json into @base, which holds defaults; what is missing stays as it is. @where (""
 * or "disks[0].") is put before member names in errors. On failure @base is half filled and goes to
 * fields_clear().
 */
bool fields_read(const FieldTable *table, const json_t *json, const char *where, void *base,
                 GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* New reference; texts that are NULL are left out. */
json_t *fields_write(const FieldTable *table, const void *base);
/* Frees all texts and lists inside @base, not @base. */
void fields_clear(const FieldTable *table, void *base);
