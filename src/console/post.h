/* SPDX-License-Identifier: Apache-2.0 */
/* POSTs to other people's servers, on the main loop: nothing here waits. */
#pragma once

#include "base/error.h"

typedef struct LpmPoster LpmPoster;
typedef struct LpmPost LpmPost;

typedef struct {
    const char *url;            /* https:// or http:// */
    const char *ca;             /* file of authorities; NULL: those of this machine */
    const char *const *headers; /* "Name: value", NULL-terminated */
    const char *body;
    unsigned timeout_s;
} LpmPostRequest;

/* @status: of HTTP, 0 when there was no answer; @reason says why then. Called once, from the loop.
 */
typedef void (*LpmPostDone)(long status, const char *reason, void *data);

LpmPoster *lpm_poster_new(void);
/* After all its posts have ended or were cancelled. */
void lpm_poster_free(LpmPoster *poster);

/* Everything in @request is copied. Redirects are not followed, the answer's body is thrown away.
 */
LpmPost *lpm_post_start(LpmPoster *poster, const LpmPostRequest *request, LpmPostDone done,
                        void *data);
/* @done is not called any more. NULL is fine. */
void lpm_post_cancel(LpmPost *post);
