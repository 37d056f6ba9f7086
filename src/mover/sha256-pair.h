/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 of two messages at once. The processor's SHA instructions wait for each other within one
 * message; a second one fills the gaps and costs almost nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_SIZE = 32, SHA256_BLOCK = 64 };

/* True when this processor has what sha256_pair() needs. */
bool sha256_pair_supported(void);
/* @size is a multiple of SHA256_BLOCK. Only where it is supported. */
void sha256_pair(const uint8_t *a, const uint8_t *b, size_t size, uint8_t out_a[SHA256_SIZE],
                 uint8_t out_b[SHA256_SIZE]);
