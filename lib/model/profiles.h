/* SPDX-License-Identifier: Apache-2.0 */
/* Private to lib/model: rules of a partition's other profiles. */
#pragma once

#include "base/error.h"
#include "model/model.h"

#define PROFILE_RULE "1 to 31 letters, digits, \".\", \"_\" and \"-\", with a letter or digit first"

/*
 * USAGE error naming the member. Fills the others in with their defaults, and leaves all names away
 * while there is one profile with the first one's name.
 */
bool profiles_check(LpmProfile *profile, GError **error) G_GNUC_WARN_UNUSED_RESULT;
