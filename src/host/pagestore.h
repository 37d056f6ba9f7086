/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The images of partitions that this system keeps from one move to the next
 * (docs/spec/page-store.md): which there are, their keys, how much room they may take, and who has
 * to go when there is none. What is in them is the mover's business (lib/pagestore). An image is
 * never needed: whatever goes wrong here, a move goes on without one.
 */
#pragma once

#include "host/host.h"

#define LPM_KIND_IMAGE                                                                             \
    "image" /* key UUID: partition's name, key of its image, when it was used                      \
             */

enum { LPM_IMAGE_KEY_HEX = 64 };

/*
 * Makes the directory, removes what an earlier run left unfinished, and sets host->images. When
 * there can be no store it is off, and says why in store-list.
 */
void lpm_images_open(LpmHost *host);
void lpm_images_close(LpmHost *host);

/*
 * At the target: the key for the image of a partition that comes, hexadecimal; the one that is kept
 * here, or a new one. NULL when the store is off or has no room for @profile. g_free().
 */
char *lpm_images_key(LpmHost *host, const LpmProfile *profile);

/*
 * An image for a move of @profile's partition under @key: writes the key down, makes room by
 * removing the images of other partitions that were used longest ago, and opens the file, empty or
 * as the last move left it. Returns a descriptor, the caller's, to be handed to the mover; as long
 * as any copy of it is open the image is in use. -1: there will be none (no room, store off, no
 * @key); that is logged and no error.
 */
int lpm_images_take(LpmHost *host, const LpmProfile *profile, const char *key);

/*
 * A move of this partition has ended. Unless it was @good, or ended before it touched the image,
 * that is removed. Fine without one.
 */
void lpm_images_end(LpmHost *host, const char *uuid, bool good);

/* Removes an image and its key. Fine without one. */
void lpm_images_drop(LpmHost *host, const char *uuid);

/* The store and its images, for store-list; new reference. */
json_t *lpm_images_list(LpmHost *host);
/* One image by UUID or partition's name, for store-show; NOT_FOUND. New reference. */
json_t *lpm_images_show(LpmHost *host, const char *partition, GError **error);
/* Puts `image` of docs/spec/facts.md into @facts when there is one that a move could use. */
void lpm_images_facts(LpmHost *host, const char *uuid, json_t *facts);
/* Removes it unless it is in use (BUSY, NOT_FOUND). */
bool lpm_images_remove(LpmHost *host, const char *partition, GError **error);

/* pagestore-verbs.c */
extern const LpmRpcVerb lpm_verbs_store[];
