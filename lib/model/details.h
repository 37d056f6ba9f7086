/* SPDX-License-Identifier: Apache-2.0 */
/* Private to lib/model: rules of a profile's firmware, boot order, and room to grow. */
#pragma once

#include "base/error.h"
#include "model/model.h"

/* USAGE error naming the member. */
bool details_check(const LpmProfile *profile, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A profile with UEFI firmware and no disk for its variables gets one, beside its first disk. */
void details_fill_in(LpmProfile *profile);
