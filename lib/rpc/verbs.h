/* SPDX-License-Identifier: Apache-2.0 */
/* The verb table's readers. Private to lib/rpc; the public ones are in rpc/rpc.h. */
#pragma once

#include "rpc/rpc.h"

/* The row with @name, NULL when there is none. */
const LpmRpcVerb *lpm_rpc_verb_find(const LpmRpcVerb *verbs, const char *name);
/* Appends one object for each verb that @role may call to the array @rows. */
void lpm_rpc_verbs_describe(const LpmRpcVerb *verbs, LpmRpcRole role, json_t *rows);
